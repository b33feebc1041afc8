"""Many writers at once, as threads over HTTP: one effect where there may be one, none lost where there may be many.

A client that meets others is never told to come again later.
"""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import httpx
import pytest

from local.exchange import ExchangeClient
from passerelle.patients.identity import nir_key
from tests import examples, sources, wholeness
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


# --- identities -----------------------------------------------------------------------------------------------------

SOURCES = {
    "urn:oid:2.999.1": "hospital-a",
    "urn:oid:2.999.2": "hospital-b",
    "urn:oid:2.999.3": "practice",
    "urn:oid:2.999.4": "laboratory",
}
A, B, *_ = SOURCES
Traits = dict[str, Any]


class Index:
    """The four sources and the stewards, with clients that are signed in; and what is stored."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.opening = running.opening()
        self.clients = {domain: running.client(name) for domain, name in SOURCES.items()}
        self.steward = running.client("steward")
        for client in (*self.clients.values(), self.steward):
            client.token()

    def put(self, domain: str, local: str, **traits: Any) -> httpx.Response:
        """Register a person; of one born nowhere, `place` is left out."""
        content = sources.patient(domain, local, **traits)
        if traits.get("place") == "":
            content["extension"] = content["extension"][:1]
        return self.clients[domain].request("PUT", f"Patient?identifier={domain}|{local}", json=content)

    def key(self, domain: str, local: str, **traits: Any) -> str:
        answer = self.put(domain, local, **traits)
        assert answer.status_code in (200, 201), answer.text
        return str(answer.json()["id"])

    def decide(self, operation: str, **values: str) -> httpx.Response:
        """A steward's operation; the id of a Patient is given as `_id`, after the name."""
        told: list[dict[str, Any]] = [{"name": "reason", "valueString": "seen at the desk"}]
        for name, value in values.items():
            if name.endswith("_id"):
                reference = {"reference": f"Patient/{value}"}
                told.append({"name": name[:-3].replace("_", "-"), "valueReference": reference})
            else:
                told.append({"name": name, "valueString": value})
        body = {"resourceType": "Parameters", "parameter": told}
        return self.steward.request("POST", f"Patient/${operation}", json=body)

    def stored(self) -> list[dict[str, Any]]:
        """The items of the index, which holds together."""
        patients, clinical = self.running.items("patients"), self.running.items("clinical")
        wholeness.check_index(patients, clinical, self.opening)
        return patients


@pytest.fixture
def index(running: Running) -> Index:
    return Index(running)


def together(*attempts: Callable[[], httpx.Response]) -> list[httpx.Response]:
    return at_once(len(attempts), lambda number: attempts[number]())


def members_of(items: wholeness.Items, opening: wholeness.Opening) -> dict[str, frozenset[str]]:
    """The records of the person of each record."""
    people = wholeness.people(items, opening).values()
    return {patient: frozenset(each.members) for each in people for patient in each.members}


def are_known_to_each_other(items: wholeness.Items, keys: Sequence[str], opening: wholeness.Opening) -> bool:
    """Whether links and open questions hold these records together."""
    persons = members_of(items, opening)
    asked = [{item["first"], item["second"]} for item in items if item["PK"] == "W" and item["status"] == "open"]
    known = {keys[0]}
    while True:
        more = set().union(*(persons[each] for each in known), *(pair for pair in asked if pair & known))
        if more <= known:
            return set(keys) <= known
        known |= more


def varied(traits: Traits) -> list[Traits]:
    """The same person as four sources may write them: exactly, with a letter too few, with month and day exchanged."""
    year, month, day = traits["born"].split("-")
    return [
        traits,
        {**traits, "given": traits["given"][:3] + traits["given"][4:]},
        {**traits, "born": f"{year}-{day}-{month}"},
        {**traits, "family": traits["family"][:-1]},
    ]


def test_a_newcomer_of_four_sources_is_one_person(index: Index) -> None:
    rounds = []
    for number in range(8):
        traits = sources.newcomer(number)
        answers = together(*(partial(index.put, domain, f"same-{number}", **traits) for domain in SOURCES))
        assert statuses(answers) == {201: 4}, [answer.text for answer in answers]
        rounds.append({answer.json()["id"] for answer in answers})
    persons = members_of(index.stored(), index.opening)
    for keys in rounds:
        assert {persons[key] for key in keys} == {frozenset(keys)}


def test_a_newcomer_told_four_ways_is_not_silently_several(index: Index) -> None:
    rounds = []
    for number in range(100, 110):
        told = zip(SOURCES, varied(sources.newcomer(number)), strict=True)
        attempts = [partial(index.put, domain, f"like-{number}", **traits) for domain, traits in told]
        answers = together(*random.Random(number).sample(attempts, 4))
        assert statuses(answers) == {201: 4}, [answer.text for answer in answers]
        rounds.append([answer.json()["id"] for answer in answers])
    items = index.stored()
    for keys in rounds:
        assert are_known_to_each_other(items, keys, index.opening)


def test_two_who_enter_no_block_in_common_are_not_silently_several(index: Index) -> None:
    """One reads what the other enters, and may enter before: month and day exchanged, and nothing else is known."""
    rounds = []
    for number in range(600, 612):
        exact, _, exchanged, _ = varied(sources.newcomer(number) | {"given": "Philippine", "place": ""})
        answers = together(
            partial(index.put, A, f"date-{number}", **exact), partial(index.put, B, f"date-{number}", **exchanged)
        )
        assert statuses(answers) == {201: 2}, [answer.text for answer in answers]
        rounds.append([answer.json()["id"] for answer in answers])
    items = index.stored()
    for keys in rounds:
        assert are_known_to_each_other(items, keys, index.opening)


def test_a_new_national_identifier_of_two_sources_names_one_person(index: Index) -> None:
    """Nothing else says that they are one."""
    rounds = []
    for number in range(200, 208):
        traits = sources.newcomer(number)
        born = traits["born"]
        matricule = f"2{born[2:4]}{born[5:7]}{traits['place']}{number:03d}"
        traits["ins"] = matricule + nir_key(matricule)
        answers = together(
            partial(index.put, A, f"ins-{number}", **traits),
            partial(index.put, B, f"ins-{number}", **{**traits, "given": "Anne-Sophie"}),
        )
        assert statuses(answers) == {201: 2}, [answer.text for answer in answers]
        rounds.append({answer.json()["id"] for answer in answers})
    persons = members_of(index.stored(), index.opening)
    for keys in rounds:
        assert {persons[key] for key in keys} == {frozenset(keys)}


def test_a_question_is_answered_by_one_of_two_stewards(index: Index) -> None:
    said = ("same", "different")
    rounds = []
    for number in range(300, 306):
        traits = sources.newcomer(number)
        keys = index.key(A, f"ask-{number}", **traits), index.key(B, f"ask-{number}", **traits, gender="male")
        card = index.steward.request("GET", f"Patient/{keys[0]}/$identity").json()["parameter"]
        (question,) = [part["part"] for part in card if part["name"] == "review"]
        review = next(part["valueId"] for part in question if part["name"] == "id")
        answers = together(*(partial(index.decide, "decide", review=review, decision=each) for each in said))
        assert statuses(answers) == {200: 1, 409: 1}, [answer.text for answer in answers]
        rounds.append((*keys, review, said[0] if answers[0].status_code == 200 else said[1]))
    items = index.stored()
    persons = members_of(items, index.opening)
    for one, other, review, winner in rounds:
        assert [item["status"] for item in items if item["PK"] == "W" and item["id"] == review] == [winner]
        assert (persons[one] == persons[other]) == (winner == "same")


def test_a_merge_and_links_at_once(index: Index) -> None:
    """A link comes before, and goes with the record, or finds it out of use."""
    rounds = []
    for number in range(400, 406):
        people = [sources.newcomer(number + step) for step in (0, 1000, 2000)]
        left, kept = (index.key(A, f"merge-{number}-{n}", **people[n]) for n in (0, 1))
        other = index.key(B, f"merge-{number}", **people[2])
        merged, linked, also = together(
            partial(index.put, A, f"merge-{number}-0", **people[0], replaced_by=f"merge-{number}-1"),
            partial(index.decide, "link", first_id=left, second_id=other),
            partial(index.decide, "link", first_id=other, second_id=kept),
        )
        assert (merged.status_code, also.status_code) == (200, 200), (merged.text, also.text)
        assert linked.status_code in (200, 409), linked.text
        rounds.append({left, kept, other})
    persons = members_of(index.stored(), index.opening)
    for keys in rounds:
        assert {persons[key] for key in keys} == {frozenset(keys)}


def test_an_unlink_and_registrations_at_once(index: Index) -> None:
    """Whichever comes first, what a steward separates stays apart."""
    moved = [{"line": ["4 rue Neuve"], "city": "Rivières", "postalCode": "00100"}]
    rounds = []
    for number in range(500, 506):
        traits = sources.newcomer(number)
        one, other = index.key(A, f"apart-{number}", **traits), index.key(B, f"apart-{number}", **traits)
        answers = together(
            partial(index.decide, "unlink", patient_id=other),
            partial(index.put, A, f"apart-{number}", **traits, address=moved),
            partial(index.put, B, f"apart-{number}", **traits, address=moved),
        )
        assert statuses(answers) == {200: 3}, [answer.text for answer in answers]
        rounds.append((one, other))
    persons = members_of(index.stored(), index.opening)
    for one, other in rounds:
        assert [persons[one], persons[other]] == [frozenset([one]), frozenset([other])]
