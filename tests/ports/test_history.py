"""What a client learns of a record over time: histories page after page, and a delta that loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passerelle import wiring
from passerelle.errors import Gone, NotFound
from passerelle.identifiers import new_patient_key, new_resource_id
from passerelle.patients.model import Person
from passerelle.records.model import ResourceKey, StoredVersion, Subject
from tests import record
from tests.record import AT, commit, deletion, draft, request, version


@pytest.fixture(scope="module", autouse=True)
def _services() -> Iterator[None]:
    with record.services():
        yield


def of(person: Person) -> Subject:
    return Subject(key=person.members[0])


def write(patient: str, key: ResourceKey | None = None, *, at: float, type: str = "Observation") -> ResourceKey:
    """A new resource, or the next version of one, by a request that began so long after AT."""
    key = key or ResourceKey(type=type, id=new_resource_id(patient, AT), patient=patient)
    before = wiring.record_store().find_latest(key)
    content = draft(type, status="final", subject={"reference": f"Patient/{patient}"})
    previous, number = (before.placement, before.version + 1) if before else (None, 1)
    commit(version(content, key, number, seconds=at, previous=previous))
    return key


def withdraw(key: ResourceKey, *, at: float) -> None:
    before = wiring.record_store().find_latest(key)
    assert before is not None
    commit(deletion(key, before.version + 1, seconds=at, previous=before.placement))


# --- histories ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_the_history_of_a_resource(count: int) -> None:
    person = record.person()
    key = write(person.members[0], at=0)
    write(person.members[0], key, at=1)
    withdraw(key, at=2)
    write(person.members[0], key, at=3)

    def read(since: float | None = None) -> list[int]:
        moment = None if since is None else AT + timedelta(seconds=since)
        seen: list[StoredVersion] = []
        cursor: str | None = None
        while True:
            page = wiring.record_history().of_resource(
                request(9), key.type, key.id, since=moment, count=count, cursor=cursor
            )
            assert len(page.versions) <= count
            assert page.total == (4 if cursor is None and since is None else None)
            seen += page.versions
            cursor = page.cursor
            if cursor is None:
                assert [each.body is None for each in seen] == [each.version == 3 for each in seen]
                return [each.version for each in seen]

    assert read() == [4, 3, 2, 1]
    assert read(since=1) == [4, 3, 2]
    assert read(since=3.5) == []


def test_the_history_of_what_is_not_there() -> None:
    history = wiring.record_history()
    nobody = new_resource_id(new_patient_key(), AT)
    for id in (nobody, "never-chosen"):
        with pytest.raises(NotFound):
            history.of_resource(request(), "Observation", id, since=None, count=5)
    page = history.of_type(request(), "Observation", Subject(key=new_patient_key()), since=None, count=5)
    assert (page.versions, page.total, page.patients) == ((), 0, ())


@pytest.mark.parametrize("count", [1, 2, 50])
def test_the_history_of_a_type_in_all_records_of_a_person(count: int) -> None:
    person = record.person(members=2)
    one, other = person.members
    first = write(one, at=1)
    second = write(other, at=2)
    write(other, at=2.5, type="Condition")
    write(one, first, at=3)
    withdraw(second, at=4)

    def read(since: float | None = None) -> list[tuple[ResourceKey, int]]:
        moment = None if since is None else AT + timedelta(seconds=since)
        seen: list[tuple[ResourceKey, int]] = []
        cursor: str | None = None
        while True:
            page = wiring.record_history().of_type(
                request(9), "Observation", of(person), since=moment, count=count, cursor=cursor
            )
            assert len(page.versions) <= count
            seen += [(each.key, each.version) for each in page.versions]
            cursor = page.cursor
            if cursor is None:
                return seen

    assert read() == [(second, 2), (first, 2), (second, 1), (first, 1)]
    assert read(since=3) == [(second, 2), (first, 2)]
    assert read(since=9) == []


def test_the_history_of_a_shared_type() -> None:
    keys = [ResourceKey(type="Location", id=f"l{n}", patient=None) for n in range(3)]
    for n, key in enumerate(keys):
        commit(version(draft("Location", name=f"Salle {n}"), key, seconds=n))
    page = wiring.record_history().of_type(request(), "Location", None, since=None, count=2)
    following = wiring.record_history().of_type(request(), "Location", None, since=None, count=2, cursor=page.cursor)
    assert [each.key for each in (*page.versions, *following.versions)] == keys[::-1]
    assert following.cursor is None


# --- delta ----------------------------------------------------------------------------------------------------------


class Client:
    """Keeps a copy of a record by deltas alone: applies a version unless it has a newer one."""

    def __init__(self, person: Person, types: frozenset[str]) -> None:
        self.person, self.types = person, types
        self.cursor: str | None = None
        self.copy: dict[ResourceKey, tuple[int, bytes | None]] = {}

    def ask(self, at: float, count: int) -> bool:
        """One page; whether it was the last one for now."""
        delta = wiring.record_history().delta(
            request(at), of(self.person), count=count, is_wanted=self.types.__contains__, cursor=self.cursor
        )
        assert len(delta.versions) <= count
        for each in delta.versions:
            assert each.type in self.types
            if each.version > self.copy.get(each.key, (0, None))[0]:
                self.copy[each.key] = (each.version, each.body)
        self.cursor = delta.cursor
        return delta.is_complete

    def there(self) -> dict[ResourceKey, int]:
        return {key: number for key, (number, body) in self.copy.items() if body is not None}


# What happens next: seconds that pass; a commit, of a request that began so many seconds before; or a page of a delta.
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.sampled_from([0.001, 1.0, 20.0, 45.0, 90.0])),
        st.tuples(st.just("create"), st.sampled_from([0.0, 0.5, 10.0, 29.0])),
        st.tuples(st.just("change"), st.sampled_from([0.0, 0.5, 10.0, 29.0])),
        st.tuples(st.just("withdraw"), st.sampled_from([0.0, 0.5, 10.0, 29.0])),
        st.tuples(st.just("ask"), st.sampled_from([1, 2, 3, 50])),
        st.tuples(st.just("catch up"), st.sampled_from([1, 2, 50])),
    ),
    min_size=6,
    max_size=20,
)


@settings(max_examples=50)
@given(steps=_steps, choices=st.randoms(use_true_random=False), members=st.integers(1, 2))
def test_a_client_that_applies_deltas_has_the_record(steps: list[tuple[str, Any]], choices: Any, members: int) -> None:
    """Whoever began first may commit last, pages may end anywhere, and the client may come back at any time.

    What was committed behind its back, while it went from page to page, it is told at its next visit.
    """
    record.emptied()
    person = record.person(members)
    types = frozenset({"Observation", "Condition"})
    client = Client(person, types)
    clock = 100.0
    keys: list[ResourceKey] = []
    for what, argument in steps:
        match what:
            case "pass":
                clock += argument
            case "create":
                kind = choices.choice(["Observation", "Condition", "Encounter"])
                keys.append(write(choices.choice(person.members), at=clock - argument, type=kind))
            case "change" if keys:
                key = choices.choice(keys)
                write(str(key.patient), key, at=clock - argument)
            case "withdraw" if keys:
                withdraw(choices.choice(keys), at=clock - argument)
            case "ask":
                client.ask(clock, argument)
            case "catch up":
                while not client.ask(clock, argument):
                    pass
    while not client.ask(clock, 2):
        pass
    assert client.ask(clock, 500)
    store = wiring.record_store()
    now = {
        entry.key: entry.version
        for member in person.members
        for entry in store.everything(member, after=None, limit=500).entries
        if entry.key.type in types
    }
    assert client.there() == now


@pytest.mark.parametrize("seconds", [0.001, 1, 29, 59])
def test_what_began_before_a_visit_and_ended_after_it_is_told(seconds: float) -> None:
    person = record.person()
    first = write(person.members[0], at=0)
    client = Client(person, frozenset({"Observation"}))
    assert client.ask(1000, 50)
    late = write(person.members[0], at=1000 - seconds)
    assert client.ask(5000, 50)
    assert client.there() == {first: 1, late: 1}


def test_what_is_committed_between_two_pages_is_told() -> None:
    """Even if the client takes its time, and the writer began before the first page ended."""
    person = record.person()
    keys = {write(person.members[0], at=at): 1 for at in (95, 99)}
    client = Client(person, frozenset({"Observation"}))
    assert not client.ask(100, 1)
    keys[write(person.members[0], at=90)] = 1
    client.ask(500, 50)
    client.ask(501, 50)
    assert client.there() == keys


def test_a_client_that_is_up_to_date_is_told_nothing_new() -> None:
    person = record.person()
    for n in range(5):
        write(person.members[0], at=n)
    client = Client(person, frozenset({"Observation"}))
    assert client.ask(1000, 50)
    delta = wiring.record_history().delta(
        request(2000), of(person), count=50, is_wanted=client.types.__contains__, cursor=client.cursor
    )
    assert delta.versions == ()
    assert delta.is_complete


def test_of_a_resource_that_changed_often_the_newest_version_is_told() -> None:
    """Even where an older one was committed by a request that began later."""
    person = record.person()
    key = write(person.members[0], at=5)
    write(person.members[0], key, at=9)
    write(person.members[0], key, at=7)
    delta = wiring.record_history().delta(request(10), of(person), count=50, is_wanted=lambda _: True)
    assert [(each.key, each.version) for each in delta.versions] == [(key, 3)]


def test_a_delta_starts_again_when_the_person_has_other_records() -> None:
    person = record.person()
    write(person.members[0], at=0)
    client = Client(person, frozenset({"Observation"}))
    client.ask(1, 50)
    joined = record.linked(person, person.members[0], "z" * 16)  # after any other: the first stays the first
    commit_copy = Client(joined, client.types)
    commit_copy.cursor = client.cursor
    with pytest.raises(Gone):
        commit_copy.ask(2, 50)
    commit_copy.cursor = None
    assert commit_copy.ask(3, 50)
    record.linked(joined, person.members[0])
    with pytest.raises(Gone):
        commit_copy.ask(4, 50)


def test_a_cursor_is_of_one_client_and_one_person() -> None:
    mine, other = record.person(), record.person()
    write(mine.members[0], at=0)
    history = wiring.record_history()
    cursor = history.delta(request(), of(mine), count=5, is_wanted=lambda _: True).cursor
    for asker, subject, text in (
        (request(client="nurse"), of(mine), cursor),
        (request(), of(other), cursor),
        (request(), of(mine), cursor[:-4] + "AAAA"),
        (request(), of(mine), "AAAA"),
        (request(), of(mine), "é"),
    ):
        with pytest.raises(NotFound):
            history.delta(asker, subject, count=5, is_wanted=lambda _: True, cursor=text)
    page = history.of_type(request(), "Observation", of(mine), since=None, count=5)
    assert page.cursor is None
    with pytest.raises(NotFound):
        history.of_type(request(), "Observation", of(mine), since=None, count=5, cursor=cursor)
    with pytest.raises(NotFound):
        history.delta(request(), Subject(key=new_patient_key()), count=5, is_wanted=lambda _: True)
