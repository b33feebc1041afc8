"""The HTTP client of OpenID providers: discovery, keys, the exchange of a code, UserInfo; by `outbound.py`.

OpenID Connect Discovery 1.0, Core 1.0 sections 3.1.3 and 5.3; RFC 7636 towards the provider, too. What proves the
exchange to a provider is a secret of the operator: a private JWK (`private_key_jwt`) or a password
(`client_secret_post`).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from joserfc import jwt
from joserfc.jwk import JWKRegistry

from passerelle.api.outbound import Answer, Outbound, OutboundError
from passerelle.authorization.keys import Jwk, PublishedKeys
from passerelle.authorization.openid import (
    MAX_CLAIMS_CHARACTERS,
    Metadata,
    Provider,
    ProviderRefusedError,
    ProviderTokens,
    ProviderUnavailableError,
    parse_metadata,
)

_FRESH: Final = timedelta(hours=1)  # so long a discovery document is used as it is
_MAX_DOCUMENT_BYTES: Final = 64 * 1024
_MAX_TOKENS_BYTES: Final = 64 * 1024
_ASSERTION_LIFE: Final = timedelta(minutes=1)
_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_FORM: Final = "application/x-www-form-urlencoded"


class HttpOpenIdProviders:
    """`authorization.ports.OpenIdProviders`. `secret` gives the text of a secret by its ARN."""

    def __init__(self, outbound: Outbound, published: PublishedKeys, secret: Callable[[str], str]) -> None:
        self._outbound = outbound
        self._published = published
        self._secret = secret
        self._held: dict[str, tuple[Metadata, datetime]] = {}

    def metadata(self, provider: Provider, at: datetime) -> Metadata:
        held = self._held.get(provider.id)
        if held is None or at - held[1] >= _FRESH:
            url = f"{provider.issuer.rstrip('/')}/.well-known/openid-configuration"
            answer = self._asked("GET", url, {"Accept": "application/json"}, max_bytes=_MAX_DOCUMENT_BYTES)
            if answer.status != 200:
                raise ProviderUnavailableError("no discovery document")
            held = self._held[provider.id] = (parse_metadata(answer.body, provider), at)
        return held[0]

    def redeem(
        self, provider: Provider, *, code: str, verifier: str, redirect_uri: str, at: datetime
    ) -> ProviderTokens:
        endpoint = self.metadata(provider, at).token_endpoint
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
            "client_id": provider.client_id,
            **self._proof(provider, at),
        }
        headers = {"Accept": "application/json", "Content-Type": _FORM}
        answer = self._asked("POST", endpoint, headers, body=urlencode(form).encode(), max_bytes=_MAX_TOKENS_BYTES)
        if answer.status in (400, 401, 403):
            raise ProviderRefusedError("the provider does not take the code")
        said = _json(answer) if answer.status == 200 else {}
        match said:
            case {"id_token": str(id_token), "access_token": str(access_token)}:
                return ProviderTokens(id_token=id_token, access_token=access_token)
        raise ProviderUnavailableError("no tokens")

    def keys(self, provider: Provider, kid: object, at: datetime) -> Sequence[Jwk]:
        return self._published.named(self.metadata(provider, at).jwks_uri, kid, at)

    def userinfo(self, provider: Provider, access_token: str, at: datetime) -> str:
        endpoint = self.metadata(provider, at).userinfo_endpoint
        if endpoint is None:
            return ""
        if not access_token.isascii() or not access_token.isprintable():  # it goes into a header
            raise ProviderUnavailableError("an access token that is none")
        headers = {"Accept": "application/json, application/jwt", "Authorization": f"Bearer {access_token}"}
        answer = self._asked("GET", endpoint, headers, max_bytes=MAX_CLAIMS_CHARACTERS)
        if answer.status != 200:
            raise ProviderUnavailableError("no userinfo")
        return answer.body.decode("utf-8", "replace")

    def _asked(self, method: str, url: str, headers: Mapping[str, str], *, body: bytes = b"", max_bytes: int) -> Answer:
        try:
            answer = self._outbound.request(method, url, headers=headers, body=body, max_bytes=max_bytes + 1)
        except OutboundError as error:
            raise ProviderUnavailableError(error.reason) from error
        if len(answer.body) > max_bytes:
            raise ProviderUnavailableError("too long an answer")
        return answer

    def _proof(self, provider: Provider, at: datetime) -> Mapping[str, str]:
        """Who we are, for the token endpoint."""
        if not provider.secret:
            return {}
        secret = self._secret(provider.secret)
        if not secret.lstrip().startswith("{"):
            return {"client_secret": secret}
        jwk: dict[str, Any] = json.loads(secret)
        now = int(at.timestamp())
        claims = {
            "iss": provider.client_id,
            "sub": provider.client_id,
            "aud": provider.issuer,
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "exp": now + int(_ASSERTION_LIFE.total_seconds()),
        }
        header = {"alg": jwk["alg"], "kid": jwk["kid"], "typ": "JWT"}
        assertion = jwt.encode(header, claims, JWKRegistry.import_key(jwk), algorithms=[jwk["alg"]])
        return {"client_assertion_type": _ASSERTION_TYPE, "client_assertion": assertion}


def _json(answer: Answer) -> Mapping[str, Any]:
    try:
        said = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
