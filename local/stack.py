"""The whole stack in one process: emulator, resources of the template, functions, HTTP front, event pump; and beside it
the OpenID providers where people of the synthetic region log in.

    with LocalStack(port=8000, folder=folder) as local:
        local.bring_up(template)
        local.serve()
        local.is_ready = True

Nothing here talks to AWS: the environment of the process is made to point at the emulator, with credentials
that mean nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TextIO

from local.emulator import ACCOUNT, REGION, Emulator
from local.gateway import Gateway
from local.openid import PREFIX, providers_at
from local.pump import Pump
from local.runtime import Runtime
from local.server import LOOPBACK, Server
from local.template import Stack, clients

METADATA: Final = "/fhir/metadata"
_CREDENTIALS: Final = "local"


class LocalStack:
    """One per process. `folder` keeps the data; without it they end with the process.

    The port is taken from the beginning: PortTakenError if another program has it (0: any free port).
    `stack`, `gateway` and `pump` are there after `bring_up`. Once `serve` opened the port, the capability
    statement is refused until `is_ready`: whoever waits for it finds the stack filled.
    """

    stack: Stack
    gateway: Gateway
    pump: Pump

    def __init__(self, *, port: int = 0, folder: Path | None = None, log: TextIO | None = None) -> None:
        self._server = Server(port=port)
        self.url = self._server.url
        self._openid = providers_at(self.url)
        self.folder = folder
        self._log = log
        self.emulator = Emulator(folder / "emulator" if folder else None)
        self.is_ready = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start_emulator(self) -> None:
        self.emulator.start()
        isolate(self.emulator.url)

    def deploy(self, template: dict[str, Any]) -> None:
        """Make what does not exist yet. Raises ChangedError if the data kept do not fit the template."""
        self.stack = Stack.deploy(
            template,
            parameters={"PublicUrl": self.url},
            client=clients(self.emulator.url),
            state=self.folder / "stack.json" if self.folder else None,
        )
        if self.folder is not None:
            self.emulator.save()  # what stack.json says exists must exist, however this process ends

    def load_functions(self) -> None:
        """Import the handlers and begin to feed them events."""
        runtime = Runtime(self.stack.functions, self.stack.environment, log=self._log)
        runtime.load()
        self.gateway = Gateway(
            self.stack.api,
            runtime,
            host=f"{LOOPBACK}:{self._server.port}",
            region=self.stack.region,
            account=self.stack.account,
        )
        self.pump = Pump(
            self.stack.sources,
            runtime,
            self.stack.client,
            region=self.stack.region,
            scans=self.stack.scans,
            schedules=self.stack.schedules,
        )
        self.pump.start()

    def bring_up(self, template: dict[str, Any]) -> None:
        """Everything up to `serve`."""
        self.start_emulator()
        self.deploy(template)
        self.load_functions()

    def serve(self) -> None:
        """Open the port."""
        self._server.start(self._front)

    async def _front(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].startswith(f"{PREFIX}/"):
            await self._openid(scope, receive, send)
            return
        if self.is_ready or scope["path"] != METADATA:
            await self.gateway(scope, receive, send)
            return
        headers = [(b"retry-after", b"1"), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def close(self) -> bool:
        """Answer what was asked, hand on what was announced, save. False if events were left behind."""
        self._server.stop()
        is_drained = True
        if hasattr(self, "pump"):
            is_drained = self.pump.stop()
            self.gateway.close()
        self.emulator.stop()
        return is_drained


def isolate(endpoint: str) -> None:
    """Point the AWS settings of this process at `endpoint` alone, whatever the machine is set up for."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    no_proxy = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), LOOPBACK, "localhost"]))
    os.environ.update(
        AWS_ACCESS_KEY_ID=_CREDENTIALS,
        AWS_SECRET_ACCESS_KEY=_CREDENTIALS,
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
        AWS_ACCOUNT_ID=ACCOUNT,
        AWS_ACCOUNT_ID_ENDPOINT_MODE="disabled",
        AWS_DEFAULT_REGION=REGION,
        AWS_REGION=REGION,
        AWS_ENDPOINT_URL=endpoint,
        NO_PROXY=no_proxy,
        no_proxy=no_proxy,
    )
