"""Times as HL7 version 2 (DTM), version 3 (TS) and DICOM (DT) write them: one form, of any precision."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

_PARIS = ZoneInfo("Europe/Paris")
_FORM = re.compile(r"(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:\.(\d{1,6})\d*)?(?:([+-])(\d\d)(\d\d))?", re.ASCII)


def read_time(text: str | None) -> datetime | None:
    """The first moment that a text means, in its own offset or else in that of Europe/Paris; None if it is no time."""
    found = _FORM.fullmatch((text or "").strip())
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = found.groups()
    zone: timezone | ZoneInfo = _PARIS
    try:
        if sign:
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            zone = timezone(-offset if sign == "-" else offset)
        return datetime(
            int(year),
            int(month or 1),
            int(day or 1),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            int((fraction or "0").ljust(6, "0")),
            tzinfo=zone,
        )
    except ValueError:
        return None


def read_fhir_time(text: str | None) -> datetime | None:
    """A FHIR date, dateTime or instant in the same way."""
    value = text or ""
    padded = value + {4: "-01-01", 7: "-01"}.get(len(value), "")
    try:
        read = datetime.fromisoformat(padded)
    except ValueError:
        return None
    return read if read.tzinfo else read.replace(tzinfo=_PARIS)
