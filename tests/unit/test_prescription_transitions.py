"""The interpreter of the transition table, and the guards: complete, disjoint, in the contract's order."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from passerelle.prescriptions import history
from passerelle.prescriptions.errors import CATALOGUE, rx
from passerelle.prescriptions.guards import GUARDS, Situation
from passerelle.prescriptions.model import ClaimRecord, HistoryEvent, Line, Prescription
from passerelle.prescriptions.numbers import digest
from passerelle.prescriptions.transitions import STATES, Transitions
from tests.prescribing import GROUP, LINE

STATUSES = {code: entry.statuses[0] for code, entry in CATALOGUE.items()}
TABLE = Transitions(statuses=STATUSES)
NOW = 1_772_443_800_000
TODAY = date(2026, 3, 2)


def situation(line: Line, claims: tuple[ClaimRecord, ...] = (), **facts: Any) -> Situation:
    prescription = Prescription(group=GROUP, lines=(line,), claims=claims)
    known: dict[str, Any] = {"now": NOW, "today": TODAY, "organisation": "pharmacy-a", **facts}
    return Situation(prescription=prescription, line=line, **known)


def test_every_guard_of_a_served_operation_is_known() -> None:
    asked = {name for row in TABLE.rows for name in (*row.given, *row.requires)}
    asked |= {guard for row in TABLE.rows for cells in row.cells.values() for cell in cells for guard in cell.guards}
    assert asked == TABLE.guards.keys() == GUARDS.keys()


def test_every_code_of_the_table_is_in_the_catalogue() -> None:
    codes = {cell.error for row in TABLE.rows for cells in row.cells.values() for cell in cells if cell.error}
    assert codes | {guard.fails for guard in TABLE.guards.values() if guard.fails} <= CATALOGUE.keys()


@pytest.mark.parametrize("code", CATALOGUE)
def test_a_refusal_has_status_and_issue_of_the_catalogue(code: str) -> None:
    error = rx(code, leaseUntil="2026-03-02")
    assert error.status in CATALOGUE[code].statuses
    assert error.issues[0].code in CATALOGUE[code].issues
    assert error.issues[0].details is not None
    assert error.issues[0].details.code == code
    assert error.issues[0].diagnostics.endswith("(leaseUntil=2026-03-02)")


def test_the_effective_state_applies_each_rule_once_in_order() -> None:
    rules = {
        ("C", True, False): "R",
        ("P", True, False): "O",
        ("Q", True, False): "K",
        ("C", True, True): "X",
        ("P", True, True): "X",
        ("Q", True, True): "K",
        ("R", False, True): "X",
        ("C", False, True): "C",
        ("F", True, True): "F",
        ("D", True, True): "D",
    }
    for (state, lease, validity), expected in rules.items():
        holding = {"lease-over": lease, "validity-over": validity}
        assert TABLE.effective(state, holding.__getitem__) == expected


CLAIM = ClaimRecord(line=1, fence=2, owner="pharmacy-a", secret_hash=digest("a"), taken_at=NOW - 1)
OLDER = ClaimRecord(line=1, fence=1, owner="pharmacy-b", secret_hash=digest("b"), taken_at=NOW - 2)


@pytest.mark.parametrize("lease", [-1, 0, 1])
@pytest.mark.parametrize("state", "CPQ")
@pytest.mark.parametrize(("caller", "secret"), [("pharmacy-a", "a"), ("pharmacy-b", "b")])
def test_exactly_one_variant_applies(state: str, caller: str, secret: str, lease: int) -> None:
    line = replace(
        LINE,
        state=state,
        owner="pharmacy-a",
        secret_hash=digest("a"),
        fence=2,
        lease_until=NOW + lease,
        fills=2,
    )
    line = replace(line, total=180, remaining_total=180)
    for recover, quantity, fill in itertools.product((False, True), (1, 90, 91), (1, 2)):
        facts = situation(
            replace(line, fill_no=fill),
            (OLDER, CLAIM),
            organisation=caller,
            secret=secret,
            recover=recover,
            quantity=quantity,
        )
        for operation in ("$accept", "$dispense", "$reject"):
            rows = [row for row in TABLE.rows_of(operation) if all(map(facts.holds, row.given))]
            assert len(rows) == 1, (operation, [row.id for row in rows])


def test_checks_come_in_the_order_of_the_contract() -> None:
    refusals = ["RX-INVALID", "RX-SECRET", "RX-NOT-CLAIMED", "RX-VERSION"]
    waiting = situation(
        replace(LINE, state="O", fence=2), (replace(CLAIM, ended="given-back"),), secret="a", quantity=1
    )
    known = dict.fromkeys(GUARDS, True) | {"caller-claim-stale": False, "q-above-remaining": False}
    known |= {"q-equals-remaining": False, "positive-quantity": False, "secret-known": False}
    for expected in refusals[:3]:
        cell = TABLE.decide("$dispense", "O", known.__getitem__, is_current=False)
        assert cell.error == expected
        known |= {"RX-INVALID": {"positive-quantity": True}, "RX-SECRET": {"secret-known": True}}.get(expected, {})
    assert TABLE.decide("$dispense", "P", known.__getitem__, is_current=False).error == "RX-VERSION"
    known["substitution-ok"] = False
    assert TABLE.decide("$dispense", "P", known.__getitem__, is_current=False).error == "RX-VERSION"
    assert TABLE.decide("$dispense", "P", known.__getitem__).error == "RX-SUBSTITUTION"
    assert TABLE.decide("$dispense", "O", waiting.holds, is_current=False).error == "RX-NOT-CLAIMED"


def test_what_the_state_refuses_is_not_refused_for_a_rule_of_the_same_step() -> None:
    """409 and 422 of required guards come after the state."""
    unheld = dict.fromkeys(GUARDS, True) | {"below-lease-cap": False, "caller-claim-stale": False}
    assert TABLE.decide("$extend-lease", "R", unheld.__getitem__).error == "RX-NOT-CLAIMED"
    assert TABLE.decide("$extend-lease", "C", unheld.__getitem__).error == "RX-STATE"


def test_a_signature_is_checked_only_when_nothing_before_refuses() -> None:
    def fail() -> bool:
        raise AssertionError("asked")

    active = situation(LINE, roles=frozenset({"prescriber"}), has_valid_signature=fail)
    active = replace(active, organisation=GROUP.practice, professional=GROUP.prescriber)
    assert TABLE.decide("$activate", "R", active.holds).error == "RX-STATE"
    assert TABLE.decide("$activate", "R", situation(LINE, has_valid_signature=fail).holds).error == "RX-ROLE"


@pytest.mark.parametrize("row", TABLE.rows, ids=lambda row: row.id)
def test_every_state_has_a_cell(row: Any) -> None:
    assert row.cells.keys() == STATES.keys()


def test_a_chain_shows_any_change() -> None:
    events: list[HistoryEvent] = []
    head = history.ORIGIN
    for number in range(1, 4):
        event = HistoryEvent(
            prescription=GROUP.id,
            number=number,
            operation="$accept",
            at="2026-03-02T09:00:00+00:00",
            organisation="1990000052",
            professional="810000000052",
            role="pharmacy",
            moves=("1:R>C",),
            bound={"content": "00"},
            salt="00",
            previous=head,
            hash="",
        )
        event = replace(event, hash=history.hash_of(event))
        head = event.hash
        events.append(event)
    assert history.is_unbroken(events, head)
    assert history.is_unbroken([], history.ORIGIN)
    assert not history.is_unbroken(events[:2], head)
    assert not history.is_unbroken(events[1:], head)
    assert not history.is_unbroken([events[1], events[0], events[2]], head)
    changes: list[dict[str, Any]] = [{"moves": ("1:R>K",)}, {"organisation": "x"}, {"at": "y"}, {"professional": None}]
    changes += [{"bound": {}}, {"salt": "01"}]
    for place, changed in itertools.product(range(3), changes):
        forged = [replace(each, **changed) if n == place else each for n, each in enumerate(events)]
        assert not history.is_unbroken(forged, head)
