"""A process that registers, links or feeds people may end between any two AWS calls: the index stays whole.

The same request again converges, once: one effect, one line of history, one event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from local.gateway import Response
from passerelle import wiring
from passerelle.aws.dynamodb import from_attributes
from tests import examples, sources, wholeness
from tests.exchange import Client, Exchange
from tests.feeding import entry, fed, told
from tests.functions.test_stewardship import act
from tests.journeys.test_crashes import Command, announced, crash_everywhere, items, partitions

A, B = examples.DOMAIN, "urn:oid:2.999.2"


class People:
    """Two hospitals and the stewards; each command is about people of its own, named by its key."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.clients = {A: exchange.client("hospital-a"), B: exchange.client("hospital-b")}
        self.steward = exchange.client("steward")
        self.known: dict[str, tuple[str, str]] = {}

    def put(self, domain: str, command: str, number: int = 1, *, key: str | None = None, **changes: Any) -> Response:
        """Register person `number` of a command; sent under the idempotency key `key`."""
        local = f"{command}-{number}"
        content = sources.patient(domain, local, **{**sources.newcomer(local), **changes})
        headers = {"Idempotency_Key": key} if key else {}
        return self.clients[domain].put(f"Patient?identifier={domain}|{local}", content, **headers)

    def known_to_both(self, command: str) -> None:
        """A person whom both hospitals registered: two records, linked."""
        one, other = (self.put(domain, command).json["id"] for domain in (A, B))
        self.known[command] = (one, other)

    def two_of_one_source(self, command: str) -> None:
        """Two people of the first hospital."""
        one, other = (self.put(A, command, number).json["id"] for number in (1, 2))
        self.known[command] = (one, other)

    def decide(self, operation: str, command: str, **values: str) -> Response:
        answer: Response = act(self.steward, operation, headers={"Idempotency_Key": command}, **values)
        return answer

    def key(self, domain: str, command: str, number: int = 1) -> str:
        found = wiring.patient_index().find_owner(domain, f"{command}-{number}")
        assert found is not None
        return found

    def crash_everywhere(
        self,
        command: Command,
        once: Callable[[str, Response], None],
        *,
        prepare: Callable[[str], None] = lambda _: None,
        told: Callable[[Response], Any] = lambda answer: answer.body,
    ) -> None:
        """Each time nobody is known before, and the index is whole at any moment, whatever was done or not."""

        def begin(key: str) -> None:
            for table in ("patients", "clinical"):
                partitions(self.exchange, table).clear()
            prepare(key)

        def is_done(key: str, answer: Response) -> None:
            self.is_whole()
            once(key, answer)

        crash_everywhere(command, is_done, prepare=begin, look=lambda _: self.is_whole(), told=told)

    def is_whole(self) -> None:
        patients, clinical = (
            [from_attributes(item) for item in items(self.exchange, table)] for table in ("patients", "clinical")
        )
        wholeness.check_index(patients, clinical)

    def told(self, key: str) -> Counter[str]:
        """How often each kind of event about a record was announced."""
        return Counter(
            event["name"]["S"] for event in announced(self.exchange) if event["reference"]["S"] == f"Patient/{key}"
        )


@pytest.fixture
def people(exchange: Exchange) -> People:
    return People(exchange)


@pytest.fixture(scope="module")
def practice(exchange: Exchange) -> Client:
    return exchange.client("practice")


def kinds(key: str) -> list[str]:
    return [f"{each.kind} {each.rule}" for each in wiring.patient_index().history_of(key)]


def members(key: str) -> set[str]:
    return set(sources.person(key).members)


def test_register_a_newcomer(people: People, practice: Client) -> None:
    def once(command: str, answer: Response) -> None:
        key = people.key(A, command)
        found = practice.get(f"Patient?identifier={A}|{command}-1").json
        assert [each["resource"]["id"] for each in found["entry"]] == [key] == [answer.json["id"]]
        assert (answer.status, answer.header("ETag"), members(key), kinds(key)) == (201, 'W/"1"', {key}, [])
        assert people.told(key) == {"identity-changed": 1}

    people.crash_everywhere(lambda command: people.put(A, command, key=command), once)


@pytest.mark.parametrize("is_doubtful", [False, True], ids=["linked", "asked"])
def test_register_who_is_known(people: People, is_doubtful: bool) -> None:
    """A second source: the record is linked in the commit that stores it, or a steward is asked."""

    def register(command: str) -> Response:
        return people.put(A, command, key=command, gender="male" if is_doubtful else "female")

    def prepare(command: str) -> None:
        assert people.put(B, command).status == 201  # under the same local identifier, which tells who it is

    def once(command: str, _: Response) -> None:
        one, other = people.key(A, command), people.key(B, command)
        for key in (one, other):
            assert people.told(key) == {"identity-changed": 1, **({} if is_doubtful else {"links-changed": 1})}
            assert members(key) == ({key} if is_doubtful else {one, other})
            assert kinds(key) == ([] if is_doubtful else ["linked score"])
            assert [each.status for each in sources.reviews(key)] == (["open"] if is_doubtful else [])

    people.crash_everywhere(register, once, prepare=prepare)


def test_merge_by_the_source(people: People) -> None:
    def merge(command: str) -> Response:
        return people.put(A, command, key=command, replaced_by=f"{command}-2")

    def once(command: str, answer: Response) -> None:
        left, kept = people.known[command]
        assert (answer.header("ETag"), answer.json["active"]) == ('W/"2"', False)
        assert members(left) == members(kept) == {left, kept}
        assert [sources.person(kept).member(each).is_in_use for each in (left, kept)] == [False, True]
        assert kinds(left) == kinds(kept) == ["merged source"]
        assert people.told(left) == {"identity-changed": 2, "links-changed": 1}
        assert people.told(kept) == {"identity-changed": 1, "links-changed": 1}

    people.crash_everywhere(merge, once, prepare=people.two_of_one_source)


def test_remove(people: People, practice: Client) -> None:
    def remove(command: str) -> Response:
        place = f"Patient?identifier={A}|{command}-1"
        return people.clients[A].request("DELETE", place, Idempotency_Key=command)

    def once(command: str, _: Response) -> None:
        gone, kept = people.known[command]
        assert practice.get(f"Patient/{gone}").status == 404
        assert practice.get(f"Patient?identifier={A}|{command}-1").json["total"] == 0
        assert members(kept) == {gone, kept}
        assert kinds(gone) == kinds(kept) == ["linked score", "removed source"]
        assert people.told(gone) == {"identity-changed": 2, "links-changed": 2}

    people.crash_everywhere(remove, once, prepare=people.known_to_both)


def test_a_steward_links(people: People) -> None:
    def link(command: str) -> Response:
        first, second = people.known[command]
        return people.decide("link", command, first=first, second=second)

    def once(command: str, _: Response) -> None:
        for key in people.known[command]:
            assert (members(key), kinds(key)) == (set(people.known[command]), ["linked steward"])
            assert people.told(key) == {"identity-changed": 1, "links-changed": 1}

    people.crash_everywhere(link, once, prepare=people.two_of_one_source)


def test_a_steward_takes_a_link_back(people: People) -> None:
    def unlink(command: str) -> Response:
        return people.decide("unlink", command, patient=people.known[command][1])

    def once(command: str, _: Response) -> None:
        for key in people.known[command]:
            assert (members(key), kinds(key)) == ({key}, ["linked score", "unlinked steward"])
            assert [each.status for each in sources.reviews(key)] == ["different"]
            assert people.told(key) == {"identity-changed": 1, "links-changed": 2}

    people.crash_everywhere(unlink, once, prepare=people.known_to_both)


def test_a_message(people: People) -> None:
    """One command for each entry: a newcomer, and an address that changed."""

    def prepare(command: str) -> None:
        assert people.put(A, command, 2).status == 201

    def feed(command: str) -> Response:
        new, moved = (
            sources.patient(A, f"{command}-{number}", **sources.newcomer(f"{command}-{number}")) for number in (1, 2)
        )
        moved["address"] = [{"city": "Rivières"}]
        entries = [entry("POST", "Patient", new), entry("PUT", f"Patient?identifier={A}|{command}-2", moved)]
        return fed(people.exchange, *entries, Idempotency_Key=command)  # type: ignore[no-any-return]

    def once(command: str, answer: Response) -> None:
        new, moved = (people.key(A, command, number) for number in (1, 2))
        responses = told(answer)
        assert [each["status"] for each in responses] == ["201 Created", "200 OK"]
        assert [each["location"].partition("Patient/")[2] for each in responses] == [
            f"{new}/_history/1",
            f"{moved}/_history/2",
        ]
        assert (people.told(new), people.told(moved)) == ({"identity-changed": 1}, {"identity-changed": 2})

    people.crash_everywhere(feed, once, prepare=prepare, told=told)
