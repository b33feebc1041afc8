"""New audit records of the audit table's stream: entries that find them, and word to patients who asked for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from passerelle import wiring
from passerelle.api.batches import BatchApp

handler = BatchApp("catalogue", source="stream", provide=wiring.catalogue)


@handler.record
def catalogue(record: Mapping[str, Any], wired: wiring.CatalogueWiring) -> None:
    accessed = wired.record_of(record["dynamodb"]["NewImage"])
    wired.index.add(accessed)
    wired.herald.announce(accessed)
