"""Clinical resources and transactions (FHIR R4 RESTful API; IHE MHD ITI-65)."""

from __future__ import annotations

from passerelle import wiring
from passerelle.api.app import COMMITTED, Call, FhirApp, Reply
from passerelle.api.interactions import ALL, READ_ONLY, serve
from passerelle.fhir.bundles import transaction_response

app = FhirApp("records", provide=wiring.records)

for kind in (
    "AllergyIntolerance",
    "CarePlan",
    "Condition",
    "DiagnosticReport",
    "Encounter",
    "Goal",
    "ImagingStudy",
    "Immunization",
    "Observation",
    "Procedure",
):
    serve(app, kind, ALL)
for kind in ("Claim", "ExplanationOfBenefit", "MedicationDispense", "MedicationRequest"):
    serve(app, kind, READ_ONLY)  # prescriptions change through their own operations


@app.route("POST", "", name="transaction", action="E", resource=None, permission=None)
def transact(call: Call, wired: wiring.RecordsWiring) -> Reply:
    done = wired.transactions.execute(call.request, call.resource)
    return Reply(body=transaction_response(done), touched=COMMITTED)


handler = app
