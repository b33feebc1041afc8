"""Events of the bus to the subscriptions they concern."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from passerelle import wiring
from passerelle.api.batches import BatchApp, read_each

handler = BatchApp("dispatch", source="queue", provide=wiring.dispatch)


@handler.batch
def dispatch(
    records: Sequence[Mapping[str, Any]], wired: wiring.DispatchWiring
) -> list[tuple[Sequence[str], Exception]]:
    events, unread = read_each(records, lambda record: wired.event_of(json.loads(record["body"])))
    failures = wired.dispatcher.dispatch(events.values(), wired.now())
    return [*unread, *(([id], failures[event.id]) for id, event in events.items() if event.id in failures)]
