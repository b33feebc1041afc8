"""Who tries to be told more than others would read, or to have others troubled (SUB-10, NDE-5 to NDE-8)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from local import samples
from passerelle import wiring
from passerelle.access import Scopes
from passerelle.authorization.model import Client as Registration
from passerelle.directory.model import Role
from passerelle.notifications import service
from passerelle.prescriptions.validity import paris_day
from tests import examples
from tests.documents import changed, joined, published, relabel
from tests.exchange import Client, Exchange, PumpedWebhook
from tests.functions import test_event_notification as nde
from tests.functions.listening import (
    OF,
    Ear,
    condition,
    held_back,
    hospital,
    into_the_circle,
    key,
    number,
    numbers,
    nurse,
    out_of_the_circle,
    stored,
    webhook,
)
from tests.functions.test_control import done, ins, proxy_of, refusal, subscription
from tests.functions.test_patients import register

__all__ = ["hospital", "key", "number", "numbers", "nurse", "webhook"]
JSON_PATCH = {"Content_Type": "application/json-patch+json"}


@pytest.fixture(scope="module")
def practice(exchange: Exchange) -> Client:
    return exchange.client("practice")


# --- between event and delivery ---------------------------------------------------------------------------------------


def test_sub_10_a_care_relation_that_ends_between_event_and_delivery(
    exchange: Exchange, webhook: PumpedWebhook, hospital: Client, nurse: Client, number: int, key: str
) -> None:
    """What holds for all would still let it read; it is not meant any more. Who names the patient still is."""
    into_the_circle(exchange, number, key, "nurse")
    of_all, naming = (
        Ear(nurse, webhook, "record-changed"),
        Ear(nurse, webhook, "record-changed", f"?patient=Patient/{key}"),
    )
    own = Ear(hospital, webhook, "record-changed")
    exchange.pump.run_until_idle()
    with held_back(exchange):
        place = stored(hospital, condition(key))
        exchange.pump.run_until_idle()
        assert place in of_all.caught_up()
        out_of_the_circle(exchange, number, key, "nurse")
        assert place not in of_all.caught_up()
    assert of_all.heard() == [""]
    assert naming.heard() == [place]
    assert place in own.heard()


def test_sub_10_a_mandate_that_ends_between_event_and_delivery(
    exchange: Exchange, webhook: PumpedWebhook, hospital: Client, practice: Client
) -> None:
    wiring.clients().register(
        Registration(
            id="patient-app",
            organisation="1990000999",
            role=Role.PATIENT,
            scopes=Scopes.parse("system/*.cruds"),
            jwks=(),
            providers=("national",),
        )
    )
    child = str(register(hospital, 20).json["id"])
    mother = proxy_of(exchange, 20, 4)
    done(practice, child, "appoint-proxy", holder=ins(4), kind="parent", consent=True)
    ear = Ear(mother, webhook, "record-changed", f"?patient=Patient/{child}")
    first = stored(hospital, condition(child))
    assert ear.heard() == [first]
    with held_back(exchange):
        stored(hospital, condition(child))
        exchange.pump.run_until_idle()
        done(mother, child, "end-proxy")
    assert ear.heard() == [first, ""]
    stored(hospital, condition(child))
    assert ear.heard() == [first, ""]
    status = {"resourceType": "Parameters", "parameter": [{"name": "id", "valueId": ear.id}]}
    assert child not in mother.post("Subscription/$status", status).body.decode()


@pytest.mark.parametrize("changes", [{"organisation": "1990000998"}, {"role": Role.PAYER}, {"active": False}])
def test_sub_10_a_system_that_is_somebody_elses_by_now(
    exchange: Exchange, webhook: PumpedWebhook, hospital: Client, key: str, changes: dict[str, Any]
) -> None:
    """Sold to another structure, registered for something else, or switched off."""
    system = joined(exchange, "laboratory", "system/*.rs system/Subscription.crud")
    ear = Ear(system, webhook, "record-changed", f"?patient=Patient/{key}")
    first = stored(hospital, condition(key))
    assert ear.heard() == [first]
    registered = wiring.clients().find(system.id)
    assert registered is not None
    with held_back(exchange):
        stored(hospital, condition(key))
        exchange.pump.run_until_idle()
        wiring.clients().register(replace(registered, **changes))
    assert ear.heard() == [first]
    wiring.clients().register(registered)
    assert system.get(f"Subscription/{ear.id}").json["status"] == "off"


def prescribed(practice: Client, key: str) -> str:
    order = samples.prescription(key, OF["practice"].professional or "", paris_day(datetime.now(UTC)))
    answer = practice.post("Task/$create", order, Idempotency_Key=str(uuid.uuid4()))
    assert answer.status == 201, answer.body
    return str(answer.header("Location")).rpartition("/")[2]


def test_a_prescription_is_told_to_whom_it_concerns(
    exchange: Exchange, webhook: PumpedWebhook, practice: Client, nurse: Client, number: int, key: str
) -> None:
    """Whoever takes care of the patient could not read it, and is not told its id."""
    into_the_circle(exchange, number, key, "nurse")
    of_all, naming, own = (
        Ear(nurse, webhook, "anything-changed"),
        Ear(nurse, webhook, "prescription-changed", f"?patient=Patient/{key}"),
        Ear(practice, webhook, "prescription-changed"),
    )
    task = prescribed(practice, key)
    assert nurse.get(f"Task/{task}").status == 404
    assert f"Task/{task}" in own.heard()
    assert naming.heard() == []
    assert f"Task/{task}" not in of_all.heard()


# --- two worlds -------------------------------------------------------------------------------------------------------


def test_a_hidden_document_leaves_no_trace_in_what_a_subscriber_receives(
    exchange: Exchange, webhook: PumpedWebhook, hospital: Client, nurse: Client, numbers: Iterator[int]
) -> None:
    """The same steps for two people, but for a document that is hidden from who is told: the same is received."""
    heard = []
    for hidden in (True, False):
        number = next(numbers)
        key = str(register(hospital, number).json["id"])
        into_the_circle(exchange, number, key, "nurse")
        ears = [
            Ear(nurse, webhook, topic, f"?patient=Patient/{key}{more}")
            for topic, more in (
                ("anything-changed", ""),
                ("document-changed", ""),
                ("document-changed", "&happening=published,changed"),
                ("document-published", "&author=hospital-a"),
                ("record-changed", ""),
            )
        ]
        shown = published(hospital, key, "N")
        if hidden:
            document = published(hospital, key, "MASQUE_PS")
            changed(hospital, document, relabel("R", op="add", path="/securityLabel/-"))
        stored(hospital, condition(key))
        found = [[each.partition("/")[0] for each in ear.heard()] for ear in ears]
        totals = [
            next(
                part["valueString"]
                for part in nurse.get(f"Subscription/{ear.id}/$status").json["entry"][0]["resource"]["parameter"]
                if part["name"] == "events-since-subscription-start"
            )
            for ear in ears
        ]
        heard.append((found, totals))
        assert all(shown["id"] in ear.caught_up() for ear in ears[:4])
    assert heard[0] == heard[1]


# --- declared events --------------------------------------------------------------------------------------------------


@pytest.fixture
def victim(exchange: Exchange, webhook: PumpedWebhook, practice: Client, hospital: Client) -> Iterator[str]:
    """Somebody's subscription to declared events about a person."""
    register(hospital, 17)
    made = practice.post("Subscription", nde.subscription(webhook.url))
    assert made.status == 201, made.body
    exchange.pump.run_until_idle()
    yield str(made.json["id"])
    practice.request("DELETE", f"Subscription/{made.json['id']}")


def forged(victim: str, url: str, key: str) -> dict[str, Any]:
    """An order for somebody else's subscription, that says whose record it is as other resources do."""
    return {**nde.order(victim, url), "subject": {"reference": f"Patient/{key}"}}


def bundled(kind: str, method: str, place: str, resource: dict[str, Any]) -> dict[str, Any]:
    entry = {"resource": resource, "request": {"method": method, "url": place}}
    return {"resourceType": "Bundle", "type": kind, "entry": [entry]}


def test_an_order_for_somebody_elses_subscription_by_any_way(
    exchange: Exchange, webhook: PumpedWebhook, hospital: Client, victim: str
) -> None:
    key = str(register(hospital, 17).json["id"])
    place = "CommunicationRequest?identifier=urn:oid:2.999.1.9|forged"
    named = {"identifier": [{"system": "urn:oid:2.999.1.9", "value": "forged"}]}
    plain = {
        "resourceType": "CommunicationRequest",
        "status": "active",
        "subject": {"reference": f"Patient/{key}"},
        "payload": [{"contentString": "Sortie"}],
    }
    id = hospital.post("CommunicationRequest", plain).json["id"]
    typed = [{"op": "add", "path": "/extension", "value": [nde.typed("SOR")]}]
    based = [*typed, {"op": "add", "path": "/basedOn", "value": [{"reference": f"Subscription/{victim}"}]}]
    for order in (forged(victim, webhook.url, key), nde.order(victim, webhook.url)):
        wholes = {**order, **named}
        for refused in (
            hospital.post("CommunicationRequest", order),
            hospital.put(place, wholes),
            hospital.put(f"CommunicationRequest/{id}", {**order, "id": id}),
            hospital.post("", bundled("transaction", "POST", "CommunicationRequest", order)),
            hospital.post("", bundled("transaction", "PUT", place, wholes)),
        ):
            assert refused.status in (400, 404, 422), refused.body
        batch = hospital.post("", bundled("batch", "POST", "CommunicationRequest", order))
        assert batch.json["entry"][0]["response"]["status"].startswith("4")
    for patch in (typed, based):
        refused = hospital.request("PATCH", f"CommunicationRequest/{id}", json.dumps(patch).encode(), **JSON_PATCH)
        assert refused.status == 422, refused.body
    exchange.pump.run_until_idle()
    assert nde.orders(webhook) == []


def test_a_declaration_does_not_change(hospital: Client) -> None:
    """What was declared was told: it is withdrawn, and declared anew."""
    register(hospital, 17)
    made = hospital.post("CommunicationRequest", nde.declaration()).json
    place = f"CommunicationRequest/{made['id']}"
    other = {**made, "payload": [{"contentString": "x"}]}
    assert hospital.put(place, other).status == 422
    patch = [{"op": "replace", "path": "/payload/0/contentString", "value": "x"}]
    assert hospital.request("PATCH", place, json.dumps(patch).encode(), **JSON_PATCH).status == 422
    assert hospital.get(place).json["payload"] == made["payload"]
    assert hospital.request("DELETE", place).status in (200, 204)


def test_a_declaration_about_two_people_is_about_nobody(hospital: Client, practice: Client) -> None:
    register(hospital, 17)
    register(hospital, 16)
    other = {"system": examples.DOMAIN, "value": examples.patient(16)[0]}
    sent, asked = nde.declaration(), nde.subscription("https://hooks.example/nde")
    for each in (sent, asked):
        each["contained"][0]["identifier"].append(other)
    assert refusal(hospital.post("CommunicationRequest", sent)) == (422, "invariant")
    assert refusal(practice.post("Subscription", asked)) == (422, "invariant")


def test_a_declaration_that_is_gone_holds_nobody_up(
    exchange: Exchange, webhook: PumpedWebhook, hospital: Client, practice: Client, victim: str
) -> None:
    with held_back(exchange):
        gone = hospital.post("CommunicationRequest", nde.declaration()).json["id"]
        hospital.post("CommunicationRequest", nde.declaration())
        exchange.pump.run_until_idle()
        hospital.request("DELETE", f"CommunicationRequest/{gone}")
    before = len(nde.orders(webhook))
    exchange.pump.run_until_idle()
    assert len(nde.orders(webhook)) == before + 1
    assert practice.get(f"Subscription/{victim}").json["status"] == "active"


def test_an_order_refers_to_no_document_that_is_hidden_from_who_gets_it(
    exchange: Exchange, webhook: PumpedWebhook, hospital: Client, practice: Client, victim: str
) -> None:
    key = str(register(hospital, 17).json["id"])
    document = published(hospital, key, "N")
    changed(hospital, document, relabel("MASQUE_PS"))
    sent = nde.declaration()
    sent["payload"] = [{"contentReference": {"reference": f"DocumentReference/{document['id']}"}}]
    assert hospital.post("CommunicationRequest", sent).status == 201
    exchange.pump.run_until_idle()
    assert document["id"] not in json.dumps(webhook.received)


# --- by the number ----------------------------------------------------------------------------------------------------


def test_one_subscriber_has_so_many_subscriptions(exchange: Exchange, webhook: PumpedWebhook, nurse: Client) -> None:
    """Each event is compared with all of them: one client is not to slow down everybody's."""
    asked = subscription(webhook.url, "record-changed", "")
    owned = nurse.get("Subscription").json["total"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "MAX_OWNED", owned + 1)
        answers = [nurse.post("Subscription", asked) for _ in range(2)]
        assert [each.status for each in answers] == [201, 422]
        assert refusal(answers[1]) == (422, "too-costly")
        nurse.request("DELETE", f"Subscription/{answers[0].json['id']}")
        assert nurse.post("Subscription", asked).status == 201


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_no_table_says_who_is_waited_for(
    exchange: Exchange, webhook: PumpedWebhook, hospital: Client, practice: Client, victim: str
) -> None:
    """Neither whom declared events are asked for, nor the search of a patient feed."""
    local = "never-to-be-read-400017"
    feed = {
        "resourceType": "Subscription",
        "status": "requested",
        "contact": [{"system": "phone", "value": "+33 1 99 00 00 00"}],
        "reason": "patient administration",
        "criteria": f"Patient?identifier={examples.DOMAIN}|{local}",
        "channel": {"type": "message", "endpoint": webhook.url, "payload": "application/fhir+json"},
    }
    made = practice.post("Subscription", feed)
    assert made.status == 201, made.body
    assert practice.get(f"Subscription/{made.json['id']}").json["criteria"] == feed["criteria"]
    who = examples.patient(3)[1]
    who["identifier"] = [{**each, "value": local} for each in who["identifier"] if each["system"] == examples.DOMAIN]
    exchange.pump.run_until_idle()
    assert hospital.put(f"Patient?identifier={examples.DOMAIN}|{local}", who).status == 201
    exchange.pump.run_until_idle()
    assert "message" in [each.get("type") for each in webhook.received]
    kept = str(exchange.table("operations")) + str(exchange.table("audit"))
    for word in (local, "10000000000", "sorties"):
        assert word not in kept
