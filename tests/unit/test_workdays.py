"""Working days against an independent calendar, and at the edges: long week-ends, DST nights, the end of a year."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from holidays import country_holidays

from passerelle.prescriptions.workdays import (
    PARIS,
    end_of_next_working_day,
    holidays,
    is_working_day,
    last_working_day,
)

YEARS = range(2024, 2045)


def test_the_holidays_of_the_nation_are_those_of_an_independent_calendar() -> None:
    assert {day for year in YEARS for day in holidays(year)} == set(country_holidays("FR", years=YEARS))


@pytest.mark.parametrize(
    ("region", "subdivision"),
    [
        ("alsace-moselle", "57"),
        ("guyane", "973"),
        ("reunion", "974"),
        ("mayotte", "976"),
        ("saint-barthelemy", "BL"),
    ],
)
def test_the_holidays_of_a_region_are_those_of_an_independent_calendar(region: str, subdivision: str) -> None:
    assert {day for year in YEARS for day in holidays(year, region)} == set(
        country_holidays("FR", subdiv=subdivision, years=YEARS)
    )


@pytest.mark.parametrize(
    ("region", "subdivision"), [("guadeloupe", "971"), ("martinique", "972"), ("saint-martin", "MF")]
)
def test_customs_that_no_law_makes_a_holiday_are_left_out(region: str, subdivision: str) -> None:
    """Mi-carême, Good Friday and the day of Victor Schoelcher are in no list of art. L3422-2."""
    ours = {day for year in YEARS for day in holidays(year, region)}
    theirs = set(country_holidays("FR", subdiv=subdivision, years=YEARS))
    assert ours < theirs
    mine = {(day.month, day.day) for day in ours} - {(d.month, d.day) for d in holidays(2028)} - {(2, 29)}
    assert {"guadeloupe": (5, 27), "martinique": (5, 22), "saint-martin": (5, 28)}[region] in mine, "no slavery"


@pytest.mark.parametrize(
    ("at", "end"),
    [
        ("2026-03-02T10:00", "2026-03-04T00:00"),  # a Monday: all of Tuesday
        ("2026-03-06T10:00", "2026-03-10T00:00"),  # a Friday: all of Monday
        ("2026-03-08T23:59", "2026-03-10T00:00"),  # a Sunday, one minute before Monday
        ("2026-04-03T18:00", "2026-04-08T00:00"),  # Good Friday, then Easter Monday: Tuesday
        ("2026-12-24T18:00", "2026-12-29T00:00"),  # Christmas is a Friday: Monday
        ("2026-12-31T23:59", "2027-01-05T00:00"),  # over the end of the year: 1 January is a Friday
        ("2028-02-28T12:00", "2028-03-01T00:00"),  # 29 February, a Tuesday
        ("2026-03-27T12:00", "2026-03-31T00:00"),  # over the night of 29 March, an hour shorter
        ("2026-10-23T12:00", "2026-10-27T00:00"),  # over the night of 25 October, an hour longer
    ],
)
def test_the_end_of_the_next_working_day(at: str, end: str) -> None:
    found = end_of_next_working_day(datetime.fromisoformat(at).replace(tzinfo=PARIS))
    assert found.tzinfo is UTC
    assert found == datetime.fromisoformat(end).replace(tzinfo=PARIS)


@pytest.mark.parametrize("region", [None, "alsace-moselle"])
def test_it_is_never_less_than_a_day_away_and_never_beyond_the_cap_of_a_claim(region: str | None) -> None:
    """Contract, section 8: preparing, 24 h to the end of the next working day; at most seven days."""
    at = datetime(2024, 1, 1, 22, 59, 59, tzinfo=UTC)
    while at.year < 2030:
        length = end_of_next_working_day(at, region) - at
        assert timedelta(hours=24) <= length <= timedelta(days=7)
        at += timedelta(hours=13)


def test_in_a_region_with_holidays_of_its_own() -> None:
    good_friday, boxing_day = date(2026, 4, 3), date(2025, 12, 26)
    assert is_working_day(good_friday)
    assert is_working_day(boxing_day)
    assert last_working_day(good_friday, "alsace-moselle") == date(2026, 4, 2)
    assert last_working_day(boxing_day, "alsace-moselle") == date(2025, 12, 24)
    thursday = datetime(2026, 4, 2, 12, tzinfo=UTC)
    assert end_of_next_working_day(thursday, "alsace-moselle").astimezone(PARIS).date() == date(2026, 4, 8)


def test_what_falls_on_a_day_off_is_brought_forward() -> None:
    assert last_working_day(date(2026, 4, 6)) == date(2026, 4, 3), "Easter Monday"
    assert last_working_day(date(2026, 5, 14)) == date(2026, 5, 13), "Ascension Day"
    assert last_working_day(date(2027, 1, 3)) == date(2026, 12, 31), "a Sunday, over New Year's Day"
    assert last_working_day(date(2028, 2, 29)) == date(2028, 2, 29)


def test_an_unknown_region_is_an_error() -> None:
    with pytest.raises(KeyError):
        holidays(2026, "bretagne")
