"""ITI-106 Generate Metadata: IHE MHD 4.2.4, section 2:3.106."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from conformance.checks import all_pages, expect, ok, ok_xml, refused, values
from conformance.server import FHIR_XML
from conformance.shelf import Known, Shelf
from conformance.submissions import PDF, Resource, attachment_of, base64_of, cda, fhir_document, from_xml, unique_id

SHELF: Final = "generated"

_OPERATION = "DocumentReference/$generate-metadata"


def _asked(resource: Resource, name: str = "document") -> Resource:
    return {"resourceType": "Parameters", "parameter": [{"name": name, "resource": resource}]}


def _binary(content: bytes, content_type: str = "text/xml") -> Resource:
    return {"resourceType": "Binary", "contentType": content_type, "data": base64_of(content)}


def _generated(answer: Any) -> str:
    """The id of the DocumentReference that an answer refers to."""
    parameters = ok(answer)
    (part,) = (each for each in parameters["parameter"] if each["name"] == "DocumentReference")
    reference = part.get("valueReference", {}).get("reference", "")
    expect("DocumentReference/" in reference, "the part DocumentReference is a Reference to it", part)
    return str(reference).partition("/_history")[0].rpartition("/")[2]


@pytest.mark.row("106-1")
def test_106_1_cda(shelf: Shelf, first: Known) -> None:
    unique = unique_id()
    content = cda(first.person, unique)
    id = _generated(shelf.author.post(_OPERATION, _asked(_binary(content))))
    document = shelf.read(id)
    expect(document["type"]["coding"][0]["code"] == "11488-4", "type is the code of the CDA", document.get("type"))
    expect(unique in json.dumps(document), "the identifier of the CDA is that of the document")
    attachment = attachment_of(document)
    expect(attachment["contentType"] == "text/xml", "the MIME type is kept", attachment["contentType"])
    answer = shelf.author.get(attachment["url"], Accept="text/xml")
    expect(answer.content == content, "the bytes are kept", answer.status_code)
    sets = all_pages(shelf.author, f"List?patient={first.id}&code=submissionset&item=DocumentReference/{id}")
    items = [each["item"]["reference"] for one in sets for each in one.get("entry", ())]
    expect(any(id in each for each in items), "a SubmissionSet is created", len(items))


@pytest.mark.row("106-1")
def test_106_1_cda_in_xml(shelf: Shelf, first: Known) -> None:
    body = from_xml("generate-metadata.xml", data=base64_of(cda(first.person)))
    root = ok_xml(shelf.author.post(_OPERATION, body, content_type=FHIR_XML, Accept=FHIR_XML))
    references = values(root, "parameter/valueReference/reference")
    expect(len(references) == 1 and "DocumentReference/" in references[0], "a Reference to it, in XML", references)


@pytest.mark.row("106-1")
def test_106_1_fhir_document(shelf: Shelf, first: Known) -> None:
    document = shelf.read(_generated(shelf.author.post(_OPERATION, _asked(fhir_document(first.person)))))
    expect(document["type"]["coding"][0]["code"] == "60591-5", "type is that of the Composition", document.get("type"))
    content = shelf.author.get(attachment_of(document)["url"], Accept="application/fhir+json")
    expect(ok(content)["type"] == "document", "its content is the document Bundle", content.text[:200])


@pytest.mark.row("106-2")
def test_106_2_again(shelf: Shelf, first: Known) -> None:
    content = cda(first.person)
    asked = _asked(_binary(content))
    both = [_generated(shelf.author.post(_OPERATION, asked)) for _ in range(2)]
    expect(both[0] == both[1], "the existing DocumentReference is referenced", both)


def _cases(first: Known) -> dict[str, Resource]:
    document = _binary(cda(first.person))
    text = cda(first.person).decode()
    start, end = text.index("<recordTarget>"), text.index("</recordTarget>") + len("</recordTarget>")
    lines = text.splitlines()
    return {
        "no part": {"resourceType": "Parameters", "parameter": []},
        "two parts": {"resourceType": "Parameters", "parameter": _asked(document)["parameter"] * 2},
        "other name": _asked(document, "content"),
        "no document Bundle": _asked(fhir_document(first.person) | {"type": "collection"}),
        "PDF": _asked(_binary(PDF, "application/pdf")),
        "CDA without patient": _asked(_binary((text[:start] + text[end:]).encode())),
        "CDA without code": _asked(_binary("\n".join(x for x in lines if not x.startswith("  <code")).encode())),
        "CDA without effectiveTime": _asked(
            _binary("\n".join(x for x in lines if not x.startswith("  <effectiveTime")).encode())
        ),
    }


@pytest.mark.row("106-3")
@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("no part", "structure"),
        ("two parts", "structure"),
        ("other name", "structure"),
        ("no document Bundle", "structure"),
        ("PDF", "not-supported"),
        ("CDA without patient", "required"),
        ("CDA without code", "required"),
        ("CDA without effectiveTime", "required"),
    ],
)
def test_106_3_refused(shelf: Shelf, first: Known, case: str, code: str) -> None:
    query = f"DocumentReference?patient={first.id}&_summary=count"
    before = ok(shelf.author.get(query))["total"]
    answer = shelf.author.post(_OPERATION, _cases(first)[case])
    codes = {code} | ({"structure", "not-supported", "required"} if code == "structure" else set())
    refused(answer, 422, *codes)
    after = ok(shelf.author.get(query))["total"]
    expect(after == before, "nothing is stored", (before, after))
