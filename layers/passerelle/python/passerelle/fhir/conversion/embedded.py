"""Documents that come inside HL7 v2 messages (MDM, ORU): what they become.

ANS volet Transmission d'un document CDA en HL7v2, 2.1: the document is an OBX of type ED, OBX-11 takes it back (`D`),
TXA-12 and TXA-13 name it and what it replaces where it does not say so itself, and OBX of the group MetaDMPMSS say who
may not see it. Lines of text (OBX of type TX or FT, and no document) are a report too.

A CDA document also becomes resources, by its level-3 sections (`cda_sections.py`).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from passerelle.consents.visibility import canonical_label
from passerelle.documents.contents import Embedded, Header, Inspection, Kind, embedded, inspect, names_other
from passerelle.documents.contents.header import identifier_of
from passerelle.documents.contents.hl7v2 import is_about_transfer
from passerelle.errors import Unprocessable
from passerelle.fhir.conversion.cda_sections import resources_of
from passerelle.fhir.conversion.made import Entry, identifier_element, made_identifier, made_uuid, post
from passerelle.fhir.generated_metadata import CodedDocument, document_reference
from passerelle.fhir.statements import READ
from passerelle.hl7v2.message import Message, RefusedMessageError, Value
from passerelle.ingestion.model import Reason, RefusedMessage, Source
from passerelle.patients.model import Identifier

DOCUMENT: Final = "DocumentReference"
_CORRECTED: Final = "C"


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """`entries` of a transaction; `withdrawn` are the documents that the sender takes back, by their identifiers.

    `handled` are the OBX (counted from 1 through the message) that nothing else need be made of.
    """

    entries: tuple[Entry, ...] = ()
    withdrawn: tuple[Identifier, ...] = ()
    lost: tuple[str, ...] = ()
    handled: frozenset[int] = field(default_factory=frozenset)


def document_entries(data: bytes, subject: str, source: Source, *, sender: str) -> Documents:
    """The documents in an HL7 v2 message, about the patient whom the reference `subject` means.

    `sender` is "application|facility". Raises RefusedMessage for a content that is not what it is said to be, and for
    one that is about another person than the message.
    """
    try:
        message = Message(data)
        reports = embedded(data)
        deleted = embedded(data, deleted=True)
    except RefusedMessageError:
        raise RefusedMessage(Reason.DATA_TYPE, "OBX-5") from None
    handled, lost = _labels_and_routing(message)
    name = _Names(message, source, sender)
    entries: list[Entry] = []
    published_before: set[bytes] = set()
    for report in reports:
        if report.data in published_before:  # some send one document as its level 1 and as its level 3
            handled.add(report.place)
            continue
        published_before.add(report.data)
        path = f"OBX[{report.place}]-5" if report.place else "OBX-5"
        made, not_made = _published(name, report, subject, source, path)
        entries += made
        lost += not_made
        handled.update([report.place] if report.place else _places(message, "TX", "FT"))
        status = _field(message, report.place, 11)
        if status == _CORRECTED and not any(each["request"]["method"] == "PATCH" for each in made):
            lost.append(f"OBX[{report.place}]-11")
    withdrawn = []
    for report in deleted:
        withdrawn.append(name.of_withdrawn(_identity(report.data, report.media_type), report.data, report.place))
        handled.add(report.place)
    unique = tuple(dict.fromkeys(withdrawn))
    return Documents(entries=tuple(entries), withdrawn=unique, lost=tuple(lost), handled=frozenset(handled))


def published(
    document: CodedDocument, identifier: Identifier, subject: str, source: Source
) -> tuple[list[dict[str, Any]], str]:
    """The entries that publish a document (metadata, content, what it replaces), and the full URL of its metadata."""
    url = made_uuid(source, DOCUMENT, *identifier)
    header = replace(document.header, document=identifier)
    replaced = [each.document for each in header.relations if each.kind == "replaces"]
    relations = [{"code": "replaces", "target": {"identifier": identifier_element(each)}} for each in replaced]
    at = source.now
    metadata = document_reference(replace(document, header=header), {"reference": subject}, relations, at)
    attachment = metadata["content"][0]["attachment"]
    metadata["meta"] = {**metadata.get("meta", {}), "tag": [READ]}
    content = made_uuid(source, "Binary", *identifier)
    binary = {"resourceType": "Binary", "contentType": document.content_type, "data": attachment.pop("data")}
    attachment["url"] = content
    attachment["size"] = len(document.data)
    attachment["hash"] = base64.b64encode(hashlib.sha1(document.data, usedforsecurity=False).digest()).decode()
    superseding = [_superseding(each) for each in replaced]
    return [post(url, metadata), post(content, binary), *superseding], url


def _superseding(document: Identifier) -> dict[str, Any]:
    parts = [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": f"{DOCUMENT}.status"},
        {"name": "value", "valueCode": "superseded"},
    ]
    patch = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}
    url = f"{DOCUMENT}?identifier={document[0]}|{document[1]}"
    return {"resource": patch, "request": {"method": "PATCH", "url": url}}


def _published(
    name: _Names, report: Embedded, subject: str, source: Source, path: str
) -> tuple[Sequence[Entry], Sequence[str]]:
    data, media_type, said = report.data, report.media_type, report.header
    found = _inspected(data, media_type, path)
    header = said
    if found.kind is Kind.CDA and found.header is not None:
        if names_other(found.header, said.patients):
            raise RefusedMessage(Reason.UNKNOWN_KEY, path)
        labels = (*found.header.confidentiality, *said.confidentiality)
        relations = found.header.relations or said.relations
        header = replace(found.header, confidentiality=labels, relations=relations)
    identifier = name.of(found, data, is_new=True)
    document = CodedDocument(
        header=replace(header, set_id=None if header is said else header.set_id, relations=name.replaced(header)),
        content_type=media_type,
        data=data,
    )
    entries, url = published(document, identifier, subject, source)
    entries[0] = _also_named(entries[0], name.ordered(report.place))
    if found.kind is not Kind.CDA:
        return entries, ()
    made = resources_of(data, subject, source, document=url)
    return [*entries, *made.entries], [f"{path}/{each}" for each in made.lost]


def _also_named(entry: Entry, identifier: Identifier | None) -> dict[str, Any]:
    """The document under another identifier, too."""
    document = entry["resource"]
    if identifier is None or document["masterIdentifier"] == identifier_element(identifier):
        return dict(entry)
    listed = [*document.get("identifier", ()), identifier_element(identifier)]
    return {**entry, "resource": {**document, "identifier": listed}}


def _inspected(data: bytes, media_type: str, path: str) -> Inspection:
    try:
        return inspect(data, media_type, path=path)
    except Unprocessable:
        raise RefusedMessage(Reason.DATA_TYPE, path) from None


def _identity(data: bytes, media_type: str) -> Inspection | None:
    """What a document that is taken back says of itself, as far as it can be read: it is not stored."""
    try:
        return inspect(data, media_type, path="")
    except Unprocessable:
        return None


class _Names:
    """The identifiers of the documents of one message."""

    def __init__(self, message: Message, source: Source, sender: str) -> None:
        txa, obr = message.first("TXA"), message.first("OBR")
        self._message = message
        self._source = source
        self._sender = sender
        self._given: set[Identifier] = set()
        self._unique = self._entity(txa[12])
        self._parent = self._entity(txa[13])
        self._filler = [obr[3][number] for number in range(1, (len(obr[3]) or 1) + 1)]

    def of(self, found: Inspection | None, data: bytes, *, is_new: bool = False) -> Identifier:
        """Its own, else that of the message (TXA-12), else one made of the order's number (OBR-3) and its content.

        Of several new documents in a message, one has a name.
        """
        own = found.header.document if found is not None and found.kind is Kind.CDA and found.header else None
        digest = hashlib.sha256(data).hexdigest()
        made = made_identifier(self._source, DOCUMENT, self._sender, *self._filler, digest)
        named = next(each for each in (own, self._unique, made) if each is not None and each not in self._given)
        if is_new:
            self._given.add(named)
        return named

    def of_withdrawn(self, found: Inspection | None, data: bytes, place: int) -> Identifier:
        """Its own, else that of the message, else what the order calls it: who takes it back need not send it again."""
        own = found.header.document if found is not None and found.kind is Kind.CDA and found.header else None
        return own or self._unique or self.ordered(place) or self.of(found, data)

    def ordered(self, place: int) -> Identifier | None:
        """What the filler's order number (OBR-3) and the kind of observation (OBX-3, OBX-4) call a document."""
        if not any(self._filler):
            return None
        obx = next((each for each in self._message.all("OBX") if each.number == place), None)
        said = (obx.raw(3).partition("^")[0], obx.raw(4)) if obx is not None else ("", "")
        return made_identifier(self._source, DOCUMENT, "ordered", self._sender, *self._filler, *said)

    def replaced(self, header: Header) -> Any:
        others = [each for each in header.relations if each.kind == "replaces"]
        if others or self._parent is None:
            return tuple(others)
        from passerelle.documents.contents import Relation

        return (Relation(kind="replaces", document=self._parent),)

    def _entity(self, value: Value) -> Identifier | None:
        """EI: French senders put an OID where the standard has a number, and a name where it has a namespace."""
        if not value[1]:
            return None
        if value[3]:
            return identifier_of(value[3], value[1])
        own = identifier_of(value[1], None)
        return own or made_identifier(self._source, DOCUMENT, self._sender, value[1], value[2])


def _labels_and_routing(message: Message) -> tuple[set[int], list[str]]:
    """The OBX that say who may not see the document, and those that say where to send it, which nobody follows here."""
    handled, lost = set(), []
    for obx in message.all("OBX"):
        if canonical_label(obx[3][1]) is not None:
            handled.add(obx.number)
        elif is_about_transfer(obx):
            handled.add(obx.number)
            if obx[5][1] != "N":
                lost.append(f"OBX[{obx.number}]")
    return handled, lost


def _places(message: Message, *types: str) -> Iterator[int]:
    return (obx.number for obx in message.all("OBX") if obx.raw(2) in types)


def _field(message: Message, place: int, number: int) -> str:
    return next((obx[number][1] for obx in message.all("OBX") if obx.number == place), "")
