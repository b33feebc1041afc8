"""The directory of organisations and professionals (IHE mCSD)."""

from __future__ import annotations

from passerelle import wiring
from passerelle.api.app import FhirApp
from passerelle.api.interactions import serve_shared

app = FhirApp("directory", provide=wiring.directory)

for kind in ("Organization", "Practitioner"):
    serve_shared(app, kind)

handler = app
