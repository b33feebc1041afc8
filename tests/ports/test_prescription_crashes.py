"""The process may end at any AWS call of a command on a prescription (contract, sections 9 and 19, item 4).

Before the commit nothing has changed, after it everything has; and the same request again has one effect in all, and
one answer. A refusal leaves every item as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from moto.dynamodb.models import dynamodb_backends

from passerelle import wiring
from passerelle.errors import PasserelleError
from passerelle.fhir import json as fhir_json
from passerelle.fhir.prescriptions import tasks
from passerelle.identifiers import new_ulid
from passerelle.journal import Announcement
from passerelle.prescriptions import history
from passerelle.prescriptions.model import ClaimChange, Outcome, PrescriptionCreated, Supplied
from passerelle.prescriptions.reminders import hour_of
from tests.journeys.test_crashes import Crash, Crashes, crashing
from tests.prescribing import AT, PRACTICE, Region, code_of, later, region, request
from tests.prescription_commands import COMMANDS, Command, Subject, key
from tests.quick_moto import _item
from tests.unit.test_prescription_matrix import CASES, Case, call, dispense_versions, prescription_of

_ACCOUNT, _REGION = "123456789012", "eu-west-3"
State = dict[str, dict[Any, dict[Any, Any]]]


@pytest.fixture(scope="module")
def here() -> Iterator[Region]:
    with region() as made:
        yield made


def tables() -> dict[str, Any]:
    found: dict[str, Any] = dynamodb_backends[_ACCOUNT][_REGION].tables
    return found


def saved() -> State:
    """All that is stored, apart from what goes on being written."""
    return {
        name: {pk: {sk: _item(item) for sk, item in kept.items()} for pk, kept in table.items.items()}
        for name, table in tables().items()
    }


def restore(state: State) -> None:
    for name, table in tables().items():
        table.items.clear()
        for pk, kept in state[name].items():
            table.items[pk] = {sk: _item(item) for sk, item in kept.items()}


def shown(state: State, *, without: tuple[str, ...] = ()) -> dict[tuple[str, str, str], Any]:
    """Every item by its place; `without` are tables that record each attempt, also one that is refused."""
    return {
        (name, pk.value, sk.value): item.to_json()["Attributes"]
        for name, partitions in state.items()
        if name not in without
        for pk, kept in partitions.items()
        for sk, item in kept.items()
    }


def everything() -> dict[tuple[str, str, str], Any]:
    return shown(saved(), without=(wiring.table_names().audit,))


def crash_everywhere(make: Callable[[], object], restart: Callable[[], None], look: Callable[[bool], None]) -> int:
    """End the process before the first call and after each one; `look` sees what is left, and repeats the command.

    It is told whether the commit was made. How many calls there are.
    """
    with crashing() as crashes:
        for _ in range(2):  # keys are fetched by the first
            restart()
            crashes.calls = 0
            make()
        total = crashes.calls
        for at in range(total + 1):
            restart()
            before = everything()
            crashes.calls, crashes.at, crashes.is_done = 0, max(at, 1), at > 0
            with pytest.raises(Crash):
                make()
            crashes.at = None
            look(everything() != before)
    return total


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_is_made_once_wherever_the_process_ended(here: Region, command: Command) -> None:
    """Item 4, for every command."""
    on = command.prepare(Subject(here))
    start, id, used = saved(), on.id, key()

    def restart() -> None:
        restore(start)
        on.id = id

    committed = []

    def look(is_done: bool) -> None:
        committed.append(is_done)
        again = command.make(on, used)
        assert again.is_replay is is_done
        after = everything()
        for _ in range(2):
            repeated = command.make(on, used)
            assert repeated.is_replay
            assert (told(repeated), repeated.status) == (told(again), again.status)
        assert everything() == after
        stored = here.stored(on.id)
        events = wiring.prescription_store().history(on.id)
        assert history.is_unbroken(events, stored.group.head)
        name = command.name.partition(" ")[0]
        assert [each.operation for each in events].count(name) == made_before(start, id, name) + 1

    total = crash_everywhere(lambda: command.make(on, used), restart, look)
    assert committed == sorted(committed)  # what was not done, and then what was
    assert committed.count(True) == 1
    assert total >= 2
    restart()


def told(outcome: Outcome) -> bytes:
    return fhir_json.dumps(tasks.render(outcome))


def made_before(start: State, id: str, name: str) -> int:
    found = (item for (_, pk, sk), item in shown(start).items() if pk == f"RX#{id}" and sk.startswith("EVENT#"))
    return sum(item["operation"]["S"] == name for item in found)


@pytest.mark.parametrize(
    ("prepare", "hours", "states"),
    [
        (Subject.claimed, 24, "R"),
        (Subject.issued, 24 * 120, "X"),
        (Subject.drafted, 24 * 8, "E"),
        (Subject.ready, 0, "C"),
    ],
    ids=["lapsed lease", "ended validity", "abandoned draft", "reminder"],
)
def test_what_the_exchange_does_by_itself_is_done_once(
    here: Region, prepare: Callable[[Subject], Subject], hours: int, states: str
) -> None:
    on = prepare(Subject(here))
    start, hour = saved(), on.woken()
    while here.stored(on.id).group.wakes_at != hour or not is_last(on, hour, states):
        on.attended(hour)
        start, hour = saved(), on.woken()

    def look(is_done: bool) -> None:
        on.attended(hour)
        once = everything()
        on.attended(hour)
        assert everything() == once
        stored = here.stored(on.id)
        assert "".join(line.state for line in stored.lines) == states
        assert history.is_unbroken(wiring.prescription_store().history(on.id), stored.group.head)
        assert (wiring.table_names().clinical, f"DUE#{hour}", on.id) not in once

    assert crash_everywhere(lambda: on.attended(hour), lambda: restore(start), look) >= 2
