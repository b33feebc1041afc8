"""Issuing access tokens to registered systems, and verifying them: SMART Backend Services, no refresh tokens.

SMART App Launch 2.2 "Backend services" and "Client authentication: asymmetric", RFC 7523 (JWT assertions),
RFC 9068 (JWT access tokens), IHE IUA ITI-71 and ITI-72.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from passerelle.access import Scopes
from passerelle.authorization.model import (
    CLIENT_ID,
    BadTokenError,
    Client,
    ExpiredTokenError,
    InvalidClientError,
    InvalidScopeError,
    IssuedToken,
    Jwk,
    ReplayedAssertionError,
    TokenClaims,
    TokenRefusedError,
    UnsupportedGrantError,
)
from passerelle.authorization.ports import Clients, TokenKey
from passerelle.authorization.signatures import SignedToken
from passerelle.identifiers import new_ulid

GRANT_TYPE = "client_credentials"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_ALGORITHMS = frozenset({"ES384", "RS384"})
ACCESS_TOKEN_ALGORITHMS = frozenset({"ES256"})
ACCESS_TOKEN_TYPE = "at+jwt"  # noqa: S105 - a media type (RFC 9068), not a secret

SCOPES_SUPPORTED = (
    "system/*.cruds",
    *("ITI-65", "ITI-66", "ITI-67", "ITI-68", "ITI-78", "ITI-81", "ITI-93", "ITI-94", "ITI-104", "TD0.2"),
)

TOKEN_LIFE = timedelta(minutes=5)
ASSERTION_LIFE = timedelta(minutes=5)
CLOCK_LEEWAY_SECONDS = 5  # how far a client's clock may be ahead of ours, in `iat`, `nbf` and `exp`
MAX_SCOPE_CHARACTERS = 2000  # KMS signs messages of at most 4096 bytes, and the token carries its scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """The public addresses that tokens are bound to, derived from the root URL of the exchange."""

    root: str

    @property
    def token(self) -> str:
        return f"{self.root}/oauth2/token"

    @property
    def jwks(self) -> str:
        return f"{self.root}/oauth2/jwks"

    @property
    def fhir(self) -> str:
        return f"{self.root}/fhir"


def discovery_document(endpoints: Endpoints) -> dict[str, Any]:
    """`.well-known/smart-configuration` of a server with Backend Services and nothing else."""
    return {
        "issuer": endpoints.root,
        "jwks_uri": endpoints.jwks,
        "token_endpoint": endpoints.token,
        "grant_types_supported": [GRANT_TYPE],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": sorted(ASSERTION_ALGORITHMS, reverse=True),
        "scopes_supported": list(SCOPES_SUPPORTED),
        "capabilities": ["client-confidential-asymmetric", "permission-v2"],
    }


class AuthorizationService:
    """The authorization server (`issue`) and the check of the resource server (`verify`)."""

    def __init__(self, *, clients: Clients, key: TokenKey) -> None:
        self._clients = clients
        self._key = key

    def issue(self, form: Mapping[str, str], *, at: datetime, endpoints: Endpoints) -> IssuedToken:
        """Answer a token request; raises a TokenRefusedError.

        An assertion is used up as soon as it is found good, even if the scope is refused then.
        """
        if "grant_type" not in form:
            raise TokenRefusedError("no grant type")
        if form["grant_type"] != GRANT_TYPE:
            raise UnsupportedGrantError("grant type")
        client = self._authenticated(form, at, endpoints)
        scope = str(_granted(client, form.get("scope", "")))
        claims = TokenClaims(
            issuer=endpoints.root,
            audience=endpoints.fhir,
            token_id=new_ulid(at),
            client_id=client.id,
            issued_at=at,
            expires_at=at + TOKEN_LIFE,
            scope=scope,
            organisation=client.organisation,
            role=client.role,
            domain=client.domain,
            professional=client.professional,
            patient=client.patient,
        )
        return IssuedToken(
            access_token=self._key.sign(claims_to_map(claims)),
            expires_in_seconds=int(TOKEN_LIFE.total_seconds()),
            scope=scope,
        )

    def public_keys(self) -> Sequence[Jwk]:
        return self._key.public_keys()

    def verify(self, text: str, *, at: datetime, endpoints: Endpoints) -> TokenClaims:
        """What a good access token says; raises ExpiredTokenError or BadTokenError.

        One read of the client's record, so that a client that is deactivated, or a token that is revoked,
        stops at once. Our own clock made the token: no leeway.
        """
        token = SignedToken(text)
        if token.header.get("typ") != ACCESS_TOKEN_TYPE:
            raise BadTokenError("not an access token")
        token.verify(self._key.public_keys(), algorithms=ACCESS_TOKEN_ALGORITHMS)
        try:
            token.check_claims(issuer=endpoints.root, audience=endpoints.fhir, at=at)
        except ExpiredTokenError as error:
            error.claims = claims_from_map(token.claims)
            raise
        claims = claims_from_map(token.claims)
        client = self._clients.find(claims.client_id)
        if client is None or not client.active or claims.token_id in client.revoked:
            raise BadTokenError("revoked")
        return claims

    def _authenticated(self, form: Mapping[str, str], at: datetime, endpoints: Endpoints) -> Client:
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise InvalidClientError("no client assertion")
        try:
            return self._asserted(form, at, endpoints)
        except (BadTokenError, ReplayedAssertionError) as error:
            raise InvalidClientError(str(error)) from error

    def _asserted(self, form: Mapping[str, str], at: datetime, endpoints: Endpoints) -> Client:
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
        assertion.verify(client.jwks, algorithms=ASSERTION_ALGORITHMS)
        assertion.check_claims(
            issuer=client.id,
            subject=client.id,
            audience=endpoints.token,
            at=at,
            leeway_seconds=CLOCK_LEEWAY_SECONDS,
        )
        expires = assertion.seconds("exp")
        if expires > at.timestamp() + ASSERTION_LIFE.total_seconds() + CLOCK_LEEWAY_SECONDS:
            raise BadTokenError("exp is too far ahead")
        until = datetime.fromtimestamp(expires, UTC) + timedelta(seconds=1)
        self._clients.remember_assertion(client.id, assertion.claims["jti"], until=until)
        return client


def _granted(client: Client, asked: str) -> Scopes:
    """The scope asked for, all or nothing: SMART lets servers grant less, which clients notice too late."""
    if not asked.strip():
        raise InvalidScopeError("no scope")
    if len(asked) > MAX_SCOPE_CHARACTERS:
        raise InvalidScopeError("scope too long")
    try:
        scopes = Scopes.parse(asked)
    except ValueError as error:
        raise InvalidScopeError("malformed scope") from error
    if not client.scopes.covers(scopes):
        raise InvalidScopeError("scope beyond registration")
    return scopes


_OPTIONAL = ("domain", "professional", "patient")


def claims_to_map(claims: TokenClaims) -> dict[str, Any]:
    """The payload of an access token."""
    return {
        "iss": claims.issuer,
        "sub": claims.client_id,
        "client_id": claims.client_id,
        "aud": claims.audience,
        "jti": claims.token_id,
        "iat": int(claims.issued_at.timestamp()),
        "exp": int(claims.expires_at.timestamp()),
        "scope": claims.scope,
        "organisation": claims.organisation,
        "role": str(claims.role),
        **{name: value for name in _OPTIONAL if (value := getattr(claims, name)) is not None},
    }


def claims_from_map(payload: Mapping[str, Any]) -> TokenClaims:
    """Read the payload of a token that we signed; raises BadTokenError if a claim is missing."""
    try:
        return TokenClaims(
            issuer=payload["iss"],
            audience=payload["aud"],
            token_id=payload["jti"],
            client_id=payload["client_id"],
            issued_at=datetime.fromtimestamp(payload["iat"], UTC),
            expires_at=datetime.fromtimestamp(payload["exp"], UTC),
            scope=payload["scope"],
            organisation=payload["organisation"],
            role=payload["role"],
            **{name: payload.get(name) for name in _OPTIONAL},
        )
    except KeyError as error:
        raise BadTokenError("a claim is missing") from error
