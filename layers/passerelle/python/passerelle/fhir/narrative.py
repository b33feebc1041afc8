"""The XHTML of a narrative: what FHIR allows in it, so that no text from outside runs as a script.

FHIR R4 section 2.31, invariants txt-1 (elements and attributes) and txt-2 (some content). A narrative is read
twice, as a browser reads HTML and as XML: it must be well formed, without entities of HTML, to be written in both
formats of FHIR.
"""

from __future__ import annotations

from html.parser import HTMLParser
from xml.parsers import expat

# fmt: off
_ELEMENTS = frozenset((
    "a", "abbr", "acronym", "b", "big", "blockquote", "br", "caption", "cite", "code", "col", "colgroup",
    "dd", "dfn", "div", "dl", "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "li", "ol",
    "p", "pre", "q", "samp", "small", "span", "strong", "sub", "sup", "table", "tbody", "td", "tfoot", "th",
    "thead", "tr", "tt", "ul", "var",
))
_ATTRIBUTES = frozenset((
    "abbr", "accesskey", "align", "alt", "axis", "bgcolor", "border", "cellhalign", "cellpadding",
    "cellspacing", "cellvalign", "char", "charoff", "charset", "cite", "class", "color", "colspan",
    "compact", "coords", "dir", "frame", "headers", "height", "href", "hreflang", "hspace", "id", "lang",
    "longdesc", "name", "nowrap", "rel", "rev", "rowspan", "rules", "scope", "shape", "span", "src",
    "start", "style", "summary", "tabindex", "title", "type", "valign", "value", "vspace", "width",
    "xml:lang", "xmlns", "xml:space",
))
# fmt: on
EMPTY_ELEMENTS = frozenset(("br", "col", "hr", "img"))
_ACTIVE = ("javascript:", "vbscript:", "data:text")
_XHTML = "http://www.w3.org/1999/xhtml"


def fault_in(div: str) -> str | None:
    """Which rule the narrative breaks; None if it keeps them."""
    reader = _Reader()
    reader.feed(div)
    reader.close()
    if reader.fault is None and reader.open:
        reader.fault = "an element is not closed"
    if reader.fault is None and not reader.has_content:
        reader.fault = "the narrative is empty"
    if reader.fault is None and not is_well_formed(div):
        reader.fault = "the narrative is not well-formed XML"
    return reader.fault


def is_well_formed(div: str) -> bool:
    """Whether the text is an XML element that stands on its own; no declaration is expanded."""
    parser = expat.ParserCreate("utf-8", " ")
    parser.StartDoctypeDeclHandler = _refuse_declarations
    try:
        parser.Parse(div.encode(), True)
    except (expat.ExpatError, UnicodeEncodeError):
        return False
    return True


def _refuse_declarations(*_: object) -> None:
    raise expat.ExpatError("a declaration")


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.fault: str | None = None
        self.has_content = False
        self._is_over = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._is_over or (not self.open and (tag != "div" or dict(attrs).get("xmlns") != _XHTML)):
            self._refuse("must be one div in the XHTML namespace")
        if tag not in _ELEMENTS:
            self._refuse("an element is not allowed")
        for name, value in attrs:
            if name not in _ATTRIBUTES and not name.startswith("xmlns:"):
                self._refuse("an attribute is not allowed")
            if name in ("href", "src") and "".join((value or "").split()).lower().startswith(_ACTIVE):
                self._refuse("a link runs code")
        if tag == "img":
            self.has_content = True
        if tag not in EMPTY_ELEMENTS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in EMPTY_ELEMENTS:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in EMPTY_ELEMENTS:
            return
        if not self.open or self.open.pop() != tag:
            self._refuse("the elements are not nested")
        self._is_over = not self.open

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.has_content = True
            if not self.open:
                self._refuse("must be one div in the XHTML namespace")

    def handle_decl(self, decl: str) -> None:
        self._refuse("a declaration is not allowed")

    def unknown_decl(self, data: str) -> None:
        self._refuse("a declaration is not allowed")

    def handle_pi(self, data: str) -> None:
        self._refuse("a processing instruction is not allowed")

    def _refuse(self, rule: str) -> None:
        self.fault = self.fault or rule
