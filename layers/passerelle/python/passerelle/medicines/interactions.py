"""Interactions between two medicines: rules between substances and classes, weighed by what is known.

E-prescription contract, sections 17 and 20.2 (D1, D5, D7). A rule is looked up in both directions. A product with
several substances is all of them, and a rule that several of them reach is found once; within one product no rule
applies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from passerelle.medicines.conditions import Condition, Facts, Truth, parse
from passerelle.medicines.model import Context, Finding, Kind, Source
from passerelle.medicines.report import Weight, finding
from passerelle.medicines.resolution import Medicine, Resolver


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    level: int
    applies: Condition
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Between two substances or classes. Of its branches the most severe one that applies counts. `needs_both`: one end
    stands for all of these together (D7): with one of them alone it is not known whether the rule applies."""

    id: str
    a: str
    b: str
    branches: tuple[Branch, ...]
    text: str
    mechanism: str
    needs_both: frozenset[str]
    source: Source


@dataclass(slots=True)
class _Found:
    """One rule over a pair of medicines, by all the ways that it is reached."""

    rule: Rule
    certain: set[int]
    possible: set[int]
    substances: dict[str, None]
    texts: dict[str, None]


class Interactions:
    """Raises what rules of another form raise: ValueError, KeyError, TypeError."""

    def __init__(self, said: Mapping[str, Any], sources: Sequence[Source], resolver: Resolver) -> None:
        self._resolver = resolver
        self.classes: dict[str, frozenset[str]] = {
            name: frozenset(entry["classes"]) for name, entry in said["substances"].items()
        }
        self._ends = {name: classes | {name} for name, classes in self.classes.items()}
        rules: defaultdict[str, dict[str, list[Rule]]] = defaultdict(dict)
        for each in said["rules"]:
            rule = _rule(each, sources)
            rules[rule.a].setdefault(rule.b, []).append(rule)
        self._rules = dict(rules)

    def between(self, one: Medicine, other: Medicine, context: Context, taken: frozenset[str]) -> Iterator[Finding]:
        """`taken` are all substances that the person takes."""
        found: dict[str, _Found] = {}
        for first in one.substances:
            for second in other.substances:
                if first != second:  # the same twice is a duplicate, whatever rules its classes have among them
                    self._weigh(one, first, other, second, context, taken, found)
                    self._weigh(other, second, one, first, context, taken, found)
        for each in found.values():
            weight = Weight.of(each.certain, each.possible)
            if weight.is_nothing:
                continue
            yield finding(
                Kind.INTERACTION,
                weight,
                rule=each.rule.id,
                substances=each.substances,
                about=(one.treatment.key, other.treatment.key),
                title=" + ".join(self._resolver.label(name) for name in sorted(each.substances)),
                text="\n".join(dict.fromkeys(text for text in [*each.texts, each.rule.text] if text)),
                mechanism=each.rule.mechanism,
                source=each.rule.source,
            )

    def _weigh(
        self,
        one: Medicine,
        first: str,
        other: Medicine,
        second: str,
        context: Context,
        taken: frozenset[str],
        found: dict[str, _Found],
    ) -> None:
        """Add what the rules from `first` to `second` say."""
        for end in self._ends[first]:
            rules = self._rules.get(end, {})
            for partner in self._ends[second]:
                if partner not in rules:
                    continue
                facts = Facts(
                    a=one.side(first, self.classes[first]), b=other.side(second, self.classes[second]), context=context
                )
                for rule in rules[partner]:
                    each = found.setdefault(rule.id, _Found(rule, set(), set(), {}, {}))
                    for branch in rule.branches:
                        truth = _applies(rule, branch, facts, taken)
                        if truth is False:
                            continue
                        (each.certain if truth else each.possible).add(branch.level)
                        each.substances.update(dict.fromkeys((first, second)))
                        each.texts[branch.text] = None


def _applies(rule: Rule, branch: Branch, facts: Facts, taken: frozenset[str]) -> Truth:
    truth = branch.applies(facts)
    return None if truth and not rule.needs_both <= taken else truth


def _rule(said: Mapping[str, Any], sources: Sequence[Source]) -> Rule:
    branches = tuple(
        Branch(level=_level(each["level"]), applies=parse(each["when"]), text=str(each.get("text") or ""))
        for each in said["branches"]
    )
    if not branches:
        raise ValueError("a rule without a level")
    return Rule(
        id=str(said["id"]),
        a=str(said["a"]),
        b=str(said["b"]),
        branches=branches,
        text=str(said.get("text") or ""),
        mechanism=str(said.get("mechanism") or ""),
        needs_both=frozenset(said.get("needs_both") or ()),
        source=sources[said["source"]],
    )


def _level(said: Any) -> int:
    if said not in (1, 2, 3, 4):
        raise ValueError("no level of the thesaurus")
    return int(said)
