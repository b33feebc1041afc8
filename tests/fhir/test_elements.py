"""Parts of resources: what `_summary` and `_elements` leave, and that it says nothing the whole does not."""

from __future__ import annotations

import lzma
import os
from pathlib import Path
from typing import Any

import pytest

from definitions.summary import OUTPUT, summary_data
from passerelle.errors import Invalid, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.elements import SUBSETTED, Part, trimmed
from passerelle.fhir.validation import validate

OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "id": "1",
    "meta": {"versionId": "1", "tag": [{"system": "urn:x", "code": "kept"}]},
    "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'},
    "extension": [{"url": "urn:x", "valueString": "x"}],
    "modifierExtension": [{"url": "urn:y", "valueBoolean": True}],
    "status": "final",
    "_status": {"extension": [{"url": "urn:z", "valueString": "x"}]},
    "category": [{"text": "x"}],
    "code": {"text": "x"},
    "valueQuantity": {"value": 72.50, "unit": "kg"},
    "note": [{"text": "x"}],
    "component": [
        {
            "id": "c",
            "extension": [{"url": "urn:x", "valueString": "x"}],
            "code": {"text": "x"},
            "valueString": "x",
            "interpretation": [{"text": "x"}],
        }
    ],
}


def kept(**asked: Any) -> set[str]:
    return trimmed(OBSERVATION, **asked).keys() - {"resourceType", "id", "meta", "modifierExtension"}


def test_elements_and_what_is_mandatory() -> None:
    assert kept(elements=["note"]) == {"note", "status", "_status", "code"}


def test_an_element_of_several_types_has_one_name() -> None:
    assert kept(elements=["value"]) == {"valueQuantity", "status", "_status", "code"}
    assert kept(elements=["val"]) == {"status", "_status", "code"}


def test_summary() -> None:
    assert kept(summary="true") == {"status", "_status", "code", "valueQuantity", "component"}
    assert kept(summary="text") == {"text", "status", "_status", "code"}
    assert kept(summary="data") == kept() - {"text"}


def test_a_summary_leaves_out_inner_elements_but_not_their_extensions() -> None:
    (component,) = trimmed(OBSERVATION, summary="true")["component"]
    assert component.keys() == {"id", "extension", "code", "valueString"}


def test_a_document_is_summarised_without_its_content() -> None:
    document = {
        "resourceType": "DocumentReference",
        "status": "current",
        "content": [{"attachment": {"contentType": "text/plain", "data": "eA==", "title": "x"}}],
    }
    (content,) = trimmed(document, summary="true")["content"]
    assert content == {"attachment": {"contentType": "text/plain", "title": "x"}}


def test_what_is_contained_stays_if_the_part_refers_to_it() -> None:
    resource = {
        "resourceType": "Observation",
        "contained": [
            {"resourceType": "Patient", "id": "p", "managingOrganization": {"reference": "#o"}},
            {"resourceType": "Organization", "id": "o"},
            {"resourceType": "Specimen", "id": "s"},
        ],
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": "#p"},
        "specimen": {"reference": "#s"},
    }
    assert [each["id"] for each in trimmed(resource, summary="true")["contained"]] == ["p", "o"]
    assert "contained" not in trimmed(resource, elements=["code"])


def test_a_part_is_tagged_once_and_the_whole_is_not_changed() -> None:
    part = trimmed(trimmed(OBSERVATION, summary="true"), summary="text")
    assert part["meta"] == {"versionId": "1", "tag": [{"system": "urn:x", "code": "kept"}, SUBSETTED]}
    assert SUBSETTED not in OBSERVATION["meta"]["tag"]
    bare = trimmed({"resourceType": "Basic", "code": {"text": "x"}}, summary="true")
    assert list(bare) == ["resourceType", "meta", "code"]


@pytest.mark.parametrize("summary", ["false", "count"])
def test_the_whole_is_passed_on_as_it_is_stored(summary: str) -> None:
    body = b'{"resourceType":"Observation", "valueQuantity":{"value":72.50}}'
    assert Part.read([("_summary", summary)]).of(body) is body


def test_digits_are_kept() -> None:
    body = b'{"resourceType":"Observation","id":"1","valueQuantity":{"value":72.50}}'
    assert b"72.50" in Part.read([("_elements", "value")]).of(body)


@pytest.mark.parametrize(
    "pairs",
    [
        [("_summary", "yes")],
        [("_summary", "")],
        [("_summary", "true"), ("_summary", "text")],
        [("_elements", "")],
        [("_elements", "a.b")],
        [("_elements", "value[x]")],
    ],
)
def test_what_is_no_part_is_refused(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(Invalid):
        Part.read(pairs)


def faults(resource: dict[str, Any]) -> list[str | None]:
    """Those of form and cardinality; an invariant between elements may need one that is left out (org-1)."""
    try:
        validate(resource)
    except (Invalid, Unprocessable) as refusal:
        return [issue.expression for issue in refusal.issues if issue.code != "invariant"]
    return []


def test_nothing_mandatory_is_missing_at_any_depth(shared_data: Path) -> None:
    """In the official examples that are not very large, to be quick."""
    with lzma.open(shared_data / "hl7_r4_examples.ndjson.xz") as lines:
        for line in lines:
            if len(line) < 20_000:
                found = fhir_json.loads(line)
                resource = found.get("resource", found)
                assert set(faults(trimmed(resource, summary="true"))) <= set(faults(resource))
                assert set(faults(trimmed(resource, summary="text"))) <= set(faults(resource))


def test_the_data_is_made_from_the_official_definitions() -> None:
    folder = os.environ.get("PASSERELLE_R4_DEFINITIONS")
    if folder is None:
        pytest.skip("PASSERELLE_R4_DEFINITIONS does not name the folder of the official definitions")
    assert fhir_json.loads(OUTPUT.read_bytes()) == summary_data(Path(folder))
