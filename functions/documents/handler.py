"""Shared documents: find (ITI-67, ITI-66) and retrieve (ITI-68)."""

from __future__ import annotations

from passerelle import wiring
from passerelle.api.app import FhirApp
from passerelle.api.documents import serve_documents

handler = FhirApp("documents", provide=wiring.documents)

serve_documents(handler)
