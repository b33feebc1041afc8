"""What a patch of a document means (contract D5 to D7, P21): whatever a client sends, only what it names is changed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.consents import visibility
from passerelle.errors import PasserelleError, Unprocessable
from passerelle.fhir.document_patch import DocumentPatch, Revised, labels_of
from passerelle.fhir.validation import validate
from tests.documents import ARCHIVE_PATH, ARCHIVED, JSON_PATCH, fhirpath, label, labels, operation, relabel

MASKS = sorted(visibility.labels())
FHIR = "application/fhir+json"


def stored(*codes: str, **more: Any) -> dict[str, Any]:
    told = {"securityLabel": [label(code) for code in codes]} if codes else {}
    return {
        "resourceType": "DocumentReference",
        "id": "a",
        "meta": {"versionId": "1"},
        "status": "current",
        "subject": {"reference": "Patient/p"},
        "description": "d",
        "content": [{"attachment": {"contentType": "text/plain", "url": "http://x.example/Binary/a"}}],
        **told,
        **more,
    }


def applied(document: Mapping[str, Any], patch: Any) -> Revised:
    revised = DocumentPatch.read(patch, JSON_PATCH if isinstance(patch, list) else FHIR).applied(document)
    validate(revised.content, expected_type="DocumentReference")
    assert labels_of(revised.content) == revised.after
    others = {"status", "securityLabel", "extension"}
    assert {name: value for name, value in revised.content.items() if name not in others} == {
        name: value for name, value in document.items() if name not in others
    }
    return revised


codes = st.lists(st.sampled_from([*MASKS, "N", "R"]), unique=True, max_size=6).filter(
    lambda found: not {"N", "R"} <= set(found)
)
position = st.integers(0, 6).map(str) | st.just("-")


@given(codes, st.sampled_from(MASKS), st.sampled_from(["replace", "add"]), position)
def test_by_place_a_mask_is_only_added(start: list[str], mask: str, op: str, where: str) -> None:
    """PDSM-10, whatever the place, from every start set."""
    try:
        after = applied(stored(*start), relabel(mask, op, f"/securityLabel/{where}")).after
    except PasserelleError:
        assert where not in ("0",) or (op == "add" and not start)  # a list that is not there has no place
        return
    assert after.masks == {mask, *(each for each in start if each in MASKS)}
    assert after.confidentiality == next((each for each in start if each not in MASKS), None)


@given(codes, st.lists(position, min_size=1, max_size=4))
def test_n_by_place_never_drops_two_masks(start: list[str], places: list[str]) -> None:
    """P21: neither in one patch nor in several."""
    document = stored(*start)
    before = labels_of(document).masks
    for where in places:
        try:
            document = dict(applied(document, relabel("N", path=f"/securityLabel/{where}")).content)
        except PasserelleError:
            continue
    left = labels_of(document).masks
    assert left == before or (len(before) == 1 and not left)


@given(codes, st.lists(st.tuples(st.sampled_from(["replace", "add", "remove"]), position, codes), max_size=5))
def test_no_patch_lifts_what_it_does_not_name(start: list[str], steps: list[tuple[str, str, list[str]]]) -> None:
    """Any operations by place, without a test and without N: nothing is lifted."""
    patch = [
        operation(op, f"/securityLabel/{where}", *([] if op == "remove" else [label(given[0])]))
        for op, where, given in steps
        if given and given[0] != "N"
    ]
    if not patch:
        return
    try:
        after = applied(stored(*start), patch).after
    except PasserelleError:
        return
    assert after.masks >= {each for each in start if each in MASKS}


@pytest.mark.parametrize("start", [(), *((one,) for one in MASKS), *(("N", one) for one in MASKS)])
def test_mask_and_unmask_are_inverse_as_the_draft_writes_them(start: tuple[str, ...]) -> None:
    document = stored(*start)
    if labels_of(document).masks:
        after = applied(document, relabel("N")).content
        assert not labels_of(after).masks
    else:
        masked = applied(document, relabel("MASQUE_PS")).content
        assert labels_of(applied(masked, relabel("N")).content).masks == frozenset()


def test_the_draft_unmasks_though_the_place_holds_n_already() -> None:
    """The list is [N, MASQUE_PS] and N goes to the first place: read as RFC 6902, nothing would change."""
    assert labels(applied(stored("N", "MASQUE_PS"), relabel("N")).content) == ["N"]


def test_a_test_names_what_a_removal_lifts() -> None:
    named = [operation("test", "/securityLabel/1/coding/0/code", "MASQUE_PS"), operation("remove", "/securityLabel/1")]
    document = stored("N", "MASQUE_PS", "INVISIBLE_PATIENT")
    assert labels(applied(document, named).content) == ["N", "INVISIBLE_PATIENT"]
    whole = [operation("test", "/securityLabel/1", label("MASQUE_PS")), operation("remove", "/securityLabel/1")]
    assert labels(applied(document, whole).content) == ["N", "INVISIBLE_PATIENT"]
    other = [operation("test", "/securityLabel/1/coding/0/code", "MASQUE_PS"), operation("remove", "/securityLabel/2")]
    with pytest.raises(Unprocessable):
        applied(document, other)
    with pytest.raises(Unprocessable):
        applied(document, [operation("test", "/securityLabel/1/coding/0/code", "N"), *named[1:]])


def test_places_are_those_that_the_operations_before_have_left() -> None:
    patch = [
        operation("add", "/securityLabel/0", label("MASQUE_PT")),
        operation("test", "/securityLabel/2/coding/0/code", "MASQUE_PS"),
        operation("remove", "/securityLabel/2"),
    ]
    assert labels(applied(stored("N", "MASQUE_PS"), patch).content) == ["N", "MASQUE_PT"]


def test_n_in_the_place_of_a_named_label_lifts_that_one() -> None:
    path = "DocumentReference.securityLabel.where(coding.code = 'MASQUE_PS')"
    patch = fhirpath("replace", path, value={"valueCodeableConcept": label("N")})
    assert labels(applied(stored("N", "MASQUE_PS", "INVISIBLE_PATIENT"), patch).content) == ["N", "INVISIBLE_PATIENT"]


@pytest.mark.parametrize(
    "patch",
    [
        fhirpath("delete", "DocumentReference.securityLabel.where(coding.code = 'MASQUE_PS')"),
        fhirpath("delete", "securityLabel.where(coding.system = 'urn:x' and coding.code = 'MASQUE_PS')"),
        fhirpath("delete", "DocumentReference.securityLabel.where(coding.code = 'MASQUE_PT')"),
    ],
)
def test_a_fhirpath_deletes_what_its_filter_names_and_nothing_where_there_is_none(patch: dict[str, Any]) -> None:
    after = applied(stored("N", "MASQUE_PS"), patch).after
    is_found = "urn:x" not in str(patch) and "MASQUE_PT" not in str(patch)
    assert after.masks == (frozenset() if is_found else {"MASQUE_PS"})


@pytest.mark.parametrize(
    "path", ["securityLabel[1]", "securityLabel.last()", "securityLabel.where(coding.code = 'X')[0]", "securityLabel"]
)
def test_a_fhirpath_that_names_no_label_lifts_none(path: str) -> None:
    start = stored("MASQUE_PS") if path == "securityLabel" else stored("N", "MASQUE_PS")
    try:
        after = applied(start, fhirpath("delete", f"DocumentReference.{path}")).after
    except Unprocessable:
        return
    assert after.masks == {"MASQUE_PS"}


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("start", [{}, {"extension": [{"url": "urn:x", "valueCode": "a"}]}])
def test_archive_sets_or_creates_the_extension(value: bool, start: dict[str, Any]) -> None:
    """DMP-27: with JSON Patch as the draft writes it, and with FHIRPath Patch."""
    here = {"url": ARCHIVED, "valueBoolean": not value}
    others = start.get("extension", [])
    wheres = [f"DocumentReference.extension.where(url = '{ARCHIVED}').value", f"extension('{ARCHIVED}').value"]
    patches: list[Any] = [[operation("replace", ARCHIVE_PATH, value)], [operation("add", ARCHIVE_PATH, value)]]
    patches += [fhirpath("replace", where, value={"valueBoolean": value}) for where in wheres]
    for patch, document in itertools.product(patches, (stored(**start), stored(extension=[*others, here]))):
        assert applied(document, patch).content["extension"] == [*others, {"url": ARCHIVED, "valueBoolean": value}]


def test_archive_by_the_standards_alone() -> None:
    extension = {"url": ARCHIVED, "valueBoolean": True}
    archived = stored(extension=[{"url": "urn:x", "valueCode": "a"}, extension])
    assert applied(stored(), [operation("add", "/extension", [extension])]).is_archive_changed
    assert applied(archived, [operation("replace", "/extension/1/valueBoolean", False)]).is_archive_changed
    assert applied(archived, [operation("remove", "/extension/1")]).content["extension"] == archived["extension"][:1]
    for patch in (operation("replace", "/extension/0/valueCode", "b"), operation("remove", "/extension/0")):
        with pytest.raises(PasserelleError) as refused:
            applied(archived, [patch])
        assert (refused.value.status, refused.value.issues[0].expression) == (405, "DocumentReference.extension")


def test_a_label_of_another_system_stays_and_cannot_be_added() -> None:
    other = {"coding": [{"system": "urn:x", "code": "a"}]}
    document = stored(securityLabel=[other, label("MASQUE_PS")])
    assert applied(document, relabel("MASQUE_PT")).content["securityLabel"][0] == other
    assert labels(applied(document, relabel("N")).content) == ["a"]
    kept = [operation("replace", "/securityLabel", [other, label("MASQUE_PS"), label("N")])]
    assert applied(document, kept).after.masks == {"MASQUE_PS"}
    with pytest.raises(Unprocessable):
        applied(stored(), [operation("add", "/securityLabel", [other])])


def test_two_labels_in_one_concept_are_two() -> None:
    both = {"coding": [*label("MASQUE_PS")["coding"], *label("INVISIBLE_PATIENT")["coding"]]}
    document = stored(securityLabel=[both])
    with pytest.raises(Unprocessable):
        applied(document, relabel("N"))
    path = "DocumentReference.securityLabel.where(coding.code = 'MASQUE_PS')"
    assert applied(document, fhirpath("delete", path)).after.masks == {"MASQUE_PS", "INVISIBLE_PATIENT"}
    named = [operation("test", "/securityLabel/0", both), operation("remove", "/securityLabel/0")]
    assert applied(document, named).after.masks == frozenset()
    single = [operation("test", "/securityLabel/0/coding/0/code", "MASQUE_PS"), operation("remove", "/securityLabel/0")]
    with pytest.raises(Unprocessable):
        applied(document, single)
