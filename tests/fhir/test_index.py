"""The rows of the record types against the definitions of FHIR, and what entries hold."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from definitions import search as official
from passerelle.errors import Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.dates import date_range
from passerelle.fhir.definitions import Element, definition
from passerelle.fhir.index import (
    MAX_ENTRY_BYTES,
    MAX_TEXT_CHARACTERS,
    RECORD_TYPES,
    RecordType,
    SearchParameter,
    entry_of,
    lookups_of,
    record_type,
    subject_of,
    with_subject,
)
from passerelle.fhir.paths import typed
from passerelle.fhir.validation import validate
from passerelle.records.search import Reading

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
ROWS = list(RECORD_TYPES.values())
TYPES_OF_KIND = {
    "token": {"boolean", "code", "id", "string", "uri", "CodeableConcept", "Coding", "ContactPoint", "Identifier"},
    "reference": {"Reference", "Resource", "canonical"},
    "date": {"date", "dateTime", "instant", "Period", "Timing"},
    "string": {"string", "markdown", "HumanName", "Address"},
    "quantity": {"Quantity", "Range"},
    "uri": {"uri", "canonical"},
}
QUANTITIES = {"Age", "Count", "Distance", "Duration"}
STEP = re.compile(r"extension\('[^']+'\)|resolve\(\)|where\([^)]+\)|is\(\w+\)|holds\([\w,]+\)|\w+|\[\d\]")


def example(name: str) -> Any:
    return fhir_json.loads((EXAMPLES / f"{name}.json").read_bytes())


def elements_at(type: str, path: str) -> Iterator[Element]:
    """The elements on the way of a path; fails if there is no such path."""
    here = type
    for step in STEP.findall(path):
        if step == "resolve()":
            here = "PractitionerRole" if "resolve().practitioner" in path and here == type else "Practitioner"
        elif step.startswith("holds("):
            yield Element(type="boolean")
        elif step.startswith("is(") and f"resolve().{step}" in path:
            here = step[3:-1]
        elif not step.startswith(("where(", "is(", "[")):
            found = definition("Composition" if here == "Resource" else here)
            assert found is not None
            name = "extension" if step.startswith("extension(") else step
            assert name in found.elements, f"{here} has no {name}"
            yield found.elements[name]
            here = here if found.elements[name].type == "Reference" else found.elements[name].type


def parameters() -> Iterator[tuple[RecordType, str, SearchParameter]]:
    for row in ROWS:
        yield from ((row, name, parameter) for name, parameter in row.search.items())


def test_every_parameter_reads_elements_of_its_kind() -> None:
    for row, name, parameter in parameters():
        for path in parameter.paths if parameter.kind != "composite" else ():
            bare, type = typed(path)
            assert type in TYPES_OF_KIND[parameter.kind], (row.name, name)
            *_, element = elements_at(row.name, bare)
            assert type in (element.type, "Quantity" if element.type in QUANTITIES else "uri"), (row.name, name)
            if element.type == "code" and element.codes:
                assert parameter.systems or "attachment" in path.lower(), "a code of a required value set has a system"


def test_components_are_read_in_the_elements_of_their_composite() -> None:
    found = [(row, each) for row, _, each in parameters() if each.kind == "composite"]
    assert len(found) == 9
    for row, parameter in found:
        for path in parameter.paths:
            bare, type = typed(path)
            assert type == ([row.name, *(element.type for element in elements_at(row.name, bare))])[-1]
            for component in parameter.components:
                for part in component.paths:
                    *_, element = elements_at(type, typed(part)[0])
                    assert element.type == typed(part)[1]


def test_what_follows_from_other_values_is_not_kept() -> None:
    observation = record_type("Observation").search
    assert observation["combo-code"].reading == Reading(names=("code", "component-code"))
    assert observation["code-value-quantity"].reading == Reading(products=(("code", "value-quantity"),))
    assert observation["combo-code-value-quantity"].reading == Reading(
        names=("component-code-value-quantity",), products=(("code", "value-quantity"),)
    )
    for row, _, parameter in parameters():
        read = {*parameter.reading.names, *(name for names in parameter.reading.products for name in names)}
        assert all(row.search[name].is_kept for name in read)


@pytest.mark.parametrize("row", [row for row in ROWS if row.sort], ids=lambda row: row.name)
def test_a_resource_has_one_sort_date(row: RecordType) -> None:
    parameter = row.search[row.sort or ""]
    assert parameter.kind == "date"
    found = definition(row.name)
    assert found is not None
    names = [typed(path)[0] for path in parameter.paths]
    for name in names:
        assert not any(element.many for element in elements_at(row.name, name))
    if len(names) > 1:
        *parents, _ = [element.type for element in elements_at(row.name, names[0])] or [row.name]
        inside = definition(parents[-1] if parents else row.name)
        assert inside is not None
        last = {name.rpartition(".")[2] for name in names}
        assert any(last <= set(choice) for choice in inside.choices.values()), "several paths are one choice"


@pytest.mark.parametrize("row", [row for row in ROWS if row.compartment], ids=lambda row: row.name)
def test_a_compartment_may_be_a_patient(row: RecordType) -> None:
    *_, element = elements_at(row.name, row.compartment or "")
    assert element.type == "Reference"
    assert not element.targets or "Patient" in element.targets


def test_the_parameters_that_name_the_patient() -> None:
    named = {row.name: set(row.patient_parameters) for row in ROWS}
    assert named["Observation"] == named["Task"] == named["Composition"] == {"patient", "subject"}
    assert named["Coverage"] == {"patient", "beneficiary"}
    assert named["Appointment"] == named["Provenance"] == named["Bundle"] == {"patient"}
    assert not any(named[name] for name in ("Patient", "Organization", "Slot", "Medication"))
    assert "actor" in record_type("Appointment").search
    assert "target" in record_type("Provenance").search


def test_codes_of_types_are_short_and_unique() -> None:
    codes = [row.code for row in ROWS]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch("[A-Z]{3}", code) for code in codes)


# --- the official parameters --------------------------------------------------------------------------------------


def test_every_type_that_is_stored_has_its_official_parameters() -> None:
    assert set(official.TYPES) == set(RECORD_TYPES)
    count = sum(1 for _, _, parameter in parameters() if parameter.definition)
    assert count > 800


def test_what_is_shipped_is_made_of_the_official_definitions() -> None:
    folder = Path(os.environ.get("PASSERELLE_R4_DEFINITIONS", ""))
    if not (folder / official.SOURCE).is_file():
        pytest.skip("PASSERELLE_R4_DEFINITIONS names no folder with the definitions of R4")
    shipped = official.SHIPPED.read_text("utf-8")
    digest = hashlib.sha256((folder / official.SOURCE).read_bytes()).hexdigest()
    if fhir_json.loads(shipped.encode())["sha256"][official.SOURCE] != digest:
        pytest.skip("PASSERELLE_R4_DEFINITIONS is of another edition")
    assert official.write(official.search_parameters(folder)) == shipped


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
        "_profile": ("https://example.org/StructureDefinition/result",),
        "identifier": ("urn:oid:2.999.4|R-2025-17|3",),
        "status": ("|final",),
        "category": ("http://terminology.hl7.org/CodeSystem/observation-category|laboratory",),
        "code": ("http://loinc.org|718-7", "urn:oid:2.999.4.1|HB"),
        "code:text": ("Hb",),
        "component-code": ("http://loinc.org|4544-3",),
        "date": ("20250314073000/20250314073000",),
        "encounter": ("Encounter/e1",),
        "value-quantity": ("72.50|http://unitsofmeasure.org|g/L|",),
        "performer": ("|urn:oid:1.2.250.1.71.4.2.2|1750000001",),
    }


def test_the_components_of_a_blood_pressure_stay_together() -> None:
    def component(code: str, value: int) -> dict[str, Any]:
        coding = {"system": "http://loinc.org", "code": code}
        return {"code": {"coding": [coding]}, "valueQuantity": {"value": value, "unit": "mmHg"}}

    entry = entry_of({"resourceType": "Observation", "component": [component("8480-6", 120), component("8462-4", 80)]})
    assert entry.values["component-code-value-quantity"] == (
        "http://loinc.org|8480-6$120|||mmHg",
        "http://loinc.org|8462-4$80|||mmHg",
    )


def test_references_to_this_server_are_local() -> None:
    resource = {"resourceType": "Observation", "encounter": {"reference": "https://hie.example/fhir/Encounter/e1"}}
    assert entry_of(resource, base_url="https://hie.example/fhir").values["encounter"] == ("Encounter/e1",)
    assert entry_of(resource).values["encounter"] == ("https://hie.example/fhir/Encounter/e1",)


def test_a_document_bundle() -> None:
    composition = {"resourceType": "Composition", "id": "c1", "subject": {"reference": "Patient/1"}}
    bundle = {"resourceType": "Bundle", "type": "document", "entry": [{"resource": composition}, {"resource": {}}]}
    assert entry_of(bundle).values["composition"] == ("Composition/c1",)
    assert "message" not in entry_of(bundle).values
    assert subject_of(bundle) == {"reference": "Patient/1"}


@pytest.mark.parametrize(
    ("deceased", "value"),
    [({}, "|false"), ({"deceasedBoolean": False}, "|false"), ({"deceasedDateTime": "2025"}, "|true")],
)
def test_the_deceased(deceased: dict[str, Any], value: str) -> None:
    assert entry_of({"resourceType": "Patient", **deceased}).values["deceased"] == (value,)


def test_a_directory_entry_is_looked_up_in_few_ways() -> None:
    organization = {
        "resourceType": "Organization",
        "id": "o1",
        "identifier": [{"system": "https://finess.example", "value": "750000001"}],
        "name": "Hôpital d'Exemple",
        "partOf": {"reference": "Organization/o0"},
        "type": [{"coding": [{"system": "urn:oid:2.999", "code": "SA01"}]}],
    }
    assert lookups_of(entry_of(organization), "Organization") == (
        ("identifier", "750000001"),
        ("_id", "o1"),
        ("partof", "o0"),
        ("name", "hopital d exemple"),
        ("type", "SA01"),
    )
    assert lookups_of(entry_of(example("observation")), "Observation") == ()


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
    codings = [{**coding, "version": str(n), "code": f"{n:0100}"} for n in range(MAX_ENTRY_BYTES // 100)]
    with pytest.raises(Unprocessable) as refused:
        entry_of({"resourceType": "Observation", "code": {"coding": codings}})
    assert refused.value.issues[0].code == "too-long"


def test_a_long_text_is_searched_by_its_beginning() -> None:
    entry = entry_of({"resourceType": "Observation", "code": {"text": "y" * 5000}, "valueString": "x" * 500_000})
    assert entry.values["value-string"] == ("x" * MAX_TEXT_CHARACTERS,)
    assert len(entry.pack()) < 3 * MAX_TEXT_CHARACTERS


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
        ({"resourceType": "Schedule", "actor": [{"reference": "Practitioner/1"}]}, None),
        ({"resourceType": "Schedule", "actor": [{"reference": "Device/1"}, {"reference": "Patient/1"}]}, "Patient/1"),
        ({"resourceType": "Device", "patient": {"reference": "Patient/1"}}, "Patient/1"),
        ({"resourceType": "Device"}, None),
    ],
)
def test_whose_record(resource: dict[str, Any], expected: str | None) -> None:
    found = subject_of(resource)
    assert (found or {}).get("reference") == expected
    replaced = subject_of(with_subject(resource, "7q2k"))
    assert (replaced or {}).get("reference") == (expected and "Patient/7q2k")


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Provenance", "target": [{"reference": "Observation/7q2k-1"}]},
        {"resourceType": "Binary", "securityContext": {"reference": "DocumentReference/7q2k-1"}},
    ],
)
def test_what_is_about_another_resource_stays_about_it(resource: dict[str, Any]) -> None:
    assert (subject_of(resource) or {})["reference"].endswith("/7q2k-1")
    assert with_subject(resource, "7q2k") == resource


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
