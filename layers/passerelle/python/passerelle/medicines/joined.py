"""Two bases as one: a licensed base adds to what the open one finds, and takes nothing of its coverage away."""

from __future__ import annotations

from collections.abc import Sequence

from passerelle.medicines.model import Concept, Context, NotCovered, Product, Report, Treatment
from passerelle.medicines.ports import KnowledgeBase
from passerelle.medicines.report import digest, ordered


class Both:
    """`ports.KnowledgeBase`: what either finds, what neither covers. When one is unavailable nothing was checked."""

    def __init__(self, first: KnowledgeBase, second: KnowledgeBase) -> None:
        self._first = first
        self._second = second

    def resolve(self, treatment: Treatment) -> Concept | NotCovered:
        concept = self._first.resolve(treatment)
        return self._second.resolve(treatment) if isinstance(concept, NotCovered) else concept

    def product(self, codings: Sequence[str]) -> Product | None:
        return self._first.product(codings) or self._second.product(codings)

    def check(self, treatments: Sequence[Treatment], context: Context) -> Report:
        one, other = (base.check(treatments, context) for base in (self._first, self._second))
        uncovered = {each.key for each in other.not_covered}
        return Report(
            base_id=f"{one.base_id}+{other.base_id}",
            base_version=f"{one.base_version}+{other.base_version}",
            base_date=min(one.base_date, other.base_date),
            findings=ordered([*one.findings, *other.findings]),
            checked_pairs=max(one.checked_pairs, other.checked_pairs),
            not_covered=tuple(each for each in one.not_covered if each.key in uncovered),
            digest=digest([one.digest, other.digest]),
            sources=(*one.sources, *other.sources),
        )
