"""Schedules by the clock of this machine: hours of a time zone, nights in which clocks change, and what is sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from local.intrinsics import TemplateError
from local.resources import Made, Properties
from local.schedules import Clock, Schedule

PARIS = ZoneInfo("Europe/Paris")


def given(**changes: Any) -> Properties:
    target = {"Arn": "arn:q", "RoleArn": "arn:r", "Input": '{"time": "<aws.scheduler.scheduled-time>"}'}
    properties = {
        "ScheduleExpression": "cron(0 8-20 * * ? *)",
        "ScheduleExpressionTimezone": "Europe/Paris",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "State": "ENABLED",
        "Target": target,
    }
    return Properties("Hourly", {**properties, **changes})


def schedule(**changes: Any) -> Schedule:
    return Schedule.read("Hourly", given(**changes), {"arn:q": "Queue"}, {"Queue": Made(ref="url", attributes={})})


@pytest.mark.parametrize(
    ("at", "due"),
    [
        ("2026-03-03T07:59", "2026-03-03T08:00"),
        ("2026-03-03T08:00", "2026-03-03T09:00"),
        ("2026-03-03T20:00", "2026-03-04T08:00"),
        ("2026-03-28T20:30", "2026-03-29T08:00"),
        ("2026-10-24T20:30", "2026-10-25T08:00"),
        ("2026-12-31T23:00", "2027-01-01T08:00"),
    ],
)
def test_when_it_is_due_next(at: str, due: str) -> None:
    found = schedule().next_after(datetime.fromisoformat(at).replace(tzinfo=PARIS))
    assert found == datetime.fromisoformat(due).replace(tzinfo=PARIS)


def test_a_time_that_a_night_leaves_out_or_has_twice() -> None:
    """EventBridge Scheduler user guide: skipped in spring, once in autumn."""
    nightly = schedule(ScheduleExpression="cron(30 2 * * ? *)")
    spring = nightly.next_after(datetime(2026, 3, 28, 12, tzinfo=PARIS))
    assert spring.astimezone(PARIS) == datetime(2026, 3, 30, 2, 30, tzinfo=PARIS)
    autumn = nightly.next_after(datetime(2026, 10, 24, 12, tzinfo=PARIS))
    assert nightly.next_after(autumn) - autumn == timedelta(hours=25)


def test_a_rate_goes_on_through_the_night_in_which_clocks_go_back() -> None:
    every = schedule(ScheduleExpression="rate(5 minutes)")
    at = datetime(2026, 10, 24, 23, 58, tzinfo=UTC)
    for _ in range(40):
        due = every.next_after(at)
        assert timedelta(0) < due - at <= timedelta(minutes=5)
        assert due.minute % 5 == 0
        at = due
    assert at == datetime(2026, 10, 25, 3, 15, tzinfo=UTC)


def test_each_hour_is_sent_once_with_its_time() -> None:
    sent: list[dict[str, str]] = []

    class Queue:
        def send_message(self, **message: str) -> None:
            sent.append(message)

    times = [datetime(2026, 3, 3, 9, 59, second, tzinfo=UTC) for second in (30, 59)]
    times += [datetime(2026, 3, 3, 10, 0, second, tzinfo=UTC) for second in (1, 2)]
    clock = Clock(schedules=(schedule(),), sqs=Queue(), now=iter(times).__next__)
    assert [clock.poll(None) for _ in times] == [0, 0, 1, 0]
    assert sent == [{"QueueUrl": "url", "MessageBody": '{"time": "2026-03-03T10:00:00Z"}'}]


@pytest.mark.parametrize(
    "changes",
    [
        {"ScheduleExpression": "rate(1 hour)"},
        {"FlexibleTimeWindow": {"Mode": "FLEXIBLE"}},
        {"State": "DISABLED"},
        {"Target": {"Arn": "arn:function"}},
        {"KmsKeyArn": "arn:k"},
    ],
)
def test_what_it_does_not_implement_is_an_error(changes: dict[str, Any]) -> None:
    with pytest.raises(TemplateError):
        schedule(**changes)
