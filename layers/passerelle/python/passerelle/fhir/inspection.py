"""The content of a new document against its metadata, and what follows from it: who signed it, which study it is of."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from passerelle.documents.contents import Inspection, inspect, names_other
from passerelle.documents.model import Adoption, Content
from passerelle.documents.uploads import Upload
from passerelle.errors import Unprocessable
from passerelle.fhir.bundles import TransactionEntry
from passerelle.fhir.imaging import imaging_study_entry
from passerelle.fhir.signatures import signature_provenance_entry
from passerelle.patients.model import Person


def inspected(document: TransactionEntry, content: Content | Adoption, upload: Upload | None) -> Inspection:
    """What the content is; raises Unprocessable (`value`). Of a large one, only the beginning is looked at."""
    path = f"{document.path}.resource.content[0].attachment.contentType"
    if isinstance(content, Content):
        return inspect(content.data, content.content_type, path=path)
    head = upload.head if upload is not None else b""
    return inspect(head, content.content_type, path=path, is_whole=len(head) == content.size_bytes)


def check_patient(document: TransactionEntry, inspection: Inspection, person: Person) -> None:
    """Raise Unprocessable for a content that says it is about somebody else: the worst fault of an exchange."""
    identifiers = [identifier for record in person.records for identifier in record.identifiers]
    if inspection.header is not None and names_other(inspection.header, identifiers):
        raise Unprocessable("the content is about another person", expression=f"{document.path}.resource.subject")


def derived(
    document: TransactionEntry, reference: str, inspection: Inspection, at: datetime
) -> Iterator[TransactionEntry]:
    """What is made with a new document, and refers to it; `reference` is its own."""
    for number, signature in enumerate(inspection.signatures):
        path = f"{document.path}.provenance[{number}]"
        yield signature_provenance_entry(signature, document=reference, at=at, path=path)
    if inspection.study is not None and "subject" in document.resource:
        subject = dict(document.resource["subject"])
        path = f"{document.path}.imagingStudy"
        yield imaging_study_entry(inspection.study, document=reference, subject=subject, path=path)
