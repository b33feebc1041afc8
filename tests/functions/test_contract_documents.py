"""Rows of the contract that hold for every transaction on documents: GEN-2 to GEN-9, GEN-13, GEN-15, GEN-18, 67-1."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from local.gateway import Response
from passerelle.fhir import xml as fhir_xml
from tests import examples
from tests.documents import AUTHOR, JSON_PATCH, OTHER, document, joined, operation, place, published, refusal
from tests.exchange import Client, Exchange
from tests.functions.test_patients import register
from tests.submitting import replacement, stored, submission, submit

XML = "application/fhir+xml"
STATUSES = "http://hl7.org/fhir/document-reference-status"


@pytest.fixture(scope="module")
def author(exchange: Exchange) -> Client:
    return exchange.client(AUTHOR)


@pytest.fixture(scope="module")
def other(exchange: Exchange) -> Client:
    return exchange.client(OTHER)


@pytest.fixture(scope="module")
def key(author: Client) -> str:
    return str(register(author, 1).json["id"])


@pytest.fixture(scope="module")
def made(author: Client, key: str) -> dict[str, Any]:
    return published(author, key)


@pytest.fixture(scope="module")
def masked(author: Client, key: str) -> dict[str, Any]:
    return published(author, key, "MASQUE_PS")


def read(answer: Response) -> Any:
    return answer.json if answer.body.startswith(b"{") else fhir_xml.loads(answer.body)


# --- what is written --------------------------------------------------------------------------------------------------

Write = tuple[str, str, Callable[[str, dict[str, Any]], Any]]
WRITES: dict[str, Write] = {
    "ITI-65": ("POST", "", lambda key, made: submission(f"Patient/{key}")),
    "ITI-105": ("POST", "DocumentReference", lambda key, made: document(f"Patient/{key}")),
    "ITI-106": ("POST", "DocumentReference/$generate-metadata", lambda key, made: _generated()),
    "PDSm flux 03": ("PATCH", "DocumentReference/{id}", lambda key, made: {"resourceType": "Parameters"}),
    "folder": ("POST", "List", lambda key, made: _list(key)),
}


def _generated() -> dict[str, Any]:
    binary = {
        "resourceType": "Binary",
        "contentType": "application/xml",
        "data": base64.b64encode(examples.CDA).decode(),
    }
    return {"resourceType": "Parameters", "parameter": [{"name": "document", "resource": binary}]}


def _list(key: str) -> dict[str, Any]:
    return {
        "resourceType": "List",
        "status": "current",
        "mode": "working",
        "subject": {"reference": f"Patient/{key}"},
    }


@pytest.mark.parametrize("write", WRITES)
def test_gen_3_another_form_and_a_body_that_is_too_large(
    author: Client, key: str, made: dict[str, Any], write: str
) -> None:
    """GEN-3: nothing stored."""
    method, path, body = WRITES[write]
    path = path.format(id=made["id"])
    sent = json.dumps(body(key, made)).encode()
    before = stored(author)
    assert refusal(author.request(method, path, sent, Content_Type="text/plain")) == (415, "not-supported")
    assert refusal(author.request(method, path, sent + b" " * 5 * 1024 * 1024)) == (413, "too-long")
    assert stored(author) == before


@pytest.mark.parametrize("write", [name for name in WRITES if name != "PDSm flux 03"])
@pytest.mark.parametrize("fault", ["half", "no JSON", "unknown element", "another type", "half of XML", "XML entity"])
def test_gen_4_malformed(author: Client, key: str, made: dict[str, Any], write: str, fault: str) -> None:
    """GEN-4: nothing stored; the place is told."""
    method, path, body = WRITES[write]
    resource = body(key, made)
    sent = json.dumps(resource).encode()
    media = "application/fhir+json"
    match fault:
        case "half":
            sent = sent[: len(sent) // 2]
        case "no JSON":
            sent = b"{'resourceType': 'Bundle'}"
        case "unknown element":
            sent = json.dumps({**resource, "zorglub": 1}).encode()
        case "another type":
            sent = json.dumps({"resourceType": "Observation", "status": "final"}).encode()
        case "half of XML":
            sent, media = fhir_xml.dumps(resource)[:-20], XML
        case _:
            entity = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
            sent, media = entity + f'<{resource["resourceType"]} xmlns="http://hl7.org/fhir">&x;</x>'.encode(), XML
    before = stored(author)
    answer = author.request(method, path, sent, Content_Type=media)
    issue = answer.json["issue"][0]
    refused = 422 if (write, fault) == ("ITI-106", "another type") else 400  # as 106-3 has it
    assert (answer.status, issue["code"]) == (refused, "structure"), answer.body
    assert "expression" in issue or "line" in issue["diagnostics"], issue
    assert stored(author) == before


@pytest.mark.parametrize(
    ("kind", "changed", "expression"),
    [
        ("DocumentReference", {"status": "x"}, "DocumentReference.status"),
        (
            "DocumentReference",
            {"relatesTo": [{"code": "x", "target": {"reference": "DocumentReference/x"}}]},
            "DocumentReference.relatesTo[0].code",
        ),
        ("DocumentReference", {"docStatus": "x"}, "DocumentReference.docStatus"),
        ("List", {"mode": "x"}, "List.mode"),
        ("List", {"status": "x"}, "List.status"),
    ],
)
def test_gen_5_a_code_that_is_none(
    author: Client, key: str, kind: str, changed: dict[str, Any], expression: str
) -> None:
    """GEN-5, D11: alone, and in a submission."""
    good = document(f"Patient/{key}") if kind == "DocumentReference" else _list(key)
    before = stored(author)
    alone = author.post(kind, good | changed)
    assert refusal(alone) == (422, "code-invalid")
    assert alone.json["issue"][0]["expression"] == [expression]
    bundle = submission(f"Patient/{key}")
    bundle["entry"][1 if kind == "DocumentReference" else 0]["resource"] |= changed
    assert refusal(author.post("", bundle)) == (422, "code-invalid")
    assert stored(author) == before


def test_gen_6_xml_in_json_out_xml_out(author: Client, key: str) -> None:
    """GEN-6, D12: decimals and dates keep their digits."""
    sent = document(
        f"Patient/{key}",
        date="2026-06-12T10:00:00.120+02:00",
        extension=[{"url": "urn:x", "valueDecimal": 1.50}],
        context={"period": {"start": "2026-06", "end": "2026-06-12T09:00:00+02:00"}},
    )
    body = fhir_xml.dumps(sent).replace(b'value="1.5"', b'value="1.50"')
    assert b'"1.50"' in body
    answer = author.request("POST", "DocumentReference", body, Content_Type=XML, Accept=XML)
    assert (answer.status, answer.header("Content-Type")) == (201, XML)
    id = fhir_xml.loads(answer.body)["id"]
    as_json, as_xml = author.get(f"DocumentReference/{id}"), author.get(f"DocumentReference/{id}", Accept=XML)
    assert b"1.50" in as_json.body
    assert b'"1.50"' in as_xml.body
    assert b"2026-06-12T10:00:00.120+02:00" in as_json.body
    assert as_json.json["context"] == sent["context"]
    assert fhir_xml.loads(as_xml.body)["context"] == sent["context"]


# --- what is asked ----------------------------------------------------------------------------------------------------


def asked(client: Client, kind: str, pairs: list[tuple[str, str]], way: str, form: str) -> Response:
    headers = {"Accept": XML if form == "X" else "application/fhir+json"}
    if way == "GET":
        return client.request("GET", f"{kind}?{urlencode(pairs)}", **headers)
    url, body = (pairs[:1], pairs[1:]) if way == "split" else ([], pairs)
    path = f"{kind}/_search" + (f"?{urlencode(url)}" if url else "")
    form_type = "application/x-www-form-urlencoded"
    return client.request("POST", path, urlencode(body).encode(), Content_Type=form_type, **headers)


def ids(answer: Response) -> list[str]:
    assert answer.status == 200, answer.body
    return [entry["resource"]["id"] for entry in read(answer).get("entry", [])]


@pytest.fixture(scope="module")
def two(author: Client) -> tuple[str, str, str]:
    """A person's key, and the ids of a superseded document and of the one in its place."""
    key = str(register(author, 3).json["id"])
    old = submit(author, submission(f"Patient/{key}"))[1]["response"]["location"].split("/")[1]
    new = submit(author, replacement(f"Patient/{key}", old))[1]["response"]["location"].split("/")[1]
    return key, old, new


@pytest.mark.parametrize("form", ["J", "X"])
@pytest.mark.parametrize("way", ["GET", "POST", "split"])
def test_67_1_by_patient_and_status(other: Client, two: tuple[str, str, str], way: str, form: str) -> None:
    """67-1, GEN-7, P5"""
    key, old, new = two
    for patient in (("patient", key), ("patient", f"Patient/{key}"), ("patient.identifier", examples.ins(3))):
        for system in ("", f"{STATUSES}|"):
            for status, found in (("current", [new]), ("superseded", [old])):
                pairs = [patient, ("status", f"{system}{status}")]
                answer = asked(other, "DocumentReference", pairs, way, form)
                assert ids(answer) == found
                assert (read(answer)["type"], read(answer)["total"]) == ("searchset", 1)
                assert [each["search"]["mode"] for each in read(answer)["entry"]] == ["match"]
        both = [patient, ("status", "current,superseded")]
        assert set(ids(asked(other, "DocumentReference", both, way, form))) == {old, new}
        assert set(ids(asked(other, "DocumentReference", [patient], way, form))) == {old, new}
        assert ids(asked(other, "DocumentReference", [patient, ("status", "urn:x|current")], way, form)) == []
    refused = asked(other, "DocumentReference", [("status", "current")], way, form)
    assert (refused.status, read(refused)["issue"][0]["code"]) == (400, "required")


def test_gen_2_a_form_that_is_none(other: Client, made: dict[str, Any], key: str) -> None:
    """GEN-2, D3"""
    for path in (place(made), f"DocumentReference?patient={key}", f"List?patient={key}"):
        assert refusal(other.get(path, Accept="text/csv")) == (406, "not-supported")
        joint = "&" if "?" in path else "?"
        assert refusal(other.get(f"{path}{joint}_format=csv")) == (406, "not-supported")


def test_gen_9_no_match(other: Client, key: str) -> None:
    """GEN-9"""
    for kind in ("DocumentReference", "List"):
        found = other.get(f"{kind}?patient={key}&identifier=urn:x|none").json
        assert (found["type"], found["total"], found.get("entry")) == ("searchset", 0, None)


# --- who asks ---------------------------------------------------------------------------------------------------------


def routes(id: str, key: str) -> Iterator[tuple[str, str, Any, dict[str, str]]]:
    patch = [operation("replace", "/status", "superseded")]
    yield "GET", f"DocumentReference/{id}", None, {}
    yield "GET", f"DocumentReference/{id}/_history", None, {}
    yield "GET", f"DocumentReference/{id}/_history/1", None, {}
    yield "GET", f"Binary/{id}", None, {"Accept": "*/*"}
    yield "HEAD", f"Binary/{id}", None, {"Accept": "*/*"}
    yield "GET", f"DocumentReference/{id}/$links", None, {}
    yield "POST", f"DocumentReference/{id}/$share", {"resourceType": "Parameters"}, {}
    yield "PATCH", f"DocumentReference/{id}", patch, {"Content_Type": JSON_PATCH}
    yield "GET", f"DocumentReference?_id={id}&patient={key}", None, {}


def test_gen_18_the_scope_comes_before_existence(
    exchange: Exchange, made: dict[str, Any], masked: dict[str, Any], key: str
) -> None:
    """GEN-18, GEN-14: existing, hidden and unknown are one answer."""
    client = joined(exchange, "practice", "ITI-104")
    unknown = f"{made['id'][:-1]}{'0' if made['id'][-1] != '0' else '1'}"
    kinds = [[*routes(id, key)] for id in (made["id"], masked["id"], unknown)]
    for at in zip(*kinds, strict=True):
        answers = {
            (answer.status, answer.body)
            for method, path, body, headers in at
            for answer in [client.request(method, path, body, **headers)]
        }
        assert len(answers) == 1, at[0]
        assert answers.pop()[0] == 403, at[0]


@pytest.mark.parametrize("token", [None, "garbage"])
def test_gen_13_no_token(exchange: Exchange, made: dict[str, Any], key: str, token: str | None) -> None:
    """GEN-13: nothing of documents is open but a temporary link."""
    for method, path, body, _ in routes(made["id"], key):
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        data = json.dumps(body).encode() if body else b""
        answer = exchange.gateway.request(method, f"/fhir/{path}", sent, data)
        assert answer.status == 401, path
        challenge = str(answer.header("WWW-Authenticate"))
        assert challenge.startswith("Bearer")
        assert ("invalid_token" in challenge) == bool(token)


def test_gen_15_a_record_that_is_not_for_the_caller(exchange: Exchange, author: Client, made: dict[str, Any]) -> None:
    """GEN-15, D1: another person's record is not there for a patient, and no reason could open it."""
    stranger = joined(exchange, "patient", "system/*.rs", patient=examples.ins(3))
    key = made["subject"]["reference"].partition("/")[2]
    nobody = f"DocumentReference?patient={'0' * 16}"
    foreign, unknown = stranger.get(f"DocumentReference?patient={key}"), stranger.get(nobody)
    assert foreign.status == unknown.status
    assert made["id"].encode() not in foreign.body
    assert stranger.get(place(made)).status == 404
    assert stranger.get(f"Binary/{made['id']}", Accept="*/*").status == 404


def test_dmp_25_there_is_no_export(author: Client) -> None:
    """DMP-25: what is not offered tells nothing of withdrawn documents."""
    for path in ("$export", "Patient/$export"):
        assert author.get(quote(path, safe="/$")).status in (404, 405)
