"""Task: the operations of the e-prescription contract and the tasks of the record; MedicationDispense, beside them."""

from __future__ import annotations

from passerelle import wiring
from passerelle.api.app import FhirApp
from passerelle.api.interactions import ALL, serve
from passerelle.api.monitoring import serve_alerts
from passerelle.api.operations import serve_validate
from passerelle.api.prescription_checks import serve_checks
from passerelle.api.prescription_commands import serve_commands
from passerelle.api.prescriptions import serve_paper_and_history, serve_tasks

handler = FhirApp("prescriptions", provide=wiring.prescriptions)

serve_commands(handler)
serve_checks(handler)
serve_paper_and_history(handler)
serve_tasks(handler)
serve_alerts(handler)
serve(handler, "MedicationDispense", ALL)
serve_validate(handler, "MedicationDispense")
