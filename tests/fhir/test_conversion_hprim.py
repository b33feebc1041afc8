"""HPRIM santé messages as FHIR: results, requests, comments, cut lines, and what is lost."""

from __future__ import annotations

import base64
import json
import lzma
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from passerelle.fhir import json as fhir_json
from passerelle.fhir.conversion.hprim import convert
from passerelle.fhir.validation import validate
from passerelle.ingestion.model import Conversion, Reason, RefusedMessage, Source

EXAMPLE = (Path(__file__).parent.parent / "examples" / "hprim" / "results.hpr").read_bytes()
SOURCE = Source(
    domain="urn:oid:2.999.4",
    organisation="1990000045",
    organisation_reference={"display": "L"},
    now=datetime(2026, 3, 2, 12, tzinfo=UTC),
)


@pytest.fixture(scope="module")
def converted() -> Conversion:
    return convert(EXAMPLE, SOURCE)


def of(conversion: Conversion, kind: str) -> list[Any]:
    return [each["resource"] for each in conversion.bundle["entry"] if each["resource"]["resourceType"] == kind]


def test_every_resource_is_valid(converted: Conversion) -> None:
    for each in converted.bundle["entry"]:
        validate(fhir_json.loads(fhir_json.dumps(each["resource"])))
    assert (converted.kind, converted.control_id) == ("HPRIM ORU", "RES0001.HPR|20260302111500")
    assert converted.sender == "LAB1|LABORATOIRE DE LA PLACE"


def test_the_patient_is_who_the_laboratory_means(converted: Conversion) -> None:
    (patient,) = of(converted, "Patient")
    assert patient["identifier"] == [{"system": "urn:oid:2.999.4", "value": "LB-0001"}]
    assert patient["name"] == [{"use": "official", "family": "EXEMPLE", "given": ["Odile", "Marie"]}]
    assert (patient["gender"], patient["birthDate"]) == ("female", "1952-04-17")
    assert converted.bundle["entry"][0]["request"]["ifNoneExist"] == "identifier=urn:oid:2.999.4|LB-0001"


def test_results(converted: Conversion) -> None:
    haemoglobin, platelets, group, conclusion = of(converted, "Observation")
    assert str(haemoglobin["valueQuantity"]["value"]) == "11.2"  # a decimal comma
    assert haemoglobin["code"]["coding"][0]["system"] == "http://loinc.org"
    assert haemoglobin["referenceRange"][0]["text"] == "12 - 16"
    assert haemoglobin["interpretation"][0]["coding"][0]["code"] == "L"
    assert haemoglobin["effectiveDateTime"] == "2026-03-02T07:45:00+01:00"
    assert haemoglobin["note"] == [{"text": "Contrôle à prévoir sous huit jours"}]  # a line that was cut
    assert platelets["valueQuantity"]["comparator"] == "<"
    assert (platelets["status"], haemoglobin["status"]) == ("preliminary", "final")
    assert group["valueCodeableConcept"]["text"] == "A positif"
    assert conclusion["valueString"] == "Anémie^modérée\nà surveiller"  # an escaped delimiter, and two lines


def test_the_report_and_who_asked(converted: Conversion) -> None:
    (report,) = of(converted, "DiagnosticReport")
    urls = [each["fullUrl"] for each in converted.bundle["entry"] if each["resource"]["resourceType"] == "Observation"]
    assert [each["reference"] for each in report["result"]] == urls
    assert report["contained"][0]["requester"]["display"] == "MARTIN PAUL"
    assert report["status"] == "final"


def test_the_message_is_kept_whole(converted: Conversion) -> None:
    (binary,) = of(converted, "Binary")
    (document,) = of(converted, "DocumentReference")
    assert base64.b64decode(binary["data"]) == EXAMPLE
    assert document["content"][0]["attachment"]["contentType"] == "text/plain; charset=windows-1252"


def test_what_is_lost_is_listed_by_field(converted: Conversion) -> None:
    assert set(converted.lost) >= {"P-2", "C[1]-3", "OBX[5]-5", "OBR-5"}
    assert not any("EXEMPLE" in each for each in converted.lost)


def test_a_correction_meets_the_same_resources(converted: Conversion) -> None:
    corrected = EXAMPLE.replace(b"RES0001", b"RES0002").replace(b"11,2", b"11,9")
    puts = [each["request"]["url"] for each in converted.bundle["entry"] if each["request"]["method"] == "PUT"]
    again = [
        each["request"]["url"] for each in convert(corrected, SOURCE).bundle["entry"] if "?" in each["request"]["url"]
    ]
    assert again == puts


def test_requests() -> None:
    asked = EXAMPLE[: EXAMPLE.index(b"OBX|")].replace(b"|ORU|", b"|ORM|").replace(b"NF~NUM", b"TGO~TGO~L^NF~NUM")
    found = convert(asked, SOURCE)
    first, second = of(found, "ServiceRequest")
    assert [each["code"]["coding"][0]["code"] for each in (first, second)] == ["TGO", "NF"]
    assert first["requester"]["display"] == "MARTIN PAUL"
    assert of(found, "Patient")[0]["identifier"][0]["value"] == "77"  # who asks names whom it is about


@pytest.mark.parametrize("version", ["H2.0~C", "H2.1", "H2.2", "H2.3~L", "2.4"])
def test_versions(version: str) -> None:
    assert convert(EXAMPLE.replace(b"H2.3~C", version.encode()), SOURCE).kind == "HPRIM ORU"


@pytest.mark.parametrize(
    ("old", "new", "reason", "path"),
    [
        pytest.param(b"H|~^\\&|", b"MSH|^~\\&|", Reason.UNSUPPORTED_MESSAGE_TYPE, "", id="HL7"),
        pytest.param(b"|ORU|", b"|REG|", Reason.UNSUPPORTED_MESSAGE_TYPE, "H-6", id="kind"),
        pytest.param(b"H2.3~C", b"H3.0", Reason.UNSUPPORTED_VERSION, "H-12", id="version"),
        pytest.param(b"LB-0001", b"", Reason.REQUIRED_FIELD_MISSING, "P-3", id="the other house's number alone"),
        pytest.param(b"OBR|1|DEM", b"P|2|||\r\nOBR|1|DEM", Reason.SEGMENT_SEQUENCE, "P", id="two people"),
        pytest.param(b"OBR|1|DEM", b"OBX|1|DEM", Reason.SEGMENT_SEQUENCE, "OBR", id="no order"),
    ],
)
def test_refused(old: bytes, new: bytes, reason: Reason, path: str) -> None:
    assert old in EXAMPLE
    with pytest.raises(RefusedMessage) as refused:
        convert(EXAMPLE.replace(old, new), SOURCE)
    assert (refused.value.reason, refused.value.path) == (reason, path)


def test_real_messages(shared_data: Path) -> None:
    """The one published message: what is made of it, and every field that is lost."""
    with lzma.open(shared_data / "hl7v2_messages.ndjson.xz", "rt") as lines:
        found = [row["text"] for line in lines if "libHprim" in (row := json.loads(line))["file"]]
    (converted,) = (convert(text.encode("latin-1"), SOURCE) for text in found)
    for each in converted.bundle["entry"]:
        validate(fhir_json.loads(fhir_json.dumps(each["resource"])))
    (report,) = of(converted, "DiagnosticReport")
    assert report["contained"][0]["requester"]["display"] == "DR PITO OLIV"
    assert [each["display"] for each in report["resultsInterpreter"]] == ["VBIO"]
    kinds = [each["resource"]["resourceType"] for each in converted.bundle["entry"]]
    assert kinds == [
        "Patient",
        "Observation",
        "Observation",
        "DiagnosticReport",
        *("DocumentReference", "Binary"),
        "Provenance",
    ]
    assert converted.lost == (
        *("P-2", "P-25", "OBR-5", "OBR-11", "OBR-14", "OBR-17"),
        *("OBX[1]-15", "OBX[2]-15", "OBX[3]-2", "OBX[3]-3", "OBX[3]-5"),
    )
