"""HL7 version 2 messages that carry a report: ORU^R01, and MDM^T02 alike (HL7 2.5, chapters 3, 7 and 9).

Also the French volet Transmission d'un document CDA en HL7v2: the document in OBX of type ED, and what the sender asks
of its visibility (MASQUE_PS, INVISIBLE_PATIENT ...) in OBX of the group MetaDMPMSS. Senders differ in everything, so
no structure of segments is relied on.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from passerelle.consents.visibility import canonical_label, label_system
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
from passerelle.hl7v2.message import Message, RefusedMessageError, Segment, Value

__all__ = ["Embedded", "RefusedMessageError", "embedded", "header_of", "is_about_transfer"]

_BINARY_TYPES: Final = {"PDF": "application/pdf", "XML": "text/xml", "JPEG": "image/jpeg", "RTF": "text/rtf"}
_CODE_SYSTEMS: Final = {"LN": "http://loinc.org", "SCT": "http://snomed.info/sct", "UCUM": "http://unitsofmeasure.org"}
_LANGUAGES: Final = {"FRA": "fr", "FR": "fr", "ENG": "en", "EN": "en"}
_TRANSFER_GROUP: Final = "MetaDMPMSS"
_MAIL: Final = ("CORPSMAIL", "XDM/1.0")
_DELETED: Final = "D"


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """A report in a message; `header` is what the message says of it, `place` which of its OBX it is (0: several)."""

    media_type: str
    data: bytes
    header: Header
    place: int = 0


def header_of(data: bytes) -> Header:
    """What a message says of the report in it; raises RefusedMessageError."""
    return _header(Message(data))


def embedded(data: bytes, *, deleted: bool = False) -> tuple[Embedded, ...]:
    """The reports in a message, in its order; none in a message of results only. Raises RefusedMessageError.

    Documents (OBX of type ED) come before text: where there are any, lines of text only repeat them. With `deleted`,
    those that the message takes back, and no others: these may be named without being sent again, empty.
    """
    message = Message(data)
    header = _header(message)
    documents, lines = [], []
    for obx in message.all("OBX"):
        is_there = bool(obx[5]) or (deleted and obx.raw(2) == "ED")
        if not is_there or is_about_transfer(obx) or (obx[11][1] == _DELETED) is not deleted:
            continue
        if obx.raw(2) == "ED":
            documents.append(_document(obx[5], header, obx.number, may_be_empty=deleted))
        elif obx.raw(2) in ("FT", "TX"):
            lines.append(obx.text(5))
    if documents:
        return tuple(documents)
    text = "\n".join(lines).strip()
    return (Embedded(media_type="text/plain", data=f"{text}\n".encode(), header=header),) if text else ()


def _document(value: Value, header: Header, place: int, *, may_be_empty: bool) -> Embedded:
    """ED: source application, type of data, subtype, encoding, data."""
    kind, subtype, encoding, content = (value[number] for number in (2, 3, 4, 5))
    data = content.encode()
    if encoding.lower() == "base64":
        try:
            # senders leave the padding out
            packed = "".join(content.split()).rstrip("=")
            data = base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
        except ValueError:
            raise RefusedMessageError("a document in the message is not base64") from None
    if not data and not may_be_empty:
        raise RefusedMessageError("a document in the message is empty")
    media_type = _BINARY_TYPES.get(subtype.upper()) or (kind.lower() if "/" in kind else "text/plain")
    return Embedded(media_type=media_type, data=data, header=header, place=place)


def _header(message: Message) -> Header:
    msh, pid, obr, txa = (message.first(name) for name in ("MSH", "PID", "OBR", "TXA"))
    report = _report(message)
    sender, filler = msh[4][1], obr[3][1]
    return Header(
        patients=tuple(found for each in pid.all(3) if (found := _cx(each))),
        document=_document_identifier(txa[12]),
        type=_cwe(report[3]) or _cwe(obr[4]),
        title=obr[4][2] or None,
        created=read_time(obr[22][1]) or read_time(msh[7][1]),
        language=_LANGUAGES.get(msh[19][1].upper()),
        confidentiality=tuple(_labels(message)),
        authors=tuple(_authors(message, obr)),
        custodian=Organisation(name=sender) if sender else None,
        service_start=read_time(obr[7][1]),
        service_end=read_time(obr[8][1]),
        set_id=("", filler) if filler else None,
        relations=tuple(_relations(txa)),
    )


def _report(message: Message) -> Segment:
    """The OBX that holds the document, else none."""
    holders = (each for each in message.all("OBX") if each.raw(2) == "ED" and not is_about_transfer(each))
    return next(holders, Segment(message, "OBX", 0, ()))


def _labels(message: Message) -> Iterator[Code]:
    for obx in message.all("OBX"):
        label = canonical_label(obx[3][1])
        if label is not None and obx[5][1] == "Y":
            yield Code(system=label_system(), code=label)


def is_about_transfer(obx: Segment) -> bool:
    """Whether an OBX says where the document goes, or what its e-mail says: no part of the report."""
    parts = [obx[3][number] for number in range(1, len(obx[3]) + 1)]
    return _TRANSFER_GROUP in parts or any(each.startswith(_MAIL) for each in parts)


def _authors(message: Message, obr: Segment) -> Iterator[Author]:
    """Who answers for the results: the principal interpreter (OBR-32), else PRT of who submits (SB)."""
    for prt in message.all("PRT"):
        if prt[4][1] == "SB":
            yield _person(prt[5])
            return
    if obr[32]:
        yield Author(family=obr[32].part(1, 2) or None, given=tuple(filter(None, (obr[32].part(1, 3),))))


def _person(xcn: Value) -> Author:
    identifier = identifier_of(xcn.part(9, 2), xcn[1]) if xcn[1] else None
    return Author(
        identifiers=() if identifier is None else (identifier,),
        family=xcn[2] or None,
        given=tuple(filter(None, (xcn[3],))),
    )


def _relations(txa: Segment) -> Iterator[Relation]:
    parent = _document_identifier(txa[13])
    if parent is not None:
        yield Relation(kind="replaces", document=parent)


def _document_identifier(value: Value) -> Identifier | None:
    """EI: entity, namespace, universal id, its type."""
    return identifier_of(value[3], value[1]) if value[3] else None


def _cx(value: Value) -> Identifier | None:
    """An identifier whose authority has an OID; a local name of an authority names nobody here."""
    root = value.part(4, 2)
    return identifier_of(root, value[1]) if value[1] and root else None


def _cwe(value: Value) -> Code | None:
    code, display, system = value[1], value[2], value[3]
    if not code or system not in _CODE_SYSTEMS:
        return None
    return Code(system=_CODE_SYSTEMS[system], code=code, display=display or None)
