"""An ASGI application served from a thread of this process, on loopback only."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any, Final, Literal

import uvicorn

LOOPBACK: Final = "127.0.0.1"
_START_SECONDS: Final = 30.0


class PortTakenError(Exception):
    """Another program listens on the port."""


class Server:
    """Holds its port from the moment it is made; answers between `start` and `stop`."""

    def __init__(self, *, port: int = 0) -> None:
        # asyncio turns Nagle's algorithm off only where the protocol is named; it would cost 40 ms a request.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((LOOPBACK, port))
        except OSError as error:
            self._socket.close()
            raise PortTakenError(f"cannot listen on {LOOPBACK}:{port}: {error.strerror}") from error
        self.port: int = self._socket.getsockname()[1]
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def start(self, app: Any, *, lifespan: Literal["on", "off"] = "off") -> None:
        """Serve `app` until `stop`; returns when it answers. Raises RuntimeError if it does not start."""
        config = uvicorn.Config(
            app,
            interface="asgi3",
            lifespan=lifespan,
            proxy_headers=False,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=lifespan == "off",  # an application with a life of its own dates its answers
            timeout_graceful_shutdown=5,
            timeout_keep_alive=75,
            ws="none",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run,
            kwargs={"sockets": [self._socket]},
            name=f"server-{self.port}",
            daemon=True,
        )
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError(f"the server on port {self.port} did not start")
            time.sleep(0.01)

    def stop(self) -> None:
        """Finish the requests under way (5 seconds at most), then the application's own shutdown."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
        self._socket.close()
