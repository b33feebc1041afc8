"""FHIR XML in and out: the same resource as in FHIR JSON (`json.py`), which is the stored form.

FHIR R4 sections 2.6.1 (XML) and 2.6.2 (how JSON differs). Everything is driven by the definitions: the order
and number of elements, which are attributes, how a primitive is written. Decimals keep their digits, a narrative its
text. No declaration of a document type is read, hence no entity and nothing external; XML is UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import Any
from xml.parsers import expat

from passerelle.errors import Fault, Invalid
from passerelle.fhir.definitions import Definition, Element, definition, resource_definition
from passerelle.fhir.json import MAX_DEPTH, WrittenDecimal
from passerelle.fhir.narrative import EMPTY_ELEMENTS, is_well_formed

_FHIR = "http://hl7.org/fhir"
_XHTML = "http://www.w3.org/1999/xhtml"
_XML = "http://www.w3.org/XML/1998/namespace"
# Where a validator finds the schemas: allowed on a resource, of no meaning here.
_SCHEMA_LOCATION = "http://www.w3.org/2001/XMLSchema-instance schemaLocation"

_INTEGERS = frozenset(("integer", "positiveInt", "unsignedInt"))
_INTEGER = re.compile(r"-?(0|[1-9]\d*)", re.ASCII)
_DECIMAL = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_BOOLEANS = {"true": True, "false": False}

_IN_ATTRIBUTE = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
)
_IN_TEXT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})


def loads(data: bytes) -> dict[str, Any]:
    """The resource as `json.loads` gives it; raises Invalid (`structure`, `value`) with line and column.

    What is read has the elements of its types, in their order; whether it is valid is asked afterwards.
    """
    return _resource(_Reader().read(data), MAX_DEPTH)


def dumps(resource: Mapping[str, Any], *, pretty: bool = False) -> bytes:
    """The resource in UTF-8, indented if it is for reading; a resource that is not valid is a Fault."""
    writer = _Writer(pretty=pretty)
    writer.resource(resource, 0, f' xmlns="{_FHIR}"')
    text = "".join(writer.parts)
    return f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode()


@cache
def _positions(name: str) -> Mapping[str, int]:
    """Where each element of a type stands."""
    found = definition(name)
    return {each: position for position, each in enumerate(found.elements if found else ())}


# --- reading: XML to nodes ----------------------------------------------------------------------------------


class _Node:
    """An element with what stands in it; `div` is the text of a narrative."""

    __slots__ = ("attributes", "children", "column", "div", "line", "name", "namespace")

    def __init__(self, namespace: str, name: str, attributes: dict[str, str], line: int, column: int) -> None:
        self.namespace = namespace
        self.name = name
        self.attributes = attributes
        self.children: list[_Node] = []
        self.div: str | None = None
        self.line = line
        self.column = column

    def refused(self, text: str, code: str = "structure") -> Invalid:
        return _refused(text, self.line, self.column, code)


def _refused(text: str, line: int, column: int, code: str = "structure") -> Invalid:
    return Invalid(f"{text}: line {line} column {column + 1}", code=code)


class _Reader:
    """Makes nodes of all but narratives, which are taken as they stand."""

    def __init__(self) -> None:
        self._parser = expat.ParserCreate("utf-8", " ")
        self._parser.namespace_prefixes = True
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartNamespaceDeclHandler = self._declare
        self._parser.StartCdataSectionHandler = self._cdata
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._data = b""
        self._root: _Node | None = None
        self._open: list[_Node] = []
        self._declared: list[tuple[str | None, str]] = []
        self._div: _Div | None = None

    def read(self, data: bytes) -> _Node:
        try:
            self._data = data.decode("utf-8-sig").encode()
            self._parser.Parse(self._data, True)
        except UnicodeDecodeError:
            raise Invalid("the body is not UTF-8", code="structure") from None
        except expat.ExpatError as error:
            raise _refused("the body is not XML", error.lineno, error.offset) from None
        assert self._root is not None  # else expat has refused it
        return self._root

    def _here(self, text: str) -> Invalid:
        return _refused(text, self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber)

    def _declare(self, prefix: str | None, uri: str) -> None:
        self._declared.append((prefix, uri))

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        namespace, name, prefix = _split(tag)
        declared, self._declared = self._declared, []
        if self._div is not None:
            if namespace != _XHTML:
                raise self._here("a narrative is XHTML")
            self._div.start(name, attributes, is_plain=not prefix)
            return
        if len(self._open) >= MAX_DEPTH:
            raise self._here("the body is nested too deeply")
        node = _Node(namespace, name, attributes, self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber)
        if self._open:
            self._open[-1].children.append(node)
        else:
            self._root = node
        self._open.append(node)
        if (namespace, name) == (_XHTML, "div"):
            self._div = _Div(self._parser.CurrentByteIndex)
            self._div.start(name, attributes, is_plain=declared == [(None, _XHTML)])
            node.attributes = {}

    def _end(self, tag: str) -> None:
        if self._div is None:
            self._open.pop()
        elif self._div.end(_split(tag)[1]):
            self._open.pop().div = self._div.text(self._data, self._parser.CurrentByteIndex)
            self._div = None

    def _text(self, text: str) -> None:
        if self._div is not None:
            self._div.parts.append(text.translate(_IN_TEXT))
        elif text.strip(" \t\r\n"):
            raise self._here("text is not allowed here")

    def _cdata(self) -> None:
        if self._div is not None:
            self._div.is_plain = False

    def _doctype(self, *_: object) -> None:
        raise self._here("a document type is not allowed")


class _Div:
    """A narrative while it is read: its text as sent, or written again if it only means something where it was."""

    def __init__(self, first_byte: int) -> None:
        self.parts: list[str] = []
        self.is_plain = True
        self._first_byte = first_byte
        self._depth = 0

    def start(self, name: str, attributes: Mapping[str, str], *, is_plain: bool) -> None:
        written = "" if self._depth else f' xmlns="{_XHTML}"'
        for attribute, value in attributes.items():
            namespace, local, _ = _split(attribute)
            self.is_plain &= namespace in ("", _XML)
            written += f' {"xml:" if namespace == _XML else ""}{local}="{value.translate(_IN_ATTRIBUTE)}"'
        self.parts.append(f"<{name}{written}{'/' if name in EMPTY_ELEMENTS else ''}>")
        self.is_plain &= is_plain
        self._depth += 1

    def end(self, name: str) -> bool:
        """Whether that was the end of the narrative."""
        if name not in EMPTY_ELEMENTS:
            self.parts.append(f"</{name}>")
        self._depth -= 1
        return self._depth == 0

    def text(self, data: bytes, last_byte: int) -> str:
        if self.is_plain and data.startswith(b"</div", last_byte):
            return data[self._first_byte : last_byte].decode() + "</div>"
        return "".join(self.parts)


@lru_cache(1024)
def _split(name: str) -> tuple[str, str, str]:
    """Namespace, name and prefix of what expat calls `uri name prefix`, `uri name` or `name`."""
    parts = name.split(" ")
    return (parts[0], parts[1], parts[2] if len(parts) > 2 else "") if len(parts) > 1 else ("", name, "")


# --- reading: nodes to JSON ---------------------------------------------------------------------------------


def _resource(node: _Node, remaining: int) -> dict[str, Any]:
    found = resource_definition(node.name) if node.namespace == _FHIR else None
    if found is None:
        raise node.refused("must be a resource of FHIR R4")
    node.attributes = {name: value for name, value in node.attributes.items() if not name.startswith(_SCHEMA_LOCATION)}
    return {"resourceType": found.name, **_object(node, found, remaining)}


def _object(node: _Node, found: Definition, remaining: int, *, beside: str | None = None) -> dict[str, Any]:
    """The members that an element has by its definition; `beside` is an attribute that is none of them."""
    if remaining <= 0:
        raise node.refused("the body is nested too deeply")
    members: dict[str, Any] = {}
    for name, value in node.attributes.items():
        attribute = found.elements.get(name)
        if attribute is not None and attribute.is_attribute:
            members[name] = value
        elif name != beside:
            raise node.refused(f"{found.name} has no such attribute")
    last, previous = -1, ""
    positions = _positions(found.name)
    for child in node.children:
        element = found.elements.get(child.name)
        if element is None or element.is_attribute or child.namespace != _namespace(element):
            raise child.refused(f"{found.name} has no such element")
        position = positions[child.name]
        if position < last:
            raise child.refused(f"{found.name} has its elements in another order")
        if child.name == previous and not element.many:
            raise child.refused("the element may not repeat")
        last, previous = position, child.name
        if element.many:
            value, extras = _single(child, element, remaining - 2)
            members.setdefault(child.name, []).append(value)
            members.setdefault(f"_{child.name}", []).append(extras)
        else:
            members[child.name], members[f"_{child.name}"] = _single(child, element, remaining - 1)
    return {name: value for name, value in members.items() if _is_said(value)}


def _is_said(value: Any) -> bool:
    """Whether there is a value at all, or one in a list; an object may be empty, which validation refuses."""
    return any(each is not None for each in value) if isinstance(value, list) else value is not None


def _namespace(element: Element) -> str:
    return _XHTML if element.type == "xhtml" else _FHIR


def _single(node: _Node, element: Element, remaining: int) -> tuple[Any, dict[str, Any] | None]:
    """The value, and what stands beside it in `_name`; None for what there is not."""
    if element.type == "Resource":
        if len(node.children) != 1 or node.attributes:
            raise node.refused("one resource is expected")
        return _resource(node.children[0], remaining), None
    if element.type == "xhtml":
        return node.div, None
    if not element.is_primitive:
        return _object(node, _defined(element.type), remaining), None
    written = node.attributes.get("value")
    is_bare = not node.children and len(node.attributes) == 1 and written is not None
    extras = None if is_bare else _object(node, _defined("Element"), remaining, beside="value") or None
    if written is None and extras is None:
        raise node.refused("the element is empty")
    return None if written is None else _value(node, element.type, written), extras


def _value(node: _Node, type_name: str, written: str) -> Any:
    if type_name == "boolean":
        if written in _BOOLEANS:
            return _BOOLEANS[written]
    elif type_name in _INTEGERS or type_name == "decimal":
        try:
            if _INTEGER.fullmatch(written):
                return int(written)
            if type_name == "decimal" and _DECIMAL.fullmatch(written):
                return WrittenDecimal(written)
        except ValueError:
            raise node.refused("the number is too long", "value") from None
    else:
        return written
    raise node.refused(f"the value is not written as {type_name}", "value")


def _defined(name: str) -> Definition:
    found = definition(name)
    assert found is not None, name
    return found


# --- writing ------------------------------------------------------------------------------------------------


class _Writer:
    def __init__(self, *, pretty: bool) -> None:
        self.parts: list[str] = []
        self._pretty = pretty

    def resource(self, value: Mapping[str, Any], depth: int, attributes: str = "") -> None:
        name = value.get("resourceType")
        found = resource_definition(name) if isinstance(name, str) else None
        if found is None:
            raise Fault("a resource of no type of FHIR R4")
        self._object(found.name, value, found, depth, attributes)

    def _object(self, tag: str, value: Mapping[str, Any], found: Definition, depth: int, attributes: str = "") -> None:
        names = {name.removeprefix("_") for name in value} - ({"resourceType"} if found.is_resource else set())
        positions = _positions(found.name)
        if not names <= positions.keys():
            raise Fault(f"{found.name} has no such element")
        inner: list[str] = []
        for name in sorted(names, key=positions.__getitem__):
            if found.elements[name].is_attribute:
                attributes += f' {name}="{_escaped(value.get(name))}"'
            else:
                inner.append(name)
        self._open(tag, attributes, depth, is_empty=not inner)
        for name in inner:
            for one, extras in _each(value.get(name), value.get(f"_{name}")):
                self._element(name, found.elements[name], one, extras, depth + 1)
        if inner:
            self._close(tag, depth)

    def _element(self, tag: str, element: Element, value: Any, extras: Any, depth: int) -> None:
        if element.type == "Resource":
            self._open(tag, "", depth)
            self.resource(value, depth + 1)
            self._close(tag, depth)
        elif element.type == "xhtml":
            if not is_well_formed(value):
                raise Fault("a narrative is not XML")
            self._line(depth)
            self.parts.append(value)
        elif element.is_primitive:
            written = "" if value is None else f' value="{_escaped(value)}"'
            if extras is None:
                self._open(tag, written, depth, is_empty=True)
            else:
                self._object(tag, extras, _defined("Element"), depth, written)
        else:
            self._object(tag, value, _defined(element.type), depth)

    def _open(self, tag: str, attributes: str, depth: int, *, is_empty: bool = False) -> None:
        self._line(depth)
        self.parts.append(f"<{tag}{attributes}{'/' if is_empty else ''}>")

    def _close(self, tag: str, depth: int) -> None:
        self._line(depth)
        self.parts.append(f"</{tag}>")

    def _line(self, depth: int) -> None:
        if self._pretty:
            self.parts.append("\n" + "  " * depth)


def _each(value: Any, extras: Any) -> Iterator[tuple[Any, Any]]:
    """Each value with what stands beside it; one of the two lists of a primitive may be missing or shorter."""
    if not isinstance(value, list) and not isinstance(extras, list):
        yield value, extras
        return
    values, besides = value or [], extras or []
    for position in range(max(len(values), len(besides))):
        yield (
            values[position] if position < len(values) else None,
            besides[position] if position < len(besides) else None,
        )


def _escaped(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).translate(_IN_ATTRIBUTE)
