"""FHIR dates as ranges of seconds: `2024-03` is all of March, `2024-03-14T07:30Z` the seconds of a minute.

FHIR R4 sections 2.24.0.1 (syntax) and 3.1.1.4.5 (implicit ranges). Ranges are `lo, hi`, UTC, yyyymmddHHMMSS,
as `records/search.py` compares them. A date without a time zone is read as UTC, in resources and in queries
alike, so that the same text always finds itself. Fractions of a second are dropped.
"""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime, timedelta

_DATE = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?:T(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.\d+)?)?"
    r"(?P<zone>Z|[+-]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)
_FORMAT = "%Y%m%d%H%M%S"


def date_range(text: str) -> tuple[str, str]:
    """The seconds that a date, dateTime or instant can mean; raises ValueError for any other text."""
    match = _DATE.fullmatch(text)
    if match is None:
        raise ValueError("not a date")
    year, month = int(match["year"]), int(match["month"] or 1)
    days = calendar.monthrange(year, month)[1] if 1 <= month <= 12 else 0
    day = int(match["day"] or 1)
    if year == 0 or not 1 <= day <= days:
        raise ValueError("not a day of the calendar")
    if match["month"] is None:
        return f"{year:04}0101000000", f"{year:04}1231235959"
    if match["day"] is None:
        return f"{year:04}{month:02}01000000", f"{year:04}{month:02}{days:02}235959"
    if match["hour"] is None:
        return f"{year:04}{month:02}{day:02}000000", f"{year:04}{month:02}{day:02}235959"
    second = int(match["second"] or 0)
    second -= second == 60  # a leap second, which datetime does not know
    first = datetime(year, month, day, int(match["hour"]), int(match["minute"]), second, tzinfo=UTC)
    try:
        first -= _offset(match["zone"])
    except OverflowError:
        raise ValueError("outside the calendar") from None
    last = first if match["second"] else first + timedelta(seconds=59)
    return written(first), written(last)


def _offset(zone: str | None) -> timedelta:
    if zone is None or zone == "Z":
        return timedelta()
    hours, minutes = int(zone[1:3]), int(zone[4:6])
    if hours > 14 or minutes > 59 or (hours == 14 and minutes):
        raise ValueError("not a time zone")
    offset = timedelta(hours=hours, minutes=minutes)
    return -offset if zone[0] == "-" else offset


def written(moment: datetime) -> str:
    """A moment in UTC as ranges hold it."""
    return moment.strftime(_FORMAT).zfill(14)  # strftime does not pad years below 1000 everywhere


def instant(at: datetime) -> str:
    """`2026-03-01T09:30:00.123Z`"""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
