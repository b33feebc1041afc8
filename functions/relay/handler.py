"""Outbox items of the clinical table's stream to the event bus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from passerelle import wiring
from passerelle.api.batches import BatchApp, read_each

handler = BatchApp("relay", source="stream", provide=wiring.relay)


@handler.batch
def relay(records: Sequence[Mapping[str, Any]], wired: wiring.RelayWiring) -> list[tuple[Sequence[str], Exception]]:
    announced, unread = read_each(records, wired.events_of)
    return [*unread, *wired.relay.publish(announced)]
