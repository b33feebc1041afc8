"""The access log over HTTP: search and read of AuditEvents (ITI-81), deposit (ITI-20), `$explain`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol
from urllib.parse import urlencode

from passerelle.access import Request, Touched
from passerelle.api.app import COMMITTED, Call, FhirApp, Reply, Wired
from passerelle.audit.deposits import DepositService
from passerelle.audit.explanation import LANGUAGES, Explainer, Explanation
from passerelle.audit.service import AuditPage, AuditService, Entry
from passerelle.fhir import json as fhir_json
from passerelle.fhir.audit_event import render_entry
from passerelle.fhir.audit_search import parse_audit_search
from passerelle.fhir.bundles import Found, searchset
from passerelle.records.cursors import CURSOR, Cursors


class WiredAudit(Wired, Protocol):
    @property
    def audit(self) -> AuditService: ...

    @property
    def deposits(self) -> DepositService: ...

    @property
    def explainer(self) -> Explainer: ...

    @property
    def cursors(self) -> Cursors: ...


def serve_audit_log(app: FhirApp) -> None:
    """Declare the routes of AuditEvent; there is none that would change one."""
    app.interaction("AuditEvent", "search-type", transactions=("ITI-81",))(_search)
    app.interaction("AuditEvent", "read", transactions=("ITI-81",))(_read)
    app.interaction("AuditEvent", "create", transactions=("ITI-20",))(_deposit)
    for method in ("GET", "POST"):
        app.operation("AuditEvent", "/{id}/$explain", needs="r", method=method, transaction="ITI-81")(_explain)


def _search(call: Call, wired: WiredAudit) -> Reply:
    request = call.request
    asked, used = parse_audit_search(call.query, base_url=request.base_url, strict=call.is_strict)
    purpose = f"audit {_who(request)} {urlencode(used)}"
    page = wired.audit.search(request, replace(asked, after=wired.cursors.read(request, purpose, call.one(CURSOR))))
    cursor = wired.cursors.made(request, purpose, page.following) if page.following else None
    is_whole = cursor is None and call.one(CURSOR) is None
    body = searchset(
        [_found(each, request.base_url) for each in page.entries],
        base_url=request.base_url,
        self_url=_url(request, used),
        next_url=_url(request, [*used, (CURSOR, cursor)]) if cursor else None,
        total=len(page.entries) if is_whole else None,
    )
    return Reply(body=body, touched=Touched.of(_looked_into(request, page)))


def _who(request: Request) -> str:
    """Whom a cursor is for, beside the client."""
    caller = request.caller
    return f"{caller.role} {caller.professional or ''} {caller.patient or ''} {caller.person or ''}"


def _url(request: Request, query: Sequence[tuple[str, str]]) -> str:
    return f"{request.base_url}/AuditEvent?{urlencode(query)}"


def _found(entry: Entry, base_url: str) -> Found:
    return Found(reference=f"AuditEvent/{entry.id}", body=fhir_json.dumps(render_entry(entry, base_url)))


def _looked_into(request: Request, page: AuditPage) -> Sequence[str]:
    """Whose log was read: of a person's source records the first, or else everybody whom the page names."""
    if page.patients:
        return page.patients[:1]
    return [each.record.patient for each in page.entries if each.record.patient]


def _read(call: Call, wired: WiredAudit) -> Reply:
    entry = wired.audit.get(call.request, call.id)
    patient = entry.record.patient
    touched = Touched.of([patient] if patient else [], [f"AuditEvent/{entry.id}"])
    return Reply(body=render_entry(entry, call.request.base_url), touched=touched)


def _deposit(call: Call, wired: WiredAudit) -> Reply:
    from passerelle.fhir.audit_deposit import parse_deposit  # deposits are few beside searches

    base_url = call.request.base_url
    record = wired.deposits.deposit(call.request, parse_deposit(call.resource, base_url))
    return Reply(
        status=201,
        body=render_entry(Entry(record=record), base_url),
        headers={"Location": f"{base_url}/AuditEvent/{record.id}"},
        touched=COMMITTED,
    )


def _explain(call: Call, wired: WiredAudit) -> Reply:
    explanation, patient = wired.explainer.explain(call.request, call.id)
    touched = Touched.of([patient] if patient else [], [f"AuditEvent/{call.id}"])
    return Reply(body=_rendered(explanation), touched=touched)


def _rendered(explanation: Explanation) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": "permitted", "valueBoolean": explanation.is_permitted},
        {"name": "same", "valueBoolean": explanation.is_same},
        {"name": "rules", "valueString": explanation.rules},
        {"name": "rules-now", "valueString": explanation.rules_now},
    ]
    if explanation.rule is not None:
        parameters.append({"name": "rule", "valueCode": explanation.rule})
    for language in LANGUAGES:
        parts = [
            {"name": "language", "valueCode": language},
            {"name": "text", "valueString": explanation.texts[language]},
        ]
        parameters.append({"name": "reason", "part": parts})
    for name, value in sorted((explanation.facts or {}).items()):
        if value is not None and value != "":
            parameters.append(
                {"name": "fact", "part": [{"name": "name", "valueString": name}, {"name": "value", **_value(value)}]}
            )
    return {"resourceType": "Parameters", "parameter": parameters}


def _value(value: Any) -> dict[str, Any]:
    return {"valueBoolean": value} if isinstance(value, bool) else {"valueString": str(value)}
