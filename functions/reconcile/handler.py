"""Every five minutes: subscriptions that were silent for too long, and events that were lost on their way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from passerelle import wiring
from passerelle.api.batches import BatchApp

handler = BatchApp("reconcile", source="queue", provide=wiring.reconcile)


@handler.record
def reconcile(record: Mapping[str, Any], wired: wiring.ReconcileWiring) -> None:
    scheduled = datetime.fromisoformat(json.loads(record["body"])["time"])
    wired.reconciler.run(max(scheduled, wired.now()))  # the scheduler's clock may be ahead of this one
