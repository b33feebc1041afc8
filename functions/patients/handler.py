"""The patient index: feed (ITI-104), demographics (ITI-78), DMP status (TD0.2), identity stewards, record status."""

from __future__ import annotations

from passerelle import wiring
from passerelle.api.app import FhirApp
from passerelle.api.patients import serve_patients
from passerelle.api.record_status import serve_record_status
from passerelle.api.stewardship import serve_stewardship

handler = FhirApp("patients", provide=wiring.patients)

serve_patients(handler)
serve_stewardship(handler)
serve_record_status(handler)
