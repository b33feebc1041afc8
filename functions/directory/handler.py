"""The directory of organisations, professionals, places and services (IHE mCSD)."""

from __future__ import annotations

from passerelle import wiring
from passerelle.api.app import FhirApp
from passerelle.api.interactions import ALL, DIRECTORY_TYPES, serve
from passerelle.api.operations import serve_validate

handler = FhirApp("directory", provide=wiring.directory)

for kind in DIRECTORY_TYPES.split():
    serve(handler, kind, ALL)
    serve_validate(handler, kind)
