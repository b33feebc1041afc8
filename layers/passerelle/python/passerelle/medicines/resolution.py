"""Which substances a medicine has: by its codes, then by what is written.

E-prescription contract, section 20.6. A text is a name only when nothing of it is left unread: "paracétamol 500 mg" is
paracétamol, "paracétamol 500 mg codéine 30 mg" is not. Several codes of one medicine add up, as do its name and what
it is said to be made of: when they contradict each other, none of their substances is missed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from passerelle.medicines.conditions import Side
from passerelle.medicines.errors import KnowledgeUnavailable
from passerelle.medicines.model import Concept, NotCovered, Product, Treatment
from passerelle.medicines.names import normalised

_PARTS: Final = re.compile(r"\s*[+/;]\s*|\s*,(?!\d)\s*")
_STRENGTH: Final = re.compile(
    r"[\d.,%]+(?:k?g|mg|[μu]g|mcg|ml|l|ui|mui|mmol|meq|h)?|k?g|mg|[μu]g|mcg|microgrammes?|ml|l|m?ui|unites?|mmol|meq|h"
)
# What follows a name in the labels of products (BDPM): forms and their qualities, and the words between.
_FORMS: Final = re.compile(
    r"(?:comprime|gelule|capsule|sachet|ampoule|flacon|suppositoire|ovule|patch|dispositif|dose|goutte|pastille|seringue"
    r"|stylo|sirop|poudre|granule|solution|suspension|emulsion|creme|pommade|gel|collyre|aerosol|lyophilisat|pellicule"
    r"|enrobe|secable|quadrisecable|dispersible|orodispersible|effervescent|gastro-resistant|molle|mou|dur|buvable"
    r"|injectable|oral|nasal|rectal|vaginal|cutane|inhale|transdermique|prolonge|modifie|preremplie?)e?s?"
    r"|cp|cpr|lp|sr|iv|im|sc|perfusion|inhalation|liberation|voie|a|en|de|pour|par|la"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Medicine:
    """A treatment as the base sees it. `unknown` names what it has no rules on: with `reason`, why."""

    treatment: Treatment
    label: str
    substances: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    reason: str | None = None
    confidence: str = ""
    product: Product | None = None
    strengths: Mapping[str, Decimal] | None = None  # mg in a unit, by substance

    @property
    def names(self) -> frozenset[str]:
        """Whatever it is told from others by, known to the rules or not."""
        return frozenset(self.substances).union(self.unknown)

    def concept(self) -> Concept | NotCovered:
        if not self.substances:
            return NotCovered(key=self.treatment.key, label=self.label, reason=self.reason or "no-rules")
        return Concept(
            substances=self.substances,
            label=self.label,
            confidence=self.confidence,
            product=self.product,
            unknown=self.unknown,
        )

    def side(self, substance: str, classes: frozenset[str]) -> Side:
        said = self.treatment
        routes = {said.route} if said.route else set(self.product.routes if self.product else ())
        return Side(
            substance=substance,
            classes=classes,
            mg_per_day=self._mg(substance, said.mg_per_day, said.units_per_day),
            mg_per_intake=self._mg(substance, said.mg_per_intake, said.units_per_intake),
            routes=frozenset(routes),
            use=frozenset(said.use),
        )

    def _mg(self, substance: str, stated: Decimal | None, units: Decimal | None) -> Decimal | None:
        """An amount in mg is of the whole product: it is one of a substance when that is the only one."""
        if stated is not None and len(self.names) == 1:
            return stated
        strength = (self.strengths or {}).get(substance)
        return None if strength is None or units is None else strength * units


class Resolver:
    """The tables of codes and names of a compiled base. Raises what a table of another form raises, and
    KnowledgeUnavailable when a product that is asked for is of another form."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        self._labels: dict[str, str] = {name: str(entry["label"]) for name, entry in said["substances"].items()}
        self._aliases: Mapping[str, Sequence[str]] = said["aliases"]
        self._codes: Mapping[str, Sequence[str]] = said["codes"]
        self._products: Mapping[str, Mapping[str, Any] | str] = said["products"]
        self._presentations: Mapping[str, str] = said["presentations"]

    def label(self, substance: str) -> str:
        return self._labels.get(substance) or substance.rpartition("|")[2]

    def product(self, codings: Sequence[str]) -> Product | None:
        for coding in codings:
            said = self._products.get(self._presentations.get(coding, coding))
            if said is not None:
                try:
                    return product_of(said)
                except (ValueError, LookupError, TypeError, ArithmeticError) as error:
                    raise KnowledgeUnavailable("a product of another form") from error
        return None

    def medicine(self, treatment: Treatment) -> Medicine:
        product = self.product(treatment.codings)
        label = treatment.text or (product.label if product else "") or next(iter(treatment.codings), "")
        known, unknown, is_coded = self.by_codings(treatment.codings)
        named, unnamed, how = self.by_text(treatment.text)
        parts = [self.medicine(each) for each in treatment.components]
        added = [*named, *(name for part in parts for name in part.substances)]
        if is_coded:
            known = tuple(dict.fromkeys([*known, *added]))
            reason = "unknown-substance" if unknown else None if known else "no-rules"
            confidence = "code"
        elif parts:
            known = tuple(dict.fromkeys(added))
            unknown = tuple(dict.fromkeys(name for part in parts for name in part.unknown))
            confidence = "code" if known else ""
            reason = self._why(treatment, known, unknown, confidence)
        else:
            known, confidence = named, how
            reason = self._why(treatment, known, unnamed, confidence)
            unknown = unnamed if known else (*unnamed, *treatment.codings)
        return Medicine(
            treatment=treatment,
            label=label,
            substances=known,
            unknown=unknown,
            reason=reason,
            confidence=confidence,
            product=product,
            strengths=self._strengths(product) if product else None,
        )

    def by_codings(self, codings: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
        """(substances, names that the base has no rules on, whether any of the codes is known)."""
        products = [product for coding in codings if (product := self.product([coding]))]
        names = [name for product in products for name in product.substances]
        for coding in codings:
            names += self._codes.get(coding, ())
        is_known = bool(products) or any(coding in self._codes for coding in codings)
        return *self._named(names), is_known

    def by_text(self, text: str) -> tuple[tuple[str, ...], tuple[str, ...], str]:
        """(substances, names that the base has no rules on, how: "name", "synonym" or "" when it is no name)."""
        whole = normalised(text)
        if not whole:
            return (), (), ""
        if self._is_name(whole):
            parts = [whole]
        else:
            parts = [bare for part in _PARTS.split(whole) if (bare := _without_strength(part))]
        known, unknown = self._named(parts)
        if not any(self._is_name(part) for part in parts):
            return (), tuple(parts), ""
        return known, unknown, "synonym" if any(part in self._aliases for part in parts) else "name"

    def _named(self, names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        known: dict[str, None] = {}
        unknown: dict[str, None] = {}
        for name in map(normalised, names):
            if name in self._labels:
                known[name] = None
            elif substances := self._aliases.get(name):
                for substance in substances:
                    (known if substance in self._labels else unknown)[substance] = None
            else:
                unknown[name] = None
        return tuple(known), tuple(unknown)

    def _is_name(self, name: str) -> bool:
        return name in self._labels or name in self._aliases

    def _why(self, treatment: Treatment, known: Sequence[str], unknown: Sequence[str], confidence: str) -> str | None:
        if known:
            return "unknown-substance" if unknown else None
        if confidence:
            return "no-rules"
        return "unknown-product" if treatment.codings else "not-coded"

    def _strengths(self, product: Product) -> Mapping[str, Decimal]:
        strengths: dict[str, Decimal] = {}
        for name, amount in product.mg_per_unit:
            known, _ = self._named([name])
            if len(known) == 1:  # of a name for two substances it is not known how much each has
                strengths[known[0]] = strengths.get(known[0], Decimal(0)) + amount
        return strengths


def product_of(said: Mapping[str, Any] | str) -> Product:
    """A product from its members in the artefact, or from their JSON text: of thousands few are ever looked at."""
    if isinstance(said, str):
        return product_of(json.loads(said))
    members: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
    strengths = tuple((name, Decimal(str(amount))) for name, amount in said.get("mg_per_unit", ()))
    packs = tuple((code, int(units)) for code, units in said.get("packs", ()))
    return Product(**{**members, "mg_per_unit": strengths, "packs": packs})


def _without_strength(part: str) -> str:
    words = [word for each in re.split(r"[\s,()]+", part) if (word := each.strip("."))]
    while words and (_STRENGTH.fullmatch(words[-1]) or _FORMS.fullmatch(words[-1])):
        words.pop()
    return " ".join(words)
