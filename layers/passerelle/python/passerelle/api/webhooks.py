"""The HTTP client of notifications: one POST to an address of the subscriber's choosing, by `outbound.py`."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from passerelle.api.outbound import TIMEOUT_SECONDS, Outbound, OutboundError, Resolve, resolve
from passerelle.notifications.model import UndeliveredError

_MAX_ANSWER_BYTES = 1024


class HttpWebhooks:
    """`notifications.ports.Webhooks`. `allow_loopback` is for a stack that runs on a desk."""

    def __init__(
        self,
        *,
        allow_loopback: bool,
        resolve: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._outbound = Outbound(
            allow_loopback=allow_loopback, resolve=resolve, tls=tls, timeout_seconds=timeout_seconds
        )

    def post(self, endpoint: str, headers: Mapping[str, str], body: bytes) -> None:
        try:
            answer = self._outbound.request("POST", endpoint, headers=headers, body=body, max_bytes=_MAX_ANSWER_BYTES)
        except OutboundError as error:
            raise UndeliveredError(error.reason) from None
        if not 200 <= answer.status < 300:
            raise UndeliveredError(f"status {answer.status}", is_answer=answer.status < 500)
