"""Allergies and what is newly prescribed or supplied: the same substance, one of the same class, one that cross-reacts.

E-prescription contract, section 20.5. The same substance or class stops, unless the source takes it lightly: low
criticality, not confirmed, an intolerance. A reaction to one NSAID is one to all only when it is of that type, which is
asked when it is not known. A cross-reaction never stops.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from passerelle.medicines.model import CONTRAINDICATION, DISCOURAGED, Allergy, Finding, Kind, NotCovered, Source
from passerelle.medicines.names import normalised
from passerelle.medicines.report import Weight, finding
from passerelle.medicines.resolution import Medicine, Resolver

_INTRODUCTION: Final = re.compile(
    r"(?:allergie|hypersensibilite|intolerance)(?: medicamenteuse)? (?:a la |a l'|aux? |a |de la |de l'|des |de |d')"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AllergyClass:
    """`crosses` are classes whose members may cross-react, with their level and what the source says of it."""

    name: str
    label: str
    members: frozenset[str]
    is_nsaid_type: bool
    crosses: tuple[tuple[str, int, str], ...]
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Allergen:
    """What a person is allergic to, as the base sees it; `classes` when the source names a class."""

    allergy: Allergy
    names: frozenset[str]
    classes: frozenset[str]
    is_covered: bool


class Allergies:
    """Raises what tables of another form raise: ValueError, KeyError, TypeError."""

    def __init__(self, said: Mapping[str, Any], sources: Sequence[Source], own: Source, resolver: Resolver) -> None:
        self._resolver = resolver
        self._own = own
        self._classes: dict[str, AllergyClass] = {}
        self._named: dict[str, str] = {}
        self._coded: dict[str, str] = {}
        for name, entry in said["allergy_classes"].items():
            self._classes[name] = AllergyClass(
                name=name,
                label=str(entry["label"]),
                members=frozenset(entry["members"]),
                is_nsaid_type=bool(entry.get("nsaid_type")),
                crosses=tuple((each["with"], int(each["level"]), each["text"]) for each in entry.get("crosses", ())),
                source=sources[entry["source"]] if "source" in entry else own,
            )
            self._named |= {_singular(text): name for text in (name, entry["label"], *entry.get("names", ()))}
            self._coded |= dict.fromkeys(entry.get("codes", ()), name)
        if any(other not in self._classes for each in self._classes.values() for other, _, _ in each.crosses):
            raise ValueError("a cross-reaction with no class")

    def groups(self) -> Mapping[str, frozenset[str]]:
        return {name: each.members for name, each in self._classes.items()}

    def allergen(self, allergy: Allergy) -> Allergen:
        classes = {self._coded[coding] for coding in allergy.codings if coding in self._coded}
        known, unknown, is_coded = self._resolver.by_codings(allergy.codings)
        if not is_coded and not classes:
            text = _INTRODUCTION.sub("", normalised(allergy.text), count=1)
            if _singular(text) in self._named:
                classes.add(self._named[_singular(text)])
            else:
                known, unknown, _ = self._resolver.by_text(text)
        return Allergen(
            allergy=allergy,
            names=frozenset(known).union(unknown),
            classes=frozenset(classes),
            is_covered=bool(known or classes) and not unknown,
        )

    def not_covered(self, allergen: Allergen) -> Iterator[NotCovered]:
        if not allergen.is_covered:
            said = allergen.allergy
            label = said.text or next(iter(said.codings), "")
            yield NotCovered(key=said.key, label=label, reason="unknown-substance" if said.codings else "not-coded")

    def between(self, allergen: Allergen, medicine: Medicine) -> Iterator[Finding]:
        severe = DISCOURAGED if _is_taken_lightly(allergen.allergy) else CONTRAINDICATION
        is_same_code = not set(allergen.allergy.codings).isdisjoint(medicine.treatment.codings)
        if shared := allergen.names & medicine.names or (medicine.names if is_same_code else frozenset()):
            yield self._finding("substance", Weight(level=severe), shared, allergen, medicine, self._own)
            return
        for each in self._classes.values():
            is_named = each.name in allergen.classes
            if not is_named and allergen.names.isdisjoint(each.members):
                continue
            if shared := medicine.names & each.members:
                is_sure = is_named or not each.is_nsaid_type or allergen.allergy.is_nsaid_type
                weight = Weight(level=severe) if is_sure else Weight(level=0, candidates=(severe,))
                yield self._finding(each.name, weight, shared, allergen, medicine, each.source)
            for other, level, text in each.crosses:
                if shared := medicine.names & self._classes[other].members:
                    weight = Weight(level=min(level, DISCOURAGED))
                    yield self._finding(f"{each.name}>{other}", weight, shared, allergen, medicine, each.source, text)

    def _finding(
        self,
        rule: str,
        weight: Weight,
        shared: frozenset[str],
        allergen: Allergen,
        medicine: Medicine,
        source: Source,
        text: str = "",
    ) -> Finding:
        against = [self._classes[name].label for name in sorted(allergen.classes)]
        against += [self._resolver.label(name) for name in sorted(allergen.names)]
        found = ", ".join(map(self._resolver.label, sorted(shared)))
        return finding(
            Kind.ALLERGY,
            weight,
            rule=f"allergy:{rule}",
            substances=[*shared, *(f"!{name}" for name in (*allergen.names, *allergen.classes))],
            about=(medicine.treatment.key, allergen.allergy.key),
            title=f"{found} : allergie ({', '.join(against) or allergen.allergy.text})",
            text=text,
            source=source,
        )


def _is_taken_lightly(allergy: Allergy) -> bool:
    return (
        allergy.is_intolerance
        or allergy.criticality == "low"
        or allergy.verification in ("unconfirmed", "presumed")  # none stated: nothing says that it is in doubt
    )


def _singular(text: str) -> str:
    return " ".join(word.rstrip("s") for word in normalised(text).split())
