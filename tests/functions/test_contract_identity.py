"""Rows of the interoperability contract on identity, where no other test proves them by the row (sections 3, 4, 16)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from local.region import PARTICIPANTS, RELIABILITY, ins_of
from passerelle import wiring
from passerelle.access import Scopes, Touched
from passerelle.audit.model import audit_of
from passerelle.consents.model import RecordStatus
from passerelle.fhir import xml as fhir_xml
from passerelle.patients.model import PersonChange
from tests import examples, feeding, sources
from tests.exchange import Client, Exchange
from tests.functions.test_demographics import MAIDEN, A, close, person, refusal, register
from tests.functions.test_match import asked, matches
from tests.people import decided

B = "urn:oid:2.999.2"
XML = {"Content_Type": "application/fhir+xml", "Accept": "application/fhir+xml"}


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


@pytest.fixture(scope="module")
def practice(exchange: Exchange) -> Client:
    return exchange.client("practice", "ITI-78 ITI-83 ITI-119")


def put(client: Client, patient: Mapping[str, Any], *, domain: str = A, **headers: str) -> Any:
    value = next(each["value"] for each in patient["identifier"] if each["system"] == domain)
    return client.put(f"Patient?identifier={domain}|{value}", patient, **headers)


def known_by(exchange: Exchange, value: str) -> int:
    """How many records carry an identifier of hospital A."""
    return len(wiring.patient_index().find_by_identifier(A, value))


# --- 3. demographics --------------------------------------------------------------------------------------------------


def test_78_7_the_read_says_the_same_in_xml(hospital: Client, practice: Client) -> None:
    key = register(hospital, person("c-78-7", "LECTEUR", "Ada", extension=[{"url": MAIDEN, "valueString": "Roy"}]))
    as_xml = practice.get(f"Patient/{key}", Accept="application/fhir+xml")
    assert fhir_xml.loads(as_xml.body) == practice.get(f"Patient/{key}").json  # 78-8 with it


def test_119_1_a_match_asked_in_xml(hospital: Client, practice: Client) -> None:
    ada = person("c-119-1", "ENIXEMELLE", "Ada", gender="female", birthDate="1931-12-11")
    key = register(hospital, ada)
    answer = practice.post("Patient/$match", fhir_xml.dumps(asked(ada)), **XML)
    assert (answer.status, f'<id value="{key}"/>'.encode() in answer.body) == (200, True)


def test_119_6_what_was_not_looked_at_is_told(
    hospital: Client, practice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody by this name, and more people of the household than are compared."""
    phone: dict[str, Any] = {"telecom": [{"system": "phone", "value": "0655443322"}]}
    for number in range(3):
        register(
            hospital, person(f"c-119-6-{number}", f"FOULE{'XYZ'[number]}", birthDate=f"195{number}-06-07", **phone)
        )
    monkeypatch.setattr("passerelle.aws.patients.BLOCK_LIMIT", 2)
    sought = person("x", "QUIDAM", "Paul", birthDate="1950-01-15", **phone)
    answer = practice.post("Patient/$match", asked(sought))
    assert matches(answer) == []
    (entry,) = answer.json["entry"]
    (issue,) = entry["resource"]["issue"]
    assert (entry["search"]["mode"], issue["severity"], issue["code"]) == ("outcome", "warning", "incomplete")


def test_119_6_the_store_is_not_available(
    exchange: Exchange, practice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise EndpointConnectionError(endpoint_url="https://dynamodb")

    practice.token()
    monkeypatch.setattr(wiring.aws("dynamodb"), "query", fail)
    answer = practice.post("Patient/$match", asked(person("x", "QUIDAM", "Paul")))
    assert refusal(answer) == (503, "error", "transient")


# --- 4. cross-reference and feeds -------------------------------------------------------------------------------------


def test_104_1_in_xml(hospital: Client) -> None:
    patient = person("c-104-1", "IXEMELLE", "Ode")
    place = f"Patient?identifier={A}|c-104-1"
    created = hospital.put(place, fhir_xml.dumps(patient), **XML)
    again = hospital.put(place, fhir_xml.dumps(patient), **XML)
    revised = hospital.put(place, fhir_xml.dumps({**patient, "gender": "female"}), **XML)
    assert [(each.status, each.header("ETag")) for each in (created, again, revised)] == [
        (201, 'W/"1"'),
        (200, 'W/"1"'),
        (200, 'W/"2"'),
    ]
    assert fhir_xml.loads(revised.body)["gender"] == "female"


def test_104_2_the_identifier_of_the_condition_is_not_in_the_body(exchange: Exchange, hospital: Client) -> None:
    answer = hospital.put(f"Patient?identifier={A}|c-104-2", person("c-104-2-other", "AILLEURS"))
    assert refusal(answer) == (422, "error", "invariant")
    assert known_by(exchange, "c-104-2") == known_by(exchange, "c-104-2-other") == 0


def test_104_2_two_matches(hospital: Client) -> None:
    """A secondary identifier that two records share names neither."""
    shared = {"system": A, "value": "c-104-2-shared"}
    for value in ("c-104-2-one", "c-104-2-two"):
        patient = person(value, "DOUBLON", birthDate="1933-03-03")
        assert put(hospital, {**patient, "identifier": [*patient["identifier"], shared]}).status == 201
    answer = hospital.put(f"Patient?identifier={A}|c-104-2-shared", person("c-104-2-shared", "DOUBLON"))
    assert refusal(answer) == (412, "error", "multiple-matches")


def test_104_3_another_source_s_domain(exchange: Exchange, hospital: Client) -> None:
    other = exchange.client("hospital-b")
    assert refusal(put(other, person("c-104-3", "INTRUS"))) == (403, "error", "forbidden")
    claims = person("c-104-3-b", "INTRUS", domain=B)
    claims["identifier"].append({"system": A, "value": "c-104-3"})
    assert refusal(put(other, claims, domain=B)) == (403, "error", "forbidden")
    assert known_by(exchange, "c-104-3") == 0


@pytest.mark.parametrize(
    ("survivor", "is_active", "expected"),
    [
        pytest.param("unheard-of", False, (422, "not-found"), id="unknown"),
        pytest.param("left", False, (422, "business-rule"), id="itself"),
        pytest.param("kept", True, (422, "business-rule"), id="active"),
        pytest.param("loop", False, (422, "business-rule"), id="loop"),
    ],
)
def test_104_5_a_merge_that_makes_no_sense(
    hospital: Client, survivor: str, is_active: bool, expected: tuple[int, str]
) -> None:
    def replaced(value: str) -> list[dict[str, Any]]:
        return [{"type": "replaced-by", "other": {"identifier": {"system": A, "value": f"c-104-5-{value}-{survivor}"}}}]

    left = person(f"c-104-5-left-{survivor}", "BOUCLE", birthDate="1934-04-04", active=True)
    loop = person(f"c-104-5-loop-{survivor}", "DETOUR", birthDate="1936-06-06", active=True)
    key = register(hospital, left)
    register(hospital, person(f"c-104-5-kept-{survivor}", "GARDE", birthDate="1935-05-05"))
    if survivor == "loop":
        register(hospital, loop)
        register(hospital, {**loop, "active": False, "link": replaced("left")})
    answer = put(hospital, {**left, "active": is_active, "link": replaced(survivor)})
    assert (answer.status, answer.json["issue"][0]["code"]) == expected
    read = hospital.get(f"Patient/{key}").json
    assert (read["active"], "link" in read) == (True, False)


def test_104_a_version_that_is_not_current(hospital: Client) -> None:
    """GEN-17 of a conditional update: nobody's correction is lost."""
    patient = person("c-if-match", "COURSE")
    put(hospital, patient)
    put(hospital, {**patient, "gender": "female"}, If_Match='W/"1"')
    late = put(hospital, {**patient, "gender": "male"}, If_Match='W/"1"')
    assert refusal(late) == (412, "error", "conflict")
    assert refusal(put(hospital, person("c-if-match-new", "COURSE"), If_Match='W/"1"')) == (412, "error", "conflict")


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_93_another_s_record_is_not_changed_by_its_id(exchange: Exchange, hospital: Client, method: str) -> None:
    foreign = register(exchange.client("hospital-b"), person("c-93", "CHEZB", domain=B), B)
    sent = feeding.entry(method, f"Patient/{foreign}", None if method == "DELETE" else person("c-93", "VOLE"))
    (told,) = feeding.told(hospital.post(feeding.FEED_PATH, feeding.message(sent)))
    assert told["status"].startswith("403")
    assert hospital.get(f"Patient/{foreign}").json["name"] == [{"family": "CHEZB"}]


def test_93_a_removal_by_id_removes_that_record(hospital: Client) -> None:
    """Though it also carries the identifier of another one."""
    other = register(hospital, person("c-93-other", "RESTE", birthDate="1937-07-07"))
    both = person("c-93-other", "PART", birthDate="1938-08-08")
    both["identifier"].append({"system": A, "value": "c-93-gone"})
    gone = put(hospital, {**both, "identifier": both["identifier"][::-1]}, domain=A)
    key = gone.json["id"]
    assert hospital.put(f"Patient?identifier={A}|c-93-gone", both).json["id"] == key
    (told,) = feeding.told(hospital.post(feeding.FEED_PATH, feeding.message(feeding.entry("DELETE", f"Patient/{key}"))))
    assert told["status"].startswith("200")
    assert (hospital.get(f"Patient/{key}").status, hospital.get(f"Patient/{other}").status) == (404, 200)


# --- 16. French identity ----------------------------------------------------------------------------------------------


def with_status(number: int, local: str, *codes: str, has_ins: bool = True, **changed: Any) -> dict[str, Any]:
    patient: dict[str, Any] = copy.deepcopy(examples.patient(number)[1])
    patient["identifier"][1]["value"] = local
    if not has_ins:
        patient["identifier"] = patient["identifier"][1:]
    system = patient["extension"][0]["extension"][0]["valueCodeableConcept"]["coding"][0]["system"]
    stated = [{"url": "identityStatus", "valueCoding": {"system": system, "code": code}} for code in codes]
    patient["extension"] = [*([{"url": RELIABILITY, "extension": stated}] if stated else []), *patient["extension"][1:]]
    return {**patient, **changed}


@pytest.mark.parametrize("as_xml", [False, True], ids=["json", "xml"])
@pytest.mark.parametrize(
    ("codes", "has_ins", "expected"),
    [
        pytest.param(["PROV"], False, (201, ""), id="INS-1-PROV"),
        pytest.param(["VALI"], False, (201, ""), id="INS-1-VALI"),
        pytest.param(["RECUP"], False, (201, ""), id="INS-1-RECUP"),
        pytest.param([], False, (201, ""), id="INS-1-absent"),
        pytest.param(["NOPE"], False, (422, "code-invalid"), id="INS-1-other"),
        pytest.param(["QUAL"], True, (201, ""), id="INS-2-QUAL"),
        pytest.param(["VALI"], True, (201, ""), id="INS-2-VALI"),
        pytest.param(["RECUP"], True, (201, ""), id="INS-2-RECUP"),
        pytest.param(["PROV"], True, (422, "business-rule"), id="INS-2-PROV"),
        pytest.param([], True, (422, "business-rule"), id="INS-2-absent"),
    ],
)
def test_ins_1_ins_2(
    exchange: Exchange, hospital: Client, codes: list[str], has_ins: bool, expected: tuple[int, str], as_xml: bool
) -> None:
    local = f"c-ins-{'-'.join(codes) or 'none'}-{has_ins}-{as_xml}"
    patient = with_status(8, local, *codes, has_ins=has_ins)
    place = f"Patient?identifier={A}|{local}"
    if as_xml:
        answer = hospital.put(place, fhir_xml.dumps(patient), Content_Type="application/fhir+xml")
    else:
        answer = hospital.put(place, patient)
    code = answer.json["issue"][0]["code"] if answer.status == 422 else ""
    assert (answer.status, code) == expected
    assert known_by(exchange, local) == (answer.status == 201)


def test_ins_5_corsica(hospital: Client) -> None:
    assert put(hospital, with_status(18, "c-ins-5", "QUAL")).status == 201
    assert "2A" in ins_of(18)


def test_ins_12_the_national_record_takes_documents_of_qualified_identities_only(exchange: Exchange) -> None:
    """Whatever opened its record: the same submission is taken when it is not for the national record."""
    key = register(exchange.client("hospital-a"), with_status(10, "c-ins-12", "VALI"))
    found = wiring.patient_index().find_person(key)
    assert found is not None
    assert found.qualified is None
    opened = decided(found, RecordStatus.OPEN)
    changes = [PersonChange(before=found, after=opened), *audit_of(sources.request(sources.STEWARD), Touched())]
    wiring.journal().commit(changes)
    registered = next(each for each in PARTICIPANTS if each.id == "laboratory")
    client = wiring.clients().find("laboratory")
    assert client is not None
    wiring.clients().register(replace(client, scopes=Scopes.parse(f"{registered.scopes} TD2.1a")))
    feeder = Client(exchange, "laboratory", f"{registered.scopes} TD2.1a")
    document = examples.submission(f"Patient/{key}", unique="urn:oid:2.999.1.77.12")
    answer = feeder.post("", document)
    assert refusal(answer) == (422, "error", "business-rule")
    assert "qualified" in answer.json["issue"][0]["diagnostics"]
    practice = exchange.client("practice")
    assert practice.get(f"DocumentReference?patient={key}").json["total"] == 0
    assert exchange.client("laboratory").post("", document).status == 200
    assert practice.get(f"DocumentReference?patient={key}").json["total"] == 1


PROFESSIONALS = ("urn:oid:1.2.250.1.71.4.2.1|810003461033", "https://rpps.esante.gouv.fr|10003461033")
STRUCTURES = ("urn:oid:1.2.250.1.71.4.2.2|1754567860", "https://finess.esante.gouv.fr|754567860")


@pytest.mark.parametrize(
    ("kind", "stored", "sought"),
    [
        pytest.param("Practitioner", *PROFESSIONALS, id="IDNPS"),
        pytest.param("Practitioner", *PROFESSIONALS[::-1], id="RPPS"),
        pytest.param("Organization", *STRUCTURES, id="IDNST"),
        pytest.param("Organization", *STRUCTURES[::-1], id="FINESS"),
    ],
)
def test_ins_14_two_systems_name_one(exchange: Exchange, kind: str, stored: str, sought: str) -> None:
    client = exchange.client("hospital-a")
    system, value = stored.split("|")
    resource = {"resourceType": kind, "identifier": [{"system": system, "value": value}], "active": True}
    made = client.post(kind, resource | ({"name": "x"} if kind == "Organization" else {}))
    assert made.status == 201, made.body
    for each in (stored, sought):
        found = client.get(f"{kind}?identifier={each}")
        assert [entry["resource"]["id"] for entry in found.json["entry"]] == [made.json["id"]]
    again = client.post(kind, resource, If_None_Exist=f"identifier={sought}")
    assert (again.status, again.json["id"]) == (200, made.json["id"])
    assert client.request("DELETE", f"{kind}/{made.json['id']}").status in (200, 204)


# --- what a person is hidden from -------------------------------------------------------------------------------------


def test_a_namesake_whose_record_is_closed_is_still_a_namesake(
    exchange: Exchange, hospital: Client, practice: Client
) -> None:
    """Of two namesakes neither is certain, whoever closed a record: identities are not what closing hides."""
    traits: dict[str, Any] = {
        "birthDate": "1941-01-21",
        "gender": "male",
        "telecom": [{"system": "phone", "value": "0611990011"}],
    }
    one = person("c-gen-11", "CACHOTIER", "Aimé", **traits)
    register(hospital, one)
    alone = practice.post("Patient/$match", asked(one))
    assert [grade for _, _, grade in matches(alone)] == ["certain"]
    doubt = {"url": "comment", "valueCodeableConcept": {"coding": [{"code": "DOUT"}]}}
    other = {**one, "identifier": [{"system": B, "value": "c-gen-11"}]}
    other["extension"] = [{"url": RELIABILITY, "extension": [doubt]}]
    key = register(exchange.client("hospital-b"), other, B)
    both = practice.post("Patient/$match", asked(one))
    assert "certain" not in {grade for _, _, grade in matches(both)}
    close(key)
    assert practice.post("Patient/$match", asked(one)).body == both.body


@pytest.mark.parametrize(
    "path",
    ["Patient/{long}", "Patient?_id={long}", "Patient?_id=%00", "Patient/a%2Fb", "Patient/{long}/$everything"],
)
def test_names_of_nobody_are_read_nowhere(practice: Client, path: str) -> None:
    answer = practice.get(path.format(long="x" * 3000))
    assert answer.status in (200, 404, 400, 403), answer.body
    if answer.status == 200:
        assert answer.json["total"] == 0


def test_searches_name_some_domains(practice: Client) -> None:
    domains = ",".join(f"urn:oid:2.999.1.{n}|" for n in range(50))
    assert refusal(practice.get(f"Patient?birthdate=1970-05-05&identifier={domains}"))[0] == 400
    targets = "&".join(f"targetSystem=urn:oid:2.999.1.{n}" for n in range(50))
    assert refusal(practice.get(f"Patient/$ihe-pix?sourceIdentifier={A}|1&{targets}"))[0] == 400
