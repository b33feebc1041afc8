"""Wake-ups on DynamoDB: those of an hour, who attends to them, and a patient left in peace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from passerelle import wiring
from passerelle.access import Touched
from passerelle.audit.model import audit_of
from passerelle.aws.dynamodb import measure
from passerelle.aws.prescriptions import DynamoWakes
from passerelle.journal import Change
from passerelle.prescriptions import reminders
from passerelle.prescriptions.model import (
    Attended,
    Group,
    PausedError,
    Prescription,
    PrescriptionCreated,
    PrescriptionMovedError,
    Told,
    WakeChange,
)
from tests.prescribing import (
    AT,
    GROUP,
    LINE,
    PHARMACY_A,
    PHARMACY_B,
    PRACTICE,
    Region,
    medication_request,
    region,
    request,
)

HOUR, LATER = "2026-03-09T10", "2026-03-09T12"


@pytest.fixture(scope="module")
def there() -> Iterator[Region]:
    with region() as made:
        yield made


@pytest.fixture
def wakes(there: Region) -> DynamoWakes:
    return DynamoWakes(wiring.dynamodb(), wiring.table_names())


def commit(there: Region, *changes: Change) -> None:
    wiring.journal().commit([*changes, *audit_of(request(PRACTICE, "remind"), Touched.of([there.patient]))])


def created(there: Region, end: str, hour: str | None = HOUR) -> Group:
    id = f"{there.patient}-{GROUP.id.partition('-')[2][:-1]}{end}"
    group = replace(GROUP, id=id, patient=there.patient, number=f"{GROUP.number[:-1]}{end}", wakes_at=hour)
    commit(there, PrescriptionCreated(prescription=Prescription(group=group, lines=(LINE,))))
    return group


def test_a_wake_up_comes_with_the_prescription_and_moves(there: Region, wakes: DynamoWakes) -> None:
    groups = [created(there, end) for end in "abcdefgh"]
    assert sorted(wakes.due(HOUR)) == sorted(group.id for group in groups), "from every shard"
    commit(there, WakeChange(prescription=groups[0].id, before=HOUR, after=LATER))
    commit(there, WakeChange(prescription=groups[1].id, before=HOUR, after=None))
    assert list(wakes.due(LATER)) == [groups[0].id]
    assert len(wakes.due(HOUR)) == 6
    wakes.drop(groups[2].id, HOUR)
    wakes.drop(groups[2].id, HOUR)
    assert len(wakes.due(HOUR)) == 5


def test_how_far_it_came(wakes: DynamoWakes) -> None:
    wakes.reach(HOUR)
    wakes.reach(LATER)
    assert wakes.reached() == LATER


def test_one_attends_and_the_history_stays(there: Region) -> None:
    group = created(there, "j")
    after = replace(group, wakes_at=LATER, patient_reminded_until=HOUR)
    commit(there, Attended(before=group, after=after))
    found = wiring.prescription_store().find(group.id)
    assert found is not None
    assert found.group == after
    for stale in (group, replace(after, head="0" * 64)):
        with pytest.raises(PrescriptionMovedError):
            commit(there, Attended(before=stale, after=replace(stale, patient_reminded_until=LATER)))


@pytest.mark.parametrize("seconds", [0, 1, 7199])
def test_a_patient_is_left_in_peace_about_a_pharmacy(there: Region, seconds: int) -> None:
    """Section 14: 2 h pause per patient and pharmacy."""
    now = int(AT.timestamp()) + seconds * 100_000
    told = Told(patient=there.patient, pharmacy=PHARMACY_A.organisation, now=now, until=now + 7200)
    commit(there, told)
    with pytest.raises(PausedError) as paused:
        commit(there, replace(told, now=now + seconds, until=now + seconds + 7200))
    assert paused.value.until == now + 7200
    commit(there, replace(told, pharmacy=PHARMACY_B.organisation), replace(told, pharmacy=None))
    commit(there, replace(told, now=now + 7200, until=now + 14_400))


def test_neither_patient_nor_pharmacy_is_named_by_a_key(there: Region) -> None:
    names = wiring.table_names()
    items = wiring.aws("dynamodb").scan(TableName=names.clinical)["Items"]
    keys = [item["PK"]["S"] for item in items if item["PK"]["S"].startswith("TOLD#")]
    assert keys
    assert not [key for key in keys if there.patient in key or PHARMACY_A.organisation in key]


def test_twenty_lines_end_in_one_transaction(there: Region, wakes: DynamoWakes) -> None:
    """Contract, section 8: 20 lines fit; with what patient and prescriber are told of it."""
    id, _ = there.issued(*(medication_request(there.patient) for _ in range(20)))
    hour = there.stored(id).group.wakes_at
    assert hour is not None
    at = datetime(2026, 6, 2, 7, 30, tzinfo=UTC)
    with measure() as spent:
        wiring.remind().sweeping.attend(id, hour, at)
    assert {line.state for line in there.stored(id).lines} == {"X"}
    assert spent.calls.count("TransactWriteItems") == 1
    assert spent.round_trips == 2, "one read, one transaction"
    assert not [call for call in spent.calls if call.startswith(("Put", "Update"))]


def test_a_whole_run_and_a_second_one_that_finds_nothing(there: Region, wakes: DynamoWakes) -> None:
    """A draft that nobody signed, through the service that the function has."""
    made = there.create(at=AT)
    id = made.prescription.group.id
    at = AT + reminders.DRAFT_KEPT + timedelta(hours=1)
    assert made.prescription.group.wakes_at is not None
    wakes.reach(made.prescription.group.wakes_at)
    sweeping = wiring.remind().sweeping
    assert sweeping.run(at) >= 1
    assert there.stored(id).lines[0].state == "E"
    assert there.stored(id).group.wakes_at is None
    assert sweeping.run(at) == 0
    events = wiring.prescription_store().find_with_history(id)
    assert events is not None
    assert [each.operation for each in events[1]] == ["$create", "sweep"]
