"""A client of the exchange, as a provider's software would be: signs its assertion, gets a token, calls the API.

SMART App Launch 2.2, Backend Services: `client_credentials` with `private_key_jwt`.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx
from joserfc import jwt
from joserfc.jwk import ECKey, JWKRegistry, RSAKey

ASSERTION_SECONDS: Final = 60
_EARLY_SECONDS: Final = 30  # a token is renewed this long before it expires
_JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

Jwk = Mapping[str, Any]


def new_key(kind: str) -> dict[str, Any]:
    """A private JWK with its thumbprint as kid: `EC` for ES384, `RSA` for RS384."""
    key = RSAKey.generate_key(2048, auto_kid=True) if kind == "RSA" else ECKey.generate_key("P-384", auto_kid=True)
    algorithm = "RS384" if kind == "RSA" else "ES384"
    return {**key.as_dict(private=True), "alg": algorithm, "use": "sig"}


def public(private: Jwk) -> dict[str, Any]:
    """What is registered: the key without its private half."""
    key = JWKRegistry.import_key(dict(private))
    return {**key.as_dict(private=False), "kid": private["kid"], "alg": private["alg"], "use": "sig"}


class Credentials:
    """Private keys by client id, in a file that only its owner can read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def keys(self) -> dict[str, dict[str, Any]]:
        if not self.path.is_file():
            return {}
        found: dict[str, dict[str, Any]] = json.loads(self.path.read_text("utf-8"))
        return found

    def key(self, client_id: str) -> dict[str, Any]:
        """Raises KeyError with the ids that there are."""
        keys = self.keys()
        if client_id not in keys:
            raise KeyError(f"no key of {client_id} in {self.path}: it has {', '.join(sorted(keys)) or 'none'}")
        return keys[client_id]

    def save(self, keys: Mapping[str, Jwk]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(keys, file, indent=1)


class TokenRefusedError(Exception):
    """The token endpoint refused; the message is its OAuth error."""


class ExchangeClient:
    """Calls the API at `url` (the root, without `/fhir`) as one registered client."""

    def __init__(
        self,
        url: str,
        client_id: str,
        key: Jwk,
        *,
        scope: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.client_id = client_id
        self._key = key
        self._scope = scope
        self._token: tuple[str, float] | None = None
        self.http = httpx.Client(timeout=40, follow_redirects=False, transport=transport)

    def assertion(self, audience: str, **changed: Any) -> str:
        """A signed client assertion; `changed` replaces claims, for tests of refusals."""
        now = int(time.time())
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": audience,
            "iat": now,
            "exp": now + ASSERTION_SECONDS,
            "jti": str(uuid.uuid4()),
        } | changed
        header = {"alg": self._key["alg"], "kid": self._key["kid"], "typ": "JWT"}
        return jwt.encode(header, claims, JWKRegistry.import_key(dict(self._key)), algorithms=[self._key["alg"]])

    def token(self) -> str:
        """An access token; raises TokenRefusedError."""
        if self._token and self._token[1] > time.monotonic():
            return self._token[0]
        endpoint = f"{self.url}/oauth2/token"
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": _JWT_BEARER,
            "client_assertion": self.assertion(endpoint),
        }
        if self._scope:
            form["scope"] = self._scope
        answer = self.http.post(endpoint, data=form)
        if answer.status_code != 200:
            raise TokenRefusedError(f"{answer.status_code} {answer.text[:300]}")
        issued = answer.json()
        self._token = (issued["access_token"], time.monotonic() + issued["expires_in"] - _EARLY_SECONDS)
        return self._token[0]

    def forget_token(self) -> None:
        """The next request gets a new one: this one was refused."""
        self._token = None

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Call `path` below the FHIR base, or an absolute URL, with `json` sent as application/fhir+json."""
        url = path if path.startswith("http") else f"{self.url}/fhir/{path}".rstrip("/")
        headers = {"Authorization": f"Bearer {self.token()}", "Accept": "application/fhir+json"}
        if "json" in options:
            options["content"] = json.dumps(options.pop("json"), ensure_ascii=False).encode()
            headers["Content-Type"] = "application/fhir+json"
        headers |= options.pop("headers", {})
        return self.http.request(method, url, headers=headers, **options)
