"""Finding documents over HTTP: ITI-67 with TD3.1a and TD3.1b of the DMP, ITI-66, and the reads of R4 beside them."""

from __future__ import annotations

from typing import Final

from passerelle.access import Permission
from passerelle.api.app import Call, FhirApp, Reply
from passerelle.api.interactions import ALL, READ_ONLY, WiredRecords, search, serve

_FEEDS: Final = ("TD2", "TD2.1")
_FINDS: Final = ("ITI-67", "TD3.1", "TD3.1a", "TD3.1b")
_ANY_DOCUMENT: Final = Permission(resource="DocumentReference", interaction="s", transactions=_FINDS)


def serve_finding(app: FhirApp) -> None:
    """Declare the routes of DocumentReference and List that read."""
    serve(
        app,
        "DocumentReference",
        READ_ONLY,
        transactions=(*_FINDS, *_FEEDS),
        instead={"search-type": _find_documents},
    )
    serve(app, "List", ALL, transactions=("ITI-66",))


def _find_documents(call: Call, wired: WiredRecords, kind: str) -> Reply:
    """Who may only publish finds what the own organisation published, to replace or to withdraw it (DMP-14)."""
    caller = call.request.caller
    producer = None if caller.scopes.permits(_ANY_DOCUMENT) else caller.organisation
    return search(call, wired, kind, producer=producer)
