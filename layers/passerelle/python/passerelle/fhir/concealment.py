"""References to documents in FHIR resources: found, and taken out where the document is hidden (contract D1, 66-5).

`records.concealment.Mending`. A List loses the entry, a DocumentReference its relation; any other resource that speaks
of a hidden document is hidden with it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from passerelle.consents.terms import Facts, Sieve
from passerelle.fhir import json as fhir_json
from passerelle.records.concealment import ABOUT
from passerelle.records.model import ResourceKey
from passerelle.records.search import Entry

_DOCUMENT = re.compile(r"(?:^|/)((?:DocumentReference|Binary)/[A-Za-z0-9\-.]{1,64})(?:/_history/\d+)?$", re.ASCII)
_MAYBE = (b"DocumentReference/", b"Binary/")
# In a DocumentReference: what speaks of other documents, and the path of the reference in each.
_RELATIONS: Mapping[str, tuple[str, ...]] = {"relatesTo": ("target", "reference")}


def documents_of(content: Mapping[str, Any]) -> tuple[str, ...]:
    """The documents that a resource refers to, each `Type/id`; its own content is not another."""
    own = content.get("id")
    found = dict.fromkeys(_named(content))
    return tuple(each for each in found if each.partition("/")[2] != own)


class ReferenceMending:
    def documents(self, body: bytes) -> Collection[str]:
        if not any(each in body for each in _MAYBE):
            return ()
        return documents_of(fhir_json.loads(body))

    def entry(self, body: bytes, base_url: str | None = None) -> Entry:
        from passerelle.fhir.index import entry_of  # only where a consent speaks of single resources

        content = fhir_json.loads(body)
        found, about = entry_of(content, base_url=base_url), documents_of(content)
        return replace(found, values={**found.values, ABOUT: about}) if about else found

    def facts(self, key: ResourceKey, entry: Entry) -> Facts:
        from passerelle.fhir.facts import facts_of

        return facts_of(key, entry)

    def residual(self, rules: Sequence[Mapping[str, Any]]) -> Sieve | None:
        if not rules:
            return None
        from passerelle.fhir.consent import residual  # few tokens have such rules

        return residual(rules)

    def without(self, body: bytes, hidden: Collection[str]) -> bytes | None:
        content = fhir_json.loads(body)
        match content["resourceType"]:
            case "List":
                entries = [each for each in content.get("entry", []) if not _is_about(each, hidden)]
                mended = _with(content, "entry", entries) if entries else None
            case "DocumentReference":
                mended = content
                for name in _RELATIONS:
                    kept = [each for each in content.get(name, []) if not _is_about(each, hidden)]
                    mended = _with(mended, name, kept)
            case _:
                mended = None
        if mended is None or _is_about({**mended, "id": None}, set(hidden) - _own(content)):
            return None
        return fhir_json.dumps(mended)


def with_hidden_parts(content: Mapping[str, Any], whole: bytes, shown: bytes) -> dict[str, Any]:
    """A changed resource with the parts that whoever changed it does not see, after those that it has."""
    before, seen = fhir_json.loads(whole), fhir_json.loads(shown)
    result = dict(content)
    for name in ("entry", *_RELATIONS):
        unseen = [each for each in before.get(name, []) if each not in seen.get(name, [])]
        if unseen:
            result[name] = [*content.get(name, []), *unseen]
    return result


def _own(content: Mapping[str, Any]) -> set[str]:
    return {f"{kind}/{content.get('id')}" for kind in ("DocumentReference", "Binary")}


def _with(content: Mapping[str, Any], name: str, value: list[Any]) -> dict[str, Any]:
    """The same with another value of an element, in its place; an empty list is no element."""
    return {key: value if key == name else each for key, each in content.items() if key != name or value}


def _is_about(value: Any, hidden: Collection[str]) -> bool:
    return any(each in hidden for each in _named(value))


def _named(value: Any, name: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _named(child, key)
    elif isinstance(value, list):
        for child in value:
            yield from _named(child, name)
    elif isinstance(value, str) and name in ("reference", "url", "uri") and (found := _DOCUMENT.search(value)):
        yield found[1]
