"""The shared record as such over HTTP: opened, closed, opposed, its attending physician (contract DMP-1, 2, 5, 7)."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from local.gateway import Response
from passerelle import wiring
from tests import contents, examples
from tests.exchange import Client, Exchange
from tests.functions.test_patients import register

DMP = "https://interop.esante.gouv.fr/ig/fhir/dmp/StructureDefinition"
IDNPS, RPPS = "urn:oid:1.2.250.1.71.4.2.1", "https://rpps.esante.gouv.fr"
PRACTICE = "810000000037"  # the IDNPS of the physician of the practice
_NUMBERS = itertools.count(2)  # of the synthetic region; person 1 has an application of its own


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


@pytest.fixture(scope="module")
def practice(exchange: Exchange) -> Client:
    return exchange.client("practice")


@pytest.fixture
def number() -> int:
    """Somebody whom no other test knows."""
    return next(_NUMBERS)


@pytest.fixture
def key(hospital: Client, number: int) -> str:
    return str(register(hospital, number).json["id"])


def parameters(**given: Any) -> dict[str, Any]:
    kinds = {str: "String", bool: "Boolean", dict: "Identifier"}
    listed = [
        {"name": name, "valueCode" if name == "motive" else f"value{kinds[type(value)]}": value}
        for name, value in given.items()
    ]
    return {"resourceType": "Parameters", **({"parameter": listed} if listed else {})}


def decide(client: Client, key: str, operation: str, **given: Any) -> Response:
    return client.post(f"Patient/{key}/${operation}", parameters(**given))


def told(answer: Response) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    return {each["name"]: next(v for k, v in each.items() if k != "name") for each in answer.json["parameter"]}


def refusal(answer: Response) -> tuple[int, str]:
    return answer.status, answer.json["issue"][0]["code"]


def closed(client: Client, key: str) -> None:
    told(decide(client, key, "close-record", motive="patient-demande", reason="Demande explicite du patient"))


def unqualified(hospital: Client, number: int, local: str) -> str:
    """The same person as the region's, whose identity nobody qualified yet."""
    _, patient = examples.patient(number)
    own = [each for each in patient["identifier"] if each["system"] == examples.DOMAIN]
    content = {**patient, "identifier": [{**own[0], "value": local}], "extension": []}
    content = {name: value for name, value in content.items() if value}
    answer = hospital.put(f"Patient?identifier={examples.DOMAIN}|{local}", content)
    assert answer.status == 201, answer.body
    return str(answer.json["id"])


def seen_by_dmp(client: Client, number: int) -> list[dict[str, Any]]:
    answer = client.get(f"Patient?identifier={examples.ins(number)}")
    assert answer.status == 200
    return [each["resource"] for each in answer.json.get("entry", [])]


def extensions(resource: dict[str, Any]) -> dict[str, Any]:
    return {each["url"].removeprefix(f"{DMP}/"): each for each in resource["extension"] if each["url"].startswith(DMP)}


# --- TD0.2 ------------------------------------------------------------------------------------------------------------


def test_dmp_1_no_record_open_closed(exchange: Exchange, practice: Client, hospital: Client, number: int) -> None:
    dmp = exchange.client("practice", "TD0.2")
    assert seen_by_dmp(dmp, number) == []
    key = str(register(hospital, number).json["id"])
    (opened,) = seen_by_dmp(dmp, number)
    found = extensions(opened)
    assert opened["active"] is True
    assert found["dmp-rattachement-mes"]["valueBoolean"] is False
    assert found["dmp-medecin-traitant"]["valueBoolean"] is False
    assert "dmp-fermeture" not in found
    closed(practice, key)
    (shut,) = seen_by_dmp(dmp, number)
    assert shut["active"] is False
    assert "link" not in shut
    told_of = {each["url"]: each for each in extensions(shut)["dmp-fermeture"]["extension"]}
    assert len(told_of["dateFermeture"]["valueDate"]) == len("2024-03-20")
    (coding,) = told_of["motifFermeture"]["valueCodeableConcept"]["coding"]
    assert coding["code"] == "patient-demande"
    assert told_of["raisonFermeture"]["valueString"] == "Demande explicite du patient"


def test_dmp_2_a_closed_record_is_an_identity_in_use(
    exchange: Exchange, practice: Client, key: str, number: int
) -> None:
    """`active` of TD0.2 is the record's, `active` of ITI-78 the identity's."""
    closed(practice, key)
    by_scope = {
        scope: seen_by_dmp(exchange.client("practice", scope), number)[0].get("active", True)
        for scope in ("TD0.2", "ITI-78", "ITI-78 TD0.2")
    }
    assert by_scope == {"TD0.2": False, "ITI-78": True, "ITI-78 TD0.2": False}
    assert practice.get(f"Patient/{key}").status == 200


def test_dmp_5_no_care_relation_is_asked_for(exchange: Exchange, key: str, number: int) -> None:
    """In the mode of a regulation centre the client skips its own check; the request is the same, and recorded."""
    (found,) = seen_by_dmp(exchange.client("hospital-b", "TD0.2"), number)
    assert (found["id"], found["active"]) == (key, True)
    log = exchange.client("auditor").get(f"AuditEvent?patient=Patient/{key}&date=ge2026-01-01&_count=200").json["entry"]
    agents = [agent["who"] for each in log for agent in each["resource"]["agent"]]
    assert "1990000029" in str(agents)


# --- closing and opening ----------------------------------------------------------------------------------------------


def test_what_is_closed_exists_for_nobody_and_is_there_again(
    exchange: Exchange, hospital: Client, practice: Client
) -> None:
    """Not for the patient either, who may open it again."""
    key = str(register(hospital, 1).json["id"])
    patient = exchange.client("patient-1")
    place = contents.published(hospital, key, b"%PDF-1.4\n%%EOF\n")
    document = place.replace("Binary", "DocumentReference")
    query = f"DocumentReference?patient={key}"
    assert told(decide(patient, key, "close-record", motive="patient-demande"))["status"] == "closed"
    for client in (hospital, practice, patient):
        assert client.get(query).json["total"] == 0
        assert client.get(document).status == 404
        assert client.get(place).status == 404
    refused = hospital.post("", contents.submission(key, b"%PDF-1.4\nlater\n%%EOF\n", "application/pdf"))
    assert refused.status == 422
    assert told(decide(patient, key, "open-record"))["status"] == "open"
    for client in (hospital, practice, patient):
        assert client.get(query).json["total"] == 1


def test_the_history_tells_who_decided(practice: Client, key: str) -> None:
    closed(practice, key)
    told(decide(practice, key, "open-record", reason="Erreur"))
    answer = practice.get(f"Patient/{key}/$record-status")
    assert told(answer)["status"] == "open"
    decisions = [
        {part["name"]: next(v for k, v in part.items() if k != "name") for part in each["part"]}
        for each in answer.json["parameter"]
        if each["name"] == "decision"
    ]
    assert [each["kind"] for each in decisions] == ["closed", "opened"]
    assert [each["reason"] for each in decisions] == ["Demande explicite du patient", "Erreur"]
    assert {each["by"] for each in decisions} == {"practice"}
    assert all(each["professional"] == {"system": IDNPS, "value": PRACTICE} for each in decisions)
    assert "reason" not in told(answer)


def test_what_does_not_fit_is_a_conflict(practice: Client, key: str) -> None:
    for operation in ("open-record", "withdraw-opposition", "oppose", "attending-physician"):
        assert refusal(decide(practice, key, operation)) == (409, "conflict"), operation
    closed(practice, key)
    assert refusal(decide(practice, key, "oppose")) == (409, "conflict")
    assert refusal(decide(practice, key, "close-record", motive="deces")) == (409, "conflict")


@pytest.fixture(scope="module")
def anybody(hospital: Client) -> str:
    return str(register(hospital, 20).json["id"])


@pytest.mark.parametrize(
    ("operation", "body", "expected"),
    [
        ("close-record", parameters(), (400, "required")),
        ("close-record", parameters(motive="because"), (400, "code-invalid")),
        ("close-record", parameters(motive="deces", consent=True), (400, "not-supported")),
        ("open-record", parameters(reason=True), (400, "value")),
        ("open-record", {"resourceType": "Patient"}, (400, "structure")),
        ("close-record", parameters(motive="deces", reason="x" * 1001), (422, "too-long")),
        ("attending-physician", parameters(physician={"system": IDNPS}), (400, "value")),
        ("attending-physician", parameters(physician={"system": "urn:x", "value": PRACTICE}), (422, "value")),
    ],
)
def test_what_is_malformed(
    practice: Client, anybody: str, operation: str, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    assert refusal(practice.post(f"Patient/{anybody}/${operation}", body)) == expected


def test_who_may_decide(exchange: Exchange, hospital: Client, key: str) -> None:
    own = str(register(hospital, 1).json["id"])
    patient = exchange.client("patient-1")
    unknown = decide(patient, "0" * 16, "close-record", motive="deces")
    assert decide(patient, key, "close-record", motive="deces").body == unknown.body
    assert unknown.status == 404
    assert patient.get(f"Patient/{key}/$record-status").status == 404
    assert told(patient.get(f"Patient/{own}/$record-status"))["status"] == "open"
    steward = exchange.client("steward")
    assert decide(steward, key, "close-record", motive="deces").status == 403
    assert decide(exchange.client("nurse"), key, "close-record", motive="deces").status == 403  # no scope for it


def test_a_decision_is_audited_announced_and_done_once(exchange: Exchange, practice: Client, key: str) -> None:
    body = parameters(motive="patient-demande")
    once = {"Idempotency_Key": f"close-{key}"}
    first = practice.post(f"Patient/{key}/$close-record", body, **once)
    again = practice.post(f"Patient/{key}/$close-record", body, **once)
    assert (first.status, again.body) == (200, first.body)
    log = exchange.client("auditor").get(f"AuditEvent?patient=Patient/{key}&date=ge2026-01-01&action=E").json["entry"]
    assert sum(PRACTICE in str(each["resource"]["agent"]) for each in log) == 2  # the repetition is an access, too
    outbox = [item for item in exchange.table("clinical") if item["PK"]["S"].startswith("O#") and key in str(item)]
    assert "record-status-changed" in str(outbox)


# --- opposition -------------------------------------------------------------------------------------------------------


def test_dmp_7_an_opposition_outlives_whatever_happens_to_the_identity(
    exchange: Exchange, hospital: Client, practice: Client, number: int
) -> None:
    """Nothing opens a record but the withdrawal: not the qualification, nor a link to a record that is open."""
    dmp = exchange.client("practice", "TD0.2")
    _, content = examples.patient(number)
    local = next(each["value"] for each in content["identifier"] if each["system"] == examples.DOMAIN)
    key = unqualified(hospital, number, local)
    assert refusal(decide(practice, key, "open-record")) == (422, "business-rule")
    assert told(decide(practice, key, "oppose"))["status"] == "opposed"
    assert refusal(decide(practice, key, "open-record")) == (409, "conflict")
    qualified = hospital.post(f"Patient/{key}/$ins-qualify", parameters())
    assert qualified.status == 200, qualified.body
    assert told(practice.get(f"Patient/{key}/$record-status"))["status"] == "opposed"
    assert seen_by_dmp(dmp, number) == []
    other = str(register(exchange.client("hospital-b"), number, domain="urn:oid:2.999.2").json["id"])
    assert told(practice.get(f"Patient/{other}/$record-status"))["status"] == "opposed"
    refused = hospital.post("", contents.submission(other, b"%PDF-1.4\n%%EOF\n", "application/pdf"))
    assert refusal(refused) == (422, "business-rule")
    assert told(decide(practice, other, "withdraw-opposition"))["status"] == "open"
    assert [each["active"] for each in seen_by_dmp(dmp, number)] == [True, True]


def test_a_link_that_is_taken_back_leaves_the_decision_with_both(
    exchange: Exchange, hospital: Client, practice: Client, key: str, number: int
) -> None:
    """The strictest holds while they are one person, and for each of them afterwards."""
    steward = exchange.client("steward", "system/Patient.ru")
    other = unqualified(hospital, number, f"other-{number}")
    person = wiring.patient_index().find_person(other)
    assert person is not None
    if len(person.members) == 1:
        link = {"first": key, "second": other}
        assert steward.post("Patient/$link", pair(link)).status == 200
    closed(practice, key)
    assert steward.post("Patient/$unlink", pair({"patient": other})).status == 200
    for each in (key, other):
        assert told(practice.get(f"Patient/{each}/$record-status"))["status"] == "closed"


def pair(named: dict[str, str]) -> dict[str, Any]:
    listed: list[dict[str, Any]] = [
        {"name": name, "valueReference": {"reference": f"Patient/{patient}"}} for name, patient in named.items()
    ]
    return {"resourceType": "Parameters", "parameter": [*listed, {"name": "reason", "valueString": "vu"}]}


# --- attending physician ----------------------------------------------------------------------------------------------


def test_dmp_1_the_attending_physician_is_told_to_be(
    exchange: Exchange, practice: Client, hospital: Client, key: str, number: int
) -> None:
    itself = {"system": RPPS, "value": PRACTICE[1:]}
    another = {"system": IDNPS, "value": "810000000011"}
    assert refusal(decide(practice, key, "attending-physician", physician=another, consent=True))[0] == 403
    assert refusal(decide(practice, key, "attending-physician", physician=itself)) == (422, "required")
    named = told(decide(practice, key, "attending-physician", physician=itself, consent=True))
    assert named["physician"] == {"system": IDNPS, "value": PRACTICE}

    def is_attending(client_id: str) -> Any:
        (found, *_) = seen_by_dmp(exchange.client(client_id, "TD0.2"), number)
        return extensions(found)["dmp-medecin-traitant"]["valueBoolean"]

    assert (is_attending("practice"), is_attending("hospital-b")) == (True, False)
    other = str(register(exchange.client("hospital-b"), number, domain="urn:oid:2.999.2").json["id"])
    assert told(practice.get(f"Patient/{other}/$record-status"))["physician"]["value"] == PRACTICE
    assert register(hospital, number).status == 200
    assert is_attending("practice") is True
    assert refusal(decide(exchange.client("hospital-b"), other, "attending-physician"))[0] == 403
    assert "physician" not in told(decide(practice, other, "attending-physician"))
    assert is_attending("practice") is False


def test_a_patient_names_and_ends_the_attending_physician(exchange: Exchange, hospital: Client) -> None:
    own = str(register(hospital, 1).json["id"])
    patient = exchange.client("patient-1")
    physician = {"system": IDNPS, "value": PRACTICE}
    assert told(decide(patient, own, "attending-physician", physician=physician))["physician"] == physician
    person = wiring.patient_index().find_person(own)
    assert person is not None
    assert person.policy.attending_physician == PRACTICE
    assert "physician" not in told(decide(patient, own, "attending-physician"))


# --- races ------------------------------------------------------------------------------------------------------------


def test_two_decisions_at_once_are_one_after_the_other(exchange: Exchange, practice: Client, key: str) -> None:
    hospital = exchange.client("hospital-b")
    for each in (practice, hospital):
        each.token()
    with ThreadPoolExecutor(2) as pool:
        answers = list(
            pool.map(lambda each: decide(each, key, "close-record", motive="deces").status, (practice, hospital))
        )
    assert sorted(answers) == [200, 409]
    kinds = [
        part["valueCode"]
        for each in practice.get(f"Patient/{key}/$record-status").json["parameter"]
        if each["name"] == "decision"
        for part in each["part"]
        if part["name"] == "kind"
    ]
    assert kinds == ["closed"]
