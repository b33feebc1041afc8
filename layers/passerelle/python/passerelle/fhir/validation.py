"""Whether JSON is a valid FHIR R4 resource, before anything of it is stored.

One walk over the received JSON beside the definitions (`definitions.py`), strict where fhir.resources
converts or lets pass: JSON types as written, no null, no empty object, array or text, syntax of every
primitive, required codes, reference targets, cardinality, one of each `x[x]`, and the invariants that storage
and search rely on. The input is neither converted nor changed. FHIR R4 sections 2.6.2 (JSON), 2.24
(datatypes), 3.1.0.4.1 (400 and 422).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from passerelle.errors import Invalid, Issue, Unprocessable
from passerelle.fhir.dates import date_range
from passerelle.fhir.definitions import Definition, Element, definition, is_type
from passerelle.fhir.narrative import fault_in
from passerelle.fhir.primitives import has_json_type, has_syntax

MAX_ISSUES = 50

_MEMBER = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}")
_RESTFUL = re.compile(
    r"(https?://\S+?/)?(?P<type>[A-Z][A-Za-z]+)(/[A-Za-z0-9\-.]{1,64}(/_history/[A-Za-z0-9\-.]{1,64})?|\?\S+)(#\S+)?"
)


def validate(resource: Any, *, expected_type: str | None = None, path: str | None = None) -> None:
    """Return if the resource is valid; else raise one error with every fault found, 50 at most.

    Invalid (`structure`, `value`) when it cannot be read as FHIR at all, Unprocessable (`required`,
    `code-invalid`, `value`, `invariant`) when it can, but breaks a rule. `path` is where the resource stands
    (`Bundle.entry[3].resource`); expressions start with it.
    """
    walk = _Walk()
    walk.resource(resource, path, expected_type=expected_type, container=None)
    if walk.malformed:
        raise Invalid(issues=(walk.malformed + walk.refused)[:MAX_ISSUES])
    if walk.refused:
        raise Unprocessable(issues=walk.refused[:MAX_ISSUES])


def prepare(*types: str) -> None:
    """Read the definitions of these types and all they are made of now, not in the first request for them."""
    todo, seen = list(types), {"Resource"}
    while todo:
        name = todo.pop()
        seen.add(name)
        found = definition(name)
        if found is not None and name != "Extension":  # which may hold any datatype, and seldom does
            todo += {each.type for each in found.elements.values() if not each.is_primitive} - seen


class _Walk:
    """`malformed` are faults of form (400), `refused` of content (422)."""

    def __init__(self) -> None:
        self.malformed: list[Issue] = []
        self.refused: list[Issue] = []

    def _malformed(self, path: str, text: str, code: str = "structure") -> None:
        self.malformed.append(Issue(code=code, diagnostics=text, expression=path))

    def _refused(self, path: str, code: str, text: str) -> None:
        self.refused.append(Issue(code=code, diagnostics=text, expression=path))

    # --- objects --------------------------------------------------------------------------------------------

    def resource(
        self, value: Any, path: str | None, *, expected_type: str | None, container: Mapping[str, Any] | None
    ) -> None:
        """`container` is the resource that this one is contained in."""
        if not isinstance(value, dict):
            self._malformed(path or expected_type or "Resource", "a resource is an object")
            return
        name = value.get("resourceType")
        found = definition(name) if isinstance(name, str) and _MEMBER.fullmatch(name) else None
        if found is None or not found.is_resource or found.name in ("Resource", "DomainResource"):
            self._malformed(f"{path or expected_type or 'Resource'}.resourceType", "must be a type of FHIR R4")
            return
        where = path or found.name
        if expected_type is not None and found.name != expected_type:
            self._malformed(f"{where}.resourceType", f"a resource of type {expected_type} is expected")
            return
        self._contained(value, where, container)
        self._members(value, found, where, container or value)

    def _contained(self, value: Mapping[str, Any], path: str, container: Mapping[str, Any] | None) -> None:
        inner = value.get("contained")
        if inner is not None and container is not None:
            self._refused(f"{path}.contained", "invariant", "a contained resource contains no other (dom-2)")
        ids = [each.get("id") for each in inner if isinstance(each, dict)] if isinstance(inner, list) else []
        for position, each in enumerate(ids):
            if each is None:
                self._refused(f"{path}.contained[{position}].id", "required", "a contained resource has an id")
            elif each in ids[:position]:
                self._refused(f"{path}.contained[{position}].id", "invariant", "two have the same id")

    def _members(self, value: Mapping[str, Any], found: Definition, path: str, container: Mapping[str, Any]) -> None:
        if not value:
            self._malformed(path, "an object may not be empty")
            return
        for name, member in value.items():
            if name == "resourceType" and found.is_resource:
                continue
            base = name.removeprefix("_")
            element = found.elements.get(base)
            if element is None or (name != base and (not element.is_primitive or base == "id")):
                place = f"{path}.{name}" if _MEMBER.fullmatch(name) else path
                self._malformed(place, f"{found.name} has no such element")
                continue
            place = f"{path}.{element.choice or base}"
            if name == base:
                beside = value.get(f"_{name}") if element.is_primitive else None
                self._element(member, element, place, container, beside)
            else:
                self._extensions(member, element, place, container, value.get(base))
        self._cardinality(value, found, path)
        rule = _INVARIANTS.get(found.name)
        broken = rule(value) if rule is not None else None
        if broken:
            self._refused(path, "invariant", broken)

    def _cardinality(self, value: Mapping[str, Any], found: Definition, path: str) -> None:
        for name in found.required:
            if name not in value and f"_{name}" not in value:
                self._refused(f"{path}.{name}", "required", "the element is mandatory")
        for choice, names in found.choices.items():
            present = sum(name in value or f"_{name}" in value for name in names)
            if present > 1:
                self._malformed(f"{path}.{choice}", "only one type of the element may be present")
            elif not present and choice in found.required_choices:
                self._refused(f"{path}.{choice}", "required", "the element is mandatory")

    # --- elements -------------------------------------------------------------------------------------------

    def _element(self, value: Any, element: Element, path: str, container: Mapping[str, Any], beside: Any) -> None:
        """`beside` is what `_name` holds: extensions may stand in for a value in a list."""
        if not element.many:
            self._single(value, element, path, container)
            return
        if not isinstance(value, list) or not value:
            self._malformed(path, "an array of at least one is expected")
            return
        for position, each in enumerate(value):
            if each is None and _at(beside, position) is not None:
                continue
            self._single(each, element, f"{path}[{position}]", container)

    def _single(self, value: Any, element: Element, path: str, container: Mapping[str, Any]) -> None:
        if element.type == "Resource":
            # An entry of a Bundle stands alone; what is contained shares the container's ids.
            inside = container if path.rpartition(".")[2].startswith("contained[") else None
            self.resource(value, path, expected_type=None, container=inside)
        elif element.is_primitive:
            self._primitive(value, element, path)
        elif not isinstance(value, dict):
            self._malformed(path, "an object is expected")
        else:
            found = definition(element.type)
            assert found is not None, element.type
            self._members(value, found, path, container)
            if element.type == "Reference":
                self._reference(value, element, path, container)

    def _primitive(self, value: Any, element: Element, path: str) -> None:
        if not has_json_type(element.type, value):
            self._malformed(path, f"the JSON type is not that of a {element.type}")
        elif not has_syntax(element.type, value):
            self._malformed(path, f"the value is not written as a {element.type}", "value")
        elif element.codes and value not in element.codes:
            self._refused(path, "code-invalid", "the code is not in the required value set")
        elif element.type == "xhtml" and (fault := fault_in(value)):
            self._refused(path, "invariant", f"{fault} (txt-1, txt-2)")

    def _extensions(self, value: Any, element: Element, path: str, container: Mapping[str, Any], beside: Any) -> None:
        """The `_name` member of a primitive: id and extensions, aligned with the values of a list."""
        if element.many and (not isinstance(value, list) or not value):
            self._malformed(path, "an array of at least one is expected")
            return
        for position, each in enumerate(value if element.many else [value]):
            place = f"{path}[{position}]" if element.many else path
            if each is None and element.many and _at(beside, position) is not None:
                continue
            if not isinstance(each, dict) or not each:
                self._malformed(place, "an object with id or extension is expected")
                continue
            found = definition("Element")
            assert found is not None
            self._members(each, found, place, container)

    def _reference(self, value: Mapping[str, Any], element: Element, path: str, container: Mapping[str, Any]) -> None:
        target, stated = value.get("reference"), value.get("type")
        names = [stated] if isinstance(stated, str) and is_type(stated) else []
        if isinstance(target, str):
            if target.startswith("#"):
                inner = _contained_in(container, target[1:])
                if inner is None:
                    self._refused(path, "invariant", "nothing is contained under this id (ref-1)")
                    return
                names.append(inner)
            elif (match := _RESTFUL.fullmatch(target)) and is_type(match["type"]):
                names.append(match["type"])
            elif match and match[1] is None:
                self._refused(path, "value", "the reference is to no type of FHIR")
                return
        if element.targets and any(name not in element.targets for name in names):
            self._refused(path, "value", "the reference is to a type that is not allowed here")


def _at(values: Any, position: int) -> Any:
    return values[position] if isinstance(values, list) and position < len(values) else None


def _contained_in(container: Mapping[str, Any], id: str) -> str | None:
    """The type of a contained resource; of the container itself for an empty id (`#`)."""
    if not id:
        return str(container.get("resourceType"))
    inner = container.get("contained")
    for each in inner if isinstance(inner, Sequence) else ():
        if isinstance(each, dict) and each.get("id") == id:
            return str(each.get("resourceType"))
    return None


# --- invariants ---------------------------------------------------------------------------------------------


def _extension_has_one(value: Mapping[str, Any]) -> str | None:
    has_value = any(name.lstrip("_").startswith("value") for name in value)
    return None if has_value != ("extension" in value) else "has a value or extensions, not both (ext-1)"


def _period_is_forward(value: Mapping[str, Any]) -> str | None:
    try:
        start, end = date_range(value["start"])[0], date_range(value["end"])[1]
    except (KeyError, TypeError, ValueError):
        return None  # open, or reported as malformed
    return None if start <= end else "ends before it starts (per-1)"


_INVARIANTS: Mapping[str, Callable[[Mapping[str, Any]], str | None]] = {
    "Extension": _extension_has_one,
    "Period": _period_is_forward,
}
