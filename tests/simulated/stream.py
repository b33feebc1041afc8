"""The stream of the outbox, with its event source mapping."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from passerelle.api.batches import BatchApp
from passerelle.aws.dynamodb import to_attributes
from passerelle.aws.journal import event_to_map
from passerelle.events import Event
from tests.simulated.timeline import Ended, Process

if TYPE_CHECKING:
    from tests.simulated.world import World


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
