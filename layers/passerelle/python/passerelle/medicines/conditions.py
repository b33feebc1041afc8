"""Conditions of a rule, in three values: it holds, it does not, or that is not known.

E-prescription contract, sections 17 and 20.6. A condition is a JSON object; all of its members have to hold:

    a.in a.not_in b.in b.not_in     lists of substances
    a.class b.class                 lists of classes
    a.mg_per_day a.mg_per_intake b. a comparison: ">=1000", "<500"
    a.route b.route                 lists of routes
    a.use b.use                     lists of what the medicine is given for
    egfr age weight                 a comparison
    has                             list of conditions of the person
    any all not                     a list of conditions, a list, one
    never_known                     true: a fact that no exchange has

A list holds when one of its entries does. The logic is Kleene's: what is unknown stays so unless the rest decides, so
that learning a fact never turns an answer that was known into another.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from passerelle.medicines.model import Context

Truth = bool | None
"""True: holds; False: does not; None: not known."""

ROUTES: Final = frozenset(
    {"oral", "iv", "im", "sc", "rectal", "vaginal", "cutaneous", "ophthalmic", "nasal", "inhaled"}
)
_COMPARISON: Final = re.compile(r"(>=|<=|>|<|=)\s*(\d+(?:\.\d+)?)")
_COMPARE: Final[Mapping[str, Callable[[Decimal, Decimal], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
# A dose is for one of these: when another is stated, this one is not meant.
_DOSES: Final = frozenset({"curative", "preventive", "antiaggregant"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One medicine of a pair, seen as one of its substances. It may be taken by any of `routes`; none: unknown."""

    substance: str
    classes: frozenset[str] = frozenset()
    mg_per_day: Decimal | None = None
    mg_per_intake: Decimal | None = None
    routes: frozenset[str] = frozenset()
    use: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a condition is asked of. `a` is the medicine that the first side of the rule means."""

    a: Side
    b: Side
    context: Context = field(default_factory=Context)


Condition = Callable[[Facts], Truth]


def parse(said: Mapping[str, Any] | None) -> Condition:
    """None always holds. Raises ValueError for what is not of the language: a member that is not read would be a rule
    that is not applied."""
    if said is None:
        return lambda _: True
    if not isinstance(said, Mapping) or not said:
        raise ValueError("a condition is an object with at least one member")
    return _all([_member(name, value) for name, value in said.items()])


def conjunction(truths: Iterable[Truth]) -> Truth:
    answers = list(truths)
    if False in answers:
        return False
    return None if None in answers else True


def disjunction(truths: Iterable[Truth]) -> Truth:
    answers = list(truths)
    if True in answers:
        return True
    return None if None in answers else False


def negation(truth: Truth) -> Truth:
    return None if truth is None else not truth


def _member(name: str, value: Any) -> Condition:
    match name.split("."):
        case ["any"]:
            return _any(_several(value))
        case ["all"]:
            return _all(_several(value))
        case ["not"]:
            inner = parse(value)
            return lambda facts: negation(inner(facts))
        case ["never_known"] if value is True:
            return lambda _: None
        case ["has"]:
            return _any([_has(code) for code in _texts(value)])
        case ["egfr" | "age" | "weight" as fact]:
            return _compared(value, lambda facts: getattr(facts.context, fact))
        case ["a" | "b" as side, of]:
            return _of(side, of, value)
    raise ValueError(f"{name}: no member of a condition")


def _of(side: str, name: str, value: Any) -> Condition:
    def of(facts: Facts) -> Side:
        return facts.a if side == "a" else facts.b

    match name:
        case "in":
            names = frozenset(_texts(value))
            return lambda facts: of(facts).substance in names
        case "not_in":
            names = frozenset(_texts(value))
            return lambda facts: of(facts).substance not in names
        case "class":
            names = frozenset(_texts(value))
            return lambda facts: not names.isdisjoint(of(facts).classes)
        case "mg_per_day":
            return _compared(value, lambda facts: of(facts).mg_per_day, at_least=lambda facts: of(facts).mg_per_intake)
        case "mg_per_intake":
            return _compared(value, lambda facts: of(facts).mg_per_intake, at_most=lambda facts: of(facts).mg_per_day)
        case "route":
            names = frozenset(_texts(value))
            if not names <= ROUTES:
                raise ValueError("no such route")
            return lambda facts: _taken_by(of(facts).routes, names)
        case "use":
            return _any([_used(of, code) for code in _texts(value)])
    raise ValueError(f"{side}.{name}: no member of a condition")


def _taken_by(routes: frozenset[str], names: frozenset[str]) -> Truth:
    if routes and routes <= names:
        return True
    return False if routes and routes.isdisjoint(names) else None


def _used(of: Callable[[Facts], Side], code: str) -> Condition:
    def holds(facts: Facts) -> Truth:
        stated = of(facts).use
        if code in stated:
            return True
        is_another = code in _DOSES and not stated.isdisjoint(_DOSES)
        return False if is_another or code in facts.context.absent else None

    return holds


def _has(code: str) -> Condition:
    def holds(facts: Facts) -> Truth:
        known = facts.context
        if code == "pregnancy" and known.is_pregnant is not None:
            return known.is_pregnant
        if code == "breastfeeding" and known.is_breastfeeding is not None:
            return known.is_breastfeeding
        if code in known.conditions:
            return True
        return False if code in known.absent else None

    return holds


def _nothing(_: Facts) -> Decimal | None:
    return None


def _compared(
    said: Any,
    value_of: Callable[[Facts], Decimal | None],
    *,
    at_least: Callable[[Facts], Decimal | None] = _nothing,
    at_most: Callable[[Facts], Decimal | None] = _nothing,
) -> Condition:
    """What an unknown value is at least, or at most, may decide: an intake is no more than the amount of its day."""
    read = _COMPARISON.fullmatch(said) if isinstance(said, str) else None
    if read is None:
        raise ValueError("a comparison is like >=1000")
    compare, bound = _COMPARE[read[1]], Decimal(read[2])
    grows, shrinks = read[1] in (">=", ">"), read[1] in ("<=", "<")

    def holds(facts: Facts) -> Truth:
        value = value_of(facts)
        if value is not None:
            return compare(value, bound)
        lowest, highest = at_least(facts), at_most(facts)
        if lowest is not None and (grows or shrinks) and compare(lowest, bound) is grows:
            return grows
        if highest is not None and (grows or shrinks) and compare(highest, bound) is shrinks:
            return shrinks
        return None

    return holds


def _several(said: Any) -> list[Condition]:
    if not isinstance(said, Sequence) or isinstance(said, str) or not said:
        raise ValueError("a list of conditions has at least one")
    return [parse(each) for each in said]


def _texts(said: Any) -> list[str]:
    if not isinstance(said, Sequence) or isinstance(said, str) or not said or not all(isinstance(x, str) for x in said):
        raise ValueError("a list of names has at least one")
    return list(said)


def _all(conditions: Sequence[Condition]) -> Condition:
    return lambda facts: conjunction(condition(facts) for condition in conditions)


def _any(conditions: Sequence[Condition]) -> Condition:
    return lambda facts: disjunction(condition(facts) for condition in conditions)
