"""Parts of a resource: what `_summary` and `_elements` leave of it (FHIR R4 sections 3.1.1.5.8 and 3.1.1.5.9).

`data/summary.json` is made from the official definitions (`definitions/summary.py`) and read when the first part is
asked for. In it, an element is `name`, `name[x]` for a choice, or `name:Definition` where a summary leaves something
out of the element too. Mandatory elements and modifiers stay, so that a part says nothing that the whole does not; an
extension inside an element stays with it. A part has the tag SUBSETTED: it must not be sent back as an update.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, cast

from passerelle.errors import Invalid
from passerelle.fhir import json as fhir_json

Summary = Literal["true", "text", "data", "count", "false"]

SUBSETTED: Final = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
_DATA: Final = Path(__file__).parent / "data" / "summary.json"
_SUMMARIES: Final = ("true", "text", "data", "count", "false")
_ALWAYS: Final = frozenset({"resourceType", "id", "meta", "implicitRules", "modifierExtension"})
_INNER: Final = frozenset({"id", "extension", "modifierExtension"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What of a resource is asked for: the whole of it unless a parameter says otherwise."""

    summary: Summary = "false"
    elements: tuple[str, ...] = ()

    @classmethod
    def read(cls, pairs: Sequence[tuple[str, str]]) -> Part:
        """From the parameters of a request; raises Invalid (`value`)."""
        summaries = {value for name, value in pairs if name == "_summary"} or {"false"}
        if len(summaries) > 1 or not summaries.issubset(_SUMMARIES):
            raise Invalid("must be one of true, text, data, count, false", code="value", expression="http._summary")
        elements = [name for key, value in pairs if key == "_elements" for name in value.split(",")]
        if not all(name.isalpha() and name.isascii() for name in elements):
            raise Invalid("must be names of elements", code="value", expression="http._elements")
        (summary,) = summaries
        return cls(summary=cast(Summary, summary), elements=tuple(elements))

    @property
    def is_whole(self) -> bool:
        return self.summary in ("false", "count") and not self.elements

    def of(self, body: bytes) -> bytes:
        """This part of a resource that is stored as JSON."""
        if self.is_whole:
            return body
        return fhir_json.dumps(trimmed(fhir_json.loads(body), summary=self.summary, elements=self.elements))


def trimmed(resource: Mapping[str, Any], *, summary: Summary = "false", elements: Sequence[str] = ()) -> dict[str, Any]:
    """A copy with these elements (if any are named), else with those of this kind of summary."""
    kind = str(resource["resourceType"])
    row = _data()["resources"].get(kind, {"mandatory": "", "choices": ""})
    choices = frozenset(row["choices"].split())
    mandatory = frozenset(row["mandatory"].split()) | _ALWAYS
    if elements:
        part = _chosen(resource, mandatory | frozenset(elements), choices)
    elif summary == "text":
        part = _chosen(resource, mandatory | {"text"}, choices)
    elif summary == "data":
        part = {name: value for name, value in resource.items() if name != "text"}
    elif summary == "true":
        part = _summarised(resource, kind)
    else:
        return dict(resource)
    return _tagged({**part, **_contained(resource, part)})


def _chosen(resource: Mapping[str, Any], names: frozenset[str], choices: frozenset[str]) -> dict[str, Any]:
    return {member: value for member, value in resource.items() if _element(member, choices) in names}


def _element(member: str, choices: frozenset[str]) -> str:
    """The element that a JSON member belongs to: `value` for `_valueString`."""
    name = member.removeprefix("_")
    for choice in choices:
        if name.startswith(choice) and name[len(choice) : len(choice) + 1].isupper():
            return choice
    return name


def _summarised(value: Mapping[str, Any], definition: str) -> dict[str, Any]:
    kept, choices = _kept(definition)
    inner = _ALWAYS if "resourceType" in value else _INNER
    part: dict[str, Any] = {}
    for member, child in value.items():
        name = _element(member, choices)
        if name in kept or member in inner:
            part[member] = _below(child, kept.get(name, ""))
    return part


def _below(value: Any, definition: str) -> Any:
    """What is left of an element; all of it if nothing would be, since nothing is empty in FHIR."""
    if isinstance(value, list):
        return [_below(each, definition) for each in value]
    return (_summarised(value, definition) or value) if definition and isinstance(value, Mapping) else value


def _contained(resource: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """The contained resources that the part still refers to, directly or by way of one another."""
    if "contained" not in resource or "contained" in part:
        return {}
    by_id = {f"#{each.get('id')}": each for each in resource["contained"]}
    found: dict[str, Any] = {}
    todo = [*_fragments(part)]
    while todo:
        name = todo.pop()
        if name in by_id and name not in found:
            found[name] = by_id[name]
            todo += _fragments(by_id[name])
    return {"contained": [each for name, each in by_id.items() if name in found]} if found else {}


def _fragments(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value.startswith("#"):
            yield value
    elif isinstance(value, Mapping | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _fragments(each)


def _tagged(part: dict[str, Any]) -> dict[str, Any]:
    """With the tag, in the place where `meta` is, or behind `id`."""
    meta = part.get("meta", {})
    tags = [tag for tag in meta.get("tag", []) if (tag.get("system"), tag.get("code")) != tuple(SUBSETTED.values())]
    tagged = {**meta, "tag": [*tags, SUBSETTED]}
    if "meta" in part:
        return {**part, "meta": tagged}
    head: dict[str, Any] = {name: part[name] for name in ("resourceType", "id") if name in part}
    return {**head, "meta": tagged, **{name: value for name, value in part.items() if name not in head}}


@cache
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(_DATA.read_text("utf-8"))
    return data


@cache
def _kept(definition: str) -> tuple[Mapping[str, str], frozenset[str]]:
    """Name -> definition to go on with (or nothing) of what a summary keeps, and which of the names are choices."""
    listed = _data()["summary"].get(definition, "").split()
    pairs = [each.partition(":") for each in listed]
    choices = frozenset(name.removesuffix("[x]") for name, _, _ in pairs if name.endswith("[x]"))
    return {name.removesuffix("[x]"): inner for name, _, inner in pairs}, choices
