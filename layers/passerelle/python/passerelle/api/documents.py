"""Documents over HTTP: find (ITI-67, ITI-66), retrieve (ITI-68), and Binary as R4 has it (section 2.39)."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any, Protocol

from passerelle.access import Permission, Touched
from passerelle.api.app import Call, FhirApp, Reply
from passerelle.api.interactions import ALL, READ_ONLY, WiredRecords, serve, version_reply
from passerelle.api.operations import serve_validate
from passerelle.api.routes import InteractionName
from passerelle.documents.service import DocumentService
from passerelle.errors import NotAcceptable, NotFound
from passerelle.fhir import json as fhir_json
from passerelle.fhir.mhd import stored_document
from passerelle.records.model import StoredVersion

_BINARY: tuple[InteractionName, ...] = ("create", "update", "vread", "history-instance", "delete")


class WiredDocuments(WiredRecords, Protocol):
    @property
    def documents(self) -> DocumentService: ...


def serve_documents(app: FhirApp) -> None:
    """Declare the routes of DocumentReference, List and Binary; documents are published by transactions (ITI-65)."""
    serve(app, "DocumentReference", READ_ONLY, transactions=("ITI-67",))
    serve(app, "List", ALL, transactions=("ITI-66",))
    serve(app, "Binary", _BINARY)
    for kind in ("DocumentReference", "List", "Binary"):
        serve_validate(app, kind)
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
    """The content of a document, under the id of its DocumentReference, or else a Binary of the record."""
    try:
        found = wired.records.read(call.request, "DocumentReference", call.id, absent="Document Not Found")
    except NotFound as absence:
        try:
            return _binary(call, wired.records.read(call.request, "Binary", call.id))
        except NotFound:
            raise absence from None
    document = stored_document(found)
    content = wired.documents.content(document, accepted=call.accepted)
    touched = Touched.of([document.patient], [f"{found.reference}/_history/{found.version}", f"Binary/{found.id}"])
    return Reply(body=content, content_type=document.content_type, touched=touched)


def _binary(call: Call, found: StoredVersion) -> Reply:
    """The resource for who accepts FHIR, the bytes for who accepts their type."""
    reply = version_reply(found, call)
    binary: dict[str, Any] = fhir_json.loads(found.body or b"")
    content_type = binary["contentType"]
    for each in call.accepted:
        if each in (content_type, "*/*", ""):
            return replace(reply, body=base64.b64decode(binary.get("data", "")), content_type=content_type)
        if call.representation is not None:
            return reply
    raise NotAcceptable()
