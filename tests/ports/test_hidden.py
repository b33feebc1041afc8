"""Consent is non-interference (law 4): a record with hidden documents answers as one that never had them.

Here by the labels of documents; `test_withheld.py` has consents, professions and proxies.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from passerelle import wiring
from passerelle.access import Request
from passerelle.consents.visibility import Restriction, label_system
from passerelle.directory.model import Role
from passerelle.errors import NotFound
from passerelle.fhir import json as fhir_json
from passerelle.fhir.resource import ResourceDraft
from passerelle.fhir.search import parse_query
from passerelle.records.model import ResourceKey, StoredVersion, Subject
from tests import record
from tests.worlds import World, answers, delete, person, take_out

OURS, OTHERS = "1990000037", "1990000011"
ATTENDING = "810000000037"
# (labels on the document, its producer is the caller) hides from; by the words of the contract, not of the code.
LABELS = ("MASQUE_PS", "INVISIBLE_PATIENT", "INVISIBLE_REPRESENTANTS_LEGAUX")


@pytest.fixture(scope="module", autouse=True)
def services() -> Iterator[None]:
    with record.services():
        yield


@pytest.fixture(autouse=True)
def empty_record() -> None:
    record.emptied()
    record.emptied("patients")


def is_hidden(labels: frozenset[str], is_own_work: bool, role: str) -> bool:
    if role == Role.PATIENT:
        return "INVISIBLE_PATIENT" in labels
    if role == Role.REPRESENTATIVE:
        return bool(labels & {"INVISIBLE_PATIENT", "INVISIBLE_REPRESENTANTS_LEGAUX"})
    return "MASQUE_PS" in labels and not is_own_work


def asking(role: str, seconds: float = 1000) -> Request:
    """A request of the practice, of the person whose record it is, or of the one who acts for that person."""
    sent = record.request(seconds)
    own = "urn:ins|1" if role in (Role.PATIENT, Role.REPRESENTATIVE) else None
    return replace(sent, request_id="r", caller=replace(sent.caller, role=role, organisation=OURS, patient=own))


def build(chance: random.Random, role: str, documents: int) -> World:
    world = World(person(2))
    subjects = [{"reference": f"Patient/{key}"} for key in world.person.members]
    seconds = iter(range(1, 1000))
    for _ in range(documents):
        ours = chance.random() < 0.4
        request = record.request(next(seconds))
        request = replace(request, caller=replace(request.caller, organisation=OURS if ours else OTHERS))
        labels = frozenset(label for label in LABELS if chance.random() < 0.4)
        related = chance.choice([*world.documents, None])
        id = world.create(
            request,
            "DocumentReference",
            status="current",
            subject=chance.choice(subjects),
            date=f"2026-02-{chance.randrange(1, 28):02d}T08:00:00Z",
            type={"coding": [{"system": "http://loinc.org", "code": chance.choice(["11488-4", "34112-3"])}]},
            securityLabel=[{"coding": [{"system": label_system(), "code": label}]} for label in sorted(labels)]
            or [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "N"}]}],
            content=[{"attachment": {"contentType": "text/plain", "url": f"{record.BASE}/Binary/x"}}],
            **_appending(related),
        )
        world.documents[id] = labels
        if is_hidden(labels, ours, role):
            world.hidden.add(id)
    for number in range(4):
        some = chance.sample(sorted(world.documents), min(len(world.documents), chance.randrange(1, 4)))
        items = [{"item": {"reference": f"DocumentReference/{each}"}} for each in some]
        world.create(
            record.request(next(seconds)),
            "List",
            status="current",
            mode="working",
            subject=chance.choice(subjects),
            date=f"2026-02-{number + 1:02d}",
            title=f"{number}",
            entry=items,
        )
        world.create(
            record.request(next(seconds)),
            "Observation",
            status="final",
            subject=chance.choice(subjects),
            effectiveDateTime=f"2026-02-{number + 1:02d}",
            code={"coding": [{"system": "urn:x", "code": "a"}]},
            derivedFrom=[{"reference": f"DocumentReference/{some[0]}"}],
        )
    return world


def _appending(related: str | None) -> dict[str, Any]:
    target = {"reference": f"DocumentReference/{related}"}
    return {"relatesTo": [{"code": "appends", "target": target}]} if related else {}


@pytest.mark.parametrize(
    ("seed", "role"), [(1, Role.PRACTICE), (2, Role.PRACTICE), (1, Role.PATIENT), (2, Role.REPRESENTATIVE)]
)
def test_a_record_with_hidden_documents_is_one_without(seed: int, role: str) -> None:
    """GEN-11, 66-5, DMP-18, DMP-22, DMP-23"""
    world = build(random.Random(seed), role, documents=8)
    with_hidden = answers(world, asking(role))
    assert 0 < len(world.hidden) < len(world.documents)
    assert any("b'{" in each for each in with_hidden)  # something is told
    take_out(world)
    assert answers(world, asking(role)) == with_hidden


@pytest.mark.parametrize(("hidden", "shown"), [(1, 59), (3, 59), (1, 60), (3, 61)])
def test_whether_a_total_is_told_does_not_tell_of_hidden_documents(hidden: int, shown: int) -> None:
    """A total is left out where counting would cost more than the page: by what is seen, not by what is there."""
    world = World(person(1))
    store = wiring.record_store()
    key = world.person.members[0]
    for number in range(shown + hidden):
        masked = number % 13 == 5 and len(world.hidden) < hidden
        label = "MASQUE_PS" if masked else "V"
        content = record.draft(
            "DocumentReference",
            status="current",
            subject={"reference": f"Patient/{key}"},
            date=f"2026-02-01T08:{number // 60:02d}:{number % 60:02d}Z",
            securityLabel=[{"coding": [{"system": label_system() if masked else "urn:x", "code": label}]}],
        )
        id = f"{key}-{number:026d}"
        labels = content.labels
        change = record.version(content, ResourceKey(type="DocumentReference", id=id, patient=key), producer=OTHERS)
        restriction = Restriction(labels=labels, producer=OTHERS) if labels else None
        record.commit(replace(change, restriction=restriction))
        if masked:
            world.hidden.add(id)
    query = parse_query("DocumentReference", [("_count", "5")]).query
    request = asking(Role.PRACTICE)
    first = wiring.record_search().search(request, query, Subject(key=key))
    for id in world.hidden:
        found = store.find_latest(ResourceKey(type="DocumentReference", id=id, patient=key))
        assert found is not None
        delete(found.key)
    again = wiring.record_search().search(request, query, Subject(key=key))
    assert repr(first) == repr(again)


def relabelled(id: str, seconds: float, *labels: str, status: str = "current") -> None:
    def revise(current: StoredVersion) -> ResourceDraft:
        content = fhir_json.loads(current.body or b"")
        coded = [{"coding": [{"system": label_system(), "code": label}]} for label in labels]
        rest = {name: value for name, value in content.items() if name != "securityLabel"}
        return ResourceDraft({**rest, "status": status, **({"securityLabel": coded} if coded else {})}, record.BASE)

    by_producer = record.request(seconds)
    by_producer = replace(by_producer, caller=replace(by_producer.caller, organisation=OTHERS))
    wiring.record_service().patch(by_producer, "DocumentReference", id, revise, if_match=None)


def published(world: World, seconds: float, *labels: str) -> str:
    request = record.request(seconds)
    coded = [{"coding": [{"system": label_system(), "code": label}]} for label in labels]
    return world.create(
        replace(request, caller=replace(request.caller, organisation=OTHERS)),
        "DocumentReference",
        status="current",
        subject={"reference": f"Patient/{world.person.members[0]}"},
        date="2026-02-01",
        **({"securityLabel": coded} if coded else {}),
    )


def changes(world: World, seconds: float, cursor: str | None = None) -> tuple[list[tuple[str, bool]], str]:
    """What a copy of the record is told: (id, whether it is there), and where it goes on."""
    delta = wiring.record_history().delta(
        asking(Role.PRACTICE, seconds),
        Subject(key=world.person.members[0]),
        count=50,
        is_wanted=lambda kind: kind == "DocumentReference",
        cursor=cursor,
    )
    return [(each.id, each.body is not None) for each in delta.versions], delta.cursor


def test_a_copy_of_the_record_drops_what_was_masked_since() -> None:
    """I12: applying what changed gives what a search would; whoever never had a document learns nothing of it."""
    world = World(person(1))
    had = published(world, 1)
    first, cursor = changes(world, 500)
    assert first == [(had, True)]
    relabelled(had, 600, "MASQUE_PS")
    never_had = published(world, 610)
    relabelled(never_had, 620, "MASQUE_PS")
    assert published(world, 630, "MASQUE_PS")
    told, later = changes(world, 1000, cursor)
    assert told == [(had, False)]
    assert changes(world, 1000)[0] == []
    relabelled(had, 1100)
    assert changes(world, 1200, later)[0] == [(had, True)]


def test_a_mask_covers_the_versions_before_it() -> None:
    world = World(person(1))
    id = published(world, 1)
    relabelled(id, 10, "MASQUE_PS")
    for attempt in (
        lambda: wiring.record_service().read_version(asking(Role.PRACTICE), "DocumentReference", id, 1),
        lambda: wiring.record_history().of_resource(
            asking(Role.PRACTICE), "DocumentReference", id, since=None, count=9
        ),
    ):
        with pytest.raises(NotFound):
            attempt()
    own = asking(Role.PATIENT)
    assert wiring.record_service().read_version(own, "DocumentReference", id, 1).version == 1


def test_who_does_not_see_all_of_a_list_changes_what_is_seen() -> None:
    """The entries that the caller does not see stay in it."""
    world = World(person(1))
    key = world.person.members[0]
    open_, masked = published(world, 1), published(world, 2, "MASQUE_PS")
    entries = [{"item": {"reference": f"DocumentReference/{each}"}} for each in (open_, masked)]
    base = {"status": "current", "mode": "working", "subject": {"reference": f"Patient/{key}"}}
    list_ = world.create(record.request(3), "List", **base, entry=entries)
    seen = wiring.record_service().read(asking(Role.PRACTICE), "List", list_)
    content = fhir_json.loads(seen.body or b"")
    assert content["entry"] == entries[:1]
    draft = ResourceDraft({**content, "title": "Dossier"}, record.BASE)
    wiring.record_service().update(asking(Role.PRACTICE), draft, list_, if_match=1)
    own = wiring.record_service().read(asking(Role.PATIENT), "List", list_)
    assert fhir_json.loads(own.body or b"")["entry"] == entries
    assert fhir_json.loads(own.body or b"")["title"] == "Dossier"


def test_a_copy_of_the_record_follows_what_speaks_of_a_masked_or_withdrawn_document() -> None:
    """I12: a List without entries, and a result that was derived from a document, go and come back with it."""
    world = World(person(1))
    key = world.person.members[0]
    subject = {"reference": f"Patient/{key}"}
    document, other = published(world, 1), published(world, 2, "MASQUE_PS")
    of_one, of_both = [
        world.create(
            record.request(3), "List", status="current", mode="working", subject=subject,
            entry=[{"item": {"reference": f"DocumentReference/{each}"}} for each in some],
        )
        for some in ([document], [document, other])
    ]  # fmt: skip
    derived = world.create(
        record.request(4), "Observation", status="final", subject=subject, effectiveDateTime="2026-02-01",
        code={"text": "a"}, derivedFrom=[{"reference": f"DocumentReference/{document}"}],
    )  # fmt: skip

    def told(seconds: float, cursor: str | None) -> tuple[set[tuple[str, bool]], str]:
        delta = wiring.record_history().delta(
            asking(Role.PRACTICE, seconds), Subject(key=key), count=50, is_wanted=lambda _: True, cursor=cursor
        )
        return {(each.id, each.body is not None) for each in delta.versions}, delta.cursor

    first, cursor = told(10, None)  # what was written a few seconds ago is given, and may come again
    everything = {document, of_one, of_both, derived}
    assert first == {(each, True) for each in everything}
    relabelled(document, 600, "MASQUE_PS")
    gone, cursor = told(700, cursor)
    assert {each for each in gone if not each[1]} == {(each, False) for each in everything}
    relabelled(document, 800)
    back, cursor = told(900, cursor)
    assert back >= {(each, True) for each in everything}
    relabelled(document, 1000, status="entered-in-error")
    gone, cursor = told(1100, cursor)
    assert {each for each in gone if not each[1]} == {(each, False) for each in everything}
    seen = wiring.record_service().read(asking(Role.PRACTICE), "DocumentReference", document)
    assert b"entered-in-error" in (seen.body or b"")
    for query in (parse_query("List", []), parse_query("Observation", []), parse_query("DocumentReference", [])):
        assert wiring.record_search().search(asking(Role.PRACTICE), query.query, Subject(key=key)).total == 0
