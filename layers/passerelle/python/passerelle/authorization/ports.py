"""What authorization needs from storage and from the key that signs access tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from passerelle.authorization.model import Client, Issuer, Jwk, Party

if TYPE_CHECKING:
    from passerelle.authorization.codes import Grant
    from passerelle.authorization.login import Pending
    from passerelle.authorization.openid import Metadata, Provider, ProviderTokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is on record of those that a token names, at one moment; `barred` are the parties that are shut out."""

    client: Client | None = None
    issuer: Issuer | None = None
    barred: frozenset[Party] = frozenset()


class Clients(Protocol):
    def find(self, client_id: str) -> Client | None: ...

    def look_up(self, client_id: str, *, parties: Sequence[Party] = (), issuer: str | None = None) -> Known:
        """A client, a trusted issuer by its URL, and which of the parties are barred: one round trip."""

    def remember_assertion(self, client_id: str, assertion_id: str, *, until: datetime) -> None:
        """Keep the id of an assertion; of calls with the same id, however close, one succeeds.

        The others raise ReplayedAssertionError.
        """

    def revoke(self, client_id: str, token_id: str, *, expires_at: datetime, at: datetime) -> None:
        """Make one token void at once. Raises NotFound if there is no such client."""


class TokenKey(Protocol):
    """The key of the exchange: ES256, and its private part never leaves where it is."""

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A compact JWS of type `at+jwt` over the claims, with the `kid` of the key."""

    def public_keys(self) -> Sequence[Jwk]:
        """The keys that access tokens are verified with, `kid` is the RFC 7638 thumbprint."""


class Codes(Protocol):
    """Authorization codes by the digest of each; kept until the tokens that they gave have expired."""

    def keep(self, digest: str, grant: Grant) -> None: ...

    def find(self, digest: str) -> Grant | None: ...

    def use(self, digest: str, *, token_id: str, until: datetime) -> None:
        """Note which token a code gives, good until then; of calls with one code, however close, one succeeds.

        The others raise CodeUsedError.
        """


class Logins(Protocol):
    """Logins under way, by the digest of the state that the provider sends back."""

    def keep(self, digest: str, login: Pending) -> None: ...

    def find(self, digest: str) -> Pending | None: ...

    def take(self, digest: str) -> bool:
        """Forget a login; of calls with one digest, however close, one is told True."""


class OpenIdProviders(Protocol):
    """What is asked of a provider directly; every call raises ProviderUnavailableError if there is no answer."""

    def metadata(self, provider: Provider, at: datetime) -> Metadata: ...

    def redeem(
        self, provider: Provider, *, code: str, verifier: str, redirect_uri: str, at: datetime
    ) -> ProviderTokens:
        """Raises ProviderRefusedError."""

    def keys(self, provider: Provider, kid: object, at: datetime) -> Sequence[Jwk]:
        """The keys of that kid."""

    def userinfo(self, provider: Provider, access_token: str, at: datetime) -> str:
        """The answer as it came, or an empty text from a provider that has none."""
