"""Authorization servers of others whose access tokens the exchange takes, and what such a token has to be.

IHE IUA ITI-72 (JWT option: RS256, HS256, ES256), RFC 9068. An issuer speaks for clients that are registered here, never
for more than their registrations; what it signs with is registered by an operator, never fetched.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from passerelle.access import Scopes
from passerelle.authorization.extensions import said_by
from passerelle.authorization.model import ISSUER_ALGORITHMS, BadTokenError, Client, Issuer, TokenClaims
from passerelle.authorization.signatures import SignedToken

MAX_LIFE: Final = timedelta(hours=1)
_CLOCK_LEEWAY_SECONDS: Final = 5
_MAX_TOKEN_ID_CHARACTERS: Final = 128
_TYPES: Final = frozenset({"at+jwt", "application/at+jwt", "jwt", None})


def claims_of(token: SignedToken, issuer: Issuer, client: Client, *, audience: str, at: datetime) -> TokenClaims:
    """What a token of a trusted issuer says of a registered client; raises BadTokenError or ExpiredTokenError."""
    kind = token.header.get("typ")
    if (kind.lower() if isinstance(kind, str) else kind) not in _TYPES:
        raise BadTokenError("not an access token")
    if not issuer.active or client.id not in issuer.clients or client.role not in issuer.roles:
        raise BadTokenError("the issuer may not speak for this client")
    token.verify(issuer.jwks, algorithms=ISSUER_ALGORITHMS)
    token.check_claims(issuer=issuer.url, audience=audience, at=at, leeway_seconds=_CLOCK_LEEWAY_SECONDS)
    expires = token.seconds("exp")
    if expires > at.timestamp() + MAX_LIFE.total_seconds() + _CLOCK_LEEWAY_SECONDS:
        raise BadTokenError("exp is too far ahead")
    token_id: str = token.claims["jti"]
    if len(token_id) > _MAX_TOKEN_ID_CHARACTERS:
        raise BadTokenError("jti is too long")
    said = said_by(token.claims, client)
    return TokenClaims(
        issuer=issuer.url,
        audience=audience,
        token_id=token_id,
        client_id=client.id,
        issued_at=datetime.fromtimestamp(token.seconds("iat"), UTC),
        expires_at=datetime.fromtimestamp(expires, UTC),
        scope=_scope(token.claims.get("scope"), issuer, client),
        organisation=client.organisation,
        role=client.role,
        domain=client.domain,
        professional=said.professional,
        patient=client.patient,
        profession=said.profession,
        name=said.name,
        purpose=said.purpose,
        limits=said.limits,
        certificate=_certificate(token),
    )


def _scope(said: object, issuer: Issuer, client: Client) -> str:
    try:
        scopes = Scopes.parse(said) if isinstance(said, str) else None
    except ValueError:
        scopes = None
    if not scopes or not scopes.values or not (client.scopes.covers(scopes) and issuer.scopes.covers(scopes)):
        raise BadTokenError("scope beyond registration")
    return str(scopes)


def _certificate(token: SignedToken) -> str | None:
    match token.claims.get("cnf"):
        case None:
            return None
        case {"x5t#S256": str(thumbprint), **rest} if not rest:
            return thumbprint
    raise BadTokenError("bound to a key that is not a certificate")
