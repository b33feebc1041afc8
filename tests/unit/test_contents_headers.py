"""What contents say of themselves: CDA, FHIR documents, DICOM, HL7 v2; and whether that is somebody else."""

from __future__ import annotations

import json
import lzma
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from passerelle.documents.contents import Code, Header, Inspection, Kind, embedded, inspect, names_other
from passerelle.documents.contents.hl7v2 import RefusedMessageError, header_of
from passerelle.documents.contents.times import read_fhir_time, read_time
from passerelle.errors import Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir import xml as fhir_xml
from tests import kinds

INS = f"urn:oid:{kinds.NIR_SYSTEM}"
NOS = "https://mos.esante.gouv.fr/NOS"
URI = "urn:ietf:rfc:3986"


def header(data: bytes, declared: str = "application/xml") -> Header:
    found = inspect(data, declared, path="x").header
    assert found is not None
    return found


def texts(shared_data: Path, name: str) -> Iterator[tuple[str, str]]:
    with lzma.open(shared_data / name, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield row["file"], row["text"]


# --- CDA ------------------------------------------------------------------------------------------------------


def test_the_header_of_a_french_cda() -> None:
    found = header(kinds.cda())
    assert found.patients == ((INS, "279035121518989"), ("urn:oid:2.999.1.1", "IPP-42"))
    assert found.document == ("urn:oid:2.999.10.1", "LDL-7")
    assert (found.set_id, found.version) == (("urn:oid:2.999.10.2", "S-1"), "2")
    assert found.type == Code(system="http://loinc.org", code="11490-0", display="Lettre de liaison")
    assert (found.title, found.language) == ("Lettre de liaison à la sortie", "fr-FR")
    assert found.created == datetime(2026, 3, 14, 8, 30, tzinfo=UTC)
    assert [each.code for each in found.confidentiality] == ["N"]
    (author,) = found.authors
    assert (author.identifiers, author.family, author.given) == (
        (("urn:oid:1.2.250.1.71.4.2.1", "810000000011"),),
        "MARTIN",
        ("Léa",),
    )
    assert author.organisation is not None
    assert author.organisation.identifiers == (("urn:oid:1.2.250.1.71.4.2.2", "1750000001"),)
    assert found.legal_authenticator is not None
    assert found.legal_authenticator.at == datetime(2026, 3, 14, 8, 45, tzinfo=UTC)
    assert found.custodian is not None
    assert found.custodian.name == "Hôpital"
    assert found.format is not None
    assert found.format.code == "urn:asip:ci-sis:ldl-ses:2017"
    assert [each.code for each in found.events] == ["IMP"]
    # a date of France begins at midnight there
    assert found.service_start == datetime(2026, 3, 9, 23, tzinfo=UTC)
    assert found.service_end == datetime(2026, 3, 14, 8, tzinfo=UTC)
    assert found.facility == Code(system=f"{NOS}/TRE_R02-SecteurActivite/FHIR/TRE-R02-SecteurActivite", code="SA01")
    assert found.practice is not None
    assert found.practice.code == "ETABLISSEMENT"
    assert [(each.kind, each.document) for each in found.relations] == [("replaces", ("urn:oid:2.999.10.1", "LDL-6"))]


def test_a_cda_of_level_1_is_of_the_format_of_its_body() -> None:
    data = kinds.cda(body=kinds.level_1("application/pdf", kinds.pdf()))
    scanned = data.replace(b"1.2.250.1.213.1.1.1.29", b"1.3.6.1.4.1.19376.1.2.20")
    found = header(scanned)
    assert found.embedded_type == "application/pdf"
    assert found.format is not None
    assert found.format.code == "urn:ihe:iti:xds-sd:pdf:2008"


@pytest.mark.parametrize(
    ("declared", "body"),
    [
        ("application/pdf", b"plain text"),
        ("application/pdf", kinds.pdf(b"4 0 obj<</S/JavaScript/JS(x)>>endobj\n")),
        ("text/plain", b"<html><script>alert(1)</script>"),
        ("application/pdf", b"MZ\0\0"),
        ("text/html", b"<html>"),
    ],
)
def test_the_body_of_a_cda_meets_the_rules_of_its_type(declared: str, body: bytes) -> None:
    with pytest.raises(Unprocessable):
        inspect(kinds.cda(body=kinds.level_1(declared, body)), "application/xml", path="x")


def test_a_header_without_anything_is_one() -> None:
    assert header(b'<ClinicalDocument xmlns="urn:hl7-org:v3"/>') == Header()


def test_real_cda_documents_say_what_another_reader_finds(shared_data: Path) -> None:
    """C-CDA and French documents, against XPath on lxml; fragments of documentation are no documents."""
    from lxml import etree

    names = {"h": "urn:hl7-org:v3"}
    seen = 0
    for file, text in texts(shared_data, "cda_documents.ndjson.xz"):
        found = inspect(text.encode(), "application/xml", path="x")
        root = etree.fromstring(text.encode(), etree.XMLParser(huge_tree=True))
        if root.tag != "{urn:hl7-org:v3}ClinicalDocument":
            assert (found.kind, found.header) == (Kind.XML, None), file
            continue
        seen += 1
        said = found.header
        assert found.kind is Kind.CDA
        assert said is not None

        def xpath(path: str, root: Any = root) -> list[str]:
            return [str(each) for each in root.xpath(path, namespaces=names)]

        assert [value for _, value in said.patients] == xpath("h:recordTarget/h:patientRole/h:id[@root]/@extension"), (
            file
        )
        assert said.type is not None
        assert [said.type.code] == xpath("h:code/@code"), file
        assert said.title == " ".join(root.xpath("string(h:title)", namespaces=names).split()), file
        assert said.created is not None
        (written,) = xpath("h:effectiveTime/@value")
        assert said.created.strftime("%Y%m%d%H%M%S").startswith(written[:12]), file
        assert [each.code for each in said.confidentiality] == xpath("h:confidentialityCode/@code"), file
        assert [said.language] == xpath("h:languageCode/@code"), file
        assert [said.version] == (xpath("h:versionNumber/@value") or [None]), file
        assert len(said.authors) == len(root.xpath("h:author", namespaces=names)), file
        assert said.custodian is not None
        assert len(said.relations) == len(xpath("h:relatedDocument/h:parentDocument/h:id[1]/@root")), file
        assert [said.facility.code if said.facility else None] == (
            xpath("h:componentOf/h:encompassingEncounter/h:location/h:healthCareFacility/h:code/@code") or [None]
        ), file
        is_level_1 = bool(root.find("h:component/h:nonXMLBody", names) is not None)
        assert (said.embedded_type is not None) == is_level_1, file
        if b"1.2.250.1.213.1.1.1.1" in text.encode():  # every French one has a format of its own
            assert said.format is not None, file
    assert seen == 26


# --- FHIR documents -------------------------------------------------------------------------------------------


def test_a_fhir_document_says_the_same_in_json_and_xml() -> None:
    data = json.dumps(kinds.fhir_document()).encode()
    said = header(data, "application/fhir+json")
    assert header(fhir_xml.dumps(fhir_json.loads(data)), "application/fhir+xml") == said
    assert said.patients == ((INS, "279035121518989"),)
    assert (said.document, said.set_id) == ((URI, "urn:oid:2.999.11.1"), (URI, "urn:oid:2.999.11.2"))
    assert (said.title, said.language) == ("Synthèse médicale", "fr-FR")
    assert [each.family for each in said.authors] == ["MARTIN"]
    assert [each.code for each in said.confidentiality] == ["N"]
    assert said.created == datetime(2026, 3, 14, 8, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "bundle",
    [
        kinds.fhir_document(entry=[]),
        kinds.fhir_document(entry=[None]),
        kinds.fhir_document(entry={"resource": {"resourceType": "Patient"}}),
        kinds.fhir_document(entry=[{"resource": {"resourceType": "Composition", "subject": 7, "author": ["x"]}}]),
        kinds.fhir_document(entry=[{"resource": {"resourceType": "Composition", "type": {"coding": "x"}}}]),
    ],
)
def test_a_fhir_document_of_any_shape_is_read(bundle: dict[str, Any]) -> None:
    found = inspect(json.dumps(bundle).encode(), "application/fhir+json", path="x")
    assert found.kind is Kind.FHIR_DOCUMENT


# --- DICOM ----------------------------------------------------------------------------------------------------


def dicom(
    *elements: tuple[int, int, bytes, bytes], preamble: bytes = bytes(128), syntax: bytes = b"1.2.840.10008.1.2.1"
) -> bytes:
    """An object in explicit VR little endian: group, element, VR, value."""

    def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
        value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
        if vr in (b"SQ", b"OB", b"OW", b"UR", b"UN"):
            return struct.pack("<HH2sHI", group, number, vr, 0, len(value)) + value
        return struct.pack("<HH2sH", group, number, vr, len(value)) + value

    meta = element(2, 0x10, b"UI", syntax)
    head = preamble + b"DICM" + element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta
    return head + b"".join(element(*each) for each in sorted(elements))


NEEDED = (
    (0x0008, 0x0016, b"UI", b"1.2.840.10008.5.1.4.1.1.7"),
    (0x0008, 0x0018, b"UI", b"2.999.3"),
    (0x0008, 0x0060, b"CS", b"OT"),
    (0x0020, 0x000D, b"UI", b"2.999.1"),
    (0x0020, 0x000E, b"UI", b"2.999.2"),
)


def test_a_dicom_object_says_what_it_belongs_to() -> None:
    data = dicom(
        *NEEDED,
        (0x0008, 0x0020, b"DA", b"20260314"),
        (0x0008, 0x0030, b"TM", b"093000.25"),
        (0x0008, 0x1190, b"UR", b"https://pacs.example.org/dicom-web/studies/2.999.1"),
        (0x0010, 0x0020, b"LO", b"IPP-42"),
        (0x7FE0, 0x0010, b"OW", b"\0" * 1000),
    )
    found = inspect(data, "application/dicom", path="x")
    assert found.study is not None
    assert (found.study.study_uid, found.study.series_uid, found.study.instance_uid) == (
        "2.999.1",
        "2.999.2",
        "2.999.3",
    )
    assert found.study.started == datetime(2026, 3, 14, 8, 30, 0, 250_000, tzinfo=UTC)
    assert found.study.retrieve_url == "https://pacs.example.org/dicom-web/studies/2.999.1"
    assert found.header is not None
    assert found.header.patients == ()  # a local id without issuer names nobody


def test_a_dicom_object_may_name_its_patient() -> None:
    issuer = struct.pack("<HH2sH", 0x0040, 0x0032, b"UT"[:2], 0) + struct.pack("<I", 20) + b"1.2.250.1.213.1.4.10"
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(issuer)) + issuer
    data = dicom(*NEEDED, (0x0010, 0x0020, b"LO", b"279035121518989"), (0x0010, 0x0024, b"SQ", item))
    found = inspect(data, "application/dicom", path="x").header
    assert found is not None
    assert found.patients == ((INS, "279035121518989"),)


def test_the_preamble_of_a_dicom_object_may_be_that_of_an_image_and_of_no_program() -> None:
    assert inspect(dicom(*NEEDED, preamble=b"II*\0".ljust(128, b"\0")), "application/dicom", path="x").study
    with pytest.raises(Unprocessable, match="program"):
        inspect(dicom(*NEEDED, preamble=b"MZ\x90".ljust(128, b"\0")), "application/dicom", path="x")


def test_a_data_set_without_preamble_is_dicom_where_that_is_sure() -> None:
    assert inspect(dicom(*NEEDED)[132:], "application/dicom", path="x").kind is Kind.DICOM


@pytest.mark.parametrize(
    "data",
    [
        dicom(*NEEDED[:-1]),
        dicom(*NEEDED)[:170],
        dicom(*NEEDED, syntax=b"1.2.840.10008.1.2.1.99"),
        bytes(128) + b"DICM",
        bytes(128) + b"DICM" + b"\xff" * 400,
        dicom((0x0008, 0x1111, b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) * 3000)),
    ],
)
def test_a_dicom_object_that_does_not_say_it_is_refused(data: bytes) -> None:
    with pytest.raises(Unprocessable):
        inspect(data, "application/dicom", path="x")


def test_real_dicom_objects(shared_data: Path) -> None:
    found = {
        each.name: inspect(each.read_bytes(), "application/dicom", path="x")
        for each in shared_data.glob("binary/*.dcm")
    }
    assert {name: each.study.modality for name, each in found.items() if each.study} == {
        "JPEG2000.dcm": "NM",
        "examples_rgb_color.dcm": "US",
        "waveform_ecg.dcm": "ECG",
    }
    first = found["JPEG2000.dcm"].study
    assert first is not None
    assert (first.body_part, first.started) == ("WHOLE BODY", datetime(2004, 8, 26, 22, 50, 59, tzinfo=UTC))


# --- HL7 version 2 --------------------------------------------------------------------------------------------


def test_a_message_with_documents_says_whose_they_are() -> None:
    mask = "OBX|2|CE|MASQUE_PS^Masqué^MetaDMPMSS||Y^^expandedYes-NoIndicator||||||F"
    unhidden = "OBX|3|CE|INVISIBLE_PATIENT^Non visible^MetaDMPMSS||N^^expandedYes-NoIndicator||||||F"
    mail = kinds.ed(b"Cher confrere", "", code="CORPSMAIL_PS^Corps du mail^MetaDMPMSS")
    data = kinds.oru(kinds.ed(kinds.pdf()), kinds.ed(kinds.cda(), "XML"), mask, unhidden, mail)
    said = header(data, "application/hl7-v2")
    assert said.patients == ((INS, "279035121518989"),)
    assert said.type is not None
    assert said.type.code == "11502-2"
    assert [each.code for each in said.confidentiality] == ["MASQUE_PS"]
    assert [each.family for each in said.authors] == ["DIAZ"]
    assert said.created == datetime(2026, 3, 14, 8, 30, tzinfo=UTC)
    assert [(each.media_type, each.data) for each in embedded(data)] == [
        ("application/pdf", kinds.pdf()),
        ("text/xml", kinds.cda()),
    ]


@pytest.mark.parametrize("encoding", ["^~\\&", "^~\\\\&", "*~@%"])
def test_lines_of_text_are_a_report(encoding: str) -> None:
    escape = "@" if "@" in encoding else "\\"
    line = f"OBX|1|TX|A||pH {escape}F{escape} 7{escape}.br{escape}Conclusion||||||F"
    (found,) = embedded(kinds.oru(line, "OBX|2|FT|B||Normal||||||F", encoding=encoding))
    assert (found.media_type, found.data) == ("text/plain", b"pH | 7\nConclusion\nNormal\n")


def test_documents_that_are_taken_back_and_results_are_no_report() -> None:
    assert embedded(kinds.oru(kinds.ed(kinds.pdf(), status="D"), "OBX|2|NM|718-7||13.4||||||F")) == ()


def test_a_document_that_is_not_base64_is_refused() -> None:
    with pytest.raises(RefusedMessageError):
        embedded(kinds.oru("OBX|1|ED|A||^APPLICATION^PDF^Base64^####||||||F"))


def test_real_messages_are_read(shared_data: Path) -> None:
    found = {}
    for file, text in texts(shared_data, "hl7v2_messages.ndjson.xz"):
        if text.startswith("MSH"):
            header_of(text.encode())
            if "ORU" in text[:120] and (reports := embedded(text.encode())):
                found[file] = reports
    (segur,) = next(each for file, each in found.items() if "RPLC_N3_SEGUR" in file)
    cda: Inspection = inspect(segur.data, segur.media_type, path="x")
    assert cda.kind is Kind.CDA
    assert cda.header is not None
    # what the message says of the patient and what the document says is the same
    assert not names_other(cda.header, segur.header.patients)
    assert len(found) == 7


# --- who it is about ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "known", "is_other"),
    [
        ([(INS, "279035121518989")], [(INS, "279035121518989")], False),
        ([(INS, "2790351215189")], [(INS, "2 79 03 51 215 189 89")], False),  # with its key, and written in groups
        ([(INS, "279035121518989")], [(INS, "180035121518912")], True),
        ([(INS, "279035121518989"), ("urn:oid:2.999", "1")], [(INS, "180035121518912"), ("urn:oid:2.999", "1")], True),
        ([(INS, "279035121518989"), ("urn:oid:2.999", "1")], [(INS, "279035121518989"), ("urn:oid:2.999", "2")], False),
        ([("urn:oid:2.999", "1")], [(INS, "279035121518989"), ("urn:oid:2.999", "2")], True),
        ([(INS, "279035121518989")], [("urn:oid:2.999", "1")], False),  # nothing that can be compared
        ([], [(INS, "279035121518989")], False),
        (
            [("urn:oid:1.2.250.1.213.1.4.8", "18003A121518912")],
            [("urn:oid:1.2.250.1.213.1.4.8", "18003a1215189")],
            False,
        ),
    ],
)
def test_a_content_about_somebody_else(named: Any, known: Any, is_other: bool) -> None:
    assert names_other(Header(patients=tuple(named)), known) is is_other


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026", datetime(2025, 12, 31, 23, tzinfo=UTC)),
        ("20260701", datetime(2026, 6, 30, 22, tzinfo=UTC)),
        ("20260701103000.1234-0500", datetime(2026, 7, 1, 15, 30, 0, 123_400, tzinfo=UTC)),
        ("20261301", None),
        ("20260101+9900", None),
        ("12 mars", None),
        ("", None),
    ],
)
def test_times_of_hl7(text: str, expected: datetime | None) -> None:
    assert read_time(text) == expected


def test_times_of_fhir() -> None:
    assert read_fhir_time("2026-07") == datetime(2026, 6, 30, 22, tzinfo=UTC)
    assert read_fhir_time("2026-07-01T10:00:00Z") == datetime(2026, 7, 1, 10, tzinfo=UTC)
    assert read_fhir_time("soon") is None
