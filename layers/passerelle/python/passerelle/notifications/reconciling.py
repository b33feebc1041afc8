"""Look every few minutes for what nobody noticed: silent subscriptions, and events that were lost on their way.

Every hop from a commit to a webhook is repeated until it succeeds, and has dead letters with an alarm. This is what
finds the rest: an outbox item that was never relayed, an event that the bus or a queue dropped, an order of delivery
that is gone. What the outbox holds is compared with the logs of the subscriptions that it concerns, a part of the
outbox at each run, the whole within the hour; what is missing is numbered and ordered then, as dispatch would have
done it. Runs may overlap, be repeated, or be left out: the marks say up to when each part was compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, Protocol

from passerelle.errors import PasserelleError
from passerelle.events import Event
from passerelle.notifications.dispatch import Told
from passerelle.notifications.model import CONFIRMED, SubscriptionStatus
from passerelle.notifications.ports import Deliveries, NotificationLog, Subscriptions

TURN: Final = timedelta(minutes=5)
PARTS: Final = 12
"""Parts of the outbox; each has its turn once an hour."""

SETTLED: Final = timedelta(minutes=10)
"""After this, an event has been numbered and ordered, or something is wrong."""

OUTBOX_KEPT: Final = timedelta(days=7)

OVERDUE: Final = timedelta(hours=1)
"""After what an order waits for, or the first failure: attempts follow each other, or are noted to wait."""

_TOGETHER = 100  # events that are compared at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """A subscription that wants to hear something every `heartbeat`, and when it is to be looked at next."""

    subscription: str
    heartbeat: timedelta
    due: datetime


class Silences(Protocol):
    def due(self, at: datetime) -> Sequence[Silence]:
        """Those that are to be looked at by now."""

    def look_again(self, silence: Silence, due: datetime) -> None:
        """No effect if it changed meanwhile."""


class Outbox(Protocol):
    def announced(self, part: int, since: datetime, until: datetime) -> Iterable[Event]:
        """The events of a part of the outbox, announced at or after `since` and before `until`."""

    def compared(self, part: int) -> datetime | None:
        """Up to when; None: never."""

    def mark(self, part: int, until: datetime) -> None: ...


class Audience(Protocol):
    """Who is told of events (`dispatch.Dispatcher`)."""

    def told(self, events: Iterable[Event], at: datetime) -> Told: ...


class Reconciler:
    def __init__(
        self,
        *,
        outbox: Outbox,
        silences: Silences,
        audience: Audience,
        subscriptions: Subscriptions,
        log: NotificationLog,
        deliveries: Deliveries,
        incident: Callable[[str], None],
    ) -> None:
        self._outbox = outbox
        self._silences = silences
        self._audience = audience
        self._subscriptions = subscriptions
        self._log = log
        self._deliveries = deliveries
        self._incident = incident

    def run(self, at: datetime) -> None:
        """Raises the first failure when everything else is done; what failed is looked at again."""
        failures: list[Exception] = [*self._beat(at), *self._compare(at)]
        if failures:
            raise failures[0]

    def _beat(self, at: datetime) -> list[PasserelleError]:
        failures = []
        for silence in self._silences.due(at):
            try:
                self._silences.look_again(silence, self._beaten(silence, at))
            except PasserelleError as failure:
                failures.append(failure)
        return failures

    def _beaten(self, silence: Silence, at: datetime) -> datetime:
        """When to look again: from when it was told something, or now, if a heartbeat was due."""
        subscription = self._subscriptions.find(silence.subscription)
        told = (subscription.told_at or subscription.at) if subscription else at
        if told + silence.heartbeat > at:
            return told + silence.heartbeat
        self._deliveries.beat(silence.subscription)
        return at + silence.heartbeat

    def _compare(self, at: datetime) -> list[Exception]:
        """The part whose turn it is; one of which an event fails is compared again at its next turn."""
        oldest, until = at - OUTBOX_KEPT, at - SETTLED
        part = int(at.timestamp() // TURN.total_seconds()) % PARTS
        since = max(self._outbox.compared(part) or oldest, oldest)
        if since >= until:
            return []
        failures: list[Exception] = []
        announced = iter(self._outbox.announced(part, since, until))
        while events := list(islice(announced, _TOGETHER)):
            failures += self._mended(events, at)
        if not failures:
            self._outbox.mark(part, until)
        return failures

    def _mended(self, events: Sequence[Event], at: datetime) -> list[Exception]:
        told = self._audience.told(events, at)
        failures = list(told.failures.values())
        for interest, some in told.by_interest:
            try:
                self._mend(interest.subscription, some, at)
            except PasserelleError as failure:
                failures.append(failure)
        return failures

    def _mend(self, id: str, events: Sequence[Event], at: datetime) -> None:
        """Number what a subscription should have been told of, and order what nobody delivers."""
        numbers = self._log.numbers(id, events)
        missing = [each for each in events if each.id not in numbers]
        last = max(numbers.values(), default=0)
        if missing:
            appended = self._log.append(id, missing)
            if appended is None:
                return  # the subscription is deleted
            for _ in missing:
                self._incident("event-not-numbered")
            last = max(last, *appended)
        elif self._is_forgotten(id, last, at):
            self._incident("delivery-not-ordered")
        else:
            return
        progress = self._subscriptions.progress(id)
        if progress is not None and progress.delivered < last:
            self._deliveries.order(id, progress.delivered)

    def _is_forgotten(self, id: str, number: int, at: datetime) -> bool:
        """Whether nothing is on its way that would deliver this number: neither a retry, nor what waits on purpose.

        Of an order that was given and waits in vain, nobody knows before it is long overdue.
        """
        found, progress = self._subscriptions.find(id), self._subscriptions.progress(id)
        if found is None or progress is None or progress.delivered >= number:
            return False
        if found.status is SubscriptionStatus.REQUESTED and found.channel in CONFIRMED:
            return False
        waits_since = (progress.held_until, found.failing_since)
        return all(each is None or at - each > OVERDUE for each in waits_since)
