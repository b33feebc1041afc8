"""What was handed over under a claim that had ended: every cell of its row, and what it leaves behind."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from passerelle.access import Caller
from passerelle.fhir import json as fhir_json
from passerelle.fhir.prescriptions import tasks
from passerelle.fhir.validation import validate
from passerelle.prescriptions import history, reminders
from passerelle.prescriptions.commands import Target, line_task_id
from passerelle.prescriptions.model import Outcome
from passerelle.prescriptions.transitions import STATES, Transitions
from tests.prescribing import (
    AT,
    PATIENT,
    PHARMACY_A,
    PHARMACY_B,
    PRACTICE,
    MemoryExchange,
    Region,
    code_of,
    later,
    refused,
    region_in_memory,
    request,
    supply_of,
)
from tests.unit.test_prescription_requests import HELD, seeded, store_of

ROW = next(row for row in Transitions(statuses={}).rows if row.id == "report-late-supply")
LAPSED = later(hours=3)


@pytest.fixture
def here() -> Region:
    return region_in_memory()


def report(here: Region, id: str, *, caller: Caller, units: int = 45, at: Any = AT, **options: Any) -> Outcome:
    identifier, changes = options.pop("identifier", None), options.pop("changes", None)
    supply = supply_of(units, "none", identifier, changes)  # the claim's secret is not asked for
    asked = request(caller, "$report-late-supply", at=at, **options)
    return here.service.report_late_supply(asked, Target.of(line_task_id(id, 1)), supply)


def cases() -> Iterator[tuple[str, bool, bool, bool]]:
    """State, whether the lease and the validity are over, and whether the claim of the caller is the newest one."""
    for state, is_lapsed, is_expired in itertools.product(STATES, (False, True), (False, True)):
        if (is_lapsed and state not in HELD) or (is_expired and state not in "ROW" + HELD):
            continue
        yield state, is_lapsed, is_expired, False
        yield state, is_lapsed, is_expired, True


@pytest.mark.parametrize(("state", "is_lapsed", "is_expired", "is_newest"), list(cases()))
def test_cell(here: Region, state: str, is_lapsed: bool, is_expired: bool, is_newest: bool) -> None:
    """Contract section 6.3: 202 whatever became of the line; STATE for who could still dispense."""
    id = seeded(here, state, is_lapsed=is_lapsed, is_expired=is_expired)
    caller = PHARMACY_A if is_newest else PHARMACY_B
    effective = {"C": "R", "P": "O", "Q": "K"}.get(state, state) if is_lapsed else state
    effective = {"R": "X", "O": "X", "W": "X"}.get(effective, effective) if is_expired else effective
    is_live_owner = is_newest and state in "CP" and not is_lapsed
    cell = next(each for each in ROW.cells[effective] if not each.guards or is_live_owner)
    before = here.stored(id)
    if cell.error is not None:
        error = refused(report, here, id, caller=caller)
        assert (error.status, code_of(error)) == (cell.http, cell.error)
        assert (here.stored(id), store_of(here).commits) == (before, 0)
        return
    assert report(here, id, caller=caller).status == cell.http == 202
    after = here.stored(id)
    assert (after.lines, after.ledger, after.claims) == (before.lines, before.ledger, before.claims)
    assert [(each.line, each.organisation) for each in after.late] == [(1, caller.organisation)]


def supplied_twice(here: Region) -> str:
    """Pharmacy A claimed and went silent; pharmacy B supplied everything."""
    id, code = here.issued()
    here.accept(id, code)
    secret = here.accept(id, code, caller=PHARMACY_B, at=LAPSED).secret
    here.dispense(id, secret, 90, caller=PHARMACY_B, at=LAPSED)
    return id


def test_the_record_says_that_it_may_be_in_addition(here: Region) -> None:
    id = supplied_twice(here)
    before = here.stored(id)
    body = tasks.render(report(here, id, caller=PHARMACY_A, at=LAPSED))
    validate(fhir_json.loads(fhir_json.dumps(body)))
    dispense, issue = (entry["resource"] for entry in body["entry"][-2:])
    assert dispense["status"] == "completed"
    assert dispense["extension"][-1]["url"].endswith("/StructureDefinition/rx-unreconciled")
    assert (issue["code"]["coding"][0]["code"], issue["severity"]) == ("DUPTHPY", "high")
    line = before.lines[0]
    assert [each["reference"] for each in issue["implicated"]] == [
        f"MedicationRequest/{line.request_id}",
        f"MedicationDispense/{dispense['id']}",
        f"MedicationDispense/{here.last_supply(id)}",
    ]
    assert {key.reference for key in store_of(here).versions} >= {
        f"MedicationDispense/{dispense['id']}",
        f"DetectedIssue/{issue['id']}",
    }
    after = here.stored(id)
    assert (after.lines, after.ledger) == (before.lines, before.ledger)
    events = store_of(here).history[id]
    assert (events[-1].operation, events[-1].moves) == ("$report-late-supply", ("1:late-supply",))
    assert events[-1].bound["late"] == history.sha256(json_of(store_of(here), f"MedicationDispense/{dispense['id']}"))
    assert history.is_unbroken(events, after.group.head)


def json_of(store: MemoryExchange, reference: str) -> str:
    (found,) = [each for key, each in store.versions.items() if key.reference == reference]
    assert found.body is not None
    json.loads(found.body)
    return found.body.decode()


def test_an_identifier_is_used_once_whichever_way_it_was_supplied(here: Region) -> None:
    id, code = here.issued()
    here.accept(id, code)
    assert report(here, id, caller=PHARMACY_A, at=LAPSED, identifier="D-1").status == 202
    again = refused(report, here, id, caller=PHARMACY_A, at=LAPSED, identifier="D-1")
    assert (again.status, code_of(again)) == (409, "RX-DUPLICATE")
    secret = here.accept(id, code, at=LAPSED).secret
    dispensed = refused(here.dispense, id, secret, 1, at=LAPSED, identifier="D-1")
    assert code_of(dispensed) == "RX-DUPLICATE"
    assert here.dispense(id, secret, 1, at=LAPSED, identifier="D-2").status == 200


def test_a_repeated_report_is_one(here: Region) -> None:
    id = supplied_twice(here)
    key = "5b0b7f9c-6a57-4c43-8d66-0f1f2a3b4c5d"
    first, again = (report(here, id, caller=PHARMACY_A, at=LAPSED, key=key) for _ in range(2))
    assert (again.is_replay, again.status, again.resources) == (True, 202, first.resources)
    assert len(here.stored(id).late) == 1


def test_who_never_held_it_and_what_is_no_supply(here: Region) -> None:
    id, code = here.issued()
    assert code_of(refused(report, here, id, caller=PHARMACY_A)) == "RX-NOT-FOUND"
    for by in (PATIENT, PRACTICE):
        assert code_of(refused(report, here, id, caller=by)) == "RX-ROLE"
    here.accept(id, code)
    assert code_of(refused(report, here, id, caller=PHARMACY_A)) == "RX-STATE"
    assert code_of(refused(report, here, id, caller=PHARMACY_A, at=LAPSED, units=0)) == "RX-INVALID"
    elsewhere = {"subject": {"reference": "Patient/0000000000000000"}}
    assert code_of(refused(report, here, id, caller=PHARMACY_A, at=LAPSED, changes=elsewhere)) == "RX-INVALID"


def test_all_concerned_are_told_without_a_word_about_the_medicine(here: Region) -> None:
    """Contract section 8: both pharmacies, the prescriber and the patient."""
    id = supplied_twice(here)
    report(here, id, caller=PHARMACY_A, at=LAPSED)
    told = [each for each in reminders.due(here.stored(id), later(hours=6)) if each.kind == "late-supply"]
    assert {(each.to, each.organisation) for each in told} == {
        ("patient", ""),
        ("practice", PRACTICE.organisation),
        ("pharmacy", PHARMACY_A.organisation),
        ("pharmacy", PHARMACY_B.organisation),
    }
