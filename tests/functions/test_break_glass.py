"""Accesses in an emergency, where nothing is open to a professional whom the patient did not let in (PCF-9, DMP-30)."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import pytest

from local.gateway import Response
from passerelle import wiring
from tests import contents, examples
from tests.documents import relabel
from tests.exchange import Client, Exchange, PumpedWebhook
from tests.functions.test_control import DOCTOR, PRACTICE, done, patient_of, plain, refusal, standing, subscribe
from tests.functions.test_patients import register
from tests.somebody import Somebody

PDF = b"%PDF-1.4\n%%EOF\n"
WHY = "Patient inconscient aux urgences"
_numbers = itertools.count(2)


@pytest.fixture(scope="module", autouse=True)
def _closed_by_default(exchange: Exchange) -> Iterator[None]:
    """As in production: without a relation, professionals see nothing but in an emergency."""
    with patch.dict(os.environ, IMPLICIT_POLICY="break-glass-only"):
        wiring.reset()
        yield
    wiring.reset()


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


@pytest.fixture(scope="module")
def practice(exchange: Exchange) -> Client:
    return exchange.client("practice")


@pytest.fixture
def number() -> int:
    return next(_numbers)


@pytest.fixture
def key(hospital: Client, number: int) -> str:
    return str(register(hospital, number).json["id"])


@pytest.fixture
def patient(exchange: Exchange, number: int) -> Somebody:
    return patient_of(exchange, number)


def broken(
    client: Client, key: str, reason: str | None = "unconscious", text: str | None = WHY, **headers: str
) -> Response:
    given = [
        *([{"name": "reason", "valueCode": reason}] if reason is not None else []),
        *([{"name": "text", "valueString": text}] if text is not None else []),
    ]
    return client.post(f"Patient/{key}/$break-glass", {"resourceType": "Parameters", "parameter": given}, **headers)


def said(answer: Response) -> tuple[int, str]:
    """The status, and whether an emergency would open what is refused."""
    return answer.status, answer.json["issue"][0]["details"]["coding"][0]["code"]


POSSIBLE, NOT_POSSIBLE = (403, "break-glass-possible"), (403, "break-glass-not-possible")


def accesses(exchange: Exchange, key: str) -> list[dict[str, Any]]:
    """The audit records of a record, the oldest first."""
    found = [item for item in exchange.table("audit") if item.get("patient", {}).get("S") == key]
    return [{name: next(iter(value.values())) for name, value in item.items()} for item in sorted(found, key=_time)]


def _time(item: dict[str, Any]) -> str:
    return str(item["SK"]["S"])


def test_the_glass_opens_the_record_and_the_patient_is_told(
    exchange: Exchange, hospital: Client, practice: Client
) -> None:
    """PCF-9, DMP-11, DMP-30, GEN-15: refused, broken, then data with BTG in the audit, and notices without content."""
    key = str(register(hospital, 1).json["id"])
    patient, guardian = exchange.client("patient-1"), exchange.client("representative-1")
    done(patient, key, "authorize-access", party={"system": PRACTICE["system"], "value": "1990000011"})
    masked = contents.published(hospital, key, PDF).removeprefix("Binary/")
    changed = hospital.request(
        "PATCH",
        f"DocumentReference/{masked}",
        json.dumps(relabel("MASQUE_PS")).encode(),
        Content_Type="application/json-patch+json",
    )
    assert changed.status == 200, changed.body
    open_document = contents.published(hospital, key, PDF + b"2").removeprefix("Binary/")
    exchange.pump.run_until_idle()
    with PumpedWebhook(exchange.pump) as webhook, PumpedWebhook(exchange.pump) as theirs:
        about = f"Patient?patient=Patient/{key}"
        told = {client: subscribe(client, webhook, "emergency-access", about) for client in (patient, guardian)}
        heard = subscribe(practice, theirs, "anything-changed")
        search = f"DocumentReference?patient.identifier={quote(examples.ins(1))}&status=current"
        assert said(practice.get(search)) == POSSIBLE
        decision = plain(broken(practice, key).json["parameter"][0]["part"])
        assert (decision["kind"], decision["motive"], decision["party"]) == ("glass-broken", "unconscious", DOCTOR)
        until = datetime.fromisoformat(decision["until"])
        assert timedelta(minutes=235) < until - datetime.now(UTC) <= timedelta(minutes=240)
        found = practice.get(search)
        assert [each["resource"]["id"] for each in found.json["entry"]] == [open_document]  # masks stay
        assert practice.get(f"Binary/{masked}", Accept="*/*").status == 404
        assert practice.get(f"Binary/{open_document}", Accept="*/*").status == 200
        exchange.pump.run_until_idle()
        for client, id in told.items():
            answer = client.get(f"Subscription/{id}/$events?eventsSinceNumber=1&eventsUntilNumber=9")
            listed = answer.json["entry"][0]["resource"]["parameter"]
            (event,) = (each for each in listed if each["name"] == "notification-event")
            assert plain(event["part"])["focus"]["reference"].endswith(f"/Patient/{key}")
            assert WHY not in answer.body.decode()
        answer = practice.get(f"Subscription/{heard}/$events?eventsSinceNumber=1&eventsUntilNumber=9")
        assert (answer.status, key in answer.body.decode()) == (200, False)
    purposes = {
        each["name"]: each.get("purpose") for each in accesses(exchange, key) if each["client_id"] == "practice"
    }
    assert purposes["$break-glass"] == "BTG"
    assert purposes["search-type"] == "BTG"
    assert purposes["read"] == "BTG"
    for client in (patient, guardian):
        (shown,) = standing(client, key)["emergency"]
        assert (shown["professional"], shown["reason"]) == (DOCTOR, "unconscious")
    assert standing(patient, key)["decision"][-1]["reason"] == WHY


def test_dmp_30_a_reason_and_words_are_asked_for(practice: Client, key: str) -> None:
    """DMP-30: 422 with all that is missing, and nothing is opened."""
    bare = broken(practice, key, None, None)
    assert bare.status == 422
    assert [(each["code"], each["expression"]) for each in bare.json["issue"]] == [
        ("required", ["reason"]),
        ("required", ["text"]),
    ]
    assert refusal(broken(practice, key, None)) == (422, "required")
    assert refusal(broken(practice, key, text="urgent")) == (422, "required")
    assert refusal(broken(practice, key, text="a         b")) == (422, "required")
    assert refusal(broken(practice, key, "because")) == (422, "code-invalid")
    assert refusal(broken(practice, key, text="x" * 1001)) == (422, "too-long")
    assert said(practice.get(f"Observation?patient={key}")) == POSSIBLE


def test_who_may_not_is_refused_whatever_is_said(
    exchange: Exchange, practice: Client, patient: Client, key: str
) -> None:
    """PCF-9: another profession, nobody at the keyboard, another role; GEN-15: and the refusals before say so."""
    nobody = Somebody(exchange, client_id="practice", role="practice", organisation=PRACTICE["value"])
    for client in (exchange.client("nurse"), exchange.client("pharmacy-a"), nobody):
        assert said(client.get(f"Observation?patient={key}")) == NOT_POSSIBLE, client.id
        assert said(broken(client, key)) == NOT_POSSIBLE, client.id
        assert said(broken(client, key, None)) == NOT_POSSIBLE, client.id
    assert broken(exchange.client("steward"), key).status == 403
    assert said(broken(patient, key)) == NOT_POSSIBLE
    assert broken(practice, "0" * 16).status == 404


def test_never_past_a_block_nor_against_the_opposition(practice: Client, patient: Client, key: str) -> None:
    """DMP-3, PCF-9: a glass that is broken already is of no use either."""
    assert broken(practice, key).status == 200
    assert practice.get(f"Observation?patient={key}").status == 200
    done(patient, key, "set-preferences", oppose_emergency=True)
    assert said(practice.get(f"Observation?patient={key}")) == NOT_POSSIBLE
    assert said(broken(practice, key)) == NOT_POSSIBLE
    done(patient, key, "set-preferences", oppose_emergency=False)
    assert practice.get(f"Observation?patient={key}").status == 200
    done(patient, key, "block", party=PRACTICE)
    assert said(practice.get(f"Observation?patient={key}")) == NOT_POSSIBLE
    assert said(broken(practice, key)) == NOT_POSSIBLE
    done(patient, key, "unblock", party=PRACTICE)
    assert said(practice.get(f"Observation?patient={key}")) == POSSIBLE  # the block ended the emergency
    patient.post(
        f"Patient/{key}/$close-record",
        {"resourceType": "Parameters", "parameter": [{"name": "motive", "valueCode": "patient-demande"}]},
    )
    assert said(broken(practice, key)) == NOT_POSSIBLE


def test_the_glass_closes_by_itself(exchange: Exchange, practice: Client, key: str) -> None:
    """To the minute, and for nobody else at any time."""
    assert broken(practice, key).status == 200
    other = exchange.client("hospital-b")
    assert said(other.get(f"Observation?patient={key}")) == POSSIBLE
    for minutes, status in ((239, 200), (241, 403)):
        later = datetime.now(UTC) + timedelta(minutes=minutes)
        with at(later):
            assert practice.get(f"Observation?patient={key}").status == status
    again = broken(practice, key)
    assert again.status == 200
    assert len(standing(practice, key)["emergency"]) == 1


class at:  # noqa: N801 - reads as what it says
    """The clock of the record's functions stands at a moment; tokens are asked for before."""

    def __init__(self, moment: datetime) -> None:
        self._moment = moment

    def __enter__(self) -> None:
        self._functions = [wiring.records(), wiring.patients()]
        self._clocks = [each.now for each in self._functions]
        for each in self._functions:
            object.__setattr__(each, "now", lambda: self._moment)

    def __exit__(self, *_: object) -> None:
        for each, clock in zip(self._functions, self._clocks, strict=True):
            object.__setattr__(each, "now", clock)


def test_dmp_11_a_relation_opens_and_its_end_shuts(
    exchange: Exchange, practice: Client, patient: Client, key: str
) -> None:
    """DMP-11, PCF-10 break-glass-only: the authorisation binds the next request, for its period."""
    search = f"Observation?patient={key}"
    assert said(practice.get(search)) == POSSIBLE
    done(practice, key, "authorize-access", period={"end": "2030-12-31"}, consent=True)
    assert practice.get(search).status == 200
    with at(datetime(2031, 1, 1, tzinfo=UTC)):
        assert said(practice.get(search)) == POSSIBLE
    done(patient, key, "end-access", party=DOCTOR)
    assert said(practice.get(search)) == POSSIBLE
    purposes = {each.get("purpose", "") for each in accesses(exchange, key) if each["name"] == "search-type"}
    assert "BTG" not in purposes


# --- supervision ------------------------------------------------------------------------------------------------------


def uses(client: Client, query: str = "") -> tuple[list[dict[str, Any]], str | None]:
    answer = client.get(f"Patient/$break-glass-uses{query}")
    assert answer.status == 200, answer.body
    listed = answer.json.get("parameter", [])
    following = next((each["valueUrl"] for each in listed if each["name"] == "next"), None)
    return [plain(each["part"]) for each in listed if each["name"] == "use"], following


def review(client: Client, use: str, verdict: str, text: str = "", **headers: str) -> Response:
    given = [{"name": "use", "valueId": use}, {"name": "verdict", "valueCode": verdict}]
    if text:
        given.append({"name": "text", "valueString": text})
    return client.post("Patient/$review-break-glass", {"resourceType": "Parameters", "parameter": given}, **headers)


def test_every_use_is_on_the_supervisors_list(exchange: Exchange, hospital: Client, practice: Client) -> None:
    """By period, organisation and status, page after page; reviewed once, and the patient's log tells who looked."""
    auditor = exchange.client("auditor")
    keys = [str(register(hospital, number).json["id"]) for number in (15, 16, 17)]
    for key in keys:
        assert broken(practice, key, text=f"{WHY} {key}").status == 200
    assert broken(exchange.client("hospital-b"), keys[0]).status == 200
    today = datetime.now(UTC).date()
    listed, following = uses(auditor, f"?organization={PRACTICE['value']}&status=open&since={today}&_count=2")
    assert [each["patient"]["reference"] for each in listed] == [f"Patient/{keys[2]}", f"Patient/{keys[1]}"]
    assert listed[0]["text"] == f"{WHY} {keys[2]}"
    assert (listed[0]["professional"], listed[0]["organisation"]) == (DOCTOR, PRACTICE)
    assert following is not None
    rest, _ = uses(auditor, following.partition("$break-glass-uses")[2])
    assert rest[0]["patient"]["reference"] == f"Patient/{keys[0]}"
    assert uses(auditor, f"?until={today - timedelta(days=1)}")[0] == []
    by_hospital, _ = uses(auditor, "?organization=urn:oid:1.2.250.1.71.4.2.2|1990000029")
    assert [each["patient"]["reference"] for each in by_hospital] == [f"Patient/{keys[0]}"]
    id = listed[0]["id"]
    assert refusal(review(auditor, id, "unjustified")) == (422, "required")
    once = {"Idempotency_Key": f"review-{id}"}
    first = review(auditor, id, "unjustified", "Aucune urgence ce jour-là", **once)
    assert (first.status, review(auditor, id, "unjustified", "Aucune urgence ce jour-là", **once).body) == (
        200,
        first.body,
    )
    assert refusal(review(auditor, id, "justified")) == (409, "conflict")
    (reviewed,) = uses(auditor, "?status=reviewed")[0]
    assert (reviewed["id"], reviewed["verdict"]) == (id, "unjustified")
    names = [each["name"] for each in accesses(exchange, keys[2]) if each["client_id"] == "auditor"]
    assert {"$break-glass-uses", "$review-break-glass"} <= set(names)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?status=maybe", (400, "code-invalid")),
        ("?since=yesterday", (400, "value")),
        ("?organization=x", (400, "value")),
        ("?patient=x", (400, "not-supported")),
        ("?_count=0", (400, "value")),
    ],
)
def test_the_list_is_asked_for_as_it_is_offered(exchange: Exchange, query: str, expected: tuple[int, str]) -> None:
    assert refusal(exchange.client("auditor").get(f"Patient/$break-glass-uses{query}")) == expected


def test_supervision_is_for_supervisors(exchange: Exchange, practice: Client) -> None:
    scope = "system/AuditEvent.rus"
    doctor = Somebody(exchange, client_id="practice", role="practice", professional=DOCTOR["value"], scope=scope)
    assert doctor.get("Patient/$break-glass-uses").status == 403
    assert review(doctor, "0" * 26, "justified").status == 403
    assert practice.get("Patient/$break-glass-uses").status == 403
    assert review(exchange.client("auditor"), "0" * 26, "justified").status == 404
    assert review(exchange.client("auditor"), "x", "justified").status == 404
