"""The HTTP boundary of the authorization server, with OAuth's own errors.

RFC 6749 sections 3.2 (token endpoint) and 5 (answers), SMART App Launch 2.2 "Conformance" (discovery).
Called as FhirApp is: `handler(event, context)`, with `routes` for API Gateway.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from ssl import PEM_cert_to_DER_cert
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote_plus

from aws_lambda_powertools import Logger

from passerelle.api.app import FORM, places
from passerelle.api.token_audit import token_record
from passerelle.audit.ports import AuditTrail
from passerelle.authorization.authentication import Shown
from passerelle.authorization.model import InvalidClientError, TokenRefusedError
from passerelle.authorization.service import AuthorizationService, Endpoints
from passerelle.errors import Fault, PasserelleError

MAX_FORM_BYTES = 16 * 1024
MAX_FORM_FIELDS = 20
DISCOVERY_SECONDS = 300  # how long clients may keep the keys and the discovery document


class OAuthWired(Protocol):
    """What `wiring` gives the functions that issue and verify tokens."""

    @property
    def authorization(self) -> AuthorizationService: ...

    @property
    def public_url(self) -> str: ...

    @property
    def trail(self) -> AuditTrail: ...

    @property
    def now(self) -> Callable[[], datetime]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthCall:
    """A request; `form` has its parameters, each given once and not empty; `shown` is what came beside it."""

    form: Mapping[str, str]
    endpoints: Endpoints
    at: datetime
    shown: Shown


Handler = Callable[[OAuthCall, Any], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthRoute:
    method: str
    gateway_path: str
    handler: Handler


class OAuthApp:
    """A Lambda handler for the endpoints that need no token. Handlers return the JSON of a 200 answer."""

    def __init__(self, name: str, *, provide: Callable[[], OAuthWired]) -> None:
        self.name = name
        self.routes: list[OAuthRoute] = []
        self._provide = provide
        self._log = Logger(service=f"passerelle-{name}")
        if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
            provide()  # at INIT, where the processor is free and fast

    def get(self, path: str) -> Callable[[Handler], Handler]:
        """A document for everybody, which may be kept."""
        return self._route("GET", path)

    def post(self, path: str) -> Callable[[Handler], Handler]:
        """A form, whose answer may not be kept."""
        return self._route("POST", path)

    def _route(self, method: str, path: str) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            self.routes.append(OAuthRoute(method=method, gateway_path=path, handler=handler))
            return handler

        return register

    def __call__(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        """Serve one API Gateway REST proxy event (payload format 1.0)."""
        request_id = event["requestContext"]["requestId"]
        headers: Mapping[str, str] = {}
        try:
            status, body = 200, self._on_record(event)
        except TokenRefusedError as refusal:
            self._log.info("refused", error=refusal.error, reason=refusal.reason, request_id=request_id)
            status, headers = refusal.status, _refusal_headers(event, refusal)
            body = {"error": refusal.error, "error_description": refusal.description}
        except Exception as failure:  # noqa: BLE001 - the last line: a defect must not tell the caller anything
            error = failure if isinstance(failure, PasserelleError) else Fault()
            self._log.error("failed", failure=type(failure).__name__, places=places(failure), request_id=request_id)
            status, headers = error.status, error.headers
            body = {"error": "server_error" if status == Fault.status else "temporarily_unavailable"}
        is_document = status == 200 and event["httpMethod"] == "GET"
        return {
            "statusCode": status,
            "headers": {
                "Content-Type": "application/json",
                "X-Content-Type-Options": "nosniff",
                "X-Request-Id": request_id,
                **(_KEPT if is_document else _NOT_KEPT),
                **headers,
            },
            "body": json.dumps(body),
            "isBase64Encoded": False,
        }

    def _on_record(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Serve a request; whatever is asked with a form is in the audit trail before it is answered."""
        wired = self._provide()
        at = wired.now()
        if event["httpMethod"] != "POST":
            return self._serve(event, wired, at)

        def record(answer: Mapping[str, Any], reason: str = "", refusal: PasserelleError | None = None) -> None:
            form, basic = _asked(event)
            base_url = endpoints(event, wired.public_url).fhir
            wired.trail.append(
                [
                    token_record(
                        event,
                        base_url=base_url,
                        at=at,
                        form=form,
                        basic=basic,
                        answer=answer,
                        refusal=refusal,
                        reason=reason,
                    )
                ]
            )

        try:
            answer = self._serve(event, wired, at)
        except TokenRefusedError as refusal:
            record({}, reason=f"{refusal.error}: {refusal.reason}")
            raise
        except Exception as failure:
            record({}, refusal=failure if isinstance(failure, PasserelleError) else Fault())
            raise
        record(answer)
        return answer

    def _serve(self, event: Mapping[str, Any], wired: OAuthWired, at: datetime) -> Mapping[str, Any]:
        (handler,) = (
            route.handler
            for route in self.routes
            if (route.method, route.gateway_path) == (event["httpMethod"], event["resource"])
        )
        call = OAuthCall(
            form=_form(event) if event["httpMethod"] == "POST" else {},
            endpoints=endpoints(event, wired.public_url),
            at=at,
            shown=_shown(event),
        )
        return handler(call, wired)


_KEPT = {"Cache-Control": f"public, max-age={DISCOVERY_SECONDS}"}
_NOT_KEPT = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class _UnsupportedMediaError(TokenRefusedError):
    status = 415


class _TooLargeError(TokenRefusedError):
    status = 413


class MethodNotAllowedError(TokenRefusedError):
    """There is something at this address, but not for this method."""

    status = 405
    description = "only POST is offered here"


def _refusal_headers(event: Mapping[str, Any], refusal: TokenRefusedError) -> Mapping[str, str]:
    if isinstance(refusal, MethodNotAllowedError):
        return {"Allow": "POST"}
    if isinstance(refusal, InvalidClientError) and authorizations(event):  # RFC 6749 section 5.2
        return {"WWW-Authenticate": 'Basic realm="passerelle"'}
    return {}


def authorizations(event: Mapping[str, Any]) -> list[str]:
    """The values of every Authorization header of a request."""
    sent = event.get("multiValueHeaders") or {n: [v] for n, v in (event.get("headers") or {}).items()}
    return [value for name, values in sent.items() if name.lower() == "authorization" for value in values]


def certificate_of(event: Mapping[str, Any]) -> str | None:
    """The SHA-256 thumbprint (RFC 8705 section 3.1) of the certificate that the client connected with.

    API Gateway verified it against the trust store of the domain.
    """
    shown = (event["requestContext"].get("identity") or {}).get("clientCert") or {}
    pem = shown.get("clientCertPem")
    if not pem:
        return None
    return base64.urlsafe_b64encode(hashlib.sha256(PEM_cert_to_DER_cert(pem)).digest()).rstrip(b"=").decode()


def _shown(event: Mapping[str, Any]) -> Shown:
    certificate, sent = certificate_of(event), authorizations(event)
    if not sent:
        return Shown(certificate=certificate)
    scheme, _, credentials = sent[0].strip().partition(" ")
    match scheme.lower(), len(sent):
        case "basic", 1:
            return Shown(certificate=certificate, basic=_basic(credentials))
        case "bearer", 1:
            return Shown(certificate=certificate, bearer=credentials.strip())
    raise InvalidClientError("several Authorization headers, or of another scheme")


def _basic(credentials: str) -> tuple[str, str]:
    """Id and secret, which are form-encoded in it (RFC 6749 section 2.3.1)."""
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode()
        client_id, colon, secret = text.partition(":")
        parts = unquote_plus(client_id, errors="strict"), unquote_plus(secret, errors="strict")
    except ValueError:
        raise InvalidClientError("malformed Basic credentials") from None
    if not colon or not all(parts):
        raise InvalidClientError("malformed Basic credentials")
    return parts


def _asked(event: Mapping[str, Any]) -> tuple[Mapping[str, str], tuple[str, str] | None]:
    """What can be read of a request, whatever it is refused for."""
    try:
        form: Mapping[str, str] = _form(event)
    except TokenRefusedError:
        form = {}
    try:
        return form, _shown(event).basic
    except TokenRefusedError:
        return form, None


def endpoints(event: Mapping[str, Any], public_url: str) -> Endpoints:
    """The addresses tokens are bound to: under the public URL, or else as API Gateway was called."""
    if public_url:
        return Endpoints(root=public_url)
    context = event["requestContext"]
    stage_path = context["path"].removesuffix(event["path"])
    return Endpoints(root=f"https://{context['domainName']}{stage_path}")


def _form(event: Mapping[str, Any]) -> dict[str, str]:
    """The parameters of the body; those of the URL do not count: URLs are logged (RFC 6749 section 2.3.1)."""
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    if headers.get("content-type", "").split(";")[0].strip().lower() != FORM:
        raise _UnsupportedMediaError("content type")
    body = (event.get("body") or "").encode()
    if len(body) > MAX_FORM_BYTES:
        raise _TooLargeError("size")
    try:
        text = (base64.b64decode(body) if event.get("isBase64Encoded") else body).decode()
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FORM_FIELDS)
    except ValueError as error:
        raise TokenRefusedError("form") from error
    form = dict(pairs)
    if len(form) != len(pairs):
        raise TokenRefusedError("a parameter is repeated")
    return {name: value for name, value in form.items() if value}  # RFC 6749 section 3.2: empty is omitted
