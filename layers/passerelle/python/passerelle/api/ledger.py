"""The verifiable log over HTTP: `/log/...` for everybody, without a token, and `$proof` of an event for its readers.

What is public is JSON for `verifier/verify.py`. It names nobody, is the same for all who ask, and does not change once
it is there, so that any cache may keep it. Called as FhirApp is: `handler(event, context)`, with `routes` for API
Gateway.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aws_lambda_powertools import Logger

from passerelle.access import Touched
from passerelle.api.app import Call, FhirApp, Reply, Wired, places
from passerelle.audit.canonical import canonical
from passerelle.audit.model import AuditRecord
from passerelle.audit.service import AuditService
from passerelle.directory.model import CARE_ROLES
from passerelle.errors import Fault, Invalid, Issue, PasserelleError
from passerelle.fhir.outcome import outcome
from passerelle.identifiers import split_resource_id, time_of
from passerelle.ledger.proofs import Prover
from passerelle.ledger.service import milliseconds

FOREVER_SECONDS = 365 * 86_400
SEALED_WITHIN_SECONDS = 120
_MAX_DIGITS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerCall:
    parameters: Mapping[str, str]

    def number(self, name: str) -> int:
        """A number of an epoch; raises Invalid."""
        text = self.parameters.get(name, "")
        if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
            raise Invalid(f"{name} is the number of an epoch", code="value")
        return int(text)


Handler = Callable[[LedgerCall, Any], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRoute:
    gateway_path: str
    handler: Handler
    kept_seconds: int
    method: str = "GET"


class LedgerApp:
    """A Lambda handler of public JSON documents. `provide`, a function of `wiring`, gives the services."""

    def __init__(self, name: str, *, provide: Callable[[], Any]) -> None:
        self.name = name
        self.routes: list[LedgerRoute] = []
        self._provide = provide
        self._log = Logger(service=f"passerelle-{name}")
        if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
            provide()  # at INIT, where the processor is free and fast

    def get(self, path: str, *, kept_seconds: int = FOREVER_SECONDS) -> Callable[[Handler], Handler]:
        """A document, and for how long it stays true."""

        def register(handler: Handler) -> Handler:
            self.routes.append(LedgerRoute(gateway_path=path, handler=handler, kept_seconds=kept_seconds))
            return handler

        return register

    def __call__(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        """Serve one API Gateway REST proxy event (payload format 1.0)."""
        request_id = event["requestContext"]["requestId"]
        (route,) = (route for route in self.routes if route.gateway_path == event["resource"])
        headers = {"Cache-Control": "no-store"}
        try:
            given = {**(event.get("queryStringParameters") or {}), **(event.get("pathParameters") or {})}
            status, body = 200, route.handler(LedgerCall(parameters=given), self._provide())
            headers = {"Cache-Control": f"public, max-age={route.kept_seconds}"}
        except Exception as failure:  # noqa: BLE001 - the last line: a defect must not tell the caller anything
            error = failure if isinstance(failure, PasserelleError) else Fault()
            if error.status >= Fault.status:
                self._log.error("failed", failure=type(failure).__name__, places=places(failure), request_id=request_id)
            status, body = error.status, {"error": error.issues[0].code, "error_description": str(error)}
            headers |= error.headers
        self._log.info("answered", route=f"GET {route.gateway_path}", status=status, request_id=request_id)
        return {
            "statusCode": status,
            "headers": {
                "Content-Type": "application/json",
                "X-Content-Type-Options": "nosniff",
                "X-Request-Id": request_id,
                "Access-Control-Allow-Origin": "*",
                **headers,
            },
            "body": json.dumps(body, separators=(",", ":")),
            "isBase64Encoded": False,
        }


# --- for the readers of an event ----------------------------------------------------------------------------------


class WiredProofs(Wired, Protocol):
    """What `wiring` gives the function that serves AuditEvent."""

    @property
    def audit(self) -> AuditService: ...

    @property
    def prover(self) -> Callable[[], Prover]: ...


def serve_proofs(app: FhirApp) -> None:
    """Declare `AuditEvent/<id>/$proof`."""
    app.operation("AuditEvent", "/{id}/$proof", needs="r", method="GET")(_prove)


def _prove(call: Call, wired: WiredProofs) -> Reply:
    """A Binary with the proof as JSON; 202 while there is none.

    A proof shows the record as it was stored. To who may not see all of it there is none, and that looks the same as
    one that was not sealed yet.
    """
    entry = wired.audit.get(call.request, call.id)
    record = entry.record
    touched = Touched.of([record.patient] if record.patient else [], [f"AuditEvent/{entry.id}"])
    is_whole = record == wired.trail.find(record.id) and (
        record.decision is None or call.request.caller.role not in CARE_ROLES
    )
    proof = _proof(record, wired) if is_whole else None
    if proof is None:
        pending = Issue(code="incomplete", diagnostics="there is no proof of this event yet; repeat the same request")
        retry = {"Retry-After": str(SEALED_WITHIN_SECONDS)}
        return Reply(status=202, body=outcome(pending, severity="information"), headers=retry, touched=touched)
    text = json.dumps(proof, separators=(",", ":"), ensure_ascii=False).encode()
    body = {
        "resourceType": "Binary",
        "contentType": "application/json",
        "data": base64.b64encode(text).decode(),
    }
    return Reply(body=body, touched=touched)


def _proof(record: AuditRecord, wired: WiredProofs) -> dict[str, Any] | None:
    patient, ulid = split_resource_id(record.id) or (None, "")
    return wired.prover().prove(record.id, canonical(record), patient=patient, recorded_ms=milliseconds(time_of(ulid)))
