"""Small synthetic requests: what the demonstration and the tests send."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final

from local.region import IDNPS, INS_TEST

PDSM: Final = "https://interop.esante.gouv.fr/ig/fhir/pdsm/StructureDefinition"
MHD: Final = "https://profiles.ihe.net/ITI/MHD/StructureDefinition"
SNOMED: Final = "http://snomed.info/sct"
LOINC: Final = "http://loinc.org"
CONSENT_POLICY: Final = "https://profiles.ihe.net/ITI/PCF/Policy-basic-normal"
PRODUCTS: Final = "http://data.esante.gouv.fr/ansm/medicament/SpecialitePharmaceutique"
VISIBILITY: Final = (
    "https://mos.esante.gouv.fr/NOS/TRE_A07-StatutVisibiliteDocument/FHIR/TRE-A07-StatutVisibiliteDocument"
)
CDA: Final = b'<?xml version="1.0" encoding="UTF-8"?><ClinicalDocument xmlns="urn:hl7-org:v3"/>'


def submission(subject: str, *, content: bytes = CDA, unique: str = "urn:oid:2.999.1.77.1") -> dict[str, Any]:
    """A PDSm submission of one CDA document (IHE ITI-65, comprehensive metadata)."""
    author = {
        "resourceType": "Practitioner",
        "id": "author",
        "identifier": [{"system": IDNPS, "value": "810000000011"}],
    }
    source = {"resourceType": "Patient", "id": "source", "identifier": [{"system": INS_TEST, "value": "1"}]}
    document: dict[str, Any] = {
        "resourceType": "DocumentReference",
        "contained": [author, source],
        "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": unique},
        "status": "current",
        "type": {"coding": [{"system": LOINC, "code": "11488-4"}]},
        "category": [{"coding": [{"system": "urn:oid:2.999.5", "code": "11"}]}],
        "subject": {"reference": subject},
        "date": "2026-06-12T10:00:00+02:00",
        "author": [{"reference": "#author"}],
        "securityLabel": [confidentiality("N")],
        "content": [
            {
                "attachment": {
                    "contentType": "application/xml",
                    "language": "fr-FR",
                    "url": "urn:uuid:aaaaaaaa-0000-4000-8000-000000000003",
                    "size": len(content),
                    "hash": base64.b64encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode(),
                    "title": "Compte rendu",
                    "creation": "2026-06-12T10:00:00+02:00",
                },
                "format": {"system": "urn:oid:2.999.6", "code": "urn:ihe:iti:xds:2017:mimeTypeSufficient"},
            }
        ],
        "context": {
            "period": {"start": "2026-06-12T09:30:00+02:00"},
            "sourcePatientInfo": {"reference": "#source"},
            "facilityType": {"coding": [{"system": SNOMED, "code": "22232009"}]},
            "practiceSetting": {"coding": [{"system": SNOMED, "code": "394802001"}]},
        },
    }
    submission_set: dict[str, Any] = {
        "resourceType": "List",
        "contained": [author],
        "extension": [
            {"url": f"{MHD}/ihe-designationType", "valueCodeableConcept": {"coding": [{"code": "11"}]}},
            {"url": f"{MHD}/ihe-sourceId", "valueIdentifier": {"value": "urn:oid:2.999.1"}},
        ],
        "status": "current",
        "mode": "working",
        "code": {
            "coding": [{"system": "https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes", "code": "submissionset"}]
        },
        "subject": {"reference": subject},
        "date": "2026-06-12T10:00:00+02:00",
        "source": {"reference": "#author"},
        "entry": [{"item": {"reference": "urn:uuid:aaaaaaaa-0000-4000-8000-000000000002"}}],
    }
    binary = {
        "resourceType": "Binary",
        "contentType": "application/xml",
        "data": base64.b64encode(content).decode(),
    }
    resources: tuple[dict[str, Any], ...] = (submission_set, document, binary)
    return {
        "resourceType": "Bundle",
        "meta": {"profile": [f"{PDSM}/pdsm-comprehensive-provide-document-bundle"]},
        "type": "transaction",
        "entry": [
            {
                "fullUrl": f"urn:uuid:aaaaaaaa-0000-4000-8000-00000000000{n}",
                "resource": resource,
                "request": {"method": "POST", "url": resource["resourceType"]},
            }
            for n, resource in enumerate(resources, 1)
        ],
    }


def replacement(subject: str, replaced: str, *, content: bytes, unique: str) -> dict[str, Any]:
    """A submission of one document that takes the place of another (TD2.1)."""
    bundle = submission(subject, content=content, unique=unique)
    target = f"DocumentReference/{replaced}"
    bundle["entry"][1]["resource"]["relatesTo"] = [{"code": "replaces", "target": {"reference": target}}]
    parts = [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": "DocumentReference.status"},
        {"name": "value", "valueCode": "superseded"},
    ]
    superseded = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}
    bundle["entry"].append({"resource": superseded, "request": {"method": "PATCH", "url": target}})
    return bundle


def document(subject: str, *, content: bytes = CDA, unique: str) -> dict[str, Any]:
    """One document with its content, as simplified publication has it (ITI-105)."""
    attachment = {"contentType": "application/xml", "data": base64.b64encode(content).decode(), "title": "Résultat"}
    return {
        "resourceType": "DocumentReference",
        "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": unique},
        "status": "current",
        "type": {"coding": [{"system": LOINC, "code": "11502-2"}]},
        "subject": {"reference": subject},
        "date": "2026-06-12T10:00:00+02:00",
        "content": [{"attachment": attachment}],
    }


def label(code: str) -> dict[str, Any]:
    """A visibility label of the shared record (TRE_A07)."""
    return {"coding": [{"system": VISIBILITY, "code": code}]}


def confidentiality(code: str) -> dict[str, Any]:
    return {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": code}]}


def patch(*operations: tuple[str, str, Any]) -> list[dict[str, Any]]:
    """A JSON Patch of (op, path, value)."""
    return [{"op": op, "path": path, "value": value} for op, path, value in operations]


def laboratory_results(identifier: str, taken_on: date) -> dict[str, Any]:
    """A transaction of a laboratory about one person: a report with two results, by urn:uuid."""
    report, haemoglobin, creatinine = (f"urn:uuid:bbbbbbbb-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))
    subject = {"reference": f"Patient?identifier={identifier}"}
    when = f"{taken_on.isoformat()}T07:45:00+01:00"

    def entry(full_url: str, resource: dict[str, Any]) -> dict[str, Any]:
        request = {"method": "POST", "url": resource["resourceType"]}
        return {
            "fullUrl": full_url,
            "resource": {**resource, "status": "final", "subject": subject},
            "request": request,
        }

    def result(code: str, value: float, unit: str) -> dict[str, Any]:
        return {
            "resourceType": "Observation",
            "code": {"coding": [{"system": LOINC, "code": code}]},
            "effectiveDateTime": when,
            "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
        }

    document = {
        "resourceType": "DiagnosticReport",
        "code": {"coding": [{"system": LOINC, "code": "11502-2"}]},
        "effectiveDateTime": when,
        "result": [{"reference": haemoglobin}, {"reference": creatinine}],
    }
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            entry(report, document),
            entry(haemoglobin, result("718-7", 13.4, "g/dL")),
            entry(creatinine, result("2160-0", 0.9, "mg/dL")),
        ],
    }


COLCHICINE, CLARITHROMYCIN = "69990032", "69990029"  # of the sample of products: never to be taken together
DOLIPRANE = "69990001"


def prescription(patient: str, professional: str, authored_on: date, product: str = COLCHICINE) -> dict[str, Any]:
    """An order of one line: two a day for ten days, twenty units."""
    line = {
        "resourceType": "MedicationRequest",
        "extension": [
            {"url": "https://passerelle.example/StructureDefinition/rx-ordinary-product", "valueBoolean": True}
        ],
        "status": "draft",
        "intent": "order",
        "medicationCodeableConcept": {"coding": [{"system": PRODUCTS, "code": product}]},
        "subject": {"reference": f"Patient/{patient}"},
        "authoredOn": authored_on.isoformat(),
        "requester": {"identifier": {"system": IDNPS, "value": professional}},
        "dosageInstruction": [
            {
                "text": "1 comprimé 2 fois par jour pendant 10 jours",
                "timing": {"repeat": {"frequency": 2, "period": 1, "periodUnit": "d"}},
                "doseAndRate": [{"doseQuantity": {"value": 1, "unit": "comprimé"}}],
            }
        ],
        "dispenseRequest": {
            "quantity": {"value": 20, "unit": "comprimé"},
            "expectedSupplyDuration": {"value": 10, "unit": "d", "system": "http://unitsofmeasure.org", "code": "d"},
        },
    }
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": line}]}


def supply(patient: str, organisation: dict[str, Any], quantity: float, product: str = COLCHICINE) -> dict[str, Any]:
    """What a pharmacy hands over."""
    return {
        "resourceType": "MedicationDispense",
        "status": "completed",
        "medicationCodeableConcept": {"coding": [{"system": PRODUCTS, "code": product}]},
        "subject": {"reference": f"Patient/{patient}"},
        "performer": [{"actor": {"identifier": organisation}}],
        "quantity": {"value": quantity, "unit": "comprimé"},
    }


def consent(patient: str, organisation: Mapping[str, str], kind: str, *, status: str = "active") -> dict[str, Any]:
    """What a patient permits, or (`kind` deny) refuses to whoever treats, as a Consent of IHE PCF."""
    return {
        "resourceType": "Consent",
        "status": status,
        "scope": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]
        },
        "category": [{"coding": [{"system": LOINC, "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{patient}"},
        "dateTime": "2026-01-01",
        "performer": [{"reference": f"Patient/{patient}"}],
        "organization": [{"identifier": organisation}],
        "sourceAttachment": {"title": "consentement signé"},
        "policy": [{"uri": CONSENT_POLICY}],
        "provision": {"type": kind},
    }


def parameters(**values: Any) -> dict[str, Any]:
    """Parameters whose names carry their type: `secret__valueString`."""
    parts = [{"name": name.partition("__")[0], name.partition("__")[2]: value} for name, value in values.items()]
    return {"resourceType": "Parameters", "parameter": parts}


def discharge(local: str, number: str, at: datetime) -> str:
    """ADT^A03 of the first hospital: somebody goes home. `number` makes it a message of its own."""
    now, begun = at.strftime(_HL7_TIME), (at - timedelta(days=2)).strftime(_HL7_TIME)
    visit = "|".join(["PV1", "1", "I", "CARDIO^101^1", *[""] * 15, f"SEJ-{number}^^^CH^VN", *[""] * 24, begun, now])
    return _message(
        f"MSH|^~\\&|GAM|CH|PASSERELLE|REGION|{now}||ADT^A03^ADT_A03|GAM-{number}|P|2.5|||||FRA|UNICODE UTF-8",
        f"EVN||{now}||||{now}",
        f"PID|1||{local}^^^CH^PI||DUPONT^ELISE^^^^^L||19550614|F",
        visit,
    )


def biology(ins: str, number: str, at: datetime) -> str:
    """ORU^R01 of a laboratory that knows the person by the INS only."""
    now = at.strftime(_HL7_TIME)
    return _message(
        f"MSH|^~\\&|SIL|LABO|PASSERELLE|REGION|{now}||ORU^R01^ORU_R01|SIL-{number}|P|2.5|||||FRA|UNICODE UTF-8",
        f"PID|1||{ins}^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS||DUPONT^ELISE^^^^^L||19550614|F",
        f"ORC|RE||F-{number}^LABO",
        f"OBR|1||F-{number}^LABO|24326-1^Ionogramme^LN|||{now}|||||||||||||||{now}||CH|F",
        f"OBX|1|NM|2823-3^Potassium^LN||5.9|mmol/L^^UCUM|3.5-5.1|H|||F|||{now}",
    )


_HL7_TIME = "%Y%m%d%H%M%S+0000"


def _message(*segments: str) -> str:
    return "".join(f"{each}\r" for each in segments)


def glucose_goal(patient: str) -> dict[str, Any]:
    """Blood glucose between 70 and 180 mg/dL."""
    unit = {"unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL"}
    bounds = {"low": {"value": 70, **unit}, "high": {"value": 180, **unit}}
    return {
        "resourceType": "Goal",
        "lifecycleStatus": "active",
        "description": {"text": "glycémie"},
        "subject": {"reference": f"Patient/{patient}"},
        "target": [{"measure": {"coding": [{"system": LOINC, "code": "2339-0"}]}, "detailRange": bounds}],
    }


def glucose_plan(patient: str, goal: str, at: datetime) -> dict[str, Any]:
    """It is measured at home, every morning."""
    timing = {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d", "timeOfDay": ["08:00:00"]}}
    detail = {
        "kind": "ServiceRequest",
        "code": {"coding": [{"system": LOINC, "code": "2339-0"}]},
        "status": "in-progress",
        "scheduledTiming": timing,
    }
    return {
        "resourceType": "CarePlan",
        "status": "active",
        "intent": "plan",
        "subject": {"reference": f"Patient/{patient}"},
        "period": {"start": at.date().isoformat()},
        "goal": [{"reference": f"Goal/{goal}"}],
        "activity": [{"detail": detail}],
    }


def glucose(patient: str, at: datetime, *values: float) -> dict[str, Any]:
    """What a glucometer measured, a minute apart, the last one now."""
    begun = at.replace(microsecond=0) - timedelta(minutes=len(values) - 1)
    observations = [
        {
            "resourceType": "Observation",
            "status": "final",
            "code": {"coding": [{"system": LOINC, "code": "2339-0"}]},
            "subject": {"reference": f"Patient/{patient}"},
            "effectiveDateTime": (begun + timedelta(minutes=number)).isoformat().replace("+00:00", "Z"),
            "valueQuantity": {"value": value, "unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL"},
            "device": {"identifier": {"system": "urn:oid:2.999.60", "value": "GLUCO-1"}},
        }
        for number, value in enumerate(values)
    ]
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": each} for each in observations]}
