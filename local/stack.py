"""The whole stack: resources of the template, functions, HTTP front and event pump in this process, on the emulator in
another; and beside it the OpenID providers where people of the synthetic region log in.

    with LocalStack(port=8000, folder=folder) as local:
        local.bring_up(template)
        local.serve()
        local.is_ready = True

Nothing here talks to AWS: the environment of the process is made to point at the emulator, with credentials
that mean nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TextIO

from local.emulator import ACCOUNT, CREDENTIALS, REGION, Emulator
from local.gateway import Gateway
from local.openid import PREFIX, providers_at
from local.pump import Pump
from local.runtime import Runtime
from local.sdk import lightened
from local.server import LOOPBACK, Server
from local.template import Stack, clients

METADATA: Final = "/fhir/metadata"


class LocalStack:
    """One per process. `folder` keeps the data; without it they end with the process.

    The port is taken from the beginning: PortTakenError if another program has it (0: any free port).
    `emulator`, `stack`, `gateway` and `pump` are there after `bring_up`. Once `serve` opened the port, the capability
    statement is refused until `is_ready`: whoever waits for it finds the stack filled. The descriptors in `keeps` stay
    open until the data are saved, even where this process is killed. With `signs`, a call of a function costs the
    processor time that it costs on Lambda.
    """

    emulator: Emulator
    stack: Stack
    gateway: Gateway
    pump: Pump

    def __init__(
        self,
        *,
        port: int = 0,
        folder: Path | None = None,
        log: TextIO | None = None,
        keeps: Sequence[int] = (),
        signs: bool = False,
    ) -> None:
        self._server = Server(port=port)
        self.url = self._server.url
        self._openid = providers_at(self.url)
        self.folder = folder
        self._log = log
        self._keeps = keeps
        self._signs = signs
        self.is_ready = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start_emulator(self) -> None:
        self.emulator = Emulator(self.folder / "emulator" if self.folder else None, log=self._log, keeps=self._keeps)
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
        from passerelle.wiring import process

        if not self._signs:
            lightened(process.session())
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
        """Answer what was asked, hand on what was announced, save. False if events were left behind.

        Raises ChildError if the emulator did not end in order, now or before.
        """
        self._server.stop()
        is_drained = True
        try:
            if hasattr(self, "pump"):
                is_drained = self.emulator.is_running and self.pump.stop()
                self.gateway.close()
        finally:
            if hasattr(self, "emulator"):
                self.emulator.close()
        return is_drained


def isolate(endpoint: str) -> None:
    """Point the AWS settings of this process at `endpoint` alone, whatever the machine is set up for."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    no_proxy = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), LOOPBACK, "localhost"]))
    os.environ.update(
        AWS_ACCESS_KEY_ID=CREDENTIALS,
        AWS_SECRET_ACCESS_KEY=CREDENTIALS,
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
