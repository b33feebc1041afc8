"""One order for any backlog: no event is left behind, in whichever order dispatch, queue and delivery take their steps.

The dispatcher and the deliverer are the real ones. What they share is kept in memory; the queue drops an order that it
ever had before, which is more than SQS does.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from passerelle.access import Caller, Scopes
from passerelle.authorization.model import Client
from passerelle.authorization.ports import Known
from passerelle.directory.model import Role
from passerelle.events import Event, EventName
from passerelle.notifications.breaker import Breaker
from passerelle.notifications.delivery import Deliverer, Order
from passerelle.notifications.dispatch import Dispatcher
from passerelle.notifications.model import (
    Channel,
    Content,
    Filter,
    HeldBackError,
    Interest,
    Notification,
    Subscription,
    SubscriptionStatus,
    UndeliveredError,
)
from passerelle.notifications.ports import NotificationPorts, Progress
from tests.interleavings import Gates, explore

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCOPES = Scopes.parse("system/Subscription.crd system/Organization.rs")
OWNER = Caller(client_id="practice", organisation="1", role=Role.PRACTICE, scopes=SCOPES, token_id="t")
CLIENT = Client(id="practice", organisation="1", role=Role.PRACTICE, scopes=SCOPES, jwks=())
INTEREST = Interest(subscription="sub", owner=OWNER, topic="anything-changed", filter=Filter(), since=NOON)


def event(version: int) -> Event:
    return Event(
        name=EventName.RECORD_CHANGED, reference="Organization/1", version=version, at=NOON, author="x", patient=None
    )


class Shared:
    """Log, subscription and queue: each call is one step. One process in all may end, one post may fail."""

    def __init__(self, gates: Gates, events: Sequence[int], *, status: SubscriptionStatus, troubles: int) -> None:
        self.gates = gates
        self.events = events
        self.log: list[int] = []
        self.delivered = 0
        self.status = status
        self.queue: list[str] = []
        self.known: set[str] = set()
        self.troubles = troubles
        self.received: list[int] = []
        self.working = 0

    def step(self, *also: str, when: Callable[[], bool] = lambda: True) -> str:
        """Wait for the turn of the next step."""
        troubles = (*also, "crash")
        outcome = self.gates.pass_(lambda: () if not when() else ("done", *troubles[: len(troubles) * self.troubles]))
        if outcome != "done":
            self.troubles -= 1
        if outcome == "crash":
            raise Crash
        return outcome

    # what the ports do

    def append(self, subscription: str, events: Sequence[Event]) -> list[int]:
        self.step()
        self.log += [each.version for each in events if each.version not in self.log]
        numbers = [self.log.index(each.version) + 1 for each in events]
        self.gates.see(tuple(numbers))
        return numbers

    def progress(self, id: str) -> Progress | None:
        self.step()
        self.gates.see((self.status, self.delivered))
        if self.status is SubscriptionStatus.ERROR:
            return None
        return Progress(delivered=self.delivered, is_paced=False)

    def order(self, subscription: str, delivered: int, *, urgent: bool = False) -> None:
        self._send(f"#{delivered}")

    def start(self, subscription: str, version: int) -> None:
        self._send(f"start#{version}")

    def _send(self, order: str) -> None:
        self.step()
        if order not in self.known:
            self.known.add(order)
            self.queue.append(order)
        self.gates.see("ordered")

    def find(self, id: str) -> Subscription:
        self.step()
        self.gates.see((self.status, self.delivered))
        return Subscription(
            id="sub",
            version=1,
            at=NOON,
            status=self.status,
            interest=INTEREST,
            endpoint="https://sub.example/",
            headers=(),
            content=Content.ID_ONLY,
            secret="s",
            base_url="https://api.example/fhir",
            delivered=self.delivered,
            body=b"{}",
        )

    def set_status(self, subscription: Subscription, status: SubscriptionStatus, at: datetime, **_: Any) -> None:
        self.step()
        self.status = status
        self.gates.see(status)

    def beyond(self, subscription: str, number: int, *, limit: int | None = None) -> list[Notification]:
        self.step()
        found = [
            Notification(number=place, at=NOON, event=event(version)) for place, version in enumerate(self.log, 1)
        ][number:][:limit]
        self.gates.see([each.number for each in found])
        return found

    def last_number(self, subscription: str) -> int:
        return len(self.log)

    def tell(self, subscription: Subscription, kind: Any, entries: Sequence[Notification], *_: Any) -> None:
        if self.step("fails") == "fails":
            self.gates.see("failed")
            raise UndeliveredError("timeout")
        self.received += [each.number for each in entries]
        self.gates.see("told")

    def acknowledge(self, subscription: Subscription, number: int, at: datetime) -> None:
        self.step()
        self.delivered = max(self.delivered, number)
        self.gates.see(number)

    def count_failure(self, subscription: Subscription, at: datetime) -> int:
        return 1

    def interests(self, topics: Any, patients: Any) -> list[Interest]:
        return [INTEREST]

    def look_up(self, client_id: str, *, parties: Any = ()) -> Known:
        return Known(client=CLIENT, barred=frozenset())

    def postpone(self, receipt: str, seconds: int) -> None:
        return


class Crash(BaseException):
    """The process ends, and what it worked on comes again."""


class Quiet:
    """A breaker that never breaks, and a trail that keeps nothing."""

    def find(self, origin: str) -> Breaker:
        return Breaker()

    def count_failure(self, *_: Any) -> None:
        return

    def append(self, records: Any) -> None:
        return


class Exchange(Shared):
    """One dispatcher for each event, one deliverer at a time, and somebody who subscribes."""

    late = timedelta()  # that each look at the clock takes

    def ports(self) -> NotificationPorts:
        here = cast(Any, self)
        return NotificationPorts(
            subscriptions=here,
            log=here,
            deliveries=here,
            clients=here,
            people=here,
            record=here,
            turns=here,
            shows_access=lambda *_: True,
            shows_prescription=lambda *_: True,
        )

    def processes(self) -> Mapping[str, Callable[[], None]]:
        dispatchers = {f"event {each}": lambda each=each: self._dispatch(event(each)) for each in self.events}
        if self.status is SubscriptionStatus.ACTIVE:
            return {**dispatchers, "queue": self._serve}
        return {**dispatchers, "queue": self._serve, "subscriber": self._subscribe}

    def _subscribe(self) -> None:
        if self.status is SubscriptionStatus.REQUESTED:
            with suppress(Crash):  # the request is not repeated: events order, too
                self.start("sub", 1)
            return
        while True:
            try:
                self.step()
                self.status = SubscriptionStatus.REQUESTED
                self.start("sub", 2)
            except Crash:
                self.gates.forget()  # the request is repeated
            else:
                return

    def _dispatch(self, event: Event) -> None:
        while True:
            try:
                assert not Dispatcher(self.ports(), feeds={}).dispatch([event], NOON)
            except Crash:
                self.gates.forget()  # the event comes again
            else:
                return

    def _serve(self) -> None:
        """The queue gives out the first order of the group, until it was served."""
        while True:
            self.gates.forget()
            self.gates.pass_(lambda: ("done",) if self.queue else ())
            self.gates.see("received")
            try:
                self._deliver()
            except (Crash, UndeliveredError, HeldBackError):
                continue
            self.queue.pop(0)

    def _deliver(self) -> None:
        clock = [NOON]

        def now() -> datetime:
            clock[0] += self.late
            return clock[0]

        quiet = cast(Any, Quiet())
        deliverer = Deliverer(
            self.ports(),
            carriers={Channel.REST_HOOK: cast(Any, self)},
            breakers=quiet,
            resources=lambda: quiet,
            trail=quiet,
            incident=lambda _: None,
            now=now,
            zone=UTC,
        )
        deliverer.deliver(Order(subscription="sub", attempt=1, receipt="r"))
        self.step()  # the message is deleted

    def state(self) -> Hashable:
        return (
            *(tuple(self.log), self.delivered, self.status),
            *(tuple(self.queue), frozenset(self.known), self.troubles),
            tuple(dict.fromkeys(self.received)),
        )

    def check(self) -> None:
        refused = self.status is SubscriptionStatus.ERROR and not self.troubles  # the handshake
        assert refused or self.delivered == len(self.log) == len(self.events), "an event was left behind"
        assert list(dict.fromkeys(self.received)) == sorted(set(self.received)), "out of order"


def world(
    *events: int,
    status: SubscriptionStatus = SubscriptionStatus.ACTIVE,
    troubles: int = 1,
    kind: type[Exchange] = Exchange,
) -> Callable[[Gates], Exchange]:
    return lambda gates: kind(gates, events, status=status, troubles=troubles)


def test_no_event_is_left_behind() -> None:
    """Two dispatchers; one of the processes ends anywhere, or one notification fails."""
    assert explore(world(1, 2)) > 100


@pytest.mark.parametrize("status", [SubscriptionStatus.REQUESTED, SubscriptionStatus.ERROR])
def test_no_event_is_left_behind_when_a_subscription_starts(status: SubscriptionStatus) -> None:
    """Or starts again."""
    assert explore(world(1, status=status)) > 100


def test_no_event_is_left_behind_when_an_order_is_served_in_parts() -> None:
    class Slow(Exchange):
        late = timedelta(seconds=15)

    assert explore(world(1, 2, kind=Slow)) > 100


class ReadsTooEarly(Exchange):
    """How far it was told is known before the entry is appended."""

    def append(self, subscription: str, events: Sequence[Event]) -> list[int]:
        self.early = self.delivered
        return super().append(subscription, events)

    def progress(self, id: str) -> Progress:
        self.step()
        self.gates.see(self.early)
        return Progress(delivered=self.early, is_paced=False)


class StartsLikeAnOrder(Exchange):
    """The handshake is ordered as the first event is."""

    def start(self, subscription: str, version: int) -> None:
        self._send("#0")


class LooksOnce(Exchange):
    """What came while it was told is left to the next order."""

    def beyond(self, subscription: str, number: int, *, limit: int | None = None) -> list[Notification]:
        found = super().beyond(subscription, number, limit=limit)
        return found if number == self.delivered == 0 else []


@pytest.mark.parametrize(
    ("kind", "events", "status"),
    [
        (ReadsTooEarly, (1, 2), SubscriptionStatus.ACTIVE),
        (StartsLikeAnOrder, (1,), SubscriptionStatus.REQUESTED),
        (LooksOnce, (1, 2), SubscriptionStatus.ACTIVE),
    ],
)
def test_each_part_of_the_protocol_is_needed(
    kind: type[Exchange], events: tuple[int, ...], status: SubscriptionStatus
) -> None:
    with pytest.raises(AssertionError, match="left behind"):
        explore(world(*events, status=status, kind=kind, troubles=0))
