"""The HTTP side of the record API: routes, forms of answers, preferences, conditions, histories. R4 section 3.1.0."""

from __future__ import annotations

import gzip
import json
import logging
from typing import Any

import pytest

from local.gateway import Response
from passerelle.fhir import json as fhir_json
from passerelle.fhir import xml as fhir_xml
from passerelle.fhir.elements import SUBSETTED
from passerelle.fhir.validation import validate
from tests import examples
from tests.exchange import Client, Exchange
from tests.functions.test_patients import register

JSON, XML = "application/fhir+json", "application/fhir+xml"


@pytest.fixture(scope="module")
def key(exchange: Exchange) -> str:
    return str(register(exchange.client("hospital-a"), 1).json["id"])


@pytest.fixture(scope="module")
def client(exchange: Exchange) -> Client:
    return exchange.client("practice")


def created(client: Client, key: str, **changed: Any) -> str:
    """The path of a new Observation."""
    answer = client.post("Observation", examples.observation(key, **changed))
    assert answer.status == 201, answer.body
    return f"Observation/{answer.json['id']}"


def coded(code: str) -> dict[str, Any]:
    return {"coding": [{"system": "urn:x", "code": code}]}


def issue(answer: Response) -> str:
    assert answer.json["resourceType"] == "OperationOutcome", answer.body
    return str(answer.json["issue"][0]["code"])


# --- routes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        *("Foo", "Foo/1", "observation/1", "Careteam", "Observation/1/nothing", "Observation/$nothing"),
        *("Observation/1/_history/2/3", "Observation/_nothing", "$nothing", "metadata/1", "Organization/1/$nothing"),
    ],
)
def test_an_unknown_type_or_interaction(client: Client, path: str) -> None:
    """GEN-16."""
    answer = client.get(path)
    assert (answer.status, issue(answer)) == (404, "not-supported")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "Observation/1", "DELETE, GET, HEAD, PATCH, PUT"),
        ("DELETE", "DocumentReference/1", "GET, HEAD, PATCH"),
        ("PUT", "AuditEvent/1", "GET, HEAD"),
        ("OPTIONS", "Observation/_search", "POST"),
        ("GET", "", "POST"),
    ],
)
def test_another_method_of_a_known_path(client: Client, method: str, path: str, allowed: str) -> None:
    answer = client.request(method, path)
    assert (answer.status, issue(answer), answer.header("Allow")) == (405, "not-supported", allowed)


def test_without_token_nothing_is_told(client: Client) -> None:
    answers = {client.get(path, Authorization="").status for path in ("Observation/1", "Foo", "Foo/1/2", "")}
    assert answers == {401}


def test_head_is_get_without_body(client: Client, key: str) -> None:
    place = created(client, key)
    answer = client.request("HEAD", place)
    assert (answer.status, answer.body, answer.header("ETag")) == (200, b"", 'W/"1"')
    assert client.request("HEAD", "Observation/1").status == 404


def test_an_escaped_path_is_the_same_path(client: Client, key: str) -> None:
    place = created(client, key)
    assert client.get(f"{place}/%5Fhistory/1").status == 200


def test_a_line_in_the_log_has_the_route_and_no_id(client: Client, key: str, caplog: pytest.LogCaptureFixture) -> None:
    place = created(client, key)
    with caplog.at_level(logging.INFO):
        caplog.clear()
        client.get(f"{place}?_format=xml")
        client.request("POST", place)
    lines = [vars(record) for record in caplog.records if record.getMessage() == "answered"]
    assert [(line["route"], line["status"]) for line in lines] == [("GET /fhir/Observation/{id}", 200), ("", 405)]
    assert not any(key in str(vars(record)) for record in caplog.records if record.name.startswith("passerelle"))


# --- forms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "query", "media_type"),
    [
        ("*/*", "", JSON),
        ("", "", JSON),
        (JSON, "", JSON),
        (XML, "", XML),
        ("application/xml", "", "application/xml"),
        ("text/xml", "", "text/xml"),
        ("application/json", "", "application/json"),
        (f"{XML};q=0.2, {JSON};q=0.8", "", JSON),
        (f"{XML};q=0.9, {JSON};q=0.8", "", XML),
        (f"text/html, {XML};q=0.1", "", XML),
        (f"{JSON};q=0, */*", "", XML),
        (f"{JSON}; fhirVersion=4.0", "", JSON),
        (f"{JSON}; fhirVersion=3.0, {XML}", "", XML),
        (XML, "_format=json", JSON),
        (JSON, "_format=xml", XML),
        ("text/csv", "_format=application/fhir%2Bxml", XML),
        ("text/csv", "_format=application/fhir+xml", XML),
        ("text/csv", "_format=text/json", "text/json"),
    ],
)
def test_the_form_of_an_answer(client: Client, key: str, accept: str, query: str, media_type: str) -> None:
    """GEN-1."""
    answer = client.get(f"Patient/{key}?{query}", Accept=accept)
    assert (answer.status, answer.header("Content-Type")) == (200, media_type), answer.body
    read = fhir_xml.loads(answer.body) if "xml" in media_type else answer.json
    assert read["id"] == key


@pytest.mark.parametrize(
    ("accept", "query"),
    [("text/csv", ""), (JSON, "_format=csv"), (f"{JSON}; fhirVersion=3.0", ""), (f"{JSON};q=0", "")],
)
def test_a_form_that_is_not_offered(client: Client, key: str, accept: str, query: str) -> None:
    """GEN-2."""
    answer = client.get(f"Patient/{key}?{query}", Accept=accept)
    assert (answer.status, issue(answer)) == (406, "not-supported")


def test_a_refusal_has_the_form_asked_for(client: Client) -> None:
    for path in ("Observation/1", "Foo"):
        answer = client.get(path, Accept=XML)
        assert (answer.status, answer.header("Content-Type")) == (404, XML)
        assert fhir_xml.loads(answer.body)["resourceType"] == "OperationOutcome"


def test_xml_in_json_and_xml_out(client: Client, key: str) -> None:
    """GEN-6: decimals and dates keep their digits."""
    sent = fhir_json.loads(
        b'{"resourceType":"Observation","status":"final","code":{"text":"\xc3\xa9"},"subject":{"reference":"Patient/%b"},'
        b'"effectiveDateTime":"2026-03","valueQuantity":{"value":72.50,"unit":"kg"}}' % key.encode()
    )
    answer = client.post("Observation", fhir_xml.dumps(sent), Content_Type=f"{XML}; charset=utf-8")
    assert (answer.status, answer.header("Content-Type")) == (201, JSON), answer.body
    assert b'"value":72.50' in answer.body
    place = f"Observation/{answer.json['id']}"
    stored = client.get(place)
    assert fhir_xml.loads(client.get(place, Accept=XML).body) == fhir_json.loads(stored.body)
    assert {name: value for name, value in fhir_json.loads(stored.body).items() if name not in ("id", "meta")} == sent
    found = client.get(f"Observation?patient={key}&_format=xml")
    assert place in [each["fullUrl"].partition("/fhir/")[2] for each in fhir_xml.loads(found.body)["entry"]]


def test_xml_that_is_none(client: Client) -> None:
    answer = client.post("Observation", b"<Observation", Content_Type=XML)
    assert (answer.status, issue(answer)) == (400, "structure")


def test_pretty_is_the_same_with_line_breaks(client: Client, key: str) -> None:
    plain, pretty = client.get(f"Patient/{key}"), client.get(f"Patient/{key}?_pretty=true")
    assert pretty.body.count(b"\n") > 5
    assert pretty.json == plain.json
    xml = client.get(f"Patient/{key}?_pretty=true&_format=xml")
    assert fhir_xml.loads(xml.body) == fhir_json.loads(plain.body)


def test_a_large_answer_is_compressed(client: Client, key: str) -> None:
    for _ in range(3):
        created(client, key)
    answer = client.get(f"Observation?patient={key}", Accept_Encoding="gzip")
    assert answer.header("Content-Encoding") == "gzip"
    assert json.loads(gzip.decompress(answer.body))["type"] == "searchset"


# --- parts --------------------------------------------------------------------------------------------------------


def test_parts_of_resources(client: Client, key: str) -> None:
    place = created(client, key, code=coded("part"), note=[{"text": "x"}])
    for query, members in (
        ("_elements=note", {"status", "code", "note"}),
        ("_summary=true", {"status", "code", "subject", "effectiveDateTime", "valueQuantity"}),
        ("_summary=text", {"status", "code"}),
    ):
        read = client.get(f"{place}?{query}").json
        assert read.keys() - {"resourceType", "id", "meta"} == members
        assert SUBSETTED in read["meta"]["tag"]
        validate(read)
        (entry,) = client.get(f"Observation?patient={key}&code=part&{query}").json["entry"]
        assert entry["resource"] == read
    assert client.get(f"{place}?_summary=false").body == client.get(place).body
    assert client.get(f"{place}?_summary=some").status == 400


def test_only_the_number_of_matches(client: Client, key: str) -> None:
    for _ in range(2):
        created(client, key, code=coded("counted"))
    counted = client.get(f"Observation?patient={key}&code=counted&_summary=count").json
    assert counted["total"] == 2
    assert "entry" not in counted


# --- searches by POST ---------------------------------------------------------------------------------------------


def test_parameters_in_the_url_in_the_body_or_split(client: Client, key: str) -> None:
    """GEN-7."""
    for status in ("final", "amended", "final"):
        created(client, key, code=coded("split"), status=status)
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    answers = [
        client.get(f"Observation?patient={key}&code=split&status=final"),
        client.post("Observation/_search", f"patient={key}&code=split&status=final".encode(), **form),
        client.post(f"Observation/_search?patient={key}", b"code=split&status=final", **form),
        client.post(f"Observation/_search?patient={key}&code=split&status=final", b"", **form),
    ]
    found = [[each["fullUrl"] for each in answer.json["entry"]] for answer in answers]
    assert len(found[0]) == 2
    assert found == [found[0]] * 4


# --- conditional reads --------------------------------------------------------------------------------------------


def test_a_version_that_the_client_has_is_not_sent_again(exchange: Exchange, client: Client, key: str) -> None:
    place = created(client, key)
    before = len(exchange.table("audit"))
    for tag in ('W/"1"', '"1"', 'W/"7", W/"1"', "*"):
        answer = client.get(place, If_None_Match=tag)
        assert (answer.status, answer.body, answer.header("ETag")) == (304, b"", 'W/"1"')
    assert len(exchange.table("audit")) == before + 4
    assert client.get(place, If_None_Match='W/"2"').status == 200


def test_a_date_counts_only_without_a_tag(client: Client, key: str) -> None:
    place = created(client, key)
    modified = str(client.get(place).header("Last-Modified"))
    assert client.get(place, If_Modified_Since=modified).status == 304
    assert client.get(place, If_Modified_Since="Sun, 01 Mar 2020 00:00:00 GMT").status == 200
    assert client.get(place, If_Modified_Since="yesterday").status == 200
    assert client.get(place, If_Modified_Since=modified, If_None_Match='W/"2"').status == 200


# --- preferences --------------------------------------------------------------------------------------------------


def test_what_an_answer_to_a_write_holds(client: Client, key: str) -> None:
    content = examples.observation(key)
    for prefer in ("return=minimal", "handling=strict; return=minimal"):
        answer = client.post("Observation", content, Prefer=prefer)
        assert (answer.status, answer.body, answer.header("Content-Type")) == (201, b"", None)
        assert answer.header("Location")
    told = client.post("Observation", content, Prefer="return=OperationOutcome")
    assert (told.status, issue(told), told.json["issue"][0]["severity"]) == (201, "informational", "information")
    assert client.post("Observation", content, Prefer="return=representation").json["status"] == "final"


def test_a_deletion_is_told(client: Client, key: str) -> None:
    """P13."""
    told = client.request("DELETE", created(client, key))
    assert (told.status, issue(told), told.header("ETag")) == (200, "informational", 'W/"2"')
    quiet = client.request("DELETE", created(client, key), Prefer="return=minimal")
    assert (quiet.status, quiet.body) == (204, b"")


def test_unknown_parameters(client: Client, key: str) -> None:
    """GEN-8."""
    lenient = client.get(f"Observation?patient={key}&colour=red")
    assert lenient.status == 200
    assert "colour" not in lenient.json["link"][0]["url"]
    strict = client.get(f"Observation?patient={key}&colour=red", Prefer="handling=strict")
    assert (strict.status, issue(strict)) == (400, "not-supported")


# --- conditional writes -------------------------------------------------------------------------------------------


def identified(key: str, value: str, **changed: Any) -> dict[str, Any]:
    return examples.observation(key, identifier=[{"system": "urn:x", "value": value}], **changed)


def test_create_unless_it_exists(client: Client, key: str) -> None:
    condition = f"patient={key}&identifier=urn:x|c1"
    first = client.post("Observation", identified(key, "c1"), If_None_Exist=condition)
    again = client.post("Observation", identified(key, "c1"), If_None_Exist=f"Observation?{condition}")
    assert (first.status, again.status) == (201, 200)
    assert (again.header("Location"), again.header("ETag")) == (first.header("Location"), 'W/"1"')
    assert again.body == first.body


@pytest.mark.parametrize("condition", ["", "colour=red", "_sort=date"])
def test_a_condition_must_be_one(client: Client, key: str, condition: str) -> None:
    assert client.post("Observation", identified(key, "c2"), If_None_Exist=condition).status == 400
    assert client.put(f"Observation?{condition}", identified(key, "c2")).status == 400
    assert client.request("DELETE", f"Observation?{condition}").status == 400


def test_update_patch_and_delete_what_is_found(client: Client, key: str) -> None:
    """P14."""
    where = f"Observation?patient={key}&identifier=urn:x|c3"
    patch = [{"op": "replace", "path": "/status", "value": "corrected"}]
    as_patch = {"Content_Type": "application/json-patch+json"}
    assert client.request("PATCH", where, patch, **as_patch).status == 404
    assert client.request("DELETE", where).status == 404
    assert client.put(where, identified(key, "c3")).status == 201
    updated = client.put(where, identified(key, "c3", status="amended"))
    assert (updated.status, updated.json["meta"]["versionId"]) == (200, "2")
    patched = client.request("PATCH", where, patch, **as_patch)
    assert (patched.status, patched.json["status"]) == (200, "corrected")
    assert client.put(where, identified(key, "c3"), If_Match='W/"1"').status == 412
    assert client.request("DELETE", where).status == 200
    assert client.get(f"Observation/{updated.json['id']}").status == 410


def test_several_matches_are_too_many(client: Client, key: str) -> None:
    for _ in range(2):
        client.post("Observation", identified(key, "c4"))
    where = f"Observation?patient={key}&identifier=urn:x|c4"
    assert client.put(where, identified(key, "c4")).status == 412
    assert client.request("DELETE", where).status == 412


def test_an_id_that_the_client_chose(client: Client, key: str) -> None:
    made = client.put("Observation/chosen-1", examples.observation(key, id="chosen-1"))
    assert (made.status, made.json["id"]) == (201, "chosen-1")
    again = client.put("Observation/chosen-1", examples.observation(key, id="chosen-1", status="amended"))
    assert (again.status, again.header("ETag")) == (200, 'W/"2"')
    other = client.put("Observation/chosen-2", examples.observation(key, id="chosen-3"))
    assert (other.status, issue(other)) == (400, "invariant")
    history = client.get("Observation/chosen-1/_history").json
    assert [each["request"]["method"] for each in history["entry"]] == ["PUT", "PUT"]


# --- patches ------------------------------------------------------------------------------------------------------


def test_a_json_patch(client: Client, key: str) -> None:
    place = created(client, key)
    patch = [
        {"op": "test", "path": "/status", "value": "final"},
        {"op": "replace", "path": "/status", "value": "amended"},
    ]
    send = {"Content_Type": "application/json-patch+json", "If_Match": 'W/"1"'}
    patched = client.request("PATCH", place, patch, **send)
    assert (patched.status, patched.json["status"], patched.header("ETag")) == (200, "amended", 'W/"2"')
    assert client.request("PATCH", place, patch, **send).status == 412


@pytest.mark.parametrize("media_type", [JSON, XML])
def test_a_fhirpath_patch(client: Client, key: str, media_type: str) -> None:
    place = created(client, key)
    parts = [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": "Observation.status"},
        {"name": "value", "valueCode": "amended"},
    ]
    patch = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}
    body = fhir_xml.dumps(patch) if media_type == XML else fhir_json.dumps(patch)
    assert client.request("PATCH", place, body, Content_Type=media_type).json["status"] == "amended"


def test_the_result_of_a_patch_is_validated(client: Client, key: str) -> None:
    place = created(client, key)
    patch = [{"op": "replace", "path": "/status", "value": "done"}]
    answer = client.request("PATCH", place, patch, Content_Type="application/json-patch+json")
    assert (answer.status, issue(answer)) == (422, "code-invalid")
    assert client.get(place).header("ETag") == 'W/"1"'


@pytest.mark.parametrize("media_type", ["application/xml-patch+xml", "text/plain"])
def test_patches_of_other_kinds(client: Client, key: str, media_type: str) -> None:
    """P12."""
    answer = client.request("PATCH", created(client, key), b"<diff/>", Content_Type=media_type)
    assert (answer.status, issue(answer)) == (415, "not-supported")
    assert answer.header("Accept-Patch") == f"application/json-patch+json, {JSON}, {XML}"


# --- histories ----------------------------------------------------------------------------------------------------


def test_the_history_of_a_resource(client: Client, key: str) -> None:
    place = created(client, key)
    client.put(place, examples.observation(key, id=place.partition("/")[2], status="amended"))
    client.request("DELETE", place)
    answer = client.get(f"{place}/_history")
    validate(answer.json)
    assert (answer.json["type"], answer.json["total"]) == ("history", 3)
    told = [
        (each["request"]["method"], each["response"]["status"], each["response"]["etag"], "resource" in each)
        for each in answer.json["entry"]
    ]
    assert told == [("DELETE", "204", 'W/"3"', False), ("PUT", "200", 'W/"2"', True), ("POST", "201", 'W/"1"', True)]
    assert client.get("Observation/1/_history").status == 404


def followed(client: Client, path: str) -> list[str]:
    """The versions on all pages."""
    found: list[str] = []
    url: str | None = path
    while url:
        page = client.get(url.partition("/fhir/")[2] or url).json
        found += [f"{each['fullUrl']}/_history/{each['response']['etag'][3:-1]}" for each in page.get("entry", [])]
        url = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
    return found


def test_pages_of_a_history(client: Client, key: str) -> None:
    place = created(client, key)
    for _ in range(4):
        client.put(place, examples.observation(key, id=place.partition("/")[2]))
    assert [each[-1] for each in followed(client, f"{place}/_history?_count=2")] == ["5", "4", "3", "2", "1"]


def test_the_history_of_a_type_in_a_record(exchange: Exchange, client: Client) -> None:
    other = str(register(exchange.client("hospital-a"), 3).json["id"])
    places = [created(client, other) for _ in range(3)]
    client.request("DELETE", places[0])
    since = client.get(places[2]).json["meta"]["lastUpdated"]
    whole = followed(client, f"Observation/_history?patient={other}")
    assert len(whole) == 4
    assert followed(client, f"Observation/_history?patient={other}&_count=1") == whole
    assert followed(client, f"Observation/_history?patient={other}&_since={since}") == whole[:2]
    assert followed(client, f"Observation/_history?patient={other}&_since=2999-01-01T00:00:00+01:00") == []


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "required"),
        ("patient={key}&_since=yesterday", "value"),
        ("patient={key}&_since=2026-01-01T00:00:00", "value"),
        ("patient={key}&_count=0", "value"),
        ("patient={key}&_at=2026", "not-supported"),
        ("patient={key}&code=x", "not-supported"),
    ],
)
def test_a_history_is_asked_for_as_it_is_kept(client: Client, key: str, query: str, code: str) -> None:
    answer = client.get(f"Observation/_history?{query.format(key=key)}")
    assert (answer.status, issue(answer)) == (400, code)


# --- the directory ------------------------------------------------------------------------------------------------


def test_the_directory_has_the_same_interactions_without_a_patient(exchange: Exchange) -> None:
    client = exchange.client("hospital-a")
    content = {"resourceType": "Location", "identifier": [{"system": "urn:x", "value": "l1"}], "name": "Accueil"}
    made = client.post("Location", content)
    assert made.status == 201, made.body
    place = f"Location/{made.json['id']}"
    changed = client.put(place, {**content, "id": made.json["id"], "name": "Urgences"}, If_Match='W/"1"')
    assert (changed.status, changed.json["name"]) == (200, "Urgences")
    found = client.get("Location?identifier=urn:x|l1").json
    assert [each["resource"]["name"] for each in found["entry"]] == ["Urgences"]
    assert len(client.get(f"{place}/_history").json["entry"]) == 2
    assert client.request("DELETE", place).status == 200
    assert client.get(place).status == 410
    assert client.get("Location?identifier=urn:x|l1").json["total"] == 0


# --- the statement ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "query", "media_type"),
    [
        ("*/*", "", JSON),
        (XML, "", XML),
        (f"{JSON}, {XML}", "", JSON),
        (JSON, "_format=xml", XML),
        (XML, "_format=json", JSON),
        ("text/html,application/xhtml+xml", "", XML),
    ],
)
def test_metadata_in_both_forms(exchange: Exchange, accept: str, query: str, media_type: str) -> None:
    """GEN-12."""
    answer = exchange.gateway.request("GET", f"/fhir/metadata?{query}", {"Accept": accept})
    assert (answer.status, answer.header("Content-Type")) == (200, media_type)
    statement = fhir_xml.loads(answer.body) if media_type == XML else answer.json
    assert statement["format"] == ["json", "xml"]
    assert statement["fhirVersion"] == "4.0.1"
