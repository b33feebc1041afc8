"""What is refused before anything is stored, with its path; and that what is valid passes."""

from __future__ import annotations

import copy
import lzma
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.errors import Invalid, PasserelleError
from passerelle.fhir import json as fhir_json
from passerelle.fhir.definitions import definition
from passerelle.fhir.index import RECORD_TYPES, entry_of
from passerelle.fhir.validation import MAX_ISSUES, prepare, validate

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
DIV = '<div xmlns="http://www.w3.org/1999/xhtml">'


def observation(**more: Any) -> dict[str, Any]:
    resource = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
        "subject": {"reference": "Patient/7q2k"},
        **more,
    }
    return {name: value for name, value in resource.items() if value is not ...}


def patient(**more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "active": True, **more}


def condition(**more: Any) -> dict[str, Any]:
    return {"resourceType": "Condition", "subject": {"reference": "Patient/7q2k"}, **more}


SEARCH_PARAMETER = {
    "url": "urn:x",
    "name": "x",
    "status": "draft",
    "description": "x",
    "code": "x",
    "base": ["Unobtainium"],
    "type": "token",
}


def faults(resource: Any, **how: Any) -> tuple[int, list[tuple[str, str | None]]]:
    """The status, and code and expression of each issue; (200, []) if valid."""
    before = copy.deepcopy(resource)
    try:
        validate(resource, **how)
    except PasserelleError as error:
        return error.status, [(issue.code, issue.expression) for issue in error.issues]
    finally:
        assert resource == before
    return 200, []


# --- faults of form: 400 ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "where"),
    [
        (observation(foo=1), "Observation.foo"),
        (observation(_subject={"id": "a"}), "Observation._subject"),
        (observation(code={"coding": [{"kode": "1"}]}), "Observation.code.coding[0].kode"),
        (observation(fhir_comments=["x"]), "Observation"),
        (
            observation(code={"coding": [{"code": "1", "resourceType": "Coding"}]}),
            "Observation.code.coding[0].resourceType",
        ),
        (observation(subject=None), "Observation.subject"),
        (observation(status=None), "Observation.status"),
        (observation(category=[None]), "Observation.category[0]"),
        (observation(category=[]), "Observation.category"),
        (observation(category={"text": "x"}), "Observation.category"),
        (observation(code=[{"text": "x"}]), "Observation.code"),
        (observation(code={}), "Observation.code"),
        (observation(code="718-7"), "Observation.code"),
        (observation(status=["final"]), "Observation.status"),
        (observation(status=True), "Observation.status"),
        (observation(valueBoolean="true"), "Observation.value"),
        (observation(valueInteger="1"), "Observation.value"),
        (observation(valueInteger=True), "Observation.value"),
        (observation(valueInteger=Decimal("1.0")), "Observation.value"),
        (observation(valueString=1), "Observation.value"),
        (observation(valueQuantity={"value": "1.5"}), "Observation.value.value"),
        (observation(valueInteger=1, valueString="x"), "Observation.value"),
        (observation(valueInteger=1, _valueString={"id": "a"}), "Observation.value"),
        (observation(_status=[]), "Observation.status"),
        (observation(_status={}), "Observation.status"),
        (observation(_status={"extensions": []}), "Observation.status.extensions"),
        (observation(_status=None), "Observation.status"),
        (patient(name=[{"given": ["a", None]}]), "Patient.name[0].given[1]"),
        (patient(name=[{"given": [None], "_given": [None]}]), "Patient.name[0].given[0]"),
        (patient(name=[{"given": "a"}]), "Patient.name[0].given"),
        (patient(contained=[{"id": "a"}]), "Patient.contained[0].resourceType"),
        (patient(contained=["a"]), "Patient.contained[0]"),
        (
            patient(extension=[{"url": "urn:x", "valueRatioRange": {"denominator": {"value": 1}}}]),
            "Patient.extension[0].valueRatioRange",
        ),
    ],
)
def test_structure(resource: Any, where: str) -> None:
    status, found = faults(resource)
    assert status == 400
    assert ("structure", where) in found


@pytest.mark.parametrize(
    ("resource", "where"),
    [
        (None, "Observation"),
        ([], "Observation"),
        ({}, "Observation.resourceType"),
        (patient(), "Patient.resourceType"),
        ({"resourceType": "Observations"}, "Observation.resourceType"),
        ({"resourceType": "HumanName"}, "Observation.resourceType"),
        ({"resourceType": "DomainResource"}, "Observation.resourceType"),
        ({"resourceType": 1}, "Observation.resourceType"),
        ({"resourceType": "../Observation"}, "Observation.resourceType"),
    ],
)
def test_another_resource_than_expected(resource: Any, where: str) -> None:
    assert faults(resource, expected_type="Observation") == (400, [("structure", where)])


@pytest.mark.parametrize(
    ("element", "values"),
    [
        ("id", ["", "a" * 65, "a b", "é", "a/b"]),
        ("language", ["", " fr", "fr ", "f  r"]),
        ("implicitRules", ["", "a b"]),
        (
            "effectiveDateTime",
            [
                "",
                "2024-13",
                "2024-02-30",
                "2024-1-1",
                "2024-01-01T10:00",
                "2024-01-01T10:00:00",
                "2024-01-01T24:00:00Z",
                "2024-01-01 10:00:00Z",
                "24",
            ],
        ),
        ("issued", ["2024", "2024-01-01", "2024-01-01T10:00:00"]),
        ("valueTime", ["10:00", "25:00:00", "10:00:00Z"]),
        ("valueString", ["", "a\x00b", "\x1b[0m"]),
    ],
)
def test_syntax(element: str, values: list[str]) -> None:
    for value in values:
        status, found = faults(observation(**{element: value}))
        assert status == 400, value
        assert [code for code, _ in found] == ["value"]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        (
            "valueBase64Binary",
            ["aGVsbG8=", "aGVs bG8=", "YQ=="],
            ["", "a", "aGVsbG8", "aGV=bG8=", "a_==", "===="],
        ),
        ("valueOid", ["urn:oid:1.2.250.1"], ["1.2.250", "urn:oid:3.1", "urn:oid:1.02"]),
        (
            "valueUuid",
            ["urn:uuid:0c287d32-01e3-4d87-9953-9fcc9404eb21"],
            ["0c287d32-01e3-4d87-9953-9fcc9404eb21", "urn:uuid:0C287D32-01E3-4D87-9953-9FCC9404EB21"],
        ),
        ("valueDate", ["2024", "2024-02", "2024-02-29"], ["2023-02-29", "2024-02-29T00:00:00Z"]),
        (
            "valueDateTime",
            ["2024-02-29T10:00:00.123456789012Z", "2016-12-31T23:59:60Z", "2024-01-01T00:00:00+14:00"],
            ["2024-01-01T00:00:00+14:30"],
        ),
        ("valuePositiveInt", [1, 2147483647], [0, -1, 2147483648]),
        ("valueUnsignedInt", [0], [-1]),
        ("valueInteger", [-2147483648], [-2147483649]),
        ("valueDecimal", [Decimal("1.50"), 3, -1], []),
        ("valueUri", ["urn:x", "Patient/1", "é", "a\u00a0b"], ["a b", "", "a\x01b", "a\uffff"]),
        ("valueCode", ["a", "a b"], ["a  b", " a", "a\x00b"]),
        ("valueMarkdown", ["# a\n\tb"], [""]),
    ],
)
def test_primitives(name: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert faults(patient(extension=[{"url": "urn:x", name: value}])) == (200, []), value
    for value in bad:
        expected = (400, [("value", "Patient.extension[0].value")])
        assert faults(patient(extension=[{"url": "urn:x", name: value}])) == expected, value


# --- faults of content: 422 ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "code", "where"),
    [
        (observation(status=...), "required", "Observation.status"),
        (observation(code=...), "required", "Observation.code"),
        (observation(component=[{"valueInteger": 1}]), "required", "Observation.component[0].code"),
        (
            {
                "resourceType": "MedicationRequest",
                "status": "active",
                "intent": "order",
                "subject": {"display": "x"},
            },
            "required",
            "MedicationRequest.medication",
        ),
        (observation(status="finished"), "code-invalid", "Observation.status"),
        (observation(status="+"), "code-invalid", "Observation.status"),
        (observation(status="Final"), "code-invalid", "Observation.status"),
        (
            observation(valueQuantity={"value": 1, "comparator": "~"}),
            "code-invalid",
            "Observation.value.comparator",
        ),
        (patient(gender="f"), "code-invalid", "Patient.gender"),
        (condition(clinicalStatus={"text": "active"}), "code-invalid", "Condition.clinicalStatus"),
        (condition(clinicalStatus={"coding": [{"code": "active"}]}), "code-invalid", "Condition.clinicalStatus"),
        ({"resourceType": "SearchParameter"} | SEARCH_PARAMETER, "code-invalid", "SearchParameter.base[0]"),
        (patient(name=[{"use": "birth"}]), "code-invalid", "Patient.name[0].use"),
        (observation(subject={"reference": "Encounter/1"}), "value", "Observation.subject"),
        (
            observation(subject={"reference": "https://x.example/fhir/Encounter/1"}),
            "value",
            "Observation.subject",
        ),
        (observation(subject={"reference": "Encounter?identifier=a|b"}), "value", "Observation.subject"),
        (
            observation(subject={"reference": "urn:uuid:1", "type": "Encounter"}),
            "value",
            "Observation.subject",
        ),
        (observation(subject={"reference": "Foo/1"}), "value", "Observation.subject"),
        (observation(subject={"reference": "#none"}), "invariant", "Observation.subject"),
        (
            observation(
                contained=[{"resourceType": "Encounter", "id": "e", "status": "planned", "class": {"code": "AMB"}}],
                subject={"reference": "#e"},
            ),
            "value",
            "Observation.subject",
        ),
        (
            patient(contained=[{"resourceType": "Organization", "name": "x"}]),
            "required",
            "Patient.contained[0].id",
        ),
        (
            patient(
                contained=[
                    {"resourceType": "Organization", "id": "a", "name": "x"},
                    {"resourceType": "Organization", "id": "a", "name": "y"},
                ],
                managingOrganization={"reference": "#a"},
            ),
            "invariant",
            "Patient.contained[1].id",
        ),
        (
            patient(
                contained=[
                    {
                        "resourceType": "Organization",
                        "id": "a",
                        "name": "x",
                        "contained": [{"resourceType": "Organization", "id": "b", "name": "y"}],
                        "extension": [{"url": "urn:x", "valueUri": "#b"}],
                    }
                ],
                managingOrganization={"reference": "#a"},
            ),
            "invariant",
            "Patient.contained[0].contained",
        ),
        (patient(extension=[{"url": "urn:x"}]), "invariant", "Patient.extension[0]"),
        (patient(extension=[{"valueInteger": 1}]), "required", "Patient.extension[0].url"),
        (
            patient(
                extension=[{"url": "urn:x", "valueInteger": 1, "extension": [{"url": "urn:y", "valueInteger": 1}]}]
            ),
            "invariant",
            "Patient.extension[0]",
        ),
        (
            observation(effectivePeriod={"start": "2024-02", "end": "2024-01-31"}),
            "invariant",
            "Observation.effective",
        ),
        (patient(text={"status": "generated", "div": "<p>x</p>"}), "invariant", "Patient.text.div"),
    ],
)
def test_content(resource: Any, code: str, where: str) -> None:
    assert faults(resource) == (422, [(code, where)])


@pytest.mark.parametrize(
    "inner",
    [
        "<script>alert(1)</script>x",
        '<p onclick="x()">x</p>',
        '<a href="java\nscript:x()">x</a>',
        '<a href="&#106;avascript:x()">x</a>',
        '<iframe src="https://x.example"></iframe>x',
        "<p>x",
        "<p><b>x</p></b>",
        "x</div><p>y</p>",
        "</div>x",
        "  ",
        "<!DOCTYPE x>x",
        "<?php x ?>x",
        "<svg/>x",
        "x<br>",
        "x&nbsp;y",
        "<b>x</B>",
        "<![CDATA[<script>x</script>]]>",
    ],
)
def test_a_narrative_runs_nothing(inner: str) -> None:
    status, found = faults(patient(text={"status": "generated", "div": f"{DIV}{inner}</div>"}))
    assert (status, found) == (422, [("invariant", "Patient.text.div")])


@pytest.mark.parametrize(
    "inner",
    [
        "x",
        "<p>é<br/>&lt;b&gt;</p>",
        '<img src="#a" alt="a"/>',
        '<a name="a"/><table><tr><td colspan="2">x</td></tr></table>',
        "<!-- c -->x",
    ],
)
def test_a_narrative_is_formatted_text(inner: str) -> None:
    assert faults(patient(text={"status": "generated", "div": f"{DIV}{inner}</div>"})) == (200, [])


# --- what is valid ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "resource",
    [
        observation(
            _valueString={
                "extension": [{"url": "urn:x", "_valueCode": {"extension": [{"url": "urn:y", "valueCode": "z"}]}}]
            }
        ),
        patient(
            _birthDate={
                "id": "a",
                "extension": [{"url": "urn:x", "valueDateTime": "1974-12-25T14:35:45-05:00"}],
            }
        ),
        patient(
            name=[
                {
                    "given": ["a", None],
                    "_given": [None, {"extension": [{"url": "urn:x", "valueCode": "masked"}]}],
                }
            ]
        ),
        patient(name=[{"given": ["a"], "_given": [None]}]),
        observation(status=..., _status={"extension": [{"url": "urn:x", "valueCode": "unknown"}]}),
        patient(extension=[{"url": "urn:x", "valueMeta": {"versionId": "1"}}]),
        patient(extension=[{"url": "urn:x", "extension": [{"url": "y", "valueBoolean": False}]}]),
        observation(subject={"reference": "urn:uuid:0c287d32-01e3-4d87-9953-9fcc9404eb21"}),
        observation(subject={"reference": "Patient?identifier=urn:oid:2.999|1"}),
        observation(subject={"reference": "https://x.example/Patient/1/_history/2"}),
        observation(subject={"identifier": {"system": "urn:oid:2.999", "value": "1"}}),
        observation(subject={"display": "someone"}),
        observation(focus=[{"reference": "Encounter/1"}]),
        observation(valueQuantity={"value": Decimal("72.50"), "comparator": "<="}),
        observation(status="entered-in-error"),
        {"resourceType": "Task", "status": "failed", "intent": "unknown"},
        {"resourceType": "DiagnosticReport", "status": "appended", "code": {"text": "x"}},
    ],
)
def test_valid(resource: Any) -> None:
    assert faults(resource) == (200, [])


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_our_examples_are_valid(example: Path) -> None:
    resource = fhir_json.loads(example.read_bytes())
    if isinstance(resource, dict) and "resourceType" in resource:
        assert faults(resource) == (200, [])


def test_what_was_prepared_is_not_read_again() -> None:
    prepare("Observation")
    before = definition.cache_info().misses
    validate(observation(valueQuantity={"value": 1}, effectiveTiming={"event": ["2024"]}))
    assert definition.cache_info().misses == before


# --- how faults are told ------------------------------------------------------------------------------------


def test_every_fault_is_told_at_once_and_the_form_decides_the_status() -> None:
    assert faults(observation(status="x", foo=1, code=...)) == (
        400,
        [
            ("structure", "Observation.foo"),
            ("code-invalid", "Observation.status"),
            ("required", "Observation.code"),
        ],
    )


def test_the_faults_told_have_a_limit() -> None:
    with pytest.raises(Invalid) as refused:
        validate(observation(category=[{}] * 200))
    assert len(refused.value.issues) == MAX_ISSUES


def test_a_path_of_a_bundle() -> None:
    assert faults(observation(status="x"), path="Bundle.entry[3].resource") == (
        422,
        [("code-invalid", "Bundle.entry[3].resource.status")],
    )
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": patient()}, {"resource": observation(foo=1, subject={"reference": "#p"})}],
    }
    status, found = faults(bundle)
    assert status == 400
    assert found == [
        ("structure", "Bundle.entry[1].resource.foo"),
        ("invariant", "Bundle.entry[1].resource.subject"),
    ]


def test_values_are_not_repeated() -> None:
    secret = "Dupont"
    resource = observation(
        status=secret,
        subject={"reference": f"{secret}/1"},
        effectiveDateTime=secret,
        valueString={secret: 1},
        **{f"{secret} 1975": 1},
    )
    with pytest.raises(Invalid) as refused:
        validate(resource)
    told = [f"{issue.diagnostics} {issue.expression}" for issue in refused.value.issues]
    assert not any(secret in each for each in told)


# --- against the definitions, by change of one thing --------------------------------------------------------


def test_no_required_value_set_is_cut_short() -> None:
    todo, seen = list(RECORD_TYPES), set()
    while todo:
        name = todo.pop()
        found = definition(name)
        assert found is not None
        seen.add(name)
        for element in found.elements.values():
            assert "+" not in element.codes
            assert not element.codes or len(element.codes) > 1
            if not element.is_primitive and element.type not in seen and element.type != "Resource":
                todo.append(element.type)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copied = copy.copy(document)
    copied[path[0]] = replaced(copied[path[0]], path[1:], value)
    return copied


DOCUMENTS = [fhir_json.loads(path.read_bytes()) for path in sorted(EXAMPLES.glob("*.json"))]
RESOURCES = [each for each in DOCUMENTS if isinstance(each, dict) and "resourceType" in each]


@given(st.data())
def test_null_and_empty_are_refused_wherever_they_stand(data: st.DataObject) -> None:
    resource = data.draw(st.sampled_from(RESOURCES))
    path = data.draw(st.sampled_from(list(places(resource))))
    changed = replaced(resource, path, data.draw(st.sampled_from([None, {}, [], "", [None], {"?": 1}])))
    with pytest.raises(Invalid):
        validate(changed)


@given(st.data())
def test_any_json_is_valid_or_refused(data: st.DataObject) -> None:
    resource = data.draw(st.sampled_from(RESOURCES))
    path = data.draw(st.sampled_from(list(places(resource))))
    value = data.draw(st.sampled_from([_at(resource, each) for each in places(resource)]))
    changed = replaced(resource, path, value)
    status, found = faults(changed)
    assert all(expression for _, expression in found)
    if status == 200 and changed["resourceType"] in RECORD_TYPES:
        entry_of(changed)  # what is valid can be indexed


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


# --- real resources -----------------------------------------------------------------------------------------

NOT_CONTAINED = {"nothing is contained under this id (ref-1)"}
NOT_A_TARGET = {"the reference is to a type that is not allowed here"}
MISSING = {"the element is mandatory"}
NOT_CANONICAL = {"the JSON type is not that of a canonical"}
SAME_FULL_URL = {"two entries have the same fullUrl (bdl-7)"}

# What R4 itself calls invalid in published resources, and why; everything else passes.
REFUSED: dict[str, dict[str, set[str]]] = {
    # References to other entries of the Bundle are written as if these were contained (#id).
    "fr_ans_examples": {
        "HAS-01-Presc-Pantoprazole-DC": NOT_CONTAINED,
        "HAS-12-3-Presc-Enoxaparine": NOT_CONTAINED,
        "HAS-16-Presc-Racecadotril": {"a highest count needs a count (tim-8)"},
        "MultiLine-Presc-METHOTREXATE-LEDERFOLINE": NOT_CONTAINED,
        "MultiLine-Presc-Sucralfate-Paracetamol": NOT_CONTAINED,
        "Presc-Betamethasone-ApplCut": NOT_CONTAINED,
        "Presc-Capecitabine-Dose-Calculee": NOT_CONTAINED,
        "Presc-DIPROSONE-AppCut": NOT_CONTAINED,
        "Presc-EFFERALGAN": NOT_CONTAINED,
        "Presc-Fentanyl-patch72h-TL3j": NOT_CONTAINED,
        "Presc-Methylpredinosolone-DosesEvolutives": NOT_CONTAINED,
        "Presc-MiniperfCefotaxime-En20min-Pdt4j": NOT_CONTAINED,
        "Presc-NICORETTESKIN-patch": NOT_CONTAINED,
        "Presc-Paracetamol": NOT_CONTAINED,
        "Presc-Paracetamol-DoseEvolutive": NOT_CONTAINED,
        "Presc-Paracetamol-SiDouleur-MaxPrise-DelaisMin": NOT_CONTAINED | {"a longest period needs a period (tim-6)"},
        "Presc-ParacetamolCodeine-500mg30mg": NOT_CONTAINED,
        "Presc-PerfGl-NaCl-KCl-1l": NOT_CONTAINED,
        "Presc-PerfGl-NaCl-KCl-500ml": NOT_CONTAINED,
        "TradPN13FHIR-MultiLine-Presc-Alt-METFORMINE-GLICLAZIDE": NOT_CONTAINED,
        "TradPN13FHIR-Presc-DOLIPRANE-Interpret": NOT_CONTAINED,
        "TradPN13FHIR-Presc-Morphine-PCA": NOT_CONTAINED,
        "TradPN13FHIR-Presc-Paracetamol-SiDouleur": NOT_CONTAINED,
        "TradPN13FHIR-Presc-perfusion-6-composants": NOT_CONTAINED,
    },
    "hl7_r4_examples": {
        "DeviceMetric-example": NOT_A_TARGET,  # parent: a DeviceDefinition where a Device is asked
        "DeviceUseStatement-example": NOT_A_TARGET,  # reasonReference: a Procedure
        "MedicationRequest-medrx0301": NOT_A_TARGET,  # dispenseRequest.performer: a Practitioner
        "Questionnaire-qs1": MISSING,  # item.item.linkId
    },
    # Resources with which another server tests what it refuses, or does not look at.
    "ms_fhir_server_testfiles": {
        "BatchWithConditionalUpdateByIdentifier": {"the value is not written as a uri"},
        "BinaryPatch": SAME_FULL_URL,
        "FhirPatch": SAME_FULL_URL,
        "TransactionWithConditionalUpdateAndReference": MISSING | {"the value is not written as a uri"},
        "TransactionWithInvalidResourceType": {"the reference is to no type of FHIR"},
        "Normative/CompositeCustomReferenceTokenSearchParameterStu3": NOT_CANONICAL,
        "Normative/CompositeCustomTokenNumberNumberSearchParameterStu3": NOT_CANONICAL,
        "Normative/CompositeCustomTokenQuantitySearchParameterStu3": NOT_CANONICAL,
        "Normative/InvalidObservation": {"Observation has no such element", "an object is expected"},
        "Normative/ObservationWithTemperature": {"an array of at least one is expected"},
        "Normative/PatientMissingResourceType": {"must be a type of FHIR R4"},
        "Normative/SearchParameterInvalidBase": {"the code is not in the required value set"},
        "Normative/SearchParameterMissingBase": {"an array of at least one is expected"},
        "Normative/SearchParameterMissingType": {"the value is not written as a code"},
        # Of STU3.
        "Normative/TokenOverflowChargeItem": {
            "ChargeItem has no such element",
            "the JSON type is not that of a string",
        },
        "Normative/WeightInGrams": MISSING,  # text.div
        "R4/plandefinition-example": {"an element is not closed (txt-1, txt-2)"},  # the narrative is cut short
        "R4/practitionerrole-questionnaire": MISSING,  # item.item.linkId
        "R4/specimendefinition-questionnaire": MISSING,  # item.item.linkId
    },
}
PUBLISHED = (
    "hl7_r4_examples",
    "ig_examples",
    "synthea2019_bundles",
    "synthea_patients_1100",
    "fr_ans_examples",
    "gematik_erezept",
    "nhs_eps_examples",
    "ms_fhir_server_testfiles",
)


def lines_of(folder: Path, name: str) -> Iterator[tuple[str, Any]]:
    with lzma.open(folder / f"{name}.ndjson.xz") as lines:
        for line in lines:
            row = fhir_json.loads(line)
            if "text" not in row:
                yield row["file"], row.get("resource") or row.get("bundle")


def told(resource: Any) -> set[str]:
    try:
        validate(resource)
    except PasserelleError as error:
        return {issue.diagnostics for issue in error.issues}
    return set()


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_resources_are_refused_only_for_a_reason(shared_data: Path, name: str) -> None:
    found = {
        file.rpartition("Bundle-")[2].removesuffix(".json"): refusals
        for file, resource in lines_of(shared_data, name)
        if (refusals := told(resource))
    }
    assert found == REFUSED.get(name, {})


def test_the_published_examples_of_the_dmp_are_valid(shared_data: Path) -> None:
    files = sorted((shared_data / "dmp").glob("*.json"))
    assert len(files) >= 10
    assert {file.name for file in files if told(fhir_json.loads(file.read_bytes()))} == set()


@pytest.mark.parametrize("name", ["hl7_r4_examples", "ig_examples", "synthea2019_bundles", "fr_ans_examples"])
def test_what_is_valid_can_be_indexed(shared_data: Path, name: str) -> None:
    count = 0
    for _, resource in lines_of(shared_data, name):
        for each in [resource, *(entry.get("resource", {}) for entry in resource.get("entry", []))]:
            if each.get("resourceType") in RECORD_TYPES and not told(each):
                entry_of(each)
                count += 1
    assert count >= 20
