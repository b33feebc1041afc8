"""AuditEvent over the function: who may read which part of the log (TDE-3 to -8, SMART-5, GEN-14, BALP)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle

from functions.audit.handler import handler
from passerelle import wiring
from passerelle.access import Caller, Request, Scopes, Touched
from passerelle.audit.model import KEPT, AuditRecord, audit_of
from passerelle.aws.audit import DynamoAuditTrail
from passerelle.identifiers import new_patient_key
from passerelle.patients.model import PersonChange
from tests.people import person_of
from tests.registered import services

INS = ("urn:oid:1.2.250.1.213.1.4.10", "279035121518989")
NOW = datetime.now(UTC)
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
) -> AuditRecord:
    """A read of a patient's record by a client, stored some time ago."""
    caller = Caller(
        client_id=client,
        organisation="1754567860",
        role="hospital",
        scopes=Scopes(frozenset()),
        token_id="token",
    )
    request = Request(
        caller=caller,
        name=name,
        action="R",
        request_id="earlier",
        at=datetime.now(UTC) - age,
        base_url="https://x.example/fhir",
    )
    (record,) = audit_of(request, Touched.of([patient] if patient else []))
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
    **headers: str,
) -> tuple[int, dict[str, Any]]:
    record_id = path.partition("AuditEvent/")[2]
    parameters: dict[str, list[str]] = {}
    for name, value in query:
        parameters.setdefault(name, []).append(value)
    context = {"client_id": client, "organisation": "1", "role": role, "scope": scope, "jti": "current-token"}
    answer = handler(
        {
            "httpMethod": "GET",
            "resource": "/fhir/AuditEvent/{id}" if record_id else "/fhir/AuditEvent",
            "path": path,
            "pathParameters": {"id": record_id} if record_id else None,
            "headers": headers,
            "multiValueQueryStringParameters": parameters,
            "body": None,
            "requestContext": {
                "requestId": "now",
                "path": f"/v1{path}",
                "domainName": "x.example",
                "authorizer": context | ({} if ins is None else {"patient": ins}),
            },
        },
        None,
    )
    return answer["statusCode"], json.loads(answer["body"])


def searched(patient: str, *more: tuple[str, str], date: str = f"ge{SINCE}", **who: Any) -> tuple[int, dict[str, Any]]:
    query = [("patient", f"Patient/{patient}"), ("date", date), *more]
    status, body = called("/fhir/AuditEvent", query, **who)
    if status == 200:
        Bundle.model_validate(body)
    return status, body


def ids(bundle: dict[str, Any]) -> list[str]:
    return [entry["resource"]["id"] for entry in bundle.get("entry", [])]


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
    record_of(patient, age=timedelta(days=90))
    assert searched(new_patient_key(), ("_count", "3"))[1]["total"] == 0


def test_the_self_link_has_what_was_understood() -> None:
    """GEN-8."""
    patient = new_patient_key()
    _, bundle = searched(patient, ("altid", "x"), ("outcome", "0"))
    (link,) = bundle["link"]
    assert link["relation"] == "self"
    expected = f"https://x.example/v1/fhir/AuditEvent?patient=Patient%2F{patient}&date=ge{SINCE}&outcome=0"
    assert link["url"] == expected
    assert searched(patient, ("altid", "x"), prefer="handling=strict")[0] == 400


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
    assert read["agent"][2]["policy"] == ["current-token"]


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
    wired = wiring.AuditWiring(trail=full, audit=wiring.audit().audit)
    monkeypatch.setattr(handler, "_provide", lambda: wired)
    status, outcome = called(f"/fhir/AuditEvent/{record.id}")
    assert (status, outcome["issue"][0]["code"]) == (503, "transient")
    assert record.id not in json.dumps(outcome)


def test_traces_cannot_be_changed() -> None:
    """TDE-8: there is nothing that would."""
    assert {(route.method, route.path) for route in handler.routes} == {
        ("GET", "/fhir/AuditEvent"),
        ("POST", "/fhir/AuditEvent/_search"),
        ("GET", "/fhir/AuditEvent/{id}"),
    }
