"""Every five minutes: care plans whose measurements or visits are late, and alerts that nobody answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from passerelle import wiring
from passerelle.api.batches import BatchApp

handler = BatchApp("watch", source="queue", provide=wiring.watch)


@handler.record
def watch(record: Mapping[str, Any], wired: wiring.WatchWiring) -> None:
    scheduled = datetime.fromisoformat(json.loads(record["body"])["time"])
    wired.watching.run(max(scheduled, wired.now()))  # the scheduler's clock may be ahead of this one
