"""Documents published over HTTP: what their bytes say is compared, verified and shown (ITI-65)."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from passerelle.consents.visibility import label_system
from passerelle.fhir import json as fhir_json
from passerelle.fhir.validation import validate
from tests import contents, examples, kinds, signing
from tests.exchange import Client, Exchange
from tests.functions.test_patients import register

TYPE = "Bundle.entry[1].resource.content[0].attachment.contentType"


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


@pytest.fixture(scope="module")
def key(hospital: Client) -> str:
    return str(register(hospital, 1).json["id"])


def own_ins() -> str:
    return examples.ins(1).partition("|")[2]


def found(client: Client, query: str) -> list[dict[str, Any]]:
    answer = client.get(query)
    assert answer.status == 200, answer.body
    return [entry["resource"] for entry in answer.json.get("entry", [])]


def document_of(place: str) -> str:
    return place.replace("Binary", "DocumentReference")


def dicom() -> bytes:
    def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
        value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
        if vr == b"UR":
            return struct.pack("<HH2sHI", group, number, vr, 0, len(value)) + value
        return struct.pack("<HH2sH", group, number, vr, len(value)) + value

    meta = element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1")
    return (
        bytes(128)
        + b"DICM"
        + element(2, 0, b"UL", struct.pack("<I", len(meta)))
        + meta
        + element(8, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.7")
        + element(8, 0x18, b"UI", b"2.999.3")
        + element(8, 0x20, b"DA", b"20260314")
        + element(8, 0x60, b"CS", b"OT")
        + element(8, 0x1190, b"UR", b"https://pacs.example.org/dicom-web/studies/2.999.1")
        + element(0x20, 0x0D, b"UI", b"2.999.1")
        + element(0x20, 0x0E, b"UI", b"2.999.2")
    )


@pytest.mark.parametrize(
    ("declared", "data"),
    [
        ("application/pdf", kinds.cda()),
        ("application/xml", kinds.pdf()),
        ("text/html", b"<html>"),
        ("application/pdf", kinds.pdf(b"4 0 obj<</S/JavaScript/JS(x)>>endobj\n")),
        ("image/png", b"MZ\0\0"),
        ("application/xml", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'),
    ],
)
def test_a_content_that_is_not_what_it_is_called_is_refused(
    hospital: Client, key: str, declared: str, data: bytes
) -> None:
    answer = hospital.post("", contents.submission(key, data, declared))
    assert answer.status == 422
    (issue,) = answer.json["issue"]
    assert (issue["code"], issue["expression"]) == ("value", [TYPE])
    assert found(hospital, f"DocumentReference?patient={key}&status=current") == []


def test_a_document_about_somebody_else_is_refused(hospital: Client, key: str) -> None:
    data = kinds.cda(ins="180035121518912")
    answer = hospital.post("", contents.submission(key, data, "application/xml"))
    assert answer.status == 422
    (issue,) = answer.json["issue"]
    assert (issue["code"], issue["expression"]) == ("business-rule", ["Bundle.entry[1].resource.subject"])
    assert b"180035121518912" not in answer.body
    assert contents.published(hospital, key, kinds.cda(ins=own_ins()), "application/xml")


def test_the_signer_of_a_document_is_shown_beside_it(exchange: Exchange, hospital: Client, key: str) -> None:
    place = contents.published(hospital, key, signing.signed_xml(kinds.cda(ins=own_ins())), "application/xml")
    (provenance,) = found(exchange.client("hospital-b"), f"Provenance?patient={key}&target={document_of(place)}")
    (signature,) = provenance["signature"]
    assert "Dr Signataire" in signature["who"]["display"]
    assert signature["sigFormat"] == "application/signature+xml"
    assert signature["extension"][0]["valueBoolean"] is False  # no authority is trusted in this installation
    for answer in (
        hospital.put(f"Provenance/{provenance['id']}", provenance),
        hospital.request("DELETE", f"Provenance/{provenance['id']}"),
    ):
        assert (answer.status, answer.json["issue"][0]["code"]) == (422, "business-rule")


def test_a_document_whose_signature_is_broken_is_refused(hospital: Client, key: str) -> None:
    signed = signing.signed_xml(kinds.cda(ins=own_ins())).replace(b"Lettre de liaison", b"Lettre de liaisoN")
    answer = hospital.post("", contents.submission(key, signed, "application/xml"))
    assert (answer.status, answer.json["issue"][0]["code"]) == (422, "value")


def test_an_image_is_found_among_the_imaging_of_its_person(exchange: Exchange, hospital: Client, key: str) -> None:
    place = contents.published(hospital, key, dicom(), "application/dicom")
    (study,) = found(
        exchange.client("hospital-b"), f"ImagingStudy?patient={key}&identifier=urn:dicom:uid|urn:oid:2.999.1"
    )
    assert study["extension"][0]["valueReference"]["reference"] == document_of(place)
    assert study["series"][0]["instance"][0]["uid"] == "2.999.3"
    assert study["contained"][0]["connectionType"]["code"] == "dicom-wado-rs"
    assert study["endpoint"] == [{"reference": "#dicomweb"}]
    assert study["subject"]["reference"] == f"Patient/{key}"


def test_what_follows_from_a_hidden_document_is_hidden(exchange: Exchange, hospital: Client, key: str) -> None:
    """Law 4: a masked image or a masked signed document leaves no trace in imaging or provenance for others."""
    other = exchange.client("hospital-b")
    before = {kind: found(other, f"{kind}?patient={key}") for kind in ("ImagingStudy", "Provenance")}
    signed = signing.signed_xml(kinds.cda(ins=own_ins()))
    for declared, data in (("application/dicom", dicom()), ("application/xml", signed)):
        bundle = contents.submission(key, data, declared)
        label = {"coding": [{"system": label_system(), "code": "MASQUE_PS"}]}
        bundle["entry"][1]["resource"]["securityLabel"].append(label)
        contents.publish(hospital, bundle)
    for kind, seen in before.items():
        assert found(other, f"{kind}?patient={key}") == seen
        assert len(found(hospital, f"{kind}?patient={key}")) == len(seen) + 1


def test_what_is_made_with_a_document_is_valid(hospital: Client, key: str) -> None:
    """What the exchange makes passes the rules that clients' resources pass."""
    contents.published(hospital, key, signing.signed_xml(kinds.cda(ins=own_ins())), "application/xml")
    contents.published(hospital, key, dicom(), "application/dicom")
    for kind in ("ImagingStudy", "Provenance"):
        made = found(hospital, f"{kind}?patient={key}")
        assert made
        for resource in made:
            validate(fhir_json.loads(json.dumps(resource).encode()))


def test_a_submission_again_makes_nothing_twice(hospital: Client, key: str) -> None:
    """Contract 65-21 (P20)."""
    bundle = contents.submission(key, signing.signed_xml(kinds.cda(ins=own_ins())), "application/xml")
    contents.publish(hospital, bundle)
    count = len(found(hospital, f"Provenance?patient={key}"))
    contents.publish(hospital, json.loads(json.dumps(bundle)))
    assert len(found(hospital, f"Provenance?patient={key}")) == count
