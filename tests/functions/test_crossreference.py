"""Patient identifier cross-reference over HTTP: ITI-83. Case ids are rows of the interoperability contract."""

from __future__ import annotations

from typing import Any

import pytest

from local.region import INS_TEST, ins_of
from passerelle.aws.dynamodb import measure
from tests import examples
from tests.exchange import Client, Exchange
from tests.functions.test_demographics import A, B, close, person, refusal, register, validated

OTHER = "urn:oid:2.999.3"


@pytest.fixture(scope="module")
def consumer(exchange: Exchange) -> Client:
    return exchange.client("pharmacy-a", "ITI-83")


@pytest.fixture(scope="module")
def twice(exchange: Exchange) -> tuple[str, str]:
    """One person whom two hospitals know."""
    at_a = register(exchange.client("hospital-a"), examples.patient(1)[1])
    at_b = register(exchange.client("hospital-b"), examples.patient(1, domain=B)[1], B)
    return at_a, at_b


def pix(client: Client, *arguments: str, **headers: str) -> Any:
    return client.get("Patient/$ihe-pix?" + "&".join(arguments), **headers)


def told(answer: Any) -> tuple[set[tuple[str, str]], set[str]]:
    """The identifiers and the ids of Patients in an answer."""
    assert answer.status == 200, answer.body
    assert answer.json["resourceType"] == "Parameters"
    identifiers, patients = set(), set()
    for each in answer.json.get("parameter", []):
        if each["name"] == "targetIdentifier":
            identifiers.add((each["valueIdentifier"]["system"], each["valueIdentifier"]["value"]))
        else:
            assert each["name"] == "targetId"
            patients.add(each["valueReference"]["reference"].removeprefix("Patient/"))
    return identifiers, patients


SOURCE = f"sourceIdentifier={A}|000001"


def test_83_1_every_other_identifier(consumer: Client, twice: tuple[str, str]) -> None:
    identifiers, patients = told(pix(consumer, SOURCE))
    assert identifiers == {(B, "000001"), (INS_TEST, ins_of(1))}
    assert patients == set(twice)
    by_ins = told(pix(consumer, f"sourceIdentifier={INS_TEST}|{ins_of(1)}"))
    assert by_ins == ({(A, "000001"), (B, "000001")}, set(twice))


def test_83_1_as_xml_and_by_post(consumer: Client, twice: tuple[str, str]) -> None:
    as_xml = pix(consumer, SOURCE, Accept="application/fhir+xml")
    assert (as_xml.status, f'<system value="{B}"/>'.encode() in as_xml.body) == (200, True)
    source = {"name": "sourceIdentifier", "valueIdentifier": {"system": A, "value": "000001"}}
    target = {"name": "targetSystem", "valueUri": B}
    body = {"resourceType": "Parameters", "parameter": [source, target]}
    assert told(consumer.post("Patient/$ihe-pix", body)) == ({(B, "000001")}, {twice[1]})


def test_83_1_a_feed_is_in_force_when_it_is_answered(exchange: Exchange, consumer: Client) -> None:
    hospital = exchange.client("hospital-a")
    register(hospital, person("83-1-now", "NOUVEAU", birthDate="1975-05-05"))
    source = f"sourceIdentifier={A}|83-1-now"
    assert told(pix(consumer, source))[0] == set()
    changed = person("83-1-now", "NOUVEAU", birthDate="1975-05-05")
    changed["identifier"].append({"system": "urn:oid:2.999.60", "value": "second"})
    register(hospital, changed)
    assert told(pix(consumer, source))[0] == {("urn:oid:2.999.60", "second")}


def test_83_2_the_domains_asked_for(exchange: Exchange, consumer: Client, twice: tuple[str, str]) -> None:
    assert told(pix(consumer, SOURCE, f"targetSystem={B}")) == ({(B, "000001")}, {twice[1]})
    both = told(pix(consumer, SOURCE, f"targetSystem={B}", f"targetSystem={INS_TEST}"))
    assert both[0] == {(B, "000001"), (INS_TEST, ins_of(1))}
    nothing = pix(consumer, SOURCE, f"targetSystem={OTHER}")
    assert (nothing.status, "parameter" in nothing.json) == (200, False)


def test_83_3_the_id_of_a_patient(exchange: Exchange, consumer: Client, twice: tuple[str, str]) -> None:
    base = consumer.get("Patient/$ihe-pix?" + SOURCE)  # the URL of this server is where its answers come from
    assert base.status == 200
    server = "http://127.0.0.1:8000/fhir"
    identifiers, patients = told(pix(consumer, f"sourceIdentifier={server}|Patient/{twice[0]}"))
    assert identifiers == {(A, "000001"), (B, "000001"), (INS_TEST, ins_of(1))}
    assert patients == {twice[1]}
    unknown = pix(consumer, f"sourceIdentifier={server}|Patient/{'0' * 16}")
    assert refusal(unknown) == (404, "error", "not-found")
    assert told(pix(consumer, SOURCE, f"targetSystem={server}")) == (set(), set(twice))


@pytest.mark.parametrize(
    ("arguments", "expected", "text"),
    [
        pytest.param(
            [f"sourceIdentifier={A}|unheard-of"],
            (404, "error", "not-found"),
            "sourceIdentifier Patient Identifier not found",
            id="83-4",
        ),
        pytest.param(
            ["sourceIdentifier=urn:oid:2.999.1234|1"],
            (400, "error", "code-invalid"),
            "sourceIdentifier Assigning Authority not found",
            id="83-5",
        ),
        pytest.param(
            [SOURCE, f"targetSystem={B}", "targetSystem=urn:oid:2.999.1234"],
            (403, "error", "code-invalid"),
            "targetSystem not found",
            id="83-6",
        ),
        pytest.param([], (400, "error", "required"), None, id="83-7-missing"),
        pytest.param([SOURCE, SOURCE], (400, "error", "invalid"), None, id="83-7-twice"),
        pytest.param(["sourceIdentifier=000001"], (400, "error", "invalid"), None, id="83-7-without-a-bar"),
    ],
)
def test_83_refusals(
    consumer: Client,
    twice: tuple[str, str],
    arguments: list[str],
    expected: tuple[int, str, str],
    text: str | None,
) -> None:
    for headers in ({}, {"Accept": "application/fhir+xml"}):
        answer = pix(consumer, *arguments, **headers)
        assert answer.status == expected[0]
    answer = pix(consumer, *arguments)
    assert refusal(answer) == expected
    if text is not None:
        assert answer.json["issue"][0]["diagnostics"] == text


def test_83_8_merged_and_removed(exchange: Exchange, consumer: Client) -> None:
    hospital = exchange.client("hospital-a")
    kept = register(hospital, person("83-8-kept", "GARDÉ", birthDate="1976-06-06", active=True))
    left = person("83-8-left", "GARDE", birthDate="1976-06-06", active=True)
    register(hospital, left)
    replaced = [{"type": "replaced-by", "other": {"identifier": {"system": A, "value": "83-8-kept"}}}]
    register(hospital, {**left, "active": False, "link": replaced})
    merged = pix(consumer, f"sourceIdentifier={A}|83-8-left")
    assert (merged.status, "parameter" in merged.json) == (200, False)
    identifiers, patients = told(pix(consumer, f"sourceIdentifier={A}|83-8-kept"))
    assert ((A, "83-8-left") in identifiers, patients) == (False, {kept})
    register(hospital, person("83-8-gone", "PARTI", birthDate="1976-06-07"))
    assert hospital.request("DELETE", f"Patient?identifier={A}|83-8-gone").status == 200
    gone = pix(consumer, f"sourceIdentifier={A}|83-8-gone")
    assert refusal(gone) == (404, "error", "not-found")


def test_gen_14_without_the_scope(exchange: Exchange) -> None:
    refused = pix(exchange.client("pharmacy-a", "ITI-78"), SOURCE)
    assert refusal(refused) == (403, "error", "forbidden")


def test_ins_12_an_identity_that_is_not_qualified(exchange: Exchange, consumer: Client) -> None:
    """P11: its INS is told to nobody, and finds nobody."""
    key = register(exchange.client("hospital-a"), validated(5))
    local = examples.patient(5)[0]
    assert told(pix(consumer, f"sourceIdentifier={A}|{local}")) == (set(), {key})
    by_ins = pix(consumer, f"sourceIdentifier={INS_TEST}|{ins_of(5)}")
    assert refusal(by_ins) == (404, "error", "not-found")


def test_closing_the_record_leaves_the_identity_known(exchange: Exchange, consumer: Client) -> None:
    key = register(exchange.client("hospital-a"), person("83-closed", "FERMÉ", birthDate="1977-07-07"))
    source = f"sourceIdentifier={A}|83-closed"
    before = pix(consumer, source)
    assert before.status == 200
    close(key)
    assert (pix(consumer, source).status, pix(consumer, source).body) == (200, before.body)


def test_two_round_trips(exchange: Exchange, consumer: Client, twice: tuple[str, str]) -> None:
    pix(consumer, SOURCE)  # what is read once a process
    with measure() as spent:
        told(pix(consumer, SOURCE, f"targetSystem={B}"))
    assert spent.round_trips - 2 <= 2, spent.calls  # identifiers, persons; beside the token and the audit


def test_the_access_is_recorded_for_whom_it_told_of(
    exchange: Exchange, consumer: Client, twice: tuple[str, str]
) -> None:
    def accesses(key: str) -> int:
        return sum(
            each.get("patient", {}).get("S") == key and each["name"]["S"] == "$ihe-pix"
            for each in exchange.table("audit")
        )

    for source in (SOURCE, f"sourceIdentifier=http://127.0.0.1:8000/fhir|Patient/{twice[0]}"):
        before = [accesses(each) for each in twice]
        pix(consumer, source)
        assert [accesses(each) for each in twice] == [each + 1 for each in before]
