"""Which kinds of documents and data a profession sees: the matrice d'habilitation, as versioned data. Pure.

A row names families that are hidden from a profession, or the only ones that are shown to it. A family is codes of
classes and types of documents, and types of resources. The rows of a country are in `data/habilitation_*.json`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from passerelle.access import Caller
from passerelle.directory.model import Role

_DATA = Path(__file__).parent / "data" / "habilitation_fr.json"
CODED: Final = "DocumentReference"  # whose class and type say what it is; everything else is what its type is
CODE: Final = "code:"  # begins the label of a document whose class or type is hidden from some professions


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one profession or role sees; `codes` are `system|code` of classes and types."""

    codes: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    is_allowance: bool = False  # these and nothing else, instead of everything but these

    def shows(self, type: str, codes: Collection[str]) -> bool:
        """Whether a resource exists; `codes` are those of a document."""
        is_named = type in self.resources or (type == CODED and not self.codes.isdisjoint(codes))
        return is_named is self.is_allowance or type == "Patient"

    @property
    def is_open(self) -> bool:
        """Whether it hides nothing."""
        return not self.is_allowance and not self.codes and not self.resources


OPEN: Final = Row()
NOTHING: Final = Row(is_allowance=True)


def row_of(caller: Caller, profession: str | None) -> Row | None:
    """The row of a caller; None for a profession that the matrix does not know, which sees nothing."""
    if caller.role in (Role.PATIENT, Role.REPRESENTATIVE):
        return OPEN
    name = str(caller.role)
    return _row("roles", name) if name in _matrix()["roles"] else _row("professions", profession or "")


def is_known(role: str, profession: str | None) -> bool:
    """Whether the matrix has a row for who looks at a record."""
    return role in _matrix()["roles"] or profession in _matrix()["professions"]


def code_labels(codings: Iterable[tuple[str, str]]) -> frozenset[str]:
    """The labels of a document of these classes and types (system, code): the codes that are hidden from somebody."""
    return frozenset(f"{CODE}{each}" for system, code in codings if (each := f"{system}|{code}") in _watched())


def version() -> str:
    return str(_matrix()["version"])


@cache
def _row(table: str, name: str) -> Row | None:
    row = _matrix()[table].get(name)
    if row is None:
        return None
    families = [_matrix()["families"][each] for each in row.get("shows", row.get("hides"))]
    return Row(
        codes=frozenset(code for family in families for code in _codes(family)),
        resources=frozenset(each for family in families for each in family.get("resource", ())),
        is_allowance="shows" in row,
    )


@cache
def _watched() -> frozenset[str]:
    names = {each for row in _rows() for each in row.get("hides", ())}
    return frozenset(code for name in names for code in _codes(_matrix()["families"][name]))


def _rows() -> Iterable[Mapping[str, Any]]:
    return (*_matrix()["professions"].values(), *_matrix()["roles"].values())


def _codes(family: Mapping[str, Any]) -> Iterable[str]:
    for kind, systems in _matrix()["systems"].items():
        for code in family.get(kind, ()):
            yield from (f"{system}|{code}" for system in systems)


@cache
def _matrix() -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads(_DATA.read_text("utf-8"))
    return content
