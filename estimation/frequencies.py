"""How frequent the values of a trait are: a rare name in common is better evidence than a common one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from passerelle.matching.placeholders import known
from passerelle.matching.record import MatchRecord

TRAITS: Final = ("family", "given", "birth_date", "birth_place")
_FLOOR_COUNT: Final = 10  # carriers under which a value is not listed: the file names nobody
_FLOOR_SHARE: Final = 1e-4


def frequencies(records: Iterable[MatchRecord], chance: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """For each trait, the shares of the values above a floor, and `rest`: how often somebody agrees by chance on a
    value that is not listed. `chance` is how often two people agree on the trait at all."""
    counters: dict[str, Counter[str]] = {trait: Counter() for trait in TRAITS}
    for record in records:
        for trait, counter in counters.items():
            if value := known(trait, getattr(record, trait)):
                counter[value] += 1
    return {trait: _listed(counter, chance[trait]) for trait, counter in counters.items()}


def _listed(counter: Counter[str], chance: float) -> dict[str, Any]:
    total = counter.total()
    floor = max(_FLOOR_COUNT, _FLOOR_SHARE * total)
    listed = {value: float(f"{count / total:.3g}") for value, count in sorted(counter.items()) if count >= floor}
    rest = [count for value, count in counter.items() if value not in listed]
    # As whoever carries such a value sees it: the mean share, weighted by the carriers. Several records of one person
    # weigh on it, so it is never above chance.
    share = sum(count * count for count in rest) / sum(rest) / total if rest else chance
    return {"rest": float(f"{min(share, chance):.3g}"), "terms": listed}
