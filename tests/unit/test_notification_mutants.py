"""Bugs that were made, or nearly: the simulation finds each of them within a few seeds (goal I14)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from passerelle.events import Event
from passerelle.notifications.delivery import Deliverer, Order
from passerelle.notifications.dispatch import Dispatcher
from passerelle.notifications.insight import Moment
from passerelle.notifications.model import (
    Interest,
    Notification,
    Subscription,
    SubscriptionStatus,
    UndeliveredError,
)
from passerelle.notifications.reconciling import OUTBOX_KEPT, PARTS, SETTLED, TURN, Reconciler
from tests.simulated.queues import Fifo, Orders
from tests.simulated.storage import Breakers, Shelf
from tests.simulated.world import World
from tests.unit.test_notification_simulation import stormy

WITHIN = 20


class AcknowledgesFirst(Deliverer):
    """Acknowledges before the endpoint did."""

    def _tell(
        self, subscription: Subscription, entries: Sequence[Notification], order: Order, moment: Moment, at: datetime
    ) -> int:
        self._subscriptions.acknowledge(subscription, entries[-1].number, at)
        return super()._tell(subscription, entries, order, moment, at)


class OrdersFirst(Shelf):
    """Orders before the log has the event."""

    def append(self, subscription: str, events: Sequence[Event]) -> list[int] | None:
        progress = self.progress(subscription)
        if progress is not None and not {each.id for each in events} <= self.numbered[subscription].keys():
            self.world.orders.order(subscription, progress.delivered)
        return super().append(subscription, events)


class OrdersNoMore(Dispatcher):
    """As it was ordered before."""

    def _order(self, interest: Interest, events: Sequence[Event], number: int, at: datetime) -> None:
        return


class OrdersEachEvent(Dispatcher):
    """Every event is a message of its own."""

    def _order(self, interest: Interest, events: Sequence[Event], number: int, at: datetime) -> None:
        for place in range(len(events)):
            self._deliveries.order(interest.subscription, number - place)


class CountsReceives(Deliverer):
    """An order that was received so many times has failed so many times."""

    def deliver(self, order: Order) -> None:
        self._order = order
        super().deliver(order)

    def _pause_after(self, subscription: Subscription, failure: UndeliveredError, at: datetime) -> Any:
        pause = super()._pause_after(subscription, failure, at)
        if self._order.attempt >= 14:
            self._give_up(subscription.id, failure, at)
        return pause


class NumbersWithoutCondition(Shelf):
    """Whoever is last has the number."""

    def _transact(self, subscription: str, events: Sequence[Event], last: int) -> bool:
        new = [each for each in events if each.id not in self.numbered[subscription]]
        self.logs[subscription][last:] = new
        self.numbered[subscription] |= {each.id: number for number, each in enumerate(new, last + 1)}
        return True

    def append(self, subscription: str, events: Sequence[Event]) -> list[int] | None:
        last = self.last_number(subscription)
        self.world.step("transact", is_done=False)
        self._transact(subscription, events, last)
        return [last + 1]


class NumbersTwice(Shelf):
    """An event that comes again is another event."""

    def _transact(self, subscription: str, events: Sequence[Event], last: int) -> bool:
        for event in events:
            self.numbered[subscription].pop(event.id, None)
        return super()._transact(subscription, events, last)


class LooksOnce(Deliverer):
    """What came while it was told is left to the next order."""

    def _tell_all(self, subscription: Subscription, order: Order, moment: Moment) -> None:
        self._first: int | None = None
        super()._tell_all(subscription, order, moment)

    def _due(self, subscription: Subscription, order: Order, at: datetime) -> Sequence[Notification]:
        if self._first is None:
            self._first = subscription.delivered
        return super()._due(subscription, order, at) if self._first == subscription.delivered else ()


class NeverCloses(Breakers):
    """An endpoint that is well again is still left alone."""

    def close(self, origin: str) -> None:
        return


class MarksFirst(Reconciler):
    """What was not mended is not looked at again."""

    def _compare(self, at: datetime) -> list[Exception]:
        part = int(at.timestamp() // TURN.total_seconds()) % PARTS
        since = self._outbox.compared(part) or at - OUTBOX_KEPT
        self._outbox.mark(part, at - SETTLED)
        return self._mended(list(self._outbox.announced(part, since, at - SETTLED)), at)


class ReturnsByItself(Deliverer):
    """What is in `error` is tried all the same."""

    def _served(self, subscription_id: str, moment: Moment) -> Subscription | None:
        found = self._subscriptions.find(subscription_id)
        if found is not None and found.status is SubscriptionStatus.ERROR:
            self._subscriptions.set_status(found, SubscriptionStatus.ACTIVE, moment.at)
        return super()._served(subscription_id, moment)


class AsksOnce(Deliverer):
    """Who may know is asked when the event is numbered, and never again."""

    def _is_known(self, subscription: Subscription, event: Event, moment: Moment) -> bool:
        return True


class WakesThem(Deliverer):
    """Quiet hours and digests are not kept."""

    def _due(self, subscription: Subscription, order: Order, at: datetime) -> Sequence[Notification]:
        return self._log.beyond(subscription.id, subscription.delivered, limit=1)


class OneGroup(Orders):
    """All subscriptions share a message group."""

    def __init__(self, world: World, queue: Fifo) -> None:
        super().__init__(world, queue)
        send = queue.send
        queue.send = lambda body, group="", id="": send(body, "all", id)  # type: ignore[method-assign]


class HoldsNothing(Deliverer):
    """Nobody knows that an order waits."""

    def _put_off(self, order: Order, pause: timedelta) -> None:
        self._deliveries.postpone(order.receipt, int(min(pause, timedelta(hours=11)).total_seconds()) + 1)


class ForgetsDigest(Deliverer):
    """What waits is judged by when it happened, whenever it was numbered."""

    def _due(self, subscription: Subscription, order: Order, at: datetime) -> Sequence[Notification]:
        return super()._due(replace(subscription, told_at=None), order, at)


class IsolatesNothing(Deliverer):
    """What cannot be told is tried for ever."""

    def deliver(self, order: Order) -> None:
        super().deliver(replace(order, attempt=1))


def world(**classes: Any) -> type[World]:
    return type("Mutant", (World,), {f"{name}_class": kind for name, kind in classes.items()})


MUTANTS = {
    "acknowledges before it tells": world(deliverer=AcknowledgesFirst),
    "orders before it appends": world(shelf=OrdersFirst, dispatcher=OrdersNoMore),
    "orders each event": world(dispatcher=OrdersEachEvent),
    "orders behind what waits": world(deliverer=HoldsNothing),
    "counts receives as failures": world(deliverer=CountsReceives),
    "numbers without a condition": world(shelf=NumbersWithoutCondition),
    "numbers an event twice": world(shelf=NumbersTwice),
    "looks at the log once": world(deliverer=LooksOnce),
    "never closes a breaker": world(breakers=NeverCloses),
    "marks before it mends": world(reconciler=MarksFirst),
    "returns from error by itself": world(deliverer=ReturnsByItself),
    "asks once who may know": world(deliverer=AsksOnce),
    "tells in quiet hours": world(deliverer=WakesThem),
    "tells late events in a second digest": world(deliverer=ForgetsDigest),
    "has one message group": world(orders=OneGroup),
    "isolates no entry": world(deliverer=IsolatesNothing),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_simulation_finds(name: str) -> None:
    for seed in range(WITHIN):
        try:
            stormy(seed, MUTANTS[name]).witness.check()
        except AssertionError:
            return
    raise AssertionError(f"nobody noticed in {WITHIN} seeds")
