"""The search syntax: what is understood, what is left out, what is refused, and what then matches."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.errors import Invalid, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.index import RECORD_TYPES, entry_of
from passerelle.fhir.search import MAX_COUNT, parse_query
from passerelle.records.cursors import CURSOR
from passerelle.records.search import Include, QuantityIs, Reading, lookup_of, matches

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
        ("code:text", "hb", True),
        ("code:text", "Haemo", False),
        ("code:text", "b", False),
        ("combo-code", "4544-3", True),
        ("combo-code", "718-7", True),
        ("combo-code:not", "718-7", False),
        ("combo-code:text", "hb", True),
        ("combo-code:missing", "true", False),
        ("value-quantity", "72.5", True),
        ("value-quantity", "72.50|http://unitsofmeasure.org|g/L", True),
        ("value-quantity", "72.5||g/L", True),
        ("value-quantity", "72.5||g/dL", False),
        ("value-quantity", "72", False),
        ("value-quantity", "73", True),
        ("value-quantity", "7e1", False),
        ("value-quantity", "gt72.5", False),
        ("value-quantity", "gt72.49", True),
        ("value-quantity", "le72.5", True),
        ("value-quantity", "ne72", True),
        ("value-quantity", "ap80", True),
        ("value-quantity", "ap81", False),
        ("value-quantity", "eb72.5,gt72.4", True),
        ("code-value-quantity", "718-7$gt70", True),
        ("code-value-quantity", "718-7$gt73", False),
        ("code-value-quantity", "4544-3$gt70", False),
        ("code-value-quantity", "http://loinc.org|718-7$72.5|http://unitsofmeasure.org|g/L", True),
        ("combo-code-value-quantity", "HB$72.5||g/L", True),
        ("_profile", "https://example.org/StructureDefinition/result", True),
        ("_profile", "https://example.org/StructureDefinition/res", False),
        ("_tag:missing", "true", True),
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
        ("subject:Patient", "Patient/7q2k"),
    ],
)
def test_a_patient(pair: tuple[str, str]) -> None:
    parsed = parse_query("Observation", [pair], base_url=BASE)
    assert (parsed.patient, parsed.patient_identifier, parsed.query.criteria) == ("7q2k", None, ())
    assert parsed.used == (pair,)


@pytest.mark.parametrize(
    "name", ["patient.identifier", "subject.identifier", "patient:identifier", "subject:Patient.identifier"]
)
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


def test_a_patient_among_the_actors() -> None:
    for kind, name in (("Appointment", "actor"), ("Schedule", "actor"), ("Provenance", "target")):
        assert parse_query(kind, [(name, "Patient/7q2k")]).patient == "7q2k"
        assert parse_query(kind, [(f"{name}:Patient", "7q2k")]).patient == "7q2k"
        assert parse_query(kind, [(name, "Practitioner/1")]).patient is None
    assert parse_query("Appointment", [("actor", "Patient/2"), ("patient", "1")]).patient == "1"
    assert parse_query("Appointment", [("actor", "Patient/2,Practitioner/1")]).patient is None
    with pytest.raises(Invalid):
        parse_query("Schedule", [("actor", "Patient/2,Practitioner/1")])


def test_where_the_store_may_start() -> None:
    query = parse_query("Observation", [("code", "http://loinc.org|718-7,|x"), ("patient", "1")]).query
    assert query.range_tokens() == ("code=718-7", "code=x")
    assert lookup_of(query) is None
    organizations = parse_query("Organization", [("name", "Hôpital"), ("identifier", "urn:x|75,76")]).query
    assert organizations.range_tokens() is None
    assert lookup_of(organizations) == (("identifier", "75"), ("identifier", "76"))


@pytest.mark.parametrize(
    ("number", "lo", "hi"),
    [
        ("100", "99.5", "100.5"),
        ("100.00", "99.995", "100.005"),
        ("5.40e-3", "0.005395", "0.005405"),
        ("1e2", "95", "105"),
        ("1.0e2", "95", "105"),
        ("-5.4", "-5.45", "-5.35"),
        ("ap100", "90", "110"),
        ("ap-10", "-11", "-9"),
    ],
)
def test_numbers_reach_as_far_as_they_are_written(number: str, lo: str, hi: str) -> None:
    (criterion,) = parse_query("Observation", [("value-quantity", number)]).query.criteria
    (wanted,) = criterion.alternatives
    assert isinstance(wanted, QuantityIs)
    assert (wanted.lo, wanted.hi) == (Decimal(lo), Decimal(hi))


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
    assert (query.count, query.ascending, query.sort_date) == (50, False, "date")


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
        ("MedicationRequest", "date", False, True),
        ("ServiceRequest", "-date", False, True),
        ("ServiceRequest", "date", True, True),
        ("Observation", "code", False, True),
        ("Observation", "date,_id", False, True),
        ("Observation", "foo", False, False),
        ("Observation", "date,foo", False, False),
        ("Observation", "subject", False, False),
        ("Observation", "", False, False),
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


def test_sorting_by_several_parameters() -> None:
    query = parse_query("Observation", [("_sort", "-combo-value-quantity,_lastUpdated,code")]).query
    assert [(each.name, each.descending, each.kind) for each in query.sort] == [
        ("combo-value-quantity", True, "quantity"),
        ("_lastUpdated", False, "date"),
        ("code", False, "token"),
    ]
    assert query.sort[0].reading == Reading(names=("value-quantity", "component-value-quantity"))
    assert not query.is_by_sort_date


@pytest.mark.parametrize(
    ("name", "values"),
    [("_total", ["none", "estimate", "accurate"]), ("_summary", ["true", "text", "data", "count", "false"])],
)
def test_how_much_is_asked_for(name: str, values: list[str]) -> None:
    for value in values:
        parsed = parse_query("Observation", [(name, value)])
        assert value in (parsed.query.total, parsed.summary)
        assert parsed.used == ((name, value),)
    for pairs in ([(name, "x")], [(name, "")], [(name, values[0]), (name, values[1])]):
        with pytest.raises(Invalid) as refused:
            parse_query("Observation", pairs)
        assert refused.value.issues[0].expression == f"http.{name}"


def test_elements() -> None:
    parsed = parse_query("Observation", [("_elements", "code,status"), ("_elements", "status,valueQuantity")])
    assert parsed.elements == ("code", "status", "valueQuantity")
    for value in ("", "code,", "Jean Dupont"):
        with pytest.raises(Invalid):
            parse_query("Observation", [("_elements", value)])


# --- includes -----------------------------------------------------------------------------------------------


def test_includes() -> None:
    pairs = [
        ("_include", "Observation:performer"),
        ("_include", "Observation:performer:Organization"),
        ("_include", "Observation:subject"),
        ("_include", "Observation:performer"),
        ("_revinclude", "Provenance:target"),
        ("_revinclude", "DiagnosticReport:result:Observation"),
    ]
    parsed = parse_query("Observation", pairs, strict=True)
    assert parsed.query.include == (
        Include(type="Observation", parameter="performer"),
        Include(type="Observation", parameter="performer", target="Organization"),
        Include(type="Observation", parameter="subject", names_patient=True),
    )
    assert parsed.query.revinclude == (
        Include(type="Provenance", parameter="target"),
        Include(type="DiagnosticReport", parameter="result", target="Observation"),
    )
    assert parsed.used == tuple(pairs)


@pytest.mark.parametrize("value", ["*", "MedicationRequest:*"])
def test_all_that_is_referred_to(value: str) -> None:
    included = parse_query("MedicationRequest", [("_include", value)], strict=True).query.include
    names = {each.parameter for each in included}
    assert {"patient", "subject", "medication", "encounter", "requester"} <= names
    assert not {"status", "code", "_profile"} & names


def test_the_record_of_a_patient_refers_to_the_patient() -> None:
    (found,) = parse_query("Patient", [("_revinclude", "Observation:subject")], strict=True).query.revinclude
    assert found == Include(type="Observation", parameter="subject", names_patient=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_include", "Observation"),
        ("_include", "Observation:foo"),
        ("_include", "Observation:code"),
        ("_include", "Encounter:location"),
        ("_include", "Observation:performer:organization"),
        ("_include", "QuestionnaireResponse:questionnaire"),
        ("_include", "Observation:performer:Organization:x"),
        ("_revinclude", "*"),
        ("_revinclude", "Foo:target"),
        ("_revinclude", "Provenance:recorded"),
        ("_revinclude", "DiagnosticReport:result:Encounter"),
        ("_revinclude", "Encounter:subject"),
    ],
)
def test_an_include_that_leads_nowhere_is_left_out_or_refused(name: str, value: str) -> None:
    parsed = parse_query("Observation", [(name, value)])
    assert (parsed.query.include, parsed.query.revinclude, parsed.used) == ((), (), ())
    with pytest.raises(Invalid):
        parse_query("Observation", [(name, value)], strict=True)


@pytest.mark.parametrize("name", ["_include:iterate", "_include:recurse", "_revinclude:iterate"])
def test_only_one_hop_is_followed(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_query("Observation", [(name, "Observation:performer")])
    assert refused.value.issues[0].code == "not-supported"


# --- what is not known --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "foo",
        "_include",
        "_type",
        "foo:bar",
        "foo.bar",
        "code.bar",
        "phonetic",
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


@pytest.mark.parametrize(
    "name",
    [
        "_has:Provenance:target:agent",
        "_filter",
        "_text",
        "_content",
        "_list",
        "_query",
        "subject.name",
        "patient.family",
        "subject:Patient.name",
        "patient.identifier.value",
        "encounter.identifier",
        "encounter:Encounter.status",
        "performer:Practitioner.name:exact",
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_what_would_narrow_a_search_is_never_left_out(name: str, strict: bool) -> None:
    with pytest.raises(Invalid) as refused:
        parse_query("Observation", [(name, "x"), ("code", "718-7")], strict=strict)
    assert refused.value.issues[0].code == "not-supported"


def test_chains_are_read_for_who_follows_them() -> None:
    pairs = [
        ("participant:RelatedPerson.name:exact", "Ducros"),
        ("participant:RelatedPerson.address", "Tourcoing"),
        ("managingOrganization.partof.name", "Nord"),
    ]
    parsed = parse_query("CareTeam", pairs, follows=True)
    member, house = parsed.query.chains
    assert (member.parameter, [each.type for each in member.queries]) == ("participant", ["RelatedPerson"])
    assert [each.name for each in member.queries[0].criteria] == ["name", "address"]  # of one member
    (further,) = house.queries[0].chains
    assert (further.parameter, further.queries[0].criteria[0].name) == ("partof", "name")
    assert parsed.used == tuple(pairs)


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["managingOrganization.partof.partof.partof.name"], "not-supported"),
        ([f"encounter.{name}" for name in ("status", "class", "type", "date") * 3], "too-costly"),
    ],
)
def test_chains_have_bounds(names: list[str], code: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_query("CareTeam", [(name, "2026") for name in names], follows=True)
    assert refused.value.issues[0].code == code


@pytest.mark.parametrize("name", ["_format", "_pretty", CURSOR])
def test_what_does_not_concern_the_search_is_no_fault(name: str) -> None:
    assert parse_query("Observation", [(name, "x")], strict=True).used == ()


@pytest.mark.parametrize(
    "name", ["code:below", "code:in", "date:exact", "encounter:lower", "patient:below", "value-quantity:not"]
)
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
        ("value-quantity", "many"),
        ("value-quantity", "gt"),
        ("value-quantity", "5|mg"),
        ("value-quantity", "5|a|b|c"),
        ("value-quantity", "1e9999"),
        ("value-quantity", "NaN"),
        ("code-value-quantity", "718-7"),
        ("code-value-quantity", "718-7$"),
        ("code-value-quantity", "718-7$5$6"),
        ("code-value-quantity", "718-7$many"),
        ("code-value-date", "718-7$yesterday"),
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
