"""The patient index on DynamoDB.

    patients   K#<blind system|value>    O                       owner: the one record of a domain identifier
    patients   K#<blind system|value>    P                       person that a qualified national identifier names
    patients   K#<blind system|value>    R#<patient key>         a record carries the identifier
    patients   D#<blind birth date>      <blind prefix>#<key>#n  a record, by birth date and the first letters of name n
    patients   L#<person key>            LINKS                   members, policy, revision: the links of a person
    clinical   P#<patient key>           c#PERSON                the same, beside the record of each member

Keys hold blinded values only (`identifiers.Blinder`). The copy beside the record lets a search read consent and
clinical entries in one round trip; it is replaced in the transaction that changes the links.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from functools import partial
from typing import Any

from passerelle.aws.dynamodb import Action, DynamoDb, Item, delete, put, put_if
from passerelle.aws.journal import TableNames, actions_of
from passerelle.consents.model import Policy, RecordStatus
from passerelle.errors import Stale
from passerelle.identifiers import Blinder
from passerelle.patients.model import Person, PersonChange, SourceRecordChange, Traits
from passerelle.patients.names import normalised

PREFIX_LETTERS = 3  # RNIV: birth date, then at most the first three letters of a name


class DynamoPatientIndex:
    """`patients.ports.PatientIndex`."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._tables = tables

    def find_person(self, patient: str) -> Person | None:
        item = self._dynamodb.get(self._tables.clinical, (f"P#{patient}", "c#PERSON"))
        return person_from_item(item) if item else None

    def find_by_identifier(self, system: str, value: str) -> Sequence[str]:
        pk = f"K#{_blind_identifier(self._tables.blinder(), system, value)}"
        items = self._dynamodb.query_all(self._tables.patients, pk, prefix="R#")
        return [item["SK"].removeprefix("R#") for item in items]

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
        return person_from_item(item) if item else None

    def find_by_birth_date(self, birth_date: date, family_prefix: str) -> Sequence[str]:
        blinder = self._tables.blinder()
        prefix = None
        if len(family_prefix) >= PREFIX_LETTERS:
            prefix = f"{_blind_prefix(blinder, family_prefix)}#"
        items = self._dynamodb.query_all(
            self._tables.patients, f"D#{blinder.blind('birth-date', birth_date.isoformat())}", prefix=prefix
        )
        return list(dict.fromkeys(i["patient"] for i in items if i["family"].startswith(family_prefix)))


def person_from_item(item: Item) -> Person:
    policy = item["policy"]
    return Person(
        key=item["person"],
        members=tuple(item["members"]),
        policy=Policy(
            status=RecordStatus(policy["status"]),
            since=datetime.fromisoformat(policy["since"]),
            closing_reason=policy.get("closing_reason"),
        ),
        revision=item["revision"],
    )


def person_attributes(person: Person) -> dict[str, Any]:
    policy = person.policy
    return {
        "person": person.key,
        "members": list(person.members),
        "policy": {
            "status": policy.status.value,
            "since": policy.since.isoformat(),
            **({"closing_reason": policy.closing_reason} if policy.closing_reason else {}),
        },
        "revision": person.revision,
    }


def _blind_identifier(blinder: Blinder, system: str, value: str) -> str:
    return blinder.blind("identifier", f"{system}|{value}")


def _blind_prefix(blinder: Blinder, name: str) -> str:
    return blinder.blind("name-prefix", name[:PREFIX_LETTERS])[:16]


def _overtaken(_: Item) -> Exception:
    return Stale("another registration of this person came first; repeat the same request")


@actions_of.register
def _(change: PersonChange, tables: TableNames) -> Sequence[Action]:
    after = change.after
    attributes = person_attributes(after)
    links = {"PK": f"L#{after.key}", "SK": "LINKS", **attributes}
    if change.before is None:
        guarded = put(tables.patients, links, unless_exists=_overtaken)
    else:
        values = {":revision": change.before.revision}
        guarded = put_if(tables.patients, links, "revision = :revision", values, _overtaken)
    copies = [put(tables.clinical, {"PK": f"P#{m}", "SK": "c#PERSON", **attributes}) for m in after.members]
    return [guarded, *copies]


@actions_of.register
def _(change: SourceRecordChange, tables: TableNames) -> Sequence[Action]:
    identifier_key = partial(_blind_identifier, tables.blinder())
    actions = []
    if change.domain_identifier:
        owner = {"PK": f"K#{identifier_key(*change.domain_identifier)}", "SK": "O", "patient": change.patient}
        actions.append(put(tables.patients, owner, unless_exists=_overtaken))
    if change.national_identifier:
        item = {"PK": f"K#{identifier_key(*change.national_identifier)}", "SK": "P", "person": change.person}
        condition = "attribute_not_exists(PK) OR person = :person"
        actions.append(put_if(tables.patients, item, condition, {":person": change.person}, _overtaken))
    wanted = _look_up_items(change.patient, change.after, tables.blinder())
    stale = _look_up_items(change.patient, change.before, tables.blinder()) if change.before else {}
    actions += [put(tables.patients, item) for key, item in wanted.items() if stale.get(key) != item]
    actions += [delete(tables.patients, key) for key in stale.keys() - wanted.keys()]
    return actions


def _look_up_items(patient: str, traits: Traits, blinder: Blinder) -> dict[tuple[str, str], Item]:
    items = [
        {"PK": f"K#{_blind_identifier(blinder, system, value)}", "SK": f"R#{patient}"}
        for system, value in traits.identifiers
    ]
    if traits.birth_date:
        pk = f"D#{blinder.blind('birth-date', traits.birth_date.isoformat())}"
        names = dict.fromkeys(normalised(name) for name in traits.family_names)
        items += [
            {"PK": pk, "SK": f"{_blind_prefix(blinder, name)}#{patient}#{n}", "patient": patient, "family": name}
            for n, name in enumerate(names)
        ]
    return {(item["PK"], item["SK"]): item for item in items}
