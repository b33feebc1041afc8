"""People who log in, for tests: the OpenID providers of this machine over loopback, a browser, and an application."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import pytest

from functions.authorize.handler import handler as authorize
from functions.login.handler import handler as login
from functions.token.handler import handler as token
from local.openid import Claims, OpenIdApp, OpenIdProvider, Somebody
from local.openid_people import patients, professionals
from local.server import Server
from passerelle import wiring
from passerelle.access import Scopes
from passerelle.authorization.codes import challenge_of
from passerelle.authorization.model import Client
from passerelle.directory.model import Role
from tests.registered import ROOT

REDIRECT_URI = "https://app.example/back?of=app"
OPERATOR = "1990000094"


class Forging(OpenIdProvider):
    """A provider whose tokens, and whose answers, can be forged."""

    forge: Callable[[Claims, OpenIdProvider], str] | None = None
    tell: Callable[[dict[str, Any]], Any] | None = None

    def id_token(self, claims: Claims) -> str:
        return self.forge(claims, self) if self.forge else super().id_token(claims)

    def answer(self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Any:
        status, said, content = super().answer(method, path, query, headers, body)
        if path == "/userinfo" and self.tell and status == 200:
            content = self.tell(json.loads(content))
        return status, said, content


@dataclass(frozen=True, kw_only=True)
class Providers:
    professionals: Forging
    people: Forging

    @contextmanager
    def forging(self, forge: Callable[[Claims, OpenIdProvider], str] | None = None, **told: Any) -> Iterator[None]:
        """While it is entered, their ID tokens are forged, and UserInfo is what `tell` makes of it."""
        for each in (self.professionals, self.people):
            each.forge, each.tell = forge, told.get("tell")
        try:
            yield
        finally:
            for each in (self.professionals, self.people):
                each.forge = each.tell = None


@cache
def _people() -> tuple[Sequence[Somebody], Sequence[Somebody]]:
    return professionals(), patients()


@contextmanager
def providers(patch: pytest.MonkeyPatch) -> Iterator[Providers]:
    """Both providers listening, and the exchange configured for them."""
    server = Server()
    made = {
        name: Forging(f"{server.url}/openid/{name}", name, people, root=ROOT)
        for name, people in zip(("professionals", "people"), _people(), strict=True)
    }
    settings = [
        {"id": name, "name": name, "profile": name, "issuer": each.issuer, "client_id": "passerelle", "acr": "eidas2"}
        for name, each in made.items()
    ]
    patch.setenv("OPENID_PROVIDERS", json.dumps(settings))
    wiring.reset()
    server.start(OpenIdApp({f"/openid/{name}": each for name, each in made.items()}))
    try:
        yield Providers(**made)
    finally:
        server.stop()


PORTAL = Client(
    id="portal",
    organisation=OPERATOR,
    role=Role.PRACTICE,
    scopes=Scopes.parse("ITI-67 user/*.rs"),
    jwks=(),
    redirect_uris=(REDIRECT_URI, "https://app.example/other"),
    providers=("professionals",),
    is_public=True,
)
OWN = replace(PORTAL, id="own", role=Role.PATIENT, scopes=Scopes.parse("patient/*.rs"), providers=("people",))


@dataclass
class Application:
    """What an application of the exchange does; parameters given as None are left out."""

    client: Client = PORTAL
    state: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    def asked(self, **changes: str | None) -> dict[str, str]:
        parameters: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.client.id,
            "redirect_uri": REDIRECT_URI,
            "scope": "user/*.rs" if self.client.role != Role.PATIENT else "patient/*.rs",
            "state": self.state,
            "code_challenge": challenge_of(self.verifier),
            "code_challenge_method": "S256",
            "aud": f"{ROOT}/fhir",
            **changes,
        }
        return {name: value for name, value in parameters.items() if value is not None}

    def form(self, code: str, **changes: str | None) -> dict[str, str]:
        parameters: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "client_id": self.client.id,
            "code": code,
            "redirect_uri": REDIRECT_URI,
            "code_verifier": self.verifier,
            **changes,
        }
        return {name: value for name, value in parameters.items() if value is not None}

    def redeem(self, code: str, **changes: str | None) -> tuple[int, dict[str, Any]]:
        answer = token(event("POST", "/oauth2/token", form=self.form(code, **changes)), None)
        assert answer["headers"]["Cache-Control"] == "no-store"
        return answer["statusCode"], json.loads(answer["body"])


def event(method: str, path: str, query: Any = (), form: Any = None, **headers: str) -> dict[str, Any]:
    """A proxy event; `query` as pairs or as a mapping."""
    pairs = list(query.items() if isinstance(query, Mapping) else query)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if form is not None:
        sent["content-type"] = "application/x-www-form-urlencoded"
    grouped: dict[str, list[str]] = {}
    for name, value in pairs:
        grouped.setdefault(name, []).append(value)
    return {
        "httpMethod": method,
        "resource": path,
        "path": path,
        "headers": sent,
        "multiValueHeaders": {name: [value] for name, value in sent.items()},
        "multiValueQueryStringParameters": grouped or None,
        "queryStringParameters": dict(pairs) or None,
        "body": urlencode(form) if form is not None else None,
        "isBase64Encoded": False,
        "requestContext": {"requestId": "r-1", "path": path, "domainName": "exchange.example"},
    }


class Browser:
    """Keeps cookies, and goes where it is sent."""

    def __init__(self) -> None:
        self.cookies: dict[str, str] = {}

    def ask(self, method: str, path: str, query: Any = (), form: Any = None) -> dict[str, Any]:
        cookie = {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        answer = login(event(method, path, query, form, **(cookie if self.cookies else {})), None)
        for name, morsel in SimpleCookie(answer["headers"].get("Set-Cookie", "")).items():
            self.cookies[name] = morsel.value
            if morsel["max-age"] == "0":
                del self.cookies[name]
        return answer

    def to_provider(self, asked: Any, *, posted: bool = False) -> str:
        """Where the provider is, with what the exchange asks of it."""
        if posted:
            answer = self.ask("POST", "/oauth2/authorize", form=asked)
        else:
            answer = self.ask("GET", "/oauth2/authorize", asked)
        assert answer["statusCode"] in (302, 303), answer
        return str(answer["headers"]["Location"])

    def back(self, location: str) -> dict[str, Any]:
        """Follow the provider's redirect to the exchange."""
        assert location.startswith(f"{ROOT}/oauth2/callback?"), location
        return self.ask("GET", "/oauth2/callback", parse_qsl(urlsplit(location).query))

    def log_in(self, asked: Any, who: str, *, posted: bool = False) -> dict[str, Any]:
        """The exchange's answer to the whole; `who` is a subject of the provider, or empty for nobody."""
        return self.back(chosen(self.to_provider(asked, posted=posted), who))


def chosen(location: str, who: str) -> str:
    """Choose somebody at the provider; where it sends the browser."""
    answer = httpx.post(location, data={"who": who})
    assert answer.status_code == 303, answer.text
    return str(answer.headers["Location"])


def said(answer: Mapping[str, Any]) -> dict[str, str]:
    """What an application is told at its redirect URI."""
    location = answer["headers"]["Location"]
    assert location.startswith(f"{REDIRECT_URI}&"), location
    query = parse_qs(urlsplit(location).query)
    assert query.pop("of") == ["app"]
    return {name: value for name, (value,) in query.items()}


def context_of(access_token: str) -> tuple[str, dict[str, str]]:
    """The effect of the authorizer, and what it tells the functions of the caller."""
    sent = event("GET", "/fhir/Patient", authorization=f"Bearer {access_token}")
    sent |= {"type": "REQUEST", "methodArn": "arn:aws:execute-api:eu-west-3:1:a/v1/GET/fhir/Patient"}
    answer = authorize(sent, None)
    (statement,) = answer["policyDocument"]["Statement"]
    return statement["Effect"], answer["context"]
