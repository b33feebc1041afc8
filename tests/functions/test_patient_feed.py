"""Subscriptions to the patient feed, from the request to the consumer's endpoint (ITI-94), rows 93-5 and 93-6."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from passerelle.fhir import pmir
from passerelle.fhir import xml as fhir_xml
from passerelle.notifications.signature import verify
from tests import examples
from tests.exchange import Client, Exchange
from tests.feeding import entry, fed, registered, replaced_by


class Consumer(ThreadingHTTPServer):
    """A Patient Identity Consumer on this machine: takes messages, and answers as it is told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Inbox)
        self.status = 200
        self.received: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/fhir/$process-message"

    def told(self) -> list[tuple[str, str]]:
        """Method and Patient id of each entry that arrived, in order."""
        read = (pmir.parse_feed(json.loads(body)) for _, body in self.received)
        return [(each.method, str(each.resource.get("id") or each.ids[0])) for one in read for each in one.entries]


class _Inbox(BaseHTTPRequestHandler):
    server: Consumer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((dict(self.headers), body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def consumer() -> Iterator[Consumer]:
    server = Consumer()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def asked(consumer: Consumer, criteria: str = "Patient", **channel: Any) -> dict[str, Any]:
    payload = {"type": "message", "endpoint": consumer.url, "payload": "application/fhir+json"}
    return {
        "resourceType": "Subscription",
        "status": "requested",
        "contact": [{"system": "phone", "value": "+33 1 00 00 00 00"}],
        "reason": "patient administration",
        "criteria": criteria,
        "channel": {**payload, **channel},
    }


@pytest.fixture
def subscriber(exchange: Exchange) -> Iterator[Client]:
    """A laboratory that subscribes; its subscriptions end with the test."""
    laboratory = exchange.client("laboratory")
    before = {item["PK"]["S"] for item in exchange.table("operations")}
    yield laboratory
    for item in exchange.table("operations"):
        if item["PK"]["S"].startswith("S#") and item["PK"]["S"] not in before:
            laboratory.request("DELETE", f"Subscription/{item['PK']['S'].removeprefix('S#')}")


def subscribed(exchange: Exchange, client: Client, sent: Mapping[str, Any]) -> tuple[str, str]:
    """Id and secret of a subscription that is active."""
    made = client.post("Subscription", sent)
    assert made.status == 201, made.body
    assert made.json["status"] == "requested"
    id = str(made.json["id"])
    assert str(made.header("Location")).endswith(f"/fhir/Subscription/{id}")
    exchange.pump.run_until_idle()
    assert client.get(f"Subscription/{id}").json["status"] == "active"
    return id, str(made.header("X-Passerelle-Webhook-Secret"))


def test_93_5_a_feed_of_everybody(exchange: Exchange, subscriber: Client, consumer: Consumer) -> None:
    id, secret = subscribed(exchange, subscriber, asked(consumer))
    assert consumer.received == []  # a feed has no handshake
    key, _, patient = registered(exchange)
    fed(exchange, entry("PUT", f"Patient/{key}", {**patient, "gender": "other"}))
    exchange.pump.run_until_idle()
    fed(exchange, entry("DELETE", f"Patient/{key}"))
    exchange.pump.run_until_idle()
    assert consumer.told() == [("POST", key), ("PUT", key), ("DELETE", key)]
    for number, (headers, body) in enumerate(consumer.received, 1):
        assert headers["Content-Type"] == "application/fhir+json"
        assert headers["X-Passerelle-Delivery"] == f"{id}.{number}"
        signature = headers["X-Passerelle-Signature"]
        assert verify([secret], headers["X-Passerelle-Delivery"], body, signature, datetime.now(UTC))


@pytest.mark.parametrize("by", ["_id", "identifier", "domain", "organization"])
def test_93_5_criteria(exchange: Exchange, subscriber: Client, consumer: Consumer, by: str) -> None:
    managed = {"managingOrganization": {"reference": "Organization/org-1"}}
    key, local, patient = registered(exchange)
    other, _, other_patient = registered(exchange)
    foreign = {**patient, "identifier": [{"system": "urn:oid:2.999.2", "value": local}]}
    criteria = {
        "_id": f"_id={key}",
        "identifier": f"identifier={examples.DOMAIN}|{local}",
        "domain": f"identifier={examples.DOMAIN}|",
        "organization": "organization=org-1",
    }[by]
    subscribed(exchange, subscriber, asked(consumer, f"Patient?{criteria}"))
    fed(
        exchange,
        entry("PUT", f"Patient/{key}", {**patient, **managed}),
        entry("PUT", f"Patient/{other}", {**other_patient, "gender": "other"}),
    )
    hospital_b = exchange.client("hospital-b")
    assert hospital_b.put(f"Patient?identifier=urn:oid:2.999.2|{local}", foreign).status == 201
    exchange.pump.run_until_idle()
    expected = {key, other} if by == "domain" else {key}
    assert {id for _, id in consumer.told()} == expected


def test_93_5_sources_are_told_that_records_are_one_person(
    exchange: Exchange, subscriber: Client, consumer: Consumer
) -> None:
    key, _, patient = registered(exchange)
    other_key, other, _ = registered(exchange)
    subscribed(exchange, subscriber, asked(consumer, f"Patient?_id={other_key}"))
    survivor = {"identifier": {"system": examples.DOMAIN, "value": other}}
    fed(exchange, entry("PUT", f"Patient/{key}", {**patient, **replaced_by(survivor)}))
    exchange.pump.run_until_idle()
    assert consumer.told() == [("PUT", other_key)]


def test_93_5_a_third_party_gets_no_unverified_national_identifier(
    exchange: Exchange, subscriber: Client, consumer: Consumer
) -> None:
    local, patient = examples.patient(5)
    text = json.dumps(patient).replace('"QUAL"', '"VALI"')
    subscribed(exchange, subscriber, asked(consumer))
    place = f"Patient?identifier={examples.DOMAIN}|{local}"
    assert exchange.client("hospital-a").put(place, json.loads(text)).status == 201
    exchange.pump.run_until_idle()
    (body,) = [body.decode() for _, body in consumer.received]
    assert examples.ins(5).partition("|")[2] not in body
    assert local in body


def test_93_5_a_feed_in_xml(exchange: Exchange, subscriber: Client, consumer: Consumer) -> None:
    subscribed(exchange, subscriber, asked(consumer, payload="application/fhir+xml"))
    key, _, _ = registered(exchange)
    exchange.pump.run_until_idle()
    ((headers, body),) = consumer.received
    assert headers["Content-Type"] == "application/fhir+xml"
    assert pmir.parse_feed(fhir_xml.loads(body)).entries[0].resource["id"] == key


def test_93_5_a_subscription_in_xml(exchange: Exchange, subscriber: Client, consumer: Consumer) -> None:
    xml = "application/fhir+xml"
    sent = fhir_xml.dumps(asked(consumer))
    made = subscriber.request("POST", "Subscription", sent, Content_Type=xml, Accept=xml)
    assert made.status == 201
    assert fhir_xml.loads(made.body)["criteria"] == "Patient"


def test_93_5_other_criteria_are_not_stored(exchange: Exchange, subscriber: Client, consumer: Consumer) -> None:
    for criteria in ("Patient?family=X", "Patient?_id=1&identifier=2", "Patient?active=true"):
        answer = subscriber.post("Subscription", asked(consumer, criteria))
        assert (answer.status, answer.json["issue"][0]["code"]) == (422, "not-supported")
    exchange.pump.run_until_idle()
    registered(exchange)
    exchange.pump.run_until_idle()
    assert consumer.received == []


def test_93_6_off_requested_deleted(exchange: Exchange, subscriber: Client, consumer: Consumer) -> None:
    id, _ = subscribed(exchange, subscriber, asked(consumer))
    body = subscriber.get(f"Subscription/{id}").json
    off = subscriber.put(f"Subscription/{id}", {**body, "status": "off"})
    assert (off.status, off.json["status"]) == (200, "off")
    registered(exchange)
    exchange.pump.run_until_idle()
    assert consumer.received == []
    again = subscriber.put(f"Subscription/{id}", {**off.json, "status": "requested"})
    assert (again.status, again.json["status"]) == (200, "requested")
    exchange.pump.run_until_idle()
    assert subscriber.get(f"Subscription/{id}").json["status"] == "active"
    key, _, _ = registered(exchange)
    exchange.pump.run_until_idle()
    assert consumer.told() == [("POST", key)]
    assert subscriber.request("DELETE", f"Subscription/{id}").status == 200
    registered(exchange)
    exchange.pump.run_until_idle()
    assert len(consumer.received) == 1
    assert subscriber.get(f"Subscription/{id}").status == 404


def test_93_6_what_is_asked_for_does_not_change(exchange: Exchange, subscriber: Client, consumer: Consumer) -> None:
    id, _ = subscribed(exchange, subscriber, asked(consumer))
    body = subscriber.get(f"Subscription/{id}").json
    key, _, _ = registered(exchange)
    answer = subscriber.put(f"Subscription/{id}", {**body, "criteria": f"Patient?_id={key}"})
    assert (answer.status, answer.json["issue"][0]["code"]) == (422, "not-supported")


def test_93_6_a_subscriber_in_error_is_told_why(
    exchange: Exchange, subscriber: Client, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("passerelle.notifications.delivery.MAX_DELIVERY_ATTEMPTS", 1)
    id, _ = subscribed(exchange, subscriber, asked(consumer))
    consumer.status = 500
    registered(exchange)
    exchange.pump.run_until_idle()
    body = subscriber.get(f"Subscription/{id}").json
    assert (body["status"], body["error"]) == ("error", "the endpoint did not acknowledge: status 500")
    again = subscriber.put(f"Subscription/{id}", {**body, "status": "requested"}).json
    assert again["status"] == "requested"
    assert "error" not in again


def test_93_6_the_scope_of_the_feed_is_enough(exchange: Exchange, consumer: Consumer) -> None:
    hospital_b = exchange.client("hospital-b", "ITI-94")
    id, _ = subscribed(exchange, hospital_b, asked(consumer))
    key, _, _ = registered(exchange)
    exchange.pump.run_until_idle()
    assert consumer.told() == [("POST", key)]
    body = hospital_b.get(f"Subscription/{id}").json
    assert hospital_b.put(f"Subscription/{id}", {**body, "status": "off"}).status == 200
    assert hospital_b.request("DELETE", f"Subscription/{id}").status == 200
    nobody = exchange.client("hospital-b", "ITI-104")
    assert nobody.post("Subscription", asked(consumer)).status == 403
