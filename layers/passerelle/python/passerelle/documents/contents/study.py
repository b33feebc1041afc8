"""What a DICOM object belongs to: one instance of one series of one study (DICOM PS3.3, C.7)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from passerelle.documents.contents.header import Identifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """The UIDs are as DICOM writes them. `retrieve_url` is where the study is served by DICOMweb."""

    study_uid: str
    series_uid: str
    instance_uid: str
    sop_class_uid: str
    modality: str
    started: datetime | None = None
    description: str | None = None
    series_number: int | None = None
    series_description: str | None = None
    instance_number: int | None = None
    body_part: str | None = None
    accession_number: str | None = None
    patient: Identifier | None = None
    retrieve_url: str | None = None
