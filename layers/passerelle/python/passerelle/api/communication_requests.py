"""CommunicationRequest over HTTP: resources of the record, and events declared (ANS, Notification d'evenements).

Few are of the guide: what that takes is loaded with the first of them.
"""

from __future__ import annotations

from typing import Any, Final

from passerelle.api.app import Call, FhirApp, Reply
from passerelle.api.interactions import ALL, SERVED, serve

_MARK: Final = b"nde/StructureDefinition/event-type"
_BY_PATIENT: Final = frozenset({"patient", "subject", "_id", "identifier"})


def serve_communication_requests(app: FhirApp) -> None:
    """Declare the routes of CommunicationRequest."""
    serve(app, "CommunicationRequest", ALL, instead={"create": _create, "search-type": _search})


def _create(call: Call, wired: Any, kind: str) -> Reply:
    if _MARK not in call.body:
        return SERVED["create"](call, wired, kind)
    from passerelle.api.event_declarations import declare

    return declare(call, wired, kind)


def _search(call: Call, wired: Any, kind: str) -> Reply:
    """Without a patient, what was declared of late about the people that the caller subscribed to (NDE-9)."""
    names = {name.partition(":")[0].partition(".")[0] for name, _ in call.query}
    if "event-type" not in names or names & _BY_PATIENT:
        return SERVED["search-type"](call, wired, kind)
    from passerelle.api.event_declarations import declared_of_late

    return declared_of_late(call, wired)
