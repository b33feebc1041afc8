"""Uploads: a large content goes to storage in parts, and is that of a document if it is what was announced."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import requests

from local.gateway import Response
from passerelle import wiring
from passerelle.documents import uploads
from tests import contents
from tests.exchange import URL, Client, Exchange
from tests.functions.test_patients import register

MIB = 1024 * 1024
DATA = contents.pdf(17 * MIB)
SMALL = contents.pdf(200_000)
BASE = f"{URL}/fhir/"


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


@pytest.fixture(scope="module")
def key(exchange: Exchange) -> str:
    return str(register(exchange.client("hospital-a"), 1).json["id"])


@pytest.fixture(autouse=True)
def no_open_tickets(exchange: Exchange) -> None:
    """Each test begins with all its tickets to open."""
    dynamodb, table = exchange.stack.client("dynamodb"), exchange.stack.environment["OPERATIONS_TABLE"]
    for item in _tickets(exchange):
        dynamodb.delete_item(TableName=table, Key={"PK": item["PK"], "SK": item["SK"]})


def announcement(data: bytes, content_type: str = "application/pdf", **changed: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "contentType": {"valueCode": content_type},
        "size": {"valueInteger": len(data)},
        "sha256": {"valueBase64Binary": contents.sha256(data)},
        "hash": {"valueBase64Binary": contents.sha1(data)},
    } | changed
    return {
        "resourceType": "Parameters",
        "parameter": [{"name": name, **value} for name, value in given.items() if value is not None],
    }


class Ticket:
    """What an answer says of an upload."""

    def __init__(self, answer: Response) -> None:
        assert answer.status in (200, 201), answer.body
        parameters = answer.json["parameter"]
        single = {each["name"]: each for each in parameters if each["name"] != "part"}
        self.id = single["id"]["valueId"]
        self.url = single["url"]["valueUrl"]
        self.state = single["state"]["valueCode"]
        self.expires = single["expires"]["valueInstant"]
        self.sha1 = single.get("hash", {}).get("valueBase64Binary")
        self.sha256 = single.get("sha256", {}).get("valueBase64Binary")
        parts = [{each["name"]: each for each in part["part"]} for part in parameters if part["name"] == "part"]
        self.sizes = {part["number"]["valuePositiveInt"]: part["size"]["valueInteger"] for part in parts}
        self.urls = {part["number"]["valuePositiveInt"]: part["url"]["valueUrl"] for part in parts}


def opened(
    client: Client, data: bytes, content_type: str = "application/pdf", *, key: str = "", **changed: Any
) -> Ticket:
    headers = {"Idempotency_Key": key} if key else {}
    return Ticket(client.post("Binary/$upload", announcement(data, content_type, **changed), **headers))


def send(ticket: Ticket, data: bytes, *numbers: int) -> None:
    """The parts of an upload, all of them unless some are named, to where the ticket says."""
    size = ticket.sizes[1] if 1 in ticket.sizes else max(ticket.sizes.values())
    for number in numbers or ticket.urls:
        part = data[(number - 1) * size : number * size]
        answer = requests.put(ticket.urls[number], data=part, timeout=5)
        assert answer.status_code == 200, answer.text


def complete(client: Client, ticket: Ticket) -> Response:
    return client.post(f"Binary/{ticket.id}/$complete", b"")


def uploaded(client: Client, data: bytes, content_type: str = "application/pdf") -> Ticket:
    ticket = opened(client, data, content_type)
    send(ticket, data)
    return Ticket(complete(client, ticket))


def objects(exchange: Exchange, variable: str = "UPLOADS_BUCKET") -> list[str]:
    listed = exchange.stack.client("s3").list_objects_v2(Bucket=exchange.stack.environment[variable])
    return [each["Key"] for each in listed.get("Contents", [])]


# --- the way of an upload -----------------------------------------------------------------------------------------


def test_a_large_content_becomes_that_of_a_document(exchange: Exchange, hospital: Client, key: str) -> None:
    answer = hospital.post("Binary/$upload", announcement(DATA))
    ticket = Ticket(answer)
    assert (answer.status, answer.header("Location"), ticket.state) == (201, ticket.url, "open")
    assert ticket.url == f"{BASE}Binary/{ticket.id}"
    assert ticket.sizes == {1: 8 * MIB, 2: 8 * MIB, 3: MIB}
    send(ticket, DATA)
    assert hospital.get(f"Binary/{ticket.id}").status == 404, "it is nothing yet"
    verified = Ticket(complete(hospital, ticket))
    assert (verified.state, verified.sha256, verified.sha1) == ("verified", contents.sha256(DATA), contents.sha1(DATA))
    assert Ticket(complete(hospital, ticket)).state == "verified"
    assert hospital.get(f"Binary/{ticket.id}").status == 404, "nor now"
    bundle = contents.uploaded_submission(key, ticket.url, DATA, "application/pdf")
    place = contents.place_of(contents.publish(hospital, bundle))
    attachment = hospital.get(place.replace("Binary", "DocumentReference")).json["content"][0]["attachment"]
    assert attachment["url"] == BASE + place
    answer = hospital.get(place)
    assert answer.status == 307
    found = requests.get(str(answer.header("Location")), timeout=5)
    assert (found.content, found.headers["Content-Type"]) == (DATA, "application/pdf")
    assert hospital.get(f"Binary/{ticket.id}").status == 404, "the upload is no content of its own"


def test_one_upload_is_one_document(hospital: Client, key: str) -> None:
    ticket = uploaded(hospital, SMALL)
    bundle = contents.uploaded_submission(key, ticket.url, SMALL, "application/pdf", unique="urn:uuid:one")
    first = contents.publish(hospital, bundle)
    other = contents.uploaded_submission(key, ticket.url, SMALL, "application/pdf")
    refused = hospital.post("", other)
    assert (refused.status, refused.json["issue"][0]["code"]) == (409, "conflict")
    assert hospital.get(contents.place_of(first), Accept="*/*").body == SMALL
    again = contents.publish(hospital, bundle)
    assert contents.place_of(again) == contents.place_of(first), "the same submission again (P20)"
    complete_again = complete(hospital, ticket)
    assert Ticket(complete_again).state == "used"


def test_two_documents_of_a_submission_have_two_contents(hospital: Client, key: str) -> None:
    ticket = uploaded(hospital, SMALL)
    bundle = contents.uploaded_submission(key, ticket.url, SMALL, "application/pdf")
    twin = contents.uploaded_submission(key, ticket.url, SMALL, "application/pdf")["entry"][1]
    twin["fullUrl"] = "urn:uuid:aaaaaaaa-0000-4000-8000-000000000009"
    bundle["entry"].append(twin)
    bundle["entry"][0]["resource"]["entry"].append({"item": {"reference": twin["fullUrl"]}})
    assert hospital.post("", bundle).status == 422


@pytest.mark.parametrize("form", ["{base}Binary/{id}", "Binary/{id}"])
def test_the_url_may_be_relative(hospital: Client, key: str, form: str) -> None:
    ticket = uploaded(hospital, SMALL)
    url = form.format(base=BASE, id=ticket.id)
    answer = contents.publish(hospital, contents.uploaded_submission(key, url, SMALL, "application/pdf"))
    assert hospital.get(contents.place_of(answer), Accept="*/*").body == SMALL


@pytest.mark.parametrize(
    ("changed", "path"),
    [({"size": 5}, "size"), ({"hash": contents.sha1(b"other")}, "hash"), ({"contentType": "image/png"}, "contentType")],
)
def test_metadata_agree_with_the_upload(hospital: Client, key: str, changed: dict[str, Any], path: str) -> None:
    ticket = uploaded(hospital, SMALL)
    bundle = contents.uploaded_submission(key, ticket.url, SMALL, "application/pdf")
    bundle["entry"][1]["resource"]["content"][0]["attachment"] |= changed
    issue = hospital.post("", bundle).json["issue"][0]
    assert (issue["code"], issue["expression"]) == (
        "value",
        [f"Bundle.entry[1].resource.content[0].attachment.{path}"],
    )
    right = contents.uploaded_submission(key, ticket.url, SMALL, "application/pdf")
    assert hospital.post("", right).status == 200, "a refusal does not use the upload up"


def test_a_document_by_itself_names_its_upload(hospital: Client, key: str) -> None:
    """105-1 with a content that was uploaded; 105-3: what the metadata do not say is computed."""
    ticket = uploaded(hospital, SMALL)
    document = {
        "resourceType": "DocumentReference",
        "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{uuid.uuid4()}"},
        "status": "current",
        "subject": {"reference": f"Patient/{key}"},
        "content": [{"attachment": {"contentType": "application/pdf", "url": ticket.url}}],
    }
    answer = hospital.post("DocumentReference", document)
    assert answer.status == 201, answer.body
    attachment = answer.json["content"][0]["attachment"]
    assert (attachment["size"], attachment["hash"]) == (len(SMALL), contents.sha1(SMALL))
    assert hospital.get(attachment["url"].removeprefix(BASE), Accept="*/*").body == SMALL
    assert hospital.post("DocumentReference", document).json["id"] == answer.json["id"], "again, it is the first"
    elsewhere = {**document, "content": [{"attachment": {"contentType": "application/pdf", "url": "http://x/y.pdf"}}]}
    assert hospital.post("DocumentReference", elsewhere).status == 422


# --- parts --------------------------------------------------------------------------------------------------------


def test_new_urls_are_for_the_parts_that_are_missing(hospital: Client) -> None:
    ticket = opened(hospital, DATA)
    send(ticket, DATA, 2)
    refused = complete(hospital, ticket)
    assert (refused.status, refused.json["issue"][0]["code"]) == (409, "incomplete")
    rest = Ticket(hospital.post(f"Binary/{ticket.id}/$upload-parts", b""))
    assert rest.sizes == {1: 8 * MIB, 3: MIB}
    send(rest, DATA)
    assert Ticket(complete(hospital, ticket)).state == "verified"
    assert hospital.post(f"Binary/{ticket.id}/$upload-parts", b"").status == 409


def test_a_url_takes_its_part_and_nothing_else(hospital: Client) -> None:
    """The length is signed: storage takes no other (moto does not look at signatures)."""
    ticket = opened(hospital, DATA)
    for url in ticket.urls.values():
        assert "content-length%3Bhost" in url
        assert "X-Amz-Expires=900" in url


@pytest.mark.parametrize(("size", "part", "count"), [(200 * MIB, 8 * MIB, 25), (1024 * MIB, 32 * MIB, 32)])
def test_a_content_has_some_dozens_of_parts(hospital: Client, size: int, part: int, count: int) -> None:
    ticket = opened(hospital, SMALL, size={"valueInteger": size})
    assert (len(ticket.sizes), ticket.sizes[1], sum(ticket.sizes.values())) == (count, part, size)


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "status", "code", "expression"),
    [
        ({"contentType": None}, 400, "required", "Parameters"),
        ({"size": None}, 400, "required", "Parameters"),
        ({"size": {"valueInteger": True}}, 400, "value", "Parameters.parameter[1]"),
        ({"size": {"valueInteger": 0}}, 422, "value", "Parameters.size"),
        ({"size": {"valueInteger": 2**30 + 1}}, 413, "too-long", "Parameters.size"),
        ({"sha256": None, "hash": None}, 422, "required", "Parameters"),
        ({"sha256": {"valueBase64Binary": "AAAA"}}, 422, "value", "Parameters.sha256"),
        ({"hash": {"valueBase64Binary": "é"}}, 422, "value", "Parameters.hash"),
        ({"contentType": {"valueCode": "text/html"}}, 422, "value", "Parameters.contentType"),
        ({"other": {"valueString": "x"}}, 400, "value", "Parameters.parameter[4]"),
        (
            {"contentType": {"valueCode": "application/xml"}, "size": {"valueInteger": 33 * MIB}},
            413,
            "too-long",
            "Parameters.size",
        ),
    ],
)
def test_an_announcement_that_cannot_be(
    exchange: Exchange, hospital: Client, changed: dict[str, Any], status: int, code: str, expression: str
) -> None:
    answer = hospital.post("Binary/$upload", announcement(SMALL, **changed))
    issue = answer.json["issue"][0]
    assert (answer.status, issue["code"], issue.get("expression")) == (status, code, [expression])
    assert not _tickets(exchange)


@pytest.mark.parametrize(
    ("announced", "sent", "element"),
    [
        ({"sha256": {"valueBase64Binary": contents.sha256(b"other")}}, SMALL, "sha256"),
        ({"sha256": None, "hash": {"valueBase64Binary": contents.sha1(b"other")}}, SMALL, "hash"),
        ({}, b"%!PS" + SMALL[4:], "sha256"),
    ],
)
def test_what_is_not_as_announced_is_gone(
    exchange: Exchange, hospital: Client, key: str, announced: dict[str, Any], sent: bytes, element: str
) -> None:
    ticket = opened(hospital, SMALL, **announced)
    send(ticket, sent)
    for _ in range(2):
        answer = complete(hospital, ticket)
        issue = answer.json["issue"][0]
        assert (answer.status, issue["code"], issue["expression"]) == (422, "value", [f"Parameters.{element}"])
        assert f"uploads/{ticket.id}" not in objects(exchange)
    refused = hospital.post("", contents.uploaded_submission(key, ticket.url, SMALL, "application/pdf"))
    assert (refused.status, refused.json["issue"][0]["code"]) == (422, "not-found")


def test_the_type_is_told_from_the_bytes(exchange: Exchange, hospital: Client) -> None:
    program = b"MZ\x90\x00" + bytes(300_000)
    ticket = opened(hospital, program)
    send(ticket, program)
    answer = complete(hospital, ticket)
    assert (answer.status, answer.json["issue"][0]["expression"]) == (422, ["Parameters.contentType"])
    assert f"uploads/{ticket.id}" not in objects(exchange)


def test_an_upload_is_of_its_client(exchange: Exchange, hospital: Client, key: str) -> None:
    """67-5, 65-7: for anybody else it is not there."""
    ticket = uploaded(hospital, SMALL)
    for other in (exchange.client("hospital-b"), exchange.client("practice")):
        answers = [
            other.post(f"Binary/{id}/{operation}", b"")
            for operation in ("$complete", "$upload-parts")
            for id in (ticket.id, "0" * 26)
        ]
        assert [answer.status for answer in answers] == [404] * 4
        assert len({answer.body for answer in answers}) == 1
        bundle = contents.uploaded_submission(key, ticket.url, SMALL, "application/pdf")
        unknown = contents.uploaded_submission(key, f"{BASE}Binary/{'0' * 26}", SMALL, "application/pdf")
        refusals = [other.post("", each) for each in (bundle, unknown)]
        assert [answer.status for answer in refusals] == [422, 422]
        assert refusals[0].body == refusals[1].body
        assert refusals[0].json["issue"][0]["code"] == "not-found"
    assert Ticket(complete(hospital, ticket)).state == "verified"


def test_what_is_not_verified_is_no_content(hospital: Client, key: str) -> None:
    ticket = opened(hospital, SMALL)
    send(ticket, SMALL)
    refused = hospital.post("", contents.uploaded_submission(key, ticket.url, SMALL, "application/pdf"))
    assert (refused.status, refused.json["issue"][0]["code"]) == (422, "not-found")


def test_who_may_not_publish_may_not_upload(exchange: Exchange) -> None:
    reader = exchange.client("practice", "ITI-68")
    assert reader.post("Binary/$upload", announcement(SMALL)).status == 403
    for scope in ("ITI-65", "system/Binary.c"):
        assert exchange.client("practice", scope).post("Binary/$upload", announcement(SMALL)).status == 201, scope


def test_a_client_has_so_many_open(hospital: Client, key: str) -> None:
    used = uploaded(hospital, SMALL)
    contents.publish(hospital, contents.uploaded_submission(key, used.url, SMALL, "application/pdf"))
    for _ in range(uploads.MAX_OPEN):
        opened(hospital, SMALL)
    refused = hospital.post("Binary/$upload", announcement(SMALL))
    assert (refused.status, refused.json["issue"][0]["code"]) == (429, "throttled")


def test_a_ticket_ends(exchange: Exchange, hospital: Client, key: str) -> None:
    """After a day it is gone, although the table may keep its item for some time; storage drops the bytes."""
    ticket = uploaded(hospital, SMALL)
    for _ in range(uploads.MAX_OPEN - 1):
        opened(hospital, SMALL)
    dynamodb, table = exchange.stack.client("dynamodb"), exchange.stack.environment["OPERATIONS_TABLE"]
    for item in _tickets(exchange):
        dynamodb.put_item(TableName=table, Item={**item, "ttl": {"N": "1"}})
    assert complete(hospital, ticket).status == 404
    assert hospital.post(f"Binary/{ticket.id}/$upload-parts", b"").status == 404
    refused = hospital.post("", contents.uploaded_submission(key, ticket.url, SMALL, "application/pdf"))
    assert (refused.status, refused.json["issue"][0]["code"]) == (422, "not-found")
    assert opened(hospital, SMALL).state == "open", "nor does it count"


def _tickets(exchange: Exchange) -> list[dict[str, Any]]:
    return [item for item in exchange.table("operations") if item["PK"]["S"].startswith("U#")]


# --- again --------------------------------------------------------------------------------------------------------


def test_the_same_announcement_again_is_the_same_ticket(exchange: Exchange, hospital: Client) -> None:
    command = str(uuid.uuid4())
    first, second = (
        Ticket(hospital.post("Binary/$upload", announcement(SMALL), Idempotency_Key=command)) for _ in range(2)
    )
    assert (first.id, first.expires) == (second.id, second.expires)
    assert len(_tickets(exchange)) == 1


# --- memory -------------------------------------------------------------------------------------------------------


def test_a_large_content_is_never_in_memory(
    exchange: Exchange, hospital: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its size, some ranges of it are (`make bench` has 200 MB and a process of its own)."""
    data = contents.pdf(40 * MIB)
    ticket = opened(hospital, data)
    send(ticket, data)
    held: list[int] = []
    space = type(wiring.upload_service()._space)
    read = space.read

    def counted(self: Any, *arguments: Any) -> bytes:
        part: bytes = read(self, *arguments)
        held.append(len(part))
        return part

    monkeypatch.setattr(space, "read", counted)
    assert complete(hospital, ticket).status == 200
    assert max(held) <= 8 * MIB
    assert sum(held) == len(data)
