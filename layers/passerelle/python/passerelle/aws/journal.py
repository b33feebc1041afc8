"""The journal on DynamoDB: every change of a commit in one TransactWriteItems.

Each adapter registers how the changes of its capability are stored (`actions_of`). The items built here:

    clinical    O#<shard>             <ulid>     outbox: events, ttl             stream -> functions/relay
    operations  I#<client>#<key>      I          kept answer: fingerprint, result, what it touches, ttl

Outbox items live in their own partitions, so that a patient's collection holds records only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import singledispatch
from importlib import import_module
from typing import TYPE_CHECKING, Any

from passerelle.access import Touched
from passerelle.audit.model import AuditRecord
from passerelle.aws.dynamodb import MAX_ITEM_BYTES, Action, DynamoDb, Item, put
from passerelle.aws.staging import StagedItemError, StagedRecord, Staging, fits_one_transaction
from passerelle.errors import Busy, Fault, TooLarge
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

    `blinder` is called when a key is first needed: functions that blind nothing never fetch the secret. Without
    `objects` a body that does not fit an item is refused.
    """

    clinical: str
    patients: str
    operations: str
    audit: str
    blinder: Callable[[], Blinder]
    objects: Callable[[], S3Objects] | None = None


@singledispatch
def actions_of(change: Change, tables: TableNames) -> Sequence[Action]:
    """The transaction actions that store a change.

    Changes of `passerelle.<capability>` are stored by `passerelle.aws.<capability>`, which registers them when it is
    imported: here, if nobody needed it before.
    """
    kind = type(change)
    capability = kind.__module__.split(".")[1]
    import_module(f"passerelle.aws.{capability}")
    registered = actions_of.dispatch(kind)
    if registered is actions_of.dispatch(Change):
        raise TypeError(f"no adapter stores {kind.__name__}")
    return registered(change, tables)


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
        actions = [action for change in ordered for action in actions_of(change, self._tables)]
        if any(action.cost_bytes() > MAX_ITEM_BYTES for action in actions):
            raise TooLarge("what is to be stored is too large")
        for attempt in range(_MEETINGS):
            try:
                if fits_one_transaction(actions):
                    self._dynamodb.transact(actions)
                else:
                    self._commit_staged(ordered)
            except StagedItemError as met:
                self._staging.recover(met.transaction)
                self._dynamodb.back_off(attempt)
            else:
                return
        raise Busy(headers={"Retry-After": "1"})

    def _commit_staged(self, changes: Sequence[Change]) -> None:
        staged: list[StagedRecord] = []
        with_flip: list[Action] = []
        for change in changes:
            record = staged_of(change, self._tables)
            if record is None:
                with_flip += actions_of(change, self._tables)
            else:
                staged.append(record)
        self._staging.commit(staged, with_flip)

    def find_answer(self, client_id: str, key: str) -> Answer | None:
        item = self._dynamodb.get(self._tables.operations, (f"I#{client_id}#{key}", "I"))
        if item is None:
            return None
        return Answer(
            client_id=client_id,
            key=key,
            fingerprint=item["fingerprint"],
            result=json.loads(item["result"]),
            touched=Touched(patients=tuple(item["patients"]), references=tuple(item["references"])),
            expires_at=item["ttl"],
        )


def _taken(_: Item) -> Exception:
    return AlreadyAnsweredError()


@actions_of.register
def _(change: Answer, tables: TableNames) -> Sequence[Action]:
    item = {
        "PK": f"I#{change.client_id}#{change.key}",
        "SK": "I",
        "fingerprint": change.fingerprint,
        "result": json.dumps(change.result, separators=(",", ":")),
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
