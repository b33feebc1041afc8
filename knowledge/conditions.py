"""The published conditions of supply of a product, as facts: list, secure prescription, longest duration, fractions.

E-prescription contract, section 11 (per-product rules, from CIS_CPD). A text that nothing here reads is reported with
the product and in the manifest, never dropped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from passerelle.medicines.names import normalised

_KINDS: Final[dict[str, Any]] = json.loads(Path(__file__).with_name("kinds_fr.json").read_text(encoding="utf-8"))

_DURATION: Final = re.compile(r"prescription limitee a (\d+) (jour|semaine|mois)s?\b(.*)")
_FRACTION: Final = re.compile(
    r"delivrance fractionnee(?: ne pouvant exceder)?(?: de| en| par)?(?: fractions? de)? (\d+) jours?"
)
_DAYS: Final = {"jour": 1, "semaine": 7, "mois": 30}


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """Members of `medicines.model.Product`."""

    listing: str | None
    is_secure: bool
    is_exception: bool
    max_days: int | None
    fraction_days: int | None
    kinds: tuple[str, ...]
    unread: tuple[str, ...]


def supply(texts: Sequence[str], substances: Sequence[str], strengths: Sequence[tuple[str, Decimal]]) -> Supply:
    listings: set[str] = set()
    kinds: dict[str, None] = dict.fromkeys(_kinds_of(substances, strengths))
    secure = exception = False
    longest: list[int] = []
    fractions: list[int] = []
    unread: list[str] = []
    for text in texts:
        said = normalised(text)
        if said in _KINDS["listings"]:
            listings.add(_KINDS["listings"][said])
        elif said in _KINDS["secure"]:
            secure = True
        elif "medicament d'exception" in said or "ordonnance d'exception" in said:
            exception = True
        elif found := _DURATION.fullmatch(said):
            longest.append(int(found[1]) * _DAYS[found[2]])
            if found[3].strip():  # "ou 28 jours", "selon la voie": the longest is applied, and the text is shown
                longest += [int(days) for days in re.findall(r"(\d+) jours?", found[3])]
                unread.append(text)
        elif found := _FRACTION.match(said):
            fractions.append(int(found[1]))
        elif kind := next((kind for start, kind in _KINDS["conditions"].items() if said.startswith(start)), None):
            kinds[kind] = None
        else:
            unread.append(text)
    listing = next((each for each in ("stupefiant", "I", "II") if each in listings), None)
    return Supply(
        listing=listing,
        is_secure=secure or listing == "stupefiant",
        is_exception=exception,
        max_days=max(longest, default=None),
        fraction_days=min(fractions, default=None),
        kinds=tuple(sorted(kinds)),
        unread=tuple(unread),
    )


def _kinds_of(substances: Sequence[str], strengths: Sequence[tuple[str, Decimal]]) -> list[str]:
    own = set(substances)
    amounts = dict(strengths)
    found = [kind for kind, names in _KINDS["substances"].items() if own & set(names)]
    if _is_contraceptive(own, amounts):
        found.append("contraceptive")
    if "methadone" in own or ("buprenorphine" in own and amounts.get("buprenorphine", Decimal(0)) >= Decimal("0.4")):
        found.append("opioid-substitution")
    return found


def _is_contraceptive(own: set[str], amounts: dict[str, Decimal]) -> bool:
    """One that is taken day after day: the emergency pill has 1.5 mg of levonorgestrel."""
    pills = _KINDS["contraceptives"]
    if own & set(pills["oestrogens"]):
        return bool(own & set(pills["with_oestrogens"]))
    return bool(own & set(pills["alone"])) and amounts.get("levonorgestrel", Decimal(0)) < 1
