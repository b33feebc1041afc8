"""Logging in over HTTP: `/oauth2/authorize`, where applications send people, and `/oauth2/callback`, where they return.

The login itself is `authorization/login.py`. The browser keeps one cookie of it, for ten minutes, bound to this host,
out of reach of scripts, and sent from elsewhere with a link only (`SameSite=Lax`: the provider's redirect is one). What
goes wrong is said on a page without scripts; its link leads back to the application. Whoever logged in, or was refused
on the word of a provider, is in the audit trail before they are let on.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

from aws_lambda_powertools import Logger

from passerelle.access import Caller, Request, Scopes, Touched
from passerelle.api.app import FORM, places
from passerelle.api.login_pages import busy, choice, refusal
from passerelle.api.oauth import endpoints
from passerelle.api.pages import PRIVATE, page_headers
from passerelle.audit.model import audit_of
from passerelle.audit.ports import AuditTrail
from passerelle.authorization.codes import Grant
from passerelle.authorization.login import (
    LOGIN_LIFE,
    Choice,
    LoginRefusedError,
    LoginService,
    SentBackError,
)
from passerelle.authorization.service import Endpoints
from passerelle.errors import Forbidden, PasserelleError, Unauthenticated

AUTHORIZE: Final = "/oauth2/authorize"
CALLBACK: Final = "/oauth2/callback"
MAX_REQUEST_BYTES: Final = 16 * 1024
MAX_FIELDS: Final = 30

Reply = dict[str, Any]


class WiredLogin(Protocol):
    """What `wiring` gives the function where people log in."""

    @property
    def login(self) -> LoginService: ...

    @property
    def trail(self) -> AuditTrail: ...

    @property
    def public_url(self) -> str: ...

    @property
    def now(self) -> Callable[[], datetime]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRoute:
    method: str
    gateway_path: str


class LoginApp:
    """A Lambda handler of the two addresses. `provide`, a function of `wiring`, gives the services."""

    def __init__(self, name: str, *, provide: Callable[[], WiredLogin]) -> None:
        self.name = name
        self.routes = (
            LoginRoute(method="GET", gateway_path=AUTHORIZE),
            LoginRoute(method="POST", gateway_path=AUTHORIZE),
            LoginRoute(method="GET", gateway_path=CALLBACK),
        )
        self._provide = provide
        self._log = Logger(service=f"passerelle-{name}")
        if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
            provide()  # at INIT, where the processor is free and fast

    def __call__(self, event: Mapping[str, Any], context: Any) -> Reply:
        """Serve one API Gateway REST proxy event (payload format 1.0)."""
        request_id = event["requestContext"]["requestId"]
        reason = ""
        try:
            answer = self._serve(event, request_id)
        except SentBackError as fault:
            reason = fault.reason
            answer = _redirect(fault.location, event)
        except LoginRefusedError as refused:
            reason = refused.reason
            answer = _page(refused.status, refusal(reason=refused.reason, back=refused.back))
        except Exception as failure:  # noqa: BLE001 - the last line: a defect must not tell the caller anything
            error = failure if isinstance(failure, PasserelleError) else None
            self._log.error("failed", failure=type(failure).__name__, places=places(failure), request_id=request_id)
            answer = _page(error.status if error and error.status >= 500 else 503, busy())
        answer["headers"]["X-Request-Id"] = request_id
        route = f"{event['httpMethod']} {event['resource']}"
        self._log.info("answered", route=route, status=answer["statusCode"], reason=reason, request_id=request_id)
        return answer

    def _serve(self, event: Mapping[str, Any], request_id: str) -> Reply:
        wired = self._provide()
        at, addresses = wired.now(), endpoints(event, wired.public_url)
        parameters = _parameters(event)
        if event["resource"] == AUTHORIZE:
            is_posted = event["httpMethod"] == "POST"
            departure = wired.login.begin(parameters, at=at, endpoints=addresses, is_posted=is_posted)
            cookie = _cookie(departure.name, departure.cookie, addresses, int(LOGIN_LIFE.total_seconds()))
            return _redirect(departure.location, event, cookie)
        try:
            outcome = wired.login.finish(parameters, _cookies(event), at=at, endpoints=addresses)
        except LoginRefusedError as refused:
            if refused.status in (401, 403):
                error = Unauthenticated() if refused.status == 401 else Forbidden()
                wired.trail.append(audit_of(_request(None, at, request_id, addresses), Touched(), refusal=error))
            raise
        forget = _cookie(outcome.cookie, "", addresses, 0)
        if isinstance(outcome, Choice):
            return _page(200, choice(outcome.activities), forget)
        wired.trail.append(audit_of(_request(outcome.grant, at, request_id, addresses), Touched()))
        return _redirect(outcome.location, event, forget)


def _request(grant: Grant | None, at: datetime, request_id: str, addresses: Endpoints) -> Request:
    caller = Caller(
        client_id=grant.client_id if grant else "",
        organisation=grant.organisation if grant else "",
        role=grant.role if grant else "",
        scopes=Scopes(frozenset()),
        token_id="",
        professional=grant.professional if grant else None,
        profession=grant.profession if grant else None,
        patient=grant.patient if grant else None,
        person=grant.person if grant else None,
        name=grant.name if grant else "",
        purpose=grant.purpose if grant else "",
    )
    return Request(
        caller=caller,
        name="login",
        action="E",
        request_id=request_id,
        at=at,
        base_url=addresses.fhir,
        purpose=caller.purpose,
    )


def _parameters(event: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Those of the URL, or of the form of a POST; raises LoginRefusedError for what is too large or malformed."""
    if event["httpMethod"] == "GET":
        given = event.get("multiValueQueryStringParameters") or {}
        pairs = [(name, value) for name, values in given.items() for value in values]
        size = sum(len(name) + len(value) for name, value in pairs)
    else:
        headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
        if headers.get("content-type", "").split(";")[0].strip().lower() != FORM:
            raise LoginRefusedError("a form is expected", status=415)
        body = (event.get("body") or "").encode()
        size = len(body)
        try:
            text = (base64.b64decode(body) if event.get("isBase64Encoded") else body).decode()
            pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
        except ValueError:
            raise LoginRefusedError("not a form") from None
    if size > MAX_REQUEST_BYTES or len(pairs) > MAX_FIELDS:
        raise LoginRefusedError("too large", status=413)
    return [(name, value) for name, value in pairs if value]  # RFC 6749 section 3.1: empty is omitted


def _cookies(event: Mapping[str, Any]) -> Mapping[str, str]:
    sent = event.get("multiValueHeaders") or {name: [value] for name, value in (event.get("headers") or {}).items()}
    found: SimpleCookie = SimpleCookie()
    for name, values in sent.items():
        if name.lower() == "cookie":
            try:
                found.load("; ".join(values))
            except CookieError:
                return {}  # then the login was begun elsewhere
    return {name: morsel.value for name, morsel in found.items()}


def _cookie(name: str, value: str, addresses: Endpoints, seconds: int) -> str:
    secure = "; Secure" if addresses.root.startswith("https://") else ""
    return f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"


def _redirect(location: str, event: Mapping[str, Any], cookie: str = "") -> Reply:
    return {
        "statusCode": 302 if event["httpMethod"] == "GET" else 303,
        "headers": {**PRIVATE, "Location": location, **({"Set-Cookie": cookie} if cookie else {})},
        "body": "",
        "isBase64Encoded": False,
    }


def _page(status: int, page: str, cookie: str = "") -> Reply:
    headers = {**page_headers(), **({"Set-Cookie": cookie} if cookie else {})}
    return {"statusCode": status, "headers": headers, "body": page, "isBase64Encoded": False}
