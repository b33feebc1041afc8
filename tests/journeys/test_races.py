"""Many writers at once, as threads over HTTP: one effect where there may be one, none lost where there may be many.

A client that meets others is never told to come again later.
"""

from __future__ import annotations

import uuid
from collections import Counter
from typing import Any

import httpx
import pytest

from local.exchange import ExchangeClient
from tests import examples
from tests.stack_process import Running, at_once

MANY = 64


@pytest.fixture
def client(running: Running) -> ExchangeClient:
    made = running.client("practice")
    made.token()
    return made


def statuses(answers: list[httpx.Response]) -> dict[int, int]:
    return dict(Counter(answer.status_code for answer in answers))


def identified(person: str, value: str, **changed: Any) -> dict[str, Any]:
    return examples.observation(person, identifier=[{"system": "urn:race", "value": value}], **changed)


def entries(client: ExchangeClient, path: str) -> list[dict[str, Any]]:
    found = client.request("GET", path)
    assert found.status_code == 200, found.text
    return [entry["resource"] for entry in found.json().get("entry", [])]


@pytest.mark.parametrize("_round", range(2))
def test_one_of_many_conditional_creates_creates(client: ExchangeClient, person: str, _round: int) -> None:
    value = str(uuid.uuid4())
    condition = {"If-None-Exist": f"patient={person}&identifier=urn:race|{value}"}
    content = identified(person, value)
    answers = at_once(MANY, lambda _: client.request("POST", "Observation", json=content, headers=condition))
    assert statuses(answers) == {201: 1, 200: MANY - 1}
    (id,) = {answer.json()["id"] for answer in answers}
    found = entries(client, f"Observation?patient={person}&identifier=urn:race|{value}")
    assert [each["id"] for each in found] == [id]


def test_one_of_many_conditional_creates_of_a_shared_resource_creates(client: ExchangeClient) -> None:
    value = str(uuid.uuid4())
    content = {
        "resourceType": "Organization",
        "name": "Course",
        "identifier": [{"system": "urn:race", "value": value}],
    }
    condition = {"If-None-Exist": f"identifier=urn:race|{value}"}
    answers = at_once(MANY, lambda _: client.request("POST", "Organization", json=content, headers=condition))
    assert statuses(answers) == {201: 1, 200: MANY - 1}
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_conditional_updates_at_once_revise_one_resource(client: ExchangeClient, person: str) -> None:
    value = str(uuid.uuid4())
    place = f"Observation?patient={person}&identifier=urn:race|{value}"
    answers = at_once(16, lambda n: client.request("PUT", place, json=identified(person, value, code={"text": str(n)})))
    assert statuses(answers) == {201: 1, 200: 15}
    assert len({answer.json()["id"] for answer in answers}) == 1
    versions = [int(answer.json()["meta"]["versionId"]) for answer in answers]
    assert sorted(versions) == list(range(1, 17))
    (now,) = entries(client, place)
    assert now["code"]["text"] == str(versions.index(16))


def test_one_of_many_updates_of_a_version_wins(client: ExchangeClient, person: str) -> None:
    id = client.request("POST", "Observation", json=examples.observation(person)).json()["id"]

    def update(number: int) -> httpx.Response:
        content = examples.observation(person, id=id, code={"text": str(number)})
        return client.request("PUT", f"Observation/{id}", json=content, headers={"If-Match": 'W/"1"'})

    answers = at_once(MANY, update)
    assert statuses(answers) == {200: 1, 412: MANY - 1}
    winner = next(n for n, answer in enumerate(answers) if answer.status_code == 200)
    now = client.request("GET", f"Observation/{id}").json()
    assert (now["code"]["text"], now["meta"]["versionId"]) == (str(winner), "2")


def test_no_patch_is_lost(client: ExchangeClient, person: str) -> None:
    """Each adds to the same list, and names no version."""
    made = client.request("POST", "Observation", json=examples.observation(person, note=[{"text": "0"}])).json()
    place = f"Observation/{made['id']}"

    def add(number: int) -> httpx.Response:
        patch = [{"op": "add", "path": "/note/-", "value": {"text": str(number + 1)}}]
        headers = {"Content-Type": "application/json-patch+json"}
        return client.request("PATCH", place, json=patch, headers=headers)

    count = 32
    answers = at_once(count, add)
    assert statuses(answers) == {200: count}
    now = client.request("GET", place).json()
    assert sorted(int(note["text"]) for note in now["note"]) == list(range(count + 1))
    assert now["meta"]["versionId"] == str(count + 1)
    history = client.request("GET", f"{place}/_history?_count=100").json()
    assert [len(entry["resource"]["note"]) for entry in history["entry"]] == list(range(count + 1, 0, -1))


def test_one_of_many_claims_of_an_id_creates(client: ExchangeClient, person: str) -> None:
    id = f"race-{uuid.uuid4()}"

    def claim(number: int) -> httpx.Response:
        content = examples.observation(person, id=id, code={"text": str(number)})
        return client.request("PUT", f"Observation/{id}", json=content)

    answers = at_once(MANY, claim)
    counted = statuses(answers)
    assert counted.pop(201) == 1
    assert set(counted) <= {200, 412}  # the others revise it, or were overtaken
    versions = [int(each.json()["meta"]["versionId"]) for each in answers if each.status_code < 300]
    assert sorted(versions) == list(range(1, len(versions) + 1))
    now = client.request("GET", f"Observation/{id}").json()
    assert now["meta"]["versionId"] == str(len(versions))


def test_transactions_at_once_on_the_same_resources(client: ExchangeClient, person: str) -> None:
    """Large ones, that meet each other's unfinished work: each as a whole, one after the other."""
    ids = [f"race-{uuid.uuid4()}" for _ in range(27)]  # moved to another date: more than a hundred items

    def transact(number: int) -> httpx.Response:
        moved = {"effectiveDateTime": f"2026-04-{number + 1:02d}", "code": {"text": str(number)}}
        entries = [
            {
                "resource": examples.observation(person, id=id, **moved),
                "request": {"method": "PUT", "url": f"Observation/{id}"},
            }
            for id in (ids if number % 2 else reversed(ids))
        ]
        return client.request("POST", "", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})

    assert transact(0).status_code == 200
    answers = at_once(3, lambda n: transact(n + 1))
    done = [answer for answer in answers if answer.status_code == 200]
    assert done
    assert set(statuses(answers)) <= {200, 412}, [answer.text for answer in answers]
    found = entries(client, f"Observation?patient={person}&date=2026-04&_id={','.join(ids)}&_count=100")
    assert len(found) == len(ids)
    assert len({(each["code"]["text"], each["meta"]["versionId"]) for each in found}) == 1
    assert found[0]["meta"]["versionId"] == str(len(done) + 1)


def test_the_same_request_sent_at_once_is_done_once(client: ExchangeClient, person: str) -> None:
    code = {"coding": [{"system": "urn:race", "code": str(uuid.uuid4())}]}
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    content = examples.observation(person, code=code)
    answers = at_once(16, lambda _: client.request("POST", "Observation", json=content, headers=headers))
    assert statuses(answers) == {201: 16}
    assert len({answer.json()["id"] for answer in answers}) == 1
    found = entries(client, f"Observation?patient={person}&code=urn:race|{code['coding'][0]['code']}")
    assert len(found) == 1
