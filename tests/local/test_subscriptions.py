"""`passerelle subscriptions`: what an operator sees of subscriptions, and makes them do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import local.subscriptions
from local.cli import app
from local.webhook import Webhook
from tests import examples
from tests.exchange import Exchange
from tests.functions.test_patients import register

BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"

Command = Callable[..., Result]


@pytest.fixture
def passerelle(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command while the exchange works: whoever waits lets it."""
    monkeypatch.setattr(local.subscriptions, "sleep", lambda _: exchange.pump.run_until_idle())

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["subscriptions", *arguments], env={"COLUMNS": "240", "TERM": "dumb"})

    return run


def places(exchange: Exchange, *names: str) -> list[str]:
    environment = exchange.stack.environment
    queue = environment["DELIVERIES_QUEUE_URL"]
    sqs = exchange.stack.client("sqs")
    dead = next(url for url in sqs.list_queues()["QueueUrls"] if "DeliveriesDead" in url)
    given = {"--table": environment["OPERATIONS_TABLE"], "--queue": queue, "--dead": dead}
    return [part for name in names for part in (name, given[name])]


def subscribe(exchange: Exchange, endpoint: str, *, patient: str = "") -> dict[str, Any]:
    content = {"extension": [{"url": BACKPORT + "backport-payload-content", "valueCode": "id-only"}]}
    narrowed = {"extension": [{"url": BACKPORT + "backport-filter-criteria", "valueString": f"?patient={patient}"}]}
    made = exchange.client("practice").post(
        "Subscription",
        {
            "resourceType": "Subscription",
            "status": "requested",
            "reason": "care",
            "criteria": "https://passerelle.example/SubscriptionTopic/record-changed",
            **({"_criteria": narrowed} if patient else {}),
            "channel": {
                "type": "rest-hook",
                "endpoint": endpoint,
                "payload": "application/fhir+json",
                "_payload": content,
            },
        },
    )
    assert made.status == 201, made.body
    exchange.pump.run_until_idle()
    found: dict[str, Any] = made.json
    return found


def test_what_it_shows_tells_nobody_whom_it_is_about(exchange: Exchange, passerelle: Command) -> None:
    key = register(exchange.client("hospital-a"), 3).json["id"]
    with Webhook() as webhook:
        open_, sealed = subscribe(exchange, webhook.url), subscribe(exchange, webhook.url, patient=key)
    shown = passerelle("list", *places(exchange, "--table"))
    assert shown.exit_code == 0, shown.output
    rows = {line.split("│")[1].strip(): line for line in shown.output.splitlines() if line.startswith("│")}
    assert "active" in rows[open_["id"]]
    assert "practice" in rows[open_["id"]]
    assert "127.0.0.1" in rows[open_["id"]]
    assert "sealed" in rows[sealed["id"]]
    assert key not in shown.output
    assert webhook.url not in shown.output
    assert open_["id"] not in passerelle("list", "--status", "error", *places(exchange, "--table")).output


def test_what_was_told_is_told_again_under_the_same_numbers(exchange: Exchange, passerelle: Command) -> None:
    key, practice = register(exchange.client("hospital-a"), 4).json["id"], exchange.client("practice")
    with Webhook() as webhook:
        id = subscribe(exchange, webhook.url, patient=key)["id"]
        for _ in range(3):
            assert practice.post("Observation", examples.observation(key)).status == 201
        exchange.pump.run_until_idle()
        assert webhook.numbers() == [1, 2, 3]
        given = places(exchange, "--table", "--queue")
        assert passerelle("replay", id, "--since", "2", *given).exit_code == 0
        exchange.pump.run_until_idle()
        assert webhook.numbers() == [1, 2, 3, 2, 3]
        assert passerelle("replay", id, "--since", "4", *given).exit_code == 1
        tried = passerelle("test", id, *given)
        assert (tried.exit_code, tried.output.split(",")[0]) == (0, "active")


def test_an_endpoint_that_does_not_answer_is_found_out(
    exchange: Exchange, passerelle: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, practice = register(exchange.client("hospital-a"), 5).json["id"], exchange.client("practice")
    with Webhook() as webhook:
        id = subscribe(exchange, webhook.url, patient=key)["id"]
    assert practice.post("Observation", examples.observation(key)).status == 201
    tried = passerelle("test", id, *places(exchange, "--table", "--queue"))
    assert tried.exit_code == 1
    assert "told 0 of 1, 1 failures" in tried.output
    assert passerelle("test", "01hr0000000000000000000000", *places(exchange, "--table", "--queue")).exit_code == 2


def test_dead_letters_are_put_back(exchange: Exchange, passerelle: Command) -> None:
    sqs = exchange.stack.client("sqs")
    _, queue, _, dead = places(exchange, "--queue", "--dead")
    for number in range(12):
        sqs.send_message(
            QueueUrl=dead,
            MessageBody='{"subscription": "01hr0000000000000000000000"}',
            MessageGroupId="gone",
            MessageDeduplicationId=str(number),
        )
    moved = passerelle("redrive", "--queue", queue, "--dead", dead)
    assert (moved.exit_code, moved.output) == (0, "moved 12\n")
    served = 0
    while fed := exchange.pump.run_until_idle():
        served += fed  # of a subscription that is deleted: there is nothing to do
    assert served >= 12
    assert passerelle("redrive", "--queue", queue, "--dead", dead).output == "moved 0\n"
