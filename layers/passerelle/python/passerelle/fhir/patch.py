"""Patches: from a stored resource and a JSON Patch or a FHIRPath Patch to the revised resource.

JSON Patch is RFC 6902 on the JSON form, FHIRPath Patch the Parameters resource of FHIR R4 (`fhirpatch.html`);
both are the PATCH interaction of R4 section 3.1.0.8. Operations apply in order, all or none: the stored
resource is not touched, and a fault in any leaves nothing. What a patch empties goes with its last content,
as FHIR has neither empty arrays nor empty objects (R4 section 2.6.2).

The six operations of RFC 6902 are written here because the library for them says in its own words, with
values, what failed, does not say at which operation, and lets `copy` double a resource with every step.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from passerelle.errors import Invalid, PasserelleError, TooLarge, Unprocessable, UnsupportedMedia
from passerelle.fhir import json as fhir_json
from passerelle.fhir.definitions import Definition, Element, definition
from passerelle.fhir.fhirpath import Node, definition_at, is_same, members, parse, select
from passerelle.fhir.primitives import has_json_type
from passerelle.fhir.validation import validate

JSON_PATCH = "application/json-patch+json"
FHIRPATH_PATCH = ("application/fhir+json", "application/fhir+xml")  # read to the same Parameters
MAX_OPERATIONS = 200
MAX_CARRIED_BYTES = 5 * 1024 * 1024  # by `copy` and `move` together

_UNCHANGEABLE = (("resourceType",), ("id",), ("meta", "versionId"), ("meta", "lastUpdated"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation of a patch, for who has to know what is changed before it is.

    `path` is as it was sent; `name` is the element that a FHIRPath `add` makes there; `value` is JSON, or the part of a
    FHIRPath Patch that holds it. `place` is where the operation stands in the patch, `patch` a patch of it alone.
    """

    kind: str
    path: str
    place: str
    patch: Any
    name: str = ""
    value: Any = None

    @property
    def is_json(self) -> bool:
        return isinstance(self.patch, list)

    @property
    def path_place(self) -> str:
        """Where the path stands in the patch."""
        if self.is_json:
            return f"{self.place}.path"
        parts = self.patch["parameter"][0]["part"]
        return f"{self.place}.part[{next(n for n, part in enumerate(parts) if part['name'] == 'path')}]"

    def applied(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """What this operation makes of a resource; raises as `revised` does."""
        try:
            return revised(content, self.patch, JSON_PATCH if self.is_json else FHIRPATH_PATCH[0])
        except PasserelleError as refusal:
            alone = "[0]" if self.is_json else "Parameters.parameter[0]"
            refusal.issues = tuple(
                replace(issue, expression=self.place + issue.expression.removeprefix(alone))
                if issue.expression is not None and issue.expression.startswith(alone)
                else issue
                for issue in refusal.issues
            )
            raise


def steps(patch: Any, media_type: str) -> list[Step]:
    """The operations of a patch, in order; raises as `revised` does for what is none."""
    if media_type == JSON_PATCH:
        return [
            Step(kind=each["op"], path=each["path"], value=each.get("value"), place=f"[{n}]", patch=[each])
            for n, each in enumerate(_json_operations(patch))
        ]
    if media_type in FHIRPATH_PATCH:
        return [
            Step(
                kind=operation.kind,
                path=operation.parts["path"].text,
                name=operation.parts["name"].text if "name" in operation.parts else "",
                value=operation.parts["value"].content if "value" in operation.parts else None,
                place=f"Parameters.parameter[{n}]",
                patch={"resourceType": "Parameters", "parameter": [patch["parameter"][n]]},
            )
            for n, operation in enumerate(_fhirpath_operations(patch))
        ]
    raise _unsupported()


def revised(stored: Mapping[str, Any], patch: Any, media_type: str) -> dict[str, Any]:
    """Apply a patch that was read from a body of the media type; the result is not yet validated.

    Raises Invalid (`structure`) for what is no patch, Unprocessable for what this resource does not allow:
    `value` where a path does not lead or a value is of another type, `business-rule` where a test fails or
    identity would change, `not-supported` for a path beyond the subset; TooLarge beyond the bounds.
    `expression` is the place in the patch: `[2].path`, `Parameters.parameter[2].part[1]`.
    """
    type_name = str(stored["resourceType"])
    content: Any = _copied(stored, fhir_json.MAX_DEPTH, type_name)
    if media_type == JSON_PATCH:
        content = _apply_json_patch(content, patch)
    elif media_type in FHIRPATH_PATCH:
        _apply_fhirpath_patch(content, patch)
    else:
        raise _unsupported()
    if not isinstance(content, dict):
        raise Unprocessable("the result is not a resource", code="value", expression=type_name)
    result: dict[str, Any] = _pruned(_copied(content, fhir_json.MAX_DEPTH, type_name))
    for names in _UNCHANGEABLE:
        if not is_same(_member(stored, names), _member(result, names)):
            raise Unprocessable("a patch may not change the element", expression=".".join((type_name, *names)))
    return result


def _member(content: Any, names: Sequence[str]) -> Any:
    for name in names:
        content = content.get(name) if isinstance(content, Mapping) else None
    return content


def _copied(value: Any, depth: int, place: str) -> Any:
    """Raises Unprocessable for what is nested deeper than a body may be: no later step shall fail on it."""
    if depth == 0:
        raise Unprocessable("the result is nested too deeply", code="too-long", expression=place)
    if isinstance(value, Mapping):
        return {name: _copied(each, depth - 1, place) for name, each in value.items()}
    return [_copied(each, depth - 1, place) for each in value] if isinstance(value, list) else value


def _pruned(value: Any) -> Any:
    if isinstance(value, list):
        return [_pruned(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept: dict[str, Any] = {}
    for name, each in value.items():
        inner = _pruned(each)
        if isinstance(inner, list) and name.startswith("_"):
            # What stands beside a list of primitives keeps its places.
            inner = [None if _is_empty(one) else one for one in inner]
            inner = inner if any(one is not None for one in inner) else []
        elif isinstance(inner, list):
            inner = [one for one in inner if not _is_empty(one)]
        if not _is_empty(inner):
            kept[name] = inner
    return kept


def _is_empty(value: Any) -> bool:
    return isinstance(value, dict | list) and not value


def _unresolved(text: str, place: str) -> Unprocessable:
    return Unprocessable(text, code="value", expression=place)


def _unsupported() -> UnsupportedMedia:
    accepted = ", ".join((JSON_PATCH, *FHIRPATH_PATCH))
    return UnsupportedMedia("not a media type of a patch", headers={"Accept-Patch": accepted})


def _malformed(text: str, place: str) -> Invalid:
    return Invalid(text, code="structure", expression=place)


# --- JSON Patch ---------------------------------------------------------------------------------------------

_OPERANDS: Mapping[str, tuple[str, ...]] = {
    "add": ("path", "value"),
    "remove": ("path",),
    "replace": ("path", "value"),
    "move": ("from", "path"),
    "copy": ("from", "path"),
    "test": ("path", "value"),
}
_INDEX = re.compile(r"0|[1-9]\d{0,8}", re.ASCII)
_POINTER = re.compile(r"(/([^~/]|~[01])*)*")


def _json_operations(patch: Any) -> list[dict[str, Any]]:
    if not isinstance(patch, list) or not patch:
        raise _malformed("a JSON Patch is an array of operations", "$this")
    if len(patch) > MAX_OPERATIONS:
        raise TooLarge(f"a patch may have {MAX_OPERATIONS} operations")
    for n, operation in enumerate(patch):
        _check_operation(operation, f"[{n}]")
    return patch


def _apply_json_patch(content: Any, patch: Any) -> Any:
    carried_bytes = 0
    for n, operation in enumerate(_json_operations(patch)):
        if "from" in _OPERANDS[operation["op"]]:
            carried = _resolve(content, _tokens(operation, "from", n), f"[{n}].from")
            carried_bytes += len(fhir_json.dumps(carried))
            if carried_bytes > MAX_CARRIED_BYTES:
                raise TooLarge("the patch copies and moves too much", expression=f"[{n}]")
        content = _apply_operation(content, operation, n)
    return content


def _check_operation(operation: Any, place: str) -> None:
    if not isinstance(operation, dict):
        raise _malformed("an operation is an object", place)
    kind = operation.get("op")
    if not isinstance(kind, str) or kind not in _OPERANDS:
        raise _malformed(f"the operation is one of {', '.join(_OPERANDS)}", f"{place}.op")
    for name in _OPERANDS[kind]:
        if name not in operation or (name != "value" and not isinstance(operation[name], str)):
            raise _malformed(f"the operation needs {name}", f"{place}.{name}")
    if kind == "move" and operation["path"].startswith(f"{operation['from']}/"):
        raise _malformed("nothing can be moved into itself", place)


def _apply_operation(content: Any, operation: Mapping[str, Any], n: int) -> Any:
    place = f"[{n}].path"
    tokens = _tokens(operation, "path", n)
    match operation["op"]:
        case "add":
            return _added(content, tokens, operation["value"], place)
        case "remove":
            return _removed(content, tokens, place)
        case "replace":
            return _replaced(content, tokens, operation["value"], place)
        case "move":
            source = _tokens(operation, "from", n)
            value = _resolve(content, source, f"[{n}].from")
            return _added(_removed(content, source, f"[{n}].from"), tokens, value, place)
        case "copy":
            return _added(content, tokens, _resolve(content, _tokens(operation, "from", n), f"[{n}].from"), place)
        case _:
            if not is_same(_resolve(content, tokens, place), operation["value"]):
                raise Unprocessable("the test fails", expression=f"[{n}]")
            return content


def _tokens(operation: Mapping[str, Any], name: str, n: int) -> list[str]:
    pointer = operation[name]
    if not _POINTER.fullmatch(pointer):
        raise _unresolved("a path is a JSON Pointer (RFC 6901), as /status or /name/0/given/-", f"[{n}].{name}")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]


def _resolve(content: Any, tokens: Sequence[str], place: str) -> Any:
    for token in tokens:
        content = content[_key(content, token, place)]
    return content


def _key(container: Any, token: str, place: str) -> Any:
    """The key or index of what exists."""
    if isinstance(container, dict) and token in container:
        return token
    if isinstance(container, list) and _INDEX.fullmatch(token) and int(token) < len(container):
        return int(token)
    raise _unresolved("the path leads to nothing", place)


def _at_depth(value: Any, tokens: Sequence[str], place: str) -> Any:
    return _copied(value, max(fhir_json.MAX_DEPTH - len(tokens), 0), place)


def _added(content: Any, tokens: Sequence[str], value: Any, place: str) -> Any:
    value = _at_depth(value, tokens, place)
    if not tokens:
        return value
    parent, last = _resolve(content, tokens[:-1], place), tokens[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list) and last in ("-", str(len(parent))):
        parent.append(value)
    else:
        position = _key(parent, last, place)
        parent.insert(position, value)
    return content


def _replaced(content: Any, tokens: Sequence[str], value: Any, place: str) -> Any:
    value = _at_depth(value, tokens, place)
    if not tokens:
        return value
    parent = _resolve(content, tokens[:-1], place)
    parent[_key(parent, tokens[-1], place)] = value
    return content


def _removed(content: Any, tokens: Sequence[str], place: str) -> Any:
    if not tokens:
        return None
    parent = _resolve(content, tokens[:-1], place)
    del parent[_key(parent, tokens[-1], place)]
    return content


# --- FHIRPath Patch -----------------------------------------------------------------------------------------

_PARTS: Mapping[str, frozenset[str]] = {
    "add": frozenset(("path", "name", "value")),
    "insert": frozenset(("path", "index", "value")),
    "delete": frozenset(("path",)),
    "replace": frozenset(("path", "value")),
    "move": frozenset(("path", "source", "destination")),
}
_QUANTITIES = frozenset(("Quantity", "Age", "Count", "Distance", "Duration"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A part of a Parameters resource and the place it stands at."""

    content: Mapping[str, Any]
    place: str

    @property
    def name(self) -> str:
        return str(self.content.get("name", ""))

    @property
    def parts(self) -> list[_Part]:
        listed = self.content.get("part", [])
        return [_Part(content=each, place=f"{self.place}.part[{n}]") for n, each in enumerate(listed)]

    @property
    def text(self) -> str:
        for member in ("valueString", "valueCode"):
            if member in self.content:
                return str(self.content[member])
        raise _malformed("a string is expected", self.place)

    @property
    def number(self) -> int:
        if "valueInteger" in self.content:
            return int(self.content["valueInteger"])
        raise _malformed("an integer is expected", self.place)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Operation:
    kind: str
    parts: Mapping[str, _Part]


def _apply_fhirpath_patch(resource: dict[str, Any], patch: Any) -> None:
    for operation in _fhirpath_operations(patch):
        _OPERATIONS[operation.kind](resource, operation.parts)


def _fhirpath_operations(patch: Any) -> list[_Operation]:
    """No operation at all is a patch that changes nothing, as in the official test cases."""
    validate(patch, expected_type="Parameters")
    listed = patch.get("parameter", [])
    if len(listed) > MAX_OPERATIONS:
        raise TooLarge(f"a patch may have {MAX_OPERATIONS} operations")
    parameters = [_Part(content=each, place=f"Parameters.parameter[{n}]") for n, each in enumerate(listed)]
    return [_read_operation(each) for each in parameters]


def _read_operation(parameter: _Part) -> _Operation:
    if parameter.name != "operation":
        raise _malformed("a parameter of a patch is named operation", parameter.place)
    parts: dict[str, _Part] = {}
    for part in parameter.parts:
        if part.name in parts:
            raise _malformed("a part of an operation stands once", part.place)
        parts[part.name] = part
    kind = parts.pop("type", None)
    if kind is None or kind.text not in _PARTS:
        raise _malformed(f"the type is one of {', '.join(_PARTS)}", kind.place if kind else parameter.place)
    if parts.keys() != _PARTS[kind.text]:
        raise _malformed(f"the parts are type, {', '.join(sorted(_PARTS[kind.text]))}", parameter.place)
    return _Operation(kind=kind.text, parts=parts)


def _add(resource: dict[str, Any], parts: Mapping[str, _Part]) -> None:
    node = _single(resource, parts["path"])
    _put(_opened(node), definition_at(node), parts["name"].text, parts["value"], parts["name"].place)


def _insert(resource: dict[str, Any], parts: Mapping[str, _Part]) -> None:
    content, owner, name = _list_at(resource, parts["path"])
    index = parts["index"].number
    member, value, beside = _given(owner, name, parts["value"])
    values, besides = _lists(content, member)
    if not 0 <= index <= len(values):
        raise _unresolved("the list has no such place", parts["index"].place)
    values.insert(index, value)
    besides.insert(index, beside)
    _store(content, member, values, besides)


def _delete(resource: dict[str, Any], parts: Mapping[str, _Part]) -> None:
    """Deletes what is found: that nothing is there is no fault (R4)."""
    place = parts["path"].place
    found = select(resource, parse(parts["path"].text, place), place)
    if len(found) > 1:
        raise _unresolved("the path names more than one element", place)
    for node in found:
        _write(node, None, None, place)


def _replace(resource: dict[str, Any], parts: Mapping[str, _Part]) -> None:
    node = _single(resource, parts["path"])
    if node.owner is None or node.holder is None:
        raise _unresolved("the resource itself cannot be replaced", parts["path"].place)
    member, value, beside = _given(node.owner, node.name, parts["value"])
    if member == node.member:
        _write(node, value, beside, parts["path"].place)
    else:  # another type of a choice
        _write(node, None, None, parts["path"].place)
        _set(node.holder, member, value, beside)


def _move(resource: dict[str, Any], parts: Mapping[str, _Part]) -> None:
    content, _, name = _list_at(resource, parts["path"])
    lists = _lists(content, name)
    source, destination = parts["source"], parts["destination"]
    for end in (source, destination):
        if not 0 <= end.number < len(lists[0]):
            raise _unresolved("the list has no such place", end.place)
    for each in lists:
        each.insert(destination.number, each.pop(source.number))
    _store(content, name, *lists)


_OPERATIONS = {"add": _add, "insert": _insert, "delete": _delete, "replace": _replace, "move": _move}


def _single(resource: dict[str, Any], path: _Part) -> Node:
    found = select(resource, parse(path.text, path.place), path.place)
    if len(found) != 1:
        raise _unresolved(
            "the path names no element" if not found else "the path names more than one element", path.place
        )
    return found[0]


def _list_at(resource: dict[str, Any], path: _Part) -> tuple[dict[str, Any], Definition, str]:
    """The object that holds a list, its definition and the name of the list, which may not be there yet."""
    steps = parse(path.text, path.place)
    if not steps or steps[-1].kind != "child":
        raise _unresolved("the path names no list", path.place)
    name = str(steps[-1].argument)
    holders = select(resource, steps[:-1], path.place)
    if len(holders) != 1:
        raise _unresolved("the path names no list, or more than one", path.place)
    owner = definition_at(holders[0])
    if not any(element.many for element in members(owner, name).values()):
        raise _unresolved("the path names no list", path.place)
    return _opened(holders[0]), owner, name


def _put(content: dict[str, Any], owner: Definition, name: str, part: _Part, name_place: str) -> None:
    """Append to a list, or set what is not there yet."""
    possible = members(owner, name)
    if not possible:
        raise _unresolved("there is no element of this name", name_place)
    member, value, beside = _given(owner, name, part)
    if possible[member].many:
        values, besides = _lists(content, member)
        _store(content, member, [*values, value], [*besides, beside])
    elif any(each in content or f"_{each}" in content for each in possible):
        raise _unresolved("the element is there already", name_place)
    else:
        _set(content, member, value, beside)


def _given(owner: Definition, name: str, part: _Part) -> tuple[str, Any, Any]:
    """The JSON member that a part's content belongs in, the value, and what stands beside it if primitive."""
    typed = {
        each.removeprefix("_").removeprefix("value") for each in part.content if each.startswith(("value", "_value"))
    }
    suffix = typed.pop() if typed else ""
    possible = members(owner, name)
    member = name if name in possible else f"{name}{suffix}"
    element = possible.get(member)
    value, beside = part.content.get(f"value{suffix}"), part.content.get(f"_value{suffix}")
    if element is not None and element.type == "Resource" and "resource" in part.content:
        return member, _copied(part.content["resource"], fhir_json.MAX_DEPTH, part.place), None
    if element is not None and not element.is_primitive and element.type != "Resource" and "part" in part.content:
        return member, _built(element.type, part), None
    if element is None or not suffix or not _fits(element, suffix, value):
        raise _unresolved("the value is not of the type of the element", part.place)
    depth = fhir_json.MAX_DEPTH
    return member, _copied(value, depth, part.place), _copied(beside, depth, part.place)


def _fits(element: Element, suffix: str, value: Any) -> bool:
    if not element.is_primitive:
        return suffix == element.type or {suffix, element.type} <= _QUANTITIES
    return not isinstance(value, dict) and (value is None or has_json_type(element.type, value))


def _built(type_name: str, part: _Part) -> dict[str, Any]:
    """An element without a type of its own comes as parts named by its elements."""
    owner = definition(type_name)
    assert owner is not None, type_name
    content: dict[str, Any] = {}
    for each in part.parts:
        _put(content, owner, each.name, each, each.place)
    return content


# --- where values are written -------------------------------------------------------------------------------


def _opened(node: Node) -> dict[str, Any]:
    """The object that holds what the element contains; that of a primitive is made if it has none."""
    content = node.beside if node.is_primitive else node.value
    if isinstance(content, dict):
        return content
    opened: dict[str, Any] = {}
    _write(node, node.value, opened, "")
    return opened


def _write(node: Node, value: Any, beside: Any, place: str) -> None:
    """Put in the place of the node; None and None remove it."""
    if node.holder is None:
        raise _unresolved("the resource itself cannot be removed", place)
    if node.index is None:
        _set(node.holder, node.member, value, beside)
        return
    values, besides = _lists(node.holder, node.member)
    at = slice(node.index, node.index + 1)
    is_kept = value is not None or beside is not None
    values[at], besides[at] = ([value], [beside]) if is_kept else ([], [])
    _store(node.holder, node.member, values, besides)


def _set(content: dict[str, Any], member: str, value: Any, beside: Any) -> None:
    for name, each in ((member, value), (f"_{member}", beside)):
        if each is None:
            content.pop(name, None)
        else:
            content[name] = each


def _lists(content: Mapping[str, Any], member: str) -> tuple[list[Any], list[Any]]:
    """Values and what stands beside them, of one length."""
    values, besides = list(content.get(member, ())), list(content.get(f"_{member}", ()))
    length = max(len(values), len(besides))
    return values + [None] * (length - len(values)), besides + [None] * (length - len(besides))


def _store(content: dict[str, Any], member: str, values: list[Any], besides: list[Any]) -> None:
    """A list of nothing but nulls is left out."""
    kept = [each if any(one is not None for one in each) else None for each in (values, besides)]
    _set(content, member, *kept)
