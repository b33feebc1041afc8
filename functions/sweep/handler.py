"""New contents, some time after they were stored: those that no document names are discarded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from passerelle import wiring
from passerelle.api.batches import BatchApp

handler = BatchApp("sweep", source="queue", provide=wiring.sweep)


@handler.record
def sweep(record: Mapping[str, Any], wired: wiring.SweepWiring) -> None:
    id = wired.id_of(json.loads(record["body"])["detail"]["object"]["key"])
    if id is not None:
        wired.sweeper.settle(id)
