"""A minute after something was appended to the verifiable log: its epoch, signed and stored for good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from passerelle import wiring
from passerelle.api.batches import BatchApp

handler = BatchApp("seal", source="fifo queue", provide=wiring.seal)


@handler.record
def seal(record: Mapping[str, Any], wired: wiring.SealWiring) -> None:
    wired.sealer.seal(wired.now())
