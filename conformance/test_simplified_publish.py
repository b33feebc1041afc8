"""ITI-105 Simplified Publish: IHE MHD 4.2.4, section 2:3.105; flux 09/10 of ANS PDSm; TD2 of the DMP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from conformance.checks import all_pages, expect, ids, ok, ok_xml, refused, values
from conformance.server import FHIR_XML
from conformance.shelf import Known, Shelf
from conformance.submissions import (
    CDA,
    CDA_HASH,
    EMPTY_HASH,
    SIMPLIFIED,
    URI,
    Resource,
    attachment_of,
    base64_of,
    from_xml,
    full_url,
    simplified,
    the,
    unique_id,
    without,
)

SHELF: Final = "simplified"


def _published(shelf: Shelf, resource: Resource) -> Resource:
    answer = shelf.author.post("DocumentReference", resource)
    made: Resource = ok(answer, 201)
    where = answer.headers.get("location", "")
    expect(f"DocumentReference/{made['id']}" in where, "Location names the new DocumentReference", where)
    expect(answer.headers.get("etag") == f'W/"{made["meta"]["versionId"]}"', "ETag is its version", answer.headers)
    return made


@pytest.mark.row("105-1")
def test_105_1_publish(shelf: Shelf) -> None:
    resource = simplified(shelf.person.reference)
    made = _published(shelf, resource)
    attachment = attachment_of(made)
    expect("data" not in attachment, "data is replaced", attachment.keys())
    expect(attachment.get("url", "").startswith("http"), "by the absolute URL of the Binary", attachment.get("url"))
    answer = shelf.author.get(attachment["url"], Accept="application/xml")
    expect((answer.status_code, answer.content) == (200, CDA), "which has the bytes (ITI-68)", answer.status_code)
    found = shelf.find(resource["masterIdentifier"]["value"])
    expect(ids(found) == [made["id"]], "the document is found (ITI-67)", ids(found))
    _in_a_submission_set(shelf, made["id"])


def _in_a_submission_set(shelf: Shelf, id: str) -> None:
    # Where the server has no parameter item, this finds all Lists.
    query = f"List?patient={shelf.person.id}&code=submissionset&item=DocumentReference/{id}"
    sets = all_pages(shelf.author, query)
    items = {each["item"]["reference"].rpartition("/")[2] for one in sets for each in one.get("entry", ())}
    expect(id in items, "a SubmissionSet is derived, and found (ITI-66)", f"{len(sets)} others")


@pytest.mark.row("105-1")
def test_105_1_publish_in_xml(shelf: Shelf) -> None:
    unique = unique_id()
    body = from_xml("document-reference.xml", subject=shelf.person.reference, unique=unique, data=base64_of(CDA))
    root = ok_xml(shelf.author.post("DocumentReference", body, content_type=FHIR_XML, Accept=FHIR_XML), 201)
    (url,) = values(root, "content/attachment/url")
    expect(shelf.author.get(url, Accept="*/*").content == CDA, "the bytes are those that were sent")
    expect(ids(shelf.find(unique)) == values(root, "id"), "the document is found", values(root, "id"))


def _away(path: str) -> Callable[[Resource], Resource]:
    return lambda resource: without(resource, path)


def _attached(**changes: Any) -> Callable[[Resource], Resource]:
    def change(resource: Resource) -> Resource:
        attachment_of(resource).update(changes)
        return resource

    return change


def _with(**changes: Any) -> Callable[[Resource], Resource]:
    return lambda resource: resource | changes


def _typed(code: str) -> Resource:
    system = "https://profiles.ihe.net/ITI/MHD/CodeSystem/IHE.MHD.MHDIdentifierType"
    return {"coding": [{"system": system, "code": code}]}


_FAULTS: dict[str, Callable[[Resource], Resource]] = {
    "masterIdentifier missing": _away("masterIdentifier"),
    "status missing": _away("status"),
    "subject missing": _away("subject"),
    "content missing": _away("content"),
    "contentType missing": _away("content.attachment.contentType"),
    "data missing": _away("content.attachment.data"),
    "status superseded": _with(status="superseded"),
    "url present": _attached(url="https://example.org/Binary/1"),
    "docStatus present": _with(docStatus="final"),
    "modifierExtension present": _with(
        modifierExtension=[{"url": "https://example.org/modifier", "valueBoolean": True}]
    ),
    "two content": lambda resource: resource | {"content": resource["content"] * 2},
    "entryUUID present": lambda resource: (
        resource
        | {"identifier": [{"use": "official", "system": URI, "value": full_url(), "type": _typed("entryUUID")}]}
    ),
    "uniqueId differs": lambda resource: (
        resource | {"identifier": [{"use": "usual", "system": URI, "value": unique_id(), "type": _typed("uniqueId")}]}
    ),
}


@pytest.mark.row("105-2")
@pytest.mark.parametrize("fault", _FAULTS)
def test_105_2_fault(shelf: Shelf, fault: str) -> None:
    resource = simplified(shelf.person.reference)
    unique = resource["masterIdentifier"]["value"]
    refused(shelf.author.post("DocumentReference", _FAULTS[fault](resource)), 422, "required", "value", "invariant")
    expect(not shelf.find(unique), "nothing is stored")


@pytest.mark.row("105-3")
@pytest.mark.parametrize(("element", "value"), [("hash", EMPTY_HASH), ("size", 81)])
def test_105_3_wrong(shelf: Shelf, element: str, value: object) -> None:
    resource = simplified(shelf.person.reference)
    attachment_of(resource)[element] = value
    refused(shelf.author.post("DocumentReference", resource), 422, "value", at=element)
    expect(not shelf.find(resource["masterIdentifier"]["value"]), "nothing is stored")


@pytest.mark.row("105-3")
def test_105_3_absent(shelf: Shelf) -> None:
    made = _published(shelf, simplified(shelf.person.reference))
    attachment = attachment_of(made)
    expect(
        (attachment.get("size"), attachment.get("hash")) == (len(CDA), CDA_HASH),
        "the server computes size and hash",
        attachment,
    )


@pytest.mark.row("105-4")
@pytest.mark.parametrize("form", ["logical", "conditional"])
def test_105_4_subject(shelf: Shelf, first: Known, form: str) -> None:
    resource = simplified(first.condition)
    if form == "logical":
        system, value = first.person.system, first.person.value
        resource["subject"] = {"type": "Patient", "identifier": {"system": system, "value": value}}
    made = _published(shelf, resource)
    expect(
        ids(shelf.find(resource["masterIdentifier"]["value"])) == [made["id"]], "it is in the record of that patient"
    )


@pytest.mark.row("105-5")
@pytest.mark.option("relations")
def test_105_5_replace(shelf: Shelf) -> None:
    old = shelf.published()
    resource = simplified(shelf.person.reference)
    resource["relatesTo"] = [{"code": "replaces", "target": {"reference": old.reference}}]
    made = _published(shelf, resource)
    expect(made["status"] == "current", "the new document is current", made["status"])
    status = shelf.read(old)["status"]
    expect(status == "superseded", "the document that it replaces is superseded in the same write", status)


@pytest.mark.row("105-5")
@pytest.mark.option("relations", is_claimed=False)
def test_105_5_relations_not_supported(shelf: Shelf) -> None:
    old = shelf.published()
    resource = simplified(shelf.person.reference)
    resource["relatesTo"] = [{"code": "replaces", "target": {"reference": old.reference}}]
    answer = shelf.author.post("DocumentReference", resource)
    expect(answer.status_code == 201, "the document is stored", answer.status_code)
    warning = answer.headers.get("warning", "")
    expect(
        warning.startswith("199") and "PartialReplaceContentNotProcessed" in warning,
        "the header Warning: 199 says PartialReplaceContentNotProcessed",
        warning,
    )
    expect(shelf.read(old)["status"] == "current", "the other document stays as it is")


# --- PDSm and DMP -----------------------------------------------------------------------------------------------------


@pytest.mark.row("PDSM-3")
@pytest.mark.option("pdsm")
@pytest.mark.parametrize("case", ["valid", "invalid", "unknown patient"])
def test_pdsm_3_simplified_publish(shelf: Shelf, first: Known, case: str) -> None:
    resource = simplified(first.reference)
    resource["meta"] = {"profile": [SIMPLIFIED]}
    if case == "valid":
        _published(shelf, resource)
        return
    unique = resource["masterIdentifier"]["value"]
    if case == "invalid":
        refused(shelf.author.post("DocumentReference", without(resource, "content.attachment.contentType")), 422)
    else:
        resource["subject"] = {"reference": f"Patient?identifier={first.person.system}|199019999999999"}
        refused(shelf.author.post("DocumentReference", resource), 404, "not-found")
    expect(not shelf.find(unique), "nothing is stored")


@pytest.mark.row("PDSM-3")
@pytest.mark.option("pdsm")
def test_pdsm_3_simplified_publish_in_xml(shelf: Shelf, first: Known) -> None:
    unique = unique_id()
    body = from_xml("document-reference.xml", subject=first.condition, unique=unique, data=base64_of(CDA))
    made = ok(shelf.author.post("DocumentReference", body, content_type=FHIR_XML), 201)
    expect(ids(shelf.find(unique)) == [made["id"]], "the document is found")


@pytest.mark.row("DMP-6")
@pytest.mark.option("dmp")
@pytest.mark.parametrize("form", ["ITI-105", "ITI-65"])
def test_dmp_6_td2(shelf: Shelf, first: Known, form: str) -> None:
    """As the published examples …99999.1 and …99999.2: the 80-byte CDA, a conditional subject, no custodian."""
    if form == "ITI-105":
        made = _published(shelf, simplified(first.condition) | {"meta": {"profile": [SIMPLIFIED]}})
        expect(made["status"] == "current", "the document is current", made["status"])
        return
    bundle = shelf.submission(level="pdsm")
    for entry, absent in zip(bundle["entry"], ("identifier", "custodian"), strict=False):
        entry["resource"] = without(entry["resource"], absent) | {"subject": {"reference": first.condition}}
    document = the(bundle, "DocumentReference")
    shelf.send(bundle)
    found = shelf.find(document["masterIdentifier"]["value"])
    expect(len(found) == 1, "the document is found", ids(found))
