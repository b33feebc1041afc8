"""When something is expected: the windows of a rhythm, in the civil time of Paris (FHIR R4 Timing.repeat).

A day is from midnight to midnight in Paris, 23 or 25 hours twice a year; a time of day is what clocks show there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from passerelle.monitoring.measures import minutes

PARIS: Final = ZoneInfo("Europe/Paris")
_DAY: Final = timedelta(days=1)
_ANCHOR: Final = date(2024, 1, 1)  # a Monday: what has no beginning is counted from it
_FARTHEST: Final = timedelta(days=800)  # nothing is looked for beyond

Unit = Literal["h", "d", "wk"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """So often between `start` (included) and `end` (excluded); from `deadline` on it is known whether it was."""

    start: datetime
    end: datetime
    deadline: datetime
    needed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """`frequency` times every `period` units; at `times` of the day, on `days` of the week (0: Monday), if there are.

    `start` and `end` bound it; with `is_once`, it is one window from one to the other.
    """

    frequency: int = 1
    period: int = 1
    unit: Unit = "d"
    times: tuple[time, ...] = ()
    days: frozenset[int] = frozenset()
    start: datetime | None = None
    end: datetime | None = None
    is_once: bool = False

    def windows(self, after: datetime) -> Iterator[Window]:
        """Those whose deadline is after a moment, by deadline."""
        latest = after + _FARTHEST
        for window in self._all(after):
            if window.start > latest or (self.end is not None and window.end > self.end + minutes("late")):
                return
            if window.deadline > after and (self.start is None or window.start >= self.start - minutes("early")):
                yield window

    def _all(self, after: datetime) -> Iterator[Window]:
        if self.is_once:
            if self.start is not None and self.end is not None:
                yield Window(start=self.start, end=self.end, deadline=self.end + minutes("grace"), needed=1)
        elif self.unit == "h":
            yield from self._hours(after)
        elif self.times or self.days:
            yield from self._days_of_week(after)
        else:
            yield from self._spans(after)

    def _hours(self, after: datetime) -> Iterator[Window]:
        step = timedelta(hours=self.period)
        first = self.start or midnight(_ANCHOR)
        number = max(0, (after - first) // step - 1 - minutes("grace") // step)
        start = first + number * step
        while True:
            yield self._spanning(start, start + step)
            start += step

    def _spans(self, after: datetime) -> Iterator[Window]:
        """Whole days, one after the other."""
        days = self.period * (7 if self.unit == "wk" else 1)
        first = self.start.astimezone(PARIS).date() if self.start is not None else _ANCHOR
        number = max(0, ((after - minutes("grace")).astimezone(PARIS).date() - first).days // days - 1)
        day = first + timedelta(days=number * days)
        while True:
            following = day + timedelta(days=days)
            yield self._spanning(midnight(day), midnight(following))
            day = following

    def _days_of_week(self, after: datetime) -> Iterator[Window]:
        first = self.start.astimezone(PARIS).date() if self.start is not None else _ANCHOR
        day = max(first, (after - minutes("grace")).astimezone(PARIS).date() - 2 * _DAY)
        while True:
            if self._is_on(day, first):
                if not self.times:
                    yield self._spanning(midnight(day), midnight(day + _DAY))
                for each in sorted(self.times):
                    at = datetime.combine(day, each, PARIS).astimezone(UTC)
                    end = at + minutes("late")
                    yield Window(start=at - minutes("early"), end=end, deadline=end, needed=1)
            day += _DAY

    def _is_on(self, day: date, first: date) -> bool:
        if self.days and day.weekday() not in self.days:
            return False
        if self.unit == "wk":
            week = (day - (first - timedelta(days=first.weekday()))).days // 7
            return week % self.period == 0 and (bool(self.days) or day.weekday() == first.weekday())
        return bool(self.days) or (day - first).days % self.period == 0

    def _spanning(self, start: datetime, end: datetime) -> Window:
        return Window(start=start, end=end, deadline=end + minutes("grace"), needed=self.frequency)


def midnight(day: date) -> datetime:
    """When a day begins in Paris, in UTC."""
    return datetime.combine(day, time(), PARIS).astimezone(UTC)
