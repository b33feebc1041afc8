"""SQS and its event source mappings, and what sends to them: the bus, and orders to deliver."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from passerelle.api.batches import BatchApp, Source
from passerelle.aws.journal import event_to_map
from passerelle.events import Event
from tests.simulated.timeline import Ended, Process
from tests.simulated.weather import port

if TYPE_CHECKING:
    from tests.simulated.world import World

_LOOKS: Final = 1_000  # messages of a FIFO queue among which groups are looked for (of SQS: 120,000)


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
