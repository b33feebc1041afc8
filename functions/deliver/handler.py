"""Orders of delivery to the subscribers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from passerelle import wiring
from passerelle.api.batches import BatchApp
from passerelle.notifications.delivery import Order

handler = BatchApp("deliver", source="fifo queue", provide=wiring.deliver)


@handler.record
def deliver(record: Mapping[str, Any], wired: wiring.DeliverWiring) -> None:
    asked = json.loads(record["body"])
    if asked.get("heartbeat"):
        wired.deliverer.beat(asked["subscription"])
        return
    wired.deliverer.deliver(
        Order(
            subscription=asked["subscription"],
            attempt=int(record["attributes"]["ApproximateReceiveCount"]),
            receipt=record["receiptHandle"],
            urgent=asked.get("urgent", False),
        )
    )
