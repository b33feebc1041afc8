"""The search syntax: what is understood, what is left out, what is refused, and what then matches."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.errors import Invalid, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.index import RECORD_TYPES, entry_of
from passerelle.fhir.search import CURSOR, MAX_COUNT, parse_query
from passerelle.records.search import matches

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
BASE = "https://hie.example/fhir"


def found(name: str, *pairs: tuple[str, str]) -> bool:
    resource = fhir_json.loads((EXAMPLES / f"{name}.json").read_bytes())
    parsed = parse_query(resource["resourceType"], pairs, strict=True, base_url=BASE)
    return matches(entry_of(resource), parsed.query)


# --- what matches -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("code", "718-7", True),
        ("code", "http://loinc.org|718-7", True),
        ("code", "http://loinc.org|", True),
        ("code", "http://snomed.info/sct|718-7", False),
        ("code", "|718-7", False),
        ("code", "2160-0,718-7", True),
        ("code", "2160-0,4544-3", False),
        ("code:not", "2160-0", True),
        ("code:not", "718-7,2160-0", False),
        ("component-code", "4544-3", True),
        ("status", "final", True),
        ("status", "http://hl7.org/fhir/observation-status|final", True),
        ("status", "http://hl7.org/fhir/task-status|final", False),
        ("identifier", "urn:oid:2.999.4|R-2025-17\\|3", True),
        ("identifier", "R-2025-17\\|3", True),
        ("identifier", "urn:oid:2.999.4|R-2025-17", False),
        ("date", "2025-03-14", True),
        ("date", "ge2025-03-14T08:30:00+01:00", True),
        ("date", "ge2025-03-14T08:30:00 01:00", True),
        ("date", "gt2025-03-14T08:30:00+01:00", False),
        ("date", "lt2025-03-14", False),
        ("date", "ap2025-03-15", True),
        ("date", "ap2025-03-16", False),
        ("date", "ne2025", False),
        ("encounter", "Encounter/e1", True),
        ("encounter", "e1", True),
        ("encounter", f"{BASE}/Encounter/e1", True),
        ("encounter:Encounter", "e1", True),
        ("encounter:Patient", "e1", False),
        ("performer:identifier", "urn:oid:1.2.250.1.71.4.2.2|1750000001", True),
        ("performer:identifier", "1750000001", True),
        ("performer:identifier", "urn:oid:1.2.250.1.71.4.2.1|1750000001", False),
        ("device:missing", "true", True),
        ("code:missing", "true", False),
        ("code:missing", "false", True),
        ("_id", "haemoglobin", True),
        ("_id", "other,haemoglobin", True),
        ("_lastUpdated", "gt2025-03-14T09:00:00Z", True),
        ("_lastUpdated", "lt2025-03-14T09:00:00Z", False),
    ],
)
def test_observations(name: str, value: str, expected: bool) -> None:
    assert found("observation", (name, value)) is expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("author.family", "lefevre", True),
        ("author.family", "oeil", True),
        ("author.family:exact", "LEFÈVRE", True),
        ("author.family:exact", "Lefevre", False),
        ("author.family", "fevre", False),
        ("author.family:contains", "fevre", True),
        ("author.given", "anne", True),
        ("category", "10", True),
        ("creation", "2025-03-13", True),
        ("date", "2025-03-14T08:00:00Z", True),
        ("event", "34112-3", True),
        ("facility", "urn:oid:2.999.2|SA01", True),
        ("format", "urn:ihe:iti:xds-sd:pdf:2008", True),
        ("identifier", "urn:ietf:rfc:3986|urn:oid:2.999.1.7", True),
        ("identifier", "urn:uuid:0c287d32-01e3-4d87-9953-9fcc9404eb21", True),
        ("period", "ge2024-01-01", True),
        ("period", "le2025-03-10", True),
        ("period", "lt2025-03-10", False),
        ("period", "sa2025-03-09", True),
        ("related", "urn:oid:2.999.5|ACC-7", True),
        ("related:identifier", "ACC-7", True),
        ("security-label", "N", True),
        ("setting", "ETABLISSEMENT", True),
        ("type", "http://loinc.org|11488-4", True),
        ("status", "current,superseded", True),
        ("status", "http://hl7.org/fhir/document-reference-status|superseded", False),
    ],
)
def test_documents(name: str, value: str, expected: bool) -> None:
    assert found("document-reference", (name, value)) is expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("code", "submissionset"),
        ("designationType", "urn:oid:2.999.6|11"),
        ("sourceId", "urn:ietf:rfc:3986|urn:oid:2.999.7"),
        ("source.given", "jean"),
        ("source.family", "MARTIN"),
        ("identifier", "urn:oid:2.999.1.8"),
        ("status", "http://hl7.org/fhir/list-status|current"),
        ("date", "le2025-03-14"),
    ],
)
def test_submission_sets(name: str, value: str) -> None:
    assert found("submission-set", (name, value))


def test_criteria_are_joined_by_and() -> None:
    assert found("observation", ("code", "718-7"), ("date", "ge2025"), ("date", "lt2026"))
    assert not found("observation", ("code", "718-7"), ("date", "ge2025"), ("date", "lt2025"))


def test_a_search_for_folders_ignores_what_only_submission_sets_have() -> None:
    pairs = [("code", "folder"), ("sourceId", "urn:x|1"), ("source.family", "Martin"), ("status", "current")]
    parsed = parse_query("List", pairs, strict=True)
    assert [criterion.name for criterion in parsed.query.criteria] == ["code", "status"]
    assert [name for name, _ in parsed.used] == ["code", "status"]


# --- whose record -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pair",
    [
        ("patient", "7q2k"),
        ("patient", "Patient/7q2k"),
        ("patient", f"{BASE}/Patient/7q2k"),
        ("patient:Patient", "7q2k"),
        ("subject", "Patient/7q2k"),
        ("subject:Patient", "7q2k"),
    ],
)
def test_a_patient(pair: tuple[str, str]) -> None:
    parsed = parse_query("Observation", [pair], base_url=BASE)
    assert (parsed.patient, parsed.patient_identifier, parsed.query.criteria) == ("7q2k", None, ())
    assert parsed.used == (pair,)


@pytest.mark.parametrize("name", ["patient.identifier", "subject.identifier", "patient:identifier"])
def test_a_patient_by_identifier(name: str) -> None:
    parsed = parse_query("Observation", [(name, "urn:oid:1.2.250.1.213.1.4.10|279035121518989")])
    assert parsed.patient is None
    assert parsed.patient_identifier == ("urn:oid:1.2.250.1.213.1.4.10", "279035121518989")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("patient", ""),
        ("patient", "a,b"),
        ("patient", "Group/1"),
        ("patient", "https://elsewhere.example/fhir/Patient/7q2k"),
        ("patient", "Patient/7q2k/_history/1"),
        ("patient.identifier", "279035121518989"),
        ("patient.identifier", "|279035121518989"),
        ("patient.identifier", "urn:oid:2.999|"),
        ("patient.identifier", "urn:oid:2.999|1,urn:oid:2.999|2"),
    ],
)
def test_not_one_patient(name: str, value: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_query("Observation", [(name, value)], base_url=BASE)
    (issue,) = refused.value.issues
    assert (issue.code, issue.expression) == ("value", f"http.{name}")


def test_two_patients() -> None:
    with pytest.raises(Invalid) as refused:
        parse_query("Observation", [("patient", "1"), ("subject", "Patient/2")])
    assert refused.value.issues[0].code == "invalid"
    assert parse_query("Observation", [("patient", "1"), ("subject", "Patient/1")]).patient == "1"


def test_a_shared_type_has_no_patient() -> None:
    parsed = parse_query("Organization", [("patient", "1"), ("name", "hôp")])
    assert parsed.patient is None
    assert parsed.used == (("name", "hôp"),)


# --- paging and order ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "given"), [("0", 0), ("7", 7), ("200", 200), ("201", MAX_COUNT), ("999999999", MAX_COUNT)]
)
def test_count(asked: str, given: int) -> None:
    parsed = parse_query("Observation", [("_count", asked)])
    assert parsed.query.count == given
    assert parsed.used == (("_count", str(given)),)


def test_default_count_and_order() -> None:
    query = parse_query("Observation", []).query
    assert (query.count, query.ascending, query.sort_date, query.sort_reach) == (50, False, "date", None)


@pytest.mark.parametrize("value", ["", "-1", "many", "1.5", "٣", "1" * 5000])
def test_not_a_count(value: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_query("Observation", [("_count", value)])
    assert refused.value.issues[0].expression == "http._count"


@pytest.mark.parametrize(
    ("kind", "value", "ascending", "is_used"),
    [
        ("Observation", "date", True, True),
        ("Observation", "-date", False, True),
        ("MedicationRequest", "authoredon", True, True),
        ("MedicationRequest", "date", True, True),
        ("Observation", "code", False, False),
        ("Observation", "date,_id", False, False),
        ("Organization", "date", False, False),
    ],
)
def test_sort(kind: str, value: str, ascending: bool, is_used: bool) -> None:
    parsed = parse_query(kind, [("_sort", value)])
    assert parsed.query.ascending is ascending
    assert parsed.used == ((("_sort", value),) if is_used else ())
    if not is_used:
        with pytest.raises(Invalid):
            parse_query(kind, [("_sort", value)], strict=True)


# --- what is not known --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "foo",
        "_include",
        "_summary",
        "_elements",
        "_has:Provenance:target:agent",
        "subject.name",
        "foo:bar",
        "",
    ],
)
def test_unknown_parameters_are_left_out_or_refused(name: str) -> None:
    parsed = parse_query("Observation", [(name, "x"), ("code", "718-7")])
    assert parsed.used == (("code", "718-7"),)
    assert len(parsed.query.criteria) == 1
    with pytest.raises(Invalid) as refused:
        parse_query("Observation", [(name, "x")], strict=True)
    assert refused.value.issues[0].code == "not-supported"


@pytest.mark.parametrize("name", ["_format", "_pretty", "_total", CURSOR])
def test_what_does_not_concern_the_search_is_no_fault(name: str) -> None:
    assert parse_query("Observation", [(name, "x")], strict=True).used == ()


@pytest.mark.parametrize("name", ["code:below", "code:text", "date:exact", "encounter:lower", "patient:below"])
def test_a_modifier_that_is_not_known_is_always_refused(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_query("Observation", [(name, "718-7")])
    assert (refused.value.issues[0].code, refused.value.issues[0].expression) == (
        "not-supported",
        f"http.{name}",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("date", "yesterday"),
        ("date", "2025-02-30"),
        ("date", "xx2025-03-14"),
        ("date", ""),
        ("date", "2025-03-14,"),
        ("code", ""),
        ("code", "a,,b"),
        ("code", "|"),
        ("code", "a|b|c"),
        ("code:missing", "yes"),
        ("encounter", "Encounter/"),
        ("encounter", "not an id"),
        ("_id", ""),
    ],
)
def test_malformed_values(name: str, value: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_query("Observation", [(name, value)])
    (issue,) = refused.value.issues
    assert (issue.code, issue.expression) == ("value", f"http.{name.partition(':')[0]}")


def test_too_much_is_refused() -> None:
    for pairs in (
        [("code", "a")] * 51,
        [("code", ",".join("a" * 101))],
        [("code", "a" * 8001)],
    ):
        with pytest.raises(Invalid) as refused:
            parse_query("Observation", pairs)
        assert refused.value.issues[0].code == "too-costly"


def test_an_unknown_type() -> None:
    with pytest.raises(Unprocessable):
        parse_query("Foo", [])


SECRET = "§"
texts = st.text(st.one_of(st.characters(), st.sampled_from(f"{SECRET}|,\\:/-0129T")))


@given(
    st.sampled_from([kind for kind in RECORD_TYPES if kind != "Patient"]),
    st.lists(
        st.tuples(
            st.sampled_from(["patient", "patient.identifier", "date", "code", "encounter", "_count", "_sort", "x"]),
            texts,
        )
    ),
    st.booleans(),
)
def test_any_input_is_read_or_refused_without_repeating_it(
    kind: str, pairs: list[tuple[str, str]], strict: bool
) -> None:
    try:
        parse_query(kind, pairs, strict=strict)
    except Invalid as refused:
        told = " ".join(f"{issue.diagnostics} {issue.expression}" for issue in refused.issues)
        assert SECRET not in told


def test_a_name_that_could_hold_anything_is_not_repeated() -> None:
    for name in ("Jean Dupont 1975", "code:Jean Dupont", "patient:279035121518989"):
        with pytest.raises(Invalid) as refused:
            parse_query("Observation", [(name, "1")], strict=True)
        assert refused.value.issues[0].expression is None
