"""Each rule of R4 has a resource that keeps it and one that breaks it, and nothing else."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from passerelle.errors import PasserelleError
from passerelle.fhir.definitions import is_type
from passerelle.fhir.invariants import INVARIANTS
from passerelle.fhir.validation import validate

Resource = dict[str, Any]

UCUM = "http://unitsofmeasure.org"
PATIENT = {"reference": "Patient/7q2k"}
TEXT = {"text": "x"}
DIV = {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'}
MEMBER = {"item": {"display": "x"}}


def of(type_name: str, **members: Any) -> Resource:
    return {"resourceType": type_name, **members}


def extended(name: str, value: Any) -> Resource:
    return of("Basic", code=TEXT, extension=[{"url": "urn:x", f"value{name}": value}])


def repeat(**members: Any) -> Resource:
    return extended("Timing", {"repeat": members})


def concept(system: str, code: str) -> Resource:
    return {"coding": [{"system": f"http://terminology.hl7.org/CodeSystem/{system}", "code": code}]}


def allergy(status: str | None, verification: str | None) -> Resource:
    members = {
        "clinicalStatus": status and concept("allergyintolerance-clinical", status),
        "verificationStatus": verification and concept("allergyintolerance-verification", verification),
    }
    return of("AllergyIntolerance", patient=PATIENT, **{name: value for name, value in members.items() if value})


def condition(status: str, **members: Any) -> Resource:
    return of("Condition", subject=PATIENT, clinicalStatus=concept("condition-clinical", status), **members)


def observation(**members: Any) -> Resource:
    return of("Observation", status="final", code={"coding": [{"system": "urn:x", "code": "1"}]}, **members)


def appointment(status: str, **members: Any) -> Resource:
    return of("Appointment", status=status, participant=[{"actor": PATIENT, "status": "accepted"}]) | members


def plan(**members: Any) -> Resource:
    return of("CarePlan", status="active", intent="plan", subject=PATIENT, **members)


def composition(section: Resource) -> Resource:
    members = {"type": TEXT, "date": "2024", "author": [{"display": "x"}], "title": "x"}
    return of("Composition", status="final", **members, section=[section])


def listed(mode: str, **members: Any) -> Resource:
    return of("List", status="current", mode=mode, **members)


def bundle(type_name: str, *entries: Resource, **members: Any) -> Resource:
    return of("Bundle", type=type_name, **({"entry": list(entries)} if entries else {}), **members)


def entry(id: str = "1", **members: Any) -> Resource:
    return {"fullUrl": f"urn:uuid:{id}", "resource": of("Basic", code=TEXT), **members}


def document(first: Resource | None = None, **members: Any) -> Resource:
    identified = {"identifier": {"system": "urn:x", "value": "1"}, "timestamp": "2024-01-01T00:00:00Z"} | members
    told = {name: value for name, value in identified.items() if value is not None}
    return bundle("document", entry(resource=first or composition({"text": DIV})), **told)


def contained(**members: Any) -> Resource:
    inner = {"resourceType": "Organization", "id": "o", "name": "x", **members}
    return of("Patient", contained=[inner], managingOrganization={"reference": "#o"})


REQUEST = {"method": "GET", "url": "Patient"}
RESPONSE = {"status": "200"}
MESSAGE = of("MessageHeader", eventUri="urn:x", source={"endpoint": "urn:x"})
AUDITED = {"type": {"code": "x"}, "recorded": "2024-01-01T00:00:00Z"}
GIVEN = {
    "status": "completed",
    "medicationCodeableConcept": TEXT,
    "subject": PATIENT,
    "effectiveDateTime": "2024",
}
DISPENSED = {"status": "completed", "medicationCodeableConcept": TEXT}
ASSESSED = {"status": "final", "subject": PATIENT}
RELATIVE = {"status": "partial", "patient": PATIENT, "relationship": TEXT}
VACCINATED = {"status": "completed", "vaccineCode": TEXT, "patient": PATIENT, "occurrenceDateTime": "2024"}
AIMED = {"lifecycleStatus": "active", "description": TEXT, "subject": PATIENT}
# A rule, what keeps it, what breaks it.
CASES: list[tuple[str, Resource, Resource]] = [
    ("ext-1", extended("Integer", 1), of("Basic", code=TEXT, extension=[{"url": "urn:x"}])),
    (
        "age-1",
        extended("Age", {"value": 1, "system": UCUM, "code": "a"}),
        extended("Age", {"value": 0, "system": UCUM, "code": "a"}),
    ),
    ("att-1", extended("Attachment", {"data": "YQ==", "contentType": "a/b"}), extended("Attachment", {"data": "YQ=="})),
    ("cpt-2", extended("ContactPoint", {"system": "sms", "value": "1"}), extended("ContactPoint", {"value": "1"})),
    (
        "cnt-3",
        extended("Count", {"value": 3, "system": UCUM, "code": "1"}),
        extended("Count", {"value": Decimal("3.5"), "system": UCUM, "code": "1"}),
    ),
    (
        "dis-1",
        extended("Distance", {"value": 3, "system": UCUM, "code": "m"}),
        extended("Distance", {"value": 3, "system": "urn:x", "code": "m"}),
    ),
    (
        "drt-1",
        extended("Duration", {"value": 3, "system": UCUM, "code": "h"}),
        extended("Duration", {"system": UCUM, "code": "h"}),
    ),
    (
        "exp-1",
        extended("Expression", {"language": "text/cql", "expression": "x"}),
        extended("Expression", {"language": "text/cql"}),
    ),
    (
        "per-1",
        extended("Period", {"start": "2024-01", "end": "2024-01-31"}),
        extended("Period", {"start": "2024-02", "end": "2024-01-31"}),
    ),
    ("qty-3", extended("Quantity", {"system": UCUM, "code": "g"}), extended("Quantity", {"value": 1, "code": "g"})),
    (
        "rng-2",
        extended("Range", {"low": {"value": 2, "unit": "kg"}, "high": {"value": 3, "unit": "g"}}),
        extended("Range", {"low": {"value": 3, "unit": "g"}, "high": {"value": 2, "unit": "g"}}),
    ),
    (
        "rat-1",
        extended("Ratio", {"numerator": {"value": 1}, "denominator": {"value": 2}}),
        extended("Ratio", {"numerator": {"value": 1}}),
    ),
    (
        "sqty-1",
        observation(referenceRange=[{"low": {"value": 1}}]),
        observation(referenceRange=[{"low": {"value": 1, "comparator": "<"}}]),
    ),
    ("tim-1", repeat(duration=1, durationUnit="h"), repeat(duration=1)),
    ("tim-2", repeat(period=1, periodUnit="h"), repeat(period=1)),
    ("tim-4", repeat(duration=0, durationUnit="h"), repeat(duration=-1, durationUnit="h")),
    ("tim-5", repeat(period=0, periodUnit="h"), repeat(period=-1, periodUnit="h")),
    ("tim-6", repeat(period=1, periodMax=2, periodUnit="h"), repeat(periodMax=2)),
    ("tim-7", repeat(duration=1, durationMax=2, durationUnit="h"), repeat(durationMax=2)),
    ("tim-8", repeat(count=1, countMax=2), repeat(countMax=2)),
    ("tim-9", repeat(when=["AC"], offset=10), repeat(when=["C"], offset=10)),
    ("tim-10", repeat(timeOfDay=["08:00:00"]), repeat(timeOfDay=["08:00:00"], when=["AC"])),
    ("ait-1", allergy("active", "confirmed"), allergy(None, "confirmed")),
    ("ait-2", allergy(None, "entered-in-error"), allergy("active", "entered-in-error")),
    (
        "app-1",
        appointment("proposed", participant=[{"type": [TEXT], "status": "accepted"}]),
        appointment("proposed", participant=[{"status": "accepted"}]),
    ),
    (
        "app-2",
        appointment("booked", start="2024-01-01T08:00:00Z", end="2024-01-01T09:00:00Z"),
        appointment("proposed", start="2024-01-01T08:00:00Z"),
    ),
    ("app-3", appointment("waitlist"), appointment("booked")),
    (
        "app-4",
        appointment("cancelled", cancelationReason=TEXT),
        appointment("proposed", cancelationReason=TEXT),
    ),
    (
        "apr-1",
        of("AppointmentResponse", appointment={"display": "x"}, participantStatus="accepted", actor=PATIENT),
        of("AppointmentResponse", appointment={"display": "x"}, participantStatus="accepted"),
    ),
    (
        "sev-1",
        of(
            "AuditEvent",
            **AUDITED,
            agent=[{"requestor": True}],
            source={"observer": {"display": "x"}},
            entity=[{"name": "x"}],
        ),
        of(
            "AuditEvent",
            **AUDITED,
            agent=[{"requestor": True}],
            source={"observer": {"display": "x"}},
            entity=[{"name": "x", "query": "YQ=="}],
        ),
    ),
    ("bdl-1", bundle("searchset", total=0), bundle("collection", total=0)),
    (
        "bdl-2",
        bundle("searchset", entry(search={"mode": "match"})),
        bundle("collection", entry(search={"mode": "match"})),
    ),
    ("bdl-3", bundle("batch", {"request": REQUEST}), bundle("transaction", entry())),
    ("bdl-3", bundle("collection", entry()), bundle("collection", entry(request=REQUEST))),
    ("bdl-4", bundle("batch-response", {"response": RESPONSE}), bundle("transaction-response", entry())),
    (
        "bdl-4",
        bundle("history", {"request": REQUEST, "response": RESPONSE}),
        bundle("history", {"request": REQUEST}),
    ),
    ("bdl-5", bundle("collection", entry()), bundle("collection", {"fullUrl": "urn:uuid:1"})),
    ("bdl-7", bundle("collection", entry("1"), entry("2")), bundle("collection", entry("1"), entry("1"))),
    (
        "bdl-8",
        bundle("collection", entry()),
        bundle("collection", entry() | {"fullUrl": "http://x.example/Basic/1/_history/2"}),
    ),
    ("bdl-9", document(), document(identifier={"value": "1"})),
    ("bdl-10", document(), document(timestamp=None)),
    ("bdl-11", document(), document(of("Basic", code=TEXT))),
    ("bdl-12", bundle("message", entry(resource=MESSAGE)), bundle("message", entry())),
    (
        "cpl-3",
        plan(activity=[{"reference": {"reference": "Task/1"}}]),
        plan(activity=[{"reference": {"reference": "Task/1"}, "detail": {"status": "scheduled"}}]),
    ),
    ("cmp-1", composition({"section": [{"text": DIV}]}), composition({"title": "x"})),
    (
        "cmp-2",
        composition({"text": DIV, "emptyReason": TEXT}),
        composition({"entry": [{"display": "x"}], "emptyReason": TEXT}),
    ),
    ("con-1", condition("active", stage=[{"summary": TEXT}]), condition("active", stage=[{"type": TEXT}])),
    ("con-2", condition("active", evidence=[{"code": [TEXT]}]), condition("active", evidence=[{"id": "a"}])),
    ("con-4", condition("resolved", abatementString="x"), condition("active", abatementString="x")),
    (
        "con-5",
        condition("active", verificationStatus=concept("condition-ver-status", "confirmed")),
        condition("active", verificationStatus=concept("condition-ver-status", "entered-in-error")),
    ),
    (
        "ppc-1",
        of("Consent", status="active", scope=TEXT, category=[TEXT], policyRule=TEXT),
        of("Consent", status="active", scope=TEXT, category=[TEXT]),
    ),
    (
        "fhs-1",
        of("FamilyMemberHistory", **RELATIVE, ageString="40"),
        of("FamilyMemberHistory", **RELATIVE, ageString="40", bornDate="1980"),
    ),
    (
        "fhs-2",
        of(
            "FamilyMemberHistory",
            **RELATIVE,
            ageString="40",
            estimatedAge=True,
        ),
        of("FamilyMemberHistory", **RELATIVE, estimatedAge=True),
    ),
    (
        "gol-1",
        of(
            "Goal",
            **AIMED,
            target=[{"measure": TEXT, "detailString": "x"}],
        ),
        of("Goal", **AIMED, target=[{"detailString": "x"}]),
    ),
    (
        "grp-1",
        of("Group", type="person", actual=True, member=[{"entity": PATIENT}]),
        of("Group", type="person", actual=False, member=[{"entity": PATIENT}]),
    ),
    (
        "imm-1",
        of(
            "Immunization",
            **VACCINATED,
            education=[{"documentType": "x"}],
        ),
        of(
            "Immunization",
            **VACCINATED,
            education=[{"publicationDate": "2024"}],
        ),
    ),
    (
        "imr-1",
        of(
            "ImmunizationRecommendation",
            patient=PATIENT,
            date="2024",
            recommendation=[{"forecastStatus": TEXT, "targetDisease": TEXT}],
        ),
        of("ImmunizationRecommendation", patient=PATIENT, date="2024", recommendation=[{"forecastStatus": TEXT}]),
    ),
    (
        "lnk-1",
        of("Linkage", item=[{"type": "source", "resource": PATIENT}, {"type": "alternate", "resource": PATIENT}]),
        of("Linkage", item=[{"type": "source", "resource": PATIENT}]),
    ),
    ("lst-1", listed("working", emptyReason=TEXT), listed("working", emptyReason=TEXT, entry=[MEMBER])),
    (
        "lst-2",
        listed("changes", entry=[MEMBER | {"deleted": True}]),
        listed("working", entry=[MEMBER | {"deleted": True}]),
    ),
    (
        "lst-3",
        listed("working", entry=[MEMBER | {"date": "2024"}]),
        listed("snapshot", entry=[MEMBER | {"date": "2024"}]),
    ),
    (
        "mad-1",
        of(
            "MedicationAdministration",
            **GIVEN,
            dosage={"dose": {"value": 1}},
        ),
        of("MedicationAdministration", **GIVEN, dosage={"text": "x"}),
    ),
    (
        "mdd-1",
        of(
            "MedicationDispense",
            **DISPENSED,
            whenPrepared="2024-01-02",
            whenHandedOver="2024-01",
        ),
        of("MedicationDispense", **DISPENSED, whenPrepared="2024-01-02", whenHandedOver="2024-01-01"),
    ),
    ("obs-3", observation(referenceRange=[{"text": "x"}]), observation(referenceRange=[{"type": TEXT}])),
    ("obs-6", observation(valueInteger=1), observation(valueInteger=1, dataAbsentReason=TEXT)),
    (
        "obs-7",
        observation(valueInteger=1, component=[{"code": {"coding": [{"system": "urn:x", "code": "2"}]}}]),
        observation(valueInteger=1, component=[{"code": {"coding": [{"system": "urn:x", "code": "1"}]}}]),
    ),
    ("org-1", of("Organization", name="x"), of("Organization", active=True)),
    (
        "org-2",
        of("Organization", name="x", address=[{"use": "work"}]),
        of("Organization", name="x", address=[{"use": "home"}]),
    ),
    (
        "org-3",
        of("Organization", name="x", telecom=[{"use": "work"}]),
        of("Organization", name="x", telecom=[{"use": "home"}]),
    ),
    (
        "inv-1",
        of("Parameters", parameter=[{"name": "x", "part": [{"name": "y", "valueCode": "z"}]}]),
        of("Parameters", parameter=[{"name": "x", "valueCode": "y", "resource": of("Basic", code=TEXT)}]),
    ),
    ("pat-1", of("Patient", contact=[{"name": TEXT}]), of("Patient", contact=[{"gender": "other"}])),
    (
        "qrs-1",
        of("QuestionnaireResponse", status="completed", item=[{"linkId": "1", "item": [{"linkId": "2"}]}]),
        of(
            "QuestionnaireResponse",
            status="completed",
            item=[{"linkId": "1", "item": [{"linkId": "2"}], "answer": [{"valueInteger": 1}]}],
        ),
    ),
    (
        "rqg-1",
        of("RequestGroup", status="active", intent="plan", action=[{"resource": {"reference": "Task/1"}}]),
        of("RequestGroup", status="active", intent="plan", action=[{"title": "x"}]),
    ),
    (
        "ras-1",
        of(
            "RiskAssessment",
            **ASSESSED,
            prediction=[{"probabilityRange": {"low": {"value": 1, "system": UCUM, "code": "%"}}}],
        ),
        of("RiskAssessment", **ASSESSED, prediction=[{"probabilityRange": {"low": {"value": 1}}}]),
    ),
    (
        "ras-2",
        of("RiskAssessment", **ASSESSED, prediction=[{"probabilityDecimal": 100}]),
        of("RiskAssessment", **ASSESSED, prediction=[{"probabilityDecimal": Decimal("100.5")}]),
    ),
    (
        "prr-1",
        of("ServiceRequest", status="active", intent="order", subject=PATIENT, orderDetail=[TEXT], code=TEXT),
        of("ServiceRequest", status="active", intent="order", subject=PATIENT, orderDetail=[TEXT]),
    ),
]

WALKED: list[tuple[str, Resource, Resource]] = [
    (
        "dom-2",
        contained(),
        contained(extension=[{"url": "urn:x", "valueUri": "#b"}], contained=[of("Basic", id="b", code=TEXT)]),
    ),
    ("dom-3", contained(), of("Patient", contained=[of("Basic", id="b", code=TEXT)])),
    (
        "dom-3",
        of("Patient", contained=[of("Basic", id="b", code=TEXT, subject={"reference": "#"})]),
        of("Patient", contained=[of("Basic", id="b", code=TEXT, subject={"reference": "Patient/1"})]),
    ),
    ("dom-4", contained(meta={"tag": [{"code": "x"}]}), contained(meta={"versionId": "1"})),
    ("dom-5", contained(meta={"tag": [{"code": "x"}]}), contained(meta={"security": [{"code": "R"}]})),
    ("ref-1", contained(), of("Patient", managingOrganization={"reference": "#o"})),
]


def broken(resource: Resource) -> set[str]:
    """The ids of the rules that are broken; any other fault by its path."""
    try:
        validate(resource)
    except PasserelleError as error:
        return {
            issue.diagnostics.rpartition("(")[2].rstrip(")") if issue.code == "invariant" else str(issue.expression)
            for issue in error.issues
        }
    return set()


@pytest.mark.parametrize(("key", "good", "bad"), CASES + WALKED, ids=[key for key, *_ in CASES + WALKED])
def test_rule(key: str, good: Resource, bad: Resource) -> None:
    assert broken(good) == set()
    assert broken(bad) == {key}


def test_every_rule_is_tried_and_of_a_type() -> None:
    assert {rule.key for rules in INVARIANTS.values() for rule in rules} == {key for key, *_ in CASES}
    assert all(is_type(name) for name in INVARIANTS.keys() - {"SimpleQuantity"})


@pytest.mark.parametrize(
    "resource",
    [
        extended("Period", {"start": "2024-02", "_end": {"id": "a"}}),
        extended("Quantity", {"_code": {"id": "a"}, "system": UCUM}),
        extended("Age", {"extension": [{"url": "urn:x", "valueCode": "unknown"}]}),
        extended("Ratio", {"extension": [{"url": "urn:x", "valueCode": "unknown"}]}),
        extended("Range", {"low": {"value": 3}}),
        observation(valueInteger=1, component=[{"code": TEXT, "dataAbsentReason": TEXT}]),
        of("Patient", _birthDate={"extension": [{"url": "urn:x", "_valueCode": {"id": "a"}}]}),
        bundle("searchset"),
    ],
)
def test_what_a_rule_leaves_open_is_valid(resource: Resource) -> None:
    assert broken(resource) == set()


def test_rules_are_not_asked_of_what_has_no_form() -> None:
    wrong = of("Bundle", type="document", entry=[1], identifier=2, timestamp=[])
    assert broken(wrong | {"type": {}}) == {"Bundle.type", "Bundle.entry[0]", "Bundle.identifier", "Bundle.timestamp"}
