"""Who listens to what happens to a record, what it was told, and how patients let it in and out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from local.region import IDNST, PARTICIPANTS
from tests.exchange import Client, Exchange, PumpedWebhook
from tests.functions.test_control import done, patient_of, subscription
from tests.functions.test_patients import register

OF = {each.id: each for each in PARTICIPANTS}


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


@pytest.fixture(scope="module")
def nurse(exchange: Exchange) -> Client:
    return exchange.client("nurse")


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    """People of the synthetic region; person 1 has an application of its own."""
    return itertools.count(2)


@pytest.fixture
def number(numbers: Iterator[int]) -> int:
    return next(numbers)


@pytest.fixture
def key(hospital: Client, number: int) -> str:
    return str(register(hospital, number).json["id"])


@pytest.fixture(scope="module")
def webhook(exchange: Exchange) -> Iterator[PumpedWebhook]:
    """Where all subscriptions of a module are told."""
    with PumpedWebhook(exchange.pump) as listening:
        yield listening


class Ear:
    """A subscription, and what it was told."""

    def __init__(self, client: Client, webhook: PumpedWebhook, topic: str, criteria: str = "") -> None:
        answer = client.post("Subscription", subscription(webhook.url, topic, criteria))
        assert answer.status == 201, answer.body
        self.client, self.webhook, self.id = client, webhook, str(answer.json["id"])

    def heard(self) -> list[str]:
        """The focus of each event that arrived, in the order of their numbers; empty for one without."""
        self.client.exchange.pump.run_until_idle()
        told: dict[int, str] = {}
        for bundle in self.webhook._bundles:
            status = {each["name"]: each for each in bundle["entry"][0]["resource"]["parameter"]}
            if not status["subscription"]["valueReference"]["reference"].endswith(self.id):
                continue
            for event in (each for each in bundle["entry"][0]["resource"]["parameter"] if "part" in each):
                parts = {each["name"]: each for each in event["part"]}
                focus = parts.get("focus", {}).get("valueReference", {}).get("reference", "")
                told[int(parts["event-number"]["valueString"])] = "/".join(focus.split("/")[-2:])
        assert sorted(told) == list(range(1, len(told) + 1)), "numbers have a gap"
        return [told[each] for each in sorted(told)]

    def caught_up(self) -> str:
        """What the subscriber reads of the log now."""
        answer = self.client.get(f"Subscription/{self.id}/$events?eventsSinceNumber=1&eventsUntilNumber=99")
        assert answer.status == 200, answer.body
        return answer.body.decode()


@contextmanager
def held_back(exchange: Exchange) -> Iterator[None]:
    """Events are numbered, and nothing is sent, until this is left."""
    queues = exchange.pump._queues
    exchange.pump._queues = [each for each in queues if not (each.source.queue_url or "").endswith(".fifo")]
    try:
        yield
    finally:
        exchange.pump._queues = queues


def condition(key: str, text: str = "x") -> dict[str, Any]:
    return {"resourceType": "Condition", "subject": {"reference": f"Patient/{key}"}, "code": {"text": text}}


def stored(client: Client, resource: dict[str, Any]) -> str:
    answer = client.post(resource["resourceType"], resource)
    assert answer.status == 201, answer.body
    return f"{resource['resourceType']}/{answer.json['id']}"


def revised(client: Client, place: str, resource: dict[str, Any]) -> None:
    answer = client.put(place, {**resource, "id": place.partition("/")[2]})
    assert answer.status == 200, answer.body


def into_the_circle(exchange: Exchange, number: int, key: str, participant: str) -> None:
    """The patient lets a structure in."""
    _decided(exchange, number, key, "authorize-access", participant)


def out_of_the_circle(exchange: Exchange, number: int, key: str, participant: str) -> None:
    _decided(exchange, number, key, "end-access", participant)


def blocked(exchange: Exchange, number: int, key: str, participant: str) -> None:
    _decided(exchange, number, key, "block", participant)


def _decided(exchange: Exchange, number: int, key: str, operation: str, participant: str) -> None:
    party = {"system": IDNST, "value": OF[participant].organisation}
    done(patient_of(exchange, number), key, operation, party=party)
