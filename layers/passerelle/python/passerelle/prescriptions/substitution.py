"""Another product than the prescribed one: when the prescriber may forbid it, and when the pharmacist may supply it.

E-prescription contract, section 12. The codes of the law, and the substances of MTE, are data
(`data/substitution_fr.json`). A product that nobody knows cannot be compared: it is supplied as *not checked*, unless
the prescriber forbids substitution.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any

from passerelle.medicines.model import Product
from passerelle.medicines.names import normalised
from passerelle.prescriptions.model import Mention, Prescribed
from passerelle.prescriptions.regulation import Breach, Regime


def refusal_breach(
    line: Prescribed, regime: Regime, authored_on: date, born_on: Callable[[], date | None]
) -> Breach | None:
    """Whether the prescriber forbids substitution without one of the reasons of the law, or without its conditions."""
    if line.is_substitutable:
        return None
    code = line.substitution_reason
    law = _law()["refusals"].get(code or "")
    if law is None:
        return Breach(code="RX-SUBSTITUTION", facts={"reason": "none", "allowed": ",".join(_law()["refusals"])})
    conditions: Mapping[str, Callable[[], bool]] = {
        "stabilised": lambda: line.says(Mention.STABILISED) and is_narrow(regime.substances),
        "age": lambda: (born := born_on()) is not None and _years(born, authored_on) < law["below_years"],
        "excipient": lambda: bool(line.substitution_text),
    }
    is_met = conditions[law["needs"]]()
    return None if is_met else Breach(code="RX-SUBSTITUTION", facts={"reason": code, "missing": law["needs"]})


def supply_breach(
    line: Prescribed, regime: Regime, codings: Sequence[str], product: Product | None, reason: str | None
) -> Breach | None:
    """Whether what is supplied, `codings` known as `product`, may be, for the reason that the pharmacist gives."""
    if is_same(line, regime, codings, product):
        return None if reason is None or _is_refusable(line, regime, reason) else _breach(reason)
    if not line.is_substitutable:
        return _breach(line.substitution_reason)
    if reason in _law()["shortage"] or not is_comparable(regime, product):
        return None
    return None if product is not None and _is_equivalent(regime, product) else _breach(reason)


def _is_equivalent(regime: Regime, product: Product) -> bool:
    """Of the same generic group; where a substance is prescribed, of just that substance."""
    if not regime.is_known:
        return set(product.substances) == set(regime.substances)
    return product.generic_type in _law()["generic_types"] and regime.group in {product.generic_group} - {None}


def is_same(line: Prescribed, regime: Regime, codings: Sequence[str], product: Product | None) -> bool:
    """Whether it is the prescribed product: by one of its codes, or known as the same one."""
    return line.product in codings or (product is not None and product.code == regime.product)


def is_comparable(regime: Regime, product: Product | None) -> bool:
    """Whether enough is known to tell: the prescribed product; or the substance that is, and what is supplied."""
    return regime.is_known or (bool(regime.substances) and product is not None)


def packs_of(
    line: Prescribed, regime: Regime, codings: Sequence[str], product: Product | None
) -> tuple[int, ...] | None:
    """Units of the packs that are supplied: of the presentation that is named, else of all; None if nobody knows."""
    if product is not None:
        named = tuple(units for code, units in product.packs if code in codings)
        return named or tuple(units for _, units in product.packs) or None
    return regime.packs or None if is_same(line, regime, codings, product) else None


def is_narrow(substances: Sequence[str]) -> bool:
    """Whether one of them is in the list of the law for MTE (marge thérapeutique étroite)."""
    return not _narrow().isdisjoint(map(normalised, substances))


def _is_refusable(line: Prescribed, regime: Regime, reason: str) -> bool:
    """Whether not to substitute has a reason: the prescriber's, or the pharmacist's own for a narrow margin."""
    own: str = _law()["pharmacist"]["code"]
    return reason == line.substitution_reason or (
        reason == own and (is_narrow(regime.substances) or not regime.is_known)
    )


def _breach(reason: str | None) -> Breach:
    return Breach(code="RX-SUBSTITUTION", facts={"reason": reason or "none"})


def _years(birth_date: date, on: date) -> int:
    return on.year - birth_date.year - ((on.month, on.day) < (birth_date.month, birth_date.day))


@cache
def _narrow() -> frozenset[str]:
    return frozenset(normalised(each) for each in _law()["refusals"]["MTE"]["substances"])


@cache
def _law() -> Mapping[str, Any]:
    data = files(__package__).joinpath("data/substitution_fr.json")
    content: Mapping[str, Any] = json.loads(data.read_text("utf-8"))
    return content
