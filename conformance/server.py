"""The server under test, as the software of each actor calls it: over HTTP, and nothing else.

Tokens: SMART App Launch 2.2, Backend Services (`client_credentials` with `private_key_jwt`).
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
from joserfc import jwt
from joserfc.jwk import JWKRegistry

from conformance.profile import Clients, Credentials

FHIR_JSON: Final = "application/fhir+json"
FHIR_XML: Final = "application/fhir+xml"
JSON_PATCH: Final = "application/json-patch+json"
FORM: Final = "application/x-www-form-urlencoded"

_JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_SECONDS: Final = 120
_EARLY_SECONDS: Final = 30  # a token is renewed this long before it expires
_TIMEOUT_SECONDS: Final = 60


class NoTokenError(Exception):
    """The server gave no token; the message is its OAuth error."""


class NoSuchTokenError(NoTokenError):
    """It gave none of this narrow scope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """One request and its answer, for the report."""

    actor: str
    request: httpx.Request
    answer: httpx.Response


class Server:
    """The base URL under test. `log` has every exchange since it was last emptied."""

    def __init__(self, base: str, clients: Clients) -> None:
        self.base = base.rstrip("/")
        self.log: list[Exchanged] = []
        self._clients = clients
        self._http = httpx.Client(timeout=_TIMEOUT_SECONDS, follow_redirects=False)
        self._tokens: dict[tuple[str, str | None], tuple[str, float]] = {}
        self._endpoint = clients.token_endpoint

    def close(self) -> None:
        self._http.close()

    def has(self, actor: str) -> bool:
        return actor in self._clients.actors

    def url(self, path: str) -> str:
        """`path` is below the base; an absolute URL stays as it is."""
        return path if path.startswith(("http://", "https://")) else f"{self.base}/{path}".rstrip("/")

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        content_type: str = FHIR_JSON,
        token: str | None = None,
        actor: str = "nobody",
        **headers: str | None,
    ) -> httpx.Response:
        """One request; header names with `_` for `-`, none for a header that is None.

        A dict or list is sent as JSON, anything else as it is.
        """
        sent: dict[str, str | None] = {"Accept": FHIR_JSON}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if body is not None:
            sent["Content-Type"] = content_type
            if isinstance(body, dict | list):
                body = json.dumps(body, ensure_ascii=False)
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        request = self._http.build_request(method, self.url(path), content=body)
        request.headers.update({name: value for name, value in sent.items() if value is not None})
        if sent["Accept"] is None:
            del request.headers["accept"]  # the library sends one of its own
        answer = self._http.send(request)
        if answer.status_code in (302, 303, 307, 308) and "location" in answer.headers:
            # Contents may be served from elsewhere, by an URL that carries its own right: no token goes there.
            self.log.append(Exchanged(actor=actor, request=answer.request, answer=answer))
            answer = self._http.request(method, answer.headers["location"])
        self.log.append(Exchanged(actor=actor, request=answer.request, answer=answer))
        return answer

    def token(self, actor: str, scope: str | None = None) -> str:
        """A token of an actor, with all its scopes or with these; raises NoTokenError."""
        credentials = self._clients.actors[actor]
        if credentials.token is not None:
            if scope is not None:
                raise NoSuchTokenError(f"the {actor} has one ready token: others cannot be asked for")
            return credentials.token
        name = (actor, scope)
        if name not in self._tokens or self._tokens[name][1] < time.monotonic():
            self._tokens[name] = self._issued(credentials, scope)
        return self._tokens[name][0]

    @property
    def refused_tokens(self) -> Mapping[str, str]:
        return self._clients.refused

    def _issued(self, credentials: Credentials, scope: str | None) -> tuple[str, float]:
        endpoint = self._endpoint or self._discovered()
        self._endpoint = endpoint
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": _JWT_BEARER,
            "client_assertion": _assertion(credentials, endpoint),
        }
        if wanted := scope or credentials.scope:
            form["scope"] = wanted
        answer = self._http.post(endpoint, data=form)
        if answer.status_code != 200:
            refusal = NoTokenError if scope is None else NoSuchTokenError
            asked = f"{credentials.client_id} asks for {wanted or 'no scope'}"
            raise refusal(f"{asked}: the token endpoint answers {answer.status_code} {answer.text[:300]}")
        issued = answer.json()
        return issued["access_token"], time.monotonic() + issued.get("expires_in", 300) - _EARLY_SECONDS

    def _discovered(self) -> str:
        answer = self._http.get(f"{self.base}/.well-known/smart-configuration")
        if answer.status_code != 200 or "token_endpoint" not in answer.json():
            raise NoTokenError("no token_endpoint: neither in the client file nor in .well-known/smart-configuration")
        return str(answer.json()["token_endpoint"])


def _assertion(credentials: Credentials, audience: str) -> str:
    assert credentials.key is not None
    key = dict(credentials.key)
    algorithm = key.get("alg") or ("RS384" if key["kty"] == "RSA" else "ES384")
    now = int(time.time())
    claims = {
        "iss": credentials.client_id,
        "sub": credentials.client_id,
        "aud": audience,
        "iat": now,
        "exp": now + _ASSERTION_SECONDS,
        "jti": str(uuid.uuid4()),
    }
    header = {"alg": algorithm, "kid": key.get("kid"), "typ": "JWT"}
    return jwt.encode(header, claims, JWKRegistry.import_key(key), algorithms=[algorithm])


class Actor:
    """The software of one actor. `scope` narrows what its token allows."""

    def __init__(self, server: Server, name: str, scope: str | None = None) -> None:
        self.server = server
        self.name = name
        self._scope = scope

    def with_scope(self, scope: str) -> Actor:
        return Actor(self.server, self.name, scope)

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        options.setdefault("token", self.server.token(self.name, self._scope))
        return self.server.send(method, path, actor=self.name, **options)

    def get(self, path: str, **headers: Any) -> httpx.Response:
        return self.send("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: Any) -> httpx.Response:
        return self.send("POST", path, body=body, **headers)

    def put(self, path: str, body: Any, **headers: Any) -> httpx.Response:
        return self.send("PUT", path, body=body, **headers)

    def patch(self, path: str, body: Any, **headers: Any) -> httpx.Response:
        """JSON Patch for a list, FHIRPath Patch for Parameters, unless `content_type` says otherwise."""
        if isinstance(body, list):
            headers.setdefault("content_type", JSON_PATCH)
        return self.send("PATCH", path, body=body, **headers)
