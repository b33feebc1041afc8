"""The part of FHIRPath that names elements of one resource: what a FHIRPath Patch is addressed with.

Names (`Observation.value`, whatever its type), `[n]`, `first()`, `last()`, `extension('url')`, `ofType(Type)`
and `where(a.b = 'x' and $this = 1)`; all else is refused, not guessed. Navigation follows the definitions, so
that a name no type has is a fault, not an element that is absent. FHIRPath N1 (ANSI 2.0.0) sections 2 to 5
and 6.1, FHIR R4 section 2.9.1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple, NoReturn

from passerelle.errors import Unprocessable
from passerelle.fhir.definitions import Definition, Element, definition

MAX_LENGTH = 1_000
MAX_ELEMENTS = 2_000  # that one step looks at: a path is no way to keep a function busy
MAX_CRITERIA = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An element of a resource as JSON holds it: `holder[member]`, or one of that list if `index` is set.

    `name` is its name in the definition `owner` of the holder: `value` where the member is `valueQuantity`.
    `value` is None where a primitive has only `beside`, its id and extensions. The root has neither holder nor
    owner.
    """

    type: str
    value: Any
    beside: Any = None
    holder: dict[str, Any] | None = None
    owner: Definition | None = None
    name: str = ""
    member: str = ""
    index: int | None = None

    @property
    def is_primitive(self) -> bool:
        return self.type[0].islower()


class Criterion(NamedTuple):
    operand: tuple[Step, ...]
    literal: Any


class Step(NamedTuple):
    kind: Literal["child", "index", "first", "last", "where", "extension", "ofType"]
    argument: Any = None


# --- parsing ------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""\s*(?: (?P<name>\$this|[A-Za-z_][A-Za-z0-9_]*) | (?P<text>'(?:[^'\\]|\\.)*')
             | (?P<number>-?\d{1,18}(?:\.\d{1,18})?) | (?P<mark>[.()\[\]=]) )\s*""",
    re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "\\": "\\", "/": "/", "'": "'", '"': '"', "`": "`"}


def parse(text: str, place: str) -> tuple[Step, ...]:
    """Read a path; raises Unprocessable (`not-supported`) at `place` for what is outside the subset."""
    return _Parser(text, place).path()


class _Parser:
    def __init__(self, text: str, place: str) -> None:
        self._place = place
        self._at = 0
        self._tokens: list[tuple[str, str]] = []
        if not text.strip() or len(text) > MAX_LENGTH:
            self._refuse()
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                self._refuse()
            self._tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
            position = match.end()

    def path(self) -> tuple[Step, ...]:
        steps = self._steps(within=False)
        if self._at < len(self._tokens):
            self._refuse()
        return steps

    def _steps(self, *, within: bool) -> tuple[Step, ...]:
        """`within` the criteria of a where(), in which there is no other."""
        steps: list[Step] = []
        if self._has("$this"):
            self._at += 1
        else:
            steps.append(self._step(within=within))
        while self._has(".") or self._has("["):
            if self._has("."):
                self._at += 1
                steps.append(self._step(within=within))
            else:
                steps.append(self._index())
        return tuple(steps)

    def _step(self, *, within: bool) -> Step:
        name = self._take("name")
        if not self._has("("):
            return Step("child", name)
        self._at += 1
        step = self._function(name, within=within)
        self._take("mark", ")")
        return step

    def _function(self, name: str, *, within: bool) -> Step:
        if name == "first":
            return Step("first")
        if name == "last":
            return Step("last")
        if name == "extension":
            return Step("extension", self._text())
        if name == "ofType":
            return Step("ofType", self._take("name"))
        if name == "where" and not within:
            criteria = [self._criterion()]
            while self._has("and") and len(criteria) < MAX_CRITERIA:
                self._at += 1
                criteria.append(self._criterion())
            return Step("where", tuple(criteria))
        self._refuse()

    def _criterion(self) -> Criterion:
        operand = self._steps(within=True)
        self._take("mark", "=")
        return Criterion(operand, self._literal())

    def _literal(self) -> Any:
        if self._has("true") or self._has("false"):
            return self._take("name") == "true"
        if self._at < len(self._tokens) and self._tokens[self._at][0] == "number":
            return Decimal(self._take("number"))
        return self._text()

    def _text(self) -> str:
        return _ESCAPE.sub(self._unescape, self._take("text")[1:-1])

    def _unescape(self, match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        if match[2] not in _ESCAPED:
            self._refuse()
        return _ESCAPED[match[2]]

    def _index(self) -> Step:
        self._take("mark", "[")
        number = self._take("number")
        if not number.isdecimal():
            self._refuse()
        self._take("mark", "]")
        return Step("index", int(number))

    def _has(self, text: str) -> bool:
        return self._at < len(self._tokens) and self._tokens[self._at][1] == text

    def _take(self, kind: str, text: str | None = None) -> str:
        found = self._tokens[self._at] if self._at < len(self._tokens) else ("", "")
        if found[0] != kind or (text is not None and found[1] != text) or found[1] == "$this":
            self._refuse()
        self._at += 1
        return found[1]

    def _refuse(self) -> NoReturn:
        raise Unprocessable(
            "a path is made of names, [n], first(), last(), extension('url'), ofType(Type), where(name = 'value')",
            code="not-supported",
            expression=self._place,
        )


# --- navigation ---------------------------------------------------------------------------------------------


def select(resource: dict[str, Any], steps: Sequence[Step], place: str) -> list[Node]:
    """The elements a path names, in order; raises Unprocessable (`value`) at `place` for a name no type has."""
    root = Node(type=str(resource["resourceType"]), value=resource)
    if steps and steps[0] in (Step("child", each) for each in (root.type, "Resource", "DomainResource")):
        steps = steps[1:]
    return _walk([root], steps, place)


def definition_at(node: Node) -> Definition:
    """What the element may hold: for a primitive id and extensions, for a resource in a resource its type."""
    name = "Element" if node.is_primitive else node.type
    if name == "Resource" and isinstance(node.value, dict):
        name = str(node.value.get("resourceType"))
    found = definition(name)
    assert found is not None, name
    return found


def members(found: Definition, name: str) -> dict[str, Element]:
    """The JSON members of an element: one for each type of a choice; empty if there is no such element."""
    own = found.elements.get(name)
    if own is not None and own.choice is None:
        return {name: own}
    return {member: found.elements[member] for member in found.choices.get(name, ())}


def children(node: Node, name: str, place: str) -> list[Node]:
    owner = definition_at(node)
    possible = members(owner, name)
    if not possible:
        raise Unprocessable("the path has a name that is no element there", code="value", expression=place)
    holder = node.beside if node.is_primitive else node.value
    if not isinstance(holder, dict):
        return []
    found: list[Node] = []
    for member, element in possible.items():
        value, beside = holder.get(member), holder.get(f"_{member}")
        if not element.many:
            listed: list[tuple[int | None, Any, Any]] = [(None, value, beside)]
        else:
            values, besides = _list(value), _list(beside)
            length = max(len(values), len(besides))
            _check_count(length, place)
            listed = [(n, _at(values, n), _at(besides, n)) for n in range(length)]
        found += [
            Node(
                type=element.type,
                value=one,
                beside=two,
                holder=holder,
                owner=owner,
                name=name,
                member=member,
                index=n,
            )
            for n, one, two in listed
            if one is not None or two is not None
        ]
    return found


def is_same(one: Any, other: Any) -> bool:
    """Equality of JSON values: numbers by value, and no boolean is a number."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == other)


def _walk(nodes: list[Node], steps: Sequence[Step], place: str) -> list[Node]:
    for step in steps:
        _check_count(len(nodes), place)
        match step.kind:
            case "child":
                nodes = [child for node in nodes for child in children(node, step.argument, place)]
            case "index":
                nodes = nodes[step.argument : step.argument + 1]
            case "first":
                nodes = nodes[:1]
            case "last":
                nodes = nodes[-1:]
            case "extension":
                extensions = [child for node in nodes for child in children(node, "extension", place)]
                nodes = [each for each in extensions if each.value.get("url") == step.argument]
            case "ofType":
                nodes = [node for node in nodes if step.argument in (node.type, _resource_type(node))]
            case "where":
                nodes = [node for node in nodes if all(_holds(node, each, place) for each in step.argument)]
    return nodes


def _check_count(count: int, place: str) -> None:
    if count > MAX_ELEMENTS:
        raise Unprocessable("the path goes through too many elements", code="too-costly", expression=place)


def _holds(node: Node, criterion: Criterion, place: str) -> bool:
    """Several values equal no single one (FHIRPath 6.1.1)."""
    found = _walk([node], criterion.operand, place)
    return len(found) == 1 and is_same(found[0].value, criterion.literal)


def _resource_type(node: Node) -> Any:
    return node.value.get("resourceType") if node.type == "Resource" and isinstance(node.value, dict) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _at(values: list[Any], position: int) -> Any:
    return values[position] if position < len(values) else None
