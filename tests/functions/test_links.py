"""Temporary links: made, listed, revoked by those inside; opened by somebody outside, who has nothing but the link."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from local import samples
from local.gateway import Response
from local.region import INS_TEST, PARTICIPANTS, ins_of
from passerelle import wiring
from passerelle.consents.model import RecordStatus
from passerelle.consents.visibility import label_system
from passerelle.documents.links import Link, LinkCreation, Terms, digest_of
from passerelle.identifiers import new_ulid
from passerelle.patients.model import PersonChange
from tests import examples, record
from tests.exchange import URL, Client, Exchange
from tests.functions.test_patients import register
from tests.people import decided

CONTENT = samples.CDA
_numbers = count(1)


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a", "ITI-65 system/*.rs")


@pytest.fixture(scope="module")
def practice(exchange: Exchange) -> Client:
    return exchange.client("practice")


@pytest.fixture(scope="module")
def myself(exchange: Exchange) -> Client:
    return exchange.client("patient-1")


@pytest.fixture(scope="module")
def key(exchange: Exchange) -> str:
    return str(register(exchange.client("hospital-a"), 1).json["id"])


@pytest.fixture
def document(hospital: Client, key: str) -> str:
    """The id of a document of patient 1."""
    return publish(hospital, key)


def publish(hospital: Client, key: str, content: bytes = CONTENT, *labels: str) -> str:
    unique = f"urn:oid:2.999.1.88.{next(_numbers)}"
    bundle = samples.submission(f"Patient/{key}", content=content, unique=unique)
    (sent,) = (each["resource"] for each in bundle["entry"] if each["resource"]["resourceType"] == "DocumentReference")
    sent["securityLabel"] += [{"coding": [{"system": label_system(), "code": label}]} for label in labels]
    answer = hospital.post("", bundle)
    assert answer.status == 200, answer.body
    places = [each["response"]["location"] for each in answer.json["entry"]]
    (place,) = (place for place in places if "DocumentReference/" in place)
    return str(place.partition("DocumentReference/")[2].partition("/")[0])


def terms(purpose: str = "TREAT", **more: Any) -> dict[str, Any]:
    return samples.parameters(purpose__valueCode=purpose, **more)


def share(client: Client, document: str, **more: Any) -> dict[str, Any]:
    answer = client.post(f"DocumentReference/{document}/$share", terms(**more))
    assert answer.status == 201, answer.body
    return values(answer.json["parameter"])


def values(parameters: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        each["name"]: next(value for name, value in each.items() if name.startswith("value")) for each in parameters
    }


def listed(client: Client, document: str) -> list[dict[str, Any]]:
    answer = client.get(f"DocumentReference/{document}/$links")
    assert answer.status == 200, answer.body
    return [values(each["part"]) for each in answer.json.get("parameter", [])]


def visit(exchange: Exchange, url: str, method: str = "POST") -> Response:
    return exchange.gateway.request(method, url.removeprefix(URL))


def refusal(exchange: Exchange) -> bytes:
    """What a link shows that never was."""
    answer = visit(exchange, f"{URL}/links/{'x' * 43}")
    assert answer.status == 404
    return answer.body


def test_a_third_party_reads_the_document_once(exchange: Exchange, practice: Client, document: str) -> None:
    """BALP-9: who (link and issuer), when, which patient, what (with its SHA-256), why."""
    link = share(practice, document)
    assert re.fullmatch(rf"{URL}/links/[A-Za-z0-9_-]{{43}}", link["url"])
    opened = visit(exchange, link["url"])
    assert (opened.status, opened.body, opened.header("Content-Type")) == (200, CONTENT, "application/xml")
    assert str(opened.header("Content-Disposition")).startswith('attachment; filename="document')
    assert opened.header("Cache-Control") == "no-store"
    assert visit(exchange, link["url"]).body == refusal(exchange)
    (seen,) = listed(practice, document)
    assert (seen["opened"], seen["active"], seen["uses"]) == (1, False, 1)
    assert seen["lastOpened"]


def test_each_opening_is_in_the_patients_access_log(
    exchange: Exchange, practice: Client, myself: Client, key: str, document: str
) -> None:
    """BALP-9, DMP-31: every access, by whom, when, why."""
    link = share(practice, document, purpose="COVERAGE")
    visit(exchange, link["url"])
    visit(exchange, link["url"])
    found = exchange.client("patient-1", "system/AuditEvent.rs").get(
        f"AuditEvent?patient=Patient/{key}&date=ge2026-01-01"
    )
    events = [
        each["resource"]
        for each in found.json["entry"]
        if any(agent.get("policy") == [link["id"]] for agent in each["resource"]["agent"])
    ]
    refused, disclosed = events
    assert [event["outcome"] for event in events] == ["4", "0"]
    for event in events:
        assert event["purposeOfEvent"][0]["coding"][0]["code"] == "COVERAGE"
        (who,) = (agent for agent in event["agent"] if "policy" in agent)
        assert who["who"]["identifier"]["value"] == "practice"
        assert event["agent"][0]["who"] == {"display": "third-party"}
        assert event["subtype"][0]["code"] == "disclose"
    entities = {each["what"].get("reference"): each for each in disclosed["entity"]}
    (detail,) = entities[f"Binary/{document}"]["detail"]
    digest = exchange.client("practice", "ITI-68").get(f"Binary/{document}", Accept="*/*").header("Repr-Digest")
    assert digest == f"sha-256=:{detail['valueBase64Binary']}:"
    assert refused["outcomeDesc"] == "not-found"


def test_what_opens_links_by_itself_uses_nothing_up(exchange: Exchange, practice: Client, document: str) -> None:
    link = share(practice, document)
    pages = {visit(exchange, link["url"], "GET").body for _ in range(3)}
    assert len(pages) == 1
    assert listed(practice, document)[0]["opened"] == 0
    assert visit(exchange, link["url"]).status == 200
    assert visit(exchange, link["url"], "GET").body == refusal(exchange)


def test_the_page_is_for_people_and_tells_nothing(
    exchange: Exchange, practice: Client, document: str, key: str
) -> None:
    link = share(practice, document, recipient__valueString="Dr Weiß, Straßburg", reason__valueString="second avis")
    page = visit(exchange, link["url"], "GET")
    text = page.body.decode()
    assert page.header("Content-Type") == "text/html; charset=utf-8"
    assert '<html lang="fr">' in text
    assert text.count("<h1>") == text.count("<main>") == 1
    assert re.search(r'<form method="post"><button type="submit">[^<]+</button></form>', text)
    assert not re.search(r"<script|<img|<link|href=|src=|\son\w+=", text)
    for told in (document, key, link["id"], ins_of(1), "Weiß", "avis", "DUPONT"):
        assert told not in text
    policy = str(page.header("Content-Security-Policy"))
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "form-action 'self' http" in policy  # and where large contents are
    assert "unsafe" not in policy
    assert page.header("Referrer-Policy") == "no-referrer"
    assert page.header("X-Robots-Tag") == "noindex, nofollow"


def test_as_often_as_it_may_be_opened(exchange: Exchange, practice: Client, document: str) -> None:
    link = share(practice, document, uses__valuePositiveInt=3)
    assert [visit(exchange, link["url"]).status for _ in range(5)] == [200, 200, 200, 404, 404]
    assert listed(practice, document)[0]["opened"] == 3


def later(monkeypatch: pytest.MonkeyPatch, **by: int) -> None:
    """The function that opens links lives so much later."""
    wired = wiring.links()
    monkeypatch.setattr(wiring, "links", lambda: replace(wired, now=lambda: datetime.now(UTC) + timedelta(**by)))
    from functions.links.handler import handler

    monkeypatch.setattr(handler, "_provide", wiring.links)


def test_it_ends_by_itself(
    exchange: Exchange, practice: Client, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = share(practice, document)
    later(monkeypatch, hours=25)
    assert visit(exchange, link["url"]).body == visit(exchange, link["url"], "GET").body == refusal(exchange)


def test_issuer_and_patient_can_end_it(
    exchange: Exchange, practice: Client, hospital: Client, myself: Client, document: str
) -> None:
    for client in (practice, myself):
        link = share(practice, document)
        named = samples.parameters(id__valueId=link["id"])
        place = f"DocumentReference/{document}/$revoke"
        assert hospital.post(place, named).status == 404  # neither made it, nor is it about it
        first, again = client.post(place, named), client.post(place, named)
        assert (first.status, again.status) == (200, 200)
        assert values(first.json["parameter"])["revoked"] == values(again.json["parameter"])["revoked"]
        assert visit(exchange, link["url"]).body == refusal(exchange)


def test_who_sees_which_links(exchange: Exchange, practice: Client, hospital: Client, myself: Client, key: str) -> None:
    document = publish(hospital, key)
    by_practice, by_hospital = share(practice, document), share(hospital, document)
    by_patient = share(myself, document, purpose="PATRQT", recipient__valueString="Dr Ferry")
    assert [each["id"] for each in listed(practice, document)] == [by_practice["id"]]
    assert [each["id"] for each in listed(hospital, document)] == [by_hospital["id"]]
    everything = listed(myself, document)
    assert {each["id"] for each in everything} == {by_practice["id"], by_hospital["id"], by_patient["id"]}
    assert next(each for each in everything if each["id"] == by_patient["id"])["recipient"] == "Dr Ferry"


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, 400),
        ({"purpose__valueCode": "HMARKT"}, 422),
        ({"purpose__valueCode": "TREAT", "uses__valuePositiveInt": 21}, 422),
        ({"purpose__valueCode": "TREAT", "uses__valuePositiveInt": 0}, 422),
        ({"purpose__valueCode": "TREAT", "uses__valueString": "3"}, 400),
        ({"purpose__valueCode": "TREAT", "expires__valueInstant": "2020-01-01T00:00:00Z"}, 422),
        ({"purpose__valueCode": "TREAT", "expires__valueInstant": "2999-01-01T00:00:00Z"}, 422),
        ({"purpose__valueCode": "TREAT", "expires__valueInstant": "tomorrow"}, 400),
        ({"purpose__valueCode": "TREAT", "recipient__valueString": "x" * 201}, 422),
        ({"purpose__valueCode": "TREAT", "forever__valueBoolean": True}, 400),
    ],
)
def test_terms_that_are_not_offered(practice: Client, document: str, given: dict[str, Any], status: int) -> None:
    answer = practice.post(f"DocumentReference/{document}/$share", samples.parameters(**given))
    assert answer.status == status
    assert listed(practice, document) == []


def test_who_may_not_share(exchange: Exchange, document: str) -> None:
    place = f"DocumentReference/{document}/$share"
    assert exchange.client("auditor").post(place, terms()).status == 403
    assert exchange.client("practice", "system/Observation.rs").post(place, terms()).status == 403
    no_contents = exchange.client("practice", "system/DocumentReference.rs")
    assert no_contents.post(place, terms()).status == 403
    unknown = f"{document[:-1]}{'0' if document[-1] != '0' else '1'}"
    assert exchange.client("practice").post(f"DocumentReference/{unknown}/$share", terms()).status == 404


def test_the_same_request_again_gives_the_same_link(exchange: Exchange, practice: Client, document: str) -> None:
    """Law 6; and the token is in no table for that."""
    first, again = (
        practice.post(f"DocumentReference/{document}/$share", terms(), Idempotency_Key=f"share-{document}")
        for _ in range(2)
    )
    assert (first.status, again.json) == (201, first.json)
    assert len(listed(practice, document)) == 1
    token = values(first.json["parameter"])["url"].rpartition("/")[2]
    for table in ("clinical", "operations", "audit"):
        assert token not in str(exchange.table(table))


def test_words_are_not_kept_in_clear(exchange: Exchange, practice: Client, document: str) -> None:
    share(practice, document, recipient__valueString="Dr Unverkennbar", reason__valueString="Zweitmeinung")
    for table in ("clinical", "operations", "audit"):
        assert "Unverkennbar" not in str(exchange.table(table))
        assert "Zweitmeinung" not in str(exchange.table(table))


def test_a_link_shows_no_more_than_its_issuer_sees(exchange: Exchange, practice: Client, document: str) -> None:
    """The registration of the issuer counts at the moment of the opening."""
    link = share(practice, document, uses__valuePositiveInt=5)
    known = wiring.clients().find("practice")
    assert known is not None
    try:
        wiring.clients().register(replace(known, active=False))
        assert visit(exchange, link["url"]).body == refusal(exchange)
        wiring.clients().register(replace(known, scopes=type(known.scopes).parse("system/Observation.rs")))
        assert visit(exchange, link["url"]).body == refusal(exchange)
        wiring.clients().register(replace(known, organisation="1990000999", domain=None))
        assert visit(exchange, link["url"]).body == refusal(exchange)
    finally:
        wiring.clients().register(known)
    assert visit(exchange, link["url"]).status == 200


def test_a_closed_record_opens_for_no_link(exchange: Exchange, practice: Client, document: str, key: str) -> None:
    link = share(practice, document)
    person = wiring.patient_index().find_person(key)
    assert person is not None
    closed = decided(person, RecordStatus.CLOSED)
    record.commit(PersonChange(before=person, after=closed))
    assert visit(exchange, link["url"]).body == refusal(exchange)
    record.commit(PersonChange(before=closed, after=decided(closed, RecordStatus.OPEN)))
    assert visit(exchange, link["url"]).status == 200


def test_what_is_masked_from_third_parties_opens_for_none(
    exchange: Exchange, practice: Client, hospital: Client, key: str
) -> None:
    """Neither a link asked for, nor one that was made before the mask (label MASQUE_PT)."""
    masked = publish(hospital, key, CONTENT, "MASQUE_PT")
    assert practice.get(f"DocumentReference/{masked}").status == 200
    assert practice.post(f"DocumentReference/{masked}/$share", terms()).status == 422
    at = datetime.now(UTC)
    token = "T" * 43
    before = Link(
        id=new_ulid(at),
        digest=digest_of(token),
        document=masked,
        patient=key,
        client_id="practice",
        organisation=next(each.organisation for each in PARTICIPANTS if each.id == "practice"),
        terms=Terms(purpose="TREAT", expires_at=at + timedelta(hours=1)),
        issued_at=at,
    )
    record.commit(LinkCreation(link=before))
    assert visit(exchange, f"{URL}/links/{token}").body == refusal(exchange)


def test_what_is_masked_from_the_issuer_opens_no_more(
    exchange: Exchange, practice: Client, myself: Client, hospital: Client, key: str
) -> None:
    """Of a document that professionals do not see, the patient may still make a link."""
    masked = publish(hospital, key, CONTENT, "MASQUE_PS")
    assert practice.post(f"DocumentReference/{masked}/$share", terms()).status == 404
    link = share(myself, masked, purpose="PATRQT")
    assert visit(exchange, link["url"]).status == 200


@pytest.mark.parametrize("token", ["", "x", "x" * 42, "x" * 43, "x" * 44, "..%2Fx", "%00" * 43])
def test_every_refusal_is_the_same_page(exchange: Exchange, token: str) -> None:
    answers = [visit(exchange, f"{URL}/links/{token}", method) for method in ("GET", "POST")]
    if token:
        assert {(each.status, each.body) for each in answers} == {(404, refusal(exchange))}
    else:
        assert {each.status for each in answers} == {404}


def test_a_failure_uses_nothing_up(
    exchange: Exchange, practice: Client, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = share(practice, document)
    s3 = wiring.aws("s3")
    with monkeypatch.context() as patch:
        patch.setattr(s3, "get_object", lambda **_: 1 / 0)
        failed = visit(exchange, link["url"])
    assert failed.status == 503
    assert "n’a pas été utilisé" in failed.body.decode()
    assert visit(exchange, link["url"]).status == 200


def test_no_log_has_a_link(
    exchange: Exchange, practice: Client, document: str, caplog: pytest.LogCaptureFixture
) -> None:
    link = share(practice, document)
    visit(exchange, link["url"], "GET")
    visit(exchange, link["url"])
    visit(exchange, link["url"])
    logged = "".join(json.dumps(each.__dict__, default=str) for each in caplog.records)
    assert "POST /links/{token}" in logged
    assert link["url"].rpartition("/")[2] not in logged
    assert INS_TEST not in logged
    assert examples.ins(1) not in logged
