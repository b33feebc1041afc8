"""The HTTP boundary: one FhirApp per function turns API Gateway proxy events into calls and replies.

    app = FhirApp("patients", provide=wiring.patients)

    @app.interaction("Patient", "read", transactions=("ITI-78",))
    def read(call: Call, wired: PatientsWiring) -> Reply: ...

    handler = app

For every request, in this order: route, scope, content negotiation, body size and type, the handler, audit, answer.
Law 5: no answer leaves before its audit record is durable, those to what nothing serves and to what failed here
included; if it cannot be stored the answer is 503.
A handler says what it disclosed in `Reply.touched`; COMMITTED means that the audit records were part of the commit.
Each request leaves one line in the log: its route as it is declared, the status, the request id.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import parse_qsl, urlencode

from aws_lambda_powertools import Logger

from passerelle.access import Caller, Interaction, Limits, Permission, Request, Scopes, Touched, insufficient_scope
from passerelle.api.negotiation import (
    FHIR_JSON,
    FHIR_XML,
    JSON,
    Representation,
    accepted,
    codec_of,
    negotiated,
    preferences,
)
from passerelle.api.routes import BASE, INTERACTIONS, Action, Feature, InteractionName, Route, RouteTable
from passerelle.audit.model import AuditRecord, audit_of
from passerelle.audit.ports import AuditTrail
from passerelle.directory.model import RECORD_ROLES
from passerelle.errors import (
    AccessRefused,
    Coding,
    Fault,
    Forbidden,
    Invalid,
    Issue,
    NotAcceptable,
    PasserelleError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)
from passerelle.fhir import json as fhir_json
from passerelle.fhir.elements import Part
from passerelle.fhir.outcome import render_outcome, success
from passerelle.identifiers import PATIENT_KEY

if TYPE_CHECKING:
    from passerelle.fhir.disclosure import Disclosure

MAX_BODY_BYTES = 5 * 1024 * 1024
FORM = "application/x-www-form-urlencoded"
PATCH_TYPES: Final = ("application/json-patch+json", FHIR_JSON, FHIR_XML)
_MAX_ANSWER_DEPTH = fhir_json.MAX_DEPTH + 8  # a resource of any depth that is accepted, in a Bundle

COMMITTED: Final = Touched()
UNSERVED: Final = "unserved"  # the name of a request that has no route
MAX_EXTERNAL_ID: Final = 128  # characters


class Wired(Protocol):
    """What `wiring` gives every HTTP function; each adds its services."""

    @property
    def trail(self) -> AuditTrail: ...

    @property
    def now(self) -> Callable[[], datetime]: ...

    @property
    def disclosure(self) -> Callable[[], Disclosure]: ...


@dataclass(slots=True, kw_only=True)
class Reply:
    """An answer. `body` is a resource, as a dict or stored JSON, or None; with a `content_type`, bytes of that type.

    `is_disclosed` says that whatever a Patient in it does not tell this caller was left out by the handler. `warnings`
    are told to a client that wants an OperationOutcome.
    """

    body: Mapping[str, Any] | bytes | None
    touched: Touched
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str | None = None
    is_disclosed: bool = False
    warnings: tuple[Issue, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request that passed the scope check. `query` holds URL and form parameters, in order."""

    request: Request
    path: Mapping[str, str]
    query: Sequence[tuple[str, str]]
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    method: str = "GET"

    @property
    def id(self) -> str:
        return self.path["id"]

    @cached_property
    def resource(self) -> Any:
        """The body as FHIR JSON, whichever form it came in; raises Invalid (`structure`)."""
        if not self.body:
            raise Invalid("a body is required", code="required")
        if codec_of(self.content_type) == "xml":
            from passerelle.fhir import xml as fhir_xml  # few requests are XML

            return fhir_xml.loads(self.body)
        return fhir_json.loads(self.body)

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")

    @property
    def if_match(self) -> int | None:
        """The version named by If-Match (`W/"3"`); raises Invalid for any other form."""
        tag = self.headers.get("if-match")
        if tag is None:
            return None
        version = tag.strip().removeprefix("W/").strip('"')
        if not version.isascii() or not version.isdigit():
            raise Invalid('If-Match must name one version: W/"n"', code="value")
        return int(version)

    @property
    def if_none_exist(self) -> list[tuple[str, str]] | None:
        """The search of If-None-Exist: only create if it finds nothing."""
        text = self.headers.get("if-none-exist")
        return None if text is None else parse_qsl(text.rpartition("?")[2], keep_blank_values=True)

    @property
    def patch(self) -> tuple[Any, str]:
        """The body as JSON, and the media type that says which kind of patch it is."""
        return self.resource, self.content_type.partition(";")[0].strip().lower()

    @cached_property
    def preferences(self) -> Mapping[str, str]:
        return preferences(self.headers.get("prefer", ""))

    @property
    def returns(self) -> str:
        """What the answer to a write should hold: `representation`, `minimal` or `operationoutcome`."""
        return self.preferences.get("return", "representation").lower()

    @property
    def is_strict(self) -> bool:
        """Whether a parameter that the server does not know is a fault (`Prefer: handling=strict`)."""
        return self.preferences.get("handling") == "strict"

    @cached_property
    def representation(self) -> Representation | None:
        """The form of the answer; None if it has none of those asked for."""
        return negotiated(self.query, self.headers.get("accept", ""))

    @property
    def accepted(self) -> Sequence[str]:
        """The media types asked for, the preferred first; `_format` wins over Accept."""
        return accepted(self.query, self.headers.get("accept", ""))

    @cached_property
    def part(self) -> Part:
        """What of the resources is asked for (`_summary`, `_elements`); raises Invalid (`value`)."""
        return Part.read(self.query)

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
        self._table = RouteTable()
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
        features: tuple[Feature, ...] = (),
        is_listed: bool = True,
        base: str = BASE,
        consumes: tuple[str, ...] = (),
    ) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            route = Route(
                method=method,
                path=f"{base}{path}",
                name=name,
                action=action,
                resource=resource,
                permission=permission,
                raw=raw,
                handler=handler,
                features=features,
                is_listed=is_listed,
                consumes=consumes,
            )
            self._table.add(route)
            self.routes.append(route)
            return handler

        return register

    def interaction(
        self,
        resource: str,
        name: InteractionName,
        *,
        transactions: tuple[str, ...] = (),
        features: tuple[Feature, ...] = (),
    ) -> Callable[[Handler], Handler]:
        """An interaction of a type; the scope of any of the transactions opens it, too."""
        shape = INTERACTIONS[name]
        permission = Permission(resource=resource, interaction=shape.needs, transactions=transactions)

        def register(handler: Handler) -> Handler:
            for method, path in shape.places:
                declare = self.route(
                    method,
                    f"/{resource}{path}",
                    name=name,
                    action=shape.action,
                    resource=resource,
                    permission=permission,
                    features=features,
                )
                declare(handler)
            return handler

        return register

    def operation(
        self, resource: str, path: str, *, needs: Interaction, method: str = "POST", transaction: str | None = None
    ) -> Callable[[Handler], Handler]:
        """`path` below the type: `/{id}/$accept` or `/$match`."""
        return self.route(
            method,
            f"/{resource}{path}",
            name=path.rpartition("/")[2],
            action="E",
            resource=resource,
            permission=Permission(
                resource=resource, interaction=needs, transactions=(transaction,) if transaction else ()
            ),
        )

    # --- serving ------------------------------------------------------------------------------------------------

    def __call__(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        """Serve one API Gateway REST proxy event (payload format 1.0)."""
        request_id = event["requestContext"]["requestId"]
        asked: Representation | None = None
        place = ""
        try:
            wired = self._provide()
            call = _call(event, _caller(event), wired.now())
            asked = call.representation
            route, parameters = self._found(event["httpMethod"], event["path"], call, wired)
            place = f"{route.method} {route.path}"
            answer = _rendered(self._answer(route, parameters, call, wired), asked or JSON, request_id)
            if call.request.external_id:
                answer["headers"]["X-Correlation-Id"] = call.request.external_id
        except PasserelleError as error:
            self._report(error, request_id)
            answer = _rendered(_refusal(error), asked or JSON, request_id)
        except Exception as failure:  # noqa: BLE001 - the last line: a defect must not tell the caller anything
            self._report(failure, request_id)
            answer = _rendered(_refusal(Fault(f"the server failed; request {request_id}")), JSON, request_id)
        if event["httpMethod"] == "HEAD":
            answer["body"] = ""
        self._log.info("answered", route=place, status=answer["statusCode"], request_id=request_id)
        return answer

    def answer(self, method: str, path: str, call: Call, wired: Wired) -> Reply:
        """Serve a request that came within another, as if it had come alone; `path` begins with the base.

        `call` is as it would be, but for the name and action of its request and the variables of its path. A refusal
        is a reply; raises NotFound and Unsupported only where there is no route.
        """
        call = replace(call, request=replace(call.request, decisions={}))
        route, parameters = self._found(method, path, call, wired)
        return self._answer(route, parameters, call, wired)

    def _found(self, method: str, path: str, call: Call, wired: Wired) -> tuple[Route, Mapping[str, str]]:
        """The route of a request; one that has none is an access like any other, and refused on the record."""
        try:
            return self._table.find(method, path)
        except PasserelleError as refusal:
            asked = f"{method} {path}"
            request = replace(call.request, name=UNSERVED, query=call.request.query or asked)
            self._record(wired, audit_of(request, Touched(), refusal=refusal))
            raise

    def _record(self, wired: Wired, records: Sequence[AuditRecord]) -> None:
        """Raises Unavailable where it cannot be known that they are stored."""
        try:
            wired.trail.append(records)
        except PasserelleError as error:
            raise Unavailable("the access cannot be recorded; repeat the same request") from error

    def authorise(self, method: str, path: str, caller: Caller) -> None:
        """Raise what a request would be refused for unread: NotFound, Unsupported, Forbidden."""
        route, _ = self._table.find(method, path)
        _authorise(route, caller)

    def _answer(self, route: Route, parameters: Mapping[str, str], call: Call, wired: Wired) -> Reply:
        request = replace(call.request, name=route.name, action=route.action)
        call = replace(call, request=request, path=parameters)
        try:
            _authorise(route, request.caller)
            _check(route, call)
            reply = _disclosed(route, call, _preferred(route, call, route.handler(call, wired)), wired)
            touched, refusal = reply.touched, None
        except PasserelleError as error:
            self._report(error, request.request_id)
            reply, touched, refusal = _refusal(_explained(error, request)), _addressed(call, error.about), error
        except Exception as failure:
            try:
                self._record(wired, audit_of(request, _addressed(call), refusal=Fault()))
            except Unavailable:
                self._report(failure, request.request_id)
                raise
            raise
        if touched is not COMMITTED:
            try:
                self._record(wired, audit_of(request, touched, refusal=refusal))
            except Unavailable as error:
                self._report(error, request.request_id)
                return _refusal(error)
        return reply

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


def _call(event: Mapping[str, Any], caller: Caller, at: datetime) -> Call:
    """The request as it came; which route it is for shows later."""
    body = _body(event)
    query = _query(event, body)
    request = Request(
        caller=caller,
        name="",
        action="E",
        request_id=event["requestContext"]["requestId"],
        at=at,
        base_url=_base_url(event),
        query=f"{event['path']}?{urlencode(query)}" if query else "",
        idempotency_key=_header(event, "idempotency-key"),
        fingerprint=_fingerprint(event, body, caller),
        external_id=external_id_of(event),
        address=address_of(event),
    )
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    return Call(request=request, path={}, query=query, headers=headers, body=body, method=event["httpMethod"])


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
            profession=context.get("profession"),
            name=context.get("name", ""),
            purpose=context.get("purpose", ""),
            person=context.get("person"),
            limits=_limits(context["limits"]) if "limits" in context else None,
        )
    except KeyError:
        raise Unauthenticated() from None


def _limits(text: str) -> Limits:
    from passerelle.authorization.extensions import limits_from_map  # few tokens have any

    return limits_from_map(json.loads(text))


def _authorise(route: Route, caller: Caller) -> None:
    if route.permission is not None and not caller.scopes.permits(route.permission):
        raise insufficient_scope()
    if caller.limits is not None and caller.role not in RECORD_ROLES:
        raise Forbidden("a token that is narrowed to a person or to some of a record is of no use to this role")


def _check(route: Route, call: Call) -> None:
    """What can be said of the form of a request before its handler reads it."""
    if call.representation is None and not route.raw:
        raise NotAcceptable()
    key = call.request.idempotency_key
    if key is not None and not (0 < len(key) <= 128 and key.isascii() and key.isprintable()):
        raise Invalid("an Idempotency-Key has 1 to 128 visible characters", code="value")
    if len(call.body) > MAX_BODY_BYTES:
        raise TooLarge(f"the body is larger than {MAX_BODY_BYTES} bytes")
    if call.body:
        _check_type(route, call.content_type)


def _check_type(route: Route, content_type: str) -> None:
    media_type = content_type.partition(";")[0].strip().lower()
    if route.name == "search-type":
        if media_type != FORM:
            raise UnsupportedMedia()
    elif route.name in ("patch", "conditional-patch"):
        if media_type not in PATCH_TYPES:
            raise UnsupportedMedia(headers={"Accept-Patch": ", ".join(PATCH_TYPES)})
    elif route.consumes:
        if media_type not in route.consumes:
            raise UnsupportedMedia(headers={"Accept-Post": ", ".join(route.consumes)})
    elif codec_of(content_type) is None:
        raise UnsupportedMedia()


def _preferred(route: Route, call: Call, reply: Reply) -> Reply:
    """The reply as the client wants it: not what it has already, nor more of a written resource than it asks for."""
    if route.name == "read" and reply.status in (200, 307) and _is_known(call.headers, reply.headers):
        headers = {name: value for name, value in reply.headers.items() if name != "Location"}
        return replace(reply, status=304, body=None, headers=headers)
    if route.action in ("C", "U") and reply.status in (200, 201):
        if call.returns == "minimal":
            return replace(reply, body=None)
        if call.returns == "operationoutcome":
            return replace(reply, body=success("stored", reply.warnings))
    return reply


def _disclosed(route: Route, call: Call, reply: Reply, wired: Wired) -> Reply:
    """The reply without what a Patient in it, wherever it stands, does not tell this caller (contract INS-12)."""
    body = reply.body
    if body is None or reply.is_disclosed or reply.content_type is not None or not _may_hold_a_patient(body):
        return reply
    shown = wired.disclosure().of(body, call.request.caller, is_past=route.name == "vread")
    return replace(reply, body=shown)


def _may_hold_a_patient(body: Mapping[str, Any] | bytes) -> bool:
    if isinstance(body, bytes):
        return b'"Patient"' in body
    return body.get("resourceType") in ("Patient", "Bundle", "Parameters")


def _is_known(sent: Mapping[str, str], current: Mapping[str, str]) -> bool:
    """Whether the client has this version (RFC 9110 section 13.2.2): the ETag decides, the date only without one."""
    tags = sent.get("if-none-match")
    if tags is not None:
        known = {tag.strip().removeprefix("W/") for tag in tags.split(",")}
        return "ETag" in current and (current["ETag"].removeprefix("W/") in known or "*" in known)
    try:
        since = parsedate_to_datetime(sent["if-modified-since"])
        return parsedate_to_datetime(current["Last-Modified"]) <= since
    except (KeyError, TypeError, ValueError):
        return False  # not sent, or no date with a time zone: then the header does not count


def _addressed(call: Call, about: Sequence[str] = ()) -> Touched:
    """The patient that a refused request named by a resource id; nobody checked that it exists."""
    ids = [call.path.get("id", ""), *(each.rpartition("/")[2] for each in about)]
    keys = [each.partition("-")[0] for each in ids]
    return Touched.of([key for key in keys if PATIENT_KEY.fullmatch(key)], about)


def external_id_of(event: Mapping[str, Any]) -> str:
    """The client's own id of the request, of which nothing is asked but that it can be written down."""
    sent = (_header(event, "x-request-id") or "").strip()
    return sent if len(sent) <= MAX_EXTERNAL_ID and sent.isascii() and sent.isprintable() else ""


def address_of(event: Mapping[str, Any]) -> str:
    """Where the connection came from, as API Gateway saw it: headers that say so are anybody's to write."""
    return str((event["requestContext"].get("identity") or {}).get("sourceIp") or "")


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


def _fingerprint(event: Mapping[str, Any], body: bytes, caller: Caller) -> str:
    """Of the request and of who made it: one application serves many people, and keys are those of the application."""
    query = json.dumps(event.get("multiValueQueryStringParameters") or {}, sort_keys=True)
    user = json.dumps([caller.organisation, caller.professional, caller.patient, caller.person])
    return hashlib.sha256(f"{event['httpMethod']} {event['path']} {query}\n{user}\n".encode() + body).hexdigest()


def _explained(error: PasserelleError, request: Request) -> PasserelleError:
    """A refusal of rights says whether an emergency would open what was refused (contract D1)."""
    if isinstance(error, Forbidden):
        is_possible = isinstance(error, AccessRefused) and error.may_break_glass
        code = "break-glass-possible" if is_possible else "break-glass-not-possible"
        details = Coding(system=f"{request.base_url}/CodeSystem/access-refusal", code=code)
        error.issues = tuple(
            replace(issue, details=details) if issue.code == Forbidden.code and issue.details is None else issue
            for issue in error.issues
        )
    return error


def _refusal(error: PasserelleError) -> Reply:
    return Reply(status=error.status, body=render_outcome(error), headers=dict(error.headers), touched=COMMITTED)


def _rendered(reply: Reply, asked: Representation, request_id: str) -> dict[str, Any]:
    if reply.content_type is not None and isinstance(reply.body, bytes):
        content, content_type, is_text = reply.body, reply.content_type, False
    else:
        content, content_type, is_text = _written(reply.body, asked), asked.media_type, True
    headers = {
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Request-Id": request_id,
        **({"Content-Type": content_type} if content else {}),
        **reply.headers,
    }
    return {
        "statusCode": reply.status,
        "headers": headers,
        "body": content.decode() if is_text else base64.b64encode(content).decode(),
        "isBase64Encoded": not is_text,
    }


def _written(body: Mapping[str, Any] | bytes | None, asked: Representation) -> bytes:
    """A resource in the form that was asked for; one that is stored in that form is passed on as it is."""
    if body is None:
        return b""
    if asked.codec == "json" and not asked.pretty and isinstance(body, bytes):
        return body
    resource = fhir_json.loads(body, max_depth=_MAX_ANSWER_DEPTH) if isinstance(body, bytes) else body
    if asked.codec == "json":
        return fhir_json.dumps(resource, pretty=asked.pretty)
    from passerelle.fhir import xml as fhir_xml  # few answers are XML

    return fhir_xml.dumps(resource, pretty=asked.pretty)
