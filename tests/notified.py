"""An exchange whose notifications are on moto, with a clock, a network and subscribers of the test's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from passerelle.access import Caller, Request, Scopes, Touched
from passerelle.audit.model import audit_of
from passerelle.aws.audit import DynamoAuditTrail
from passerelle.aws.bus import SqsDeliveries
from passerelle.aws.clients import DynamoClients
from passerelle.aws.dynamodb import DynamoDb, in_parallel
from passerelle.aws.journal import DynamoJournal, TableNames
from passerelle.aws.notifications import DynamoBreakers, DynamoNotificationLog, DynamoSubscriptions
from passerelle.aws.patients import DynamoPatientIndex
from passerelle.aws.records import DynamoRecordStore
from passerelle.consents.decision import Implicit
from passerelle.consents.model import RecordStatus
from passerelle.directory.model import Role
from passerelle.events import Event, EventName
from passerelle.fhir.concealment import ReferenceMending
from passerelle.identifiers import Blinder
from passerelle.notifications.carriers import FeedCarrier, WebhookCarrier
from passerelle.notifications.delivery import Deliverer, Order
from passerelle.notifications.dispatch import Dispatcher
from passerelle.notifications.model import (
    Channel,
    Content,
    Filter,
    Interest,
    NotificationKind,
    Subscription,
    SubscriptionStatus,
    Turn,
    UndeliveredError,
)
from passerelle.notifications.ports import InParallel, NotificationPorts, one_by_one
from passerelle.notifications.topics import FEED
from passerelle.patients.model import Person, PersonChange
from passerelle.prescriptions.workdays import PARIS
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
        self.headers: list[Mapping[str, str]] = []
        self.failing: dict[str, int] = {}
        self.refuses = False  # what fails answers 404

    def post(self, endpoint: str, headers: Mapping[str, str], body: bytes) -> None:
        self.arrived.setdefault(endpoint, []).append(f"{headers['X-Passerelle-Delivery']} {body.decode()}")
        self.headers.append(headers)
        if self.failing.get(endpoint, 0) > 0:
            self.failing[endpoint] -= 1
            raise UndeliveredError("status 404", is_answer=True) if self.refuses else UndeliveredError("status 503")


def render(subscription: Subscription, kind: NotificationKind, entries: Any, total: int, at: datetime) -> bytes:
    """`number:reference`, `-` where the event is not told, and what the resource is, if there is one."""
    told = [
        f"{entry.number}:{entry.event.reference if entry.event else '-'}"
        + (f"={entry.resource.decode()}" if entry.resource else "")
        for entry in entries
    ]
    return json.dumps([kind, total, *told]).encode()


class Bodies:
    """`ports.Resources`: says which version it is of; cannot read those that are broken."""

    def __init__(self) -> None:
        self.broken: dict[int, Exception] = {}
        self.size = 0

    def body(self, owner: Caller, event: Event, person: Person | None, at: datetime) -> bytes | None:
        if event.version in self.broken:
            raise self.broken[event.version]
        return f"v{event.version}".encode() + b" " * self.size


class Waiting(SqsDeliveries):
    """Orders that were put off come back at once: the clock of the test goes on instead."""

    def __init__(self, client: Any, queue_url: str) -> None:
        super().__init__(client, queue_url)
        self.pauses: list[int] = []

    def postpone(self, receipt: str, seconds: int) -> None:
        self.pauses.append(seconds)
        super().postpone(receipt, 0)


class Turns:
    """`ports.Turns`: every record is one of the subscribers' own house."""

    def of(self, event: Event) -> Turn:
        return Turn(houses=frozenset({OWNER.organisation}))


class Feed:
    """`ports.Feed`: a query names the versions that meet it, a message says what it was asked for."""

    def meets(self, interest: Interest, event: Event, person: Person) -> bool:
        return str(event.version) in (interest.filter.query or "").split(",")

    def message(self, subscription: Subscription, event: Event, person: Person, delivery: str, at: datetime) -> bytes:
        return f"{event.reference} of {person.key}".encode()


FEEDS = {FEED: Feed, "document-changed": Feed}


def served(dispatcher: Dispatcher, event: Event, at: datetime) -> None:
    """Dispatch a batch of one; raises what kept it from being served."""
    for failure in dispatcher.dispatch([event], at).values():
        raise failure


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
    sqs: Any
    queue_url: str
    network: Network = field(default_factory=Network)
    bodies: Bodies = field(default_factory=Bodies)
    incidents: list[str] = field(default_factory=list)
    at: datetime = NOON
    tick: timedelta = timedelta()  # that each look at the clock takes

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
            turns=Turns(),
            shows_access=lambda caller, id, at: True,
            shows_prescription=lambda caller, id, at: True,
        )

    def dispatcher(self) -> Dispatcher:
        return Dispatcher(self.ports, feeds=FEEDS)

    def dispatch(self, event: Event, at: datetime) -> None:
        """As a batch of its own; raises what kept it from being served."""
        served(self.dispatcher(), event, at)

    def now(self) -> datetime:
        self.at += self.tick
        return self.at

    def deliverer(self, in_parallel: InParallel = one_by_one) -> Deliverer:
        """Random pauses are as long as they may be."""
        return Deliverer(
            self.ports,
            carriers={
                Channel.REST_HOOK: WebhookCarrier(self.network, render=render),
                Channel.EMAIL: WebhookCarrier(self.network, render=render),
                Channel.MESSAGE: FeedCarrier(self.network, people=self.people, feed=Feed),
            },
            breakers=self.breakers,
            resources=lambda: self.bodies,
            trail=self.trail,
            incident=self.incidents.append,
            now=self.now,
            zone=PARIS,
            spread=lambda low, high: high,
            in_parallel=in_parallel,
        )

    @property
    def pauses(self) -> list[int]:
        """For how long orders were put off, in seconds."""
        assert isinstance(self.deliveries, Waiting)
        return self.deliveries.pauses

    @property
    def breakers(self) -> DynamoBreakers:
        return DynamoBreakers(self.dynamodb, NAMES)

    def receive(self) -> list[Any]:
        """One message, as the queue gives them to delivery: the next of a group once this one is gone."""
        return list(
            self.sqs.receive_message(
                QueueUrl=self.queue_url, VisibilityTimeout=600, MessageSystemAttributeNames=["ApproximateReceiveCount"]
            ).get("Messages", [])
        )

    def serve(self, message: Any) -> None:
        """As the function does; the message goes only if that went well."""
        asked = json.loads(message["Body"])
        if asked.get("heartbeat"):
            self.deliverer().beat(asked["subscription"])
        else:
            order = Order(
                subscription=asked["subscription"],
                attempt=int(message["Attributes"]["ApproximateReceiveCount"]),
                receipt=message["ReceiptHandle"],
                urgent=asked.get("urgent", False),
            )
            self.deliverer().deliver(order)
        self.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])

    def step(self) -> Exception | bool:
        """Serve the next order: whether there was one, or what it raised; then the clock goes on to its next time."""
        messages = self.receive()
        if not messages:
            return False
        before = len(self.pauses)
        try:
            self.serve(messages[0])
        except Exception as failure:  # noqa: BLE001 - the caller looks at it
            if len(self.pauses) == before:  # it comes back after the visibility timeout
                self.sqs.change_message_visibility(
                    QueueUrl=self.queue_url, ReceiptHandle=messages[0]["ReceiptHandle"], VisibilityTimeout=0
                )
            else:
                self.at += timedelta(seconds=self.pauses[-1])
            return failure
        return True

    def run(self, *, steps: int = 200) -> None:
        """Serve until no order is left."""
        for _ in range(steps):
            if self.step() is False:
                return
        raise AssertionError("orders go on coming back")

    def orders(self) -> list[tuple[str, str]]:
        """(subscription, receipt) of the orders that the queue gives out now; they stay in flight."""
        found = []
        while messages := self.receive():
            found += [(json.loads(each["Body"])["subscription"], each["ReceiptHandle"]) for each in messages]
        return found

    def found(self, name: str = "sub") -> Subscription:
        found = self.subscriptions.find(name)
        assert found is not None
        return found

    def told(self, name: str = "sub") -> list[str]:
        """What arrived at its endpoint, in order."""
        return self.network.arrived.get(f"https://{name}.example/", [])

    def ids(self, name: str = "sub") -> list[str]:
        """The delivery ids of it."""
        return [line.split()[0] for line in self.told(name)]


@contextmanager
def exchange_on_moto() -> Iterator[Exchange]:
    with notifications_on_moto() as sqs:
        url = sqs.get_queue_url(QueueName="deliveries.fifo")["QueueUrl"]
        dynamodb = DynamoDb(client("dynamodb"), sleep=lambda seconds: None)
        exchange = Exchange(
            dynamodb=dynamodb,
            journal=DynamoJournal(dynamodb, NAMES),
            subscriptions=DynamoSubscriptions(dynamodb, NAMES),
            log=DynamoNotificationLog(dynamodb, NAMES),
            deliveries=Waiting(sqs, url),
            clients=DynamoClients(dynamodb, NAMES),
            people=DynamoPatientIndex(dynamodb, NAMES),
            records=DynamoRecordStore(dynamodb, NAMES),
            trail=DynamoAuditTrail(dynamodb, NAMES),
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
