"""What notifications need from storage, the queue, the network and the neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from passerelle.access import Caller, Request
from passerelle.authorization.model import Party
from passerelle.authorization.ports import Known
from passerelle.consents.decision import Admission
from passerelle.consents.decision import Standing as Facts
from passerelle.events import Event
from passerelle.notifications.breaker import Breaker
from passerelle.notifications.model import (
    Interest,
    Notification,
    NotificationKind,
    Subscription,
    SubscriptionStatus,
    Turn,
)
from passerelle.patients.model import Identifier, Person

InParallel = Callable[..., tuple[Any, ...]]
"""Makes independent calls, and returns what they return, in their order."""


def one_by_one(*calls: Callable[[], Any]) -> tuple[Any, ...]:
    return tuple(call() for call in calls)


EVENTS_AT_ONCE: Final = 10
"""What the bus takes in one call."""


class EventBus(Protocol):
    def publish(self, events: Sequence[Event]) -> None:
        """Put all events on the bus; raises Unavailable if one was not taken, and some may have been then."""


class Subscriptions(Protocol):
    def find(self, id: str) -> Subscription | None: ...

    def owned_by(self, owner: Caller) -> Sequence[Subscription]:
        """Those of a client that acts for the same organisation and person, whoever sits at it."""

    def number_owned_by(self, owner: Caller) -> int:
        """How many these are."""

    def interests(self, topics: Iterable[str], patients: Sequence[str]) -> Sequence[Interest]:
        """Interests in these topics that name one of these patient keys, or no patient."""

    def is_awaited(self, topic: str, patients: Sequence[str]) -> bool:
        """Whether a subscription to this topic names one of these patient keys."""

    def set_status(
        self, subscription: Subscription, status: SubscriptionStatus, at: datetime, *, error: str = ""
    ) -> None:
        """Raises Stale when the subscription was changed or deleted since it was read; `error` says why.

        One that comes to be `active` has no failures, and was told at this time.
        """

    def progress(self, id: str) -> Progress | None:
        """How far it was told; None where nothing is told before it starts again: in `error`, `off`, or deleted."""

    def acknowledge(self, subscription: Subscription, number: int, at: datetime) -> None:
        """Everything up to this number is delivered. No effect on a deleted subscription."""

    def answered(self, subscription: Subscription, at: datetime) -> None:
        """The endpoint acknowledged something that has no number: it does not fail any more."""

    def count_failure(self, subscription: Subscription, at: datetime) -> int:
        """One more attempt that the endpoint did not acknowledge; how many in a row there are. 0 if it is deleted."""

    def hold(self, id: str, until: datetime) -> None:
        """Its order was put off until then. No effect on a deleted subscription."""

    def mark_failing(self, subscription: Subscription, at: datetime) -> None:
        """It cannot be told from this time on, though nobody tried."""


class NotificationLog(Protocol):
    def append(self, subscription: str, events: Sequence[Event]) -> Sequence[int] | None:
        """Give each event the subscription's next number, in their order, or the number that it has already.

        Numbers are contiguous from 1 and each event has one, whoever calls this, however often and at the same time.
        None when the subscription is deleted; Busy when too many others append at once: some events of many may be
        numbered then.
        """

    def numbers(self, subscription: str, events: Sequence[Event]) -> Mapping[str, int]:
        """The numbers that events have, by their ids; without those that have none."""

    def last_number(self, subscription: str) -> int: ...

    def last_numbers(self, subscriptions: Sequence[str]) -> Mapping[str, int]:
        """The same of several, 0 of those that are deleted."""

    def between(self, subscription: str, first: int, last: int, *, limit: int | None = None) -> list[Notification]:
        """Entries with first <= number <= last, in order."""

    def beyond(self, subscription: str, number: int, *, limit: int | None = None) -> list[Notification]:
        """Entries with a higher number, in order, as they are now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """`delivered` is the last number acknowledged; `is_paced`: what is not urgent may have to wait.

    Until `held_until` an order waits in the queue, and whatever else is ordered would wait behind it.
    """

    delivered: int
    is_paced: bool
    held_until: datetime | None = None


ORDERED_ONCE_WITHIN: Final = timedelta(minutes=5)
"""How long the queue of deliveries knows an order, and drops the same one."""


class Deliveries(Protocol):
    """The queue between dispatch and delivery: an order only says which subscription to look at."""

    def order(self, subscription: str, delivered: int, *, urgent: bool = False) -> None:
        """Ask that somebody looks at the log beyond the last number delivered.

        To be called only with a number that was read after the entry was appended, and is lower than the entry's. The
        same order is taken once in five minutes: whoever serves it has not looked at the log for the last time.
        `urgent` is served even while another order of the subscription waits for its time.
        """

    def start(self, subscription: str, version: int) -> None:
        """Ask for the handshake, and for what the log holds; once for each version of the subscription."""

    def beat(self, subscription: str) -> None:
        """Ask for a heartbeat, if it is due."""

    def postpone(self, receipt: str, seconds: int) -> None:
        """Give an order back to the queue, not to be received again before that time, twelve hours at most."""


class Breakers(Protocol):
    """Circuit breakers, one for each origin (scheme, host and port)."""

    def find(self, origin: str) -> Breaker: ...

    def count_failure(self, origin: str, open_until: datetime | None, at: datetime) -> None:
        """One more failure in a row; with `open_until`, nobody tries before then."""

    def take_probe(self, origin: str, breaker: Breaker, until: datetime) -> bool:
        """Whether the caller is the one that tries; the others wait `until` then. `breaker` is as it was read."""

    def close(self, origin: str) -> None:
        """Everybody may try."""


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

    def owner_among(
        self, request: Request, identifiers: Sequence[Identifier], *, expression: str
    ) -> tuple[str, Person]:
        """Whose these identifiers are, as a patient key; raises Unprocessable for nobody."""

    def hidden_from(self, caller: Caller, person: Person, at: datetime) -> Callable[[str], bool]:
        """Which resources of the person's record, as it is now, do not exist for this caller at this time.

        What hides them is read when it is first asked for, and not again.
        """

    def admission(self, caller: Caller, person: Person, at: datetime) -> tuple[Admission, Facts]:
        """What is decided about a caller and a person, and from what."""


class Turns(Protocol):
    """What became of resources; implemented by the FHIR boundary."""

    def of(self, event: Event) -> Turn:
        """What the version of the event made of its resource, whichever is current now."""


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

        May be called again with the same arguments: what is sent has the same delivery id then. Raises
        UndeliveredError.
        """


class Feed(Protocol):
    """What a subscriber is told of in messages: Patients, declared events; implemented by the FHIR boundary."""

    def meets(self, interest: Interest, event: Event, person: Person) -> bool:
        """Whether the changed resource meets the `query`, or did before it was removed."""

    def message(
        self, subscription: Subscription, event: Event, person: Person, delivery: str, at: datetime
    ) -> bytes | None:
        """The message that says what became of it (ITI-93; an order to notify), in the subscription's `payload`.

        None where there is nothing to tell any more.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationPorts:
    """What subscribing, dispatch and delivery all need.

    `shows_access`: whether an access (the id of its AuditEvent) is one by somebody else, in the history that a caller
    would read. `shows_prescription`: whether a caller would be given the prescription of this id.
    """

    subscriptions: Subscriptions
    log: NotificationLog
    deliveries: Deliveries
    clients: Clients
    people: People
    record: Record
    turns: Turns
    shows_access: Callable[[Caller, str, datetime], bool]
    shows_prescription: Callable[[Caller, str, datetime], bool]


Renderer = Callable[[Subscription, NotificationKind, Sequence[Notification], int, datetime], bytes]
"""(subscription, kind, entries, number of events since the start, time) to the bytes that are sent."""
