"""Documents as XDM archives: what a receiving software looks for."""

from __future__ import annotations

import hashlib
import zipfile
from datetime import UTC, datetime
from io import BytesIO
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from passerelle.fhir import xdm

AT = datetime(2026, 3, 1, 9, tzinfo=UTC)
RIM = "{urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0}"
SOURCE = "2.999.1000"
DATA = b"<ClinicalDocument/>"
NIR = {"system": "urn:oid:1.2.250.1.213.1.4.8", "value": "255069999900183"}


def patient(**changed: Any) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": "0123456789abcdef",
        "identifier": [{"system": "https://local.example", "value": "1"}, NIR],
        "name": [
            {"use": "usual", "family": "Autre", "given": ["X"]},
            {"use": "official", "family": "d'Œuvré-Léger", "given": ["Chloé", "Anne"]},
        ],
        "gender": "female",
        "birthDate": "1955-06-14",
    } | changed


def document(**changed: Any) -> dict[str, Any]:
    loinc = "http://loinc.org"
    author = {"resourceType": "Practitioner", "id": "p", "identifier": [{"system": "urn:oid:1.2", "value": "8|99"}]}
    return {
        "resourceType": "DocumentReference",
        "id": "d",
        "contained": [author | {"name": [{"family": "Martin", "given": ["Zoé"]}]}],
        "author": [{"reference": "#p"}],
        "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:2.999.7.1"},
        "status": "current",
        "type": {"coding": [{"system": loinc, "code": "11502-2", "display": "CR d'examens biologiques"}]},
        "category": [{"coding": [{"system": "urn:oid:1.3", "code": "11"}]}],
        "content": [
            {
                "attachment": {
                    "contentType": "application/xml",
                    "language": "fr-FR",
                    "title": "Biologie <b>&",
                    "creation": "2026-02-28T23:30:00+01:00",
                },
                "format": {"system": "urn:oid:1.4", "code": "urn:ihe:iti:xds:2017:mimeTypeSufficient"},
            }
        ],
        "context": {"period": {"start": "2026-02-28"}},
    } | changed


def packed(resource: dict[str, Any], whom: dict[str, Any]) -> zipfile.ZipFile:
    return zipfile.ZipFile(BytesIO(xdm.archive(resource, whom, DATA, source=SOURCE, at=AT)))


def metadata(archive: zipfile.ZipFile) -> ET.Element:
    return ET.fromstring(archive.read("IHE_XDM/SUBSET01/METADATA.XML"))  # noqa: S314 - made here


def slots(element: ET.Element) -> dict[str, list[str]]:
    return {
        slot.attrib["name"]: [value.text or "" for value in slot.iter(f"{RIM}Value")]
        for slot in element.findall(f"{RIM}Slot")
    }


@pytest.mark.parametrize(
    ("resource", "whom", "title"),
    [
        (document(), patient(), "CR d'examens biologiques D'OEUVRE-LEGER Chloe 14/06/1955"),
        (document(), patient(birthDate="1955", name=[{"text": "x"}]), "CR d'examens biologiques 1955"),
        (document(type={"coding": [{"code": "c", "display": "x" * 60}]}), {"id": "1"}, "x" * 40),
        ({"resourceType": "DocumentReference"}, {"id": "1"}, ""),
    ],
)
def test_a_subject_names_type_and_patient_without_accents(
    resource: dict[str, Any], whom: dict[str, Any], title: str
) -> None:
    assert xdm.title(resource, whom) == title


def test_a_subject_is_one_line() -> None:
    split = {"coding": [{"code": "c", "display": "a\r\nBcc: x@y.example"}]}
    assert "\n" not in xdm.title(document(type=split), patient(name=[{"family": "a\nb", "given": ["c\r\nd"]}]))


def test_an_archive_has_the_files_of_the_profile_and_the_bytes_of_the_document() -> None:
    archive = packed(document(), patient())
    assert archive.namelist() == [
        "README.TXT",
        "INDEX.HTM",
        "IHE_XDM/SUBSET01/METADATA.XML",
        "IHE_XDM/SUBSET01/DOC0001.XML",
    ]
    assert archive.read("IHE_XDM/SUBSET01/DOC0001.XML") == DATA
    assert b"Biologie &lt;b&gt;&amp;" in archive.read("INDEX.HTM")


def test_the_same_document_gives_the_same_bytes() -> None:
    first, second = (xdm.archive(document(), patient(), DATA, source=SOURCE, at=AT) for _ in range(2))
    assert first == second


def test_metadata_describe_the_document_and_name_the_patient() -> None:
    request = metadata(packed(document(), patient()))
    (entry,) = request.iter(f"{RIM}ExtrinsicObject")
    told = slots(entry)
    assert entry.attrib["mimeType"] == "application/xml"
    assert told["URI"] == ["DOC0001.XML"]
    assert told["size"] == [str(len(DATA))]
    assert told["hash"] == [hashlib.sha1(DATA, usedforsecurity=False).hexdigest()]
    assert told["creationTime"] == ["20260228223000"]
    assert told["serviceStartTime"] == ["20260228"]
    assert told["sourcePatientId"] == ["255069999900183^^^&1.2.250.1.213.1.4.8&ISO^NH"]
    assert told["sourcePatientInfo"] == ["PID-5|d'Œuvré-Léger^Chloé^^^^^L", "PID-7|19550614", "PID-8|F"]
    codes = {
        each.attrib["classificationScheme"]: each.attrib["nodeRepresentation"]
        for each in entry.iter(f"{RIM}Classification")
    }
    assert codes["urn:uuid:f0306f51-975f-434e-a61c-c59651d33983"] == "11502-2"
    assert codes["urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d"] == "urn:ihe:iti:xds:2017:mimeTypeSufficient"
    assert codes["urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a"] == "11"
    (author,) = (slots(each) for each in entry.iter(f"{RIM}Classification") if "authorPerson" in slots(each))
    assert author["authorPerson"] == ["899^Martin^Zoé^^^^^^&1.2&ISO^D"]
    identifiers = {each.attrib["value"] for each in request.iter(f"{RIM}ExternalIdentifier")}
    assert {"2.999.7.1", SOURCE} <= identifiers
    assert len({each.attrib["id"] for each in request.iter() if "id" in each.attrib}) == sum(
        "id" in each.attrib for each in request.iter()
    )
    (association,) = request.iter(f"{RIM}Association")
    assert association.attrib["targetObject"] == entry.attrib["id"]


def test_who_has_no_identifier_of_a_registry_is_named_as_the_exchange_does() -> None:
    (entry,) = metadata(packed(document(), patient(identifier=[]))).iter(f"{RIM}ExtrinsicObject")
    assert slots(entry)["sourcePatientId"] == [f"0123456789abcdef^^^&{SOURCE}&ISO^PI"]


def test_little_is_enough() -> None:
    bare = {"id": "d", "status": "current", "content": [{"attachment": {"contentType": "text/plain"}}]}
    archive = packed(bare, {"id": "1"})
    assert "IHE_XDM/SUBSET01/DOC0001.BIN" in archive.namelist()
    metadata(archive)
