"""Delivery on moto: what is told, how often, when, and what becomes of a subscription whose endpoint fails.

Contract rows SUB-3, SUB-4, SUB-5, SUB-6 and SUB-10, as far as the engine goes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from passerelle.audit.ports import Span
from passerelle.aws.audit import DynamoAuditTrail
from passerelle.aws.bus import SqsDeliveries
from passerelle.aws.dynamodb import measure
from passerelle.errors import Unavailable
from passerelle.events import EventName
from passerelle.notifications.breaker import BREAKS_AFTER
from passerelle.notifications.delivery import MAX_RESOURCE_BYTES, Order
from passerelle.notifications.model import (
    MAX_DELIVERY_ATTEMPTS,
    Channel,
    Content,
    HeldBackError,
    Pace,
    Subscription,
    SubscriptionCreation,
    SubscriptionDeletion,
    UndeliveredError,
)
from passerelle.notifications.signature import verify
from tests.notifications import client
from tests.notified import (
    KEY,
    NAMES,
    NOON,
    OTHER,
    Exchange,
    Network,
    close_record,
    event,
    exchange_on_moto,
    subscription,
)

HERE = "https://sub.example/"
ALWAYS = 999


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    with exchange_on_moto() as made:
        yield made


def subscribed(exchange: Exchange, count: int = 0, made: Subscription | None = None) -> None:
    """A subscription with this many events in its log, and an order to look at it."""
    made = made or subscription()
    exchange.store(SubscriptionCreation(subscription=made))
    for version in range(1, count + 1):
        exchange.log.append(made.id, [event(version)])
    exchange.deliveries.order(made.id, 0)


def status(exchange: Exchange, name: str = "sub") -> str:
    return exchange.found(name).status.value


def told(*numbers: int) -> list[str]:
    return [f"sub.{number}" for number in numbers]


# --- in order, each once ----------------------------------------------------------------------------------------------


def test_sub_3_a_handshake_comes_first_and_activates(exchange: Exchange) -> None:
    subscribed(exchange, 1, subscription(status="requested"))
    exchange.run()
    assert exchange.told() == [
        'sub.handshake ["handshake", 1]',
        f'sub.1 ["event-notification", 1, "1:{event(1).reference}"]',
    ]
    assert status(exchange) == "active"


def test_sub_3_an_endpoint_that_refuses_the_handshake_is_in_error(exchange: Exchange) -> None:
    subscribed(exchange, 1, subscription(status="requested"))
    exchange.network.failing[HERE] = 1
    exchange.run()
    exchange.deliveries.start("sub", 2)
    exchange.run()
    assert (exchange.ids(), status(exchange)) == (["sub.handshake"], "error")


def test_a_letter_with_a_code_leaves_the_subscription_as_it_is(exchange: Exchange) -> None:
    made = replace(subscription(status="requested"), channel=Channel.EMAIL, failures=9)
    subscribed(exchange, 1, made)
    exchange.run()
    assert (exchange.ids(), status(exchange)) == (["sub.handshake"], "requested")
    assert exchange.found().failures == 0


def test_one_order_brings_all_that_comes_while_it_is_served(exchange: Exchange) -> None:
    subscribed(exchange, 2)

    def post(endpoint: str, headers: Any, body: bytes) -> None:
        if headers["X-Passerelle-Delivery"] == "sub.2":
            exchange.log.append("sub", [event(3)])
        exchange.network.arrived.setdefault(endpoint, []).append(headers["X-Passerelle-Delivery"])

    exchange.network.post = post  # type: ignore[method-assign]
    assert exchange.step() is True
    assert exchange.network.arrived[HERE] == told(1, 2, 3)


def test_a_long_backlog_is_served_in_parts(exchange: Exchange) -> None:
    """No order keeps a function for longer than it may run: what is left is ordered anew."""
    subscribed(exchange, 12)
    exchange.tick = timedelta(seconds=3)
    assert exchange.step() is True
    assert 0 < len(exchange.ids()) < 12
    exchange.run()
    assert exchange.ids() == told(*range(1, 13))


def test_an_entry_that_was_acknowledged_by_another_is_not_told_again(exchange: Exchange) -> None:
    subscribed(exchange, 3)
    exchange.run()
    exchange.subscriptions.acknowledge(exchange.found(), 1, NOON)  # by an invocation that outlived its order
    exchange.deliveries.start("sub", 9)
    exchange.run()
    assert exchange.ids() == told(1, 2, 3)


def test_a_deleted_subscription_gets_nothing(exchange: Exchange) -> None:
    subscribed(exchange, 1)
    exchange.store(SubscriptionDeletion(subscription=subscription()))
    exchange.run()
    assert exchange.told() == []


def test_several_events_in_one_notification(exchange: Exchange) -> None:
    subscribed(exchange, 5, replace(subscription(), pace=Pace(max_count=2)))
    exchange.run()
    assert exchange.ids() == ["sub.1-2", "sub.3-4", "sub.5"]
    reference = event(1).reference
    assert exchange.told()[1] == f'sub.3-4 ["event-notification", 4, "3:{reference}", "4:{reference}"]'


def test_both_secrets_sign_until_the_former_is_over(exchange: Exchange) -> None:
    made = replace(subscription(), secret="new", former_secret="old", former_until=NOON + timedelta(hours=1))
    subscribed(exchange, 1, made)
    exchange.run()
    exchange.log.append("sub", [event(2)])
    exchange.at = NOON + timedelta(hours=1)
    exchange.deliveries.order("sub", 1)
    exchange.run()
    good = [
        [
            verify([secret], headers["X-Passerelle-Delivery"], line.partition(" ")[2].encode(), signature, at)
            for secret in ("new", "old", "other")
        ]
        for headers, line, at in zip(exchange.network.headers, exchange.told(), (NOON, exchange.at), strict=True)
        for signature in [headers["X-Passerelle-Signature"]]
    ]
    assert good == [[True, True, False], [True, False, False]]


# --- who may know, and what -------------------------------------------------------------------------------------------


def disclosed(exchange: Exchange) -> list[Any]:
    around = timedelta(days=3)
    return list(exchange.trail.of_patients([KEY], Span(since=NOON - around, until=NOON + around)))


def test_sub_10_rights_are_checked_again_at_delivery(exchange: Exchange) -> None:
    """The number of what may no longer be seen is told, and nothing else: numbers have no gap."""
    subscribed(exchange, 1)
    close_record(exchange)
    exchange.run()
    assert exchange.told() == ['sub.1 ["event-notification", 1, "1:-"]']
    assert disclosed(exchange) == []
    exchange.log.append("sub", [event(2)])
    exchange.clients.deactivate("practice")
    exchange.deliveries.order("sub", 1)
    exchange.run()
    assert (status(exchange), len(exchange.told())) == ("off", 1)


def test_sub_10_rights_that_end_while_a_backlog_is_told_end_it_within_a_second(exchange: Exchange) -> None:
    subscribed(exchange, 4)
    exchange.tick = timedelta(seconds=1)

    class Closing(Network):
        def post(self, endpoint: str, headers: Mapping[str, str], body: bytes) -> None:
            super().post(endpoint, headers, body)
            if headers["X-Passerelle-Delivery"] == "sub.2":
                close_record(exchange)

    exchange.network = Closing()
    exchange.run()
    known = event(1).reference
    assert [each.partition(", ")[2] for each in exchange.told()] == [
        f'{number}, "{number}:{known if number <= 2 else "-"}"]' for number in (1, 2, 3, 4)
    ]


def test_what_is_told_one_by_one_is_read_and_acknowledged_together(exchange: Exchange) -> None:
    """Who it is about, and what hides something of both source records, once a second; an audit record for each."""
    subscribed(exchange, 10)
    with measure() as meter:
        exchange.step()
    assert exchange.ids() == told(*range(1, 11))
    calls = Counter(meter.calls)
    assert calls["UpdateItem"] == 1
    assert (calls["PutItem"], calls["GetItem"], calls["Query"]) == (10, 3, 4)


def test_what_is_asked_of_several_people_is_asked_at_once(exchange: Exchange) -> None:
    """And what failed then, when its turn comes."""
    exchange.store(SubscriptionCreation(subscription=subscription()))
    people = [KEY, OTHER, "zzzzzzzzzzzzzzzz"]
    exchange.log.append("sub", [event(version, patient=patient) for version, patient in enumerate(people, 1)])
    exchange.deliveries.order("sub", 0)
    asked: list[int] = []

    def at_once(*calls: Callable[[], Any]) -> tuple[Any, ...]:
        asked.append(len(calls))
        with measure() as meter:
            answers = tuple(call() for call in calls)
        assert Counter(meter.calls) == {"GetItem": 3, "Query": 4}
        return answers

    with measure() as meter:
        exchange.deliverer(at_once).deliver(Order(subscription="sub", attempt=1, receipt="r"))
    assert asked == [3]
    assert Counter(meter.calls)["Query"] == 2 + 4
    assert exchange.ids() == told(1, 2, 3)


def test_a_feed_has_no_handshake_and_is_told_in_messages(exchange: Exchange) -> None:
    made = replace(subscription(status="requested"), channel=Channel.MESSAGE, pace=Pace(max_count=5))
    subscribed(exchange, 2, made)
    exchange.run()
    assert exchange.told() == [f"sub.{number} {event(1).reference} of p" for number in (1, 2)]
    assert [(each.name, each.references[0]) for each in disclosed(exchange)] == [
        ("notification", event(1).reference)
    ] * 2


def test_what_a_feed_may_no_longer_tell_is_not_sent(exchange: Exchange) -> None:
    subscribed(exchange, 1, replace(subscription(), channel=Channel.MESSAGE))
    close_record(exchange)
    exchange.run()
    assert (exchange.told(), disclosed(exchange), exchange.found().delivered) == ([], [], 1)


def test_no_reference_leaves_before_its_audit_record_is_stored(exchange: Exchange) -> None:
    subscribed(exchange, 1)

    class Unreachable(DynamoAuditTrail):
        def append(self, records: Any) -> None:
            raise Unavailable()

    exchange.trail = Unreachable(exchange.dynamodb, NAMES)
    assert isinstance(exchange.step(), Unavailable)
    assert exchange.told() == []
    exchange.trail = DynamoAuditTrail(exchange.dynamodb, NAMES)
    exchange.run()
    assert [each.name for each in disclosed(exchange)] == ["notification"]


def full(**changes: Any) -> Subscription:
    return replace(subscription(), content=Content.FULL_RESOURCE, **changes)


def test_sub_4_full_content_is_read_when_it_is_told(exchange: Exchange) -> None:
    subscribed(exchange, 1, full())
    exchange.run()
    assert exchange.told() == [f'sub.1 ["event-notification", 1, "1:{event(1).reference}=v1"]']


def test_what_has_no_room_is_told_by_its_id(exchange: Exchange) -> None:
    subscribed(exchange, 3, full(pace=Pace(max_count=3)))
    exchange.bodies.size = MAX_RESOURCE_BYTES // 2
    exchange.run()
    (only,) = exchange.told()
    assert (only.count("=v"), only.count(event(1).reference)) == (1, 3)
    assert len(only) < MAX_RESOURCE_BYTES


# --- what cannot be told ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 3])
def test_an_entry_that_cannot_be_read_keeps_no_other_back(exchange: Exchange, most: int) -> None:
    subscribed(exchange, 3, full(pace=Pace(max_count=most)))
    exchange.bodies.broken[2] = KeyError("code")
    exchange.run()
    lines = " ".join(exchange.told())
    assert [f"{n}:{event(1).reference}=v{n}" in lines for n in (1, 2, 3)] == [True, False, True]
    assert f"2:{event(1).reference}" in lines
    assert exchange.incidents == ["notification-without-content"]
    assert exchange.found().failures == 0


def test_an_entry_that_cannot_even_be_named_is_told_by_its_number(exchange: Exchange) -> None:
    subscribed(exchange, 2, subscription())
    people = exchange.people

    class Broken:
        def find_person(self, patient: str) -> Any:
            raise ValueError("not a person")

        def __getattr__(self, name: str) -> Any:
            return getattr(people, name)

    exchange.people = Broken()  # type: ignore[assignment]
    exchange.run()
    assert exchange.told() == [f'sub.{n} ["event-notification", {n}, "{n}:-"]' for n in (1, 2)]


def test_what_cannot_be_reached_for_the_moment_is_waited_for(exchange: Exchange) -> None:
    subscribed(exchange, 1, full())
    exchange.bodies.broken[1] = Unavailable()
    for _ in range(9):
        assert isinstance(exchange.step(), Unavailable)
    exchange.bodies.broken.clear()
    exchange.run()
    assert exchange.told() == [f'sub.1 ["event-notification", 1, "1:{event(1).reference}=v1"]']
    assert exchange.incidents == []


# --- an endpoint that fails -------------------------------------------------------------------------------------------


def test_sub_5_numbers_have_no_gap_however_often_the_endpoint_fails(exchange: Exchange) -> None:
    subscribed(exchange, 3)
    exchange.network.failing[HERE] = 3
    exchange.run()
    assert exchange.ids() == told(1, 1, 1, 1, 2, 3)
    assert exchange.pauses == [5, 10, 20]
    assert (exchange.found().failures, exchange.found().failing_since) == (0, None)


def test_sub_6_an_endpoint_that_goes_on_failing_ends_in_error(exchange: Exchange) -> None:
    """After fourteen attempts, within hours; nothing returns by itself, and the counter still grows."""
    subscribed(exchange, 2)
    exchange.network.failing[HERE] = ALWAYS
    exchange.run()
    assert exchange.ids() == told(1) * MAX_DELIVERY_ATTEMPTS
    assert exchange.at - NOON < timedelta(hours=12)
    assert (status(exchange), exchange.found().error) == ("error", "the endpoint did not acknowledge: status 503")
    assert exchange.incidents == ["subscription-in-error"]
    exchange.network.failing.clear()
    exchange.dispatch(event(3), exchange.at)
    exchange.deliveries.start("sub", 1)
    exchange.run()
    assert (len(exchange.ids()), exchange.log.last_number("sub")) == (MAX_DELIVERY_ATTEMPTS, 3)


def test_an_acknowledgement_forgets_how_long_it_failed_before(exchange: Exchange) -> None:
    subscribed(exchange, 2, replace(subscription(), failures=9, failing_since=NOON - timedelta(days=2)))

    def post(endpoint: str, headers: Any, body: bytes) -> None:
        if headers["X-Passerelle-Delivery"] == "sub.2":
            raise UndeliveredError("timeout")

    exchange.network.post = post  # type: ignore[method-assign]
    assert isinstance(exchange.step(), UndeliveredError)
    found = exchange.found()
    assert (found.status, found.failures, found.failing_since) == ("active", 1, NOON)


def test_what_will_never_be_taken_is_not_tried_again(exchange: Exchange) -> None:
    subscribed(exchange, 1)

    def post(endpoint: str, headers: Any, body: bytes) -> None:
        raise UndeliveredError("mailbox", is_final=True)

    exchange.network.post = post  # type: ignore[method-assign]
    exchange.run()
    assert (status(exchange), exchange.incidents) == ("error", ["subscription-in-error"])


def test_a_dead_endpoint_is_left_alone_by_all_and_tried_by_one(exchange: Exchange) -> None:
    """The breaker: five failures in a row, of whichever subscriptions, and those after wait without an attempt."""
    for name in ("a", "b", "c"):
        subscribed(exchange, 1, replace(subscription(name), endpoint=f"{HERE}{name}"))
    exchange.network.failing = {f"{HERE}{name}": ALWAYS for name in ("a", "b", "c")}
    while exchange.found("a").failing_since is None or sum(map(len, exchange.network.arrived.values())) < BREAKS_AFTER:
        assert isinstance(exchange.step(), UndeliveredError)
    opened = exchange.at = NOON
    assert exchange.breakers.find(HERE.rstrip("/")).is_open(opened)
    before = sum(map(len, exchange.network.arrived.values()))
    for _ in range(3):
        exchange.at = opened
        assert isinstance(exchange.step(), HeldBackError)
    assert sum(map(len, exchange.network.arrived.values())) == before


def test_one_tries_when_the_breaker_is_half_open_and_its_success_closes_it(exchange: Exchange) -> None:
    for name in ("a", "b"):
        subscribed(exchange, 1, replace(subscription(name), endpoint=f"{HERE}{name}"))
    origin = HERE.rstrip("/")
    for _ in range(BREAKS_AFTER):
        exchange.breakers.count_failure(origin, exchange.breakers.find(origin).open_until(NOON), NOON)
    breaker = exchange.breakers.find(origin)
    assert breaker.until == NOON + timedelta(seconds=80)
    exchange.at = breaker.until
    until = exchange.at + timedelta(minutes=1)
    assert exchange.breakers.take_probe(origin, breaker, until)
    assert not exchange.breakers.take_probe(origin, breaker, until)  # of two that read the same, one
    assert isinstance(exchange.step(), HeldBackError)
    exchange.at = until
    exchange.run()
    assert sorted(exchange.network.arrived) == [f"{HERE}a", f"{HERE}b"]
    assert exchange.breakers.find(origin).is_closed


def test_an_answer_that_refuses_opens_no_breaker(exchange: Exchange) -> None:
    subscribed(exchange, 1)
    exchange.network.failing[HERE], exchange.network.refuses = BREAKS_AFTER + 1, True
    exchange.run()
    assert len(exchange.ids()) == BREAKS_AFTER + 2
    assert exchange.breakers.find(HERE.rstrip("/")).failures == 0


def test_nobody_waits_for_a_breaker_for_longer_than_a_day(exchange: Exchange) -> None:
    """So that many subscriptions at one dead endpoint, which take turns, end in error all the same."""
    subscribed(exchange, 1)
    origin = HERE.rstrip("/")
    for _ in range(BREAKS_AFTER):
        exchange.breakers.count_failure(origin, NOON + timedelta(days=9), NOON)
    exchange.run()
    assert (exchange.ids(), status(exchange), exchange.incidents) == ([], "error", ["subscription-in-error"])
    assert timedelta(days=1) <= exchange.at - NOON <= timedelta(days=1, hours=12)


def test_ten_thousand_events_for_a_dead_subscriber_are_one_order(exchange: Exchange) -> None:
    """What the queue holds does not grow with the backlog, and others do not wait: a few stand for the thousands."""
    exchange.deliveries = SqsDeliveries(exchange.sqs, exchange.queue_url)  # put off for as long as they say
    exchange.network.failing[HERE] = ALWAYS
    subscribed(exchange, made=subscription())
    for version in range(1, 21):
        exchange.dispatch(event(version), NOON)
    subscribed(exchange, 1, subscription("other"))
    for _ in range(2):
        (message,) = exchange.receive()
        with suppress(UndeliveredError):
            exchange.serve(message)
    assert (exchange.ids(), exchange.ids("other")) == (["sub.1"], ["other.1"])
    attributes = exchange.sqs.get_queue_attributes(
        QueueUrl=exchange.queue_url,
        AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
    )["Attributes"]
    assert sum(map(int, attributes.values())) == 1


def test_nothing_is_ordered_behind_an_order_that_waits(exchange: Exchange) -> None:
    """Else there would be one more every five minutes, of each subscriber that sleeps or is dead."""
    exchange.deliveries = SqsDeliveries(exchange.sqs, exchange.queue_url)
    exchange.at = NIGHT
    subscribed(exchange, 1, replace(subscription(), pace=QUIET))
    (message,) = exchange.receive()
    with suppress(HeldBackError):
        exchange.serve(message)
    progress = exchange.subscriptions.progress("sub")
    assert progress is not None
    assert progress.held_until == MORNING
    ordered: list[int] = []
    exchange.deliveries.order = lambda id, delivered, **_: ordered.append(delivered)  # type: ignore[method-assign]
    exchange.dispatch(event(2), MORNING - timedelta(minutes=3))
    assert (exchange.log.last_number("sub"), ordered) == (2, [])
    exchange.dispatch(event(3), MORNING - timedelta(minutes=2))
    assert ordered == [0]


# --- quiet hours and digests ------------------------------------------------------------------------------------------

NIGHT = datetime(2026, 3, 1, 22, 30, tzinfo=UTC)  # half past eleven in Paris
QUIET = Pace(quiet=(time(21), time(7)))
MORNING = datetime(2026, 3, 2, 6, tzinfo=UTC)


def at_night(exchange: Exchange, pace: Pace, **changes: Any) -> None:
    exchange.at = NIGHT
    made = replace(subscription(), pace=pace, **changes)
    exchange.store(SubscriptionCreation(subscription=made))


def happens(exchange: Exchange, version: int, **changes: Any) -> None:
    exchange.dispatch(replace(event(version), at=exchange.at, **changes), exchange.at)


def test_quiet_hours_are_waited_for_and_are_no_failure(exchange: Exchange) -> None:
    at_night(exchange, QUIET)
    happens(exchange, 1)
    assert isinstance(exchange.step(), HeldBackError)
    assert (exchange.told(), exchange.found().failures, exchange.at) == ([], 0, MORNING)
    happens(exchange, 2)
    exchange.run()
    assert exchange.ids() == told(1, 2)


def test_a_digest_is_one_notification_a_day(exchange: Exchange) -> None:
    at_night(exchange, Pace(digest_at=time(7)))
    for version in (1, 2, 3):
        happens(exchange, version)
    exchange.run()
    assert (exchange.ids(), exchange.at) == (["sub.1-3"], MORNING)
    happens(exchange, 4)
    exchange.run()
    assert exchange.ids() == ["sub.1-3", "sub.4"]
    assert exchange.at == MORNING + timedelta(days=1)
    assert max(exchange.pauses) < 12 * 3600, "SQS hides no message for longer"


@pytest.mark.parametrize("pace", [QUIET, Pace(digest_at=time(7))])
def test_what_is_urgent_is_told_at_night_with_all_before_it(exchange: Exchange, pace: Pace) -> None:
    """Though the order for what was there before waits for the morning, in the group of the subscription."""
    interest = replace(subscription().interest, topic="anything-changed")
    at_night(exchange, pace, interest=interest)
    happens(exchange, 1)
    waiting = exchange.receive()  # put off: it stays in flight
    happens(exchange, 2, name=EventName.ALERT_RAISED)
    happens(exchange, 3)
    assert exchange.step() is True
    assert [line.split()[0] for line in exchange.told()] in (told(1, 2), ["sub.1-2"])
    exchange.sqs.change_message_visibility(
        QueueUrl=exchange.queue_url, ReceiptHandle=waiting[0]["ReceiptHandle"], VisibilityTimeout=0
    )
    assert isinstance(exchange.step(), HeldBackError)
    exchange.run()
    assert exchange.ids()[-1] == "sub.3"


def test_what_is_urgent_does_not_hurry_an_endpoint_that_fails(exchange: Exchange) -> None:
    at_night(exchange, QUIET, failures=3, failing_since=NIGHT)
    happens(exchange, 1, name=EventName.ALERT_RAISED)
    exchange.deliveries.order("sub", 0, urgent=True)
    exchange.step()
    exchange.step()
    assert exchange.told() == []  # the topic does not cover it, and the urgent order leaves it to the other


# --- heartbeats -------------------------------------------------------------------------------------------------------


def beating(exchange: Exchange, **changes: Any) -> None:
    pace = Pace(heartbeat=timedelta(minutes=10), **changes)
    exchange.store(SubscriptionCreation(subscription=replace(subscription(), pace=pace)))


def beat(exchange: Exchange, minutes: int) -> None:
    exchange.at += timedelta(minutes=minutes)
    exchange.deliveries.beat("sub")
    exchange.run()


def test_sub_5_a_silent_subscription_has_heartbeats_with_the_same_counter(exchange: Exchange) -> None:
    beating(exchange)
    exchange.log.append("sub", [event(1)])
    exchange.deliveries.order("sub", 0)
    exchange.run()
    for minutes in (9, 1, 9, 1):
        beat(exchange, minutes)
    assert [line.partition(" ")[2] for line in exchange.told()[1:]] == ['["heartbeat", 1]'] * 2
    assert len(set(exchange.ids())) == 3
    assert exchange.found().delivered == 1


def test_a_heartbeat_that_fails_is_a_failure_and_is_not_repeated(exchange: Exchange) -> None:
    beating(exchange)
    exchange.network.failing[HERE] = 2
    beat(exchange, 10)
    assert (len(exchange.ids()), exchange.found().failures) == (1, 1)
    beat(exchange, 10)
    beat(exchange, 10)
    assert (len(exchange.ids()), exchange.found().failures) == (3, 0)


def test_a_dead_endpoint_that_only_hears_heartbeats_ends_in_error(exchange: Exchange) -> None:
    beating(exchange)
    exchange.network.failing[HERE] = ALWAYS
    for _ in range(MAX_DELIVERY_ATTEMPTS):
        beat(exchange, 61)
    assert (status(exchange), exchange.incidents) == ("error", ["subscription-in-error"])


def test_no_heartbeat_in_quiet_hours_or_while_there_is_something_to_tell(exchange: Exchange) -> None:
    beating(exchange, quiet=(time(21), time(7)))
    exchange.at = NIGHT
    beat(exchange, 10)
    exchange.at = MORNING
    exchange.log.append("sub", [event(1)])
    beat(exchange, 10)
    assert exchange.told() == []


# --- the process ends -------------------------------------------------------------------------------------------------


class Crash(BaseException):
    """The process ends here."""


class Clumsy(Network):
    """Each event's first attempt fails."""

    def post(self, endpoint: str, headers: Any, body: bytes) -> None:
        delivery = headers["X-Passerelle-Delivery"]
        if not delivery.endswith("handshake") and f"{delivery} {body.decode()}" not in self.arrived[endpoint]:
            self.failing[endpoint] = 1
        super().post(endpoint, headers, body)


def test_a_delivery_that_ends_at_any_call_is_taken_up_again(exchange: Exchange) -> None:
    """Between any two calls to AWS: everything arrives, in order, and no order is left or lost."""
    exchange.network = Clumsy()
    left = 0  # calls before the process ends

    def call(**_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Crash

    clients = [client(service).meta.events for service in ("dynamodb", "sqs")]

    def serve(message: Any) -> None:
        for each in clients:
            each.register("before-call.*.*", call)
        try:
            exchange.serve(message)
        except (Crash, UndeliveredError):
            again = {"ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0}
        else:
            again = {}
        finally:
            for each in clients:
                each.unregister("before-call.*.*", call)
        if again:
            exchange.sqs.change_message_visibility(QueueUrl=exchange.queue_url, **again)

    ended = 0
    while left <= 0:
        ended += 1
        left, name = ended, f"s{ended}"
        made = replace(subscription(name, status="requested"), endpoint=f"https://{name}.example/")
        subscribed(exchange, 1, made)
        while messages := exchange.receive():
            serve(messages[0])
        assert list(dict.fromkeys(exchange.ids(name))) == [f"{name}.{part}" for part in ("handshake", 1)]
        assert (exchange.found(name).status, exchange.found(name).delivered) == ("active", 1)
    assert ended > 15
