"""The patient index: feed (ITI-104), demographics (ITI-78), DMP status (TD0.2), and a person's record as a whole."""

from __future__ import annotations

from passerelle import wiring
from passerelle.api.app import FhirApp
from passerelle.api.patients import serve_patients

handler = FhirApp("patients", provide=wiring.patients)

serve_patients(handler)
