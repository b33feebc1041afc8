"""Events of the bus to the subscriptions they concern."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from passerelle import wiring
from passerelle.api.batches import BatchApp

handler = BatchApp("dispatch", source="queue", provide=wiring.dispatch)


@handler.record
def dispatch(record: Mapping[str, Any], wired: wiring.DispatchWiring) -> None:
    wired.dispatcher.dispatch(wired.event_of(json.loads(record["body"])), wired.now())
