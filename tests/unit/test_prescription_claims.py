"""What becomes of a claim beside a supply: routed to somebody, kept for longer, declined, taken back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from passerelle.directory.model import Role
from passerelle.errors import PasserelleError
from passerelle.fhir.prescriptions import tasks
from passerelle.prescriptions.quantities import MILLIONTHS
from tests.prescribing import (
    AT,
    NURSE,
    OTHER_PATIENT,
    PATIENT,
    PHARMACY_A,
    PHARMACY_B,
    PRACTICE,
    Region,
    code_of,
    later,
    medication_request,
    refused,
    region_in_memory,
)

A, B, NURSES = PHARMACY_A.organisation, PHARMACY_B.organisation, NURSE.organisation


@pytest.fixture
def here() -> Region:
    return region_in_memory()


def told(error: PasserelleError) -> str:
    return error.issues[0].diagnostics


# --- routing --------------------------------------------------------------------------------------------


def test_the_pharmacy_of_choice_claims_without_a_code_and_others_only_if_the_patient_lets_them(here: Region) -> None:
    id, code = here.issued()
    routed = here.route(id, A)
    assert here.accept(id, None).lines == (1,)
    here.reject(id, here.accept(id, None, recover=True).secret)
    assert code_of(refused(here.accept, id, None, caller=PHARMACY_B)) == "RX-ACCESS-CODE"
    assert code_of(refused(here.accept, id, code, caller=PHARMACY_B)) == "RX-ACCESS-CODE"  # it died
    assert code_of(refused(here.accept, id, routed.access_code, caller=PHARMACY_B)) == "RX-ROUTED-ELSEWHERE"
    taken = here.accept(id, routed.access_code, caller=PHARMACY_B, override_routing=True)
    assert taken.prescription.lines[0].owner == B


def test_without_a_pharmacy_it_is_anyones_who_has_the_newest_code(here: Region) -> None:
    id, _ = here.issued()
    here.route(id, A)
    newest = here.route(id, "").access_code
    assert code_of(refused(here.accept, id, None)) == "RX-ACCESS-CODE"
    assert here.accept(id, newest, caller=PHARMACY_B).lines == (1,)


@pytest.mark.parametrize(
    ("caller", "refusal"),
    [(PRACTICE, "RX-ROLE"), (NURSE, "RX-NOT-FOUND"), (OTHER_PATIENT, "RX-NOT-FOUND"), (PHARMACY_A, "RX-ROLE")],
)
def test_routing_is_the_patients(here: Region, caller: object, refusal: str) -> None:
    id, code = here.issued()
    assert code_of(refused(here.route, id, B, caller=caller)) == refusal
    assert here.accept(id, code).lines == (1,)


def test_a_representative_routes_and_the_prescriber_while_it_is_a_draft(here: Region) -> None:
    created = here.create()
    id = created.prescription.group.id
    assert here.route(id, A, caller=PRACTICE).prescription.group.routed_to == A
    here.activate(id)
    representative = replace(PATIENT, client_id="representative-1", role=Role.REPRESENTATIVE)
    assert here.route(id, B, caller=representative).prescription.group.routed_to == B


def test_an_organisation_that_the_directory_does_not_know_is_refused(here: Region) -> None:
    id, code = here.issued()
    before = here.stored(id)
    assert code_of(refused(here.route, id, "9990000099")) == "RX-INVALID"
    assert here.stored(id) == before
    assert here.accept(id, code).lines == (1,)


def test_a_coordinating_nurse_sees_and_routes_and_leaves_the_code_alone(here: Region) -> None:
    id, _ = here.issued()
    code = here.route(id, coordinator=NURSES).access_code
    routed = here.route(id, A, caller=NURSE)
    assert (routed.access_code, routed.prescription.group.routed_to) == (None, A)
    assert here.accept(id, code, caller=PHARMACY_B, override_routing=True).lines == (1,)
    assert code_of(refused(here.route, id, coordinator="", caller=NURSE)) == "RX-ROLE"
    here.reject(id, here.accept(id, code, caller=PHARMACY_B, recover=True).secret, caller=PHARMACY_B)
    here.route(id, coordinator="")
    assert code_of(refused(here.route, id, B, caller=NURSE)) == "RX-NOT-FOUND"


def test_who_loses_is_told_who_holds_the_line_if_the_patient_agrees(here: Region) -> None:
    id, code = here.issued()
    here.accept(id, code)
    assert "holder" not in told(refused(here.accept, id, code, caller=PHARMACY_B))
    other, _ = here.issued()
    shown = here.route(other, shows_holder=True).access_code
    here.accept(other, shown)
    assert f"holder={A}" in told(refused(here.accept, other, shown, caller=PHARMACY_B))


def test_a_patient_who_asked_for_the_code_asks_for_the_next_one_too(here: Region) -> None:
    supply = {"quantity": {"value": 10, "unit": "comprimé"}, "numberOfRepeatsAllowed": 1}
    for has_asked in (False, True):
        id, code = here.issued(medication_request(here.patient, dispenseRequest=supply))
        if has_asked:
            code = here.route(id).access_code or ""
        done = here.dispense(id, here.accept(id, code).secret, 10)
        assert (done.access_code is None) is has_asked
        assert code_of(refused(here.accept, id, code, at=later(days=3))) == "RX-ACCESS-CODE"  # the one used died
        newest = here.route(id).access_code if has_asked else done.access_code
        assert here.accept(id, newest, at=later(days=3)).lines == (1,)


# --- the lease --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "until"),
    [
        ("2026-03-02T09:30:00+00:00", "2026-03-03T23:00:00+00:00"),  # Monday: to the end of Tuesday in Paris
        ("2026-03-06T15:00:00+00:00", "2026-03-09T23:00:00+00:00"),  # Friday: to the end of Monday
        ("2026-04-03T15:00:00+00:00", "2026-04-07T22:00:00+00:00"),  # before Easter Monday, and in summer time
    ],
)
def test_preparing_keeps_a_line_to_the_end_of_the_next_working_day(here: Region, at: str, until: str) -> None:
    moment = datetime.fromisoformat(at)
    id, code = here.issued(medication_request(here.patient, authoredOn=at[:10]), at=moment)
    secret = here.accept(id, code, at=moment).secret
    line = here.extend(id, secret, at=moment).prescription.lines[0]
    assert datetime.fromtimestamp(line.lease_until / 1000, UTC).isoformat() == until
    assert (line.state, line.progress) == ("C", "preparing")


def test_a_lease_is_extended_up_to_its_cap_and_never_shortened(here: Region) -> None:
    id, code = here.issued()
    secret = here.accept(id, code).secret
    start = here.stored(id).lines[0].claimed_at
    days = [
        (here.extend(id, secret, "awaiting-stock", at=later(days=day)).prescription.lines[0].lease_until - start)
        / timedelta(days=1).total_seconds()
        / 1000
        for day in (0, 2, 4, 6)
    ]
    assert days == [3, 5, 7, 7]
    assert (
        here.extend(id, secret, "preparing", at=later(days=6)).prescription.lines[0].lease_until - start == 604_800_000
    )
    assert code_of(refused(here.extend, id, secret, at=later(days=7, seconds=1))) == "RX-LEASE-LOST"


def test_a_recovery_does_not_get_round_the_cap(here: Region) -> None:
    id, code = here.issued()
    secret = here.accept(id, code).secret
    for hour in (0, 71, 142):
        here.extend(id, secret, "awaiting-stock", at=later(hours=hour))
    secret = here.accept(id, code, recover=True, at=later(hours=167)).secret
    line = here.extend(id, secret, "awaiting-stock", at=later(hours=167)).prescription.lines[0]
    assert line.lease_until - line.claimed_at == timedelta(days=7) / timedelta(milliseconds=1)


def test_what_the_holder_says_is_shown_until_the_claim_ends(here: Region) -> None:
    id, code = here.issued()
    secret = here.accept(id, code).secret
    for progress in ("preparing", "awaiting-stock", "ready-to-collect"):
        shown = tasks.render(here.extend(id, secret, progress))["entry"][1]["resource"]
        assert shown["businessStatus"]["coding"][0]["code"] == progress
    freed = tasks.render(here.reject(id, secret))["entry"][1]["resource"]
    assert freed["businessStatus"]["coding"][0]["code"] == "held-any"
    assert code_of(refused(here.extend, id, secret, "sleeping")) == "RX-INVALID"


# --- declining ------------------------------------------------------------------------------------------


def test_a_line_is_closed_for_good_only_for_a_reason_of_the_closing_set(here: Region) -> None:
    id, code = here.issued()
    secret = here.accept(id, code).secret
    assert code_of(refused(here.decline, id, secret, "out-of-stock", closes=True)) == "RX-INVALID"
    closed = here.decline(id, secret, "patient-refused", closes=True)
    assert closed.prescription.lines[0].state == "N"
    assert closed.prescription.lines[0].owner is None
    assert code_of(refused(here.accept, id, code)) == "RX-REFUSED"


def test_who_declines_leaves_the_line_to_others_and_the_record_says_why(here: Region) -> None:
    id, code = here.issued()
    secret = here.accept(id, code).secret
    here.dispense(id, secret, 40)
    assert here.decline(id, secret).prescription.lines[0].state == "O"
    assert here.stored(id).claims_of(1)[0].ended == "declined"
    assert here.accept(id, code, caller=PHARMACY_B).prescription.lines[0].remaining_fill == 50 * MILLIONTHS


# --- withdrawing ----------------------------------------------------------------------------------------


def filled(here: Region, fills: int = 1) -> tuple[str, str | None]:
    supply = {"quantity": {"value": 30, "unit": "comprimé"}, "numberOfRepeatsAllowed": fills - 1}
    id, code = here.issued(medication_request(here.patient, dispenseRequest=supply))
    return id, code


def test_only_its_pharmacy_takes_a_supply_back_and_only_once_and_in_time(here: Region) -> None:
    id, code = filled(here)
    here.dispense(id, here.accept(id, code).secret, 30)
    dispense = here.last_supply(id)
    assert code_of(refused(here.withdraw, dispense, caller=PHARMACY_B)) == "RX-NOT-FOUND"
    assert code_of(refused(here.withdraw, "7q2k9c4m1xw8z0ab-01jpab3v5w9f2k8m4n6p0q1r2s")) == "RX-NOT-FOUND"
    error = refused(here.withdraw, dispense, at=later(hours=72, seconds=1))
    assert code_of(error) == "RX-WITHDRAW-WINDOW"
    assert f"endOfWindow={later(hours=72).isoformat()}" in told(error)
    assert here.withdraw(dispense, at=later(hours=72)).prescription.lines[0].state == "R"
    assert code_of(refused(here.withdraw, dispense, at=later(hours=72))) == "RX-STATE"


def test_a_reversal_is_a_new_entry_and_the_ledger_adds_up(here: Region) -> None:
    id, code = filled(here)
    secret = here.accept(id, code).secret
    for units in (10, 8):
        here.dispense(id, secret, units)
    here.withdraw(here.last_supply(id))
    stored = here.stored(id)
    assert [(each.kind, each.quantity // MILLIONTHS, each.reverses) for each in stored.entries_of(1)] == [
        ("supply", 10, None),
        ("supply", 8, None),
        ("reversal", 8, 2),
    ]
    assert stored.lines[0].remaining_fill == 20 * MILLIONTHS
    here.dispense(id, secret, 20)
    assert here.stored(id).lines[0].state == "F"


def test_the_fill_before_is_opened_again_while_the_next_is_untouched(here: Region) -> None:
    """And the days of the next fill are counted anew from what stands."""
    id, code = filled(here, fills=3)
    first = here.dispense(id, here.accept(id, code).secret, 30)
    code = first.access_code
    assert first.prescription.lines[0].state == "W"
    opened = here.withdraw(here.last_supply(id)).prescription.lines[0]
    assert (opened.state, opened.fill_no, opened.not_before) == ("R", 1, AT.date())
    assert opened.expires_on == here.stored(id).lines[0].expires_on
    again = here.dispense(id, here.accept(id, code, at=later(days=2)).secret, 30, at=later(days=2))
    assert again.prescription.lines[0].not_before == first.prescription.lines[0].not_before + timedelta(days=2)


def test_a_fill_before_stays_closed_once_the_next_is_claimed(here: Region) -> None:
    id, code = filled(here, fills=2)
    done = here.dispense(id, here.accept(id, code).secret, 30)
    dispense, due = here.last_supply(id), done.prescription.lines[0].not_before
    assert due is not None
    days = (due - AT.date()).days
    assert code_of(refused(here.withdraw, dispense, at=later(hours=73))) == "RX-WITHDRAW-WINDOW"
    here.accept(id, done.access_code, caller=PHARMACY_B, at=later(days=days))
    assert code_of(refused(here.withdraw, dispense, at=later(days=days))) == "RX-STATE"


def test_a_withdrawn_supply_gives_the_request_its_status_back(here: Region) -> None:
    id, code = filled(here)
    here.dispense(id, here.accept(id, code).secret, 30)
    before = here.stored(id).lines[0]
    done = here.withdraw(here.last_supply(id))
    assert done.dispense is not None
    assert '"entered-in-error"' in done.dispense
    assert done.prescription.lines[0].request_version == before.request_version + 1
