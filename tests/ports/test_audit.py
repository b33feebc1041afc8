"""The audit trail on DynamoDB."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import boto3
import pytest

from passerelle import wiring
from passerelle.access import Decision
from passerelle.audit.model import DEPOSIT, KEPT, AuditRecord
from passerelle.audit.ports import Reached, Span
from passerelle.aws.audit import DynamoAuditIndex, DynamoAuditTrail, record_from_item, record_to_item, streamed
from passerelle.aws.dynamodb import Meter, measure, to_attributes
from passerelle.errors import PasserelleError
from passerelle.identifiers import new_patient_key, new_ulid, time_of
from tests.registered import empty, services

AT = datetime(2026, 1, 14, 9, 30, 0, 123000, tzinfo=UTC)
PATIENT, OTHER = "7q2k9c4m1xw8z0ab", "8q2k9c4m1xw8z0ab"
ULID = "01kexxebhvsct4yjnfsqqbvj7x"  # of a moment that no record of these tests has


def record(at: datetime = AT, patient: str | None = PATIENT, **changes: Any) -> AuditRecord:
    ulid = new_ulid(at)
    made = AuditRecord(
        id=f"{patient}-{ulid}" if patient else ulid,
        at=at,
        name="read",
        action="R",
        outcome="0",
        client_id="hospital-a",
        organisation="1754567860",
        role="hospital",
        token_id="token",
        request_id="request",
        patient=patient,
    )
    return replace(made, **changes)


@pytest.fixture(scope="module", autouse=True)
def _services() -> Iterator[None]:
    with services():
        yield


@pytest.fixture
def trail() -> DynamoAuditTrail:
    empty(wiring.table_names().audit)
    return wiring.trail()


def written(meter: Meter) -> list[str]:
    """The calls that write: the data key of a record is read the first time."""
    return [call for call in meter.calls if call != "GetItem"]


def accesses(trail: DynamoAuditTrail, since: datetime, until: datetime, limit: int = 50) -> list[AuditRecord]:
    return list(islice(trail.of_patients([PATIENT], Span(since=since, until=until)), limit))


@pytest.mark.parametrize(
    "made",
    [
        record(),
        record(patient=None),
        replace(
            record(),
            professional="810003461033",
            references=("Observation/x", "Observation/y"),
            query="Observation?code=1",
            reason="forbidden",
            purpose="ETREAT",
            digests=(("Binary/x", "bQ=="),),
            user_name="Jeanne Durand",
            profession="10",
            person="urn:oid:1.2|3",
            token_tail="abc",
            external_id="trace-7",
            address="192.0.2.7",
            recipient="a colleague",
            decision=Decision(
                is_permitted=True, rule="relation", facts={"role": "hospital", "is_own": False}, rules="1"
            ),
            deposit='{"resourceType":"AuditEvent"}',
        ),
        record(patient=None, client_id="", organisation="", role="", token_id=""),
    ],
    ids=["patient", "no-patient", "everything", "nobody"],
)
def test_a_record_comes_back_as_it_was(made: AuditRecord) -> None:
    assert record_from_item(record_to_item(made, wiring.table_names()), wiring.table_names()) == made


@pytest.mark.parametrize("patient", [PATIENT, None])
def test_a_record_is_found_by_its_id(trail: DynamoAuditTrail, patient: str | None) -> None:
    made = record(patient=patient)
    trail.append([made])
    assert trail.find(made.id) == made


@pytest.mark.parametrize(
    "record_id",
    ["", "x", f"{PATIENT}-{ULID}", ULID, "z" * 26, f"{PATIENT}-{'z' * 26}", "a/b", "é"],
)
def test_an_id_that_no_record_has_finds_nothing(trail: DynamoAuditTrail, record_id: str) -> None:
    assert trail.find(record_id) is None


def test_a_log_is_newest_first_over_months_and_of_one_patient(trail: DynamoAuditTrail) -> None:
    days = [AT - timedelta(days=days) for days in (0, 1, 40, 41, 100)]
    mine = [record(at=day) for day in days]
    trail.append([*mine, record(patient=OTHER), record(patient=None)])
    assert accesses(trail, AT - timedelta(days=99), AT + timedelta(seconds=1)) == mine[:4]
    assert accesses(trail, AT - timedelta(days=200), AT - timedelta(days=1)) == mine[2:]
    assert accesses(trail, AT - timedelta(days=200), AT + timedelta(seconds=1), limit=3) == mine[:3]


def test_a_period_takes_its_start_and_leaves_its_end(trail: DynamoAuditTrail) -> None:
    moments = [AT, AT + timedelta(microseconds=400), AT + timedelta(milliseconds=1)]
    trail.append([record(at=moment) for moment in moments])
    found = accesses(trail, AT, AT + timedelta(milliseconds=1))
    assert sorted(each.at for each in found) == moments[:2]


def test_the_logs_of_several_source_records_are_one(trail: DynamoAuditTrail) -> None:
    moments = [AT + timedelta(minutes=minute) for minute in range(6)]
    made = [record(at=at, patient=(PATIENT, OTHER)[number % 2]) for number, at in enumerate(moments)]
    trail.append(made)
    span = Span(since=AT, until=AT + timedelta(hours=1))
    assert list(trail.of_patients([PATIENT, OTHER], span)) == made[::-1]
    below = replace(span, before=made[3].ulid)
    assert list(trail.of_patients([PATIENT, OTHER], below)) == made[3::-1]


def test_a_page_is_read_when_it_is_asked_for(trail: DynamoAuditTrail) -> None:
    trail.append([record(at=AT + timedelta(seconds=second)) for second in range(30)])
    with measure() as meter:
        found = trail.of_patients([PATIENT], Span(since=AT, until=AT + timedelta(minutes=1), page=5))
        assert len(list(islice(found, 5))) == 5
    assert meter.calls == ["Query"]


def test_many_records_of_one_request_are_all_stored(trail: DynamoAuditTrail) -> None:
    made = [record(patient=new_patient_key()) for _ in range(130)]
    with measure() as meter:
        trail.append(made)
    assert written(meter) == ["TransactWriteItems"] * 2
    assert all(trail.find(each.id) == each for each in made)


def test_one_record_is_one_put_and_none_is_nothing(trail: DynamoAuditTrail) -> None:
    with measure() as meter:
        trail.append([record()])
        trail.append([])
    assert (written(meter), meter.write_units) == (["PutItem"], 1)


def test_a_month_without_accesses_costs_one_query(trail: DynamoAuditTrail) -> None:
    with measure() as meter:
        accesses(trail, datetime(2025, 12, 31, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
    assert meter.calls == ["Query"] * 3


def test_a_record_expires_after_thirteen_months(trail: DynamoAuditTrail) -> None:
    trail.append([record()])
    (item,) = boto3.client("dynamodb").scan(TableName=wiring.table_names().audit)["Items"]
    assert int(item["ttl"]["N"]) == int((AT + KEPT).timestamp())
    assert datetime(2027, 2, 14, 9, 30, tzinfo=UTC) <= AT + KEPT


def test_a_commit_stores_its_audit_records(trail: DynamoAuditTrail) -> None:
    made = record()
    wiring.journal().commit([made])
    assert trail.find(made.id) == made


def test_a_trail_that_cannot_store_says_so() -> None:
    trail = DynamoAuditTrail(wiring.dynamodb(), replace(wiring.table_names(), audit="absent"))
    with pytest.raises(PasserelleError):
        trail.append([record()])
    with pytest.raises(PasserelleError):
        trail.append([record(), record()])


def test_the_time_in_an_id_is_exact_to_the_millisecond() -> None:
    for milliseconds in range(1000):
        at = AT + timedelta(milliseconds=milliseconds)
        assert time_of(new_ulid(at)) == at


# --- by who acted, and by when ------------------------------------------------------------------------------------


@pytest.fixture
def index(trail: DynamoAuditTrail) -> DynamoAuditIndex:
    return wiring.audit_index()


def indexed(index: DynamoAuditIndex, trail: DynamoAuditTrail, made: list[AuditRecord]) -> None:
    """Store records, and index them as their stream would, some of it twice."""
    trail.append(made)
    for each in [*made, *made[:3]]:
        index.add(streamed(to_attributes(record_to_item(each, wiring.table_names()))))


def found(records: Iterable[AuditRecord | Reached]) -> list[AuditRecord]:
    return [each for each in records if isinstance(each, AuditRecord)]


def test_what_a_professional_did_is_found_without_reading_what_others_did(
    trail: DynamoAuditTrail, index: DynamoAuditIndex
) -> None:
    at = [AT + timedelta(days=day) for day in range(-40, 0, 4)]
    mine = [record(at=each, patient=new_patient_key(), professional="810003461033") for each in at]
    others = [record(at=each, patient=new_patient_key(), professional="810009999999") for each in at]
    indexed(index, trail, [*mine, *others, record(patient=None)])
    span = Span(since=AT - timedelta(days=30), until=AT)
    with measure() as meter:
        assert (
            found(index.of_professional("810003461033", span)) == [each for each in mine if each.at >= span.since][::-1]
        )
    assert (meter.calls.count("Query"), meter.calls.count("BatchGetItem")) == (2, 2)  # one each for two months


def test_everybody_is_found_by_the_hour_newest_first(trail: DynamoAuditTrail, index: DynamoAuditIndex) -> None:
    made = [record(at=AT + timedelta(minutes=7 * n), patient=new_patient_key() if n % 3 else None) for n in range(30)]
    indexed(index, trail, made)
    span = Span(since=AT + timedelta(minutes=10), until=AT + timedelta(hours=3), page=4)
    expected = [each for each in made if span.since <= each.at < span.until][::-1]
    assert found(index.of_everybody(span)) == expected
    assert found(index.of_everybody(replace(span, before=expected[5].ulid))) == expected[5:]
    reached = [each.ulid for each in index.of_everybody(span) if isinstance(each, Reached)]
    assert [time_of(each).hour for each in reached] == [12, 11, 10, 9]


def test_a_deposit_is_nothing_that_its_depositor_did_here(trail: DynamoAuditTrail, index: DynamoAuditIndex) -> None:
    made = record(name=DEPOSIT, professional="810003461033", deposit="{}")
    indexed(index, trail, [made])
    span = Span(since=AT, until=AT + timedelta(minutes=1))
    assert found(index.of_professional("810003461033", span)) == []
    assert found(index.of_everybody(span)) == [made]


def test_an_entry_tells_nobody_who_acted(trail: DynamoAuditTrail, index: DynamoAuditIndex) -> None:
    indexed(index, trail, [record(professional="810003461033")])
    items = boto3.client("dynamodb").scan(TableName=wiring.table_names().audit)["Items"]
    entries = [item for item in items if item["PK"]["S"].startswith("I#")]
    assert len(entries) == 2
    assert "810003461033" not in str(entries)
    assert {item["ttl"]["N"] for item in items} == {str(int((AT + KEPT).timestamp()))}
