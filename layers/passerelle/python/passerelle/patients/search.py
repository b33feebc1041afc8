"""Searching people as people are searched: the birth date first, then the first letters of a name.

RNIV (search of an identity) and IHE PDQm (ITI-78) agree on little more than that; the rest is how names are written
and remembered: without accents and hyphens, without the particle, one part of a compound name, the used name in place
of the birth name, given and family name exchanged. `name_keys` says what a record is found under, `query_prefixes`
what a name as typed is looked up by, `PeopleQuery` whether a record found that way is one that was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from passerelle.matching.names import letters, normalised, words
from passerelle.patients.model import Identifier, Traits

Part = Literal["family", "given", "name"]

MAX_NAME_KEYS = 8  # index items of one person
_PHONE_DIGITS = 9  # of a French number, whatever stands for the country before them
# What people leave out of a name, or put before it. `saint` is none: Martin is not Saint-Martin.
_PARTICLES = frozenset(
    (
        *("d", "da", "das", "de", "del", "della", "der", "den", "des", "di", "do", "dos", "du", "van", "von", "y"),
        *("l", "la", "las", "le", "les", "los", "al", "el", "ben", "bin", "ibn"),
    )
)


# --- looking up -------------------------------------------------------------------------------------------------------


def name_keys(traits: Traits) -> tuple[str, ...]:
    """The names, in letters alone, that a person is found under by birth date: at most MAX_NAME_KEYS.

    A look-up finds the keys that start with its prefix, so none is given that another one starts with. The names of
    the family come first, each whole, without particles and from each of its later words on, then given names; of a
    person with more names than keys, the last cannot be looked up.
    """
    families = [list(_tails(name)) for name in traits.family_names]
    givens = [list(_tails(name)) for name in traits.given_names]
    first = [tails[0] for tails in (*families, *givens[:1]) if tails]
    others = [tail for tails in (*families, *givens) for tail in tails]
    keys: list[str] = []
    for key in dict.fromkeys((*first, *others)):
        if not any(known.startswith(key) for known in keys):
            keys = [known for known in keys if not key.startswith(known)] + [key]
    return tuple(keys[:MAX_NAME_KEYS])


def query_prefixes(text: str) -> tuple[str, ...]:
    """What a name as typed is looked up by: in letters alone, and without its particles if it has any.

    Nothing for a text without letters.
    """
    name = normalised(text)
    found = dict.fromkeys((letters(name), letters(_bare(name))))
    return tuple(each for each in found if each)


def _bare(name: str) -> str:
    """A normalised name without the particles it begins with; one of particles alone stays as it is."""
    rest = list(words(name))
    while len(rest) > 1 and rest[0] in _PARTICLES:
        rest = rest[1:]
    return name if rest and rest[0] in _PARTICLES else " ".join(rest)


def _tails(name: str) -> Iterator[str]:
    """A name from each of its words on, in letters alone: `delatour`, `latour`, `tour`."""
    parts = words(normalised(name))
    yield from ("".join(parts[start:]) for start in range(len(parts)))


# --- comparing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NameCriterion:
    """One name parameter: a name of that part has to start with one of `texts`, as typed, or hold it `is_anywhere`."""

    part: Part
    texts: tuple[str, ...]
    is_anywhere: bool = False

    def holds(self, families: Sequence[str], givens: Sequence[str]) -> bool:
        names = {"family": families, "given": givens, "name": (*families, *givens)}[self.part]
        return any(self._is_among(text, names) for text in self.texts)

    def _is_among(self, text: str, names: Sequence[str]) -> bool:
        if self.is_anywhere:
            wanted = letters(normalised(text))
            return bool(wanted) and any(wanted in letters(normalised(name)) for name in names)
        tails = [tail for name in names for tail in _tails(name)]
        if _starts(text, tails):
            return True
        typed = words(normalised(text))
        return self.part == "name" and len(typed) > 1 and all(_starts(word, tails) for word in typed)

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What finds every record that this holds for, by `name_keys`; nothing where only a comparison tells."""
        if self.is_anywhere:
            return ()
        found = {prefix: None for text in self.texts for prefix in self._prefixes(text)}
        return tuple(found)

    def _prefixes(self, text: str) -> tuple[str, ...]:
        if self.part != "name":
            return query_prefixes(text)
        typed = words(_bare(normalised(text)))  # given and family name may both be there, in any order
        return (*query_prefixes(text), *typed[:1])


def _starts(text: str, tails: Sequence[str]) -> bool:
    return any(tail.startswith(prefix) for prefix in query_prefixes(text) for tail in tails)


@dataclass(frozen=True, slots=True)
class PeopleQuery:
    """The name parameters of a search; a person has to meet all."""

    criteria: tuple[NameCriterion, ...] = ()

    def matches(self, traits: Traits) -> bool:
        """Whether the names are those asked for, or are so once family and given names are exchanged."""
        families, givens = traits.family_names, traits.given_names
        if all(each.holds(families, givens) for each in self.criteria):
            return True
        return self._may_be_exchanged and all(each.holds(givens, families) for each in self.criteria)

    @property
    def _may_be_exchanged(self) -> bool:
        parts = {each.part for each in self.criteria}
        return {"family", "given"} <= parts

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What to look people up by; nothing if the names asked for do not narrow a look-up."""
        by_part = {each.part: each.prefixes for each in reversed(self.criteria) if each.prefixes}
        return next((by_part[part] for part in ("family", "name", "given") if part in by_part), ())


def same_contact(one: str, other: str) -> bool:
    """Whether two phone numbers, or two addresses, are the same however they are written."""
    return _contact(one) == _contact(other)


def _contact(text: str) -> str:
    digits = re.sub(r"[\s().\-/+]", "", text)
    if digits.isascii() and digits.isdigit() and len(digits) >= _PHONE_DIGITS:
        return digits[-_PHONE_DIGITS:]
    return text.strip().casefold()


# --- a search ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientSearch:
    """How to look people up, and what each has to meet.

    People are looked up by the first of these that is there: `patients` (their keys), `identifiers`, `birth_dates`
    with `name_prefixes` (none: everybody born that day), `telecoms` (as typed); one of each kind is enough. Each has
    to meet `criteria` (on what is kept to search the record by), `names`, and `shown` (on what the caller may see of
    the record); the first and the last are the FHIR boundary's. `systems` are the identifier domains that are wanted in
    the answer, all of them if there are none. `used` are the parameters that were understood, as sent.
    """

    patients: tuple[str, ...] = ()
    identifiers: tuple[Identifier, ...] = ()
    birth_dates: tuple[date, ...] = ()
    name_prefixes: tuple[str, ...] = ()
    telecoms: tuple[str, ...] = ()
    criteria: Any = None
    names: PeopleQuery = PeopleQuery()
    shown: Any = None
    systems: tuple[str, ...] = ()
    used: tuple[tuple[str, str], ...] = ()
