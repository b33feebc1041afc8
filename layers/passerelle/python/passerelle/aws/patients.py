"""The patient index on DynamoDB.

    patients   K#<blind system|value>    O                       owner: the one record of a domain identifier
    patients   K#<blind system|value>    P                       person that a qualified national identifier names
    patients   K#<blind system|value>    R#<patient key>         a record carries the identifier
    patients   D#<blind birth date>      <blind prefix>#<key>#n  a record, by birth date and the first letters of name n
    patients   B#<blind block>           <slot>                  a record that may be the same person, sealed; or nobody
    patients   S#<patient key>           PLACES                  the slots that a record holds
    patients   S#<patient key>           H#<ulid>                what happened to the links of a record
    patients   S#<patient key>           D#<ulid>                what was decided about the shared record
    patients   L#<person key>            LINKS                   revision of a person; its records and links, sealed
    clinical   P#<patient key>           c#PERSON                the same, beside the record of each member
    patients   Q#<patient key>           <patient key>           are two records one person? the review, sealed, by each
    patients   W                         <status>#<ulid>         the same: the worklist, oldest first

Keys hold blinded values only (`identifiers.Blinder`). What a person's records are known by, and what was decided about
them, is sealed under the data key of the record that the copy is beside (`keys.py`); what has to be compared with
others or listed across them, under that of the index. The copy beside the record lets a search read consent and
clinical entries in one round trip; it is replaced in the transaction that changes the links.

Slots of a block are numbered and taken once (`attribute_not_exists`): a registration that looked into a block is
Stale if another one entered it meanwhile, so that two registrations of one newcomer can never miss each other. The
slot of a record that left its block stays taken for a day: numbers may not be given again while anybody looks at them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

from passerelle.aws.dynamodb import (
    Action,
    DynamoDb,
    Item,
    Key,
    check_absent,
    check_if,
    delete,
    delete_if,
    in_parallel,
    put,
    put_if,
)
from passerelle.aws.journal import TableNames, actions_of
from passerelle.aws.keys import DataKeys, opened, place_of, sealed, sealed_with, unsealed, unsealed_with
from passerelle.aws.policies import policy_from_map, policy_to_map
from passerelle.aws.sealing import Sealer
from passerelle.errors import Stale
from passerelle.identifiers import Blinder
from passerelle.matching.blocking import Block
from passerelle.matching.record import MatchRecord
from passerelle.patients.model import (
    Blocked,
    BlockPage,
    Decision,
    DecisionKind,
    HistoryKind,
    Identifier,
    IdentityEvent,
    Link,
    Listing,
    Member,
    Person,
    PersonChange,
    PersonHolds,
    Place,
    RecordDecision,
    Review,
    ReviewChange,
    ReviewStatus,
    Rule,
    SourceRecordChange,
)
from passerelle.patients.search import name_keys

PREFIX_LETTERS = 3  # RNIV: birth date, then at most the first three letters of a name
BLOCK_LIMIT = 100  # records of one block that are compared
_LEFT_KEPT = timedelta(days=1)
_WORDS = frozenset({"reason", "evidence", "party"})  # of what is kept about a record: these tell of people
_SEEN = frozenset({"seen", "decision"})  # the same of a question about two


class DynamoPatientIndex:
    """`patients.ports.PatientIndex`, `patients.ports.Reviews` and `patients.ports.RecordDecisions`."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._tables = tables

    def find_person(self, patient: str) -> Person | None:
        keyring = self._tables.keyring()
        read = partial(self._dynamodb.get, self._tables.clinical, (f"P#{patient}", "c#PERSON"))
        item = keyring.beside(read, patient)
        return person_from_item(item, keyring) if item else None

    def find_by_identifier(self, system: str, value: str) -> Sequence[str]:
        pk = f"K#{_blind_identifier(self._tables.blinder(), system, value)}"
        items = list(self._dynamodb.query_all(self._tables.patients, pk))
        owners = [item["patient"] for item in items if item["SK"] == "O"]
        carriers = [item["SK"].removeprefix("R#") for item in items if item["SK"].startswith("R#")]
        return list(dict.fromkeys([*owners, *carriers]))

    def find_owner(self, system: str, value: str) -> str | None:
        return self._key_item(system, value, "O", "patient")

    def find_person_of(self, system: str, value: str) -> str | None:
        return self._key_item(system, value, "P", "person")

    def _key_item(self, system: str, value: str, kind: str, attribute: str) -> str | None:
        pk = f"K#{_blind_identifier(self._tables.blinder(), system, value)}"
        item = self._dynamodb.get(self._tables.patients, (pk, kind))
        return item[attribute] if item else None

    def find_links(self, person: str) -> Person | None:
        item = self._dynamodb.get(self._tables.patients, (f"L#{person}", "LINKS"))
        return person_from_item(item, self._tables.keyring()) if item else None

    def find_by_birth_date(self, birth_date: date, name_prefix: str) -> Sequence[str]:
        blinder = self._tables.blinder()
        prefix = None
        if len(name_prefix) >= PREFIX_LETTERS:
            prefix = f"{_blind_prefix(blinder, name_prefix)}#"
        items = self._dynamodb.query_all(
            self._tables.patients, f"D#{blinder.blind('birth-date', birth_date.isoformat())}", prefix=prefix
        )
        sealer = _sealer(self._tables)
        named = ((item["patient"], sealer.open(item["name"], place_of(item, "name")).decode()) for item in items)
        return list(dict.fromkeys(patient for patient, name in named if name.startswith(name_prefix)))

    def look_up(self, blocks: Sequence[Block], named: str | None) -> tuple[Sequence[BlockPage], Person | None]:
        blinder = self._tables.blinder()
        person, *pages = in_parallel(
            partial(self._find_named, named),
            *(partial(self._find_block, _blind_block(blinder, each)) for each in blocks),
        )
        return pages, person

    def _find_named(self, blinded: str | None) -> Person | None:
        if blinded is None:
            return None
        pointer = self._dynamodb.get(self._tables.patients, (f"K#{blinded}", "P"))
        return self.find_links(pointer["person"]) if pointer else None

    def _find_block(self, key: str) -> BlockPage:
        items = self._dynamodb.query_all(self._tables.patients, f"B#{key}", descending=True, limit=BLOCK_LIMIT + 1)
        sealer = _sealer(self._tables)
        latest = 0
        entries: list[Blocked] = []
        for item in items:  # slots that were left are read over: they may hide nobody
            latest = latest or int(item["SK"])
            if "patient" in item:
                record = MatchRecord.unpack(sealer.open(item["traits"], f"B#{key}"))
                entries.append(Blocked(patient=item["patient"], record=record))
            if len(entries) > BLOCK_LIMIT:
                break
        place = Place(key=key, slot=latest + 1)
        return BlockPage(place=place, entries=tuple(entries), is_full=len(entries) > BLOCK_LIMIT)

    def find_places(self, patient: str) -> Sequence[Place]:
        item = self._dynamodb.get(self._tables.patients, (f"S#{patient}", "PLACES"))
        return [Place(key=key, slot=slot) for key, slot in item["places"].items()] if item else []

    def blinded(self, identifier: Identifier) -> str:
        return _blind_identifier(self._tables.blinder(), *identifier)

    # --- the worklist ---------------------------------------------------------------------------------------------

    def find_review(self, review: str) -> Review | None:
        keys = [("W", f"{status.value}#{review}") for status in ReviewStatus]
        found = in_parallel(*(partial(self._dynamodb.get, self._tables.patients, key) for key in keys))
        return next((self._review(item) for item in found if item is not None), None)

    def reviews_of(self, patient: str) -> Sequence[Review]:
        return [self._review(item) for item in self._dynamodb.query_all(self._tables.patients, f"Q#{patient}")]

    def listed(self, status: ReviewStatus, *, count: int, after: str | None) -> tuple[Sequence[Review], str | None]:
        items, last = self._dynamodb.query(
            self._tables.patients,
            "W",
            prefix=f"{status.value}#",
            limit=count,
            start_after=f"{status.value}#{after}" if after else None,
        )
        return [self._review(item) for item in items], last.partition("#")[2] if last else None

    def _review(self, item: Item) -> Review:
        return _review_from_item(unsealed_with(Sealer(self._tables.blinder().subkey("reviews")), item, _SEEN))

    def history_of(self, patient: str) -> Sequence[IdentityEvent]:
        return [_event_from_item(item) for item in self._told(patient, "H#")]

    def _told(self, patient: str, prefix: str) -> Sequence[Item]:
        """What is kept about a record in words, which are gone once it is erased."""
        keyring = self._tables.keyring()

        def read() -> list[Item]:
            return list(self._dynamodb.query_all(self._tables.patients, f"S#{patient}", prefix=prefix))

        return [unsealed(item, _WORDS, patient, keyring) for item in keyring.beside(read, patient)]

    def decisions_of(self, patient: str) -> Sequence[RecordDecision]:
        return [_record_decision_from_item(item) for item in self._told(patient, "D#")]


# --- forms of items -----------------------------------------------------------------------------------------------


def person_from_item(item: Item, keys: DataKeys) -> Person | None:
    """The person of a copy; None if what it was sealed under was destroyed."""
    said: Item = item
    if "c" in item:
        plain = opened(keys.find(item["of"]), item["c"], place_of(item))
        if plain is None:
            return None
        said = json.loads(zlib.decompress(plain))
    return Person(
        key=item["person"],
        records=tuple(_member_from_item(each) for each in said["records"]),
        links=tuple(
            Link(
                id=each["id"],
                first=each["first"],
                second=each["second"],
                rule=Rule(each["rule"]),
                at=datetime.fromisoformat(each["at"]),
            )
            for each in said["links"]
        ),
        revision=item["revision"],
    )


def _member_from_item(item: Item) -> Member:
    return Member(
        patient=item["patient"],
        origin=item["origin"],
        since=datetime.fromisoformat(item["since"]),
        policy=policy_from_map(item["policy"]),
        qualified=item.get("qualified"),
        identifiers=tuple((system, value) for system, value in item["identifiers"]),
        is_barred=item.get("barred", False),
        replaced_by=item.get("replaced_by"),
        is_removed=item.get("removed", False),
        is_erased=item.get("erased", False),
    )


def person_to_item(key: Key, person: Person, keys: DataKeys) -> Item:
    """The copy of a person, sealed under the key of the record that it is beside; elsewhere, of the first of them."""
    item: Item = {"PK": key[0], "SK": key[1], "person": person.key, "revision": person.revision}
    said = _person_attributes(person)
    if person.is_erased or not person.records:  # nothing of it is personal, and the key is to be destroyed
        return {**item, **said}
    beside = key[0].removeprefix("P#")
    patient = beside if beside in person.members else person.members[0]
    packed = zlib.compress(json.dumps(said, separators=(",", ":")).encode(), 9)
    return {**item, "of": patient, "c": keys.sealer(patient).seal(packed, place_of(item))}


def _person_attributes(person: Person) -> dict[str, Any]:
    return {
        "records": [_member_attributes(each) for each in person.records],
        "links": [
            {
                "id": each.id,
                "first": each.first,
                "second": each.second,
                "rule": each.rule.value,
                "at": each.at.isoformat(),
            }
            for each in person.links
        ],
    }


def _member_attributes(member: Member) -> dict[str, Any]:
    return {
        "patient": member.patient,
        "origin": member.origin,
        "since": member.since.isoformat(),
        "policy": policy_to_map(member.policy),
        "identifiers": [list(each) for each in member.identifiers],
        **({"qualified": member.qualified} if member.qualified else {}),
        **({"barred": True} if member.is_barred else {}),
        **({"replaced_by": member.replaced_by} if member.replaced_by else {}),
        **({"removed": True} if member.is_removed else {}),
        **({"erased": True} if member.is_erased else {}),
    }


def _review_attributes(review: Review) -> dict[str, Any]:
    decision = review.decision
    return {
        "id": review.id,
        "first": review.first,
        "second": review.second,
        "status": review.status.value,
        "raised_at": review.raised_at.isoformat(),
        "cause": review.cause,
        "grade": review.grade,
        "seen": json.dumps({"score": review.score, "evidence": review.evidence}, separators=(",", ":")),
        **({"decision": json.dumps(_decision_attributes(decision), separators=(",", ":"))} if decision else {}),
    }


def _decision_attributes(decision: Decision) -> dict[str, Any]:
    return {
        "by": decision.by,
        "at": decision.at.isoformat(),
        "reason": decision.reason,
        "professional": decision.professional,
    }


def _review_from_item(item: Item) -> Review:
    seen = json.loads(item["seen"])
    decision = json.loads(item["decision"]) if "decision" in item else None
    return Review(
        id=item["id"],
        first=item["first"],
        second=item["second"],
        status=ReviewStatus(item["status"]),
        score=seen["score"],
        grade=item["grade"],
        evidence=seen["evidence"],
        raised_at=datetime.fromisoformat(item["raised_at"]),
        cause=item["cause"],
        decision=Decision(**{**decision, "at": datetime.fromisoformat(decision["at"])}) if decision else None,
    )


def _event_from_item(item: Item) -> IdentityEvent:
    return IdentityEvent(
        id=item["SK"].removeprefix("H#"),
        patient=item["PK"].removeprefix("S#"),
        kind=HistoryKind(item["kind"]),
        rule=Rule(item["rule"]),
        at=datetime.fromisoformat(item["at"]),
        by=item["by"],
        with_records=tuple(item["with"]),
        professional=item["professional"],
        reason=item.get("reason", ""),
        evidence=json.loads(item.get("evidence", "{}")),
    )


def _record_decision_from_item(item: Item) -> RecordDecision:
    return RecordDecision(
        id=item["SK"].removeprefix("D#"),
        patient=item["PK"].removeprefix("S#"),
        kind=DecisionKind(item["kind"]),
        at=datetime.fromisoformat(item["at"]),
        by=item["by"],
        role=item["role"],
        organisation=item["organisation"],
        professional=item.get("professional"),
        motive=item.get("motive"),
        reason=item.get("reason", ""),
        physician=item.get("physician"),
        is_consented=item.get("consented", False),
        party=item.get("party"),
        since=datetime.fromisoformat(item["since"]) if "since" in item else None,
        until=datetime.fromisoformat(item["until"]) if "until" in item else None,
        references=tuple(item.get("references", ())),
    )


def _blind_identifier(blinder: Blinder, system: str, value: str) -> str:
    return blinder.blind("identifier", f"{system}\x00{value}")  # a value may hold any other separator


def _blind_prefix(blinder: Blinder, name: str) -> str:
    return blinder.blind("name-prefix", name[:PREFIX_LETTERS])[:16]


def _blind_block(blinder: Blinder, block: Block) -> str:
    return blinder.blind(f"block-{block.namespace}", block.value)


def _sealer(tables: TableNames) -> Sealer:
    return Sealer(tables.blinder().subkey("match-records"))


# --- how changes are stored ---------------------------------------------------------------------------------------


def _overtaken(_: Item) -> Exception:
    return Stale("another registration of this person came first; repeat the same request")


@actions_of.register
def _(change: PersonChange, tables: TableNames) -> Sequence[Action]:
    after, keys = change.after, tables.keyring()
    links = person_to_item((f"L#{after.key}", "LINKS"), after, keys)
    if change.before is None:
        actions = [put(tables.patients, links, unless_exists=_overtaken)]
    else:
        values = {":revision": change.before.revision}
        actions = [put_if(tables.patients, links, "revision = :revision", values, _overtaken)]
    if change.takes_from is not None:
        pointer = {"PK": f"K#{after.qualified}", "SK": "P", "person": after.key}
        condition = "attribute_not_exists(PK) OR person = :before"
        actions.append(put_if(tables.patients, pointer, condition, {":before": change.takes_from}, _overtaken))
    if change.releases is not None:
        pointer_key = (f"K#{change.releases}", "P")
        actions.append(delete_if(tables.patients, pointer_key, "person = :key", {":key": after.key}, _overtaken))
    copies = [put(tables.clinical, person_to_item((f"P#{m}", "c#PERSON"), after, keys)) for m in after.members]
    return [*actions, *copies]


@actions_of.register
def _(change: PersonHolds, tables: TableNames) -> Sequence[Action]:
    # The copy beside the record: whatever changes the person replaces it.
    values = {":person": change.person.key, ":revision": change.person.revision}
    condition = "person = :person AND revision = :revision"
    return [check_if(tables.clinical, (f"P#{change.patient}", "c#PERSON"), condition, values, _overtaken)]


@actions_of.register
def _(change: SourceRecordChange, tables: TableNames) -> Sequence[Action]:
    actions = []
    if change.domain_identifier:
        key = f"K#{_blind_identifier(tables.blinder(), *change.domain_identifier)}"
        if change.after is None:
            actions.append(delete_if(tables.patients, (key, "O"), "patient = :me", {":me": change.patient}, _overtaken))
        else:
            owner = {"PK": key, "SK": "O", "patient": change.patient}
            actions.append(put(tables.patients, owner, unless_exists=_overtaken))
    wanted = _look_up_items(change.patient, change.after, tables)
    stale = _look_up_items(change.patient, change.before, tables)
    actions += [put(tables.patients, item) for key, item in wanted.items() if stale.get(key) != item]
    actions += [delete(tables.patients, key) for key in stale.keys() - wanted.keys()]
    return [*actions, *_block_actions(change, tables)]


def _block_actions(change: SourceRecordChange, tables: TableNames) -> list[Action]:
    before, after = change.before, change.after
    old = before.places if before else ()
    new = after.places if after else ()
    actions = []
    if after is not None and old != new:
        packed, sealer = after.record.pack(), _sealer(tables)
        for place in new:
            item = {**_slot(place), "patient": change.patient, "traits": sealer.seal(packed, f"B#{place.key}")}
            actions.append(put(tables.patients, item, unless_exists=_overtaken))
    nobody = {"ttl": int((change.at + _LEFT_KEPT).timestamp())}
    entered = {place.key for place in new}
    mine = {":me": change.patient}
    for place in old if old != new else ():
        slot = _slot(place)
        if place.key in entered:  # at a higher slot, so this one is not given again
            actions.append(delete_if(tables.patients, (slot["PK"], slot["SK"]), "patient = :me", mine, _overtaken))
        else:
            actions.append(put_if(tables.patients, {**slot, **nobody}, "patient = :me", mine, _overtaken))
    for place in change.looked_into:
        slot = _slot(place)
        actions.append(check_absent(tables.patients, (slot["PK"], slot["SK"]), _overtaken))
    if old != new:
        places: Item = {"PK": f"S#{change.patient}", "SK": "PLACES", "places": {each.key: each.slot for each in new}}
        actions.append(put(tables.patients, places) if new else delete(tables.patients, (places["PK"], "PLACES")))
    return actions


def _slot(place: Place) -> dict[str, str]:
    return {"PK": f"B#{place.key}", "SK": f"{place.slot:09d}"}


def _look_up_items(patient: str, listing: Listing | None, tables: TableNames) -> dict[tuple[str, str], Item]:
    """The same items for the same traits, bytes included."""
    if listing is None:
        return {}
    traits, blinder = listing.traits, tables.blinder()
    items: list[Item] = [
        {"PK": f"K#{_blind_identifier(blinder, system, value)}", "SK": f"R#{patient}"}
        for system, value in traits.identifiers
        if (system, value) != traits.national or traits.is_qualified
    ]
    if traits.birth_date:
        pk = f"D#{blinder.blind('birth-date', traits.birth_date.isoformat())}"
        sealer = _sealer(tables)
        for n, name in enumerate(name_keys(traits)):
            item: Item = {"PK": pk, "SK": f"{_blind_prefix(blinder, name)}#{patient}#{n}", "patient": patient}
            items.append({**item, "name": sealer.seal_alike(name.encode(), place_of(item, "name"))})
    return {(item["PK"], item["SK"]): item for item in items}


@actions_of.register
def _(change: ReviewChange, tables: TableNames) -> Sequence[Action]:
    before, after = change.before, change.after
    attributes, sealer = _review_attributes(after), Sealer(tables.blinder().subkey("reviews"))
    listed: Item = {"PK": "W", "SK": f"{after.status.value}#{after.id}", **attributes}
    actions = [put(tables.patients, sealed_with(sealer, listed, _SEEN))]
    if before is not None and (before.status, before.id) != (after.status, after.id):
        actions.append(delete(tables.patients, ("W", f"{before.status.value}#{before.id}")))
    for patient in dict.fromkeys((after.first, after.second)):
        item = sealed_with(sealer, {"PK": f"Q#{patient}", "SK": after.other(patient), **attributes}, _SEEN)
        if before is None:
            actions.append(put(tables.patients, item, unless_exists=_overtaken))
        else:
            values = {":id": before.id, ":status": before.status.value}
            names_status = "id = :id AND #s = :status"
            actions.append(_put_named(tables.patients, item, names_status, values))
    return actions


def _put_named(table: str, item: Item, condition: str, values: Mapping[str, Any]) -> Action:
    action = put_if(table, item, condition, values, _overtaken)
    return Action(
        table=table,
        kind=action.kind,
        request={**action.request, "ExpressionAttributeNames": {"#s": "status"}},  # a reserved word
        lost=action.lost,
    )


@actions_of.register
def _(change: IdentityEvent, tables: TableNames) -> Sequence[Action]:
    item = {
        "PK": f"S#{change.patient}",
        "SK": f"H#{change.id}",
        "kind": change.kind.value,
        "rule": change.rule.value,
        "at": change.at.isoformat(),
        "by": change.by,
        "professional": change.professional,
        "with": list(change.with_records),
        "reason": change.reason,
        "evidence": json.dumps(change.evidence, separators=(",", ":")),
    }
    return [put(tables.patients, sealed(item, _WORDS, change.patient, tables.keyring()))]


@actions_of.register
def _(change: RecordDecision, tables: TableNames) -> Sequence[Action]:
    item = {
        "PK": f"S#{change.patient}",
        "SK": f"D#{change.id}",
        "kind": change.kind.value,
        "at": change.at.isoformat(),
        "by": change.by,
        "role": change.role,
        "organisation": change.organisation,
        **({"professional": change.professional} if change.professional else {}),
        **({"motive": change.motive} if change.motive else {}),
        **({"reason": change.reason} if change.reason else {}),
        **({"physician": change.physician} if change.physician else {}),
        **({"consented": True} if change.is_consented else {}),
        **({"party": change.party} if change.party else {}),
        **({"since": change.since.isoformat()} if change.since else {}),
        **({"until": change.until.isoformat()} if change.until else {}),
        **({"references": list(change.references)} if change.references else {}),
    }
    return [put(tables.patients, sealed(item, _WORDS, change.patient, tables.keyring()))]
