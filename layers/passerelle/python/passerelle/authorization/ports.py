"""What authorization needs from storage and from the key that signs access tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from passerelle.authorization.model import Client, Jwk


class Clients(Protocol):
    def find(self, client_id: str) -> Client | None: ...

    def remember_assertion(self, client_id: str, assertion_id: str, *, until: datetime) -> None:
        """Keep the id of an assertion; of calls with the same id, however close, one succeeds.

        The others raise ReplayedAssertionError.
        """


class TokenKey(Protocol):
    """The key of the exchange: ES256, and its private part never leaves where it is."""

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A compact JWS of type `at+jwt` over the claims, with the `kid` of the key."""

    def public_keys(self) -> Sequence[Jwk]:
        """The keys that access tokens are verified with, `kid` is the RFC 7638 thumbprint."""
