"""Documents in France: ANS PDSm 3.1.1, flux 01 to 04 (the others stand beside the transactions that they profile)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import combinations
from typing import Any, Final
from urllib.parse import quote

import pytest

from conformance.checks import expect, ids, labels, ok, refused, warnings_of
from conformance.server import FHIR_XML, JSON_PATCH, Actor
from conformance.shelf import Published, Shelf
from conformance.submissions import (
    ARCHIVED,
    NORMAL,
    URI,
    Resource,
    entry_of,
    fhirpath_patch,
    from_xml,
    label,
    replacing,
    submission_xml,
    the,
    unique_id,
    without,
)

pytestmark = pytest.mark.option("pdsm")

MASKS: Final = ("MASQUE_PS", "INVISIBLE_PATIENT", "INVISIBLE_REPRESENTANTS_LEGAUX")
_AT_ZERO: Final = "/securityLabel/0"


def _op(path: str, value: Any, op: str = "replace") -> list[Resource]:
    return [{"op": op, "path": path, "value": value}]


def labelled(shelf: Shelf, *codes: str) -> Published:
    """A document of confidentiality N with these masks."""
    return shelf.published(securityLabel=[copy.deepcopy(NORMAL), *(label(each) for each in codes)])


# --- submissions ------------------------------------------------------------------------------------------------------


@pytest.mark.row("PDSM-1")
@pytest.mark.parametrize("form", ["JSON", "XML"])
def test_pdsm_1_submission(shelf: Shelf, form: str) -> None:
    if form == "XML":
        body = submission_xml(shelf.person.person, shelf.person.reference, level="pdsm")
        ok(shelf.author.post("", body, content_type=FHIR_XML))
        return
    bundle = shelf.submission(level="pdsm")
    shelf.send(bundle)
    found = shelf.find(the(bundle, "DocumentReference")["masterIdentifier"]["value"])
    expect(len(found) == 1, "the document is found", ids(found))


@pytest.mark.row("PDSM-1")
@pytest.mark.option("relations")
def test_pdsm_1_replacement(shelf: Shelf) -> None:
    old = shelf.published(shelf.submission(level="pdsm"))
    shelf.send(replacing(shelf.submission(level="pdsm"), old.reference))
    expect(shelf.read(old)["status"] == "superseded", "the replaced document is superseded")


@pytest.mark.row("PDSM-1")
@pytest.mark.option("relations")
def test_pdsm_1_one_relation(shelf: Shelf) -> None:
    old, other = shelf.published(), shelf.published()
    bundle = replacing(shelf.submission(level="pdsm"), old.reference)
    the(bundle, "DocumentReference")["relatesTo"] *= 2
    the(bundle, "DocumentReference")["relatesTo"][1] = {"code": "replaces", "target": {"reference": other.reference}}
    refused(shelf.author.post("", bundle), 422)
    shelf.nothing_of({"entry": bundle["entry"][:3]})


@pytest.mark.row("PDSM-2")
@pytest.mark.parametrize(
    "path",
    [
        "date",
        "author",
        "contained",
        "context.period.start",
        "content.attachment.size",
        "content.attachment.hash",
        "content.attachment.title",
    ],
)
def test_pdsm_2_required(shelf: Shelf, path: str) -> None:
    bundle = shelf.submission(level="pdsm")
    entry = entry_of(bundle, "DocumentReference")
    entry["resource"] = without(entry["resource"], path)
    codes = ("required",) if path != "contained" else ("required", "invariant", "not-found")
    shelf.refused(bundle, 422, *codes)


@pytest.mark.row("PDSM-2")
@pytest.mark.parametrize("fault", ["custodian missing", "source a Practitioner"])
def test_pdsm_2_warning(shelf: Shelf, fault: str) -> None:
    bundle = shelf.submission(level="pdsm")
    if fault == "custodian missing":
        entry = entry_of(bundle, "DocumentReference")
        entry["resource"] = without(entry["resource"], "custodian")
    warned = warnings_of(shelf.send(bundle))
    expect(any(code == "required" for code, _ in warned), f"{fault}: accepted, with a warning (required)", warned)


# --- patches ----------------------------------------------------------------------------------------------------------

_CHANGES: Final[dict[str, tuple[Any, Callable[[Resource], bool]]]] = {
    "status": (_op("/status", "superseded"), lambda document: document["status"] == "superseded"),
    "securityLabel": (_op(_AT_ZERO, label("MASQUE_PS")), lambda document: "MASQUE_PS" in labels(document)),
    "isArchived": (
        _op("/extension/-", {"url": ARCHIVED, "valueBoolean": True}, "add"),
        lambda document: is_archived(document) is True,
    ),
    "status, FHIRPath": (
        fhirpath_patch("replace", "DocumentReference.status", "valueCode", "superseded"),
        lambda document: document["status"] == "superseded",
    ),
    "securityLabel, FHIRPath": (
        fhirpath_patch("add", "DocumentReference", "valueCodeableConcept", label("MASQUE_PS"), "securityLabel"),
        lambda document: "MASQUE_PS" in labels(document),
    ),
    "isArchived, FHIRPath": (
        fhirpath_patch("replace", f"DocumentReference.extension.where(url='{ARCHIVED}').value", "valueBoolean", True),
        lambda document: is_archived(document) is True,
    ),
}


def is_archived(document: Resource) -> bool | None:
    found = [each.get("valueBoolean") for each in document.get("extension", ()) if each["url"] == ARCHIVED]
    return found[0] if found else None


@pytest.mark.row("PDSM-4")
@pytest.mark.parametrize("target", ["id", "identifier"])
@pytest.mark.parametrize("change", _CHANGES)
def test_pdsm_4_patch(shelf: Shelf, change: str, target: str) -> None:
    made = shelf.published(extension=[{"url": ARCHIVED, "valueBoolean": False}])
    before = shelf.read(made)
    where = made.reference if target == "id" else f"DocumentReference?identifier={quote(f'{URI}|{made.unique}')}"
    body, is_done = _CHANGES[change]
    body = copy.deepcopy(body)
    if change == "isArchived":
        body = _op("/extension/0/valueBoolean", True)
    answer = shelf.author.patch(where, body)
    after = ok(answer)
    expect(after["resourceType"] == "DocumentReference", "the body is the DocumentReference", after["resourceType"])
    expect(is_done(after), f"{change} is changed", after)
    expect(after["id"] == made.id, "its id is stable", after["id"])
    expect(after["meta"]["versionId"] == "2", "its version is one more", after["meta"]["versionId"])
    expect(answer.headers.get("etag") == 'W/"2"', "ETag is its version", answer.headers.get("etag"))
    expect(after["meta"]["lastUpdated"] >= before["meta"]["lastUpdated"], "lastUpdated moves")
    expect(shelf.read(made) == after, "the body is what is stored")


@pytest.mark.row("PDSM-4")
def test_pdsm_4_patch_in_xml(shelf: Shelf) -> None:
    made = shelf.published()
    after = ok(shelf.author.patch(made.reference, from_xml("patch.xml", status="superseded"), content_type=FHIR_XML))
    expect(after["status"] == "superseded", "status is changed", after["status"])


@pytest.mark.row("PDSM-5")
def test_pdsm_5_no_match(shelf: Shelf) -> None:
    where = f"DocumentReference?identifier={quote(f'{URI}|{unique_id()}')}"
    refused(shelf.author.patch(where, _op("/status", "superseded")), 404, "not-found")


@pytest.mark.row("PDSM-5")
@pytest.mark.option("dmp")
def test_pdsm_5_hidden_match(shelf: Shelf, professional: Actor) -> None:
    made = labelled(shelf, "MASQUE_PS")
    where = f"DocumentReference?identifier={quote(f'{URI}|{made.unique}')}"
    refused(professional.patch(where, _op(_AT_ZERO, label("INVISIBLE_PATIENT"))), 404, "not-found")
    expect(shelf.read(made)["meta"]["versionId"] == "1", "nothing is changed")


@pytest.mark.row("PDSM-5")
def test_pdsm_5_two_matches(shelf: Shelf) -> None:
    local = {"system": "urn:oid:2.999.41", "value": unique_id()}
    both = [shelf.published(identifier=[local]) for _ in range(2)]
    where = f"DocumentReference?identifier={quote(local['system'] + '|' + local['value'])}"
    refused(shelf.author.patch(where, _op("/status", "superseded")), 412, "multiple-matches")
    for each in both:
        expect(shelf.read(each)["meta"]["versionId"] == "1", "nothing is changed")


@pytest.mark.row("PDSM-6")
@pytest.mark.parametrize(
    ("body", "place"),
    [
        (_op("/description", "other", "add"), "description"),
        (_op("/type/coding/0/code", "34112-3"), "type"),
        ([*_op("/status", "superseded"), *_op("/type/coding/0/code", "34112-3")], "type"),
        ([{"op": "copy", "from": "/status", "path": "/docStatus"}], "docStatus"),
        ([{"op": "move", "from": "/date", "path": "/description"}], "d"),
        (fhirpath_patch("replace", "DocumentReference.date", "valueInstant", "2026-01-01T00:00:00Z"), "date"),
    ],
    ids=["add", "replace", "beside an allowed one", "copy", "move", "FHIRPath"],
)
def test_pdsm_6_anything_else(shelf: Shelf, body: Any, place: str) -> None:
    made = shelf.published()
    refused(shelf.author.patch(made.reference, body), 405, "not-supported", at=place)
    expect(shelf.read(made)["meta"]["versionId"] == "1", "nothing is applied")


@pytest.mark.row("PDSM-7")
@pytest.mark.parametrize(
    ("path", "value", "codes"),
    [
        (f"/extension[url:‘{ARCHIVED}’]/valueBoolean", True, ("value",)),
        ("/extension[url:'https://example.org/other']/valueBoolean", True, ("value",)),
        ("/securityLabel[0]", label("MASQUE_PS"), ("value",)),
        ("/securityLabel", "restricted", ("value", "code-invalid")),
        ("/status", "current ", ("value", "code-invalid")),
        ("/status", "preliminary", ("value", "code-invalid")),
    ],
    ids=["curly quotes", "other URL", "brackets", "label as text", "status with a space", "status of no code"],
)
def test_pdsm_7_not_understood(shelf: Shelf, path: str, value: Any, codes: tuple[str, ...]) -> None:
    made = shelf.published(extension=[{"url": ARCHIVED, "valueBoolean": False}])
    outcome = refused(shelf.author.patch(made.reference, _op(path, value)), 422, *codes)
    told = " ".join(str(each.get("diagnostics", "")) for each in outcome["issue"])
    expect(len(told) > 20, "the outcome helps: it names the accepted forms", told)
    expect(shelf.read(made)["meta"]["versionId"] == "1", "nothing is changed")


@pytest.mark.row("PDSM-8")
def test_pdsm_8_xml_patch(shelf: Shelf) -> None:
    made = shelf.published()
    change = b'<replace sel="f:DocumentReference/f:status/@value">superseded</replace>'
    body = b'<diff xmlns:f="http://hl7.org/fhir">' + change + b"</diff>"
    answer = shelf.author.patch(made.reference, body, content_type="application/xml-patch+xml")
    refused(answer, 415, "not-supported")
    accepted = answer.headers.get("accept-patch", "")
    expect(JSON_PATCH in accepted, f"Accept-Patch names the accepted forms, {JSON_PATCH} among them", accepted)


@pytest.mark.row("PDSM-8")
@pytest.mark.parametrize(
    "body", ["[]", "[", '{"op": "replace"}', '[{"op": "improve", "path": "/status", "value": "superseded"}]']
)
def test_pdsm_8_malformed(shelf: Shelf, body: str) -> None:
    made = shelf.published()
    refused(shelf.author.patch(made.reference, body, content_type=JSON_PATCH), 400, "structure")
    expect(shelf.read(made)["meta"]["versionId"] == "1", "nothing is changed")


@pytest.mark.row("PDSM-9")
def test_pdsm_9_producer(shelf: Shelf) -> None:
    made = shelf.published()
    for status in ("superseded", "current"):
        after = ok(shelf.author.patch(made.reference, _op("/status", status)))
        expect(after["status"] == status, f"the producer makes it {status}", after["status"])


@pytest.mark.row("PDSM-9")
def test_pdsm_9_other_organisation(shelf: Shelf, professional: Actor) -> None:
    made = shelf.published()
    refused(professional.patch(made.reference, _op("/status", "superseded")), 403, "forbidden")
    expect(shelf.read(made)["status"] == "current", "nothing is changed")


# --- labels -----------------------------------------------------------------------------------------------------------

_START_SETS: Final = tuple(codes for count in range(4) for codes in combinations(MASKS, count))


@pytest.mark.row("PDSM-10")
@pytest.mark.parametrize("added", MASKS)
@pytest.mark.parametrize("start", _START_SETS, ids="+".join)
def test_pdsm_10_label_at_a_position(shelf: Shelf, start: tuple[str, ...], added: str) -> None:
    made = labelled(shelf, *start)
    after = ok(shelf.author.patch(made.reference, _op(_AT_ZERO, label(added))))
    wanted = {"N", added, *start}
    expect(set(labels(after)) == wanted, "the label is added to the set, and none is lost", labels(after))


@pytest.mark.row("PDSM-11")
@pytest.mark.parametrize("start", _START_SETS, ids="+".join)
def test_pdsm_11_normal_at_a_position(shelf: Shelf, start: tuple[str, ...]) -> None:
    made = labelled(shelf, *start)
    answer = shelf.author.patch(made.reference, _op(_AT_ZERO, NORMAL))
    if len(start) > 1:
        refused(answer, 422, "business-rule")
        wanted = {"N", *start}
    else:
        ok(answer)
        wanted = {"N"}
    stored = labels(shelf.read(made))
    expect(set(stored) == wanted, "N lifts the one mask there is; several are kept", stored)


@pytest.mark.row("PDSM-12")
@pytest.mark.parametrize("form", ["JSON Patch", "FHIRPath Patch"])
@pytest.mark.parametrize("lifted", MASKS[:2])
def test_pdsm_12_by_name(shelf: Shelf, form: str, lifted: str) -> None:
    made = labelled(shelf, *MASKS[:2])
    stored = shelf.read(made)["securityLabel"]
    at = next(n for n, each in enumerate(stored) if each["coding"][0]["code"] == lifted)
    body: Any = [
        {"op": "test", "path": f"/securityLabel/{at}/coding/0/code", "value": lifted},
        {"op": "remove", "path": f"/securityLabel/{at}"},
    ]
    if form == "FHIRPath Patch":
        body = fhirpath_patch("delete", f"DocumentReference.securityLabel.where(coding.code='{lifted}')")
    after = ok(shelf.author.patch(made.reference, body))
    (kept,) = set(MASKS[:2]) - {lifted}
    expect(set(labels(after)) == {"N", kept}, "that mask only is lifted", labels(after))


@pytest.mark.row("PDSM-12")
def test_pdsm_12_silently_dropped(shelf: Shelf) -> None:
    made = labelled(shelf, *MASKS[:2])
    answer = shelf.author.patch(made.reference, _op("/securityLabel", [NORMAL, label(MASKS[0])]))
    refused(answer, 422, "business-rule")
    expect(set(labels(shelf.read(made))) == {"N", *MASKS[:2]}, "both masks are kept", labels(shelf.read(made)))


@pytest.mark.row("PDSM-13")
@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        *((each, each) for each in (*MASKS, "MASQUE_PSOCIAL", "MASQUE_PT")),
        ("INVISIBLE_REP_LEGAUX", "INVISIBLE_REPRESENTANTS_LEGAUX"),
    ],
)
def test_pdsm_13_codes(shelf: Shelf, sent: str, kept: str) -> None:
    made = shelf.published()
    after = ok(shelf.author.patch(made.reference, _op(_AT_ZERO, label(sent))))
    expect(set(labels(after)) == {"N", kept}, f"{sent} is stored as {kept}", labels(after))


@pytest.mark.row("PDSM-13")
def test_pdsm_13_unknown_code(shelf: Shelf) -> None:
    made = shelf.published()
    refused(shelf.author.patch(made.reference, _op(_AT_ZERO, label("MASQUE_TOUT"))), 422, "code-invalid")
    expect(labels(shelf.read(made)) == ["N"], "nothing is changed")
