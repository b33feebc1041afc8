"""Working days: Monday to Friday, public holidays apart (e-prescription contract, sections 8 and 14).

The holidays are data (`data/holidays_fr.json`, from the Code du travail): commands ask for them, and a library of the
world's holidays takes longer to load than a command takes to run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

PARIS = ZoneInfo("Europe/Paris")
_DAY = timedelta(days=1)
_SATURDAY = 5


def is_working_day(day: date, region: str | None = None) -> bool:
    """`region` is one of the data file whose holidays come beside those of the nation."""
    return day.weekday() < _SATURDAY and day not in holidays(day.year, region)


def end_of_next_working_day(at: datetime, region: str | None = None) -> datetime:
    """The Paris midnight that ends the first working day after the one of `at`, in UTC."""
    day = at.astimezone(PARIS).date() + _DAY
    while not is_working_day(day, region):
        day += _DAY
    return datetime.combine(day + _DAY, time(), PARIS).astimezone(UTC)


def last_working_day(until: date, region: str | None = None) -> date:
    """The day itself, or the last working day before it."""
    while not is_working_day(until, region):
        until -= _DAY
    return until


@cache
def holidays(year: int, region: str | None = None) -> frozenset[date]:
    """The public holidays of a year; raises KeyError for a region that the data do not know."""
    data = _data()
    own = [data["nation"]] if region is None else [data["nation"], data["regions"][region]]
    return frozenset(day for days in own for day in _days(year, days))


def _days(year: int, days: dict[str, Any]) -> Iterator[date]:
    for each in days["fixed"]:
        yield date.fromisoformat(f"{year}-{each}")
    for each in days["easter"]:
        yield easter(year) + timedelta(days=each)


def easter(year: int) -> date:
    """Easter Sunday in the Gregorian calendar (J. Meeus, Astronomical Algorithms, chapter 8)."""
    century, rest = divmod(year, 100)
    leap, common = divmod(century, 4)
    correction = (century - (century + 8) // 25 + 1) // 3
    epact = (19 * (year % 19) + century - leap - correction + 15) % 30
    weekday = (32 + 2 * common + 2 * (rest // 4) - epact - rest % 4) % 7
    shift = (year % 19 + 11 * epact + 22 * weekday) // 451
    month, day = divmod(epact + weekday - 7 * shift + 114, 31)
    return date(year, month, day + 1)


@cache
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(files(__package__).joinpath("data/holidays_fr.json").read_text("utf-8"))
    return data
