"""Shared documents: find (ITI-67, ITI-66) and retrieve (ITI-68)."""

from __future__ import annotations

from passerelle import wiring
from passerelle.access import Permission, Touched
from passerelle.api.app import Call, FhirApp, Reply
from passerelle.api.interactions import READ_ONLY, serve
from passerelle.fhir.mhd import stored_document

app = FhirApp("documents", provide=wiring.documents)

serve(app, "DocumentReference", READ_ONLY, transactions=("ITI-67",))
serve(app, "List", READ_ONLY, transactions=("ITI-66",))


@app.route(
    "GET",
    "/Binary/{id}",
    name="read",
    action="R",
    resource="Binary",
    permission=Permission(resource="Binary", interaction="r", transactions=("ITI-68",)),
    raw=True,
)
def retrieve(call: Call, wired: wiring.DocumentsWiring) -> Reply:
    found = wired.records.read(call.request, "DocumentReference", call.id, absent="Document Not Found")
    document = stored_document(found)
    content = wired.documents.content(document, accepted=call.accepted)
    touched = Touched.of([document.patient], [f"{found.reference}/_history/{found.version}", f"Binary/{found.id}"])
    return Reply(body=content, content_type=document.content_type, touched=touched)


handler = app
