"""Consent is non-interference (law 4): a record with hidden documents answers as one that never had them.

Two worlds: the same requests are asked twice, the second time of a store from which everything hidden from the caller
was taken out item by item, and whatever speaks of it written anew without that. All answers must be equal: versions,
bodies, totals, page borders, cursors, refusals.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import pytest

from passerelle import wiring
from passerelle.access import Request
from passerelle.consents.visibility import Restriction, label_system
from passerelle.directory.model import Role
from passerelle.errors import NotFound, PasserelleError
from passerelle.fhir import json as fhir_json
from passerelle.fhir.resource import ResourceDraft
from passerelle.fhir.search import parse_query
from passerelle.identifiers import new_patient_key
from passerelle.patients.model import Person, PersonChange
from passerelle.records.model import RecordVersion, ResourceKey, StoredVersion, Subject
from passerelle.records.service import Written
from tests import record
from tests.people import person_of

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


def person(members: int) -> Person:
    """Somebody whom the index knows by the identifier that the tokens of `asking` name."""
    qualified = wiring.patient_index().blinded(("urn:ins", "1"))
    made = person_of(*(new_patient_key() for _ in range(members)), since=record.AT, qualified=qualified)
    record.commit(PersonChange(before=None, after=made, takes_from=made.key))
    return made


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


@dataclass
class World:
    """A person's record as it was written; `content` is what each version of each resource said."""

    person: Person
    hidden: set[str] = field(default_factory=set)  # ids of documents
    documents: dict[str, frozenset[str]] = field(default_factory=dict)
    written: list[tuple[str, Written]] = field(default_factory=list)

    def create(self, request: Request, kind: str, /, **content: Any) -> str:
        """As by somebody to whom nothing was hidden yet: who writes may not speak of what is."""
        service, draft = wiring.record_service(), record.draft(kind, **content)
        plan = service.plan_create(request, draft, service.new(request, draft))
        record.commit(*plan.changes)
        self.written.append((kind, plan.written))
        return plan.written.id


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


def answers(world: World, role: str) -> list[str]:
    """What the record says to one caller, asked in every way that there is, each answer in full."""
    request = asking(role)
    records, search, history = wiring.record_service(), wiring.record_search(), wiring.record_history()
    subject = Subject(key=world.person.members[0])
    said = []

    def ask(attempt: Callable[[], Any]) -> Any:
        try:
            answer = attempt()
        except PasserelleError as refusal:
            said.append(repr((type(refusal), refusal.issues)))
            return None
        said.append(repr(_told(answer)))
        return answer

    def ask_all(page: Callable[[str | None], Any]) -> None:
        cursor = None
        while True:
            found = ask(lambda cursor=cursor: page(cursor))
            cursor = found.cursor if found is not None and not getattr(found, "is_complete", False) else None
            if cursor is None:
                return

    for kind, made in world.written:
        ask(lambda kind=kind, id=made.id: records.read(request, kind, id))
        ask(lambda kind=kind, id=made.id: records.read_version(request, kind, id, 1))
        ask(lambda kind=kind, id=made.id: history.of_resource(request, kind, id, since=None, count=10))
        ask(lambda kind=kind, id=made.id: records.existing(request, kind, id).key)
        query = parse_query(kind, [("_id", made.id)]).query
        ask(lambda query=query: search.search(request, query, subject))
    some = sorted(world.documents)
    for kind, pairs in (
        ("DocumentReference", []),
        ("DocumentReference", [("type", "11488-4"), ("_count", "2")]),
        ("DocumentReference", [("_count", "3"), ("_sort", "date")]),
        ("DocumentReference", [("_count", "3"), ("_total", "accurate")]),
        ("DocumentReference", [("_count", "1"), ("_sort", "_id")]),
        ("DocumentReference", [("relatesto", f"DocumentReference/{some[0]}")]),
        ("DocumentReference", [("security-label", f"{label_system()}|MASQUE_PS")]),
        ("DocumentReference", [("_count", "3"), ("_include", "DocumentReference:relatesto")]),
        ("DocumentReference", [("_count", "3"), ("_revinclude", "List:item")]),
        ("List", [("_count", "2")]),
        ("List", [("_include", "List:item")]),
        ("List", [("item", ",".join(f"DocumentReference/{each}" for each in some[:3]))]),
        ("Observation", [("_count", "1")]),
        ("Observation", [("code", "a"), ("_count", "2")]),
    ):
        query = parse_query(kind, pairs, base_url=record.BASE).query
        ask_all(lambda cursor, query=query: search.search(request, query, subject, cursor=cursor))
    for kind in ("DocumentReference", "List", "Observation"):
        ask_all(lambda cursor, kind=kind: history.of_type(request, kind, subject, since=None, count=2, cursor=cursor))
    ask_all(
        lambda cursor: search.everything(request, subject, is_wanted=lambda _: True, since=None, count=3, cursor=cursor)
    )
    ask_all(lambda cursor: history.delta(request, subject, count=3, is_wanted=lambda _: True, cursor=cursor))
    ask(lambda: search.digest(request, subject, [parse_query("Observation", []).query]))
    return said


def _told(answer: Any) -> Any:
    """Everything in an answer that leaves the exchange: not where its versions stand in the store."""
    if isinstance(answer, StoredVersion):
        return answer.reference, answer.version, answer.at, answer.body
    if isinstance(answer, tuple):
        return [_told(each) for each in answer]
    return {each.name: _told(getattr(answer, each.name)) for each in fields(answer)} if is_dataclass(answer) else answer


def take_out(world: World) -> None:
    """Make it the world in which the hidden documents were never published."""
    gone = {f"DocumentReference/{id}" for id in world.hidden}
    for type, made in world.written:
        stored = wiring.record_store().find_latest(made.key)
        assert stored is not None
        assert stored.body is not None
        content = fhir_json.loads(stored.body)
        speaks_of_hidden = type == "Observation" and content["derivedFrom"][0]["reference"] in gone
        if speaks_of_hidden or f"{type}/{made.id}" in gone:
            _delete(made.key)
        else:
            kept = {
                name: [each for each in value if _named(each) not in gone] if name in ("entry", "relatesTo") else value
                for name, value in content.items()
            }
            if kept == content:
                continue
            _delete(made.key)
            if type == "List" and not kept["entry"]:
                continue
            if not kept.get("relatesTo", True):
                del kept["relatesTo"]
            _write(stored, kept)


def _named(part: dict[str, Any]) -> str:
    return str((part.get("item") or part.get("target") or {}).get("reference"))


def _delete(key: ResourceKey) -> None:
    local = key.id.partition("-")[2]
    client = wiring.aws("dynamodb")
    for item in record.items():
        if local in item["SK"].split("#"):
            client.delete_item(TableName="clinical", Key={name: {"S": item[name]} for name in ("PK", "SK")})


def _write(stored: StoredVersion, content: dict[str, Any]) -> None:
    again = ResourceDraft({name: value for name, value in content.items() if name not in ("id", "meta")}, record.BASE)
    entry = again.entry(stored.id, 1, stored.at)
    values = {**entry.values, "~producer": (f"|{stored.producer}",)}
    change = RecordVersion(
        key=stored.key,
        version=1,
        at=stored.at,
        body=again.body(stored.id, 1, stored.at),
        entry=replace(entry, values=values),
        producer=stored.producer,
        restriction=stored.restriction,
    )
    record.commit(change)


@pytest.mark.parametrize(
    ("seed", "role"), [(1, Role.PRACTICE), (2, Role.PRACTICE), (1, Role.PATIENT), (2, Role.REPRESENTATIVE)]
)
def test_a_record_with_hidden_documents_is_one_without(seed: int, role: str) -> None:
    """GEN-11, 66-5, DMP-18, DMP-22, DMP-23"""
    world = build(random.Random(seed), role, documents=8)
    with_hidden = answers(world, role)
    assert 0 < len(world.hidden) < len(world.documents)
    assert any("b'{" in each for each in with_hidden)  # something is told
    take_out(world)
    assert answers(world, role) == with_hidden


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
        _delete(found.key)
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
