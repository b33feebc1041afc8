"""The metadata that a document gives of itself, as a DocumentReference (IHE MHD ITI-106; IHE PCC 4.1.1, CDA to XDS).

Read from the header that `documents.contents` found; what a content does not say is left out, but for what nothing can
be published without: its identifier, its patient, its type and when it was made (contract 106-3).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from passerelle.documents.contents import Author, Code, Header, Inspection, Kind, Organisation, embedded, inspect
from passerelle.documents.model import decoded
from passerelle.errors import Invalid, Issue, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.dates import instant
from passerelle.fhir.submissions import DOCUMENT
from passerelle.fhir.validation import check_members

_DOCUMENT: Final = "Parameters.parameter[0].resource"
_REQUIRED: Final = (
    ("document", "the document has no identifier"),
    ("patients", "the document names no patient"),
    ("type", "the document has no code"),
    ("created", "the document has no effective time"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedDocument:
    """A document that says enough of itself, in the form that is kept."""

    header: Header
    content_type: str
    data: bytes


def coded_document(parameters: Any, *, is_xml: bool) -> CodedDocument:
    """Read the arguments of `$generate-metadata`; a Bundle is kept in the form that it came in (`is_xml`).

    Raises Unprocessable: `structure` for other arguments than one document, `not-supported` for a content without
    coded metadata, `required` for a document that lacks what cannot be left out.
    """
    resource = _argument(parameters)
    if resource["resourceType"] == "Binary":
        data = decoded(str(resource.get("data", "")), path=f"{_DOCUMENT}.data")
        content_type = str(resource.get("contentType", ""))
    elif is_xml:
        from passerelle.fhir import xml as fhir_xml

        data, content_type = fhir_xml.dumps(resource), "application/fhir+xml"
    else:
        data, content_type = fhir_json.dumps(resource), "application/fhir+json"
    found = inspect(data, content_type, path=_DOCUMENT)
    document = _document(found, content_type, data)
    missing = [Issue(code="required", diagnostics=text, expression=_DOCUMENT) for text in _missing(document.header)]
    if missing:
        raise Unprocessable(issues=missing)
    return document


def _argument(parameters: Any) -> Mapping[str, Any]:
    listed = parameters.get("parameter") if isinstance(parameters, Mapping) else None
    if isinstance(parameters, Mapping) and parameters.get("resourceType") == "Parameters":
        faults = check_members(parameters, "Parameters", "Parameters")
        if faults:
            raise Invalid(issues=faults)
    given = [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
    resource = given[0].get("resource") if len(given) == 1 and given[0].get("name") == "document" else None
    is_document = isinstance(resource, Mapping) and (
        resource.get("resourceType") == "Binary"
        or (resource.get("resourceType") == "Bundle" and resource.get("type") == "document")
    )
    if not isinstance(resource, Mapping) or not is_document:
        raise Unprocessable(
            "the one parameter is document: a Binary, or a Bundle of type document",
            code="structure",
            expression="Parameters.parameter",
        )
    return resource


def _document(found: Inspection, content_type: str, data: bytes) -> CodedDocument:
    """The content itself, or the one report in a message of results."""
    if found.kind in (Kind.CDA, Kind.FHIR_DOCUMENT) and found.header is not None:
        return CodedDocument(header=found.header, content_type=content_type, data=data)
    if found.kind is Kind.HL7V2:
        reports = embedded(data)
        if len(reports) == 1:
            (report,) = reports
            inspect(report.data, report.media_type, path=_DOCUMENT)
            return CodedDocument(header=report.header, content_type=report.media_type, data=report.data)
    raise Unprocessable(
        "metadata are generated of CDA and FHIR documents, and of a message with one report",
        code="not-supported",
        expression=_DOCUMENT,
    )


def _missing(header: Header) -> list[str]:
    return [text for name, text in _REQUIRED if not getattr(header, name)]


def document_reference(
    document: CodedDocument, subject: Mapping[str, Any], relations: Sequence[Mapping[str, Any]], at: datetime
) -> dict[str, Any]:
    """The DocumentReference of a document about `subject`, its content in `attachment.data`."""
    header = document.header
    contained: list[dict[str, Any]] = []

    def referred(resource: dict[str, Any] | None) -> dict[str, str] | None:
        """The resource as one that is contained, once."""
        if resource is None:
            return None
        for known in contained:
            if {**known, "id": ""} == {**resource, "id": ""}:
                return {"reference": f"#{known['id']}"}
        contained.append({"resourceType": resource["resourceType"], "id": f"c{len(contained) + 1}", **resource})
        return {"reference": f"#{contained[-1]['id']}"}

    authors = [referred(each) for author in header.authors for each in _parties(author)]
    elements = {
        "masterIdentifier": _identifier(*header.document) if header.document else None,
        "identifier": [_identifier(*header.set_id)] if header.set_id not in (None, header.document) else None,
        "status": "current",
        "type": _concept(header.type),
        "subject": subject,
        "date": instant(at),
        "author": [each for each in authors if each],
        "authenticator": referred(_person(header.legal_authenticator)),
        "custodian": referred(_organisation(header.custodian)),
        "relatesTo": relations,
        "securityLabel": [_concept(each) for each in header.confidentiality],
        "content": [
            {
                "attachment": _present(
                    {
                        "contentType": document.content_type,
                        "language": header.language,
                        "data": base64.b64encode(document.data).decode(),
                        "title": header.title,
                        "creation": _time(header.created),
                    }
                ),
                **_present({"format": _coding(header.format)}),
            }
        ],
        "context": _present(
            {
                "event": [_concept(each) for each in header.events],
                "period": _present({"start": _time(header.service_start), "end": _time(header.service_end)}),
                "facilityType": _concept(header.facility),
                "practiceSetting": _concept(header.practice),
            }
        ),
    }
    return {"resourceType": DOCUMENT, **_present({"contained": contained}), **_present(elements)}


def _present(elements: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in elements.items() if value}


def _parties(author: Author) -> Iterator[dict[str, Any] | None]:
    yield _person(author)
    yield _organisation(author.organisation)


def _person(author: Author | None) -> dict[str, Any] | None:
    """A Practitioner, or the Device that wrote; None for somebody without name or number."""
    if author is None:
        return None
    identifiers = [_identifier(*each) for each in author.identifiers]
    if author.device:
        names = [{"name": author.device, "type": "other"}]
        return {"resourceType": "Device", **_present({"identifier": identifiers}), "deviceName": names}
    name = _present({"family": author.family, "given": list(author.given)})
    found = _present({"identifier": identifiers, "name": [name] if name else None})
    return {"resourceType": "Practitioner", **found} if found else None


def _organisation(organisation: Organisation | None) -> dict[str, Any] | None:
    if organisation is None:
        return None
    identifiers = [_identifier(*each) for each in organisation.identifiers]
    found = _present({"identifier": identifiers, "name": organisation.name})
    return {"resourceType": "Organization", **found} if found else None


def _identifier(system: str, value: str) -> dict[str, str]:
    return {"system": system, "value": value}


def _coding(code: Code | None) -> dict[str, str] | None:
    return None if code is None else _present({"system": code.system, "code": code.code, "display": code.display})


def _concept(code: Code | None) -> dict[str, Any] | None:
    return None if code is None else {"coding": [_coding(code)]}


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")
