"""The schedules of the template, kept by the clock of this machine: stands in for EventBridge Scheduler.

EventBridge Scheduler user guide, "Schedule types": cron expressions in a time zone, and rates. A schedule sends its
input to a queue, with the time that it was due at in place of `<aws.scheduler.scheduled-time>`; what follows is as on
AWS. Hours that passed while the stack was down are not made up for: functions that a schedule starts catch up by
themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from local.intrinsics import TemplateError
from local.resources import Client, Made, Properties

_RATE: Final = re.compile(r"rate\((?P<minutes>\d{1,2}) minutes?\)")
_CRON: Final = re.compile(r"cron\((?P<minute>\d{1,2}) (?P<first>\d{1,2})(?:-(?P<last>\d{1,2}))? \* \* \? \*\)")
_TIME: Final = "<aws.scheduler.scheduled-time>"
_POLL_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """At some minutes of some hours of every day, `message` to a queue."""

    queue_url: str
    message: str
    zone: ZoneInfo
    minutes: range
    hours: range

    @classmethod
    def read(cls, logical_id: str, given: Properties, by_arn: Mapping[str, str], made: Mapping[str, Made]) -> Schedule:
        """Raises TemplateError for a property, or an expression, that is not implemented."""
        given.take("Description")
        expression = given.take("ScheduleExpression")
        if given.take("State", "ENABLED") != "ENABLED":
            raise TemplateError(f"{logical_id}: a schedule is enabled")
        minutes, hours = _moments(logical_id, expression)
        window = given.part("FlexibleTimeWindow")
        if window.take("Mode") != "OFF":
            raise TemplateError(f"{logical_id}: a schedule has no flexible window")
        window.finish()
        target = given.part("Target")
        for name in ("RoleArn", "DeadLetterConfig"):
            target.take(name)  # who may, and where to if not
        queue = by_arn.get(target.take("Arn"), "")
        if queue not in made:
            raise TemplateError(f"{logical_id}: a schedule sends to a queue")
        schedule = cls(
            queue_url=made[queue].ref,
            message=target.take("Input", "{}"),
            zone=ZoneInfo(given.take("ScheduleExpressionTimezone", "UTC")),
            minutes=minutes,
            hours=hours,
        )
        target.finish()
        given.finish()
        return schedule

    def next_after(self, at: datetime) -> datetime:
        """When it is due next, in UTC. A time that a night in spring leaves out is not due then."""
        minute = at.astimezone(UTC).replace(second=0, microsecond=0)
        while True:
            minute += timedelta(minutes=1)
            local = minute.astimezone(self.zone)
            if local.minute in self.minutes and local.hour in self.hours and (not local.fold or self._is_rate):
                return minute

    @property
    def _is_rate(self) -> bool:
        """A rate goes on through the hour that a night in autumn has twice."""
        return len(self.minutes) > 1


def _moments(logical_id: str, expression: str) -> tuple[range, range]:
    """Minutes and hours at which it is due; on AWS a rate counts from when it was made."""
    if (cron := _CRON.fullmatch(expression)) is not None:
        minute, first = int(cron["minute"]), int(cron["first"])
        return range(minute, minute + 1), range(first, int(cron["last"] or first) + 1)
    if (rate := _RATE.fullmatch(expression)) is not None and int(rate["minutes"]) < 60:
        return range(0, 60, int(rate["minutes"])), range(24)
    raise TemplateError(f"{logical_id}: not implemented: {expression}")


@dataclass(slots=True, kw_only=True)
class Clock:
    """One poller for all schedules; see `pump._Poller`."""

    schedules: tuple[Schedule, ...]
    sqs: Client
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _next: dict[int, datetime] = field(default_factory=dict)

    def poll(self, pause: Callable[[float], bool] | None) -> int:
        """Send what is due; returns how many messages that was."""
        at, sent = self.now(), 0
        for number, schedule in enumerate(self.schedules):
            due = self._next.get(number)
            if due is not None and at < due:
                continue
            if due is not None:
                text = schedule.message.replace(_TIME, due.strftime("%Y-%m-%dT%H:%M:%SZ"))
                self.sqs.send_message(QueueUrl=schedule.queue_url, MessageBody=text)
                sent += 1
            self._next[number] = schedule.next_after(at)
        if pause is not None:
            pause(_POLL_SECONDS)
        return sent
