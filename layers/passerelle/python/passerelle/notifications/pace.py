"""When a subscriber is told: quiet hours, and one notification a day for whoever wants no more. Pure.

Times of day are of the country, across the changes of its clocks. What is urgent waits for neither; it is told with
everything before it, because numbers have no gap.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, tzinfo

from passerelle.notifications.model import Pace

_DAY = timedelta(days=1)


def is_immediate(pace: Pace) -> bool:
    """Whether nothing is ever held back."""
    return pace.quiet is None and pace.digest_at is None


def next_moment(pace: Pace, since: datetime, at: datetime, zone: tzinfo) -> datetime | None:
    """When what has waited `since` then may be told; None: now. Asked again at that moment, the answer is None."""
    moment = at
    if pace.digest_at is not None:
        moment = max(moment, _next(pace.digest_at, since, zone))
    if pace.quiet is not None and _is_quiet(pace.quiet, moment.astimezone(zone).time()):
        moment = _next(pace.quiet[1], moment, zone)
    return moment if moment > at else None


def _is_quiet(quiet: tuple[time, time], now: time) -> bool:
    start, end = quiet
    return start <= now < end if start <= end else now >= start or now < end


def _next(when: time, after: datetime, zone: tzinfo) -> datetime:
    """The first time after a moment that clocks show this time of day; an hour that clocks skip comes when they did."""
    day = after.astimezone(zone).date()
    times = [
        datetime.combine(each, when.replace(fold=fold), zone).astimezone(UTC)
        for each in (day, day + _DAY)
        for fold in (0, 1)
    ]
    first, again = times[::2], times[1::2]  # clocks show an hour twice in autumn; the one that they skip, never
    again = [each for each in again if each.astimezone(zone).time() == when]
    return min(each for each in (*first, *again) if each > after)
