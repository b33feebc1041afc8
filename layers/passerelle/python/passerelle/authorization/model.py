"""Registered systems, what their tokens say, and the one way in which a token request is refused.

SMART App Launch 2.2 "Client authentication: asymmetric" and "Backend services"; RFC 6749 section 5.2
(errors), RFC 9068 (JWT access tokens).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from passerelle.access import Scopes
from passerelle.directory.model import Role

Jwk = Mapping[str, Any]

CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PRIVATE_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
_MIN_MODULUS_CHARACTERS = 342  # 2048 bits in base64url


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A system registered with the exchange: who it acts for and the most it may be granted.

    `organisation`, `domain`, `professional` and `patient` (`system|value`) are as in `access.Caller`. `jwks`
    holds public keys only, each with a `kid`; `jwks_url` is the one `jku` its assertions may name, never
    fetched. `revoked` maps the ids of tokens that are void already to when they would expire (epoch seconds).
    """

    id: str
    organisation: str
    role: Role
    scopes: Scopes
    jwks: Sequence[Jwk]
    domain: str | None = None
    professional: str | None = None
    patient: str | None = None
    jwks_url: str | None = None
    active: bool = True
    revoked: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not CLIENT_ID.fullmatch(self.id):
            raise ValueError("a client id has 1 to 64 letters, digits or ._-")
        for jwk in self.jwks:
            if _PRIVATE_MEMBERS & jwk.keys():
                raise ValueError("a registered key holds private material")
            if not jwk.get("kid"):
                raise ValueError("a registered key has no kid")
            if jwk["kty"] == "RSA" and len(jwk["n"]) < _MIN_MODULUS_CHARACTERS:
                raise ValueError("a registered RSA key is shorter than 2048 bits")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenClaims:
    """The payload of an access token: RFC 9068 claims, and what the exchange knows of the client."""

    issuer: str
    audience: str
    token_id: str
    client_id: str
    issued_at: datetime
    expires_at: datetime
    scope: str
    organisation: str
    role: str
    domain: str | None = None
    professional: str | None = None
    patient: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """The answer to a token request; there is no refresh token."""

    access_token: str
    expires_in_seconds: int
    scope: str


class TokenRefusedError(Exception):
    """A token request is refused: `error` is the OAuth code, `reason` is for the log, never for the caller.

    `reason` is one of our own phrases, never a text from the request.
    """

    status: ClassVar[int] = 400
    error: ClassVar[str] = "invalid_request"
    description: ClassVar[str] = "a form with each parameter once is expected"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class InvalidClientError(TokenRefusedError):
    """Whatever is wrong with the client or its assertion: one answer for all, so that it tells nothing."""

    status, error = 401, "invalid_client"
    description = "client authentication failed"


class UnsupportedGrantError(TokenRefusedError):
    error = "unsupported_grant_type"
    description = "the grant type is client_credentials"


class InvalidScopeError(TokenRefusedError):
    error = "invalid_scope"
    description = "the scope is missing, malformed or beyond the registration of the client"


class BadTokenError(Exception):
    """A signed token is not what it has to be; the message is one of our own phrases."""


class ExpiredTokenError(BadTokenError):
    """Good in every other respect, but its time is over; `claims` are those of an access token."""

    claims: TokenClaims | None = None


class ReplayedAssertionError(Exception):
    """The client used this assertion before."""
