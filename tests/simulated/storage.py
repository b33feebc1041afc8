"""The tables of notifications, by the contracts of `notifications.ports` and `notifications.reconciling`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from passerelle.errors import Busy, Stale
from passerelle.events import Event
from passerelle.notifications.breaker import Breaker
from passerelle.notifications.model import (
    Interest,
    Notification,
    Subscription,
    SubscriptionStatus,
)
from passerelle.notifications.pace import is_immediate
from passerelle.notifications.ports import Progress
from passerelle.notifications.reconciling import PARTS, Silence
from tests.simulated.weather import port

if TYPE_CHECKING:
    from tests.simulated.world import World


class Shelf:
    """Subscriptions, logs, breakers, silences and marks, as their tables keep them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.subscriptions: dict[str, Subscription] = {}
        self.logs: dict[str, list[Event]] = defaultdict(list)
        self.numbered: dict[str, dict[str, int]] = defaultdict(dict)
        self.breakers: dict[str, Breaker] = {}
        self.silences: dict[str, Silence] = {}
        self.held: dict[str, datetime] = {}
        self.marks: dict[int, datetime] = {}

    # `Subscriptions`

    @port
    def find(self, id: str) -> Subscription | None:
        return self.subscriptions.get(id)

    @port
    def interests(self, topics: Iterable[str], patients: Sequence[str]) -> list[Interest]:
        found = [each.interest for each in self.subscriptions.values() if each.status is not SubscriptionStatus.OFF]
        return [each for each in found if each.topic in topics and each.filter.patient in (None, *patients)]

    @port
    def set_status(
        self, subscription: Subscription, status: SubscriptionStatus, at: datetime, *, error: str = ""
    ) -> None:
        current = self.subscriptions[subscription.id]
        if current.version != subscription.version:
            raise Stale
        if status is SubscriptionStatus.ERROR:
            self.world.witness.judge(subscription)
        if current.status is SubscriptionStatus.ERROR:
            self.world.witness.violate(f"{subscription.id} returns from error by itself")
        changed = replace(current, status=status, at=at, version=current.version + 1, error=error)
        if status is SubscriptionStatus.ACTIVE:
            changed = replace(changed, failures=0, failing_since=None, told_at=at)
        self.subscriptions[subscription.id] = changed

    @port
    def progress(self, id: str) -> Progress | None:
        found = self.subscriptions[id]
        if found.status in (SubscriptionStatus.ERROR, SubscriptionStatus.OFF):
            return None
        paced = not is_immediate(found.pace)
        return Progress(delivered=found.delivered, is_paced=paced, held_until=self.held.get(id))

    @port
    def acknowledge(self, subscription: Subscription, number: int, at: datetime) -> None:
        if self.subscriptions[subscription.id].delivered < number:
            self._note(subscription.id, delivered=number, failures=0, failing_since=None, told_at=at)

    @port
    def answered(self, subscription: Subscription, at: datetime) -> None:
        self._note(subscription.id, failures=0, failing_since=None, told_at=at)

    @port
    def count_failure(self, subscription: Subscription, at: datetime) -> int:
        failures = self.subscriptions[subscription.id].failures + 1
        self._note(subscription.id, failures=failures, failing_since=subscription.failing_since or at)
        return failures

    @port
    def hold(self, id: str, until: datetime) -> None:
        self.held[id] = until

    @port
    def mark_failing(self, subscription: Subscription, at: datetime) -> None:
        self._note(subscription.id, failing_since=at)

    def _note(self, id: str, **changes: Any) -> None:
        self.subscriptions[id] = replace(self.subscriptions[id], **changes)

    # `NotificationLog`

    def append(self, subscription: str, events: Sequence[Event]) -> list[int] | None:
        new = events
        for _ in range(12):
            last = self.last_number(subscription)
            if self._transact(subscription, new, last):
                return [self.numbered[subscription][each.id] for each in events]
            known = self.numbers(subscription, events)
            new = [each for each in events if each.id not in known]
        raise Busy(headers={"Retry-After": "1"})

    @port
    def _transact(self, subscription: str, events: Sequence[Event], last: int) -> bool:
        """Whether the events have numbers now, all of them; not if one had one, or another event took one of these."""
        if any(each.id in self.numbered[subscription] for each in events) or last != len(self.logs[subscription]):
            return False
        for number, event in enumerate(events, last + 1):
            self.numbered[subscription][event.id] = number
            self.logs[subscription].append(event)
        return True

    @port
    def numbers(self, subscription: str, events: Sequence[Event]) -> dict[str, int]:
        numbered = self.numbered[subscription]
        return {each.id: numbered[each.id] for each in events if each.id in numbered}

    @port
    def last_number(self, subscription: str) -> int:
        return len(self.logs[subscription])

    def beyond(self, subscription: str, number: int, *, limit: int | None = None) -> list[Notification]:
        return self.between(subscription, number + 1, len(self.logs[subscription]), limit=limit)

    @port
    def between(self, subscription: str, first: int, last: int, *, limit: int | None = None) -> list[Notification]:
        entries = self.logs[subscription][first - 1 : last if limit is None else min(last, first - 1 + limit)]
        return [Notification(number=place, at=each.at, event=each) for place, each in enumerate(entries, first)]

    # `Silences`

    @port
    def due(self, at: datetime) -> list[Silence]:
        return [each for each in self.silences.values() if each.due <= at]

    @port
    def look_again(self, silence: Silence, due: datetime) -> None:
        if self.silences[silence.subscription] == silence:
            self.silences[silence.subscription] = replace(silence, due=due)

    # `Outbox`

    @port
    def announced(self, part: int, since: datetime, until: datetime) -> list[Event]:
        items = self.world.outbox[part::PARTS]
        return [event for at, events in items if since <= at < until for event in events]

    @port
    def compared(self, part: int) -> datetime | None:
        return self.marks.get(part)

    @port
    def mark(self, part: int, until: datetime) -> None:
        self.marks[part] = until


class Breakers:
    """`notifications.ports.Breakers`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kept: dict[str, Breaker] = defaultdict(Breaker)

    @port
    def find(self, origin: str) -> Breaker:
        return self.kept[origin]

    @port
    def count_failure(self, origin: str, open_until: datetime | None, at: datetime) -> None:
        before = self.kept[origin]
        self.kept[origin] = Breaker(failures=before.failures + 1, until=open_until or before.until)

    @port
    def take_probe(self, origin: str, breaker: Breaker, until: datetime) -> bool:
        if self.kept[origin].until != breaker.until:
            return False
        self.kept[origin] = replace(self.kept[origin], until=until)
        return True

    @port
    def close(self, origin: str) -> None:
        self.kept[origin] = Breaker()
