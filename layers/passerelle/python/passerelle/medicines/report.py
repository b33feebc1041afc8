"""What a check says: findings in the order of their weight, each told by an id of its own, and the digest of it all.

E-prescription contract, section 17. The digest (RFC 8785, SHA-256) is over the version of the base, what was looked at,
what was found and what was not covered. It names no resource and no moment: the same treatments of the same person give
the same digest, wherever they were read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

import rfc8785

from passerelle.medicines.model import (
    CONSIDER,
    CONTRAINDICATION,
    DISCOURAGED,
    PRECAUTION,
    Behaviour,
    Finding,
    Kind,
    Source,
)

_BEHAVIOURS: Final = {
    CONTRAINDICATION: Behaviour.HARD_STOP,
    DISCOURAGED: Behaviour.ACKNOWLEDGE,
    PRECAUTION: Behaviour.SHOW,
    CONSIDER: Behaviour.COLLAPSED,
}
_ORDER: Final = list(Behaviour)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """`level` certainly applies, 0 when none does; `candidates` are more severe and would with more facts."""

    level: int
    candidates: tuple[int, ...] = ()

    @classmethod
    def of(cls, certain: Iterable[int], possible: Iterable[int] = ()) -> Weight:
        level = max(certain, default=0)
        return cls(level=level, candidates=tuple(sorted({each for each in possible if each > level}, reverse=True)))

    @property
    def is_nothing(self) -> bool:
        return not self.level and not self.candidates

    @property
    def behaviour(self) -> Behaviour:
        return Behaviour.ACKNOWLEDGE if self.candidates else _BEHAVIOURS[self.level]


def finding(
    kind: Kind,
    weight: Weight,
    *,
    rule: str,
    substances: Iterable[str],
    about: Sequence[str],
    title: str,
    text: str = "",
    mechanism: str = "",
    source: Source | None = None,
    behaviour: Behaviour | None = None,
) -> Finding:
    asks = behaviour or weight.behaviour
    said = "\n".join([kind, rule, asks, *sorted(set(substances))])
    return Finding(
        id=hashlib.sha256(said.encode()).hexdigest()[:32],
        kind=kind,
        behaviour=asks,
        level=weight.level,
        about=tuple(about),
        rule=rule,
        title=title,
        text=text,
        mechanism=mechanism,
        candidates=weight.candidates,
        is_conditional=bool(weight.candidates),
        source=source,
    )


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The gravest first; those of one id are one, about all that either is about."""
    merged: dict[str, Finding] = {}
    for each in findings:
        same = merged.get(each.id)
        merged[each.id] = each if same is None else _merged(same, each)
    return tuple(sorted(merged.values(), key=_weight))


def digest(said: Any) -> str:
    return hashlib.sha256(rfc8785.dumps(said)).hexdigest()


def amount(value: Decimal | None) -> str | None:
    """A number as it is digested: 1.0 is 1."""
    return None if value is None else format(value.normalize() + 0, "f")


def told(each: Finding) -> dict[str, Any]:
    """What of a finding is digested."""
    return {"id": each.id, "level": each.level, "candidates": list(each.candidates), "behaviour": str(each.behaviour)}


def _merged(one: Finding, other: Finding) -> Finding:
    weight = Weight.of([one.level, other.level], [*one.candidates, *other.candidates])
    about = tuple(dict.fromkeys([*one.about, *other.about]))
    text = "\n".join(sorted({one.text, other.text}))
    return replace(one, about=about, text=text, level=weight.level, candidates=weight.candidates)


def _weight(each: Finding) -> tuple[object, ...]:
    return (_ORDER.index(each.behaviour), -each.level, [-level for level in each.candidates], each.kind, each.id)
