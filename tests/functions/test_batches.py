"""Batches over HTTP: every entry is a request of its own (FHIR R4 section 3.1.0.11.1)."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from passerelle import wiring
from passerelle.audit.ports import Span
from passerelle.fhir.validation import validate
from tests import examples
from tests.exchange import Client, Exchange
from tests.functions.test_patients import register
from tests.functions.test_transactions import bundle, created, entry, post, text_of, token, total


def send(client: Client, *entries: Any, **headers: str) -> list[dict[str, Any]]:
    answer = client.post("", bundle(*entries, kind="batch"), **headers)
    assert answer.status == 200, answer.body
    validate(answer.json, expected_type="Bundle")
    assert answer.json["type"] == "batch-response"
    assert len(answer.json.get("entry", [])) == len(entries)
    return list(answer.json.get("entry", []))


def statuses(answered: list[dict[str, Any]]) -> list[int]:
    return [int(each["response"]["status"].partition(" ")[0]) for each in answered]


def code(answered: dict[str, Any]) -> str:
    """The issue code of an entry that is refused."""
    assert "resource" not in answered
    return str(answered["response"]["outcome"]["issue"][0]["code"])


@pytest.fixture(scope="module")
def key(exchange: Exchange) -> str:
    return str(register(exchange.client("hospital-a"), 1).json["id"])


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


def test_entries_succeed_and_fail_by_themselves(exchange: Exchange, key: str) -> None:
    client = exchange.client("hospital-a", "system/Observation.cruds")
    at = created(client, examples.observation(key))
    gone = created(client, examples.observation(key))
    assert client.request("DELETE", gone).status == 200
    changed = examples.observation(key, id=at.partition("/")[2], status="amended")
    answered = send(
        client,
        post(examples.observation(key)),
        entry("PUT", at, changed, ifMatch='W/"1"'),
        entry("GET", at),
        entry("GET", "Observation/absent"),
        entry("GET", gone),
        entry("GET", f"Patient/{key}"),
        entry("DELETE", at, ifMatch='W/"7"'),
        post(examples.observation("0" * 16)),
        post(examples.observation(key, status="unknown-code")),
        post({**examples.observation(key), "colour": "red"}),
        entry("GET", "Nothing/1"),
        entry("GET", "Observation/$nothing"),
        entry("DELETE", f"Observation?patient={key}&status=amended"),
        entry("GET", f"Observation?patient={key}&_summary=count"),
    )
    assert statuses(answered) == [201, 200, 200, 404, 410, 403, 412, 422, 422, 400, 404, 404, 200, 200]
    assert [code(each) for each in answered[3:12]] == [
        "not-found",
        "deleted",
        "forbidden",
        "conflict",
        "not-found",
        "code-invalid",
        "structure",
        "not-supported",
        "not-supported",
    ]
    made, updated, read = answered[:3]
    assert made["resource"]["id"] in made["response"]["location"]
    assert updated["response"]["location"] == f"{at}/_history/2"
    assert updated["response"]["etag"] == read["response"]["etag"] == 'W/"2"'
    assert read["resource"]["status"] == "amended"
    assert read["response"]["lastModified"].startswith(read["resource"]["meta"]["lastUpdated"][:19])
    assert answered[-1]["resource"]["total"] == 1


def test_conditions_of_entries(hospital: Client, key: str) -> None:
    name = token()
    content = examples.observation(key, identifier=[name])
    once = post(content, ifNoneExist=f"patient={key}&{text_of(name)}")
    assert statuses(send(hospital, once, once)) == [201, 200]
    at = created(hospital, examples.observation(key))
    answered = send(
        hospital,
        entry("GET", at, ifNoneMatch='W/"1"'),
        entry("GET", at, ifNoneMatch='W/"2"'),
        entry("PUT", f"Observation?patient={key}&{text_of(name)}", {**content, "status": "amended"}),
        entry("GET", f"Observation?patient={key}&{text_of(name)}&status=amended"),
    )
    assert statuses(answered) == [304, 200, 200, 200]
    assert "resource" not in answered[0]
    assert answered[3]["resource"]["total"] == 1


def test_patches(hospital: Client, key: str) -> None:
    at = created(hospital, examples.observation(key))
    operations = [{"op": "replace", "path": "/status", "value": "amended"}]
    data = base64.b64encode(json.dumps(operations).encode()).decode()
    patch = {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": data}
    part = [{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": "Observation.value"}]
    parameters = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": part}]}
    other = created(hospital, examples.observation(key))
    answered = send(
        hospital,
        entry("PATCH", at, patch),
        entry("PATCH", other, parameters),
        entry("PATCH", "Observation/1", {**patch, "data": "!"}),
        entry("PATCH", "Observation/2", {**patch, "contentType": "text/plain"}),
    )
    assert statuses(answered) == [200, 200, 400, 415]
    assert hospital.get(at).json["status"] == "amended"
    assert "valueQuantity" not in hospital.get(other).json


def test_every_type_that_is_kept(exchange: Exchange, hospital: Client, key: str) -> None:
    """People, documents and their content, tasks, the directory: whatever function serves it by itself."""
    published = hospital.post("", examples.submission(f"Patient/{key}", unique="urn:oid:2.999.1.89.1"))
    _, document, content = [each["response"]["location"].partition("/_history")[0] for each in published.json["entry"]]
    task = {"resourceType": "Task", "status": "draft", "intent": "order", "for": {"reference": f"Patient/{key}"}}
    local, person = examples.patient(9)
    answered = send(
        hospital,
        entry("GET", f"Patient/{key}"),
        entry("GET", f"Patient?identifier={examples.ins(1)}"),
        entry("PUT", f"Patient?identifier={examples.DOMAIN}|{local}", person),
        entry("GET", f"Patient/{key}/$summary"),
        entry("GET", document),
        entry("GET", content),
        entry("GET", f"List?patient={key}"),
        post(task),
        entry("GET", f"Task?patient={key}"),
        post({"resourceType": "Organization", "name": "Cabinet d'essai"}),
        entry("GET", "Organization?name=Cabinet"),
        entry("GET", "Organization/_history?_count=1"),
        entry("POST", "Observation/$validate", examples.observation(key)),
        entry("GET", f"Patient/{key}/_history"),
    )
    assert statuses(answered) == [200, 200, 201, 200, 200, 200, 200, 201, 200, 201, 200, 200, 200, 200]
    kinds = " ".join(each["resource"]["resourceType"] for each in answered)
    assert kinds == (
        "Patient Bundle Patient Bundle DocumentReference Binary Bundle Task Bundle Organization Bundle Bundle "
        "OperationOutcome Bundle"
    )
    binary = answered[5]["resource"]
    assert base64.b64decode(binary["data"]) == examples.CDA
    assert (binary["contentType"], f"Binary/{binary['id']}") == ("application/xml", content)


def test_a_binary_of_the_record_comes_as_it_is_kept(hospital: Client, key: str) -> None:
    binary = {
        "resourceType": "Binary",
        "contentType": "text/plain",
        "securityContext": {"reference": f"Patient/{key}"},
        "data": "YQ==",
    }
    (made,) = send(hospital, post(binary))
    (read,) = send(hospital, entry("GET", f"Binary/{made['resource']['id']}"))
    assert read["resource"] == made["resource"]


def test_each_entry_is_recorded_with_its_patient(exchange: Exchange, hospital: Client, key: str) -> None:
    other = register(hospital, 2).json["id"]
    before = {item["SK"]["S"] for item in exchange.table("audit")}
    send(
        hospital,
        post(examples.observation(key)),
        entry("GET", f"Patient/{other}"),
        entry("GET", f"Observation/{other}-{'0' * 26}"),
        entry("GET", f"Observation?patient={key}&code=x"),
        entry("GET", "Organization?name=x"),
    )
    made = [item for item in exchange.table("audit") if item["SK"]["S"] not in before]
    told = sorted((item.get("patient", {}).get("S", ""), item["name"]["S"], item["outcome"]["S"]) for item in made)
    assert told == sorted(
        [
            (key, "create", "0"),
            (other, "read", "0"),
            (other, "read", "4"),
            (key, "search-type", "0"),
            ("", "search-type", "0"),
        ]
    )
    span = Span(since=datetime(2020, 1, 1, tzinfo=UTC), until=datetime(2100, 1, 1, tzinfo=UTC))
    search = next(each for each in wiring.trail().of_patients([key], span) if each.name == "search-type")
    assert search.query.startswith("/fhir/Observation?")
    empty = len(exchange.table("audit"))
    assert send(hospital) == []
    assert len(exchange.table("audit")) == empty + 1


def test_a_batch_that_is_sent_again_converges(exchange: Exchange, hospital: Client, key: str) -> None:
    name = token()
    at = created(hospital, examples.observation(key))
    changed = examples.observation(key, id=at.partition("/")[2], status="amended")
    entries = [
        post(examples.observation(key, identifier=[name])),
        entry("PUT", at, changed, ifMatch='W/"1"'),
        post(examples.observation("0" * 16)),
    ]
    longest = "k" * 128
    first, again = (send(hospital, *entries, Idempotency_Key=longest) for _ in range(2))
    assert statuses(first) == statuses(again) == [201, 200, 422]
    assert first == again
    assert total(hospital, f"Observation?patient={key}&{text_of(name)}") == 1
    assert hospital.get(at).header("ETag") == 'W/"2"'


def test_what_is_no_batch_is_refused_whole(hospital: Client, key: str) -> None:
    inner = bundle(post(examples.observation(key)), kind="batch")
    for faulty, where in (
        (post(inner), "Bundle.entry[1].resource.type"),
        (entry("POST", "", inner), "Bundle.entry[1].request.url"),
        (entry("GET", "../oauth2/token"), "Bundle.entry[1].request.url"),
        (entry("GET", "https://other.example/fhir/Patient/1"), "Bundle.entry[1].request.url"),
        ({"resource": examples.observation(key)}, "Bundle.entry[1].request"),
    ):
        answer = hospital.post("", bundle(entry("GET", f"Patient/{key}"), faulty, kind="batch"))
        assert (answer.status, answer.json["issue"][0]["expression"]) == (400, [where])
    assert hospital.post("", bundle(*[entry("GET", "Patient/1")] * 1001, kind="batch")).status == 413


def test_the_answer_has_a_size(hospital: Client, key: str) -> None:
    """Three reads of two megabytes do not fit: the last is refused, a write beside it is done and not shown."""
    large = created(hospital, examples.observation(key, note=[{"text": "x" * 1_000_000}] * 2))
    answered = send(
        hospital, *[entry("GET", large)] * 3, post(examples.observation(key)), entry("GET", f"Patient/{key}")
    )
    assert statuses(answered) == [200, 200, 413, 201, 200]
    assert code(answered[2]) == "too-long"
    binary = {
        "resourceType": "Binary",
        "contentType": "text/plain",
        "securityContext": {"reference": f"Patient/{key}"},
        "data": base64.b64encode(b"x" * 1_600_000).decode(),
    }
    small = post(examples.observation(key))
    shown = send(hospital, entry("GET", large), post(binary), post(binary) | {"fullUrl": "urn:uuid:1"}, small)
    assert statuses(shown) == [200, 201, 201, 201]
    assert ["resource" in each for each in shown] == [True, True, False, True]


def test_preferences_hold_for_every_entry(hospital: Client, key: str) -> None:
    entries = [post(examples.observation(key)), entry("GET", f"Patient/{key}")]
    quiet = send(hospital, *entries, Prefer="return=minimal")
    assert ["resource" in each for each in quiet] == [False, True]
    strict = send(hospital, entry("GET", f"Observation?patient={key}&colour=red"), Prefer="handling=strict")
    assert statuses(strict) == [400]
    assert statuses(send(hospital, entry("GET", f"Observation?patient={key}&colour=red"))) == [200]
