"""Registered systems, what their tokens say, and the one way in which a token request is refused.

SMART App Launch 2.2 "Client authentication: asymmetric" and "Backend services"; RFC 6749 section 5.2
(errors), RFC 9068 (JWT access tokens).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from passerelle.access import Limits, Scopes
from passerelle.authorization.keys import Jwk as Jwk
from passerelle.authorization.keys import algorithm_of, check_public_key
from passerelle.authorization.secrets import MAX_LIVE, Secret
from passerelle.directory.model import Role

CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
ISSUER_ALGORITHMS = frozenset({"RS256", "ES256", "HS256"})
MAX_ISSUER_CHARACTERS = 255
_MIN_SHARED_KEY_CHARACTERS = 43  # 256 bits in base64url
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
_PURPOSE = re.compile(r"[A-Z]{2,16}")
_VISIBLE = re.compile(r"[!-~]+")
MAX_REDIRECT_CHARACTERS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A system registered with the exchange: who it acts for and the most it may be granted.

    `organisation`, `domain`, `professional` and `patient` (`system|value`) are as in `access.Caller`. `jwks`
    holds public keys only, each with a `kid`; more are published at `jwks_url`, which is the one `jku` that its
    assertions may name. `secrets` are for HTTP Basic. `certificates` are the SHA-256 thumbprints (RFC 8705) of those
    that it connects with: if there are any, no token of its is good without one. `revoked` maps the ids of tokens that
    are void already to when they would expire (epoch seconds).

    Its assertions may say why it asks (`purposes`, codes of PurposeOfUse) and, if it `names_professionals`, who sits
    at it. `introspects`: it may ask what the tokens of others say.

    People log in through it with the OpenID `providers` that it names, and come back to one of its `redirect_uris`,
    compared character by character. One that `is_public` runs where nothing can be kept secret: it proves nothing, and
    has nothing without a person.
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
    redirect_uris: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    is_public: bool = False
    secrets: tuple[Secret, ...] = ()
    certificates: frozenset[str] = frozenset()
    purposes: tuple[str, ...] = ()
    names_professionals: bool = False
    introspects: bool = False

    def __post_init__(self) -> None:
        if not CLIENT_ID.fullmatch(self.id):
            raise ValueError("a client id has 1 to 64 letters, digits or ._-")
        for jwk in self.jwks:
            check_public_key(jwk)
        if self.jwks_url is not None and not self.jwks_url.startswith("https://"):
            raise ValueError("keys are published at an https URL")
        if len(self.secrets) > MAX_LIVE:
            raise ValueError(f"a client has at most {MAX_LIVE} secrets")
        if not all(_THUMBPRINT.fullmatch(each) for each in self.certificates):
            raise ValueError("a certificate is named by its SHA-256 thumbprint, in base64url")
        if not all(_PURPOSE.fullmatch(each) for each in self.purposes):
            raise ValueError("a purpose is a code of PurposeOfUse")
        if self.is_public and (self.jwks or self.jwks_url or self.secrets):
            raise ValueError("a public client has no keys and no secrets")
        for uri in self.redirect_uris:
            if not is_redirect_uri(uri):
                raise ValueError("a redirect URI is absolute, https (or http on this machine), and has no fragment")


def is_redirect_uri(uri: str) -> bool:
    """Whether people may be sent there with a code: RFC 6749 section 3.1.2, RFC 8252 section 7.3 (this machine)."""
    parts = urlsplit(uri)
    is_local = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")
    is_plain = len(uri) <= MAX_REDIRECT_CHARACTERS and _VISIBLE.fullmatch(uri) is not None and "\\" not in uri
    return (
        is_plain
        and bool(parts.hostname)
        and "@" not in parts.netloc
        and "#" not in uri
        and (parts.scheme == "https" or is_local)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """`url` is its `iss`, compared character by character. Each key has its `alg`; one of HS256 is a shared secret.

    It may speak for the `clients` that it names, whose role is among `roles`, within `scopes`.
    """

    url: str
    jwks: Sequence[Jwk]
    clients: frozenset[str]
    roles: frozenset[Role]
    scopes: Scopes
    active: bool = True

    def __post_init__(self) -> None:
        if not self.url.startswith("https://") or not self.url.isascii() or len(self.url) > MAX_ISSUER_CHARACTERS:
            raise ValueError("an issuer is an https URL")
        for jwk in self.jwks:
            if algorithm_of(jwk, ISSUER_ALGORITHMS) is None or "alg" not in jwk:
                raise ValueError("a key of an issuer says its algorithm: RS256, ES256 or HS256")
            if jwk["kty"] != "oct":
                check_public_key(jwk)
            elif not jwk.get("kid") or len(jwk.get("k", "")) < _MIN_SHARED_KEY_CHARACTERS:
                raise ValueError("a shared key has a kid and at least 256 bits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """A professional (IDNPS) or an organisation (IDNST) as a whole, whichever system acts for it."""

    kind: Literal["professional", "organisation"]
    id: str


def parties_of(organisation: str, professional: str | None) -> list[Party]:
    """Those for whom somebody acts: of whom none may be barred."""
    people = [Party(kind="professional", id=professional)] if professional is not None else []
    return [Party(kind="organisation", id=organisation), *people]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenClaims:
    """The payload of an access token: RFC 9068 claims, and what the exchange knows of the client and of who uses it.

    `subject` is the person who logged in, as `sub` has it; None for a system that speaks for itself. `profession`,
    `name`, `purpose` and `person` are as in `access.Caller`; `organisation_name` and `community` are told to others.
    """

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
    subject: str | None = None
    profession: str | None = None
    name: str = ""
    purpose: str = ""
    person: str | None = None
    organisation_name: str = ""
    community: str = ""
    limits: Limits | None = None
    certificate: str | None = None  # the SHA-256 thumbprint of the one that the token is bound to (RFC 8705)


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


class InvalidGrantError(TokenRefusedError):
    """Whatever is wrong with a code: one answer for all."""

    error = "invalid_grant"
    description = "the code is unknown, used, too old, or was not given to this client with this verifier"


class InvalidScopeError(TokenRefusedError):
    error = "invalid_scope"
    description = "the scope is missing, malformed or beyond the registration of the client"


class InvalidTargetError(TokenRefusedError):
    """RFC 8707: `resource` names something else than the FHIR base."""

    error = "invalid_target"
    description = "the resource is not the FHIR base of this exchange"


class InvalidExtensionsError(TokenRefusedError):
    description = "the extensions of the assertion are malformed or beyond the registration of the client"


class TooMuchSaidError(TokenRefusedError):
    description = "scope and extensions are too long for one token"


class BadTokenError(Exception):
    """A signed token is not what it has to be; the message is one of our own phrases."""


class ExpiredTokenError(BadTokenError):
    """Good in every other respect, but its time is over; `claims` are those of an access token."""

    claims: TokenClaims | None = None


class ReplayedAssertionError(Exception):
    """The client used this assertion before."""
