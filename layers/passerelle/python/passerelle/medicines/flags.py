"""What age and pregnancy say of one medicine (e-prescription contract, section 17).

A pregnancy that is not known is asked about where there may be one: what is contraindicated from its beginning has to
be acknowledged, what is less, or later only, is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from passerelle.medicines.conditions import Condition, Facts, Truth, conjunction, parse
from passerelle.medicines.model import CONTRAINDICATION, Behaviour, Context, Finding, Kind, Source
from passerelle.medicines.report import Weight, finding
from passerelle.medicines.resolution import Medicine, Resolver

# Wider than the 15 to 49 years of WHO's "women of reproductive age": pregnancies before and after are rare, not none.
_MAY_BE_PREGNANT: Final = (Decimal(11), Decimal(56))


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """`ends` are substances and classes; `trimesters` of pregnancy, none: all."""

    id: str
    ends: frozenset[str]
    applies: Condition
    level: int
    text: str
    source: Source
    trimesters: frozenset[int] = frozenset()


class Flags:
    """`groups` are the classes of each substance. Raises what tables of another form raise."""

    def __init__(
        self,
        said: Mapping[str, Any],
        sources: Sequence[Source],
        resolver: Resolver,
        groups: Mapping[str, frozenset[str]],
    ) -> None:
        self._resolver = resolver
        self._groups = groups
        self._ages = [_flag(each, sources) for each in said["ages"]]
        self._pregnancy = [_flag(each, sources) for each in said["pregnancy"]]

    def of(self, medicine: Medicine, context: Context) -> Iterator[Finding]:
        for flag in self._ages:
            yield from self._found(Kind.AGE, flag, medicine, context, True)
        for flag in self._pregnancy:
            yield from self._found(Kind.PREGNANCY, flag, medicine, context, _is_pregnant(context, flag.trimesters))

    def _found(
        self, kind: Kind, flag: Flag, medicine: Medicine, context: Context, concerns: Truth
    ) -> Iterator[Finding]:
        truths: dict[str, Truth] = {}
        for substance in medicine.substances:
            classes = self._groups.get(substance, frozenset())
            if flag.ends.isdisjoint(classes | {substance}):
                continue
            side = medicine.side(substance, classes)
            truth = conjunction([concerns, flag.applies(Facts(a=side, b=side, context=context))])
            if truth is not False:
                truths[substance] = truth
        if not truths:
            return
        is_certain = True in truths.values()
        weight = Weight(level=flag.level) if is_certain else Weight(level=0, candidates=(flag.level,))
        is_asked = kind is Kind.PREGNANCY and context.is_pregnant is None
        is_shown_only = is_asked and (flag.level < CONTRAINDICATION or 1 not in (flag.trimesters or {1}))
        yield finding(
            kind,
            weight,
            rule=flag.id,
            substances=truths,
            about=(medicine.treatment.key,),
            title=f"{', '.join(map(self._resolver.label, sorted(truths)))} : {_TITLES[kind]}",
            text=flag.text,
            source=flag.source,
            behaviour=Behaviour.SHOW if is_shown_only else None,
        )


_TITLES: Final = {Kind.AGE: "âge", Kind.PREGNANCY: "grossesse"}


def _is_pregnant(context: Context, trimesters: frozenset[int]) -> Truth:
    if context.is_pregnant is None:
        youngest, oldest = _MAY_BE_PREGNANT
        may_be = context.gender != "male" and (context.age is None or youngest <= context.age < oldest)
        return None if may_be else False
    if not context.is_pregnant or not trimesters:
        return context.is_pregnant
    return None if context.trimester is None else context.trimester in trimesters


def _flag(said: Mapping[str, Any], sources: Sequence[Source]) -> Flag:
    trimester = said.get("trimester")
    ends = frozenset([*said.get("substances", ()), *said.get("classes", ())])
    if not ends or said["level"] not in (1, 2, 3, 4):
        raise ValueError("a flag of nothing, or of no level")
    return Flag(
        id=str(said["id"]),
        ends=ends,
        applies=parse(said.get("when")),
        level=said["level"],
        text=str(said["text"]),
        source=sources[said["source"]],
        trimesters=frozenset([trimester] if isinstance(trimester, int) else trimester or ()),
    )
