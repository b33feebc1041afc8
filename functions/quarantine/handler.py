"""Reports of the malware scanner on stored contents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from passerelle import wiring
from passerelle.api.batches import BatchApp

handler = BatchApp("quarantine", source="queue", provide=wiring.quarantine)


@handler.record
def quarantine(record: Mapping[str, Any], wired: wiring.QuarantineWiring) -> None:
    scan = wired.scan_of(json.loads(record["body"]))
    if scan is not None:
        wired.quarantine.take(scan, at=wired.now())
