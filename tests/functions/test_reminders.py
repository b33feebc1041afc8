"""Reminders and sweeps by the function that the clock starts, after commands over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.remind.handler import handler
from passerelle import wiring
from passerelle.audit.ports import Span
from passerelle.fhir import json as fhir_json
from passerelle.prescriptions.reminders import time_of
from passerelle.records.model import ResourceKey
from tests.prescribing import PHARMACY_A, region
from tests.prescribing_http import Api, parameters


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with region() as made:
        yield Api(made)


def run(*bodies: str) -> list[str]:
    """What the queue gives the function; the messages that have to come again."""
    records = [
        {
            "messageId": str(number),
            "receiptHandle": "r",
            "body": body,
            "attributes": {},
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-west-3:000000000000:reminders",
            "awsRegion": "eu-west-3",
        }
        for number, body in enumerate(bodies)
    ]
    return [each["itemIdentifier"] for each in handler({"Records": records}, None)["batchItemFailures"]]


def wake(api: Api, id: str) -> datetime:
    hour = api.region.stored(id).group.wakes_at
    assert hour is not None
    return time_of(hour)


def at(time: datetime) -> str:
    """The message of EventBridge Scheduler for this time."""
    return json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ")})


def outbox() -> list[dict[str, Any]]:
    table = wiring.table_names().clinical
    items = wiring.aws("dynamodb").scan(TableName=table)["Items"]
    return [
        {name: next(iter(value.values())) for name, value in event["M"].items()}
        for item in items
        if item["PK"]["S"].startswith("O#")
        for event in item["events"]["L"]
    ]


def messages() -> list[dict[str, Any]]:
    """What the events announce, read from the record."""
    found = []
    for reference in sorted({each["reference"] for each in outbox() if each["name"] == "reminder-due"}):
        key = ResourceKey.of(*reference.split("/"))
        stored = wiring.record_store().find_latest(key) if key else None
        assert stored is not None
        found.append(fhir_json.loads(stored.body or b""))
    return found


def kinds(id: str) -> list[str]:
    """The categories of what was said about a prescription."""
    about = f"Task/{id}-01"
    mine = [each for each in messages() if {"reference": about} in each["about"]]
    return [category["coding"][0]["code"] for each in mine for category in each["category"]]


def test_ready_to_collect_is_told_once_and_ends_when_it_is_given_back(api: Api) -> None:
    """Section 14: ready-to-collect; ending in the transaction of the command."""
    id, code = api.issued()
    secret = api.call(f"/Task/{id}/$accept", parameters(accessCode=code), by=PHARMACY_A).told("secret")
    ready = parameters(secret=secret, reason="ready-to-collect")
    assert api.call(f"/Task/{id}-01/$extend-lease", ready, by=PHARMACY_A).status == 200
    hour = wake(api, id)
    assert hour - datetime.now(UTC) <= timedelta(hours=13)
    before = api.read(f"/Task/{id}").body["meta"]
    for _ in range(2):
        assert run(at(hour)) == []
    assert kinds(id) == ["ready-to-collect"]
    assert api.read(f"/Task/{id}").body["meta"] == before
    assert wake(api, id) > hour + timedelta(hours=40), "uncollected, after 48 hours"
    given_back = parameters(secret=secret, reason="patient-did-not-come")
    assert api.call(f"/Task/{id}-01/$reject", given_back, by=PHARMACY_A).status == 200
    assert wake(api, id) > hour + timedelta(days=14), "the end of its validity is what comes next"


def test_a_reminder_tells_no_more_than_it_has_to(api: Api) -> None:
    assert messages()
    for message in messages():
        assert "EXEMPLINE" not in fhir_json.dumps(message).decode()
    for event in outbox():
        assert event.keys() <= {"id", "name", "reference", "version", "at", "author", "patient", "occurrence"}


def test_a_reminder_is_in_the_access_log_of_the_patient(api: Api) -> None:
    now = datetime.now(UTC)
    span = Span(since=now - timedelta(days=1), until=now + timedelta(days=30))
    records = wiring.trail().of_patients([api.region.patient], span)
    assert {each.role for each in records if each.name == "remind"} == {"system"}


def test_a_lapsed_lease_is_stored_and_no_answer_changes(api: Api) -> None:
    """Row sweep-lease: C to R; the claim ends as lapsed."""
    id, code = api.issued()
    assert api.call(f"/Task/{id}/$accept", parameters(accessCode=code), by=PHARMACY_A).status == 200
    run(at(wake(api, id)))
    assert api.region.stored(id).lines[0].state == "R"
    assert api.read(f"/Task/{id}-01").body["businessStatus"]["coding"][0]["code"] == "held-any"


def test_a_cancellation_that_waited_for_the_lease_is_final_and_told(api: Api) -> None:
    """Rows cancel-prescriber (C to Q) and sweep-lease (Q to K); section 15."""
    id, code = api.issued()
    assert api.call(f"/Task/{id}/$accept", parameters(accessCode=code), by=PHARMACY_A).status == 200
    assert api.call(f"/Task/{id}/$cancel", parameters(reason="prescribing-error")).status == 202
    first, lease_until = wake(api, id), api.region.stored(id).lines[0].lease_until
    run(at(first))
    assert "cancelled" in kinds(id), "the holder at once, even while the patient is left in peace"
    while api.region.stored(id).group.wakes_at is not None:
        run(at(wake(api, id)))
    assert api.region.stored(id).lines[0].state == "K"
    # In the evening the first hour of reminders comes when nobody holds the line any more.
    is_held_by_then = first.timestamp() * 1000 <= lease_until
    assert kinds(id) == ["cancelled"] * (3 if is_held_by_then else 2)


def test_by_night_and_for_what_is_no_time(api: Api) -> None:
    night = datetime(2100, 1, 4, 2, tzinfo=UTC)
    assert run(at(night)) == []
    assert run(at(night), "soon") == ["1"], "and comes to the dead letters in the end"
