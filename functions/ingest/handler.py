"""What other systems send in formats of their own: HL7 version 2, HPRIM, CDA (docs/ingestion.md)."""

from __future__ import annotations

from passerelle import wiring
from passerelle.api.app import FhirApp
from passerelle.api.ingestion import serve_ingestion

handler = FhirApp("ingest", provide=wiring.ingest)

serve_ingestion(handler)
