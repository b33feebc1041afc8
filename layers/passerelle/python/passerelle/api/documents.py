"""Documents over HTTP: find (ITI-67, ITI-66), retrieve (ITI-68), and Binary as R4 has it (section 2.39)."""

from __future__ import annotations

from passerelle.api.app import FhirApp
from passerelle.api.contents import serve_contents
from passerelle.api.finding import serve_finding
from passerelle.api.links import serve_links
from passerelle.api.operations import serve_validate
from passerelle.api.publication import serve_publication


def serve_documents(app: FhirApp) -> None:
    """Declare the routes of DocumentReference, List and Binary; several documents are published by ITI-65."""
    serve_finding(app)
    serve_publication(app)
    serve_contents(app)
    serve_links(app)
    for kind in ("DocumentReference", "List", "Binary"):
        serve_validate(app, kind)
