"""What being told costs: calls to AWS, so that none comes back unnoticed (docs/notifications.md)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from functions.deliver.handler import handler as deliver
from functions.dispatch.handler import handler as dispatch
from passerelle import wiring
from passerelle.aws.journal import event_to_map
from passerelle.events import Event, EventName
from passerelle.fhir.subscription import BACKPORT
from tests.functions.test_subscriptions import PAUSE, Endpoint, Stack, endpoint, resource, stack

__all__ = ["endpoint", "stack"]  # fixtures


@contextmanager
def calls() -> Iterator[Counter[str]]:
    """The calls that are made meanwhile, by operation."""
    counted: Counter[str] = Counter()

    def count(model: Any, **_: Any) -> None:
        counted[model.name] += 1

    clients = [wiring.aws(each) for each in ("dynamodb", "sqs")]
    for each in clients:
        each.meta.events.register("before-call", count)
    try:
        yield counted
    finally:
        for each in clients:
            each.meta.events.unregister("before-call", count)


def happened(stack: Stack) -> dict[str, Any]:
    """An event, as dispatch gets it."""
    stack.versions += 1
    event = Event(
        name=EventName.RECORD_CHANGED,
        reference="Organization/01hr0000000000000000000000",
        version=stack.versions,
        at=datetime.now(UTC),
        author="hospital-a",
    )
    return {"Records": [{"messageId": "m", "body": json.dumps({"detail": event_to_map(event)})}]}


def received(stack: Stack) -> dict[str, Any]:
    (message,) = stack.sqs.receive_message(QueueUrl=stack.url, AttributeNames=["All"], VisibilityTimeout=600)[
        "Messages"
    ]
    names = {"messageId": "MessageId", "receiptHandle": "ReceiptHandle", "body": "Body", "attributes": "Attributes"}
    return {"Records": [{name: message[wire] for name, wire in names.items()}]}


def served(stack: Stack) -> Counter[str]:
    """What it costs to serve the next order."""
    records = received(stack)
    with calls() as counted:
        answer = deliver(records, None)
    if not answer["batchItemFailures"]:
        stack.sqs.delete_message(QueueUrl=stack.url, ReceiptHandle=records["Records"][0]["receiptHandle"])
    return counted


def subscribed(stack: Stack, url: str, **changes: Any) -> Counter[str]:
    with calls() as counted:
        status, body, _ = stack.call("POST", "/Subscription", resource(url, **changes))
    assert status == 201, body
    return counted


def dispatched(stack: Stack) -> Counter[str]:
    records = happened(stack)
    with calls() as counted:
        assert dispatch(records, None) == {"batchItemFailures": []}
    return counted


def test_what_each_step_costs(stack: Stack, endpoint: Endpoint) -> None:
    twenty = [{"url": BACKPORT + "backport-max-count", "valuePositiveInt": 20}]
    found = {"subscribe": subscribed(stack, endpoint.url, extension=twenty)}
    found["handshake"] = served(stack)
    found["dispatch"] = dispatched(stack)
    found["deliver one"] = served(stack)
    for _ in range(20):
        dispatched(stack)
    found["deliver twenty"] = served(stack)
    assert [len(json.loads(body)["entry"]) for _, body in endpoint.received] == [1, 2, 21]
    assert found == {
        # How many there are; the commit, its access record with it; the order of the handshake.
        "subscribe": {"Query": 1, "TransactWriteItems": 1, "SendMessage": 1},
        "handshake": {"GetItem": 3, "BatchGetItem": 1, "Query": 1, "UpdateItem": 1},
        # Who asked, by topic; the client; the head of the log and how far it was told; the number; the order.
        "dispatch": {"Query": 2, "BatchGetItem": 1, "GetItem": 2, "TransactWriteItems": 1, "SendMessage": 1},
        # The subscription and the breaker; the client; the log, until nothing is left; what was told; how far.
        "deliver one": {"GetItem": 2, "BatchGetItem": 1, "Query": 2, "PutItem": 1, "UpdateItem": 1},
        "deliver twenty": {"GetItem": 2, "BatchGetItem": 1, "Query": 2, "TransactWriteItems": 1, "UpdateItem": 1},
    }


def test_an_order_for_a_dead_subscriber_costs_little(stack: Stack, endpoint: Endpoint) -> None:
    """While the breaker of its origin is open: nobody is called, nothing is counted, nothing of the log is told."""
    subscribed(stack, endpoint.url)
    served(stack)
    endpoint.answers = [503]
    dispatched(stack)
    stack.pump(receives=4, waits=PAUSE)
    stack.pump(receives=1)
    found = served(stack)
    assert len(endpoint.received) == 1 + 5
    assert found == {"GetItem": 2, "BatchGetItem": 1, "Query": 1, "ChangeMessageVisibility": 1}
