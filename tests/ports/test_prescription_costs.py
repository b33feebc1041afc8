"""What commands on a prescription cost (contract, section 8): one round of reads, and one transaction.

Who reads this to find out why a number changed: docs/prescriptions.md has the same table.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import pytest

from passerelle import wiring
from passerelle.aws.dynamodb import MAX_ACTIONS, Meter, in_parallel, measure
from passerelle.fhir.prescriptions.issues import FhirIssues
from passerelle.fhir.prescriptions.treatments import RecordCircumstances
from passerelle.prescriptions.checking import Checks, reasons
from passerelle.prescriptions.commands import Target
from passerelle.prescriptions.model import Override, Signature
from passerelle.prescriptions.numbers import digest
from tests.medicines import content, small_base
from tests.prescribing import AT, PRACTICE, Region, medication_request, region, request, sign
from tests.prescription_commands import COMMANDS, Command, Subject, key


@dataclass(frozen=True)
class Cost:
    """Round trips, actions of the transaction, write units at most; `of_twenty` are the actions for twenty lines."""

    round_trips: int
    actions: int
    write_units: int
    of_twenty: int | None = None


# One round more: which prescription a number or a supply is of; whom the token of a patient is for.
WITH_ANOTHER_READ = {"$accept by number", "$withdraw", "$route", "$request-renewal"}

COSTS: dict[str, Cost] = {
    "$create": Cost(2, 10, 26, 29),
    "$activate": Cost(2, 12, 32, 88),
    "$route": Cost(3, 5, 16),
    "$accept": Cost(2, 13, 32, 51),
    "$accept by number": Cost(3, 13, 32),
    "$accept recover": Cost(2, 7, 20),
    "$extend-lease": Cost(2, 8, 22, 27),
    "$reject": Cost(2, 10, 26, 48),
    "$decline": Cost(2, 13, 32),
    "$dispense part": Cost(2, 11, 28),
    "$dispense": Cost(2, 16, 38),
    "$withdraw": Cost(3, 10, 26),
    "$cancel": Cost(2, 11, 28, 87),
    "$cancel while claimed": Cost(2, 11, 28, 87),
    "$request-renewal": Cost(3, 13, 32),
    "$respond-renewal": Cost(2, 20, 46),
    "$request-change": Cost(2, 11, 28),
    "$respond-change": Cost(2, 14, 40),
    "$report-late-supply": Cost(2, 15, 36),
}
"""Of what is about one line, or the prescription as a whole, the actions are the same however many lines there are."""


@pytest.fixture(scope="module")
def here() -> Iterator[Region]:
    with region() as made:
        yield made


@contextmanager
def metered() -> Iterator[tuple[Meter, list[int]]]:
    """What is spent, and of how many actions each transaction is."""
    actions: list[int] = []

    def seen(params: Any, **_: Any) -> None:
        actions.append(len(params["TransactItems"]))

    events, name = wiring.aws("dynamodb").meta.events, "provide-client-params.dynamodb.TransactWriteItems"
    events.register(name, seen)
    try:
        with measure() as spent:
            yield spent, actions
    finally:
        events.unregister(name, seen)


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_is_one_round_of_reads_and_one_transaction(here: Region, command: Command) -> None:
    cost = COSTS[command.name]
    on = command.prepare(Subject(here))
    with metered() as (spent, actions):
        command.make(on, key())
    assert (spent.round_trips, actions) == (cost.round_trips, [cost.actions])
    assert cost.round_trips == 2 + (command.name in WITH_ANOTHER_READ)  # reads, and the transaction
    assert spent.write_units <= cost.write_units
    assert not any(call.startswith(("Put", "Update", "Delete", "BatchWrite")) for call in spent.calls)


@pytest.mark.parametrize("command", [each for each in COMMANDS if COSTS[each.name].of_twenty], ids=str)
def test_twenty_lines_are_one_transaction_too(here: Region, command: Command) -> None:
    on = command.prepare(Subject(here, lines=20))
    with metered() as (spent, actions):
        command.make(on, key())
    assert (spent.round_trips, actions) == (COSTS[command.name].round_trips, [COSTS[command.name].of_twenty])
    assert actions[0] <= MAX_ACTIONS


def test_what_does_not_fit_a_transaction_is_seen_all_at_once(here: Region) -> None:
    """Twenty lines declined are twenty MedicationDispenses: staged, as any commit that is too large."""
    on = Subject(here, lines=20).claimed()
    with metered() as (_, actions):
        done = here.decline(on.id, on.secret, "patient-refused", closes=True)
    assert len(actions) > 1
    assert {line.state for line in done.prescription.lines} == {"N"}
    assert here.stored(on.id).lines == done.prescription.lines


def test_every_command_has_its_cost() -> None:
    assert list(COSTS) == [each.name for each in COMMANDS]


def test_twenty_lines_with_ten_overrides_are_signed_all_or_none(here: Region) -> None:
    """All that the small base knows, prescribed at once: plenty to answer for, and too much for one transaction."""
    read = RecordCircumstances(store=wiring.record_store(), gate=wiring.gate(), in_parallel=in_parallel)
    checks = Checks(knowledge=small_base(), circumstances=read, issues=FhirIssues(), blind=digest)
    finding = copy(here.service)
    finding.checks = checks
    there = replace(here, service=finding)
    names = [each["label"] for each in content()["substances"].values()]
    id = there.create(*[medicine(here, name) for name in names]).prescription.group.id
    asked, target = request(PRACTICE, "$prepare", key=None), Target.of(id)
    checked = checks.of_lines(here.stored(id), finding.known_of(asked, target)(), new=range(1, 21))
    assert checked is not None
    reason = next(each.code for each in reasons().values() if "prescriber" in each.by)
    overrides = tuple(Override(finding=each.id, reason=reason) for each in checked.concerns[:10])
    assert (len(names), len(overrides)) == (20, 10)
    prepared = finding.prepare(asked, target, overrides)
    signed = Signature(jws=sign(prepared.content), signed_on=AT.date(), overrides=overrides, digest=prepared.digest)
    with metered() as (_, actions):
        done = finding.activate(request(PRACTICE, "$activate"), target, signed)
    assert {line.state for line in done.prescription.lines} == {"R"}
    assert len(actions) == 3  # staged, flipped, settled
    assert max(actions) <= MAX_ACTIONS


def medicine(here: Region, name: str) -> dict[str, Any]:
    coding = {"system": "urn:oid:2.999.7", "code": name.casefold()}
    return medication_request(here.patient, medicationCodeableConcept={"coding": [coding], "text": name})
