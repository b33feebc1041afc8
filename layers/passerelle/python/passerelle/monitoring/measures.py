"""What connected devices measure, as data: codes, units with their conversions, what is plausible, what is expected.

Both files are a country's or a programme's to change; nothing here knows a code or a number of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any, Final

VISIT: Final = "home-visit"
"""What is expected of people, beside what is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """`factors` bring a quantity in a unit (UCUM) to the measure's own; `low` and `high` bound what can be."""

    name: str
    factors: Mapping[str, Decimal]
    low: Decimal
    high: Decimal

    def converted(self, value: Decimal, unit: str) -> Decimal | None:
        """The value in the measure's own unit; None for a unit that is none of it."""
        factor = self.factors.get(unit)
        return None if factor is None else value * factor

    def is_plausible(self, value: Decimal) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What an observation of a code holds: one measure, or some by the code of their component, or a curve."""

    value: str | None = None
    components: Mapping[str, str]
    is_waveform: bool = False

    @property
    def measures(self) -> tuple[str, ...]:
        return (self.value,) if self.value else tuple(self.components.values())


@cache
def measure(name: str) -> Measure:
    row = _data("measures.json")["measures"][name]
    low, high = map(Decimal, row["plausible"])
    factors = {unit: Decimal(factor) for unit, factor in row["units"].items()}
    return Measure(name=name, factors=factors, low=low, high=high)


@cache
def observations() -> Mapping[str, Observed]:
    """By code, `system|code`."""
    return {
        code: Observed(
            value=row.get("value"), components=row.get("components", {}), is_waveform=row.get("waveform", False)
        )
        for code, row in _data("measures.json")["observations"].items()
    }


@cache
def measure_of() -> Mapping[str, str]:
    """The measure that a code stands for where only one can be meant: in a goal."""
    known: dict[str, str] = {}
    for code, row in observations().items():
        if row.value:
            known[code] = row.value
        known |= row.components
    return known


@cache
def home_visits() -> frozenset[str]:
    """The codes of an encounter, an appointment or an activity that takes place where the person lives."""
    return frozenset(_data("measures.json")["home_visits"])


@cache
def policy() -> Mapping[str, Any]:
    return _data("policy_fr.json")


def minutes(name: str) -> timedelta:
    return timedelta(minutes=policy()[name])


@cache
def _data(name: str) -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads(files(__package__).joinpath(f"data/{name}").read_text("utf-8"))
    return content
