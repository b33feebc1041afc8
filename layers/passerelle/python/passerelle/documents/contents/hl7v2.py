"""HL7 version 2 messages that carry a report: ORU^R01, and MDM^T02 alike (HL7 2.5, chapters 2, 3, 7 and 9).

Also the French volet Transmission d'un document CDA en HL7v2: the document in OBX of type ED, and what the sender asks
of its visibility (MASQUE_PS, INVISIBLE_PATIENT ...) in OBX of the group MetaDMPMSS. Senders differ in everything, so
only the delimiters are relied on, and no structure of segments.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from passerelle.consents.visibility import canonical_label, label_system
from passerelle.documents.contents.detection import text_of
from passerelle.documents.contents.header import (
    Author,
    Code,
    Header,
    Identifier,
    Organisation,
    Relation,
    identifier_of,
)
from passerelle.documents.contents.times import read_time

MAX_SEGMENTS: Final = 20_000

_LINES = re.compile(r"\r\n|\r|\n")
_ESCAPE = re.compile(r"\\([A-Za-z.][^\\\r\n]{0,40})\\")
_BINARY_TYPES: Final = {"PDF": "application/pdf", "XML": "text/xml", "JPEG": "image/jpeg", "RTF": "text/rtf"}
_CODE_SYSTEMS: Final = {"LN": "http://loinc.org", "SCT": "http://snomed.info/sct", "UCUM": "http://unitsofmeasure.org"}
_CHARSETS: Final = {"UNICODE UTF-8": "utf-8", "8859/1": "latin-1", "8859/15": "iso8859-15", "ASCII": "ascii"}
_TRANSFER_GROUP: Final = "MetaDMPMSS"
_MAIL: Final = ("CORPSMAIL", "XDM/1.0")
_DELETED: Final = "D"
_HEADER_WINDOW: Final = 2048


class RefusedMessageError(Exception):
    """The text is for the sender: it holds nothing of the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """A report in a message; `header` is what the message says of it."""

    media_type: str
    data: bytes
    header: Header


class Message:
    """Segments, fields, repetitions, components: by the delimiters of MSH."""

    def __init__(self, data: bytes) -> None:
        """Raises RefusedMessageError."""
        text = text_of(data, _charset_of(data)) or text_of(data)
        if text is None:
            raise RefusedMessageError("the message is not text")
        lines = [line for line in _LINES.split(text.strip("\x0b\x1c\r\n")) if line.strip()]
        if not lines or not lines[0].startswith("MSH") or len(lines[0]) < 9 or len(lines) > MAX_SEGMENTS:
            raise RefusedMessageError("the content is not an HL7 version 2 message")
        self._field = lines[0][3]
        signs = lines[0][4:].split(self._field)[0]
        # Some senders double the escape character: the last sign is the sub-component all the same.
        self._component, self._repetition, self._sub = signs[0], signs[1], signs[-1]
        self._escape = signs[2] if len(signs) > 2 else "\\"
        self._segments = [(line[:3], line.split(self._field)) for line in lines]

    def segments(self, *names: str) -> Iterator[tuple[str, list[str]]]:
        """Each segment with its fields, the first of which is field 1 (of MSH: its separator)."""
        for name, fields in self._segments:
            if not names or name in names:
                yield name, ([self._field, *fields[1:]] if name == "MSH" else fields[1:])

    def first(self, name: str) -> list[str]:
        return next((fields for _, fields in self.segments(name)), [])

    def repetitions(self, field: str) -> list[str]:
        return [each for each in field.split(self._repetition) if each]

    def components(self, field: str) -> list[str]:
        return [self._unescaped(each) for each in field.split(self._component)]

    def sub_components(self, field: str, number: int) -> list[str]:
        parts = field.split(self._component)
        return [self._unescaped(each) for each in parts[number - 1].split(self._sub)] if len(parts) >= number else []

    def text(self, field: str) -> str:
        """Text of a field with its line breaks (chapter 2.7)."""
        return "\n".join(self._unescaped(each) for each in field.split(self._repetition))

    def _unescaped(self, text: str) -> str:
        if self._escape not in text:
            return text
        signs = {"F": self._field, "S": self._component, "T": self._sub, "R": self._repetition, "E": self._escape}
        escaped = text if self._escape == "\\" else text.replace(self._escape, "\\")

        def meant(found: re.Match[str]) -> str:
            name = found[1]
            if name.startswith(".br"):
                return "\n"
            if name.startswith(".sp"):
                return "\n" * min(int(name[3:] or 1) if name[3:].strip("+ ").isdigit() else 1, 10)
            return signs.get(name, "")  # highlighting and hexadecimal say nothing in plain text

        return _ESCAPE.sub(meant, escaped)


def header_of(data: bytes) -> Header:
    """What a message says of the report in it; raises RefusedMessageError."""
    return _header(Message(data))


def embedded(data: bytes) -> tuple[Embedded, ...]:
    """The reports in a message, in its order; none in a message of results only. Raises RefusedMessageError.

    Documents (OBX of type ED) come before text: where there are any, lines of text only repeat them.
    """
    message = Message(data)
    header = _header(message)
    documents, lines = [], []
    for _, fields in message.segments("OBX"):
        kind, value = _field(fields, 2), _field(fields, 5)
        if not value or _is_about_transfer(message, fields) or _field(fields, 11) == _DELETED:
            continue
        if kind == "ED":
            documents.append(_document(message, value, header))
        elif kind in ("FT", "TX"):
            lines.append(message.text(value))
    if documents:
        return tuple(documents)
    text = "\n".join(lines).strip()
    return (Embedded(media_type="text/plain", data=f"{text}\n".encode(), header=header),) if text else ()


def _document(message: Message, value: str, header: Header) -> Embedded:
    """ED: source application, type of data, subtype, encoding, data."""
    parts = [*message.components(value), "", "", "", "", ""][:5]
    _, kind, subtype, encoding, content = parts
    data = content.encode()
    if encoding.lower() == "base64":
        try:
            # senders leave the padding out
            packed = "".join(content.split()).rstrip("=")
            data = base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
        except binascii.Error:
            raise RefusedMessageError("a document in the message is not base64") from None
    media_type = _BINARY_TYPES.get(subtype.upper()) or (kind.lower() if "/" in kind else "text/plain")
    return Embedded(media_type=media_type, data=data, header=header)


def _header(message: Message) -> Header:
    msh, pid, obr, txa = (message.first(name) for name in ("MSH", "PID", "OBR", "TXA"))
    report = _report(message)
    sender = [*message.components(_field(msh, 4)), ""]
    filler = message.components(_field(obr, 3))
    return Header(
        patients=tuple(found for each in message.repetitions(_field(pid, 3)) if (found := _cx(message, each))),
        document=_document_identifier(message, _field(txa, 12)),
        type=_cwe(message, _field(report, 3)) or _cwe(message, _field(obr, 4)),
        title=next((each for each in message.components(_field(obr, 4))[1:2] if each), None),
        created=read_time(_field(obr, 22)) or read_time(_field(msh, 7)),
        language=_language(message, msh),
        confidentiality=tuple(_labels(message)),
        authors=tuple(_authors(message, obr)),
        custodian=Organisation(name=sender[0]) if sender[0] else None,
        service_start=read_time(_field(obr, 7)),
        service_end=read_time(_field(obr, 8)),
        set_id=("", filler[0]) if filler[0] else None,
        relations=tuple(_relations(message, txa)),
    )


def _report(message: Message) -> list[str]:
    """The OBX that holds the document, else none."""
    for _, fields in message.segments("OBX"):
        if _field(fields, 2) == "ED" and not _is_about_transfer(message, fields):
            return fields
    return []


def _labels(message: Message) -> Iterator[Code]:
    for _, fields in message.segments("OBX"):
        label = canonical_label(message.components(_field(fields, 3))[0])
        if label is not None and message.components(_field(fields, 5))[0] == "Y":
            yield Code(system=label_system(), code=label)


def _is_about_transfer(message: Message, fields: list[str]) -> bool:
    """Whether an OBX says where the document goes, or what its e-mail says: no part of the report."""
    parts = message.components(_field(fields, 3))
    return _TRANSFER_GROUP in parts or any(each.startswith(_MAIL) for each in parts)


def _authors(message: Message, obr: list[str]) -> Iterator[Author]:
    """Who answers for the results: the principal interpreter (OBR-32), else PRT of who submits (SB)."""
    for name, fields in message.segments("PRT"):
        if name == "PRT" and message.components(_field(fields, 4))[0] == "SB":
            yield _person(message, _field(fields, 5))
            return
    if _field(obr, 32):
        parts = message.sub_components(_field(obr, 32), 1)
        yield Author(family=_part(parts, 2), given=tuple(each for each in parts[2:3] if each))


def _person(message: Message, xcn: str) -> Author:
    parts = message.components(xcn)
    authority = message.sub_components(xcn, 9)
    identifier = identifier_of(_part(authority, 2) or "", _part(parts, 1))
    return Author(
        identifiers=() if identifier is None or not _part(parts, 1) else (identifier,),
        family=_part(parts, 2),
        given=tuple(each for each in parts[2:3] if each),
    )


def _relations(message: Message, txa: list[str]) -> Iterator[Relation]:
    parent = _document_identifier(message, _field(txa, 13))
    if parent is not None:
        yield Relation(kind="replaces", document=parent)


def _document_identifier(message: Message, field: str) -> Identifier | None:
    """EI: entity, namespace, universal id, its type."""
    parts = message.components(field)
    root = _part(parts, 3)
    return identifier_of(root, _part(parts, 1)) if root else None


def _cx(message: Message, field: str) -> Identifier | None:
    """An identifier whose authority has an OID; a local name of an authority names nobody here."""
    value = _part(message.components(field), 1)
    authority = message.sub_components(field, 4)
    root = _part(authority, 2)
    return identifier_of(root, value) if value and root else None


def _cwe(message: Message, field: str) -> Code | None:
    parts = message.components(field)
    code, display, system = _part(parts, 1), _part(parts, 2), _part(parts, 3)
    if code is None or system is None or system not in _CODE_SYSTEMS:
        return None
    return Code(system=_CODE_SYSTEMS[system], code=code, display=display)


def _language(message: Message, msh: list[str]) -> str | None:
    return {"FRA": "fr", "FR": "fr", "ENG": "en", "EN": "en"}.get(message.components(_field(msh, 19))[0].upper())


def _charset_of(data: bytes) -> str:
    fields = data[:_HEADER_WINDOW].decode("latin-1").split("\r")[0].split("\n")[0].split("|")
    return _CHARSETS.get(fields[17].split("~")[0], "") if len(fields) > 17 else ""


def _field(fields: list[str], number: int) -> str:
    return fields[number - 1] if 0 < number <= len(fields) else ""


def _part(parts: list[str], number: int) -> str | None:
    return (parts[number - 1].strip() or None) if 0 < number <= len(parts) else None
