"""Clinical resources and documents over HTTP. Case ids are rows of the interoperability contract."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from passerelle import wiring
from passerelle.aws.dynamodb import measure
from tests import examples
from tests.exchange import Client, Exchange
from tests.functions.test_patients import register


@pytest.fixture(scope="module")
def key(exchange: Exchange) -> str:
    return str(register(exchange.client("hospital-a"), 1).json["id"])


@pytest.fixture(scope="module")
def practice(exchange: Exchange) -> Client:
    return exchange.client("practice")


def test_create_read_update_delete(practice: Client, key: str) -> None:
    created = practice.post("Observation", examples.observation(key))
    assert created.status == 201
    location = str(created.header("Location")).partition("/fhir/")[2]
    place = f"Observation/{created.json['id']}"
    assert location == f"{place}/_history/1"
    changed = examples.observation(key, id=created.json["id"], status="amended")
    updated = practice.put(place, changed, If_Match='W/"1"')
    assert (updated.status, updated.header("ETag"), updated.json["status"]) == (200, 'W/"2"', "amended")
    assert practice.get(place).body == updated.body
    assert practice.get(location).body == created.body
    assert practice.put(place, changed, If_Match='W/"1"').status == 412
    assert practice.request("DELETE", place).status == 200
    assert practice.get(place).status == 410
    assert practice.get(location).body == created.body
    assert practice.put(place, changed).status == 201  # brought back, R4 3.1.0.7
    assert practice.get(place).header("ETag") == 'W/"4"'


def test_digits_and_order_are_kept(practice: Client, key: str) -> None:
    raw = (
        b'{"resourceType":"Observation","status":"final","valueQuantity":{"unit":"kg","value":72.50},'
        b'"code":{"text":"\\u00e9"},"subject":{"reference":"Patient/%b"},"effectiveDateTime":"2026-03"}' % key.encode()
    )
    created = practice.post("Observation", raw)
    assert created.status == 201, created.body
    assert b'"valueQuantity":{"unit":"kg","value":72.50},"code":{"text":"\xc3\xa9"}' in created.body


def test_read_your_writes_in_every_search(practice: Client, key: str) -> None:
    place = ""
    for version, status in enumerate(("preliminary", "final", "amended"), 1):
        content = examples.observation(key, status=status, code={"coding": [{"system": "urn:x", "code": "ryw"}]})
        if place:
            answer = practice.put(place, {**content, "id": place.partition("/")[2]})
        else:
            answer = practice.post("Observation", content)
            place = f"Observation/{answer.json['id']}"
        found = practice.get(f"Observation?patient={key}&code=urn:x|ryw")
        assert [e["resource"]["meta"]["versionId"] for e in found.json["entry"]] == [str(version)]
        assert practice.get(f"Observation?patient={key}&code=urn:x|ryw&status={status}").json["total"] == 1
    assert practice.get(f"Observation?patient={key}&code=urn:x|ryw&status=final").json["total"] == 0


def test_a_moved_date_leaves_one_entry(practice: Client, key: str) -> None:
    code = {"coding": [{"system": "urn:x", "code": "moved"}]}
    created = practice.post("Observation", examples.observation(key, code=code))
    place = f"Observation/{created.json['id']}"
    later = examples.observation(key, code=code, id=created.json["id"], effectiveDateTime="2026-04-01")
    assert practice.put(place, later).status == 200
    assert practice.get(f"Observation?patient={key}&code=moved").json["total"] == 1
    assert practice.get(f"Observation?patient={key}&code=moved&date=2026-03").json["total"] == 0
    assert practice.get(f"Observation?patient={key}&code=moved&date=2026-04-01").json["total"] == 1


def test_gen_10_pages_hold_every_match_once(practice: Client, key: str) -> None:
    code = {"coding": [{"system": "urn:x", "code": "paged"}]}
    made = {
        practice.post("Observation", examples.observation(key, code=code, effectiveDateTime=f"2026-02-{d:02d}")).json[
            "id"
        ]
        for d in (1, 1, 2, 3, 3, 3, 4)
    }
    url, seen = f"Observation?patient={key}&code=paged&_count=2", []
    while url:
        page = practice.get(url)
        assert page.json["total"] == len(made)
        seen += [entry["resource"]["id"] for entry in page.json["entry"]]
        links = {link["relation"]: link["url"] for link in page.json["link"]}
        url = links.get("next", "").partition("/fhir/")[2]
    assert len(seen) == len(made)
    assert set(seen) == made
    dates = [practice.get(f"Observation/{id}").json["effectiveDateTime"] for id in seen]
    assert dates == sorted(dates, reverse=True)


def test_gen_10_page_links_are_bound(exchange: Exchange, practice: Client, key: str) -> None:
    for _ in range(2):
        assert practice.post("Observation", examples.observation(key, status="registered")).status == 201
    page = practice.get(f"Observation?patient={key}&status=registered&_count=1")
    following = next(link["url"] for link in page.json["link"] if link["relation"] == "next").partition("/fhir/")[2]
    assert practice.get(following).status == 200
    assert exchange.client("nurse").get(following).status == 404
    assert practice.get(following.replace("registered", "final")).status == 404
    altered = following[:-6] + ("A" if following[-6] != "A" else "B") + following[-5:]
    assert practice.get(altered).status == 404


def accesses(client: Client) -> list[Any]:
    return [item for item in client.exchange.table("audit") if item["client_id"]["S"] == client.id]


def test_idempotency_key_creates_once(practice: Client, key: str) -> None:
    content = examples.observation(key, code={"coding": [{"system": "urn:x", "code": "once"}]})
    headers = {"Idempotency_Key": "0f9c2d6e-5c1b-4a51-9c52-1e6b5a9f0002"}
    before = len(accesses(practice))
    first, again = (practice.post("Observation", content, **headers) for _ in range(2))
    assert len(accesses(practice)) == before + 2  # the repetition discloses, and is recorded
    assert (first.status, again.status) == (201, 201)
    assert first.body == again.body
    assert first.header("Location") == again.header("Location")
    assert practice.get(f"Observation?patient={key}&code=once").json["total"] == 1
    other = practice.post("Observation", {**content, "status": "amended"}, **headers)
    assert (other.status, other.json["issue"][0]["code"]) == (422, "business-rule")


@pytest.fixture(scope="module")
def published(exchange: Exchange, key: str) -> dict[str, Any]:
    answer = exchange.client("hospital-a").post("", examples.submission(f"Patient?identifier={examples.ins(1)}"))
    assert answer.status == 200, answer.body
    assert [entry["response"]["status"] for entry in answer.json["entry"]] == ["201 Created"] * 3
    return dict(answer.json)


def test_65_1_67_1_68_1_a_document_comes_back_byte_for_byte(
    exchange: Exchange, practice: Client, key: str, published: dict[str, Any]
) -> None:
    found = practice.get(f"DocumentReference?patient={key}&status=current")
    document = found.json["entry"][0]["resource"]
    assert found.json["total"] == 1
    assert document["subject"]["reference"] == f"Patient/{key}"
    attachment = document["content"][0]["attachment"]
    assert attachment["url"].startswith("http://")
    content = practice.get(attachment["url"].partition("/fhir/")[2], Accept="application/xml")
    assert (content.status, content.header("Content-Type"), content.body) == (200, "application/xml", examples.CDA)
    listed = practice.get(f"List?patient={key}&code=submissionset&status=current").json["entry"][0]["resource"]
    assert listed["entry"][0]["item"]["reference"] == f"DocumentReference/{document['id']}"


def test_68_the_wrong_type_and_unknown_documents(practice: Client, key: str, published: dict[str, Any]) -> None:
    place = next(
        entry["response"]["location"].partition("/_history")[0]
        for entry in published["entry"]
        if entry["response"]["location"].startswith("Binary/")
    )
    refused = practice.get(place, Accept="image/png")
    assert (refused.status, refused.json["issue"][0]["diagnostics"]) == (406, "Not Acceptable")
    unknown = practice.get(place[:-1] + ("0" if place[-1] != "0" else "1"))
    assert (unknown.status, unknown.json["issue"][0]["diagnostics"]) == (404, "Document Not Found")


def test_the_content_is_encrypted_and_locked(exchange: Exchange, key: str, published: dict[str, Any]) -> None:
    s3 = exchange.stack.client("s3")
    bucket = exchange.stack.environment["DOCUMENTS_BUCKET"]
    (stored,) = [each for each in s3.list_objects_v2(Bucket=bucket)["Contents"] if key in each["Key"]]
    head = s3.head_object(Bucket=bucket, Key=stored["Key"], ChecksumMode="ENABLED")
    assert head["ServerSideEncryption"] == "aws:kms"
    assert head["Metadata"]["sha256"] == _sha256(examples.CDA)
    assert s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]["ObjectLockEnabled"] == "Enabled"


def _sha256(data: bytes) -> str:
    import base64

    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def test_65_21_an_identifier_is_used_once(exchange: Exchange, key: str, published: dict[str, Any]) -> None:
    again = exchange.client("hospital-a").post("", examples.submission(f"Patient/{key}", content=b"<other/>"))
    assert (again.status, again.json["issue"][0]["code"]) == (409, "duplicate")


def test_dmp_7_no_document_without_an_open_record(exchange: Exchange) -> None:
    local, person = examples.patient(11)
    del person["extension"]
    person["identifier"] = person["identifier"][1:]
    hospital = exchange.client("hospital-a")
    key = hospital.put(f"Patient?identifier={examples.DOMAIN}|{local}", person).json["id"]
    refused = hospital.post("", examples.submission(f"Patient/{key}", unique="urn:oid:2.999.1.77.2"))
    assert (refused.status, refused.json["issue"][0]["code"]) == (422, "business-rule")
    assert hospital.get(f"DocumentReference?patient={key}").json["total"] == 0


SUBMISSION_FAULTS: dict[str, tuple[list[Any], Any, str]] = {
    "65-2-no-submission-set": (["entry", 0, "resource", "code", "coding", 0, "code"], "folder", "invariant"),
    "65-3-mode": (["entry", 0, "resource", "mode"], "snapshot", "value"),
    "65-3-source-id": (["entry", 0, "resource", "extension"], None, "required"),
    "65-4-master-identifier": (["entry", 1, "resource", "masterIdentifier"], None, "required"),
    "65-4-status": (["entry", 1, "resource", "status"], "entered-in-error", "value"),
    "65-4-doc-status": (["entry", 1, "resource", "docStatus"], "final", "invariant"),
    "65-5-type": (["entry", 1, "resource", "type"], None, "required"),
    "65-5-security-label": (["entry", 1, "resource", "securityLabel"], None, "required"),
    "65-5-creation": (["entry", 1, "resource", "content", 0, "attachment", "creation"], None, "required"),
    "65-5-facility": (["entry", 1, "resource", "context", "facilityType"], None, "required"),
    "65-6-author": (["entry", 1, "resource", "author", 0, "reference"], "Practitioner/1", "invariant"),
    "65-7-content": (["entry", 1, "resource", "content", 0, "attachment", "url"], "urn:uuid:b", "not-found"),
    "65-10-subject": (["entry", 1, "resource", "subject", "reference"], "Patient/" + "0" * 16, "not-found"),
}


@pytest.mark.parametrize("case", SUBMISSION_FAULTS)
def test_submissions_that_break_a_rule(exchange: Exchange, key: str, case: str) -> None:
    path, value, code = SUBMISSION_FAULTS[case]
    bundle = examples.submission(f"Patient/{key}", unique="urn:oid:2.999.1.77.3")
    holder: Any = bundle
    for step in path[:-1]:
        holder = holder[step]
    if value is None:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    refused = exchange.client("hospital-a").post("", bundle)
    assert 400 <= refused.status < 500
    assert code in [issue["code"] for issue in refused.json["issue"]], refused.body
    assert b"77.3" not in b"".join(repr(item).encode() for item in exchange.table("clinical"))


def test_a_transaction_creates_a_person_and_the_record(exchange: Exchange) -> None:
    """As a laboratory does: everything by urn:uuid, the person among it, more than one DynamoDB transaction."""
    person = {
        "resourceType": "Patient",
        "identifier": [{"system": "urn:oid:2.999.4", "value": "L-77"}],
        "name": [{"family": "Essai", "given": ["Ève"]}],
        "birthDate": "1990-05-05",
    }
    who = "urn:uuid:00000000-0000-4000-8000-000000000000"
    entries = [{"fullUrl": who, "resource": person, "request": {"method": "POST", "url": "Patient"}}]
    for n in range(60):
        content = examples.observation("x", subject={"reference": who}, effectiveDateTime=f"2026-01-01T00:{n:02d}:00Z")
        entries.append({"resource": content, "request": {"method": "POST", "url": "Observation"}})
    laboratory, practice = exchange.client("laboratory"), exchange.client("practice")
    answer = laboratory.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status == 200, answer.body
    key = answer.json["entry"][0]["response"]["location"].split("/")[1]
    found = practice.get(f"Observation?patient={key}&_count=3&_total=accurate")
    assert found.json["total"] == 60
    assert found.json["entry"][0]["resource"]["subject"] == {"reference": f"Patient/{key}"}
    assert [entry["resource"]["id"] for entry in practice.get("Patient?birthdate=1990-05-05").json["entry"]] == [key]


def test_round_trips_before_the_answer(exchange: Exchange, practice: Client, key: str) -> None:
    """The ceilings of the design, audit included; the authorizer's own look-up is counted apart."""
    created = practice.post("Observation", examples.observation(key))
    place = f"Observation/{created.json['id']}"
    changed = examples.observation(key, id=created.json["id"], status="amended")
    hospital = exchange.client("hospital-a")
    authorizer = 1
    for ceiling, attempt in (
        (2, lambda: practice.get(place)),
        (2, lambda: practice.get(f"Patient/{key}")),
        (2, lambda: practice.get(f"{place}/_history/1")),
        (3, lambda: practice.get(f"Observation?patient={key}&_count=2")),
        (2, lambda: practice.post("Observation", examples.observation(key))),
        (2, lambda: practice.put(place, changed)),
        (3, lambda: hospital.post("", examples.submission(f"Patient/{key}", unique="urn:oid:2.999.1.77.4"))),
    ):
        with measure() as spent:
            assert attempt().status in (200, 201)
        assert 0 < spent.round_trips - authorizer <= ceiling, spent.calls


def test_balp_10_an_audit_outage_is_an_outage(exchange: Exchange, practice: Client, key: str) -> None:
    """Law 5: no health data leaves, and nothing is stored, while accesses cannot be recorded."""
    place = f"Observation/{practice.post('Observation', examples.observation(key)).json['id']}"
    audit_table = exchange.stack.environment["AUDIT_TABLE"].encode()

    def unreachable(params: dict[str, Any], **_: Any) -> None:
        body = params["body"]
        if audit_table in (body if isinstance(body, bytes) else str(body).encode()):
            raise EndpointConnectionError(endpoint_url="https://audit")

    events = wiring.aws("dynamodb").meta.events
    total = practice.get(f"Observation?patient={key}").json["total"]
    events.register("before-call.dynamodb.*", unreachable)
    try:
        for answer in (
            practice.get(place),
            practice.get(f"Observation?patient={key}"),
            practice.get("Observation/" + "0" * 43),
            practice.post("Observation", examples.observation(key)),
            practice.request("DELETE", place),
        ):
            assert (answer.status, answer.json["issue"][0]["code"]) == (503, "transient")
            assert key not in answer.body.decode()
    finally:
        events.unregister("before-call.dynamodb.*", unreachable)
    assert practice.get(f"Observation?patient={key}").json["total"] == total


def test_a_submission_may_name_its_patient_in_two_ways(exchange: Exchange) -> None:
    """By two source records of one person: it is still about one patient."""
    at_a = register(exchange.client("hospital-a"), 16).json["id"]
    at_b = register(exchange.client("hospital-b"), 16, domain="urn:oid:2.999.2").json["id"]
    bundle = examples.submission(f"Patient/{at_a}", unique="urn:oid:2.999.1.77.6")
    bundle["entry"][1]["resource"]["subject"] = {"reference": f"Patient/{at_b}"}
    assert exchange.client("hospital-a").post("", bundle).status == 200
    stranger = register(exchange.client("hospital-a"), 17).json["id"]
    bundle = examples.submission(f"Patient/{at_a}", unique="urn:oid:2.999.1.77.7")
    bundle["entry"][1]["resource"]["subject"] = {"reference": f"Patient/{stranger}"}
    refused = exchange.client("hospital-a").post("", bundle)
    assert (refused.status, refused.json["issue"][0]["code"]) == (422, "business-rule")
