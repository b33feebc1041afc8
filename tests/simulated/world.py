"""The way of an event on a clock of its own: all that is between a commit and a subscriber, and all that may go wrong.

Relay, dispatch, deliver and reconcile are the real ones, behind the real boundary of batches. What they call is kept in
memory, by the contracts of `notifications.ports` and of the services of AWS. Each call takes time in which others work,
and in a storm it may fail before or after it took effect, take long, or be the last one of its process. All that
happens follows from a seed: a world that fails is made again by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from types import SimpleNamespace
from typing import Any, Final, cast

from functions.deliver.handler import deliver
from functions.dispatch.handler import dispatch
from functions.reconcile.handler import reconcile
from functions.relay.handler import relay
from passerelle.access import Request
from passerelle.api.batches import BatchApp, BatchHandler, RecordHandler, Source
from passerelle.aws.notifications import envelope_event, outbox_events
from passerelle.errors import Unavailable
from passerelle.events import Event, EventName
from passerelle.notifications.carriers import WebhookCarrier
from passerelle.notifications.delivery import Deliverer
from passerelle.notifications.dispatch import Dispatcher
from passerelle.notifications.model import (
    MAX_RECEIVES,
    Channel,
    Content,
    Subscription,
    SubscriptionStatus,
)
from passerelle.notifications.ports import NotificationPorts, one_by_one
from passerelle.notifications.reconciling import TURN, Reconciler, Silence
from passerelle.notifications.relaying import Relay
from passerelle.notifications.service import SubscriptionService
from passerelle.prescriptions.workdays import PARIS
from tests.simulated.neighbours import Neighbours
from tests.simulated.queues import Bus, Fifo, Orders, Queue
from tests.simulated.storage import Breakers, Shelf
from tests.simulated.stream import Shard
from tests.simulated.subscribers import Endpoints, Subscriber, render
from tests.simulated.timeline import Ended, Timeline
from tests.simulated.weather import CALM
from tests.simulated.witness import Witness

_KINDS: Final = {
    "DocumentReference": EventName.DOCUMENT_CHANGED,
    "Observation": EventName.RECORD_CHANGED,
    "Task": EventName.ALERT_RAISED,
}


class World:
    """Everything, from a seed. `kinds` are other classes than the real ones: bugs to be found."""

    shelf_class: Callable[[World], Any] = Shelf
    breakers_class: Callable[[World], Any] = Breakers
    orders_class: Callable[[World, Fifo], Any] = Orders
    dispatcher_class: type[Dispatcher] = Dispatcher
    deliverer_class: type[Deliverer] = Deliverer
    reconciler_class: type[Reconciler] = Reconciler
    relay_handler: BatchHandler = staticmethod(relay)

    def __init__(self, seed: int, subscribers: Iterable[Subscriber], *, start: datetime) -> None:
        self.chance = Random(seed)
        self.time = Timeline()
        self.start = start
        self.weather = CALM
        self.stopped: dict[str, float] = {}
        self.latency, self.varies = 0.02, True
        self.count: Counter[str] = Counter()
        self.committed: list[tuple[float, Event]] = []
        self.outbox: list[tuple[datetime, tuple[Event, ...]]] = []
        self.disclosed: set[str] = set()
        self.poisonous: set[str] = set()
        self.versions: Counter[str] = Counter()
        self.subscribers = {each.id: each for each in subscribers}
        self.shelf = self.shelf_class(self)
        self.breakers = self.breakers_class(self)
        self.neighbours = Neighbours(self)
        self.endpoints = Endpoints(self)
        self.witness = Witness(self)
        given: dict[str, Any] = {"receives": 6}
        self.events = Queue(
            self, "dispatch", self._batches(dispatch, "queue", self._dispatch), seconds=60, batch=10, at_once=4, **given
        )
        self.deliveries = Fifo(
            self,
            "deliver",
            self._app(deliver, "fifo queue", self._deliver),
            seconds=30,
            batch=1,
            receives=MAX_RECEIVES,
            at_once=8,
        )
        self.reconciliations = Queue(
            self, "reconcile", self._app(reconcile, "queue", self._reconcile), seconds=60, batch=1, at_once=2, **given
        )
        self.orders = self.orders_class(self, self.deliveries)
        self.shards = [Shard(self, self._batches(type(self).relay_handler, "stream", self._relay)) for _ in range(2)]
        for subscriber in self.subscribers.values():
            self.subscribe(subscriber)
        self._tick()

    # what functions are given

    def _app(self, handler: RecordHandler, source: Source, provide: Callable[[], Any]) -> BatchApp:
        app = BatchApp("simulated", source=source, provide=provide)
        app.record(handler)
        return app

    def _batches(self, handler: BatchHandler, source: Source, provide: Callable[[], Any]) -> BatchApp:
        app = BatchApp("simulated", source=source, provide=provide)
        app.batch(handler)
        return app

    @property
    def ports(self) -> NotificationPorts:
        return NotificationPorts(
            subscriptions=self.shelf,
            log=self.shelf,
            deliveries=self.orders,
            clients=cast(Any, self.neighbours),
            people=self.neighbours,
            record=cast(Any, self.neighbours),
            turns=self.neighbours,
            shows_access=lambda *_: True,
            shows_prescription=lambda *_: True,
        )

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.time.now)

    def _relay(self) -> Any:
        return SimpleNamespace(relay=Relay(Bus(self), in_parallel=one_by_one), events_of=outbox_events)

    def _dispatcher(self) -> Dispatcher:
        return self.dispatcher_class(self.ports, feeds={})

    def _dispatch(self) -> Any:
        return SimpleNamespace(dispatcher=self._dispatcher(), event_of=envelope_event, now=self.now)

    def _deliver(self) -> Any:
        webhooks = WebhookCarrier(self.endpoints, render=render)
        deliverer = self.deliverer_class(
            self.ports,
            carriers={Channel.REST_HOOK: webhooks},
            breakers=self.breakers,
            resources=lambda: self.neighbours,
            trail=cast(Any, self.neighbours),
            incident=self.incident,
            now=self.now,
            zone=PARIS,
            spread=self.chance.uniform,
        )
        return SimpleNamespace(deliverer=deliverer)

    def _reconcile(self) -> Any:
        reconciler = self.reconciler_class(
            outbox=self.shelf,
            silences=self.shelf,
            audience=self._dispatcher(),
            subscriptions=self.shelf,
            log=self.shelf,
            deliveries=self.orders,
            incident=self.incident,
        )
        return SimpleNamespace(reconciler=reconciler, now=self.now)

    def incident(self, name: str) -> None:
        self.count[name] += 1

    # what happens

    def strike(self, function: str, call: str) -> None:
        """Called before and after each call of a function takes effect; may raise Ended."""

    def sleep(self, seconds: float) -> None:
        if self.time.process is not None:
            self.time.sleep(seconds)

    def step(self, call: str, *, is_done: bool) -> None:
        """Before and after a call takes effect; what is no function's is not troubled."""
        if self.time.process is None:
            return
        if not is_done:
            self.time.sleep(self.latency * (self.chance.expovariate(1) if self.varies else 1))
        self.strike(self.time.process.function, call)
        weather, chance = self.weather, self.chance
        if weather.stalls and chance.random() < weather.stalls:
            self.time.sleep(chance.uniform(1, 70))
        if weather.dies and chance.random() < weather.dies / 2:
            self.count[f"{self.time.process.function} died"] += 1
            raise Ended
        if call != "post" and weather.fails and chance.random() < weather.fails / 2:
            raise Unavailable

    def _tick(self) -> None:
        time = self.now()
        if self.chance.random() >= self.weather.lost:
            self.reconciliations.send({"time": time.isoformat()})
        self.time.after(TURN.total_seconds(), self._tick)

    def commit(self, *changed: tuple[str, str]) -> list[Event]:
        """A command changed these (type and name of a resource, patient): one outbox item."""
        events = self._changed(changed)
        self.committed += [(self.time.now, each) for each in events]
        self.outbox.append((self.now(), tuple(events)))
        self.shards[len(self.outbox) % 2].add(events)
        return events

    def queue(self, subscriber: str, *changed: tuple[str, str]) -> None:
        """These are in the log of a subscriber already, and it was not told."""
        for event in self._changed(changed):
            self.shelf.append(subscriber, [event])
            self.orders.order(subscriber, 0)

    def _changed(self, changed: Iterable[tuple[str, str]]) -> list[Event]:
        events = []
        for name, patient in changed:
            kind, _, name = name.partition("/")
            reference = f"{kind}/{patient}-{name}"
            self.versions[reference] += 1
            events.append(
                Event(
                    name=_KINDS[kind],
                    reference=reference,
                    version=self.versions[reference],
                    at=self.now(),
                    author="hospital-a",
                    patient=patient,
                )
            )
        return events

    def hide(self, reference: str) -> None:
        self.neighbours.hidden.setdefault(reference, self.time.now)

    def subscribe(self, subscriber: Subscriber) -> None:
        made = subscriber.subscription(self.now())
        self.shelf.subscriptions[made.id] = made
        if made.pace.heartbeat is not None:
            heartbeat = made.pace.heartbeat
            silence = Silence(subscription=made.id, heartbeat=heartbeat, due=made.at + heartbeat)
            self.shelf.silences[made.id] = silence
        self.orders.start(made.id, made.version)

    def attend(self, subscriber: Subscriber) -> None:
        """Its people look after it: what is in `error` is made up for, and starts again once the endpoint is well."""
        found = self.shelf.subscriptions[subscriber.id]
        if found.status is not SubscriptionStatus.ERROR or self.endpoints.way(subscriber, self.time.now) != "taken":
            return
        self.count["started again"] += 1
        if subscriber.catches_up:
            self.catch_up(subscriber, found)
        again = replace(
            found,
            status=SubscriptionStatus.REQUESTED,
            version=found.version + 1,
            at=self.now(),
            failures=0,
            failing_since=None,
            error="",
        )
        self.shelf.subscriptions[found.id] = again
        subscriber.failed = 0
        self.orders.start(again.id, again.version)

    def catch_up(self, subscriber: Subscriber, subscription: Subscription) -> None:
        """By `$events`, from the last number that it has."""
        service = SubscriptionService(
            self.ports,
            journal=cast(Any, None),
            resources=lambda: self.neighbours,
            allow_loopback=False,
            offer=cast(Any, None),
        )
        request = Request(
            caller=subscription.interest.owner,
            name="events",
            action="R",
            request_id="r",
            at=self.now(),
            base_url=subscription.base_url,
        )
        while True:
            since = max(subscriber.numbers, default=0) + 1
            answer = service.events(request, subscription.id, since, None, Content.ID_ONLY)
            entries = [(each.number, each.event.id if each.event else None) for each in answer.notifications]
            if not entries:
                return
            subscriber.asked.update(subscriber.take(self.time.now, entries))
