"""Once an hour by day: the prescriptions that the exchange has to look at by itself, for reminders and sweeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from passerelle import wiring
from passerelle.api.batches import BatchApp

handler = BatchApp("remind", source="queue", provide=wiring.remind)


@handler.record
def remind(record: Mapping[str, Any], wired: wiring.RemindWiring) -> None:
    scheduled = datetime.fromisoformat(json.loads(record["body"])["time"])
    wired.sweeping.run(max(scheduled, wired.now()))  # the scheduler's clock may be ahead of this one
