"""The verifiable log from an access over HTTP to a proof that the stand-alone verifier accepts."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

from functions.seal.handler import handler as seal_handler
from passerelle import wiring
from tests.exchange import Exchange
from tests.ledger import verdict

PATIENT = "0123456789abcdef"
SOMEBODY = f"Patient/{PATIENT}-{'0' * 26}"


def public(exchange: Exchange, path: str, status: int = 200) -> Any:
    answer = exchange.gateway.request("GET", f"/log/{path}", {}, b"")
    assert answer.status == status, answer.body
    return answer.json


def seal(exchange: Exchange) -> Any:
    """What the queue starts a minute after something was recorded."""
    exchange.pump.run_until_idle()
    message = {"messageId": "1", "receiptHandle": "r", "body": "{}", "attributes": {"MessageGroupId": "seal"}}
    assert seal_handler({"Records": [message]}, None) == {"batchItemFailures": []}
    return public(exchange, "anchors/latest")


def events_of(exchange: Exchange, patient: str | None) -> list[str]:
    """The ids of the audit records of a patient, or of those without one, the newest last."""
    items = [item for item in exchange.table("audit") if item["PK"]["S"].startswith("A#") and "commitment" in item]
    kept = [item for item in items if item.get("patient", {}).get("S") == patient]
    return [item["id"]["S"] for item in sorted(kept, key=lambda item: item["at"]["S"])]


def proof_of(exchange: Exchange, event: str) -> Any:
    answer = exchange.client("auditor").get(f"AuditEvent/{event}/$proof")
    assert answer.status == 200, answer.body
    return answer.json


@pytest.fixture(scope="module")
def accessed(exchange: Exchange) -> Exchange:
    """Somebody looked for a patient, in each of two epochs; the refusals are in the log like everything else."""
    for _ in range(2):
        assert exchange.client("practice").get(SOMEBODY).status == 404
        seal(exchange)
    return exchange


def test_an_access_is_proved_by_a_program_that_knows_nothing_else(accessed: Exchange, tmp_path: Path) -> None:
    """Goal I6: the event as it was recorded, in the epoch of its minute."""
    event = events_of(accessed, PATIENT)[-1]
    answered = proof_of(accessed, event)
    assert (answered["resourceType"], answered["contentType"]) == ("Binary", "application/json")
    holds, said = verdict(tmp_path, public(accessed, "keys"), answered)
    assert holds, said
    proof = json.loads(base64.b64decode(answered["data"]))
    record = json.loads(proof["event"])
    assert (record["id"], record["patient"], record["outcome"]) == (event, PATIENT, "4")
    assert abs(datetime.fromisoformat(record["at"]).timestamp() * 1000 - proof["appended"]) < 60_000


def test_everything_that_is_recorded_is_in_the_log_and_nothing_twice(accessed: Exchange) -> None:
    """Goal I6, over the stream of the table: also what was refused, and what touched nobody."""
    accessed.pump.run_until_idle()
    recorded = sorted(item["commitment"]["B"] for item in accessed.table("audit") if "commitment" in item)
    chunks = [item["commitments"]["B"] for item in accessed.table("ledger") if "commitments" in item]
    logged = sorted(chunk[start : start + 32] for chunk in chunks for start in range(0, len(chunk), 32))
    assert recorded == logged
    assert len(set(recorded)) == len(recorded) > 4


def test_the_log_only_grew(accessed: Exchange, tmp_path: Path) -> None:
    kept = public(accessed, "anchors/0")
    latest = seal(accessed)
    epoch = json.loads(latest["body"])["epoch"]
    growth = public(accessed, f"consistency?first=0&second={epoch}")
    assert growth["first"] == kept
    holds, said = verdict(tmp_path, public(accessed, "keys"), growth, kept)
    assert holds, said
    assert said == f"proved: epoch {epoch} has everything of epoch 0"


def test_what_is_public_may_be_kept_and_needs_no_token(accessed: Exchange) -> None:
    kept = {
        path: accessed.gateway.request("GET", f"/log/{path}", {}, b"").header("Cache-Control")
        for path in ("anchors/0", "anchors/latest", "keys", "consistency?first=0&second=1")
    }
    assert kept["anchors/0"] == kept["consistency?first=0&second=1"] == "public, max-age=31536000"
    assert kept["anchors/latest"] == "public, max-age=30"
    assert kept["keys"] == "public, max-age=300"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("anchors/999999", 404),
        ("anchors/-1", 400),
        ("anchors/%D9%A3", 400),
        ("anchors/99999999999", 400),
        ("consistency?first=1&second=0", 400),
        ("consistency?first=0", 400),
        ("consistency?first=0&second=999999", 404),
    ],
)
def test_what_there_is_not(accessed: Exchange, path: str, status: int) -> None:
    answer = accessed.gateway.request("GET", f"/log/{path}", {}, b"")
    assert answer.status == status
    assert answer.header("Cache-Control") == "no-store"


def test_an_event_that_is_not_sealed_has_no_proof_yet(accessed: Exchange) -> None:
    assert accessed.client("practice").get(SOMEBODY).status == 404
    event = events_of(accessed, PATIENT)[-1]
    pending = accessed.client("auditor").get(f"AuditEvent/{event}/$proof")
    assert (pending.status, pending.header("Retry-After")) == (202, "120")
    assert pending.json["issue"][0]["code"] == "incomplete"
    seal(accessed)
    assert accessed.client("auditor").get(f"AuditEvent/{event}/$proof").status == 200


def test_a_proof_is_for_who_may_read_the_event(accessed: Exchange) -> None:
    event = events_of(accessed, PATIENT)[0]
    assert accessed.client("hospital-a").get(f"AuditEvent/{event}/$proof").status in (403, 404)
    assert accessed.client("auditor").get(f"AuditEvent/{event[:-1]}0/$proof").status == 404


def test_to_who_sees_less_of_an_event_it_looks_as_if_it_were_not_sealed(
    accessed: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contract D1: a proof shows the whole record, what is hidden from the patient too; so there is none."""
    from dataclasses import replace

    event = events_of(accessed, PATIENT)[0]
    service = wiring.audit().audit
    whole = type(service).get

    def part(self: Any, request: Any, event_id: str) -> Any:
        entry = whole(self, request, event_id)
        return replace(entry, record=replace(entry.record, references=("Patient/x",)))

    monkeypatch.setattr(type(service), "get", part)
    answer = accessed.client("auditor").get(f"AuditEvent/{event}/$proof")
    assert (answer.status, answer.json["issue"][0]["code"]) == (202, "incomplete")


def test_a_minute_of_activity_asks_for_one_seal(accessed: Exchange) -> None:
    accessed.pump.run_until_idle()
    url = accessed.stack.environment["SEALS_QUEUE_URL"]
    told = boto3.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert told["DelaySeconds"] == "65"
    assert 1 <= int(told["ApproximateNumberOfMessagesDelayed"]) <= 3


def test_anchors_are_kept_where_they_can_be_locked(accessed: Exchange) -> None:
    bucket = accessed.stack.environment["ANCHORS_BUCKET"]
    configuration = boto3.client("s3").get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
    assert configuration["ObjectLockEnabled"] == "Enabled"
