"""Key sets that clients publish at addresses of their own: one GET each, by `outbound.py`, of a bounded answer."""

from __future__ import annotations

from collections.abc import Sequence

from passerelle.api.outbound import Outbound, OutboundError
from passerelle.authorization.keys import MAX_SET_BYTES, Jwk, KeySetUnavailableError, read_key_set


class HttpKeySets:
    """`authorization.keys.KeySets`."""

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound

    def fetch(self, url: str) -> Sequence[Jwk]:
        headers = {"Accept": "application/jwk-set+json, application/json"}
        try:
            answer = self._outbound.request("GET", url, headers=headers, max_bytes=MAX_SET_BYTES + 1)
        except OutboundError as error:
            raise KeySetUnavailableError(error.reason) from None
        if answer.status != 200 or len(answer.body) > MAX_SET_BYTES:
            raise KeySetUnavailableError("answer")
        try:
            return read_key_set(answer.body)
        except ValueError:
            raise KeySetUnavailableError("answer") from None
