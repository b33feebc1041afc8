"""Every answer of the token endpoint is in the audit trail first (BALP-7, BALP-10, ITI-71)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import boto3
import pytest

from functions.token.handler import handler
from passerelle import wiring
from passerelle.audit.model import AuditRecord
from passerelle.audit.service import Entry
from passerelle.aws.audit import DynamoAuditTrail, record_from_item
from passerelle.aws.dynamodb import from_attributes
from passerelle.fhir.audit_event import render_entry
from passerelle.fhir.validation import validate
from tests.registered import FHIR_URL, System, empty, services

SYSTEM = System()


@pytest.fixture(autouse=True, scope="module")
def _services() -> Iterator[None]:
    with services():
        wiring.clients().register(SYSTEM.client)
        yield


def asked(form: dict[str, str], content_type: str = "application/x-www-form-urlencoded") -> dict[str, Any]:
    path = "/oauth2/token"
    answer: dict[str, Any] = handler(
        {
            "httpMethod": "POST",
            "resource": path,
            "path": path,
            "headers": {"Content-Type": content_type, "X-Request-Id": "req-7"},
            "body": urlencode(form),
            "requestContext": {
                "requestId": "now",
                "path": f"/v1{path}",
                "domainName": "x.example",
                "identity": {"sourceIp": "192.0.2.7"},
            },
        },
        None,
    )
    return answer


def recorded() -> AuditRecord:
    items = boto3.client("dynamodb").scan(TableName=wiring.table_names().audit)["Items"]
    (item,) = (each for each in items if each["PK"]["S"].startswith("A#"))
    empty(wiring.table_names().audit)
    return record_from_item(from_attributes(item), wiring.table_names())


def test_a_token_is_recorded_by_what_it_says() -> None:
    answer = asked(SYSTEM.form())
    token = json.loads(answer["body"])["access_token"]
    record = recorded()
    assert (record.name, record.outcome, record.client_id, record.role) == ("token", "0", SYSTEM.id, "hospital")
    assert (record.address, record.external_id) == ("192.0.2.7", "req-7")
    assert len(record.token_id) == 26
    assert token not in str(record)
    event = render_entry(Entry(record=record), FHIR_URL)
    validate(event, expected_type="AuditEvent")
    assert (event["type"]["code"], event["subtype"][0]["code"]) == ("110114", "ITI-71")


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ({"client_assertion": "a.b.c"}, "invalid_client"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"scope": "system/*.cruds ITI-94"}, "invalid_scope"),
    ],
)
def test_a_refusal_is_recorded_without_any_secret(form: dict[str, str], reason: str) -> None:
    sent = SYSTEM.form(**form)
    assert asked(sent)["statusCode"] in (400, 401)
    record = recorded()
    assert (record.outcome, record.client_id, record.token_id) == ("4", "", "")
    assert record.reason.startswith(reason)
    assert sent["client_assertion"] not in str(record)


def test_a_form_that_cannot_be_read_is_recorded() -> None:
    assert asked({}, content_type="application/json")["statusCode"] == 415
    assert recorded().outcome == "4"


def test_without_an_audit_store_there_is_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """BALP-10."""
    full = DynamoAuditTrail(wiring.dynamodb(), replace(wiring.table_names(), audit="absent"))
    wired = replace(wiring.token(), trail=full)
    monkeypatch.setattr(handler, "_provide", lambda: wired)
    for form in (SYSTEM.form(), SYSTEM.form(grant_type="password")):
        answer = asked(form)
        assert answer["statusCode"] >= 500
        assert "access_token" not in answer["body"]
