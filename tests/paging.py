"""Every page of a search, followed as clients do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

Ask = Callable[[str], Mapping[str, Any]]  # what is below the FHIR base, to a Bundle


def pages(ask: Ask, path: str) -> Iterator[Mapping[str, Any]]:
    while path:
        page = ask(path)
        assert page["resourceType"] == "Bundle", page
        yield page
        links = {link["relation"]: link["url"] for link in page["link"]}
        path = links.get("next", "").partition("/fhir/")[2]


def matches(ask: Ask, path: str) -> list[Mapping[str, Any]]:
    """The matches of every page, none twice; a total that is given is theirs."""
    found: list[Mapping[str, Any]] = []
    totals = set()
    for page in pages(ask, path):
        found += [each["resource"] for each in page.get("entry", []) if each["search"]["mode"] == "match"]
        totals.add(page.get("total"))
    assert totals <= {None, len(found)}, (path, totals, len(found))
    ids = [each["id"] for each in found]
    assert len(set(ids)) == len(ids), path
    return found


def search(kind: str, **parameters: str) -> str:
    return f"{kind}?{encoded(parameters.items())}"


def encoded(pairs: Any) -> str:
    return urlencode(list(pairs), quote_via=quote)
