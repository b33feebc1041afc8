"""What everybody may read of the verifiable log: its anchors, its keys, and that it only grew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from passerelle import wiring
from passerelle.api.ledger import LedgerApp, LedgerCall

handler = LedgerApp("ledger", provide=wiring.ledger)


@handler.get("/log/anchors/latest", kept_seconds=30)
def latest(call: LedgerCall, wired: wiring.LedgerWiring) -> Mapping[str, Any]:
    return wired.publisher.latest()


@handler.get("/log/anchors/{epoch}")
def anchor(call: LedgerCall, wired: wiring.LedgerWiring) -> Mapping[str, Any]:
    return wired.publisher.anchor(call.number("epoch"))


@handler.get("/log/consistency")
def growth(call: LedgerCall, wired: wiring.LedgerWiring) -> Mapping[str, Any]:
    return wired.publisher.growth(call.number("first"), call.number("second"))


@handler.get("/log/keys", kept_seconds=300)
def keys(call: LedgerCall, wired: wiring.LedgerWiring) -> Mapping[str, Any]:
    return wired.publisher.keys()
