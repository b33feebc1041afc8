"""When a measurement or a visit is expected: by the clocks of Paris, on the days that they change too."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.monitoring.rhythm import Rhythm, Window, midnight

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)


def first(rhythm: Rhythm, count: int, after: datetime = MONDAY) -> list[Window]:
    return list(islice(rhythm.windows(after), count))


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


@pytest.mark.parametrize(
    ("day", "eight"),
    [
        ("2026-03-28", "2026-03-28T07:00"),
        ("2026-03-29", "2026-03-29T06:00"),  # clocks go forward at 2
        ("2026-10-24", "2026-10-24T06:00"),
        ("2026-10-25", "2026-10-25T07:00"),  # and back
    ],
)
def test_eight_in_the_morning_is_what_the_clock_says(day: str, eight: str) -> None:
    (window,) = first(Rhythm(times=(time(8),)), 1, at(f"{day}T00:30"))
    assert window.start == at(eight) - timedelta(hours=2)
    assert window.end == window.deadline == at(eight) + timedelta(hours=2)


@pytest.mark.parametrize(("day", "hours"), [("2026-03-28", 24), ("2026-03-29", 23), ("2026-10-25", 25)])
def test_a_day_has_as_many_hours_as_it_has(day: str, hours: int) -> None:
    noon = at(f"{day}T12:00") + timedelta(hours=3)
    (window,) = first(Rhythm(frequency=3), 1, noon)
    assert window.end - window.start == timedelta(hours=hours)
    assert window.needed == 3
    assert window.deadline == window.end + timedelta(hours=2)


def test_three_times_a_week_on_the_days_that_are_named() -> None:
    windows = first(Rhythm(unit="wk", days=frozenset({0, 2, 4}), times=(time(7), time(19))), 5)
    assert [each.start + timedelta(hours=2) for each in windows] == [
        at("2026-03-02T18:00"),
        at("2026-03-04T06:00"),
        at("2026-03-04T18:00"),
        at("2026-03-06T06:00"),
        at("2026-03-06T18:00"),
    ]


def test_every_other_week_counts_from_the_beginning() -> None:
    rhythm = Rhythm(unit="wk", period=2, days=frozenset({1}), start=MONDAY)
    assert [each.start for each in first(rhythm, 3)] == [
        midnight(date(2026, 3, 3)),
        midnight(date(2026, 3, 17)),
        midnight(date(2026, 3, 31)),
    ]


def test_every_six_hours_and_a_whole_week() -> None:
    hours = first(Rhythm(unit="h", period=6, start=MONDAY), 2)
    assert [each.start for each in hours] == [MONDAY, MONDAY + timedelta(hours=6)]
    (week,) = first(Rhythm(unit="wk", frequency=2), 1)
    assert (week.start, week.end, week.needed) == (midnight(date(2026, 3, 2)), midnight(date(2026, 3, 9)), 2)


def test_a_period_is_one_window_and_an_end_is_an_end() -> None:
    once = Rhythm(start=MONDAY, end=MONDAY + timedelta(hours=4), is_once=True)
    assert [(each.start, each.end) for each in first(once, 2)] == [(MONDAY, MONDAY + timedelta(hours=4))]
    ends = Rhythm(times=(time(8),), start=MONDAY, end=MONDAY + timedelta(days=3))
    assert len(first(ends, 9)) == 3


@given(
    st.builds(
        Rhythm,
        frequency=st.integers(1, 4),
        period=st.integers(1, 3),
        unit=st.sampled_from(["h", "d", "wk"]),
        times=st.sampled_from([(), (time(8),), (time(2, 30), time(23, 59))]),
        days=st.sampled_from([frozenset(), frozenset({6}), frozenset({0, 3})]),
        start=st.sampled_from([None, MONDAY, datetime(2025, 10, 20, tzinfo=UTC)]),
    ),
    st.integers(0, 330 * 1440).map(lambda minutes: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)),
)
def test_whenever_one_looks_the_same_windows_are_there(rhythm: Rhythm, looked: datetime) -> None:
    """What is judged one after the other is judged whole: none is skipped, none comes twice."""
    windows = first(rhythm, 6, looked)
    assert all(each.deadline > looked for each in windows)
    assert all(one.deadline < other.deadline for one, other in pairwise(windows))
    for one, other in pairwise(windows):
        assert next(iter(rhythm.windows(one.deadline))) == other
