"""What the checks take from FHIR: doses, allergies, what still lasts, and what is known of the person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from passerelle import wiring
from passerelle.aws.dynamodb import in_parallel, measure
from passerelle.consents.model import RecordStatus
from passerelle.consents.visibility import Restriction
from passerelle.fhir import json as fhir_json
from passerelle.fhir.prescriptions.treatments import RecordCircumstances, allergy_of, treatment_of
from passerelle.identifiers import new_resource_id
from passerelle.patients.model import Person, PersonChange
from passerelle.prescriptions.checking import Circumstances
from passerelle.records.model import RecordVersion, ResourceKey
from tests import record
from tests.prescribing import PRACTICE

AT = record.AT
EDQM = "http://standardterms.edqm.eu"
LOINC, CIM10 = "http://loinc.org", "http://hl7.org/fhir/sid/icd-10"


@pytest.fixture(scope="module", autouse=True)
def services() -> Iterator[None]:
    with record.services():
        yield


def read(content: dict[str, Any]) -> Any:
    return fhir_json.loads(fhir_json.dumps(content))


def dosage(value: float, unit: str, times: int, **more: Any) -> dict[str, Any]:
    return {
        "timing": {"repeat": {"frequency": times, "period": 1, "periodUnit": "d"}},
        "doseAndRate": [{"doseQuantity": {"value": value, "unit": unit}}],
        **more,
    }


def test_doses_are_of_units_or_in_milligrams() -> None:
    tablets = treatment_of(read({"dosageInstruction": [dosage(2, "comprimé", 3)]}), "a")
    assert (tablets.units_per_intake, tablets.units_per_day) == (Decimal(2), Decimal(6))
    assert tablets.mg_per_day is None
    grams = treatment_of(read({"dosage": [dosage(0.5, "g", 4)]}), "a")
    assert (grams.mg_per_intake, grams.mg_per_day) == (Decimal(500), Decimal(2_000))
    assert grams.units_per_day is None


def test_of_doses_that_take_turns_the_highest_day_counts() -> None:
    days = [
        {"boundsDuration": {"value": 7, "code": "d"}, "frequency": n, "period": 1, "periodUnit": "d"} for n in (1, 3)
    ]
    phases = [
        dosage(1, "comprimé", 1, sequence=number, timing={"repeat": repeat}) for number, repeat in enumerate(days, 1)
    ]
    assert treatment_of(read({"dosageInstruction": phases}), "a").units_per_day == 3


def test_a_route_counts_where_there_is_one() -> None:
    oral, iv = ({"route": {"coding": [{"system": EDQM, "code": code}]}} for code in ("20053000", "20045000"))
    assert treatment_of(read({"dosageInstruction": [oral]}), "a").route == "oral"
    assert treatment_of(read({"dosageInstruction": [oral, iv]}), "a").route is None


def test_a_preparation_is_what_it_is_made_of() -> None:
    parts = [{"itemCodeableConcept": {"text": name}} for name in ("Morphine", "Warfarine")]
    made = {"resourceType": "Medication", "id": "m", "ingredient": parts}
    content = {"contained": [made], "medicationReference": {"reference": "#m"}}
    assert treatment_of(read(content), "a").text == "Morphine + Warfarine"


def test_an_allergy_has_its_weight() -> None:
    reaction = {"manifestation": [{"coding": [{"system": "http://snomed.info/sct", "code": "4386001"}]}]}
    content = {"code": {"text": "Kétoprofène"}, "criticality": "low", "type": "intolerance", "reaction": [reaction]}
    allergy = allergy_of(read(content), "a")
    assert (allergy.text, allergy.criticality, allergy.is_intolerance, allergy.is_nsaid_type) == (
        *("Kétoprofène", "low"),
        *(True, True),
    )


# --- the record -------------------------------------------------------------------------------------------------------


def adds(person: Person, kind: str, *, restriction: Restriction | None = None, member: int = 0, **content: Any) -> str:
    patient = person.members[member]
    subject = {"reference": f"Patient/{patient}"}
    key = ResourceKey(type=kind, id=new_resource_id(patient, AT), patient=patient)
    made = record.draft(kind, **{"patient" if kind == "AllergyIntolerance" else "subject": subject}, **read(content))
    body, entry = made.body(key.id, 1, AT), made.entry(key.id, 1, AT)
    record.commit(
        RecordVersion(key=key, version=1, at=AT, body=body, entry=entry, restriction=restriction, producer="1990000011")
    )
    return key.reference


def found(person: Person, at: datetime = AT) -> Circumstances:
    reader = RecordCircumstances(store=wiring.record_store(), gate=wiring.gate(), in_parallel=in_parallel)
    return reader.find(replace(PRACTICE, domain=None), person.members[0], at)


def taken(person: Person, at: datetime = AT) -> list[str]:
    return sorted(each.text for each in found(person, at).whole.treatments)


def ordered(person: Person, name: str, **changes: Any) -> str:
    content = {
        "status": "active",
        "intent": "order",
        "authoredOn": "2026-02-01",
        "medicationCodeableConcept": {"text": name},
        "dosageInstruction": [dosage(1, "comprimé", 2)],
    }
    return adds(person, "MedicationRequest", **{**content, **changes})


def supplied(person: Person, name: str, day: str, order: str | None = None, **changes: Any) -> str:
    content: dict[str, Any] = {
        "status": "completed",
        "medicationCodeableConcept": {"text": name},
        "whenHandedOver": day,
        "quantity": {"value": 56, "unit": "comprimé"},
    }
    if order:
        content["authorizingPrescription"] = [{"reference": order}]
    return adds(person, "MedicationDispense", **{**content, **changes})


def test_orders_count_while_they_are_in_force() -> None:
    person = record.person()
    ordered(person, "En cours")
    ordered(person, "Renouvelée", authoredOn="2025-06-01")
    ordered(person, "Arrêtée", status="stopped")
    ordered(person, "Interdite", doNotPerform=True)
    ordered(person, "Idée", intent="proposal")
    ordered(person, "Passée", dispenseRequest={"validityPeriod": {"end": "2026-02-20"}})
    ordered(person, "Ancienne", authoredOn="2024-06-01")
    assert taken(person) == ["En cours", "Renouvelée"]


def test_a_supply_counts_until_it_is_used_up() -> None:
    """28 days of two a day; two supplies one after the other last 56, whenever the second was fetched."""
    person = record.person()
    order = ordered(person, "Deux par jour", status="completed", authoredOn="2026-01-01")
    supplied(person, "Deux par jour", "2026-01-10T10:00:00+01:00", order)
    assert taken(person, datetime(2026, 2, 6, 9, tzinfo=UTC)) == ["Deux par jour"]
    assert taken(person, datetime(2026, 2, 7, 9, tzinfo=UTC)) == []
    supplied(person, "Deux par jour", "2026-02-03T10:00:00+01:00", order)
    assert taken(person, datetime(2026, 3, 6, 9, tzinfo=UTC)) == ["Deux par jour"]
    assert taken(person, datetime(2026, 3, 7, 9, tzinfo=UTC)) == []


def test_a_supply_says_itself_how_long_it_lasts_or_lasts_a_month() -> None:
    person = record.person()
    supplied(person, "Trois mois", "2025-12-15", daysSupply={"value": 84, "code": "d"})
    supplied(person, "Un mois", "2026-02-10")
    supplied(person, "Finie", "2026-01-10")
    assert taken(person) == ["Trois mois", "Un mois"]


def test_what_was_supplied_of_an_order_in_force_is_one_treatment() -> None:
    person = record.person()
    order = ordered(person, "Ordonnée")
    supplied(person, "Délivrée", "2026-02-20", order)
    adds(
        person,
        "MedicationStatement",
        status="active",
        medicationCodeableConcept={"text": "Dite"},
        derivedFrom=[{"reference": order}],
    )
    assert taken(person) == ["Ordonnée"]


def test_all_source_records_of_the_person_are_read() -> None:
    person = record.person(2)
    adds(person, "MedicationStatement", member=1, status="active", medicationCodeableConcept={"text": "Ailleurs"})
    assert taken(person) == ["Ailleurs"]


def test_what_a_reference_leads_to_is_read() -> None:
    person = record.person()
    medication = record.draft("Medication", code={"text": "Du répertoire"})
    key = ResourceKey(type="Medication", id=new_resource_id(None, AT), patient=None)
    record.commit(record.version(medication, key))
    named = {"reference": f"Medication/{key.id}"}
    adds(person, "MedicationStatement", status="active", medicationReference=named)
    assert taken(person) == ["Du répertoire"]


def observed(person: Person, code: str, days_ago: int, **value: Any) -> None:
    adds(
        person,
        "Observation",
        status="final",
        code={"coding": [{"system": LOINC, "code": code}]},
        effectiveDateTime=(AT - timedelta(days=days_ago)).isoformat(),
        **value,
    )


def test_measures_are_the_newest_of_a_year() -> None:
    person = record.person()
    observed(person, "29463-7", 400, valueQuantity={"value": 90, "code": "kg", "system": "http://unitsofmeasure.org"})
    assert found(person).whole.context.weight is None
    observed(person, "29463-7", 30, valueQuantity={"value": 71.5, "code": "kg", "system": "http://unitsofmeasure.org"})
    observed(person, "98979-8", 200, valueQuantity={"value": 80, "unit": "mL/min"})
    observed(person, "62238-1", 10, valueQuantity={"value": 30, "comparator": "<", "unit": "mL/min"})
    context = found(person).whole.context
    assert (context.weight, context.egfr) == (Decimal("71.5"), Decimal("29.9"))
    assert context.conditions == {"renal-impairment", "severe-renal-impairment"}


def test_a_pregnancy_ends() -> None:
    person = record.person()
    concept = {"coding": [{"system": LOINC, "code": "LA15173-0"}]}
    observed(person, "82810-3", 200, valueCodeableConcept=concept)
    observed(person, "11778-8", 190, valueDateTime=(AT + timedelta(days=80)).date().isoformat())
    context = found(person).whole.context
    assert (context.is_pregnant, context.trimester) == (True, 3)
    observed(person, "82810-3", 5, valueCodeableConcept={"coding": [{"system": LOINC, "code": "LA26683-5"}]})
    assert found(person).whole.context.is_pregnant is False


@pytest.mark.parametrize(
    ("code", "clinical", "verification", "there", "absent"),
    [
        ("I50.1", "active", "confirmed", {"heart-failure", "left-ventricular-dysfunction"}, set()),
        ("I50.9", "resolved", "confirmed", set(), set()),
        ("K25.4", "resolved", "confirmed", {"ulcer-history"}, set()),  # a history is one for good
        ("K25.4", None, "refuted", set(), {"ulcer-history"}),
        ("K25.4", None, "entered-in-error", set(), set()),
        ("Z00.0", "active", "confirmed", set(), set()),
    ],
)
def test_conditions_have_the_names_of_the_rules(
    code: str, clinical: str | None, verification: str, there: set[str], absent: set[str]
) -> None:
    person = record.person()
    root = "http://terminology.hl7.org/CodeSystem/condition-"
    content: dict[str, Any] = {
        "code": {"coding": [{"system": CIM10, "code": code}]},
        "verificationStatus": {"coding": [{"system": f"{root}ver-status", "code": verification}]},
    }
    if clinical:
        content["clinicalStatus"] = {"coding": [{"system": f"{root}clinical", "code": clinical}]}
    adds(person, "Condition", **content)
    context = found(person).whole.context
    assert context.conditions == there
    assert context.absent == absent


def test_the_shown_world_is_the_record_without_what_is_hidden() -> None:
    person = record.person()
    hidden = Restriction(labels=frozenset({"MASQUE_PS"}), producer="1990000011")
    for restriction, name in ((None, "Montré"), (hidden, "Masqué")):
        concept = {"text": name}
        adds(person, "MedicationStatement", restriction=restriction, status="active", medicationCodeableConcept=concept)
    known = found(person)
    assert known.shown is not None
    assert [each.text for each in known.shown.treatments] == ["Montré"]
    assert sorted(each.text for each in known.whole.treatments) == ["Masqué", "Montré"]


def test_a_closed_record_is_not_used_and_that_is_said() -> None:
    person = record.person()
    ordered(person, "En cours")
    (member,) = person.records
    closed = replace(member, policy=replace(member.policy, status=RecordStatus.CLOSED))
    after = replace(person, records=(closed,), revision=person.revision + 1)
    record.commit(PersonChange(before=person, after=after))
    known = found(person)
    assert (known.whole.treatments, known.gaps) == ((), ("record-not-open",))


def test_who_takes_nothing_costs_one_round_of_reads() -> None:
    person = record.person()
    with measure() as nothing:
        in_parallel(lambda: found(person), lambda: None)
    assert nothing.round_trips == 1
    assert nothing.read_units < 20
