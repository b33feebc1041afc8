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
from passerelle.access import Touched
from passerelle.audit.model import audit_of
from passerelle.fhir import json as fhir_json
from passerelle.fhir.prescriptions import tasks
from passerelle.prescriptions import history
from passerelle.prescriptions.model import ClaimChange, Outcome, PrescriptionCreated, Supplied
from tests.journeys.test_crashes import Crash, crashing
from tests.prescribing import PRACTICE, Region, code_of, refused, region, request
from tests.prescription_commands import COMMANDS, Command, Subject, key
from tests.quick_moto import item_twin
from tests.unit.test_prescription_matrix import CASES, Case, call, prescription_of

_ACCOUNT, _REGION = "123456789012", "eu-west-3"
State = dict[str, dict[Any, dict[Any, Any]]]


@pytest.fixture(scope="module")
def there() -> Iterator[Region]:
    with region() as made:
        yield made


@pytest.fixture
def here(there: Region) -> Iterator[Region]:
    """With nothing of the tests before: what is compared is all that is stored."""
    empty = saved()
    yield there
    restore(empty)


def tables() -> dict[str, Any]:
    found: dict[str, Any] = dynamodb_backends[_ACCOUNT][_REGION].tables
    return found


def saved() -> State:
    """All that is stored, apart from what goes on being written."""
    return {
        name: {pk: {sk: item_twin(item) for sk, item in kept.items()} for pk, kept in table.items.items()}
        for name, table in tables().items()
    }


def restore(state: State) -> None:
    for name, table in tables().items():
        table.items.clear()
        for pk, kept in state[name].items():
            table.items[pk] = {sk: item_twin(item) for sk, item in kept.items()}


Items = dict[tuple[str, str, str], Any]


def everything() -> Items:
    """Every item by its place, but for the audit trail, which records each attempt."""
    return {
        (name, pk.value, sk.value): item.to_json()["Attributes"]
        for name, table in tables().items()
        if name != wiring.table_names().audit
        for pk, kept in table.items.items()
        for sk, item in kept.items()
    }


def crash_everywhere(
    make: Callable[[], object], restart: Callable[[], None], look: Callable[[bool, int], None]
) -> None:
    """End the process before the first call and after each one; `look` sees what is left, and repeats the command.

    It is told whether the commit was made, and how many items there are where nobody crashes.
    """
    done = []
    with crashing() as crashes:
        for _ in range(2):  # keys are fetched by the first
            restart()
            crashes.calls = 0
            make()
        total, items = crashes.calls, len(everything())
        assert total >= 2  # what is there, and the commit
        restart()
        before = everything()
        at = shorter = 0
        while not any(done):
            restart()
            crashes.calls, crashes.at, crashes.is_done = 0, max(at, 1), at > 0
            try:
                make()
            except Crash:
                crashes.at = None
                done.append(everything() != before)
                look(done[-1], items)
                at += 1
            else:  # reads at once share a key that one of them fetches, now and then: there were fewer calls
                crashes.at, at, shorter = None, crashes.calls, shorter + 1
                assert shorter < 10
    assert done[-1]  # the commit is the last call
    assert len(done) > total - 4  # every call had its turn, but for keys that were shared


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_is_made_once_wherever_the_process_ended(here: Region, command: Command) -> None:
    """Item 4, for every command."""
    on = command.prepare(Subject(here))
    start, id, used = saved(), on.id, key()
    made = operations(id).count(command.operation)

    def restart() -> None:
        restore(start)
        on.id = id

    def look(is_done: bool, items: int) -> None:
        again = command.make(on, used)
        assert again.is_replay is is_done
        after = everything()
        assert len(after) == items
        assert operations(on.id).count(command.operation) == made + 1
        if is_done:
            repeated = command.make(on, used)
            assert (told(repeated), repeated.status) == (told(again), again.status)
            assert everything() == after

    crash_everywhere(lambda: command.make(on, used), restart, look)


def operations(id: str) -> list[str]:
    """What the history of a prescription says was done, if it is unbroken."""
    if not id:
        return []
    found = wiring.prescription_store().find_with_history(id)
    assert found is not None
    prescription, events = found
    assert history.is_unbroken(events, prescription.group.head)
    return [each.operation for each in events]


def told(outcome: Outcome) -> bytes:
    return fhir_json.dumps(tasks.render(outcome))


@pytest.mark.parametrize(
    ("prepare", "states"),
    [(Subject.claimed, "R"), (Subject.issued, "X"), (Subject.drafted, "E"), (Subject.ready, "C")],
    ids=["lapsed lease", "ended validity", "abandoned draft", "reminder"],
)
def test_what_the_exchange_does_by_itself_is_done_once(
    here: Region, prepare: Callable[[Subject], Subject], states: str
) -> None:
    """Item 4, for the sweeps and reminders: what is due comes again until it is done."""
    on = prepare(Subject(here))

    def is_reached() -> bool:
        return "".join(line.state for line in here.stored(on.id).lines) == states

    while True:
        start, hour = saved(), on.woken()
        on.attended(hour)
        if is_reached():
            break

    def look(_: bool, items: int) -> None:
        on.attended(hour)
        once = everything()
        on.attended(hour)
        assert everything() == once
        assert len(once) == items
        assert is_reached()
        assert operations(on.id)
        assert on.id not in on.wakes.due(hour)

    crash_everywhere(lambda: on.attended(hour), lambda: restore(start), look)


# --- refusals -------------------------------------------------------------------------------------------------------

_REFUSED = {case.row.id: case for case in reversed(CASES) if case.cell.error is not None and case.row.id != "withdraw"}


@pytest.mark.parametrize("case", list(_REFUSED.values()), ids=str)
def test_a_refusal_leaves_every_item_as_it_was(here: Region, case: Case) -> None:
    """A sample of the matrix on DynamoDB: one refusal of each row that has one."""
    found = prescription_of(here.patient, case)
    id = found.group.id
    made = [PrescriptionCreated(prescription=found)]
    made += [ClaimChange(prescription=id, claim=each) for each in found.claims]  # type: ignore[misc]
    made += [Supplied(prescription=id, entry=each) for each in found.ledger]  # type: ignore[misc]
    wiring.journal().commit([*made, *audit_of(request(PRACTICE, "seed"), Touched.of([here.patient]))])
    assert here.stored(id) == found
    before = everything()
    error = refused(call, here, case, id)
    assert (error.status, code_of(error)) == (case.cell.http, case.cell.error)
    assert everything() == before
