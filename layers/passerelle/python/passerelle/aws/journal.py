"""The journal on DynamoDB: every change of a commit in one TransactWriteItems.

Each adapter registers how the changes of its capability are stored (`actions_of`). The items built here:

    clinical    O#<shard>             <ulid>     outbox: events, ttl             stream -> functions/relay
    operations  I#<client>#<key>      I          kept answer: fingerprint, c (sealed result), what it touches, ttl

Outbox items live in their own partitions, so that a patient's collection holds records only.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import singledispatch
from importlib import import_module
from typing import TYPE_CHECKING, Any

from passerelle.access import Touched
from passerelle.audit.model import AuditRecord
from passerelle.aws.dynamodb import MAX_ITEM_BYTES, Action, DynamoDb, Item, put
from passerelle.aws.keys import DataKeys, KeyTakenError, opened
from passerelle.aws.staging import StagedItemError, StagedRecord, Staging, fits_one_transaction
from passerelle.errors import Busy, Fault, Gone, TooLarge
from passerelle.events import Event, EventName
from passerelle.identifiers import Blinder
from passerelle.journal import AlreadyAnsweredError, Announcement, Answer, Change

if TYPE_CHECKING:
    from passerelle.aws.objects import S3Objects

OUTBOX_KEPT_SECONDS = 7 * 86_400
_MEETINGS = 10  # attempts of a commit that meets larger ones which are being made: two seconds or so


@dataclass(frozen=True, slots=True, kw_only=True)
class TableNames:
    """The deployed names of the tables (`aws/tables.py`), the blinder of the keys in them, and where large bodies go.

    `blinder` is called when a key is first needed: functions that blind nothing never fetch the secret. `keyring` has
    the keys that personal content is sealed under. Without `objects` a body that does not fit an item is refused.
    """

    clinical: str
    patients: str
    operations: str
    audit: str
    blinder: Callable[[], Blinder]
    keyring: Callable[[], DataKeys]
    objects: Callable[[], S3Objects] | None = None


@singledispatch
def actions_of(change: Change, tables: TableNames) -> Sequence[Action]:
    """The transaction actions that store a change.

    Changes of `passerelle.<capability>` are stored by `passerelle.aws.<capability>`, which registers them when it is
    imported: here, if nobody needed it before.
    """
    kind = type(change)
    _find_adapter(kind)
    registered = actions_of.dispatch(kind)
    if registered is actions_of.dispatch(Change):
        raise TypeError(f"no adapter stores {kind.__name__}")
    return registered(change, tables)


def _find_adapter(kind: type[Change]) -> None:
    import_module(f"passerelle.aws.{kind.__module__.split('.')[1]}")


@singledispatch
def begun_by(change: Change) -> str | None:
    """The source record that begins with a change: its data key is made in the same commit."""
    return None


@singledispatch
def staged_of(change: Change, tables: TableNames) -> StagedRecord | None:
    """How a change is staged when the commit is larger than one transaction; None: it is written with the flip."""
    return None


class DynamoJournal:
    """`journal.Journal`; refuses a commit that no audit record explains (law 5)."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._tables = tables
        self._staging = Staging(dynamodb, tables)

    def commit(self, changes: Sequence[Change]) -> None:
        if not any(isinstance(change, AuditRecord) for change in changes):
            raise Fault()
        # Answers come first: a repeated request learns of its answer before anything else that it would lose.
        ordered = sorted(changes, key=lambda change: not isinstance(change, Answer))
        for change in ordered:
            _find_adapter(type(change))
        begun = [patient for change in ordered if (patient := begun_by(change)) is not None]
        try:
            self._commit(ordered, begun)
        except KeyTakenError:  # by who wrote beside the record before it began
            self._commit(ordered, ())

    def _commit(self, changes: Sequence[Change], begun: Sequence[str]) -> None:
        keys = self._tables.keyring().bearing(begun)
        tables = replace(self._tables, keyring=lambda: keys)
        actions = [*(action for change in changes for action in actions_of(change, tables)), *keys.actions]
        if any(action.cost_bytes() > MAX_ITEM_BYTES for action in actions):
            raise TooLarge("what is to be stored is too large")
        for attempt in range(_MEETINGS):
            try:
                if fits_one_transaction(actions):
                    self._dynamodb.transact(actions)
                else:
                    self._commit_staged(changes, tables, keys.actions)
            except StagedItemError as met:
                self._staging.recover(met.transaction)
                self._dynamodb.back_off(attempt)
            else:
                keys.committed()
                return
        raise Busy(headers={"Retry-After": "1"})

    def _commit_staged(self, changes: Sequence[Change], tables: TableNames, at_last: Sequence[Action]) -> None:
        staged: list[StagedRecord] = []
        with_flip: list[Action] = []
        for change in changes:
            record = staged_of(change, tables)
            if record is None:
                with_flip += actions_of(change, tables)
            else:
                staged.append(record)
        self._staging.commit(staged, [*with_flip, *at_last])

    def find_answer(self, client_id: str, key: str) -> Answer | None:
        item = self._dynamodb.get(self._tables.operations, (f"I#{client_id}#{key}", "I"))
        if item is None:
            return None
        patients = tuple(item["patients"])
        result = self._kept_result(item, patients)
        if result is None:
            raise Gone("the record was erased")
        return Answer(
            client_id=client_id,
            key=key,
            fingerprint=item["fingerprint"],
            result=json.loads(result),
            touched=Touched(patients=patients, references=tuple(item["references"])),
            expires_at=item["ttl"],
        )

    def _kept_result(self, item: Item, patients: Sequence[str]) -> bytes | None:
        if "result" in item:
            return str(item["result"]).encode()
        result: bytes | None = item["c"]
        keys = self._tables.keyring()
        for patient in reversed(patients):
            if result is not None:
                result = opened(keys.find(patient), result, f"{item['PK']}|{patient}")
        return None if result is None else zlib.decompress(result)


def _taken(_: Item) -> Exception:
    return AlreadyAnsweredError()


@actions_of.register
def _(change: Answer, tables: TableNames) -> Sequence[Action]:
    pk = f"I#{change.client_id}#{change.key}"
    result = zlib.compress(json.dumps(change.result, separators=(",", ":")).encode(), 9)
    for patient in change.touched.patients:  # one under another: it is gone with the first of them who is
        result = tables.keyring().sealer(patient).seal(result, f"{pk}|{patient}")
    item = {
        "PK": pk,
        "SK": "I",
        "fingerprint": change.fingerprint,
        "c": result,
        "patients": list(change.touched.patients),
        "references": list(change.touched.references),
        "ttl": change.expires_at,
    }
    return [put(tables.operations, item, unless_exists=_taken)]


@actions_of.register
def _(change: Announcement, tables: TableNames) -> Sequence[Action]:
    if not change.events:
        return []
    item = {
        "PK": f"O#{change.id[-2:]}",
        "SK": change.id,
        "events": [event_to_map(event) for event in change.events],
        "ttl": int(change.events[0].at.timestamp()) + OUTBOX_KEPT_SECONDS,
    }
    return [put(tables.clinical, item)]


def event_to_map(event: Event) -> dict[str, Any]:
    """The wire form of an event, in the outbox and as EventBridge detail."""
    return {
        "id": event.id,
        "name": event.name.value,
        "reference": event.reference,
        "version": event.version,
        "at": event.at.isoformat(),
        "author": event.author,
        "patient": event.patient,
        **({"occurrence": event.occurrence} if event.occurrence else {}),
    }


def event_from_map(form: Mapping[str, Any]) -> Event:
    return Event(
        name=EventName(form["name"]),
        reference=form["reference"],
        version=int(form["version"]),
        at=datetime.fromisoformat(form["at"]),
        author=form["author"],
        patient=form["patient"],
        occurrence=form.get("occurrence"),
    )
