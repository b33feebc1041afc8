"""New audit records of the audit table's stream into the entries that find them by who acted, and by when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from passerelle import wiring
from passerelle.api.batches import BatchApp

handler = BatchApp("catalogue", source="stream", provide=wiring.catalogue)


@handler.record
def catalogue(record: Mapping[str, Any], wired: wiring.CatalogueWiring) -> None:
    wired.index.add(record["dynamodb"]["NewImage"])
