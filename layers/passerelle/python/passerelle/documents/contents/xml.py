"""XML of strangers, read once and within bounds: no document type, no entity, no fetch, no depth without end.

XML 1.0; the element names are those of `xml.etree`, `{namespace}name`. What cannot be read is refused: a document that
ends too early is none.
"""

from __future__ import annotations

from collections.abc import Collection
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

MAX_DEPTH = 200
MAX_ELEMENTS = 200_000
XHTML = "http://www.w3.org/1999/xhtml"
SVG = "http://www.w3.org/2000/svg"
SIGNATURE = "{http://www.w3.org/2000/09/xmldsig#}Signature"

# What a browser runs or loads in XML, wherever it stands: a document that is opened there would act for its reader.
_RUNNING = frozenset(("script", "iframe", "object", "embed", "applet", "form", "base", "meta", "link", "foreignobject"))


class RefusedXmlError(Exception):
    """The text is for the sender: it holds nothing of the document."""


class XmlDocument:
    """`root` with what stands in it, except in the elements that were left out."""

    def __init__(self, root: Element, *, is_signed: bool) -> None:
        self.root = root
        self.is_signed = is_signed


def read_xml(data: bytes, *, without: Collection[str] = ()) -> XmlDocument:
    """Raises RefusedXmlError. The elements `without` are checked like all others, and left empty."""
    return _Reader(frozenset(without)).read(data)


class _Reader:
    def __init__(self, without: frozenset[str]) -> None:
        self._without = without
        self._builder = TreeBuilder()
        self._depth = 0
        self._elements = 0
        self._left_out = 0  # depth of the element that is left out
        self._is_signed = False
        self._parser = expat.ParserCreate(None, "}")
        self._parser.buffer_text = True
        self._parser.ordered_attributes = False
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartDoctypeDeclHandler = self._doctype

    def read(self, data: bytes) -> XmlDocument:
        try:
            self._parser.Parse(data, True)
        except (expat.ExpatError, LookupError, UnicodeError, ValueError):
            # an encoding that Python does not know, or cannot map, is reported in several ways
            raise RefusedXmlError("the content is not well-formed XML") from None
        return XmlDocument(self._builder.close(), is_signed=self._is_signed)

    def _doctype(self, *_: object) -> None:
        raise RefusedXmlError("a document type declaration is not accepted")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._elements += 1
        if self._depth > MAX_DEPTH or self._elements > MAX_ELEMENTS:
            raise RefusedXmlError("the XML is nested too deeply or has too many elements")
        tag = f"{{{name}" if "}" in name else name
        self._check(name, attributes)
        self._is_signed = self._is_signed or tag == SIGNATURE
        if self._left_out:
            return
        self._builder.start(tag, {_tag(each): value for each, value in attributes.items()})
        if tag in self._without:
            self._left_out = self._depth

    def _check(self, name: str, attributes: dict[str, str]) -> None:
        namespace, _, local = name.rpartition("}")
        if namespace not in (XHTML, SVG):
            return
        is_acting = local.lower() in _RUNNING or any(
            each.rpartition("}")[2].lower().startswith("on") or value.strip().lower().startswith("javascript:")
            for each, value in attributes.items()
        )
        if self._depth == 1 or is_acting:
            raise RefusedXmlError("a web page, or what a browser would run, is not accepted")

    def _end(self, name: str) -> None:
        if self._left_out in (0, self._depth):
            self._left_out = 0
            self._builder.end(_tag(name))
        self._depth -= 1

    def _text(self, text: str) -> None:
        if not self._left_out:
            self._builder.data(text)


def _tag(name: str) -> str:
    return f"{{{name}" if "}" in name else name
