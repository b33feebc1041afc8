"""What API Gateway itself answers, as OperationOutcome: the requests that no function sees.

Contract: rows GEN-13 (401) and GEN-16 (404) of the interoperability contract. Templates of gateway responses
substitute `$context` variables and nothing else. No method uses AWS signatures or API keys, so that API
Gateway speaks of them only where it has no method, outside `/fhir`: a Bearer token on an unknown path is to it a
malformed signature. All of those are 404.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from passerelle.errors import Issue
from passerelle.fhir.outcome import outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayResponse:
    """`status` None leaves the status that API Gateway chose; `challenge` is the WWW-Authenticate header."""

    kind: str
    status: int | None
    code: str
    diagnostics: str
    challenge: str | None = None

    @property
    def template(self) -> str:
        return json.dumps(outcome(Issue(code=self.code, diagnostics=self.diagnostics)), separators=(",", ":"))

    @property
    def parameters(self) -> dict[str, str]:
        """Headers as API Gateway takes them: static values in single quotes, else a `context` variable."""
        headers = {
            "Content-Type": "'application/fhir+json'",
            "Cache-Control": "'no-store'",
            "X-Content-Type-Options": "'nosniff'",
            "X-Request-Id": "context.requestId",
        }
        if self.challenge:
            headers["WWW-Authenticate"] = self.challenge
        return {f"gatewayresponse.header.{name}": value for name, value in headers.items()}


def _unknown_route(kind: str) -> GatewayResponse:
    return GatewayResponse(
        kind=kind, status=404, code="not-supported", diagnostics="the server has no such interaction"
    )


def _failure(kind: str, status: int | None = 500) -> GatewayResponse:
    return GatewayResponse(
        kind=kind,
        status=status,
        code="exception",
        diagnostics="the server failed; request $context.requestId",
    )


def _unavailable(kind: str) -> GatewayResponse:
    return GatewayResponse(
        kind=kind,
        status=503,
        code="transient",
        diagnostics="the server did not answer in time; the same request may be sent again",
    )


GATEWAY_RESPONSES: Final = (
    _unknown_route("MISSING_AUTHENTICATION_TOKEN"),
    _unknown_route("RESOURCE_NOT_FOUND"),
    _unknown_route("INVALID_SIGNATURE"),
    _unknown_route("EXPIRED_TOKEN"),
    _unknown_route("INVALID_API_KEY"),
    GatewayResponse(
        kind="UNAUTHORIZED",
        status=401,
        code="login",
        diagnostics="a valid access token is required",
        challenge="""'Bearer realm="passerelle"'""",
    ),
    GatewayResponse(
        kind="ACCESS_DENIED",
        status=401,
        code="$context.authorizer.issue",  # `login`, `expired` or `security`, see api/authorizer.py
        diagnostics="a valid access token is required",
        challenge="context.authorizer.challenge",
    ),
    GatewayResponse(
        kind="BAD_REQUEST_BODY",
        status=400,
        code="invalid",
        diagnostics="the body of the request is not valid",
    ),
    GatewayResponse(
        kind="BAD_REQUEST_PARAMETERS",
        status=400,
        code="invalid",
        diagnostics="a parameter of the request is not valid",
    ),
    GatewayResponse(
        kind="REQUEST_TOO_LARGE",
        status=413,
        code="too-long",
        diagnostics="the request is larger than the server accepts",
    ),
    GatewayResponse(
        kind="UNSUPPORTED_MEDIA_TYPE",
        status=415,
        code="not-supported",
        diagnostics="the content type is not supported",
    ),
    GatewayResponse(
        kind="WAF_FILTERED",
        status=403,
        code="forbidden",
        diagnostics="the request was refused before it was read; request $context.requestId",
    ),
    GatewayResponse(kind="THROTTLED", status=429, code="throttled", diagnostics="too many requests; repeat later"),
    GatewayResponse(kind="QUOTA_EXCEEDED", status=429, code="throttled", diagnostics="too many requests; repeat later"),
    _unavailable("INTEGRATION_FAILURE"),
    _unavailable("INTEGRATION_TIMEOUT"),
    _unavailable("AUTHORIZER_FAILURE"),
    _failure("AUTHORIZER_CONFIGURATION_ERROR"),
    _failure("API_CONFIGURATION_ERROR"),
    GatewayResponse(kind="DEFAULT_4XX", status=None, code="invalid", diagnostics="the request is not valid"),
    _failure("DEFAULT_5XX", None),
)
