"""The way of an event on a clock of its own: all that is between a commit and a subscriber, and all that may go wrong.

Relay, dispatch, deliver and reconcile are the real ones, behind the real boundary of batches. What they call is kept in
memory, by the contracts of `notifications.ports` and of the services of AWS. Each call takes time in which others work,
and in a storm it may fail before or after it took effect, take long, or be the last one of its process. All that
happens follows from a seed: a world that fails is made again by it.
"""

from __future__ import annotations

import heapq
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from functools import partial, wraps
from itertools import pairwise
from random import Random
from types import SimpleNamespace
from typing import Any, Final, TypeVar, cast

from functions.deliver.handler import deliver
from functions.dispatch.handler import dispatch
from functions.reconcile.handler import reconcile
from functions.relay.handler import relay
from passerelle.access import Caller, Request, Scopes
from passerelle.api.batches import BatchApp, BatchHandler, RecordHandler, Source
from passerelle.authorization.model import Client
from passerelle.authorization.ports import Known
from passerelle.aws.dynamodb import to_attributes
from passerelle.aws.journal import event_to_map
from passerelle.aws.notifications import envelope_event, outbox_events
from passerelle.consents.decision import Admission, Implicit, Standing
from passerelle.consents.model import RecordStatus
from passerelle.directory.model import Role
from passerelle.errors import Busy, Stale, Unavailable
from passerelle.events import Event, EventName
from passerelle.notifications.breaker import Breaker
from passerelle.notifications.carriers import WebhookCarrier
from passerelle.notifications.delivery import Deliverer
from passerelle.notifications.dispatch import Dispatcher
from passerelle.notifications.model import (
    GIVEN_UP_AFTER,
    MAX_DELIVERY_ATTEMPTS,
    MAX_RECEIVES,
    Channel,
    Content,
    Filter,
    Interest,
    Notification,
    NotificationKind,
    Pace,
    Subscription,
    SubscriptionStatus,
    Turn,
    UndeliveredError,
)
from passerelle.notifications.pace import is_immediate
from passerelle.notifications.ports import NotificationPorts, Progress
from passerelle.notifications.reconciling import PARTS, TURN, Reconciler, Silence
from passerelle.notifications.service import SubscriptionService
from passerelle.prescriptions.workdays import PARIS
from tests.people import person_of

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
AT_ONCE: Final = Pace()
PATIENTS: Final = ("7q2k9c4m1xw8z0ab", "0123456789abcdef", "zyxwvtsrqpnmkjhg")
SCOPES: Final = Scopes.parse("system/Subscription.crd system/DocumentReference.rs system/Observation.rs system/Task.rs")
_KINDS: Final = {
    "DocumentReference": EventName.DOCUMENT_CHANGED,
    "Observation": EventName.RECORD_CHANGED,
    "Task": EventName.ALERT_RAISED,
}
_ASKED_BEFORE_SENT: Final = 20.0  # seconds that one notification takes at most, from asking who may know to its arrival
_PROMPT: Final = 10.0  # seconds from a commit to whoever is told at once, when nothing goes wrong
_ORDERS: Final = 6  # orders that wait at the same time, at most, for each subscription there is
_LOOKS: Final = 1_000  # messages of a FIFO queue among which groups are looked for (of SQS: 120,000)

_M = TypeVar("_M", bound=Callable[..., Any])


# --- time -----------------------------------------------------------------------------------------------------------


class Ended(BaseException):
    """The process ends here."""


class Process:
    """An invocation: calls, one after another; over at the deadline, wherever it is."""

    def __init__(self, function: str, work: Callable[[], None], deadline: float) -> None:
        self.function = function
        self.work = work
        self.deadline = deadline


def _baton() -> threading.Lock:
    """Acquired by whoever waits for it, released by whoever hands it over."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class Timeline:
    """Things that happen in their order of time, and processes that wait in between. One runs at a time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.process: Process | None = None
        self._waiting: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0
        self._until = 0.0
        self._rested = _baton()
        self._idle: list[_Worker] = []
        self._workers: list[_Worker] = []
        self._is_over = False
        self.failure: BaseException | None = None

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        self._count += 1
        heapq.heappush(self._waiting, (self.now + seconds, self._count, action))

    def run(self, until: float) -> None:
        self._until = until
        while self._waiting and self._waiting[0][0] <= until:
            self.now, _, action = heapq.heappop(self._waiting)
            action()
        self.now = until

    def start(self, process: Process) -> None:
        if not self._idle:
            self._workers.append(_Worker(self))
        worker = self._idle.pop() if self._idle else self._workers[-1]
        worker.process = process
        self._resume(worker)

    def _resume(self, worker: _Worker) -> None:
        self.process = worker.process
        worker.turn.release()
        self._rested.acquire()
        self.process = None
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def sleep(self, seconds: float) -> None:
        """Of the process that calls; raises Ended at its deadline."""
        process = self.process
        assert process is not None
        target = min(self.now + seconds, process.deadline)
        if target <= self._until and (not self._waiting or target < self._waiting[0][0]):
            self.now = target  # nobody else does anything in between
        else:
            worker = cast("_Worker", threading.current_thread())
            self.after(target - self.now, partial(self._resume, worker))
            self._rested.release()
            worker.turn.acquire()
        if self._is_over or self.now >= process.deadline:
            raise Ended

    def rest(self, worker: _Worker) -> None:
        self._idle.append(worker)
        self._rested.release()

    def close(self) -> None:
        """End the processes that are under way, and their threads."""
        self._is_over = True
        for worker in self._workers:
            while worker not in self._idle:
                self._resume(worker)
            worker.process = None
            worker.turn.release()
            worker.join()


class _Worker(threading.Thread):
    def __init__(self, timeline: Timeline) -> None:
        super().__init__(daemon=True)
        self.turn = _baton()
        self.process: Process | None = None
        self._timeline = timeline
        self.start()

    def run(self) -> None:
        while True:
            self.turn.acquire()
            if self.process is None:
                return
            try:
                self.process.work()
            except BaseException as failure:  # noqa: BLE001 - of the simulation itself: `run` raises it
                self._timeline.failure = failure
            self._timeline.rest(self)


# --- what goes wrong ------------------------------------------------------------------------------------------------


@dataclass
class Weather:
    """How likely each call, message or answer comes to harm; nothing of it when all is 0."""

    dies: float = 0.0  # the process, at a call
    fails: float = 0.0  # a call, half of the time after it took effect
    stalls: float = 0.0
    lost: float = 0.0  # on the stream and the bus
    purged: float = 0.0  # an order that the queue took: SQS keeps them, but somebody may purge it
    repeated: float = 0.0
    late: float = 0.0  # seconds that a message may take, at most
    refused: float = 0.0  # a notification, in one of the ways that endpoints have


CALM: Final = Weather()
STORM: Final = Weather(
    dies=0.004, fails=0.008, stalls=0.002, lost=0.02, purged=0.01, repeated=0.05, late=20.0, refused=0.2
)


def port(method: _M) -> _M:
    """A call over the network: takes effect at one moment, if at all, and the caller may never know."""

    @wraps(method)
    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.world.step(method.__name__, is_done=False)
        result = method(self, *args, **kwargs)
        self.world.step(method.__name__, is_done=True)
        return result

    return cast(_M, called)


# --- what functions call --------------------------------------------------------------------------------------------


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
            self.world.judge(subscription)
        if current.status is SubscriptionStatus.ERROR:
            self.world.violate(f"{subscription.id} returns from error by itself")
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


class Orders:
    """`notifications.ports.Deliveries`, as `aws.bus.SqsDeliveries` sends them."""

    def __init__(self, world: World, queue: Fifo) -> None:
        self.world = world
        self.queue = queue

    @port
    def order(self, subscription: str, delivered: int, *, urgent: bool = False) -> None:
        mark = "!" if urgent else ""
        order = {"subscription": subscription, **({"urgent": True} if urgent else {})}
        self.queue.send(order, f"{subscription}{mark}", f"{subscription}#{delivered}{mark}")

    @port
    def start(self, subscription: str, version: int) -> None:
        self.queue.send({"subscription": subscription}, subscription, f"{subscription}#start#{version}")

    @port
    def beat(self, subscription: str) -> None:
        beat = {"subscription": subscription, "heartbeat": True}
        self.queue.send(beat, f"{subscription}~", f"{subscription}#{self.queue.sent}")

    @port
    def postpone(self, receipt: str, seconds: int) -> None:
        self.queue.hide(receipt, seconds)


class Neighbours:
    """Clients, people, what is hidden from whom, what became of resources, and what they are."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.people = {each: person_of(each) for each in PATIENTS}
        self.left: dict[str, float] = {}  # when clients were deactivated
        self.hidden: dict[str, float] = {}  # from when references are hidden

    @port
    def look_up(self, client_id: str, *, parties: Any = ()) -> Known:
        client = Client(
            id=client_id,
            organisation="1",
            role=Role.PRACTICE,
            scopes=SCOPES,
            jwks=(),
            active=self.world.time.now < self.left.get(client_id, float("inf")),
        )
        return Known(client=client)

    @port
    def find_person(self, patient: str) -> Any:
        return self.people.get(patient)

    @port
    def hidden_from(self, caller: Caller, person: Any, at: datetime) -> Callable[[str], bool]:
        read: list[set[str]] = []

        def is_hidden(reference: str) -> bool:
            if not read:
                read.append(self.restrictions())
            return reference in read[0]

        return is_hidden

    @port
    def restrictions(self) -> set[str]:
        return {reference for reference, since in self.hidden.items() if self.world.time.now >= since}

    def admission(self, caller: Caller, person: Any, at: datetime) -> tuple[Admission, Standing]:
        facts = Standing(role=caller.role, status=RecordStatus.OPEN, implicit=Implicit.BASIC_NORMAL, is_attending=True)
        return cast(Admission, None), facts

    def of(self, event: Event) -> Turn:
        return Turn()

    @port
    def body(self, owner: Caller, event: Event, person: Any, at: datetime) -> bytes | None:
        if event.id in self.world.poisonous:
            raise KeyError("code")
        return event.id.encode()

    @port
    def append(self, records: Sequence[Any]) -> None:
        self.world.disclosed.update(each.references[0] for each in records)


class Bus:
    """EventBridge: every event to the queue `events`; at least once, in no order."""

    def __init__(self, world: World) -> None:
        self.world = world

    @port
    def publish(self, events: Sequence[Event]) -> None:
        chance, weather = self.world.chance, self.world.weather
        for event in events:
            if chance.random() < weather.lost:
                self.world.count["lost on the bus"] += 1
                continue
            body = {"detail": event_to_map(event)}
            for _ in range(2 if chance.random() < weather.repeated else 1):
                delay = 0.05 + chance.random() * weather.late
                self.world.time.after(delay, partial(self.world.events.send, body))


# --- queues and the stream -----------------------------------------------------------------------------------------


@dataclass
class Message:
    id: str
    body: dict[str, Any]
    group: str = ""
    visible: float = 0.0
    receives: int = 0
    is_gone: bool = False


class Queue:
    """SQS, with the event source mapping that feeds its function."""

    source: Source = "queue"

    def __init__(
        self, world: World, function: str, app: BatchApp, *, seconds: float, batch: int, receives: int, at_once: int
    ) -> None:
        self.world = world
        self.function = function
        self.app = app
        self.seconds = seconds
        self.batch = batch
        self.receives = receives
        self.at_once = at_once
        self.messages: list[Message] = []
        self.dead: list[Message] = []
        self.sent = self.most = self.working = 0

    def send(self, body: dict[str, Any], group: str = "") -> None:
        self.sent += 1
        self.messages.append(Message(str(self.sent), body, group, visible=self.world.time.now))
        self.most = max(self.most, len(self.messages))
        self.look(0.02)

    def hide(self, receipt: str, seconds: float) -> None:
        for message in self.messages:
            if message.id == receipt:
                message.visible = self.world.time.now + seconds

    def look(self, seconds: float) -> None:
        self.world.time.after(seconds, self._look)

    def _look(self) -> None:
        stopped = self.world.stopped.get(self.function, 0.0) - self.world.time.now
        if stopped > 0:
            self.look(stopped)
            return
        while self.working < self.at_once and (messages := self._received()):
            self.working += 1
            deadline = self.world.time.now + self.seconds
            self.world.time.start(Process(self.function, partial(self._serve, messages), deadline))

    def _received(self) -> list[Message]:
        now, chance = self.world.time.now, self.world.chance
        found = [each for each in self._available() if each.visible <= now]
        if self.world.weather.late:
            chance.shuffle(found)
        taken = []
        for message in found[: self.batch]:
            message.receives += 1
            if message.receives > self.receives:
                self._remove(message)
                self.dead.append(message)
                self.look(0)
                continue
            message.visible = now + 6 * self.seconds
            self.look(6 * self.seconds)
            taken.append(message)
        return taken

    def _available(self) -> list[Message]:
        return self.messages

    def _serve(self, messages: Sequence[Message]) -> None:
        records = [
            {
                "messageId": each.id,
                "receiptHandle": each.id,
                "body": json.dumps(each.body),
                "attributes": {"ApproximateReceiveCount": str(each.receives), "MessageGroupId": each.group},
            }
            for each in messages
        ]
        try:
            answer = self.app({"Records": records}, None)
        except Ended:
            failed = {each.id for each in messages}
        else:
            failed = {each["itemIdentifier"] for each in answer["batchItemFailures"]}
        self.working -= 1
        for message in messages:
            if message.id not in failed and self.world.chance.random() >= self.world.weather.fails:
                self._remove(message)
            else:
                self.look(max(0.0, message.visible - self.world.time.now))
        self.look(0.005)

    def _remove(self, message: Message) -> None:
        if not message.is_gone:
            message.is_gone = True
            self.messages.remove(message)


class Fifo(Queue):
    """One message of a group at a time; an id that was seen within five minutes is dropped."""

    source: Source = "fifo queue"

    def __init__(self, world: World, function: str, app: BatchApp, **given: Any) -> None:
        super().__init__(world, function, app, **given)
        self._seen: dict[str, float] = {}

    def send(self, body: dict[str, Any], group: str = "", id: str = "") -> None:
        if self.world.time.now - self._seen.get(id, float("-inf")) < 300:
            return
        self._seen[id] = self.world.time.now
        if self.world.chance.random() < self.world.weather.purged:
            self.world.count["orders lost"] += 1
            return
        super().send(body, group)

    def _available(self) -> list[Message]:
        first: dict[str, Message] = {}
        for message in self.messages[:_LOOKS]:
            first.setdefault(message.group, message)
        return list(first.values())


class Shard:
    """A shard of the stream of the outbox, with its event source mapping: in order, one batch at a time."""

    def __init__(self, world: World, app: BatchApp) -> None:
        self.world = world
        self.app = app
        self.records: list[dict[str, Any]] = []
        self._done = self._size = self._attempts = 0
        self._is_working = False

    def add(self, events: Sequence[Event]) -> None:
        if self.world.chance.random() < self.world.weather.lost:
            self.world.count["lost on the stream"] += 1
            return
        image = to_attributes({"events": [event_to_map(each) for each in events]})
        number = str(len(self.records))
        self.records.append({"dynamodb": {"NewImage": image, "SequenceNumber": number}})
        self.look(0.1)

    def look(self, seconds: float) -> None:
        self.world.time.after(seconds, self._look)

    def _look(self) -> None:
        stopped = self.world.stopped.get("relay", 0.0) - self.world.time.now
        if stopped > 0:
            self.look(stopped)
        elif not self._is_working and self._done < len(self.records):
            self._is_working = True
            batch = self.records[self._done :][: self._size or 100]
            self.world.time.start(Process("relay", partial(self._serve, batch), self.world.time.now + 60))

    def _serve(self, batch: Sequence[dict[str, Any]]) -> None:
        try:
            failed = self.app({"Records": list(batch)}, None)["batchItemFailures"]
        except Ended:
            failed = [{"itemIdentifier": batch[0]["dynamodb"]["SequenceNumber"]}]
        first = min((int(each["itemIdentifier"]) for each in failed), default=self._done + len(batch))
        self._attempts = 0 if first > self._done or not failed else self._attempts + 1
        self._done, self._size = first, max(1, len(batch) // 2) if failed else 0
        if self._attempts > 30:
            self.world.count["given up by the relay"] += 1
            self._done, self._attempts = self._done + 1, 0
        self._is_working = False
        self.look(min(60.0, 0.2 * 2**self._attempts) if failed else 0.01)


# --- subscribers ----------------------------------------------------------------------------------------------------


@dataclass
class Subscriber:
    """Who subscribed, what it received, and how its endpoint does; `outages` are (from, until, how)."""

    id: str
    topic: str = "anything-changed"
    patient: str | None = None
    pace: Pace = AT_ONCE
    content: Content = Content.ID_ONLY
    origin: str = ""
    client: str = "practice"
    outages: list[tuple[float, float, str]] = field(default_factory=list)
    catches_up: bool = True
    numbers: dict[int, str | None] = field(default_factory=dict)
    arrived: dict[int, float] = field(default_factory=dict)  # when each number came first
    asked: set[int] = field(default_factory=set)  # numbers that came by $events
    heard: list[float] = field(default_factory=list)  # whenever anything came
    news: list[tuple[float, list[int]]] = field(default_factory=list)  # notifications that told something new
    failed: int = 0  # attempts since the last that was acknowledged

    @property
    def endpoint(self) -> str:
        return f"https://{self.origin or self.id}.example/{self.id}"

    def wants(self, event: Event) -> bool:
        is_of_topic = self.topic == "anything-changed" or event.name.value == self.topic
        return is_of_topic and self.patient in (None, event.patient)

    def subscription(self, at: datetime) -> Subscription:
        owner = Caller(client_id=self.client, organisation="1", role=Role.PRACTICE, scopes=SCOPES, token_id="t")
        return Subscription(
            id=self.id,
            version=1,
            at=at,
            status=SubscriptionStatus.REQUESTED,
            interest=Interest(
                subscription=self.id, owner=owner, topic=self.topic, filter=Filter(patient=self.patient), since=at
            ),
            endpoint=self.endpoint,
            headers=(),
            content=self.content,
            secret="s",
            base_url="https://api.example/fhir",
            delivered=0,
            body=b"{}",
            pace=self.pace,
        )

    def take(self, at: float, entries: Iterable[tuple[int, str | None]]) -> list[int]:
        """The numbers that are new."""
        new = []
        for number, event in entries:
            if number not in self.numbers:
                self.numbers[number], self.arrived[number] = event, at
                new.append(number)
        return new


class Endpoints:
    """`notifications.ports.Webhooks`, and the subscribers behind."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.failing: dict[str, float] = {}  # origins, since when nothing was acknowledged there

    @port
    def post(self, endpoint: str, headers: Mapping[str, str], body: bytes) -> None:
        world = self.world
        subscriber = next(each for each in world.subscribers.values() if each.endpoint == endpoint)
        origin, now = endpoint.rpartition("/")[0], world.time.now
        way = self.way(subscriber, now)
        if way != "dead":
            world.sleep(0.05)
        if way in ("taken", "answer lost", "slow"):
            world.received(subscriber, json.loads(body))
        if way in ("answer lost", "slow", "timeout"):
            world.sleep(5.0)
        if way == "taken":
            subscriber.failed = 0
            self.failing.pop(origin, None)
            return
        subscriber.failed += 1
        self.failing.setdefault(origin, now)
        raise UndeliveredError(way, is_answer=way == "status 404")

    def way(self, subscriber: Subscriber, now: float) -> str:
        """What becomes of a notification that is sent now."""
        chance = self.world.chance
        for start, end, how in subscriber.outages:
            if start <= now < end:
                return how
        if chance.random() >= self.world.weather.refused:
            return "taken"
        return chance.choice(["status 503", "status 404", "timeout", "answer lost", "slow", "dead"])


def render(subscription: Subscription, kind: NotificationKind, entries: Any, total: int, at: datetime) -> bytes:
    told = [[each.number, each.event.id if each.event else None] for each in entries]
    return json.dumps([kind, total, told]).encode()


# --- all of it ------------------------------------------------------------------------------------------------------


class World:
    """Everything, from a seed. `kinds` are other classes than the real ones: bugs to be found."""

    shelf_class: Callable[[World], Any] = Shelf
    breakers_class: Callable[[World], Any] = Breakers
    orders_class: Callable[[World, Fifo], Any] = Orders
    dispatcher_class: type[Dispatcher] = Dispatcher
    deliverer_class: type[Deliverer] = Deliverer
    reconciler_class: type[Reconciler] = Reconciler
    relay_handler: RecordHandler = staticmethod(relay)

    def __init__(self, seed: int, subscribers: Iterable[Subscriber], *, start: datetime) -> None:
        self.chance = Random(seed)
        self.time = Timeline()
        self.start = start
        self.weather = CALM
        self.stopped: dict[str, float] = {}
        self.latency, self.varies = 0.02, True
        self.count: Counter[str] = Counter()
        self.violations: list[str] = []
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
        self.shards = [Shard(self, self._app(type(self).relay_handler, "stream", self._relay)) for _ in range(2)]
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
        return SimpleNamespace(bus=Bus(self), events_of=outbox_events)

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

    # what is seen

    def judge(self, subscription: Subscription) -> None:
        """Whether a subscription that is put in `error` deserves it."""
        subscriber = self.subscribers[subscription.id]
        since = self.endpoints.failing.get(subscriber.endpoint.rpartition("/")[0], self.time.now)
        self.count["in error"] += 1
        # What was taken, while the process ended before it was noted, does not end the failures before it.
        if subscription.status is SubscriptionStatus.REQUESTED or subscriber.failed >= MAX_DELIVERY_ATTEMPTS - 2:
            return
        if self.time.now - since < GIVEN_UP_AFTER.total_seconds() - HOUR:
            self.violate(f"{subscriber.id} is in error after {subscriber.failed} failures")

    def received(self, subscriber: Subscriber, told: Any) -> None:
        """Something came to a subscriber."""
        kind, _, entries = told
        now, found = self.time.now, self.shelf.subscriptions[subscriber.id]
        subscriber.heard.append(now)
        if found.status is SubscriptionStatus.ERROR and (self.now() - found.at).total_seconds() > _ASKED_BEFORE_SENT:
            self.violate(f"{subscriber.id} is told something though it is in error")
        if now > self.neighbours.left.get(subscriber.client, float("inf")) + _ASKED_BEFORE_SENT:
            self.violate(f"{subscriber.id} is told something though its client is gone")
        if kind == NotificationKind.EVENT:
            self._received_events(subscriber, entries)
        if subscriber.pace.quiet is not None and kind != NotificationKind.HANDSHAKE:
            is_urgent = any(event and event.startswith("Task/") for _, event in entries)
            if _is_quiet(subscriber.pace.quiet, self.now()) and not is_urgent:
                self.violate(f"{subscriber.id} is told {entries} in its quiet hours")

    def _received_events(self, subscriber: Subscriber, entries: Sequence[tuple[int, str | None]]) -> None:
        now = self.time.now
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
        hidden = self.neighbours.hidden.get(reference, float("inf"))
        if self.time.now > hidden + _ASKED_BEFORE_SENT:
            self.violate(f"{subscriber.id} is told {event}, which is hidden")
        if reference not in self.disclosed:
            self.violate(f"{subscriber.id} is told {event}, of which there is no audit record")

    def violate(self, what: str) -> None:
        self.violations.append(f"at {self.now():%d %H:%M:%S}: {what}")

    # what has to be true at the end

    def check_settled(self) -> None:
        """By now, whoever is told at once was told everything that may be known.

        An order for what was hidden before it was given is not given: that number comes with the next.
        """
        for subscriber in self.subscribers.values():
            if is_immediate(subscriber.pace) and subscriber.client not in self.neighbours.left:
                told, log = len(subscriber.numbers), self.shelf.logs[subscriber.id]
                if any(each.reference not in self.neighbours.hidden for each in log[told:]):
                    self.violate(f"{subscriber.id} was told {told} of {len(log)}")

    def check_prompt(self, since: float) -> None:
        """From then on, nobody who is told at once waits for long, nor in silence."""
        for subscriber in self.subscribers.values():
            if not is_immediate(subscriber.pace) or subscriber.client in self.neighbours.left:
                continue
            longest = max(self.waits(subscriber.id, since), default=0.0)
            if longest > _PROMPT:
                self.violate(f"{subscriber.id} waited for {longest:.0f} s")
            if subscriber.pace.heartbeat is not None:
                heard = [since, *(each for each in subscriber.heard if each > since), self.time.now]
                silence = max(after - before for before, after in pairwise(heard))
                if silence > subscriber.pace.heartbeat.total_seconds() + TURN.total_seconds() + _PROMPT:
                    self.violate(f"{subscriber.id} heard nothing for {silence:.0f} s")

    def check(self) -> None:
        """Raises AssertionError with all that is wrong."""
        if self.deliveries.most > _ORDERS * len(self.subscribers):
            self.violations.append(f"{self.deliveries.most} orders waited at the same time")
        for queue in (self.events, self.deliveries, self.reconciliations):
            waiting = [each.body for each in queue.messages if not self._waits_rightly(each)]
            if waiting:
                self.violations.append(f"{queue.function} has work left: {waiting[:3]}")
        for subscriber in self.subscribers.values():
            self._check(subscriber)
        assert not self.violations, "\n".join(self.violations[:8])

    def _waits_rightly(self, message: Message) -> bool:
        subscriber = self.subscribers.get(message.body.get("subscription", ""))
        return subscriber is not None and not is_immediate(subscriber.pace)

    def _check(self, subscriber: Subscriber) -> None:
        found, log = self.shelf.subscriptions[subscriber.id], self.shelf.logs[subscriber.id]
        if subscriber.client in self.neighbours.left:
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
        wanted = {event.id: event for _, event in self.committed if subscriber.wants(event)}
        if extra := set(told) - wanted.keys():
            self.violations.append(f"{subscriber.id} is told what it did not ask for: {extra}")
        late = self.time.now - (DAY + 2 * HOUR if subscriber.pace.digest_at else 0)
        for at, event in self.committed:
            if not subscriber.wants(event) or event.id in told or event.reference in self.neighbours.hidden:
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
            (self.start + timedelta(seconds=at)).astimezone(PARIS).date()
            for at, numbers in subscriber.news
            if not urgent & set(numbers)
        )
        if any(count > 1 for count in days.values()):
            self.violations.append(f"{subscriber.id} has several digests a day: {dict(days)}")

    def waits(self, subscriber: str, since: float = 0.0) -> list[float]:
        """Seconds from each commit at or after `since` to its arrival."""
        found = self.subscribers[subscriber]
        arrived = {event: found.arrived[number] for number, event in found.numbers.items()}
        return [arrived[event.id] - at for at, event in self.committed if at >= since and event.id in arrived]


def _is_quiet(quiet: tuple[time, time], at: datetime) -> bool:
    """With a little time for what was sent before it began."""
    moments = [(at - timedelta(seconds=late)).astimezone(PARIS).time() for late in (0, _ASKED_BEFORE_SENT)]
    return all(each >= quiet[0] or each < quiet[1] for each in moments)
