"""How a registered system proves to the authorization server who it is: by a signed assertion, or by HTTP Basic.

SMART App Launch 2.2 "Client authentication: asymmetric", RFC 7523 (JWT assertions), RFC 6749 section 2.3.1 (Basic; a
secret in a form counts for nothing), RFC 8705 (certificates).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from passerelle.authorization.keys import PublishedKeys
from passerelle.authorization.model import (
    CLIENT_ID,
    BadTokenError,
    Client,
    InvalidClientError,
    ReplayedAssertionError,
)
from passerelle.authorization.ports import Clients
from passerelle.authorization.secrets import is_one_of
from passerelle.authorization.signatures import SignedToken

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_ALGORITHMS: Final = frozenset({"ES384", "RS384"})
ASSERTION_LIFE: Final = timedelta(minutes=5)
CLOCK_LEEWAY_SECONDS: Final = 5  # how far a client's clock may be ahead of ours, in `iat`, `nbf` and `exp`
METHODS: Final = ("private_key_jwt", "client_secret_basic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What came beside the form: id and secret of HTTP Basic, or a bearer token, and the thumbprint of the certificate
    of the connection."""

    basic: tuple[str, str] | None = None
    bearer: str | None = None
    certificate: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """A system that is who it says, and what its assertion says beyond that."""

    client: Client
    claims: Mapping[str, Any] = field(default_factory=dict)


class ClientAuthentication:
    def __init__(self, clients: Clients, published: PublishedKeys) -> None:
        self._clients = clients
        self._published = published

    def prove(self, form: Mapping[str, str], shown: Shown, *, at: datetime, audience: str) -> Proven:
        """Raises InvalidClientError, whatever is wrong. A good assertion is used up.

        `audience` is the URL of the token endpoint, wherever it is shown: it names the authorization server.
        """
        asserts = "client_assertion" in form or "client_assertion_type" in form
        if "client_secret" in form or shown.bearer is not None or (asserts and shown.basic is not None):
            raise InvalidClientError("a secret in the form, a bearer token, or two ways of authentication")
        try:
            proven = self._by_secret(form, shown.basic, at) if shown.basic else self._asserted(form, at, audience)
        except (BadTokenError, ReplayedAssertionError) as error:
            raise InvalidClientError(str(error)) from error
        if proven.client.certificates and shown.certificate not in proven.client.certificates:
            raise InvalidClientError("not the certificate of the client")
        return proven

    def _by_secret(self, form: Mapping[str, str], basic: tuple[str, str], at: datetime) -> Proven:
        claimed, secret = basic
        if form.get("client_id", claimed) != claimed:
            raise BadTokenError("two clients")
        client = self._clients.find(claimed) if CLIENT_ID.fullmatch(claimed) else None
        known = client.secrets if client is not None and client.active else ()
        if not is_one_of(secret, known, at) or client is None:
            raise BadTokenError("unknown or inactive client, or not its secret")
        return Proven(client=client)

    def _asserted(self, form: Mapping[str, str], at: datetime, audience: str) -> Proven:
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise BadTokenError("no client assertion")
        assertion = SignedToken(form.get("client_assertion", ""))
        claimed = assertion.claims.get("iss")
        if not isinstance(claimed, str) or not CLIENT_ID.fullmatch(claimed):
            raise BadTokenError("no client")
        if form.get("client_id", claimed) != claimed:  # RFC 7521 section 4.2: optional, but it has to agree
            raise BadTokenError("two clients")
        client = self._clients.find(claimed)
        if client is None or not client.active:
            raise BadTokenError("unknown or inactive client")
        if assertion.header.get("typ", "JWT") != "JWT":
            raise BadTokenError("not of type JWT")
        if "jku" in assertion.header and assertion.header["jku"] != client.jwks_url:
            raise BadTokenError("jku is not the registered one")
        self._check_signature(assertion, client, at)
        assertion.check_claims(
            issuer=client.id,
            subject=client.id,
            audience=audience,
            at=at,
            leeway_seconds=CLOCK_LEEWAY_SECONDS,
        )
        expires = assertion.seconds("exp")
        if expires > at.timestamp() + ASSERTION_LIFE.total_seconds() + CLOCK_LEEWAY_SECONDS:
            raise BadTokenError("exp is too far ahead")
        until = datetime.fromtimestamp(expires, UTC) + timedelta(seconds=1)
        self._clients.remember_assertion(client.id, assertion.claims["jti"], until=until)
        return Proven(client=client, claims=assertion.claims)

    def _check_signature(self, assertion: SignedToken, client: Client, at: datetime) -> None:
        """With a key that was registered, else with one that is published where the registration says."""
        kid = assertion.header.get("kid")
        keys = [jwk for jwk in client.jwks if jwk["kid"] == kid]
        if not keys and client.jwks_url is not None and isinstance(kid, str):
            keys = list(self._published.named(client.jwks_url, kid, at))
        assertion.verify(keys, algorithms=ASSERTION_ALGORITHMS)
