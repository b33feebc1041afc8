"""HL7 version 2 messages as FHIR transactions: what is made of each type of message (HL7 2.5; table 0354).

HL7 Version 2 to FHIR 1.0.0 chose the elements; IHE PAM and its French extension say what senders here mean. Which types
and events are read is data (`data/hl7v2.json`). What no rule reads is told by name, field by field (`Conversion.lost`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from passerelle.consents.visibility import canonical_label
from passerelle.documents.contents import Code, Header
from passerelle.documents.contents.hl7v2 import header_of
from passerelle.fhir.conversion import adt, clinical, orders, results, scheduling
from passerelle.fhir.conversion.draft import Draft
from passerelle.fhir.conversion.embedded import document_entries, published
from passerelle.fhir.conversion.made import made_identifier
from passerelle.fhir.conversion.values import table
from passerelle.fhir.generated_metadata import CodedDocument
from passerelle.hl7v2.message import Message, RefusedMessageError
from passerelle.ingestion.model import Conversion, Reason, RefusedMessage, Source

_MEDIA_TYPE: Final = "application/hl7-v2"


def convert(data: bytes, source: Source) -> Conversion:
    """`ingestion.model.Converter` of HL7 version 2.

    Messages of other types are refused with 200, other events of a type with 201, what is not HL7 with 100.
    """
    try:
        message = Message(data)
    except RefusedMessageError:
        raise RefusedMessage(Reason.SEGMENT_SEQUENCE, "MSH") from None
    draft = _begun(message, source)
    _check_is_about_one(message)
    _read_nothing_of(message)
    adt.patient(draft)
    merge = None
    if draft.event in table("merges") and draft.kind.startswith("ADT"):
        merge = adt.merged(draft)
    if draft.event not in table("identity_only") or not draft.kind.startswith("ADT"):
        _make(draft, data)
    bundle = draft.bundle
    if not (bundle or merge or draft.withdrawn):
        raise RefusedMessage(Reason.REQUIRED_FIELD_MISSING, "PID-3" if draft.feeds else "OBR")
    return Conversion(
        kind=draft.kind,
        control_id=draft.control_id,
        sender=draft.sender,
        at=draft.at,
        bundle=bundle,
        merge=merge,
        lost=(*message.unread, *draft.lost),
        withdrawn=draft.withdrawn,
        copies=draft.copies,
        validated=draft.validated,
        ordered=draft.ordered,
    )


def _begun(message: Message, source: Source) -> Draft:
    said = message.first("MSH")[9]
    kind, event = said[1].upper(), said[2].upper()
    known: Mapping[str, Any] | None = table("messages").get(kind)
    if known is None:
        raise RefusedMessage(Reason.UNSUPPORTED_MESSAGE_TYPE, "MSH-9")
    if event not in known["events"]:
        raise RefusedMessage(Reason.UNSUPPORTED_EVENT, "MSH-9")
    named = f"{kind}^{event}" if event else kind
    return Draft(message, source, kind=named, event=event, feeds=known.get("feeds", False))


def _check_is_about_one(message: Message) -> None:
    """What follows a second PID would be stored with the first person."""
    for name, fields in (("PID", (2, 3, 4)), ("MRG", (1,))):
        said = [[segment.raw(field) for field in fields] for segment in message.all(name)]
        if any(each != said[0] for each in said):
            raise RefusedMessage(Reason.SEGMENT_SEQUENCE, f"{name}[2]")


def _read_nothing_of(message: Message) -> None:
    """Fields that only hold the message together: numbers of segments, types of values."""
    for segment in message.segments:
        segment.keep(*table("says_nothing").get(segment.name, ()))


def _make(draft: Draft, data: bytes) -> None:
    adt.encounter(draft)
    kind = draft.kind.partition("^")[0]
    documents = _documents(draft, data, is_report=kind == "MDM")
    handled = documents | _labels(draft, data)
    diagnoses = clinical.diagnoses(draft)
    clinical.allergies(draft)
    clinical.procedures(draft)
    clinical.problems(draft)
    clinical.coverages(draft)
    clinical.guarantors(draft)
    if kind in ("ORM", "OML", "OMP", "RDE", "PPR"):
        orders.orders(draft, diagnoses)
    elif kind == "VXU":
        orders.immunizations(draft)
    elif kind == "SIU":
        scheduling.appointment(draft)
    elif kind != "MDM":
        results.reports(draft, handled)
    if not documents and draft.is_something:
        _keep_original(draft, data)


def _labels(draft: Draft, data: bytes) -> frozenset[int]:
    """What the sender hides from whom (OBX of the group MetaDMPMSS); the numbers of the OBX that say so."""
    said = [each for each in draft.message.all("OBX") if canonical_label(each.raw(3).partition("^")[0]) is not None]
    for obx in said:
        obx.keep(3, 5, 11)
    draft.labels = header_of(data).confidentiality if said else ()
    return frozenset(each.number for each in said)


def _keep_original(draft: Draft, data: bytes) -> None:
    """The message as a document of the patient, with what is lost of it. Not where it brought documents: it would hold
    them a second time, whatever becomes of the first."""
    kinds: Mapping[str, Any] = table("original")
    code, title = kinds.get(draft.kind.partition("^")[0], kinds[""])
    loinc = Code(system="http://loinc.org", code=code)
    header = Header(
        type=loinc,
        title=f"{title} (HL7 v2 {draft.kind})",
        created=draft.at,
        language="fr",
        confidentiality=draft.labels,
    )
    document = CodedDocument(header=header, content_type=_MEDIA_TYPE, data=data)
    name = made_identifier(draft.source, "message", draft.sender, draft.control_id or hashlib.sha256(data).hexdigest())
    entries, url = published(document, name, str(draft.subject["reference"]), draft.source)
    draft.add(entries)
    draft.copies = frozenset((url,))


def _documents(draft: Draft, data: bytes, *, is_report: bool) -> frozenset[int]:
    """Publish the documents in the message; the numbers of the OBX that are theirs."""
    holders = [each for each in draft.message.all("OBX") if each.raw(2) == "ED"]
    if not is_report and not holders:
        return frozenset()
    found = document_entries(data, str(draft.subject["reference"]), draft.source, sender=draft.sender)
    draft.add(found.entries)
    draft.withdrawn = found.withdrawn
    draft.lost += found.lost
    for obx in draft.message.all("OBX"):
        if obx.number in found.handled:
            obx.keep(3, 4, 5, 11)
    if found.handled:
        draft.message.first("TXA").keep(2, 3, 4, 12, 13)
        draft.message.first("OBR").keep(3, 4, 7, 8, 22, 32)
        for prt in draft.message.all("PRT"):
            if prt.raw(4).partition("^")[0] == "SB":
                prt.keep(4, 5)
    elif is_report:
        raise RefusedMessage(Reason.REQUIRED_FIELD_MISSING, "OBX-5")
    return found.handled
