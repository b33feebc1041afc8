"""Publishing one document over HTTP: ITI-105 with PDSm flux 09 and TD2, ITI-106."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from local.gateway import Response
from passerelle.fhir import xml as fhir_xml
from passerelle.fhir.validation import validate
from tests import examples
from tests.documents import AUTHOR, OTHER, URI, document, joined, place, published, refusal, unique
from tests.exchange import Client, Exchange
from tests.functions.test_patients import register
from tests.functions.test_transactions import stored

PDSM = f"{examples.PDSM}/pdsm-simplified-publish"
REPORT = b"compte rendu"
TEXT = {"contentType": "text/plain", "data": base64.b64encode(REPORT).decode()}


@pytest.fixture(scope="module")
def key(exchange: Exchange) -> str:
    return str(register(exchange.client(AUTHOR), 1).json["id"])


@pytest.fixture(scope="module")
def author(exchange: Exchange) -> Client:
    return exchange.client(AUTHOR)


def sha1(data: bytes) -> str:
    return base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()


def post(client: Client, resource: dict[str, Any], form: str) -> tuple[Response, dict[str, Any]]:
    """The answer, and what it says, in one form or the other."""
    if form == "json":
        answer = client.post("DocumentReference", resource)
        return answer, answer.json
    headers = {"Content_Type": "application/fhir+xml", "Accept": "application/fhir+xml"}
    answer = client.post("DocumentReference", fhir_xml.dumps(resource), **headers)
    return answer, fhir_xml.loads(answer.body)


def sets(client: Client, key: str, item: str) -> list[dict[str, Any]]:
    """The SubmissionSets that a document is in, as ITI-66 finds them."""
    found = client.get(f"List?patient={key}&code=submissionset&status=current&item={item}")
    assert found.status == 200, found.body
    return [each["resource"] for each in found.json.get("entry", [])]


# --- ITI-105 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "xml"])
def test_105_1_published(author: Client, exchange: Exchange, key: str, form: str) -> None:
    """105-1, DMP-6: bytes become the content, a SubmissionSet is derived; found by ITI-66, 67 and 68."""
    answer, made = post(author, document(f"Patient/{key}", content=[{"attachment": TEXT}]), form)
    assert answer.status == 201, answer.body
    assert answer.header("Location") == f"http://127.0.0.1:8000/fhir/{place(made)}/_history/1"
    assert answer.header("ETag") == 'W/"1"'
    assert answer.header("Last-Modified")
    attachment = made["content"][0]["attachment"]
    assert attachment == {
        "contentType": "text/plain",
        "url": f"http://127.0.0.1:8000/fhir/Binary/{made['id']}",
        "size": len(REPORT),
        "hash": sha1(REPORT),
    }
    other = exchange.client(OTHER)
    assert other.get(place(made)).json == made
    assert other.get(f"Binary/{made['id']}").body == REPORT
    master = made["masterIdentifier"]
    found = other.get(f"DocumentReference?patient={key}&identifier={URI}|{master['value']}")
    assert [each["resource"] for each in found.json["entry"]] == [made]
    (submitted,) = sets(other, key, place(made))
    validate(submitted, expected_type="List")
    assert submitted["entry"] == [{"item": {"reference": place(made)}}]
    assert submitted["contained"][0]["identifier"][0]["value"] == "810000000011"
    (organisation,) = submitted["source"]["extension"]
    assert organisation["valueReference"]["identifier"]["value"] == "1990000011"


def test_105_1_its_submission_set_is_found_by_who_sent_it(author: Client, key: str) -> None:
    """105-1 with 66-2: by its source."""
    made = published(author, key, type={"coding": [{"system": "http://loinc.org", "code": "11488-4"}]})
    query = f"List?patient={key}&code=submissionset&item={place(made)}&sourceId=urn:ietf:rfc:3986|urn:oid:2.999.1"
    found = author.get(query)
    assert found.json["entry"][0]["resource"]["entry"][0]["item"]["reference"] == place(made)


@pytest.mark.parametrize(
    ("changed", "code", "expression"),
    [
        ({"masterIdentifier": None}, "required", "masterIdentifier"),
        ({"masterIdentifier": {"system": URI}}, "required", "masterIdentifier.value"),
        ({"subject": None}, "required", "subject"),
        ({"status": "superseded"}, "value", "status"),
        ({"status": "entered-in-error"}, "value", "status"),
        ({"docStatus": "final"}, "invariant", "docStatus"),
        ({"modifierExtension": [{"url": "urn:x", "valueCode": "a"}]}, "invariant", "modifierExtension"),
        ({"content": [{"attachment": {"data": TEXT["data"]}}]}, "invariant", "content[0].attachment"),  # att-1
        ({"content": [{"attachment": {"contentType": "text/plain"}}]}, "required", "content[0].attachment.data"),
        (
            {"content": [{"attachment": {**TEXT, "url": "http://x.example/1"}}]},
            "invariant",
            "content[0].attachment.url",
        ),
        ({"content": [{"attachment": TEXT}, {"attachment": TEXT}]}, "invariant", "content"),
        (
            {
                "identifier": [
                    {"type": {"coding": [{"code": "entryUUID"}]}, "system": URI, "value": "urn:uuid:0"},
                ]
            },
            "invariant",
            "identifier[0]",
        ),
        (
            {"identifier": [{"type": {"coding": [{"code": "uniqueId"}]}, "system": URI, "value": "urn:oid:2.999"}]},
            "invariant",
            "identifier[0]",
        ),
        ({"content": [{"attachment": {**TEXT, "hash": sha1(b"x")}}]}, "value", "content[0].attachment.hash"),
        ({"content": [{"attachment": {**TEXT, "size": 7}}]}, "value", "content[0].attachment.size"),
        (
            {"content": [{"attachment": {**TEXT, "size": 0, "hash": "2jmj7l5rSw0yVb/vlWAYkK/YBwk="}}]},
            "value",
            "content[0].attachment.size",
        ),
        ({"meta": {"profile": [PDSM]}, "author": [{"display": "a"}], "date": None}, "required", "date"),
        ({"meta": {"profile": [PDSM]}, "date": "2026-01-01T00:00:00Z"}, "required", "author"),
        ({"relatesTo": [{"code": "appends", "target": {"reference": "DocumentReference/x"}}]}, "not-found", None),
        ({"content": [{"attachment": {**TEXT, "contentType": "application/pdf"}}]}, "value", None),
    ],
)
def test_105_2_and_3_one_fault(author: Client, key: str, changed: Any, code: str, expression: str | None) -> None:
    """105-2, 105-3, PDSM-3: nothing is stored."""
    before = stored(author)
    answer = author.post("DocumentReference", document(f"Patient/{key}", **changed))
    issue = answer.json["issue"][0]
    assert (answer.status, issue["code"]) == (422, code), answer.body
    assert issue["expression"][0].startswith("DocumentReference")
    if expression is not None:
        assert issue["expression"] == [f"DocumentReference.{expression}"]
    assert stored(author) == before


def test_105_3_right_hash_and_size(author: Client, key: str) -> None:
    """105-3: as declared, or computed."""
    attachment = {**TEXT, "size": len(REPORT), "hash": sha1(REPORT)}
    made = published(author, key, content=[{"attachment": attachment}])
    assert (made["content"][0]["attachment"]["size"], made["content"][0]["attachment"]["hash"]) == (12, sha1(REPORT))


@pytest.mark.parametrize("how", ["identifier", "conditional"])
def test_105_4_subject(author: Client, key: str, how: str) -> None:
    """105-4"""
    system, _, value = examples.ins(1).partition("|")
    reference = f"Patient?identifier={system}|{value}"
    subject = {"reference": reference} if how == "conditional" else {"identifier": {"system": system, "value": value}}
    made = author.post("DocumentReference", document("", subject=subject))
    assert (made.status, made.json["subject"]["reference"]) == (201, f"Patient/{key}")


def test_pdsm_3_unknown_patient(author: Client) -> None:
    """PDSM-3"""
    for subject in ("Patient/zzzzzzzzzzzzzzzz", "Patient?identifier=urn:oid:2.999.1|none"):
        assert refusal(author.post("DocumentReference", document(subject))) == (404, "not-found")


def test_pdsm_3_invalid(author: Client, key: str) -> None:
    """PDSM-3, GEN-4: as for any resource."""
    assert author.post("DocumentReference", document(f"Patient/{key}", type="a")).status in (400, 422)
    assert author.post("DocumentReference", {"resourceType": "Patient"}).status == 400


def test_pdsm_3_without_custodian(author: Client, key: str) -> None:
    """PDSM-3, P4: accepted with a warning."""
    told = {
        "meta": {"profile": [PDSM]},
        "date": "2026-01-01T00:00:00Z",
        "author": [{"display": "a"}],
        "content": [{"attachment": {**TEXT, "title": "t"}}],
    }
    answer = author.post("DocumentReference", document(f"Patient/{key}", **told))
    assert answer.status == 201, answer.body
    assert "custodian" in str(answer.header("Warning"))


def test_105_5_replaces(author: Client, exchange: Exchange, key: str) -> None:
    """105-5, P1: the target is superseded in the same commit."""
    old = published(author, key)
    new = published(author, key, relatesTo=[{"code": "replaces", "target": {"reference": place(old)}}])
    assert new["relatesTo"][0]["target"]["reference"] == place(old)
    read = author.get(place(old)).json
    assert (read["status"], read["meta"]["versionId"]) == ("superseded", "2")
    third = document(f"Patient/{key}", relatesTo=[{"code": "replaces", "target": {"reference": place(old)}}])
    assert refusal(author.post("DocumentReference", third)) == (409, "conflict")
    by_identifier = {"identifier": new["masterIdentifier"]}
    published(author, key, relatesTo=[{"code": "replaces", "target": by_identifier}])
    assert author.get(place(new)).json["status"] == "superseded"


def test_105_5_replaces_what_is_not_there(author: Client, exchange: Exchange, key: str) -> None:
    hidden = published(author, key, "MASQUE_PS")
    other = exchange.client(OTHER)
    gone = f"{hidden['id'][:-1]}{'0' if hidden['id'][-1] != '0' else '1'}"
    answers = []
    for target in (place(hidden), f"DocumentReference/{gone}"):
        relation = [{"code": "replaces", "target": {"reference": target}}]
        answer = other.post("DocumentReference", document(f"Patient/{key}", relatesTo=relation))
        assert refusal(answer) == (422, "not-found")
        answers.append(answer.body)
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("replaces", "PartialReplaceContentNotProcessed"),
        ("transforms", "PartialTransformContentNotProcessed"),
        ("appends", "PartialAppendContentNotProcessed"),
    ],
)
def test_105_5_relations_off(author: Client, key: str, code: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """105-5: stored, with a warning in the text of 65-14; the other document stays as it is."""
    from passerelle import wiring
    from passerelle.documents.options import Options

    old = published(author, key)
    monkeypatch.setattr(wiring.transaction_service(), "_options", Options(relations=False))
    relation = [{"code": code, "target": {"reference": place(old)}}]
    answer = author.post("DocumentReference", document(f"Patient/{key}", relatesTo=relation))
    assert answer.status == 201, answer.body
    assert answer.header("Warning") == f'199 passerelle "{text}"'
    assert author.get(place(old)).json == old
    told = author.post(
        "DocumentReference", document(f"Patient/{key}", relatesTo=relation), Prefer="return=OperationOutcome"
    )
    assert (told.status, told.json["issue"][1]["diagnostics"]) == (201, text)


def test_the_same_again_is_the_first(author: Client, exchange: Exchange, key: str) -> None:
    """P20: other bytes, or another organisation, are a conflict."""
    sent = document(f"Patient/{key}")
    first = author.post("DocumentReference", sent)
    again = author.post("DocumentReference", sent)
    assert (first.status, again.status) == (201, 200)
    assert (again.json, again.header("Location")) == (first.json, first.header("Location"))
    assert len(sets(author, key, place(first.json))) == 1
    other_bytes = {**sent, "content": [{"attachment": TEXT}]}
    assert refusal(author.post("DocumentReference", other_bytes)) == (409, "duplicate")
    assert refusal(exchange.client(OTHER).post("DocumentReference", sent)) == (409, "duplicate")


@pytest.mark.parametrize("scope", ["ITI-105", "TD2", "system/DocumentReference.c", "ITI-65", "ITI-106", "TD2.1"])
def test_gen_14_scope(exchange: Exchange, key: str, scope: str) -> None:
    """GEN-14, DMP-6: the scope of the transaction is all that it takes."""
    client = joined(exchange, "hospital", scope, organisation="1990000011")
    answer = client.post("DocumentReference", document(f"Patient/{key}"))
    assert answer.status == (201 if scope in ("ITI-105", "TD2", "system/DocumentReference.c") else 403)


def test_dmp_6_the_published_example(author: Client, key: str, shared_data: Path) -> None:
    """DMP-6: as it is, but for whose it is: its NIR has a wrong key."""
    sent = json.loads(
        (shared_data / "dmp/DocumentReference-example-td2-iti105-publication-simplifiee.json").read_text()
    )
    sent["subject"]["reference"] = f"Patient?identifier={examples.ins(1)}"
    answer = author.post("DocumentReference", sent)
    assert answer.status == 201, answer.body
    assert answer.header("Location")
    assert author.get(f"Binary/{answer.json['id']}").body == examples.CDA


def test_it_is_recorded_and_announced_like_any_submission(author: Client, key: str) -> None:
    made = published(author, key)
    outbox = [item for item in author.exchange.table("clinical") if item["PK"]["S"].startswith("O#")]
    assert any(place(made) in json.dumps(item) for item in outbox)


# --- ITI-106 ----------------------------------------------------------------------------------------------------------


def cda(ins: str, *, id: str, without: str = "") -> bytes:
    """A small coded CDA of level 1."""
    root, _, value = ins.removeprefix("urn:oid:").partition("|")
    parts = {
        "id": f'<id root="{id}"/>',
        "code": '<code code="11488-4" codeSystem="2.16.840.1.113883.6.1" displayName="Consultation"/>',
        "title": "<title>Compte rendu</title>",
        "effectiveTime": '<effectiveTime value="20260612100000+0200"/>',
        "confidentialityCode": '<confidentialityCode code="N" codeSystem="2.16.840.1.113883.5.25"/>',
        "languageCode": '<languageCode code="fr-FR"/>',
        "recordTarget": f'<recordTarget><patientRole><id root="{root}" extension="{value}"/></patientRole>'
        "</recordTarget>",
        "author": '<author><time value="20260612"/><assignedAuthor><id root="1.2.250.1.71.4.2.1" '
        'extension="810000000011"/><assignedPerson><name><family>DUPONT</family></name></assignedPerson>'
        "</assignedAuthor></author>",
        "body": "<component><nonXMLBody><text>Bonjour</text></nonXMLBody></component>",
    }
    inner = "".join(text for name, text in parts.items() if name != without)
    return f'<?xml version="1.0"?><ClinicalDocument xmlns="urn:hl7-org:v3">{inner}</ClinicalDocument>'.encode()


def binary(data: bytes, content_type: str = "text/xml") -> dict[str, Any]:
    return {"resourceType": "Binary", "contentType": content_type, "data": base64.b64encode(data).decode()}


def fhir_document(ins: str) -> dict[str, Any]:
    system, _, value = ins.partition("|")
    patient = "urn:uuid:00000000-0000-4000-8000-0000000000aa"
    composition = {
        "resourceType": "Composition",
        "status": "final",
        "type": {"coding": [{"system": "http://loinc.org", "code": "60591-5"}]},
        "subject": {"reference": patient},
        "date": "2026-06-12T10:00:00+02:00",
        "author": [{"display": "a"}],
        "title": "Synthèse",
    }
    person = {"resourceType": "Patient", "identifier": [{"system": system, "value": value}]}
    return {
        "resourceType": "Bundle",
        "type": "document",
        "identifier": {"system": URI, "value": unique()},
        "timestamp": "2026-06-12T10:00:00+02:00",
        "entry": [
            {"fullUrl": "urn:uuid:00000000-0000-4000-8000-0000000000ab", "resource": composition},
            {"fullUrl": patient, "resource": person},
        ],
    }


def parameters(*resources: dict[str, Any], name: str = "document") -> dict[str, Any]:
    listed = [{"name": name, "resource": each} for each in resources]
    return {"resourceType": "Parameters", **({"parameter": listed} if listed else {})}


def generate(client: Client, body: dict[str, Any], form: str = "json") -> Response:
    if form == "json":
        return client.post("DocumentReference/$generate-metadata", body)
    return client.post(
        "DocumentReference/$generate-metadata", fhir_xml.dumps(body), Content_Type="application/fhir+xml"
    )


def generated(client: Client, answer: Response) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    (part,) = answer.json["parameter"]
    assert part["name"] == "DocumentReference"
    return dict(client.get(part["valueReference"]["reference"]).json)


@pytest.mark.parametrize("form", ["json", "xml"])
def test_106_1_a_cda(author: Client, key: str, form: str) -> None:
    """106-1, 106-2: original bytes and media type; the same again gives the same."""
    oid = unique()
    data = cda(examples.ins(1), id=oid.removeprefix("urn:oid:"))
    made = generated(author, generate(author, parameters(binary(data)), form))
    assert (made["masterIdentifier"]["value"], made["subject"]["reference"]) == (oid, f"Patient/{key}")
    assert made["type"]["coding"][0]["code"] == "11488-4"
    assert made["securityLabel"][0]["coding"][0]["code"] == "N"
    assert made["contained"][0]["name"][0]["family"] == "DUPONT"
    described = made["content"][0]["attachment"]
    assert (described["contentType"], described["title"], described["language"]) == (
        "text/xml",
        "Compte rendu",
        "fr-FR",
    )
    assert described["creation"] == "2026-06-12T10:00:00+02:00"
    assert author.get(f"Binary/{made['id']}", Accept="text/xml").body == data
    assert len(sets(author, key, place(made))) == 1
    assert generated(author, generate(author, parameters(binary(data)), form)) == made


@pytest.mark.parametrize("form", ["json", "xml"])
def test_106_1_a_fhir_document(author: Client, key: str, form: str) -> None:
    """106-1, 106-2"""
    bundle = fhir_document(examples.ins(1))
    made = generated(author, generate(author, parameters(bundle), form))
    assert made["masterIdentifier"] == bundle["identifier"]
    assert made["content"][0]["attachment"]["contentType"] == f"application/fhir+{form}"
    content = author.get(f"Binary/{made['id']}", Accept=f"application/fhir+{form}").body
    assert (json.loads(content) if form == "json" else fhir_xml.loads(content)) == bundle
    assert generated(author, generate(author, parameters(bundle), form)) == made


CDA = cda(examples.ins(1), id="2.999.1.1")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (parameters(), "structure"),
        (parameters(binary(CDA), binary(CDA)), "structure"),
        (parameters(binary(CDA), name="resource"), "structure"),
        ({"resourceType": "Parameters", "parameter": [{"name": "document", "valueString": "a"}]}, "structure"),
        (parameters({**fhir_document(examples.ins(1)), "type": "collection"}), "structure"),
        (parameters({"resourceType": "Patient"}), "structure"),
        (parameters(binary(b"%PDF-1.4\n%%EOF", "application/pdf")), "not-supported"),
        (parameters(binary(b"bonjour", "text/plain")), "not-supported"),
        (parameters(binary(cda(examples.ins(1), id="2.999.1.1", without="recordTarget"))), "required"),
        (parameters(binary(cda(examples.ins(1), id="2.999.1.1", without="code"))), "required"),
        (parameters(binary(cda(examples.ins(1), id="2.999.1.1", without="effectiveTime"))), "required"),
        (parameters(binary(cda(examples.ins(1), id="2.999.1.1", without="id"))), "required"),
        (parameters(binary(cda("urn:oid:2.999.9|1", id="2.999.1.1"))), "not-found"),
    ],
)
def test_106_3_refused(author: Client, key: str, body: dict[str, Any], code: str) -> None:
    """106-3: nothing is stored."""
    before = stored(author)
    answer = generate(author, body)
    assert answer.status == (404 if code == "not-found" else 422), answer.body
    assert answer.json["issue"][0]["code"] == code
    assert stored(author) == before


def test_106_a_replacement_supersedes(author: Client, key: str) -> None:
    """What the header says of an earlier document is done, where that exists."""
    oids = [unique().removeprefix("urn:oid:") for _ in range(2)]
    first = generated(author, generate(author, parameters(binary(cda(examples.ins(1), id=oids[0])))))
    parent = (
        f'<relatedDocument typeCode="RPLC"><parentDocument><id root="{oids[0]}"/></parentDocument></relatedDocument>'
    )
    data = cda(examples.ins(1), id=oids[1]).replace(b"<component>", parent.encode() + b"<component>")
    second = generated(author, generate(author, parameters(binary(data))))
    assert second["relatesTo"] == [{"code": "replaces", "target": {"reference": place(first)}}]
    assert author.get(place(first)).json["status"] == "superseded"


@pytest.mark.parametrize("scope", ["ITI-106", "ITI-105", "system/DocumentReference.c"])
def test_106_scope(exchange: Exchange, key: str, scope: str) -> None:
    client = joined(exchange, "hospital", scope, organisation="1990000011")
    data = cda(examples.ins(1), id=unique().removeprefix("urn:oid:"))
    assert generate(client, parameters(binary(data))).status == (403 if scope == "ITI-105" else 200)
