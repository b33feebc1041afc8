"""An OpenID provider on this machine, in place of those where professionals and patients log in: no password, no proof.

Whoever opens its page says who they are, among the people of the synthetic region. What it says of them has the form of
the real ones: Pro Santé Connect's claims for professionals, the INS for patients and those who act for them. OpenID
Connect Core 1.0 (code flow only), Discovery 1.0, RFC 7636 (S256), RFC 9207 (`iss`). Keys and codes live as long as the
process does.
"""

from __future__ import annotations

import json
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from joserfc import jwt
from joserfc.jwk import ECKey

from local.openid_page import login_page, page_headers

PREFIX: Final = "/openid"
CLIENT_ID: Final = "passerelle"
CALLBACK: Final = "/oauth2/callback"
_LIFE_SECONDS: Final = 60
_MAX_BODY_BYTES: Final = 64 * 1024
_JSON: Final = {"Content-Type": "application/json", "Cache-Control": "no-store"}

Answer = tuple[int, Mapping[str, str], bytes]
Claims = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Somebody:
    """Who can log in. `claims` are those of UserInfo; `does` is what the page says of them beside their name."""

    subject: str
    name: str
    does: str
    acr: str
    claims: Claims


@dataclass(frozen=True, slots=True, kw_only=True)
class _Code:
    who: Somebody
    asked: Mapping[str, str]
    expires: float


class OpenIdProvider:
    """One issuer, as an ASGI application below its path. `root` is the exchange that people are sent back to."""

    def __init__(self, issuer: str, title: str, people: Sequence[Somebody], *, root: str) -> None:
        self.issuer = issuer
        self.key = ECKey.generate_key("P-256", auto_kid=True)
        self._title = title
        self._people = {each.subject: each for each in people}
        self._callback = f"{root}{CALLBACK}"
        self._codes: dict[str, _Code] = {}
        self._tokens: dict[str, Somebody] = {}

    def claims(self, who: Somebody, asked: Mapping[str, str], now: int) -> dict[str, Any]:
        """What the ID token says."""
        return {
            "iss": self.issuer,
            "sub": who.subject,
            "aud": CLIENT_ID,
            "azp": CLIENT_ID,
            "iat": now,
            "exp": now + _LIFE_SECONDS,
            "auth_time": now,
            "nonce": asked.get("nonce"),
            "acr": who.acr,
        }

    def id_token(self, claims: Claims) -> str:
        header = {"alg": "ES256", "kid": self.key.kid, "typ": "JWT"}
        return jwt.encode(header, dict(claims), self.key, algorithms=["ES256"])

    # --- HTTP -------------------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer one request; `path` is below the issuer."""
        match method, path:
            case "GET", "/.well-known/openid-configuration":
                return _json(200, self._metadata())
            case "GET", "/jwks":
                public = {**self.key.as_dict(private=False), "kid": self.key.kid, "alg": "ES256", "use": "sig"}
                return _json(200, {"keys": [public]})
            case "GET", "/authorize":
                return self._page(dict(parse_qsl(query)))
            case "POST", "/authorize":
                return self._chosen(dict(parse_qsl(query)), dict(parse_qsl(body.decode("utf-8", "replace"))))
            case "POST", "/token":
                return self._redeemed(dict(parse_qsl(body.decode("utf-8", "replace"))))
            case "GET", "/userinfo":
                return self._userinfo(headers.get("authorization", ""))
        return _json(404, {"error": "not_found"})

    def _metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }

    def _fault(self, asked: Mapping[str, str]) -> str | None:
        if asked.get("client_id") != CLIENT_ID or asked.get("redirect_uri") != self._callback:
            return "an unknown client, or another address than its own"
        if asked.get("response_type") != "code" or asked.get("code_challenge_method") != "S256":
            return "only the code flow, with PKCE"
        return (
            None
            if {"state", "nonce", "code_challenge"} <= asked.keys()
            else "state, nonce and code_challenge are needed"
        )

    def _page(self, asked: Mapping[str, str]) -> Answer:
        fault = self._fault(asked)
        if fault:
            return _json(400, {"error": "invalid_request", "error_description": fault})
        page = login_page(self._title, [(each.subject, each.name, each.does) for each in self._people.values()])
        return 200, page_headers(self._callback), page.encode()

    def _chosen(self, asked: Mapping[str, str], form: Mapping[str, str]) -> Answer:
        fault = self._fault(asked)
        if fault:
            return _json(400, {"error": "invalid_request", "error_description": fault})
        who = self._people.get(form.get("who", ""))
        said = {"state": asked["state"], "iss": self.issuer}
        if who is None:
            said["error"] = "access_denied"
        else:
            said["code"] = secrets.token_urlsafe(32)
            self._codes[said["code"]] = _Code(who=who, asked=asked, expires=time.time() + _LIFE_SECONDS)
        return 303, {"Location": f"{self._callback}?{urlencode(said)}", "Cache-Control": "no-store"}, b""

    def _redeemed(self, form: Mapping[str, str]) -> Answer:
        code = self._codes.pop(form.get("code", ""), None)
        challenge = urlsafe_b64encode(sha256(form.get("code_verifier", "").encode()).digest()).rstrip(b"=").decode()
        if (
            code is None
            or code.expires < time.time()
            or form.get("redirect_uri") != self._callback
            or challenge != code.asked["code_challenge"]
        ):
            return _json(400, {"error": "invalid_grant"})
        access_token = secrets.token_urlsafe(32)
        self._tokens[access_token] = code.who
        tokens = {
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": _LIFE_SECONDS,
            "id_token": self.id_token(self.claims(code.who, code.asked, int(time.time()))),
        }
        return _json(200, tokens)

    def _userinfo(self, authorization: str) -> Answer:
        who = self._tokens.pop(authorization.removeprefix("Bearer "), None)
        return _json(200, {"sub": who.subject, **who.claims}) if who else _json(401, {"error": "invalid_token"})


def _json(status: int, content: Any) -> Answer:
    return status, _JSON, json.dumps(content, ensure_ascii=False).encode()


class OpenIdApp:
    """Several providers as one ASGI application, by the path of each issuer."""

    def __init__(self, providers: Mapping[str, OpenIdProvider]) -> None:
        self._providers = providers

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        body = bytearray()
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")[:_MAX_BODY_BYTES]
            if not message.get("more_body"):
                break
        place = next((each for each in self._providers if scope["path"].startswith(f"{each}/")), None)
        if place is None:
            status, headers, content = _json(404, {"error": "not_found"})
        else:
            sent = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            query = scope["query_string"].decode("ascii", "replace")
            path = scope["path"].removeprefix(place)
            answered = self._providers[place].answer(scope["method"], path, query, sent, bytes(body))
            status, headers, content = answered
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        pairs.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": content})


def providers_at(root: str) -> OpenIdApp:
    """The providers of stage dev (infra/settings.py), below the exchange at `root`."""
    from local.openid_people import patients, professionals

    made = {
        "professionals": ("Pro Santé Connect, sur ce poste", professionals()),
        "people": ("Appli carte Vitale, sur ce poste", patients()),
    }
    return OpenIdApp(
        {
            f"{PREFIX}/{name}": OpenIdProvider(f"{root}{PREFIX}/{name}", title, people, root=root)
            for name, (title, people) in made.items()
        }
    )
