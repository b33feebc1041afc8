"""Prescriptions on DynamoDB: one life, races, replays and crashes, what is stored, and what it costs.

Interleavings are made by reading before others write: moto knows no threads.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from passerelle import wiring
from passerelle.access import Caller
from passerelle.aws.dynamodb import measure
from passerelle.errors import PasserelleError
from passerelle.fhir import json as fhir_json
from passerelle.fhir.prescriptions import tasks
from passerelle.journal import Change
from passerelle.prescriptions import history
from passerelle.prescriptions.commands import Target
from passerelle.prescriptions.model import (
    ClaimTerms,
    Group,
    Line,
    Outcome,
    Prescription,
    Signature,
    from_map,
    to_map,
)
from passerelle.prescriptions.service import PrescriptionService
from passerelle.records.model import ResourceKey
from tests.prescribing import (
    AT,
    OTHER_PATIENT,
    OTHER_PRACTICE,
    PATIENT,
    PHARMACY_A,
    PHARMACY_B,
    PRACTICE,
    Region,
    code_of,
    items,
    later,
    medication_request,
    refused,
    region,
    request,
    sign,
    tried,
)


class Regions:
    """A new region now and then: one takes long to make, and a full one is slow, as moto copies whole tables."""

    def __init__(self) -> None:
        self.open = ExitStack()
        self.tests = 0
        self.region: Region | None = None

    def get(self) -> Region:
        if self.region is None or self.tests % 5 == 0:
            self.open.close()
            self.region = self.open.enter_context(region())
        self.tests += 1
        return self.region


@pytest.fixture(scope="module")
def regions() -> Iterator[Regions]:
    made = Regions()
    with made.open:
        yield made


@pytest.fixture
def here(regions: Regions) -> Region:
    return regions.get()


class Crash(BaseException):
    """The process ends here."""


class CrashingJournal:
    """The real journal; the process ends after its next commit, before the answer leaves."""

    def __init__(self) -> None:
        self.is_armed = False

    def commit(self, changes: Sequence[Change]) -> None:
        wiring.journal().commit(changes)
        if self.is_armed:
            self.is_armed = False
            raise Crash()

    def find_answer(self, client_id: str, key: str) -> Any:
        return wiring.journal().find_answer(client_id, key)


class EarlyReader:
    """The real store, but its first read is one made before: another command came in between."""

    def __init__(self, early: Prescription) -> None:
        self.early: Prescription | None = early

    def find(self, id: str) -> Prescription | None:
        early, self.early = self.early, None
        return early or wiring.prescription_store().find(id)

    def find_id(self, number: str) -> str | None:
        return wiring.prescription_store().find_id(number)

    def blinded(self, organisation: str, identifier: str) -> str:
        return wiring.prescription_store().blinded(organisation, identifier)


def service(*, store: Any = None, journal: Any = None) -> PrescriptionService:
    """That of the function, with other ports in the place of some."""
    made = copy(wiring.prescription_service())
    made.prescriptions = store or made.prescriptions
    made.journal = journal or made.journal
    return made


def record_of(kind: str, id: str) -> dict[str, Any]:
    found = wiring.record_store().find_latest(ResourceKey.of(kind, id))
    assert found is not None
    assert found.body is not None
    loaded: dict[str, Any] = json.loads(found.body)
    return loaded


# --- a life ---------------------------------------------------------------------------------------------


def test_a_life(here: Region) -> None:
    created = here.create()
    group = created.prescription.group
    id, code = group.id, created.access_code
    assert created.status == 201
    assert here.stored(id).lines[0].state == "D"
    assert code_of(refused(here.accept, id, code)) == "RX-NOT-SIGNED"

    here.activate(id)
    (line,) = here.stored(id).lines
    assert (line.state, line.expires_on.isoformat() if line.expires_on else "") == ("R", "2026-06-02")

    claimed = here.accept(id, code)
    other = refused(here.accept, id, code, caller=PHARMACY_B)
    assert (other.status, code_of(other)) == (409, "RX-CLAIMED-BY-OTHER")
    assert "leaseUntil=2026-03-02T11:30:00+00:00" in str(other)
    assert PHARMACY_A.organisation not in str(other)
    assert code_of(refused(here.accept, id, code)) == "RX-ALREADY-YOURS"

    half = here.dispense(id, claimed.secret, 45)
    assert (half.prescription.lines[0].state, half.prescription.lines[0].remaining_fill) == ("P", 45_000_000)
    too_much = refused(here.dispense, id, claimed.secret, 46)
    assert (too_much.status, code_of(too_much)) == (422, "RX-QUANTITY")
    assert "remaining=45" in str(too_much)
    rest = here.dispense(id, claimed.secret, 45)
    assert rest.prescription.lines[0].state == "F"
    third = refused(here.dispense, id, claimed.secret, 1)
    assert (third.status, code_of(third)) == (409, "RX-DONE")

    assert record_of("MedicationRequest", line.request_id)["status"] == "completed"
    for entry in here.stored(id).ledger:
        dispense = record_of("MedicationDispense", entry.dispense_id)
        assert dispense["authorizingPrescription"] == [{"reference": f"MedicationRequest/{line.request_id}"}]
    assert code_of(refused(here.cancel, id)) == "RX-DONE"
    events = wiring.prescription_store().history(id)
    assert [event.operation for event in events] == [
        "$create",
        "$activate",
        "$accept",
        "$dispense",
        "$dispense",
    ]
    assert history.is_unbroken(events, here.stored(id).group.head)


def test_cancelling(here: Region) -> None:
    id, code = here.issued(medication_request(here.patient), medication_request(here.patient))
    request_ids = [line.request_id for line in here.stored(id).lines]
    secret = here.accept(id, code, 1).secret
    here.dispense(id, secret, 10)
    cancelled = here.cancel(id)
    assert (cancelled.status, [line.state for line in cancelled.prescription.lines]) == (202, ["Q", "K"])
    assert record_of("MedicationRequest", request_ids[0])["status"] == "active"
    assert record_of("MedicationRequest", request_ids[0])["statusReason"]["coding"][0]["code"] == "prescribing-error"
    assert record_of("MedicationRequest", request_ids[1])["status"] == "cancelled"
    stopped = refused(here.dispense, id, secret, 1)
    assert code_of(stopped) == "RX-CANCEL-PENDING"
    assert "by=prescriber" in str(stopped)
    again = here.cancel(id)
    assert (again.status, [line.state for line in again.prescription.lines]) == (200, ["Q", "K"])
    assert here.reject(id, secret).prescription.lines[0].state == "K"
    # R4 `cancelled` means that nothing was supplied
    assert record_of("MedicationRequest", request_ids[0])["status"] == "stopped"
    gone = refused(here.accept, id, code)
    assert (gone.status, code_of(gone)) == (410, "RX-CANCELLED")


def test_the_patient_cancels_what_nobody_holds(here: Region) -> None:
    id, code = here.issued(medication_request(here.patient), medication_request(here.patient))
    here.accept(id, code, 1)
    assert code_of(refused(here.cancel, id, caller=OTHER_PATIENT)) == "RX-NOT-FOUND"
    assert code_of(refused(here.cancel, id, 1, caller=PATIENT)) == "RX-CLAIMED-BY-OTHER"
    assert [line.state for line in here.cancel(id, caller=PATIENT).prescription.lines] == ["C", "K"]


def test_repeats_wait_for_the_next_fill_and_the_code_changes(here: Region) -> None:
    supply = {"numberOfRepeatsAllowed": 1, "quantity": {"value": 90, "unit": "comprimé"}}
    id, code = here.issued(medication_request(here.patient, dispenseRequest=supply))
    done = here.dispense(id, here.accept(id, code).secret, 90)
    line = done.prescription.lines[0]
    # 90 units at 3 a day cover until 1 April; three days early
    assert (line.state, line.fill_no, str(line.not_before)) == ("W", 2, "2026-03-29")
    assert code_of(refused(here.accept, id, code)) == "RX-ACCESS-CODE"
    early = refused(here.accept, id, done.access_code, at=later(days=26))
    assert (early.status, code_of(early)) == (422, "RX-TOO-EARLY")
    assert "date=2026-03-29" in str(early)
    assert here.accept(id, done.access_code, at=later(days=27)).prescription.lines[0].state == "C"


# --- who may, and with what -----------------------------------------------------------------------------


def test_codes_and_secrets_are_checked_before_anything_is_told(here: Region) -> None:
    id, code = here.issued()
    unknown = f"{here.patient}-00000000000000000000000000"
    wrong = refused(here.accept, id, "wrong")
    assert (wrong.status, code_of(wrong)) == (403, "RX-ACCESS-CODE")
    for attempt in (refused(here.accept, unknown, code), refused(here.accept, id, None)):
        assert (attempt.status, attempt.issues) == (wrong.status, wrong.issues)
    secret = here.accept(id, code).secret
    not_it = refused(here.dispense, id, "wrong", 1)
    assert (not_it.status, code_of(not_it)) == (403, "RX-SECRET")
    attempts = [
        refused(here.dispense, unknown, secret, 1),
        refused(here.dispense, id, secret, 1, line=7),
        refused(here.dispense, id, secret, 1, caller=PHARMACY_B),
        refused(here.reject, id, code),
    ]
    for attempt in attempts:
        assert (attempt.status, attempt.issues) == (not_it.status, not_it.issues)


def test_by_number(here: Region) -> None:
    id, code = here.issued()
    number = here.stored(id).group.number
    terms = ClaimTerms(code=code)

    def claim(text: str, by: ClaimTerms) -> Outcome:
        return here.service.accept_number(request(PHARMACY_A, "$accept"), text, Target.of(""), by)

    wrong = refused(claim, number, ClaimTerms(code="wrong"))
    unknown = refused(claim, "0000000000000000000Z", terms)
    malformed = refused(claim, "0000", terms)
    assert wrong.issues == unknown.issues == malformed.issues
    assert code_of(wrong) == "RX-ACCESS-CODE"
    assert claim(number, terms).prescription.group.id == id


def test_each_role_has_its_operations(here: Region) -> None:
    id, code = here.issued()
    laboratory = replace(PRACTICE, role="laboratory")
    nobody = replace(PRACTICE, professional=None)
    for call in (
        lambda: here.accept(id, code, caller=PRACTICE),
        lambda: here.cancel(id, caller=PHARMACY_A),
        lambda: here.create(caller=PHARMACY_A),
        lambda: here.create(caller=laboratory),
        lambda: here.create(caller=nobody),
        lambda: here.create(caller=OTHER_PRACTICE),  # the order names another prescriber
        lambda: here.activate(id, caller=replace(PRACTICE, professional="810000000099")),
    ):
        error = refused(call)
        assert (error.status, code_of(error)) == (403, "RX-ROLE")
    assert code_of(refused(here.cancel, id, caller=OTHER_PRACTICE)) == "RX-NOT-FOUND"


def test_only_those_concerned_see_it_and_no_other_holder(here: Region) -> None:
    id, code = here.issued()

    def sees(caller: Caller, at: datetime = AT) -> Any:
        return here.service.read(request(caller, "read", at=at, key=None), Target.of(f"{id}-01"))

    for stranger in (PHARMACY_A, PHARMACY_B, OTHER_PRACTICE, OTHER_PATIENT):
        assert code_of(refused(sees, stranger)) == "RX-NOT-FOUND"
    here.accept(id, code)
    assert sees(PHARMACY_A).prescription.lines[0].owner == PHARMACY_A.organisation
    assert sees(PRACTICE).prescription.lines[0].owner == PHARMACY_A.organisation
    assert sees(PATIENT).prescription.lines[0].owner == PHARMACY_A.organisation
    lapsed = later(hours=3)
    assert sees(PRACTICE, lapsed).prescription.lines[0].state == "R"
    here.accept(id, code, caller=PHARMACY_B, at=lapsed)
    assert sees(PHARMACY_A, lapsed).prescription.lines[0].owner is None
    assert code_of(refused(here.service.read, request(PRACTICE, "read"), Target.of(f"{id}-02"))) == "RX-NOT-FOUND"


def test_signature_key_and_day(here: Region) -> None:
    id = here.create().prescription.group.id
    content = here.service.prepare(request(PRACTICE, "$prepare"), Target.of(id)).content
    good = sign(content)
    day = here.stored(id).group.authored_on

    def activate(jws: str, at: datetime = AT, signed_on: Any = day) -> Any:
        signed = Signature(jws=jws, signed_on=signed_on)
        return here.service.activate(request(PRACTICE, "$activate", at=at), Target.of(id), signed)

    before = items()
    for attempt in (
        lambda: activate(sign(content.replace("500", "501"))),
        lambda: activate(good[:-3]),
        lambda: activate(good, signed_on=day + timedelta(days=1)),
        lambda: activate(good, at=later(days=1)),
        lambda: activate(good, at=datetime(2026, 3, 2, 23, 30, tzinfo=UTC)),  # 3 March in Paris
    ):
        error = refused(attempt)
        assert (error.status, code_of(error)) == (422, "RX-SIGNATURE")
    assert items() == before
    assert activate(good).prescription.group.signed == content


@pytest.mark.parametrize("changes", [{"extension": None}, {"extension": "secure"}])
def test_what_may_be_a_narcotic_is_not_put_in_force(here: Region, changes: dict[str, Any]) -> None:
    if changes["extension"] == "secure":
        flags = ("rx-ordinary-product", "rx-secure-prescription")
        urls = [f"https://exchange.example/fhir/StructureDefinition/{flag}" for flag in flags]
        changes = {"extension": [{"url": url, "valueBoolean": True} for url in urls]}
    id = here.create(medication_request(here.patient, **changes)).prescription.group.id
    error = refused(here.activate, id)
    assert (error.status, code_of(error)) == (422, "RX-VALIDITY")
    assert "rule=FR-S1" in str(error)


def test_substitution_is_refused_where_it_is_forbidden(here: Region) -> None:
    other = {"medicationCodeableConcept": {"coding": [{"system": "http://example.org", "code": "other"}]}}
    reason = {"coding": [{"code": "CIF"}], "text": "lactose"}
    id, code = here.issued(
        medication_request(here.patient, substitution={"allowedBoolean": False, "reason": reason}),
        medication_request(here.patient),
    )
    secret = here.accept(id, code).secret
    error = refused(here.dispense, id, secret, 1, changes=other)
    assert (error.status, code_of(error)) == (422, "RX-SUBSTITUTION")
    assert here.dispense(id, secret, 1, line=2, changes=other).status == 200


def test_a_supply_for_somebody_else_is_refused(here: Region) -> None:
    id, code = here.issued()
    secret = here.accept(id, code).secret
    elsewhere = {"subject": {"reference": "Patient/0000000000000000"}}
    assert code_of(refused(here.dispense, id, secret, 1, changes=elsewhere)) == "RX-INVALID"
    assert code_of(refused(here.dispense, id, secret, 0)) == "RX-INVALID"
    other_unit = {"quantity": {"value": 1, "unit": "boîte"}}
    assert code_of(refused(here.dispense, id, secret, 1, changes=other_unit)) == "RX-INVALID"


# --- time -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("milliseconds", "holder", "other"), [(-1, "ok", "RX-CLAIMED-BY-OTHER"), (1, "RX-LEASE-LOST", "ok")]
)
def test_the_lease_ends_to_the_millisecond(here: Region, milliseconds: int, holder: str, other: str) -> None:
    id, code = here.issued()
    secret = here.accept(id, code).secret
    at = AT + timedelta(hours=2, milliseconds=milliseconds)
    if holder == "ok":
        assert code_of(refused(here.accept, id, code, caller=PHARMACY_B, at=at)) == other
        assert here.dispense(id, secret, 1, at=at).status == 200
    else:
        assert code_of(refused(here.dispense, id, secret, 1, at=at)) == holder
        assert here.accept(id, code, caller=PHARMACY_B, at=at).status == 200


def test_at_the_very_millisecond_nobody_supplies_and_nobody_claims(here: Region) -> None:
    id, code = here.issued()
    secret = here.accept(id, code).secret
    at = AT + timedelta(hours=2)
    assert code_of(refused(here.dispense, id, secret, 1, at=at)) == "RX-LEASE-LOST"
    assert code_of(refused(here.accept, id, code, caller=PHARMACY_B, at=at)) == "RX-CLAIMED-BY-OTHER"


def test_a_superseded_claim_is_fenced_off(here: Region) -> None:
    id, code = here.issued()
    first = here.accept(id, code).secret
    here.dispense(id, first, 30)
    recovered = here.accept(id, code, recover=True, at=later(hours=1))
    line = recovered.prescription.lines[0]
    assert (line.fence, line.state) == (2, "P")
    assert line.lease_until == int(later(hours=2).timestamp() * 1000)
    stale = refused(here.dispense, id, first, 1, at=later(hours=1))
    assert (code_of(stale), "fence=2" in str(stale)) == ("RX-LEASE-LOST", True)
    here.accept(id, code, caller=PHARMACY_B, at=later(hours=3))
    assert code_of(refused(here.dispense, id, recovered.secret, 1, at=later(hours=3))) == "RX-LEASE-LOST"
    assert here.stored(id).lines[0].remaining_fill == 60_000_000


def test_validity_ends_unless_a_claim_was_made_in_time(here: Region) -> None:
    id, code = here.issued(medication_request(here.patient), medication_request(here.patient))
    last_evening = datetime(2026, 6, 1, 21, 30, tzinfo=UTC)  # 23:30 in Paris
    secret = here.accept(id, code, 1, at=last_evening).secret
    next_day = last_evening + timedelta(minutes=40)
    expired = refused(here.accept, id, code, 2, at=next_day)
    assert code_of(expired) == "RX-EXPIRED"
    assert "rule=FR-V1; lastValidDay=2026-06-01" in str(expired)
    assert here.dispense(id, secret, 1, at=next_day).status == 200


# --- again, and at once ---------------------------------------------------------------------------------


def test_a_repeated_command_gets_the_same_answer_byte_for_byte(here: Region) -> None:
    keys = [str(uuid.uuid4()) for _ in range(3)]
    created = [here.create(key=keys[0]) for _ in range(2)]
    id, code = created[0].prescription.group.id, created[0].access_code
    here.activate(id)
    claimed = [here.accept(id, code, key=keys[1]) for _ in range(2)]
    supplied = [here.dispense(id, claimed[0].secret, 90, key=keys[2]) for _ in range(2)]
    claimed.append(here.accept(id, code, key=keys[1]))  # the line is dispensed by now
    for first, *again in (created, claimed, supplied):
        for each in again:
            assert fhir_json.dumps(tasks.render(each)) == fhir_json.dumps(tasks.render(first))
            assert (each.status, each.is_replay, first.is_replay) == (first.status, True, False)
            assert tasks.headers(each) == {**tasks.headers(first), "Idempotency-Replayed": "true"}
    assert len(here.stored(id).ledger) == 1


def test_a_key_stands_for_one_request(here: Region) -> None:
    id, code = here.issued()
    used = str(uuid.uuid4())
    here.accept(id, code, key=used)
    other = refused(here.accept, id, code, key=used, fingerprint="other")
    assert (other.status, other.issues[0].details) == (422, None)  # given its code by `coded`
    for key in (None, "", "1", "0b4ce3a63f8e4a548f0f4b1f0c1d2e3f"):
        assert code_of(refused(here.accept, id, code, key=key)) == "RX-IDEMPOTENCY-MISSING"


def test_a_crash_after_the_commit_loses_nothing(here: Region) -> None:
    id, code = here.issued()
    journal = CrashingJournal()
    crashing = Region(here.patient, service(journal=journal), here.store)
    for command, arguments in ((crashing.accept, (id, code)), (crashing.cancel, (id,))):
        key = str(uuid.uuid4())
        journal.is_armed = True
        with pytest.raises(Crash):
            command(*arguments, key=key)
        after = items()
        assert command(*arguments, key=key).is_replay
        assert items() == after


def test_of_ten_claimers_that_all_read_before_one_wins(here: Region) -> None:
    id, code = here.issued()
    early = here.stored(id)
    outcomes = []
    for number in range(10):
        caller = replace(PHARMACY_A, client_id=f"p-{number}", organisation=f"199000{number:04d}")
        late = Region(here.patient, service(store=EarlyReader(early)), here.store)
        with measure() as spent:
            done = tried(partial(late.accept, id, code, caller=caller))
        outcomes.append(code_of(done) if isinstance(done, PasserelleError) else "ok")
        # The early read, the commit, and whether it was answered before: a loser is told by the lost condition.
        assert spent.round_trips <= 3
    assert outcomes == ["ok"] + ["RX-CLAIMED-BY-OTHER"] * 9
    assert here.stored(id).lines[0].fence == 1


def test_a_claim_overtaken_by_a_claim_that_was_given_back_is_tried_again(here: Region) -> None:
    id, code = here.issued()
    early = here.stored(id)
    here.reject(id, here.accept(id, code, caller=PHARMACY_B).secret, caller=PHARMACY_B)
    late = Region(here.patient, service(store=EarlyReader(early)), here.store)
    assert late.accept(id, code).prescription.lines[0].fence == 2


def test_claims_of_two_lines_at_once_both_succeed(here: Region) -> None:
    id, code = here.issued(medication_request(here.patient), medication_request(here.patient))
    early = here.stored(id)
    here.accept(id, code, 1, caller=PHARMACY_B)
    late = Region(here.patient, service(store=EarlyReader(early)), here.store)
    assert late.accept(id, code, 2).lines == (2,)
    assert [line.state for line in here.stored(id).lines] == ["C", "C"]
    assert history.is_unbroken(wiring.prescription_store().history(id), here.stored(id).group.head)


def test_named_lines_are_claimed_all_or_none(here: Region) -> None:
    id, code = here.issued(*[medication_request(here.patient) for _ in range(3)])
    here.accept(id, code, 2, caller=PHARMACY_B)
    before = items()
    assert code_of(refused(here.accept, id, code, 1, 2, 3)) == "RX-CLAIMED-BY-OTHER"
    assert items() == before
    assert here.accept(id, code).lines == (1, 3)


def test_dispense_and_cancel_that_lose_the_race(here: Region) -> None:
    id, code = here.issued()
    secret = here.accept(id, code).secret
    early = here.stored(id)
    here.cancel(id)
    late = Region(here.patient, service(store=EarlyReader(early)), here.store)
    assert code_of(refused(late.dispense, id, secret, 1)) == "RX-CANCEL-PENDING"

    id, code = here.issued()
    secret = here.accept(id, code).secret
    early = here.stored(id)
    here.dispense(id, secret, 60)
    late = Region(here.patient, service(store=EarlyReader(early)), here.store)
    assert code_of(refused(late.dispense, id, secret, 60)) == "RX-QUANTITY"
    late = Region(here.patient, service(store=EarlyReader(early)), here.store)
    assert late.dispense(id, secret, 30).prescription.lines[0].state == "F"
    late = Region(here.patient, service(store=EarlyReader(early)), here.store)
    assert code_of(refused(late.cancel, id)) == "RX-DONE"


def test_a_dispense_identifier_is_used_once(here: Region) -> None:
    first, code = here.issued()
    second, other_code = here.issued()
    done = here.dispense(first, here.accept(first, code).secret, 1, identifier="D-1")
    again = refused(here.dispense, second, here.accept(second, other_code).secret, 1, identifier="D-1")
    assert (again.status, code_of(again)) == (409, "RX-DUPLICATE")
    assert f"MedicationDispense/{done.prescription.ledger[0].dispense_id}" in str(again)
    third, code = here.issued()
    secret = here.accept(third, code, caller=PHARMACY_B).secret
    assert here.dispense(third, secret, 1, caller=PHARMACY_B, identifier="D-1").status == 200
    assert "D-1" not in "".join(key["PK"]["S"] + key["SK"]["S"] for key in json.loads(items()))


def test_if_match(here: Region) -> None:
    id, code = here.issued()
    version = here.stored(id).group.version

    def claim(if_match: int) -> Any:
        target = Target.of(id, if_match=if_match)
        return here.service.accept(request(PHARMACY_A, "$accept"), target, ClaimTerms(code=code))

    stale = refused(claim, version - 1)
    assert (stale.status, code_of(stale)) == (412, "RX-VERSION")
    assert f'etag=W/"{version}"' in str(stale)
    assert claim(version).prescription.group.version == version + 1


# --- what is stored, and what it costs ------------------------------------------------------------------


def test_claim_and_dispense_are_two_round_trips(here: Region) -> None:
    id, code = here.issued()
    with measure() as claim:
        secret = here.accept(id, code).secret
    with measure() as supply:
        here.dispense(id, secret, 90)
    for spent in (claim, supply):  # the prescription, and what the checks read of the record, at once
        assert spent.calls[-1] == "TransactWriteItems"
        assert spent.round_trips == 2


def test_twenty_lines_are_one_transaction(here: Region) -> None:
    lines = [medication_request(here.patient) for _ in range(20)]
    with measure() as spent:
        created = here.create(*lines)
    id = created.prescription.group.id
    assert spent.calls.count("TransactWriteItems") == 1
    commands: list[Callable[[], Outcome]] = [
        lambda: here.activate(id),
        lambda: here.accept(id, created.access_code),
        lambda: here.cancel(id),
    ]
    for command in commands:
        with measure() as spent:
            assert len(command().lines) == 20
        assert spent.calls.count("TransactWriteItems") == 1
        assert not any(call.startswith(("Put", "Update", "BatchWrite")) for call in spent.calls)


def test_no_secret_and_no_name_is_stored_or_announced(here: Region) -> None:
    created = here.create()
    id = created.prescription.group.id
    here.activate(id)
    secret = here.accept(id, created.access_code).secret
    here.dispense(id, secret, 90, identifier="D-3")
    clinical = wiring.aws("dynamodb").scan(TableName=wiring.table_names().clinical)["Items"]
    assert created.access_code
    assert secret
    assert created.access_code not in str(clinical)
    assert secret not in str(clinical)
    keys = " ".join(item["PK"]["S"] + item["SK"]["S"] for item in clinical)
    assert created.prescription.group.number not in keys
    outbox = [item for item in clinical if item["PK"]["S"].startswith("O#")]
    told = [event["M"] for item in outbox for event in item["events"]["L"]]
    references = {event["reference"]["S"].partition("/")[0] for event in told}
    assert references == {"Patient", "Task", "MedicationRequest", "MedicationDispense"}
    versions = sorted(int(event["version"]["N"]) for event in told if event["reference"]["S"] == f"Task/{id}")
    assert versions == [1, 2, 3, 4]


def test_records_come_back_as_they_were_written(here: Region) -> None:
    id, code = here.issued()
    done = here.dispense(id, here.accept(id, code).secret, 45, identifier="D-2")
    stored = here.stored(id)
    assert replace(stored, claims=()) == done.prescription
    assert from_map(Group, json.loads(json.dumps(to_map(stored.group)))) == stored.group
    for line in stored.lines:
        assert from_map(Line, json.loads(json.dumps(to_map(line)))) == line
    assert Outcome.from_map(json.loads(json.dumps(done.to_map()))) == replace(done, is_replay=True)
