"""The rows of the record types against the definitions of FHIR, and what entries hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from passerelle.errors import Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.dates import date_range
from passerelle.fhir.definitions import Element, definition
from passerelle.fhir.index import (
    MAX_ENTRY_CHARACTERS,
    RECORD_TYPES,
    RecordType,
    entry_of,
    record_type,
    subject_of,
    with_subject,
)
from passerelle.fhir.validation import validate

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
ROWS = list(RECORD_TYPES.values())
PARAMETERS = [pytest.param(row, name, id=f"{row.name}.{name}") for row in ROWS for name in row.search if name[0] != "_"]
TYPES_OF_KIND = {
    "token": {"code", "id", "boolean", "string", "CodeableConcept", "Coding", "Identifier"},
    "reference": {"Reference"},
    "date": {"date", "dateTime", "instant", "Period", "Timing"},
    "string": {"string"},
}
REACH_OF_TYPE = {
    "instant": timedelta(),
    "date": timedelta(days=366),
    "dateTime": timedelta(days=366),
    "Period": None,
    "Timing": None,
}


def example(name: str) -> Any:
    return fhir_json.loads((EXAMPLES / f"{name}.json").read_bytes())


def elements_at(row: RecordType, path: str) -> Iterator[tuple[Element, bool]]:
    """The element a path ends in, and whether anything on the way repeats; fails if there is no such path."""
    here, element, repeats = row.name, None, False
    for step in re.findall(r"extension\('[^']+'\)|resolve\(\)|\w+", path):
        if step == "resolve()":
            assert element is not None
            assert element.type == "Reference"
            here = "PractitionerRole" if "resolve().practitioner" in path and here == row.name else "Practitioner"
            continue
        found = definition(here)
        assert found is not None
        name = "extension" if step.startswith("extension(") else step
        assert name in found.elements, f"{here} has no {name}"
        element = found.elements[name]
        repeats = repeats or element.many
        if element.type not in ("Reference",):
            here = element.type
    assert element is not None
    yield element, repeats


@pytest.mark.parametrize(("row", "name"), PARAMETERS)
def test_every_parameter_reads_elements_of_its_kind(row: RecordType, name: str) -> None:
    parameter = row.search[name]
    for path in parameter.paths:
        for element, _ in elements_at(row, path):
            assert element.type in TYPES_OF_KIND[parameter.kind]
            if parameter.kind == "date" and parameter.reach is not None:
                longest = REACH_OF_TYPE[element.type]
                assert longest is not None
                assert longest <= parameter.reach
            if element.codes:
                assert parameter.system, "a code of a required value set has a system"


@pytest.mark.parametrize("row", [row for row in ROWS if row.sort], ids=lambda row: row.name)
def test_a_resource_has_one_sort_date(row: RecordType) -> None:
    parameter = row.search[row.sort or ""]
    assert parameter.kind == "date"
    for path in parameter.paths:
        assert not any(repeats for _, repeats in elements_at(row, path))
    choices = {path.split(".")[-1] for path in parameter.paths}
    assert len({path.rsplit(".", 1)[0] for path in parameter.paths if "." in path}) <= 1
    if len(choices) > 1:
        found = definition(row.name)
        assert found is not None
        nested = [each for each in found.choices.values() if choices <= set(each)]
        assert nested or "." in parameter.paths[0], "several paths are one choice, of which one is present"


@pytest.mark.parametrize("row", [row for row in ROWS if row.compartment], ids=lambda row: row.name)
def test_a_compartment_may_be_a_patient(row: RecordType) -> None:
    for element, _ in elements_at(row, row.compartment or ""):
        assert not element.targets or "Patient" in element.targets


def test_codes_of_types_are_short_and_unique() -> None:
    codes = [row.code for row in ROWS]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch("[A-Z]{3}", code) for code in codes)


def test_an_unknown_type_is_not_stored() -> None:
    with pytest.raises(Unprocessable) as refused:
        record_type("NutritionOrder")
    assert refused.value.issues[0].code == "not-supported"


# --- entries ------------------------------------------------------------------------------------------------


def test_an_observation() -> None:
    entry = entry_of(example("observation"))
    assert entry.sort_at == "202503140730"
    assert dict(entry.values) == {
        "_id": ("|haemoglobin",),
        "_lastUpdated": ("20250314091203/20250314091203",),
        "identifier": ("urn:oid:2.999.4|R-2025-17|3",),
        "status": ("|final",),
        "category": ("http://terminology.hl7.org/CodeSystem/observation-category|laboratory",),
        "code": ("http://loinc.org|718-7", "urn:oid:2.999.4.1|HB"),
        "component-code": ("http://loinc.org|4544-3",),
        "date": ("20250314073000/20250314073000",),
        "encounter": ("Encounter/e1",),
        "performer": ("|urn:oid:1.2.250.1.71.4.2.2|1750000001",),
    }


def test_a_document() -> None:
    values = entry_of(example("document-reference")).values
    assert values["identifier"] == (
        "urn:ietf:rfc:3986|urn:oid:2.999.1.7",
        "urn:ietf:rfc:3986|urn:uuid:0c287d32-01e3-4d87-9953-9fcc9404eb21",
    )
    assert values["author.family"] == ("LEFÈVRE", "Œillet")
    assert values["author.given"] == ("Zoé", "Anne", "Marc")
    assert values["creation"] == ("20250313000000/20250313235959",)
    assert values["period"] == ("20250310000000/99999999999999",)
    assert values["related"] == ("|urn:oid:2.999.5|ACC-7",)
    for name in ("category", "event", "facility", "format", "security-label", "setting", "status", "type"):
        assert len(values[name]) == 1


def test_a_submission_set() -> None:
    values = entry_of(example("submission-set")).values
    assert values["designationType"] == ("urn:oid:2.999.6|11",)
    assert values["sourceId"] == ("urn:ietf:rfc:3986|urn:oid:2.999.7",)
    assert values["source.family"] == ("Martin",)
    assert values["source.given"] == ("Jean-Pierre",)


@pytest.mark.parametrize("name", ["observation", "document-reference", "submission-set"])
def test_the_examples_are_valid(name: str) -> None:
    validate(example(name))


def test_a_typical_entry_is_small() -> None:
    assert len(entry_of(example("observation")).pack().encode()) < 450


@pytest.mark.parametrize(
    ("timing", "expected"),
    [
        ({"event": ["2025-03-14", "2025-03-10"]}, ("20250310000000/20250314235959",)),
        ({"repeat": {"boundsPeriod": {"start": "2025-03-14"}}}, ("20250314000000/99999999999999",)),
        ({"code": {"text": "BID"}}, ()),
    ],
)
def test_a_timing_is_its_outer_limits(timing: Mapping[str, Any], expected: tuple[str, ...]) -> None:
    resource = {"resourceType": "Observation", "effectiveTiming": timing}
    entry = entry_of(resource)
    assert entry.values.get("date", ()) == expected
    assert entry.sort_at == (expected[0][:12] if expected else "0" * 12)


def test_a_boolean_and_an_absent_value() -> None:
    entry = entry_of(
        {
            "resourceType": "Practitioner",
            "active": False,
            "name": [{"given": [None, "Anne"], "_given": [{}, None]}],
        }
    )
    assert entry.values["active"] == ("|false",)
    assert entry.values["given"] == ("Anne",)
    assert "family" not in entry.values


def test_values_without_end_do_not_fit() -> None:
    coding = {"system": "urn:oid:2.999", "code": "x" * 100}
    codings = [{**coding, "version": str(n), "code": f"{n:0100}"} for n in range(MAX_ENTRY_CHARACTERS // 100)]
    with pytest.raises(Unprocessable) as refused:
        entry_of({"resourceType": "Observation", "code": {"coding": codings}})
    assert refused.value.issues[0].code == "too-long"


# --- subjects -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ({"resourceType": "Observation", "subject": {"reference": "Patient/1"}}, "Patient/1"),
        ({"resourceType": "Observation", "subject": {"reference": "Group/1"}}, "Group/1"),
        ({"resourceType": "Immunization", "patient": {"reference": "urn:uuid:1"}}, "urn:uuid:1"),
        ({"resourceType": "Task", "for": {"reference": "Patient/1"}}, "Patient/1"),
        ({"resourceType": "Observation"}, None),
        ({"resourceType": "Organization"}, None),
        (
            {
                "resourceType": "Provenance",
                "target": [{"reference": "Observation/1"}, {"reference": "Patient/2"}],
            },
            "Patient/2",
        ),
        (
            {
                "resourceType": "Appointment",
                "participant": [
                    {"actor": {"reference": "Practitioner/1"}},
                    {"actor": {"reference": "Patient?identifier=urn:x|1"}},
                ],
            },
            "Patient?identifier=urn:x|1",
        ),
    ],
)
def test_whose_record(resource: dict[str, Any], expected: str | None) -> None:
    found = subject_of(resource)
    assert (found or {}).get("reference") == expected
    replaced = subject_of(with_subject(resource, "7q2k"))
    assert (replaced or {}).get("reference") == (expected and "Patient/7q2k")


def test_with_subject_changes_nothing_else() -> None:
    resource = {
        "resourceType": "Observation",
        "subject": {"reference": "urn:uuid:1", "display": "x"},
        "status": "final",
    }
    assert with_subject(resource, "7q2k") == {
        "resourceType": "Observation",
        "subject": {"reference": "Patient/7q2k", "display": "x"},
        "status": "final",
    }
    assert resource["subject"]["reference"] == "urn:uuid:1"  # type: ignore[index]


# --- dates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "lo", "hi"),
    [
        ("2024", "20240101000000", "20241231235959"),
        ("2024-02", "20240201000000", "20240229235959"),
        ("2023-02", "20230201000000", "20230228235959"),
        ("2024-03-14", "20240314000000", "20240314235959"),
        ("2024-03-14T07:30", "20240314073000", "20240314073059"),
        ("2024-03-14T07:30:10", "20240314073010", "20240314073010"),
        ("2024-03-14T07:30:10.999999999999Z", "20240314073010", "20240314073010"),
        ("2024-01-01T00:30:00+01:00", "20231231233000", "20231231233000"),
        ("2023-12-31T23:30:00-05:00", "20240101043000", "20240101043000"),
        ("2016-12-31T23:59:60Z", "20161231235959", "20161231235959"),
        ("0999-01-01", "09990101000000", "09990101235959"),
        ("0999-01-01T12:00:00Z", "09990101120000", "09990101120000"),
    ],
)
def test_dates_as_ranges(text: str, lo: str, hi: str) -> None:
    assert date_range(text) == (lo, hi)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "24",
        "2024-13",
        "2024-02-30",
        "2023-02-29",
        "2024-00-01",
        "0000-01-01",
        "2024-03-14T25:00:00Z",
        "2024-03-14T07",
        "2024-03-14T07:30:61Z",
        "2024-03-14T07:30:00+15:00",
        "2024-03-14T07:30:00+01",
        "0001-01-01T00:00:00+01:00",
        "2024-03-14 07:30",
        "２０２４",
    ],
)
def test_not_dates(text: str) -> None:
    with pytest.raises(ValueError):
        date_range(text)
