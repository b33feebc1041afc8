"""What comes beside a stay: AL1, IAM, DG1, PRB, PR1, IN1 and GT1 as what they are in a record.

HL7 Version 2 to FHIR 1.0.0, segment maps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from passerelle.fhir.conversion import values
from passerelle.fhir.conversion.draft import Draft, digest
from passerelle.fhir.conversion.made import concept_text, present
from passerelle.fhir.conversion.values import table
from passerelle.hl7v2.message import Segment

_CLINICAL: Final = "http://terminology.hl7.org/CodeSystem/condition-clinical"
_VERIFICATION: Final = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/condition-category"
_ALLERGY_CLINICAL: Final = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical"
_ALLERGY_VERIFICATION: Final = "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification"
_ERROR: Final = "entered-in-error"


def one(system: str, code: str) -> dict[str, Any]:
    """A concept of one coding."""
    return {"coding": [{"system": system, "code": code}]}


def allergies(draft: Draft) -> None:
    for segment in draft.message.all("AL1"):
        _allergy(draft, segment, reactions=5, onset=6, key=(2, 3))
    for segment in draft.message.all("IAM"):
        _allergy(draft, segment, reactions=5, onset=11, key=(7,) if segment.peek(7) else (2, 3))


def _allergy(draft: Draft, segment: Segment, *, reactions: int, onset: int, key: tuple[int, ...]) -> None:
    code = values.concept_of(segment, 3, draft.source)
    if code is None:
        segment.forget()
        return
    detailed = segment.name == "IAM"
    category = values.coded(segment, 2, "allergy_category") if segment[2][1].upper() not in ("MA", "MC") else None
    severity = segment[4][1].upper()
    manifested = [{"text": each[1]} for each in segment.all(reactions) if each[1]]
    reaction = present(
        {
            "manifestation": manifested,
            "severity": table("allergy_severity").get(severity),
            "onset": values.time_of(segment, onset) if manifested else None,
        }
    )
    criticality = table("allergy_criticality").get(severity)
    if severity and criticality is None:
        segment.lose(4)
    status = None
    if detailed:
        segment.keep(6, 7)
        status = values.coded(segment, 17, "allergy_status")
        if segment[6][1].upper() == "D":
            status = _ERROR
    resource = {
        "resourceType": "AllergyIntolerance",
        "clinicalStatus": one(_ALLERGY_CLINICAL, "active") if status != _ERROR else None,
        "verificationStatus": one(_ALLERGY_VERIFICATION, status) if status else None,
        "category": [category] if category else None,
        "criticality": criticality,
        "code": code,
        "onsetDateTime": values.time_of(segment, onset) if not manifested else None,
        "recordedDate": values.time_of(segment, 13) if detailed else None,
        "reaction": [reaction] if manifested else None,
    }
    draft.put(draft.about(present(resource), subject="patient"), "allergy", draft.whom, digest(segment, *key))


def diagnoses(draft: Draft) -> list[Mapping[str, Any]]:
    """The Conditions of DG1, which belong to the stay."""
    made = []
    for segment in draft.message.all("DG1"):
        code = values.concept_of(segment, 3, draft.source)
        said = segment[4][1]
        code = {**code, "text": code.get("text") or said} if code and said else code or concept_text(said)
        if code is None:
            segment.forget()
            continue
        deleted = segment[21][1].upper() == "D"
        verification = _ERROR if deleted else values.coded(segment, 6, "diagnosis_verification")
        resource = {
            "resourceType": "Condition",
            "identifier": [found] if (found := values.order_number(segment[20], "")) else None,
            "clinicalStatus": None if deleted else one(_CLINICAL, "active"),
            "verificationStatus": one(_VERIFICATION, verification) if verification else None,
            "category": [one(_CATEGORY, "encounter-diagnosis")],
            "code": code,
            "onsetDateTime": values.time_of(segment, 5),
            "recordedDate": values.time_of(segment, 19),
            "asserter": next(iter(values.people(segment, 16)), None),
        }
        visit = str((draft.encounter or {}).get("reference", draft.whom))
        names = ("diagnosis", *([segment[20][1]] if segment[20][1] else [visit, digest(segment, 3, 4)]))
        made.append(draft.put(draft.about(present(resource)), *names))
    return made


def problems(draft: Draft) -> None:
    """The Conditions of PRB, which last."""
    for segment in draft.message.all("PRB"):
        code = values.concept_of(segment, 3, draft.source)
        if code is None:
            segment.forget()
            continue
        segment.keep(1)
        deleted = segment.peek(1)[0][1].upper() == "DE" if segment.peek(1) else False
        verified = segment[13][1].lower().replace(" ", "-")
        if verified and verified not in ("confirmed", "unconfirmed", "provisional", "differential", "refuted"):
            segment.lose(13)
            verified = ""
        stage = segment[14][1].lower()
        clinical = stage if stage in ("active", "recurrence", "relapse", "inactive", "remission", "resolved") else ""
        if stage and not clinical:
            segment.lose(14)
        abated = values.time_of(segment, 9)
        known = (
            clinical
            if clinical and not (abated and clinical in ("active", "recurrence", "relapse"))
            else "resolved"
            if abated
            else "active"
        )
        resource = {
            "resourceType": "Condition",
            "identifier": [found] if (found := values.order_number(segment[4], "")) else None,
            "clinicalStatus": None if deleted else one(_CLINICAL, known),
            "verificationStatus": one(_VERIFICATION, _ERROR if deleted else verified) if deleted or verified else None,
            "category": [one(_CATEGORY, "problem-list-item")],
            "code": code,
            "onsetDateTime": values.time_of(segment, 16),
            "abatementDateTime": abated if known in ("resolved", "remission", "inactive") else None,
            "recordedDate": values.time_of(segment, 7) or values.time_of(segment, 2),
        }
        segment.keep(2)
        names = ("problem", *([segment[4][1], segment[4][2]] if segment[4][1] else [draft.whom, digest(segment, 3)]))
        draft.put(draft.about(present(resource)), *names)


def procedures(draft: Draft) -> None:
    for segment in draft.message.all("PR1"):
        code = values.concept_of(segment, 3, draft.source)
        said = segment[4][1]
        code = {**code, "text": code.get("text") or said} if code and said else code or concept_text(said)
        if code is None:
            segment.forget()
            continue
        performers = [{"actor": each} for field in (8, 11, 12) for each in values.people(segment, field)]
        deleted = segment[20][1].upper() == "D"
        resource = {
            "resourceType": "Procedure",
            "identifier": [found] if (found := values.order_number(segment[19], "")) else None,
            "status": _ERROR if deleted else "completed",
            "code": code,
            "performedDateTime": values.time_of(segment, 5),
            "performer": performers,
        }
        visit = str((draft.encounter or {}).get("reference", draft.whom))
        names = ("procedure", *([segment[19][1]] if segment[19][1] else [visit, digest(segment, 3, 4, 5)]))
        draft.put(draft.about(present(resource)), *names)


def coverages(draft: Draft) -> None:
    for segment in draft.message.all("IN1"):
        company = values.organisation(segment[4]) or {}
        number = next(
            (
                values.named_identifier(values.authority(each, 4), each[1], each[5], each.part(4, 1))
                for each in segment.all(3)
                if each[1]
            ),
            None,
        )
        payor = present({**company, "type": "Organization", "identifier": company.get("identifier") or number})
        if not payor.keys() - {"type"}:
            segment.forget()
            continue
        classes = [
            {
                "type": one("http://terminology.hl7.org/CodeSystem/coverage-class", kind),
                "value": value[1],
                **({"name": name} if name else {}),
            }
            for kind, value, name in (("plan", segment[2], segment[2][2]), ("group", segment[8], segment[9][1]))
            if value[1]
        ]
        holder = next((values.human_name(each) for each in segment.all(16) if each[1]), None)
        shown = " ".join((*holder.get("given", ()), holder.get("family", ""))) if holder else None
        subscriber = segment[49][1] or segment[36][1]
        resource = {
            "resourceType": "Coverage",
            "status": "active",
            "type": values.in_table("0086", segment[15]) if segment[15] else None,
            "policyHolder": {"display": shown} if shown else None,
            "subscriberId": subscriber,
            "beneficiary": draft.subject,
            "relationship": values.in_table("0063", segment[17]) if segment[17] else None,
            "period": values.period_of(values.date_of(segment, 12), values.date_of(segment, 13)),
            "payor": [payor],
            "class": classes,
        }
        draft.put(present(resource), "coverage", draft.whom, digest(segment, 2, 3, 4, 36))


def guarantors(draft: Draft) -> None:
    """Who pays, if it is not the patient (GT1)."""
    for segment in draft.message.all("GT1"):
        relationship = segment[11][1].upper()
        name = next((values.human_name(each) for each in segment.all(3) if each[1]), None)
        if name is None or relationship in ("SE", "SEL", "SLF", "18"):
            segment.forget()
            continue
        telecoms = [found for field in (6, 7) for each in segment.all(field) if (found := values.contact_point(each))]
        said = values.in_table("0063", segment[11]) if relationship else None
        resource = {
            "resourceType": "RelatedPerson",
            "patient": draft.subject,
            "relationship": [said, {"text": "guarantor"}] if said else [{"text": "guarantor"}],
            "name": [name],
            "telecom": telecoms,
            "gender": values.coded(segment, 9, "gender"),
            "birthDate": values.date_of(segment, 8),
            "address": [found for each in segment.all(5) if (found := values.address(each)).keys() - {"use", "type"}],
        }
        draft.put(present(resource), "guarantor", draft.whom, digest(segment, 2, 3))
