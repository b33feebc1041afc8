"""Appointments: SCH, TQ1, AIS, AIG, AIL and AIP as Appointment (HL7 2.5, chapter 10; HL7 Version 2 to FHIR 1.0.0)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from passerelle.documents.contents.times import read_time
from passerelle.fhir.conversion import values
from passerelle.fhir.conversion.draft import Draft
from passerelle.fhir.conversion.groups import remarks
from passerelle.fhir.conversion.made import present
from passerelle.fhir.conversion.values import table
from passerelle.hl7v2.message import Segment
from passerelle.ingestion.model import Reason, RefusedMessage

_MINUTES: Final = {"": 1, "M": 1, "MIN": 1, "MN": 1, "H": 60, "HR": 60, "S": 1 / 60, "SEC": 1 / 60}
_LONGEST: Final = 60 * 24 * 31


def appointment(draft: Draft) -> None:
    """Raises RefusedMessage for one that has neither number nor time."""
    sch = draft.message.first("SCH")
    services = draft.message.all("AIS")
    number = next((value for field in (2, 1) for value in sch.peek(field) if value[1]), None)
    if number is None:
        raise RefusedMessage(Reason.REQUIRED_FIELD_MISSING, "SCH-2")
    status = str(table("appointment_status")[draft.event])
    start, end, minutes = _time(draft, sch)
    if start is None and status != "cancelled":
        raise RefusedMessage(Reason.REQUIRED_FIELD_MISSING, "SCH-11")
    numbers = [values.order_number(sch[field], kind) for field, kind in ((1, "PLAC"), (2, "FILL"))]
    resource = {
        "resourceType": "Appointment",
        "identifier": [each for each in numbers if each],
        "status": status,
        "cancelationReason": values.concept_of(sch, 6, draft.source) if status in ("cancelled", "noshow") else None,
        "serviceType": [found for each in services if (found := values.concept_of(each, 3, draft.source))],
        "appointmentType": values.in_table("0277", sch[8]) if sch[8] else None,
        "reasonCode": [found for each in sch.all(7) if (found := values.concept(each, draft.source))],
        "start": start,
        "end": end,
        "minutesDuration": minutes,
        "created": values.time_of(draft.message.first("EVN"), 2),
        "comment": "\n".join(remarks(list(draft.message.all("NTE")))),
        "participant": [*_participants(draft, status)],
    }
    if status not in ("cancelled", "noshow"):
        resource["description"] = sch[6][2] or sch[6][1]
    sch.keep(25)
    for segment in services:
        segment.keep(4, 5, 6, 7, 8)
    draft.put(present(resource), "appointment", draft.sender, number[1], number[2])


def _time(draft: Draft, sch: Segment) -> tuple[str | None, str | None, int | None]:
    """Start, end and length: of SCH-11, else of TQ1, else of the first service."""
    began: datetime | None = None
    ended: datetime | None = None
    timing = sch[11]
    began, ended = read_time(timing[4]), read_time(timing[5])
    minutes = _minutes(sch[9][1], sch[10][1])
    for tq1 in draft.message.all("TQ1"):
        began, ended = began or read_time(tq1[7][1]), ended or read_time(tq1[8][1])
        minutes = minutes or _minutes(tq1[6][1], tq1[6][2])
    for resource in draft.message.all("AIS", "AIG", "AIL", "AIP"):
        first = 4 if resource.name == "AIS" else 8 if resource.name == "AIG" else 6
        began = began or read_time(resource[first][1])
        minutes = minutes or _minutes(resource[first + 3][1], resource[first + 4][1])
    if began is None:
        return None, None, None
    if ended is None or ended < began:
        ended = began + timedelta(minutes=minutes or 0)
    length = round((ended - began).total_seconds() / 60)
    return began.isoformat(), ended.isoformat(), length or None


def _minutes(text: str, unit: str) -> int:
    number = values.decimal(text)
    if number is None:
        return 0
    found = round(float(number) * _MINUTES.get(unit.upper(), 0))
    return found if 0 < found <= _LONGEST else 0


def _participants(draft: Draft, status: str) -> Iterator[dict[str, Any]]:
    said = "declined" if status == "cancelled" else "accepted"
    yield {"actor": draft.subject, "status": said}
    for segment in draft.message.all("AIP"):
        role = values.concept_of(segment, 4, draft.source) if segment[4] else None
        segment.keep(6, 7, 8, 9, 10, 12)
        for each in values.people(segment, 3):
            yield present({"type": [role] if role else None, "actor": each, "status": said})
    for segment in draft.message.all("AIL"):
        segment.keep(6, 7, 8, 9, 10, 12)
        if segment[3] and (where := values.place(segment[3])) is not None:
            yield {"actor": where, "status": said}
    for segment in draft.message.all("AIG"):
        name = segment[3][2] or segment[3][1]
        segment.keep(8, 9, 10, 11, 12)
        if name:
            yield {"actor": {"type": "HealthcareService", "display": name}, "status": said}
