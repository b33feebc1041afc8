"""What somebody with a valid token tries against shared documents: each attack fails, and leaves nothing behind."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
import requests

from local.gateway import Response
from passerelle.consents.visibility import label_system
from tests import contents, examples, submitting
from tests.documents import (
    AUTHOR,
    JSON_PATCH,
    OTHER,
    changed,
    document,
    fhirpath,
    joined,
    label,
    labels,
    named,
    operation,
    patch,
    place,
    published,
    refusal,
    relabel,
    unique,
)
from tests.exchange import Client, Exchange
from tests.functions.test_patients import register
from tests.functions.test_uploads import complete, opened, send, uploaded
from tests.submitting import folder, posted, stored, submission, submit, with_entries

PERSON = "system/*.rs system/DocumentReference.u"


@pytest.fixture(scope="module")
def author(exchange: Exchange) -> Client:
    return exchange.client(AUTHOR)


@pytest.fixture(scope="module")
def other(exchange: Exchange) -> Client:
    """A professional of another organisation."""
    return exchange.client(OTHER)


@pytest.fixture(scope="module")
def key(exchange: Exchange) -> str:
    return str(register(exchange.client(AUTHOR), 1).json["id"])


@pytest.fixture(scope="module")
def foreign(author: Client) -> dict[str, Any]:
    """A document of another person."""
    return published(author, str(register(author, 2).json["id"]))


@pytest.fixture(scope="module")
def patient(exchange: Exchange) -> Client:
    return joined(exchange, "patient", PERSON, patient=examples.ins(1))


@pytest.fixture(scope="module")
def shown(author: Client, key: str) -> dict[str, Any]:
    return published(author, key)


@pytest.fixture(scope="module")
def hidden(author: Client, key: str) -> dict[str, Any]:
    """A document that `other` does not see."""
    return published(author, key, "N", "MASQUE_PS")


def unknown_like(id: str) -> str:
    return f"{id[:-1]}{'0' if id[-1] != '0' else '1'}"


def untold(answer: Response) -> tuple[int, bytes]:
    return answer.status, answer.body


def transaction(*entries: Mapping[str, Any], kind: str = "transaction") -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def binary_of(change: Any) -> dict[str, Any]:
    """A JSON Patch as an entry sends it."""
    data = base64.b64encode(json.dumps(change).encode()).decode()
    return {"resourceType": "Binary", "contentType": JSON_PATCH, "data": data}


# --- masks by position ------------------------------------------------------------------------------------------------

N = label("N")
BLIND_PATCHES: tuple[Any, ...] = (
    *([operation(op, f"/securityLabel/{at}", N)] for op in ("add", "replace") for at in (0, 1, 2, "-")),
    *([operation("remove", f"/securityLabel/{at}")] for at in (0, 1, 2, 3, "-", "00", "-1", "1e0", "٠", "0/")),
    [operation("remove", "/securityLabel")],
    [operation("replace", "/securityLabel", [])],
    [operation("replace", "/securityLabel", [N])],
    [operation("add", "/securityLabel", [N, label("MASQUE_PS")])],
    [operation("replace", "/securityLabel/1/coding", [])],
    [operation("remove", "/securityLabel/1/coding/0")],
    [operation("replace", "/securityLabel/1/coding/0/code", "N")],
    [operation("move", "/securityLabel/0", **{"from": "/securityLabel/1"})],
    [operation("copy", "/securityLabel/1", **{"from": "/securityLabel/0"})],
    [operation("move", "/description", **{"from": "/securityLabel"})],
    [*relabel("N"), *relabel("N", path="/securityLabel/1")],
    [*relabel("MASQUE_PT"), *relabel("N"), *relabel("N", path="/securityLabel/1")],
    [operation("test", "/securityLabel/1/coding/0/code", "MASQUE_PS"), operation("remove", "/securityLabel/2")],
    [operation("test", "/securityLabel/1", label("MASQUE_PS")), operation("replace", "/securityLabel", [N])],
    [operation("test", "/status", "current"), *relabel("N")],
    fhirpath("delete", "DocumentReference.securityLabel"),
    fhirpath("delete", "DocumentReference.securityLabel[1]"),
    fhirpath("delete", "DocumentReference.securityLabel.last()"),
    fhirpath("delete", "DocumentReference.securityLabel.coding.where(code='INVISIBLE_PATIENT')"),
    fhirpath("delete", f"DocumentReference.securityLabel.where(coding.system='{label_system()}')"),
    fhirpath("replace", "DocumentReference.securityLabel[2]", value={"valueCodeableConcept": N}),
    fhirpath("replace", "DocumentReference.securityLabel", value={"valueCodeableConcept": N}),
    fhirpath("replace", "DocumentReference.securityLabel[1].coding[0].code", value={"valueCode": "N"}),
    fhirpath("add", "DocumentReference", name={"valueString": "securityLabel"}, value={"valueCodeableConcept": N}),
    fhirpath(
        "move", "DocumentReference.securityLabel", source={"valueInteger": 1}, destination={"valueInteger": 0}
    ),
)  # fmt: skip


@pytest.mark.parametrize("way", ["id", "identifier", "batch", "transaction"])
def test_no_label_is_lifted_that_is_not_named(author: Client, key: str, patient: Client, way: str) -> None:
    """DMP-20, PDSM-11, PDSM-12, D6: whichever the patch, and however it comes."""
    start = ("N", "MASQUE_PS", "INVISIBLE_PATIENT")
    made = published(author, key, *start)
    for change in BLIND_PATCHES:
        if way in ("id", "identifier"):
            answer = patch(author, made if way == "id" else named(made), change)
            refused = answer.status
        else:
            resource = binary_of(change) if isinstance(change, list) else change
            entry = {"resource": resource, "request": {"method": "PATCH", "url": place(made)}}
            answer = author.post("", transaction(entry, kind=way))
            refused = answer.status if way == "transaction" else int(answer.json["entry"][0]["response"]["status"][:3])
        after = author.get(place(made)).json
        assert labels(after) == [*start], change
        assert refused in (200, 405, 422), (refused, change)
        assert after == made or refused == 200
    assert patient.get(place(made)).status == 404


def test_two_labels_in_one_concept_are_named_one_by_one(author: Client, key: str) -> None:
    both = {"coding": [*label("MASQUE_PS")["coding"], *label("INVISIBLE_PATIENT")["coding"]]}
    made = published(author, key, securityLabel=[both])
    tested = [operation("test", "/securityLabel/0/coding/0/code", "MASQUE_PS"), operation("remove", "/securityLabel/0")]
    filtered = fhirpath("delete", "DocumentReference.securityLabel.where(coding.code='MASQUE_PS')")
    for change in (tested, relabel("N")):
        assert refusal(patch(author, made, change)) == (422, "business-rule")
    assert changed(author, made, filtered) == made  # of two codes, none is the one that is asked for


def test_whoever_does_not_see_it_patches_nothing_by_any_way(other: Client, hidden: dict[str, Any]) -> None:
    """PDSM-5, DMP-21: in a batch and in a transaction, too, as if it had never been."""
    unknown = {**hidden, "id": unknown_like(hidden["id"]), "masterIdentifier": {"system": "urn:x", "value": unique()}}
    change = fhirpath("replace", "DocumentReference.status", value={"valueCode": "superseded"})
    for kind in ("batch", "transaction"):
        for where in (place, named):
            answers = [
                untold(
                    other.post(
                        "", transaction({"resource": change, "request": {"method": "PATCH", "url": url}}, kind=kind)
                    )
                )
                for url in (where(hidden), where(unknown))
            ]
            assert answers[0] == answers[1]


# --- folders and SubmissionSets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["PUT", "conditional PUT", "PATCH", "DELETE", "conditional DELETE", "another code"])
@pytest.mark.parametrize("within", ["alone", "batch", "transaction"])
def test_65_15_nobody_empties_a_folder(other: Client, key: str, shown: dict[str, Any], way: str, within: str) -> None:
    """65-15: not by the plain interactions of R4 either."""
    made = other.post("List", folder(f"Patient/{key}", place(shown))).json
    identifier = made["identifier"][0]
    where = f"List?patient={key}&identifier={identifier['system']}|{identifier['value']}"
    less = {name: value for name, value in made.items() if name != "entry"}
    no_folder = {**made, "code": {"text": "x"}}
    method, url, body = {
        "PUT": ("PUT", f"List/{made['id']}", less),
        "conditional PUT": ("PUT", where, less),
        "PATCH": ("PATCH", f"List/{made['id']}", binary_of([operation("remove", "/entry/0")])),
        "DELETE": ("DELETE", f"List/{made['id']}", None),
        "conditional DELETE": ("DELETE", where, None),
        "another code": ("PUT", f"List/{made['id']}", no_folder),
    }[way]
    entry = {"request": {"method": method, "url": url}, **({"resource": body} if body else {})}
    if within != "alone":
        answer = other.post("", transaction(entry, kind=within))
        outcome = answer.json if within == "transaction" else answer.json["entry"][0]["response"]["outcome"]
    elif method == "PATCH":
        outcome = other.request(
            "PATCH", url, base64.b64decode(str(body and body["data"])), Content_Type=JSON_PATCH
        ).json
    else:
        outcome = other.request(method, url, body).json
    assert (outcome["resourceType"], outcome["issue"][0]["code"]) == ("OperationOutcome", "business-rule")
    assert other.get(f"List/{made['id']}").json == made


def test_a_submission_set_stays_what_it_was(author: Client, key: str) -> None:
    answered = submit(author, submission(f"Patient/{key}"))
    place_of_set = submitting.place(answered[0])
    made = author.get(place_of_set).json
    assert refusal(author.request("DELETE", place_of_set)) == (422, "business-rule")
    assert refusal(author.put(place_of_set, {**made, "entry": [{"item": {"display": "x"}}]})) == (422, "business-rule")
    assert author.get(place_of_set).json == made


# --- to name what one does not see ------------------------------------------------------------------------------------

SAYS = ("List", "folder of a submission", "PUT", "PATCH", "DocumentReference", "Observation", "content")


def speaking(client: Client, subject: str, way: str, id: str, made: Mapping[str, Any]) -> Response:
    """Write something that speaks of a document; `made` is a List that is there."""
    reference = f"DocumentReference/{id}"
    key = subject.partition("/")[2]
    match way:
        case "List":
            return client.post("List", folder(subject, reference))
        case "folder of a submission":
            return client.post("", with_entries(submission(subject), posted(folder(subject, reference))))
        case "PUT":
            entries = [*made["entry"], {"item": {"reference": reference}}]
            return client.put(f"List/{made['id']}", {**made, "entry": entries})
        case "PATCH":
            change = [operation("add", "/entry/-", {"item": {"reference": reference}})]
            return client.request("PATCH", f"List/{made['id']}", change, Content_Type=JSON_PATCH)
        case "DocumentReference":
            related = {"related": [{"reference": reference}]}
            return client.post("DocumentReference", document(subject, context=related))
        case "Observation":
            return client.post("Observation", examples.observation(key, derivedFrom=[{"reference": reference}]))
        case _:
            report = {
                "resourceType": "DiagnosticReport",
                "status": "final",
                "code": {"text": "x"},
                "subject": {"reference": subject},
                "presentedForm": [{"url": f"Binary/{id}"}],
            }
            return client.post("DiagnosticReport", report)


@pytest.mark.parametrize("way", SAYS)
def test_what_speaks_of_a_hidden_document_is_refused_like_what_speaks_of_none(
    other: Client, author: Client, key: str, hidden: dict[str, Any], shown: dict[str, Any], foreign: dict[str, Any],
    way: str,
) -> None:  # fmt: skip
    """GEN-11: what was written would be hidden from its own author, who would know why."""
    subject = f"Patient/{key}"
    made = author.post("List", folder(subject, place(shown))).json
    before = stored(other)
    answers = [
        speaking(other, subject, way, id, made)
        for id in (unknown_like(hidden["id"]), hidden["id"], foreign["id"])
    ]  # fmt: skip
    assert answers[0].status == 422
    assert [each["code"] for each in answers[0].json["issue"]] == ["not-found"]
    assert {untold(each) for each in answers} == {untold(answers[0])}
    assert stored(other) == before
    assert speaking(other, subject, way, shown["id"], made).status in (200, 201)
    assert speaking(author, subject, way, hidden["id"], made).status in (200, 201, 412)  # who sees it may


def test_a_condition_finds_nothing_hidden(other: Client, key: str, hidden: dict[str, Any]) -> None:
    """GEN-11: If-None-Exist, conditional references, and conditional updates, by what only the hidden one has."""
    master = hidden["masterIdentifier"]
    queries = [f"DocumentReference?identifier={master['system']}|{each}" for each in (master["value"], unique())]
    made = [
        other.post("", transaction(posted(examples.observation(key, derivedFrom=[{"reference": each}]))))
        for each in queries
    ]
    assert untold(made[0]) == untold(made[1])
    assert made[0].status == 422
    for at in (f"item=DocumentReference/{hidden['id']}", f"item=DocumentReference/{unknown_like(hidden['id'])}"):
        assert other.request("DELETE", f"List?patient={key}&{at}").status == 404


# --- contents that lead elsewhere -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/x",
        "file:///etc/passwd",
        "data:text/html,x",
        "javascript:alert(1)",
        "https://b.s3.eu-west-3.amazonaws.com/documents/a?X-Amz-Signature=x",
        "http://127.0.0.1:8000/fhir/Binary/{foreign}",
        "Binary/{foreign}",
        "Binary/{hidden}",
        "Binary/01kjmbqgbrw96bcfb6xqfzgsaj",
    ],
)
def test_a_content_is_in_the_exchange_or_there_is_no_document(
    other: Client, key: str, foreign: dict[str, Any], hidden: dict[str, Any], url: str
) -> None:
    """65-7, 67-5: readers follow attachment.url as it stands, so it is never what a client wrote."""
    url = url.format(foreign=foreign["id"], hidden=hidden["id"])
    bundle = submission(f"Patient/{key}")
    reference = bundle["entry"][1]
    attachment = reference["resource"]["content"][0]["attachment"]
    attachment["url"] = url
    before = stored(other)
    for entries in (bundle["entry"][:2], bundle["entry"]):
        assert refusal(other.post("", {**bundle, "entry": entries})) == (422, "not-found")
    assert refusal(other.post("", transaction(reference))) == (422, "not-found")
    alone = {name: value for name, value in attachment.items() if name in ("contentType", "url")}
    refused = other.post("DocumentReference", document(f"Patient/{key}", content=[{"attachment": alone}]))
    assert refused.status == 422
    assert stored(other) == before


def test_a_content_is_that_of_one_document(author: Client, key: str, foreign: dict[str, Any]) -> None:
    """Else the URL of a masked document would be that of another, of another person even."""
    bundle = submission(f"Patient/{key}")
    reference, binary = bundle["entry"][1:]
    second = json.loads(json.dumps(reference)) | {"fullUrl": submitting.urn(99)}
    second["resource"] |= {"masterIdentifier": {"system": "urn:x", "value": unique()}, "subject": foreign["subject"]}
    before = stored(author)
    assert refusal(author.post("", transaction(reference, second, binary))) == (422, "invariant")
    ticket = uploaded(author, contents.pdf(1000))
    for each in (reference, second):
        each["resource"]["content"][0]["attachment"] = {"contentType": "application/pdf", "url": ticket.url}
    assert refusal(author.post("", transaction(reference, second))) == (422, "invariant")
    assert stored(author) == before


def test_a_content_that_was_verified_stays_what_it_was(author: Client, key: str) -> None:
    """The URLs of the parts end with the upload: nothing is put in the place of what was verified."""
    data = contents.pdf(1000)
    ticket = opened(author, data)
    send(ticket, data)
    assert complete(author, ticket).status == 200
    with suppress(KeyError):  # the emulator's own, of an upload that it knows no more: S3 answers 404
        assert requests.put(ticket.urls[1], data=contents.pdf(1000, seed=2), timeout=5).status_code >= 400
    bundle = contents.uploaded_submission(key, ticket.url, data, "application/pdf")
    found = author.get(contents.place_of(contents.publish(author, bundle)), Accept="*/*")
    assert found.body == data


def test_an_announced_content_is_at_the_exchange(other: Client, key: str) -> None:
    """65-8: size 0 announces a content; where it will be is not for the client to say."""
    bundle = submission(f"Patient/{key}")
    attachment = bundle["entry"][1]["resource"]["content"][0]["attachment"]
    attachment |= {"url": "javascript:alert(1)", "size": 0, "hash": "2jmj7l5rSw0yVb/vlWAYkK/YBwk="}
    answered = submit(other, {**bundle, "entry": bundle["entry"][:2]})
    made = other.get(submitting.place(answered[1])).json
    assert made["content"][0]["attachment"]["url"].endswith(f"/fhir/Binary/{made['id']}")


# --- what a reader's software would run or misread --------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [
        "application/xml;\nX-Evil: 1",
        "application/xml;\r\nSet-Cookie: a=b",
        "application/xml\tx",
        "application/xml; é",
        "application/xml;x=\u2028",
        f"application/xml; {'x' * 5000}",
        "text/html",
        "image/svg+xml",
        "application/xhtml+xml",
        "application/javascript",
    ],
)
def test_no_header_and_no_page_is_made_of_a_content_type(other: Client, key: str, content_type: str) -> None:
    made = document(f"Patient/{key}")
    made["content"][0]["attachment"]["contentType"] = content_type
    before = stored(other)
    assert other.post("DocumentReference", made).status in (400, 422)
    announced = {"resourceType": "Parameters", "parameter": [
        {"name": "contentType", "valueCode": content_type},
        {"name": "size", "valueInteger": 3},
        {"name": "hash", "valueBase64Binary": contents.sha1(b"abc")},
    ]}  # fmt: skip
    assert other.post("Binary/$upload", announced).status in (400, 422)
    assert stored(other) == before


def test_a_binary_of_the_record_is_a_file_and_runs_nothing(other: Client, key: str) -> None:
    whom = {"securityContext": {"reference": f"Patient/{key}"}}
    data = base64.b64encode(b"<script>alert(1)</script>").decode()
    page = {"resourceType": "Binary", "contentType": "text/html", "data": data, **whom}
    found = other.get(f"Binary/{other.post('Binary', page).json['id']}", Accept="*/*")
    assert (found.status, found.header("Content-Disposition")) == (200, "attachment")
    assert found.header("X-Content-Type-Options") == "nosniff"
    assert str(found.header("Content-Security-Policy")).startswith("sandbox")
    strange = other.post("Binary", {**page, "contentType": "text/plain; é"})
    assert other.get(f"Binary/{strange.json['id']}", Accept="*/*").status == 406  # no header can say it
    assert other.post("Binary", {**page, "contentType": "text/html;\nX-Evil: 1"}).status == 400


@pytest.mark.parametrize("data", ["é", "PGEvPg", "=", "AAAA====", " " * 1000, "PGE\nvPg==", "PGEvPg==\u0000"])
def test_what_is_no_base64(other: Client, key: str, data: str) -> None:
    made = document(f"Patient/{key}")
    made["content"][0]["attachment"]["data"] = data
    assert other.post("DocumentReference", made).status in (400, 422)


def test_base64_in_lines_is_base64(other: Client, key: str) -> None:
    """R4: white space stands between groups of four."""
    made = document(f"Patient/{key}")
    text = made["content"][0]["attachment"]["data"]
    made["content"][0]["attachment"]["data"] = f"{text[:76]}\r\n{text[76:]}\n"
    answer = other.post("DocumentReference", made)
    assert answer.status == 201, answer.body
    assert other.get(f"Binary/{answer.json['id']}", Accept="*/*").body == examples.CDA


@pytest.mark.parametrize("kind", ["batch", "transaction"])
@pytest.mark.parametrize("data", ["é", "=", 7, None, "e30="])
def test_a_patch_that_is_none(other: Client, shown: dict[str, Any], kind: str, data: Any) -> None:
    resource = {"resourceType": "Binary", "contentType": JSON_PATCH, "data": data}
    entry = {"resource": resource, "request": {"method": "PATCH", "url": place(shown)}}
    answer = other.post("", transaction(entry, kind=kind))
    status = answer.status if kind == "transaction" else int(answer.json["entry"][0]["response"]["status"][:3])
    assert status in (400, 422), answer.body


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-0,1-1,2-2" + ",3-3" * 500,
        "bytes=99999999999999999999999-",
        "bytes=0-99999999999999999999999",
        "bytes=-99999999999999999999999",
        "bytes=--1",
        "bytes=0x1-2",
        "bytes=٠-٩",
        "bytes=0-0\n",
    ],
)
def test_ranges_that_make_trouble_are_none(other: Client, shown: dict[str, Any], asked: str) -> None:
    found = other.get(f"Binary/{shown['id']}", Accept="*/*", Range=asked)
    assert (found.status, found.body) in ((200, examples.CDA), (206, examples.CDA[:1]))


# --- more than fits ---------------------------------------------------------------------------------------------------


def test_a_thousand_entries_are_answered_in_time(other: Client, key: str) -> None:
    bundle = submission(f"Patient/{key}")
    reference, binary = bundle["entry"][1:]
    crowd = [*bundle["entry"], *([reference, binary] * 499)]
    before, began = stored(other), time.process_time()
    for entries in (crowd[:999], [*crowd, reference, reference]):
        assert other.post("", {**bundle, "entry": entries}).status in (400, 413, 422)
    assert stored(other) == before
    assert time.process_time() - began < 20


def test_depth_is_refused(other: Client, key: str) -> None:
    extension: dict[str, Any] = {"url": "urn:x", "valueCode": "a"}
    for _ in range(150):
        extension = {"url": "urn:x", "extension": [extension]}
    assert refusal(other.post("DocumentReference", document(f"Patient/{key}", extension=[extension])))[0] == 400


# --- rights that a document says of itself ----------------------------------------------------------------------------


def test_what_a_document_says_of_its_author_gives_no_right(author: Client, other: Client, key: str) -> None:
    """PDSM-9, DMP-24: the author is who published it, whatever custodian, author, id and meta say."""
    organisation = {"identifier": {"system": "urn:oid:1.2.250.1.71.4.2.2", "value": "1990000011"}}
    claimed = document(
        f"Patient/{key}",
        id="chosen",
        meta={"versionId": "7", "security": [label("MASQUE_PS")["coding"][0]], "source": "urn:x"},
        custodian=organisation,
        author=[organisation],
        extension=[{"url": "urn:producer", "valueString": "1990000011"}],
    )
    made = other.post("DocumentReference", claimed).json
    assert made["id"] != "chosen"
    assert made["meta"]["versionId"] == "1"
    withdraw = [operation("replace", "/status", "entered-in-error")]
    assert refusal(patch(author, made, withdraw)) == (403, "forbidden")
    assert author.get(place(made)).status == 200  # a code in meta is no label of visibility
    assert refusal(author.post("", submitting.replacement(f"Patient/{key}", made["id"]))) == (403, "forbidden")
    assert changed(other, made, withdraw)["status"] == "entered-in-error"


# --- what is told beside the record -----------------------------------------------------------------------------------


def log_of(client: Client, key: str) -> list[dict[str, Any]]:
    found = client.get(f"AuditEvent?patient=Patient/{key}&date=ge2026-01-01&_count=200")
    assert found.status == 200, found.body
    return [each["resource"] for each in found.json.get("entry", [])]


def test_the_access_log_tells_the_patient_nothing_before_the_announcement(
    exchange: Exchange, author: Client, other: Client
) -> None:
    """DMP-22, DMP-31, D1: whoever reads of accesses to an invisible document knows that there is one."""
    key = str(register(author, 3).json["id"])
    patient = joined(exchange, "patient", "system/*.rs", patient=examples.ins(3))
    before = [each["id"] for each in log_of(patient, key)]
    answered = submit(author, submission(f"Patient/{key}", securityLabel=[label("INVISIBLE_PATIENT")]))
    id = submitting.place(answered[1]).partition("/")[2]
    derived = author.post(
        "Observation", examples.observation(key, derivedFrom=[{"reference": f"DocumentReference/{id}"}])
    )
    for path in (f"DocumentReference/{id}", f"Binary/{id}", f"Observation/{derived.json['id']}"):
        assert other.get(path, Accept="*/*" if path.startswith("Binary") else "application/fhir+json").status == 200
    assert other.get(f"DocumentReference?patient={key}&status=current").json["total"] == 1
    own, all_of_it = log_of(patient, key), log_of(exchange.client("auditor"), key)
    new = [each for each in own if each["id"] not in before]
    told = [each["subtype"][0]["code"] for each in new if each["agent"][0]["who"]["identifier"]["value"] == OTHER]
    assert told == ["AuthZ-Consent", "search-type"]
    set_id = submitting.place(answered[0]).partition("/")[2]
    for hidden in (id, derived.json["id"], set_id):
        assert hidden not in json.dumps(own)
        assert hidden in json.dumps(all_of_it)
    reads = [each for each in all_of_it if each["subtype"][0]["code"] == "read"]
    (untold_of, *_) = [each["id"] for each in reads if id in json.dumps(each)]
    assert patient.get(f"AuditEvent/{untold_of}").status == 404
    changed(other, f"DocumentReference/{id}", relabel("N"))
    assert id in json.dumps(log_of(patient, key))
    assert patient.get(f"AuditEvent/{untold_of}").status == 200


def test_no_log_no_url_and_no_refusal_has_what_was_sent(
    author: Client, other: Client, key: str, hidden: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of a person in logs and error texts: identifiers, names, titles, ids."""
    secret = {"description": "Zorglub", "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": "urn:zorglub:7"}}
    with caplog.at_level(logging.DEBUG):
        caplog.clear()
        made = author.post("DocumentReference", document(f"Patient/{key}", **secret)).json
        answers = [
            other.get(f"Binary/{made['id']}", Accept="*/*"),
            other.get(f"DocumentReference?patient.identifier={examples.ins(1)}&identifier=|urn:zorglub:7&_count=x"),
            author.post("DocumentReference", document(f"Patient/{key}", **secret)),
            patch(other, "DocumentReference?identifier=|urn:zorglub:7&description=Zorglub", relabel("N")),
            patch(other, made, [operation("replace", "/description", "Zorglub")]),
            patch(other, hidden, [operation("test", "/description", "Zorglub")]),
            other.post("DocumentReference", document(f"Patient/{key}", status="Zorglub", description="Zorglub")),
            other.post("", submission(f"Patient/{key}", description="Zorglub", type={"text": 7})),
        ]
        logged = "".join(
            json.dumps(vars(each), default=str) for each in caplog.records if each.name.startswith("passerelle")
        )
    assert "answered" in logged
    for each in ("orglub", key, made["id"], hidden["id"], examples.ins(1).partition("|")[2]):
        assert each not in logged
        for answer in answers:
            if answer.status >= 400:
                assert each.encode() not in answer.body, answer.body
