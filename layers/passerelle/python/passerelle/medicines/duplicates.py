"""The same treatment twice: one substance in two medicines, two of a class that is taken alone, one ATC group.

E-prescription contract, section 20.5. Of two medicines only the closest likeness is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from passerelle.medicines.model import DISCOURAGED, PRECAUTION, Finding, Kind, Source
from passerelle.medicines.report import Weight, finding
from passerelle.medicines.resolution import Medicine, Resolver

_ATC: Final = "http://www.whocc.no/atc|"
_ATC_LEVEL_4: Final = 5  # characters: C09AA


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateClass:
    label: str
    members: frozenset[str]
    source: Source


class Duplicates:
    """Raises what tables of another form raise: KeyError, TypeError."""

    def __init__(self, said: Mapping[str, Any], sources: Sequence[Source], own: Source, resolver: Resolver) -> None:
        self._resolver = resolver
        self._own = own
        self._classes = {
            name: DuplicateClass(
                label=str(entry["label"]),
                members=frozenset(entry["members"]),
                source=sources[entry["source"]] if "source" in entry else own,
            )
            for name, entry in said["duplicate_classes"].items()
        }

    def groups(self) -> Mapping[str, frozenset[str]]:
        return {name: each.members for name, each in self._classes.items()}

    def between(self, one: Medicine, other: Medicine) -> Iterator[Finding]:
        if shared := one.names & other.names:
            yield self._finding("substance", DISCOURAGED, shared, one, other, "même substance", self._own)
            return
        classes = [
            (name, each)
            for name, each in self._classes.items()
            if not each.members.isdisjoint(one.names) and not each.members.isdisjoint(other.names)
        ]
        for name, each in classes:
            both = (one.names | other.names) & each.members
            yield self._finding(name, PRECAUTION, both, one, other, each.label, each.source)
        if not classes:
            for group in sorted(_groups(one) & _groups(other)):
                names = one.names | other.names
                yield self._finding(f"atc:{group}", PRECAUTION, names, one, other, f"ATC {group}", self._own)

    def _finding(
        self,
        rule: str,
        level: int,
        substances: frozenset[str],
        one: Medicine,
        other: Medicine,
        label: str,
        source: Source,
    ) -> Finding:
        return finding(
            Kind.DUPLICATE,
            Weight(level=level),
            rule=f"duplicate:{rule}",
            substances=substances,
            about=(one.treatment.key, other.treatment.key),
            title=f"{' + '.join(map(self._resolver.label, sorted(substances)))} : doublon ({label})",
            source=source,
        )


def _groups(medicine: Medicine) -> frozenset[str]:
    codes = [coding.removeprefix(_ATC) for coding in medicine.treatment.codings if coding.startswith(_ATC)]
    if medicine.product and medicine.product.atc:
        codes.append(medicine.product.atc)
    return frozenset(code[:_ATC_LEVEL_4] for code in codes if len(code) >= _ATC_LEVEL_4)
