"""What bytes are, told from the bytes (what is looked for is data: `data/media_types.json`).

A file may be valid as several types at once, and be opened as the one that does harm. So the type is what stands at the
first byte, and a second type found in the same bytes is a refusal: PDF readers look for a header in the first 1,024
bytes (ISO 32000-1, H.3), ZIP and Java readers from the end; a program fits in the preamble of a DICOM file.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Any, Final

from passerelle.documents.contents.header import data as table

_PDF_WINDOW: Final = 1024
_WEB_WINDOW: Final = 1024
_ZIP_TAIL: Final = 22 + 65_535  # the end record of an archive, and its comment
_DECLARED: Final = re.compile(r"[\x21-\x7e]+/[\x20-\x7e]{1,200}", re.ASCII)
_CONTROLS = bytes(each for each in range(32) if each not in b"\t\n\r\f\x0b\x1b\x1c") + b"\x7f"
_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
_MARKUP = re.compile(rb"<[?!A-Za-z_:]")
_ER7 = re.compile(rb"\x0b?MSH([^\w\s])[^\w\s]{3,5}\1", re.ASCII)
# Data sets without preamble begin with group 2 or 8, and there with one of few elements.
_BARE_DICOM = re.compile(rb"\x02\x00\x00\x00UL\x04\x00|\x08\x00[\x00\x05\x08\x12\x16\x18]\x00(UL|CS|DA|UI)", re.DOTALL)
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class Family(StrEnum):
    PDF = "pdf"
    JPEG = "jpeg"
    PNG = "png"
    GIF = "gif"
    TIFF = "tiff"
    BMP = "bmp"
    WEBP = "webp"
    DICOM = "dicom"
    RTF = "rtf"
    ZIP = "zip"
    PROGRAM = "program"
    WEB_PAGE = "web-page"
    XML = "xml"
    JSON = "json"
    HL7V2 = "hl7v2"
    TEXT = "text"
    BINARY = "binary"


class HarmfulContentError(Exception):
    """What is kept under no name."""


def detect(data: bytes, *, is_whole: bool = True) -> Family:
    """What the bytes are; raises HarmfulContentError for programs, web pages, and what is two things at once.

    Text is told by its first characters: whether it is XML or JSON throughout is for those who read it. Without the
    whole, `data` is the beginning.
    """
    found = _by_signature(data)
    if found is Family.PROGRAM:
        raise HarmfulContentError("a program is not accepted")
    family = found or _by_text(data)
    if family is Family.WEB_PAGE:
        raise HarmfulContentError("a web page, or what a browser would run, is not accepted")
    if family is not Family.PDF and b"%PDF-" in data[:_PDF_WINDOW]:
        raise HarmfulContentError("the content is a PDF document as well")
    if family is not Family.DICOM and data[128:132] == b"DICM":
        raise HarmfulContentError("the content is a DICOM object as well")
    if family is not Family.ZIP and is_whole and _ends_as_zip(data):
        raise HarmfulContentError("the content is an archive as well")
    return family


def media_type_of(declared: str) -> str | None:
    """A declared type without its parameters; None for what no header of an answer could carry."""
    return declared.partition(";")[0].strip().lower() if _DECLARED.fullmatch(declared) else None


def declared_families(media_type: str) -> frozenset[Family] | None:
    """What bytes of a declared type may be; None for a type that is not kept."""
    families = _rules()["declared"].get(media_type)
    return None if families is None else frozenset(Family(each) for each in families)


def text_of(data: bytes, charset: str = "") -> str | None:
    """The characters of text; None for bytes that are none. Without a charset: UTF-8, else the one of Windows."""
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return _decoded(data.removeprefix(codecs.BOM_UTF8), encoding)
    if len(data.translate(None, _CONTROLS)) != len(data):
        return None
    if charset:
        return _decoded(data, charset)
    text = _decoded(data, "utf-8")
    return text if text is not None else _decoded(data, "cp1252")


def _by_signature(data: bytes) -> Family | None:
    for signature in _rules()["signatures"]:
        if all(data.startswith(bytes.fromhex(part), at) for at, part in signature["parts"]):
            # "MZ" begins words, too: programs have zeros in their first header
            if signature.get("binary") and b"\0" not in data[:64]:
                continue
            found = Family(signature["is"])
            if found is Family.DICOM and _is_program(data[:128]):
                return Family.PROGRAM
            return found
    return Family.DICOM if _BARE_DICOM.match(data) else None


def _is_program(preamble: bytes) -> bool:
    return any(
        signature["is"] == Family.PROGRAM
        and all(preamble.startswith(bytes.fromhex(p), at) for at, p in signature["parts"])
        for signature in _rules()["signatures"]
    )


def _by_text(data: bytes) -> Family:
    window = _beginning(data).lstrip()
    if _is_web_page(window):
        return Family.WEB_PAGE
    if _MARKUP.match(window):
        return Family.XML
    if _ER7.match(window):
        return Family.HL7V2
    if text_of(data) is None:
        return Family.BINARY
    return Family.JSON if window[:1] in (b"{", b"[") else Family.TEXT


def _beginning(data: bytes) -> bytes:
    """The first characters in UTF-8; UTF-16 has a mark, or begins with markup."""
    window = data[:_WEB_WINDOW]
    if window.startswith((codecs.BOM_UTF16_LE, b"<\0")):
        return window.decode("utf-16-le", "ignore").lstrip("\ufeff").encode()
    if window.startswith((codecs.BOM_UTF16_BE, b"\0<")):
        return window.decode("utf-16-be", "ignore").lstrip("\ufeff").encode()
    return window.removeprefix(codecs.BOM_UTF8)


def _is_web_page(window: bytes) -> bool:
    start = _COMMENT.sub(b"", window).lstrip().lower()
    return any(start.startswith(each.encode()) for each in _rules()["web_pages"])


def _ends_as_zip(data: bytes) -> bool:
    tail = data[-_ZIP_TAIL:]
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0:
        if len(tail) >= at + 22 and at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail):
            return True
        at = tail.rfind(b"PK\x05\x06", 0, at)
    return False


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except (ValueError, LookupError):  # of codecs that are none of text, too
        return None


@cache
def _rules() -> Mapping[str, Any]:
    rules: Mapping[str, Any] = table("media_types.json")
    return rules
