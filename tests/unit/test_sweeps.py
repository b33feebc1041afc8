"""What the exchange does by itself: stores what is already true, tells who is to know, once, and by day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from passerelle.errors import Unavailable
from passerelle.events import EventName
from passerelle.fhir import json as fhir_json
from passerelle.fhir.prescriptions.reminders import FhirMessages
from passerelle.fhir.validation import validate
from passerelle.journal import Announcement, Change
from passerelle.prescriptions import reminders
from passerelle.prescriptions.model import ClaimRecord, Line, Prescription
from passerelle.prescriptions.numbers import digest
from passerelle.prescriptions.sweeping import Sweeping
from passerelle.prescriptions.transitions import STATES
from passerelle.prescriptions.workdays import PARIS
from tests.prescribing import (
    GROUP,
    LINE,
    PHARMACY_A,
    PHARMACY_B,
    MemoryExchange,
    Region,
    code_of,
    medication_request,
    refused,
    region_in_memory,
    request,
)

MONDAY = datetime(2026, 3, 2, 10, 30, tzinfo=PARIS)
NOON = datetime(2026, 3, 10, 12, 0, 0, 200, tzinfo=PARIS)
YESTERDAY, TOMORROW = NOON - timedelta(days=1), NOON + timedelta(days=1)


class Recording(MemoryExchange):
    """Keeps what is announced, and fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, str]] = []
        self.broken: set[str] = set()

    def commit(self, changes: Sequence[Change]) -> None:
        named = {getattr(each, "prescription", None) for each in changes}
        if self.broken & {each for each in named if isinstance(each, str)}:
            raise Unavailable("the table cannot be reached")
        super().commit(changes)
        told = [each for change in changes if isinstance(change, Announcement) for each in change.events]
        self.events += [(each.name, each.reference) for each in told]

    @property
    def messages(self) -> list[dict[str, Any]]:
        found = [each for key, each in self.versions.items() if key.type == "CommunicationRequest"]
        return [fhir_json.loads(each.body or b"") for each in found]


@dataclass
class World:
    region: Region
    store: Recording
    sweeping: Sweeping

    def put(self, *lines: Line, id: str = GROUP.id, at: datetime = MONDAY, **changes: Any) -> str:
        """A prescription as commands would have left it at `at`."""
        claims = changes.pop("claims", ())
        group = replace(GROUP, id=id, created_at=MONDAY.isoformat(), **changes)
        found = Prescription(group=group, lines=lines, claims=claims)
        group, _ = reminders.after(None, found, at)
        self.store.prescriptions[id] = replace(found, group=group)
        self.store.wakes |= {(group.wakes_at, id)} if group.wakes_at else set()
        return id

    def states(self, id: str = GROUP.id) -> str:
        return "".join(line.state for line in self.store.prescriptions[id].lines)

    def kinds(self) -> list[tuple[str, str]]:
        """Kind and recipient of every message, in order of time."""
        return [
            (
                category["coding"][0]["code"],
                message["recipient"][0].get("reference", "").split("/")[0] or "organisation",
            )
            for message in self.store.messages
            for category in message["category"]
        ]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("tests.prescribing.MemoryExchange", Recording)
    region = region_in_memory()
    store = region.store
    assert isinstance(store, Recording)
    store.hour = reminders.hour_of(MONDAY)
    return World(region, store, Sweeping(region.service, wakes=store, messages=FhirMessages()))


REQUEST = fhir_json.dumps(medication_request(GROUP.patient)).decode()


def line(state: str, *, lease: datetime | None = None, until: datetime = TOMORROW, **changes: Any) -> Line:
    """`lease` is when its claim ends, `until` a day on which it is not to be supplied any more."""
    is_known = STATES[state].kind != "draft"
    made = replace(
        LINE, state=state, request=REQUEST, request_version=int(is_known), expires_on=until.date(), **changes
    )
    if lease is None:
        return made
    milliseconds = int(lease.timestamp() * 1000)
    return replace(made, owner=PHARMACY_A.organisation, fence=1, secret_hash=digest("s"), lease_until=milliseconds)


# --- the two sweeps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "lease", "until", "after"),
    [
        ("C", YESTERDAY, TOMORROW, "R"),
        ("C", YESTERDAY, NOON, "X"),
        ("C", TOMORROW, NOON, "C"),  # a claim taken in time protects its line
        ("P", YESTERDAY, TOMORROW, "O"),
        ("P", YESTERDAY, NOON, "X"),
        ("P", TOMORROW, NOON, "P"),
        ("Q", YESTERDAY, TOMORROW, "K"),
        ("Q", YESTERDAY, NOON, "K"),
        ("Q", TOMORROW, NOON, "Q"),
        ("R", None, TOMORROW, "R"),
        ("R", None, NOON, "X"),
        ("O", None, NOON, "X"),
        ("W", None, NOON, "X"),
        *((state, None, NOON, state) for state in "FNKXE"),
    ],
)
def test_rows_sweep_lease_and_sweep_validity(
    world: World, state: str, lease: datetime | None, until: datetime, after: str
) -> None:
    """Section 6.3: what is stored is what was true before, so that no answer changes."""
    id = world.put(line(state, lease=lease, until=until))
    world.store.wakes = {(hour := reminders.hour_of(NOON), id)}
    found = world.store.prescriptions[id]
    world.store.prescriptions[id] = replace(found, group=replace(found.group, wakes_at=hour))

    def seen() -> str:
        """The effective state of the line, as every command sees it."""
        service, stored = world.region.service, world.store.prescriptions[id]
        situation = service.situation(request(PHARMACY_A, "$accept", at=NOON), stored, stored.lines[0], {})
        return service.effective(situation)

    before = seen()
    world.sweeping.run(NOON)
    assert world.states() == after == before == seen()


@pytest.mark.parametrize(("created", "after"), [(NOON - timedelta(days=7, minutes=2), "E"), (NOON, "D")])
def test_a_draft_that_nobody_signs_is_given_up_after_a_week(world: World, created: datetime, after: str) -> None:
    """Section 6.3, sweep: validity, D."""
    id = world.put(replace(line("D"), expires_on=None))
    found = world.store.prescriptions[id]
    hour = reminders.hour_of(NOON)
    world.store.wakes = {(hour, id)}
    world.store.prescriptions[id] = replace(
        found, group=replace(found.group, created_at=created.isoformat(), wakes_at=hour)
    )
    world.sweeping.run(NOON)
    assert world.states() == after
    assert world.store.versions == {}, "a draft is no part of the record, and nobody waits for it"


def test_who_lost_the_lease_is_told_so_after_the_sweep_too(world: World) -> None:
    """Section 6.2: a secret of the caller's own lapsed claim gets RX-LEASE-LOST."""
    claim = ClaimRecord(line=1, fence=1, owner=PHARMACY_A.organisation, secret_hash=digest("s"), taken_at=1)
    id = world.put(line("C", lease=YESTERDAY), claims=(claim,))

    def answer() -> str:
        return code_of(refused(world.region.reject, id, "s", 1, at=NOON))

    before = answer()
    world.sweeping.run(NOON)
    assert world.states() == "R"
    assert before == answer() == "RX-LEASE-LOST"


def test_a_sweep_is_in_the_history_and_its_events_are_told(world: World) -> None:
    id = world.put(line("C", lease=YESTERDAY), line("Q", lease=YESTERDAY, number=2), line("F", number=3))
    world.sweeping.run(NOON)
    assert world.states() == "RKF"
    (event,) = world.store.history[id]
    assert (event.operation, event.role, event.moves) == ("sweep", "system", ("1:C>R", "2:Q>K"))
    assert (EventName.PRESCRIPTION_CHANGED, f"Task/{id}") in world.store.events
    assert (EventName.RECORD_CHANGED, f"MedicationRequest/{LINE.request_id}") in world.store.events


@pytest.mark.parametrize(
    ("swept", "kind"), [(line("Q", lease=YESTERDAY), "cancelled"), (line("R", until=NOON), "expired")]
)
def test_the_prescriber_is_told_of_what_was_not_supplied(world: World, swept: Line, kind: str) -> None:
    """Section 15: the prescriber sees each step."""
    world.put(swept)
    world.sweeping.run(NOON)
    messages = [each for each in world.store.messages if "identifier" in each["recipient"][0]]
    (message,) = messages
    assert message["recipient"][0]["identifier"]["value"] == GROUP.practice
    assert message["category"][0]["coding"][0]["code"] == kind


# --- reminders ------------------------------------------------------------------------------------------------------


def test_a_message_is_valid_names_no_medicine_and_is_announced(world: World) -> None:
    id = world.put(line("R", until=datetime(2026, 3, 13, tzinfo=PARIS)))
    at = datetime(2026, 3, 10, 9, 0, 1, tzinfo=PARIS)
    before = world.store.prescriptions[id].group
    world.sweeping.run(at)
    (message,) = world.store.messages
    validate(message, expected_type="CommunicationRequest")
    assert message["recipient"] == [{"reference": f"Patient/{GROUP.patient}"}]
    assert message["about"] == [{"reference": f"Task/{id}-01"}]
    assert "EXEMPLINE" not in str(message)
    assert GROUP.number not in str(message)
    assert world.store.events == [(EventName.REMINDER_DUE, f"CommunicationRequest/{message['id']}")]
    after = world.store.prescriptions[id].group
    assert (after.head, after.version) == (before.head, before.version), "nothing of the prescription changed"


def test_the_same_run_again_says_nothing_twice(world: World) -> None:
    id = world.put(line("R", until=datetime(2026, 3, 13, tzinfo=PARIS)))
    at = datetime(2026, 3, 10, 9, 0, 1, tzinfo=PARIS)
    hour, before = reminders.hour_of(at), world.store.prescriptions[id]
    for _ in range(2):
        world.sweeping.run(at)
        world.store.hour = hour  # the run was killed before it could note how far it came
        world.store.wakes |= {(hour, id)}
    assert len(world.store.messages) == 1
    assert world.store.find(id) != before


def test_two_runs_at_the_same_time_say_it_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    id = world.put(line("R", until=datetime(2026, 3, 13, tzinfo=PARIS)))
    at = datetime(2026, 3, 10, 9, 0, 1, tzinfo=PARIS)
    stale = world.store.prescriptions[id]
    world.sweeping.attend(id, reminders.hour_of(at), at)
    commits = world.store.commits
    first = iter([stale])
    monkeypatch.setattr(world.store, "find", lambda id: next(first, world.store.prescriptions[id]))
    world.sweeping.attend(id, reminders.hour_of(at), at)
    assert world.store.commits == commits
    assert len(world.store.messages) == 1


def test_a_command_that_is_faster_takes_the_reminder_with_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 14: cancelling a line ends its pending reminders."""
    id = world.put(line("R", until=datetime(2026, 3, 13, tzinfo=PARIS)))
    at = datetime(2026, 3, 10, 9, 0, 1, tzinfo=PARIS)
    stale = world.store.prescriptions[id]
    world.region.cancel(id, at=at)
    first = iter([stale])
    monkeypatch.setattr(world.store, "find", lambda id: next(first, world.store.prescriptions[id]))
    world.sweeping.attend(id, reminders.hour_of(at), at)
    assert world.store.messages == []
    world.sweeping.run(at + timedelta(hours=1))
    assert world.kinds() == [("cancelled", "Patient")]


def test_a_late_run_catches_up_and_a_failure_keeps_nothing_else_waiting(world: World) -> None:
    other = GROUP.id[:-1] + "t"
    for id in (GROUP.id, other):
        world.put(line("C", lease=MONDAY + timedelta(hours=2), until=NOON + timedelta(days=60)), id=id)
    world.store.broken = {GROUP.id}
    with pytest.raises(Unavailable):
        world.sweeping.run(NOON)
    assert (world.states(GROUP.id), world.states(other)) == ("C", "R")
    assert world.store.hour == reminders.hour_of(MONDAY), "the next run begins where this one did"
    world.store.broken = set()
    world.sweeping.run(NOON + timedelta(hours=1))
    assert world.states(GROUP.id) == "R"
    assert world.store.hour == reminders.hour_of(NOON + timedelta(hours=1))
    assert not {hour for hour, _ in world.store.wakes if str(hour) <= reminders.hour_of(NOON)}


@pytest.mark.parametrize("hour", [21, 23, 0, 3, 7])
def test_by_night_nothing_happens(world: World, hour: int) -> None:
    """Section 14: quiet hours, however late a run is."""
    world.put(line("C", lease=MONDAY + timedelta(hours=2)))
    night = datetime(2026, 3, 11, hour, 0, 1, tzinfo=PARIS)
    assert world.sweeping.run(night) == 0
    assert world.states() == "C"
    assert world.store.hour == reminders.hour_of(MONDAY)


def test_the_first_run_that_fails_is_made_up_for(world: World) -> None:
    world.store.hour = None
    world.put(line("C", lease=MONDAY + timedelta(hours=2)))
    world.store.broken = {GROUP.id}
    with pytest.raises(Unavailable):
        world.sweeping.run(MONDAY + timedelta(hours=3))
    world.store.broken = set()
    world.sweeping.run(NOON)
    assert world.states() == "R"


def test_two_hours_of_peace_for_a_patient_and_a_pharmacy(world: World) -> None:
    """Section 14: 2 h pause per patient and pharmacy. What waits is said then, not forgotten."""
    until = datetime(2026, 3, 13, tzinfo=PARIS)
    ids = [GROUP.id[:-1] + end for end in "tvw"]
    for id in ids[:2]:
        world.put(line("R", until=until), id=id, routed_to=PHARMACY_A.organisation)
    world.put(line("R", until=until), id=ids[2], routed_to=PHARMACY_B.organisation)
    nine = datetime(2026, 3, 10, 9, 0, 1, tzinfo=PARIS)
    world.sweeping.run(nine)
    assert {each["about"][0]["reference"][5:-3] for each in world.store.messages} == {ids[0], ids[2]}
    world.sweeping.run(nine + timedelta(hours=1))
    assert len(world.store.messages) == 2
    for hours in (2, 3):
        world.sweeping.run(nine + timedelta(hours=hours))
    assert len(world.store.messages) == 3


def test_several_reasons_are_one_message(world: World) -> None:
    until = datetime(2026, 3, 13, tzinfo=PARIS)
    waiting = line("W", until=until, number=2, fill_no=2, fills=3, not_before=date(2026, 3, 10))
    world.put(line("R", until=until), waiting)
    world.sweeping.run(datetime(2026, 3, 10, 9, 0, 1, tzinfo=PARIS))
    (message,) = world.store.messages
    assert {each["coding"][0]["code"] for each in message["category"]} == {"expiring", "next-fill-due"}
    assert len(message["payload"]) == 2
    assert len(message["about"]) == 2


def test_the_wake_up_of_somebody_erased_is_forgotten(world: World) -> None:
    hour = reminders.hour_of(NOON)
    world.store.wakes = {(hour, GROUP.id)}
    assert world.sweeping.run(NOON) == 1
    assert world.store.wakes == set()
    assert world.store.commits == 0


def test_no_wake_up_is_ever_lost(world: World) -> None:
    """A year of hourly runs over a prescription that nobody touches: everything is said, and it ends."""
    world.put(line("W", until=datetime(2027, 2, 28, tzinfo=PARIS), fill_no=2, fills=3, not_before=date(2026, 12, 26)))
    at = datetime(2026, 3, 2, 11, 0, 1, tzinfo=PARIS).astimezone(UTC)
    while at < datetime(2027, 3, 5, tzinfo=UTC):
        world.sweeping.run(at)
        at += timedelta(hours=1)
    assert world.states() == "X"
    assert world.kinds() == [
        ("next-fill-due", "Patient"),  # Wednesday 23 December
        ("next-fill-due", "Patient"),  # Thursday 24: the 26th is a Saturday after Christmas
        ("expiring", "Patient"),  # Friday 12 February: 14 days before is a Sunday
        ("expiring", "Patient"),  # Thursday 25 February
        ("expired", "organisation"),
    ]
    days = [datetime.fromisoformat(each["authoredOn"]).astimezone(PARIS).date() for each in world.store.messages]
    assert [f"{day:%m-%d}" for day in days] == ["12-23", "12-24", "02-12", "02-25", "02-28"]
    assert world.store.wakes == set()
