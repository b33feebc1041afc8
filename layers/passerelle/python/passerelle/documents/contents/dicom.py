"""The metadata of a DICOM object: PS3.10 (files), PS3.5 (encoding), PS3.3 C.7 (patient, study, series, instance).

pydicom reads the elements asked for and stops before pixels and waveforms. A deflated data set would have to be
inflated whole, so it is refused; nobody sends one to a document exchange.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final

from passerelle.documents.contents.header import Header, Identifier, identifier_of
from passerelle.documents.contents.study import Study
from passerelle.documents.contents.times import read_time

_DEFLATED: Final = b"1.2.840.10008.1.2.1.99"
_META_WINDOW: Final = 4096
_ELEMENTS: Final[list[str]] = [
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "Modality",
    "TimezoneOffsetFromUTC",
    "StudyDescription",
    "SeriesDescription",
    "RetrieveURL",
    "PatientID",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "BodyPartExamined",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "InstanceNumber",
]
_NEEDED: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality")


class RefusedDicomError(Exception):
    """The text is for the sender: it holds nothing of the object."""


def study_of(data: bytes) -> Study:
    """Raises RefusedDicomError for what is no DICOM object, or does not say what it belongs to."""
    if _DEFLATED in data[:_META_WINDOW]:
        raise RefusedDicomError("a deflated DICOM object is not accepted")
    values = _read(data)
    if any(values.get(name) is None for name in _NEEDED):
        raise RefusedDicomError("the DICOM object does not say which study, series and instance it is")
    return Study(
        study_uid=values["StudyInstanceUID"],
        series_uid=values["SeriesInstanceUID"],
        instance_uid=values["SOPInstanceUID"],
        sop_class_uid=values["SOPClassUID"],
        modality=values["Modality"],
        started=_started(values),
        description=values.get("StudyDescription"),
        series_number=_number(values.get("SeriesNumber")),
        series_description=values.get("SeriesDescription"),
        instance_number=_number(values.get("InstanceNumber")),
        body_part=values.get("BodyPartExamined"),
        accession_number=values.get("AccessionNumber"),
        patient=_patient(values),
        retrieve_url=values.get("RetrieveURL"),
    )


def header_of(study: Study) -> Header:
    """What document sharing may take from it. A local patient id without issuer names nobody here."""
    return Header(
        patients=() if study.patient is None else (study.patient,),
        document=identifier_of(study.instance_uid, None),
        title=study.description,
        created=study.started,
    )


def _read(data: bytes) -> Mapping[str, Any]:
    from pydicom import config, dcmread
    from pydicom.errors import InvalidDicomError

    # Values that break a rule are none of ours to report: the warnings would quote them in the logs.
    config.settings.reading_validation_mode = config.IGNORE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=[*_ELEMENTS], force=True)
            values = {name: _text(found.get(name)) for name in _ELEMENTS if "Sequence" not in name}
            issuers = found.get("IssuerOfPatientIDQualifiersSequence")
            issuer = issuers[0] if issuers else {}
            values["issuer"] = _text(issuer.get("UniversalEntityID"))
        except (
            InvalidDicomError, EOFError, OSError, ValueError, KeyError, TypeError, IndexError, AttributeError,
            NotImplementedError, OverflowError, RecursionError, struct.error,
        ):  # fmt: skip
            # pydicom lets through whatever damaged bytes make its decoders raise
            raise RefusedDicomError("the content is not a DICOM object that can be read") from None
    return values


def _text(value: Any) -> str | None:
    text = "" if value is None else str(value).strip().strip("\0").strip()
    return text or None


def _started(values: Mapping[str, Any]) -> Any:
    date, time = values.get("StudyDate"), values.get("StudyTime")
    if date is None:
        return None
    digits = "".join(each for each in (time or "") if each.isdigit() or each == ".")
    return read_time(f"{date.replace('.', '')}{digits}{values.get('TimezoneOffsetFromUTC') or ''}") or read_time(date)


def _number(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def _patient(values: Mapping[str, Any]) -> Identifier | None:
    id, issuer = values.get("PatientID"), values.get("issuer") or values.get("IssuerOfPatientID")
    if id is None or issuer is None:
        return None
    found = identifier_of(issuer, id)
    return found if found is not None and found[1] == id else None
