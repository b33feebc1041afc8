"""Paths to the elements that a search parameter reads, compiled once and walked over FHIR JSON.

The part of FHIRPath (R4 section 2.9) that search parameters need, on the names JSON has:

    valueQuantity                       an element, of every member of a list
    entry[0]                            one member
    telecom.where(system='phone')       members by a code
    extension('url')                    extensions by their url
    author.resolve()                    what a `#id` refers to in the same resource
    subject.is(Patient)                 references to a type, resources of a type
    holds(deceasedBoolean,…)            whether one of the elements is there and not false

A trailing `:Type` says what stands there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

Step = Callable[[Mapping[str, Any], Iterable[Any]], Iterator[Any]]

_STEP = re.compile(
    r"extension\('(?P<url>[^']+)'\)|where\((?P<key>\w+)='(?P<code>[^']+)'\)|is\((?P<type>\w+)\)"
    r"|holds\((?P<held>[\w,]+)\)|(?P<resolve>resolve\(\))|(?P<name>\w+)|\[(?P<index>\d+)\]"
)


def typed(path: str) -> tuple[str, str]:
    """The path without its type, and the type."""
    bare, _, type = path.rpartition(":")
    return bare, type


def evaluate(resource: Mapping[str, Any], path: str, start: Any = None) -> list[Any]:
    """The elements at a path without a type, lists flattened, in document order; from `start`, if not the resource."""
    nodes: Iterable[Any] = [resource if start is None else start]
    for step in _compiled(path):
        nodes = step(resource, nodes)
    return list(nodes)


@cache
def _compiled(path: str) -> tuple[Step, ...]:
    return tuple(map(_step, _STEP.finditer(path)))


def _step(step: re.Match[str]) -> Step:
    name, url, key, code = step["name"], step["url"], step["key"], step["code"]
    if name:
        return lambda _, nodes: _children(nodes, name)
    if url:
        return lambda _, nodes: (each for each in _children(nodes, "extension") if each.get("url") == url)
    if key:
        return lambda _, nodes: (each for each in nodes if isinstance(each, Mapping) and each.get(key) == code)
    if step["index"]:
        index = int(step["index"])
        return lambda _, nodes: (each for at, each in enumerate(nodes) if at == index)
    if step["type"]:
        return lambda resource, nodes: (each for each in nodes if is_to(resource, each, step["type"]))
    if step["held"]:
        names = step["held"].split(",")
        return lambda _, nodes: (any(each.get(held) not in (None, False) for held in names) for each in nodes)
    return lambda resource, nodes: (found for each in nodes if (found := _contained(resource, each)) is not None)


def is_to(resource: Mapping[str, Any], node: Any, type: str) -> bool:
    """Whether a Reference, or a resource itself, is of a type, as far as it says so."""
    if not isinstance(node, Mapping):
        return False
    if "resourceType" in node:
        return bool(node["resourceType"] == type)
    contained = _contained(resource, node)
    if contained is not None:
        return bool(contained.get("resourceType") == type)
    if node.get("type") == type:
        return True
    return re.search(rf"(^|/){type}[/?]", str(node.get("reference", ""))) is not None


def _children(nodes: Iterable[Any], name: str) -> Iterator[Any]:
    for node in nodes:
        child = node.get(name) if isinstance(node, Mapping) else None
        if isinstance(child, list):
            yield from (each for each in child if each is not None)  # beside a null stands an extension
        elif child is not None:
            yield child


def _contained(resource: Mapping[str, Any], reference: Any) -> Any | None:
    target = reference.get("reference", "") if isinstance(reference, Mapping) else ""
    if not target.startswith("#"):
        return None
    return next((each for each in resource.get("contained", ()) if each.get("id") == target[1:]), None)
