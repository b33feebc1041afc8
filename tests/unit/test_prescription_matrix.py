"""Every row of the table in every state, with lease and validity live and over (contract, sections 6.3 and 19, item 1).

What a line is stored as, which variant must answer and which of its outcomes, is said here again, apart from the guards
that the service asks. On refusal everything that is stored stays as it was.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta

import pytest

from passerelle.access import Caller
from passerelle.fhir import json as fhir_json
from passerelle.fhir.prescriptions.reminders import FhirMessages
from passerelle.identifiers import new_resource_id
from passerelle.prescriptions import history
from passerelle.prescriptions.commands import Target, line_task_id
from passerelle.prescriptions.model import (
    AskedChange,
    ClaimRecord,
    Group,
    LedgerEntry,
    Line,
    Prescription,
    Signature,
)
from passerelle.prescriptions.numbers import digest, new_number
from passerelle.prescriptions.quantities import MILLIONTHS
from passerelle.prescriptions.reminders import hour_of
from passerelle.prescriptions.sweeping import Sweeping
from passerelle.prescriptions.transitions import STATES, Cell, Row, Transitions
from passerelle.records.model import ResourceKey, StoredVersion
from tests.prescribing import (
    AT,
    PATIENT,
    PHARMACY_A,
    PHARMACY_B,
    PRACTICE,
    MemoryExchange,
    Region,
    code_of,
    example,
    medication_request,
    refused,
    region_in_memory,
    request,
    sign,
    supply_of,
)

NOW = int(AT.timestamp() * 1000)
TODAY = AT.date()
TABLE = Transitions(statuses={})
SWEEPS = ("sweep-lease", "sweep-validity")
HELD, NEVER_SIGNED = "CPQ", "DE"
PER_FILL = 10


@dataclass(frozen=True)
class Case:
    """One call on one stored line, which the row `row` must answer with the outcome number `outcome` of its cell."""

    row: Row
    operation: str
    state: str
    is_lapsed: bool
    is_expired: bool
    outcome: int

    def __str__(self) -> str:
        over = [word for word, is_so in (("lapsed", self.is_lapsed), ("expired", self.is_expired)) if is_so]
        return "-".join([self.row.id, self.operation.strip("$"), self.state, *over, str(self.outcome)])

    @property
    def effective(self) -> str:
        return effective(self.state, is_lapsed=self.is_lapsed, is_expired=self.is_expired)

    @property
    def cell(self) -> Cell:
        return self.row.cells[self.effective][self.outcome]

    @property
    def is_held(self) -> bool:
        return self.state in HELD and not self.is_lapsed

    @property
    def reached(self) -> tuple[str, str, str, int]:
        return self.row.id, self.operation, self.effective, self.outcome


def effective(state: str, *, is_lapsed: bool, is_expired: bool) -> str:
    """Contract section 6.2, stated again and on its own."""
    state = {"C": "R", "P": "O", "Q": "K"}.get(state, state) if is_lapsed else state
    return {"R": "X", "O": "X", "W": "X"}.get(state, state) if is_expired else state


NOBODY_HOLDS = "nobody holds a line that is closed"
SOMEBODY_HOLDS = "who holds it is in the way: a lapsed claim has made it another state"
NO_CLAIM = "a draft was never claimed: there is no secret of it"
NO_SUPPLY = "of a draft nothing was supplied"
NOTHING_LEFT = "nothing is left: a supply of nothing is refused before the state"
NOTHING_SUPPLIED = "nothing of the fill of a line in this state was supplied"


def impossible(case: Case) -> str | None:
    """Why such a call cannot come to this row, in this state."""
    is_of_holder = {"caller-claim-current", "caller-claim-stale"} & set(case.row.given)
    if case.row.id in ("accept-owner", "accept-recover", "accept-other") and not case.is_held:
        return NOBODY_HOLDS
    if case.row.id == "accept-free" and case.is_held:
        return SOMEBODY_HOLDS
    if is_of_holder and case.state in NEVER_SIGNED:
        return NO_CLAIM
    if "caller-claim-current" in case.row.given and case.is_lapsed:
        return "the claim is a lapsed one"
    if case.row.id in ("dispense-last", "dispense-fill", "dispense-part") and case.state == "F":
        return NOTHING_LEFT
    if case.row.id == "withdraw" and case.state in NEVER_SIGNED:
        return NO_SUPPLY
    if case.row.id == "withdraw" and case.effective == "C" and case.outcome > 0:
        return NOTHING_SUPPLIED
    if case.row.id == "report-late-supply" and "caller-is-live-owner" in case.cell.guards and not case.is_held:
        return NOBODY_HOLDS
    return None


def situations() -> Iterator[tuple[str, bool, bool]]:
    """State, lease over, validity over. There is no lease but of a claim, and no validity but of what is signed."""
    for state, is_lapsed, is_expired in itertools.product(STATES, (False, True), (False, True)):
        if not (is_lapsed and state not in HELD) and not (is_expired and state in NEVER_SIGNED):
            yield state, is_lapsed, is_expired


def all_cases() -> Iterator[Case]:
    for row, (state, is_lapsed, is_expired) in itertools.product(TABLE.rows, situations()):
        if row.id not in SWEEPS:
            meant = effective(state, is_lapsed=is_lapsed, is_expired=is_expired)
            for operation, outcome in itertools.product(row.operations, range(len(row.cells[meant]))):
                yield Case(row, operation, state, is_lapsed, is_expired, outcome)


CASES = [case for case in all_cases() if impossible(case) is None]


# --- what is stored ---------------------------------------------------------------------------------------------------


def supplied(case: Case) -> tuple[int, list[tuple[int, int]]]:
    """The current fill, and what was supplied: the fill and the units of each entry."""
    guards, state = case.cell.guards, case.state
    if case.row.id == "withdraw":
        if "entry-outside-open-fill" in guards:
            current = {"P": [(3, 4)], "O": [(3, 4)], "Q": [(3, 4)], "F": [(3, 10)]}.get(state, [])
            return 3, [(1, 10), (2, 10), *current]
        is_emptied = "fill-empty-after" in guards or len(case.row.cells[case.effective]) == 1
        if state in "RCW":
            return 2, [(1, 10)] if is_emptied else [(1, 6), (1, 4)]
        if state == "F":
            return 1, [(1, 10)] if is_emptied else [(1, 6), (1, 4)]
        return 1, [(1, 4)] if is_emptied or state in "NKXQ" else [(1, 3), (1, 1)]
    if state == "W":
        return 2, [(1, 10)]
    return 1, {"F": [(1, 10)]}.get(state, [(1, 4)] if state in "POQNKX" else [])


def prescription_of(patient: str, case: Case, *, is_old: bool = False) -> Prescription:
    """One line in the state of the case, once held by pharmacy B, then by pharmacy A, that supplied what was."""
    fill_no, entries = supplied(case)
    fills = fill_no + 1 if case.row.id == "dispense-fill" or (case.state == "W" and fill_no == 1) else fill_no
    current = sum(units for fill, units in entries if fill == fill_no)
    is_held, is_cancelled = case.state in HELD, case.state in "QK"
    is_due = case.state != "W" or "date-reached" in case.cell.guards or case.row.id != "accept-free"
    line = Line(
        number=1,
        state=case.state,
        version=4,
        request_id=new_resource_id(patient, AT),
        request=json.dumps(medication_request(patient)),
        request_version=0 if case.state in NEVER_SIGNED else 1,
        product="http://data.esante.gouv.fr/ansm/medicament/SpecialitePharmaceutique|61234567",
        unit="comprimé",
        is_substitutable=True,
        is_declared_ordinary=True,
        is_marked_secure=False,
        fills=fills,
        per_fill=PER_FILL * MILLIONTHS,
        total=PER_FILL * fills * MILLIONTHS,
        units_per_day="1",
        valid_until=None,
        fill_no=fill_no,
        remaining_fill=(PER_FILL - current) * MILLIONTHS,
        remaining_total=(PER_FILL * fills - sum(units for _, units in entries)) * MILLIONTHS,
        not_before=TODAY if is_due else TODAY + timedelta(days=1),
        expires_on=TODAY if case.is_expired else date(2026, 6, 2),
        owner=PHARMACY_A.organisation if is_held else None,
        secret_hash=digest("current") if is_held else None,
        fence=0 if case.state in NEVER_SIGNED else 2,
        claimed_at=NOW - 1000 if is_held else 0,
        lease_until=NOW + (-1 if case.is_lapsed else 1) if is_held else 0,
        cancel_requested=is_cancelled,
        cancelled_by="prescriber" if is_cancelled else None,
        cancelled_at=AT.isoformat() if is_cancelled else None,
        cancel_reason="prescribing-error" if is_cancelled else None,
    )
    created_at = AT - timedelta(days=8) if is_old else AT
    group = Group(
        id=new_resource_id(patient, AT),
        base_url="https://exchange.example/fhir",
        number=new_number(),
        patient=patient,
        prescriber=str(PRACTICE.professional),
        practice=PRACTICE.organisation,
        authored_on=TODAY,
        created_at=created_at.isoformat(),
        updated_at=AT.isoformat(),
        code_hash=digest("code"),
        version=4,
        head=history.ORIGIN,
        events=0,
        wakes_at=hour_of(AT),
    )
    ended = "" if is_held else "given-back"
    claims = [
        ClaimRecord(line=1, fence=fence, owner=by.organisation, secret_hash=digest(secret), taken_at=1, ended=end)
        for fence, by, secret, end in ((1, PHARMACY_B, "older", ""), (2, PHARMACY_A, "current", ended))
    ]
    ledger = [
        LedgerEntry(
            line=1,
            number=number,
            fill_no=fill,
            quantity=units * MILLIONTHS,
            on=TODAY,
            at=AT.isoformat(),
            organisation=PHARMACY_A.organisation,
            dispense_id=new_resource_id(patient, AT),
        )
        for number, (fill, units) in enumerate(entries, 1)
    ]
    is_known = case.state not in NEVER_SIGNED
    return Prescription(group=group, lines=(line,), claims=tuple(claims) if is_known else (), ledger=tuple(ledger))


def dispense_versions(found: Prescription) -> list[StoredVersion]:
    return [
        StoredVersion(
            key=ResourceKey(type="MedicationDispense", id=each.dispense_id, patient=found.group.patient),
            version=1,
            at=AT,
            body=fhir_json.dumps({**example("medication-dispense.json"), "id": each.dispense_id}),
        )
        for each in found.ledger
    ]


@pytest.fixture
def here() -> Region:
    return region_in_memory()


def store_of(here: Region) -> MemoryExchange:
    assert isinstance(here.store, MemoryExchange)
    return here.store


def seeded(here: Region, case: Case, *, is_old: bool = False) -> str:
    found = prescription_of(here.patient, case, is_old=is_old)
    store = store_of(here)
    store.prescriptions[found.group.id] = found
    store.history[found.group.id] = []
    store.find_person(here.patient)
    store.versions |= {each.key: each for each in dispense_versions(found)}
    return found.group.id


def everything(store: MemoryExchange) -> str:
    """All that is stored, as text; who failed to guess is counted beside."""
    return repr({name: held for name, held in vars(store).items() if name not in ("_lock", "failures")})


# --- the calls --------------------------------------------------------------------------------------------------------


def call(here: Region, case: Case, id: str) -> int:
    """Make the call of a case; the status of its success."""
    made: Callable[[Region, Case, str], int] = CALLS[case.operation]
    return made(here, case, id)


def _holder(case: Case) -> tuple[Caller, str]:
    """Who comes with which secret: the newest claim, or one that is lapsed or superseded."""
    is_superseded = case.row.id == "stale-claim" and not case.is_lapsed
    return (PHARMACY_B, "older") if is_superseded else (PHARMACY_A, "current")


def _prepare(here: Region, case: Case, id: str) -> int:
    here.service.prepare(request(PRACTICE, "$prepare", key=None), Target.of(id))
    return 200


def _check(here: Region, case: Case, id: str) -> int:
    here.service.examine(request(PHARMACY_A if case.is_held else PRACTICE, "$check", key=None), Target.of(id))
    return 200


def _history(here: Region, case: Case, id: str) -> int:
    here.service.chain(request(PRACTICE, "$history", key=None), Target.of(id))
    return 200


def _activate(here: Region, case: Case, id: str) -> int:
    if case.effective == "D":
        return here.activate(id).status
    signed = Signature(jws=sign("{}"), signed_on=TODAY)
    return here.service.activate(request(PRACTICE, "$activate"), Target.of(id), signed).status


def _accept(here: Region, case: Case, id: str) -> int:
    by = PHARMACY_A if case.row.id in ("accept-owner", "accept-recover") else PHARMACY_B
    return here.accept(id, "code", 1, caller=by, recover=case.row.id == "accept-recover").status


def _dispense(here: Region, case: Case, id: str) -> int:
    by, secret = _holder(case)
    left = here.stored(id).lines[0].remaining_fill // MILLIONTHS
    units = {"dispense-part": left - 1, "dispense-over": left + 1, "stale-claim": 1}.get(case.row.id, left)
    return here.dispense(id, secret, units, caller=by).status


def _reject(here: Region, case: Case, id: str) -> int:
    by, secret = _holder(case)
    return here.reject(id, secret, 1, caller=by).status


def _extend(here: Region, case: Case, id: str) -> int:
    by, secret = _holder(case)
    return here.extend(id, secret, "preparing", 1, caller=by).status


def _decline(here: Region, case: Case, id: str) -> int:
    by, secret = _holder(case)
    return here.decline(id, secret, "patient-refused", 1, closes=case.row.id == "decline-close", caller=by).status


def _request_change(here: Region, case: Case, id: str) -> int:
    by, secret = _holder(case)
    asked = AskedChange(secret=secret, topic="dose", text="Dose élevée ?", proposal=None)
    return here.service.request_change(request(by, "$request-change"), Target.of(line_task_id(id, 1)), asked).status


def _request_renewal(here: Region, case: Case, id: str) -> int:
    asked = request(PATIENT, "$request-renewal")
    return here.service.request_renewal(asked, Target.of(line_task_id(id, 1)), None).status


def _report(here: Region, case: Case, id: str) -> int:
    is_live = "caller-is-live-owner" in case.cell.guards
    by = PHARMACY_A if is_live or not case.is_held else PHARMACY_B
    target = Target.of(line_task_id(id, 1))
    return here.service.report_late_supply(request(by, "$report-late-supply"), target, supply_of(2, "unused")).status


def _withdraw(here: Region, case: Case, id: str) -> int:
    return here.withdraw(here.stored(id).ledger[0].dispense_id).status


def _cancel(here: Region, case: Case, id: str) -> int:
    return here.cancel(id, 1, caller=PRACTICE if case.row.id == "cancel-prescriber" else PATIENT).status


def _route(here: Region, case: Case, id: str) -> int:
    return here.route(id, "").status


CALLS: dict[str, Callable[[Region, Case, str], int]] = {
    "$prepare": _prepare,
    "$check": _check,
    "$activate": _activate,
    "$route": _route,
    "$accept": _accept,
    "$extend-lease": _extend,
    "$reject": _reject,
    "$dispense": _dispense,
    "$decline": _decline,
    "$withdraw": _withdraw,
    "$cancel": _cancel,
    "$report-late-supply": _report,
    "$request-renewal": _request_renewal,
    "$request-change": _request_change,
    "$history": _history,
}
READS = ("$prepare", "$check", "$history")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_cell(here: Region, case: Case) -> None:
    """Item 1 of the acceptance pack."""
    id, store = seeded(here, case), store_of(here)
    before = everything(store)
    if case.cell.error is not None:
        error = refused(call, here, case, id)
        assert (error.status, code_of(error)) == (case.cell.http, case.cell.error)
        assert everything(store) == before
        return
    assert call(here, case, id) == case.cell.http
    (line,) = here.stored(id).lines
    has_moved = line.version > 4
    assert (line.state if has_moved else case.effective) == case.cell.next
    assert has_moved or line.state == case.state
    assert (everything(store) == before) is (case.operation in READS)
    assert history.is_unbroken(store.history.get(id, []), here.stored(id).group.head)


# --- the two sweeps ---------------------------------------------------------------------------------------------------

# The row says K as soon as the validity is over. As long as the lease is live, the line is not K for anybody (6.2), and
# a sweep stores what is true already.
NOT_TRUE_YET = ("sweep-validity", "sweep-validity", "Q")


def swept(state: str, *, is_lapsed: bool, is_expired: bool, is_old: bool) -> Iterator[tuple[str, str, str, int]]:
    """The outcomes of the two rows for what is stored, by their guards stated again."""
    holds = {"lease-over": is_lapsed or state not in HELD, "validity-over": is_expired, "draft-older-than-7d": is_old}
    for row in (each for each in TABLE.rows if each.id in SWEEPS):
        if all(map(holds.__getitem__, row.given)):
            cells = row.cells[state]
            outcome = next(n for n, cell in enumerate(cells) if all(map(holds.__getitem__, cell.guards)))
            yield row.id, row.operations[0], state, outcome


SWEPT = [(*each, is_old) for each in situations() for is_old in (False, True) if each[0] == "D" or not is_old]


@pytest.mark.parametrize(("state", "is_lapsed", "is_expired", "is_old"), SWEPT)
def test_sweep(here: Region, state: str, is_lapsed: bool, is_expired: bool, is_old: bool) -> None:
    """Item 1 of the acceptance pack: both sweeps store what is true, and nothing else of the line."""
    case = next(each for each in CASES if each.state == state and each.row.id == "history")
    case = replace(case, is_lapsed=is_lapsed, is_expired=is_expired)
    id, store = seeded(here, case, is_old=is_old), store_of(here)
    before = here.stored(id)
    Sweeping(here.service, wakes=store, messages=FhirMessages()).attend(id, hour_of(AT), AT)
    found = swept(state, is_lapsed=is_lapsed, is_expired=is_expired, is_old=is_old)
    cells = {each[0]: TABLE_ROWS[each[0]].cells[state][each[3]].next for each in found}
    is_true_yet = not (state == "Q" and is_expired and not is_lapsed)
    expected = {each for each in cells.values() if each is not None} if is_true_yet else set()
    after = here.stored(id)
    assert {after.lines[0].state} == (expected or {state})
    if not expected:
        assert (after.lines, after.group.head) == (before.lines, before.group.head)
    assert (after.ledger, after.claims) == (before.ledger, before.claims)


TABLE_ROWS = {row.id: row for row in TABLE.rows}

# --- nothing is left out ----------------------------------------------------------------------------------------------

UNREACHABLE = {
    **{
        (row, "$accept", state, 0): NOBODY_HOLDS
        for row in ("accept-owner", "accept-recover", "accept-other")
        for state in "FNKXE"
    },
    **{("accept-free", "$accept", state, 0): SOMEBODY_HOLDS for state in "CPQ"},
    **{
        (row.id, operation, state, 0): NO_CLAIM
        for row in TABLE.rows
        if "caller-claim-current" in row.given
        for operation in row.operations
        for state in NEVER_SIGNED
    },
    **{(row, "$dispense", "F", 0): NOTHING_LEFT for row in ("dispense-last", "dispense-fill", "dispense-part")},
    **{("withdraw", "$withdraw", state, 0): NO_SUPPLY for state in NEVER_SIGNED},
    **{("withdraw", "$withdraw", "C", outcome): NOTHING_SUPPLIED for outcome in (1, 2)},
}
"""Cells that no call can come to; what the table itself calls unreachable is no cell."""


def test_every_cell_of_the_table_is_reached_or_said_to_be_out_of_reach() -> None:
    cells = {
        (row.id, operation, state, outcome)
        for row in TABLE.rows
        for operation in row.operations
        for state in STATES
        for outcome in range(len(row.cells[state]))
    }
    reached = {case.reached for case in CASES}
    for state, is_lapsed, is_expired, is_old in SWEPT:
        reached |= set(swept(state, is_lapsed=is_lapsed, is_expired=is_expired, is_old=is_old))
    assert cells - reached == UNREACHABLE.keys()
    assert not reached & UNREACHABLE.keys()


def test_why_a_cell_is_out_of_reach_is_the_same_for_each_case_of_it() -> None:
    for case in all_cases():
        if case.reached in UNREACHABLE:
            assert impossible(case) in (UNREACHABLE[case.reached], "the claim is a lapsed one")
