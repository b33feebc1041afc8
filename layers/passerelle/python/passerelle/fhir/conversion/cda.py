"""A CDA R2 document that is sent by itself: the document, as it is, and the resources that its sections state.

What is published is the metadata that `$generate-metadata` gives (IHE PCC 4.1.1) and the unchanged bytes. The patient
is who the sender's own number means; a person who is not known here is registered with what the header says, and one
who is known is left as is: a report is no place to change an identity. Without a number of the sender's domain, a
national identifier has to be known. That the document is about that person is checked when it is published.
"""

from __future__ import annotations

from typing import Any, Final
from xml.etree.ElementTree import Element

from passerelle.documents.contents import Header, Kind, inspect
from passerelle.documents.contents.cda import ROOT, header_of
from passerelle.documents.contents.xml import RefusedXmlError, read_xml
from passerelle.errors import Unprocessable
from passerelle.fhir.conversion.cda_sections import resources_of
from passerelle.fhir.conversion.cda_values import all_of, date_time, first_of, plain_text
from passerelle.fhir.conversion.embedded import published
from passerelle.fhir.conversion.made import identifier_element, made_uuid, post, present
from passerelle.fhir.generated_metadata import CodedDocument
from passerelle.ingestion.model import Conversion, Reason, RefusedMessage, Source
from passerelle.patients.model import Identifier

KIND: Final = "CDA"
_MEDIA_TYPE: Final = "text/xml"
_GENDERS: Final = {"M": "male", "F": "female", "UN": "other"}


def convert(data: bytes, source: Source) -> Conversion:
    """`ingestion.model.Converter` of CDA; raises RefusedMessage."""
    root = _root(data)
    try:
        found = inspect(data, _MEDIA_TYPE, path="ClinicalDocument")
    except Unprocessable:
        raise RefusedMessage(Reason.DATA_TYPE, "ClinicalDocument") from None
    header = found.header if found.kind is Kind.CDA and found.header is not None else header_of(root)
    if header.document is None:
        raise RefusedMessage(Reason.REQUIRED_FIELD_MISSING, "ClinicalDocument.id")
    if header.type is None:
        raise RefusedMessage(Reason.REQUIRED_FIELD_MISSING, "ClinicalDocument.code")
    if header.created is None:
        raise RefusedMessage(Reason.REQUIRED_FIELD_MISSING, "ClinicalDocument.effectiveTime")
    people, subject = _patient(root, header, source)
    document = CodedDocument(header=header, content_type=_MEDIA_TYPE, data=data)
    entries, url = published(document, header.document, subject, source)
    made = resources_of(data, subject, source, document=url)
    return Conversion(
        kind=KIND,
        control_id="|".join(header.document),
        sender=_sender(header),
        at=header.created,
        bundle={"resourceType": "Bundle", "type": "transaction", "entry": [*people, *entries, *made.entries]},
        lost=made.lost,
    )


def _root(data: bytes) -> Element:
    try:
        root = read_xml(data).root
    except RefusedXmlError:
        raise RefusedMessage(Reason.UNSUPPORTED_MESSAGE_TYPE) from None
    if root.tag != ROOT:
        raise RefusedMessage(Reason.UNSUPPORTED_MESSAGE_TYPE)
    return root


def _sender(header: Header) -> str:
    """The custodian's number: who keeps the original."""
    custodian = header.custodian
    return custodian.identifiers[0][1] if custodian is not None and custodian.identifiers else ""


def _patient(root: Element, header: Header, source: Source) -> tuple[list[dict[str, Any]], str]:
    """The entry that registers the patient if nobody has, and the reference to the patient."""
    own = next((each for each in header.patients if each[0] == source.domain), None)
    if own is None:
        named = _most_national(header)
        if named is None:
            raise RefusedMessage(Reason.REQUIRED_FIELD_MISSING, "ClinicalDocument.recordTarget")
        return [], f"Patient?identifier={named[0]}|{named[1]}"
    url = made_uuid(source, "Patient", *own)
    role = first_of(root, "recordTarget/patientRole")
    person = first_of(role, "patient")
    gender = first_of(person, "administrativeGenderCode")
    birth = first_of(person, "birthTime")
    born = date_time(birth.get("value")) if birth is not None else None
    resource = {
        "resourceType": "Patient",
        **present(
            {
                "identifier": [identifier_element(own)],
                "name": [each for each in (_name(each) for each in all_of(person, "name")) if each][:1],
                "gender": _GENDERS.get(gender.get("code", "")) if gender is not None else None,
                "birthDate": born[:10] if born else None,
            }
        ),
    }
    return [post(url, resource, ifNoneExist=f"identifier={own[0]}|{own[1]}")], url


def _most_national(header: Header) -> Identifier | None:
    from passerelle.documents.contents.header import data as table

    systems = table("national_identifiers.json")["systems"]
    return next(iter(sorted(header.patients, key=lambda each: each[0] not in systems)), None)


def _name(name: Element) -> dict[str, Any]:
    """The name at birth, as the national identity has it (BR), else the only one."""
    families = all_of(name, "family")
    family = next((each for each in families if each.get("qualifier") == "BR"), families[0] if families else None)
    given = [text for each in all_of(name, "given") if not each.get("qualifier") and (text := plain_text(each))]
    text = plain_text(name) if family is None else None
    found = present({"family": plain_text(family), "given": given, "text": text})
    return {"use": "official", **found} if found else {}
