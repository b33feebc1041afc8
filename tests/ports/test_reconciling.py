"""Reconciliation on DynamoDB and SQS: what was lost between a commit and a webhook is found within the hour."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.reconcile.handler import handler
from passerelle import wiring
from passerelle.access import Caller, Scopes
from passerelle.aws.dynamodb import delete, measure, put
from passerelle.aws.journal import actions_of
from passerelle.aws.reconciling import DynamoOutbox
from passerelle.directory.model import Role
from passerelle.errors import PasserelleError
from passerelle.events import Event, EventName
from passerelle.identifiers import new_ulid
from passerelle.journal import Announcement
from passerelle.notifications.model import (
    Content,
    Filter,
    Interest,
    Pace,
    Subscription,
    SubscriptionCreation,
    SubscriptionDeletion,
    SubscriptionRevision,
    SubscriptionStatus,
)
from passerelle.notifications.reconciling import PARTS, SETTLED
from tests.notifications import notifications_on_moto, register

SCOPES = Scopes.parse("system/Subscription.crd system/Organization.rs")
OWNER = Caller(client_id="practice", organisation="1", role=Role.PRACTICE, scopes=SCOPES, token_id="t")
NOW = datetime.now(UTC).replace(microsecond=0)
TICK = timedelta(minutes=5)
PROMPT = Pace()


@pytest.fixture
def queue() -> Iterator[Any]:
    with notifications_on_moto() as sqs:
        register("practice", str(SCOPES))
        yield sqs


def orders(sqs: Any) -> list[dict[str, Any]]:
    """Those that wait, which are taken out."""
    url = wiring.environment().deliveries_queue_url
    found = []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
        for each in messages:
            found.append(json.loads(each["Body"]))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"])
    return found


def subscribed(name: str = "sub", *, pace: Pace = PROMPT, status: str = "active") -> Subscription:
    made = Subscription(
        id=name,
        version=1,
        at=NOW,
        status=SubscriptionStatus(status),
        interest=Interest(
            subscription=name, owner=OWNER, topic="record-changed", filter=Filter(), since=NOW - timedelta(days=8)
        ),
        endpoint="https://hooks.example/",
        headers=(),
        content=Content.ID_ONLY,
        secret="s",
        base_url="https://api.example/fhir",
        delivered=0,
        body=b"{}",
        pace=pace,
    )
    wiring.dynamodb().transact(actions_of(SubscriptionCreation(subscription=made), wiring.table_names()))
    return made


def announced(version: int, at: datetime = NOW) -> Event:
    """An event that is in the outbox, and went nowhere."""
    event = Event(
        name=EventName.RECORD_CHANGED,
        reference="Organization/01hr0000000000000000000000",
        version=version,
        at=at,
        author="hospital-a",
    )
    announcement = Announcement(id=new_ulid(at), events=(event,))
    wiring.dynamodb().transact(actions_of(announcement, wiring.table_names()))
    return event


def run_for_an_hour(begin: datetime) -> datetime:
    """Each part of the outbox is looked at once; returns when it is over."""
    for number in range(PARTS):
        wiring.reconcile().reconciler.run(begin + number * TICK)
    return begin + PARTS * TICK


def numbers(name: str = "sub") -> list[tuple[int, int]]:
    log = wiring.notification_ports().log
    return [(each.number, each.event.version) for each in log.between(name, 1, 99) if each.event]


def test_an_event_that_went_nowhere_is_numbered_and_ordered_within_the_hour(
    queue: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    subscribed()
    for version in range(1, 21):
        announced(version)
    over = run_for_an_hour(NOW + SETTLED + timedelta(minutes=1))
    assert sorted(version for _, version in numbers()) == list(range(1, 21))
    assert [number for number, _ in numbers()] == list(range(1, 21))
    assert orders(queue) == [{"subscription": "sub"}]
    counted = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "_aws" in line]
    assert len(counted) == 20
    assert all(line["event-not-numbered"] == 1 for line in counted)
    run_for_an_hour(over)
    assert len(numbers()) == 20


def test_what_is_on_its_way_is_left_alone(queue: Any) -> None:
    subscribed()
    event = announced(1)
    run_for_an_hour(NOW + timedelta(minutes=9) - PARTS * TICK)
    assert numbers() == []  # dispatch has time for it
    wiring.dispatcher().dispatch([event], NOW)
    assert len(orders(queue)) == 1
    wiring.notification_ports().subscriptions.acknowledge(subscribed_as("sub"), 1, NOW)
    over = run_for_an_hour(NOW + SETTLED)
    run_for_an_hour(over)
    assert orders(queue) == []
    assert numbers() == [(1, 1)]


def subscribed_as(name: str) -> Subscription:
    found = wiring.notification_ports().subscriptions.find(name)
    assert found is not None
    return found


def test_an_order_that_is_gone_is_given_again(queue: Any) -> None:
    subscribed()
    wiring.dispatcher().dispatch([announced(1)], NOW)
    assert len(orders(queue)) == 1  # and nobody served it
    run_for_an_hour(NOW + SETTLED + TICK + timedelta(minutes=1))
    # The queue takes the same order once in five minutes only: here the clock of the queue has not moved.
    assert numbers() == [(1, 1)]


DAILY = Pace(digest_at=datetime.min.time())


@pytest.mark.parametrize(
    ("pace", "held", "failed", "is_ordered"),
    [
        (DAILY, timedelta(hours=3), None, False),
        (PROMPT, None, timedelta(minutes=20), False),
        (PROMPT, timedelta(minutes=40), timedelta(hours=-4), False),
        (DAILY, timedelta(hours=-2), None, True),
        (DAILY, None, None, True),
        (PROMPT, None, timedelta(hours=-2), True),
        (PROMPT, timedelta(hours=-2), timedelta(hours=-4), True),
    ],
    ids=[
        "waits for its time",
        "is tried again",
        "is tried again later",
        "waited for a time that is over",
        "was never looked at",
        "should have been tried again",
        "should have been tried again later",
    ],
)
def test_what_is_late_on_purpose_is_ordered_again_when_it_is_overdue(
    queue: Any,
    pace: Pace,
    held: timedelta | None,
    failed: timedelta | None,
    is_ordered: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of an order that a queue lost meanwhile, nothing else would tell."""
    made, subscriptions = subscribed(pace=pace), wiring.notification_ports().subscriptions
    wiring.dispatcher().dispatch([announced(1)], NOW)
    if failed is not None:
        subscriptions.count_failure(made, NOW + failed)
    if held is not None:
        subscriptions.hold(made.id, NOW + held)
    orders(queue)
    run_for_an_hour(NOW + SETTLED + timedelta(minutes=1))
    assert ("delivery-not-ordered" in capsys.readouterr().out) is is_ordered


def test_what_is_forgotten_is_counted(queue: Any, capsys: pytest.CaptureFixture[str]) -> None:
    subscribed()
    wiring.dispatcher().dispatch([announced(1)], NOW)
    run_for_an_hour(NOW + SETTLED + timedelta(minutes=1))
    assert capsys.readouterr().out.count('"delivery-not-ordered": 1') == 1


def test_a_subscription_in_error_is_numbered_and_not_ordered(queue: Any) -> None:
    subscribed(status="error")
    announced(1)
    run_for_an_hour(NOW + SETTLED + timedelta(minutes=1))
    assert numbers() == [(1, 1)]
    assert orders(queue) == []


def test_hours_that_were_left_out_are_made_up_for(queue: Any) -> None:
    subscribed()
    announced(1, NOW - timedelta(days=6))
    announced(2, NOW - timedelta(hours=3))
    run_for_an_hour(NOW)
    assert sorted(version for _, version in numbers()) == [1, 2]


def test_a_part_that_fails_is_looked_at_again(queue: Any) -> None:
    subscribed()
    announced(1)
    dynamodb, table = wiring.dynamodb(), wiring.table_names().operations
    dynamodb.write(put(table, {"PK": "N#sub", "SK": "#000000001"}))  # the number is taken by what the head knows not of
    outbox = DynamoOutbox(dynamodb, wiring.table_names())
    failures = 0
    for number in range(PARTS):
        try:
            wiring.reconcile().reconciler.run(NOW + SETTLED + TICK * (number + 1))
        except PasserelleError:
            failures += 1
    unseen = [part for part in range(PARTS) if outbox.compared(part) is None]
    assert len(unseen) == failures == 1  # the others have had their turns
    dynamodb.write(delete(table, ("N#sub", "#000000001")))
    run_for_an_hour(NOW + SETTLED + 13 * TICK)
    assert all(outbox.compared(part) for part in range(PARTS))
    assert numbers() == [(1, 1)]


def test_a_silent_subscription_gets_a_heartbeat_when_it_is_due(queue: Any) -> None:
    made = subscribed(pace=Pace(heartbeat=timedelta(minutes=10)))
    beat = {"subscription": "sub", "heartbeat": True}
    run = wiring.reconcile().reconciler.run
    run(NOW + timedelta(minutes=9))
    assert orders(queue) == []
    run(NOW + timedelta(minutes=11))
    assert orders(queue) == [beat]
    run(NOW + timedelta(minutes=16))
    assert orders(queue) == []
    wiring.notification_ports().subscriptions.answered(made, NOW + timedelta(minutes=20))
    run(NOW + timedelta(minutes=22))
    assert orders(queue) == []  # it was told something two minutes ago
    run(NOW + timedelta(minutes=31))
    assert orders(queue) == [beat]


def test_heartbeats_begin_and_end_with_the_subscription(queue: Any) -> None:
    made = subscribed(pace=Pace(heartbeat=timedelta(minutes=10)))
    other = subscribed("other")
    run, later = wiring.reconcile().reconciler.run, NOW + timedelta(hours=2)
    tables, transact = wiring.table_names(), wiring.dynamodb().transact
    off = replace(made, status=SubscriptionStatus.OFF, version=2)
    transact(actions_of(SubscriptionRevision(before=made, after=off), tables))
    beating = replace(other, pace=Pace(heartbeat=timedelta(minutes=5)), version=2)
    transact(actions_of(SubscriptionRevision(before=other, after=beating), tables))
    run(later)
    assert orders(queue) == [{"subscription": "other", "heartbeat": True}]
    transact(actions_of(SubscriptionDeletion(subscription=beating), tables))
    run(later + timedelta(hours=1))
    assert orders(queue) == []


def test_what_a_run_costs_when_nothing_happened(queue: Any) -> None:
    run_for_an_hour(NOW)
    with measure() as meter:
        wiring.reconcile().reconciler.run(NOW + PARTS * TICK)
    calls = Counter(meter.calls)
    assert 1024 // PARTS <= calls["Query"] <= 1024 // PARTS + 2
    assert calls == {"Query": calls["Query"], "GetItem": 1, "PutItem": 1}


def test_the_message_of_the_clock(queue: Any) -> None:
    subscribed()
    now = datetime.now(UTC)
    announced(1, now - timedelta(hours=2))
    for number in range(1, PARTS + 1):
        time = (now + number * TICK).isoformat()
        record = {"messageId": "a", "body": json.dumps({"time": time}), "eventSource": "aws:sqs"}
        assert handler({"Records": [record]}, None) == {"batchItemFailures": []}
    assert numbers() == [(1, 1)]
