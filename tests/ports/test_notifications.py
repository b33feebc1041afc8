"""Subscriptions, log, bus and queue on moto, and what dispatch and delivery make of them together."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from passerelle.access import Caller, Request, Scopes, Touched
from passerelle.audit.model import audit_of
from passerelle.audit.ports import Span
from passerelle.aws.audit import DynamoAuditTrail
from passerelle.aws.bus import EventBridgeBus, SqsDeliveries
from passerelle.aws.clients import DynamoClients
from passerelle.aws.dynamodb import DynamoDb, in_parallel
from passerelle.aws.journal import DynamoJournal, TableNames, event_from_map, event_to_map
from passerelle.aws.notifications import (
    DynamoNotificationLog,
    DynamoSubscriptions,
    envelope_event,
    interest_from_item,
    interest_to_item,
    outbox_events,
    subscription_from_item,
    subscription_to_item,
)
from passerelle.aws.patients import DynamoPatientIndex
from passerelle.aws.records import DynamoRecordStore
from passerelle.consents.decision import Implicit
from passerelle.consents.model import RecordStatus
from passerelle.directory.model import Role
from passerelle.errors import NotFound, Stale, Unavailable
from passerelle.events import Event, EventName
from passerelle.fhir.concealment import ReferenceMending
from passerelle.identifiers import Blinder
from passerelle.notifications.delivery import Deliverer, longest_pause_seconds
from passerelle.notifications.dispatch import Dispatcher
from passerelle.notifications.model import (
    MAX_DELIVERY_ATTEMPTS,
    Channel,
    Content,
    Filter,
    Interest,
    Notification,
    NotificationKind,
    Subscription,
    SubscriptionCreation,
    SubscriptionDeletion,
    SubscriptionRevision,
    SubscriptionStatus,
    UndeliveredError,
)
from passerelle.notifications.ports import NotificationPorts
from passerelle.patients.model import Person, PersonChange
from passerelle.records.gate import Gate
from tests.notifications import client, notifications_on_moto, register
from tests.people import decided, person_of
from tests.sealed import KeptKeys

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY, OTHER = "7q2k9c4m1xw8z0ab", "0123456789abcdef"
SCOPES = Scopes.parse("system/Subscription.crd system/DocumentReference.rs")
OWNER = Caller(client_id="practice", organisation="1", role=Role.PRACTICE, scopes=SCOPES, token_id="t")
NAMES = TableNames(
    clinical="clinical",
    patients="patients",
    operations="operations",
    audit="audit",
    blinder=lambda: Blinder(b"k" * 32),
    keyring=KeptKeys,
)


def event(version: int, *, patient: str | None = KEY) -> Event:
    return Event(
        name=EventName.DOCUMENT_CHANGED,
        reference=f"DocumentReference/{patient}-01hr0000000000000000000000",
        version=version,
        at=NOON,
        author="hospital-a",
        patient=patient,
    )


def subscription(name: str = "sub", *, patient: str | None = None, status: str = "active") -> Subscription:
    return Subscription(
        id=name,
        version=1,
        at=NOON,
        status=SubscriptionStatus(status),
        interest=Interest(
            subscription=name,
            owner=OWNER,
            topic="document-changed",
            filter=Filter(patient=patient),
            since=NOON - timedelta(hours=1),
        ),
        endpoint=f"https://{name}.example/",
        headers=(("authorization", "Bearer theirs"),),
        content=Content.ID_ONLY,
        secret="s",
        base_url="https://api.example/fhir",
        delivered=0,
        body=b'{"resourceType":"Subscription"}',
    )


class Network:
    """The subscribers' end: fails where and as often as it is told, and keeps what arrived."""

    def __init__(self) -> None:
        self.arrived: dict[str, list[str]] = {}
        self.failing: dict[str, int] = {}

    def post(self, endpoint: str, headers: Any, body: bytes) -> None:
        self.arrived.setdefault(endpoint, []).append(f"{headers['X-Passerelle-Delivery']} {body.decode()}")
        if self.failing.get(endpoint, 0) > 0:
            self.failing[endpoint] -= 1
            raise UndeliveredError("status 503")


def render(subscription: Subscription, kind: NotificationKind, entries: Any, total: int, at: datetime) -> bytes:
    told = [f"{entry.number}:{entry.event.reference if entry.event else '-'}" for entry in entries]
    return json.dumps([kind, total, *told]).encode()


class Feed:
    """`ports.PatientFeed`: a query names the versions that meet it, a message says what it was asked for."""

    def meets(self, query: str, event: Event, owner: Caller, person: Person) -> bool:
        return str(event.version) in query.split(",")

    def message(self, subscription: Subscription, event: Event, person: Person, delivery: str, at: datetime) -> bytes:
        return f"{event.reference} of {person.key}".encode()


@dataclass
class Exchange:
    dynamodb: DynamoDb
    journal: DynamoJournal
    subscriptions: DynamoSubscriptions
    log: DynamoNotificationLog
    deliveries: SqsDeliveries
    clients: DynamoClients
    people: DynamoPatientIndex
    records: DynamoRecordStore
    trail: DynamoAuditTrail
    network: Network
    sqs: Any
    queue_url: str

    def store(self, *changes: Any) -> None:
        request = Request(
            caller=OWNER,
            name="create",
            action="C",
            request_id="r",
            at=NOON,
            base_url="https://api.example/fhir",
        )
        self.journal.commit([*changes, *audit_of(request, Touched())])

    @property
    def ports(self) -> NotificationPorts:
        return NotificationPorts(
            subscriptions=self.subscriptions,
            log=self.log,
            deliveries=self.deliveries,
            clients=self.clients,
            people=self.people,
            record=Gate(self.people, self.records, ReferenceMending(), in_parallel, implicit=Implicit.BASIC_NORMAL),
        )

    def dispatcher(self) -> Dispatcher:
        return Dispatcher(self.ports, feed=Feed)

    def deliverer(self) -> Deliverer:
        return Deliverer(
            self.ports,
            webhooks=self.network,
            trail=self.trail,
            render=render,
            feed=Feed,
            spread=lambda low, high: low,
        )

    def receive(self) -> list[Any]:
        """One message, as the queue gives them to delivery: the next of a group once this one is gone."""
        return list(self.sqs.receive_message(QueueUrl=self.queue_url, VisibilityTimeout=600).get("Messages", []))

    def deliver(self, message: Any) -> None:
        order = json.loads(message["Body"])
        deliverer = self.deliverer()
        receipt = message["ReceiptHandle"]
        deliverer.deliver(order["subscription"], order["number"], attempt=1, receipt=receipt, at=NOON)

    def orders(self) -> list[tuple[str, int, str]]:
        """(subscription, number, receipt) of the orders that the queue gives out now; they stay in flight."""
        found = []
        while messages := self.receive():
            for message in messages:
                order = json.loads(message["Body"])
                found.append((order["subscription"], order["number"], message["ReceiptHandle"]))
        return found


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    with notifications_on_moto() as sqs:
        url = sqs.get_queue_url(QueueName="deliveries.fifo")["QueueUrl"]
        dynamodb = DynamoDb(client("dynamodb"), sleep=lambda seconds: None)
        exchange = Exchange(
            dynamodb=dynamodb,
            journal=DynamoJournal(dynamodb, NAMES),
            subscriptions=DynamoSubscriptions(dynamodb, NAMES),
            log=DynamoNotificationLog(dynamodb, NAMES),
            deliveries=SqsDeliveries(sqs, url),
            clients=DynamoClients(dynamodb, NAMES),
            people=DynamoPatientIndex(dynamodb, NAMES),
            records=DynamoRecordStore(dynamodb, NAMES),
            trail=DynamoAuditTrail(dynamodb, NAMES),
            network=Network(),
            sqs=sqs,
            queue_url=url,
        )
        register("practice", str(SCOPES))
        person = person_of(KEY, OTHER, key="p", since=NOON)
        exchange.store(PersonChange(before=None, after=person))
        yield exchange


def close_record(exchange: Exchange) -> None:
    before = exchange.people.find_person(KEY)
    assert before is not None
    exchange.store(PersonChange(before=before, after=decided(before, RecordStatus.CLOSED, since=NOON)))


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
    assert exchange.log.append("sub", event(1)) is None
    exchange.subscriptions.acknowledge(created, 1)
    assert exchange.subscriptions.find("sub") is None
    with pytest.raises(NotFound):
        exchange.store(SubscriptionDeletion(subscription=created))


def test_a_status_changes_once_per_version(exchange: Exchange) -> None:
    created = subscription(status="requested")
    exchange.store(SubscriptionCreation(subscription=created))
    exchange.subscriptions.set_status(created, SubscriptionStatus.ACTIVE, NOON + timedelta(seconds=1))
    current = exchange.subscriptions.find("sub")
    assert current == replace(created, status=SubscriptionStatus.ACTIVE, version=2, at=NOON + timedelta(seconds=1))
    with pytest.raises(Stale):
        exchange.subscriptions.set_status(created, SubscriptionStatus.ERROR, NOON)


def test_a_revision_replaces_all_but_what_was_delivered(exchange: Exchange) -> None:
    created = subscription(patient=KEY)
    exchange.store(SubscriptionCreation(subscription=created))
    exchange.subscriptions.acknowledge(created, 1)
    revised = replace(created, version=2, endpoint="https://other.example/", headers=(), body=b"{}")
    exchange.store(SubscriptionRevision(before=created, after=revised))
    assert exchange.subscriptions.find("sub") == replace(revised, delivered=1)
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
    exchange.dispatcher().dispatch(event(1), NOON)
    assert exchange.log.last_number("sub") == 0
    later = replace(created.interest, since=NOON)
    again = replace(off, version=3, status=SubscriptionStatus.REQUESTED, interest=later)
    exchange.store(SubscriptionRevision(before=off, after=again))
    assert exchange.subscriptions.interests(["document-changed"], [KEY]) == [later]


def test_numbers_are_contiguous_and_an_event_has_one(exchange: Exchange) -> None:
    exchange.store(SubscriptionCreation(subscription=subscription()))
    assert exchange.log.last_number("sub") == 0
    assert exchange.log.between("sub", 1, 0) == []
    assert [exchange.log.append("sub", event(version)) for version in (1, 2, 1, 3, 2, 2)] == [
        1,
        2,
        1,
        3,
        2,
        2,
    ]
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
        def _append(self, subscription: str, event: Event, number: int) -> Any:
            for rival in rivals:
                exchange.log.append(subscription, rival)
                break
            return super()._append(subscription, event, number)

    log = Overtaken(exchange.dynamodb, NAMES)
    assert log.append("sub", event(2)) == 4
    rivals = iter([event(3)])
    assert log.append("sub", event(3)) == 5  # the rival dispatched the very same event
    assert [entry.event for entry in exchange.log.between("sub", 1, 9)] == [event(v) for v in (11, 12, 1, 2, 3)]


def test_a_log_that_is_always_overtaken_gives_up(exchange: Exchange) -> None:
    exchange.store(SubscriptionCreation(subscription=subscription()))
    others = iter(range(100, 200))

    class Overtaken(DynamoNotificationLog):
        def _append(self, subscription: str, event: Event, number: int) -> Any:
            exchange.log.append(subscription, replace(event, version=next(others)))
            return super()._append(subscription, event, number)

    with pytest.raises(Exception, match="Too many requests"):
        Overtaken(exchange.dynamodb, NAMES).append("sub", event(1))


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
    assert sorted((name, number) for name, number, _ in orders) == [("other", 1), ("sub", 1)]
    exchange.deliveries.postpone(orders[0][2], 0)
    assert [name for name, _, _ in exchange.orders()] == [orders[0][0]]


def test_an_order_of_a_restart_is_another_order(exchange: Exchange) -> None:
    for restart in (None, 3, 3, 4):
        exchange.deliveries.order("sub", 0, restart=restart)
    numbers = []
    while messages := exchange.receive():
        for message in messages:
            numbers.append(json.loads(message["Body"])["number"])
            exchange.sqs.delete_message(QueueUrl=exchange.queue_url, ReceiptHandle=message["ReceiptHandle"])
    assert numbers == [0, 0, 0]


# --- dispatch -----------------------------------------------------------------------------------------------


def test_an_event_reaches_every_subscription_it_concerns(exchange: Exchange) -> None:
    for name, patient in (("everybody", None), ("by-key", KEY), ("by-link", OTHER), ("else", "z" * 16)):
        exchange.store(SubscriptionCreation(subscription=subscription(name, patient=patient)))
    exchange.dispatcher().dispatch(event(1), NOON)
    assert {order[:2] for order in exchange.orders()} == {("everybody", 1), ("by-key", 1), ("by-link", 1)}


def test_what_may_not_be_seen_is_not_numbered(exchange: Exchange) -> None:
    exchange.store(SubscriptionCreation(subscription=subscription()))
    exchange.dispatcher().dispatch(event(1), NOON)
    close_record(exchange)
    dispatcher = exchange.dispatcher()  # of the next batch
    dispatcher.dispatch(event(2), NOON)
    dispatcher.dispatch(event(1, patient="zzzzzzzzzzzzzzzz"), NOON)  # a person that is not known
    exchange.clients.deactivate("practice")
    dispatcher.dispatch(event(3, patient=None), NOON)
    assert exchange.log.last_number("sub") == 1


def test_a_query_is_asked_of_who_may_learn_only(exchange: Exchange) -> None:
    created = subscription()
    wanted = replace(created.interest, filter=Filter(query="2,3"))
    exchange.store(SubscriptionCreation(subscription=replace(created, interest=wanted)))
    for version in (1, 2):
        exchange.dispatcher().dispatch(event(version), NOON)
    close_record(exchange)
    exchange.dispatcher().dispatch(event(3), NOON)
    assert [entry.event for entry in exchange.log.between("sub", 1, 9)] == [event(2)]


def test_the_failure_of_one_subscription_is_not_the_others(exchange: Exchange) -> None:
    for name in ("first", "second", "third"):
        exchange.store(SubscriptionCreation(subscription=subscription(name)))

    class FailsForOne(SqsDeliveries):
        def order(self, subscription: str, number: int, *, restart: int | None = None) -> None:
            if subscription == "first":
                raise Unavailable()
            super().order(subscription, number)

    failing = FailsForOne(exchange.sqs, exchange.queue_url)
    with pytest.raises(Unavailable):
        Dispatcher(replace(exchange.ports, deliveries=failing), feed=Feed).dispatch(event(1), NOON)
    assert {name for name, _, _ in exchange.orders()} == {"second", "third"}
    exchange.dispatcher().dispatch(event(1), NOON)  # the event comes again
    assert {(name, number) for name, number, _ in exchange.orders()} == {("first", 1)}


@pytest.mark.parametrize("seed", range(2))
def test_duplicates_crashes_and_lost_orders_leave_contiguous_numbers(exchange: Exchange, seed: int) -> None:
    """Dispatch dies between log and order, or after both; each event comes until it went through."""
    chance = random.Random(seed)

    class Crashing(SqsDeliveries):
        def order(self, subscription: str, number: int, *, restart: int | None = None) -> None:
            where = chance.random()
            if where < 0.2:
                raise Unavailable()
            super().order(subscription, number)
            if where > 0.8:
                raise Unavailable()

    exchange.store(SubscriptionCreation(subscription=subscription()))
    crashing = Crashing(exchange.sqs, exchange.queue_url)
    dispatcher = Dispatcher(replace(exchange.ports, deliveries=crashing), feed=Feed)
    waiting = [event(version) for version in range(1, 11)]
    while waiting:
        coming = waiting.pop(chance.randrange(len(waiting)))
        if chance.random() < 0.2:
            waiting.append(coming)
        try:
            dispatcher.dispatch(coming, NOON)
        except Unavailable:
            waiting.append(coming)
    entries = exchange.log.between("sub", 1, 99)
    assert [entry.number for entry in entries] == list(range(1, 11))
    assert sorted(entry.event.version for entry in entries if entry.event) == list(range(1, 11))

    exchange.network.failing["https://sub.example/"] = 5
    while messages := exchange.receive():
        for message in messages:
            try:
                exchange.deliver(message)
            except UndeliveredError:
                break
            exchange.sqs.delete_message(QueueUrl=exchange.queue_url, ReceiptHandle=message["ReceiptHandle"])
    arrived = [line.split()[0] for line in exchange.network.arrived["https://sub.example/"]]
    assert list(dict.fromkeys(arrived)) == [f"sub.{number}" for number in range(1, 11)]
    assert len(arrived) == 10 + 5


# --- delivery -----------------------------------------------------------------------------------------------


def numbered(exchange: Exchange, count: int, **which: Any) -> str:
    """A subscription with this many events in its log; the receipt of an order for it."""
    exchange.store(SubscriptionCreation(subscription=subscription(**which)))
    for version in range(1, count + 1):
        exchange.log.append("sub", event(version))
    exchange.deliveries.order("sub", count)
    ((_, _, receipt),) = exchange.orders()
    return receipt


def sent(exchange: Exchange) -> list[str]:
    return exchange.network.arrived.get("https://sub.example/", [])


def status(exchange: Exchange) -> str | None:
    found = exchange.subscriptions.find("sub")
    return found.status.value if found else None


def test_a_handshake_comes_first_and_activates(exchange: Exchange) -> None:
    receipt = numbered(exchange, 1, status="requested")
    exchange.deliverer().deliver("sub", 0, attempt=1, receipt=receipt, at=NOON)
    assert sent(exchange) == ['sub.handshake ["handshake", 1]']
    assert status(exchange) == "active"
    exchange.deliverer().deliver("sub", 1, attempt=1, receipt=receipt, at=NOON)
    exchange.deliverer().deliver("sub", 0, attempt=1, receipt=receipt, at=NOON)
    assert sent(exchange)[1:] == [f'sub.1 ["event-notification", 1, "1:{event(1).reference}"]']


def test_an_order_makes_up_for_a_handshake_that_was_never_ordered(exchange: Exchange) -> None:
    receipt = numbered(exchange, 2, status="requested")
    exchange.deliverer().deliver("sub", 2, attempt=1, receipt=receipt, at=NOON)
    assert [line.split()[0] for line in sent(exchange)] == ["sub.handshake", "sub.1", "sub.2"]


def test_an_endpoint_that_refuses_the_handshake_is_in_error(exchange: Exchange) -> None:
    receipt = numbered(exchange, 1, status="requested")
    exchange.network.failing["https://sub.example/"] = 1
    exchange.deliverer().deliver("sub", 1, attempt=1, receipt=receipt, at=NOON)
    assert status(exchange) == "error"
    exchange.deliverer().deliver("sub", 1, attempt=1, receipt=receipt, at=NOON)
    assert len(sent(exchange)) == 1
    assert exchange.log.append("sub", event(2)) == 2  # the counter still grows


def test_a_failing_endpoint_is_tried_again_later_and_given_up_in_the_end(exchange: Exchange) -> None:
    receipt = numbered(exchange, 2)
    exchange.network.failing["https://sub.example/"] = 99
    for attempt in range(1, MAX_DELIVERY_ATTEMPTS + 1):
        assert status(exchange) == "active"
        with pytest.raises(UndeliveredError):
            exchange.deliverer().deliver("sub", 2, attempt=attempt, receipt=receipt, at=NOON)
    assert status(exchange) == "error"
    assert [line.split()[0] for line in sent(exchange)] == ["sub.1"] * MAX_DELIVERY_ATTEMPTS
    exchange.deliverer().deliver("sub", 2, attempt=1, receipt=receipt, at=NOON)
    assert len(sent(exchange)) == MAX_DELIVERY_ATTEMPTS


def test_pauses_grow_to_a_bound() -> None:
    assert [longest_pause_seconds(attempt) for attempt in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert longest_pause_seconds(50) == 300


def test_an_order_goes_on_where_the_last_acknowledgement_was(exchange: Exchange) -> None:
    receipt = numbered(exchange, 3)
    exchange.deliverer().deliver("sub", 2, attempt=1, receipt=receipt, at=NOON)
    exchange.deliverer().deliver("sub", 1, attempt=1, receipt=receipt, at=NOON)  # overtaken
    exchange.subscriptions.acknowledge(subscription(), 1)  # by an invocation that outlived its order
    exchange.deliverer().deliver("sub", 3, attempt=1, receipt=receipt, at=NOON)
    assert [line.split()[0] for line in sent(exchange)] == ["sub.1", "sub.2", "sub.3"]


def test_rights_are_checked_again_at_delivery(exchange: Exchange) -> None:
    receipt = numbered(exchange, 2)
    close_record(exchange)
    exchange.deliverer().deliver("sub", 1, attempt=1, receipt=receipt, at=NOON)
    assert sent(exchange) == ['sub.1 ["event-notification", 1, "1:-"]']  # a number, and nothing else
    exchange.clients.deactivate("practice")
    exchange.deliverer().deliver("sub", 2, attempt=1, receipt=receipt, at=NOON)
    assert status(exchange) == "off"
    assert len(sent(exchange)) == 1


def feed(exchange: Exchange, *, status: str = "active") -> str:
    """A subscription to the patient feed with one event in its log; the receipt of an order for it."""
    exchange.store(SubscriptionCreation(subscription=replace(subscription(status=status), channel=Channel.MESSAGE)))
    exchange.log.append("sub", event(1))
    exchange.deliveries.order("sub", 1)
    ((_, _, receipt),) = exchange.orders()
    return receipt


def test_a_feed_has_no_handshake_and_is_told_in_messages(exchange: Exchange) -> None:
    receipt = feed(exchange, status="requested")
    exchange.deliverer().deliver("sub", 0, attempt=1, receipt=receipt, at=NOON)
    assert (sent(exchange), status(exchange)) == ([], "active")
    exchange.deliverer().deliver("sub", 1, attempt=1, receipt=receipt, at=NOON)
    assert sent(exchange) == [f"sub.1 {event(1).reference} of p"]
    around = timedelta(hours=1)
    (record,) = exchange.trail.of_patients([KEY], Span(since=NOON - around, until=NOON + around))
    assert (record.name, record.references[0]) == ("notification", event(1).reference)


def test_what_a_feed_may_no_longer_tell_is_not_sent(exchange: Exchange) -> None:
    receipt = feed(exchange)
    close_record(exchange)
    exchange.deliverer().deliver("sub", 1, attempt=1, receipt=receipt, at=NOON)
    assert sent(exchange) == []
    found = exchange.subscriptions.find("sub")
    assert found is not None
    assert found.delivered == 1
    around = timedelta(hours=1)
    assert list(exchange.trail.of_patients([KEY], Span(since=NOON - around, until=NOON + around))) == []


def test_an_error_says_what_the_endpoint_did(exchange: Exchange) -> None:
    receipt = feed(exchange)
    exchange.network.failing["https://sub.example/"] = 1
    with pytest.raises(UndeliveredError):
        exchange.deliverer().deliver("sub", 1, attempt=MAX_DELIVERY_ATTEMPTS, receipt=receipt, at=NOON)
    found = exchange.subscriptions.find("sub")
    assert found is not None
    assert (found.status, found.error) == ("error", "the endpoint did not acknowledge: status 503")


def test_no_reference_leaves_before_its_audit_record_is_stored(exchange: Exchange) -> None:
    receipt = numbered(exchange, 1)

    class Unreachable(DynamoAuditTrail):
        def append(self, records: Any) -> None:
            raise Unavailable()

    exchange.trail = Unreachable(exchange.dynamodb, NAMES)
    with pytest.raises(Unavailable):
        exchange.deliverer().deliver("sub", 1, attempt=1, receipt=receipt, at=NOON)
    assert sent(exchange) == []

    exchange.trail = DynamoAuditTrail(exchange.dynamodb, NAMES)
    exchange.deliverer().deliver("sub", 1, attempt=2, receipt=receipt, at=NOON)
    around = timedelta(hours=1)
    (record,) = exchange.trail.of_patients([KEY], Span(since=NOON - around, until=NOON + around))
    assert (record.client_id, record.name, record.references[0]) == (
        "practice",
        "notification",
        event(1).reference,
    )


def test_a_deleted_subscription_gets_nothing(exchange: Exchange) -> None:
    receipt = numbered(exchange, 1)
    exchange.store(SubscriptionDeletion(subscription=subscription()))
    exchange.deliverer().deliver("sub", 1, attempt=1, receipt=receipt, at=NOON)
    assert sent(exchange) == []
