"""Sees all that subscribers are told, and says what of it should not have been."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from passerelle.notifications.model import (
    GIVEN_UP_AFTER,
    MAX_DELIVERY_ATTEMPTS,
    NotificationKind,
    Subscription,
    SubscriptionStatus,
)
from passerelle.notifications.pace import is_immediate
from passerelle.notifications.reconciling import TURN
from passerelle.prescriptions.workdays import PARIS
from tests.simulated.queues import Message
from tests.simulated.subscribers import Subscriber
from tests.simulated.timeline import DAY, HOUR, MINUTE

if TYPE_CHECKING:
    from tests.simulated.world import World

_ASKED_BEFORE_SENT: Final = 30.0  # seconds from asking who may know to the arrival, at most: deliver runs no longer
_PROMPT: Final = 10.0  # seconds from a commit to whoever is told at once, when nothing goes wrong
_ORDERS: Final = 6  # orders that wait at the same time, at most, for each subscription there is


class Witness:
    """What is wrong so far, and in the end."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.violations: list[str] = []

    # when it happens

    def judge(self, subscription: Subscription) -> None:
        """Whether a subscription that is put in `error` deserves it."""
        subscriber = self.world.subscribers[subscription.id]
        since = self.world.endpoints.failing.get(subscriber.endpoint.rpartition("/")[0], self.world.time.now)
        self.world.count["in error"] += 1
        # What was taken, while the process ended before it was noted, does not end the failures before it.
        if subscription.status is SubscriptionStatus.REQUESTED or subscriber.failed >= MAX_DELIVERY_ATTEMPTS - 2:
            return
        if self.world.time.now - since < GIVEN_UP_AFTER.total_seconds() - HOUR:
            self.violate(f"{subscriber.id} is in error after {subscriber.failed} failures")

    def received(self, subscriber: Subscriber, told: Any) -> None:
        """Something came to a subscriber."""
        kind, _, entries = told
        now, found = self.world.time.now, self.world.shelf.subscriptions[subscriber.id]
        subscriber.heard.append(now)
        if (
            found.status is SubscriptionStatus.ERROR
            and (self.world.now() - found.at).total_seconds() > _ASKED_BEFORE_SENT
        ):
            self.violate(f"{subscriber.id} is told something though it is in error")
        if now > self.world.neighbours.left.get(subscriber.client, float("inf")) + _ASKED_BEFORE_SENT:
            self.violate(f"{subscriber.id} is told something though its client is gone")
        if kind == NotificationKind.EVENT:
            self._received_events(subscriber, entries)
        if subscriber.pace.quiet is not None and kind != NotificationKind.HANDSHAKE:
            is_urgent = any(event and event.startswith("Task/") for _, event in entries)
            if _is_quiet(subscriber.pace.quiet, self.world.now()) and not is_urgent:
                self.violate(f"{subscriber.id} is told {entries} in its quiet hours")

    def _received_events(self, subscriber: Subscriber, entries: Sequence[tuple[int, str | None]]) -> None:
        now = self.world.time.now
        is_again = entries[0][0] in subscriber.numbers  # with what came since
        for number, event in entries:
            if number > max(subscriber.numbers, default=0) + 1:
                self.violate(f"{subscriber.id} is told {number} before those before it")
            known = subscriber.numbers.get(number)
            if known is not None and event not in (known, None):
                self.violate(f"{subscriber.id} is told two events under {number}")
            if event is not None:
                self._may_be_told(subscriber, event)
            new = subscriber.take(now, [(number, event)])
            if new and not is_again and (not subscriber.news or subscriber.news[-1][0] < now - MINUTE):
                subscriber.news.append((now, []))
            if new:
                subscriber.news[-1][1].extend(new)

    def _may_be_told(self, subscriber: Subscriber, event: str) -> None:
        reference = event.partition("/_history/")[0]
        hidden = self.world.neighbours.hidden.get(reference, float("inf"))
        if self.world.time.now > hidden + _ASKED_BEFORE_SENT:
            self.violate(f"{subscriber.id} is told {event}, which is hidden")
        if reference not in self.world.disclosed:
            self.violate(f"{subscriber.id} is told {event}, of which there is no audit record")

    def violate(self, what: str) -> None:
        self.violations.append(f"at {self.world.now():%d %H:%M:%S}: {what}")

    # at the end

    def check_settled(self) -> None:
        """By now, whoever is told at once was told everything that may be known.

        An order for what was hidden before it was given is not given: that number comes with the next.
        """
        for subscriber in self.world.subscribers.values():
            if is_immediate(subscriber.pace) and subscriber.client not in self.world.neighbours.left:
                told, log = len(subscriber.numbers), self.world.shelf.logs[subscriber.id]
                if any(each.reference not in self.world.neighbours.hidden for each in log[told:]):
                    self.violate(f"{subscriber.id} was told {told} of {len(log)}")

    def check_prompt(self, since: float) -> None:
        """From then on, nobody who is told at once waits for long, nor in silence."""
        for subscriber in self.world.subscribers.values():
            if not is_immediate(subscriber.pace) or subscriber.client in self.world.neighbours.left:
                continue
            longest = max(self.waits(subscriber.id, since), default=0.0)
            if longest > _PROMPT:
                self.violate(f"{subscriber.id} waited for {longest:.0f} s")
            if subscriber.pace.heartbeat is not None:
                heard = [since, *(each for each in subscriber.heard if each > since), self.world.time.now]
                silence = max(after - before for before, after in pairwise(heard))
                if silence > subscriber.pace.heartbeat.total_seconds() + TURN.total_seconds() + _PROMPT:
                    self.violate(f"{subscriber.id} heard nothing for {silence:.0f} s")

    def check(self) -> None:
        """Raises AssertionError with all that is wrong."""
        if self.world.deliveries.most > _ORDERS * len(self.world.subscribers):
            self.violations.append(f"{self.world.deliveries.most} orders waited at the same time")
        for queue in (self.world.events, self.world.deliveries, self.world.reconciliations):
            waiting = [each.body for each in queue.messages if not self._waits_rightly(each)]
            if waiting:
                self.violations.append(f"{queue.function} has work left: {waiting[:3]}")
        for subscriber in self.world.subscribers.values():
            self._check(subscriber)
        assert not self.violations, "\n".join(self.violations[:8])

    def _waits_rightly(self, message: Message) -> bool:
        subscriber = self.world.subscribers.get(message.body.get("subscription", ""))
        return subscriber is not None and not is_immediate(subscriber.pace)

    def _check(self, subscriber: Subscriber) -> None:
        found, log = self.world.shelf.subscriptions[subscriber.id], self.world.shelf.logs[subscriber.id]
        if subscriber.client in self.world.neighbours.left:
            return  # it is `off` when it is next looked at, and told nothing from then on
        if found.status is not SubscriptionStatus.ACTIVE:
            self.violations.append(f"{subscriber.id} is {found.status}")
        if not is_immediate(subscriber.pace):
            log = log[: found.delivered]
        if sorted(subscriber.numbers) != list(range(1, len(log) + 1)):
            missing = set(range(1, len(log) + 1)) - subscriber.numbers.keys()
            self.violations.append(f"{subscriber.id} has {len(subscriber.numbers)} of {len(log)}: not {missing}")
        self._check_events(subscriber)
        self._check_order(subscriber)
        if subscriber.pace.digest_at is not None:
            self._check_digests(subscriber)

    def _check_events(self, subscriber: Subscriber) -> None:
        """Exactly what it asked for and may know, each under one number."""
        told = [each for each in subscriber.numbers.values() if each is not None]
        if len(told) != len(set(told)):
            self.violations.append(f"{subscriber.id} is told an event under two numbers")
        wanted = {event.id: event for _, event in self.world.committed if subscriber.wants(event)}
        if extra := set(told) - wanted.keys():
            self.violations.append(f"{subscriber.id} is told what it did not ask for: {extra}")
        late = self.world.time.now - (DAY + 2 * HOUR if subscriber.pace.digest_at else 0)
        for at, event in self.world.committed:
            if not subscriber.wants(event) or event.id in told or event.reference in self.world.neighbours.hidden:
                continue
            if is_immediate(subscriber.pace) or at < late:
                self.violations.append(f"{subscriber.id} was not told {event.id} of {at:.0f} s")

    def _check_order(self, subscriber: Subscriber) -> None:
        arrivals = [at for number, at in sorted(subscriber.arrived.items()) if number not in subscriber.asked]
        if arrivals != sorted(arrivals):
            self.violations.append(f"{subscriber.id} is told out of order")

    def _check_digests(self, subscriber: Subscriber) -> None:
        urgent = {number for number, event in subscriber.numbers.items() if event and event.startswith("Task/")}
        days = Counter(
            (self.world.start + timedelta(seconds=at)).astimezone(PARIS).date()
            for at, numbers in subscriber.news
            if not urgent & set(numbers)
        )
        if any(count > 1 for count in days.values()):
            self.violations.append(f"{subscriber.id} has several digests a day: {dict(days)}")

    def waits(self, subscriber: str, since: float = 0.0) -> list[float]:
        """Seconds from each commit at or after `since` to its arrival."""
        found = self.world.subscribers[subscriber]
        arrived = {event: found.arrived[number] for number, event in found.numbers.items()}
        return [arrived[event.id] - at for at, event in self.world.committed if at >= since and event.id in arrived]


def _is_quiet(quiet: tuple[time, time], at: datetime) -> bool:
    """With a little time for what was sent before it began."""
    moments = [(at - timedelta(seconds=late)).astimezone(PARIS).time() for late in (0, _ASKED_BEFORE_SENT)]
    return all(each >= quiet[0] or each < quiet[1] for each in moments)
