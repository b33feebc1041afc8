"""How likely it is that two registrations are of one person (data model, 1.3).

Fellegi and Sunter's model with three classes instead of two: the same person, another person of the same household or
family, an unrelated person. With two classes a twin who is not registered yet is taken for the one who is. For a
comparison v,

    bits = log2( M P(v|same) / (H P(v|household) + U P(v|unrelated)) )

which the evidence adds up to, in bits: `prior` (how rarely a candidate is the person), each trait against chance, and
`household` (what is left of it when a relative explains the agreement as well). A rare name is better evidence than a
common one, against chance only. What is unknown is no evidence.

The weights are data, `data/weights_<name>.json`, made by `python -m estimation`. They may lack the level `near` of
national identifiers: near ones then count as different. France needs that, since neighbouring INS are those of twins,
and the key of an INS catches typing errors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Final

from passerelle.errors import Fault
from passerelle.matching.comparison import LEVELS, UNKNOWN, Comparison, compare
from passerelle.matching.names import letters
from passerelle.matching.record import MatchRecord

STRICT: Final = ("given", "birth_date", "sex", "birth_place")
"""Traits whose disagreement is a contradiction: RNIV's strict traits but for the birth name, for which sources often
have the name in use. Birth places differ when not even the department is the same."""

_OPTIONAL: Final = ("national", "near")
_HALF: Final = 0.5  # of a common name's penalty goes to names that are only close


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one trait, or the prior, adds to the score, in bits. `rarity` is the part of it that is due to how frequent
    the value is: it cannot be found again from the level, so it is stored with a decision."""

    field: str
    level: str
    bits: float
    rarity: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """`bits` are log2 odds, the sum of the evidence; `probability` is calibrated. `model` is the version of the
    weights. `contradictions` are the strict traits that differ."""

    bits: float
    probability: float
    evidence: tuple[Evidence, ...]
    contradictions: tuple[str, ...]
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Where the grades begin. `certain` and `margin` in bits, the others are probabilities."""

    certain: float
    margin: float
    probable: float
    possible: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rarities:
    """How much more, or less, an agreement on each value tells than one on an average value, in bits."""

    rest: float  # of values too rare to be listed
    listed: Mapping[str, float] = field(repr=False)

    def of(self, *values: str) -> float:
        """Of the most common of them."""
        return min(self.listed.get(value, self.rest) for value in values)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weight:
    evidence: Evidence
    relative: float  # bits by which the level speaks for a relative, rather than for chance


class Model:
    """Scores pairs by one file of weights. `population` overrides how many people the index is meant for."""

    def __init__(self, weights: Mapping[str, Any], *, population: int | None = None) -> None:
        self.version: str = weights["version"]
        self.thresholds = Thresholds(**weights["thresholds"])
        people = population or weights["population"]
        self._prior = Evidence(field="prior", level="candidate", bits=math.log2(weights["per_search"]["same"] / people))
        self._relative = math.log2(weights["per_search"]["household"] / people)
        self._slope: float = weights["calibration"]["slope"]
        self._intercept: float = weights["calibration"]["intercept"]
        self._weights = {name: _weights(name, weights["traits"][name]) for name in Comparison._fields}
        self._has_near_identifiers = "near" in self._weights["national"]
        self._rarities = {
            name: _rarities(weights["traits"][name]["exact"][2], frequencies["rest"], frequencies["terms"])
            for name, frequencies in weights["frequencies"].items()
        }

    @classmethod
    def load(cls, name: str = "fr", *, population: int | None = None) -> Model:
        """The model of `data/weights_<name>.json`; read once."""
        return _load(name, population)

    def score(self, a: MatchRecord, b: MatchRecord) -> Score:
        """The same whichever comes first."""
        comparison = compare(a, b)
        if comparison.given == "misspelt" and self._are_names(a.given, b.given):
            comparison = comparison._replace(given="close")
        if comparison.national == "near" and not self._has_near_identifiers:
            comparison = comparison._replace(national="different")
        return self._score(comparison, self._rarities_of(comparison, a, b))

    def replay(self, levels: Iterable[tuple[str, str, float]]) -> Score:
        """The score of a stored decision again, from the (field, level, rarity) of its evidence.

        Exact when the version of the model is that of the decision. Raises Fault for a trait or a level that this
        model does not know.
        """
        stored = {name: (level, rarity) for name, level, rarity in levels if name in LEVELS}
        if any(level not in self._weights[name] for name, (level, _) in stored.items()):
            raise Fault("the decision was made with levels that this model does not have")
        comparison = Comparison(**{name: stored.get(name, (UNKNOWN, 0.0))[0] for name in LEVELS})
        return self._score(comparison, {name: rarity for name, (_, rarity) in stored.items()})

    def calibrated(self, bits: float) -> float:
        """The probability that a pair of that many bits is one person; grows with them."""
        exponent = self._slope * bits * math.log(2) + self._intercept
        return 1 / (1 + math.exp(-max(min(exponent, 500.0), -500.0)))

    def _are_names(self, *given: str) -> bool:
        """Whether all of them are names that people bear: then none is the other misspelt."""
        return all(name in self._rarities["given"].listed for name in given)

    def _score(self, comparison: Comparison, rarities: Mapping[str, float]) -> Score:
        evidence = [self._prior]
        bits, relative = self._prior.bits, self._relative
        for (name, weights), level in zip(self._weights.items(), comparison, strict=True):
            weight = weights[level]
            item, rarity = weight.evidence, rarities.get(name, 0.0)
            if rarity:
                item = Evidence(field=name, level=level, bits=item.bits + rarity, rarity=rarity)
            evidence.append(item)
            bits += item.bits
            relative += weight.relative + rarity
        household = -_log2_of_one_plus(relative)
        evidence.append(Evidence(field="household", level="likely" if relative > 0 else "unlikely", bits=household))
        bits += household
        return Score(
            bits=bits,
            probability=self.calibrated(bits),
            evidence=tuple(evidence),
            contradictions=tuple(name for name in STRICT if getattr(comparison, name) == "different"),
            model=self.version,
        )

    def _rarities_of(self, comparison: Comparison, a: MatchRecord, b: MatchRecord) -> dict[str, float]:
        """What the frequency of the values adds: fully where they agree; a name that is only close can but lose."""
        found: dict[str, float] = {}
        for name, rarities in self._rarities.items():
            level = getattr(comparison, name)
            if level == "exact":
                found[name] = rarities.of(getattr(a, name), getattr(b, name))
            elif level == "used":
                found[name] = rarities.of(*_shared_names(a, b))
            elif level in ("close", "misspelt"):
                found[name] = min(_HALF * rarities.of(getattr(a, name), getattr(b, name)), 0.0)
        return found


def _shared_names(a: MatchRecord, b: MatchRecord) -> tuple[str, ...]:
    """The family names that both have, birth or used; spelt with or without spaces."""
    others = {letters(name) for name in (b.family, b.used) if name}
    return tuple(name for name in (a.family, a.used) if letters(name) in others)


def _weights(name: str, shares: Mapping[str, tuple[float, float, float]]) -> dict[str, _Weight]:
    found = {UNKNOWN: _Weight(evidence=Evidence(field=name, level=UNKNOWN, bits=0.0), relative=0.0)}
    for level in LEVELS[name]:
        if (name, level) == _OPTIONAL and level not in shares:
            continue
        same, household, unrelated = shares[level]
        found[level] = _Weight(
            evidence=Evidence(field=name, level=level, bits=math.log2(same / unrelated)),
            relative=math.log2(household / unrelated),
        )
    return found


def _rarities(chance: float, rest: float, terms: Mapping[str, float]) -> _Rarities:
    """Rounded to a hundredth of a bit, so that a stored decision holds all of it."""
    return _Rarities(
        rest=round(math.log2(chance / rest), 2),
        listed={value: round(math.log2(chance / share), 2) for value, share in terms.items()},
    )


@cache
def _load(name: str, population: int | None) -> Model:
    data = files("passerelle.matching") / "data" / f"weights_{name}.json"
    return Model(json.loads(data.read_text("utf-8")), population=population)


def _log2_of_one_plus(exponent: float) -> float:
    """log2(1 + 2**exponent) without overflow."""
    if exponent > 60:
        return exponent
    return math.log2(1 + 2.0**exponent) if exponent > -60 else 0.0
