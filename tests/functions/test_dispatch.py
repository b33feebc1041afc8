"""Messages of the queue `events` to orders of delivery, and what that costs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from functions.dispatch.handler import handler
from passerelle import wiring
from passerelle.access import Caller, Scopes, Touched
from passerelle.audit.model import audit_of
from passerelle.aws.dynamodb import Meter, measure, put
from passerelle.aws.journal import actions_of, event_to_map
from passerelle.directory.model import Role
from passerelle.events import Event, EventName
from passerelle.identifiers import new_patient_key, new_ulid
from passerelle.notifications.model import (
    Content,
    Filter,
    Interest,
    Subscription,
    SubscriptionCreation,
    SubscriptionStatus,
)
from passerelle.patients.model import PersonChange
from tests.notifications import notifications_on_moto, register
from tests.people import person_of
from tests.sources import request as request_of

SCOPES = Scopes.parse("system/Subscription.crd system/Organization.rs")
OWNER = Caller(client_id="practice", organisation="1", role=Role.PRACTICE, scopes=SCOPES, token_id="t")
NOW = datetime.now(UTC)


def subscribe(name: str, topic: str = "anything-changed") -> None:
    """A practice's subscription to everything, of everybody."""
    subscription = Subscription(
        id=name,
        version=1,
        at=NOW,
        status=SubscriptionStatus.ACTIVE,
        interest=Interest(subscription=name, owner=OWNER, topic=topic, filter=Filter(), since=NOW),
        endpoint="https://hooks.example/",
        headers=(),
        content=Content.ID_ONLY,
        secret="s",
        base_url="https://api.example/fhir",
        delivered=0,
        body=b"{}",
    )
    wiring.dynamodb().transact(actions_of(SubscriptionCreation(subscription=subscription), wiring.table_names()))


@pytest.fixture
def queue() -> Iterator[Any]:
    """The queue of deliveries, with one subscription to everything."""
    with notifications_on_moto() as sqs:
        register("practice", str(SCOPES))
        subscribe("sub")
        url = wiring.environment().deliveries_queue_url
        yield lambda: [
            (json.loads(message["Body"]), message["Attributes"])
            for message in sqs.receive_message(QueueUrl=url, AttributeNames=["All"]).get("Messages", [])
        ]


def message(name: str, version: int, body: str | None = None) -> dict[str, Any]:
    event = Event(
        name=EventName.RECORD_CHANGED,
        reference="Organization/01hr0000000000000000000000",
        version=version,
        at=NOW,
        author="hospital-a",
    )
    envelope = {"source": "passerelle", "detail-type": event.name, "detail": event_to_map(event)}
    return {
        "messageId": name,
        "body": json.dumps(envelope) if body is None else body,
        "eventSource": "aws:sqs",
    }


def test_an_event_becomes_an_order_once(queue: Any) -> None:
    answer = handler({"Records": [message("a", 1), message("b", 1)]}, None)
    assert answer == {"batchItemFailures": []}
    ((order, attributes),) = queue()
    assert order == {"subscription": "sub"}
    assert attributes["MessageGroupId"] == "sub"
    assert attributes["MessageDeduplicationId"] == "sub#0"


def test_only_what_failed_comes_again(queue: Any) -> None:
    answer = handler({"Records": [message("a", 1), message("b", 2, body="not json"), message("c", 3)]}, None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "b"}]}
    assert [entry.number for entry in wiring.notification_ports().log.between("sub", 1, 9)] == [1, 2]


# --- what it costs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def stay() -> Iterator[Event]:
    """An admission of somebody who takes part in no subscription."""
    with notifications_on_moto():
        key = new_patient_key()
        wiring.journal().commit(
            [PersonChange(before=None, after=person_of(key)), *audit_of(request_of(OWNER), Touched.of([key]))]
        )
        wiring.reset()
        register("practice", str(SCOPES))
        yield Event(
            name=EventName.RECORD_CHANGED,
            reference=f"Encounter/{key}-{new_ulid(NOW)}",
            version=2,
            at=NOW,
            author="hospital-a",
            patient=key,
        )


def dispatched(event: Event) -> Meter:
    envelope = {"source": "passerelle", "detail-type": event.name, "detail": event_to_map(event)}
    record = {"messageId": "m", "body": json.dumps(envelope), "eventSource": "aws:sqs"}
    with measure() as meter:
        assert handler({"Records": [record]}, None) == {"batchItemFailures": []}
    return meter


def test_an_event_that_nobody_waits_for(stay: Event) -> None:
    """Whose it is, then who waits for each of its three topics, naming the patient or nobody: two round trips."""
    dispatched(stay)  # the index secret is read once per process
    meter = dispatched(stay)
    assert sorted(meter.calls) == ["GetItem"] + ["Query"] * 6
    assert meter.round_trips == 2


def test_strangers_who_wait_for_everything_cost_one_read_together(stay: Event) -> None:
    """Whose house the record is of is read once for all; their clients and what is hidden from them, not at all."""
    for number in range(5):
        subscribe(f"sub{number}")
    dispatched(stay)
    meter = dispatched(stay)
    assert sorted(meter.calls) == ["BatchGetItem", "GetItem"] + ["Query"] * 6
    assert meter.round_trips == 3


def test_a_batch_reads_once_what_its_events_share(stay: Event) -> None:
    """Whose they are, and who waits: nine results of one person cost as much as one."""
    dispatched(stay)
    events = [replace(stay, version=version) for version in range(3, 12)]
    with measure() as meter:
        assert wiring.dispatch().dispatcher.dispatch(events, NOW) == {}
    assert sorted(meter.calls) == ["GetItem"] + ["Query"] * 6
    assert meter.round_trips == 2


def test_versions_that_come_together_are_numbered_in_their_order(queue: Any) -> None:
    records = [message(str(version), version) for version in (3, 1, 4, 2)]
    assert handler({"Records": records}, None) == {"batchItemFailures": []}
    found = wiring.notification_ports().log.between("sub", 1, 9)
    assert [(each.number, each.event.version) for each in found if each.event] == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_ten_events_of_one_subscription_are_one_transaction(queue: Any) -> None:
    """The subscriptions that asked; the client; the head, the numbers, how far it was told; one order."""
    handler({"Records": [message("first", 1)]}, None)
    with measure() as meter:
        handler({"Records": [message(str(version), version) for version in range(2, 12)]}, None)
    assert Counter(meter.calls) == {
        "Query": 2,
        "BatchGetItem": 1,
        "GetItem": 2,
        "TransactWriteItems": 1,
        "SendMessage": 1,
    }


def test_of_a_batch_that_was_numbered_in_part_each_event_keeps_its_number(queue: Any) -> None:
    handler({"Records": [message(str(version), version) for version in (1, 2, 3)]}, None)
    handler({"Records": [message(str(version), version) for version in (2, 5, 3, 4)]}, None)
    found = wiring.notification_ports().log.between("sub", 1, 9)
    assert [(each.number, each.event.version) for each in found if each.event] == [(n, n) for n in range(1, 6)]


def test_an_event_that_cannot_be_numbered_is_not_the_fault_of_those_beside_it(queue: Any) -> None:
    """Its own entry is taken by somebody who is not the log."""
    table = wiring.table_names().operations
    records = [message(str(version), version) for version in (1, 2)]
    wiring.dynamodb().write(put(table, {"PK": "N#sub", "SK": "#000000002"}))
    assert handler({"Records": records}, None) == {"batchItemFailures": [{"itemIdentifier": "2"}]}
    found = wiring.notification_ports().log.between("sub", 1, 1)
    assert [each.event.version for each in found if each.event] == [1]
