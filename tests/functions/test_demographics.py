"""Searching people over HTTP: ITI-78 and its views, TD0.2. Case ids are rows of the interoperability contract."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from local.region import INS_TEST, RELIABILITY
from passerelle import wiring
from passerelle.aws.dynamodb import measure
from passerelle.aws.journal import actions_of
from passerelle.consents.model import RecordStatus
from passerelle.patients import service
from passerelle.patients.model import PersonChange
from tests import examples
from tests.exchange import Client, Exchange

A, B = "urn:oid:2.999.1", "urn:oid:2.999.2"
MAIDEN = "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName"


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


@pytest.fixture(scope="module")
def practice(exchange: Exchange) -> Client:
    """A third party, with the scope of ITI-78 and no other."""
    return exchange.client("practice", "ITI-78")


def register(client: Client, patient: dict[str, Any], domain: str = A) -> str:
    """The id of a Patient, registered under its identifier of the domain."""
    value = next(each["value"] for each in patient["identifier"] if each["system"] == domain)
    answer = client.put(f"Patient?identifier={domain}|{value}", patient)
    assert answer.status in (200, 201), answer.body
    return str(answer.json["id"])


def person(value: str, family: str, *given: str, domain: str = A, **more: Any) -> dict[str, Any]:
    """A person whom nobody qualified."""
    return {
        "resourceType": "Patient",
        "identifier": [{"system": domain, "value": value}],
        "name": [{"family": family, "given": list(given)}] if given else [{"family": family}],
        "birthDate": "1970-05-05",
        **more,
    }


def validated(number: int) -> dict[str, Any]:
    """A person of the region whose identity is validated, not qualified, and carries an INS all the same."""
    patient = copy.deepcopy(examples.patient(number)[1])
    assert patient["extension"][0]["url"] == RELIABILITY
    patient["extension"][0]["extension"][0]["valueCodeableConcept"]["coding"][0]["code"] = "VALI"
    patient["text"] = {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{INS_TEST}</div>'}
    return patient


def search(client: Client, query: str, **headers: str) -> Any:
    return client.get("Patient?" + quote(query, safe="=&|:,"), **headers)


def ids(answer: Any, mode: str = "match") -> list[str]:
    assert answer.status == 200, answer.body
    return [each["resource"]["id"] for each in answer.json.get("entry", []) if each["search"]["mode"] == mode]


def refusal(answer: Any) -> tuple[int, str, str]:
    issue = answer.json["issue"][0]
    return answer.status, issue["severity"], issue["code"]


# --- the parameters ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def known(hospital: Client) -> str:
    """One person with all that is searched by."""
    return register(
        hospital,
        person(
            "78-1",
            "LEMAÎTRE",
            "Anaïs",
            "Zoé",
            active=True,
            gender="female",
            birthDate="1981-03-02",
            telecom=[{"system": "phone", "value": "06 71 82 93 04"}, {"system": "email", "value": "A.L@exemple.fr"}],
            address=[
                {
                    "line": ["3 rue des Lilas"],
                    "city": "Rivières",
                    "postalCode": "99100",
                    "state": "Sud",
                    "country": "FR",
                }
            ],
            extension=[{"url": MAIDEN, "valueString": "D'Aubigné"}],
        ),
    )


@pytest.fixture(scope="module")
def homonym(hospital: Client) -> str:
    """Somebody else, born that day."""
    return register(
        hospital, person("78-1-other", "DURAND", "Paul", birthDate="1981-03-02", gender="male", active=False)
    )


@pytest.mark.parametrize(
    "query",
    [
        "_id={known}",
        f"identifier={A}|78-1",
        "birthdate=1981-03-02&active=true",
        "birthdate=1981-03-02&family=lemaitre",
        "birthdate=1981-03-02&given=zoe",
        "birthdate=1981-03-02&name=anais lemaitre",
        "birthdate=1981-03-02&gender=female",
        "birthdate=1981-03-02&telecom=0671829304",
        "birthdate=1981-03-02&address=lilas,3 rue",
        "birthdate=1981-03-02&address-city=rivieres",
        "birthdate=1981-03-02&address-country=fr",
        "birthdate=1981-03-02&address-postalcode=99100",
        "birthdate=1981-03-02&address-state=sud",
        "birthdate=1981-03-02&mothersMaidenName=d'aub",
        "birthdate=1981-03-02&family=anais&given=lemaitre",
        "birthdate=1981-03-01,1981-03-02&family=durant,lem",
        "birthdate=1981-03-02&given=anais&given=zoe",
        "telecom=+33671829304",
        "email=a.l@EXEMPLE.fr",
    ],
)
def test_78_1_78_2_each_parameter(practice: Client, known: str, homonym: str, query: str) -> None:
    assert known != homonym
    found = search(practice, query.format(known=known))
    assert ids(found) == [known]
    assert found.json["total"] == 1


@pytest.mark.parametrize(
    "query",
    [
        "birthdate=1981-03-02&family=emaitre",
        "birthdate=1981-03-02&family=lemaitre&given=paul",
        "birthdate=1981-03-02&mothersMaidenName=aubigne",
        "birthdate=1981-03-02&family=lemaitre&gender=male",
        "birthdate=1981-03-03&family=lemaitre",
        f"identifier={A}|78-1&identifier={B}|78-1",
    ],
)
def test_78_2_all_that_is_asked_has_to_be_met(practice: Client, known: str, query: str) -> None:
    assert ids(search(practice, query)) == []


def test_78_1_in_json_and_xml_by_get_and_post(practice: Client, known: str, homonym: str) -> None:
    query = "birthdate=1981-03-02"
    by_get = search(practice, query)
    assert sorted(ids(by_get)) == sorted([known, homonym])
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    assert practice.request("POST", "Patient/_search", query.encode(), **form).body == by_get.body
    as_xml = search(practice, query, Accept="application/fhir+xml")
    assert as_xml.header("Content-Type").startswith("application/fhir+xml")
    assert all(f'<id value="{each}"/>'.encode() in as_xml.body for each in (known, homonym))


@pytest.mark.parametrize(
    ("modifier", "matching", "other"),
    [
        ("family:exact", "LEMAÎTRE", "lemaitre"),
        ("given:exact", "Anaïs", "anais"),
        ("name:exact", "Zoé", "zoe"),
        ("address-city:exact", "Rivières", "rivieres"),
        ("mothersMaidenName:exact", "D'Aubigné", "d'aubigne"),
        ("family:contains", "maitr", "mettr"),
    ],
)
def test_78_3_exact_and_contains(practice: Client, known: str, modifier: str, matching: str, other: str) -> None:
    assert ids(search(practice, f"birthdate=1981-03-02&{modifier}={matching}")) == [known]
    assert ids(search(practice, f"birthdate=1981-03-02&{modifier}={other}")) == []


def test_78_3_exact_names_are_not_exchanged(practice: Client, known: str) -> None:
    assert ids(search(practice, "birthdate=1981-03-02&family:exact=Anaïs&given:exact=LEMAÎTRE")) == []


@pytest.mark.parametrize(
    "query",
    [
        "family=de la tour",
        "family=la tour",
        "family=tour",
        "family=latour",
        "family=delatour",
        "family=perier",
        "family=beau",
        "given=jean",
        "name=come tour",
        "family=come&given=tour",
    ],
)
def test_people_are_found_as_people_search(hospital: Client, practice: Client, query: str) -> None:
    """Particles, both parts of a compound name, the used name, and names that were exchanged."""
    names = [
        {"use": "official", "family": "DE LA TOUR", "given": ["Côme", "Jean-Eudes"]},
        {"use": "usual", "family": "Beau-Périer", "given": ["Côme"]},
    ]
    key = register(hospital, person("as-people-search", "x", birthDate="1933-04-05", name=names))
    found = search(practice, f"birthdate=1933-04-05&{query}")
    assert ids(found) == [key], found.body


def test_78_2_what_is_not_served_is_not_in_the_self_link(practice: Client, known: str) -> None:
    found = search(practice, f"_id={known}&family=lem&favourite-colour=blue&_include=Patient:organization")
    (link,) = [each["url"] for each in found.json["link"] if each["relation"] == "self"]
    assert "family=lem" in link
    assert "favourite" not in link
    assert "_include" not in link
    strict = search(practice, f"_id={known}&favourite-colour=blue", Prefer="handling=strict")
    assert refusal(strict) == (400, "error", "not-supported")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        pytest.param("family=dupont", "required", id="INS-13-name"),
        pytest.param("family=dupont&gender=male", "required", id="INS-13-name-and-gender"),
        pytest.param("", "required", id="INS-13-nothing"),
        pytest.param(f"identifier={A}|", "required", id="domain-alone"),
        pytest.param("birthdate=1981", "value", id="a-year"),
        pytest.param("identifier=78-1", "value", id="without-system"),
    ],
)
def test_ins_13_what_nothing_looks_up_is_refused(practice: Client, query: str, code: str) -> None:
    assert refusal(search(practice, query)) == (400, "error", code)


def test_ins_13_three_letters_narrow_a_look_up(
    hospital: Client, practice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_CANDIDATES", 5)
    for number in range(6):
        register(
            hospital, person(f"crowd-{number}", f"{'FOULE' if number else 'DUPUIS'}{number}", birthDate="1920-02-20")
        )
    broad = search(practice, "birthdate=1920-02-20")
    assert refusal(broad) == (400, "error", "too-costly")
    assert "three letters" in broad.json["issue"][0]["diagnostics"]
    assert search(practice, "birthdate=1920-02-20&family=Dup").json["total"] == 1
    with measure() as spent:
        assert search(practice, "birthdate=1920-02-20&family=foule4").json["total"] == 1
    assert spent.round_trips - 2 <= 4, spent.calls  # look-up, entries, bodies, persons; beside the token and the audit


def test_gen_10_pages(exchange: Exchange, practice: Client, known: str, homonym: str) -> None:
    whole = ids(search(practice, "birthdate=1981-03-02&_sort=family"))
    assert whole == [homonym, known]
    first = search(practice, "birthdate=1981-03-02&_sort=family&_count=1")
    assert (ids(first), first.json["total"]) == ([homonym], 2)
    (following,) = [each["url"] for each in first.json["link"] if each["relation"] == "next"]
    place = following.partition("/fhir/")[2]
    second = practice.get(place)
    assert (ids(second), second.json["total"]) == ([known], 2)
    assert "next" not in {each["relation"] for each in second.json["link"]}
    assert exchange.client("nurse", "ITI-78").get(place).status == 404
    assert search(practice, "birthdate=1981-03-02&_summary=count").json.get("entry") is None


# --- domains ----------------------------------------------------------------------------------------------------------


def test_78_4_the_identifiers_of_some_domains(hospital: Client, practice: Client) -> None:
    _, patient = examples.patient(18)
    patient["identifier"] += [{"system": "urn:oid:2.999.77", "value": "78-4-x"}]
    key = register(hospital, patient)
    people = "birthdate=1929-12-25&family=pet"
    whole = search(practice, people)
    assert len(whole.json["entry"][0]["resource"]["identifier"]) == 3
    for query in (f"identifier={A}|,{INS_TEST}|", f"identifier={A}|&identifier={INS_TEST}|"):
        found = search(practice, f"{people}&{query}")
        assert ids(found) == [key]
        assert {each["system"] for each in found.json["entry"][0]["resource"]["identifier"]} == {A, INS_TEST}
    nothing = search(practice, f"{people}&identifier={B}|")
    assert ids(nothing) == [key]
    assert "identifier" not in nothing.json["entry"][0]["resource"]


@pytest.mark.parametrize("query", ["identifier=urn:oid:2.999.1234|", f"identifier={A}|,urn:oid:2.999.1234|&family=dom"])
def test_78_5_an_unknown_domain(practice: Client, query: str) -> None:
    answer = search(practice, query)
    assert refusal(answer) == (404, "warning", "not-found")
    assert answer.json["issue"][0]["diagnostics"] == "targetSystem not found"


# --- merged, removed, hidden ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def merged(hospital: Client) -> tuple[str, str]:
    """A duplicate and the record that replaces it."""
    survivor = register(hospital, person("78-6-kept", "FUSION", "Ada", birthDate="1972-02-02", active=True))
    duplicate = person("78-6-left", "FUSSION", "Ada", birthDate="1972-02-02", active=True)
    key = register(hospital, duplicate)
    replaced = [{"type": "replaced-by", "other": {"identifier": {"system": A, "value": "78-6-kept"}}}]
    assert register(hospital, {**duplicate, "active": False, "link": replaced}) == key
    return key, survivor


def test_78_6_a_merged_patient_comes_with_its_survivor(practice: Client, merged: tuple[str, str]) -> None:
    duplicate, survivor = merged
    found = search(practice, "birthdate=1972-02-02&family=fuss")
    assert (ids(found), ids(found, "include"), found.json["total"]) == ([duplicate], [survivor], 1)
    resource = found.json["entry"][0]["resource"]
    assert resource["active"] is False
    (link,) = resource["link"]
    assert (link["type"], link["other"]["reference"].endswith(f"Patient/{survivor}")) == ("replaced-by", True)
    both = search(practice, "birthdate=1972-02-02&family=fus")
    assert (sorted(ids(both)), ids(both, "include")) == (sorted(merged), [])
    assert ids(search(practice, "birthdate=1972-02-02&family=fus&active=true")) == [survivor]
    assert ids(search(practice, "birthdate=1972-02-02&family=fuss&active=true")) == []


def test_78_7_reads(hospital: Client, practice: Client, merged: tuple[str, str], known: str) -> None:
    duplicate, survivor = merged
    read = practice.get(f"Patient/{duplicate}")
    assert (read.status, read.json["active"]) == (200, False)
    assert read.json["link"][0]["other"]["reference"].endswith(f"Patient/{survivor}")
    assert practice.get(f"Patient/{known}").status == 200
    assert practice.get(f"Patient/{known}", Accept="application/fhir+xml").status == 200
    assert practice.get(f"Patient/{'0' * 16}").status == 404
    assert practice.get(f"Patient/{known}", Accept="text/csv").status == 406


def test_78_8_the_mothers_maiden_name_is_told(practice: Client, known: str) -> None:
    for content in (
        practice.get(f"Patient/{known}").json,
        search(practice, f"_id={known}").json["entry"][0]["resource"],
    ):
        assert {"url": MAIDEN, "valueString": "D'Aubigné"} in content["extension"]


def test_104_6_a_removed_patient_is_gone(exchange: Exchange, hospital: Client, practice: Client) -> None:
    key = register(hospital, person("104-6", "PARTI", birthDate="1973-03-03"))
    place = f"Patient?identifier={A}|104-6"
    assert ids(search(practice, "birthdate=1973-03-03")) == [key]
    assert exchange.client("hospital-b").request("DELETE", place).status == 403
    assert exchange.client("hospital-a", "ITI-78").request("DELETE", place).status == 403
    removed = hospital.request("DELETE", place)
    assert (removed.status, removed.json["resourceType"]) == (200, "OperationOutcome")
    for query in ("birthdate=1973-03-03", f"identifier={A}|104-6", f"_id={key}"):
        assert ids(search(practice, query)) == []
    assert refusal(practice.get(f"Patient/{key}")) == (404, "error", "not-found")  # 93-4
    assert refusal(hospital.request("DELETE", place)) == (404, "error", "not-found")
    assert refusal(hospital.request("DELETE", f"Patient?identifier={A}|never")) == (404, "error", "not-found")
    assert refusal(hospital.request("DELETE", "Patient?birthdate=1973-03-03")) == (400, "error", "required")
    assert refusal(hospital.request("DELETE", f"Patient/{key}")) == (405, "error", "not-supported")
    (record,) = [
        each
        for each in exchange.table("audit")
        if each.get("patient", {}).get("S") == key and each["action"]["S"] == "D" and each["outcome"]["S"] == "0"
    ]
    assert record["client_id"]["S"] == "hospital-a"


def test_104_6_without_an_answer(hospital: Client) -> None:
    register(hospital, person("104-6-minimal", "PARTI", birthDate="1973-03-04"))
    removed = hospital.request("DELETE", f"Patient?identifier={A}|104-6-minimal", Prefer="return=minimal")
    assert (removed.status, removed.body) == (204, b"")


def test_dmp_2_a_closed_record_hides_what_is_in_it_not_who_someone_is(
    exchange: Exchange, hospital: Client, practice: Client
) -> None:
    key = register(hospital, person("closed", "FERMÉ", birthDate="1974-04-04"))
    query = "birthdate=1974-04-04&family=fer"
    assert ids(search(practice, query)) == [key]
    care = exchange.client("practice")
    assert care.post("Observation", examples.observation(key)).status == 201
    close(key)
    assert ids(search(practice, query)) == [key]
    assert practice.get(f"Patient/{key}").status == 200
    closed, unknown = (care.get(f"Observation?patient={each}") for each in (key, "0" * 16))
    assert (closed.json["total"], closed.json.get("entry")) == (unknown.json["total"], None)


def close(key: str) -> None:
    """Have the person's record closed, as a decision of the patient would."""
    person = wiring.patient_index().find_person(key)
    assert person is not None
    closed = tuple(replace(each, policy=replace(each.policy, status=RecordStatus.CLOSED)) for each in person.records)
    change = PersonChange(before=person, after=replace(person, records=closed, revision=person.revision + 1))
    wiring.dynamodb().transact(actions_of(change, wiring.table_names()))


# --- INS-12: what others than the source see --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unqualified(hospital: Client) -> str:
    return register(hospital, validated(3))


@pytest.fixture(scope="module")
def qualified(hospital: Client) -> str:
    return register(hospital, examples.patient(4)[1])


def test_ins_12_wherever_a_patient_leaves(
    exchange: Exchange, hospital: Client, unqualified: str, qualified: str
) -> None:
    """The source sees the INS of an identity that is not qualified; nobody else does, in any answer."""
    other = exchange.client("practice")
    note = examples.observation(unqualified)
    assert exchange.client("laboratory").post("Observation", note).status == 201
    batch = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [
            {"request": {"method": "GET", "url": url}}
            for url in (f"Patient/{unqualified}", f"Patient?_id={unqualified}", f"Patient/{unqualified}/$everything")
        ],
    }
    local = examples.patient(3)[0]
    places = (
        f"Patient/{unqualified}",
        f"Patient/{unqualified}?_elements=identifier",
        f"Patient/{unqualified}/_history/1",
        f"Patient/{unqualified}/_history",
        f"Patient?_id={unqualified}",
        f"Patient?identifier={A}|{local}",
        "Patient?birthdate=2019-11-03&_elements=identifier,text",
        f"Patient/{unqualified}/$everything",
        f"Patient/{unqualified}/$changes",
        f"Patient/{unqualified}/$summary",
        f"Observation?patient={unqualified}&_include=Observation:patient",
        f"Patient/$ihe-pix?sourceIdentifier={A}|{local}",
    )
    for as_json in (True, False):
        accept = "application/fhir+json" if as_json else "application/fhir+xml"
        for place in places:
            answer = other.get(place, Accept=accept)
            assert answer.status == 200, (place, answer.body)
            assert INS_TEST.encode() not in answer.body, place
        answer = other.post("", batch, Accept=accept)
        assert answer.status == 200
        assert INS_TEST.encode() not in answer.body
    shown = hospital.get(f"Patient/{unqualified}").json
    assert INS_TEST in {each["system"] for each in shown["identifier"]}
    assert INS_TEST in other.get(f"Patient/{qualified}").body.decode()
    elements = other.get(f"Patient?_id={qualified}&_elements=identifier")
    assert INS_TEST in elements.body.decode()


def test_ins_12_matches_and_writes_tell_nothing_either(exchange: Exchange, hospital: Client, unqualified: str) -> None:
    other = exchange.client("practice")
    sent = {name: value for name, value in validated(3).items() if name not in ("identifier", "extension", "text")}
    found = other.post("Patient/$match", sent)
    assert unqualified in found.body.decode()
    assert INS_TEST not in found.body.decode()
    local = examples.patient(3)[0]
    own = person("ins-12-mine", "X", domain="urn:oid:2.999.3")
    existing = other.post("Patient", own, If_None_Exist=f"identifier={A}|{local}")
    assert (existing.status, existing.json["id"]) == (200, unqualified)
    assert INS_TEST not in existing.body.decode()
    entry = {"resource": own, "request": {"method": "POST", "url": "Patient", "ifNoneExist": f"identifier={A}|{local}"}}
    transaction = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    answer = other.post("", transaction, Prefer="return=representation")
    assert (answer.status, INS_TEST in answer.body.decode()) == (200, False)
    assert unqualified in answer.body.decode()
    assert INS_TEST in hospital.put(f"Patient?identifier={A}|{local}", validated(3)).body.decode()


def test_ins_12_nor_does_a_search_by_the_national_identifier(exchange: Exchange, unqualified: str) -> None:
    """Who knows an INS does not learn that an identity which is not qualified carries it."""
    ins = examples.ins(3)
    other, source = exchange.client("practice", "ITI-78"), exchange.client("hospital-a", "ITI-78")
    for query in (f"identifier={ins}", f"birthdate=2019-11-03&identifier={ins}", f"_id={unqualified}&identifier={ins}"):
        assert ids(search(other, query)) == []
    assert ids(search(source, f"_id={unqualified}&identifier={ins}")) == [unqualified]
    assert ids(search(other, f"birthdate=2019-11-03&identifier:not={ins}")) == [unqualified]


def test_ins_12_an_identity_that_is_qualified_is_shown_as_it_is_stored(
    exchange: Exchange, hospital: Client, qualified: str
) -> None:
    practice = exchange.client("practice", "ITI-78")
    read = practice.get(f"Patient/{qualified}")
    assert read.body == hospital.get(f"Patient/{qualified}").body
    (entry,) = search(practice, f"identifier={examples.ins(4)}").json["entry"]
    assert entry["resource"] == json.loads(read.body)


# --- TD0.2 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("birthdate=1962-01-01", (400, "error", "required"), id="missing"),
        pytest.param("identifier=1", (400, "error", "value"), id="without-system"),
        pytest.param(f"identifier={A}|000004", (404, "warning", "not-found"), id="other-system"),
    ],
)
def test_dmp_4_only_national_identifiers(
    exchange: Exchange, qualified: str, query: str, expected: tuple[int, str, str]
) -> None:
    dmp = exchange.client("practice", "TD0.2")
    assert ids(search(dmp, f"identifier={examples.ins(4)}")) == [qualified]
    assert refusal(search(dmp, query)) == expected


def test_dmp_2_the_two_meanings_of_active(exchange: Exchange, hospital: Client, merged: tuple[str, str]) -> None:
    """P6: a token with both scopes gets the view of the DMP by identifier, that of PDQm by anything else."""
    retired = examples.patient(7)[1]
    key = register(hospital, {**retired, "active": False})
    both = exchange.client("practice", "ITI-78 TD0.2")
    demographics = exchange.client("practice", "ITI-78")
    by_identifier = f"identifier={examples.ins(7)}"

    def active(client: Client, query: str) -> Any:
        (entry,) = search(client, query).json["entry"]
        assert entry["resource"]["id"] == key
        return entry["resource"]["active"]

    assert active(both, by_identifier) is True
    assert active(demographics, by_identifier) is False
    assert active(both, f"birthdate={retired['birthDate']}") is False
