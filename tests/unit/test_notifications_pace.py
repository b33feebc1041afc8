"""When a subscriber may be told: quiet hours and digests by the clocks of Paris."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.notifications.breaker import BREAKS_AFTER, Breaker
from passerelle.notifications.model import Pace, longest_pause
from passerelle.notifications.pace import is_immediate, next_moment
from passerelle.prescriptions.workdays import PARIS


def paris(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=PARIS)


NIGHT, NAP, DIGEST = Pace(quiet=(time(21), time(7))), Pace(quiet=(time(13), time(15))), Pace(digest_at=time(8))


@pytest.mark.parametrize(
    ("pace", "since", "at", "expected"),
    [
        (Pace(), "2026-03-01T03:00", "2026-03-01T03:00", None),
        (NIGHT, "2026-03-01T20:59", "2026-03-01T20:59", None),
        (NIGHT, "2026-03-01T21:00", "2026-03-01T21:00", "2026-03-02T07:00"),
        (NIGHT, "2026-03-01T21:00", "2026-03-02T06:59", "2026-03-02T07:00"),
        (NIGHT, "2026-03-01T21:00", "2026-03-02T07:00", None),
        (NAP, "2026-03-01T14:00", "2026-03-01T14:00", "2026-03-01T15:00"),
        (NAP, "2026-03-01T12:59", "2026-03-01T12:59", None),
        (NIGHT, "2026-03-29T01:00", "2026-03-29T01:00", "2026-03-29T07:00"),  # a night of ten hours, of which nine pass
        (DIGEST, "2026-03-01T07:59", "2026-03-01T07:59", "2026-03-01T08:00"),
        (DIGEST, "2026-03-01T08:00", "2026-03-01T08:00", "2026-03-02T08:00"),
        (DIGEST, "2026-03-01T08:01", "2026-03-02T08:00", None),
        (DIGEST, "2026-03-01T08:01", "2026-03-09T03:00", None),  # it is late already
        (
            Pace(quiet=(time(21), time(9)), digest_at=time(8)),
            "2026-03-01T12:00",
            "2026-03-01T12:00",
            "2026-03-02T09:00",
        ),
        (Pace(digest_at=time(2, 30)), "2026-03-29T01:00", "2026-03-29T01:00", "2026-03-29T03:30"),  # clocks skip it
        (Pace(quiet=(time(9), time(9))), "2026-03-01T09:00", "2026-03-01T09:00", None),
    ],
)
def test_moments(pace: Pace, since: str, at: str, expected: str | None) -> None:
    moment = next_moment(pace, paris(since), paris(at), PARIS)
    assert moment == (paris(expected).astimezone(UTC) if expected else None)


@given(
    st.tuples(st.times(), st.times()) | st.none(),
    st.times() | st.none(),
    st.integers(0, 220 * 86_400).map(lambda seconds: datetime(2026, 3, 25, tzinfo=UTC) + timedelta(seconds=seconds)),
    st.integers(0, 3 * 86_400),
)
def test_everything_is_told_within_two_days_and_at_the_moment_that_was_named(
    quiet: tuple[time, time] | None, digest_at: time | None, since: datetime, waited: int
) -> None:
    pace, at = Pace(quiet=quiet, digest_at=digest_at), since + timedelta(seconds=waited)
    moment = next_moment(pace, since, at, PARIS)
    if moment is not None:
        assert at < moment <= at + timedelta(hours=51)
        assert next_moment(pace, since, moment, PARIS) is None
        assert not is_immediate(pace)


def test_pauses_grow_to_an_hour() -> None:
    assert [longest_pause(failures).total_seconds() for failures in (1, 2, 3, 4)] == [5, 10, 20, 40]
    assert longest_pause(11) == longest_pause(5000) == timedelta(hours=1)


def test_a_breaker_opens_for_what_the_next_failure_is_worth() -> None:
    at = paris("2026-03-01T12:00")
    assert Breaker(failures=BREAKS_AFTER - 2).open_until(at) is None
    assert Breaker(failures=BREAKS_AFTER - 1).open_until(at) == at + timedelta(seconds=80)
    opened = Breaker(failures=BREAKS_AFTER, until=at)
    assert (opened.is_open(at - timedelta(seconds=1)), opened.is_open(at), opened.is_closed) == (True, False, False)
