"""`Patient/{id}/$access-history`: the access log in plain words, for its patient, in French and in English.

As a Parameters resource, or as a page (`Accept: text/html`) that is complete in itself and fit to be printed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from passerelle.access import Permission
from passerelle.api.app import Call, FhirApp, Reply

if TYPE_CHECKING:
    from passerelle.api.chronicle import WiredHistory


def serve_access_history(app: FhirApp) -> None:
    """Declare the operation: whoever may search the log may have it told."""
    app.route(
        "GET",
        "/Patient/{id}/$access-history",
        name="$access-history",
        action="E",
        resource="Patient",
        permission=Permission(resource="AuditEvent", interaction="s", transactions=("ITI-81",)),
        raw=True,
    )(_history)


def _history(call: Call, wired: WiredHistory) -> Reply:
    from passerelle.api.chronicle import told  # words, a page and a time zone, for few of the requests of a function

    return told(call, wired)
