"""The patient index: feed (ITI-104), demographics (ITI-78), DMP status (TD0.2)."""

from __future__ import annotations

from passerelle import wiring
from passerelle.access import Touched
from passerelle.api.app import COMMITTED, Call, FhirApp, Reply
from passerelle.api.interactions import is_strict, search_url, version_headers
from passerelle.fhir.bundles import Found, searchset
from passerelle.fhir.patient import FhirPatientDraft, patient_body, read_search, single_identifier
from passerelle.fhir.validation import validate

app = FhirApp("patients", provide=wiring.patients)


@app.conditional_update("Patient", transaction="ITI-104")
def register(call: Call, wired: wiring.PatientsWiring) -> Reply:
    identifier = single_identifier(call.query)
    validate(call.resource, expected_type="Patient")
    registered, stored = wired.patients.register(
        call.request, identifier, FhirPatientDraft(call.resource, wired.scheme)
    )
    headers = version_headers(registered.version, stored.at)
    headers["Location"] = f"{call.request.base_url}/Patient/{registered.patient}/_history/{registered.version}"
    return Reply(status=201 if registered.is_new else 200, body=stored.body, headers=headers, touched=COMMITTED)


@app.read("Patient", transaction="ITI-78")
def read(call: Call, wired: wiring.PatientsWiring) -> Reply:
    found = wired.patients.read(call.request, call.id)
    touched = Touched.of([found.patient], [f"Patient/{found.patient}/_history/{found.version}"])
    return Reply(body=found.body, headers=version_headers(found.version, found.at), touched=touched)


@app.search("Patient", transactions=("ITI-78", "TD0.2"))
def search(call: Call, wired: wiring.PatientsWiring) -> Reply:
    asked = read_search(call.query, base_url=call.request.base_url, strict=is_strict(call))
    found = wired.patients.find(call.request, asked)
    is_dmp_view = "TD0.2" in call.request.caller.scopes.values
    entries = [
        Found(reference=f"Patient/{stored.patient}", body=patient_body(stored, person, is_dmp_view=is_dmp_view))
        for stored, person in found
    ]
    url = search_url(call, "Patient", asked.used)
    body = searchset(entries, base_url=call.request.base_url, self_url=url, total=len(found))
    return Reply(body=body, touched=Touched.of([stored.patient for stored, _ in found]))


handler = app
