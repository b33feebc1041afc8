"""People whose erasure was decided: what is left of them is made unreadable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from passerelle import wiring
from passerelle.api.batches import BatchApp

handler = BatchApp("erase", source="queue", provide=wiring.erase)


@handler.record
def erase(record: Mapping[str, Any], wired: wiring.EraseWiring) -> None:
    event = wired.event_of(json.loads(record["body"]))
    if event.patient is not None:
        wired.eraser.erase(event.patient, wired.now())
