"""Subscriptions, log, bus and queue on moto, and what dispatch makes of them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from passerelle.aws.bus import EventBridgeBus, SqsDeliveries
from passerelle.aws.journal import event_from_map, event_to_map
from passerelle.aws.notifications import (
    DynamoNotificationLog,
    envelope_event,
    interest_from_item,
    interest_to_item,
    outbox_events,
    subscription_from_item,
    subscription_to_item,
)
from passerelle.errors import NotFound, Stale, Unavailable
from passerelle.events import Event
from passerelle.notifications.dispatch import Dispatcher
from passerelle.notifications.model import (
    Channel,
    Content,
    Filter,
    Interest,
    Notification,
    Subscription,
    SubscriptionCreation,
    SubscriptionDeletion,
    SubscriptionRevision,
    SubscriptionStatus,
)
from tests.notifications import client
from tests.notified import (
    FEEDS,
    KEY,
    NAMES,
    NOON,
    OTHER,
    OWNER,
    Exchange,
    close_record,
    event,
    exchange_on_moto,
    served,
    subscription,
)


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    with exchange_on_moto() as made:
        yield made


# --- storage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stored",
    [
        subscription(),
        replace(
            subscription(patient=KEY, status="error"),
            content=Content.EMPTY,
            delivered=41,
            channel=Channel.MESSAGE,
            payload="application/fhir+xml",
            error="the endpoint did not acknowledge: timeout",
            interest=Interest(
                subscription="sub",
                owner=replace(OWNER, professional="8123"),
                topic="anything-changed",
                filter=Filter(patient=KEY, type="List", author="x", reference="List/1", query="a=b"),
                since=NOON,
                until=NOON + timedelta(days=1),
            ),
        ),
    ],
)
def test_subscriptions_survive_the_table(stored: Subscription) -> None:
    assert subscription_from_item(subscription_to_item(stored)) == stored
    assert interest_from_item(interest_to_item(stored.interest)) == stored.interest


def test_a_subscription_lives_from_creation_to_deletion(exchange: Exchange) -> None:
    created = subscription(patient=KEY)
    exchange.store(SubscriptionCreation(subscription=created))
    assert exchange.subscriptions.find("sub") == created
    assert exchange.subscriptions.interests(["document-changed"], [OTHER, KEY]) == [created.interest]
    assert exchange.subscriptions.interests(["document-changed"], [OTHER]) == []
    assert exchange.subscriptions.interests(["record-changed"], [KEY]) == []

    exchange.store(SubscriptionDeletion(subscription=created))
    assert exchange.subscriptions.find("sub") is None
    assert exchange.subscriptions.interests(["document-changed"], [KEY]) == []
    assert exchange.log.append("sub", [event(1)]) is None
    exchange.subscriptions.acknowledge(created, 1, NOON)
    assert exchange.subscriptions.find("sub") is None
    with pytest.raises(NotFound):
        exchange.store(SubscriptionDeletion(subscription=created))


def test_a_status_changes_once_per_version(exchange: Exchange) -> None:
    created = subscription(status="requested")
    exchange.store(SubscriptionCreation(subscription=created))
    exchange.subscriptions.set_status(created, SubscriptionStatus.ACTIVE, NOON + timedelta(seconds=1))
    current = exchange.subscriptions.find("sub")
    then = NOON + timedelta(seconds=1)
    assert current == replace(created, status=SubscriptionStatus.ACTIVE, version=2, at=then, told_at=then)
    with pytest.raises(Stale):
        exchange.subscriptions.set_status(created, SubscriptionStatus.ERROR, NOON)


def test_a_revision_replaces_all_but_what_was_delivered(exchange: Exchange) -> None:
    created = subscription(patient=KEY)
    exchange.store(SubscriptionCreation(subscription=created))
    exchange.subscriptions.acknowledge(created, 1, NOON)
    revised = replace(created, version=2, endpoint="https://other.example/", headers=(), body=b"{}")
    exchange.store(SubscriptionRevision(before=created, after=revised))
    assert exchange.subscriptions.find("sub") == replace(revised, delivered=1, told_at=NOON)
    with pytest.raises(Stale):
        exchange.store(SubscriptionRevision(before=created, after=replace(revised, headers=(("a", "b"),))))
    with pytest.raises(Stale):
        exchange.subscriptions.set_status(created, SubscriptionStatus.ERROR, NOON)


def test_one_that_is_off_is_in_no_index_until_it_starts_again(exchange: Exchange) -> None:
    created = subscription(patient=KEY)
    exchange.store(SubscriptionCreation(subscription=created))
    off = replace(created, version=2, status=SubscriptionStatus.OFF)
    exchange.store(SubscriptionRevision(before=created, after=off))
    assert exchange.subscriptions.interests(["document-changed"], [KEY]) == []
    exchange.dispatch(event(1), NOON)
    assert exchange.log.last_number("sub") == 0
    later = replace(created.interest, since=NOON)
    again = replace(off, version=3, status=SubscriptionStatus.REQUESTED, interest=later)
    exchange.store(SubscriptionRevision(before=off, after=again))
    assert exchange.subscriptions.interests(["document-changed"], [KEY]) == [later]


def test_numbers_are_contiguous_and_an_event_has_one(exchange: Exchange) -> None:
    exchange.store(SubscriptionCreation(subscription=subscription()))
    assert exchange.log.last_number("sub") == 0
    assert exchange.log.between("sub", 1, 0) == []
    assert [exchange.log.append("sub", [event(version)]) for version in (1, 2, 1)] == [[1], [2], [1]]
    assert exchange.log.append("sub", [event(version) for version in (2, 3, 2, 1)]) == [2, 3, 2, 1]
    assert exchange.log.last_number("sub") == 3
    assert exchange.log.between("sub", 2, 9) == [
        Notification(number=2, at=NOON, event=event(2)),
        Notification(number=3, at=NOON, event=event(3)),
    ]
    assert [entry.number for entry in exchange.log.between("sub", 1, 3, limit=2)] == [1, 2]


def test_a_number_that_another_dispatcher_took_meanwhile_is_passed_over(exchange: Exchange) -> None:
    """The other one comes between the reading of the head and the transaction, several times."""
    exchange.store(SubscriptionCreation(subscription=subscription()))
    rivals = iter([event(11), event(12), event(1)])

    class Overtaken(DynamoNotificationLog):
        def _append(self, subscription: str, events: Sequence[Event], last: int) -> Any:
            for rival in rivals:
                exchange.log.append(subscription, [rival])
                break
            return super()._append(subscription, events, last)

    log = Overtaken(exchange.dynamodb, NAMES)
    assert log.append("sub", [event(2)]) == [4]
    rivals = iter([event(3)])
    assert log.append("sub", [event(3)]) == [5]  # the rival dispatched the very same event
    assert [entry.event for entry in exchange.log.between("sub", 1, 9)] == [event(v) for v in (11, 12, 1, 2, 3)]


def test_a_log_that_is_always_overtaken_gives_up(exchange: Exchange) -> None:
    exchange.store(SubscriptionCreation(subscription=subscription()))
    others = iter(range(100, 200))

    class Overtaken(DynamoNotificationLog):
        def _append(self, subscription: str, events: Sequence[Event], last: int) -> Any:
            exchange.log.append(subscription, [event(next(others))])
            return super()._append(subscription, events, last)

    with pytest.raises(Exception, match="Too many requests"):
        Overtaken(exchange.dynamodb, NAMES).append("sub", [event(1)])


# --- bus and queue ------------------------------------------------------------------------------------------


def test_events_reach_a_queue_through_the_bus(exchange: Exchange) -> None:
    bus_client = client("events")
    bus_client.create_event_bus(Name="bus")
    url = exchange.sqs.create_queue(QueueName="events")["QueueUrl"]
    arn = exchange.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = json.dumps({"source": ["passerelle"], "detail-type": ["document-changed"]})
    bus_client.put_rule(Name="all", EventBusName="bus", EventPattern=pattern)
    bus_client.put_targets(Rule="all", EventBusName="bus", Targets=[{"Id": "q", "Arn": arn}])

    sent = [event(version) for version in range(1, 24)]  # more than two calls take
    EventBridgeBus(bus_client, "bus").publish(sent)
    got = []
    while messages := exchange.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        got += [envelope_event(json.loads(message["Body"])) for message in messages]
    assert sorted(got, key=lambda each: each.version) == sent


def test_an_entry_that_the_bus_refuses_is_a_failure() -> None:
    class Refusing:
        def put_events(self, Entries: list[Any]) -> dict[str, Any]:  # noqa: N803 - as boto3 has it
            refused = {"ErrorCode": "InternalFailure"}
            return {"FailedEntryCount": 1, "Entries": [*({"EventId": "1"} for _ in Entries[1:]), refused]}

    with pytest.raises(Unavailable):
        EventBridgeBus(Refusing(), "bus").publish([event(1), event(2)])


def test_nothing_personal_is_on_the_bus() -> None:
    assert set(event_to_map(event(1))) == {"id", "name", "reference", "version", "at", "author", "patient"}
    assert event_from_map(event_to_map(event(1))) == event(1)


def test_an_outbox_item_that_expires_announces_nothing() -> None:
    assert outbox_events({"eventName": "REMOVE", "dynamodb": {"Keys": {}}}) == []


def test_an_order_given_twice_is_queued_once_and_comes_back_when_postponed(exchange: Exchange) -> None:
    exchange.deliveries.order("sub", 1)
    exchange.deliveries.order("sub", 1)
    exchange.deliveries.order("other", 1)
    orders = exchange.orders()
    assert sorted(name for name, _ in orders) == ["other", "sub"]
    exchange.deliveries.postpone(orders[0][1], 0)
    assert [name for name, _ in exchange.orders()] == [orders[0][0]]


def taken(exchange: Exchange) -> int:
    """How many orders there are; they are served, as it were."""
    count = 0
    while messages := exchange.receive():
        for message in messages:
            count += 1
            exchange.sqs.delete_message(QueueUrl=exchange.queue_url, ReceiptHandle=message["ReceiptHandle"])
    return count


def test_a_start_is_another_order_than_a_look_at_the_empty_log(exchange: Exchange) -> None:
    exchange.deliveries.order("sub", 0)
    for version in (1, 3, 3, 4):
        exchange.deliveries.start("sub", version)
    assert taken(exchange) == 4


def test_what_is_urgent_and_a_heartbeat_wait_for_no_order(exchange: Exchange) -> None:
    exchange.deliveries.order("sub", 4)
    for _ in range(2):
        exchange.deliveries.order("sub", 4, urgent=True)
        exchange.deliveries.beat("sub")
    in_flight = [json.loads(message["Body"]) for _ in range(4) for message in exchange.receive()]
    assert sorted(in_flight, key=len) == [
        {"subscription": "sub"},
        {"subscription": "sub", "urgent": True},
        {"subscription": "sub", "heartbeat": True},
    ]
    assert not any("practice" in str(each) for each in in_flight)


# --- dispatch -----------------------------------------------------------------------------------------------


def test_an_event_reaches_every_subscription_it_concerns(exchange: Exchange) -> None:
    for name, patient in (("everybody", None), ("by-key", KEY), ("by-link", OTHER), ("else", "z" * 16)):
        exchange.store(SubscriptionCreation(subscription=subscription(name, patient=patient)))
    exchange.dispatch(event(1), NOON)
    assert {name for name, _ in exchange.orders()} == {"everybody", "by-key", "by-link"}


def test_what_may_not_be_seen_is_not_numbered(exchange: Exchange) -> None:
    exchange.store(SubscriptionCreation(subscription=subscription()))
    exchange.dispatch(event(1), NOON)
    close_record(exchange)
    exchange.dispatch(event(2), NOON)
    exchange.dispatch(event(1, patient="zzzzzzzzzzzzzzzz"), NOON)  # a person that is not known
    exchange.clients.deactivate("practice")
    exchange.dispatch(event(3, patient=None), NOON)
    assert exchange.log.last_number("sub") == 1


def test_a_query_is_asked_of_who_may_learn_only(exchange: Exchange) -> None:
    created = subscription()
    wanted = replace(created.interest, filter=Filter(query="2,3"))
    exchange.store(SubscriptionCreation(subscription=replace(created, interest=wanted)))
    for version in (1, 2):
        exchange.dispatch(event(version), NOON)
    close_record(exchange)
    exchange.dispatch(event(3), NOON)
    assert [entry.event for entry in exchange.log.between("sub", 1, 9)] == [event(2)]


def test_the_failure_of_one_subscription_is_not_the_others(exchange: Exchange) -> None:
    for name in ("first", "second", "third"):
        exchange.store(SubscriptionCreation(subscription=subscription(name)))

    class FailsForOne(SqsDeliveries):
        def order(self, subscription: str, delivered: int, *, urgent: bool = False) -> None:
            if subscription == "first":
                raise Unavailable()
            super().order(subscription, delivered)

    failing = FailsForOne(exchange.sqs, exchange.queue_url)
    dispatcher = Dispatcher(replace(exchange.ports, deliveries=failing), feeds=FEEDS)
    failures = dispatcher.dispatch([event(1), event(2)], NOON)
    assert {id: type(failure) for id, failure in failures.items()} == {
        event(1).id: Unavailable,
        event(2).id: Unavailable,
    }
    assert {name for name, _ in exchange.orders()} == {"second", "third"}
    exchange.dispatch(event(1), NOON)  # the event comes again
    assert [name for name, _ in exchange.orders()] == ["first"]


def test_what_was_delivered_meanwhile_is_not_ordered_again(exchange: Exchange) -> None:
    exchange.store(SubscriptionCreation(subscription=subscription()))
    exchange.dispatch(event(1), NOON)
    exchange.run()
    exchange.dispatch(event(1), NOON)  # the event comes again
    assert taken(exchange) == 0


@pytest.mark.parametrize("status", ["error", "off"])
def test_who_is_told_nothing_is_numbered_and_not_ordered(exchange: Exchange, status: str) -> None:
    """SUB-6: the counter still grows."""
    exchange.store(SubscriptionCreation(subscription=subscription(status=status)))
    exchange.dispatch(event(1), NOON)
    assert (exchange.log.last_number("sub"), taken(exchange)) == (1, 0)


def test_any_backlog_is_one_order(exchange: Exchange) -> None:
    exchange.store(SubscriptionCreation(subscription=subscription()))
    for version in range(1, 30):
        exchange.dispatch(event(version), NOON)
    assert taken(exchange) == 1


@pytest.mark.parametrize("seed", range(2))
def test_duplicates_crashes_and_lost_orders_leave_contiguous_numbers(exchange: Exchange, seed: int) -> None:
    """Dispatch dies between log and order, or after both; each event comes until it went through."""
    chance = random.Random(seed)

    class Crashing(SqsDeliveries):
        def order(self, subscription: str, delivered: int, *, urgent: bool = False) -> None:
            where = chance.random()
            if where < 0.2:
                raise Unavailable()
            super().order(subscription, delivered)
            if where > 0.8:
                raise Unavailable()

    exchange.store(SubscriptionCreation(subscription=subscription()))
    crashing = Crashing(exchange.sqs, exchange.queue_url)
    dispatcher = Dispatcher(replace(exchange.ports, deliveries=crashing), feeds=FEEDS)
    waiting = [event(version) for version in range(1, 11)]
    while waiting:
        coming = waiting.pop(chance.randrange(len(waiting)))
        if chance.random() < 0.2:
            waiting.append(coming)
        try:
            served(dispatcher, coming, NOON)
        except Unavailable:
            waiting.append(coming)
    entries = exchange.log.between("sub", 1, 99)
    assert [entry.number for entry in entries] == list(range(1, 11))
    assert sorted(entry.event.version for entry in entries if entry.event) == list(range(1, 11))

    exchange.network.failing["https://sub.example/"] = 5
    exchange.run()
    arrived = exchange.ids()
    assert list(dict.fromkeys(arrived)) == [f"sub.{number}" for number in range(1, 11)]
    assert len(arrived) == 10 + 5
