"""Clinical resources, batches and transactions (FHIR R4 RESTful API; IHE MHD ITI-65), messages (PMIR ITI-93)."""

from __future__ import annotations

from passerelle import wiring
from passerelle.api.app import FhirApp
from passerelle.api.bundles import serve_bundles
from passerelle.api.care_teams import serve_care_teams
from passerelle.api.communication_requests import serve_communication_requests
from passerelle.api.consents import serve_consents
from passerelle.api.directory import serve_directory
from passerelle.api.documents import serve_documents
from passerelle.api.interactions import ALL, CLINICAL_TYPES, serve
from passerelle.api.messages import serve_messages
from passerelle.api.monitoring import serve_measurements
from passerelle.api.operations import serve_validate
from passerelle.api.patients import serve_patients
from passerelle.api.prescriptions import serve_tasks

handler = FhirApp("records", provide=wiring.records)
entries = FhirApp("records", provide=wiring.records)  # what an entry of a bundle can ask for

for kind in CLINICAL_TYPES.split():
    for app in (entries,) if kind == "MedicationDispense" else (handler, entries):  # that one goes with prescriptions
        if kind == "CareTeam":
            serve_care_teams(app)
        elif kind == "Consent":
            serve_consents(app)
        elif kind == "CommunicationRequest":
            serve_communication_requests(app)
        else:
            serve(app, kind, ALL)
        serve_validate(app, kind)
serve_tasks(entries)
serve_directory(entries)
serve_patients(entries)
serve_documents(entries)
serve_bundles(handler, entries=entries)
serve_messages(handler)
serve_measurements(handler)
