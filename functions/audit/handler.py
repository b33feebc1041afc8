"""AuditEvent: who accessed a record, for its patient, for the systems that did it, and for auditors."""

from __future__ import annotations

from urllib.parse import urlencode

from passerelle import wiring
from passerelle.access import Touched
from passerelle.api.app import Call, FhirApp, Reply
from passerelle.fhir import json
from passerelle.fhir.audit_event import parse_audit_search, render_audit_event
from passerelle.fhir.bundles import Found, searchset

handler = FhirApp("audit", provide=wiring.audit)


@handler.interaction("AuditEvent", "search-type", transactions=("ITI-81",))
def search(call: Call, wired: wiring.AuditWiring) -> Reply:
    base_url = call.request.base_url
    asked, used = parse_audit_search(call.query, base_url=base_url, strict=call.is_strict)
    page = wired.audit.search(call.request, asked)
    body = searchset(
        [
            Found(reference=f"AuditEvent/{each.id}", body=json.dumps(render_audit_event(each, base_url)))
            for each in page.records
        ],
        base_url=base_url,
        self_url=f"{base_url}/AuditEvent?{urlencode(used)}",
        total=len(page.records) if page.is_complete else None,
    )
    return Reply(body=body, touched=Touched.of([asked.patient]))


@handler.interaction("AuditEvent", "read")
def read(call: Call, wired: wiring.AuditWiring) -> Reply:
    record = wired.audit.get(call.request, call.id)
    touched = Touched.of([record.patient] if record.patient else [], [f"AuditEvent/{record.id}"])
    return Reply(body=render_audit_event(record, call.request.base_url), touched=touched)
