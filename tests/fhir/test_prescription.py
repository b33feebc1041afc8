"""Prescriptions in and out of FHIR: what an order must be, what a dosage adds up to, how states show."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from passerelle.errors import Invalid
from passerelle.fhir import json as fhir_json
from passerelle.fhir.prescriptions import calls, orders, record, supplies, tasks
from passerelle.fhir.validation import validate
from passerelle.prescriptions.model import LedgerEntry, Line, Order, OrderLine, Prescription, View
from passerelle.prescriptions.numbers import digest
from passerelle.prescriptions.quantities import units_per_day
from passerelle.prescriptions.transitions import STATES
from tests.prescribing import (
    GROUP,
    PHARMACY_A,
    Called,
    bundle,
    code_of,
    example,
    medication_request,
    provenance,
    refused,
)

PATIENT = "7q2k9c4m1xw8z0ab"
AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def parsed(*requests: dict[str, Any]) -> Order:
    return orders.parse_order(fhir_json.loads(fhir_json.dumps(bundle(*requests))))


def line_of(**changes: Any) -> OrderLine:
    return parsed(medication_request(PATIENT, **changes)).lines[0]


def dosage(repeat: dict[str, Any] | None, dose: Any = 1, **more: Any) -> dict[str, Any]:
    made = {"doseAndRate": [{"doseQuantity": {"value": dose, "unit": "comprimé"}}], **more}
    return {**made, "timing": {"repeat": repeat}} if repeat else made


def test_an_order_is_read() -> None:
    order = parsed(medication_request(PATIENT))
    (line,) = order.lines
    assert order.patient == PATIENT
    assert (line.authored_on, line.prescriber) == (date(2026, 3, 2), "810000000011")
    assert line.product == "http://data.esante.gouv.fr/ansm/medicament/SpecialitePharmaceutique|61234567"
    assert (units_per_day(line.doses), line.duration_days) == (Fraction(3), Fraction(30))
    assert line.unit == "comprimé"
    assert (line.is_declared_ordinary, line.is_marked_secure, line.is_substitutable) == (True, False, True)
    assert json.loads(line.request) == medication_request(PATIENT)


def test_parameters_hold_an_order_too() -> None:
    parts = [{"name": "line", "resource": medication_request(PATIENT)} for _ in range(20)]
    order = orders.parse_order(fhir_json.loads(fhir_json.dumps({"resourceType": "Parameters", "parameter": parts})))
    assert len(order.lines) == 20


@pytest.mark.parametrize(
    ("changes", "expression"),
    [
        ({"status": "active"}, "Bundle.entry[0].resource.status"),
        ({"intent": "plan"}, "Bundle.entry[0].resource.status"),
        ({"requester": None}, "Bundle.entry[0].resource.requester.identifier"),
        ({"authoredOn": None}, "Bundle.entry[0].resource"),
        ({"authoredOn": "2026-03"}, "Bundle.entry[0].resource.authoredOn"),
        ({"dosageInstruction": None}, "Bundle.entry[0].resource"),
        ({"dosageInstruction": [{"patientInstruction": "x"}]}, "Bundle.entry[0].resource.dosageInstruction"),
        ({"groupIdentifier": {"value": "1"}}, "Bundle.entry[0].resource.groupIdentifier"),
        ({"doNotPerform": True}, "Bundle.entry[0].resource.doNotPerform"),
        ({"modifierExtension": [{"url": "urn:x"}]}, None),
        ({"medicationCodeableConcept": {"text": "x"}}, "Bundle.entry[0].resource.medication"),
        ({"subject": {"reference": "Patient/someone"}}, "Bundle.entry[0].resource.subject"),
        ({"subject": {"display": "x"}}, "Bundle.entry[0].resource.subject"),
        (
            {"dispenseRequest": {"validityPeriod": {"start": "2026-03-03"}}},
            "Bundle.entry[0].resource.dispenseRequest.validityPeriod",
        ),
    ],
)
def test_an_order_that_is_none(changes: dict[str, Any], expression: str) -> None:
    error = refused(line_of, **changes)
    assert (error.status, code_of(error)) == (400, "RX-INVALID")
    assert expression is None or error.issues[0].expression == expression


def test_a_number_that_the_signed_content_cannot_hold_is_refused() -> None:
    for number in ("0.12345678901234567890", "1E+400", "1E-400", "12345678901234567890.5"):
        interval = {"quantity": {"value": 1}, "dispenseInterval": {"value": Decimal(number), "code": "d"}}
        assert code_of(refused(line_of, dispenseRequest=interval)) == "RX-INVALID"


@pytest.mark.parametrize("number", ["1E+30", "-1", "0.0000001", "1E+999999999", "1E-999999999"])
def test_numbers_without_measure_are_refused(number: str) -> None:
    value = Decimal(number)
    for changes in (
        {"dispenseRequest": {"quantity": {"value": value}}},
        {"dosageInstruction": [dosage({"when": ["MORN"]}, value)]},
        {"dosageInstruction": [dosage({"frequency": 1, "period": value, "periodUnit": "d"})]},
        {"dispenseRequest": {"expectedSupplyDuration": {"value": value, "code": "d"}}},
    ):
        assert code_of(refused(line_of, **changes)) == "RX-INVALID"


def test_lines_of_one_order_belong_together() -> None:
    other = medication_request("0123456789abcdef")
    other_day = medication_request(PATIENT, authoredOn="2026-03-01")
    mine = medication_request(PATIENT)
    for requests in (
        (mine, other),
        (mine, other_day),
        (),
        (mine,) * 21,
        (example("medication-dispense.json"),),
    ):
        assert code_of(refused(parsed, *requests)) == "RX-INVALID"


def test_a_contained_medication_names_the_product() -> None:
    coding = {"system": "http://example.org", "code": "1"}
    contained = [{"resourceType": "Medication", "id": "m", "code": {"coding": [coding]}}]
    changes = {
        "contained": contained,
        "medicationReference": {"reference": "#m"},
        "medicationCodeableConcept": None,
    }
    assert line_of(**changes).product == "http://example.org|1"


@pytest.mark.parametrize(
    "changes",
    [{"sigFormat": "application/pkcs7"}, {"data": "####"}, {"data": None}, {"data": "w6k="}],
)
def test_a_signature_that_is_none(changes: dict[str, Any]) -> None:
    resource = provenance("{}")
    merged = {**resource["signature"][0], **changes}
    resource["signature"] = [{name: value for name, value in merged.items() if value is not None}]
    error = refused(calls.parse_signature, Called(resource=resource))
    assert (error.status, code_of(error)) == (400, "RX-INVALID")


def test_the_signing_day_is_that_of_paris() -> None:
    late = provenance("{}", at=datetime(2026, 3, 2, 23, 30, tzinfo=UTC))
    assert calls.parse_signature(Called(resource=late))[1].signed_on == date(2026, 3, 3)
    wrapped = {"resourceType": "Parameters", "parameter": [{"name": "provenance", "resource": late}]}
    assert calls.parse_signature(Called(resource=wrapped)) == calls.parse_signature(Called(resource=late))


@pytest.mark.parametrize("units", [Decimal("0.1234567"), Decimal("1E-7")])
def test_more_than_six_decimals_are_refused(units: Decimal) -> None:
    dispense = {**example("medication-dispense.json"), "quantity": {"value": units, "unit": "comprimé"}}
    parts = [{"name": "secret", "valueString": "x"}, {"name": "dispense", "resource": dispense}]
    with pytest.raises(Invalid):
        supplies.parse_supply(Called(resource={"resourceType": "Parameters", "parameter": parts}))


LINE = Line(
    number=1,
    state="P",
    version=3,
    request_id=f"{PATIENT}-01jpab3v5w9f2k8m4n6p0q1r2t",
    request=json.dumps(medication_request(PATIENT)),
    request_version=1,
    product="s|1",
    unit="",
    is_substitutable=True,
    is_declared_ordinary=True,
    is_marked_secure=False,
    fills=1,
    per_fill=90_000_000,
    total=90_000_000,
    units_per_day="3",
    valid_until=None,
    fill_no=1,
    remaining_fill=44_500_000,
    remaining_total=44_500_000,
    not_before=date(2026, 3, 2),
    expires_on=date(2027, 3, 2),
    owner="1990000052",
    secret_hash=digest("secret"),
    fence=1,
    claimed_at=int(AT.timestamp() * 1000),
    lease_until=int(AT.timestamp() * 1000) + 7_200_000,
)


LEDGER = tuple(
    LedgerEntry(
        line=1,
        number=number,
        fill_no=1,
        quantity=quantity,
        on=AT.date(),
        at=AT.isoformat(),
        organisation=PHARMACY_A.organisation,
        dispense_id=id,
        kind=kind,
    )
    for number, (kind, id, quantity) in enumerate((("supply", "supply", 42_500_000), ("lapse", "", 3_000_000)), 1)
)


def shown(states: str, line: int | None = None) -> Any:
    lines = tuple(replace(LINE, number=number, state=state) for number, state in enumerate(states, 1))
    task = tasks.render_view(View(prescription=Prescription(group=GROUP, lines=lines, ledger=LEDGER), line=line))
    return json.loads(fhir_json.dumps(task))


@pytest.mark.parametrize("state", STATES)
def test_a_line_in_each_state_is_a_valid_task(state: str) -> None:
    task = shown(state, 1)
    validate(task, expected_type="Task")
    assert task["status"] == STATES[state].task_status
    assert task["id"] == f"{GROUP.id}-01"
    assert digest("secret") not in json.dumps(task)


def test_a_claimed_line_shows_claim_and_ledger() -> None:
    extensions = {
        each["url"].rpartition("/")[2]: {part["url"]: list(part.values())[1] for part in each["extension"]}
        for each in shown("P", 1)["extension"]
    }
    assert extensions == {
        "rx-claim": {"fence": 1, "leaseUntil": "2026-03-02T11:30:00.000Z"},
        "rx-ledger": {"authorised": 90, "dispensed": 42.5, "remaining": 44.5, "fillNo": 1, "lapsed": 3},
    }


@pytest.mark.parametrize(
    ("states", "status"),
    [
        ("DD", "draft"),
        ("RR", "ready"),
        ("RC", "in-progress"),
        ("FQ", "in-progress"),
        ("FP", "in-progress"),
        ("FW", "ready"),
        ("KO", "ready"),
        ("FF", "completed"),
        ("FK", "completed"),
        ("NX", "completed"),
        ("KK", "cancelled"),
        ("XX", "failed"),
        ("EE", "entered-in-error"),
    ],
)
def test_the_group_is_what_its_lines_are(states: str, status: str) -> None:
    assert shown(states)["status"] == status
    validate(shown(states), expected_type="Task")


@pytest.mark.parametrize("state", STATES)
def test_the_medication_request_follows_its_line(state: str) -> None:
    for is_supplied in (False, True):
        line = replace(LINE, state=state, remaining_total=LINE.total - (1 if is_supplied else 0))
        line = replace(line, request_version=2, cancel_reason="death" if state in "QK" else None)
        change = record.FhirClinicalRecord().request_version(GROUP, line, AT)
        stored = json.loads(change.body)  # type: ignore[attr-defined]
        validate(stored, expected_type="MedicationRequest")
        expected = STATES[state].request_status.split(" ")[0].rstrip(";")
        assert stored["status"] == ("stopped" if state == "K" and is_supplied else expected)
        assert ("statusReason" in stored) is (state in "QKX")


def test_what_is_not_signed_is_not_kept() -> None:
    text = {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">another dose</div>'}
    line = line_of(text=text, id="mine", meta={"tag": [{"code": "x"}]})
    assert not {"text", "id", "meta"} & json.loads(line.request).keys()


def test_what_is_signed_is_what_comes_in_force() -> None:
    dose = [dosage({"when": ["MORN"]}, Decimal("0.333333"))]
    line = replace(LINE, state="D", request=line_of(dosageInstruction=dose).request, request_version=1)
    signed = record.FhirClinicalRecord().signed_line(GROUP, line)
    assert signed["dosageInstruction"][0]["doseAndRate"][0]["doseQuantity"]["value"] == 0.333333
    change = record.FhirClinicalRecord().request_version(GROUP, replace(line, state="R"), AT)
    stored = json.loads(change.body)  # type: ignore[attr-defined]
    assert stored.pop("meta")["versionId"] == "1"
    assert stored == signed
