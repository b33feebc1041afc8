"""What the patient decides binds the next request, page 2 included (goal I4); an unreadable policy opens nothing.

A small model says what each read of a history has to find; histories are drawn from seeds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from local.gateway import Response
from passerelle import wiring
from tests import contents, examples
from tests.exchange import URL, Exchange
from tests.functions.test_control import PRACTICE, order, patient_of
from tests.functions.test_patients import register
from tests.journeys.test_crashes import partitions
from tests.journeys.test_trust_crashes import World, consent_against

STEPS = 24
SECRET = "glycémie-de-mars"
PDF = contents.pdf(3_000)


@pytest.fixture(scope="module")
def world(exchange: Exchange) -> World:
    key = str(register(exchange.client("hospital-a"), 1).json["id"])
    observed = [
        exchange.client("hospital-b").post("Observation", examples.observation(key, note=[{"text": SECRET}])).json["id"]
        for _ in range(3)
    ]
    binary = contents.published(exchange.client("hospital-b"), key, PDF)
    return World(exchange=exchange, key=key, observation=observed[0], binary=binary, event="")


def next_page(answer: Response) -> str:
    (url,) = [each["url"] for each in answer.json["link"] if each["relation"] == "next"]
    return str(url).removeprefix(f"{URL}/fhir/")


@dataclass
class Model:
    """What was decided about the practice, one decision after the other."""

    is_blocked: bool = False
    consents: set[str] = field(default_factory=set)  # that shut it out, in force

    @property
    def is_open(self) -> bool:
        return not self.is_blocked and not self.consents


def _block(world: World, model: Model, _: random.Random) -> None:
    if not model.is_blocked:
        assert order(world.patient, world.key, "block", party=PRACTICE).status == 200
        model.is_blocked = True


def _unblock(world: World, model: Model, _: random.Random) -> None:
    if model.is_blocked:
        assert order(world.patient, world.key, "unblock", party=PRACTICE).status == 200
        model.is_blocked = False


def _consent(world: World, model: Model, _: random.Random) -> None:
    answer = patient_of(world.exchange, 1).post("Consent", consent_against(world, str(PRACTICE["value"])))
    assert answer.status == 201, answer.body
    model.consents.add(answer.json["id"])


def _revoke(world: World, model: Model, drawn: random.Random) -> None:
    if model.consents:
        id = drawn.choice(sorted(model.consents))
        ended = {**consent_against(world, str(PRACTICE["value"])), "id": id, "status": "inactive"}
        answer = patient_of(world.exchange, 1).put(f"Consent/{id}", ended)
        assert answer.status == 200, answer.body
        model.consents.remove(id)


DECISIONS = (_block, _unblock, _consent, _revoke, _unblock, _revoke)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_read_sees_what_was_decided_before_it(world: World, seed: int) -> None:
    """I4, PCF-12: reads, searches, page 2 of one that began before, and contents, after each decision."""
    drawn, model = random.Random(seed), Model()
    begun = ""
    for step in range(STEPS):
        drawn.choice(DECISIONS)(world, model, drawn)
        first = world.practice.get(f"Observation?patient={world.key}&_count=2")
        assert (first.status == 200) == model.is_open, (step, model)
        if model.is_open:
            begun = next_page(first)
        reads = [f"Observation/{world.observation}", world.binary, *([begun] if begun else [])]
        for path in drawn.sample(reads, k=min(2, len(reads))):
            answer = world.practice.get(path, Accept="*/*")
            assert (answer.status == 200) == model.is_open, (step, path, model)
            assert model.is_open or (answer.status in (403, 404) and SECRET not in answer.body.decode())
    while not model.is_open:
        _unblock(world, model, drawn)
        _revoke(world, model, drawn)
    assert world.practice.get(f"Observation/{world.observation}").status == 200


# --- a policy that cannot be read -------------------------------------------------------------------------------------


@contextmanager
def throttled(world: World) -> Iterator[None]:
    """The person of the record cannot be read."""
    error = {"Error": {"Code": "ThrottlingException", "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": 400}}

    def refuse(params: dict[str, Any], **_: Any) -> Any:
        is_person = f"P#{world.key}" in str(params["body"]) and "PERSON" in str(params["body"])
        return (SimpleNamespace(status_code=400), error) if is_person else None

    events = wiring.aws("dynamodb").meta.events
    events.register("before-call.*.GetItem", refuse)
    try:
        yield
    finally:
        events.unregister("before-call.*.GetItem", refuse)


def _changed(change: Callable[[dict[str, Any]], None]) -> Callable[[World], Any]:
    @contextmanager
    def broken(world: World) -> Iterator[None]:
        of_record = next(
            each for key, each in partitions(world.exchange, "clinical").items() if key.value == f"P#{world.key}"
        )
        place = next(key for key in of_record if "PERSON" in key.value)
        whole = of_record[place]
        kept = dict(whole.attrs)
        change(of_record if change is _missing else whole.attrs)
        try:
            yield
        finally:
            whole.attrs = kept
            of_record[place] = whole

    return broken


def _missing(items: dict[str, Any]) -> None:
    del items[next(key for key in items if "PERSON" in key.value)]  # type: ignore[attr-defined]


def _without_content(attributes: dict[str, Any]) -> None:
    del attributes["c"]


def _one_bit(attributes: dict[str, Any]) -> None:
    value = attributes["c"]
    content = bytearray(value.value)
    content[40] ^= 1
    attributes["c"] = type(value)({value.type: bytes(content)})


FAILURES: dict[str, Callable[[World], Any]] = {
    "throttled": throttled,
    "missing": _changed(_missing),
    "without content": _changed(_without_content),
    "corrupt": _changed(_one_bit),
}


@pytest.mark.parametrize("name", FAILURES)
def test_without_its_policy_a_record_is_shut(world: World, name: str) -> None:
    """I4: a refusal for everybody, the patient included, and never a word of the record."""
    page = next_page(world.practice.get(f"Observation?patient={world.key}&_count=2"))
    paths = [
        f"Observation/{world.observation}",
        f"Observation/{world.observation}/_history",
        f"Observation?patient={world.key}",
        page,
        f"Patient/{world.key}/$everything",
        f"Patient/{world.key}/$summary",
        world.binary,
    ]
    found = {}
    with FAILURES[name](world):
        for client in (world.practice, world.patient):
            for path in paths:
                answer = client.get(path, Accept="*/*")
                assert SECRET not in answer.body.decode("utf-8", "replace")
                assert PDF[:40] not in answer.body
                if answer.status == 200:  # a search about somebody who is not known
                    assert name == "missing", path
                    assert "entry" not in answer.json
                else:
                    found[client.id, path] = answer.status
    assert set(found.values()) <= {"throttled": {404, 429}, "missing": {403, 404}}.get(name, {404, 500, 503}), found
    assert world.practice.get(paths[0]).status == 200
