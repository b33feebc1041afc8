"""How long the content of a document cannot be deleted: a period by class of document, in years, as the law has it.

The periods are data (`data/retention_*.json`, each with its source), so that another country brings its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

_DATA = Path(__file__).parent / "data" / "retention_fr.json"
_DAYS_OF_YEAR = 365.25

Code = tuple[str, str]  # system, code


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """`at_most` is what the operator allows: zero on a stage that keeps nothing."""

    at_most: timedelta

    def until(self, codes: Collection[Code], at: datetime) -> datetime | None:
        """The end of the period of a document of these types and classes, published at `at`; None for no period."""
        period = min(timedelta(days=math.ceil(_DAYS_OF_YEAR * years_of(codes))), self.at_most)
        return at + period if period else None


def years_of(codes: Collection[Code]) -> int:
    rules = _rules()
    for rule in rules["rules"]:
        wanted = [
            (system, code)
            for kind, systems in rules["systems"].items()
            for system in systems
            for code in rule.get(kind, ())
        ]
        if not wanted or not set(wanted).isdisjoint(codes):
            return int(rule["years"])
    raise AssertionError("the last rule is for any other document")


@cache
def _rules() -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads(_DATA.read_text("utf-8"))
    return content
