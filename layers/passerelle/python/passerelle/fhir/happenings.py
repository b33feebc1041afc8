"""What became of a resource with one version: `notifications.ports.Turns`.

A happening is a turn that a subscriber may choose to be told of: that a stay began, that a result is final. It is read
off the version that an event names and the one before it, so that it is the same whenever it is asked for, and travels
with no event. The codes are those of `notifications/data/topics.json`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from passerelle.events import Event, EventName
from passerelle.fhir import json as fhir_json
from passerelle.notifications.model import Turn
from passerelle.prescriptions.model import HistoryEvent
from passerelle.records.model import ResourceKey
from passerelle.records.ports import RecordStore

Content = Mapping[str, Any]

_NOTHING: Final[Content] = {}
_ERROR: Final = "entered-in-error"
_READ_CATEGORIES: Final = frozenset({"laboratory", "imaging"})  # of Observations that are results
_RESULTS: Final = {  # by status
    "partial": "preliminary",
    "preliminary": "preliminary",
    "final": "final",
    "amended": "corrected",
    "corrected": "corrected",
    "appended": "corrected",
    "cancelled": "cancelled",
    _ERROR: "cancelled",
}
_STAYS: Final = {
    "planned": "planned",
    "in-progress": "admission",
    "onleave": "leave",
    "finished": "discharge",
    "cancelled": "cancelled",
    _ERROR: "cancelled",
}
_APPOINTMENTS: Final = {
    "proposed": "proposed",
    "pending": "proposed",
    "waitlist": "proposed",
    "booked": "booked",
    "arrived": "arrived",
    "checked-in": "arrived",
    "fulfilled": "fulfilled",
    "noshow": "noshow",
    "cancelled": "cancelled",
    _ERROR: "cancelled",
}
_ALERTS: Final = {
    "accepted": "acknowledged",
    "in-progress": "acknowledged",
    "completed": "closed",
    "cancelled": "closed",
    "rejected": "closed",
    "failed": "closed",
    _ERROR: "closed",
}
_LINES: Final = {  # by the state of a prescription's line that it moves to (prescriptions/data/transitions.json)
    "C": "accepted",
    "Q": "cancel-requested",
    "F": "completed",
    "N": "declined",
    "K": "cancelled",
    "X": "expired",
}
_ORDERS: Final = {"$activate": "activated", "$dispense": "dispensed", "$withdraw": "withdrawn"}
_AUTHORS: Final = ("author", "performer", "requester", "recorder", "asserter", "resultsInterpreter")


class RecordTurns:
    """`history` gives the events of a prescription, oldest first."""

    def __init__(self, store: RecordStore, *, history: Callable[[str], Sequence[HistoryEvent]]) -> None:
        self._store = store
        self._history = history

    def of(self, event: Event) -> Turn:
        kind, _, id = event.reference.partition("/")
        if event.name is EventName.PRESCRIPTION_CHANGED:
            return prescription_turn(self._history(id), event.version)
        key = ResourceKey.of(kind, id) or self._store.find_key(kind, id)
        if key is None:
            return Turn()
        wanted = [(key, version) for version in (event.version, event.version - 1) if version > 0]
        found = self._store.versions(wanted)
        if (key, event.version) not in found:
            return Turn()
        version, earlier = found[key, event.version], found.get((key, event.version - 1))
        before = _content(earlier.body if earlier is not None else None)
        after = _content(version.body)
        producer = version.producer or (earlier.producer if earlier is not None else None)
        houses = {producer} if producer else set(_domains(kind, after or before))
        return Turn(
            happenings=happenings(kind, before, after, has_occurred=event.occurrence is not None),
            authors=frozenset(_authors(after or before)),
            houses=frozenset(houses),
        )


def happenings(kind: str, before: Content, after: Content, *, has_occurred: bool = False) -> frozenset[str]:
    """The turns of a resource of this type; empty content: there was none before, or it is deleted.

    `has_occurred`: something happened to it that left its version as it was.
    """
    match kind:
        case "DiagnosticReport" | "Observation":
            found = _results(kind, before, after)
        case "Encounter":
            found = _stays(before, after)
        case "Appointment":
            found = _appointments(before, after)
        case "Consent":
            found = _consents(before, after)
        case "DocumentReference":
            found = ["published"] if has_occurred else _documents(before, after)
        case "Task":
            found = _alerts(before, after)
        case _:
            found = ()
    return frozenset(found)


def prescription_turn(events: Sequence[HistoryEvent], version: int) -> Turn:
    """What the version of a prescription came from: each has one event of the history."""
    houses = frozenset(each.organisation for each in events)
    own = next((each for each in events if each.number == version), None)
    if own is None:
        return Turn(houses=houses)
    return Turn(happenings=frozenset(_moves(own)), houses=houses)


def _moves(event: HistoryEvent) -> Iterator[str]:
    if event.number == 1:
        yield "created"
    if event.operation in _ORDERS:
        yield _ORDERS[event.operation]
    for move in event.moves:
        before, is_move, after = move.rpartition(":")[2].partition(">")
        if is_move and after in _LINES and before != after:
            yield _LINES[after]
        elif is_move and before in ("C", "P") and after in ("R", "O") and event.operation not in _ORDERS:
            yield "released"


def _results(kind: str, before: Content, after: Content) -> Iterable[str]:
    """A result that is read again under the same status was corrected: what it said is not what it says."""
    content = after or before
    if kind == "Observation" and _READ_CATEGORIES.isdisjoint(_codes(content.get("category"))):
        return ()
    known, said = _RESULTS.get(_status(before)), _RESULTS.get(_status(after))
    if not after:
        return ("cancelled",) if known else ()
    return (said,) if said and (said != known or said == "corrected") else ()


def _stays(before: Content, after: Content) -> Iterator[str]:
    known, said = _STAYS.get(_status(before)), _STAYS.get(_status(after) if after else _ERROR)
    if known == "leave" and said == "admission":
        return  # back from a leave: nobody was admitted
    if said and said != known:
        yield said
    elif said == "admission" and _places(before) != _places(after):
        yield "transfer"


def _places(content: Content) -> tuple[list[Any], Any]:
    """Where somebody is: the unit, and the places that are not left."""
    here = [
        (_named(each.get("location")), _named(each.get("physicalType")))
        for each in content.get("location", ())
        if each.get("status", "active") == "active" and "end" not in each.get("period", _NOTHING)
    ]
    return here, _named(content.get("serviceProvider"))


def _appointments(before: Content, after: Content) -> Iterator[str]:
    known, said = _APPOINTMENTS.get(_status(before)), _APPOINTMENTS.get(_status(after) if after else _ERROR)
    if said and said != known:
        yield said
    is_ahead = said in ("proposed", "booked")
    if before and is_ahead and any(before.get(each) != after.get(each) for each in ("start", "end")):
        yield "moved"


def _consents(before: Content, after: Content) -> Iterable[str]:
    was, holds = _status(before) == "active", _status(after) == "active"
    if was != holds:
        return ("given",) if holds else ("withdrawn",)
    return ("changed",) if holds else ()


def _documents(before: Content, after: Content) -> Iterable[str]:
    known, said = _status(before), _status(after) or _ERROR
    if not before:
        return ("published",) if after else ()
    if known == said:
        return ("changed",)
    return ({"superseded": "replaced", _ERROR: "withdrawn"}.get(said, "changed"),)


def _alerts(before: Content, after: Content) -> Iterable[str]:
    if not before:
        return ("raised",)
    known, said = _ALERTS.get(_status(before)), _ALERTS.get(_status(after) if after else _ERROR)
    if said is None:
        return ("escalated",)
    return (said,) if said != known else ()


def _authors(content: Content) -> Iterator[str]:
    """The references of those who made it, as it names them."""
    for name in _AUTHORS:
        value = content.get(name, [])
        for each in value if isinstance(value, list) else [value]:
            actor = each.get("actor", each)  # a performer may be one with a function
            if "reference" in actor:
                yield actor["reference"].partition("/_history/")[0]


def _domains(kind: str, content: Content) -> Iterator[str]:
    if kind == "Patient":
        yield from (each["system"] for each in content.get("identifier", ()) if "system" in each)


def _codes(concepts: Any) -> frozenset[str]:
    return frozenset(
        coding["code"] for concept in concepts or () for coding in concept.get("coding", ()) if "code" in coding
    )


def _named(reference: Any) -> str:
    """What a reference, or a concept, comes down to when two are compared."""
    return repr({name: value for name, value in (reference or _NOTHING).items() if name != "display"})


def _status(content: Content) -> str:
    return str(content.get("status", ""))


def _content(body: bytes | None) -> Content:
    read: Content = fhir_json.loads(body) if body is not None else _NOTHING
    return read
