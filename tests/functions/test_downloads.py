"""ITI-68, TD3.2: the content of a document leaves the exchange, whole, in part, or by a URL (68-n, DMP-15 to 17)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from passerelle import wiring
from passerelle.documents.service import MAX_STREAMED_BYTES
from passerelle.fhir.resource import ResourceDraft
from passerelle.records.model import StoredVersion
from tests import contents, record
from tests.exchange import URL, Client, Exchange
from tests.functions.test_patients import register

DATA = contents.pdf(50_000)
LARGE = contents.pdf(MAX_STREAMED_BYTES + 1)
BASE = f"{URL}/fhir/"


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


@pytest.fixture(scope="module")
def key(exchange: Exchange) -> str:
    return str(register(exchange.client("hospital-a"), 1).json["id"])


@pytest.fixture(scope="module")
def reader(exchange: Exchange) -> Client:
    """A system that may retrieve contents, and nothing else."""
    return exchange.client("practice", "ITI-68")


@pytest.fixture(scope="module")
def place(hospital: Client, key: str) -> str:
    return contents.published(hospital, key, DATA)


@pytest.fixture(scope="module")
def large(exchange: Exchange, hospital: Client, key: str) -> str:
    """A document that is too large for an answer; it came in when requests were allowed to be larger."""
    place = contents.published(hospital, key, DATA)
    patient, _, local = place.removeprefix("Binary/").partition("-")
    s3, bucket = exchange.stack.client("s3"), exchange.stack.environment["DOCUMENTS_BUCKET"]
    s3.put_object(
        Bucket=bucket,
        Key=f"documents/{patient}/{local}",
        Body=LARGE,
        ContentType="application/pdf",
        Metadata={"sha256": contents.sha256(LARGE), "sha1": contents.sha1(LARGE)},
    )
    return place


def withdraw(place: str, status: str) -> None:
    """Another status, as PATCH gives it."""

    def revise(current: StoredVersion) -> ResourceDraft:
        return ResourceDraft({**json.loads(current.body or b""), "status": status}, BASE.rstrip("/"))

    id = place.removeprefix("Binary/")
    wiring.record_service().patch(record.request(), "DocumentReference", id, revise, if_match=None)


# --- whole --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "accept", ["application/pdf", "*/*", "application/*", None, "text/html, application/pdf;q=0.5"]
)
def test_the_bytes_as_they_were_sent(hospital: Client, reader: Client, place: str, accept: str | None) -> None:
    """68-1, PDSM-17"""
    headers = {"Accept": accept} if accept else {}
    found = reader.get(place, If_Unmodified_Since="Mon, 01 Jan 2001 00:00:00 GMT", **headers)
    document = hospital.get(place.replace("Binary", "DocumentReference")).json
    attachment = document["content"][0]["attachment"]
    assert (found.status, found.header("Content-Type"), found.body) == (200, attachment["contentType"], DATA)
    assert (len(found.body), contents.sha1(found.body)) == (attachment["size"], attachment["hash"])
    assert found.header("Repr-Digest") == f"sha-256=:{contents.sha256(DATA)}:"
    assert found.header("Content-Disposition") == "attachment"
    assert found.header("X-Content-Type-Options") == "nosniff"
    assert found.header("Accept-Ranges") == "bytes"
    assert found.header("Cache-Control") == "no-store"


def test_who_has_it_is_told_so(reader: Client, place: str) -> None:
    tag = str(reader.get(place).header("ETag"))
    assert not tag.startswith("W/")
    again = reader.get(place, If_None_Match=f'"other", {tag}')
    assert (again.status, again.body, again.header("ETag")) == (304, b"", tag)
    assert reader.get(place, If_None_Match='"other"', Range="bytes=0-9").status == 200


def test_head_tells_of_it(reader: Client, place: str, large: str) -> None:
    for each in (place, large):
        found = reader.request("HEAD", each)
        assert (found.status, found.body, found.header("Content-Type")) == (200, b"", "application/pdf")
        assert found.header("ETag")
        assert found.header("Location") is None


def test_unknown_and_hidden_look_the_same(exchange: Exchange, reader: Client, hospital: Client, place: str) -> None:
    """68-2, 67-5: neither a guess nor one changed character opens anything."""
    somebody = str(register(hospital, 2).json["id"])
    hidden = exchange.client("patient-1", "ITI-68").get(contents.published(hospital, somebody, DATA))
    answers = [hidden]
    for position in (-1, -8, 10):
        changed = list(place)
        changed[position] = "0" if changed[position] != "0" else "1"
        answers.append(reader.get("".join(changed)))
    answers += [reader.get(f"Binary/{'0' * 16}-{'0' * 26}"), reader.get("Binary/any")]
    assert {answer.status for answer in answers} == {404}
    assert {answer.body for answer in answers} == {hidden.body}
    assert hidden.json["issue"][0]["diagnostics"] == "Document Not Found"


@pytest.mark.parametrize("status", ["entered-in-error", "superseded"])
@pytest.mark.parametrize("accept", ["application/pdf", "application/fhir+json", "image/png"])
def test_what_is_withdrawn_is_gone(reader: Client, hospital: Client, key: str, status: str, accept: str) -> None:
    """68-3, P2, D4"""
    place = contents.published(hospital, key, DATA)
    withdraw(place, status)
    found = reader.get(place, Accept=accept)
    assert (found.status, found.json["issue"][0]["code"], found.json["issue"][0]["diagnostics"]) == (
        410,
        "deleted",
        "Gone",
    )
    assert reader.get(place, Accept=accept, Range="bytes=0-0").status == 410


def test_nothing_is_converted(reader: Client, place: str) -> None:
    """68-4"""
    found = reader.get(place, Accept="image/png")
    issue = found.json["issue"][0]
    assert (found.status, issue["code"], issue["diagnostics"]) == (406, "not-supported", "Not Acceptable")


@pytest.mark.parametrize(
    "ask",
    [
        lambda client, place: client.post(place, {"resourceType": "Binary", "contentType": "application/pdf"}),
        lambda client, place: client.request("PATCH", place, b"[]", Content_Type="application/json-patch+json"),
        lambda client, place: client.put(place, _binary(place)),
        lambda client, place: client.request("DELETE", place),
        lambda client, place: client.get(f"{place}?patient=1"),
        lambda client, place: client.get(f"{place}?_elements=data"),
    ],
    ids=["POST", "PATCH", "PUT", "DELETE", "query", "elements"],
)
def test_what_is_not_legal_for_a_content(exchange: Exchange, place: str, ask: Callable[[Client, str], object]) -> None:
    """68-5"""
    found = ask(exchange.client("hospital-a", "system/*.cruds"), place)
    issue = found.json["issue"][0]  # type: ignore[attr-defined]
    assert (found.status, issue["code"], issue["diagnostics"]) == (  # type: ignore[attr-defined]
        403,
        "not-supported",
        "Request Type Not Supported",
    )


def _binary(place: str) -> dict[str, str]:
    patient = place.removeprefix("Binary/").partition("-")[0]
    return {
        "resourceType": "Binary",
        "id": place.removeprefix("Binary/"),
        "contentType": "application/pdf",
        "securityContext": {"reference": f"Patient/{patient}"},  # type: ignore[dict-item]
        "data": "AAAA",
    }


def test_metadata_may_be_allowed_where_the_content_is_not(exchange: Exchange, place: str, key: str) -> None:
    """67-4: by scope, the one rule there is of this kind."""
    finder = exchange.client("practice", "ITI-67")
    entries = finder.get(f"DocumentReference?patient={key}&status=current").json["entry"]
    urls = [entry["resource"]["content"][0]["attachment"]["url"] for entry in entries]
    assert BASE + place in urls
    refused = finder.get(place)
    assert (refused.status, refused.json["issue"][0]["code"]) == (403, "forbidden")


def test_a_url_is_absolute_and_tells_nothing(hospital: Client, key: str, place: str) -> None:
    """67-5, DMP-15"""
    attachment = hospital.get(place.replace("Binary", "DocumentReference")).json["content"][0]["attachment"]
    assert attachment["url"] == BASE + place
    patient = hospital.get(f"Patient/{key}").json
    told = [each["value"] for each in patient["identifier"]] + [patient["name"][0]["family"]]
    assert not any(each.lower() in attachment["url"].lower() for each in told)


def test_a_fhir_document_is_read_as_it_is(exchange: Exchange, hospital: Client, key: str) -> None:
    """DMP-15: its native type is FHIR, and what comes is the document, not a Binary around it."""
    document = {
        "resourceType": "Bundle",
        "type": "document",
        "identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"},
        "timestamp": "2026-06-12T10:00:00+02:00",
        "entry": [{"fullUrl": "urn:uuid:1", "resource": _composition(key)}],
    }
    data = json.dumps(document).encode()
    place = contents.published(hospital, key, data, "application/fhir+json")
    found = hospital.get(place, Accept="application/fhir+json")
    assert (found.status, found.body, found.json["type"]) == (200, data, "document")


def _composition(key: str) -> dict[str, object]:
    return {
        "resourceType": "Composition",
        "status": "final",
        "type": {"coding": [{"system": "http://loinc.org", "code": "11488-4"}]},
        "subject": {"reference": f"Patient/{key}"},
        "date": "2026-06-12T10:00:00+02:00",
        "author": [{"display": "essai"}],
        "title": "Essai",
    }


# --- as a resource ------------------------------------------------------------------------------------------------


def test_a_content_as_a_binary(reader: Client, place: str) -> None:
    """DMP-16"""
    found = reader.get(place, Accept="application/fhir+json")
    assert (found.status, found.header("Content-Type")) == (200, "application/fhir+json")
    assert (found.json["resourceType"], found.json["id"]) == ("Binary", place.removeprefix("Binary/"))
    assert found.json["contentType"] == "application/pdf"
    assert base64.b64decode(found.json["data"]) == DATA
    assert b"<Binary xmlns" in reader.get(place, Accept="application/fhir+xml").body
    assert reader.get(f"{place}?_format=json").json == found.json
    assert reader.get("Binary/any", Accept="application/fhir+json").status == 404


def test_a_batch_of_contents(exchange: Exchange, hospital: Client, key: str, place: str, large: str) -> None:
    """DMP-17: each entry on its own. What does not fit is where its location says."""
    somebody = str(register(hospital, 2).json["id"])
    hidden, second = contents.published(hospital, somebody, DATA), contents.published(hospital, key, DATA)
    entries = [{"request": {"method": "GET", "url": url}} for url in (place, second, hidden, large)]
    myself = exchange.client("patient-1")
    answer = myself.post("", {"resourceType": "Bundle", "type": "batch", "entry": entries})
    assert answer.status == 200
    statuses = [entry["response"]["status"].partition(" ")[0] for entry in answer.json["entry"]]
    assert statuses == ["200", "200", "404", "307"]
    assert base64.b64decode(answer.json["entry"][1]["resource"]["data"]) == DATA
    assert requests.get(answer.json["entry"][3]["response"]["location"], timeout=5).content == LARGE


# --- ranges -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-99", 0, 99),
        ("bytes=49990-", 49_990, 49_999),
        ("bytes=-5", 49_995, 49_999),
        ("bytes=9-99999", 9, 49_999),
    ],
)
def test_a_range(reader: Client, place: str, asked: str, first: int, last: int) -> None:
    found = reader.get(place, Range=asked)
    assert (found.status, found.body) == (206, DATA[first : last + 1])
    assert found.header("Content-Range") == f"bytes {first}-{last}/{len(DATA)}"
    assert (found.header("Content-Type"), found.header("Content-Disposition")) == ("application/pdf", "attachment")


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "lines=1-2", "bytes=5-2", "bytes=-", "bytes", "bytes=a-b"])
def test_a_range_that_is_none_is_ignored(reader: Client, place: str, asked: str) -> None:
    found = reader.get(place, Range=asked)
    assert (found.status, found.body) == (200, DATA)


@pytest.mark.parametrize("asked", [f"bytes={len(DATA)}-", "bytes=99999-100000", "bytes=-0"])
def test_a_range_that_is_not_there(reader: Client, place: str, asked: str) -> None:
    found = reader.get(place, Range=asked)
    assert (found.status, found.header("Content-Range")) == (416, f"bytes */{len(DATA)}")


def test_a_range_of_what_the_client_began_to_read(reader: Client, place: str) -> None:
    tag = str(reader.get(place).header("ETag"))
    for condition, status in ((tag, 206), ('"other"', 200), (f"W/{tag}", 200), ("Mon, 01 Jan 2001 00:00:00 GMT", 200)):
        assert reader.get(place, Range="bytes=5-9", If_Range=condition).status == status, condition
    assert reader.get(place, Range="bytes=99999-", If_Range='"other"').status == 200


# --- too large for an answer --------------------------------------------------------------------------------------


def test_a_large_content_is_where_the_answer_says(reader: Client, large: str) -> None:
    answer = reader.get(large)
    assert (answer.status, answer.body) == (307, b"")
    assert answer.header("Repr-Digest") == f"sha-256=:{contents.sha256(LARGE)}:"
    url = str(answer.header("Location"))
    asked = parse_qs(urlsplit(url).query)
    assert int(asked["X-Amz-Expires"][0]) <= 60
    assert asked["response-content-disposition"] == ["attachment"]
    found = requests.get(url, timeout=5)
    assert (found.status_code, found.content) == (200, LARGE)
    assert found.headers["Content-Type"] == "application/pdf"
    again = reader.get(large, If_None_Match=str(answer.header("ETag")))
    assert (again.status, again.header("Location")) == (304, None)


def test_a_large_content_in_ranges(reader: Client, large: str) -> None:
    """For who cannot follow a URL elsewhere; a range that is too large itself is elsewhere, too."""
    half = len(LARGE) // 2
    parts = [
        reader.get(large, Range=f"bytes={first}-{last}") for first, last in ((0, half - 1), (half, len(LARGE) - 1))
    ]
    assert [part.status for part in parts] == [206, 206]
    assert b"".join(part.body for part in parts) == LARGE
    assert reader.get(large, Range="bytes=-4").body == LARGE[-4:]
    assert reader.get(large, Range="bytes=0-").status == 307


def test_a_large_content_is_no_resource(reader: Client, large: str) -> None:
    found = reader.get(large, Accept="application/fhir+json")
    assert (found.status, found.json["issue"][0]["code"]) == (406, "not-supported")
    assert reader.get(large, Accept="application/fhir+json, application/pdf;q=0.1").status == 307


@pytest.mark.parametrize("asked", [{}, {"Range": "bytes=0-9"}, {"Accept": "application/fhir+json"}])
def test_nothing_leaves_unrecorded(
    reader: Client, place: str, large: str, asked: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 5: where the access cannot be recorded, neither the bytes nor a URL leave."""
    reader.token()
    from passerelle.errors import Unavailable

    def fail(*_: object) -> None:
        raise Unavailable

    monkeypatch.setattr(type(wiring.trail()), "append", fail)
    for each in (place, large):
        answer = reader.get(each, **asked)
        assert (answer.status, answer.header("Location")) == (503, None)


def test_every_release_is_in_the_access_log(exchange: Exchange, reader: Client, key: str, large: str) -> None:
    before = _releases(exchange, key, large)
    for headers in ({}, {"Range": "bytes=0-9"}, {"Range": "bytes=99999999-"}):
        reader.get(large, **headers)
    assert len(_releases(exchange, key, large)) == len(before) + 3


def _releases(exchange: Exchange, key: str, place: str) -> list[str]:
    found = (
        exchange.client("auditor").get(f"AuditEvent?patient=Patient/{key}&date=ge2026-01-01&type=rest&_count=100").json
    )
    events = [json.dumps(entry["resource"]) for entry in found.get("entry", [])]
    return [event for event in events if '"read"' in event]


def test_a_content_that_was_changed_in_storage_never_leaves(exchange: Exchange, hospital: Client, key: str) -> None:
    place = contents.published(hospital, key, DATA)
    patient, _, local = place.removeprefix("Binary/").partition("-")
    s3, bucket = exchange.stack.client("s3"), exchange.stack.environment["DOCUMENTS_BUCKET"]
    s3.put_object(
        Bucket=bucket,
        Key=f"documents/{patient}/{local}",
        Body=contents.pdf(50_000, seed=2),
        Metadata={"sha256": contents.sha256(DATA)},
    )
    assert hospital.get(place).status == 500
    assert hospital.get(place, Range="bytes=0-9").status == 500


def test_round_trips(reader: Client, place: str, large: str) -> None:
    """Who may see it, the content, the access record: three before the first byte, and none more for a URL."""
    from passerelle.aws.dynamodb import measure

    reader.token()
    for each in (place, large):
        with measure() as spent:
            assert reader.get(each).status in (200, 307)
        assert spent.round_trips - 1 <= 3, spent.calls  # the authorizer's own apart
