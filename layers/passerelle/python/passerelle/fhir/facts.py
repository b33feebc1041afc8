"""What consents ask of a resource, from its search values: reads and searches judge by the same."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from passerelle.consents.terms import Facts
from passerelle.fhir.attribution import (
    AUTHORS,
    REFERENCES,
    author_parameters,
    reference_name,
    value_name,
)
from passerelle.fhir.index import record_type
from passerelle.records.concealment import ABOUT
from passerelle.records.model import ResourceKey
from passerelle.records.search import BEGINNING, END, Entry

_CODES = ("category", "type", "class", "code")
_LABELS = ("_security", "security-label")


def facts_of(key: ResourceKey, entry: Entry) -> Facts:
    values = entry.values
    kinds = _kinds(key.type)
    authors = {
        name for each in author_parameters(key.type) for value in values.get(each, ()) if (name := value_name(value))
    }
    authors.update(values.get(AUTHORS, ()))
    about = {
        name
        for each, found in values.items()
        if kinds.get(each) == "reference"
        for value in found
        if (name := reference_name(value))
    }
    return Facts(
        type=key.type,
        reference=key.reference,
        authors=frozenset(authors),
        period=_period(values.get(record_type(key.type).sort or "", ())),
        codes=frozenset(each for name in _CODES for each in values.get(name, ())),
        tokens=frozenset(each for name, found in values.items() if kinds.get(name) == "token" for each in found),
        labels=frozenset(each for name in _LABELS for each in values.get(name, ())),
        about=frozenset(about.union(values.get(ABOUT, ()), values.get(REFERENCES, ())) - {key.reference}),
    )


def _period(ranges: tuple[str, ...]) -> tuple[str, str] | None:
    """When it happened, of all the dates that there are; None for none, and for one without ends."""
    ends = [each.partition("/") for each in ranges]
    if not ends:
        return None
    first, last = min(first for first, _, _ in ends), max(last for _, _, last in ends)
    return None if (first, last) == (BEGINNING, END) else (first, last)


@cache
def _kinds(type: str) -> Mapping[str, str]:
    return {name: each.kind for name, each in record_type(type).search.items()}
