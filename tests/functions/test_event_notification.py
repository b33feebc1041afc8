"""Events declared and orders to notify, by the ANS guide Notification d'evenements (NDE-1 to NDE-9)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from passerelle.fhir.nde import EXTENSIONS
from tests import examples
from tests.exchange import Client, Exchange, PumpedWebhook
from tests.functions.test_patients import register

TYPES = "https://mos.esante.gouv.fr/NOS/TRE_R254-TypeEvenement/FHIR/TRE-R254-TypeEvenement"
LOCAL, _ = examples.patient(17)
PATIENT = {
    "resourceType": "Patient",
    "id": "pat1",
    "identifier": [
        {"system": "urn:oid:2.999.404", "value": "nobody's"},
        {"system": examples.DOMAIN, "value": LOCAL},
    ],
}
ORGANISATION = {
    "resourceType": "Organization",
    "id": "org1",
    "identifier": [{"system": "urn:oid:2.999.7", "value": "1"}],
}
PRACTITIONER = {
    "resourceType": "Practitioner",
    "id": "pract1",
    "identifier": [{"system": "https://rpps.esante.gouv.fr", "value": "10000000000"}],
}

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def key(exchange: Exchange) -> str:
    return str(register(exchange.client("hospital-a"), 17).json["id"])


@pytest.fixture(scope="module")
def hospital(exchange: Exchange, key: str) -> Client:
    return exchange.client("hospital-a")


def extension(name: str, **value: Any) -> dict[str, Any]:
    return {"url": EXTENSIONS + name, **value}


def typed(code: str) -> dict[str, Any]:
    return extension("event-type", valueCodeableConcept={"coding": [{"system": TYPES, "code": code}]})


def declaration(code: str = "SOR", at: str = "2026-03-01T10:00:00+01:00") -> dict[str, Any]:
    """Flow 3: somebody left the hospital."""
    return {
        "resourceType": "CommunicationRequest",
        "contained": [copy.deepcopy(PATIENT), copy.deepcopy(ORGANISATION)],
        "extension": [extension("event-time", valueDateTime=at), typed(code)],
        "status": "active",
        "subject": {"reference": "#pat1"},
        "requester": {"reference": "#org1"},
        "payload": [{"contentString": "Sortie"}],
    }


def order(subscription: str, endpoint: str) -> dict[str, Any]:
    """Flow 4."""
    recipient = {
        "extension": [extension("recipient-endpoint", valueUrl=endpoint)],
        "reference": "#pract1",
    }
    return declaration() | {
        "contained": [copy.deepcopy(each) for each in (PATIENT, ORGANISATION, PRACTITIONER)],
        "basedOn": [{"reference": f"Subscription/{subscription}"}],
        "medium": [{"text": "rest-hook"}],
        "recipient": [recipient],
    }


def test_nde_5_an_event_is_stored_and_answered_as_it_was_received(hospital: Client, key: str) -> None:
    sent = declaration()
    created = hospital.post("CommunicationRequest", sent)
    assert created.status == 201
    kept = {name: value for name, value in created.json.items() if name not in ("id", "meta")}
    assert kept == sent
    read = hospital.get(f"CommunicationRequest/{created.json['id']}")
    assert (read.status, read.json) == (200, created.json)
    found = hospital.get(f"CommunicationRequest?patient={key}&event-type={TYPES}|SOR")
    assert created.json["id"] in [entry["resource"]["id"] for entry in found.json["entry"]]
    assert hospital.get(f"CommunicationRequest?patient={key}&event-type=ADM").json["total"] == 0


def without(name: str) -> Change:
    return lambda resource: resource.pop(name)


def without_extension(name: str) -> Change:
    def change(resource: dict[str, Any]) -> None:
        resource["extension"] = [each for each in resource["extension"] if each["url"] != EXTENSIONS + name]

    return change


def with_values(**values: Any) -> Change:
    return lambda resource: resource.update(values)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param(with_values(about=[{"reference": "#org1"}]), "invariant", id="NDE-6 about"),
        pytest.param(without("subject"), "required", id="NDE-6 no subject"),
        pytest.param(
            with_values(payload=[{"contentString": "a"}, {"contentString": "b"}]), "invariant", id="NDE-6 two"
        ),
        pytest.param(without_extension("event-time"), "required", id="NDE-6 no event-time"),
        pytest.param(without("payload"), "required", id="no payload"),
        pytest.param(without("requester"), "required", id="no requester"),
        pytest.param(
            with_values(extension=[extension("event-time", valueDateTime="2026-03-01"), typed("XXX")]),
            "code-invalid",
            id="unknown type",
        ),
        pytest.param(lambda each: each["extension"].append(typed("ADM")), "invariant", id="two types"),
        pytest.param(with_values(subject={"reference": "#other"}), "invariant", id="nobody contained"),
        pytest.param(
            with_values(contained=[{"resourceType": "Patient", "id": "pat1"}, ORGANISATION]),
            "required",
            id="somebody without identifier",
        ),
    ],
)
def test_nde_6_what_is_no_event_is_refused(hospital: Client, key: str, change: Change, code: str) -> None:
    before = hospital.get(f"CommunicationRequest?patient={key}&_summary=count").json["total"]
    sent = declaration()
    change(sent)
    refused = hospital.post("CommunicationRequest", sent)
    assert (refused.status, refused.json["issue"][0]["code"]) == (422, code)
    assert hospital.get(f"CommunicationRequest?patient={key}&_summary=count").json["total"] == before


def test_somebody_who_is_not_known_has_no_events(hospital: Client) -> None:
    sent = declaration()
    sent["contained"][0]["identifier"] = [{"system": examples.DOMAIN, "value": "never-registered"}]
    refused = hospital.post("CommunicationRequest", sent)
    assert (refused.status, refused.json["issue"][0]["code"]) == (422, "not-found")
    assert "never-registered" not in refused.body.decode()


def test_another_communication_request_is_a_resource_like_any_other(hospital: Client, key: str) -> None:
    plain = {"resourceType": "CommunicationRequest", "status": "active", "subject": {"reference": f"Patient/{key}"}}
    assert hospital.post("CommunicationRequest", plain).status == 201


# --- subscriptions ----------------------------------------------------------------------------------------------------


def subscription(endpoint: str, code: str = "SOR", **changes: Any) -> dict[str, Any]:
    """Flow 1: to be told when somebody leaves the hospital."""
    return {
        "resourceType": "Subscription",
        "contained": [copy.deepcopy(each) for each in (PATIENT, ORGANISATION, PRACTITIONER)],
        "extension": [
            extension("subscription-date", valueDateTime="2026-01-01"),
            extension("start", valueDateTime="2026-02-01T00:00:00+01:00"),
            extension("subject", valueReference={"reference": "#pat1"}),
            extension("declarant", valueReference={"reference": "#org1"}),
            typed(code),
            extension("subscriber", valueReference={"reference": "#pract1"}),
        ],
        "status": "requested",
        "reason": "sorties",
        "criteria": f"CommunicationRequest?event-type={code}",
        "channel": {"type": "rest-hook", "endpoint": endpoint},
    } | changes


@pytest.mark.parametrize(
    "channel",
    [{"type": "rest-hook", "endpoint": "https://hooks.example/nde"}],
)
def test_nde_1_to_4_a_subscription_from_its_beginning_to_its_end(
    exchange: Exchange, key: str, channel: dict[str, str]
) -> None:
    practice = exchange.client("practice")
    sent = subscription("", channel=channel)
    created = practice.post("Subscription", sent)
    assert (created.status, created.json["contained"]) == (201, sent["contained"])
    place = f"Subscription/{created.json['id']}"
    longer = {**sent, "id": created.json["id"], "end": "2030-01-01T00:00:00Z"}
    revised = practice.put(place, longer)
    assert (revised.status, revised.json["end"]) == (200, longer["end"])
    wrong = practice.put(place, {**longer, "id": "another"})
    assert (wrong.status, wrong.json["issue"][0]["code"]) == (400, "invariant")
    assert exchange.client("hospital-a").request("DELETE", place).status == 404
    ended = practice.request("DELETE", place)
    assert (ended.status, ended.json["resourceType"]) == (200, "OperationOutcome")
    assert practice.request("DELETE", "Subscription/01hr0000000000000000000000").status == 404


@pytest.mark.parametrize(
    ("change", "code"),
    [
        *(
            pytest.param(without_extension(name), "required", id=f"NDE-2 no {name}")
            for name in ("start", "subject", "declarant", "event-type", "subscriber")
        ),
        pytest.param(without("contained"), "invariant", id="NDE-2 nothing contained"),
        pytest.param(
            lambda each: each.update(
                extension=[*(e for e in each["extension"] if "event-type" not in e["url"]), typed("XXX")]
            ),
            "code-invalid",
            id="NDE-2 type",
        ),
        pytest.param(with_values(criteria="CommunicationRequest?event-type=ADM"), "invariant", id="NDE-2 criteria"),
        pytest.param(
            with_values(criteria="CommunicationRequest?event-type=SOR&patient.identifier=urn:oid:2.999.1|other"),
            "invariant",
            id="somebody else",
        ),
        pytest.param(with_values(criteria="CommunicationRequest?status=active"), "invariant", id="other criteria"),
        pytest.param(
            lambda each: each["channel"].update(type="sms", endpoint="tel:+33600000000"), "not-supported", id="channel"
        ),
        pytest.param(
            lambda each: each["channel"].update(endpoint="http://169.254.169.254/"), "not-supported", id="endpoint"
        ),
        pytest.param(
            lambda each: each["contained"][0].update(identifier=[{"system": "urn:oid:2.999.404", "value": "nobody's"}]),
            "not-found",
            id="nobody",
        ),
    ],
)
def test_nde_2_what_is_no_subscription_is_not_stored(exchange: Exchange, key: str, change: Change, code: str) -> None:
    practice = exchange.client("practice")
    sent = subscription("https://hooks.example/nde")
    change(sent)
    refused = practice.post("Subscription", sent)
    assert (refused.status, refused.json["issue"][0]["code"]) == (422, code)


def orders(webhook: PumpedWebhook) -> list[dict[str, Any]]:
    return [each for each in webhook.received if each["resourceType"] == "CommunicationRequest"]


def test_nde_7_and_8_an_event_becomes_one_order_for_who_asked_for_it(exchange: Exchange, key: str) -> None:
    hospital, practice = exchange.client("hospital-a"), exchange.client("practice")
    register(hospital, 16)
    other = examples.patient(16)[0]
    with PumpedWebhook(exchange.pump) as webhook:
        created = practice.post("Subscription", subscription(webhook.url, end="2027-01-01T00:00:00Z"))
        webhook.secret = created.header("X-Passerelle-Webhook-Secret")
        id = created.json["id"]
        exchange.pump.run_until_idle()
        assert practice.get(f"Subscription/{id}").json["status"] == "active"
        about_other = declaration()
        about_other["contained"][0]["identifier"] = [{"system": examples.DOMAIN, "value": other}]
        by_another = declaration()
        by_another["contained"][1]["identifier"][0]["value"] = "2"
        for told_to_nobody in (
            declaration(at="2026-01-30"),  # before the start
            declaration(at="2027-01-02"),  # after the end
            declaration("ADM"),
            about_other,
            by_another,
        ):
            assert hospital.post("CommunicationRequest", told_to_nobody).status == 201
        declared = hospital.post("CommunicationRequest", declaration())
        exchange.pump.run_until_idle()
        (told,) = orders(webhook)
        assert told["basedOn"][0]["reference"].endswith(f"/fhir/Subscription/{id}")
        values = {each["url"].removeprefix(EXTENSIONS): each for each in told["extension"]}
        assert values["event-time"]["valueDateTime"] == "2026-03-01T10:00:00+01:00"
        assert values["event-emission-time"]["valueDateTime"] == declared.json["meta"]["lastUpdated"]
        (recipient,) = told["recipient"]
        assert recipient["extension"] == [extension("recipient-endpoint", valueUrl=webhook.url)]
        contained = {each["id"]: each for each in told["contained"]}
        assert contained[recipient["reference"].removeprefix("#")]["identifier"] == PRACTITIONER["identifier"]
        assert contained["pat1"] == PATIENT
        assert told["payload"] == declaration()["payload"]

        for token in ("SOR", f"{TYPES}|SOR"):
            found = practice.get(f"CommunicationRequest?event-type={token}")  # NDE-9
            assert [entry["resource"]["id"] for entry in found.json["entry"]] == [declared.json["id"]]
        assert practice.get("CommunicationRequest?event-type=ADM").json["total"] == 0
        assert hospital.get("CommunicationRequest?event-type=SOR").json["total"] == 0

        # Flow 4 by somebody who keeps subscriptions elsewhere: queued for the same endpoint, and no other.
        given = order(id, webhook.url)
        assert practice.post("CommunicationRequest", given).status == 201
        exchange.pump.run_until_idle()
        assert len(orders(webhook)) == 2
        for wrong, code in (
            (order("01hr0000000000000000000000", webhook.url), "not-found"),
            (order(id, "https://elsewhere.example/"), "invariant"),
            ({**given, "recipient": [{"reference": "#pract1"}]}, "required"),
            ({**given, "medium": []}, None),
        ):
            refused = practice.post("CommunicationRequest", wrong)
            assert refused.status == (422 if code else 400)
            assert code in (None, refused.json["issue"][0]["code"])
        stranger = hospital.post("CommunicationRequest", given)
        assert (stranger.status, stranger.json["issue"][0]["code"]) == (422, "not-found")
        practice.request("DELETE", f"Subscription/{id}")
        assert hospital.post("CommunicationRequest", declaration()).status == 201
        exchange.pump.run_until_idle()
        assert len(orders(webhook)) == 2
