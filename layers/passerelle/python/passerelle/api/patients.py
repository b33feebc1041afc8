"""Patient over HTTP: feed (ITI-104), demographics (ITI-78), DMP status (TD0.2), and the plain interactions of R4."""

from __future__ import annotations

from typing import Any, Protocol

from passerelle.access import Touched
from passerelle.api.app import COMMITTED, Call, FhirApp, Reply
from passerelle.api.interactions import WiredRecords, patched, search_url, serve, version_headers
from passerelle.api.operations import serve_person, serve_validate
from passerelle.errors import Invalid
from passerelle.fhir.bundles import Found, searchset
from passerelle.fhir.patient import FhirPatientDraft, patient_body, read_search, single_identifier
from passerelle.fhir.validation import validate
from passerelle.patients.identity import IdentityScheme
from passerelle.patients.service import PatientService, Registered, StoredPatient


class WiredPatients(WiredRecords, Protocol):
    @property
    def patients(self) -> PatientService: ...

    @property
    def scheme(self) -> IdentityScheme: ...


def serve_patients(app: FhirApp) -> None:
    """Declare the routes of Patient. Source records are not deleted: their links are undone instead."""
    feed = ("ITI-104",)
    app.interaction("Patient", "conditional-update", transactions=feed)(_register)
    app.interaction("Patient", "create", transactions=feed, features=("conditional-create",))(_create)
    app.interaction("Patient", "update", transactions=feed)(_update)
    app.interaction("Patient", "patch", transactions=feed)(_patch)
    app.interaction("Patient", "read", transactions=("ITI-78",), features=("conditional-read",))(_read)
    app.interaction("Patient", "search-type", transactions=("ITI-78", "TD0.2"))(_search)
    serve(app, "Patient", ("vread", "history-instance"))
    serve_person(app)
    serve_validate(app, "Patient")


def _register(call: Call, wired: WiredPatients) -> Reply:
    identifier = single_identifier(call.query)
    return _written(call, *wired.patients.register(call.request, identifier, _draft(call.resource, wired)))


def _create(call: Call, wired: WiredPatients) -> Reply:
    asked = call.if_none_exist
    condition = None if asked is None else single_identifier(asked)
    draft = _draft(call.resource, wired)
    return _written(call, *wired.patients.create(call.request, draft, if_none_exist=condition))


def _update(call: Call, wired: WiredPatients) -> Reply:
    draft = _draft(call.resource, wired)
    if call.resource.get("id") != call.id:
        raise Invalid("the id in the resource is not the one in the URL", code="invariant", expression="Patient.id")
    return _written(call, *wired.patients.update(call.request, call.id, draft, if_match=call.if_match))


def _patch(call: Call, wired: WiredPatients) -> Reply:
    def revise(stored: bytes) -> FhirPatientDraft:
        return _draft(patched(call, stored), wired)

    return _written(call, *wired.patients.patch(call.request, call.id, revise, if_match=call.if_match))


def _draft(resource: Any, wired: WiredPatients) -> FhirPatientDraft:
    validate(resource, expected_type="Patient")
    return FhirPatientDraft(resource, wired.scheme)


def _written(call: Call, registered: Registered, stored: StoredPatient) -> Reply:
    headers = version_headers(registered.version, stored.at)
    headers["Location"] = f"{call.request.base_url}/Patient/{registered.patient}/_history/{registered.version}"
    return Reply(status=201 if registered.is_new else 200, body=stored.body, headers=headers, touched=COMMITTED)


def _read(call: Call, wired: WiredPatients) -> Reply:
    found = wired.patients.read(call.request, call.id)
    touched = Touched.of([found.patient], [f"Patient/{found.patient}/_history/{found.version}"])
    return Reply(body=call.part.of(found.body), headers=version_headers(found.version, found.at), touched=touched)


def _search(call: Call, wired: WiredPatients) -> Reply:
    asked = read_search(call.query, base_url=call.request.base_url, strict=call.is_strict)
    found = wired.patients.find(call.request, asked)
    is_dmp_view = "TD0.2" in call.request.caller.scopes.values
    entries = [
        Found(
            reference=f"Patient/{stored.patient}",
            body=call.part.of(patient_body(stored, person, is_dmp_view=is_dmp_view)),
        )
        for stored, person in (found if call.part.summary != "count" else ())
    ]
    url = search_url(call, "Patient", asked.used)
    body = searchset(entries, base_url=call.request.base_url, self_url=url, total=len(found))
    return Reply(body=body, touched=Touched.of([stored.patient for stored, _ in found]))
