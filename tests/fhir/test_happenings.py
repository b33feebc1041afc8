"""What a version makes of a resource: the turns that subscribers choose from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from passerelle.events import Event, EventName
from passerelle.fhir.happenings import RecordTurns, happenings, prescription_turn
from passerelle.notifications.model import Turn
from passerelle.notifications.topics import topics
from passerelle.prescriptions.model import HistoryEvent
from passerelle.records.model import ResourceKey, StoredVersion

KEY = "7q2k9c4m1xw8z0ab"
ID = f"{KEY}-01hr0000000000000000000000"
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOTHING: dict[str, Any] = {}


def laboratory(status: str) -> dict[str, Any]:
    return {"status": status, "category": [{"coding": [{"code": "laboratory"}]}]}


def stay(status: str, *places: str, **changed: Any) -> dict[str, Any]:
    return {"status": status, "location": [{"location": {"reference": each}} for each in places], **changed}


def left(place: str) -> dict[str, Any]:
    return {"location": {"reference": place}, "status": "completed"}


@pytest.mark.parametrize(
    ("kind", "before", "after", "expected"),
    [
        ("DiagnosticReport", NOTHING, {"status": "registered"}, set()),
        ("DiagnosticReport", {"status": "registered"}, {"status": "partial"}, {"preliminary"}),
        ("DiagnosticReport", {"status": "partial"}, {"status": "preliminary"}, set()),
        ("DiagnosticReport", {"status": "partial"}, {"status": "final"}, {"final"}),
        ("DiagnosticReport", {"status": "final"}, {"status": "final"}, set()),
        ("DiagnosticReport", {"status": "final"}, {"status": "amended"}, {"corrected"}),
        ("DiagnosticReport", {"status": "amended"}, {"status": "corrected"}, {"corrected"}),
        ("DiagnosticReport", {"status": "final"}, {"status": "entered-in-error"}, {"cancelled"}),
        ("DiagnosticReport", {"status": "final"}, NOTHING, {"cancelled"}),
        ("DiagnosticReport", {"status": "registered"}, NOTHING, set()),
        ("Observation", NOTHING, laboratory("final"), {"final"}),
        ("Observation", laboratory("final"), NOTHING, {"cancelled"}),
        ("Observation", NOTHING, {"status": "final"}, set()),  # of a device, of a questionnaire
        ("Encounter", NOTHING, stay("planned"), {"planned"}),
        ("Encounter", NOTHING, stay("in-progress", "Location/a"), {"admission"}),
        ("Encounter", stay("planned"), stay("in-progress", "Location/a"), {"admission"}),
        ("Encounter", stay("in-progress", "Location/a"), stay("in-progress", "Location/a", reason=1), set()),
        ("Encounter", stay("in-progress", "Location/a"), stay("in-progress", "Location/b"), {"transfer"}),
        (
            "Encounter",
            stay("in-progress", "Location/a"),
            {"status": "in-progress", "location": [left("Location/x"), {"location": {"reference": "Location/a"}}]},
            set(),  # a place of before was added
        ),
        ("Encounter", stay("in-progress"), stay("onleave"), {"leave"}),
        ("Encounter", stay("onleave"), stay("in-progress"), set()),
        ("Encounter", stay("in-progress"), stay("finished"), {"discharge"}),
        ("Encounter", stay("finished"), stay("finished"), set()),
        ("Encounter", stay("planned"), stay("cancelled"), {"cancelled"}),
        ("Encounter", stay("in-progress"), NOTHING, {"cancelled"}),
        ("Encounter", stay("arrived"), stay("triaged"), set()),
        ("Appointment", NOTHING, {"status": "booked", "start": "1"}, {"booked"}),
        ("Appointment", {"status": "booked", "start": "1"}, {"status": "booked", "start": "2"}, {"moved"}),
        ("Appointment", {"status": "pending", "start": "1"}, {"status": "booked", "start": "2"}, {"booked", "moved"}),
        ("Appointment", {"status": "booked", "start": "1"}, {"status": "noshow", "start": "1"}, {"noshow"}),
        ("Appointment", {"status": "booked", "start": "1"}, {"status": "cancelled"}, {"cancelled"}),
        ("Appointment", {"status": "booked"}, {"status": "booked", "comment": "x"}, set()),
        ("Appointment", {"status": "booked"}, NOTHING, {"cancelled"}),
        ("Consent", NOTHING, {"status": "active"}, {"given"}),
        ("Consent", {"status": "active"}, {"status": "active"}, {"changed"}),
        ("Consent", {"status": "active"}, {"status": "inactive"}, {"withdrawn"}),
        ("Consent", {"status": "active"}, NOTHING, {"withdrawn"}),
        ("Consent", NOTHING, {"status": "proposed"}, set()),
        ("DocumentReference", NOTHING, {"status": "current"}, {"published"}),
        ("DocumentReference", {"status": "current"}, {"status": "current"}, {"changed"}),
        ("DocumentReference", {"status": "current"}, {"status": "superseded"}, {"replaced"}),
        ("DocumentReference", {"status": "current"}, {"status": "entered-in-error"}, {"withdrawn"}),
        ("DocumentReference", {"status": "current"}, NOTHING, {"withdrawn"}),
        ("Task", NOTHING, {"status": "requested"}, {"raised"}),
        ("Task", {"status": "requested"}, {"status": "requested"}, {"escalated"}),
        ("Task", {"status": "requested"}, {"status": "accepted"}, {"acknowledged"}),
        ("Task", {"status": "accepted"}, {"status": "completed"}, {"closed"}),
        ("Condition", NOTHING, {"status": "x"}, set()),
    ],
)
def test_a_turn(kind: str, before: dict[str, Any], after: dict[str, Any], expected: set[str]) -> None:
    found = happenings(kind, before, after)
    assert found == expected
    offered = {each for topic in topics().values() if kind in topic.types for each in topic.happenings}
    assert found <= offered


def test_a_document_that_leaves_quarantine_is_published() -> None:
    content = {"status": "current"}
    assert happenings("DocumentReference", content, content, has_occurred=True) == {"published"}


# --- prescriptions ----------------------------------------------------------------------------------------------------


def moved(number: int, operation: str, *moves: str, by: str = "1") -> HistoryEvent:
    return HistoryEvent(
        prescription=ID,
        number=number,
        operation=operation,
        at=AT.isoformat(),
        organisation=by,
        professional=None,
        role="pharmacy",
        moves=moves,
        bound={},
        salt="",
        previous="",
        hash="",
    )


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (moved(1, "create"), {"created"}),
        (moved(2, "$activate", "01:D>R", "02:D>R"), {"activated"}),
        (moved(3, "$accept", "01:R>C"), {"accepted"}),
        (moved(4, "$dispense", "01:C>F"), {"dispensed", "completed"}),
        (moved(5, "$dispense", "01:C>W"), {"dispensed"}),
        (moved(6, "$decline", "01:C>R"), {"released"}),
        (moved(7, "$decline", "01:C>N"), {"declined"}),
        (moved(8, "$cancel", "01:R>K", "02:C>Q"), {"cancelled", "cancel-requested"}),
        (moved(9, "sweep-validity", "01:R>X"), {"expired"}),
        (moved(10, "$withdraw", "01:F>C"), {"withdrawn", "accepted"}),
        (moved(11, "$route", "routed"), set()),
    ],
)
def test_a_move_of_a_prescription(event: HistoryEvent, expected: set[str]) -> None:
    found = prescription_turn([event], event.number)
    assert found == Turn(happenings=frozenset(expected), houses=frozenset({"1"}))
    assert found.happenings <= topics()["prescription-changed"].happenings


def test_a_prescription_is_a_record_of_each_house_that_moved_it() -> None:
    history = [moved(1, "create", by="1"), moved(2, "$accept", "01:R>C", by="2")]
    assert prescription_turn(history, 1) == Turn(happenings=frozenset({"created"}), houses=frozenset({"1", "2"}))
    assert prescription_turn(history, 3) == Turn(houses=frozenset({"1", "2"}))


# --- what is read -----------------------------------------------------------------------------------------------------


class Store:
    """`RecordStore` of a few versions."""

    def __init__(self, *versions: tuple[ResourceKey, int, dict[str, Any] | None, str | None]) -> None:
        self._versions = {
            (key, number): StoredVersion(
                key=key,
                version=number,
                at=AT,
                body=json.dumps(content).encode() if content is not None else None,
                producer=producer,
            )
            for key, number, content, producer in versions
        }

    def versions(self, wanted: Sequence[tuple[ResourceKey, int]]) -> dict[tuple[ResourceKey, int], StoredVersion]:
        return {each: self._versions[each] for each in wanted if each in self._versions}


def turn_of(store: Any, reference: str, version: int) -> Turn:
    event = Event(
        name=EventName.RECORD_CHANGED, reference=reference, version=version, at=AT, author="hospital-a", patient=KEY
    )
    return RecordTurns(store, history=lambda _: ()).of(event)


def test_a_turn_is_that_of_its_version_and_not_of_the_newest() -> None:
    key = ResourceKey(type="Encounter", id=ID, patient=KEY)
    store = Store((key, 1, stay("planned"), "1"), (key, 2, stay("in-progress"), "1"), (key, 3, stay("finished"), "1"))
    found = [turn_of(store, key.reference, number) for number in (1, 2, 3, 4)]
    assert [set(each.happenings) for each in found] == [{"planned"}, {"admission"}, {"discharge"}, set()]
    assert [set(each.houses) for each in found] == [{"1"}, {"1"}, {"1"}, set()]


def test_a_deletion_is_a_turn_of_whose_it_was() -> None:
    key = ResourceKey(type="DiagnosticReport", id=ID, patient=KEY)
    report = {
        "resourceType": "DiagnosticReport",
        "status": "final",
        "performer": [{"reference": "Organization/o"}, {"display": "x"}],
        "resultsInterpreter": [{"reference": "Practitioner/p/_history/2"}],
    }
    store = Store((key, 1, report, "1"), (key, 2, None, None))
    assert turn_of(store, key.reference, 2) == Turn(
        happenings=frozenset({"cancelled"}),
        authors=frozenset({"Organization/o", "Practitioner/p"}),
        houses=frozenset({"1"}),
    )


def test_a_patient_is_a_record_of_the_domains_that_it_was_registered_in() -> None:
    key = ResourceKey(type="Patient", id=KEY, patient=KEY)
    store = Store((key, 1, {"resourceType": "Patient", "identifier": [{"system": "urn:oid:2.999.1"}]}, None))
    assert turn_of(store, key.reference, 1).houses == {"urn:oid:2.999.1"}
