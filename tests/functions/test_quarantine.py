"""Malware: what the scanner says of a content, at least once and in any order, and what leaves no more."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from local.scanner import EICAR
from passerelle import wiring
from passerelle.aws.quarantine import DETAIL_TYPE, SOURCE
from passerelle.documents.quarantine import Quarantine, Verdict
from passerelle.errors import Unprocessable
from passerelle.identifiers import new_ulid
from tests.exchange import Client, Exchange
from tests.functions.test_links import publish, share, visit
from tests.functions.test_patients import register

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RESULTS = {
    Verdict.CLEAN: "NO_THREATS_FOUND",
    Verdict.INFECTED: "THREATS_FOUND",
    Verdict.UNSCANNED: "UNSUPPORTED",
}


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a", "ITI-65 ITI-67 ITI-68 system/*.rs")


@pytest.fixture(scope="module")
def key(exchange: Exchange) -> str:
    return str(register(exchange.client("hospital-a"), 1).json["id"])


@pytest.fixture
def document(exchange: Exchange, hospital: Client, key: str) -> str:
    found = publish(hospital, key)
    exchange.pump.run_until_idle()
    return found


def report(document: str, verdict: Verdict, at: datetime) -> dict[str, Any]:
    """A message of the queue: the event, in the form of the GuardDuty user guide."""
    key = f"documents/{document.replace('-', '/')}" if "-" in document else f"uploads/{document}"
    event = {
        "version": "0",
        "id": new_ulid(at),
        "detail-type": DETAIL_TYPE,
        "source": SOURCE,
        "account": "111122223333",
        "time": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": "eu-west-3",
        "resources": ["arn:aws:guardduty:eu-west-3:111122223333:malware-protection-plan/b4c7f464ab3a4EXAMPLE"],
        "detail": {
            "schemaVersion": "1.0",
            "scanStatus": "COMPLETED",
            "resourceType": "S3_OBJECT",
            "s3ObjectDetails": {"bucketName": "b", "objectKey": key, "eTag": "e", "versionId": "v"},
            "scanResultDetails": {
                "scanResultStatus": RESULTS[verdict],
                "threats": [{"name": "a threat"}] if verdict is Verdict.INFECTED else None,
            },
        },
    }
    return {"messageId": new_ulid(at), "body": json.dumps(event), "eventSource": "aws:sqs", "attributes": {}}


def take(*records: dict[str, Any]) -> list[dict[str, str]]:
    """What the function asks to get again."""
    from functions.quarantine.handler import handler

    failures: list[dict[str, str]] = handler({"Records": list(records)}, None)["batchItemFailures"]
    return failures


def soon(**by: int) -> datetime:
    return datetime.now(UTC) + timedelta(**by)


def events_of(exchange: Exchange, document: str) -> list[str]:
    """The names of the events about a document, in order."""
    outbox = sorted(
        (item for item in exchange.table("clinical") if item["PK"]["S"].startswith("O#")),
        key=lambda item: str(item["SK"]["S"]),
    )
    events = [event["M"] for item in outbox for event in item["events"]["L"]]
    return [each["name"]["S"] for each in events if each["reference"]["S"] == f"DocumentReference/{document}"]


def test_an_infected_content_leaves_by_no_way_out(exchange: Exchange, hospital: Client, document: str) -> None:
    link = share(exchange.client("practice"), document)
    assert take(report(document, Verdict.INFECTED, soon(minutes=1))) == []
    for accept in ("*/*", "application/xml", "application/fhir+json"):
        assert hospital.get(f"Binary/{document}", Accept=accept).status == 403, accept
    (issue,) = hospital.get(f"Binary/{document}").json["issue"]
    assert (issue["code"], issue["details"]["coding"][0]["code"]) == ("suppressed", "infected")
    assert hospital.get(f"Binary/{document}", Range="bytes=0-3").status == 403
    assert hospital.request("HEAD", f"Binary/{document}").status == 403
    assert visit(exchange, link["url"]).status == 404
    assert hospital.get(f"DocumentReference/{document}").status == 200
    found = hospital.get(f"DocumentReference?_id={document}&patient={document.partition('-')[0]}")
    assert found.json["total"] == 1


def test_who_does_not_see_the_document_learns_nothing(exchange: Exchange, hospital: Client) -> None:
    """68-2: a hidden document and none are the same, in quarantine or not."""
    document = publish(hospital, str(register(exchange.client("hospital-a"), 2).json["id"]))
    take(report(document, Verdict.INFECTED, soon(minutes=1)))
    unknown = f"{document[:-1]}{'0' if document[-1] != '0' else '1'}"
    stranger = exchange.client("patient-1", "system/*.rs")
    hidden, absent = stranger.get(f"Binary/{document}"), stranger.get(f"Binary/{unknown}")
    assert (hidden.status, hidden.body) == (404, absent.body)


def test_it_is_announced_and_logged_once(exchange: Exchange, hospital: Client, document: str) -> None:
    again = report(document, Verdict.INFECTED, soon(minutes=1))
    for _ in range(3):
        assert take(again) == []
    assert take(again, again) == []
    assert events_of(exchange, document) == ["document-changed", "document-quarantined"]
    patient = document.partition("-")[0]
    found = exchange.client("auditor").get(f"AuditEvent?patient=Patient/{patient}&date=ge2026-01-01&action=U")
    about = [each["resource"] for each in found.json["entry"] if document in json.dumps(each["resource"]["entity"])]
    assert [each["agent"][0]["who"]["identifier"]["value"] for each in about] == ["quarantine"]


def test_a_later_scan_that_finds_nothing_lifts_it(exchange: Exchange, hospital: Client, document: str) -> None:
    take(report(document, Verdict.INFECTED, soon(minutes=1)))
    take(report(document, Verdict.CLEAN, soon(minutes=2)))
    assert hospital.get(f"Binary/{document}").status == 200
    assert events_of(exchange, document) == ["document-changed", "document-quarantined", "document-changed"]


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_the_last_scan_counts_in_whichever_order_they_come(
    exchange: Exchange, hospital: Client, document: str, order: tuple[int, ...]
) -> None:
    scans = [
        report(document, Verdict.CLEAN, soon(minutes=1)),
        report(document, Verdict.CLEAN, soon(minutes=2)),
        report(document, Verdict.INFECTED, soon(minutes=3)),
    ]
    for place in order:
        take(scans[place])
        take(scans[place])
    assert hospital.get(f"Binary/{document}").status == 403


def test_of_two_scans_at_once_that_which_found_something(hospital: Client, document: str) -> None:
    at = soon(minutes=1)
    take(report(document, Verdict.CLEAN, at), report(document, Verdict.INFECTED, at))
    take(report(document, Verdict.CLEAN, at))
    assert hospital.get(f"Binary/{document}").status == 403


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that holds what was not scanned yet."""
    monkeypatch.setattr(wiring.document_service(), "_quarantine", Quarantine(scans=wiring.scans(), holds=True))


def test_a_stage_may_hold_what_was_not_scanned_yet(held: None, exchange: Exchange, hospital: Client, key: str) -> None:
    document = publish(hospital, key)
    waits = hospital.get(f"Binary/{document}")
    assert (waits.status, waits.header("Retry-After"), waits.json["issue"][0]["code"]) == (503, "15", "transient")
    take(report(document, Verdict.UNSCANNED, soon(minutes=1)))
    refused = hospital.get(f"Binary/{document}")
    assert (refused.status, refused.json["issue"][0]["details"]["coding"][0]["code"]) == (403, "unscanned")
    take(report(document, Verdict.CLEAN, soon(minutes=2)))
    assert hospital.get(f"Binary/{document}").status == 200


def test_another_stage_serves_what_could_not_be_scanned(hospital: Client, document: str) -> None:
    take(report(document, Verdict.UNSCANNED, soon(minutes=1)))
    assert hospital.get(f"Binary/{document}").status == 200


def test_an_infected_upload_is_not_published(exchange: Exchange) -> None:
    upload = new_ulid(NOON)
    quarantine = wiring.content_quarantine()
    quarantine.check_upload(upload, path="x")
    take(report(upload, Verdict.INFECTED, NOON))
    with pytest.raises(Unprocessable) as refused:
        quarantine.check_upload(upload, path="Bundle.entry[0]")
    assert (refused.value.issues[0].code, refused.value.issues[0].expression) == ("security", "Bundle.entry[0]")


def test_objects_that_are_no_content_and_events_that_are_none(document: str) -> None:
    elsewhere = report(document, Verdict.INFECTED, NOON)
    elsewhere["body"] = elsewhere["body"].replace("documents/", "bodies/")
    assert take(elsewhere) == []
    broken = {**elsewhere, "body": "{}"}
    assert take(elsewhere, broken) == [{"itemIdentifier": broken["messageId"]}]  # to its dead letters, in the end


def test_the_test_file_goes_all_the_way(exchange: Exchange, hospital: Client, key: str) -> None:
    """Object, scanner, default bus, rule, queue, function, state: as on AWS, the scanner apart."""
    before = publish(hospital, key, b"<a>Compte rendu</a>")
    infected = publish(hospital, key, b"<a>" + EICAR + b"</a>")
    assert hospital.get(f"Binary/{infected}").status == 200  # a stage that does not hold
    exchange.pump.run_until_idle()
    assert hospital.get(f"Binary/{before}").status == 200
    assert hospital.get(f"Binary/{infected}").status == 403
    assert events_of(exchange, infected) == ["document-changed", "document-quarantined"]
    exchange.pump.run_until_idle()
    assert exchange.pump.run_until_idle() == 0


def test_no_file_of_ours_is_taken_for_malware() -> None:
    from pathlib import Path

    root = Path(__file__).resolve().parents[2]
    for folder in ("tests", "local", "layers/passerelle"):
        for path in (root / folder).rglob("*.py"):
            assert EICAR not in path.read_bytes(), path
    assert base64.b64encode(EICAR)[:12] == b"WDVPIVAlQEFQ"
