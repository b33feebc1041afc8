"""The patient index: feed (ITI-104), demographics (ITI-78), DMP status (TD0.2), identity stewards, whole records."""

from __future__ import annotations

from passerelle import wiring
from passerelle.api.app import FhirApp
from passerelle.api.patients import serve_patients
from passerelle.api.stewardship import serve_stewardship

handler = FhirApp("patients", provide=wiring.patients)

serve_patients(handler)
serve_stewardship(handler)
