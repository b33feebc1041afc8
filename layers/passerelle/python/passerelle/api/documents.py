"""Shared documents over HTTP: find (ITI-67, ITI-66) and retrieve (ITI-68)."""

from __future__ import annotations

from typing import Protocol

from passerelle.access import Permission, Touched
from passerelle.api.app import Call, FhirApp, Reply
from passerelle.api.interactions import READ_ONLY, WiredRecords, serve
from passerelle.documents.service import DocumentService
from passerelle.fhir.mhd import stored_document


class WiredDocuments(WiredRecords, Protocol):
    @property
    def documents(self) -> DocumentService: ...


def serve_documents(app: FhirApp) -> None:
    """Declare the routes of DocumentReference, List and Binary; they are published by transactions (ITI-65)."""
    serve(app, "DocumentReference", READ_ONLY, transactions=("ITI-67",))
    serve(app, "List", READ_ONLY, transactions=("ITI-66",))
    app.route(
        "GET",
        "/Binary/{id}",
        name="read",
        action="R",
        resource="Binary",
        permission=Permission(resource="Binary", interaction="r", transactions=("ITI-68",)),
        raw=True,
    )(_retrieve)


def _retrieve(call: Call, wired: WiredDocuments) -> Reply:
    found = wired.records.read(call.request, "DocumentReference", call.id, absent="Document Not Found")
    document = stored_document(found)
    content = wired.documents.content(document, accepted=call.accepted)
    touched = Touched.of([document.patient], [f"{found.reference}/_history/{found.version}", f"Binary/{found.id}"])
    return Reply(body=content, content_type=document.content_type, touched=touched)
