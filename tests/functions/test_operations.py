"""Operations of the record over HTTP: `$everything`, `$changes`, `$summary` (contract IPS-1 to IPS-4), `$validate`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle

from passerelle.fhir.validation import validate
from tests import examples
from tests.exchange import Client, Exchange
from tests.functions.test_patients import register
from tests.functions.test_transactions import bundle, created, entry, place, post, stored, urn

LOINC = "http://loinc.org"


def links(answer: Any) -> dict[str, str]:
    return {link["relation"]: link["url"].partition("/fhir/")[2] for link in answer.json["link"]}


def pages(client: Client, url: str, following: str = "next") -> Iterator[Any]:
    while url:
        answer = client.get(url)
        assert answer.status == 200, answer.body
        validate(answer.json, expected_type="Bundle")
        yield answer
        url = links(answer).get(following, "")


def matches(answer: Any, mode: str = "match") -> list[str]:
    return [
        f"{each['resource']['resourceType']}/{each['resource']['id']}"
        for each in answer.json.get("entry", [])
        if each["search"]["mode"] == mode
    ]


def parameters(**values: Any) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": [{"name": name, **value} for name, value in values.items()]}


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


@pytest.fixture(scope="module")
def record(exchange: Exchange, hospital: Client) -> dict[str, str]:
    """A person with two source records, resources in both, a practitioner, and what is deleted."""
    one = str(register(hospital, 1).json["id"])
    two = str(register(exchange.client("hospital-b"), 1, domain="urn:oid:2.999.2").json["id"])
    doctor = created(hospital, {"resourceType": "Practitioner", "name": [{"family": "Garance"}]})
    gone = created(hospital, examples.observation(one))
    assert hospital.request("DELETE", gone).status == 200
    by_doctor = {"performer": [{"reference": doctor}]}
    made = {f"o{n}": created(hospital, examples.observation(one, **by_doctor)) for n in range(4)}
    made |= {f"p{n}": created(hospital, examples.observation(two)) for n in range(3)}
    for name, key in (("c", one), ("d", two)):
        content = {
            "resourceType": "Condition",
            "clinicalStatus": {
                "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]
            },
            "code": {"coding": [{"system": "http://snomed.info/sct", "code": f"1959{name}", "display": "Asthme"}]},
            "subject": {"reference": f"Patient/{key}"},
        }
        made[name] = created(hospital, content)
    return {**made, "one": f"Patient/{one}", "two": f"Patient/{two}", "doctor": doctor, "gone": gone}


def of_person(record: dict[str, str]) -> list[str]:
    return sorted(place for name, place in record.items() if name not in ("doctor", "gone"))


# --- $everything --------------------------------------------------------------------------------------------------


def test_everything_is_of_every_source_record(hospital: Client, record: dict[str, str]) -> None:
    for name in ("one", "two"):
        answer = hospital.get(f"{record[name]}/$everything")
        assert sorted(matches(answer)) == of_person(record)
        assert matches(answer, "include") == [record["doctor"]]
        assert answer.json["total"] == len(of_person(record))
        validate(answer.json, expected_type="Bundle")
    by_post = hospital.post(f"{record['one']}/$everything", parameters(_count={"valueInteger": 500}))
    assert sorted(matches(by_post)) == of_person(record)
    assert hospital.request("POST", f"{record['one']}/$everything").status == 200


@pytest.mark.parametrize("count", [1, 2, 5, 11, 12])
def test_pages_of_everything_hold_each_resource_once(hospital: Client, record: dict[str, str], count: int) -> None:
    found = [matches(page) for page in pages(hospital, f"{record['one']}/$everything?_count={count}")]
    assert all(len(page) == count for page in found[:-1])
    assert sorted(each for page in found for each in page) == of_person(record)


def test_everything_of_some_types_or_since(hospital: Client, record: dict[str, str]) -> None:
    whole = f"{record['one']}/$everything"
    conditions = hospital.get(f"{whole}?_type=Condition,Encounter")
    assert sorted(matches(conditions)) == sorted([record["c"], record["d"]])
    chosen = [matches(page) for page in pages(hospital, f"{whole}?_type=Condition&_count=1")]
    assert sorted(each for page in chosen for each in page) == sorted([record["c"], record["d"]])
    last = hospital.get(record["d"]).json["meta"]["lastUpdated"]
    assert matches(hospital.get(f"{whole}?_since={last}")) == [record["d"]]
    assert matches(hospital.get(f"{whole}?_since=2100-01-01T00:00:00Z")) == []


@pytest.mark.parametrize("query", ["_since=2026", "_since=x", "_count=0", "_count=x", "_type=A&_type=B", "colour=red"])
def test_arguments_that_are_none(hospital: Client, record: dict[str, str], query: str) -> None:
    refused = hospital.get(f"{record['one']}/$everything?{query}")
    assert refused.status == 400
    assert "red" not in refused.body.decode()


def test_everything_shows_what_the_scope_covers(exchange: Exchange, record: dict[str, str]) -> None:
    client = exchange.client("hospital-a", "system/Patient.r system/Condition.r")
    answer = client.get(f"{record['one']}/$everything")
    assert sorted(matches(answer)) == sorted([record[name] for name in ("one", "two", "c", "d")])
    assert matches(answer, "include") == []
    assert exchange.client("hospital-a", "system/Condition.r").get(f"{record['one']}/$everything").status == 403


def test_page_links_are_bound(exchange: Exchange, hospital: Client, record: dict[str, str]) -> None:
    following = links(hospital.get(f"{record['one']}/$everything?_count=2"))["next"]
    assert exchange.client("practice").get(following).status == 404
    assert hospital.get(following.replace(record["one"], record["two"])).status == 404


# --- $changes -----------------------------------------------------------------------------------------------------


def changed(answer: Any) -> list[tuple[str, str]]:
    return [
        (each["fullUrl"].partition("/fhir/")[2], each["request"]["method"]) for each in answer.json.get("entry", [])
    ]


def test_changes_since_the_last_call(hospital: Client) -> None:
    key = register(hospital, 2).json["id"]
    first = created(hospital, examples.observation(key))
    answers = list(pages(hospital, f"Patient/{key}/$changes?_count=1"))
    assert [each for answer in answers for each in changed(answer)] == [(f"Patient/{key}", "POST"), (first, "POST")]
    assert "delta" not in links(answers[0])
    resumed = links(answers[-1])["delta"]
    second = created(hospital, examples.observation(key))
    amended = examples.observation(key, id=first.partition("/")[2], status="amended")
    assert hospital.put(first, amended).status == 200
    assert hospital.request("DELETE", second).status == 200
    # What is younger than a minute is given again; a client that applies each version once ends with what is there.
    held: dict[str, tuple[int, str, Any]] = {}
    for answer in pages(hospital, resumed):
        for each in answer.json.get("entry", []):
            place = each["fullUrl"].partition("/fhir/")[2]
            version = int(each["response"]["etag"].strip('W/"'))
            held[place] = max(
                held.get(place, (0, "", None)), (version, each["request"]["method"], each.get("resource"))
            )
    assert held[second] == (2, "DELETE", None)
    assert held[first][:2] == (2, "PUT")
    assert held[first][2] == hospital.get(first).json
    typed = hospital.get(f"Patient/{key}/$changes?_type=Condition")
    assert changed(typed) == []
    assert "delta" in links(typed)


def test_changes_show_what_the_scope_covers(exchange: Exchange, hospital: Client, record: dict[str, str]) -> None:
    client = exchange.client("hospital-a", "system/Patient.r system/Condition.r")
    told = {url.partition("/")[0] for url, _ in changed(client.get(f"{record['one']}/$changes?_count=500"))}
    assert told == {"Patient", "Condition"}
    cursor = links(hospital.get(f"{record['one']}/$changes?_count=2"))["next"]
    assert exchange.client("practice").get(cursor).status == 404


# --- $summary -----------------------------------------------------------------------------------------------------


def sections(document: Any) -> dict[str, dict[str, Any]]:
    return {each["code"]["coding"][0]["code"]: each for each in document["entry"][0]["resource"]["section"]}


def is_valid(document: Any) -> bool:
    validate(document, expected_type="Bundle")
    Bundle.model_validate(document)
    return document["type"] == "document" and document["entry"][0]["resource"]["resourceType"] == "Composition"


def test_ips_1_2_the_mandatory_sections_are_always_there(hospital: Client, record: dict[str, str]) -> None:
    before = stored(hospital)
    for answer in (hospital.get(f"{record['one']}/$summary"), hospital.request("POST", f"{record['one']}/$summary")):
        assert answer.status == 200
        assert is_valid(answer.json)
        found = sections(answer.json)
        assert {"11450-4", "48765-2", "10160-0"} <= set(found)
        assert len(found["11450-4"]["entry"]) == 2  # of both source records
        for empty in ("48765-2", "10160-0"):
            assert "entry" not in found[empty]
            assert found[empty]["emptyReason"]["coding"][0]["code"] == "unavailable"
        urls = {each["fullUrl"] for each in answer.json["entry"]}
        assert len(urls) == len(answer.json["entry"])
        assert {each["reference"] for section in found.values() for each in section.get("entry", [])} <= urls
    assert stored(hospital) == before  # IPS-4: nothing is kept
    assert hospital.get(f"Bundle?patient={record['one']}").json["total"] == 0
    assert hospital.get(f"Composition?patient={record['one']}").json["total"] == 0


def test_ips_1_in_xml(hospital: Client, record: dict[str, str]) -> None:
    answer = hospital.get(f"{record['one']}/$summary", Accept="application/fhir+xml")
    assert answer.body.startswith(b"<?xml") or answer.body.startswith(b"<Bundle")


def test_ips_3_by_identifier(hospital: Client, record: dict[str, str]) -> None:
    found = hospital.get(f"Patient/$summary?identifier={examples.ins(1)}")
    assert found.status == 200
    assert is_valid(found.json)
    by_post = hospital.post("Patient/$summary", parameters(identifier={"valueString": examples.ins(1)}))
    assert sections(by_post.json).keys() == sections(found.json).keys()
    absent = hospital.get("Patient/$summary")
    assert (absent.status, absent.json["issue"][0]["code"]) == (400, "required")
    profile = hospital.get(f"Patient/$summary?identifier={examples.ins(1)}&profile=http://x")
    assert (profile.status, profile.json["issue"][0]["code"]) == (422, "not-supported")


@pytest.mark.parametrize("operation", ["$summary", "$everything", "$changes"])
def test_ips_4_a_record_that_is_hidden_is_one_that_does_not_exist(
    exchange: Exchange, hospital: Client, record: dict[str, str], operation: str
) -> None:
    myself = exchange.client("patient-1")
    other = register(hospital, 3).json["id"]
    hidden, unknown = (myself.get(f"Patient/{key}/{operation}") for key in (other, "0" * 16))
    assert hidden.status == 404
    assert hidden.body == unknown.body
    assert hospital.get(f"Patient/{'0' * 16}/{operation}").body == unknown.body
    assert hospital.get(f"Patient/nobody/{operation}").body == unknown.body
    assert exchange.client("auditor").get(f"Patient/{other}/{operation}").status == 403
    assert myself.get(f"{record['one']}/{operation}").status == 200


def test_the_summary_shows_what_the_scope_covers(exchange: Exchange, record: dict[str, str]) -> None:
    client = exchange.client("hospital-a", "system/Patient.r system/Observation.r")
    answer = client.get(f"{record['one']}/$summary")
    assert is_valid(answer.json)
    assert "entry" not in sections(answer.json)["11450-4"]
    assert "Condition" not in {each["resource"]["resourceType"] for each in answer.json["entry"]}


def test_each_source_record_is_told_of_the_access(exchange: Exchange, hospital: Client, record: dict[str, str]) -> None:
    before = {item["SK"]["S"] for item in exchange.table("audit")}
    for operation in ("$summary", "$everything", "$changes"):
        assert hospital.get(f"{record['one']}/{operation}").status == 200
    made = [item for item in exchange.table("audit") if item["SK"]["S"] not in before]
    keys = [record[name].partition("/")[2] for name in ("one", "two")]
    assert sorted((item["name"]["S"], item["patient"]["S"]) for item in made) == sorted(
        (operation, key) for operation in ("$summary", "$everything", "$changes") for key in keys
    )


# --- $validate ----------------------------------------------------------------------------------------------------


def issues(answer: Any) -> list[tuple[str, str, str]]:
    assert answer.status == 200, answer.body
    validate(answer.json, expected_type="OperationOutcome")
    return [(each["severity"], each["code"], each.get("expression", [""])[0]) for each in answer.json["issue"]]


def test_validate(hospital: Client, record: dict[str, str]) -> None:
    before = stored(hospital)
    good = examples.observation("1")
    wrong = {**good, "status": "unknown-code", "colour": "red"}
    fine = [("information", "informational", "")]
    for path in ("Observation/$validate", f"{record['o0']}/$validate"):
        assert issues(hospital.post(path, good)) == fine
        assert (
            issues(hospital.post(path, parameters(resource={"resource": good}, mode={"valueCode": "create"}))) == fine
        )
        faults = issues(hospital.post(path, wrong))
        assert faults == [
            ("error", "structure", "Observation.colour"),
            ("error", "code-invalid", "Observation.status"),
        ]
        assert issues(hospital.post(path, parameters(resource={"resource": wrong}))) == faults
    assert issues(hospital.post("Condition/$validate", good))[0][:2] == ("error", "structure")
    assert hospital.post("Observation/$validate", parameters(mode={"valueCode": "create"})).status == 400
    assert (
        hospital.post(
            "Observation/$validate", parameters(resource={"resource": good}, profile={"valueUri": "x"})
        ).status
        == 422
    )
    assert hospital.post("Observation/$validate", b"{").status == 400
    assert stored(hospital) == before


def test_validate_adds_what_r4b_says(hospital: Client) -> None:
    """As advice: what is stored is decided by R4. R4B asks for an item that R4 does not ask for."""
    inner = {"resourceType": "Substance", "id": "s", "code": {"text": "x"}}
    good = examples.observation("1", contained=[inner], focus=[{"reference": "#s"}])
    assert issues(hospital.post("Observation/$validate", good)) == [("information", "informational", "")]
    evidence = {"resourceType": "Evidence", "id": "s", "status": "active", "exposureBackground": {"reference": "x"}}
    only_r4 = examples.observation("1", contained=[evidence], focus=[{"reference": "#s"}])
    answer = hospital.post("Observation/$validate", only_r4)
    assert issues(answer)[0] == ("information", "informational", "")
    advice = issues(answer)[1:]
    assert {severity for severity, _, _ in advice} == {"warning"}
    assert "Observation.contained[0].exposureBackground" in {where for _, _, where in advice}
    assert (
        hospital.post(
            "Observation/$validate", {**only_r4, "contained": [{**evidence, "resourceType": "EffectEvidenceSynthesis"}]}
        ).status
        == 200
    )


def test_whoever_may_not_create_may_not_ask(exchange: Exchange) -> None:
    reader = exchange.client("hospital-a", "system/Observation.rs")
    assert reader.post("Observation/$validate", examples.observation("1")).status == 403


def test_operations_as_entries_of_a_batch(hospital: Client, record: dict[str, str]) -> None:
    answer = hospital.post(
        "",
        bundle(
            entry("GET", f"{record['one']}/$everything?_count=2"),
            entry("POST", "Observation/$validate", examples.observation("1")),
            kind="batch",
        ),
    )
    following = {each["relation"]: each["url"] for each in answer.json["entry"][0]["resource"]["link"]}["next"]
    assert hospital.get(following.partition("/fhir/")[2]).status == 200
    assert answer.json["entry"][1]["resource"]["issue"][0]["severity"] == "information"


def test_a_whole_transaction_shows_up(hospital: Client) -> None:
    key = register(hospital, 5).json["id"]
    entries = [post(examples.observation(key), full_url=urn(n)) for n in range(3)]
    made = hospital.post("", bundle(*entries)).json["entry"]
    assert sorted(matches(hospital.get(f"Patient/{key}/$everything?_type=Observation"))) == sorted(map(place, made))
