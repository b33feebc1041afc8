"""Whether JSON is a valid FHIR R4 resource, before anything of it is stored.

One walk over the received JSON beside the definitions (`definitions.py`): JSON types as written, no null, no
empty object, array or text, syntax of every primitive, cardinality, one of each `x[x]`, required codes, reference
targets, and the invariants of R4 (`invariants.py`). What R4 calls an error is one here, and nothing else. The input is
neither converted nor changed. FHIR R4 sections 2.6.2 (JSON), 2.24 (datatypes), 3.1.0.4.1 (400 and 422).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from passerelle.errors import Invalid, Issue, Unprocessable
from passerelle.fhir.definitions import Definition, Element, definition, is_type, resource_definition
from passerelle.fhir.invariants import INVARIANTS
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
    if isinstance(resource.get("meta"), dict):
        from passerelle.fhir.care_team import profile_faults  # few resources declare a profile

        walk.refused += profile_faults(resource, path or resource["resourceType"])
    if walk.refused:
        raise Unprocessable(issues=walk.refused[:MAX_ISSUES])
    if resource["resourceType"] == "CommunicationRequest" and "extension" in resource:
        from passerelle.fhir import nde  # few resources declare an event

        if nde.is_declaration(resource):  # by whichever way it comes: what is stored as one is told as one
            nde.check_declaration(resource)


def check_members(value: Mapping[str, Any], type_name: str, path: str) -> list[Issue]:
    """What an object has that its type has not; for what is read, and not validated as a whole."""
    walk, found = _Walk(), definition(type_name)
    for name in value:
        if found is not None and found.elements.get(name.removeprefix("_")) is None and name != "resourceType":
            walk.unknown(name, found, path)
    return walk.malformed


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

    def unknown(self, name: str, found: Definition, path: str) -> None:
        place = f"{path}.{name}" if _MEMBER.fullmatch(name) else path
        self._malformed(place, f"{found.name} has no such element")

    # --- objects --------------------------------------------------------------------------------------------

    def resource(
        self, value: Any, path: str | None, *, expected_type: str | None, container: Mapping[str, Any] | None
    ) -> None:
        """`container` is the resource that this one is contained in."""
        if not isinstance(value, dict):
            self._malformed(path or expected_type or "Resource", "a resource is an object")
            return
        name = value.get("resourceType")
        found = resource_definition(name) if isinstance(name, str) else None
        if found is None:
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
        if not isinstance(inner, list):
            return  # reported as malformed if it is there
        if container is not None:
            self._refused(f"{path}.contained", "invariant", "a contained resource contains no other (dom-2)")
        named = set(_local_references(value))
        seen: set[Any] = set()
        for position, each in enumerate(inner):
            if not isinstance(each, dict):
                continue
            place, id, meta = f"{path}.contained[{position}]", each.get("id"), each.get("meta")
            if not isinstance(id, str):
                self._refused(f"{place}.id", "required", "a contained resource has an id")
                continue
            if id in seen:
                self._refused(f"{place}.id", "invariant", "two have the same id")
            seen.add(id)
            if f"#{id}" not in named and "#" not in _local_references(each):
                self._refused(place, "invariant", "nothing refers to the contained resource (dom-3)")
            if isinstance(meta, dict) and ("versionId" in meta or "lastUpdated" in meta):
                self._refused(f"{place}.meta", "invariant", "a contained resource has no version (dom-4)")
            if isinstance(meta, dict) and "security" in meta:
                self._refused(f"{place}.meta", "invariant", "a contained resource has no security label (dom-5)")

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
                self.unknown(name, found, path)
                continue
            place = f"{path}.{element.choice or base}"
            if name == base:
                beside = value.get(f"_{name}") if element.is_primitive else None
                self._element(member, element, place, container, beside)
            else:
                self._extensions(member, element, place, container, value.get(base))
        self._cardinality(value, found, path)
        self._invariants(value, found.name, path)

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

    def _invariants(self, value: Mapping[str, Any], name: str, path: str) -> None:
        if self.malformed:
            return  # rules read values whose form is valid
        for rule in INVARIANTS.get(name, ()):
            if not rule.holds(value):
                self._refused(path, "invariant", f"{rule.text} ({rule.key})")

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
            elif element.codes and not self.malformed:
                self._concept(value, element, path)
            elif element.profile:
                self._invariants(value, element.profile, path)

    def _concept(self, value: Mapping[str, Any], element: Element, path: str) -> None:
        codings = value.get("coding", ())
        if not any(f"{each.get('system')}|{each.get('code')}" in element.codes for each in codings):
            self._refused(path, "code-invalid", "no code is in the required value set")

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


def _local_references(value: Any) -> Iterator[str]:
    """Every text in a resource that can name a contained one, or its container: `#`, `#id`."""
    if isinstance(value, str):
        if value.startswith("#"):
            yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _local_references(each)


def _contained_in(container: Mapping[str, Any], id: str) -> str | None:
    """The type of a contained resource; of the container itself for an empty id (`#`)."""
    if not id:
        return str(container.get("resourceType"))
    inner = container.get("contained")
    for each in inner if isinstance(inner, Sequence) else ():
        if isinstance(each, dict) and each.get("id") == id:
            return str(each.get("resourceType"))
    return None
