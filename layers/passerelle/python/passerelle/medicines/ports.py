"""A base of knowledge on medicines: the compiled open one, or a licensed one behind the same port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from passerelle.medicines.model import Concept, Context, NotCovered, Product, Report, Treatment


class KnowledgeBase(Protocol):
    """Read only, and safe to share between threads.

    `check` and `product` raise KnowledgeUnavailable when the base cannot be reached or loaded: never an empty result.
    """

    def resolve(self, treatment: Treatment) -> Concept | NotCovered: ...

    def product(self, codings: Sequence[str]) -> Product | None:
        """The first of these codes that is a known product or presentation."""

    def check(self, treatments: Sequence[Treatment], context: Context) -> Report: ...
