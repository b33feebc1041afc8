"""What a profession may prescribe, as versioned data (e-prescription contract, section 5, RX-PRESCRIBER-SCOPE). Pure.

A profession (TRE_G15) without a row prescribes nothing. A row allows everything, or products that match one of its
entries: every member of an entry has to hold. Of a product that nobody knows, only who may prescribe everything may.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from passerelle.medicines.names import normalised
from passerelle.prescriptions.regulation import Breach, Regime


def prescribes(profession: str | None) -> bool:
    """Whether it prescribes any medicine at all."""
    return profession in _professions()


def scope_breach(profession: str | None, regime: Regime) -> Breach | None:
    row = _professions().get(profession or "")
    if row is not None and _allows(row, regime):
        return None
    return Breach(code="RX-PRESCRIBER-SCOPE", facts={})


def version() -> str:
    return str(_scope()["version"])


def _allows(row: Mapping[str, Any], regime: Regime) -> bool:
    if regime.is_narcotic and not row["narcotics"]:
        return False
    return row["all"] if "all" in row else any(_matches(each, regime) for each in row["entries"])


def _matches(entry: Mapping[str, Any], regime: Regime) -> bool:
    substances = {normalised(each) for each in regime.substances}
    checks = {
        "substances": lambda: bool(substances) and substances <= {normalised(each) for each in entry["substances"]},
        "kinds": lambda: not set(regime.kinds).isdisjoint(entry["kinds"]),
        "atc": lambda: regime.atc is not None and regime.atc.startswith(tuple(entry["atc"])),
        "routes": lambda: bool(regime.routes) and set(regime.routes) <= set(entry["routes"]),
        "listings": lambda: regime.listing in entry["listings"],
    }
    return bool(entry) and all(checks[name]() for name in entry)


def _professions() -> Mapping[str, Any]:
    professions: Mapping[str, Any] = _scope()["professions"]
    return professions


@cache
def _scope() -> Mapping[str, Any]:
    data = files(__package__).joinpath("data/prescriber_scope_fr.json")
    content: Mapping[str, Any] = json.loads(data.read_text("utf-8"))
    return content
