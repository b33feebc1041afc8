"""What a subscriber is told in full is what it would be answered by a read, and no more (SUB-4, SUB-8, SUB-10)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from local import samples
from passerelle.fhir import json as fhir_json
from passerelle.fhir import xml as fhir_xml
from passerelle.fhir.subscription import BACKPORT
from passerelle.fhir.validation import validate
from passerelle.notifications.topics import TOPIC_ROOT
from tests import examples
from tests.documents import changed, published, relabel
from tests.exchange import Client, Exchange, PumpedWebhook
from tests.functions.test_patients import register

DOCTOR = "810000000037"  # of the practice
TODAY = datetime.now(UTC).date()


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


@pytest.fixture(scope="module")
def practice(exchange: Exchange) -> Client:
    return exchange.client("practice")


class Hook(PumpedWebhook):
    """Keeps what it is sent as it came."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange.pump)
        self.bodies: list[bytes] = []

    def _take(self, body: bytes, headers: dict[str, str]) -> int:
        self.bodies.append(body)
        return 204 if body.startswith(b"<") else super()._take(body, headers)


@pytest.fixture
def webhook(exchange: Exchange) -> Iterator[Hook]:
    with Hook(exchange) as running:
        yield running


def subscribe(
    exchange: Exchange, client: Client, webhook: Hook, key: str, content: str, payload: str = "fhir+json"
) -> str:
    """The id of a subscription to everything that happens to one patient, its handshake done."""
    extension = {"url": f"{BACKPORT}backport-filter-criteria", "valueString": f"?patient=Patient/{key}"}
    asked = {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "care coordination",
        "criteria": f"{TOPIC_ROOT}anything-changed",
        "_criteria": {"extension": [extension]},
        "channel": {
            "type": "rest-hook",
            "endpoint": webhook.url,
            "payload": f"application/{payload}",
            "_payload": {"extension": [{"url": f"{BACKPORT}backport-payload-content", "valueCode": content}]},
        },
    }
    answer = client.post("Subscription", asked)
    assert answer.status == 201, answer.body
    webhook.secret = answer.header("X-Passerelle-Webhook-Secret") or ""
    exchange.pump.run_until_idle()
    assert b"handshake" in webhook.bodies[-1]
    return str(answer.json["id"])


def events(client: Client, id: str, content: str = "") -> dict[str, Any]:
    """What `$events` answers: resources, or None where there is none, by their reference."""
    answer = client.get(f"Subscription/{id}/$events" + (f"?content={content}" if content else ""))
    assert answer.status == 200, answer.body
    validate(answer.json)
    return told_in(answer.json)


def told_in(bundle: dict[str, Any]) -> dict[str, Any]:
    return {"/".join(each["fullUrl"].split("/")[-2:]): each.get("resource") for each in bundle["entry"][1:]}


def read(client: Client, reference: str) -> Any:
    answer = client.get(reference)
    assert answer.status == 200, answer.body
    return answer.json


def test_sub_4_and_8_full_resources_are_what_a_read_answers(
    exchange: Exchange, hospital: Client, practice: Client, webhook: Hook
) -> None:
    key = str(register(hospital, 11).json["id"])
    id = subscribe(exchange, practice, webhook, key, "full-resource")
    observation = f"Observation/{hospital.post('Observation', examples.observation(key)).json['id']}"
    document = f"DocumentReference/{published(hospital, key)['id']}"
    masked = published(hospital, key, "MASQUE_PS")["id"]
    gone = f"Observation/{hospital.post('Observation', examples.observation(key)).json['id']}"
    made = practice.post("Task/$create", samples.prescription(key, DOCTOR, TODAY), Idempotency_Key=str(uuid4()))
    assert made.status in (200, 201), made.body
    patient = {**hospital.get(f"Patient/{key}").json, "gender": "unknown"}
    assert hospital.put(f"Patient/{key}", patient).status == 200
    exchange.pump.run_until_idle()
    assert hospital.request("DELETE", gone).status == 200
    exchange.pump.run_until_idle()

    told = events(practice, id)
    (task,) = [each for each in told if each.startswith("Task/")]
    for reference in (observation, document, task, f"Patient/{key}"):
        assert told[reference] == read(practice, reference), reference
    assert told[gone] is None
    assert masked not in json.dumps(told)
    sent = [bundle for bundle in map(json.loads, webhook.bodies) if len(bundle["entry"]) > 1]
    posted = {reference: resource for bundle in sent for reference, resource in told_in(bundle).items()}
    assert posted[observation] == told[observation]
    assert posted[task] == told[task]
    assert masked not in json.dumps(posted)
    assert set(events(practice, id, "id-only").values()) == {None}
    assert events(practice, id, "empty") == {}

    changed(hospital, document, relabel("MASQUE_PS"))
    assert document not in events(practice, id)
    answer = practice.get(f"Subscription/{id}/$events", Accept="application/fhir+xml")
    assert told_in(json.loads(fhir_json.dumps(fhir_xml.loads(answer.body))))[observation] == told[observation]
    narrow = Client(exchange, practice.id, "system/Subscription.r system/Observation.r")
    assert set(events(narrow, id)) == {observation, gone}


def test_sub_8_more_content_than_was_asked_for_is_read_as_the_caller(
    exchange: Exchange, hospital: Client, practice: Client, webhook: Hook
) -> None:
    key = str(register(hospital, 12).json["id"])
    id = subscribe(exchange, practice, webhook, key, "id-only", "fhir+xml")
    observation = f"Observation/{hospital.post('Observation', examples.observation(key)).json['id']}"
    exchange.pump.run_until_idle()
    assert events(practice, id)[observation] is None
    assert events(practice, id, "full-resource")[observation] == read(practice, observation)
    last = fhir_xml.loads(webhook.bodies[-1])  # the payload is XML
    assert told_in(last) == {observation: None}


def test_sub_11_the_metadata_lists_the_topics(exchange: Exchange) -> None:
    """SUB-11: whoever reads it may subscribe to what it lists, by the same canonical."""
    statement = exchange.gateway.request("GET", "/fhir/metadata", {}, b"").json
    (row,) = [each for each in statement["rest"][0]["resource"] if each["type"] == "Subscription"]
    canonicals = [each["valueCanonical"] for each in row["extension"]]
    assert f"{TOPIC_ROOT}document-changed" in canonicals
    assert {each["name"] for each in row["operation"]} >= {"status", "events", "rotate-secret"}
    assert {each["name"] for each in row["searchParam"]} >= {"status", "url", "criteria"}
