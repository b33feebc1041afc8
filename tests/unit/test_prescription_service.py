"""The service over the whole table, and its laws under threads and random commands, on storage in memory."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from passerelle.access import Caller
from passerelle.consents.model import Block
from passerelle.errors import AccessRefused, PasserelleError
from passerelle.identifiers import new_resource_id
from passerelle.prescriptions import history
from passerelle.prescriptions.model import ClaimRecord, Group, Line, Prescription, Signature
from passerelle.prescriptions.numbers import digest, new_number
from passerelle.prescriptions.quantities import MILLIONTHS
from passerelle.prescriptions.service import Target
from passerelle.prescriptions.transitions import STATES, Row, Transitions
from tests.prescribing import (
    AT,
    EXAMPLES,
    PATIENT,
    PHARMACY_A,
    PHARMACY_B,
    PRACTICE,
    MemoryExchange,
    Region,
    code_of,
    later,
    medication_request,
    refused,
    region_in_memory,
    request,
    sign,
    tried,
)

NOW = int(AT.timestamp() * 1000)
TABLE = Transitions(statuses={})
VECTORS = json.loads((EXAMPLES / "vectors.json").read_text("utf-8"))["vectors"]


@pytest.fixture
def here() -> Region:
    return region_in_memory()


def store_of(here: Region) -> MemoryExchange:
    assert isinstance(here.store, MemoryExchange)
    return here.store


# --- the whole table ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One call on one stored line. `variant` is the row of the table that must answer."""

    variant: str
    state: str
    is_lease_over: bool
    is_validity_over: bool
    operation: str

    def __str__(self) -> str:
        lease = "lapsed" if self.is_lease_over else "live"
        validity = "expired" if self.is_validity_over else "valid"
        return f"{self.variant}-{self.operation}-{self.state}-{lease}-{validity}"

    @property
    def effective(self) -> str:
        """Contract section 6.2, stated again and on its own."""
        state = self.state
        if self.is_lease_over:
            state = {"C": "R", "P": "O", "Q": "K"}.get(state, state)
        return {"R": "X", "O": "X", "W": "X"}.get(state, state) if self.is_validity_over else state

    @property
    def row(self) -> Row:
        return next(each for each in TABLE.rows if each.id == self.variant)


HELD = "CPQ"


def cases() -> Iterator[Case]:
    """Every served row in every state in which it can occur, lease and validity live and over."""
    for state, lease_over, over in itertools.product(STATES, (False, True), (False, True)):
        if (lease_over and state not in HELD) or (over and state not in "ROW" + HELD):
            continue  # there is no claim, or no validity, that could be over
        is_held = state in HELD and not lease_over
        variants = ["prepare", "activate", "cancel-prescriber", "cancel-patient"]
        variants += ["accept-owner", "accept-recover", "accept-other"] if is_held else ["accept-free"]
        if state not in "DE":
            if is_held or state not in HELD:
                variants += ["reject", "dispense-over"]
                variants += [] if state in "FN" else ["dispense-last", "dispense-fill", "dispense-part"]
            variants.append("stale-claim")
        for variant in variants:
            operations = next(row.operations for row in TABLE.rows if row.id == variant)
            for operation in sorted(set(operations) & {"$dispense", "$reject"} or {operations[0]}):
                yield Case(variant, state, lease_over, over, operation)


def seeded(here: Region, case: Case) -> str:
    """Store a prescription with one line in the state of the case; the id of its group."""
    is_held = case.state in HELD
    fills = 2 if case.variant == "dispense-fill" else 1
    line = Line(
        number=1,
        state=case.state,
        version=4,
        request_id=new_resource_id(here.patient, AT),
        request=json.dumps(medication_request(here.patient)),
        request_version=0 if case.state == "D" else 1,
        product="http://data.esante.gouv.fr/ansm/medicament/SpecialitePharmaceutique|61234567",
        unit="comprimé",
        is_substitutable=True,
        is_declared_ordinary=True,
        is_marked_secure=False,
        fills=fills,
        per_fill=10 * MILLIONTHS,
        total=10 * MILLIONTHS * fills,
        units_per_day="1",
        valid_until=None,
        fill_no=1,
        remaining_fill=0 if case.state in "FN" else 10 * MILLIONTHS,
        remaining_total=0 if case.state in "FN" else 10 * MILLIONTHS * fills,
        not_before=date(2026, 3, 2),
        expires_on=date(2026, 3, 2) if case.is_validity_over else date(2026, 6, 2),
        owner=PHARMACY_A.organisation if is_held else None,
        secret_hash=digest("current") if is_held else None,
        fence=0 if case.state in "DE" else 2,
        claimed_at=NOW - 1000 if is_held else 0,
        lease_until=NOW + (-1 if case.is_lease_over else 1) if is_held else 0,
        cancel_requested=case.state in "QK",
        cancelled_by="prescriber" if case.state in "QK" else None,
        cancelled_at=AT.isoformat() if case.state in "QK" else None,
        cancel_reason="prescribing-error" if case.state in "QK" else None,
    )
    group = Group(
        id=new_resource_id(here.patient, AT),
        base_url="https://exchange.example/fhir",
        number=new_number(),
        patient=here.patient,
        prescriber=str(PRACTICE.professional),
        practice=PRACTICE.organisation,
        authored_on=date(2026, 3, 2),
        created_at=AT.isoformat(),
        updated_at=AT.isoformat(),
        code_hash=digest("code"),
        version=4,
        head=history.ORIGIN,
        events=0,
    )
    claims = []
    if case.state not in "DE":
        ended = "" if is_held else "given-back"
        for fence, by, secret, end in ((1, PHARMACY_B, "older", ""), (2, PHARMACY_A, "current", ended)):
            claims.append(
                ClaimRecord(
                    line=1,
                    fence=fence,
                    owner=by.organisation,
                    secret_hash=digest(secret),
                    taken_at=1,
                    ended=end,
                )
            )
    store_of(here).prescriptions[group.id] = Prescription(group=group, lines=(line,), claims=tuple(claims))
    return group.id


def call(here: Region, case: Case, id: str) -> int:
    """Make the call of a case; the status of its success."""
    by: Caller = PHARMACY_A
    secret, units = "current", 10
    match case.variant:
        case "prepare":
            here.service.prepare(request(PRACTICE, "$prepare"), Target.of(id))
            return 200
        case "activate":
            return here.activate(id).status if case.effective == "D" else activated_blindly(here, id)
        case "cancel-prescriber" | "cancel-patient":
            return here.cancel(id, 1, caller=PRACTICE if case.variant == "cancel-prescriber" else PATIENT).status
        case "accept-free" | "accept-other":
            return here.accept(id, "code", 1, caller=PHARMACY_B).status
        case "accept-owner" | "accept-recover":
            return here.accept(id, "code", 1, recover=case.variant == "accept-recover").status
        case "stale-claim":
            is_superseded = not case.is_lease_over
            by, secret = (PHARMACY_B, "older") if is_superseded else (PHARMACY_A, "current")
        case "dispense-part":
            units = 4
        case "dispense-over":
            units = 11
    if case.operation == "$reject":
        return here.reject(id, secret, 1, caller=by).status
    return here.dispense(id, secret, units, caller=by).status


def activated_blindly(here: Region, id: str) -> int:
    signed = Signature(jws=sign("{}"), signed_on=date(2026, 3, 2))
    return here.service.activate(request(PRACTICE, "$activate"), Target.of(id), signed).status


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_cell(here: Region, case: Case) -> None:
    id = seeded(here, case)
    (cell, *_) = case.row.cells[case.effective]
    if cell.error is not None:
        before = here.stored(id)
        error = refused(call, here, case, id)
        assert (error.status, code_of(error)) == (cell.http, cell.error)
        assert (here.stored(id), store_of(here).commits) == (before, 0)
    else:
        assert call(here, case, id) == cell.http
        assert here.stored(id).lines[0].state == cell.next


def test_every_served_cell_that_can_occur_is_a_case() -> None:
    """What is left out: cells with a live claim in a state that has none, which can never be stored."""
    reached = {(case.variant, case.effective) for case in cases()}
    served = {"prepare", "activate", "reject", "stale-claim"}
    served |= {row.id for row in TABLE.rows if row.id.startswith(("accept", "dispense", "cancel"))}
    missing = {
        (row.id, state) for row in TABLE.rows if row.id in served for state in STATES if row.cells[state]
    } - reached
    assert {name for name, _ in missing} <= {
        "accept-free",
        "accept-owner",
        "accept-recover",
        "accept-other",
        "reject",
        "dispense-last",
        "dispense-fill",
        "dispense-part",
        "dispense-over",
    }
    live_only = {("accept-owner", s) for s in "FNKXE"} | {("accept-recover", s) for s in "FNKXE"}
    live_only |= {("accept-other", s) for s in "FNKXE"}
    never_claimed = {(row, s) for row in ("reject", "dispense-over") for s in "DE"}
    nothing_left = {(row, s) for row in ("dispense-last", "dispense-fill", "dispense-part") for s in "DEFN"}
    free_while_held = {("accept-free", s) for s in "CPQ"}
    assert missing == live_only | never_claimed | nothing_left | free_while_held


# --- the ledger -----------------------------------------------------------------------------------------

NEED_WITHDRAW = {"LEDGER-2", "LEDGER-4", "LEDGER-5"}  # `$withdraw` is not served
LEDGERS = [each for each in VECTORS if each["rule"] == "QA-LEDGER" and each["id"] not in NEED_WITHDRAW]


def quantity_order(here: Region, units: int, fills: int = 1) -> dict[str, Any]:
    supply = {"quantity": {"value": units, "unit": "comprimé"}, "numberOfRepeatsAllowed": fills - 1}
    return medication_request(here.patient, dispenseRequest=supply)


@pytest.mark.parametrize("vector", LEDGERS, ids=lambda vector: str(vector["id"]))
def test_ledger_vector(here: Region, vector: dict[str, Any]) -> None:
    given, secret = vector["input"], None
    id, code = here.issued(quantity_order(here, given["authorisedPerFill"], given["fills"]))
    for step, expected in zip(given["steps"], vector["expected"]["steps"], strict=True):
        if step["op"] == "$accept":
            done = tried(partial(here.accept, id, code))
        elif step["op"] == "$reject":
            done = tried(partial(here.reject, id, secret))
        else:
            done = tried(partial(here.dispense, id, secret, step["quantity"]))
        assert done.status == expected["http"]
        if isinstance(done, PasserelleError):
            assert code_of(done) == expected["error"]
        elif done.secret:
            secret = done.secret
        line = here.stored(id).lines[0]
        assert line.state == expected["state"]
        assert line.remaining_fill == expected["remaining"] * MILLIONTHS


def test_ledger_vectors_that_wait_for_withdrawal_use_it() -> None:
    for vector in VECTORS:
        if vector["id"] in NEED_WITHDRAW:
            assert any(step["op"] == "$withdraw" for step in vector["input"]["steps"])


@pytest.mark.parametrize("party", [PHARMACY_A.organisation, PHARMACY_A.professional])
def test_who_is_shut_out_claims_nothing_and_finishes_what_was_claimed(here: Region, party: str) -> None:
    """DMP-3: not even with the code; a patient is not left with half a supply."""
    held, code = here.issued(medication_request(here.patient))
    secret = here.accept(held, code).secret
    other, other_code = here.issued(medication_request(here.patient))
    people = store_of(here).people
    for key, person in people.items():
        blocked = replace(person.policy, blocks=(Block(party=party, since=AT),))
        people[key] = replace(person, records=tuple(replace(each, policy=blocked) for each in person.records))
    assert isinstance(refused(here.accept, other, other_code), AccessRefused)
    assert here.dispense(held, secret, 1).status == 200


def test_the_last_fill_is_what_is_left(here: Region) -> None:
    """Vector TOTAL-1 on a line: 90 units three times in packs of 16 are 6, 6 and 5 packs."""
    id, code = here.issued(quantity_order(here, 96, 3))
    stored = here.stored(id)
    store_of(here).prescriptions[id] = stored.with_line(
        replace(stored.lines[0], total=272 * MILLIONTHS, remaining_total=272 * MILLIONTHS)
    )
    for days, packs in ((0, 6), (60, 6), (120, 5)):
        claimed = here.accept(id, code, at=later(days=days))
        done = here.dispense(id, claimed.secret, packs * 16, at=later(days=days))
        code = done.access_code or code
    assert here.stored(id).lines[0].state == "F"


class Prescriptions(RuleBasedStateMachine):
    """Any commands in any order, right or wrong: the contract's laws hold after each (section 19, test 7)."""

    @initialize(fills=st.integers(1, 3), units=st.integers(1, 12))
    def issue(self, fills: int, units: int) -> None:
        self.here = region_in_memory()
        self.minutes = 0
        request_ = quantity_order(self.here, units, fills)
        self.id, self.code = self.here.issued(request_, request_)
        self.codes = [self.code]
        self.secrets: list[tuple[Caller, str]] = [(PHARMACY_A, "never given")]
        self.ended: dict[int, str] = {}

    def attempt(self, call: Any, *arguments: Any, **options: Any) -> None:
        before, commits = self.here.stored(self.id), store_of(self.here).commits
        done = tried(lambda: call(self.id, *arguments, at=later(minutes=self.minutes), **options))
        if isinstance(done, PasserelleError):
            assert done.status in (400, 403, 404, 409, 410, 422)
            assert (self.here.stored(self.id), store_of(self.here).commits) == (before, commits)
            return
        if done.secret:
            self.secrets.append((options["caller"], done.secret))
        if done.access_code:
            self.codes.append(done.access_code)

    @rule(minutes=st.sampled_from([1, 60, 121, 60 * 24 * 20]))
    def time_passes(self, minutes: int) -> None:
        self.minutes += minutes

    @rule(
        caller=st.sampled_from([PHARMACY_A, PHARMACY_B]),
        lines=st.sampled_from([(), (1,), (2,), (1, 2)]),
        recover=st.booleans(),
        code=st.integers(0, 5),
    )
    def accept(self, caller: Caller, lines: tuple[int, ...], recover: bool, code: int) -> None:
        known = self.codes[-1 - code % len(self.codes)]
        self.attempt(self.here.accept, known, *lines, caller=caller, recover=recover)

    @rule(units=st.integers(0, 13), line=st.integers(1, 2), secret=st.integers(0, 3))
    def dispense(self, units: int, line: int, secret: int) -> None:
        caller, known = self.secrets[-1 - secret % len(self.secrets)]
        self.attempt(self.here.dispense, known, units, line=line, caller=caller)

    @rule(lines=st.sampled_from([(), (1,), (2,)]), secret=st.integers(0, 3))
    def reject(self, lines: tuple[int, ...], secret: int) -> None:
        caller, known = self.secrets[-1 - secret % len(self.secrets)]
        self.attempt(self.here.reject, known, *lines, caller=caller)

    @rule(lines=st.sampled_from([(1,), (2,)]), caller=st.sampled_from([PRACTICE, PATIENT]))
    def cancel(self, lines: tuple[int, ...], caller: Caller) -> None:
        self.attempt(self.here.cancel, *lines, caller=caller)

    @invariant()
    def laws_hold(self) -> None:
        stored = self.here.stored(self.id)
        for line in stored.lines:
            supplied = sum(each.quantity for each in stored.supplies_of(line.number))
            assert supplied + line.remaining_total == line.total
            assert 0 <= line.remaining_fill <= min(line.per_fill, line.remaining_total)
            is_claimed = STATES[line.state].kind == "claimed"
            assert (line.owner is not None) is is_claimed is (line.secret_hash is not None)
            assert (line.lease_until > 0) is is_claimed
            if STATES[line.state].kind in ("terminal", "closed-reopenable"):
                assert self.ended.setdefault(line.number, line.state) == line.state
            assert line.number not in self.ended or self.ended[line.number] == line.state
        events = store_of(self.here).history.get(self.id, [])
        assert history.is_unbroken(events, stored.group.head)
        assert len(events) == stored.group.events


TestLaws = Prescriptions.TestCase
TestLaws.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


# --- races ----------------------------------------------------------------------------------------------


def race(*calls: Any) -> Counter[str]:
    """Make the calls at once; how often each outcome came, by RX code or `ok`."""
    barrier, outcomes = threading.Barrier(len(calls)), Counter[str]()

    def run(call: Any) -> None:
        barrier.wait()
        done = tried(call)
        outcomes[code_of(done) if isinstance(done, PasserelleError) else "ok"] += 1

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


@pytest.mark.parametrize("_", range(20))
def test_of_ten_claimers_one_succeeds(here: Region, _: int) -> None:
    id, code = here.issued()
    pharmacies = [pharmacy(number) for number in range(10)]
    assert race(*(lambda by=by: here.accept(id, code, caller=by) for by in pharmacies)) == {
        "ok": 1,
        "RX-CLAIMED-BY-OTHER": 9,
    }
    assert here.stored(id).lines[0].fence == 1


def pharmacy(number: int) -> Caller:
    return replace(PHARMACY_A, client_id=f"pharmacy-{number}", organisation=f"199000{number:04d}")


@pytest.mark.parametrize("_", range(20))
def test_dispense_against_dispense_and_cancel(here: Region, _: int) -> None:
    id, code = here.issued(quantity_order(here, 10))
    secret = here.accept(id, code).secret
    outcomes = race(lambda: here.dispense(id, secret, 6), lambda: here.dispense(id, secret, 6), lambda: here.cancel(id))
    line = here.stored(id).lines[0]
    assert line.state == "Q"
    assert line.remaining_fill in (4 * MILLIONTHS, 10 * MILLIONTHS)
    assert outcomes["ok"] == (2 if line.remaining_fill == 4 * MILLIONTHS else 1)
    assert outcomes.keys() <= {"ok", "RX-QUANTITY", "RX-CANCEL-PENDING"}
