"""What a hostile or careless caller sends to the operations on prescriptions: refused, and in nobody's way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import pytest

from functions.directory.handler import handler as directory
from functions.prescriptions.handler import handler
from functions.records.handler import handler as records
from passerelle import wiring
from passerelle.access import Caller
from passerelle.consents.control import shut_out
from passerelle.fhir.patient import FhirPatientDraft
from passerelle.patients.model import PersonChange
from tests import record
from tests.functions.test_prescription_checks import Case, issues, medicine
from tests.functions.test_prescription_claims import FINESS, routed
from tests.medicines import CIP, CIS, SUBSTANCE
from tests.prescribing import NURSE, OTHER_PRACTICE, PATIENT, PHARMACY_A, PHARMACY_B, PRACTICE, bundle, region, request
from tests.prescribing_http import Answer, Api, parameters, supply

ALL = "system/*.cruds"
_people = count(1)
MTX_TMP = "Interaction médicamenteuse : Méthotrexate + Triméthoprime"
OWN = "https://exchange.example/fhir/StructureDefinition/rx-"
SID = "https://api.example/fhir/sid/prescription"
METHOTREXATE = {"medicationCodeableConcept": {"text": "Méthotrexate"}}


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with region(finds=True) as made:
        api = Api(made)
        for caller in (PHARMACY_A, PHARMACY_B, NURSE):
            identifier = {"system": FINESS, "value": caller.organisation}
            listed = {"resourceType": "Organization", "identifier": [identifier], "name": caller.client_id}
            api.call("/Organization", listed, by=OTHER_PRACTICE, function=directory, scope=ALL)
        yield api


@pytest.fixture
def case(api: Api) -> Case:
    return somebody(api)


def somebody(api: Api) -> Case:
    """Somebody who resembles nobody before."""
    number = next(_people)
    identifier = ("urn:oid:2.999.3", f"{900 + number:06d}")
    resource = {
        "resourceType": "Patient",
        "identifier": [{"system": identifier[0], "value": identifier[1]}],
        "name": [{"use": "official", "family": chr(64 + number) * 6, "given": [chr(91 - number) * 5]}],
        "gender": "male",
        "birthDate": f"{1940 + number}-03-{number:02d}",
    }
    draft = FhirPatientDraft(resource, wiring.identity_scheme())
    registered, _ = wiring.patient_service().register(request(PRACTICE, "conditional-update"), identifier, draft)
    return Case(api, registered.patient)


def now(shape: str = "%Y-%m-%dT%H:%M:%SZ") -> str:
    return datetime.now(UTC).strftime(shape)


def created(case: Case, order: dict[str, Any]) -> Answer:
    return case.api.call("/Task/$create", bundle(order))


def found(case: Case, *orders: dict[str, Any]) -> dict[str, Any]:
    """What the check of a prescription of these lines finds."""
    made = case.api.call("/Task/$create", bundle(*orders))
    assert made.status == 201, made.body
    return issues(replace(case, id=made.resources("Task")[0]["id"]).checked())


def coded(*codings: str, text: str | None = None) -> dict[str, Any]:
    pairs = [coding.rsplit("|", 1) for coding in codings]
    concept = {"coding": [{"system": system, "code": code} for system, code in pairs]}
    return {**concept, "text": text} if text else concept


# --- what somebody else recorded is in nobody's way -------------------------------------------------------------------

DAYS = {"unit": "d", "system": "http://unitsofmeasure.org", "code": "d"}
ODD: dict[str, tuple[str, dict[str, Any]]] = {
    "handed over at the end of the calendar": ("MedicationDispense", {"whenHandedOver": "9999-12-31T23:59:59Z"}),
    "handed over in a leap second": ("MedicationDispense", {"whenHandedOver": now("%Y-%m-%dT%H:%M:60Z")}),
    "handed over who knows when": ("MedicationDispense", {}),
    "for a million days": ("MedicationDispense", {"daysSupply": {"value": 1_000_000, **DAYS}}),
    "for less than no day": ("MedicationDispense", {"daysSupply": {"value": -5, **DAYS}}),
    "for more days than a number has": ("MedicationDispense", {"daysSupply": {"value": Decimal("1e400"), **DAYS}}),
    "for part of an instant": ("MedicationDispense", {"daysSupply": {"value": Decimal("1e-400"), **DAYS}}),
    "more than there is": ("MedicationDispense", {"quantity": {"value": Decimal("1e999"), "unit": "comprimé"}}),
    "until a leap second": (
        "MedicationStatement",
        {"status": "active", "effectivePeriod": {"end": "2090-12-31T23:59:60Z"}},
    ),
    "from before the calendar": (
        "MedicationStatement",
        {"status": "active", "effectivePeriod": {"start": "0001-01-01", "end": "9999-12-31T23:59:59Z"}},
    ),
    "a dose below nothing": (
        "MedicationStatement",
        {"status": "active", "dosage": [{"doseAndRate": [{"doseQuantity": {"value": -1, "unit": "mg"}}]}]},
    ),
}


@pytest.mark.parametrize("what", ODD)
def test_what_cannot_be_meant_counts_and_stops_no_check(case: Case, what: str) -> None:
    """One resource of the record must not keep a patient from being prescribed to, nor hide what it is about."""
    kind, content = ODD[what]
    if kind == "MedicationDispense":
        moment = {} if what == "handed over who knows when" else {"whenHandedOver": now()}
        content = {"status": "completed", **moment, **content}
    case.adds(kind, **METHOTREXATE, **content)
    assert MTX_TMP in found(case, case.order("Triméthoprime"))


def test_an_order_that_was_over_before_the_calendar_stops_no_check(case: Case) -> None:
    over = {"dispenseRequest": {"validityPeriod": {"end": "0001-01-01T00:00:00Z"}}}
    case.adds("MedicationRequest", status="active", intent="order", authoredOn=now(), **METHOTREXATE, **over)
    assert found(case, case.order("Triméthoprime")) == {}


def test_a_check_has_an_end(case: Case) -> None:
    made = case.prescribed("Paracétamol")
    for name in ("medication", "allergy"):
        many = [{"name": name, "valueCodeableConcept": {"text": "Warfarine"}}] * 51
        body = {"resourceType": "Parameters", "parameter": many}
        assert case.api.call(f"/Task/{made.id}/$check", body, key=None).code == (400, "RX-INVALID")


# --- a hard stop that is not passed in silence ------------------------------------------------------------------------


def test_to_name_what_comes_before_does_not_make_it_go(case: Case) -> None:
    """`priorPrescription` of something else that is in force: it is taken until somebody stops it."""
    before = case.prescribed("Méthotrexate").in_force()
    replaced = before.api.read(f"/Task/{before.id}-01").body["basedOn"][0]
    assert MTX_TMP in found(case, case.order("Triméthoprime", priorPrescription=replaced))
    assert found(case, case.order("Méthotrexate", priorPrescription=replaced)) == {}


@pytest.mark.parametrize("is_referred_to", [True, False])
def test_an_ingredient_counts_beside_the_code_of_the_whole(case: Case, is_referred_to: bool) -> None:
    item = (
        {"itemReference": {"reference": "#i"}} if is_referred_to else {"itemCodeableConcept": {"text": "Méthotrexate"}}
    )
    whole = {
        "resourceType": "Medication",
        "id": "m",
        "code": coded(f"{SUBSTANCE}02202", text="Paracétamol"),
        "ingredient": [item],
    }
    part = {"resourceType": "Medication", "id": "i", "code": {"text": "Méthotrexate"}}
    order = case.order(
        "", contained=[whole, *([part] if is_referred_to else [])], medicationReference={"reference": "#m"}
    )
    del order["medicationCodeableConcept"]
    assert MTX_TMP in found(case, order, case.order("Triméthoprime"))


def test_a_name_counts_beside_the_code(case: Case) -> None:
    order = case.order("") | {"medicationCodeableConcept": coded(f"{SUBSTANCE}02202", text="Méthotrexate")}
    assert MTX_TMP in found(case, order, case.order("Triméthoprime"))


def test_codes_of_two_products_are_no_product(case: Case) -> None:
    """The rules of law of one would hold for the other: a narcotic behind a code of something else."""
    two = case.order("") | {"medicationCodeableConcept": coded(f"{CIS}60000013", f"{CIS}60000011")}
    assert created(case, two).code == (400, "RX-INVALID")
    known = case.order("") | {"medicationCodeableConcept": coded(f"{CIS}60000013", f"{CIP}3400960000011")}
    made = replace(case, id=created(case, known).resources("Task")[0]["id"])
    assert made.activated(made.prepared()).code == (400, "RX-INVALID")


def test_what_is_supplied_now_does_not_hide_what_was_supplied_before(case: Case) -> None:
    """Two supplies of an order that is over, of different products, both of which last."""
    order = case.adds("MedicationRequest", status="completed", intent="order", authoredOn=now(), **METHOTREXATE)
    for days, name in ((2, "Méthotrexate"), (1, "Paracétamol")):
        handed_over = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        behind = {"authorizingPrescription": [{"reference": order}], "whenHandedOver": handed_over}
        case.adds("MedicationDispense", status="completed", medicationCodeableConcept={"text": name}, **behind)
    assert MTX_TMP in found(case, case.order("Triméthoprime"))


# --- more than was asked for ------------------------------------------------------------------------------------------

TURNED = [{"url": "urn:example:not", "valueBoolean": True}]


@pytest.mark.parametrize(
    "changes",
    [
        {"dosageInstruction": [{"text": "1 par jour", "modifierExtension": TURNED}]},
        {"substitution": {"allowedBoolean": True, "modifierExtension": TURNED}},
        {"implicitRules": "urn:example:rules"},
        {"identifier": [{"system": f"{SID}-line", "value": "7K3M9QX2V5T8R1HNB4J1-02"}]},
        {
            "groupIdentifier": {
                "system": f"{SID}-number",
                "value": "7K3M9QX2V5T8R1HNB4J1",
            }
        },
        {"extension": [{"url": f"{OWN}secure-prescription", "valueBoolean": each} for each in (False, True)]},
        {"extension": [{"url": f"{OWN}claim", "valueBoolean": True}]},
        {
            "contained": [{"resourceType": "Patient", "id": "p", "name": [{"family": "AUTRE"}]}],
            "supportingInformation": [{"reference": "#p"}],
        },
        {"note": [{"text": "10\u202e01 comprimés"}]},
        {"note": [{"text": "\x9b31m"}]},
        {"status": "active"},
        {"intent": "plan"},
        {"statusReason": {"text": "x"}},
        {"doNotPerform": True},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_what_a_line_may_not_say(claim: tuple[Case, str], changes: dict[str, Any]) -> None:
    case, _ = claim
    refused = created(case, {**case.order("Paracétamol"), **changes})
    assert refused.code == (400, "RX-INVALID")


def test_of_the_person_a_line_says_whose_it_is_and_nothing_else(claim: tuple[Case, str]) -> None:
    case, _ = claim
    subject = {"reference": f"Patient/{case.patient}", "display": "AUTRE", "identifier": {"value": "1"}}
    answer = created(case, {**case.order("Paracétamol"), "subject": subject})
    (kept,) = [each for each in answer.resources("Task")[1]["contained"] if "subject" in each]
    assert kept["subject"] == {"reference": f"Patient/{case.patient}"}


@pytest.mark.parametrize(
    "changes",
    [
        {"performer": [{"actor": {"identifier": {"system": FINESS, "value": PHARMACY_B.organisation}}}]},
        {"performer": [{"actor": {"display": "x"}, "modifierExtension": TURNED}]},
        {"extension": [{"url": f"{OWN}unreconciled", "valueBoolean": True}]},
        {"authorizingPrescription": [{"reference": "MedicationRequest/another"}]},
        {"subject": {"reference": "Patient/another"}},
        {"whenHandedOver": "1990-01-01"},
        {"whenHandedOver": "9999-12-31T23:59:59Z"},
        {"status": "cancelled"},
        {"quantity": {"value": Decimal("1e400"), "unit": "comprimé"}},
        {"quantity": {"value": Decimal("0.0000001"), "unit": "comprimé"}},
        {"quantity": {"value": 0, "unit": "comprimé"}},
        {"medicationCodeableConcept": coded(f"{CIS}61234567", f"{CIS}60000011")},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_what_a_supply_may_not_say(claim: tuple[Case, str], changes: dict[str, Any]) -> None:
    case, secret = claim
    body = supply(secret, 10)
    body["parameter"][1]["resource"] |= {"medicationCodeableConcept": medicine("Paracétamol"), **changes}
    assert case.api.call(f"/Task/{case.id}-01/$dispense", body, by=PHARMACY_A).code == (400, "RX-INVALID")


@pytest.fixture(scope="module")
def claim(api: Api) -> tuple[Case, str]:
    case = somebody(api).prescribed("Paracétamol").in_force()
    return case, case.accepted().told("secret")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_what_the_exchange_keeps_is_changed_by_its_operations_only(claim: tuple[Case, str], method: str) -> None:
    case, _ = claim
    reference = case.api.read(f"/Task/{case.id}-01", by=PHARMACY_A).body["basedOn"][0]["reference"]
    patched = [{"op": "replace", "path": "/status", "value": "cancelled"}]
    whole = {
        "resourceType": "MedicationRequest",
        "id": reference.partition("/")[2],
        "status": "cancelled",
        "intent": "order",
    }
    body = {"PUT": {**whole, "subject": {"reference": f"Patient/{case.patient}"}, **METHOTREXATE}, "PATCH": patched}
    media: Any = {"Content_Type": "application/json-patch+json"} if method == "PATCH" else {}
    answer = case.api.call(f"/{reference}", body.get(method), method=method, function=records, scope=ALL, **media)
    assert answer.status == 422
    assert case.api.call(f"/Task/{case.id}-01", body.get(method), method=method, scope=ALL, **media).status in (
        400,
        404,
    )


@pytest.mark.parametrize("kind", ["MedicationRequest", "MedicationDispense", "Task"])
def test_nobody_writes_beside_a_prescription_as_part_of_it(claim: tuple[Case, str], kind: str) -> None:
    case, _ = claim
    number = case.api.read(f"/Task/{case.id}").body["groupIdentifier"]
    person = {"for" if kind == "Task" else "subject": {"reference": f"Patient/{case.patient}"}}
    own: dict[str, Any] = {"resourceType": kind, "status": "completed", **person}
    if kind != "MedicationDispense":
        own |= {"intent": "order", "groupIdentifier": number}
    if kind != "Task":
        own |= {**METHOTREXATE, "identifier": [{"system": number["system"], "value": number["value"]}]}
    function = records if kind == "MedicationRequest" else handler
    assert case.api.call(f"/{kind}", own, function=function, scope=ALL).status == 422


# --- who is shut out, and what no pharmacy learns ---------------------------------------------------------------------


def shut(patient: str, *parties: str) -> None:
    person = wiring.patient_index().find_person(patient)
    assert person is not None
    policy = person.policy
    for party in parties:
        policy = shut_out(policy, party, datetime.now(UTC))
    members = tuple(replace(each, policy=policy) for each in person.records)
    record.commit(PersonChange(before=person, after=replace(person, records=members, revision=person.revision + 1)))


@pytest.mark.parametrize("by", [PHARMACY_A, PHARMACY_B, NURSE, PRACTICE], ids=lambda caller: caller.client_id)
def test_whom_the_patient_shut_out_is_told_nothing(api: Api, gone: tuple[str, str], by: Caller) -> None:
    """DMP-3: held it, is to have it next, coordinates it, prescribed it."""
    id, patient = gone
    nothing = {"resourceType": "Parameters"}
    for path in (f"/Task/{id}", f"/Task/{id}-01", f"/Task/{id}/$history"):
        assert api.read(path, by=by).status in (403, 404)
    assert api.read(f"/Task?patient={patient}&code=fulfil-prescription", by=by).body["total"] == 0
    assert id not in str(api.read("/Task?code=fulfil-prescription", by=by).body)
    for operation, body in (("$check", None), ("$print", parameters(accessCode="x")), ("$route", nothing)):
        assert api.call(f"/Task/{id}/{operation}", body, by=by).status == 403
    assert api.call(f"/Task/{id}/$accept", nothing, by=by).status == 403
    assert api.call(f"/Task/{id}-01/$request-renewal", None, by=by).status == 403


@pytest.fixture(scope="module")
def gone(api: Api) -> tuple[str, str]:
    """Supplied in part by one pharmacy, sent to another, coordinated by a nurse, all shut out; id and patient."""
    id, code = api.issued()
    secret = api.call(f"/Task/{id}/$accept", parameters(accessCode=code), by=PHARMACY_A).told("secret")
    assert api.call(f"/Task/{id}-01/$dispense", supply(secret, 30), by=PHARMACY_A).status == 200
    api.call(f"/Task/{id}-01/$reject", parameters(secret=secret), by=PHARMACY_A)
    assert routed(api, id, PHARMACY_B).status == 200
    seen = api.read(f"/Task/{id}", by=PHARMACY_A)
    assert (seen.status, PHARMACY_B.organisation in str(seen.body)) == (200, False)  # nor does it learn which
    nurse = {"name": "coordinator", "valueIdentifier": {"system": FINESS, "value": NURSE.organisation}}
    sent = {"name": "pharmacy", "valueIdentifier": {"system": FINESS, "value": PHARMACY_B.organisation}}
    body = {"resourceType": "Parameters", "parameter": [nurse, sent]}
    assert api.call(f"/Task/{id}/$route", body, by=PATIENT).status == 200
    shut(api.region.patient, *(each.organisation for each in (PHARMACY_A, PHARMACY_B, NURSE, PRACTICE)))
    return id, api.region.patient


def test_nothing_of_who_was_erased_is_told(api: Api) -> None:
    """From the decision on, before anything is destroyed."""
    case = somebody(api).prescribed("Paracétamol").in_force()
    person = wiring.patient_index().find_person(case.patient)
    assert person is not None
    members = tuple(replace(each, is_erased=True) for each in person.records)
    record.commit(PersonChange(before=person, after=replace(person, records=members, revision=person.revision + 1)))
    for path in ("", "-01", "/$history"):
        assert api.read(f"/Task/{case.id}{path}").status == 410
    assert api.call(f"/Task/{case.id}/$check", None, key=None).status == 410
    assert api.call(f"/Task/{case.id}/$accept", parameters(accessCode=case.code), by=PHARMACY_A).status == 410
    assert case.id not in str(api.read("/Task?code=fulfil-prescription").body)
