"""Data keys in memory, for tests of adapters that are about something else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from passerelle.aws.keys import Births, Held
from passerelle.aws.sealing import Sealer

R = TypeVar("R")


class KeptKeys:
    """`aws.keys.DataKeys`: one key for all records."""

    def find(self, patient: str) -> Held:
        return Sealer(b"k" * 32)

    def sealer(self, patient: str) -> Sealer:
        return Sealer(b"k" * 32)

    def beside(self, read: Callable[[], R], *patients: str) -> R:
        return read()

    def bearing(self, born: Iterable[str]) -> Births:
        return _NoBirths()


class _NoBirths(KeptKeys, Births):
    def __init__(self) -> None:
        self._made = {}

    def committed(self) -> None:
        pass
