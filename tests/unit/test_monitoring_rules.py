"""What values and time make of alerts: tables, and histories against the simplest model that can be thought of."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.monitoring.measures import VISIT, measure, observations
from passerelle.monitoring.model import (
    AlertKind,
    Ending,
    Expectation,
    Plan,
    Reading,
    Sighting,
    Threshold,
    Visit,
    VisitState,
    Watch,
    concerns_of,
    watch_to_map,
)
from passerelle.monitoring.rhythm import Rhythm
from passerelle.monitoring.rules import Evaluation

AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
THRESHOLD = Threshold(key="t", goal="Goal/g", measure="glucose", low=Decimal(70), high=Decimal(180))
DAILY = Expectation(key="e", measure="glucose", rhythm=Rhythm(times=(time(8),)))
PLAN = Plan(patient="p", reference="CarePlan/c", thresholds=(THRESHOLD,))


def reading(value: float, minutes: float = 0) -> Reading:
    at = AT + timedelta(minutes=minutes)
    return Reading(measure="glucose", value=Decimal(str(value)), at=at, reference=f"Observation/{minutes}")


def evaluation(watch: Watch, plan: Plan = PLAN, *, at: datetime = AT, attending: bool = True) -> Evaluation:
    def is_known(tier: str) -> bool:
        return attending or tier != "attending-physician"

    return Evaluation(watch=watch, plans=(plan,), at=at, new_task=lambda name: f"task {name}", tier_known=is_known)


def received(watch: Watch, *values: float, plan: Plan = PLAN) -> tuple[Watch, Evaluation]:
    step = evaluation(watch, plan)
    step.received([reading(value, number) for number, value in enumerate(values)])
    return step.result(wakes_at=None), step


@pytest.mark.parametrize(
    ("bounds", "value", "is_outside"),
    [
        ({"low": 70, "high": 180}, 70, False),
        ({"low": 70, "high": 180}, 180, False),
        ({"low": 70, "high": 180}, "69.9", True),
        ({"low": 70, "high": 180}, "180.1", True),
        ({"high": 140, "excludes_high": True}, 140, True),  # "< 140"
        ({"high": 140, "excludes_high": True}, "139.9", False),
        ({"low": 92}, 91, True),
        ({"low": 92}, 100, False),
    ],
)
def test_a_bound_is_within_unless_it_is_excluded(bounds: dict[str, float], value: str, is_outside: bool) -> None:
    held = {name: each if isinstance(each, bool) else Decimal(each) for name, each in bounds.items()}
    assert Threshold(key="t", goal="g", measure="glucose", **held).is_outside(Decimal(value)) is is_outside  # type: ignore[arg-type]


def test_a_hundred_values_beyond_it_are_one_alert() -> None:
    watch, step = received(Watch(patient="p"), *([250] * 100))
    (change,) = step.changes.values()
    assert (change.before, change.after.count, change.ended) == (None, 100, None)
    watch, step = received(watch, *([250] * 100))
    (change,) = step.changes.values()
    assert change.after.count == 200
    assert not change.is_news, "nobody is told again"


@pytest.mark.parametrize(
    ("values", "ended"),
    [
        ((100, 100), None),
        ((100, 100, 100), Ending.BACK_IN_RANGE),
        ((100, 100, 250, 100, 100), None),
        ((100, 100, 250, 100, 100, 100), Ending.BACK_IN_RANGE),
    ],
)
def test_three_in_a_row_end_it(values: tuple[float, ...], ended: Ending | None) -> None:
    watch, _ = received(Watch(patient="p"), 250)
    _, step = received(watch, *values)
    assert [each.ended for each in step.changes.values()] == ([ended] if ended or 250 in values else [])


def test_n_of_m_as_the_goal_says() -> None:
    calm = replace(PLAN, thresholds=(replace(THRESHOLD, outside=2, among=3),))
    watch, step = received(Watch(patient="p"), 250, 100, 100, plan=calm)
    assert not step.changes
    watch, step = received(watch, 250, 100, 250, plan=calm)
    assert len(step.changes) == 1


def test_an_old_value_and_one_outside_the_plan_alert_nobody() -> None:
    step = evaluation(Watch(patient="p"), replace(PLAN, start=AT))
    step.received([reading(250, -1)])
    assert not step.changes
    step = evaluation(Watch(patient="p"))
    step.received([reading(250, -8 * 24 * 60)])
    assert not step.changes


@pytest.mark.parametrize(
    ("attending", "minutes", "tier"),
    [(True, 29, 0), (True, 30, 1), (True, 89, 1), (True, 90, 2), (True, 9000, 2), (False, 30, 2), (False, 9000, 2)],
)
def test_it_goes_to_the_next_who_is_known(attending: bool, minutes: int, tier: int) -> None:
    raised = evaluation(Watch(patient="p"), attending=attending)
    raised.received([reading(250)])
    step = evaluation(raised.result(wakes_at=None), at=AT + timedelta(minutes=minutes), attending=attending)
    step.judged([], [])
    (concern,) = step.concerns.values()
    assert concern.alert is not None
    assert concern.alert.tier == tier
    assert (concern.alert.escalates_at is None) is (tier == 2)


def watched(
    plan: Plan, moments: list[datetime], sightings: list[Sighting]
) -> list[tuple[AlertKind, int, Ending | None]]:
    """What comes of looking at these moments: every alert as it stands in the end."""
    watch = Watch(patient="p")
    alerts: dict[str, tuple[AlertKind, int, Ending | None]] = {}
    for at in moments:
        step = evaluation(watch, plan, at=at)
        step.judged([each for each in sightings if each.at <= at], [])
        watch = step.result(wakes_at=step.next_wake([]))
        alerts |= {task: (each.after.kind, each.after.count, each.ended) for task, each in step.changes.items()}
    return list(alerts.values())


MORNING = datetime(2026, 3, 3, 7, tzinfo=UTC)  # eight in Paris


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([], [(AlertKind.MISSED_MEASUREMENT, 3, None)]),
        ([0, 1440, 2880], []),
        ([-120, 1440 + 119, 2880], []),  # early, late
        ([1440, 2880], [(AlertKind.MISSED_MEASUREMENT, 1, Ending.MEASURED)]),  # the next one is good news of the last
        ([0, 1440], [(AlertKind.MISSED_MEASUREMENT, 1, None)]),
        ([0, 121, 2880], [(AlertKind.MISSED_MEASUREMENT, 1, Ending.MEASURED)]),
    ],
)
def test_what_is_measured_every_morning(seen: list[int], expected: list[tuple[AlertKind, int, Ending | None]]) -> None:
    plan = replace(PLAN, thresholds=(), expectations=(DAILY,))
    sightings = [Sighting(measure="glucose", at=MORNING + timedelta(minutes=each)) for each in seen]
    moments = [AT + timedelta(minutes=5 * number) for number in range(3 * 288 + 6)]
    found = watched(plan, moments, sightings)
    assert found == expected
    # However seldom one looks, what was missed is the same number of mornings.
    if not seen:
        assert watched(plan, [AT, moments[-1]], sightings) == expected


@given(st.lists(st.integers(0, 4 * 1440), max_size=8), st.lists(st.integers(1, 4 * 1440), max_size=12))
def test_looking_twice_or_more_often_says_nothing_new(seen: list[int], looked: list[int]) -> None:
    plan = replace(PLAN, thresholds=(), expectations=(DAILY,))
    sightings = [Sighting(measure="glucose", at=AT + timedelta(minutes=each)) for each in seen]
    moments = [AT, *(AT + timedelta(minutes=each) for each in sorted(looked))]
    doubled = [each for moment in moments for each in (moment, moment)]
    assert watched(plan, moments, sightings) == watched(plan, doubled, sightings)


def test_nothing_is_expected_from_before_it_was_known_nor_after_the_plan() -> None:
    plan = replace(PLAN, thresholds=(), expectations=(DAILY,), start=AT - timedelta(days=9), end=AT + timedelta(days=1))
    assert watched(plan, [AT], []) == []
    assert watched(plan, [AT, AT + timedelta(days=5)], []) == [(AlertKind.MISSED_MEASUREMENT, 1, None)]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([VisitState.EXPECTED], None),
        ([VisitState.EXPECTED, VisitState.TOOK_PLACE], Ending.VISITED),
        ([VisitState.EXPECTED, VisitState.CALLED_OFF], Ending.NOT_EXPECTED),
    ],
)
def test_a_visit_that_nobody_made(states: list[VisitState], expected: Ending | None) -> None:
    watch = Watch(patient="p")
    ended: dict[str, tuple[AlertKind, Ending | None]] = {}
    for state in states:
        visit = Visit(patient="p", reference="Appointment/a", deadline=AT - timedelta(minutes=1), state=state)
        for _ in range(2):
            step = evaluation(watch)
            step.judged([], [visit])
            watch = step.result(wakes_at=None)
            ended |= {task: (each.after.kind, each.ended) for task, each in step.changes.items()}
    assert list(ended.values()) == [(AlertKind.MISSED_VISIT, expected)]


def test_a_visit_that_was_answered_for_is_not_missed_again_until_it_is_moved() -> None:
    visit = Visit(patient="p", reference="Encounter/e", deadline=AT, state=VisitState.EXPECTED)
    step = evaluation(Watch(patient="p"))
    step.judged([], [visit])
    (alert,) = step.changes
    watch = step.result(wakes_at=None).answered(alert)
    again = evaluation(watch, at=AT + timedelta(hours=1))
    again.judged([], [visit])
    assert not again.changes
    moved = evaluation(watch, at=AT + timedelta(days=2))
    moved.judged([], [replace(visit, deadline=AT + timedelta(days=1))])
    assert len(moved.changes) == 1


def test_a_visit_long_ago_that_nobody_answered_for_stays() -> None:
    visit = Visit(patient="p", reference="Encounter/e", deadline=AT, state=VisitState.EXPECTED)
    step = evaluation(Watch(patient="p"))
    step.judged([], [visit])
    watch = step.result(wakes_at=None)
    for days, expected in ((1, [Ending.NOT_EXPECTED]), (30, [])):  # deleted; too long ago to be looked at
        later = evaluation(watch, at=AT + timedelta(days=days))
        later.judged([], [])
        assert [each.ended for each in later.changes.values() if each.ended] == expected


def test_a_plan_that_is_gone_takes_its_alerts_along() -> None:
    watch, _ = received(Watch(patient="p"), 250)
    step = evaluation(watch, replace(PLAN, thresholds=()))
    step.judged([], [])
    assert [each.ended for each in step.changes.values()] == [Ending.NOT_EXPECTED]
    assert step.result(wakes_at=None).concerns == ()


@given(st.lists(st.lists(st.booleans(), max_size=6), max_size=12), st.integers(1, 4))
def test_batches_make_what_the_values_make_one_by_one(batches: list[list[bool]], back: int) -> None:
    """However values are cut into batches: the alerts are those of the simplest model."""
    plan = replace(PLAN, thresholds=(replace(THRESHOLD, back=back),))
    watch, number = Watch(patient="p"), 0
    alerts: dict[str, list[object]] = {}
    model: list[list[object]] = []
    run = 0
    for batch in batches:
        step = evaluation(watch, plan)
        values = []
        for is_outside in batch:
            number += 1
            values.append(reading(250 if is_outside else 100, number / 100))
            is_open = bool(model) and model[-1][1] is None
            if is_outside and is_open:
                model[-1][0] = int(str(model[-1][0])) + 1
                run = 0
            elif is_outside:
                model.append([1, None])
                run = 0
            elif is_open:
                run += 1
                if run == back:
                    model[-1][1] = Ending.BACK_IN_RANGE
        step.received(values[::-1])
        watch = step.result(wakes_at=None)
        watch = replace(watch, concerns=concerns_of(watch_to_map(watch)))
        alerts |= {task: [each.after.count, each.ended] for task, each in step.changes.items()}
    assert list(alerts.values()) == model


def test_the_data_name_measures_that_there_are() -> None:
    for row in observations().values():
        for name in row.measures:
            held = measure(name)
            assert held.low < held.high
            assert Decimal(1) in held.factors.values()
    assert measure("glucose").converted(Decimal("5.5"), "mmol/L") == Decimal("99.10010")
    assert measure("glucose").converted(Decimal("1.1"), "g/L") == Decimal("110.0")
    assert measure("glucose").converted(Decimal(1), "kg") is None
    assert VISIT not in {name for row in observations().values() for name in row.measures}
