"""The HTTP boundary: one FhirApp per function turns API Gateway proxy events into calls and replies.

    app = FhirApp("patients", provide=wiring.patients)

    @app.read("Patient", transaction="ITI-78")
    def read(call: Call, wired: PatientsWiring) -> Reply: ...

    handler = app

For every request, in this order: route, scope, content negotiation, body size and type, the handler, audit, answer.
Law 5: no answer with health data leaves before its audit record is durable; if it cannot be stored the answer is 503.
A handler says what it disclosed in `Reply.touched`; COMMITTED means that the audit records were part of the commit.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import PurePath
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, urlencode

from aws_lambda_powertools import Logger

from passerelle.access import Caller, Interaction, Permission, Request, Scopes, Touched, insufficient_scope
from passerelle.api.routes import BASE, Action, Route
from passerelle.audit.model import audit_of
from passerelle.audit.ports import AuditTrail
from passerelle.errors import (
    Fault,
    Invalid,
    NotAcceptable,
    NotFound,
    PasserelleError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)
from passerelle.fhir import json as fhir_json
from passerelle.fhir.outcome import render_outcome
from passerelle.identifiers import PATIENT_KEY

MAX_BODY_BYTES = 5 * 1024 * 1024
FHIR_JSON = "application/fhir+json"
_JSON_TYPES = {FHIR_JSON, "application/json", "text/json", "json"}
_BODY_TYPES = {FHIR_JSON, "application/json"}
FORM = "application/x-www-form-urlencoded"

COMMITTED: Final = Touched()


class Wired(Protocol):
    """What `wiring` gives every HTTP function; each adds its services."""

    @property
    def trail(self) -> AuditTrail: ...

    @property
    def now(self) -> Callable[[], datetime]: ...


@dataclass(slots=True, kw_only=True)
class Reply:
    """An answer. `body` is a resource as a dict, stored bytes or None; with another `content_type` it is raw bytes."""

    body: Mapping[str, Any] | bytes | None
    touched: Touched
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = FHIR_JSON


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request that passed the scope check. `query` holds URL and form parameters, in order."""

    request: Request
    path: Mapping[str, str]
    query: Sequence[tuple[str, str]]
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def id(self) -> str:
        return self.path["id"]

    @cached_property
    def resource(self) -> Any:
        """The body as JSON; raises Invalid (`structure`)."""
        if not self.body:
            raise Invalid("a body is required", code="required")
        return fhir_json.loads(self.body)

    @property
    def if_match(self) -> int | None:
        """The version named by If-Match (`W/"3"`); raises Invalid for any other form."""
        tag = self.headers.get("if-match")
        if tag is None:
            return None
        version = tag.removeprefix("W/").strip('"')
        if not version.isascii() or not version.isdigit():
            raise Invalid('If-Match must name one version: W/"n"', code="value")
        return int(version)

    @property
    def accepted(self) -> list[str]:
        """The media types asked for; `_format` wins over Accept."""
        wanted = [value for name, value in self.query if name == "_format"]
        return wanted or [part.split(";")[0].strip() for part in self.headers.get("accept", "*/*").split(",")]

    def one(self, name: str) -> str | None:
        """The only value of a query parameter, or None; raises Invalid if it is repeated."""
        values = [value for key, value in self.query if key == name]
        if len(values) > 1:
            raise Invalid(f"the parameter {name} may be given once", code="invalid")
        return values[0] if values else None


Handler = Callable[[Call, Any], Reply]


class FhirApp:
    """A Lambda handler made of routes. `provide`, a function of `wiring` which keeps what it made, gives services."""

    def __init__(self, name: str, *, provide: Callable[[], Wired]) -> None:
        self.name = name
        self.routes: list[Route] = []
        self._provide = provide
        self._log = Logger(service=f"passerelle-{name}")
        if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
            provide()  # at INIT, where the processor is free and fast

    # --- declaring routes ---------------------------------------------------------------------------------------

    def route(
        self,
        method: str,
        path: str,
        *,
        name: str,
        action: Action,
        resource: str | None,
        permission: Permission | None,
        raw: bool = False,
    ) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            self.routes.append(
                Route(
                    method=method,
                    path=f"{BASE}{path}",
                    name=name,
                    action=action,
                    resource=resource,
                    permission=permission,
                    raw=raw,
                    handler=handler,
                )
            )
            return handler

        return register

    def _typed(
        self, method: str, path: str, name: str, action: Action, resource: str, needs: Interaction, *of: str | None
    ) -> Callable[[Handler], Handler]:
        return self.route(
            method,
            f"/{resource}{path}",
            name=name,
            action=action,
            resource=resource,
            permission=Permission(
                resource=resource, interaction=needs, transactions=tuple(each for each in of if each)
            ),
        )

    def read(self, resource: str, *, transaction: str | None = None) -> Callable[[Handler], Handler]:
        return self._typed("GET", "/{id}", "read", "R", resource, "r", transaction)

    def vread(self, resource: str) -> Callable[[Handler], Handler]:
        return self._typed("GET", "/{id}/_history/{version}", "vread", "R", resource, "r", None)

    def search(self, resource: str, *, transactions: tuple[str, ...] = ()) -> Callable[[Handler], Handler]:
        """GET on the type and POST on `_search`; the scope of any of the transactions opens it."""

        def register(handler: Handler) -> Handler:
            self._typed("GET", "", "search-type", "E", resource, "s", *transactions)(handler)
            self._typed("POST", "/_search", "search-type", "E", resource, "s", *transactions)(handler)
            return handler

        return register

    def create(self, resource: str, *, transaction: str | None = None) -> Callable[[Handler], Handler]:
        return self._typed("POST", "", "create", "C", resource, "c", transaction)

    def update(self, resource: str) -> Callable[[Handler], Handler]:
        return self._typed("PUT", "/{id}", "update", "U", resource, "u", None)

    def conditional_update(self, resource: str, *, transaction: str | None = None) -> Callable[[Handler], Handler]:
        return self._typed("PUT", "", "conditional-update", "U", resource, "u", transaction)

    def conditional_delete(self, resource: str, *, transaction: str | None = None) -> Callable[[Handler], Handler]:
        return self._typed("DELETE", "", "conditional-delete", "D", resource, "d", transaction)

    def delete(self, resource: str) -> Callable[[Handler], Handler]:
        return self._typed("DELETE", "/{id}", "delete", "D", resource, "d", None)

    def operation(
        self, resource: str, path: str, *, needs: Interaction, method: str = "POST", transaction: str | None = None
    ) -> Callable[[Handler], Handler]:
        """`path` below the type: `/{id}/$accept` or `/$match`."""
        name = path.rpartition("/")[2]
        return self._typed(method, path, name, "E", resource, needs, transaction)

    # --- serving ------------------------------------------------------------------------------------------------

    def __call__(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        """Serve one API Gateway REST proxy event (payload format 1.0)."""
        request_id = event["requestContext"]["requestId"]
        try:
            return self._serve(event, request_id)
        except PasserelleError as error:
            self._report(error, request_id)
            return _rendered(_refusal(error), request_id)
        except Exception as failure:  # noqa: BLE001 - the last line: a defect must not tell the caller anything
            self._report(failure, request_id)
            return _rendered(_refusal(Fault(f"the server failed; request {request_id}")), request_id)

    def _serve(self, event: Mapping[str, Any], request_id: str) -> dict[str, Any]:
        wired = self._provide()
        caller = _caller(event)
        route = self._find(event)
        body = _body(event)
        query = _query(event, body)
        request = Request(
            caller=caller,
            name=route.name,
            action=route.action,
            request_id=request_id,
            at=wired.now(),
            base_url=_base_url(event),
            query=f"{event['path']}?{urlencode(query)}" if query else "",
            idempotency_key=_header(event, "idempotency-key"),
            fingerprint=_fingerprint(event, body),
        )
        call = Call(
            request=request,
            path=event.get("pathParameters") or {},
            query=query,
            headers={name.lower(): value for name, value in (event.get("headers") or {}).items()},
            body=body,
        )
        try:
            _authorise(route, caller)
            _negotiate(route, call)
            reply = route.handler(call, wired)
            touched, refusal = reply.touched, None
        except PasserelleError as error:
            self._report(error, request_id)
            reply, touched, refusal = _refusal(error), _addressed(call), error
        if touched is not COMMITTED:
            try:
                wired.trail.append(audit_of(request, touched, refusal=refusal))
            except PasserelleError as error:
                self._report(error, request_id)
                reply = _refusal(Unavailable("the access cannot be recorded; repeat the same request"))
        return _rendered(reply, request_id)

    def _find(self, event: Mapping[str, Any]) -> Route:
        parameters = event.get("pathParameters") or {}
        last = next((value for value in parameters.values() if value.startswith("$")), None)
        for route in self.routes:
            same_place = route.method == event["httpMethod"] and route.gateway_path == event["resource"]
            if same_place and route.operation == last:
                return route
        raise NotFound("no such interaction", code="not-supported")

    def _report(self, failure: Exception, request_id: str) -> None:
        """Log what a maintainer needs and no word of the request: class, place, request id."""
        expected = isinstance(failure, PasserelleError) and failure.status < 500
        level = self._log.info if expected else self._log.error
        cause = failure.__cause__
        level(
            "refused" if expected else "failed",
            failure=type(failure).__name__,
            code=failure.issues[0].code if isinstance(failure, PasserelleError) else "",
            cause=type(cause).__name__ if cause else "",
            places=[] if expected else places(failure),
            request_id=request_id,
        )


def places(failure: BaseException | None) -> list[str]:
    """Where it failed, innermost last, as `file:line`: no message, no local value."""
    places = []
    while failure is not None:
        frame = failure.__traceback__
        while frame is not None:
            places.append(f"{PurePath(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}")
            frame = frame.tb_next
        failure = failure.__cause__
    return places


def _caller(event: Mapping[str, Any]) -> Caller:
    """The caller that the authorizer verified; API Gateway passes its context as strings."""
    context = event["requestContext"].get("authorizer") or {}
    try:
        return Caller(
            client_id=context["client_id"],
            organisation=context["organisation"],
            role=context["role"],
            scopes=Scopes.parse(context["scope"]),
            token_id=context["jti"],
            domain=context.get("domain"),
            professional=context.get("professional"),
            patient=context.get("patient"),
        )
    except KeyError:
        raise Unauthenticated() from None


def _authorise(route: Route, caller: Caller) -> None:
    if route.permission is not None and not caller.scopes.permits(route.permission):
        raise insufficient_scope()


def _negotiate(route: Route, call: Call) -> None:
    if not route.raw and not any(each in _JSON_TYPES or each in ("*/*", "application/*", "") for each in call.accepted):
        raise NotAcceptable()
    key = call.request.idempotency_key
    if key is not None and not (0 < len(key) <= 128 and key.isascii() and key.isprintable()):
        raise Invalid("an Idempotency-Key has 1 to 128 visible characters", code="value")
    if len(call.body) > MAX_BODY_BYTES:
        raise TooLarge(f"the body is larger than {MAX_BODY_BYTES} bytes")
    if call.body:
        content_type = call.headers.get("content-type", "").split(";")[0].strip().lower()
        if content_type not in ({FORM} if call.request.name == "search-type" else _BODY_TYPES):
            raise UnsupportedMedia()


def _addressed(call: Call) -> Touched:
    """The patient that a refused request named by a resource id; nobody checked that it exists."""
    key = call.path.get("id", "").partition("-")[0]
    return Touched.of([key] if PATIENT_KEY.fullmatch(key) else [])


def _header(event: Mapping[str, Any], wanted: str) -> str | None:
    for name, value in (event.get("headers") or {}).items():
        if name.lower() == wanted:
            return str(value)
    return None


def _body(event: Mapping[str, Any]) -> bytes:
    body = event.get("body") or ""
    return base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()


def _query(event: Mapping[str, Any], body: bytes) -> list[tuple[str, str]]:
    pairs = event.get("multiValueQueryStringParameters") or {}
    query = [(name, value) for name, values in pairs.items() for value in values]
    if (_header(event, "content-type") or "").startswith(FORM):
        query += parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    return query


def _base_url(event: Mapping[str, Any]) -> str:
    """The public URL of the FHIR base: what API Gateway was called as, up to and including `/fhir`."""
    context = event["requestContext"]
    public_path: str = context["path"]
    root = public_path.removesuffix(event["path"])
    scheme = _header(event, "x-forwarded-proto") or "https"
    return f"{scheme}://{context['domainName']}{root}{BASE}"


def _fingerprint(event: Mapping[str, Any], body: bytes) -> str:
    query = json.dumps(event.get("multiValueQueryStringParameters") or {}, sort_keys=True)
    return hashlib.sha256(f"{event['httpMethod']} {event['path']} {query}\n".encode() + body).hexdigest()


def _refusal(error: PasserelleError) -> Reply:
    return Reply(status=error.status, body=render_outcome(error), headers=dict(error.headers), touched=COMMITTED)


def _rendered(reply: Reply, request_id: str) -> dict[str, Any]:
    body = reply.body if isinstance(reply.body, bytes) else b"" if reply.body is None else fhir_json.dumps(reply.body)
    headers = {
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Request-Id": request_id,
        **({"Content-Type": reply.content_type} if body else {}),
        **reply.headers,
    }
    is_text = reply.content_type == FHIR_JSON
    return {
        "statusCode": reply.status,
        "headers": headers,
        "body": body.decode() if is_text else base64.b64encode(body).decode(),
        "isBase64Encoded": not is_text,
    }
