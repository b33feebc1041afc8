"""The audit trail on DynamoDB."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from passerelle import wiring
from passerelle.audit.model import KEPT, AuditRecord
from passerelle.aws.audit import DynamoAuditTrail, record_from_item, record_to_item
from passerelle.aws.dynamodb import measure
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


def accesses(trail: DynamoAuditTrail, since: datetime, until: datetime, limit: int = 50) -> list[AuditRecord]:
    return list(trail.of_patient(PATIENT, since=since, until=until, limit=limit))


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
        ),
        record(patient=None, client_id="", organisation="", role="", token_id=""),
    ],
    ids=["patient", "no-patient", "everything", "nobody"],
)
def test_a_record_comes_back_as_it_was(made: AuditRecord) -> None:
    assert record_from_item(record_to_item(made)) == made


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


def test_records_that_do_not_match_do_not_count_for_the_limit(trail: DynamoAuditTrail) -> None:
    for second in range(0, 60, 3):
        at = AT + timedelta(seconds=second)
        trail.append([record(at=at), record(at=at + timedelta(seconds=1), client_id="laboratory")])
    found = trail.of_patient(
        PATIENT,
        since=AT,
        until=AT + timedelta(minutes=2),
        limit=15,
        matches=lambda each: each.client_id == "laboratory",
    )
    assert len(found) == 15
    assert {each.client_id for each in found} == {"laboratory"}


def test_many_records_of_one_request_are_all_stored(trail: DynamoAuditTrail) -> None:
    made = [record(patient=new_patient_key()) for _ in range(130)]
    with measure() as meter:
        trail.append(made)
    assert meter.calls == ["TransactWriteItems"] * 2
    assert all(trail.find(each.id) == each for each in made)


def test_one_record_is_one_put_and_none_is_nothing(trail: DynamoAuditTrail) -> None:
    with measure() as meter:
        trail.append([record()])
        trail.append([])
    assert (meter.calls, meter.write_units) == (["PutItem"], 1)


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
