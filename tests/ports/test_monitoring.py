"""Monitoring on DynamoDB: crashes at every write, histories beside a model, what it costs, and who waits for whom."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from passerelle import wiring
from passerelle.aws.dynamodb import measure
from passerelle.aws.monitoring import DynamoAllowance
from passerelle.journal import Change, Journal
from passerelle.monitoring.errors import RateExceededError
from tests import record
from tests.monitored import NOW, Home, activity, exchange, forgotten, raised
from tests.record import Crash, CrashingClient

RUNAWAY, OTHERS = 12, 49


@pytest.fixture(scope="module")
def people() -> Iterator[Callable[[], Home]]:
    with exchange() as moving_in:
        yield moving_in


@pytest.fixture
def home(people: Callable[[], Home]) -> Home:
    forgotten()
    made = people()
    made.clock.at = NOW
    return made


@contextmanager
def crashing(at: int, *, is_done: bool) -> Iterator[None]:
    dynamodb = wiring.dynamodb()
    whole = dynamodb._client
    dynamodb._client = CrashingClient(whole, at, is_done=is_done)
    try:
        yield
    finally:
        dynamodb._client = whole


def crashes(attempt: Callable[[], Any], at: int, *, is_done: bool) -> bool:
    try:
        with crashing(at, is_done=is_done):
            attempt()
    except Crash:
        return True
    return False


@pytest.mark.parametrize("is_done", [False, True])
def test_a_crash_at_any_write_of_a_batch_leaves_nothing_half_done(people: Callable[[], Home], is_done: bool) -> None:
    """Sent again, the same values are there once, with one alert that was told once."""
    at = 0
    while True:
        at += 1
        forgotten()
        home = people()
        home.clock.at = NOW
        home.with_glucose_plan()
        batch = [home.measured(300 + number, number / 60) for number in range(3)]
        crashed = crashes(partial(home.submit, *batch), at, is_done=is_done)
        assert len(home.observations()) in (0, 3)
        assert bool(home.observations()) == bool(home.alerts()) == bool(raised(home))
        home.submit(*batch)
        assert len(home.observations()) == 3
        assert home.stands() == [("threshold", "requested")]
        assert len(raised(home)) == 1
        if not crashed:
            break
    assert at > 2


@pytest.mark.parametrize("is_done", [False, True])
def test_a_crash_at_any_write_of_a_run_is_made_good_by_the_next(people: Callable[[], Home], is_done: bool) -> None:
    at = 0
    while True:
        at += 1
        forgotten()
        home = people()
        home.clock.at = NOW
        home.with_glucose_plan(activity=[activity(timeOfDay=["13:30:00"])])
        home.watch()
        home.submit(home.measured(300, -1))
        home.put_in(home.measured(310))
        home.clock.ahead(hours=6)
        crashed = crashes(home.watch, at, is_done=is_done)
        assert home.watch() == []
        assert home.watch() == []
        assert home.stands() == [("threshold", "requested"), ("missed-measurement", "requested")]
        told = raised(home)
        assert (len(told), len(set(told))) == (3, 2), "one escalated"
        assert home.due() == [f"2026-03-02T15:30:00#{home.patient}"]
        if not crashed:
            break
    assert at > 1


class Interrupted:
    """A journal before whose next commit something else happens."""

    def __init__(self, journal: Journal, meanwhile: Callable[[], object]) -> None:
        self._journal, self._meanwhile = journal, [meanwhile]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def commit(self, changes: Sequence[Change]) -> None:
        if self._meanwhile:
            self._meanwhile.pop()()
        self._journal.commit(changes)


@contextmanager
def interrupted(service: Any, meanwhile: Callable[[], object]) -> Iterator[None]:
    whole = service._journal
    service._journal = Interrupted(whole, meanwhile)
    try:
        yield
    finally:
        service._journal = whole


def test_two_batches_at_once_are_one_after_the_other(home: Home) -> None:
    home.with_glucose_plan()
    shared, other = home.measured(300), home.measured(301, 1)
    with interrupted(wiring.measuring_service(), lambda: home.submit(shared, other)):
        assert home.submit(shared, home.measured(302, 2)).statuses == [200, 201]
    assert len(home.observations()) == 3
    assert stands(home) == [["requested", 3, 1]]


def test_an_answer_between_two_steps_of_a_run_is_not_escalated(home: Home) -> None:
    home.with_glucose_plan()
    home.submit(home.measured(300))
    (task,) = home.alerts()
    home.clock.ahead(minutes=31)
    with interrupted(wiring.watch().watching, lambda: home.call("POST", f"Task/{task['id']}/$acknowledge")):
        assert home.watch() == []
    assert stands(home) == [["accepted", 1, 1]]


def test_an_answer_after_a_value_that_came_between(home: Home) -> None:
    home.with_glucose_plan()
    home.submit(home.measured(300))
    (task,) = home.alerts()
    with interrupted(wiring.answering_service(), lambda: home.submit(home.measured(300, 1))):
        assert home.call("POST", f"Task/{task['id']}/$acknowledge").status == 200
    assert stands(home) == [["accepted", 2, 1]]


# --- histories ------------------------------------------------------------------------------------------------------


@dataclass
class Model:
    """Alerts of one range, as simply as they can be told. Half an hour without an answer, and the last has it."""

    alerts: list[list[Any]] = field(default_factory=list)  # status, count, told
    raised_at: datetime | None = None
    run: int = 0
    waiting: list[tuple[datetime, float]] = field(default_factory=list)

    def take(self, values: Sequence[tuple[datetime, float]], at: datetime) -> None:
        for _, value in sorted(values):
            is_open = bool(self.alerts) and self.alerts[-1][0] == "requested"
            if value > 180 and is_open:
                self.alerts[-1][1] += 1
                self.run = 0
            elif value > 180:
                self.alerts.append(["requested", 1, 1])
                self.raised_at, self.run = at, 0
            elif is_open:
                self.run += 1
                if self.run == 3:
                    self.alerts[-1][0] = "cancelled"

    def tick(self, at: datetime) -> None:
        self.take(self.waiting, at)
        self.waiting = []
        is_due = self.raised_at is not None and self.raised_at + timedelta(minutes=30) <= at
        if self.alerts and self.alerts[-1][0] == "requested" and is_due and self.alerts[-1][2] == 1:
            self.alerts[-1][2] = 2


def stands(home: Home) -> list[list[Any]]:
    told = raised(home)
    return sorted(
        [task["status"], task["extension"][0]["extension"][1]["valuePositiveInt"], told.count(f"Task/{task['id']}")]
        for task in home.alerts()
    )


@pytest.mark.parametrize("seed", range(3))
def test_histories_are_what_the_simplest_model_says(home: Home, seed: int) -> None:
    """Batches in any order and twice, values by other ways, answers, runs late, twice and cut off."""
    dice = random.Random(seed)
    home.with_glucose_plan()
    model, minute = Model(), 0
    sent: list[dict[str, Any]] = []
    for _ in range(30):
        match dice.choice(["submit", "submit", "put", "answer", "wait", "watch", "watch", "crash"]):
            case "submit":
                values = []
                for _ in range(dice.randint(1, 4)):
                    minute += 1
                    values.append((home.clock() + timedelta(seconds=minute % 60), dice.choice([100, 110, 300])))
                fresh = [home.measured(value, (at - home.clock()).total_seconds() / 60) for at, value in values]
                batch = [*fresh, *dice.sample(sent, min(len(sent), 2)), fresh[0]]
                dice.shuffle(batch)
                home.submit(*batch)
                sent += fresh
                model.take(values, home.clock())
                home.clock.ahead(minutes=1)
            case "put":
                value = dice.choice([100, 300])
                home.put_in(home.measured(value))
                model.waiting.append((home.clock(), value))
                home.clock.ahead(minutes=1)
            case "answer" if model.alerts and model.alerts[-1][0] == "requested":
                (task,) = [each for each in home.alerts() if each["status"] == "requested"]
                assert home.call("POST", f"Task/{task['id']}/$acknowledge").status == 200
                model.alerts[-1][0] = "accepted"
            case "wait":
                home.clock.ahead(minutes=dice.choice([1, 20, 40]))
            case "watch":
                for _ in range(dice.randint(1, 2)):
                    assert home.watch() == []
                model.tick(home.clock())
            case "crash":
                crashes(home.watch, dice.randint(1, 3), is_done=dice.random() < 0.5)
                assert home.watch() == []
                model.tick(home.clock())
        assert stands(home) == sorted(model.alerts)
    assert model.alerts


# --- costs ----------------------------------------------------------------------------------------------------------


def test_what_a_batch_and_a_run_cost(home: Home) -> None:
    """Who it is, what may be sent, plans with what is stored, their contents, the commit: each needs the one before."""
    home.with_glucose_plan(activity=[activity(timeOfDay=["12:00:00"])])
    home.watch()
    home.submit(home.measured(100, -1))
    with measure() as spent:
        assert home.submit(*(home.measured(100, number / 6) for number in range(20))).statuses == [201] * 20
    assert spent.round_trips == 5, spent.calls
    assert spent.calls.count("TransactWriteItems") == 1
    with measure() as spent:
        home.submit(home.measured(300, 5))
    assert spent.round_trips == 5, spent.calls
    with measure() as spent:
        home.watch()
    assert spent.round_trips == 1, "nothing is due: the beginning of each shard"
    home.clock.ahead(minutes=40)
    with measure() as spent:
        home.watch()
    assert spent.round_trips <= 6, spent.calls


def test_a_runaway_slows_nobody(home: Home, people: Callable[[], Home]) -> None:
    """Fifty people: what the others' calls cost is the same, beside one whose device sends without end."""
    others = [people() for _ in range(OTHERS)]
    for each in others:
        each.with_glucose_plan()

    def spent(each: Home, number: int) -> tuple[tuple[str, ...], float, float]:
        with measure() as meter:
            assert each.submit(each.measured(100, number / 60)).statuses == [201]
        return tuple(meter.calls), meter.read_units, meter.write_units

    first = [spent(each, 1) for each in others]
    batch = [home.measured(100, -number) for number in range(100)]
    answers = [home.submit(*batch).status for _ in range(RUNAWAY)]
    assert (answers.count(200), answers.count(429)) == (6, RUNAWAY - 6)
    home.clock.ahead(seconds=10)
    second = [spent(each, 0) for each in others]
    assert [len(calls) for calls, _, _ in second] == [len(calls) for calls, _, _ in first]
    assert {writes for _, _, writes in first} == {writes for _, _, writes in second}
    with measure() as meter:
        assert home.submit(*batch).status == 429
    assert meter.round_trips <= 4, meter.calls
    assert not [call for call in meter.calls if call in ("Query", "TransactWriteItems")], "and costs next to nothing"


def test_what_may_be_sent_comes_back_by_the_hour(home: Home) -> None:
    """600 at once, then one each six seconds; one refusal is to be recorded until there is room again."""
    allowance = DynamoAllowance(wiring.dynamodb(), wiring.table_names())
    allowance.take("p", 600, NOW)
    firsts = []
    for seconds in (0, 1, 5):
        with pytest.raises(RateExceededError) as refused:
            allowance.take("p", 1, NOW + timedelta(seconds=seconds))
        firsts.append(refused.value.is_first)
        assert refused.value.headers["Retry-After"] == str(6 - seconds)
    assert firsts == [True, False, False]
    allowance.take("p", 1, NOW + timedelta(seconds=6))
    with pytest.raises(RateExceededError):
        allowance.take("p", 1, NOW + timedelta(seconds=7))
    allowance.take("p", 600, NOW + timedelta(hours=2))
    allowance.take("q", 600, NOW)


def test_keys_and_events_tell_nothing_of_what_was_measured(home: Home) -> None:
    home.with_glucose_plan()
    home.submit(home.measured(300))
    home.put_in(home.measured(301, 1))
    mine = [item for item in record.items() if home.patient in item["PK"] + item["SK"]]
    watch = next(item for item in mine if item["PK"].startswith("MON#"))
    assert isinstance(watch["c"], bytes), "what is remembered is sealed"
    for item in mine:
        assert "G-1" not in item["PK"] + item["SK"]
        assert not [value for value in item.values() if value in ("300", "301", 300, 301, "glucose")]


def test_nobody_is_watched_who_was_erased(home: Home) -> None:
    home.with_glucose_plan()
    home.submit(home.measured(300))
    wiring.keyring().destroy(home.patient, NOW)
    home.clock.ahead(hours=1)
    assert wiring.monitor().watches.find([home.patient]) == {}
