"""French identity rules over HTTP. Case ids are rows of the interoperability contract, section 16.

The rules themselves are proved in `fhir/test_patient.py`; here, that every way of writing a Patient meets them, that
what is refused leaves nothing behind, and who sees what.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.region import IDENTIFIER_TYPES, INS_TEST, RELIABILITY, ins_of
from tests import examples
from tests.exchange import Client, Exchange

CARE = "ITI-78 system/*.rs"  # a search with the scope of the DMP has another meaning
DOMAIN_B = "urn:oid:2.999.2"
STATUS = "Patient.extension[0].extension[0].value"

Content = dict[str, Any]


def patient(
    number: int, status: str = "QUAL", *comments: str, domain: str = examples.DOMAIN, has_identifier: bool = True
) -> Content:
    """A person of the region, under a local identifier that tells this file's people from those of other tests."""
    _, content = examples.patient(number, domain=domain)
    system = content["extension"][0]["extension"][0]["valueCodeableConcept"]["coding"][0]["system"]
    parts: list[Content] = [{"url": "identityStatus", "valueCoding": {"system": system, "code": status}}]
    parts += [{"url": "comment", "valueCodeableConcept": {"coding": [{"code": code}]}} for code in comments]
    content["extension"][0] = {"url": RELIABILITY, "extension": parts}
    content["identifier"][1]["value"] = f"rules-{number}"
    if not has_identifier:
        content["identifier"] = content["identifier"][1:]
    return content


def put(client: Client, content: Content) -> Any:
    own = content["identifier"][-1]
    return client.put(f"Patient?identifier={own['system']}|{own['value']}", content)


def status_of(content: Content) -> str:
    parts = content["extension"][0]["extension"]
    code: str = next(part["valueCoding"]["code"] for part in parts if part["url"] == "identityStatus")
    return code


def systems(content: Content) -> list[str]:
    return [each["system"] for each in content.get("identifier", [])]


def refusal(answer: Any) -> tuple[int, str, list[str]]:
    (issue,) = answer.json["issue"]
    return answer.status, issue["code"], issue.get("expression", [])


REFUSED = [
    pytest.param(patient(3, "GOOD"), "code-invalid", STATUS, id="INS-1"),
    pytest.param(patient(3, "PROV"), "business-rule", "Patient.identifier[0]", id="INS-2"),
    pytest.param({**patient(3), "gender": "other"}, "code-invalid", "Patient.gender", id="INS-3-gender"),
    pytest.param({**patient(3), "birthDate": "2019-11"}, "required", "Patient.birthDate", id="INS-3-date"),
    pytest.param(
        {**patient(3), "identifier": [{**patient(3)["identifier"][0], "use": "usual"}, patient(3)["identifier"][1]]},
        "invariant",
        "Patient.identifier[0].use",
        id="INS-4",
    ),
    pytest.param(
        {**patient(3), "identifier": [{**patient(3)["identifier"][0], "value": "12"}, patient(3)["identifier"][1]]},
        "value",
        "Patient.identifier[0].value",
        id="INS-5",
    ),
    pytest.param(
        patient(3, "VALI", "DOUT", has_identifier=False),
        "invariant",
        "Patient.extension[0].extension[1].value",
        id="INS-11",
    ),
    pytest.param(
        {**patient(3), "link": [{"other": {"reference": "Patient/7q2k9c4m1xw8z0ab"}, "type": "replaced-by"}]},
        "business-rule",
        "Patient.active",
        id="104-5",
    ),
]


@pytest.mark.parametrize(("content", "code", "expression"), REFUSED)
def test_refused_however_it_is_written(exchange: Exchange, content: Content, code: str, expression: str) -> None:
    hospital = exchange.client("hospital-a")
    assert refusal(put(hospital, content)) == (422, code, [expression])
    assert refusal(hospital.post("Patient", content)) == (422, code, [expression])
    entry = {"resource": content, "request": {"method": "POST", "url": "Patient"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    answer = hospital.post("", bundle)
    assert (answer.status, answer.json["issue"][0]["code"]) == (422, code)
    for text in (ins_of(3), "LE GOFF", "Maël", "2019"):
        assert text not in answer.body.decode()
    found = exchange.client("practice", "ITI-78").get(f"Patient?identifier={examples.DOMAIN}|rules-3")
    assert (found.status, found.json["total"]) == (200, 0)


def test_ins_5_what_looks_wrong_is_told_to_who_asks(exchange: Exchange) -> None:
    """A wrong key, as the published DMP examples have it: stored in this stage, and said without the value."""
    content = patient(17)
    nir = "123456789012345"
    content["identifier"][0] = examples.national("urn:oid:1.2.250.1.213.1.4.8", nir)
    local = next(each["value"] for each in content["identifier"] if each["system"] == examples.DOMAIN)
    place = f"Patient?identifier={examples.DOMAIN}|{local}"
    answer = exchange.client("hospital-a").put(place, content, Prefer="return=OperationOutcome")
    assert answer.status in (200, 201)
    told = [(each["severity"], each["code"], each.get("expression")) for each in answer.json["issue"]]
    assert told[0][0] == "information"
    assert ("warning", "value", ["Patient.identifier[0].value"]) in told
    assert nir not in answer.body.decode()


@pytest.mark.parametrize("status", ["PROV", "VALI", "RECUP"])
def test_ins_7_a_source_does_not_qualify(exchange: Exchange, status: str) -> None:
    hospital = exchange.client("hospital-a")
    number = 6 + ["PROV", "VALI", "RECUP"].index(status)
    key = put(hospital, patient(number, status, has_identifier=status != "PROV")).json["id"]
    assert refusal(put(hospital, patient(number))) == (403, "forbidden", [STATUS])
    place = f"Patient/{key}"
    assert refusal(hospital.put(place, {**patient(number), "id": key})) == (403, "forbidden", [STATUS])
    path = "/extension/0/extension/0/valueCoding/code"
    patch = [{"op": "replace", "path": path, "value": "QUAL"}]
    if status != "PROV":
        patched = hospital.request("PATCH", place, patch, Content_Type="application/json-patch+json")
        assert refusal(patched) == (403, "forbidden", [STATUS])
    assert (hospital.get(place).header("ETag"), status_of(hospital.get(place).json)) == ('W/"1"', status)


def test_ins_8_the_national_service_qualifies(exchange: Exchange) -> None:
    hospital, practice = exchange.client("hospital-a"), exchange.client("practice", CARE)
    created = put(hospital, patient(9, "VALI", has_identifier=False))
    place = f"Patient/{created.json['id']}"
    qualified = hospital.post(f"{place}/$ins-qualify", b"")
    assert qualified.status == 200, qualified.body
    content = practice.get(place).json
    assert (status_of(content), content["meta"]["versionId"]) == ("QUAL", "2")
    coding = {"system": IDENTIFIER_TYPES, "code": "INS-NIR-TEST"}
    assert content["identifier"][0] == {
        "use": "official",
        "type": {"coding": [coding]},
        "system": INS_TEST,
        "value": ins_of(9),
    }
    found = practice.get(f"Patient?identifier={INS_TEST}|{ins_of(9)}").json
    assert [each["resource"]["id"] for each in found["entry"]] == [created.json["id"]]
    assert put(hospital, {**content, "active": False}).header("ETag") == 'W/"3"'  # it stays qualified
    again = hospital.post(f"{place}/$ins-qualify", b"")
    assert (again.status, hospital.get(place).header("ETag")) == (200, 'W/"3"')


def somebody(value: str, family: str, given: str, gender: str, born: str, place: str) -> Content:
    content = patient(3, "VALI", has_identifier=False)
    content["identifier"][0]["value"] = value
    content["name"] = [{"use": "official", "family": family, "given": [given]}]
    content["extension"][1]["valueAddress"]["extension"][0]["valueCoding"]["code"] = place
    return {**content, "gender": gender, "birthDate": born}


@pytest.mark.parametrize(
    ("content", "status"),
    [
        pytest.param(
            somebody("discrepant", "MOREAU", "Camille", "female", "1988-09-12", "00001"), 409, id="INS-8-other"
        ),
        pytest.param(somebody("several", "FONTAINE", "Lucas", "male", "1990-05-05", "00002"), 409, id="INS-8-several"),
        pytest.param(somebody("nobody", "PERSONNE", "Jean", "male", "1990-05-05", "00002"), 409, id="INS-8-nobody"),
    ],
)
def test_ins_8_unless_it_knows_one_person_with_these_traits(exchange: Exchange, content: Content, status: int) -> None:
    hospital = exchange.client("hospital-a")
    created = put(hospital, content)
    assert created.status == 201, created.body
    place = f"Patient/{created.json['id']}"
    refused = hospital.post(f"{place}/$ins-qualify", b"")
    assert refused.status == status
    for text in ("Camille", "MOREAU", "00003", "2880900003"):
        assert text not in refused.body.decode()
    assert hospital.get(place).body == created.body


def test_ins_8_only_the_source_asks(exchange: Exchange) -> None:
    created = put(exchange.client("hospital-a"), patient(10, "VALI", has_identifier=False))
    place = f"Patient/{created.json['id']}/$ins-qualify"
    assert exchange.client("hospital-b").post(place, b"").status == 403
    assert exchange.client("hospital-a").post(f"Patient/{'0' * 16}/$ins-qualify", b"").status == 404


@pytest.mark.parametrize("comment", ["DOUT", "FICT"])
def test_ins_11_nobody_asks_about_a_doubtful_or_fictitious_identity(exchange: Exchange, comment: str) -> None:
    hospital = exchange.client("hospital-a")
    number = 11 + ["DOUT", "FICT"].index(comment)
    created = put(hospital, patient(number, "PROV", comment, has_identifier=False))
    assert created.status == 201
    refused = hospital.post(f"Patient/{created.json['id']}/$ins-qualify", b"")
    assert refused.status == 422
    assert hospital.get(f"Patient/{created.json['id']}").body == created.body


def test_ins_9_a_changed_strict_trait_sets_the_identifier_aside(exchange: Exchange) -> None:
    """The correction is stored; the record leaves its person, and nobody finds it by the identifier any more."""
    a, b, practice = exchange.client("hospital-a"), exchange.client("hospital-b"), exchange.client("practice", CARE)
    at_a, at_b = put(a, patient(13)).json["id"], put(b, patient(13, domain=DOMAIN_B)).json["id"]
    search = f"Patient?identifier={INS_TEST}|{ins_of(13)}"
    assert practice.get(search).json["total"] == 2
    corrected = {**patient(13), "birthDate": "1952-03-04"}
    answer = put(a, corrected)
    assert (answer.status, answer.header("ETag"), answer.json["birthDate"]) == (200, 'W/"2"', "1952-03-04")
    assert status_of(answer.json) == "VALI"
    assert (answer.json["identifier"][0]["use"], answer.json["identifier"][0]["value"]) == ("old", ins_of(13))
    assert [each["resource"]["id"] for each in practice.get(search).json["entry"]] == [at_b]
    assert systems(practice.get(f"Patient/{at_a}").json) == [examples.DOMAIN]
    assert exchange.client("laboratory").post("Observation", examples.observation(at_b)).status == 201
    assert practice.get(f"Observation?patient={at_a}").json["total"] == 0
    outbox = [json.dumps(item) for item in exchange.table("clinical") if item["PK"]["S"].startswith("O#")]
    assert sum(f"Patient/{at_a}" in item for item in outbox) >= 2
    assert refusal(put(a, corrected))[:2] == (403, "forbidden")  # it has to be qualified again


@pytest.mark.parametrize("status", ["VALI", "RECUP"])
def test_ins_12_what_is_not_qualified_is_its_sources_alone(exchange: Exchange, status: str) -> None:
    hospital, practice = exchange.client("hospital-a"), exchange.client("practice", CARE)
    number = 15 + ["VALI", "RECUP"].index(status)
    created = put(hospital, patient(number, status))
    key, born = created.json["id"], created.json["birthDate"]
    assert systems(hospital.get(f"Patient/{key}").json) == [INS_TEST, examples.DOMAIN]
    paths = [
        f"Patient/{key}",
        f"Patient/{key}/_history/1",
        f"Patient/{key}/_history",
        f"Patient/{key}/$everything",
        f"Patient?birthdate={born}",
        f"Patient?_id={key}",
        f"Patient?birthdate={born}&_elements=identifier",
    ]
    for path in paths:
        answer = practice.get(path)
        assert answer.status == 200, path
        assert ins_of(number) not in answer.body.decode(), path
        assert f"rules-{number}" in answer.body.decode(), path
    assert practice.get(f"Patient?identifier={INS_TEST}|{ins_of(number)}").json["total"] == 0
    # Nor can anybody try whether it is this one.
    assert practice.get(f"Patient?birthdate={born}&identifier={INS_TEST}|{ins_of(number)}").json["total"] == 0
    batch = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [{"request": {"method": "GET", "url": f"Patient/{key}"}}],
    }
    assert ins_of(number) not in practice.post("", batch).body.decode()


def test_ins_12_a_qualified_identity_is_shown(exchange: Exchange) -> None:
    created = put(exchange.client("hospital-a"), patient(17))
    read = exchange.client("practice").get(f"Patient/{created.json['id']}")
    assert read.body == created.body
