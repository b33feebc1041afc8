"""Which rules of law a line is under: its regime, from what is known of the product and what the prescriber states.

E-prescription contract, sections 11 and 12, tier T2. The rules of a country are data (`data/rules_fr.json`): each has
its source, its text and its figures, and is read here by kind, so that another country is another file. A regime is
fixed when the prescription is signed and kept with the line: what comes later does not depend on the base of that day.

What is unknown is read the stricter way: an unknown product has the shortest first supply, and is refused unless the
prescriber states that it is no narcotic.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from passerelle.medicines.model import Product
from passerelle.medicines.names import normalised
from passerelle.prescriptions.model import Line, Mention, Prescribed

UNKNOWN: Final = "unknown"
_NO_LIST: Final = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """The rules that hold for one line, with their figures; `rules` names the version of the country's rules.

    `listing` is I, II, stupefiant, none, or unknown. `longest` are the (rule, days) that its whole duration keeps to.
    `packs` are units of the presentations, of the prescribed one alone if one is. `product` is `system|code`.
    """

    rules: str
    product: str | None = None
    listing: str = UNKNOWN
    is_narcotic: bool = False
    is_secure: bool = False
    is_exception: bool = False
    kinds: tuple[str, ...] = ()
    substances: tuple[str, ...] = ()
    atc: str | None = None
    routes: tuple[str, ...] = ()
    group: str | None = None
    packs: tuple[int, ...] = ()
    fraction_days: int | None = None
    longest: tuple[tuple[str, int], ...] = ()

    @property
    def is_known(self) -> bool:
        return self.listing != UNKNOWN

    def units_per_pack(self, unit: str) -> int | None:
        """What a fill is counted in, if packs hold such units; a narcotic is supplied by the unit."""
        return min(self.packs) if self.packs and not self.is_narcotic and is_in_packs(unit) else None

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Regime:
        form: dict[str, Any] = json.loads(text)
        for name in ("kinds", "substances", "routes", "packs"):
            form[name] = tuple(form[name])
        form["longest"] = tuple((rule, days) for rule, days in form["longest"])
        return cls(**form)


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """A rule that is broken: the RX code of the refusal, and the facts that its answer carries."""

    code: str
    facts: Mapping[str, Any]


@cache
def rules() -> Mapping[str, Any]:
    """The rules of the country that the exchange serves."""
    content: Mapping[str, Any] = json.loads(files(__package__).joinpath("data/rules_fr.json").read_text("utf-8"))
    return content


def regime_of(line: Prescribed, product: Product | None, substances: Sequence[str] = ()) -> Regime:
    """The regime of a line; `substances` are those of a medicine that is known as no product."""
    law = rules()
    if product is None:
        return Regime(rules=law["version"], substances=tuple(substances), is_secure=line.is_marked_secure)
    secure_up_to: int = law["narcotics"]["secure_up_to_days"]
    is_narcotic = product.listing in law["narcotics"]["listings"] or (
        product.is_secure and (product.max_days or secure_up_to) <= secure_up_to
    )
    return Regime(
        rules=law["version"],
        product=product.code,
        listing=product.listing or _NO_LIST,
        is_narcotic=is_narcotic,
        is_secure=product.is_secure or is_narcotic or line.is_marked_secure,
        is_exception=product.is_exception,
        kinds=product.kinds,
        substances=product.substances,
        atc=product.atc,
        routes=product.routes,
        group=product.generic_group,
        packs=tuple(units for code, units in product.packs if code in line.products)
        or tuple(sorted(units for _, units in product.packs)),
        fraction_days=None if line.says(Mention.SINGLE_SUPPLY) else product.fraction_days,
        longest=tuple(_durations(product, is_narcotic)),
    )


def _durations(product: Product, is_narcotic: bool) -> Iterable[tuple[str, int]]:
    law = rules()
    for each in law["durations"]:
        is_concerned = is_narcotic if "is_narcotic" in each else not set(each["kinds"]).isdisjoint(product.kinds)
        if is_concerned:
            yield each["rule"], each["days"]
    if product.max_days is not None:
        yield law["product_duration"]["narcotic_rule" if is_narcotic else "rule"], product.max_days


def regime_of_line(line: Line) -> Regime:
    """The regime that was laid down when the line was signed."""
    return Regime.from_json(line.regime) if line.regime else Regime(rules=rules()["version"])


def longest_narcotic() -> int:
    """The days that narcotics may be prescribed for."""
    return max(int(each["days"]) for each in rules()["durations"] if each.get("is_narcotic"))


def gate_breach(line: Prescribed, regime: Regime) -> Breach | None:
    """FR-S1: of an unknown product, nobody but the prescriber can tell that it is no narcotic."""
    if regime.is_known or (line.is_declared_ordinary and not line.is_marked_secure):
        return None
    return Breach(code="RX-VALIDITY", facts={"rule": rules()["words"]["rule"], "product": UNKNOWN})


def pharmacy_breach(line: Prescribed, regime: Regime) -> Breach | None:
    """FR-S6."""
    if line.executor or not _names_pharmacy(regime):
        return None
    return Breach(code="RX-PHARMACY-REQUIRED", facts={"rule": rules()["named_pharmacy"]["rule"]})


def is_anothers(line: Line, organisation: str) -> bool:
    """FR-S6: whether the prescription names another pharmacy than this, by its identifier, and nobody else supplies."""
    system, _, value = (line.executor or "").partition("|")
    return bool(system and value) and value != organisation and _names_pharmacy(regime_of_line(line))


def _names_pharmacy(regime: Regime) -> bool:
    return regime.is_secure and not set(rules()["named_pharmacy"]["kinds"]).isdisjoint(regime.kinds)


def is_in_packs(unit: str) -> bool:
    """Whether packs are counted in this unit (tablets), and not in another (boxes, milligrams, a code of a list)."""
    return normalised(unit).strip("{}").rstrip("s") in rules()["supply"]["units_of_packs"]


def repeats_of(listing: str, mention: int | None) -> int | None:
    """FR-V6: how often a medicine may be repeated; `mention` is 0 where that is forbidden. None: no number is set."""
    if mention is not None:
        return mention
    return 0 if listing in rules()["repeats"]["only_if_written"] else None


def forms_of(lines: Sequence[Line]) -> tuple[tuple[str, str | None], ...]:
    """The forms that a prescription is on, each with its national code if it has one.

    Secure or exception when a line asks for it, in two zones (FR-A1) when some lines are for a long-term condition and
    some are not.
    """
    regimes = [regime_of_line(each) for each in lines]
    found: list[tuple[str, str | None]] = []
    if any(each.is_secure for each in regimes) or any(each.is_marked_secure for each in lines):
        found.append(("secure", None))
    if any(each.is_exception for each in regimes) or any(each.says(Mention.EXCEPTION) for each in lines):
        found.append(("exception", None))
    if len({each.says(Mention.ALD) for each in lines}) > 1:
        found.append(("bi-zone", rules()["two_zones"]["code"]))
    return tuple(found)
