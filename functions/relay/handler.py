"""Outbox items of the clinical table's stream to the event bus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from passerelle import wiring
from passerelle.api.batches import BatchApp

handler = BatchApp("relay", source="stream", provide=wiring.relay)


@handler.record
def relay(record: Mapping[str, Any], wired: wiring.RelayWiring) -> None:
    wired.bus.publish(wired.events_of(record))
