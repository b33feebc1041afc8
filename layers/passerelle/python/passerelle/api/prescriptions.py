"""Reads of prescriptions over HTTP: Task read and search, `$history`, `$print`; the tasks of the record beside them.

Task stands for both: what the prescriptions keep under ids of their own, and the tasks of the record. A search is for
the prescriptions when it asks for their code. The modules that render are imported by whoever serves such a call first.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from passerelle.access import Permission, Touched
from passerelle.api.app import Call, FhirApp, Reply, Wired
from passerelle.api.interactions import ALL, SERVED, or_record, search_url, serve
from passerelle.api.negotiation import codec_of
from passerelle.api.operations import serve_validate
from passerelle.errors import NotAcceptable
from passerelle.prescriptions.errors import coded
from passerelle.records.cursors import CURSOR, Cursors

if TYPE_CHECKING:
    from passerelle.audit.service import AuditPage, AuditService
    from passerelle.prescriptions.service import PrescriptionService

PDF: Final = "application/pdf"
_ACCESSES: Final = 100  # of the log that a history shows; it links to the rest
_PRINT_HEADERS: Final[Mapping[str, str]] = {
    "Content-Disposition": 'inline; filename="ordonnance.pdf"',
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class WiredPrescriptions(Wired, Protocol):
    @property
    def prescriptions(self) -> PrescriptionService: ...

    @property
    def cursors(self) -> Cursors: ...


class WiredHistory(WiredPrescriptions, Protocol):
    @property
    def audit(self) -> AuditService: ...


def serve_tasks(app: FhirApp) -> None:
    """Declare the interactions of Task, its search and read over prescriptions and record."""
    app.interaction("Task", "read", features=("conditional-read",))(or_record("Task", _read))
    serve(app, "Task", [each for each in ALL if each != "read"], instead={"search-type": _search})
    serve_validate(app, "Task")


def serve_paper_and_history(app: FhirApp) -> None:
    for method in ("GET", "POST"):
        app.operation("Task", "/{id}/$history", needs="r", method=method)(_history)
    app.route(
        "POST",
        "/Task/{id}/$print",
        name="$print",
        action="E",
        resource="Task",
        permission=Permission(resource="Task", interaction="r"),
        raw=True,
    )(_print)


@coded
def _read(call: Call, wired: WiredPrescriptions) -> Reply:
    from passerelle.fhir.prescriptions.tasks import render_view, touched
    from passerelle.prescriptions.commands import Target

    found = wired.prescriptions.read(call.request, Target.of(call.id))
    return Reply(body=render_view(found), touched=touched(found.prescription.group))


def _search(call: Call, wired: Any, kind: str) -> Reply:
    if any(name == "code" and value.rpartition("|")[2] == "fulfil-prescription" for name, value in call.query):
        return _listed(call, wired)
    return SERVED["search-type"](call, wired, kind)


@coded
def _listed(call: Call, wired: WiredPrescriptions) -> Reply:
    from passerelle.fhir.bundles import searchset
    from passerelle.fhir.prescriptions.lists import disclosed, found_in, parse_list

    request = call.request
    query = parse_list(call.query, base_url=request.base_url, is_strict=call.is_strict)
    purpose = f"Task?{sorted(query.parsed.used)}"
    listing = wired.prescriptions.listed(
        request,
        patient=query.patient,
        ids=query.ids,
        number=query.number,
        limit=query.limit,
        after=wired.cursors.read(request, purpose, call.one(CURSOR)),
    )
    found = found_in(listing, query, call.part)
    following = wired.cursors.made(request, purpose, listing.following) if listing.following else None
    body = searchset(
        found,
        base_url=request.base_url,
        self_url=search_url(call, "Task", query.parsed.used),
        next_url=search_url(call, "Task", [*query.parsed.used, (CURSOR, following)]) if following else None,
        total=len(found) if following is None and call.one(CURSOR) is None else None,
    )
    return Reply(body=body, touched=disclosed(listing, found))


@coded
def _history(call: Call, wired: WiredHistory) -> Reply:
    from passerelle.directory.model import Role
    from passerelle.fhir.prescriptions.history import disclosed, render_history
    from passerelle.prescriptions.commands import Target

    chain = wired.prescriptions.chain(call.request, Target.of(call.id))
    accesses = _accesses(call, wired, chain.group.patient, chain.group.id, chain.group.created_at)
    body = render_history(chain, accesses, with_content=call.request.caller.role != Role.AUDITOR)
    return Reply(body=body, touched=disclosed(chain, accesses))


def _accesses(call: Call, wired: WiredHistory, patient: str, id: str, since: str) -> AuditPage:
    """The newest accesses to the prescription that the caller may read in the log, by the rules of the log.

    A pharmacist who works in two pharmacies does not carry the one into the other.
    """
    from passerelle.audit.service import AuditSearch, Entry
    from passerelle.directory.model import Role

    caller = call.request.caller

    def is_of_prescription(entry: Entry) -> bool:
        record = entry.record
        if caller.role == Role.PHARMACY and record.organisation != caller.organisation:
            return False
        return not entry.is_decision and any(each.startswith(f"Task/{id}") for each in record.references)

    asked = AuditSearch(
        patient=patient,
        since=datetime.fromisoformat(since),
        until=None,
        count=_ACCESSES,
        matches=is_of_prescription,
    )
    return wired.audit.search(call.request, asked)


@coded
def _print(call: Call, wired: WiredPrescriptions) -> Reply:
    from passerelle.fhir.prescriptions.calls import Arguments, target_of
    from passerelle.fhir.prescriptions.paper import render_paper
    from passerelle.fhir.prescriptions.tasks import touched

    form = _form(call)
    code = Arguments(call.resource, "accessCode").get("accessCode", "valueString")
    prescription = wired.prescriptions.printable(call.request, target_of(call), code)
    sheet = render_paper(prescription, code)
    seen: Touched = touched(prescription.group)
    if form == PDF:
        return Reply(body=sheet, content_type=PDF, headers=dict(_PRINT_HEADERS), touched=seen)
    data = base64.b64encode(sheet).decode()
    return Reply(body={"resourceType": "Binary", "contentType": PDF, "data": data}, touched=seen)


def _form(call: Call) -> str:
    """PDF, or FHIR for a Binary: what of them is asked for first; a browser's `*/*` gets the PDF."""
    for media_type in call.accepted:
        if media_type in (PDF, "*/*", "application/*"):
            return PDF
        if codec_of(media_type) is not None:
            return media_type
    raise NotAcceptable()
