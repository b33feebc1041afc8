"""Treatments and what is known of a person, as the body of a CDS Hooks call to a licensed base.

CDS Hooks 2.0, hook `order-sign`. It leaves the exchange: whoever receives it learns what is needed to check, and not
of whom. Ids are random for each call, of the age there is a month of birth, and the text of a medicine is only given
when it has no code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from passerelle.medicines.model import Allergy, Context, Treatment

_UCUM: Final = "http://unitsofmeasure.org"
_LOINC: Final = "http://loinc.org"
_DAYS_OF_A_YEAR: Final = Decimal("365.25")
_ALLERGY: Final = "http://terminology.hl7.org/CodeSystem/allergyintolerance"


def render_order_sign(
    treatments: Sequence[Treatment], context: Context, *, instance: str, person: str, at: datetime
) -> dict[str, Any]:
    """The new treatments are draft orders, the others and the allergies are prefetched. `person` is any id."""
    subject = {"reference": f"Patient/{person}"}
    return {
        "hook": "order-sign",
        "hookInstance": instance,
        "context": {
            "userId": f"PractitionerRole/{person}",
            "patientId": person,
            "draftOrders": _bundle(
                "collection", (_order(each, "draft", subject) for each in treatments if each.is_new)
            ),
        },
        "prefetch": {
            "patient": _patient(context, person, at),
            "medications": _bundle(
                "searchset", (_order(each, "active", subject) for each in treatments if not each.is_new)
            ),
            "allergies": _bundle("searchset", (_allergy(each, subject) for each in context.allergies)),
            "observations": _bundle("searchset", _observations(context, subject)),
        },
    }


def _bundle(kind: str, resources: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    entries = [{"resource": {**each, "id": str(number)}} for number, each in enumerate(resources, start=1)]
    return {"resourceType": "Bundle", "type": kind, **({"entry": entries} if entries else {})}


def _order(treatment: Treatment, status: str, subject: Mapping[str, str]) -> dict[str, Any]:
    dosage = _dosage(treatment)
    return {
        "resourceType": "MedicationRequest",
        "status": status,
        "intent": "order",
        "medicationCodeableConcept": _concept(_codings(treatment), treatment.text),
        "subject": subject,
        **({"dosageInstruction": [dosage]} if dosage else {}),
    }


def _dosage(treatment: Treatment) -> dict[str, Any]:
    dosage: dict[str, Any] = {}
    if treatment.route:
        dosage["route"] = {"text": treatment.route}
    in_mg = treatment.mg_per_intake is not None or treatment.mg_per_day is not None
    intake = treatment.mg_per_intake if in_mg else treatment.units_per_intake
    day = treatment.mg_per_day if in_mg else treatment.units_per_day
    unit = "mg" if in_mg else "1"
    if intake is not None:
        dosage["doseAndRate"] = [{"doseQuantity": _quantity(intake, unit)}]
    if day is not None:
        dosage["maxDosePerPeriod"] = {"numerator": _quantity(day, unit), "denominator": _quantity(Decimal(1), "d")}
    return dosage


def _patient(context: Context, person: str, at: datetime) -> dict[str, Any]:
    said: dict[str, Any] = {"resourceType": "Patient", "id": person}
    if context.gender:
        said["gender"] = context.gender
    if context.age is not None:
        born = at - timedelta(days=int(context.age * _DAYS_OF_A_YEAR))
        said["birthDate"] = f"{born:%Y-%m}"
    return said


def _allergy(allergy: Allergy, subject: Mapping[str, str]) -> dict[str, Any]:
    said: dict[str, Any] = {
        "resourceType": "AllergyIntolerance",
        "type": "intolerance" if allergy.is_intolerance else "allergy",
        "code": _concept(allergy.codings, allergy.text),
        "patient": subject,
    }
    if allergy.criticality:
        said["criticality"] = allergy.criticality
    if allergy.verification:
        said["verificationStatus"] = {"coding": [{"system": f"{_ALLERGY}-verification", "code": allergy.verification}]}
    return said


def _observations(context: Context, subject: Mapping[str, str]) -> Iterable[dict[str, Any]]:
    if context.weight is not None:
        yield _observation("29463-7", subject, {"valueQuantity": _quantity(context.weight, "kg")})
    if context.egfr is not None:
        value = {"valueQuantity": _quantity(context.egfr, "mL/min/{1.73_m2}")}
        yield _observation("98979-8", subject, value)
    if context.is_pregnant is not None:
        code = "77386006" if context.is_pregnant else "60001007"
        value = {"valueCodeableConcept": {"coding": [{"system": "http://snomed.info/sct", "code": code}]}}
        yield _observation("82810-3", subject, value)


def _observation(code: str, subject: Mapping[str, str], value: Mapping[str, Any]) -> dict[str, Any]:
    coding = {"system": _LOINC, "code": code}
    said = {"resourceType": "Observation", "status": "final", "code": {"coding": [coding]}, "subject": subject}
    return {**said, **value}


def _codings(treatment: Treatment) -> tuple[str, ...]:
    """Its own; of a preparation without one, those of what it is made of."""
    return treatment.codings or tuple(coding for each in treatment.components for coding in each.codings)


def _concept(codings: Sequence[str], text: str) -> dict[str, Any]:
    coded = [dict(zip(("system", "code"), coding.rsplit("|", 1), strict=True)) for coding in codings]
    return {"coding": coded} if coded else {"text": text}


def _quantity(value: Decimal, unit: str) -> dict[str, Any]:
    return {"value": value, "unit": unit, "system": _UCUM, "code": unit}
