"""What notifications need from storage, the queue, the network and the neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from passerelle.access import Caller
from passerelle.authorization.model import Client, Party, parties_of
from passerelle.authorization.ports import Known
from passerelle.events import Event, EventName
from passerelle.notifications.audience import may_learn
from passerelle.notifications.model import (
    Interest,
    Notification,
    NotificationKind,
    Subscription,
    SubscriptionStatus,
)
from passerelle.patients.model import Person


class EventBus(Protocol):
    def publish(self, events: Sequence[Event]) -> None:
        """Put all events on the bus; raises Unavailable if one was not taken, and some may have been then."""


class Subscriptions(Protocol):
    def find(self, id: str) -> Subscription | None: ...

    def interests(self, topics: Iterable[str], patients: Sequence[str]) -> Sequence[Interest]:
        """Interests in these topics that name one of these patient keys, or no patient."""

    def set_status(
        self, subscription: Subscription, status: SubscriptionStatus, at: datetime, *, error: str = ""
    ) -> None:
        """Raises Stale when the subscription was changed or deleted since it was read; `error` says why."""

    def acknowledge(self, subscription: Subscription, number: int) -> None:
        """Everything up to this number is delivered. No effect on a deleted subscription."""


class NotificationLog(Protocol):
    def append(self, subscription: str, event: Event) -> int | None:
        """Give the event the subscription's next number, or return the number that it has already.

        Numbers are contiguous from 1 and each event has one, whoever calls this, however often and at the
        same time. None when the subscription is deleted; Busy when too many others append at once.
        """

    def last_number(self, subscription: str) -> int: ...

    def between(self, subscription: str, first: int, last: int, *, limit: int | None = None) -> list[Notification]:
        """Entries with first <= number <= last, in order."""


class Deliveries(Protocol):
    """The queue between dispatch and delivery: in order for one subscription, independent between two."""

    def order(self, subscription: str, number: int, *, restart: int | None = None) -> None:
        """Ask for the delivery of the log up to this number; 0 asks for the handshake.

        The same order is taken once in five minutes; `restart`, the version that was started again, makes it another.
        """

    def postpone(self, receipt: str, seconds: int) -> None:
        """Give an order that failed back to the queue, not to be received again before that time."""


class Webhooks(Protocol):
    def post(self, endpoint: str, headers: Mapping[str, str], body: bytes) -> None:
        """Return when the endpoint answered 2xx; else raise UndeliveredError."""


class Clients(Protocol):
    """The register of clients, as it is today (`authorization.ports.Clients`)."""

    def look_up(self, client_id: str, *, parties: Sequence[Party] = ()) -> Known:
        """A client, and which of the parties are barred."""


class People(Protocol):
    def find_person(self, patient: str) -> Person | None: ...


class Record(Protocol):
    """The record that events are about."""

    def is_hidden(self, caller: Caller, person: Person, reference: str, at: datetime) -> bool:
        """Whether a resource of the person's record, as it is now, does not exist for this caller at this time."""


class Resources(Protocol):
    """What changed, as a subscriber may read it; implemented by the FHIR boundary."""

    def body(self, owner: Caller, event: Event, person: Person | None, at: datetime) -> bytes | None:
        """The current version as the owner would be answered now, in FHIR JSON; None where that would be 404 or 410."""


class Carrier(Protocol):
    """One way of telling a subscriber: composes what is sent, and sends it."""

    def tell(
        self,
        subscription: Subscription,
        kind: NotificationKind,
        entries: Sequence[Notification],
        total: int,
        at: datetime,
    ) -> None:
        """Tell these entries, as the subscriber may know them; return when they were taken.

        May be called again with the same arguments: what is sent has the same delivery id then. Raises UndeliveredError.
        """


class PatientFeed(Protocol):
    """The Patients of a feed as its subscriber may see them now; implemented by the FHIR boundary."""

    def meets(self, query: str, event: Event, owner: Caller, person: Person) -> bool:
        """Whether the changed Patient meets the search, or did before it was removed."""

    def message(self, subscription: Subscription, event: Event, person: Person, delivery: str, at: datetime) -> bytes:
        """The message that says what became of the Patient (ITI-93), in the subscription's `payload`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationPorts:
    """What subscribing, dispatch and delivery all need."""

    subscriptions: Subscriptions
    log: NotificationLog
    deliveries: Deliveries
    clients: Clients
    people: People
    record: Record

    def client_of(self, owner: Caller) -> Client | None:
        """The client of a subscriber as it is today; None where it acts for somebody who is barred."""
        known = self.clients.look_up(owner.client_id, parties=parties_of(owner.organisation, owner.professional))
        return None if known.barred else known.client

    def may_know(self, owner: Caller, client: Client | None, event: Event, person: Person | None, at: datetime) -> bool:
        """Whether the owner could read the changed resource now (contract SUB-10); `person` is that of the event."""
        if not may_learn(owner, client, event, person):
            return False
        if event.name is EventName.ERASED:
            return True  # whoever has a copy has to know, and learns no more than that
        return person is None or not self.record.is_hidden(owner, person, event.reference, at)


Renderer = Callable[[Subscription, NotificationKind, Sequence[Notification], int, datetime], bytes]
"""(subscription, kind, entries, number of events since the start, time) to the bytes that are sent."""
