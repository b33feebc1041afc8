"""The patient index over HTTP: ITI-104, ITI-78, TD0.2. Case ids are rows of the interoperability contract."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.region import INS_TEST, RELIABILITY, ins_of
from passerelle import wiring
from passerelle.aws.dynamodb import measure
from passerelle.fhir.patient import FhirPatientDraft
from tests import examples
from tests.exchange import Client, Exchange


def register(client: Client, number: int, *, domain: str = examples.DOMAIN, **changed: Any) -> Any:
    local, patient = examples.patient(number, domain=domain)
    return client.put(f"Patient?identifier={domain}|{local}", {**patient, **changed})


def keys(answer: Any) -> list[str]:
    return [entry["resource"]["id"] for entry in answer.json.get("entry", [])]


def test_104_1_new_changed_identical(exchange: Exchange) -> None:
    hospital = exchange.client("hospital-a")
    created = register(hospital, 1)
    assert (created.status, created.header("ETag")) == (201, 'W/"1"')
    same = register(hospital, 1)
    assert (same.status, same.header("ETag"), same.json["id"]) == (200, 'W/"1"', created.json["id"])
    revised = register(hospital, 1, address=[{"city": "Ailleurs"}])
    assert (revised.status, revised.header("ETag")) == (200, 'W/"2"')
    read = exchange.client("practice").get(f"Patient/{created.json['id']}")
    assert read.json["address"] == [{"city": "Ailleurs"}]
    assert read.body == revised.body


def test_104_7_creation_and_revision_are_told_apart(exchange: Exchange) -> None:
    hospital = exchange.client("hospital-a")
    key = register(hospital, 13).json["id"]
    register(hospital, 13, active=False)
    register(hospital, 13, active=False)  # changes nothing, and is recorded all the same
    records = [item for item in exchange.table("audit") if item.get("patient", {}).get("S") == key]
    assert sorted(item["action"]["S"] for item in records) == ["C", "U", "U"]


def test_104_1_idempotency_key_replays_the_answer(exchange: Exchange) -> None:
    hospital = exchange.client("hospital-a")
    local, patient = examples.patient(19)
    place = f"Patient?identifier={examples.DOMAIN}|{local}"
    key = {"Idempotency_Key": "0f9c2d6e-5c1b-4a51-9c52-1e6b5a9f0001"}
    first = hospital.put(place, patient, **key)
    assert (first.status, first.header("ETag")) == (201, 'W/"1"')
    assert hospital.put(place, {**patient, "active": False}).header("ETag") == 'W/"2"'
    again = hospital.put(place, patient, **key)  # a late repetition does not undo what came after it
    assert (again.status, again.header("ETag"), again.body) == (201, 'W/"1"', first.body)
    assert hospital.get(f"Patient/{first.json['id']}").json["active"] is False
    other = hospital.put(place, {**patient, "gender": "other"}, **key)
    assert other.status == 422


def test_104_1_a_repetition_of_what_changed_nothing_changes_nothing(exchange: Exchange) -> None:
    hospital = exchange.client("hospital-a")
    local, patient = examples.patient(20)
    place = f"Patient?identifier={examples.DOMAIN}|{local}"
    hospital.put(place, patient)
    assert hospital.put(place, patient, Idempotency_Key="unchanged").header("ETag") == 'W/"1"'
    assert hospital.put(place, {**patient, "active": False}).header("ETag") == 'W/"2"'
    assert hospital.put(place, patient, Idempotency_Key="unchanged").header("ETag") == 'W/"1"'
    assert hospital.put(place, patient, Idempotency_Key="another").header("ETag") == 'W/"3"'


@pytest.mark.parametrize(
    "query",
    [
        f"identifier={examples.ins(2)}",
        f"identifier={examples.DOMAIN}|000002",
        "birthdate=1948-02-29",
        "birthdate=1948-02-29&family=d'œuvre",
        "birthdate=1948-02-29&family=D OE",
        "birthdate=1948-02-29&given=jean",
        "birthdate=1948-02-29&gender=male",
    ],
)
def test_78_2_people_are_found(exchange: Exchange, query: str) -> None:
    key = register(exchange.client("hospital-a"), 2).json["id"]
    practice = exchange.client("practice", "ITI-78")
    found = practice.get(f"Patient?{query}")
    assert found.status == 200, found.body
    assert keys(found) == [key]
    assert found.json["total"] == 1


@pytest.mark.parametrize(
    "query", ["birthdate=1948-02-28", "birthdate=1948-02-29&gender=female", f"identifier={INS_TEST}|1"]
)
def test_78_2_nobody_is_found(exchange: Exchange, query: str) -> None:
    register(exchange.client("hospital-a"), 2)
    found = exchange.client("practice").get(f"Patient?{query}")
    assert (found.status, found.json["total"], keys(found)) == (200, 0, [])


def test_78_1_post_search_answers_like_get(exchange: Exchange) -> None:
    register(exchange.client("hospital-a"), 3)
    practice = exchange.client("practice")
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    posted = practice.request("POST", "Patient/_search", b"birthdate=2019-11-03", **form)
    assert (posted.status, posted.json["total"]) == (200, 1)
    assert posted.body == practice.get("Patient?birthdate=2019-11-03").body


def test_dmp_1_the_dmp_view_tells_whether_the_record_is_open(exchange: Exchange) -> None:
    register(exchange.client("hospital-a"), 4)
    dmp = exchange.client("practice", "TD0.2")
    opened = dmp.get(f"Patient?identifier={examples.ins(4)}").json["entry"][0]["resource"]
    assert opened["active"] is True
    assert any(each["url"].endswith("dmp-rattachement-mes") for each in opened["extension"])
    assert dmp.get(f"Patient?identifier={examples.ins(5)}").json["total"] == 0


def test_one_person_two_sources_one_record(exchange: Exchange) -> None:
    """The same qualified INS from two organisations: two source records, one person, one record."""
    at_a = register(exchange.client("hospital-a"), 6).json["id"]
    at_b = register(exchange.client("hospital-b"), 6, domain="urn:oid:2.999.2").json["id"]
    assert at_a != at_b
    laboratory, practice = exchange.client("laboratory"), exchange.client("practice")
    for key in (at_a, at_b):
        assert laboratory.post("Observation", examples.observation(key)).status == 201
    for key in (at_a, at_b):
        assert practice.get(f"Observation?patient={key}").json["total"] == 2
    assert sorted(keys(practice.get(f"Patient?identifier={examples.ins(6)}"))) == sorted([at_a, at_b])


def test_unqualified_identities_are_linked_by_what_is_beyond_doubt(exchange: Exchange) -> None:
    found = []
    for client, domain in (("hospital-a", "urn:oid:2.999.1"), ("hospital-b", "urn:oid:2.999.2")):
        place, patient = identified(7, domain, ins_of(7), "VALI")
        answer = exchange.client(client).put(place, patient)
        assert answer.status == 201
        found.append(answer.json["id"])
    assert exchange.client("laboratory").post("Observation", examples.observation(found[0])).status == 201
    practice = exchange.client("practice")
    assert [practice.get(f"Observation?patient={key}").json["total"] for key in found] == [1, 1]


@pytest.mark.parametrize(
    ("status", "code"),
    [pytest.param("PROV", "business-rule", id="INS-2"), pytest.param("EXCELLENT", "code-invalid", id="INS-1")],
)
def test_identity_rules(exchange: Exchange, status: str, code: str) -> None:
    local, patient = examples.patient(8)
    assert patient["extension"][0]["url"] == RELIABILITY
    patient["extension"][0]["extension"][0]["valueCodeableConcept"]["coding"][0]["code"] = status
    answer = exchange.client("hospital-a").put(f"Patient?identifier={examples.DOMAIN}|{local}", patient)
    assert answer.status == 422
    assert answer.json["issue"][0]["code"] == code


def test_a_patient_sees_the_own_record_and_no_other(exchange: Exchange) -> None:
    hospital, myself = exchange.client("hospital-a"), exchange.client("patient-1")
    mine, other = register(hospital, 1).json["id"], register(hospital, 9).json["id"]
    assert myself.get(f"Patient/{mine}").status == 200
    hidden, unknown = myself.get(f"Patient/{other}"), myself.get("Patient/" + "0" * 16)
    assert (hidden.status, hidden.body) == (404, unknown.body)
    assert hospital.post("Observation", examples.observation(other)).status == 201
    hidden, unknown = myself.get(f"Observation?patient={other}"), myself.get("Observation?patient=" + "0" * 16)
    assert (hidden.json["total"], "entry" in hidden.json) == (0, False)
    assert hidden.body.replace(other.encode(), b"0" * 16) == unknown.body


def test_an_auditor_sees_no_clinical_data(exchange: Exchange) -> None:
    key = register(exchange.client("hospital-a"), 1).json["id"]
    assert exchange.client("auditor").get(f"Patient/{key}").status == 403


def test_keys_of_the_index_hold_no_trait(exchange: Exchange) -> None:
    register(exchange.client("hospital-a"), 10)
    for item in exchange.table("patients") + exchange.table("clinical"):
        place = f"{item['PK']['S']} {item['SK']['S']}".lower()
        for trait in ("muller", "müller", "anais", "2001-09-09", "20010909", "000010", ins_of(10)):
            assert trait not in place


def test_a_search_that_is_too_broad_is_refused_with_advice(exchange: Exchange) -> None:
    hospital = exchange.client("hospital-a")
    for number in range(102):
        patient = {
            "resourceType": "Patient",
            "identifier": [{"system": examples.DOMAIN, "value": f"crowd-{number}"}],
            "name": [{"family": f"FOULE{number}"}],
            "birthDate": "1900-01-01",
        }
        assert hospital.put(f"Patient?identifier={examples.DOMAIN}|crowd-{number}", patient).status == 201
    broad = hospital.get("Patient?birthdate=1900-01-01")
    assert (broad.status, broad.json["issue"][0]["code"]) == (400, "too-costly")
    assert hospital.get("Patient?birthdate=1900-01-01&family=foule101").json["total"] == 1
    with measure() as spent:
        assert hospital.get(f"Patient?identifier={examples.DOMAIN}|crowd-7").json["total"] == 1
    assert 0 < spent.round_trips - 1 <= 5, spent.calls


def identified(number: int, domain: str, ins_value: str, status: str = "QUAL") -> tuple[str, dict[str, Any]]:
    local, patient = examples.patient(number, domain=domain)
    patient["identifier"][0]["value"] = ins_value
    patient["extension"][0]["extension"][0]["valueCodeableConcept"]["coding"][0]["code"] = status
    return f"Patient?identifier={domain}|{local}", patient


def linked(key: str) -> list[str]:
    person = wiring.patient_index().find_person(key)
    assert person is not None
    return sorted(person.members)


def test_ins_10_two_national_identifiers_never_meet(exchange: Exchange) -> None:
    """A source corrects the INS of one record: it leaves the person, and joins again when it is corrected back."""
    number = 14
    one, other = ins_of(number), ins_of(11)
    a, b = exchange.client("hospital-a"), exchange.client("hospital-b")
    at_a = a.put(*identified(number, "urn:oid:2.999.1", one)).json["id"]
    at_b = b.put(*identified(number, "urn:oid:2.999.2", one)).json["id"]
    assert linked(at_a) == linked(at_b) == sorted([at_a, at_b])
    assert b.put(*identified(number, "urn:oid:2.999.2", other)).status == 200
    assert (linked(at_a), linked(at_b)) == ([at_a], [at_b])
    assert exchange.client("laboratory").post("Observation", examples.observation(at_a)).status == 201
    assert exchange.client("practice").get(f"Observation?patient={at_b}").json["total"] == 0
    # Alone with the second identifier, it is corrected back; who comes next with either finds the right person.
    assert b.put(*identified(number, "urn:oid:2.999.2", one)).status == 200
    assert linked(at_a) == sorted([at_a, at_b])
    newcomer = exchange.client("practice")
    at_practice = newcomer.put(*identified(number, "urn:oid:2.999.3", other)).json["id"]
    assert linked(at_practice) == [at_practice]


# --- the plain interactions of R4 ---------------------------------------------------------------------------------


def newcomer(number: int, *, domain: str = examples.DOMAIN, **changed: Any) -> dict[str, Any]:
    """A person whom nobody qualified, with an identifier of one source."""
    return {
        "resourceType": "Patient",
        "identifier": [{"system": domain, "value": f"r4-{number}"}],
        "name": [{"family": "ESSAI", "given": ["Ode"]}],
        "birthDate": "1999-01-01",
        **changed,
    }


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status, answer.json["issue"][0]["code"]


def test_create(exchange: Exchange) -> None:
    hospital = exchange.client("hospital-a")
    created = hospital.post("Patient", newcomer(1))
    assert (created.status, created.header("ETag")) == (201, 'W/"1"')
    key = created.json["id"]
    assert str(created.header("Location")).endswith(f"/fhir/Patient/{key}/_history/1")
    assert refusal(hospital.post("Patient", newcomer(1))) == (409, "duplicate")
    assert hospital.get(f"Patient/{key}").header("ETag") == 'W/"1"'
    # Without an identifier of its source it is a new record each time; another source may know the same person.
    foreign = newcomer(1, domain="urn:oid:2.999.2")
    assert exchange.client("hospital-b").post("Patient", foreign).status == 201
    again = hospital.post("Patient", newcomer(1, identifier=[{"system": "urn:oid:2.999.50", "value": "1"}]))
    assert (again.status, again.json["id"] != key) == (201, True)
    assert refusal(hospital.post("Patient", {**newcomer(2), "gender": "unheard-of"})) == (422, "code-invalid")
    assert exchange.client("hospital-a", "system/Patient.r").post("Patient", newcomer(2)).status == 403


def test_create_with_an_idempotency_key(exchange: Exchange) -> None:
    hospital = exchange.client("hospital-a")
    first, again = (hospital.post("Patient", newcomer(3), Idempotency_Key="r4-create") for _ in range(2))
    assert (first.status, again.status, again.body) == (201, 201, first.body)
    assert refusal(hospital.post("Patient", newcomer(4), Idempotency_Key="r4-create")) == (422, "business-rule")


def test_create_if_none_exists(exchange: Exchange) -> None:
    hospital = exchange.client("hospital-a")
    condition = f"identifier={examples.DOMAIN}|r4-5"
    created = hospital.post("Patient", newcomer(5), If_None_Exist=condition)
    found = hospital.post("Patient", newcomer(5, active=False), If_None_Exist=condition)
    assert (created.status, found.status) == (201, 200)
    assert found.body == created.body  # as it is: nothing is changed
    assert found.header("Location") == created.header("Location")
    assert refusal(hospital.post("Patient", newcomer(5), If_None_Exist="birthdate=1999-01-01")) == (400, "required")
    elsewhere = newcomer(6, domain="urn:oid:2.999.2")
    by_another = exchange.client("hospital-b").post("Patient", elsewhere, If_None_Exist=condition)
    assert (by_another.status, by_another.json["id"]) == (200, created.json["id"])


def test_update_by_id(exchange: Exchange) -> None:
    hospital = exchange.client("hospital-a")
    created = hospital.post("Patient", newcomer(7)).json
    place = f"Patient/{created['id']}"
    updated = hospital.put(place, {**created, "active": False}, If_Match='W/"1"')
    assert (updated.status, updated.header("ETag"), updated.json["active"]) == (200, 'W/"2"', False)
    assert refusal(hospital.put(place, created, If_Match='W/"1"')) == (412, "conflict")
    assert refusal(hospital.put(place, {**created, "id": "other"})) == (400, "invariant")
    lost = {**created, "identifier": [{"system": "urn:oid:2.999.50", "value": "1"}]}
    assert refusal(hospital.put(place, lost)) == (422, "invariant")  # the identifier of its source stays
    b = exchange.client("hospital-b")
    assert refusal(b.put(place, created)) == (403, "forbidden")
    patch = [{"op": "replace", "path": "/active", "value": True}]
    assert refusal(b.request("PATCH", place, patch, Content_Type="application/json-patch+json")) == (403, "forbidden")
    assert exchange.client("pharmacy-a", "ITI-78").put(place, created).status == 403
    assert hospital.get(place).header("ETag") == 'W/"2"'
    assert hospital.put(f"Patient/{'0' * 16}", {**created, "id": "0" * 16}).status == 404
    assert hospital.put("Patient/chosen", {**created, "id": "chosen"}).status == 404


def test_patch_vread_and_history(exchange: Exchange) -> None:
    hospital = exchange.client("hospital-a")
    created = hospital.post("Patient", newcomer(8))
    place = f"Patient/{created.json['id']}"
    patch = [{"op": "add", "path": "/gender", "value": "female"}]
    patched = hospital.request("PATCH", place, patch, Content_Type="application/json-patch+json")
    assert (patched.status, patched.header("ETag"), patched.json["gender"]) == (200, 'W/"2"', "female")
    stale = hospital.request("PATCH", place, patch, Content_Type="application/json-patch+json", If_Match='W/"1"')
    assert refusal(stale) == (412, "conflict")
    part = [{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": "Patient.gender"}]
    by_path = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": part}]}
    assert "gender" not in hospital.request("PATCH", place, by_path).json
    wrong = [{"op": "add", "path": "/gender", "value": "unheard-of"}]
    refused = hospital.request("PATCH", place, wrong, Content_Type="application/json-patch+json")
    assert refusal(refused) == (422, "code-invalid")
    assert hospital.get(f"{place}/_history/1").body == created.body
    assert hospital.get(f"{place}/_history/2").body == patched.body
    assert hospital.get(f"{place}/_history/4").status == 404
    history = hospital.get(f"{place}/_history").json
    assert [each["response"]["etag"] for each in history["entry"]] == ['W/"3"', 'W/"2"', 'W/"1"']
    assert [each["request"]["method"] for each in history["entry"]] == ["PUT", "PUT", "POST"]
    assert hospital.get(place, If_None_Match='W/"3"').status == 304


def test_a_patch_without_condition_outlasts_a_race(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another source record's change comes between: nobody asked for a version, so nobody hears of it."""
    hospital = exchange.client("hospital-a")
    place = f"Patient/{hospital.post('Patient', newcomer(9)).json['id']}"
    service = wiring.patient_service()
    plan = service.plan_patch
    races = iter([True])

    def with_gender(stored: bytes) -> FhirPatientDraft:
        return FhirPatientDraft({**json.loads(stored), "gender": "female"}, wiring.identity_scheme())

    def overtaken(request: Any, patient: str, revise: Any, *, if_match: int | None) -> Any:
        made = plan(request, patient, revise, if_match=if_match)
        if next(races, False):
            service.patch(request, patient, with_gender, if_match=None)
        return made

    monkeypatch.setattr(service, "plan_patch", overtaken)
    patch = [{"op": "add", "path": "/active", "value": True}]
    answer = hospital.request("PATCH", place, patch, Content_Type="application/json-patch+json")
    assert (answer.status, answer.header("ETag")) == (200, 'W/"3"')
    assert (answer.json["gender"], answer.json["active"]) == ("female", True)


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/{key}"), ("PATCH", "?identifier=a|b")])
def test_people_are_not_deleted(exchange: Exchange, method: str, path: str) -> None:
    hospital = exchange.client("hospital-a")
    key = register(hospital, 1).json["id"]
    refused = hospital.request(method, f"Patient{path.format(key=key)}")
    assert refusal(refused) == (405, "not-supported")
    assert method not in str(refused.header("Allow")).split(", ")
    assert hospital.get(f"Patient/{key}").status == 200
