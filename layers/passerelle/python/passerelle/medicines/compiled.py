"""The open base: compiled by `passerelle kb build` into one artefact, read whole or not at all.

E-prescription contract, sections 17 and 20.6. A check looks at each pair of treatments of which one is new, and at each
new one against allergies, age and pregnancy. What it does not know it says: a pair with a medicine that is not covered
is not a checked pair.

What another one takes the place of is left out where that has the same substances. If not, it is taken until somebody
stops it: it is no duplicate of what replaces it, and interacts all the same.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from itertools import combinations
from threading import Lock
from typing import Any, Final

import rfc8785

from passerelle.medicines.allergies import Allergen, Allergies
from passerelle.medicines.duplicates import Duplicates
from passerelle.medicines.errors import KnowledgeUnavailable
from passerelle.medicines.flags import Flags
from passerelle.medicines.interactions import Interactions
from passerelle.medicines.model import Concept, Context, Finding, NotCovered, Product, Report, Source, Treatment
from passerelle.medicines.names import normalised
from passerelle.medicines.report import amount, digest, ordered, told
from passerelle.medicines.resolution import Medicine, Resolver

FORMAT: Final = 1


class CompiledKnowledge:
    """`ports.KnowledgeBase` over an artefact, gzip JSON of format 1. Raises KnowledgeUnavailable for other bytes."""

    def __init__(self, artefact: bytes) -> None:
        try:
            self._read(json.loads(gzip.decompress(artefact)))
        except (
            OSError,
            EOFError,
            zlib.error,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as no:
            raise KnowledgeUnavailable("not an artefact of format 1, or not a whole one") from no

    def _read(self, said: Any) -> None:
        if said["format"] != FORMAT or not said["substances"] or not said["rules"] or not said["sources"]:
            raise ValueError("another format, or empty")
        self.id = str(said["id"])
        self.version = str(said["version"])
        self.date = date.fromisoformat(said["date"])
        self.sources = tuple(
            Source(
                name=each["name"],
                date=date.fromisoformat(each["date"]),
                licence=each["licence"],
                sha256=each.get("sha256"),
            )
            for each in said["sources"]
        )
        # Where a table says no other: likeness of substances, and classes that are the base's own (section 20.5).
        own = Source(name=self.id, date=self.date, licence="")
        self._resolver = Resolver(said)
        self._interactions = Interactions(said, self.sources, self._resolver)
        self._allergies = Allergies(said, self.sources, own, self._resolver)
        self._duplicates = Duplicates(said, self.sources, own, self._resolver)
        groups = dict(self._interactions.classes)
        for tables in (self._allergies.groups(), self._duplicates.groups()):
            for name, members in tables.items():
                for member in members:
                    groups[member] = groups.get(member, frozenset()) | {name}
        self._flags = Flags(said, self.sources, self._resolver, groups)

    def resolve(self, treatment: Treatment) -> Concept | NotCovered:
        return self._resolver.medicine(treatment).concept()

    def product(self, codings: Sequence[str]) -> Product | None:
        return self._resolver.product(codings)

    def check(self, treatments: Sequence[Treatment], context: Context) -> Report:
        medicines = _in_place([self._resolver.medicine(each) for each in treatments])
        allergens = [self._allergies.allergen(each) for each in context.allergies]
        pairs = [
            (one, other)
            for one, other in combinations(medicines, 2)
            if (one.treatment.is_new or other.treatment.is_new) and one.treatment.key != other.treatment.key
        ]
        findings = ordered(self._findings(medicines, pairs, allergens, context))
        not_covered = tuple(self._not_covered(medicines, allergens))
        return Report(
            base_id=self.id,
            base_version=self.version,
            base_date=self.date,
            findings=findings,
            checked_pairs=sum(not one.reason and not other.reason for one, other in pairs),
            not_covered=not_covered,
            digest=digest(
                {
                    "base": {"id": self.id, "version": self.version},
                    "treatments": _in_order(map(_input, medicines)),
                    "person": _person(context, allergens),
                    "findings": [told(each) for each in findings],
                    "notCovered": _in_order({"label": normalised(e.label), "reason": e.reason} for e in not_covered),
                }
            ),
            sources=self.sources,
        )

    def _findings(
        self,
        medicines: Sequence[Medicine],
        pairs: Sequence[tuple[Medicine, Medicine]],
        allergens: Sequence[Allergen],
        context: Context,
    ) -> Iterator[Finding]:
        taken = frozenset(name for each in medicines for name in each.substances)
        for one, other in pairs:
            yield from self._interactions.between(one, other, context, taken)
            if not _takes_the_place(one, other) and not _takes_the_place(other, one):
                yield from self._duplicates.between(one, other)
        for each in medicines:
            if each.treatment.is_new:
                yield from self._flags.of(each, context)
                for allergen in allergens:
                    yield from self._allergies.between(allergen, each)

    def _not_covered(self, medicines: Sequence[Medicine], allergens: Sequence[Allergen]) -> Iterator[NotCovered]:
        for each in medicines:
            if each.reason:
                yield NotCovered(key=each.treatment.key, label=each.label, reason=each.reason)
        for allergen in allergens:
            yield from self._allergies.not_covered(allergen)


class OnDemand:
    """`ports.KnowledgeBase` that is read when it is first asked, once per process; `read` may raise OSError.

    What could not be read is tried again by the next check: until then each raises KnowledgeUnavailable.
    """

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._lock = Lock()
        self._base: CompiledKnowledge | None = None

    def resolve(self, treatment: Treatment) -> Concept | NotCovered:
        return self._loaded().resolve(treatment)

    def product(self, codings: Sequence[str]) -> Product | None:
        return self._loaded().product(codings)

    def check(self, treatments: Sequence[Treatment], context: Context) -> Report:
        return self._loaded().check(treatments, context)

    def _loaded(self) -> CompiledKnowledge:
        with self._lock:
            if self._base is None:
                try:
                    artefact = self._read()
                except OSError as error:
                    raise KnowledgeUnavailable("the artefact cannot be read") from error
                self._base = CompiledKnowledge(artefact)
            return self._base


def _in_place(medicines: Sequence[Medicine]) -> list[Medicine]:
    """Without those that another one stands for, which is not left out itself."""
    replaced = {key for each in medicines for key in each.treatment.replaces}
    kept = list(medicines)
    for each in medicines:
        if each.treatment.key not in replaced or not each.names:
            continue
        if any(_takes_the_place(one, each) and one is not each and each.names <= one.names for one in kept):
            kept.remove(each)
    return kept


def _takes_the_place(one: Medicine, other: Medicine) -> bool:
    return not other.treatment.is_new and other.treatment.key in one.treatment.replaces


def _input(medicine: Medicine) -> dict[str, Any]:
    said = medicine.treatment
    sides = [medicine.side(name, frozenset()) for name in sorted(medicine.substances)]
    return {
        "substances": [
            {"name": side.substance, "mgPerDay": amount(side.mg_per_day), "mgPerIntake": amount(side.mg_per_intake)}
            for side in sides
        ],
        "unknown": sorted(medicine.unknown),
        "unitsPerDay": amount(said.units_per_day),
        "unitsPerIntake": amount(said.units_per_intake),
        "routes": sorted(sides[0].routes) if sides else [],
        "use": sorted(said.use),
        "isNew": said.is_new,
    }


def _person(context: Context, allergens: Sequence[Allergen]) -> dict[str, Any]:
    return {
        "age": amount(context.age),
        "gender": context.gender,
        "isPregnant": context.is_pregnant,
        "trimester": context.trimester,
        "isBreastfeeding": context.is_breastfeeding,
        "weight": amount(context.weight),
        "egfr": amount(context.egfr),
        "conditions": sorted(context.conditions),
        "absent": sorted(context.absent),
        "allergies": _in_order(
            {
                "names": sorted(each.names),
                "classes": sorted(each.classes),
                "criticality": each.allergy.criticality,
                "verification": each.allergy.verification,
                "isIntolerance": each.allergy.is_intolerance,
                "isNsaidType": each.allergy.is_nsaid_type,
            }
            for each in allergens
        ),
    }


def _in_order(said: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Whatever order they came in."""
    return sorted(said, key=rfc8785.dumps)
