"""The evaluation pairs of the e-prescription contract (20.3, `interaction-pairs.json`) through the compiled base:
pairs, negative controls, repair guards, what is not covered; a naive second reading of the published data as an oracle.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from knowledge import ansm, predicates
from passerelle.medicines.compiled import CompiledKnowledge
from passerelle.medicines.model import Behaviour, Concept, Context, Finding, Kind, NotCovered, Treatment
from passerelle.medicines.names import normalised
from tests.prescribing import EXAMPLES

CONTRACT: Final = json.loads((EXAMPLES / "interaction-pairs.json").read_text("utf-8"))
SEVERITY: Final = [None, Behaviour.COLLAPSED, Behaviour.SHOW, Behaviour.ACKNOWLEDGE, Behaviour.HARD_STOP]
SAID: Final = {
    "ulcerHistory": "ulcer-history",
    "indicationHeartFailure": "heart-failure",
    "hypokalaemia": "hypokalaemia",
}
DOSES: Final = {
    "aspirinPerIntakeMg": ("acide acétylsalicylique", "mg_per_intake"),
    "aspirinPerDayMg": ("acide acétylsalicylique", "mg_per_day"),
    "spironolactonePerDayMg": ("spironolactone", "mg_per_day"),
}

# Drawn up so that the figures of the contract's D1 can be checked: 89 that a general practitioner prescribes.
COMMON: Final = (EXAMPLES / "common-medicines.txt").read_text("utf-8").splitlines()
# What the five rules of one level say; and who is contraindicated by name in a rule of several.
UNCONDITIONAL: Final = {
    frozenset(pair)
    for pair in (
        ("quétiapine", "clarithromycine"),
        ("dompéridone", "clarithromycine"),
        ("colchicine", "clarithromycine"),
        ("azithromycine", "colchicine"),
        ("fluconazole", "dompéridone"),
    )
}
NAMED: Final = {
    frozenset(pair)
    for pair in itertools.combinations(("escitalopram", "hydroxyzine", "dompéridone", "halopéridol", "amiodarone"), 2)
} - {frozenset(("halopéridol", "amiodarone"))}
ASKED: Final = {
    frozenset(("acide acétylsalicylique", other)) for other in ("warfarine", "apixaban", "rivaroxaban", "méthotrexate")
}


@pytest.fixture(scope="module")
def base(knowledge_base: Path) -> CompiledKnowledge:
    return CompiledKnowledge(knowledge_base.read_bytes())


@pytest.fixture(scope="module")
def thesaurus() -> ansm.Thesaurus:
    try:
        return ansm.published()
    except ansm.SourceError as error:
        pytest.skip(str(error))


def interactions(base: CompiledKnowledge, a: str, b: str, context: Mapping[str, Any] | None = None) -> list[Finding]:
    said = context or {}
    doses: dict[str, dict[str, Any]] = {a: {}, b: {}}
    for member, (name, dose) in DOSES.items():
        if member in said:
            doses[name][dose] = Decimal(said[member])
    report = base.check(
        [Treatment(key=name, text=name, is_new=True, **doses[name]) for name in (a, b)],
        Context(
            conditions=frozenset(code for member, code in SAID.items() if said.get(member) is True),
            absent=frozenset(code for member, code in SAID.items() if said.get(member) is False),
        ),
    )
    assert not report.not_covered
    assert report.checked_pairs == 1
    return [each for each in report.findings if each.kind is Kind.INTERACTION]


def level(found: list[Finding]) -> int:
    return max((each.level for each in found), default=0)


def behaviour(found: list[Finding]) -> Behaviour | None:
    return max((each.behaviour for each in found), key=SEVERITY.index, default=None)


def candidates(found: list[Finding]) -> set[int]:
    return {one for each in found for one in each.candidates}


@pytest.mark.parametrize("pair", [*CONTRACT["pairs"], *CONTRACT["guards"]], ids=lambda pair: str(pair["id"]))
def test_pairs_and_repair_guards(base: CompiledKnowledge, pair: dict[str, Any]) -> None:
    expected = pair["expected"]
    found = interactions(base, pair["a"], pair["b"])
    if "withLocalRules" in expected:  # P09: the thesaurus is silent, a dated local rule is not
        assert level(found) >= expected["withLocalRules"]["minimumLevel"]
        assert [each.source.date.year for each in found if each.source] == [2026]
    elif "level" in expected:
        assert (level(found), behaviour(found)) == (expected["level"], expected["behaviour"])
    else:
        assert behaviour(found) == expected["withoutContext"]
        assert level(found) == expected.get("unconditionalFloor", level(found))
        assert candidates(found) | {level(found)} - {0} == set(expected["candidateLevels"])
    for known in expected.get("byContext", ()):
        found = interactions(base, pair["a"], pair["b"], known["context"])
        assert (level(found), behaviour(found)) == (known["level"], known["behaviour"]), known
        assert not candidates(found)


@pytest.mark.parametrize("pair", CONTRACT["controls"], ids=lambda pair: str(pair["id"]))
def test_negative_controls(base: CompiledKnowledge, pair: dict[str, Any]) -> None:
    assert interactions(base, pair["a"], pair["b"]) == []


@pytest.mark.parametrize("medicine", CONTRACT["notCovered"], ids=lambda medicine: str(medicine["name"]))
def test_what_is_not_covered_is_said(base: CompiledKnowledge, medicine: dict[str, Any]) -> None:
    """The second half of the contract's row for cotrimoxazole: the synonym table resolves it."""
    known = base.resolve(Treatment(key="it", text=medicine["name"]))
    if "aliasOf" in medicine:
        assert isinstance(known, Concept)
        assert set(known.substances) == {normalised(name) for name in medicine["aliasOf"]}
        return
    assert isinstance(known, NotCovered)
    report = base.check(
        [Treatment(key="it", text=medicine["name"], is_new=True), Treatment(key="other", text="warfarine")], Context()
    )
    assert [each.key for each in report.not_covered] == ["it"]
    assert report.checked_pairs == 0


def test_of_176_naive_contraindications_five_are_unconditional(
    base: CompiledKnowledge, thesaurus: ansm.Thesaurus
) -> None:
    """D1: over 3,916 pairs of 89 common drugs. Nine more are named by rules of several levels, four are asked about."""
    pairs = list(itertools.combinations(COMMON, 2))
    assert len(pairs) == 3916
    naive = _naive(thesaurus)
    contraindicated = [pair for pair in pairs if 4 in naive(*map(normalised, pair))]
    sedatives = sum(
        {"medicaments sedatifs", "autres medicaments sedatifs"} in naive.rules(normalised(a), normalised(b))
        for a, b in pairs
    )
    assert (len(contraindicated), sedatives) == (176, 136)
    found = {frozenset(pair): interactions(base, *pair) for pair in contraindicated}
    stopped = {pair for pair, own in found.items() if behaviour(own) is Behaviour.HARD_STOP}
    assert stopped == UNCONDITIONAL | NAMED
    assert {pair for pair, own in found.items() if 4 in candidates(own)} - stopped == ASKED


def test_rules_of_one_level_say_what_a_naive_reading_says(base: CompiledKnowledge, thesaurus: ansm.Thesaurus) -> None:
    """A second oracle: the published rows, looked up by every name and class of the two, for pairs that no condition
    concerns."""
    naive = _naive(thesaurus)
    touched = {frozenset(each.rule) for each in predicates.read()}
    names = sorted({name for name in naive.classes if not isinstance(base.resolve(_named(name)), NotCovered)})
    random_pairs = random.Random(20201020)
    compared = 0
    while compared < 1500:
        a, b = random_pairs.sample(names, 2)
        rules = naive.rules(a, b)
        if rules & touched or any("+" in end or "tazobactam" in end for rule in rules for end in rule):
            continue
        known = [base.resolve(_named(name)) for name in (a, b)]
        if [each.substances for each in known if isinstance(each, Concept)] != [(a,), (b,)]:
            continue  # one of two names of a substance: its classes were put together
        local = [each for each in interactions(base, a, b) if not each.rule.startswith("local:")]
        assert level(local) == max(naive(a, b), default=0), (a, b)
        compared += 1


def _named(name: str) -> Treatment:
    return Treatment(key=name, text=name)


class _naive:  # noqa: N801 - called like a function
    """Levels of a pair in the data as published; only names are compared as the repairs compare them."""

    def __init__(self, thesaurus: ansm.Thesaurus) -> None:
        self.classes: defaultdict[str, set[str]] = defaultdict(set)
        for entry in thesaurus.entries:
            self.classes[normalised(entry.substance)] |= {normalised(each) for each in entry.classes}
        self._levels: defaultdict[frozenset[str], set[int]] = defaultdict(set)
        for row in thesaurus.rows:
            ends = frozenset((normalised(row.main), normalised(row.plus)))
            self._levels[ends] |= {each.level for each in row.statements}

    def rules(self, a: str, b: str) -> set[frozenset[str]]:
        ends = itertools.product(self.classes[a] | {a}, self.classes[b] | {b})
        return {frozenset(pair) for pair in ends} & self._levels.keys()

    def __call__(self, a: str, b: str) -> set[int]:
        return {level for rule in self.rules(a, b) for level in self._levels[rule]}
