"""What a content is comes from its bytes; what is another thing than declared, or two things, is refused."""

from __future__ import annotations

import base64
import json
import struct
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest

from passerelle.documents.contents import Kind, inspect
from passerelle.errors import Unprocessable
from tests import kinds

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + struct.pack(">II", 1, 1) + b"\x08\2\0\0\0" + b"\0" * 20
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0" + b"\0" * 40 + b"\xff\xd9"
GIF = b"GIF89a\1\0\1\0\0\0\0;"
WEBP = b"RIFF\x1a\0\0\0WEBPVP8L" + b"\0" * 14
BMP = b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0" + b"\0" * 40
TIFF = b"II*\0\x08\0\0\0\0\0\0\0\0\0"
RTF = rb"{\rtf1\ansi Compte rendu\par}"
ZIP = b"PK\x05\x06" + b"\0" * 18
DOSED = b"MZ\x90\0\3\0\0\0\4\0\0\0\xff\xff\0\0" + b"\0" * 112
TINY_CDA = b'<?xml version="1.0" encoding="UTF-8"?><ClinicalDocument xmlns="urn:hl7-org:v3"/>'

KINDS = [
    ("application/pdf", kinds.pdf(), Kind.PDF),
    ("image/png", PNG, Kind.IMAGE),
    ("image/jpeg", JPEG, Kind.IMAGE),
    ("image/gif", GIF, Kind.IMAGE),
    ("image/webp", WEBP, Kind.IMAGE),
    ("image/bmp", BMP, Kind.IMAGE),
    ("image/tiff", TIFF, Kind.IMAGE),
    ("application/rtf", RTF, Kind.RTF),
    ("text/plain", "Opéré du genou".encode(), Kind.TEXT),
    ("text/csv", b"a;b\n1;2\n", Kind.TEXT),
    ("application/json", b'{"a": [1.50, null]}', Kind.JSON),
    ("application/fhir+json", json.dumps(kinds.fhir_document()).encode(), Kind.FHIR_DOCUMENT),
    ("application/xml", b"<a><b/></a>", Kind.XML),
    ("application/xml", kinds.cda(), Kind.CDA),
    ("text/xml", TINY_CDA, Kind.CDA),
    ("application/hl7-v2", kinds.oru("OBX|1|TX|a||b||||||F"), Kind.HL7V2),
]


def refusal(data: bytes, declared: str, *, is_whole: bool = True) -> str:
    """Why it is refused: always `value`, always of the same element, and never with a part of the content."""
    with pytest.raises(Unprocessable) as caught:
        inspect(data, declared, path="DocumentReference.content[0].attachment.contentType", is_whole=is_whole)
    (issue,) = caught.value.issues
    assert (issue.code, issue.expression) == ("value", "DocumentReference.content[0].attachment.contentType")
    return issue.diagnostics


@pytest.mark.parametrize(("declared", "data", "kind"), KINDS, ids=lambda each: each if isinstance(each, str) else None)
def test_each_kind_is_told_from_its_bytes(declared: str, data: bytes, kind: Kind) -> None:
    found = inspect(data, f"{declared.upper()}; charset=utf-8", path="x")
    assert (found.media_type, found.kind) == (declared, kind)


@pytest.mark.parametrize(("declared", "data", "kind"), KINDS, ids=lambda each: each if isinstance(each, str) else None)
def test_a_content_that_is_another_thing_is_refused(declared: str, data: bytes, kind: Kind) -> None:
    """Each kind under the name of every other; plain text takes in what is written as text (CSV, HL7 v2, JSON)."""
    texts = {Kind.TEXT, Kind.HL7V2, Kind.JSON, Kind.FHIR_DOCUMENT}
    as_xml = {Kind.XML, Kind.CDA}
    for other, _, other_kind in KINDS:
        is_same = other_kind == kind == Kind.IMAGE and other == declared
        is_alike = other_kind == kind != Kind.IMAGE or {kind, other_kind} <= as_xml
        is_text = other == "text/plain" and kind in texts
        is_json = other == "application/json" and kind is Kind.FHIR_DOCUMENT
        if not (is_same or is_alike or is_text or is_json):
            refusal(data, other)


def test_a_delayed_content_has_no_bytes_to_tell() -> None:
    assert inspect(b"", "application/pdf", path="x").kind is Kind.OTHER


@pytest.mark.parametrize("declared", ["text/html", "image/svg+xml", "application/zip", "application/octet-stream", ""])
def test_types_that_are_not_kept(declared: str) -> None:
    assert "media type" in refusal(b"anything", declared)


@pytest.mark.parametrize(
    "data",
    [
        DOSED,
        b"\x7fELF\2\1\1" + b"\0" * 60,
        b"#!/bin/sh\nrm -rf /\n",
        b"\xca\xfe\xba\xbe\0\0\0\x34",
        b"\xcf\xfa\xed\xfe\7\0\0\1",
        b"L\0\0\0\1\x14\2\0\0\0\0\0\xc0",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 60,
    ],
)
@pytest.mark.parametrize("declared", ["text/plain", "application/pdf", "application/dicom", "application/xml"])
def test_programs_are_refused_whatever_they_are_called(data: bytes, declared: str) -> None:
    assert refusal(data, declared) == "a program is not accepted"


def test_a_text_that_begins_like_a_program_is_a_text() -> None:
    assert inspect(b"MZ, 43 ans, consulte pour...", "text/plain", path="x").kind is Kind.TEXT


@pytest.mark.parametrize(
    "data",
    [
        b"<!DOCTYPE html><p>",
        b"\xef\xbb\xbf  <HTML><script>alert(1)</script>",
        b"<!-- innocent --><script>alert(1)</script>",
        "\ufeff<html>".encode("utf-16-le"),
        b'<html xmlns="http://www.w3.org/1999/xhtml"><script>alert(1)</script></html>',
        b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"/>',
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
        b'<a xmlns:h="http://www.w3.org/1999/xhtml"><h:script>alert(1)</h:script></a>',
        b'<a xmlns:h="http://www.w3.org/1999/xhtml"><h:p onclick="alert(1)"/></a>',
        b'<a xmlns:h="http://www.w3.org/1999/xhtml"><h:a href=" JavaScript:alert(1)"/></a>',
        kinds.cda(more='<x:script xmlns:x="http://www.w3.org/2000/svg"/>'),
    ],
)
@pytest.mark.parametrize("declared", ["text/plain", "application/xml"])
def test_what_a_browser_would_run_is_refused(data: bytes, declared: str) -> None:
    refusal(data, declared)


@pytest.mark.parametrize(
    ("declared", "data"),
    [
        ("application/pdf", b"junk" + kinds.pdf()),
        ("image/gif", GIF[:-1] + kinds.pdf()),
        ("text/plain", b"note\n" + kinds.pdf()),
        ("application/pdf", kinds.pdf() + ZIP),
        ("image/png", PNG + ZIP),
        ("image/jpeg", JPEG + b"PK\x05\x06" + b"\0" * 16 + b"\5\0" + b"jar!!"),
        ("application/dicom", DOSED[:128] + b"DICM" + b"\2\0\0\0UL\4\0" + b"\0" * 4),
        ("image/gif", GIF.ljust(128, b"\0") + b"DICM"),
        ("application/pdf", kinds.pdf()[:128].ljust(128) + b"DICM" + kinds.pdf()),
    ],
)
def test_what_is_two_things_at_once_is_refused(declared: str, data: bytes) -> None:
    refusal(data, declared)


@pytest.mark.parametrize(
    "inner",
    [
        b"4 0 obj<</S/JavaScript/JS(app.alert\\(1\\))>>endobj\n",
        b"4 0 obj<</S/J#61va#53cript/JS(x)>>endobj\n",
        b"4 0 obj<</S/Launch/F(cmd.exe)>>endobj\n",
        b"4 0 obj<</Type/EmbeddedFile>>endobj\n",
        kinds.object_stream(b"4 0 <</S/JavaScript/JS(x)>>"),
    ],
)
def test_a_pdf_that_acts_is_refused(inner: bytes) -> None:
    assert "scripts" in refusal(kinds.pdf(inner), "application/pdf")


def test_a_pdf_without_end_is_refused() -> None:
    assert "whole" in refusal(kinds.pdf(end=b""), "application/pdf")


def test_the_beginning_of_a_large_content_is_enough_for_its_type() -> None:
    head = kinds.pdf(end=b"")
    assert inspect(head, "application/pdf", path="x", is_whole=False).kind is Kind.PDF
    assert inspect(kinds.cda()[:400], "application/xml", path="x", is_whole=False).kind is Kind.XML
    refusal(head, "application/dicom", is_whole=False)
    refusal(DOSED, "application/pdf", is_whole=False)


@pytest.mark.parametrize(
    "data",
    [
        kinds.cda()[:-40],
        b"<a>",
        b"<a></b>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "http://169.254.169.254/">]><a>&x;</a>',
        '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'.encode("utf-16"),
        b'<?xml version="1.0" encoding="no-such"?><a/>',
        b"<a>&undefined;</a>",
        b"<a>" * 5000 + b"</a>" * 5000,
    ],
)
def test_xml_that_is_broken_or_hostile_is_refused(data: bytes) -> None:
    refusal(data, "application/xml")


@pytest.mark.parametrize(
    "data", [b'{"a": 1', b'{"a":1,"a":2}', b"[NaN]", b"[" * 100_000, b"[" * 500 + b"]" * 500, b'{"a":\xff}']
)
def test_json_that_is_broken_or_hostile_is_refused(data: bytes) -> None:
    refusal(data, "application/json")


@pytest.mark.parametrize("charset", ["us-ascii", "hex", "no-such", "undefined"])
def test_text_is_of_its_charset(charset: str) -> None:
    assert "charset" in refusal("é".encode(), f"text/plain; charset={charset}")
    assert inspect("é".encode("latin-1"), "text/plain; charset=ISO-8859-1", path="x").kind is Kind.TEXT


def test_text_with_embedded_objects_is_refused() -> None:
    refusal(RTF[:-1] + rb"{\object\objemb{\*\objdata 0105}}}", "application/rtf")


def test_billions_of_laughs_cost_nothing() -> None:
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE l [<!ENTITY l0 "lol">{entities}]><l>&l11;</l>'.encode()
    tracemalloc.start()
    try:
        refusal(bomb, "application/xml")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("declared", "data", "seconds"),
    [
        ("application/pdf", kinds.pdf(bytes(range(256)) * 16_384), 0.5),  # 4 MB: some milliseconds
        ("application/pdf", kinds.pdf(b"/ObjStm stream\n" * 200_000), 3),
        ("application/pdf", kinds.pdf(b"/ObjStm " * 400_000), 3),
        ("application/pdf", kinds.pdf(kinds.object_stream(b"\0" * 50_000_000)), 3),
        ("text/plain", b"PK\x05\x06" * 1_000_000, 3),
        ("application/xml", b"<a>" + b"<b/>" * 500_000 + b"</a>", 5),
        ("application/xml", b"<a " + b" ".join(b'a%d="1"' % n for n in range(100_000)) + b"/>", 5),
    ],
)
def test_hostile_sizes_are_bounded_in_time(declared: str, data: bytes, seconds: float) -> None:
    started = time.process_time()
    with suppress(Unprocessable):  # what matters here is that there is an answer
        inspect(data, declared, path="x")
    assert time.process_time() - started < seconds


def test_the_examples_of_the_dmp_pass(shared_data: Path) -> None:
    for name in ("Binary-example-annexe-binary-cda", "Bundle-example-annexe-fhir-document"):
        example = (shared_data / "dmp" / f"{name}.json").read_bytes()
        resource = json.loads(example)
        if resource["resourceType"] == "Binary":
            found = inspect(base64.b64decode(resource["data"]), resource["contentType"], path="x")
            assert found.kind is Kind.CDA
        else:
            found = inspect(example, "application/fhir+json", path="x")
            assert found.kind is Kind.FHIR_DOCUMENT
            assert found.header is not None
            assert found.header.patients == (("urn:oid:1.2.250.1.213.1.4.8", "123456789012345"),)
