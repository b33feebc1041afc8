"""Two worlds: a record with something hidden in it, and the same record without it, asked the same.

The second world is made from the first by taking out of the store, item by item, what is hidden from the caller,
and writing anew without it what speaks of it. All answers have to be equal: versions, bodies, totals, page borders,
cursors, refusals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from passerelle import wiring
from passerelle.access import Request
from passerelle.consents.visibility import label_system
from passerelle.errors import PasserelleError
from passerelle.fhir import json as fhir_json
from passerelle.fhir.resource import ResourceDraft
from passerelle.fhir.search import parse_query
from passerelle.identifiers import new_patient_key
from passerelle.patients.model import Person, PersonChange
from passerelle.records.model import RecordVersion, ResourceKey, StoredVersion, Subject
from passerelle.records.service import Written
from tests import record
from tests.people import person_of


def person(members: int) -> Person:
    """Somebody whom the index knows by the identifier that the tokens of `asking` name."""
    qualified = wiring.patient_index().blinded(("urn:ins", "1"))
    made = person_of(*(new_patient_key() for _ in range(members)), since=record.AT, qualified=qualified)
    record.commit(PersonChange(before=None, after=made, takes_from=made.key))
    return made


@dataclass
class World:
    """A person's record as it was written; `content` is what each version of each resource said."""

    person: Person
    hidden: set[str] = field(default_factory=set)  # ids
    documents: dict[str, frozenset[str]] = field(default_factory=dict)
    written: list[tuple[str, Written]] = field(default_factory=list)

    def create(self, request: Request, kind: str, /, **content: Any) -> str:
        """As by somebody to whom nothing was hidden yet: who writes may not speak of what is."""
        service, draft = wiring.record_service(), record.draft(kind, **content)
        plan = service.plan_create(request, draft, service.new(request, draft))
        record.commit(*plan.changes)
        self.written.append((kind, plan.written))
        return plan.written.id


def answers(world: World, request: Request) -> list[str]:
    """What the record says to one caller, asked in every way that there is, each answer in full."""
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
    """Make it the world in which what is hidden was never there: documents with what speaks of them."""
    gone = {f"DocumentReference/{id}" for id in world.hidden & world.documents.keys()}
    for type, made in world.written:
        stored = wiring.record_store().find_latest(made.key)
        assert stored is not None
        assert stored.body is not None
        content = fhir_json.loads(stored.body)
        speaks_of_hidden = any(_named({"item": each}) in gone for each in content.get("derivedFrom", ()))
        if speaks_of_hidden or made.id in world.hidden:
            delete(made.key)
        else:
            kept = {
                name: [each for each in value if _named(each) not in gone] if name in ("entry", "relatesTo") else value
                for name, value in content.items()
            }
            if kept == content:
                continue
            delete(made.key)
            if type == "List" and not kept["entry"]:
                continue
            if not kept.get("relatesTo", True):
                del kept["relatesTo"]
            _write(stored, kept)


def _named(part: dict[str, Any]) -> str:
    return str((part.get("item") or part.get("target") or {}).get("reference"))


def delete(key: ResourceKey) -> None:
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
