"""How full the blocks would be among 68 million people, where a population of 300,000 tells little.

A block holds the person looked for, relatives and neighbours, and strangers who share the key by chance. Strangers grow
with the population: those of a key are the population times the probability of the key, which is the product of the
shares of its parts. Each share is measured in the synthetic population, among people of one origin, born abroad or not:
Arabic family names go with Arabic given names, 1 January with a birth abroad. Given names go by decade of birth too,
birth places by era; homes are everybody's. Relatives, neighbours at the same door, telephones and e-mails do not grow:
they are counted.

Whether the product holds is seen where it can be measured, at the size of the population itself: `ratio` is strangers
counted over strangers expected, key by key. What is projected is corrected by it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from benchmarks.identity.index import BLOCK_LIMIT, MemoryIndex
from benchmarks.identity.population import Person, Population, Registration
from passerelle.matching.blocking import Block, blocks_to_search
from passerelle.matching.names import first_word
from passerelle.matching.phonetics import skeleton

FRANCE: Final = 68_000_000
_ENOUGH: Final = 20  # strangers counted, for a ratio to mean anything
_UNIT_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySize:
    """The blocks of one key that look-ups read: their size expected in France, and the share over the limit. `ratio` is
    strangers counted over expected, in the population at hand."""

    namespace: str
    stage: str
    mean: float
    p95: float
    p99: float
    over: float  # share of the look-ups with a block over the limit
    ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """`first` and `both` are the candidates of each look-up after stage a and after both; `units` what reading them
    costs, the persons of the likely candidates apart."""

    keys: tuple[KeySize, ...]
    first: tuple[float, ...]
    both: tuple[float, ...]
    first_units: tuple[float, ...]
    both_units: tuple[float, ...]


class Shares:
    """How frequent each part of a key is among the people of an index; `count` once for each of them."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._people: Counter[str] = Counter()
        self._known: Counter[tuple[str, ...]] = Counter()

    def count(self, person: Person, blocks: Iterable[Block]) -> None:
        origin = _origin(person)
        self._people[origin] += 1
        for entry in self.entries(person, blocks):
            self._counts[entry] += 1
        decade = person.record.birth_date[:3]
        self._known.update((("given", origin, decade), ("place", origin, _era(person.record.birth_date))))

    @staticmethod
    def entries(person: Person, blocks: Iterable[Block]) -> set[tuple[str, ...]]:
        """What a person adds to the counts."""
        record, origin = person.record, _origin(person)
        date = record.birth_date
        given, family = skeleton(first_word(record.given)), skeleton(record.family)
        found = {
            ("family", origin, family),
            ("given", origin, given),
            ("given", origin, date[:3], given),
            ("year", origin, date[:4]),
            ("month_day", origin, date[4:]),
            ("month", origin, date[4:6]),
            ("day", origin, date[6:]),
        }
        if record.birth_place:
            found |= {
                ("birth_place", origin, record.birth_place),
                ("birth_place", origin, _era(date), record.birth_place),
            }
        for block in blocks:
            for part, value in zip(_shape(block.namespace), block.value.split("#"), strict=True):
                if part == "family_names":
                    found.add((part, origin, value))
                elif part in _HOME:
                    found.add((part, value))
        return found

    def probability(self, block: Block, own: set[tuple[str, ...]]) -> float:
        """That a stranger has the key; `own` are the entries of the person looked for, who is none."""
        shape, values = _shape(block.namespace), block.value.split("#")
        if _PERSONAL.intersection(shape):
            return 0.0
        named = dict(zip(shape, values, strict=True))
        date = next((named[part] for part in ("date", "year_month", "year_day", "year") if part in named), "")
        everybody = self._people.total()
        total = 0.0
        for origin, people in self._people.items():
            product = people / everybody
            for part, value in named.items():
                product *= self._share(part, value, origin, date, own)
            total += product
        return total

    def _share(self, part: str, value: str, origin: str, date: str, own: set[tuple[str, ...]]) -> float:
        def of(entry: tuple[str, ...], people: float) -> float:
            return max(0, self._counts[entry] - (entry in own)) / people if people else 0.0

        people, everybody = self._people[origin], self._people.total()
        by_decade = bool(date) and self._known["given", origin, date[:3]] > 500
        if part == "names":
            one, _, other = value.partition("+")
            pairs = {(one, other), (other, one)}
            return sum(
                self._share("family", a, origin, date, own) * self._share("given", b, origin, date, own)
                for a, b in pairs
            )
        if part == "given":
            if by_decade:
                return of(("given", origin, date[:3], value), self._known["given", origin, date[:3]])
            return of(("given", origin, value), people)
        if part in ("family", "family_names"):
            return of((part, origin, value), people)
        if part == "birth_place":
            if date:
                return of((part, origin, _era(date), value), self._known["place", origin, _era(date)])
            return of((part, origin, value), people)
        if part == "sex":
            return 0.5 if value else 0.0
        if part == "month_day":
            return of((part, origin, value), people)
        if part in _HOME:
            return of((part, value), everybody)
        year = of(("year", origin, value[:4]), people)
        if part == "year_month":
            return year * of(("month", origin, value[4:]), people)
        if part == "year_day":
            return year * of(("day", origin, value[4:]), people)
        if part == "date":
            return year * of(("month_day", origin, value[4:]), people)
        raise LookupError(f"no share is known for the part {part} of a key")


def _origin(person: Person) -> str:
    return person.origin + (" abroad" if person.traits.birth_place.startswith("99") else "")


_HOME: Final = ("postcode", "department", "town", "street", "number")
_PERSONAL: Final = frozenset({"national", "phone", "email"})


def _era(date: str) -> str:
    return "maternity" if date >= "1960" else "home"


@cache
def _shape(namespace: str) -> tuple[str, ...]:
    data = json.loads((files("passerelle.matching") / "data" / "blocking.json").read_text("utf-8"))
    key = next(key for key in data["national"] if key["namespace"] == namespace)
    return tuple(part.removesuffix("?") for part in key["stored"][0])


def project(
    population: Population, index: MemoryIndex, shares: Shares, looked_up: Sequence[Registration]
) -> Projection:
    """What look-ups of these known persons would read among 68 million people."""
    people = {person.id: person for person in population.persons}
    counted: Counter[str] = Counter()
    expected: dict[str, float] = defaultdict(float)
    lookups: list[list[tuple[Block, frozenset[str], float]]] = []
    for registration in looked_up:
        person = people[str(registration.person)]
        own = shares.entries(person, ())
        lookup = []
        for block in blocks_to_search(registration.record):
            members = index.block(block)
            near = frozenset(key for key in members if _is_near(people[key], person))
            chance = shares.probability(block, own)
            counted[block.namespace] += len(members) - len(near)
            expected[block.namespace] += chance * len(people)
            lookup.append((block, near, chance * FRANCE))
        lookups.append(lookup)
    ratios = {
        name: counted[name] / total if total and counted[name] >= _ENOUGH else None for name, total in expected.items()
    }
    item_bytes = index.item_bytes
    sizes: dict[tuple[str, str], list[float]] = defaultdict(list)
    candidates: dict[str, list[float]] = {"a": [], "ab": []}
    units: dict[str, list[float]] = {"a": [], "ab": []}
    for lookup in lookups:
        for stages in ("a", "ab"):
            strangers, met, spent = 0.0, set[str](), 0.0
            for block, near, chance in lookup:
                if block.stage not in stages:
                    continue
                size = chance * (ratios[block.namespace] or 1.0) + len(near)
                spent += max(1.0, min(size, BLOCK_LIMIT + 1) * item_bytes / _UNIT_BYTES + 0.5)  # begun units
                if stages == "ab":
                    sizes[block.stage, block.namespace].append(size)
                if size <= BLOCK_LIMIT:
                    strangers += size - len(near)
                    met |= near
            candidates[stages].append(strangers + len(met))
            units[stages].append(spent)
    return Projection(
        keys=tuple(_key_size(stage, name, found, ratios[name]) for (stage, name), found in sorted(sizes.items())),
        first=tuple(candidates["a"]),
        both=tuple(candidates["ab"]),
        first_units=tuple(units["a"]),
        both_units=tuple(units["ab"]),
    )


def _is_near(one: Person, other: Person) -> bool:
    a, b = one.traits, other.traits
    if one.household == other.household or one.twin == other.id:
        return True
    return (a.postcode, a.street, a.number) == (b.postcode, b.street, b.number)


def _key_size(stage: str, namespace: str, sizes: Sequence[float], ratio: float | None) -> KeySize:
    return KeySize(
        namespace=namespace,
        stage=stage,
        mean=sum(sizes) / len(sizes),
        p95=quantile(sizes, 0.95),
        p99=quantile(sizes, 0.99),
        over=sum(size > BLOCK_LIMIT for size in sizes) / len(sizes),
        ratio=ratio,
    )


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]
