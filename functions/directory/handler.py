"""The directory of organisations, professionals, places and services (IHE mCSD)."""

from __future__ import annotations

from passerelle import wiring
from passerelle.api.app import FhirApp
from passerelle.api.directory import serve_directory

handler = FhirApp("directory", provide=wiring.directory)

serve_directory(handler)
