"""The capability statement that is deployed says what the deployed exchange does, no more and no less (goal I18)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from infra.routes import fhir_routes
from local.gateway import Response
from local.region import IDNPS
from local.samples import document, parameters
from passerelle.api.routes import BASE, INTERACTIONS
from passerelle.fhir.index import RECORD_TYPES
from passerelle.fhir.validation import validate
from tests import examples
from tests.exchange import Client, Exchange
from tests.feeding import code, entry, fed, newcomer
from tests.functions.test_patients import register
from tests.functions.test_stewardship import People, act, decide, open_review
from tests.journeys import test_erasure

AT = "2026-03-14T08:30:00+01:00"
TEXT = {"text": "x"}
NAME = {"display": "x"}
MEDICATION = {"medicationCodeableConcept": TEXT}

# The least that a resource of each type is made of; "subject" stands for the patient, wherever R4 has it.
MINIMAL: dict[str, dict[str, Any]] = {
    "AllergyIntolerance": {
        "patient": "subject",
        "clinicalStatus": {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active"}
            ]
        },
    },
    "Appointment": {"status": "proposed", "participant": [{"actor": "subject", "status": "accepted"}]},
    "Binary": {"contentType": "text/plain", "securityContext": "subject", "data": "YQ=="},
    "Bundle": {
        "identifier": {"system": "urn:oid:2.999.9", "value": "1"},
        "type": "document",
        "timestamp": AT,
        "entry": [
            {
                "fullUrl": "urn:uuid:dddddddd-0000-4000-8000-000000000001",
                "resource": {
                    "resourceType": "Composition",
                    "status": "final",
                    "type": TEXT,
                    "subject": "subject",
                    "date": AT,
                    "author": [NAME],
                    "title": "x",
                },
            }
        ],
    },
    "CarePlan": {"status": "active", "intent": "plan", "subject": "subject"},
    "CareTeam": {"subject": "subject"},
    "Claim": {
        "status": "active",
        "type": TEXT,
        "use": "claim",
        "patient": "subject",
        "created": AT,
        "provider": NAME,
        "priority": TEXT,
        "insurance": [{"sequence": 1, "focal": True, "coverage": NAME}],
    },
    "Communication": {"status": "completed", "subject": "subject"},
    "CommunicationRequest": {"status": "active", "subject": "subject"},
    "Composition": {
        "status": "final",
        "type": TEXT,
        "subject": "subject",
        "date": AT,
        "author": [NAME],
        "title": "x",
    },
    "Condition": {
        "clinicalStatus": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]
        },
        "subject": "subject",
    },
    "Consent": {
        "status": "active",
        "scope": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]
        },
        "category": [TEXT],
        "patient": "subject",
        "dateTime": AT,
        "performer": [NAME],
        "organization": [NAME],
        "sourceAttachment": {"title": "x"},
        "policy": [{"uri": "https://profiles.ihe.net/ITI/PCF/Policy-basic-normal"}],
        "provision": {"type": "permit"},
    },
    "Coverage": {"status": "active", "beneficiary": "subject", "payor": [NAME]},
    "DetectedIssue": {"status": "final", "patient": "subject"},
    "Device": {"patient": "subject"},
    "DiagnosticReport": {"status": "final", "code": TEXT, "subject": "subject"},
    "Encounter": {"status": "finished", "class": {"code": "AMB"}, "subject": "subject"},
    "Endpoint": {
        "status": "active",
        "connectionType": {"code": "hl7-fhir-rest"},
        "payloadType": [TEXT],
        "address": "https://x.example",
    },
    "ExplanationOfBenefit": {
        "status": "active",
        "type": TEXT,
        "use": "claim",
        "patient": "subject",
        "created": AT,
        "insurer": NAME,
        "provider": NAME,
        "outcome": "complete",
        "insurance": [{"focal": True, "coverage": NAME}],
    },
    "Flag": {"status": "active", "code": TEXT, "subject": "subject"},
    "Goal": {"lifecycleStatus": "active", "description": TEXT, "subject": "subject"},
    "HealthcareService": {"name": "x"},
    "ImagingStudy": {"status": "available", "subject": "subject"},
    "Immunization": {"status": "completed", "vaccineCode": TEXT, "patient": "subject", "occurrenceDateTime": AT},
    "List": {"status": "current", "mode": "working", "subject": "subject"},
    "Location": {"name": "x"},
    "Medication": {"code": TEXT},
    "MedicationAdministration": {
        "status": "completed",
        **MEDICATION,
        "subject": "subject",
        "effectiveDateTime": AT,
    },
    "MedicationDispense": {"status": "completed", **MEDICATION, "subject": "subject"},
    "MedicationRequest": {"status": "active", "intent": "order", **MEDICATION, "subject": "subject"},
    "MedicationStatement": {"status": "active", **MEDICATION, "subject": "subject"},
    "Observation": {"status": "final", "code": TEXT, "subject": "subject"},
    "Organization": {"name": "x"},
    "OrganizationAffiliation": {"active": True},
    "Practitioner": {"active": True},
    "PractitionerRole": {"active": True},
    "Procedure": {"status": "completed", "subject": "subject"},
    "Provenance": {"target": ["subject"], "recorded": AT, "agent": [{"who": NAME}]},
    "QuestionnaireResponse": {"status": "completed", "subject": "subject"},
    "RelatedPerson": {"patient": "subject"},
    "Schedule": {"actor": ["subject"]},
    "ServiceRequest": {"status": "active", "intent": "order", "subject": "subject"},
    "Slot": {"schedule": NAME, "status": "free", "start": AT, "end": AT},
    "Specimen": {"subject": "subject"},
    "Task": {"status": "draft", "intent": "order", "for": "subject"},
}
VALUES = {
    "date": "2025-03-14",
    "number": "1",
    "quantity": "1||kg",
    "reference": "1",
    "string": "abc",
    "token": "urn:oid:2.999|1",
    "uri": "urn:x",
}
PATCH = [{"op": "add", "path": "/language", "value": "fr-FR"}]
ARCHIVED = "https://interop.esante.gouv.fr/ig/fhir/pdsm/StructureDefinition/pdsm-ext-is-archived"
ARCHIVE = [{"op": "add", "path": "/extension", "value": [{"url": ARCHIVED, "valueBoolean": True}]}]
JSON_PATCH = {"Content_Type": "application/json-patch+json"}
# Kept in forms of their own, with operations that their own tests tell.
OWN_TYPES = {"AuditEvent", "Subscription"}


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


@pytest.fixture(scope="module")
def key(hospital: Client) -> str:
    return str(register(hospital, 1).json["id"])


@pytest.fixture(scope="module")
def statement(exchange: Exchange) -> dict[str, Any]:
    answer = exchange.gateway.request("GET", "/fhir/metadata", {}, b"")
    assert answer.status == 200
    validate(answer.json, expected_type="CapabilityStatement")
    return dict(answer.json)


@pytest.fixture(scope="module")
def declared(statement: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["type"]: each for each in statement["rest"][0]["resource"]}


def content(kind: str, key: str, **more: Any) -> dict[str, Any]:
    def filled(value: Any) -> Any:
        if value == "subject":
            return {"reference": f"Patient/{key}"}
        if isinstance(value, dict):
            return {name: filled(child) for name, child in value.items()}
        return [filled(child) for child in value] if isinstance(value, list) else value

    return {"resourceType": kind, **filled(MINIMAL[kind]), **more}


def made(client: Client, kind: str, key: str) -> str:
    if kind == "Patient":
        return key
    if kind == "DocumentReference":
        unique = f"urn:oid:2.999.1.90.{len(client.exchange.table('audit'))}"
        answer = client.post(kind, document(f"Patient/{key}", unique=unique))
    else:
        answer = client.post(kind, content(kind, key))
    assert answer.status == 201, answer.body
    return str(answer.json["id"])


def condition(kind: str, key: str, id: str, row: dict[str, Any]) -> str:
    """A search that finds one resource of the type."""
    names = {each["name"] for each in row["searchParam"]}
    return urlencode({**({"patient": key} if "patient" in names else {}), "_id": id})


def interactions(row: dict[str, Any]) -> set[str]:
    """As the exchange names them; the statement tells the conditional ones by members of their own."""
    found = {each["code"] for each in row.get("interaction", [])}
    for member, name in (("conditionalUpdate", "conditional-update"), ("conditionalDelete", "conditional-delete")):
        found |= {name} if row.get(member) in (True, "single") else set()
    return found


def test_every_type_is_listed_with_what_its_routes_do(declared: dict[str, dict[str, Any]]) -> None:
    served: dict[str, set[str]] = {}
    for route in fhir_routes():
        if route.resource:
            served.setdefault(route.resource, set()).add(route.name)
    assert served.keys() == declared.keys()
    assert set(MINIMAL) | OWN_TYPES | {"Patient", "DocumentReference"} == set(declared)
    for kind, names in served.items():
        plain = {each for each in names if each in INTERACTIONS and each != "conditional-patch"}
        told = interactions(declared[kind])
        assert plain == told, kind
        assert {each["name"] for each in declared[kind].get("operation", [])} == {
            each.removeprefix("$") for each in names if each.startswith("$")
        }, kind


@pytest.mark.parametrize("kind", sorted({*MINIMAL, "Patient", "DocumentReference"}))
def test_every_declared_interaction_is_served(
    hospital: Client, key: str, declared: dict[str, dict[str, Any]], kind: str
) -> None:
    row = declared[kind]
    names = interactions(row)
    if kind not in ("Patient", "DocumentReference"):  # a record of its own: moto reads whole collections
        whose = {"resourceType": "Patient", "identifier": [{"system": examples.DOMAIN, "value": f"true-{kind}"}]}
        key = str(hospital.post("Patient", whose).json["id"])
    id = made(hospital, kind, key)
    place = f"{kind}/{id}"
    resource = hospital.get(f"{place}/_history/1").json
    done = {"create"} if kind != "Patient" else set()
    if kind == "Patient":
        local = {"resourceType": "Patient", "identifier": [{"system": examples.DOMAIN, "value": "true-1"}]}
        withdrawn = f"Patient/{hospital.post(kind, local).json['id']}"
        own = f"Patient?identifier={examples.DOMAIN}|true-1"
        assert hospital.put(own, local).status == 200
        for whose in ("Patient", f"Patient?_id={id}", f"{own}&identifier={examples.DOMAIN}|true-2"):
            assert hospital.request("DELETE", whose).status == 400
        assert hospital.request("DELETE", withdrawn).status == 405
        assert hospital.request("DELETE", own).status == 200
        assert (hospital.get(withdrawn).status, hospital.request("DELETE", own).status) == (404, 404)
        done |= {"create", "conditional-update", "conditional-delete"}
    read = hospital.get(place, Accept="application/fhir+json, application/xml, */*")
    assert read.status == 200
    if row.get("conditionalRead"):
        assert hospital.get(place, If_None_Match=str(read.header("ETag"))).status == 304
    assert resource["resourceType"] == kind
    done |= {"read", "vread"}
    if "history-instance" in names:
        assert hospital.get(f"{place}/_history").json["type"] == "history"
    if "history-type" in names:
        asked = f"?patient={key}" if RECORD_TYPES[kind].needs_patient else ""
        assert hospital.get(f"{kind}/_history{asked}").json["type"] == "history"
    done |= names & {"history-instance", "history-type"}
    if "search-type" in names:
        query = f"identifier={examples.ins(1)}" if kind == "Patient" else condition(kind, key, id, row)
        form = {"Content_Type": "application/x-www-form-urlencoded"}
        by_get, by_post = (
            hospital.get(f"{kind}?{query}"),
            hospital.request("POST", f"{kind}/_search", query.encode(), **form),
        )
        assert [each["resource"]["id"] for each in by_get.json["entry"]] == [id]
        assert by_post.body == by_get.body
        done.add("search-type")
        if row.get("conditionalCreate") and kind != "Patient":
            assert hospital.post(kind, content(kind, key), If_None_Exist=query).status == 200
        if "conditional-update" in names - done:
            assert hospital.put(f"{kind}?{query}", {**resource, "language": "fr"}).status == 200
            done.add("conditional-update")
            assert hospital.request("PATCH", f"{kind}?{query}", PATCH, **JSON_PATCH).status == 200
    if kind == "DocumentReference":
        identifier = resource["masterIdentifier"]
        named = f"{kind}?identifier={identifier['system']}|{identifier['value']}"
        assert hospital.request("PATCH", named, ARCHIVE, **JSON_PATCH).status == 200
    if "update" in names:
        assert hospital.put(place, {**resource, "language": "en"}).status == 200
        chosen = {**resource, "id": f"true-{kind}"}
        assert hospital.put(f"{kind}/true-{kind}", chosen).status == (201 if row["updateCreate"] else 404)
        done.add("update")
    if "patch" in names:
        patch = ARCHIVE if kind == "DocumentReference" else PATCH
        assert hospital.request("PATCH", place, patch, **JSON_PATCH).status == 200
        done.add("patch")
    if "conditional-delete" in names - done:
        other = made(hospital, kind, key)
        assert hospital.request("DELETE", f"{kind}?{condition(kind, key, other, row)}").status == 200
        assert hospital.get(f"{kind}/{other}").status == 410
        done.add("conditional-delete")
    if "delete" in names:
        assert hospital.request("DELETE", place).status == 200
        assert hospital.get(place).status == 410
        done.add("delete")
    if kind == "Binary":
        done -= {"search-type"}
    assert names <= done | {"conditional-patch"}, names - done


def last_use(auditor: Client) -> str:
    return str(auditor.get("Patient/$break-glass-uses").json["parameter"][0]["part"][0]["valueId"])


def test_every_operation_on_people_does_what_it_is_for(
    exchange: Exchange, hospital: Client, key: str, statement: dict[str, Any], declared: dict[str, dict[str, Any]]
) -> None:
    """One success of each operation that is declared."""
    steward = exchange.client("steward")
    at_a, at_b = People(exchange).doubtful("VRAI")
    _, qualified = examples.patient(9)
    identity = {**qualified, "identifier": [{"system": examples.DOMAIN, "value": "true-9"}]}
    identity["extension"][0]["extension"][0]["valueCodeableConcept"]["coding"][0]["code"] = "VALI"
    bare = {"resourceType": "Patient", "identifier": [{"system": examples.DOMAIN, "value": "true-8"}]}
    one, other = (hospital.post("Patient", each).json["id"] for each in (identity, bare))
    traits = {name: qualified[name] for name in ("resourceType", "name", "gender", "birthDate", "address")}
    attended = parameters(
        physician__valueIdentifier={"system": IDNPS, "value": "810000000011"}, consent__valueBoolean=True
    )
    myself, auditor = exchange.client("patient-1"), exchange.client("auditor")
    party = parameters(party__valueIdentifier={"system": IDNPS, "value": "810000000037"})
    system, _, value = examples.ins(3).partition("|")
    holder = {"holder__valueIdentifier": {"system": system, "value": value}}
    seen = {"reference": f"Observation/{hospital.post('Observation', examples.observation(key)).json['id']}"}

    def mine(name: str, body: dict[str, Any]) -> Response:
        return myself.post(f"Patient/{key}/${name}", body)

    calls: dict[str, Callable[[], Response]] = {
        "changes": lambda: hospital.get(f"Patient/{key}/$changes"),
        "everything": lambda: hospital.get(f"Patient/{key}/$everything"),
        "summary": lambda: hospital.get(f"Patient/{key}/$summary"),
        "validate": lambda: hospital.post("Patient/$validate", qualified),
        "ihe-pix": lambda: hospital.get(f"Patient/$ihe-pix?sourceIdentifier={examples.ins(1)}"),
        "match": lambda: hospital.post("Patient/$match", traits),
        "ins-qualify": lambda: hospital.post(f"Patient/{one}/$ins-qualify", b""),
        "reviews": lambda: steward.get("Patient/$reviews"),
        "identity": lambda: steward.get(f"Patient/{at_a}/$identity"),
        "decide": lambda: decide(steward, open_review(steward, at_a, at_b), "later"),
        "link": lambda: act(steward, "link", first=at_a, second=at_b),
        "unlink": lambda: act(steward, "unlink", patient=at_b),
        "merge": lambda: act(steward, "merge", source_patient=other, target_patient=one),
        "unmerge": lambda: act(steward, "unmerge", patient=other),
        "oppose": lambda: hospital.post(f"Patient/{other}/$oppose", parameters()),
        "withdraw-opposition": lambda: hospital.post(f"Patient/{other}/$withdraw-opposition", parameters()),
        "close-record": lambda: hospital.post(f"Patient/{one}/$close-record", parameters(motive__valueCode="deces")),
        "open-record": lambda: hospital.post(f"Patient/{one}/$open-record", parameters()),
        "attending-physician": lambda: hospital.post(f"Patient/{one}/$attending-physician", attended),
        "record-status": lambda: hospital.get(f"Patient/{one}/$record-status"),
        "block": lambda: mine("block", party),
        "unblock": lambda: mine("unblock", party),
        "authorize-access": lambda: mine("authorize-access", party),
        "end-access": lambda: mine("end-access", party),
        "appoint-proxy": lambda: mine("appoint-proxy", parameters(**holder, kind__valueCode="carer")),
        "release": lambda: mine("release", parameters(**holder, reference__valueReference=seen)),
        "withdraw-release": lambda: mine("withdraw-release", parameters(**holder, reference__valueReference=seen)),
        "end-proxy": lambda: mine("end-proxy", parameters(**holder)),
        "set-preferences": lambda: mine("set-preferences", parameters(**{"agree-research__valueBoolean": True})),
        "access-history": lambda: myself.get(f"Patient/{key}/$access-history"),
        "export-record": lambda: mine("export-record", parameters()),
        "break-glass": lambda: hospital.post(
            f"Patient/{key}/$break-glass",
            parameters(reason__valueCode="unconscious", text__valueString="found in the street"),
        ),
        "break-glass-uses": lambda: auditor.get("Patient/$break-glass-uses"),
        "review-break-glass": lambda: auditor.post(
            "Patient/$review-break-glass",
            parameters(use__valueId=last_use(auditor), verdict__valueCode="justified"),
        ),
        "erase": lambda: test_erasure.ask(
            exchange.client("privacy"), other, test_erasure.OVERRIDE, test_erasure.DECLINED
        ),
    }
    assert {each["name"] for each in declared["Patient"]["operation"]} == calls.keys()
    for name, call in calls.items():
        answer = call()
        assert answer.status == 200, (name, answer.body)
        assert answer.json.get("parameter") or answer.json.get("entry") or name in ("ins-qualify", "validate"), name
    assert [each["name"] for each in statement["rest"][0]["operation"]] == ["process-message"]
    assert code(fed(exchange, entry("POST", "Patient", newcomer()[1]))) == "ok"


def test_what_is_for_stewards_is_for_nobody_else(exchange: Exchange, hospital: Client, key: str) -> None:
    assert hospital.get("Patient/$reviews").status == 403
    assert hospital.get(f"Patient/{key}/$identity").status == 403
    steward = exchange.client("steward")
    assert steward.get("Observation?patient=1").status == 403
    assert steward.request("DELETE", f"Patient?identifier={examples.DOMAIN}|1").status == 403


def test_every_operation_has_a_route_that_serves_it(hospital: Client, key: str) -> None:
    """Sent as little as that: what is missing is said of the content, not of the operation."""
    for route in fhir_routes():
        if not route.name.startswith("$"):
            continue
        path = route.path.removeprefix(f"{BASE}/").replace("{id}", key if route.resource == "Patient" else "absent")
        empty = {"resourceType": "Parameters"}
        answer = hospital.request(route.method, path, None if route.method == "GET" else empty)
        told = answer.json.get("issue", [{}])[0].get("code") if answer.status >= 400 else ""
        assert answer.status not in (405, 406, 415), path
        assert answer.status < 500, path
        assert (answer.status, told) != (404, "not-supported"), path


def test_own_types_are_served(hospital: Client, exchange: Exchange, key: str, declared: dict[str, Any]) -> None:
    found = hospital.get(f"AuditEvent?patient=Patient/{key}&date=ge2026-01-01")
    assert found.status == 200
    record = found.json["entry"][0]["resource"]["id"]
    assert hospital.get(f"AuditEvent/{record}").status == 200
    assert interactions(declared["AuditEvent"]) == {"create", "read", "search-type"}
    assert hospital.get("Subscription/absent").json["issue"][0]["code"] == "not-found"
    assert hospital.request("DELETE", "Subscription/absent").json["issue"][0]["code"] == "not-found"
    assert hospital.post("Subscription", {"resourceType": "Subscription"}).status == 422
    assert hospital.put("Subscription/absent", {"resourceType": "Subscription"}).status == 422
    assert hospital.get("Subscription?status=active&colour=red").json["total"] == 0
    assert hospital.get("Subscription?colour=red", Prefer="handling=strict").status == 400
    for parameter in declared["Subscription"]["searchParam"]:
        assert hospital.get(f"Subscription?{parameter['name']}=x", Prefer="handling=strict").status == 200
    assert interactions(declared["Subscription"]) == {"create", "read", "search-type", "update", "delete"}


def undeclared() -> Iterator[tuple[str, str, set[str]]]:
    """A method of every path that no route has, with the methods that there are; of a few types all such methods."""
    methods: dict[str, set[str]] = {}
    for route in fhir_routes():
        methods.setdefault(route.path, set()).add(route.method)
    del methods[f"{BASE}/Binary/{{id}}"]  # the URL of a content refuses in the words of ITI-68 (contract 68-5)
    for number, (path, known) in enumerate(methods.items()):
        others = sorted({"GET", "POST", "PUT", "PATCH", "DELETE"} - known)
        is_whole = path.split("/")[2:3] in (["Patient"], ["Organization"], ["Observation"])
        for method in others if is_whole else others[number % len(others) :][:1] if others else []:
            yield method, path.removeprefix(f"{BASE}").replace("{id}", "x").replace("{version}", "1"), known


def test_every_other_method_of_a_path_is_refused(hospital: Client) -> None:
    asked = 0
    for method, path, known in undeclared():
        answer = hospital.request(method, path.removeprefix("/"))
        assert (answer.status, answer.json["issue"][0]["code"]) == (405, "not-supported"), (method, path)
        assert set(str(answer.header("Allow")).split(", ")) == known | ({"HEAD"} if "GET" in known else set())
        asked += 1
    assert asked > 100


def value(kind: str, parameter: dict[str, str]) -> str:
    if parameter["type"] == "composite":
        return "$".join(VALUES[part.kind] for part in RECORD_TYPES[kind].search[parameter["name"]].components)
    return VALUES[parameter["type"]]


@pytest.mark.parametrize("kind", sorted({*MINIMAL, "Patient", "DocumentReference"} - {"Binary"}))
def test_every_declared_search_parameter_is_taken_and_no_other(
    hospital: Client, key: str, declared: dict[str, dict[str, Any]], kind: str
) -> None:
    row = declared[kind]
    asked = {each["name"]: value(kind, each) for each in row["searchParam"]}
    patients = {
        name for name in asked if RECORD_TYPES[kind].compartment and name in RECORD_TYPES[kind].patient_parameters
    }
    asked.update(dict.fromkeys(patients, key))
    if "patient.identifier" in asked:
        asked["patient.identifier"] = examples.ins(1)
    if kind == "Patient":
        asked["identifier"] = examples.ins(1)
    includes = [("_include", each) for each in row.get("searchInclude", [])]
    includes += [("_revinclude", each) for each in row.get("searchRevInclude", [])]
    strict = {"Prefer": "handling=strict"}
    whose = {name: given for name, given in asked.items() if name in ("patient", "identifier")}
    pairs = [*asked.items(), *includes]
    for start in range(0, len(pairs), 40):  # a search may have 50
        some = pairs[start : start + 40]
        more = {name: given for name, given in whose.items() if name not in dict(some)}
        accepted = hospital.get(f"{kind}?{urlencode([*more.items(), *some])}", **strict)
        assert accepted.status == 200, accepted.body
        used = next(each["url"] for each in accepted.json["link"] if each["relation"] == "self")
        for pair in some:
            assert urlencode([pair]) in used
    others = (
        ("colour", "_has:Observation:patient:code", "name:above", "_include") if kind == "Observation" else ("colour",)
    )
    for other in others:
        refused = hospital.get(f"{kind}?{urlencode({**whose, other: f'{kind}:colour'})}", **strict)
        assert (refused.status, refused.json["issue"][0]["code"]) == (400, "not-supported"), other
    assert hospital.get(f"{kind}?{urlencode({**whose, 'colour': 'red'})}").status == 200


def test_batch_and_transaction_are_served(hospital: Client, statement: dict[str, Any]) -> None:
    assert statement["rest"][0]["interaction"] == [{"code": "batch"}, {"code": "transaction"}]
    for each in statement["rest"][0]["interaction"]:
        answer = hospital.post("", {"resourceType": "Bundle", "type": each["code"]})
        assert answer.json["type"] == f"{each['code']}-response"
    for other in ("history", "searchset", "collection", "document"):
        assert hospital.post("", {"resourceType": "Bundle", "type": other}).status == 400
    assert hospital.get("").status in (404, 405)


def test_formats_are_served(hospital: Client, key: str, statement: dict[str, Any]) -> None:
    for name in statement["format"]:
        assert hospital.get(f"Patient/{key}?_format={name}").status == 200
    assert hospital.get(f"Patient/{key}?_format=ttl").status == 406
