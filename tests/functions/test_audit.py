"""AuditEvent over the function: who may read which part of the log (TDE-3 to -8, SMART-5, GEN-14, BALP)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import boto3
import pytest
from fhir.resources.R4B.bundle import Bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.audit.handler import handler
from functions.catalogue.handler import handler as catalogue
from functions.records.handler import handler as records
from passerelle import wiring
from passerelle.access import Caller, Decision, Request, Scopes, Touched
from passerelle.api.app import FhirApp
from passerelle.audit.explanation import sentences
from passerelle.audit.model import KEPT, AuditRecord, audit_of
from passerelle.aws.audit import DynamoAuditTrail, record_from_item, record_to_item
from passerelle.aws.dynamodb import from_attributes, to_attributes
from passerelle.consents.decision import Implicit, Rule, Standing, admit
from passerelle.consents.model import Basis, Mandate, MandateKind, RecordStatus
from passerelle.consents.terms import Effect
from passerelle.directory.model import Role
from passerelle.fhir import xml as fhir_xml
from passerelle.fhir.validation import validate
from passerelle.identifiers import new_patient_key, new_ulid
from passerelle.patients.model import PersonChange
from tests.people import person_of
from tests.registered import services

INS = ("urn:oid:1.2.250.1.213.1.4.10", "279035121518989")
NOW = datetime.now(UTC)
AGO_12_HOURS = (NOW - timedelta(hours=12)).isoformat(timespec="seconds").replace("+00:00", "Z")
SINCE = (NOW - timedelta(days=3)).date().isoformat()


@pytest.fixture(autouse=True, scope="module")
def _services() -> Iterator[None]:
    with services():
        yield


def record_of(
    patient: str | None,
    client: str = "hospital-a",
    *,
    age: timedelta = timedelta(hours=1),
    name: str = "read",
    decision: Decision | None = None,
    reference: str = "",
    **of_caller: Any,
) -> AuditRecord:
    """A read of a patient's record by a client, stored some time ago."""
    caller = Caller(
        client_id=client,
        organisation="1754567860",
        role="hospital",
        scopes=Scopes(frozenset()),
        token_id="token",
    )
    caller = replace(caller, **of_caller)
    request = Request(
        caller=caller,
        name=name,
        action="R",
        request_id="earlier",
        at=datetime.now(UTC) - age,
        base_url="https://x.example/fhir",
        decisions={str(patient): decision} if decision else {},
    )
    (record,) = audit_of(request, Touched.of([patient] if patient else [], [reference] if reference else []))
    wiring.trail().append([record])
    return record


@pytest.fixture(scope="module")
def person(_services: None) -> tuple[str, str]:
    """A person with two linked source records, known by a qualified INS, and nothing in the log."""
    keys = new_patient_key(), new_patient_key()
    known = person_of(*keys, since=NOW, qualified=wiring.patient_index().blinded(INS))
    wiring.journal().commit([PersonChange(before=None, after=known, takes_from=known.key), record_of(None)])
    return keys


def called(
    path: str,
    query: Sequence[tuple[str, str]] = (),
    *,
    role: str = "auditor",
    client: str = "auditor",
    scope: str = "system/AuditEvent.rs",
    ins: str | None = None,
    method: str = "GET",
    body: str | None = None,
    app: FhirApp = handler,
    more: Mapping[str, str] | None = None,
    **headers: str,
) -> tuple[int, dict[str, Any]]:
    answer = answered(
        path,
        query,
        role=role,
        client=client,
        scope=scope,
        ins=ins,
        method=method,
        body=body,
        app=app,
        more=more,
        **headers,
    )
    return answer["statusCode"], json.loads(answer["body"])


def answered(
    path: str,
    query: Sequence[tuple[str, str]] = (),
    *,
    role: str = "auditor",
    client: str = "auditor",
    scope: str = "system/AuditEvent.rs",
    ins: str | None = None,
    method: str = "GET",
    body: str | None = None,
    app: FhirApp = handler,
    more: Mapping[str, str] | None = None,
    **headers: str,
) -> dict[str, Any]:
    """`more` is what else the authorizer knows of the caller."""
    record_id = path.partition("AuditEvent/")[2]
    parameters: dict[str, list[str]] = {}
    for name, value in query:
        parameters.setdefault(name, []).append(value)
    context = {"client_id": client, "organisation": "1", "role": role, "scope": scope, "jti": "current-token"}
    answer: dict[str, Any] = app(
        {
            "httpMethod": method,
            "resource": "/fhir/AuditEvent/{id}" if record_id else "/fhir/AuditEvent",
            "path": path,
            "pathParameters": {"id": record_id} if record_id else None,
            "headers": {name.replace("_", "-"): value for name, value in headers.items()},
            "multiValueQueryStringParameters": parameters,
            "body": body,
            "requestContext": {
                "requestId": "now",
                "path": f"/v1{path}",
                "domainName": "x.example",
                "identity": {"sourceIp": "192.0.2.7"},
                "authorizer": context | ({} if ins is None else {"patient": ins}) | dict(more or {}),
            },
        },
        None,
    )
    return answer


def searched(patient: str, *more: tuple[str, str], date: str = f"ge{SINCE}", **who: Any) -> tuple[int, dict[str, Any]]:
    query = [("patient", f"Patient/{patient}"), ("date", date), *more]
    status, body = called("/fhir/AuditEvent", query, **who)
    if status == 200:
        Bundle.model_validate(body)
    return status, body


_catalogued: set[str] = set()


def catalogued() -> None:
    """The stream of the log, as far as it is, reaches the function that indexes it."""
    items = boto3.client("dynamodb").scan(TableName=wiring.table_names().audit)["Items"]
    new = [item for item in items if item["PK"]["S"].startswith("A#") and item["id"]["S"] not in _catalogued]
    _catalogued.update(item["id"]["S"] for item in new)
    events = [
        {
            "eventName": "INSERT",
            "eventID": str(number),
            "dynamodb": {"SequenceNumber": str(number), "NewImage": {n: v for n, v in item.items() if "B" not in v}},
        }
        for number, item in enumerate(new)
    ]
    assert catalogue({"Records": events}, None) == {"batchItemFailures": []}


def ids(bundle: dict[str, Any]) -> list[str]:
    return [entry["resource"]["id"] for entry in bundle.get("entry", [])]


def followed(bundle: dict[str, Any], **who: Any) -> tuple[int, dict[str, Any]]:
    """The next page."""
    (url,) = (link["url"] for link in bundle["link"] if link["relation"] == "next")
    return called("/fhir/AuditEvent", parse_qsl(urlsplit(url).query), **who)


PATIENT: dict[str, Any] = {"role": "patient", "client": "patient-1", "ins": "|".join(INS)}
HOSPITAL: dict[str, Any] = {"role": "hospital", "client": "hospital-a"}


def test_an_auditor_sees_every_access_newest_first() -> None:
    """TDE-7 auditor."""
    patient = new_patient_key()
    made = [record_of(patient, f"client-{n}", age=timedelta(hours=n)) for n in range(1, 4)]
    record_of(new_patient_key())
    status, bundle = searched(patient)
    assert status == 200
    assert ids(bundle) == [record.id for record in made]
    assert (bundle["type"], bundle["total"]) == ("searchset", 3)
    assert {entry["search"]["mode"] for entry in bundle["entry"]} == {"match"}
    assert bundle["entry"][0]["fullUrl"] == f"https://x.example/v1/fhir/AuditEvent/{made[0].id}"


def test_a_professional_sees_the_own_actions() -> None:
    """TDE-7 professional."""
    patient = new_patient_key()
    own = record_of(patient, "hospital-a")
    other = record_of(patient, "practice")
    assert ids(searched(patient, **HOSPITAL)[1]) == [own.id]
    assert called(f"/fhir/AuditEvent/{own.id}", **HOSPITAL)[0] == 200
    kept = record_of(new_patient_key()).id
    unknown = kept[:-1] + ("y" if kept.endswith("x") else "x")
    assert called(f"/fhir/AuditEvent/{other.id}", **HOSPITAL) == called(f"/fhir/AuditEvent/{unknown}", **HOSPITAL)


def test_a_patient_sees_the_own_record_whichever_source_holds_it(person: tuple[str, str]) -> None:
    """TDE-7 patient."""
    for key in person:
        record = record_of(key, "practice", age=timedelta(minutes=5))
        assert record.id in ids(searched(key, **PATIENT)[1])
        assert called(f"/fhir/AuditEvent/{record.id}", **PATIENT)[0] == 200


def test_a_patient_does_not_see_another_record(person: tuple[str, str]) -> None:
    """IUA-8 for a search; TDE-3 for a read: as if it did not exist."""
    stranger = new_patient_key()
    record = record_of(stranger)
    status, outcome = searched(stranger, **PATIENT)
    assert status == 403
    assert outcome["issue"][0]["details"]["coding"] == [
        {
            "system": "https://x.example/v1/fhir/CodeSystem/access-refusal",
            "code": "break-glass-not-possible",
        }
    ]
    hidden = called(f"/fhir/AuditEvent/{record.id}", **PATIENT)
    unknown = called(f"/fhir/AuditEvent/{stranger}-{'0' * 26}", **PATIENT)
    assert hidden[0] == 404
    assert hidden == unknown
    assert called(f"/fhir/AuditEvent/{record_of(None).id}", **PATIENT) == unknown


@pytest.mark.parametrize("ins", [None, "", "279035121518989", "urn:oid:1.2|other"])
def test_a_patient_token_that_names_nobody_sees_nothing(person: tuple[str, str], ins: str | None) -> None:
    assert searched(person[0], **{**PATIENT, "ins": ins})[0] == 403


def test_an_unknown_role_sees_nothing() -> None:
    patient = new_patient_key()
    record = record_of(patient, "registry")
    assert searched(patient, role="registry", client="registry")[0] == 403
    assert called(f"/fhir/AuditEvent/{record.id}", role="registry", client="registry")[0] == 404


@pytest.mark.parametrize("scope", ["system/Observation.rs", "system/AuditEvent.c", "ITI-67"])
def test_without_the_scope_nothing_is_read(scope: str) -> None:
    """GEN-14, SMART-5."""
    record = record_of(new_patient_key())
    assert called(f"/fhir/AuditEvent/{record.id}", scope=scope)[0] == 403
    assert searched(new_patient_key(), scope=scope)[0] == 403


def test_the_transaction_code_opens_the_search() -> None:
    assert searched(new_patient_key(), scope="ITI-81")[0] == 200


def test_one_record_is_read_as_it_is_in_a_search() -> None:
    """TDE-3 known."""
    record = record_of(new_patient_key())
    status, event = called(f"/fhir/AuditEvent/{record.id}")
    assert status == 200
    assert searched(str(record.patient))[1]["entry"][-1]["resource"] == event


@pytest.mark.parametrize("record_id", ["x", "0" * 26, "z" * 26, "0" * 16 + "-" + "0" * 26])
def test_an_unknown_record_is_not_found(record_id: str) -> None:
    """TDE-3 unknown."""
    status, outcome = called(f"/fhir/AuditEvent/{record_id}")
    assert (status, outcome["issue"][0]["code"]) == (404, "not-found")


def test_date_bounds() -> None:
    """TDE-4."""
    patient = new_patient_key()
    old, new = record_of(patient, age=timedelta(days=40)), record_of(patient)
    middle = (NOW - timedelta(days=20)).date().isoformat()
    assert ids(searched(patient, date=f"ge{middle}")[1]) == [new.id]
    assert ids(searched(patient, date=f"le{middle}")[1]) == [old.id]
    assert ids(searched(patient, ("date", f"le{middle}"), date="ge2000")[1]) == [old.id]
    assert ids(searched(patient, ("date", "le2000"))[1]) == []
    status, outcome = called("/fhir/AuditEvent", [("patient", patient)])
    assert (status, outcome["issue"][0]["code"]) == (400, "required")


def test_an_open_period_reaches_back_as_far_as_records_are_kept() -> None:
    patient = new_patient_key()
    oldest = record_of(patient, age=KEPT - timedelta(hours=1))
    record_of(patient, age=KEPT + timedelta(hours=1))
    assert ids(searched(patient, date="le2999")[1]) == [oldest.id]


def test_a_page_is_the_newest_and_says_whether_it_is_all() -> None:
    patient = new_patient_key()
    made = [record_of(patient, age=timedelta(minutes=n)) for n in range(1, 5)]
    _, bundle = searched(patient, ("_count", "3"))
    assert ids(bundle) == [record.id for record in made[:3]]
    assert "total" not in bundle
    status, following = followed(bundle)
    assert (status, "total" in following, [link["relation"] for link in following["link"]]) == (200, False, ["self"])
    assert ids(following)[0] == made[3].id
    assert searched(new_patient_key(), ("_count", "3"))[1]["total"] == 0
    assert followed(bundle, client="another")[0] == 404  # GEN-10


def test_the_self_link_has_what_was_understood() -> None:
    """GEN-8."""
    patient = new_patient_key()
    _, bundle = searched(patient, ("entity-name", "x"), ("outcome", "0"))
    (link,) = bundle["link"]
    assert link["relation"] == "self"
    expected = f"https://x.example/v1/fhir/AuditEvent?patient=Patient%2F{patient}&date=ge{SINCE}&outcome=0"
    assert link["url"] == expected
    assert searched(patient, ("entity-name", "x"), prefer="handling=strict")[0] == 400


def test_filters_narrow_the_log() -> None:
    """TDE-6."""
    patient = new_patient_key()
    read, vread = record_of(patient, name="read"), record_of(patient, name="vread")
    assert ids(searched(patient, ("subtype", "vread"))[1]) == [vread.id]
    assert set(ids(searched(patient, ("subtype", "read,vread"))[1])) == {read.id, vread.id}
    assert ids(searched(patient, ("outcome", "4"))[1]) == []


def test_reading_the_log_is_in_the_log() -> None:
    """BALP-1 to BALP-3: before the answer leaves."""
    patient = new_patient_key()
    record = record_of(patient, age=timedelta(days=1))
    searched(patient)
    called(f"/fhir/AuditEvent/{record.id}")
    entries = [entry["resource"] for entry in searched(patient)[1]["entry"]]
    assert [event["action"] for event in entries] == ["R", "E", "R"]
    read, search, _ = entries
    assert f"AuditEvent/{record.id}" in json.dumps(read["entity"])
    assert "query" in json.dumps(search["entity"])
    assert read["agent"][2]["policy"] == ["urn:ietf:params:oauth:jti:current-token"]
    assert read["agent"][0]["network"] == {"address": "192.0.2.7", "type": "2"}


def test_a_refused_search_is_in_the_log_and_tells_the_caller_nothing() -> None:
    """BALP-7."""
    record = record_of(new_patient_key())
    called(f"/fhir/AuditEvent/{record.id}", **{**HOSPITAL, "client": "hospital-b"})
    newest, _ = searched(str(record.patient))[1]["entry"]
    assert newest["resource"]["outcome"] == "4"
    assert newest["resource"]["outcomeDesc"] == "not-found"


def test_without_an_audit_store_nothing_is_disclosed(monkeypatch: pytest.MonkeyPatch) -> None:
    """BALP-10."""
    record = record_of(new_patient_key())
    full = DynamoAuditTrail(wiring.dynamodb(), replace(wiring.table_names(), audit="absent"))
    wired = replace(wiring.audit(), trail=full)
    monkeypatch.setattr(handler, "_provide", lambda: wired)
    for path in (f"AuditEvent/{record.id}", "AuditEvent/absent", "Nothing", "AuditEvent/x/$unknown"):
        status, outcome = called(f"/fhir/{path}")
        assert (status, outcome["issue"][0]["code"]) == (503, "transient"), path
        assert record.id not in json.dumps(outcome)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_traces_cannot_be_changed(method: str) -> None:
    """TDE-8."""
    record = record_of(new_patient_key())
    status, outcome = called(f"/fhir/AuditEvent/{record.id}", method=method)
    assert (status, outcome["issue"][0]["code"]) == (405, "not-supported")


def test_the_syslog_variant_is_not_offered() -> None:
    """TDE-8: ITI-82."""
    status, outcome = called("/fhir/syslogsearch", app=records)
    assert (status, outcome["issue"][0]["code"]) == (404, "not-supported")


# --- whose log, without a patient named ---------------------------------------------------------------------------

RPPS = "810003461033"
PHYSICIAN: dict[str, Any] = {**HOSPITAL, "more": {"professional": RPPS, "name": "Jeanne Durand", "profession": "10"}}


def test_a_patient_asks_for_the_own_log_without_saying_who_that_is(person: tuple[str, str]) -> None:
    """TDE-7 patient."""
    made = [record_of(key, age=timedelta(seconds=30)) for key in person]
    status, bundle = called("/fhir/AuditEvent", [("date", f"ge{SINCE}")], **PATIENT)
    assert status == 200
    assert {each.id for each in made} <= set(ids(bundle))
    nobody = {**PATIENT, "ins": f"{INS[0]}|111111111111111"}
    assert called("/fhir/AuditEvent", [("date", f"ge{SINCE}")], **nobody)[0] == 403


def test_a_professional_asks_for_the_own_actions_by_whichever_client(person: tuple[str, str]) -> None:
    """TDE-7 professional; a system that no professional uses has to name a patient."""
    made = [
        record_of(new_patient_key(), client, age=timedelta(minutes=age), professional=RPPS)
        for age, client in enumerate(("practice", "hospital-a"), 1)
    ]
    record_of(new_patient_key(), "hospital-a", professional="810009999999")
    catalogued()
    status, bundle = called("/fhir/AuditEvent", [("date", f"ge{SINCE}")], **PHYSICIAN)
    assert status == 200
    assert [each for each in ids(bundle) if each in {one.id for one in made}] == [each.id for each in made]
    assert "810009999999" not in json.dumps(bundle)
    status, outcome = called("/fhir/AuditEvent", [("date", f"ge{SINCE}")], **HOSPITAL)
    assert (status, outcome["issue"][0]["code"]) == (400, "required")


def test_an_auditor_reads_the_log_of_all_page_by_page() -> None:
    """TDE-7 auditor."""
    made = [record_of(new_patient_key() if n % 2 else None, age=timedelta(minutes=50 * n)) for n in range(1, 6)]
    catalogued()
    page = called("/fhir/AuditEvent", [("date", f"ge{AGO_12_HOURS}"), ("subtype", "read"), ("_count", "4")])
    seen = []
    while page[0] == 200:
        seen += ids(page[1])
        if len(page[1]["link"]) == 1:
            break
        page = followed(page[1])
    assert page[0] == 200
    assert [each for each in seen if each in {one.id for one in made}] == [each.id for each in made]
    assert len(set(seen)) == len(seen)


def test_a_page_looks_at_so_much_of_the_log_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("passerelle.audit.service.MAX_READ", 200)
    old = record_of(new_patient_key(), age=timedelta(hours=10), name="history-instance")
    catalogued()
    status, bundle = called("/fhir/AuditEvent", [("date", f"ge{AGO_12_HOURS}"), ("subtype", "history-instance")])
    assert (status, ids(bundle)) == (200, [])
    for _ in range(6):
        if old.id in ids(bundle):
            break
        bundle = followed(bundle)[1]
    assert old.id in ids(bundle)


def test_who_holds_a_mandate_reads_the_log(person: tuple[str, str]) -> None:
    """TDE-7: representatives."""
    holder = f"{INS[0]}|180121518513456"
    acting: dict[str, Any] = {**PATIENT, "role": "representative", "client": "family", "more": {"person": holder}}
    record = record_of(person[0])
    assert searched(person[0], **acting)[0] == 403
    known = wiring.patient_index().find_person(person[0])
    assert known is not None
    mandate = Mandate(holder=holder, kind=MandateKind.GUARDIAN, since=NOW - timedelta(days=1))
    members = tuple(replace(each, policy=replace(each.policy, mandates=(mandate,))) for each in known.records)
    after = replace(known, records=members, revision=known.revision + 1)
    wiring.journal().commit([PersonChange(before=known, after=after), record_of(None)])
    assert record.id in ids(searched(person[0], **acting)[1])
    assert called(f"/fhir/AuditEvent/{record.id}", **acting)[0] == 200
    stranger = {**acting, "more": {"person": f"{INS[0]}|1"}}
    assert searched(person[0], **stranger)[0] == 403
    assert called(f"/fhir/AuditEvent/{record.id}", **stranger)[0] == 404
    back = replace(known, revision=after.revision + 1)
    wiring.journal().commit([PersonChange(before=after, after=back), record_of(None)])
    assert searched(person[0], **acting)[0] == 403


# --- decisions, and why -------------------------------------------------------------------------------------------


def decided(**facts: Any) -> Decision:
    standing = Standing(status=RecordStatus.OPEN, implicit=Implicit.BREAK_GLASS_ONLY, **facts)
    return admit(standing).decision(standing)


def test_a_decision_is_found_and_read_by_whose_record_it_is_about(person: tuple[str, str]) -> None:
    """BALP-8: permit, deny."""
    permit = record_of(person[0], decision=decided(role="hospital", profession="10", relation=Basis.CARE_TEAM))
    deny = record_of(person[0], decision=decided(role="hospital", is_blocked=True))
    for who in (PATIENT, {}):
        bundle = searched(person[0], ("type", "110113"), **who)[1]
        events = {entry["resource"]["id"]: entry["resource"] for entry in bundle["entry"]}
        assert events[f"{permit.id}.decision"]["outcome"] == "0"
        assert events[f"{deny.id}.decision"]["outcome"] == "4"
        assert called(f"/fhir/AuditEvent/{deny.id}.decision", **who) == (200, events[f"{deny.id}.decision"])
    assert searched(person[0], ("type", "110113"), **HOSPITAL)[1].get("entry") is None
    assert called(f"/fhir/AuditEvent/{deny.id}.decision", **HOSPITAL)[0] == 404


def explained(record: AuditRecord, **who: Any) -> dict[str, Any]:
    status, body = called(f"/fhir/AuditEvent/{record.id}/$explain", **who)
    assert status == 200
    validate(body, expected_type="Parameters")
    said: dict[str, Any] = {"fact": {}, "reason": {}}
    for parameter in body["parameter"]:
        if "part" in parameter:
            name, value = (next(v for k, v in part.items() if k.startswith("value")) for part in parameter["part"])
            said[parameter["name"]][name] = value
        else:
            said[parameter["name"]] = next(v for k, v in parameter.items() if k.startswith("value"))
    return said


def test_a_decision_is_explained_to_whom_it_concerns(person: tuple[str, str]) -> None:
    """I17."""
    record = record_of(person[0], decision=decided(role="hospital", is_blocked=True))
    for who in (PATIENT, {}):
        said = explained(record, **who)
        assert (said["permitted"], said["same"], said["rule"]) == (False, True, "blocked")
        assert "bloqué" in said["reason"]["fr"]
        assert "blocked" in said["reason"]["en"]
        assert said["fact"]["is_blocked"] is True
    told = explained(record, **HOSPITAL)
    assert "rule" not in told
    assert told["fact"] == {}
    assert "bloqué" not in str(told)
    allowed = record_of(person[0], decision=decided(role="hospital", profession="10", relation=Basis.CARE_TEAM))
    assert explained(allowed, **HOSPITAL)["rule"] == "relation"
    assert called(f"/fhir/AuditEvent/{record.id}/$explain", **{**HOSPITAL, "client": "another"})[0] == 404
    status, outcome = called(f"/fhir/AuditEvent/{record_of(person[0]).id}/$explain")
    assert (status, outcome["issue"][0]["code"]) == (422, "not-found")


def test_a_decision_that_the_facts_do_not_lead_to_is_found_out(person: tuple[str, str]) -> None:
    """I17: a record that was tampered with."""
    forged = replace(decided(role="hospital", is_blocked=True), is_permitted=True, rule="relation")
    assert explained(record_of(person[0], decision=forged))["same"] is False


def test_every_rule_has_its_sentences() -> None:
    assert set(sentences()) == {*Rule, "not-told"}
    assert all(set(each) == {"fr", "en"} and all(each.values()) for each in sentences().values())


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        Standing,
        role=st.sampled_from([str(each) for each in Role]),
        status=st.sampled_from(RecordStatus),
        implicit=st.sampled_from(Implicit),
        is_own=st.booleans(),
        profession=st.sampled_from([None, "10", "21"]),
        purpose=st.sampled_from(["", "TREAT", "BTG", "HRESCH"]),
        is_named=st.booleans(),
        is_for_another=st.booleans(),
        is_blocked=st.booleans(),
        needs_mandate=st.booleans(),
        mandate=st.none() | st.sampled_from(MandateKind),
        is_attending=st.booleans(),
        relation=st.none() | st.sampled_from(Basis),
        consent=st.none() | st.sampled_from(Effect),
        in_emergency=st.booleans(),
        opposes_emergency=st.booleans(),
        opposes_regulation=st.booleans(),
        agrees_to_research=st.booleans(),
    )
)
def test_whatever_was_decided_is_decided_again(standing: Standing) -> None:
    """I17: through what is stored."""
    decision = admit(standing).decision(standing)
    record = AuditRecord(
        id=f"{'0' * 16}-{new_ulid(NOW)}",
        at=NOW,
        name="read",
        action="R",
        outcome="0",
        client_id="c",
        organisation="o",
        role=standing.role,
        token_id="t",
        request_id="r",
        patient="0" * 16,
        decision=decision,
    )
    tables = wiring.table_names()
    item = from_attributes(to_attributes(record_to_item(record, tables)))
    kept = record_from_item(item, tables).decision
    assert kept is not None
    assert wiring.audit().explainer.replay(kept.facts) == (decision.is_permitted, str(decision.rule))


# --- deposits -----------------------------------------------------------------------------------------------------

TDE = "https://interop.esante.gouv.fr/ig/fhir/tde/StructureDefinition/tde-auditevent"
WARD: dict[str, Any] = {"role": "hospital", "client": "ward", "scope": "ITI-20"}


def trace(**changes: Any) -> dict[str, Any]:
    """What a ward's system recorded by itself, under the national profile."""
    at = (NOW - timedelta(hours=2)).isoformat(timespec="seconds")
    made = {
        "resourceType": "AuditEvent",
        "meta": {"profile": [TDE]},
        "type": {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "110101"},
        "subtype": [{"system": "http://hl7.org/fhir/restful-interaction", "code": "read"}],
        "period": {"start": at},
        "recorded": at,
        "agent": [{"who": {"display": "night shift"}, "altId": "n7", "name": "Équipe de nuit", "requestor": True}],
        "source": {"observer": {"identifier": {"system": "urn:oid:1.2.250.1.71.4.2.2", "value": "1"}}},
    }
    return {name: value for name, value in {**made, **changes}.items() if value is not None}


def deposited(resource: Mapping[str, Any], **who: Any) -> tuple[int, dict[str, Any]]:
    headers = {"content_type": "application/fhir+json"}
    return called("/fhir/AuditEvent", method="POST", body=json.dumps(resource), **{**WARD, **headers, **who})


def about(patient: str) -> list[dict[str, Any]]:
    return [{"what": {"reference": f"Patient/{patient}"}}]


def test_a_trace_is_deposited_and_shown_as_it_came(person: tuple[str, str]) -> None:
    """TDE-1, TDE-3, TDE-7: JSON."""
    sent = trace(entity=about(person[0]))
    answer = answered(
        "/fhir/AuditEvent", method="POST", body=json.dumps(sent), content_type="application/fhir+json", **WARD
    )
    event = json.loads(answer["body"])
    assert (answer["statusCode"], answer["headers"]["Location"].rpartition("/")[2]) == (201, event["id"])
    assert {**event, "id": None, "meta": None} == {**sent, "id": None, "meta": None}
    assert event["meta"]["tag"][0]["code"] == "deposited"
    assert called(f"/fhir/AuditEvent/{event['id']}") == (200, event)
    bundle = searched(person[0], ("altid", "n7"), ("agent-name", "equipe"), ("period-start", "lt2999"), **PATIENT)[1]
    assert event["id"] in ids(bundle)
    creations = searched(person[0], ("entity", f"AuditEvent/{event['id']}"), ("action", "C"))[1]["entry"]
    assert creations[0]["resource"]["agent"][0]["who"]["identifier"]["value"] == "ward"


def test_a_trace_in_xml_is_deposited() -> None:
    """TDE-1: XML."""
    sent = fhir_xml.dumps(trace()).decode()
    status, event = called(
        "/fhir/AuditEvent",
        method="POST",
        body=sent,
        content_type="application/fhir+xml",
        accept="application/fhir+json",
        **WARD,
    )
    assert (status, event["agent"][0]["altId"]) == (201, "n7")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"period": None}, "required", id="TDE-2-no-period"),
        pytest.param({"agent": [{"who": {"display": "x"}, "requestor": False}] * 3}, "invariant", id="TDE-2-3-agents"),
        pytest.param({"agent": [{"requestor": True}]}, "required", id="TDE-2-no-who"),
        pytest.param({"subtype": [{"code": "a"}, {"code": "b"}]}, "invariant", id="TDE-2-2-subtypes"),
    ],
)
def test_the_national_profile_binds_who_declares_it(changes: dict[str, Any], code: str) -> None:
    """P9."""
    status, outcome = deposited(trace(**changes))
    assert (status, {issue["code"] for issue in outcome["issue"]}) == (422, {code})
    assert deposited(trace(meta=None, **changes))[0] == 201


def test_a_bundle_of_traces_is_refused() -> None:
    """TDE-2."""
    status, outcome = deposited({"resourceType": "Bundle", "type": "batch", "entry": [{"resource": trace()}]})
    assert (status, outcome["issue"][0]["code"]) == (400, "structure")


@pytest.mark.parametrize(
    "observer",
    [
        {"identifier": {"system": "urn:oid:1.2.250.1.71.4.2.2", "value": "2"}},
        {"identifier": {"system": "urn:oid:1.2", "value": "1"}},
        {"display": "https://x.example/v1/fhir"},
        {"reference": "Organization/1"},
    ],
)
def test_nobody_deposits_for_another_organisation(observer: dict[str, Any]) -> None:
    status, outcome = deposited(trace(source={"observer": observer}))
    assert (status, outcome["issue"][0]["expression"]) == (422, ["AuditEvent.source.observer"])


@pytest.mark.parametrize("hours", [1, -24 * 500])
def test_a_trace_is_neither_of_the_future_nor_older_than_the_log(hours: int) -> None:
    at = (NOW + timedelta(hours=hours)).isoformat(timespec="seconds")
    status, outcome = deposited(trace(recorded=at))
    assert (status, outcome["issue"][0]["code"]) == (422, "value")


def test_the_same_trace_again_is_the_same_deposit() -> None:
    again = trace(outcome="0")
    first, second = deposited(again), deposited(again)
    assert first == second
    assert deposited(again, client="icu")[1]["id"] != first[1]["id"]


def test_only_systems_with_the_scope_deposit(person: tuple[str, str]) -> None:
    assert deposited(trace(), scope="ITI-81")[0] == 403
    assert deposited(trace(action="R"), role="patient", ins="|".join(INS))[0] == 403
    assert deposited(trace(entity=[*about(person[0]), *about(new_patient_key())]))[0] == 422
    assert deposited(trace(entity=[{"what": {"display": "x" * 70_000}}]))[0] == 413


def test_whom_a_depositor_may_not_know_is_not_told_by_the_answer(person: tuple[str, str]) -> None:
    """Somebody unknown and somebody known look the same to a system that is not of care."""
    for value in (INS[1], "1"):
        entity = [{"what": {"identifier": {"system": INS[0], "value": value}}, "role": {"code": "1"}}]
        status, event = deposited(trace(entity=entity), role="payer")
        assert (status, len(event["id"])) == (201, 26)


# --- what leaves nothing else -------------------------------------------------------------------------------------


def newest(since: datetime) -> list[AuditRecord]:
    found = (record_from_item(from_attributes(item), wiring.table_names()) for item in stored())
    return [each for each in found if each.at >= since]


def stored() -> list[dict[str, Any]]:
    items = boto3.client("dynamodb").scan(TableName=wiring.table_names().audit)["Items"]
    return [item for item in items if item["PK"]["S"].startswith("A#")]


@pytest.mark.parametrize(
    ("method", "path", "outcome"),
    [
        ("GET", "/fhir/Nothing/7", "4"),
        ("POST", "/fhir/AuditEvent/x/$unknown", "4"),
        ("DELETE", "/fhir/AuditEvent/x", "4"),
    ],
)
def test_what_nothing_serves_is_in_the_log(method: str, path: str, outcome: str) -> None:
    """BALP-7."""
    before = datetime.now(UTC)
    called(path, method=method, x_request_id="probe-1")
    (record,) = newest(before)
    assert (record.name, record.outcome, record.query) == ("unserved", outcome, f"{method} {path}")
    assert (record.external_id, record.address, record.client_id) == ("probe-1", "192.0.2.7", "auditor")


def test_a_defect_of_ours_is_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """BALP-7: 500."""
    record = record_of(new_patient_key())

    def fail(*_: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("passerelle.audit.service.AuditService.get", fail)
    before = datetime.now(UTC)
    status, outcome = called(f"/fhir/AuditEvent/{record.id}")
    assert (status, "secret" in str(outcome)) == (500, False)
    (kept,) = newest(before)
    assert (kept.name, kept.outcome, kept.reason, kept.patient) == ("read", "8", "exception", record.patient)


@pytest.mark.parametrize(("sent", "kept"), [("ward 7/req-1", "ward 7/req-1"), ("x" * 129, ""), ("é", ""), ("", "")])
def test_the_clients_own_id_of_a_request_is_kept_and_given_back(sent: str, kept: str) -> None:
    """BALP-5."""
    before = datetime.now(UTC)
    answer = answered("/fhir/AuditEvent/absent", x_request_id=sent)
    assert answer["headers"].get("X-Correlation-Id", "") == kept
    assert answer["headers"]["X-Request-Id"] == "now"
    assert newest(before)[0].external_id == kept
