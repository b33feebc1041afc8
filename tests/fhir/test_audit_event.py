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

from passerelle.access import Caller, Decision, Request, Scopes, Touched
from passerelle.audit.model import AuditRecord, audit_of
from passerelle.audit.service import Entry
from passerelle.errors import Forbidden, Invalid, NotFound, PasserelleError, Unauthenticated
from passerelle.fhir.audit_event import PROFILE, render_entry
from passerelle.fhir.audit_search import MAX_COUNT, Moments, parse_audit_search
from passerelle.fhir.validation import validate
from passerelle.identifiers import new_ulid

BASE = "https://exchange.example/fhir"
ADDRESS = "192.0.2.7"
AT = datetime(2026, 1, 14, 9, 30, 0, 120400, tzinfo=UTC)
PATIENT, SECOND, THIRD = "7q2k9c4m1xw8z0ab", "8q2k9c4m1xw8z0ab", "9q2k9c4m1xw8z0ab"
CALLER = Caller(
    client_id="hospital-a",
    organisation="1754567860",
    role="hospital",
    scopes=Scopes.parse("system/*.cruds"),
    token_id="t" * 10 + "0123456789abcdefghjkmnpqrstvwxyz",
    professional="810003461033",
    profession="10",
    name="Jeanne Durand",
    purpose="TREAT",
)
SYSTEM_ONLY = replace(CALLER, professional=None, profession=None, name="")


def records(
    name: str,
    action: Any,
    touched: Touched,
    *,
    caller: Caller = CALLER,
    query: str = "",
    refusal: PasserelleError | None = None,
    **more: Any,
) -> tuple[AuditRecord, ...]:
    request = Request(
        caller=caller,
        name=name,
        action=action,
        request_id="5f0c6f6e-request",
        at=AT,
        base_url=BASE,
        query=query,
        address=ADDRESS,
        **more,
    )
    return audit_of(request, touched, refusal=refusal)


def rendered(record: AuditRecord) -> dict[str, Any]:
    """The AuditEvent, which is valid FHIR in every test."""
    return checked(render_entry(Entry(record=record), BASE))


def checked(event: dict[str, Any]) -> dict[str, Any]:
    """Valid FHIR, and true of every profile that it declares."""
    AuditEvent.model_validate(event)
    validate(event, expected_type="AuditEvent")
    for profile in event.get("meta", {}).get("profile", ()):
        assert faults_of(event, profile.removeprefix(PROFILE)) == [], profile
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
    assert user["policy"] == [f"urn:ietf:params:oauth:jti:{CALLER.token_id}"]
    assert (user["name"], user["purposeOfUse"][0]["coding"][0]["code"]) == ("Jeanne Durand", "TREAT")
    assert user["role"][1]["coding"][0]["code"] == "10"
    assert client["network"] == {"address": ADDRESS, "type": "2"}
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
    """BALP-5: the client's own, if it sent one; ours beside it."""
    (record,) = records("read", "R", Touched())
    (entity,) = entities(rendered(record), "XrequestId")
    assert entity["what"]["identifier"]["value"] == "5f0c6f6e-request"
    (record,) = records("read", "R", Touched(), external_id="from-the-ward-7")
    (entity,) = entities(rendered(record), "XrequestId")
    assert entity["what"]["identifier"]["value"] == "from-the-ward-7"
    assert entity["detail"] == [{"type": "request-id", "valueString": "5f0c6f6e-request"}]


def test_of_a_token_that_is_not_ours_the_end_is_kept() -> None:
    """BALP-4, opaque token."""
    nobody = Caller(client_id="", organisation="", role="", scopes=Scopes(frozenset()), token_id="")
    (record,) = records("authenticate", "E", Touched(), caller=nobody, refusal=Unauthenticated())
    event = rendered(replace(record, token_tail="x" * 40 + "y" * 31))
    assert event["agent"][2]["policy"] == ["x" + "y" * 31]
    assert (event["type"]["code"], event["outcome"]) == ("110114", "4")


# --- profiles -----------------------------------------------------------------------------------------------------

OF_PATIENT = Touched.of([PATIENT], [f"Observation/{PATIENT}-{'0' * 26}"])


@pytest.mark.parametrize(
    ("name", "action", "profile"),
    [
        pytest.param("create", "C", "PatientCreate", id="BALP-1-create"),
        pytest.param("conditional-update", "U", "PatientUpdate", id="BALP-1-update"),
        pytest.param("patch", "U", "PatientUpdate", id="BALP-1-patch"),
        pytest.param("vread", "R", "PatientRead", id="BALP-2-vread"),
        pytest.param("delete", "D", "PatientDelete", id="BALP-2-delete"),
        pytest.param("search-type", "E", "PatientQuery", id="BALP-3-search"),
    ],
)
def test_what_succeeds_declares_its_profile(name: str, action: str, profile: str) -> None:
    """P9: and conforms to it, which `rendered` checks."""
    (record,) = records(name, action, OF_PATIENT, query="/fhir/Observation?code=1")
    declared = [each.removeprefix(PROFILE) for each in rendered(record)["meta"]["profile"]]
    assert declared == [profile, "OAUTHaccessTokenUse.Minimal"]
    (record,) = records(name, action, Touched.of([], ["Organization/x"]), query="/fhir/Organization?name=1")
    assert rendered(record)["meta"]["profile"][0] == f"{PROFILE}{profile.removeprefix('Patient')}"


def test_what_is_refused_or_came_from_nowhere_declares_none() -> None:
    """P9: the profiles are about successes, and ask for the address of the client."""
    (refused,) = records("read", "R", OF_PATIENT, refusal=Forbidden())
    (record,) = records("read", "R", OF_PATIENT)
    (operation,) = records("$accept", "E", OF_PATIENT)
    for each in (refused, replace(record, address=""), operation):
        assert "meta" not in rendered(each)


def test_several_resources_are_one_object_and_others() -> None:
    """BALP-2: its profiles know one system object in an event."""
    touched = Touched.of([PATIENT], [f"DocumentReference/{PATIENT}-{'0' * 26}", f"Binary/{PATIENT}-{'0' * 26}"])
    (record,) = records("read", "R", touched)
    event = rendered(record)
    assert [each["type"]["code"] for each in event["entity"]] == ["XrequestId", "2", "Binary", "1"]


@pytest.mark.parametrize("address", [ADDRESS, "2001:db8::7", "https://hook.example"])
def test_a_disclosure_outside_the_network_is_an_export(address: str) -> None:
    """BALP-9: who, when, to whom, which patient, what, why."""
    (record,) = records("$open-link", "R", OF_PATIENT, purpose="COVERAGE", recipient="the insurer")
    event = rendered(replace(record, address=address))
    assert (event["type"]["code"], event["subtype"][0]["code"], event["action"]) == ("110106", "disclose", "R")
    assert event["meta"]["profile"] == [f"{PROFILE}PrivacyDisclosure.Source"]
    recipient, source, issuer, _ = event["agent"]
    assert (recipient["who"], recipient["network"]["address"]) == ({"display": "the insurer"}, address)
    assert source["who"] == event["source"]["observer"]
    assert issuer["who"]["identifier"]["value"] == "hospital-a"
    assert event["purposeOfEvent"][0]["coding"][0]["code"] == "COVERAGE"


@pytest.mark.parametrize(("is_permitted", "outcome"), [(True, "0"), (False, "4")], ids=["permit", "deny"])
def test_a_decision_of_consent_is_an_event_of_its_own(is_permitted: bool, outcome: str) -> None:
    """BALP-8."""
    decision = Decision(is_permitted=is_permitted, rule="blocked", facts={"role": "hospital"}, rules="fr-1")
    refusal = None if is_permitted else Forbidden()
    (record,) = records("read", "R", OF_PATIENT, refusal=refusal, decisions={PATIENT: decision})
    assert record.decision == decision
    entry = Entry(record=record, is_decision=True)
    event = checked(render_entry(entry, BASE))
    assert event["id"] == f"{record.id}.decision" == entry.id
    assert (event["type"]["code"], event["subtype"][0]["code"], event["action"]) == ("110113", "AuthZ-Consent", "E")
    assert (event["outcome"], event.get("outcomeDesc")) == (outcome, None if is_permitted else "blocked")
    assert event["meta"]["profile"] == [f"{PROFILE}AuthZconsent"]
    assert [each["type"]["code"] for each in event["entity"]] == ["1", "Consent", "UserOauthAgent"]


def test_a_refusal_about_a_record_is_in_its_log_and_in_one_of_its_members() -> None:
    """BALP-7: a search that is refused has no id in its path."""
    denied = Decision(is_permitted=False, rule="no-relation", facts={}, rules="fr-1")
    permitted = Decision(is_permitted=True, rule="implicit", facts={}, rules="fr-1")
    decisions = {SECOND: denied, PATIENT: denied, THIRD: permitted}
    (record,) = records("search-type", "E", Touched(), refusal=Forbidden(), decisions=decisions)
    assert (record.patient, record.decision) == (SECOND, denied)


def faults_of(event: dict[str, Any], profile: str) -> list[str]:
    """What an event lacks of a profile: the constraints of BALP 1.1.5, written down as data."""
    if profile == "OAUTHaccessTokenUse.Minimal":
        user = [each for each in event["agent"] if code(each) == "UserOauthAgent"]
        token = user[0].get("policy", [""])[0] if user else ""
        is_right = bool(user) and user[0]["requestor"] and token.startswith("urn:ietf:params:oauth:jti:")
        return [] if is_right and "network" not in user[0] else ["token"]
    expected = PROFILES[profile]
    faults = [
        name
        for name in ("type", "action")
        if (event[name]["code"] if name == "type" else event[name]) != expected[name]
    ]
    if not {each["code"] for each in event["subtype"]} & expected["subtype"]:
        faults.append("subtype")
    if event["outcome"] != "0" and not expected.get("is_decision"):
        faults.append("outcome")
    for kind, needs in expected["agents"].items():
        found = [each for each in event["agent"] if code(each) == kind]
        if len(found) != 1 or any(need not in found[0] for need in needs):
            faults.append(f"agent {kind}")
    for observer in expected.get("observers", ()):
        if [each["who"] for each in event["agent"] if code(each) == observer] != [event["source"]["observer"]]:
            faults.append("observer")
    kinds = [(each["type"]["code"], each.get("role", {}).get("code")) for each in event["entity"]]
    for entity in expected["entities"]:
        if kinds.count(entity) != 1 or [kind for kind, _ in kinds].count(entity[0]) != 1:
            faults.append(f"entity {entity}")
    if kinds and expected.get("is_decision") and {kind for kind, _ in kinds} - {"1", "Consent", "UserOauthAgent"}:
        faults.append("closed entities")
    return faults


def code(agent: dict[str, Any]) -> str:
    return str(agent["type"]["coding"][0]["code"])


WHO = ("who", "network")
DATA, QUERIED, SUBJECT = ("2", "4"), ("2", "24"), ("1", "1")


def _rest(action: str, subtype: set[str], client: str, server: str, *entities: tuple[str, str]) -> dict[str, Any]:
    agents = {client: WHO, server: WHO}
    return {"type": "rest", "action": action, "subtype": subtype, "agents": agents, "entities": entities}


_BASES = {
    "Create": _rest("C", {"create"}, SOURCE, DESTINATION, DATA),
    "Read": _rest("R", {"read", "vread"}, DESTINATION, SOURCE, DATA),
    "Update": _rest("U", {"update", "patch"}, SOURCE, DESTINATION, DATA),
    "Delete": _rest("D", {"delete"}, APPLICATION, CUSTODIAN, DATA),
    "Query": _rest("E", {"search", "search-type"}, SOURCE, DESTINATION, QUERIED),
}
PROFILES: dict[str, dict[str, Any]] = {
    **_BASES,
    **{f"Patient{name}": {**base, "entities": (*base["entities"], SUBJECT)} for name, base in _BASES.items()},
    "PrivacyDisclosure.Source": {
        "type": "110106",
        "action": "R",
        "subtype": {"disclose"},
        "agents": {SOURCE: WHO, DESTINATION: WHO},
        "observers": (SOURCE,),
        "entities": (SUBJECT,),
    },
    "AuthZconsent": {
        "type": "110113",
        "action": "E",
        "subtype": {"AuthZ-Consent"},
        "agents": {APPLICATION: WHO, "IRCP": ("who", "requestor"), "PROV": ("who",), "authserver": ("who",)},
        "observers": ("authserver",),
        "entities": (SUBJECT, ("Consent", None)),
        "is_decision": True,
    },
}


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
        ("https://mos.esante.gouv.fr/NOS/TRE_G15-ProfessionSante/FHIR/TRE-G15-ProfessionSante", "10"),
        ("http://terminology.hl7.org/CodeSystem/audit-entity-type", "4"),
        ("http://hl7.org/fhir/resource-types", "List"),
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
    query = [("date", "2026"), ("entity-name", "x"), ("_format", "json")]
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
        pytest.param("agent", "urn:oid:1.2.250.1.71.4.2.1|810003461033", True, id="TDE-6-agent-identifier"),
        pytest.param("agent:identifier", "810003461033", True, id="TDE-6-agent-identifier-modifier"),
        pytest.param("agent", "urn:oid:1.2.250.1.71.4.2.1|1", False, id="TDE-6-agent-other"),
        pytest.param("agent", f"Patient/{PATIENT}", False, id="TDE-6-agent-reference"),
        pytest.param("agent-name", "JÉANNE d", True, id="TDE-6-agent-name"),
        pytest.param("agent-name", "Durand", False, id="TDE-6-agent-name-starts"),
        pytest.param("agent-role", "110153", True, id="TDE-6-agent-role-origin"),
        pytest.param("agent-role", "http://dicom.nema.org/resources/ontology/DCM|110152", True, id="TDE-6-recipient"),
        pytest.param("agent-role", "10", True, id="TDE-6-agent-role-profession"),
        pytest.param("agent-role", "110150", False, id="TDE-6-agent-role-other"),
        pytest.param("altid", "x", False, id="TDE-6-altid"),
        pytest.param("entity", f"Observation/{PATIENT}-{'0' * 26}", True, id="TDE-6-entity"),
        pytest.param("entity", f"{BASE}/Observation/{PATIENT}-{'0' * 26}", True, id="TDE-6-entity-absolute"),
        pytest.param("entity", "Observation/x", False, id="TDE-6-entity-other"),
        pytest.param("address", "192.0.2", True, id="TDE-6-address"),
        pytest.param("period-start", "2026-01-14T09:30:00Z", True, id="TDE-5-eq"),
        pytest.param("TDE_AuditEvent_period-start", "ge2026-01-14", True, id="TDE-5-alias"),
        pytest.param("TDE_AuditEvent_period-start", "lt2026-01-14", False, id="TDE-5-alias-not"),
    ],
)
def test_filters_are_on_the_event_as_it_is_shown(name: str, value: str, matches: bool) -> None:
    (record,) = records("read", "R", OF_PATIENT)
    search, used = parsed([("date", "2026"), (name, value)])
    assert search.matches(Entry(record=record)) is matches
    assert (name, value) in used


@pytest.mark.parametrize(
    ("prefix", "before", "within", "after"),
    [
        ("eq", False, True, False),
        ("ne", True, False, True),
        ("gt", False, False, True),
        ("lt", True, False, False),
        ("ge", False, True, True),
        ("le", True, True, False),
        ("sa", False, False, True),
        ("eb", True, False, False),
        ("ap", True, True, True),
    ],
)
def test_every_prefix_of_period_start(prefix: str, before: bool, within: bool, after: bool) -> None:
    """TDE-5: an event of the day before, of the day that is asked for, and of the day after."""
    asked = Moments.of("2026-01-14")
    days = ("2026-01-13T12:00:00Z", "2026-01-14T12:00:00Z", "2026-01-15T12:00:00Z")
    assert tuple(asked.accept(prefix, Moments.of(each)) for each in days) == (before, within, after)
    assert not asked.accept(prefix, Moments.of("2026-01-17")) or prefix in ("ne", "gt", "ge", "sa")


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
