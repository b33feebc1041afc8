"""Put what the outbox announced on the bus, as many events in a call as the bus takes.

A command announces one event, or those of a whole transaction: of a hundred items of the stream, most calls would carry
one event. What fails comes again with the items behind it, and an event that comes again is the same event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from passerelle.errors import failure_of
from passerelle.events import Event
from passerelle.notifications.ports import EVENTS_AT_ONCE, EventBus, InParallel


class Relay:
    def __init__(self, bus: EventBus, *, in_parallel: InParallel) -> None:
        self._bus = bus
        self._in_parallel = in_parallel

    def publish(self, announced: Mapping[str, Sequence[Event]]) -> list[tuple[Sequence[str], Exception]]:
        """The events of items, by where these are; returns what is to come again, and why."""
        parts = list(_parts(announced))
        events = [[event for place in places for event in announced[place]] for places in parts]
        failures = self._in_parallel(*(partial(failure_of, self._bus.publish, some) for some in events))
        return [(places, failure) for places, failure in zip(parts, failures, strict=True) if failure is not None]


def _parts(announced: Mapping[str, Sequence[Event]]) -> Iterator[list[str]]:
    """Items whose events go in one call; one that has more has calls of its own."""
    part, size = list[str](), 0
    for place, events in announced.items():
        if not events:
            continue
        if part and size + len(events) > EVENTS_AT_ONCE:
            yield part
            part, size = [], 0
        part.append(place)
        size += len(events)
    if part:
        yield part
