"""Orders of delivery to the subscribers' webhooks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from passerelle import wiring
from passerelle.api.batches import BatchApp

handler = BatchApp("deliver", source="fifo queue", provide=wiring.deliver)


@handler.record
def deliver(record: Mapping[str, Any], wired: wiring.DeliverWiring) -> None:
    order = json.loads(record["body"])
    wired.deliverer.deliver(
        order["subscription"],
        order["number"],
        attempt=int(record["attributes"]["ApproximateReceiveCount"]),
        receipt=record["receiptHandle"],
        at=wired.now(),
    )
