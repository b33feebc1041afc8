"""Messages of the queue `events` to orders of delivery."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from functions.dispatch.handler import handler
from passerelle import wiring
from passerelle.access import Caller, Scopes
from passerelle.aws.journal import actions_of, event_to_map
from passerelle.directory.model import Role
from passerelle.events import Event, EventName
from passerelle.notifications.model import (
    Content,
    Filter,
    Interest,
    Subscription,
    SubscriptionCreation,
    SubscriptionStatus,
)
from tests.notifications import notifications_on_moto, register

SCOPES = Scopes.parse("system/Subscription.crd system/Organization.rs")
OWNER = Caller(client_id="practice", organisation="1", role=Role.PRACTICE, scopes=SCOPES, token_id="t")
NOW = datetime.now(UTC)


@pytest.fixture
def queue() -> Iterator[Any]:
    """The queue of deliveries, with one subscription to everything."""
    with notifications_on_moto() as sqs:
        register("practice", str(SCOPES))
        interest = Interest(subscription="sub", owner=OWNER, topic="anything-changed", filter=Filter(), since=NOW)
        subscription = Subscription(
            id="sub",
            version=1,
            at=NOW,
            status=SubscriptionStatus.ACTIVE,
            interest=interest,
            endpoint="https://hooks.example/",
            headers=(),
            content=Content.ID_ONLY,
            secret="s",
            base_url="https://api.example/fhir",
            delivered=0,
            body=b"{}",
        )
        creation = SubscriptionCreation(subscription=subscription)
        wiring.dynamodb().transact(actions_of(creation, wiring.table_names()))
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
    assert order == {"subscription": "sub", "number": 1}
    assert attributes["MessageGroupId"] == "sub"
    assert attributes["MessageDeduplicationId"] == "sub#1"


def test_only_what_failed_comes_again(queue: Any) -> None:
    answer = handler({"Records": [message("a", 1), message("b", 2, body="not json"), message("c", 3)]}, None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "b"}]}
    assert [entry.number for entry in wiring.notification_ports().log.between("sub", 1, 9)] == [1, 2]
