"""Audit records as AuditEvents (contract: BALP-1 to BALP-7) and the search on them (TDE-4, TDE-6)."""

from __future__ import annotations

import base64
import json
import lzma
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.auditevent import AuditEvent

from passerelle.access import Caller, Request, Scopes, Touched
from passerelle.audit.model import AuditRecord, audit_of
from passerelle.errors import Forbidden, Invalid, NotFound, PasserelleError
from passerelle.fhir.audit_event import MAX_COUNT, parse_audit_search, render_audit_event
from passerelle.identifiers import new_ulid

BASE = "https://exchange.example/fhir"
AT = datetime(2026, 1, 14, 9, 30, 0, 120400, tzinfo=UTC)
PATIENT, SECOND, THIRD = "7q2k9c4m1xw8z0ab", "8q2k9c4m1xw8z0ab", "9q2k9c4m1xw8z0ab"
CALLER = Caller(
    client_id="hospital-a",
    organisation="1754567860",
    role="hospital",
    scopes=Scopes.parse("system/*.cruds"),
    token_id="t" * 10 + "0123456789abcdefghjkmnpqrstvwxyz",
    professional="810003461033",
)
SYSTEM_ONLY = replace(CALLER, professional=None)


def records(
    name: str,
    action: Any,
    touched: Touched,
    *,
    caller: Caller = CALLER,
    query: str = "",
    refusal: PasserelleError | None = None,
) -> tuple[AuditRecord, ...]:
    request = Request(
        caller=caller,
        name=name,
        action=action,
        request_id="5f0c6f6e-request",
        at=AT,
        base_url=BASE,
        query=query,
    )
    return audit_of(request, touched, refusal=refusal)


def rendered(record: AuditRecord) -> dict[str, Any]:
    """The AuditEvent, which is valid FHIR in every test."""
    event = render_audit_event(record, BASE)
    AuditEvent.model_validate(event)
    return event


def agent_types(event: dict[str, Any]) -> list[str]:
    return [agent["type"]["coding"][0]["code"] for agent in event["agent"]]


def entities(event: dict[str, Any], entity_type: str) -> list[dict[str, Any]]:
    return [entity for entity in event["entity"] if entity["type"]["code"] == entity_type]


SOURCE, DESTINATION, APPLICATION, CUSTODIAN = "110153", "110152", "110150", "custodian"


@pytest.mark.parametrize(
    ("name", "action", "subtype", "client", "server"),
    [
        pytest.param("create", "C", "create", SOURCE, DESTINATION, id="BALP-1-create"),
        pytest.param("update", "U", "update", SOURCE, DESTINATION, id="BALP-1-update"),
        pytest.param("conditional-update", "U", "update", SOURCE, DESTINATION, id="BALP-1-conditional-update"),
        pytest.param("read", "R", "read", DESTINATION, SOURCE, id="BALP-2-read"),
        pytest.param("vread", "R", "vread", DESTINATION, SOURCE, id="BALP-2-vread"),
        pytest.param("delete", "D", "delete", APPLICATION, CUSTODIAN, id="BALP-2-delete"),
        pytest.param("conditional-delete", "D", "delete", APPLICATION, CUSTODIAN, id="BALP-2-conditional-delete"),
        pytest.param("search-type", "E", "search-type", SOURCE, DESTINATION, id="BALP-3-search"),
        pytest.param("$accept", "E", "operation", SOURCE, DESTINATION, id="BALP-3-operation"),
        pytest.param("transaction", "E", "transaction", SOURCE, DESTINATION, id="BALP-3-transaction"),
    ],
)
def test_agents_follow_the_direction_of_the_data(
    name: str, action: str, subtype: str, client: str, server: str
) -> None:
    reference = f"Observation/{PATIENT}-{new_ulid(AT)}"
    (record,) = records(name, action, Touched.of([PATIENT], [reference]))
    event = rendered(record)
    assert event["type"]["code"] == "rest"
    assert event["subtype"][0]["code"] == subtype
    assert event["action"] == action
    assert event["recorded"] == "2026-01-14T09:30:00.120Z"
    assert event["outcome"] == "0"
    assert agent_types(event)[:2] == [client, server]
    assert event["agent"][0]["who"]["identifier"] == {
        "system": "https://exchange.example",
        "value": "hospital-a",
    }
    assert [each["what"]["reference"] for each in entities(event, "2") if "what" in each] == [reference]
    (patient,) = entities(event, "1")
    assert patient["what"]["reference"] == f"Patient/{PATIENT}"
    assert patient["role"]["code"] == "1"


def test_a_search_keeps_its_request_and_not_its_results() -> None:
    """BALP-3."""
    query = "/fhir/Observation?code=http%3A%2F%2Floinc.org%7C718-7"
    (record,) = records("search-type", "E", Touched.of([PATIENT]), query=query)
    (entity,) = entities(rendered(record), "2")
    assert entity["role"]["code"] == "24"
    assert base64.b64decode(entity["query"]).decode() == query


def test_the_professional_the_organisation_and_the_token_are_named() -> None:
    """BALP-4."""
    (record,) = records("read", "R", Touched.of([PATIENT]))
    client, server, user, organisation = rendered(record)["agent"]
    assert user["type"]["coding"][0]["code"] == "UserOauthAgent"
    assert user["who"]["identifier"] == {"system": "urn:oid:1.2.250.1.71.4.2.1", "value": "810003461033"}
    assert user["role"][0]["coding"][0]["code"] == "hospital"
    assert user["policy"] == ["0123456789abcdefghjkmnpqrstvwxyz"]
    assert organisation["who"]["identifier"] == {
        "system": "urn:oid:1.2.250.1.71.4.2.2",
        "value": "1754567860",
    }
    assert [agent["requestor"] for agent in (client, server, user, organisation)] == [
        False,
        False,
        True,
        False,
    ]
    assert server["network"]["address"] == BASE


def test_without_a_professional_the_system_stands_for_itself() -> None:
    """BALP-4 without user."""
    (record,) = records("read", "R", Touched.of([PATIENT]), caller=SYSTEM_ONLY)
    user = rendered(record)["agent"][2]
    assert user["who"]["identifier"]["value"] == "hospital-a"


def test_the_request_id_is_an_entity() -> None:
    """BALP-5."""
    (record,) = records("read", "R", Touched())
    (entity,) = entities(rendered(record), "XrequestId")
    assert entity["what"]["identifier"]["value"] == "5f0c6f6e-request"


@pytest.mark.parametrize("patients", [(), (PATIENT,), (PATIENT, SECOND, THIRD)], ids=["0", "1", "3"])
def test_one_event_per_patient_and_none_names_two(patients: tuple[str, ...]) -> None:
    """BALP-6."""
    references = [f"Observation/{patient}-{new_ulid(AT)}" for patient in patients]
    made = records("search-type", "E", Touched.of(patients, references), query="/fhir/Observation?code=1")
    assert len(made) == max(1, len(patients))
    for record in made:
        text = json.dumps(rendered(record))
        assert [patient for patient in patients if patient in text] == ([record.patient] if patients else [])


@pytest.mark.parametrize(
    ("refusal", "reason"), [(Forbidden(), "forbidden"), (NotFound(), "not-found")], ids=["403", "404"]
)
def test_a_refused_call_says_so_with_its_reason(refusal: PasserelleError, reason: str) -> None:
    """BALP-7."""
    (record,) = records("read", "R", Touched.of([PATIENT]), refusal=refusal)
    event = rendered(record)
    assert (event["outcome"], event["outcomeDesc"]) == ("4", reason)


def test_a_call_by_nobody_known_is_an_event_too() -> None:
    """BALP-7 401."""
    nobody = Caller(client_id="", organisation="", role="", scopes=Scopes(frozenset()), token_id="")
    (record,) = records("authenticate", "E", Touched(), caller=nobody)
    client, server = rendered(record)["agent"]
    assert client["who"] == {"display": "unknown"}
    assert (client["requestor"], server["requestor"]) == (True, False)


def test_codes_are_those_of_the_examples_of_balp(shared_data: Path) -> None:
    """What we send for a create, a read, a search and a delete is coded as in IHE's own examples."""
    with lzma.open(shared_data / "ig_examples.ndjson.xz", "rt") as lines:
        examples = [json.loads(line)["resource"] for line in lines]
    events = [example for example in examples if example["resourceType"] == "AuditEvent"]
    assert events
    known = {pair for event in events for pair in _codings(event)}
    sent = {
        pair
        for name, action in (("create", "C"), ("read", "R"), ("search-type", "E"), ("delete", "D"))
        for record in records(name, action, Touched.of([PATIENT], ["List/x"]), query="q")
        for pair in _codings(rendered(record))
    }
    ours = {
        (f"{BASE}/CodeSystem/client-role", "hospital"),
        ("http://hl7.org/fhir/restful-interaction", "search-type"),
        ("https://profiles.ihe.net/ITI/BALP/CodeSystem/UserAgentTypes", "UserOauthAgent"),
        ("https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType", "XrequestId"),
    }
    assert sent - known <= ours


def _codings(value: Any) -> Iterable[tuple[str, str]]:
    if isinstance(value, dict):
        if "system" in value and "code" in value:
            yield value["system"], value["code"]
        for child in value.values():
            yield from _codings(child)
    elif isinstance(value, list):
        for child in value:
            yield from _codings(child)


# --- search -------------------------------------------------------------------------------------------------


def parsed(query: list[tuple[str, str]], *, strict: bool = False) -> Any:
    return parse_audit_search([("patient", PATIENT), *query], base_url=BASE, strict=strict)


def day(number: int) -> datetime:
    return datetime(2026, 1, number, tzinfo=UTC)


@pytest.mark.parametrize(
    ("dates", "since", "until"),
    [
        pytest.param(["ge2026-01-14", "le2026-01-16"], day(14), day(17), id="TDE-4-two-bounds"),
        pytest.param(["ge2026-01-14"], day(14), None, id="TDE-4-one-bound"),
        pytest.param(["lt2026-01-14"], None, day(14), id="TDE-4-one-bound-lt"),
        pytest.param(["gt2026-01-14"], day(15), None, id="TDE-4-gt"),
        pytest.param(["sa2026-01-14", "eb2026-01-17"], day(15), day(17), id="TDE-4-sa-eb"),
        pytest.param(["2026-01-14"], day(14), day(15), id="TDE-4-day"),
        pytest.param(["2026-01"], day(1), datetime(2026, 2, 1, tzinfo=UTC), id="TDE-4-month"),
        pytest.param(["ge2026-01-14T01:00:00+01:00"], day(14), None, id="TDE-4-zone"),
        pytest.param(["ge2026-01-13", "ge2026-01-14", "le2026-01-16"], day(14), day(17), id="TDE-4-strictest"),
    ],
)
def test_date_bounds_are_on_recorded(dates: list[str], since: datetime | None, until: datetime | None) -> None:
    search, used = parsed([("date", each) for each in dates])
    assert (search.since, search.until) == (since, until)
    assert [value for name, value in used if name == "date"] == dates


@pytest.mark.parametrize(
    ("query", "code"),
    [
        pytest.param([("patient", PATIENT)], "required", id="TDE-4-no-date"),
        pytest.param([("date", "ge2026-01-14")], "required", id="no-patient"),
        pytest.param([("patient", "Patient/1"), ("date", "2026")], "value", id="patient-not-ours"),
        pytest.param(
            [("patient", f"https://other.example/Patient/{PATIENT}"), ("date", "2026")],
            "value",
            id="patient-elsewhere",
        ),
        pytest.param([("patient", PATIENT), ("patient", SECOND), ("date", "2026")], "required", id="two-patients"),
        pytest.param([("patient", PATIENT), ("date", "yesterday")], "value", id="no-date-at-all"),
        pytest.param([("patient", PATIENT), ("date", "ge")], "value", id="prefix-only"),
        pytest.param([("patient", PATIENT), ("date", "ge2026-02-30")], "value", id="no-such-day"),
        pytest.param([("patient", PATIENT), ("date", "le9999")], "value", id="after-the-calendar"),
        pytest.param([("patient", PATIENT), ("date", "ne2026")], "not-supported", id="prefix-ne"),
        pytest.param([("patient", PATIENT), ("date", "2026"), ("_count", "many")], "value", id="count"),
        pytest.param([("patient", PATIENT), ("date", "2026"), ("_count", "²")], "value", id="count-superscript"),
    ],
)
def test_a_search_that_cannot_be_understood_is_refused(query: list[tuple[str, str]], code: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_audit_search(query, base_url=BASE, strict=False)
    assert refusal.value.issues[0].code == code
    assert PATIENT not in str(refusal.value)


@pytest.mark.parametrize("patient", [PATIENT, f"Patient/{PATIENT}", f"{BASE}/Patient/{PATIENT}"])
def test_a_patient_is_named_by_id_or_reference(patient: str) -> None:
    search, _ = parse_audit_search([("patient", patient), ("date", "2026")], base_url=BASE, strict=False)
    assert search.patient == PATIENT


@pytest.mark.parametrize(("asked", "count"), [(None, 50), ("7", 7), ("100", 100), ("5000", MAX_COUNT)])
def test_count_is_bounded(asked: str | None, count: int) -> None:
    search, _ = parsed([("date", "2026"), *([("_count", asked)] if asked else [])])
    assert search.count == count


def test_what_is_not_understood_is_left_out_or_refused() -> None:
    """GEN-8."""
    query = [("date", "2026"), ("altid", "x"), ("_format", "json")]
    _, used = parsed(query)
    assert list(used) == [("patient", PATIENT), ("date", "2026")]
    with pytest.raises(Invalid) as refusal:
        parsed(query, strict=True)
    assert refusal.value.issues[0].code == "not-supported"
    parsed([("date", "2026"), ("_format", "json")], strict=True)


@pytest.mark.parametrize(
    ("name", "value", "matches"),
    [
        pytest.param("type", "rest", True, id="TDE-6-type"),
        pytest.param("type", "http://dicom.nema.org/resources/ontology/DCM|110113", False, id="TDE-6-type-other"),
        pytest.param("subtype", "read", True, id="TDE-6-subtype"),
        pytest.param("subtype", "http://hl7.org/fhir/restful-interaction|read", True, id="TDE-6-subtype-system"),
        pytest.param("subtype", "http://other.example|read", False, id="TDE-6-subtype-other-system"),
        pytest.param("subtype", "create,read", True, id="TDE-6-subtype-or"),
        pytest.param("subtype", "operation", False, id="TDE-6-subtype-other"),
        pytest.param("outcome", "0", True, id="TDE-6-outcome"),
        pytest.param("outcome", "4,8", False, id="TDE-6-outcome-refused"),
        pytest.param("action", "R", True, id="TDE-6-action"),
    ],
)
def test_filters_are_tokens(name: str, value: str, matches: bool) -> None:
    (record,) = records("read", "R", Touched.of([PATIENT]))
    search, used = parsed([("date", "2026"), (name, value)])
    assert search.matches(record) is matches
    assert (name, value) in used


def test_a_content_is_named_with_its_digest_and_a_disclosure_with_its_purpose() -> None:
    """Whoever proves the log proves which bytes were published or disclosed; BALP-9: why."""
    digest = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    reference = f"Binary/{PATIENT}-{'0' * 26}"
    touched = Touched.of([PATIENT], [reference, "Organization/x"], [(reference, digest)])
    (record,) = records("read", "R", touched)
    event = rendered(replace(record, purpose="COVERAGE"))
    details = {each["what"].get("reference"): each.get("detail") for each in event["entity"]}
    assert details[reference] == [{"type": "sha256", "valueBase64Binary": digest}]
    assert details["Organization/x"] is None
    assert event["purposeOfEvent"][0]["coding"][0]["code"] == "COVERAGE"


def test_the_digest_of_one_patients_content_is_in_no_other_patients_record() -> None:
    mine, other = f"Binary/{PATIENT}-{'0' * 26}", f"Binary/{SECOND}-{'0' * 26}"
    touched = Touched.of([PATIENT, SECOND], [mine, other], [(mine, "bQ=="), (other, "bw==")])
    first, second = records("transaction", "E", touched)
    assert (first.digests, second.digests) == (((mine, "bQ=="),), ((other, "bw=="),))
