"""The patient index: feed (ITI-104), demographics (ITI-78, TD0.2), stewards, and what patients decide of records."""

from __future__ import annotations

from passerelle import wiring
from passerelle.api.access_history import serve_access_history
from passerelle.api.app import FhirApp
from passerelle.api.control import serve_control
from passerelle.api.erasure import serve_erasure
from passerelle.api.exports import serve_exports
from passerelle.api.patients import serve_patients
from passerelle.api.record_status import serve_record_status
from passerelle.api.stewardship import serve_stewardship

handler = FhirApp("patients", provide=wiring.patients)

serve_patients(handler)
serve_stewardship(handler)
serve_record_status(handler)
serve_control(handler)
serve_access_history(handler)
serve_erasure(handler)
serve_exports(handler)
