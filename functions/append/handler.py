"""New audit records of the audit table's stream into the verifiable log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from passerelle import wiring
from passerelle.api.batches import BatchApp

handler = BatchApp("append", source="stream", provide=wiring.append)


@handler.batch
def append(records: Sequence[Mapping[str, Any]], wired: wiring.AppendWiring) -> list[tuple[Sequence[str], Exception]]:
    failures = wired.appender.append([wired.entry_of(record) for record in records])
    return [(failure.positions, failure.error) for failure in failures]
