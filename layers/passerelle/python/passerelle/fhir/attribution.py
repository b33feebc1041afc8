"""Who a resource is by and what it refers to, for consents: what its search values do not tell already.

`data/authors.json` says of each type which elements name an author. Names are those of `consents.terms.Facts`: a
reference as `Type/id`, wherever its server is; an identifier as the number of a professional or structure, or as
`system|value`. R4 2.3.0 (references), Consent.provision.data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from passerelle.directory.identifiers import party_of
from passerelle.fhir.paths import evaluate

AUTHORS: Final = "~author"  # in the values of an entry: authors that no search parameter has
REFERENCES: Final = "~refers"  # in the values of an entry: references that no search parameter has
_DATA = Path(__file__).parent / "data" / "authors.json"
_REFERENCE = re.compile(
    r"(?:.*/)?(?P<named>(?P<type>[A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?", re.ASCII
)


def reference_name(text: str) -> str | None:
    """`Type/id` of a literal reference; None for a fragment, and for any other URL."""
    match = _REFERENCE.fullmatch(text)
    return match["named"] if match else None


def identifier_name(system: str, value: str) -> str:
    return party_of(system, value) or f"{system}|{value}"


def value_name(value: str) -> str | None:
    """The name that a search value is: of a reference, a logical one (`|system|value`), an identifier."""
    system, bar, id = value.removeprefix("|").partition("|")
    return identifier_name(system, id) if bar else reference_name(value)


def author_parameters(type: str) -> tuple[str, ...]:
    """The search parameters that name authors."""
    return tuple(_types().get(type, {}).get("parameters", ()))


def unindexed(resource: Mapping[str, Any], indexed: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """Values for an entry beside those that it has (`indexed`)."""
    type = resource["resourceType"]
    known = {name for each in author_parameters(type) for value in indexed.get(each, ()) if (name := value_name(value))}
    authors = dict.fromkeys(
        name
        for path in _types().get(type, {}).get("paths", ())
        for node in evaluate(resource, path)
        for name in _names(resource, node)
        if name not in known
    )
    told = {name for values in indexed.values() for value in values if (name := reference_name(value))}
    references = dict.fromkeys(
        name
        for name in _references(resource)
        if name not in told and not name.startswith("Patient/") and name not in authors
    )
    return {name: tuple(found) for name, found in ((AUTHORS, authors), (REFERENCES, references)) if found}


def _names(resource: Mapping[str, Any], reference: Any, depth: int = 0) -> Iterator[str]:
    """What a Reference names, by way of contained resources: a role is its professional and its structure, too."""
    if not isinstance(reference, Mapping) or depth > 2:
        return
    text, identifier = reference.get("reference", ""), reference.get("identifier", {})
    if "value" in identifier:
        yield identifier_name(identifier.get("system", ""), identifier["value"])
    if name := reference_name(text):
        yield name
    if not text.startswith("#"):
        return
    for inner in resource.get("contained", ()):
        if inner.get("id") != text[1:]:
            continue
        for each in _identifiers(inner):
            yield identifier_name(each.get("system", ""), each["value"])
        for element in ("practitioner", "organization"):
            yield from _names(resource, inner.get(element), depth + 1)


def _identifiers(resource: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    listed = resource.get("identifier", [])
    return [each for each in (listed if isinstance(listed, list) else [listed]) if "value" in each]


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        text = value.get("reference")
        if isinstance(text, str) and (name := reference_name(text)):
            yield name
        for child in value.values():
            yield from _references(child)
    elif isinstance(value, list):
        for child in value:
            yield from _references(child)


@cache
def _types() -> Mapping[str, Mapping[str, list[str]]]:
    types: Mapping[str, Mapping[str, list[str]]] = json.loads(_DATA.read_text("utf-8"))["types"]
    return types
