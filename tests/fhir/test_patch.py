"""JSON Patch and FHIRPath Patch: what they change, what they refuse and where they say so."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import fhirpathpy
import jsonpatch
import pytest
from fhirpathpy.models import models
from hypothesis import assume, given
from hypothesis import strategies as st

from passerelle.errors import Invalid, PasserelleError, TooLarge, Unprocessable, UnsupportedMedia
from passerelle.fhir import json as fhir_json
from passerelle.fhir.fhirpath import parse, select
from passerelle.fhir.patch import JSON_PATCH, MAX_OPERATIONS, revised
from passerelle.fhir.validation import validate

FHIR = "application/fhir+json"
BIRTH_TIME = "http://hl7.org/fhir/StructureDefinition/patient-birthTime"
ARCHIVED = "https://interop.esante.gouv.fr/ig/fhir/pdsm/StructureDefinition/pdsm-ext-is-archived"

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p1",
    "meta": {"versionId": "3", "lastUpdated": "2026-03-01T09:30:00.000Z", "profile": ["http://example.org/p"]},
    "active": True,
    "identifier": [{"system": "urn:a", "value": "1"}, {"system": "urn:b", "value": "2"}],
    "name": [
        {
            "use": "official",
            "family": "Durand",
            "given": ["Anne", "Lise", "Marie"],
            "_given": [None, {"id": "g"}, None],
        },
        {"use": "usual", "given": ["Nanou"]},
    ],
    "birthDate": "1974-12-25",
    "_birthDate": {"extension": [{"url": BIRTH_TIME, "valueDateTime": "1974-12-25T14:35:45-05:00"}]},
    "deceasedBoolean": False,
    "contact": [{"name": {"text": "Paul"}, "gender": "male", "organization": {"display": "home"}}],
}


def op(kind: str, **parts: Any) -> dict[str, Any]:
    """An operation of a FHIRPath Patch; `value` is the content of its part: `{"valueDate": ...}`."""
    members = {"path": "valueString", "name": "valueString", "index": "valueInteger"}
    listed = [{"name": "type", "valueCode": kind}]
    for name, value in parts.items():
        listed.append(
            {"name": name, **(value if isinstance(value, dict) else {members.get(name, "valueInteger"): value})}
        )
    return {"name": "operation", "part": listed}


def parameters(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": list(operations)}


def patched(*operations: dict[str, Any], of: dict[str, Any] = PATIENT) -> dict[str, Any]:
    result = revised(of, parameters(*operations), FHIR)
    validate(result)
    return result


def changed(**members: Any) -> dict[str, Any]:
    """The patient with other members; None is one less."""
    return {name: value for name, value in {**PATIENT, **members}.items() if value is not None}


# --- FHIRPath Patch -----------------------------------------------------------------------------------------

MARRIED = {"valueCodeableConcept": {"text": "married"}}
IDENTIFIERS = PATIENT["identifier"]
NAMES = PATIENT["name"]


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (op("add", path="Patient", name="maritalStatus", value=MARRIED), changed(maritalStatus={"text": "married"})),
        (
            op("add", path="Patient", name="identifier", value={"valueIdentifier": {"value": "3"}}),
            changed(identifier=[*IDENTIFIERS, {"value": "3"}]),
        ),
        (
            op("add", path="Patient.name[1]", name="family", value={"valueString": "Roy"}),
            changed(name=[NAMES[0], {**NAMES[1], "family": "Roy"}]),
        ),
        (
            op(
                "add",
                path="Patient",
                name="contact",
                value={
                    "part": [
                        {"name": "name", "valueHumanName": {"text": "Eve"}},
                        {"name": "telecom", "valueContactPoint": {"system": "phone", "value": "1"}},
                        {"name": "telecom", "valueContactPoint": {"system": "phone", "value": "2"}},
                    ]
                },
            ),
            changed(
                contact=[
                    *PATIENT["contact"],
                    {
                        "name": {"text": "Eve"},
                        "telecom": [{"system": "phone", "value": "1"}, {"system": "phone", "value": "2"}],
                    },
                ]
            ),
        ),
        (
            op(
                "add",
                path="Patient.active",
                name="extension",
                value={"part": [{"name": "url", "valueUri": "u"}, {"name": "value", "valueCode": "c"}]},
            ),
            changed(_active={"extension": [{"url": "u", "valueCode": "c"}]}),
        ),
        (
            op("insert", path="Patient.identifier", index=1, value={"valueIdentifier": {"value": "3"}}),
            changed(identifier=[IDENTIFIERS[0], {"value": "3"}, IDENTIFIERS[1]]),
        ),
        (
            op("insert", path="Patient.name.where(use = 'official').given", index=1, value={"valueString": "Zoé"}),
            changed(
                name=[
                    {**NAMES[0], "given": ["Anne", "Zoé", "Lise", "Marie"], "_given": [None, None, {"id": "g"}, None]},
                    NAMES[1],
                ]
            ),
        ),
        (
            op("insert", path="Patient.photo", index=0, value={"valueAttachment": {"title": "t"}}),
            changed(photo=[{"title": "t"}]),
        ),
        (op("delete", path="Patient.birthDate"), changed(birthDate=None, _birthDate=None)),
        (op("delete", path="birthDate.extension"), changed(_birthDate=None)),
        (op("delete", path=f"Patient.birthDate.extension('{BIRTH_TIME}')"), changed(_birthDate=None)),
        (op("delete", path="Patient.deceased"), changed(deceasedBoolean=None)),
        (op("delete", path="Patient.photo[0]"), PATIENT),
        (
            op("delete", path="Patient.contact.name.text"),
            changed(contact=[{"gender": "male", "organization": {"display": "home"}}]),
        ),
        (
            op("delete", path="Patient.name.where(use='official' and family='Durand').given[1]"),
            changed(name=[{"use": "official", "family": "Durand", "given": ["Anne", "Marie"]}, NAMES[1]]),
        ),
        (op("delete", path="Patient.name.where($this.given='Nanou')"), changed(name=NAMES[:1])),
        (op("delete", path="Patient.identifier.last()"), changed(identifier=IDENTIFIERS[:1])),
        (
            op("replace", path="Patient.name.first().given.where($this='Lise')", value={"valueString": "Élise"}),
            changed(
                name=[
                    {**{k: v for k, v in NAMES[0].items() if k != "_given"}, "given": ["Anne", "Élise", "Marie"]},
                    NAMES[1],
                ]
            ),
        ),
        (
            op("replace", path="Patient.deceased", value={"valueDateTime": "2025-01-01"}),
            changed(deceasedBoolean=None, deceasedDateTime="2025-01-01"),
        ),
        (
            op("replace", path="Patient.deceased.ofType(boolean)", value={"valueBoolean": True}),
            changed(deceasedBoolean=True),
        ),
        (
            op("replace", path="Patient.birthDate", value={"valueDate": "1980"}),
            changed(birthDate="1980", _birthDate=None),
        ),
        (
            op("replace", path="Patient.identifier[1]", value={"valueIdentifier": {"value": "9"}}),
            changed(identifier=[IDENTIFIERS[0], {"value": "9"}]),
        ),
        (op("move", path="Patient.identifier", source=1, destination=0), changed(identifier=IDENTIFIERS[::-1])),
        (
            op("move", path="Patient.name[0].given", source=1, destination=2),
            changed(
                name=[{**NAMES[0], "given": ["Anne", "Marie", "Lise"], "_given": [None, None, {"id": "g"}]}, NAMES[1]]
            ),
        ),
    ],
)
def test_operations_on_a_patient(operation: dict[str, Any], expected: dict[str, Any]) -> None:
    before = copy.deepcopy(PATIENT)
    assert patched(operation) == expected
    assert before == PATIENT


def test_operations_build_on_each_other() -> None:
    result = patched(
        op("delete", path="Patient.name[1]"),
        op("delete", path="Patient.name[0]"),
        op("add", path="Patient", name="name", value={"part": [{"name": "given", "valueString": "Léa"}]}),
        op("add", path="Patient.name[0]", name="given", value={"valueString": "Jeanne"}),
        op("move", path="Patient.name.given", source=0, destination=1),
    )
    assert result["name"] == [{"given": ["Jeanne", "Léa"]}]


def test_what_stands_beside_a_list_keeps_its_places() -> None:
    masked = {
        "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "masked"}]
    }
    patient = {"resourceType": "Patient", "id": "p", "name": [{"_given": [masked]}]}
    result = patched(op("add", path="Patient.name", name="given", value={"valueString": "Anne"}), of=patient)
    assert result["name"] == [{"given": [None, "Anne"], "_given": [masked, None]}]
    result = patched(op("delete", path="Patient.name.given[0]"), of=result)
    assert result["name"] == [{"given": ["Anne"]}]


def test_an_element_of_a_choice_type_is_added_under_its_type() -> None:
    observation = {"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "weight"}}
    quantity = {"value": fhir_json.loads(b"72.50"), "unit": "kg"}
    result = patched(op("add", path="Observation", name="value", value={"valueQuantity": quantity}), of=observation)
    assert fhir_json.dumps(result["valueQuantity"]) == b'{"value":72.50,"unit":"kg"}'
    component = {
        "part": [{"name": "code", "valueCodeableConcept": {"text": "x"}}, {"name": "value", "valueString": "y"}]
    }
    result = patched(op("add", path="Observation", name="component", value=component), of=observation)
    assert result["component"] == [{"code": {"text": "x"}, "valueString": "y"}]


def test_a_contained_resource_is_reached_and_added() -> None:
    request = {
        "resourceType": "MedicationRequest",
        "id": "m",
        "status": "active",
        "intent": "order",
        "medicationReference": {"reference": "#a"},
        "subject": {"reference": "Patient/p1"},
        "contained": [{"resourceType": "Medication", "id": "a", "code": {"text": "old"}}],
    }
    medication = {"resource": {"resourceType": "Medication", "id": "b"}}
    result = patched(
        op("replace", path="MedicationRequest.contained.where(id='a').code.text", value={"valueString": "new"}),
        op("add", path="MedicationRequest", name="contained", value=medication),
        op("delete", path="MedicationRequest.contained.ofType(Medication)[1]"),
        of=request,
    )
    assert result["contained"] == [{"resourceType": "Medication", "id": "a", "code": {"text": "new"}}]


def test_no_operation_changes_nothing() -> None:
    assert revised(PATIENT, {"resourceType": "Parameters"}, FHIR) == PATIENT


@pytest.mark.parametrize(
    ("operation", "error", "code", "place"),
    [
        ({"name": "change", "valueCode": "delete"}, Invalid, "structure", ""),
        (op("upsert", path="Patient"), Invalid, "structure", ".part[0]"),
        (op("add", path="Patient", name="gender"), Invalid, "structure", ""),
        (op("delete", path="Patient.gender", index=1), Invalid, "structure", ""),
        (op("delete", path={"valueInteger": 1}), Invalid, "structure", ".part[1]"),
        (
            op("move", path="Patient.identifier", source={"valueString": "s3cret"}, destination=0),
            Invalid,
            "structure",
            ".part[2]",
        ),
        (op("add", path="Patient", name="gender", value={}), Unprocessable, "invariant", ".part[3]"),
        (
            {"name": "operation", "part": [{"name": "type", "valueCode": "delete"}] * 2},
            Invalid,
            "structure",
            ".part[1]",
        ),
        (op("delete", path="Patient.gendre"), Unprocessable, "value", ".part[1]"),
        (op("delete", path="Patient.resourceType"), Unprocessable, "value", ".part[1]"),
        (op("delete", path="Observation.status"), Unprocessable, "value", ".part[1]"),
        (op("delete", path="Patient.name"), Unprocessable, "value", ".part[1]"),
        (op("delete", path="Patient"), Unprocessable, "value", ".part[1]"),
        (op("replace", path="Patient", value=MARRIED), Unprocessable, "value", ".part[1]"),
        (op("replace", path="Patient.gender", value={"valueCode": "male"}), Unprocessable, "value", ".part[1]"),
        (op("replace", path="Patient.birthDate", value={"valueInteger": 7}), Unprocessable, "value", ".part[2]"),
        (
            op("replace", path="Patient.name[0]", value={"valueAddress": {"text": "s3cret"}}),
            Unprocessable,
            "value",
            ".part[2]",
        ),
        (op("replace", path="Patient.deceased", value={"valueString": "s3cret"}), Unprocessable, "value", ".part[2]"),
        (
            op("replace", path="Patient.active", value={"part": [{"name": "id", "valueString": "s3cret"}]}),
            Unprocessable,
            "value",
            ".part[2]",
        ),
        (op("add", path="Patient", name="birthDate", value={"valueDate": "1980"}), Unprocessable, "value", ".part[2]"),
        (
            op("add", path="Patient", name="deceased", value={"valueDateTime": "1980"}),
            Unprocessable,
            "value",
            ".part[2]",
        ),
        (op("add", path="Patient", name="s3cret", value={"valueDate": "1980"}), Unprocessable, "value", ".part[2]"),
        (
            op("add", path="Patient.name", name="family", value={"valueString": "s3cret"}),
            Unprocessable,
            "value",
            ".part[1]",
        ),
        (
            op("insert", path="Patient.identifier", index=3, value={"valueIdentifier": {"value": "s3cret"}}),
            Unprocessable,
            "value",
            ".part[2]",
        ),
        (
            op("insert", path="Patient.identifier", index=-1, value={"valueIdentifier": {"value": "x"}}),
            Unprocessable,
            "value",
            ".part[2]",
        ),
        (
            op("insert", path="Patient.birthDate", index=0, value={"valueDate": "1980"}),
            Unprocessable,
            "value",
            ".part[1]",
        ),
        (
            op("insert", path="Patient.name.given", index=0, value={"valueString": "s3cret"}),
            Unprocessable,
            "value",
            ".part[1]",
        ),
        (op("move", path="Patient.identifier", source=0, destination=2), Unprocessable, "value", ".part[3]"),
        (op("move", path="Patient.photo", source=0, destination=0), Unprocessable, "value", ".part[2]"),
        *(
            (op("delete", path=path), Unprocessable, "not-supported", ".part[1]")
            for path in (
                " ",
                "Patient.",
                "Patient..id",
                "Patient.name[",
                "Patient.name['s3cret']",
                "Patient.name.exists()",
                "%resource.id",
                "Patient.name | Patient.contact",
                "Patient.name.where(use != 's3cret')",
                "Patient.name.where(use ~ 'x' or true)",
                "Patient.name.where(given.where($this='x') = 'y')",
                "Patient.extension[url:‘s3cret’]",
                "Patient.name[-1]",
                "Patient.name.where(use='a\\q')",
                "Patient.name.where(use)",
                "Patient.descendants()",
                "Patient." + "a" * 1000,
            )
        ),
        (op("replace", path="Patient.id", value={"valueId": "s3cret"}), Unprocessable, "business-rule", "Patient.id"),
        (op("delete", path="Patient.meta"), Unprocessable, "business-rule", "Patient.meta.versionId"),
        (op("delete", path="Patient.meta.lastUpdated"), Unprocessable, "business-rule", "Patient.meta.lastUpdated"),
    ],
)
def test_faults_of_a_fhirpath_patch_name_their_place(
    operation: dict[str, Any], error: type[PasserelleError], code: str, place: str
) -> None:
    first = op("delete", path="Patient.contact")
    with pytest.raises(error) as caught:
        revised(PATIENT, parameters(first, operation), FHIR)
    issue = caught.value.issues[0]
    assert (issue.code, issue.expression) == (
        code,
        place if place.startswith("P") else f"Parameters.parameter[1]{place}",
    )
    assert "s3cret" not in str(caught.value)


def test_a_resource_that_is_no_parameters_is_no_fhirpath_patch() -> None:
    patches: tuple[Any, ...] = (PATIENT, [], None, {"resourceType": "Parameters", "parameter": "x"})
    for patch in patches:
        with pytest.raises(Invalid):
            revised(PATIENT, patch, FHIR)


SELECTED = (
    "Patient.name.given",
    "name.given[3]",
    "Patient.name[0].given.last()",
    "Patient.name.where(use='usual').given",
    "Patient.name.where(given='Nanou').use",
    "Patient.name.where(given='Anne')",
    "Patient.deceased",
    "Patient.name.first()",
    "Patient.name.where(use = 'official' and family = 'Durand').given.where($this = 'Marie')",
    "Patient.contact.name.text",
    "Patient.birthDate",
    f"Patient.birthDate.extension('{BIRTH_TIME}').value",
    "Patient.where(active = true).id",
    "Observation.id",
    "Patient.identifier.where(value = '2').system",
    "Patient.deceased.ofType(dateTime)",
    "Patient.deceased.ofType(boolean)",
    "Patient.where(deceased = false).name[1].use",
    "Patient.where(active = 'true').id",
    "Patient.identifier[7]",
)


@pytest.mark.parametrize("path", SELECTED)
def test_a_path_selects_what_a_fhirpath_engine_selects(path: str) -> None:
    # The engine lists what stands beside a value in a list as a value of its own.
    patient = changed(name=[{k: v for k, v in each.items() if k != "_given"} for each in NAMES])
    expected = fhirpathpy.evaluate(patient, path, model=models["r4"])
    if path.startswith("Observation"):
        assert expected == []
        return
    assert [node.value for node in select(patient, parse(path, ""), "")] == expected


# --- JSON Patch ---------------------------------------------------------------------------------------------

SCALARS = st.one_of(st.booleans(), st.integers(-3, 3), st.sampled_from(["", "a", "b~/0", "é"]))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4),
        st.dictionaries(st.sampled_from(["a", "a/b", "~", "_given", "0", "-"]), inner, min_size=1, max_size=4),
    ),
    max_leaves=12,
)
RESOURCES = st.dictionaries(st.sampled_from(["name", "_name", "x", "y"]), VALUES, max_size=4).map(
    lambda members: {"resourceType": "Basic", "id": "b", **members}
)


@given(RESOURCES, RESOURCES)
def test_a_patch_from_one_resource_to_another_gives_the_other(source: dict[str, Any], target: dict[str, Any]) -> None:
    patch = jsonpatch.make_patch(source, target).patch
    assume(patch and len(patch) <= MAX_OPERATIONS)
    before = fhir_json.dumps([source, patch])
    result = revised(source, patch, JSON_PATCH)
    # As text: True is not 1.
    assert sorted_text(result) == sorted_text(target)
    assert fhir_json.dumps([source, patch]) == before


def sorted_text(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((name, sorted_text(each)) for name, each in value.items())
    return [sorted_text(each) for each in value] if isinstance(value, list) else repr(value)


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        (
            [{"op": "add", "path": "/identifier/-", "value": {"value": "3"}}],
            changed(identifier=[*IDENTIFIERS, {"value": "3"}]),
        ),
        (
            [{"op": "add", "path": "/identifier/2", "value": {"value": "3"}}],
            changed(identifier=[*IDENTIFIERS, {"value": "3"}]),
        ),
        ([{"op": "add", "path": "/_active", "value": {"id": "x"}}], changed(_active={"id": "x"})),
        (
            [{"op": "replace", "path": "/_birthDate/extension/0/url", "value": "u"}],
            changed(_birthDate={"extension": [{"url": "u", "valueDateTime": "1974-12-25T14:35:45-05:00"}]}),
        ),
        ([{"op": "remove", "path": "/_birthDate/extension/0"}], changed(_birthDate=None)),
        ([{"op": "remove", "path": "/contact/0"}], changed(contact=None)),
        (
            [
                {"op": "remove", "path": "/contact/0"},
                {"op": "add", "path": "/contact/-", "value": {"name": {"text": "Eve"}}},
            ],
            changed(contact=[{"name": {"text": "Eve"}}]),
        ),
        ([{"op": "move", "from": "/identifier/1", "path": "/identifier/0"}], changed(identifier=IDENTIFIERS[::-1])),
        (
            [
                {"op": "copy", "from": "/name/1/given", "path": "/name/1/suffix"},
                {"op": "add", "path": "/name/1/given/-", "value": "N"},
            ],
            changed(name=[NAMES[0], {"use": "usual", "given": ["Nanou", "N"], "suffix": ["Nanou"]}]),
        ),
        (
            [{"op": "test", "path": "/active", "value": True}, {"op": "replace", "path": "/active", "value": False}],
            changed(active=False),
        ),
        ([{"op": "replace", "path": "", "value": changed(active=False)}], changed(active=False)),
        ([{"op": "replace", "path": "/id", "value": "p1"}], PATIENT),
    ],
)
def test_json_patches_of_a_patient(operations: list[dict[str, Any]], expected: dict[str, Any]) -> None:
    result = revised(PATIENT, operations, JSON_PATCH)
    assert result == expected
    validate(result)


def test_decimals_keep_their_digits_and_compare_by_value() -> None:
    stored = fhir_json.loads(b'{"resourceType":"Observation","valueQuantity":{"value":72.50},"x":[1e-7]}')
    patch = fhir_json.loads(
        b'[{"op":"test","path":"/valueQuantity/value","value":72.5},{"op":"copy","from":"/x/0","path":"/y"}]'
    )
    result = fhir_json.dumps(revised(stored, patch, JSON_PATCH))
    assert result == b'{"resourceType":"Observation","valueQuantity":{"value":72.50},"x":[1e-7],"y":1e-7}'


@pytest.mark.parametrize(
    ("operation", "error", "code", "place"),
    [
        ("remove", Invalid, "structure", "[1]"),
        ({"path": "/active"}, Invalid, "structure", "[1].op"),
        ({"op": ["remove"], "path": "/active"}, Invalid, "structure", "[1].op"),
        ({"op": "delete", "path": "/s3cret"}, Invalid, "structure", "[1].op"),
        ({"op": "remove"}, Invalid, "structure", "[1].path"),
        ({"op": "remove", "path": 7}, Invalid, "structure", "[1].path"),
        ({"op": "add", "path": "/s3cret"}, Invalid, "structure", "[1].value"),
        ({"op": "copy", "path": "/s3cret"}, Invalid, "structure", "[1].from"),
        ({"op": "move", "from": "/name", "path": "/name/0/s3cret"}, Invalid, "structure", "[1]"),
        ({"op": "remove", "path": "securityLabel[0]"}, Unprocessable, "value", "[1].path"),
        ({"op": "remove", "path": f"/extension[url:'{ARCHIVED}']/valueBoolean"}, Unprocessable, "value", "[1].path"),
        ({"op": "remove", "path": "/a~2s3cret"}, Unprocessable, "value", "[1].path"),
        ({"op": "remove", "path": "/gender"}, Unprocessable, "value", "[1].path"),
        ({"op": "replace", "path": "/gender", "value": "s3cret"}, Unprocessable, "value", "[1].path"),
        ({"op": "replace", "path": "/identifier/-", "value": "s3cret"}, Unprocessable, "value", "[1].path"),
        ({"op": "add", "path": "/identifier/3", "value": "s3cret"}, Unprocessable, "value", "[1].path"),
        ({"op": "add", "path": "/identifier/01", "value": "s3cret"}, Unprocessable, "value", "[1].path"),
        ({"op": "add", "path": "/birthDate/s3cret", "value": "s3cret"}, Unprocessable, "value", "[1].path"),
        ({"op": "add", "path": "/photo/0", "value": "s3cret"}, Unprocessable, "value", "[1].path"),
        ({"op": "copy", "from": "/s3cret", "path": "/gender"}, Unprocessable, "value", "[1].from"),
        ({"op": "test", "path": "/active", "value": 1}, Unprocessable, "business-rule", "[1]"),
        ({"op": "test", "path": "/name/0/family", "value": "s3cret"}, Unprocessable, "business-rule", "[1]"),
        ({"op": "replace", "path": "/id", "value": "s3cret"}, Unprocessable, "business-rule", "Patient.id"),
        ({"op": "remove", "path": "/meta/versionId"}, Unprocessable, "business-rule", "Patient.meta.versionId"),
        (
            {"op": "replace", "path": "/resourceType", "value": "Group"},
            Unprocessable,
            "business-rule",
            "Patient.resourceType",
        ),
        ({"op": "remove", "path": ""}, Unprocessable, "value", "Patient"),
        ({"op": "replace", "path": "", "value": ["s3cret"]}, Unprocessable, "value", "Patient"),
    ],
)
def test_faults_of_a_json_patch_name_their_place(
    operation: Any, error: type[PasserelleError], code: str, place: str
) -> None:
    with pytest.raises(error) as caught:
        revised(PATIENT, [{"op": "test", "path": "/active", "value": True}, operation], JSON_PATCH)
    assert [(each.code, each.expression) for each in caught.value.issues] == [(code, place)]
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("patch", [None, [], {}, "x", {"op": "remove", "path": "/active"}])
def test_what_is_no_list_of_operations_is_no_json_patch(patch: Any) -> None:
    with pytest.raises(Invalid) as caught:
        revised(PATIENT, patch, JSON_PATCH)
    assert caught.value.issues[0].code == "structure"


# --- bounds -------------------------------------------------------------------------------------------------


def test_a_patch_has_a_bounded_number_of_operations() -> None:
    test = {"op": "test", "path": "/active", "value": True}
    assert revised(PATIENT, [test] * MAX_OPERATIONS, JSON_PATCH) == PATIENT
    with pytest.raises(TooLarge):
        revised(PATIENT, [test] * (MAX_OPERATIONS + 1), JSON_PATCH)
    with pytest.raises(TooLarge):
        revised(PATIENT, parameters(*[op("delete", path="Patient.photo[0]")] * (MAX_OPERATIONS + 1)), FHIR)


def test_copies_of_copies_stop_before_they_fill_the_memory() -> None:
    doubling = [{"op": "copy", "from": "/name", "path": "/name/-"}] * MAX_OPERATIONS
    with pytest.raises((TooLarge, Unprocessable)):
        revised(PATIENT, doubling, JSON_PATCH)
    wide = [{"op": "add", "path": "/a", "value": {"x": 1}}]
    wide += [{"op": "copy", "from": "/a", "path": f"/a/{n}"} for n in range(30)]
    with pytest.raises((TooLarge, Unprocessable)):
        revised(PATIENT, wide, JSON_PATCH)
    big = [{"op": "add", "path": "/a", "value": "x" * 100_000}]
    big += [{"op": "copy", "from": "/a", "path": f"/b{n}"} for n in range(100)]
    with pytest.raises(TooLarge):
        revised(PATIENT, big, JSON_PATCH)


def test_a_patch_cannot_nest_deeper_than_a_body() -> None:
    deeper = [{"op": "add", "path": "/a" * n, "value": {}} for n in range(1, 200)]
    with pytest.raises(Unprocessable) as caught:
        revised(PATIENT, deeper, JSON_PATCH)
    assert caught.value.issues[0].code == "too-long"
    inner: dict[str, Any] = {"name": "url", "valueUri": "u"}
    for _ in range(8):
        inner = {"name": "extension", "part": [inner]}
    path = "Patient"
    operations = []
    for _ in range(5):
        operations.append(op("add", path=path, name="extension", value={"part": [inner]}))
        path += ".extension[0]" * 9
    with pytest.raises(Unprocessable) as caught:
        revised(PATIENT, parameters(*operations), FHIR)
    assert caught.value.issues[0].code == "too-long"


def test_a_path_looks_at_a_bounded_number_of_elements() -> None:
    many = {**PATIENT, "identifier": [{"value": Decimal(n)} for n in range(3_000)]}
    with pytest.raises(Unprocessable) as caught:
        revised(many, parameters(op("delete", path="Patient.identifier.where(value = 'x')")), FHIR)
    assert caught.value.issues[0].code == "too-costly"


def test_another_media_type_is_answered_with_those_accepted() -> None:
    with pytest.raises(UnsupportedMedia) as caught:
        revised(PATIENT, [], "application/xml-patch+xml")
    assert caught.value.headers["Accept-Patch"].split(", ") == [JSON_PATCH, FHIR, "application/fhir+xml"]
