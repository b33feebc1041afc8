"""A document as an IHE XDM archive: what a mail of the French health mail system carries (`IHE_XDM.ZIP`).

IHE ITI TF-2 3.32 (Distribute Document Set on Media) and TF-3 4.2 (its metadata, in ebRIM 3.0); the form of the subject
is that of the national framework (CI-SIS, exchange of health documents). The same document at the same moment gives the
same bytes.
"""

from __future__ import annotations

import hashlib
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from io import BytesIO
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5
from xml.etree import ElementTree as ET

_FOLDER: Final = "IHE_XDM/SUBSET01"
_MOMENT: Final = (1980, 1, 1, 0, 0, 0)  # of every file, so that the bytes say nothing of when they were packed
_MAX_LABEL: Final = 40
_EXTENSIONS: Final = {"application/pdf": "PDF", "text/xml": "XML", "application/xml": "XML", "application/dicom": "DCM"}

_RIM: Final = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
_LCM: Final = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
_REGISTRY: Final = "urn:oasis:names:tc:ebxml-regrep:"
_LIGATURES: Final = str.maketrans({"œ": "oe", "Œ": "OE", "æ": "ae", "Æ": "AE"})
_STABLE: Final = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"
_SUBMISSION: Final = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"
_AUTHORS: Final = "urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d"
_CONTENT_TYPE: Final = "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500"
# Classification scheme of each code of a document entry, and where the DocumentReference has it.
_CODES: Final = (
    ("urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a", ("category",)),
    ("urn:uuid:f0306f51-975f-434e-a61c-c59651d33983", ("type",)),
    ("urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f", ("securityLabel",)),
    ("urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d", ("content", "format")),
    ("urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1", ("context", "facilityType")),
    ("urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead", ("context", "practiceSetting")),
)
_DOCUMENT_PATIENT: Final = "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427"
_DOCUMENT_ID: Final = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"
_SUBMISSION_PATIENT: Final = "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446"
_SUBMISSION_ID: Final = "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8"
_SUBMISSION_SOURCE: Final = "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832"

Content = Mapping[str, Any]


def title(document: Content, patient: Content) -> str:
    """`<type> <NAME> <first name> <dd/mm/yyyy>`, names without accents; what is not known is left out."""
    name = _name(patient)
    family = _plain(name.get("family", "")).upper()
    given = _plain((name.get("given") or [""])[0])
    born = "/".join(reversed(str(patient.get("birthDate", "")).split("-")))
    coded = _coded(document, ("type",))
    label = " ".join((coded.get("display") or coded.get("code", "")).split())[:_MAX_LABEL].strip()
    return " ".join(each for each in (label, family, given, born) if each)


def archive(document: Content, patient: Content, data: bytes, *, source: str, at: datetime) -> bytes:
    """The ZIP; `patient` as its reader may see it, `source` the OID of the exchange, `at` when it is sent."""
    attachment = document["content"][0]["attachment"]
    file = f"DOC0001.{_EXTENSIONS.get(attachment['contentType'], 'BIN')}"
    metadata = _metadata(document, patient, data, file=file, source=source, at=at)
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archived:
        for name, content in (
            ("README.TXT", _readme(file)),
            ("INDEX.HTM", _index(document, file)),
            (f"{_FOLDER}/METADATA.XML", metadata),
            (f"{_FOLDER}/{file}", data),
        ):
            archived.writestr(zipfile.ZipInfo(name, _MOMENT), content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _readme(file: str) -> bytes:
    lines = ("Passerelle", "IHE XDM", "", f"{_FOLDER}/{file}", f"{_FOLDER}/METADATA.XML", "")
    return "\r\n".join(lines).encode()


def _index(document: Content, file: str) -> bytes:
    shown = escape(
        str(document["content"][0]["attachment"].get("title") or _coded(document, ("type",)).get("display", ""))
    )
    return (
        '<!DOCTYPE html><html lang="fr"><head><meta charset="utf-8"><title>IHE XDM</title></head><body>'
        f'<p><a href="{_FOLDER}/{file}">{shown or file}</a></p></body></html>'
    ).encode()


# --- metadata -----------------------------------------------------------------------------------------------------


def _metadata(document: Content, patient: Content, data: bytes, *, file: str, source: str, at: datetime) -> bytes:
    unique = str(document.get("masterIdentifier", {}).get("value") or document["id"])
    named = uuid5(NAMESPACE_URL, f"{unique}/{at.isoformat()}")
    request = ET.Element(f"{{{_LCM}}}SubmitObjectsRequest")
    objects = _below(request, "RegistryObjectList")
    entry = _entry(objects, document, patient, data, file=file, unique=unique, source=source)
    submission = _below(objects, "RegistryPackage", id="SubmissionSet01", status=f"{_REGISTRY}StatusType:Approved")
    _slot(submission, "submissionTime", [_moment(at)])
    _classify(submission, _CONTENT_TYPE, _coded(document, ("type",)))
    for scheme, name, value in (
        (_SUBMISSION_ID, "XDSSubmissionSet.uniqueId", f"2.25.{named.int}"),
        (_SUBMISSION_SOURCE, "XDSSubmissionSet.sourceId", source),
        (_SUBMISSION_PATIENT, "XDSSubmissionSet.patientId", _patient_id(patient, source)),
    ):
        _identify(submission, scheme, name, value)
    _below(
        objects, "Classification", id="Classified01", classifiedObject="SubmissionSet01", classificationNode=_SUBMISSION
    )
    association = _below(
        objects,
        "Association",
        id="Association01",
        associationType=f"{_REGISTRY}AssociationType:HasMember",
        sourceObject="SubmissionSet01",
        targetObject=entry.attrib["id"],
    )
    _slot(association, "SubmissionSetStatus", ["Original"])
    written: bytes = ET.tostring(request, encoding="utf-8", xml_declaration=True)
    return written


def _entry(
    objects: ET.Element, document: Content, patient: Content, data: bytes, *, file: str, unique: str, source: str
) -> ET.Element:
    attachment = document["content"][0]["attachment"]
    entry = _below(
        objects,
        "ExtrinsicObject",
        id="Document01",
        objectType=_STABLE,
        mimeType=attachment["contentType"],
        status=f"{_REGISTRY}StatusType:Approved",
    )
    context = document.get("context", {})
    period = context.get("period", {})
    slots = {
        "creationTime": _instant(attachment.get("creation") or document.get("date")),
        "hash": hashlib.sha1(data, usedforsecurity=False).hexdigest(),  # SHA-1 because XDS says so
        "languageCode": attachment.get("language", ""),
        "serviceStartTime": _instant(period.get("start")),
        "serviceStopTime": _instant(period.get("end")),
        "size": str(len(data)),
        "URI": file,
    }
    for name, value in slots.items():
        if value:
            _slot(entry, name, [value])
    identity = _patient_id(patient, source)
    _slot(entry, "sourcePatientId", [identity])
    _slot(entry, "sourcePatientInfo", list(_patient_info(patient)))
    _text(entry, "Name", str(attachment.get("title", "")))
    for author in _authors(document):
        classified = _classify(entry, _AUTHORS, {})
        for name, value in author.items():
            _slot(classified, name, [value])
    for scheme, path in _CODES:
        coding = _coded(document, path)
        if coding:
            _classify(entry, scheme, coding)
    _identify(entry, _DOCUMENT_PATIENT, "XDSDocumentEntry.patientId", identity)
    _identify(entry, _DOCUMENT_ID, "XDSDocumentEntry.uniqueId", unique.removeprefix("urn:oid:"))
    return entry


def _below(parent: ET.Element, name: str, /, **attributes: str) -> ET.Element:
    return ET.SubElement(parent, f"{{{_RIM}}}{name}", attributes)


def _slot(parent: ET.Element, name: str, values: Iterable[str]) -> None:
    listed = _below(_below(parent, "Slot", name=name), "ValueList")
    for value in values:
        _below(listed, "Value").text = value


def _text(parent: ET.Element, name: str, value: str) -> None:
    if value:
        _below(_below(parent, name), "LocalizedString", value=value)


def _classify(parent: ET.Element, scheme: str, coding: Content) -> ET.Element:
    count = sum(1 for _ in parent.iter(f"{{{_RIM}}}Classification"))
    of = parent.attrib["id"]
    classified = _below(
        parent,
        "Classification",
        id=f"{of}.Code{count + 1:02}",
        classificationScheme=scheme,
        classifiedObject=of,
        nodeRepresentation=str(coding.get("code", "")),
    )
    if coding:
        _slot(classified, "codingScheme", [str(coding.get("system", "")).removeprefix("urn:oid:")])
        _text(classified, "Name", str(coding.get("display") or coding.get("code", "")))
    return classified


def _identify(parent: ET.Element, scheme: str, name: str, value: str) -> None:
    count = sum(1 for _ in parent.iter(f"{{{_RIM}}}ExternalIdentifier"))
    of = parent.attrib["id"]
    identifier = _below(
        parent,
        "ExternalIdentifier",
        id=f"{of}.Id{count + 1:02}",
        identificationScheme=scheme,
        registryObject=of,
        value=value,
    )
    _text(identifier, "Name", name)


# --- what a resource says -----------------------------------------------------------------------------------------


def _coded(document: Content, path: Sequence[str]) -> Content:
    """The first coding at a path, through the first of each list."""
    place: Any = document
    for name in path:
        place = place[0] if isinstance(place, list) and place else place
        place = place.get(name) if isinstance(place, Mapping) else None
    place = place[0] if isinstance(place, list) and place else place
    if not isinstance(place, Mapping):
        return {}
    if "coding" not in place and ("code" in place or "system" in place):
        return place  # `format` is a Coding itself
    return next(iter(place.get("coding", [])), {})


def _name(patient: Content) -> Content:
    """The name of birth, which identity goes by in France, else any."""
    names = patient.get("name", [])
    return next((each for each in names if each.get("use") == "official"), next(iter(names), {}))


def _patient_id(patient: Content, source: str) -> str:
    """The first identifier of an OID, in the form of HL7 v2 CX; else the id in the exchange, whose OID `source` is."""
    for each in patient.get("identifier", []):
        system = str(each.get("system", ""))
        if system.startswith("urn:oid:") and each.get("value"):
            kind = "NH" if system.startswith("urn:oid:1.2.250.1.213.1.4.") else "PI"
            return f"{_escaped(each['value'])}^^^&{system.removeprefix('urn:oid:')}&ISO^{kind}"
    return f"{patient['id']}^^^&{source}&ISO^PI"


def _patient_info(patient: Content) -> Iterator[str]:
    name = _name(patient)
    yield f"PID-5|{_escaped(name.get('family', ''))}^{_escaped((name.get('given') or [''])[0])}^^^^^L"
    if patient.get("birthDate"):
        yield f"PID-7|{str(patient['birthDate']).replace('-', '')}"
    sex = {"male": "M", "female": "F", "other": "O"}.get(str(patient.get("gender")), "U")
    yield f"PID-8|{sex}"


def _authors(document: Content) -> Iterator[dict[str, str]]:
    """Those that the document contains: professionals (XCN) and organisations (XON)."""
    contained = {f"#{each.get('id')}": each for each in document.get("contained", [])}
    for reference in document.get("author", []):
        author = contained.get(reference.get("reference", ""), {})
        identifier: Content = next(iter(author.get("identifier", [])), {})
        oid = str(identifier.get("system", "")).removeprefix("urn:oid:")
        value = _escaped(identifier.get("value", ""))
        if author.get("resourceType") == "Organization":
            yield {"authorInstitution": f"{_escaped(author.get('name', ''))}^^^^^&{oid}&ISO^^^^{value}"}
        elif author.get("resourceType") == "Practitioner":
            name: Content = next(iter(author.get("name", [])), {})
            given = _escaped((name.get("given") or [""])[0])
            yield {"authorPerson": f"{value}^{_escaped(name.get('family', ''))}^{given}^^^^^^&{oid}&ISO^D"}


def _escaped(text: Any) -> str:
    """Without the separators of HL7 v2, which would make other components of it."""
    return "".join(each for each in str(text) if each not in "|^~\\&")


def _plain(text: str) -> str:
    """In ASCII, as subjects are: accents fall off."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_LIGATURES))
    return " ".join(decomposed.encode("ascii", "ignore").decode().split())


def _instant(text: Any) -> str:
    """A FHIR instant or date as DTM in UTC; empty for none."""
    if not text:
        return ""
    if len(text) <= len("2026-01-01"):
        return str(text).replace("-", "")
    return _moment(datetime.fromisoformat(text))


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y%m%d%H%M%S")
