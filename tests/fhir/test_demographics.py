"""People over FHIR: how searches, cross-references and matches are read, and what answers leave out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest

from local.region import INS_TEST
from passerelle.access import Caller, Scopes
from passerelle.errors import Forbidden, Invalid, NotFound, PasserelleError, Unprocessable
from passerelle.fhir.crossreference import read_crossreference, render_crossreference
from passerelle.fhir.demographics import check_dmp_search, chosen, narrowed, read_search
from passerelle.fhir.disclosure import Disclosure
from passerelle.fhir.match import Graded, check_traits, read_match, render_matches
from passerelle.fhir.outcome import render_outcome
from passerelle.fhir.patient import traits_of
from passerelle.fhir.validation import validate
from passerelle.patients.identity import french_identity
from passerelle.patients.search import PatientSearch
from tests import examples

BASE = "https://exchange.example/fhir"
DOMAIN = examples.DOMAIN
SCHEME = french_identity("dev")


def read(*pairs: tuple[str, str], strict: bool = False) -> PatientSearch:
    return read_search(pairs, base_url=BASE, strict=strict, is_known=lambda system: "2.999" in system)


def patient(number: int = 1, status: str = "QUAL") -> dict[str, Any]:
    text = json.dumps(examples.patient(number)[1]).replace('"QUAL"', f'"{status}"')
    return {"id": f"{number:016d}", **json.loads(text)}


# --- searches ---------------------------------------------------------------------------------------------------------


def test_people_are_looked_up_by_what_is_given() -> None:
    born = read(("birthdate", "1955-06-14,eq1955-06-15"), ("family", "d'Œu"), ("gender", "female"))
    assert born.birth_dates == (date(1955, 6, 14), date(1955, 6, 15))
    assert born.name_prefixes == ("doeu", "oeu")
    assert {each.name for each in born.shown.criteria} == {"birthdate", "gender"}
    assert read(("_id", "a,b"), ("birthdate", "1955-06-14")).patients == ("a", "b")
    assert read(("identifier", f"{DOMAIN}|1,{DOMAIN}|2")).identifiers == ((DOMAIN, "1"), (DOMAIN, "2"))
    assert read(("telecom", "06 12 34 56 78")).telecoms == ("06 12 34 56 78",)


def test_the_exact_name_is_looked_up_like_any_and_compared_as_it_is_kept() -> None:
    asked = read(("birthdate", "1955-06-14"), ("family:exact", "DUPONT"), ("given", "el"))
    assert asked.name_prefixes == ("dupont",)
    assert [each.part for each in asked.names.criteria] == ["given"]
    assert "family" in {each.name for each in asked.shown.criteria}


@pytest.mark.parametrize("values", [("urn:oid:2.999.1|,urn:oid:2.999.2|",), ("urn:oid:2.999.1|", "urn:oid:2.999.2|")])
def test_78_4_a_domain_without_a_value_selects_nobody(values: tuple[str, ...]) -> None:
    asked = read(("birthdate", "1955-06-14"), *(("identifier", value) for value in values))
    assert asked.systems == ("urn:oid:2.999.1", "urn:oid:2.999.2")
    assert {each.name for each in asked.shown.criteria} == {"birthdate"}
    assert asked.identifiers == ()


def test_78_4_a_domain_beside_a_value() -> None:
    asked = read(("identifier", f"{DOMAIN}|1"), ("identifier", "urn:oid:2.999.2|"))
    assert (asked.identifiers, asked.systems) == (((DOMAIN, "1"),), ("urn:oid:2.999.2",))


@pytest.mark.parametrize("pairs", [[("identifier", "urn:x|")], [("identifier", f"{DOMAIN}|,urn:x|"), ("_id", "a")]])
def test_78_5_an_unknown_domain(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(NotFound) as refused:
        read(*pairs)
    (issue,) = render_outcome(refused.value)["issue"]
    assert (issue["severity"], issue["code"], issue["diagnostics"]) == (
        "warning",
        "not-found",
        "targetSystem not found",
    )


@pytest.mark.parametrize(
    ("pairs", "code", "place"),
    [
        pytest.param([], "required", "http.birthdate", id="INS-13-nothing"),
        pytest.param([("family", "dupont"), ("gender", "male")], "required", "http.birthdate", id="INS-13-name"),
        pytest.param([("identifier", f"{DOMAIN}|")], "required", "http.birthdate", id="domain-alone"),
        pytest.param([("identifier:not", f"{DOMAIN}|1")], "required", "http.birthdate", id="not-an-identifier"),
        pytest.param([("birthdate:missing", "true")], "required", "http.birthdate", id="missing"),
        pytest.param([("birthdate", "1955-06")], "value", "http.birthdate", id="a-month"),
        pytest.param([("birthdate", "ge1955-06-14")], "value", "http.birthdate", id="a-limit"),
        pytest.param([("birthdate", "1955-06-14,1956")], "value", "http.birthdate", id="a-day-or-a-year"),
        pytest.param([("identifier", "1")], "value", "http.identifier", id="without-system"),
        pytest.param([("_id", ",".join("abcdefghijklmnopqrstu"))], "too-costly", None, id="too-many"),
    ],
)
def test_a_search_that_nothing_looks_up(pairs: list[tuple[str, str]], code: str, place: str | None) -> None:
    with pytest.raises(Invalid) as refused:
        read(*pairs)
    assert (refused.value.issues[0].code, refused.value.issues[0].expression) == (code, place)


def test_what_is_not_served_is_left_out_or_refused() -> None:
    pairs = [("birthdate", "1955-06-14"), ("_include", "Patient:organization"), ("unheard-of", "1")]
    assert read(*pairs).used == (("birthdate", "1955-06-14"),)
    with pytest.raises(Invalid):
        read(*pairs[:2], strict=True)


@dataclass(frozen=True, kw_only=True)
class Record:
    patient: str
    body: bytes


def found(*contents: dict[str, Any]) -> list[tuple[Record, None]]:
    return [(Record(patient=each["id"], body=json.dumps(each).encode()), None) for each in contents]


def test_only_what_is_shown_can_be_found() -> None:
    ins = examples.ins(1)
    asked = read(("identifier", ins))
    shown = patient(1)
    hidden = {**shown, "identifier": shown["identifier"][1:]}
    assert len(chosen(found(shown), asked)) == 1
    assert chosen(found(hidden), asked) == []


def test_phone_numbers_are_found_however_they_are_written() -> None:
    reached = {**patient(1), "telecom": [{"system": "phone", "value": "+33 6 12 34 56 78"}]}
    assert len(chosen(found(reached), read(("telecom", "06.12.34.56.78")))) == 1
    assert chosen(found(reached), read(("phone", "0612345679"))) == []
    assert chosen(found(reached), read(("_id", reached["id"]), ("telecom:not", "0612345678"))) == []


def test_the_order_asked_for() -> None:
    people = found(*(patient(number) for number in (1, 12, 2)))
    asked = read(("birthdate", "1955-06-14,2012-03-21,1948-02-29"), ("_sort", "-birthdate"))
    assert [each.patient[-2:] for each, _ in chosen(people, asked)] == ["12", "01", "02"]


def test_78_4_the_identifiers_of_some_domains() -> None:
    body = json.dumps(patient(1)).encode()
    assert narrowed(body, ()) is body
    part = json.loads(narrowed(body, (DOMAIN,)))
    assert [each["system"] for each in part["identifier"]] == [DOMAIN]
    assert part["meta"]["tag"][0]["code"] == "SUBSETTED"
    assert "identifier" not in json.loads(narrowed(body, ("urn:oid:2.999.9",)))


def test_dmp_4_only_national_identifiers() -> None:
    check_dmp_search([("identifier", examples.ins(1))], SCHEME.systems)
    faults: list[tuple[list[tuple[str, str]], str]] = [
        ([], "required"),
        ([("identifier", "1")], "value"),
        ([("identifier", f"{DOMAIN}|1")], "not-found"),
    ]
    for pairs, code in faults:
        with pytest.raises(PasserelleError) as refused:
            check_dmp_search(pairs, SCHEME.systems)
        assert refused.value.issues[0].code == code


# --- what answers leave out -------------------------------------------------------------------------------------------


def caller(domain: str | None) -> Caller:
    return Caller(
        client_id="c",
        organisation="o",
        role="hospital",
        scopes=Scopes(frozenset()),
        token_id="t",
        domain=domain,
    )


def searchset(content: dict[str, Any], kind: str = "searchset") -> dict[str, Any]:
    inner = {"resourceType": "Bundle", "type": kind, "entry": [{"resource": content}]}
    return {"resourceType": "Bundle", "type": "batch-response", "entry": [{"resource": inner}, {"response": {}}]}


@pytest.mark.parametrize("status", ["VALI", "RECUP"])
@pytest.mark.parametrize("wrap", [lambda content: content, searchset], ids=["alone", "in-bundles"])
@pytest.mark.parametrize("is_stored", [True, False], ids=["bytes", "dict"])
def test_ins_12_others_see_no_national_identifier_that_is_not_qualified(
    status: str, wrap: Any, is_stored: bool
) -> None:
    content = wrap({**patient(1, status), "text": {"status": "generated", "div": "<div>INS</div>"}})
    body = json.dumps(content, separators=(",", ":")).encode() if is_stored else content
    disclosure = Disclosure(SCHEME)
    assert disclosure.of(body, caller(DOMAIN)) is body
    for other in (caller("urn:oid:2.999.2"), caller(None)):
        shown = disclosure.of(body, other)
        text = (shown if isinstance(shown, bytes) else json.dumps(shown).encode()).decode()
        assert INS_TEST not in text
        assert "INS" not in text
        assert DOMAIN in text


def test_ins_12_a_qualified_identity_is_shown_as_it_is_stored() -> None:
    body = json.dumps(patient(1), separators=(",", ":")).encode()
    assert Disclosure(SCHEME).of(body, caller(None)) is body


def test_ins_12_a_link_names_nobody_by_a_national_identifier() -> None:
    system, value = examples.ins(2).split("|")
    named = {"identifier": {"system": system, "value": value}}
    links = [
        {"type": "replaced-by", "other": {"reference": f"Patient/{2:016d}", **named}},
        {"type": "seealso", "other": named},
    ]
    shown = Disclosure(SCHEME).of({**patient(1, "VALI"), "link": links}, caller(None))
    assert isinstance(shown, dict)
    assert shown["link"] == [{"type": "replaced-by", "other": {"reference": f"Patient/{2:016d}"}}]


def test_ins_12_the_past_is_its_sources_alone() -> None:
    body = json.dumps(patient(1), separators=(",", ":")).encode()
    history = json.dumps(searchset(patient(1), "history"), separators=(",", ":")).encode()
    disclosure = Disclosure(SCHEME)
    assert INS_TEST.encode() not in disclosure.of(body, caller(None), is_past=True)
    assert INS_TEST.encode() not in disclosure.of(history, caller(None))
    assert disclosure.of(history, caller(DOMAIN)) is history


# --- cross-reference --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Known:
    identifiers: tuple[tuple[str, str], ...] = ((DOMAIN, "1"), ("urn:oid:2.999.2", "2"))
    patients: tuple[str, ...] = ("a", "b")


def told(*pairs: tuple[str, str]) -> list[str]:
    asked = read_crossreference(pairs, None, base_url=BASE)
    answer = render_crossreference(asked, Known())
    validate(answer, expected_type="Parameters")
    values = [each.get("valueIdentifier", each.get("valueReference")) for each in answer.get("parameter", [])]
    return [each.get("value", each.get("reference")) for each in values]


def test_83_what_is_asked_is_told() -> None:
    source = ("sourceIdentifier", "urn:oid:2.999.3|3")
    assert told(source) == ["1", "2", "Patient/a", "Patient/b"]
    assert told(source, ("targetSystem", DOMAIN)) == ["1", "Patient/a", "Patient/b"]
    assert told(source, ("targetSystem", BASE)) == ["Patient/a", "Patient/b"]
    assert told(source, ("targetSystem", f"{BASE}/"), ("targetSystem", DOMAIN)) == ["1", "Patient/a", "Patient/b"]


@pytest.mark.parametrize("value", [f"{BASE}|Patient/a", f"{BASE}/|Patient/a", f"{BASE}|a"])
def test_83_3_the_id_of_a_patient(value: str) -> None:
    asked = read_crossreference([("sourceIdentifier", value)], None, base_url=BASE)
    assert (asked.identifier, asked.patient) == (None, "a")


@pytest.mark.parametrize(
    "argument",
    [{"valueIdentifier": {"system": DOMAIN, "value": "1"}}, {"valueString": f"{DOMAIN}|1"}],
    ids=["identifier", "string"],
)
def test_83_1_in_a_body(argument: dict[str, Any]) -> None:
    target = {"name": "targetSystem", "valueUri": "urn:oid:2.999.2"}
    body = {"resourceType": "Parameters", "parameter": [{"name": "sourceIdentifier", **argument}, target]}
    asked = read_crossreference([], body, base_url=BASE)
    assert (asked.identifier, asked.systems) == ((DOMAIN, "1"), ("urn:oid:2.999.2",))


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        pytest.param([], "required", id="83-7-missing"),
        pytest.param([("sourceIdentifier", "a|1"), ("sourceIdentifier", "a|2")], "invalid", id="83-7-twice"),
        pytest.param([("sourceIdentifier", "1")], "invalid", id="83-7-without-a-bar"),
        pytest.param([("sourceIdentifier", "a|")], "invalid", id="without-value"),
        pytest.param([("sourceIdentifier", "|1")], "invalid", id="without-system"),
        pytest.param([("sourceIdentifier", "a|1"), ("targetSystem", "")], "value", id="empty-target"),
        pytest.param([("sourceIdentifier", "a|1"), ("targetsystem", "b")], "not-supported", id="misspelt"),
    ],
)
def test_83_7_arguments_that_are_refused(pairs: list[tuple[str, str]], code: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_crossreference(pairs, None, base_url=BASE)
    assert refused.value.issues[0].code == code


def test_83_5_83_6_why_nothing_is_told() -> None:
    asked = read_crossreference([("sourceIdentifier", "a|1"), ("targetSystem", "b")], None, base_url=BASE)
    unknown, absent = asked.refusal(lambda _: False), asked.refusal(lambda _: True)
    assert (unknown.status, unknown.issues[0].code) == (400, "code-invalid")
    assert str(unknown) == "sourceIdentifier Assigning Authority not found"
    assert (absent.status, str(absent)) == (404, "sourceIdentifier Patient Identifier not found")
    with pytest.raises(Forbidden, match="targetSystem not found"):
        asked.check_domains(lambda _: False)


# --- match ------------------------------------------------------------------------------------------------------------


def parameters(*resources: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    named = [{"name": "resource", "resource": each} for each in resources]
    return {
        "resourceType": "Parameters",
        "parameter": [*named, *({"name": name, **value} for name, value in arguments.items())],
    }


def test_119_1_a_patient_alone_or_in_parameters() -> None:
    sent = patient(1)
    assert read_match([], sent).patient is sent
    asked = read_match([], parameters(sent, count={"valueInteger": 3}, onlyCertainMatches={"valueBoolean": True}))
    assert (asked.patient, asked.count, asked.only_certain) == (sent, 3, True)
    asked = read_match([("count", "2"), ("onlyCertainMatches", "false"), ("_format", "json")], sent)
    assert (asked.count, asked.only_certain) == (2, False)


OBSERVATION = {"resourceType": "Observation", "status": "final"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        pytest.param(parameters(), 400, "required", id="119-5-none"),
        pytest.param({"resourceType": "Parameters"}, 400, "required", id="119-5-empty"),
        pytest.param(parameters(patient(1), patient(2)), 400, "invalid", id="119-5-two"),
        pytest.param(parameters(OBSERVATION), 400, "invalid", id="119-5-not-a-patient"),
        pytest.param(OBSERVATION, 400, "invalid", id="119-5-not-a-patient-alone"),
        pytest.param(parameters(patient(1), count={"valueInteger": 0}), 400, "value", id="no-count"),
        pytest.param(parameters(patient(1), count={"valueString": "1"}), 400, "value", id="count-in-words"),
        pytest.param(parameters(patient(1), onlyCertainMatches={"valueString": "x"}), 400, "value", id="flag"),
        pytest.param(parameters(patient(1), other={"valueInteger": 1}), 400, "not-supported", id="other-argument"),
        pytest.param({**patient(1), "gender": "unheard-of"}, 422, "code-invalid", id="not-valid"),
        pytest.param([], 400, "invalid", id="no-resource-at-all"),
    ],
)
def test_119_5_what_is_not_matched(body: Any, status: int, code: str) -> None:
    with pytest.raises(PasserelleError) as refused:
        read_match([], body)
    assert (refused.value.status, refused.value.issues[0].code) == (status, code)


def test_119_5_a_patient_without_traits() -> None:
    with pytest.raises(Unprocessable) as refused:
        check_traits(traits_of({"resourceType": "Patient", "gender": "male", "name": [{"text": "?"}]}, SCHEME))
    assert refused.value.issues[0].code == "business-rule"
    check_traits(traits_of(patient(1), SCHEME))
    check_traits(traits_of({"resourceType": "Patient", "identifier": [{"system": DOMAIN, "value": "1"}]}, SCHEME))


def test_119_1_119_6_the_answer() -> None:
    graded = [
        Graded(reference=f"Patient/{number:016d}", body=json.dumps(patient(number)).encode(), score=score, grade=grade)
        for number, score, grade in ((1, 0.98765432, "certain"), (2, 0.3, "possible"))
    ]
    bundle = json.loads(render_matches(graded, ["not all were compared"], base_url=BASE, self_url=f"{BASE}/x"))
    validate(bundle, expected_type="Bundle")
    assert bundle["total"] == 2
    *matches, warned = bundle["entry"]
    assert [each["search"]["score"] for each in matches] == [0.9877, 0.3]
    assert [each["search"]["extension"][0]["valueCode"] for each in matches] == ["certain", "possible"]
    assert warned["search"] == {"mode": "outcome"}
    assert {each["severity"] for each in warned["resource"]["issue"]} == {"warning"}
    empty = json.loads(render_matches([], [], base_url=BASE, self_url=f"{BASE}/x"))
    assert (empty["total"], "entry" in empty) == (0, False)
