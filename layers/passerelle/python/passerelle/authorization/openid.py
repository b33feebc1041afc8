"""The OpenID providers where people log in, and what an ID token of theirs has to be.

OpenID Connect Core 1.0 sections 3.1.3.7 (ID token), 5.3 (UserInfo) and 5.5.1.1 (`acr`), Discovery 1.0; RFC 9700
(current practice) and RFC 9207 (`iss` against mix-up). What the claims of a country's providers are called, and in
which order its levels of assurance stand, is data: `data/providers_<country>.json`.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from passerelle.authorization.model import BadTokenError, ExpiredTokenError, Jwk
from passerelle.authorization.signatures import SignedToken

_DATA: Final = Path(__file__).parent / "data" / "providers_fr.json"

ALGORITHMS: Final = frozenset({"ES256", "RS256"})
MAX_CLAIMS_CHARACTERS: Final = 65_536
MAX_SUBJECT_CHARACTERS: Final = 255  # OpenID Connect Core section 2
_LEEWAY_SECONDS: Final = 10  # how far a provider's clock may be ahead of ours
_MAX_AGE_SECONDS: Final = 600  # an ID token is checked right after it was made


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider as the operator configures it. `profile` names its claims in the data, `acr` is the least assurance.

    `client_id` is what the exchange is called there; `secret` the ARN of what it proves that with, empty for a public
    client.
    """

    id: str
    name: str
    profile: str
    issuer: str
    client_id: str
    acr: str
    secret: str = ""

    @property
    def claims(self) -> Mapping[str, Any]:
        """The names of its claims, and the forms of their values."""
        profile: Mapping[str, Any] = country()["profiles"][self.profile]
        return profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What a provider says of itself; `names_itself` that it adds `iss` to what it sends back."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    names_itself: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderTokens:
    id_token: str
    access_token: str


class ProviderRefusedError(Exception):
    """The provider does not take the code."""


class ProviderUnavailableError(Exception):
    """The provider does not answer, or not as one does."""


@cache
def country() -> Mapping[str, Any]:
    """The country's providers, roles and purposes, as data."""
    content: Mapping[str, Any] = json.loads(_DATA.read_text("utf-8"))
    return content


def parse_providers(text: str, public_url: str) -> Mapping[str, Provider]:
    """Read the settings of the stack; an issuer that is a path is on this very exchange, for a stack on a desk."""
    found = {}
    for each in json.loads(text):
        issuer = each["issuer"]
        provider = Provider(**{**each, "issuer": f"{public_url}{issuer}" if issuer.startswith("/") else issuer})
        if provider.acr not in provider.claims["acr"]:
            raise ValueError("a level of assurance that the profile does not have")
        found[provider.id] = provider
    return found


def parse_metadata(content: bytes, provider: Provider) -> Metadata:
    """Read a discovery document; raises ProviderUnavailableError for one that is not the provider's own."""
    try:
        said = json.loads(content)
        if said["issuer"] != provider.issuer:
            raise ProviderUnavailableError("the discovery document is of another issuer")
        metadata = Metadata(
            authorization_endpoint=said["authorization_endpoint"],
            token_endpoint=said["token_endpoint"],
            jwks_uri=said["jwks_uri"],
            userinfo_endpoint=said.get("userinfo_endpoint"),
            names_itself=said.get("authorization_response_iss_parameter_supported") is True,
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ProviderUnavailableError("not a discovery document") from None
    given = (metadata.authorization_endpoint, metadata.token_endpoint, metadata.jwks_uri)
    scheme = provider.issuer.partition("://")[0]
    if not all(isinstance(each, str) and each.startswith(f"{scheme}://") for each in given):
        raise ProviderUnavailableError("an endpoint that is no URL")
    return metadata


def check_id_token(
    token: SignedToken,
    keys: Sequence[Jwk],
    provider: Provider,
    *,
    nonce: str,
    at: datetime,
    max_age_seconds: int | None = None,
) -> str:
    """Whether the provider says, now and to us, who answered this very request; returns `sub`.

    Raises ExpiredTokenError or BadTokenError.
    """
    token.verify(keys, algorithms=ALGORITHMS)
    claims, now = token.claims, at.timestamp()
    if claims.get("iss") != provider.issuer:
        raise BadTokenError("wrong issuer")
    _check_audience(claims, provider.client_id)
    if token.seconds("exp") <= now:
        raise ExpiredTokenError("expired")
    if not now - _MAX_AGE_SECONDS <= token.seconds("iat") <= now + _LEEWAY_SECONDS:
        raise BadTokenError("made too long ago, or not yet")
    if not isinstance(said := claims.get("nonce"), str) or not hmac.compare_digest(said.encode(), nonce.encode()):
        raise BadTokenError("wrong nonce")
    if not _suffices(claims.get("acr"), provider):
        raise BadTokenError("not enough assurance")
    if max_age_seconds is not None and token.seconds("auth_time") + max_age_seconds < now - _LEEWAY_SECONDS:
        raise BadTokenError("logged in too long ago")
    return subject_of(claims)


def subject_of(claims: Mapping[str, Any]) -> str:
    """Raises BadTokenError."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_CHARACTERS or not subject.isascii():
        raise BadTokenError("no subject")
    if not subject.isprintable():
        raise BadTokenError("no subject")
    return subject


def _check_audience(claims: Mapping[str, Any], client_id: str) -> None:
    audience, party = claims.get("aud"), claims.get("azp")
    audiences = audience if isinstance(audience, list) else [audience]
    if client_id not in audiences or (len(audiences) > 1 and party is None):
        raise BadTokenError("wrong audience")
    if party is not None and party != client_id:
        raise BadTokenError("made for another party")


def _suffices(acr: object, provider: Provider) -> bool:
    levels: list[str] = provider.claims["acr"]
    return acr in levels and levels.index(str(acr)) >= levels.index(provider.acr)


def userinfo_claims(text: str, keys: Sequence[Jwk], provider: Provider, subject: str) -> Mapping[str, Any]:
    """The claims of a UserInfo answer, JSON or signed; raises BadTokenError if it is of somebody else."""
    if text.lstrip().startswith("{"):
        try:
            claims = json.loads(text)
        except (ValueError, RecursionError):
            raise BadTokenError("userinfo is no JSON") from None
    else:
        token = SignedToken(text.strip())
        token.verify(keys, algorithms=ALGORITHMS)
        claims = token.claims
        if claims.get("iss") != provider.issuer:
            raise BadTokenError("userinfo of another issuer")
        _check_audience(claims, provider.client_id)
    if subject_of(claims) != subject:
        raise BadTokenError("userinfo of somebody else")
    found: Mapping[str, Any] = claims
    return found
