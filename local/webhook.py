"""A subscriber's endpoint on this machine: verifies and keeps the notifications it gets."""

from __future__ import annotations

import json
import threading
from collections import Counter
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from passerelle.notifications.signature import verify


class Webhook:
    """Listens on loopback, on a free port, while it is entered; set `secret` when the subscription tells it.

    Answers 401 to what is not signed with the secret, and keeps what came before the secret was known, unverified.
    """

    def __init__(self) -> None:
        self.secret: str | None = None
        self._bundles: list[dict[str, Any]] = []
        self._arrived = threading.Condition()
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status = webhook._take(body, dict(self.headers.items()))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's own name
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/notifications"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _take(self, body: bytes, headers: dict[str, str]) -> int:
        sent = {name.lower(): value for name, value in headers.items()}
        if self.secret is not None and not verify(
            [self.secret],
            sent.get("x-passerelle-delivery", ""),
            body,
            sent.get("x-passerelle-signature", ""),
            datetime.now(UTC),
        ):
            return 401
        with self._arrived:
            self._bundles.append(json.loads(body))
            self._arrived.notify_all()
        return 200

    @property
    def received(self) -> list[dict[str, Any]]:
        """What came, in order."""
        return list(self._bundles)

    def wait_for(self, text: str, seconds: float) -> bool:
        """Whether a notification that mentions `text` arrives within this time."""
        with self._arrived:
            return self._arrived.wait_for(lambda: any(text in json.dumps(each) for each in self._bundles), seconds)

    def numbers(self) -> list[int]:
        """The event numbers, in the order they arrived."""
        return [int(value) for bundle in self._bundles for value in _all(bundle, "event-number")]

    def summary(self) -> dict[str, int]:
        """How often each resource type was the focus."""
        focuses = [value for bundle in self._bundles for value in _all(bundle, "focus")]
        return dict(Counter(focus.rstrip("/").split("/")[-2] for focus in focuses))


def _all(value: Any, name: str) -> list[str]:
    """The values of every Parameters part of this name."""
    if isinstance(value, list):
        return [found for each in value for found in _all(each, name)]
    if not isinstance(value, dict):
        return []
    if value.get("name") == name:
        content = next(held for key, held in value.items() if key.startswith("value"))
        return [content["reference"] if isinstance(content, dict) else str(content)]
    return [found for each in value.values() for found in _all(each, name)]
