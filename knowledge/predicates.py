"""The hand-written conditions of rules, `predicates_fr.json`: read, checked, their definitions put in place.

E-prescription contract, section 20.2: rules of several levels (D1), conditions of rules of one level where these decide
(D6), levels that only the text states. What was written is read by the very code that will apply it, so that a
condition that it cannot read never gets into an artefact.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from passerelle.medicines.conditions import parse

FILE: Final = Path(__file__).with_name("predicates_fr.json")
KINDS: Final = ("several_levels", "hidden_level", "one_level")


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    level: int
    when: Mapping[str, Any] | None  # None: always

    def __post_init__(self) -> None:
        if self.level not in (1, 2, 3, 4):
            raise ValueError("no level of the thesaurus")
        parse(self.when)


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicate:
    """`rule` are its two ends, the first is `a` of the conditions; `kind` is one of KINDS; `review` who read it."""

    rule: tuple[str, str]
    kind: str
    branches: tuple[Branch, ...]
    review: str


def read(file: Path = FILE) -> tuple[Predicate, ...]:
    """Raises ValueError or KeyError for a file that says what cannot be applied."""
    said = json.loads(file.read_text(encoding="utf-8"))
    return tuple(
        Predicate(
            rule=(each["rule"][0], each["rule"][1]),
            kind=kind,
            branches=branches_of(each["branches"], said["definitions"]),
            review=each.get("review", said["review"]),
        )
        for kind in KINDS
        for each in said[kind]
    )


def branches_of(
    said: Sequence[Mapping[str, Any]], definitions: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[Branch, ...]:
    return tuple(Branch(level=each["level"], when=_in_place(each["when"], definitions or {})) for each in said)


def _in_place(said: Any, definitions: Mapping[str, Mapping[str, Any]]) -> Any:
    if isinstance(said, list):
        return [_in_place(each, definitions) for each in said]
    if not isinstance(said, Mapping):
        return said
    if "see" in said:
        if len(said) > 1:
            raise ValueError("a definition stands alone")
        return _in_place(definitions[said["see"]], definitions)
    return {name: _in_place(value, definitions) for name, value in said.items()}
