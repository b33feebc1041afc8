"""A DICOM object that is shared as a document, as ImagingStudy: found among the imaging of its person.

FHIR R4 ImagingStudy; the mapping of its attributes is DICOM PS3.3 C.7. Where the object says at which URL its study is
served (0008,1190), a DICOMweb endpoint of that address is contained. It refers to the document it is in, so that
whoever may not see the document sees none of it.
"""

from __future__ import annotations

from typing import Any, Final

from passerelle.documents.contents import Study
from passerelle.fhir.bundles import TransactionEntry

DOCUMENT_EXTENSION: Final = "https://passerelle.example/StructureDefinition/imaging-document"
_DICOM_UID: Final = "urn:dicom:uid"
_DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_URI: Final = "urn:ietf:rfc:3986"
_IDENTIFIER_TYPES: Final = "http://terminology.hl7.org/CodeSystem/v2-0203"
_CONNECTIONS: Final = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type"


def imaging_study_entry(study: Study, *, document: str, subject: dict[str, Any], path: str) -> TransactionEntry:
    """The entry that creates it; `document` is the reference of the DocumentReference, `subject` that of its person."""
    resource = imaging_study(study, document=document, subject=subject)
    return TransactionEntry(
        path=path, full_url=None, method="POST", url="ImagingStudy", type="ImagingStudy", resource=resource
    )


def imaging_study(study: Study, *, document: str, subject: dict[str, Any]) -> dict[str, Any]:
    """One instance of one series: who has more of the study finds them by the same identifier."""
    modality = {"system": _DCM, "code": study.modality}
    series = _present(
        uid=study.series_uid,
        number=study.series_number if study.series_number is not None and study.series_number >= 0 else None,
        modality=modality,
        description=study.series_description,
        bodySite={"display": study.body_part} if study.body_part else None,
        instance=[
            _present(
                uid=study.instance_uid,
                sopClass={"system": _URI, "code": f"urn:oid:{study.sop_class_uid}"},
                number=study.instance_number
                if study.instance_number is not None and study.instance_number >= 0
                else None,
            )
        ],
    )
    endpoint = _endpoint(study.retrieve_url)
    return _present(
        resourceType="ImagingStudy",
        contained=[endpoint] if endpoint else None,
        extension=[{"url": DOCUMENT_EXTENSION, "valueReference": {"reference": document}}],
        identifier=[{"system": _DICOM_UID, "value": f"urn:oid:{study.study_uid}"}, *_accession(study)],
        status="available",
        modality=[modality],
        subject=subject,
        started=study.started.isoformat(timespec="seconds") if study.started else None,
        endpoint=[{"reference": f"#{endpoint['id']}"}] if endpoint else None,
        description=study.description,
        series=[series],
    )


def _accession(study: Study) -> list[dict[str, Any]]:
    if study.accession_number is None:
        return []
    return [{"type": {"coding": [{"system": _IDENTIFIER_TYPES, "code": "ACSN"}]}, "value": study.accession_number}]


def _endpoint(url: str | None) -> dict[str, Any] | None:
    if url is None or not url.startswith("https://"):
        return None
    return {
        "resourceType": "Endpoint",
        "id": "dicomweb",
        "status": "active",
        "connectionType": {"system": _CONNECTIONS, "code": "dicom-wado-rs"},
        "payloadType": [{"text": "DICOM"}],
        "payloadMimeType": ["application/dicom"],
        "address": url,
    }


def _present(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
