"""Matching a person over HTTP: ITI-119. Case ids are rows of the interoperability contract."""

from __future__ import annotations

from typing import Any

import pytest

from local.region import ins_of
from passerelle.aws.dynamodb import measure
from passerelle.patients.identity import nir_key
from tests import examples
from tests.exchange import Client, Exchange
from tests.functions.test_demographics import MAIDEN, A, close, person, refusal, register

GRADE = "http://hl7.org/fhir/StructureDefinition/match-grade"


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


@pytest.fixture(scope="module")
def consumer(exchange: Exchange) -> Client:
    return exchange.client("pharmacy-a", "ITI-119")


def asked(patient: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    """The Parameters of a match: of a person, without what a source knows them by."""
    traits = {name: value for name, value in patient.items() if name not in ("identifier", "extension", "active")}
    values = {"count": "valueInteger", "onlyCertainMatches": "valueBoolean"}
    others = [{"name": name, values[name]: value} for name, value in arguments.items()]
    return {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": traits}, *others]}


def matches(answer: Any) -> list[tuple[str, float, str]]:
    """Id, score and grade of each match."""
    assert answer.status == 200, answer.body
    assert (answer.json["resourceType"], answer.json["type"]) == ("Bundle", "searchset")
    found = []
    for entry in answer.json.get("entry", []):
        search = entry["search"]
        if search["mode"] == "match":
            (grade,) = [each["valueCode"] for each in search["extension"] if each["url"] == GRADE]
            found.append((entry["resource"]["id"], float(search["score"]), grade))
    assert answer.json["total"] == len(found)
    assert all(0 <= score <= 1 for _, score, _ in found)
    assert [score for _, score, _ in found] == sorted((score for _, score, _ in found), reverse=True)
    return found


@pytest.fixture(scope="module")
def elise(hospital: Client) -> str:
    patient = examples.patient(1)[1]
    return register(hospital, {**patient, "extension": [*patient["extension"], {"url": MAIDEN, "valueString": "Roy"}]})


def test_119_1_a_person_by_their_traits(consumer: Client, elise: str) -> None:
    sent = asked(examples.patient(1)[1])
    wrapped = consumer.post("Patient/$match", sent)
    ((key, score, grade),) = matches(wrapped)
    assert key == elise
    assert score > 0.9
    assert grade == "certain"
    bare = consumer.post("Patient/$match", sent["parameter"][0]["resource"])
    assert bare.body == wrapped.body
    (entry,) = wrapped.json["entry"]
    assert {"url": MAIDEN, "valueString": "Roy"} in entry["resource"]["extension"]  # 78-8
    assert entry["fullUrl"].endswith(f"/Patient/{elise}")


def test_119_1_in_xml(consumer: Client, elise: str) -> None:
    answer = consumer.post("Patient/$match", asked(examples.patient(1)[1]), Accept="application/fhir+xml")
    assert (answer.status, b"<score value=" in answer.body, elise.encode() in answer.body) == (200, True, True)


def test_119_1_one_entry_for_each_person_the_likeliest_first(hospital: Client, consumer: Client) -> None:
    """Two sisters, born the same day: who is asked for comes first."""
    home = [{"line": ["8 chemin du Bois"], "city": "Rivières", "postalCode": "99100"}]
    common = {"birthDate": "1999-09-19", "gender": "female", "address": home}
    anne = person("119-anne", "CAMBRELIN", "Anne", **common)
    zoe = person("119-zoe", "CAMBRELIN", "Zoé", **common)
    keys = register(hospital, anne), register(hospital, zoe)
    found = matches(consumer.post("Patient/$match", asked(anne)))
    assert found[0][0] == keys[0]
    if len(found) > 1:
        assert found[1][0] == keys[1]
        assert found[1][2] != "certain"
    (best,) = matches(consumer.post("Patient/$match", asked(anne, count=1)))  # 119-3
    assert best == found[0]


def test_119_2_only_certain_matches(hospital: Client, consumer: Client, elise: str) -> None:
    certain = matches(consumer.post("Patient/$match", asked(examples.patient(1)[1], onlyCertainMatches=True)))
    assert [(key, grade) for key, _, grade in certain] == [(elise, "certain")]
    vague = {"resourceType": "Patient", "name": [{"family": "DUPONT", "given": ["Elyse"]}], "birthDate": "1955-06-15"}
    answer = consumer.post("Patient/$match", asked(vague, onlyCertainMatches=True))
    assert (matches(answer), "entry" in answer.json) == ([], False)


def test_119_2_several_who_are_not_proven_one_person(hospital: Client, consumer: Client) -> None:
    """Two namesakes born the same day, whose national identifiers tell them apart."""
    keys = set()
    for order in ("071", "072"):
        namesake = examples.patient(18)[1]
        number = ins_of(18)[:10] + order
        namesake["identifier"] = [
            {**namesake["identifier"][0], "value": number + nir_key(number)},
            {"system": A, "value": f"119-{order}"},
        ]
        keys.add(register(hospital, namesake))
    several = consumer.post("Patient/$match", asked(namesake))
    assert {key for key, _, _ in matches(several)} == keys
    assert "certain" not in {grade for _, _, grade in matches(several)}
    assert matches(consumer.post("Patient/$match", asked(namesake, onlyCertainMatches=True))) == []
    assert len(matches(consumer.post("Patient/$match", asked(namesake, count=1)))) == 1


def test_119_4_nobody(hospital: Client, consumer: Client) -> None:
    answer = consumer.post("Patient/$match", asked(person("x", "ZBOROWSKI", "Nemo", birthDate="1951-11-21")))
    assert matches(answer) == []
    severities = {
        issue["severity"] for each in answer.json.get("entry", []) for issue in each["resource"].get("issue", [])
    }
    assert not severities & {"error", "fatal"}


def test_119_4_nobody_but_a_deprecated_record(hospital: Client, consumer: Client) -> None:
    kept = person("119-kept", "AUTREMENT", "Prune", birthDate="1966-06-16", active=True)
    left = person("119-left", "ZWYCZAJNY", "Ksawery", birthDate="1967-07-17", active=True)
    register(hospital, kept)
    register(hospital, left)
    replaced = [{"type": "replaced-by", "other": {"identifier": {"system": A, "value": "119-kept"}}}]
    register(hospital, {**left, "active": False, "link": replaced})
    assert matches(consumer.post("Patient/$match", asked(left))) == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({"resourceType": "Parameters"}, (400, "error", "required"), id="none"),
        pytest.param(
            {
                "resourceType": "Parameters",
                "parameter": [{"name": "resource", "resource": examples.patient(n)[1]} for n in (1, 2)],
            },
            (400, "error", "invalid"),
            id="two",
        ),
        pytest.param(
            {
                "resourceType": "Parameters",
                "parameter": [{"name": "resource", "resource": examples.observation("0" * 16)}],
            },
            (400, "error", "invalid"),
            id="not-a-patient",
        ),
        pytest.param({"resourceType": "Patient", "gender": "female"}, (422, "error", "business-rule"), id="no-traits"),
    ],
)
def test_119_5_what_is_not_matched(consumer: Client, body: dict[str, Any], expected: tuple[int, str, str]) -> None:
    assert refusal(consumer.post("Patient/$match", body)) == expected


def test_gen_14_without_the_scope(exchange: Exchange) -> None:
    refused = exchange.client("pharmacy-a", "ITI-78").post("Patient/$match", asked(examples.patient(1)[1]))
    assert refusal(refused) == (403, "error", "forbidden")


def test_who_closed_the_record_is_still_the_same_person(exchange: Exchange, hospital: Client, consumer: Client) -> None:
    closed = person("119-closed", "VERROUILLÉ", "Odette", birthDate="1944-04-24", gender="female")
    key = register(hospital, closed)
    before = matches(consumer.post("Patient/$match", asked(closed)))
    assert [each[0] for each in before] == [key]
    close(key)
    assert matches(consumer.post("Patient/$match", asked(closed))) == before  # hidden, a namesake would seem certain


def test_three_batches_of_reads(consumer: Client, elise: str) -> None:
    sent = asked(examples.patient(1)[1])
    consumer.post("Patient/$match", sent)  # what is read once a process
    with measure() as spent:
        assert matches(consumer.post("Patient/$match", sent))
    assert spent.round_trips - 2 <= 3, spent.calls  # blocks, persons, bodies; beside the token and the audit


def test_the_access_is_recorded_without_the_traits(exchange: Exchange, consumer: Client, elise: str) -> None:
    consumer.post("Patient/$match", asked(examples.patient(1)[1]))
    records = [
        each
        for each in exchange.table("audit")
        if each.get("patient", {}).get("S") == elise and each["name"]["S"] == "$match"
    ]
    assert records
    assert not any("1955" in str(each) or "DUPONT" in str(each).upper() for each in records)
