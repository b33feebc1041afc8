"""What is read of prescriptions, where storage is not as it should be, and the lists that commands keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from passerelle.access import Caller
from passerelle.directory.model import Role
from passerelle.prescriptions import worklists
from passerelle.prescriptions.commands import Target
from passerelle.prescriptions.model import Chain, Concern, HistoryEvent, Prescription
from tests.prescribing import (
    GROUP,
    LINE,
    PATIENT,
    PHARMACY_A,
    PHARMACY_B,
    PRACTICE,
    MemoryExchange,
    Region,
    code_of,
    refused,
    region_in_memory,
    request,
)


def chain(region: Region, id: str, caller: Caller = PATIENT) -> Chain:
    return region.service.chain(request(caller, "$history"), Target.of(id))


def store(region: Region) -> MemoryExchange:
    assert isinstance(region.store, MemoryExchange)
    return region.store


def test_a_history_that_was_changed_in_storage_is_shown_as_broken() -> None:
    region = region_in_memory()
    id, _ = region.issued()
    assert chain(region, id).is_unbroken
    events = store(region).history[id]
    events[0] = replace(events[0], at="2020-01-01T00:00:00+00:00")
    assert not chain(region, id).is_unbroken
    assert len(chain(region, id).events) == 2


def test_a_change_that_commits_while_a_history_is_read_is_no_break(monkeypatch: pytest.MonkeyPatch) -> None:
    region = region_in_memory()
    id, code = region.issued()
    whole, reads = store(region).find_with_history, 0

    def overtaken(id: str) -> tuple[Prescription, Sequence[HistoryEvent]] | None:
        """The first time, the event of a claim is not seen yet, though the head is that of the claim."""
        nonlocal reads
        reads += 1
        found = whole(id)
        assert found is not None
        return (found[0], found[1][:-1]) if reads == 1 else found

    region.accept(id, code)
    monkeypatch.setattr(store(region), "find_with_history", overtaken)
    found = chain(region, id)
    assert (found.is_unbroken, len(found.events), reads) == (True, 3, 2)


def test_row_history_a_representative_reads_it_a_pharmacy_to_come_does_not() -> None:
    region = region_in_memory()
    id, _ = region.issued()
    region.route(id, PHARMACY_A.organisation)
    assert chain(region, id, replace(PATIENT, role=Role.REPRESENTATIVE)).is_unbroken
    assert code_of(refused(chain, region, id, PHARMACY_A)) == "RX-NOT-FOUND"
    region.accept(id, None)
    assert chain(region, id, PHARMACY_A).masked == frozenset()


def prescription(states: str, *, routed_to: str | None = None, owner: str | None = None) -> Prescription:
    lines = tuple(
        replace(LINE, number=number, state=state, owner=owner if state in "CPQ" else None)
        for number, state in enumerate(states, 1)
    )
    return Prescription(group=replace(GROUP, routed_to=routed_to), lines=lines)


@pytest.mark.parametrize(
    ("states", "expected"),
    [("DD", {"practice"}), ("RR", {"b"}), ("RC", {"a", "b"}), ("FC", {"a", "b"}), ("FK", set()), ("XN", set())],
)
def test_a_prescription_is_on_the_lists_of_who_has_something_to_do(states: str, expected: set[str]) -> None:
    organisations = {"practice": PRACTICE, "a": PHARMACY_A, "b": PHARMACY_B}
    made = prescription(states, routed_to=PHARMACY_B.organisation, owner=PHARMACY_A.organisation)
    assert worklists.concerned(made) == {organisations[each].organisation for each in expected}


def test_a_command_changes_the_lists_only_where_they_differ() -> None:
    free, held = prescription("R"), prescription("C", owner=PHARMACY_A.organisation)
    assert worklists.changes(held, held) == ()
    (taken,), (left,) = worklists.changes(free, held), worklists.changes(held, free)
    entry = Concern(prescription=GROUP.id, organisation=PHARMACY_A.organisation, is_concerned=True)
    assert (taken, left) == (entry, replace(entry, is_concerned=False))
