"""Outbox items on the stream to the bus."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from functions.relay.handler import handler
from passerelle import wiring
from passerelle.aws.dynamodb import measure, to_attributes
from passerelle.aws.journal import event_to_map
from passerelle.events import Event, EventName
from tests.notifications import client, notifications_on_moto

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def record(sequence: int, *events: Event) -> dict[str, Any]:
    item = {"PK": "O#z9", "SK": f"{sequence}", "events": [event_to_map(event) for event in events], "ttl": 1}
    return {
        "eventName": "INSERT",
        "eventSource": "aws:dynamodb",
        "dynamodb": {"NewImage": to_attributes(item), "SequenceNumber": str(sequence)},
    }


def event(version: int) -> Event:
    return Event(
        name=EventName.RECORD_CHANGED,
        reference="Observation/7q2k9c4m1xw8z0ab-01hr0000000000000000000000",
        version=version,
        at=NOON,
        author="laboratory",
        patient="7q2k9c4m1xw8z0ab",
    )


def expired(sequence: int) -> dict[str, Any]:
    keys = to_attributes({"PK": "O#z9", "SK": "1"})
    return {"eventName": "REMOVE", "dynamodb": {"Keys": keys, "SequenceNumber": str(sequence)}}


def archived(name: str) -> int:
    return int(client("events").describe_archive(ArchiveName=name)["EventCount"])


def test_every_event_of_every_item_is_put_on_the_bus() -> None:
    with notifications_on_moto():
        bus = client("events")
        arn = bus.create_event_bus(Name="bus")["EventBusArn"]
        bus.create_archive(ArchiveName="all", EventSourceArn=arn, EventPattern='{"source":["passerelle"]}')
        many = [event(version) for version in range(1, 24)]
        with measure() as meter:
            answer = handler({"Records": [record(1, *many), expired(2), record(3, event(24))]}, None)
        assert answer == {"batchItemFailures": []}
        assert archived("all") == 24
        assert meter.calls == ["PutEvents"] * 4  # items share a call, if they fit


def test_events_of_many_commands_go_together() -> None:
    with notifications_on_moto():
        client("events").create_event_bus(Name="bus")
        handler({"Records": [record(1, event(1))]}, None)
        with measure() as meter:
            handler({"Records": [record(number, event(number)) for number in range(2, 52)]}, None)
        assert (meter.calls, meter.round_trips) == (["PutEvents"] * 5, 1)


def test_an_item_that_cannot_be_read_is_the_only_one_that_fails() -> None:
    with notifications_on_moto():
        bus = client("events")
        arn = bus.create_event_bus(Name="bus")["EventBusArn"]
        bus.create_archive(ArchiveName="all", EventSourceArn=arn, EventPattern='{"source":["passerelle"]}')
        broken = record(2, event(2))
        broken["dynamodb"]["NewImage"].pop("events")
        answer = handler({"Records": [record(1, event(1)), broken, record(3, event(3))]}, None)
        assert answer == {"batchItemFailures": [{"itemIdentifier": "2"}]}
        assert archived("all") == 2


def test_an_item_that_the_bus_did_not_take_comes_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with notifications_on_moto():
        monkeypatch.setenv("EVENT_BUS", "x" * 257)  # no bus can have this name
        wiring.reset()
        answer = handler({"Records": [record(1, event(1)), expired(2), record(3, event(2))]}, None)
        assert answer == {"batchItemFailures": [{"itemIdentifier": "1"}, {"itemIdentifier": "3"}]}
        logged = str([vars(record) for record in caplog.records])
        assert "ResourceNotFoundException" in logged
        assert "7q2k9c4m1xw8z0ab" not in logged
