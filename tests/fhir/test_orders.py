"""Orders in FHIR: what stands beside the lines, who asks, which product, and what the prescriber states of a line."""

from __future__ import annotations

import json
from datetime import date
from fractions import Fraction
from typing import Any

import pytest

from passerelle.errors import PasserelleError
from passerelle.fhir import json as fhir_json
from passerelle.fhir.prescriptions import orders
from passerelle.prescriptions.lines import drafted
from passerelle.prescriptions.model import Mention, Order, OrderLine
from tests.prescribing import bundle, code_of, example, medication_request, refused

PATIENT = "7q2k9c4m1xw8z0ab"
CIS = "http://data.esante.gouv.fr/ansm/medicament/SpecialitePharmaceutique"
SMS = "http://data.esante.gouv.fr/ansm/medicament/codeSMS"
RPPS = {"system": orders.RPPS, "value": "810000000011"}
ENTRY = "Bundle.entry[0].resource"


def parsed(*resources: dict[str, Any]) -> Order:
    return orders.parse_order(fhir_json.loads(fhir_json.dumps(bundle(*resources))))


def line_of(*beside: dict[str, Any], **changes: Any) -> OrderLine:
    return parsed(medication_request(PATIENT, **changes), *beside).lines[0]


def place_of(error: PasserelleError) -> str | None:
    assert (error.status, code_of(error)) == (400, "RX-INVALID")
    return error.issues[0].expression


def medication(id: str, code: str | None = None, **more: Any) -> dict[str, Any]:
    coded = {"code": {"coding": [{"system": SMS, "code": code}]}} if code else {}
    return {"resourceType": "Medication", "id": id, **coded, **more}


def named(reference: str) -> dict[str, Any]:
    return {"medicationCodeableConcept": None, "medicationReference": {"reference": reference}}


def extension(name: str, **value: Any) -> dict[str, Any]:
    return {"url": f"https://exchange.example/fhir/StructureDefinition/rx-{name}", **value}


# --- the product ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["Medication/m", "#m"])  # the French guide writes the second
def test_a_medication_beside_the_line_becomes_part_of_it(reference: str) -> None:
    beside = medication("m", "100000092491", text={"status": "empty", "div": "<div/>"}, meta={"versionId": "1"})
    line = line_of({**beside, "text": {"status": "generated", "div": DIV}}, **named(reference))
    assert line.product == f"{SMS}|100000092491"
    request = json.loads(line.request)
    assert request["medicationReference"] == {"reference": "#m"}
    assert request["contained"] == [medication("m", "100000092491")]


DIV = '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'


def test_a_preparation_is_the_product_of_its_components() -> None:
    components = [medication("a", "1"), medication("b", "2")]
    whole = medication("c", ingredient=[{"itemReference": {"reference": f"#{name}"}} for name in "ba"])
    line = line_of(*components, whole, **named("#c"))
    assert line.product == f"{SMS}|1+{SMS}|2"
    assert {each["id"] for each in json.loads(line.request)["contained"]} == {"a", "b", "c"}
    uncoded = [medication("a", "1"), medication("b", code=None, form={"text": "x"})]
    assert place_of(refused(line_of, *uncoded, whole, **named("#c"))) == f"{ENTRY}.medication"


def test_preparations_of_each_other_are_no_product() -> None:
    circle = [
        medication("a", ingredient=[{"itemReference": {"reference": "#b"}}] * 2),
        medication("b", ingredient=[{"itemReference": {"reference": "#a"}}] * 2),
    ]
    assert place_of(refused(line_of, *circle, **named("#a"))) == f"{ENTRY}.medication"


def test_the_code_of_a_product_comes_before_that_of_its_substance() -> None:
    codings = [{"system": SMS, "code": "1"}, {"system": CIS, "code": "61234567"}]
    line = line_of(medicationCodeableConcept={"coding": codings})
    assert (line.product, line.products) == (f"{CIS}|61234567", (f"{CIS}|61234567", f"{SMS}|1"))


@pytest.mark.parametrize(
    "product", [{"medicationCodeableConcept": {"text": "x"}}, named("#m"), named("Medication/other")]
)
def test_a_product_is_coded(product: dict[str, Any]) -> None:
    assert place_of(refused(line_of, **product)) == f"{ENTRY}.medication"


def test_lines_that_name_one_medication_contain_it_each() -> None:
    lines = parsed(
        medication("m", "1"), *(medication_request(PATIENT, **named("Medication/m")) for _ in range(2))
    ).lines
    assert [json.loads(line.request)["contained"][0]["id"] for line in lines] == ["m", "m"]


def test_what_a_line_contains_keeps_its_name() -> None:
    """An entry of the same id gets another one; a reference to it follows."""
    own = medication("m", "1")
    weight = {
        "resourceType": "Observation",
        "id": "m",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": "Patient/p"},
    }
    person = {"resourceType": "Patient", "id": "p", "birthDate": "1980-01-01"}
    line = line_of(
        weight, person, contained=[own], supportingInformation=[{"reference": "Observation/m"}], **named("#m")
    )
    request = json.loads(line.request)
    assert line.product == f"{SMS}|1"
    assert request["supportingInformation"] == [{"reference": "#attached-1"}]
    assert request["contained"][1]["subject"] == {"reference": f"Patient/{PATIENT}"}
    assert "1980" not in line.request


def test_nothing_else_belongs_to_an_order() -> None:
    group = {"resourceType": "RequestGroup", "status": "active", "intent": "order"}
    assert place_of(refused(line_of, group)) == "Bundle.entry[1].resource"
    nested = medication("m", "1", contained=[medication("n", "2")], ingredient=[{"itemReference": {"reference": "#n"}}])
    assert place_of(refused(line_of, nested, **named("#m"))) == "Bundle.entry[1].resource.contained"
    document = {**bundle(medication_request(PATIENT)), "type": "message"}
    document["entry"].insert(
        0, {"resource": {"resourceType": "MessageHeader", "eventUri": "urn:x", "source": {"endpoint": "urn:x"}}}
    )
    assert place_of(refused(orders.parse_order, fhir_json.loads(fhir_json.dumps(document)))) == "Bundle.type"


# --- who asks, of whom ------------------------------------------------------------------------------------------------


def test_the_prescriber_may_be_told_by_a_role() -> None:
    role = {"resourceType": "PractitionerRole", "id": "r", "practitioner": {"identifier": RPPS}}
    doctor = {"resourceType": "Practitioner", "id": "d", "identifier": [{"value": "x"}, RPPS]}
    through = {**role, "practitioner": {"reference": "#d"}}
    asked = {"reference": "#r"}
    assert line_of(requester=asked, contained=[role]).prescriber == RPPS["value"]
    assert line_of(requester=asked, contained=[through, doctor]).prescriber == RPPS["value"]
    assert line_of({**through, "practitioner": {"reference": "Practitioner/d"}}, doctor, requester=asked).prescriber
    nobody = {**doctor, "identifier": [{"value": "x"}]}
    assert place_of(refused(line_of, requester=asked, contained=[through, nobody])) == f"{ENTRY}.requester.identifier"


def test_the_executing_pharmacy() -> None:
    finess = {"system": orders.STRUCTURE, "value": "1990000052"}
    pharmacy = {"resourceType": "Organization", "id": "p", "identifier": [finess]}
    supply = medication_request(PATIENT)["dispenseRequest"]
    for performer, beside, told in (
        ({"identifier": finess}, (), f"{orders.STRUCTURE}|1990000052"),
        ({"reference": "#p"}, (pharmacy,), f"{orders.STRUCTURE}|1990000052"),
        ({"display": "Pharmacie du Port"}, (), "Pharmacie du Port"),
    ):
        assert line_of(*beside, dispenseRequest={**supply, "performer": performer}).executor == told


@pytest.mark.parametrize("owner", [PATIENT, "0123456789abcdef"])
def test_a_prior_prescription_is_of_the_same_patient(owner: str) -> None:
    reference = {"reference": f"MedicationRequest/{owner}-01jpab3v5w9f2k8m4n6p0q1r2s"}
    if owner == PATIENT:
        assert line_of(priorPrescription=reference).prior == reference["reference"]
    else:
        assert place_of(refused(line_of, priorPrescription=reference)) == f"{ENTRY}.priorPrescription"


# --- what is stated ---------------------------------------------------------------------------------------------------


def test_what_is_stated_of_a_line() -> None:
    stated = [extension("ald", valueBoolean=True), extension("off-label", valueBoolean=True)]
    stated += [extension("at-mp", valueBoolean=False), extension("in-words", valueString="dix milligrammes")]
    stated += [
        extension("secure-prescription", valueBoolean=True),
        extension("planned-discharge", valueDate="2026-03-09"),
    ]
    line = line_of(extension=stated, dispenseRequest={"numberOfRepeatsAllowed": 0, "quantity": {"value": 1}})
    assert line.mentions == "ald in-words no-renewal off-label"
    assert (line.says(Mention.ALD), line.says(Mention.ACCIDENT)) == (True, False)
    assert (line.is_marked_secure, line.is_declared_ordinary) == (True, False)
    assert line.discharge_on == date(2026, 3, 9)


@pytest.mark.parametrize(
    "stated",
    [
        extension("aldd", valueBoolean=True),
        extension("ald", valueCode="true"),
        extension("in-words", valueBoolean=True),
    ],
)
def test_what_is_misstated_is_not_passed_over(stated: dict[str, Any]) -> None:
    assert place_of(refused(line_of, extension=[stated])) == f"{ENTRY}.extension[0]"


def test_the_words_of_the_dosage_are_kept() -> None:
    url = "http://hl7.org/fhir/5.0/StructureDefinition/extension-MedicationRequest.renderedDosageInstruction"
    stated = [{"url": url, "valueMarkdown": "un comprimé le soir"}]
    assert json.loads(line_of(extension=stated).request)["extension"] == stated


@pytest.mark.parametrize(
    ("substitution", "told"),
    [
        (None, (True, None, None)),
        ({"allowedBoolean": True}, (True, None, None)),
        ({"allowedBoolean": False}, (False, None, None)),
        ({"allowedCodeableConcept": {"coding": [{"code": "N"}]}}, (False, None, None)),
        ({"allowedCodeableConcept": {"coding": [{"code": "G"}]}}, (True, None, None)),
        (
            {"allowedBoolean": False, "reason": {"coding": [{"code": "CIF"}], "text": "lactose"}},
            (False, "CIF", "lactose"),
        ),
        (
            {"allowedBoolean": False, "reason": {"coding": [{"code": "10031000"}, {"code": "CIF"}]}},
            (False, "CIF", "10031000"),
        ),
        ({"allowedBoolean": False, "reason": {"coding": [{"code": "OTHER"}]}}, (False, "OTHER", None)),
    ],
)
def test_substitution(substitution: Any, told: tuple[bool, str | None, str | None]) -> None:
    line = line_of(substitution=substitution)
    assert (line.is_substitutable, line.substitution_reason, line.substitution_text) == told


def test_the_quantity_prescribed_is_that_of_all_supplies() -> None:
    whole = [extension("prescribed-quantity", valueQuantity={"value": 90, "unit": "comprimé"})]
    supply = {"numberOfRepeatsAllowed": 2, "expectedSupplyDuration": {"value": 10, "unit": "d"}}
    assert line_of(extension=whole, dispenseRequest=supply).quantity == 30
    each = {**supply, "quantity": {"value": 30, "unit": "comprimé"}}
    assert line_of(extension=whole, dispenseRequest=each).quantity == 30
    other = {**supply, "quantity": {"value": 90, "unit": "comprimé"}}
    assert place_of(refused(line_of, extension=whole, dispenseRequest=other)) == f"{ENTRY}.dispenseRequest.quantity"


def test_the_interval_between_supplies_is_read() -> None:
    supply = {"quantity": {"value": 30}, "dispenseInterval": {"value": 4, "unit": "wk"}}
    assert line_of(dispenseRequest=supply).interval_days == Fraction(28)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"doNotPerform": True}, ".doNotPerform"),
        ({"reportedBoolean": True}, ".reportedBoolean"),
        ({"dispenseRequest": {"initialFill": {"quantity": {"value": 7}}}}, ".dispenseRequest.initialFill"),
        ({"dispenseRequest": {"validityPeriod": {"end": "2026-03-01"}}}, ".dispenseRequest.validityPeriod"),
        ({"dispenseRequest": {"validityPeriod": {"end": "9999-12-31"}}}, ".dispenseRequest.validityPeriod"),
    ],
)
def test_what_would_change_its_meaning_is_refused(changes: dict[str, Any], place: str) -> None:
    assert place_of(refused(line_of, **changes)) == f"{ENTRY}{place}"


def test_an_order_with_all_that_belongs_to_one() -> None:
    """Two lines: of a substance, in three steps; of a product, as needed and twice a week."""
    order = orders.parse_order(example("order.json"))
    steps, relief = order.lines
    first, second = (drafted(number, line, "request") for number, line in enumerate(order.lines, 1))
    assert {line.prescriber for line in order.lines} == {RPPS["value"]}
    assert (steps.mentions, relief.mentions) == ("ald no-renewal", "non-reimbursable off-label")
    kinds = {each["resourceType"] for each in json.loads(steps.request)["contained"]}
    assert kinds == {"PractitionerRole", "Medication", "Observation"}
    assert (first.unit, first.total) == ("15054000", 49_000_000)
    assert first.course_days == first.duration_days == 28
    # the doses are in mg, the quantity in tablets: they last for the course
    assert first.per_day == Fraction(49, 28)
    assert second.per_day == 3 + Fraction(4, 7)
    assert (second.fills, second.per_fill) == (3, 28 * 25 * 1_000_000 // 7)
    assert (relief.substitution_reason, relief.substitution_text) == ("CIF", "lactose")
    assert relief.interval_days == 25
