"""What reconciliation reads: the outbox, up to when its parts were compared, and who wants to hear something.

clinical    O#<shard>      <ulid>           outbox item (`journal.py`)
operations  RECONCILED     <part>           until
operations  HEARTBEATS     <subscription>   seconds, due: made and ended with the subscription (`notifications.py`)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from passerelle.aws.dynamodb import DynamoDb, Item, in_parallel, put, update
from passerelle.aws.journal import TableNames, event_from_map
from passerelle.errors import Stale
from passerelle.events import Event
from passerelle.identifiers import first_ulid
from passerelle.notifications.reconciling import PARTS, Silence

HEARTBEATS: Final = "HEARTBEATS"
_RECONCILED: Final = "RECONCILED"
_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_SHARDS: Final = [f"O#{first}{second}" for first in _DIGITS for second in _DIGITS]  # the end of an announcement's id
_AT_ONCE: Final = 16


class DynamoOutbox:
    """`notifications.reconciling.Outbox`."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._tables = tables

    def announced(self, part: int, since: datetime, until: datetime) -> Iterable[Event]:
        shards = _SHARDS[part::PARTS]
        between = (first_ulid(since), first_ulid(until))
        for start in range(0, len(shards), _AT_ONCE):
            some = shards[start : start + _AT_ONCE]
            for items in in_parallel(*(lambda shard=shard: self._items(shard, between) for shard in some)):
                for item in items:
                    yield from (event_from_map(form) for form in item["events"])

    def _items(self, shard: str, between: tuple[str, str]) -> list[Item]:
        return list(self._dynamodb.query_all(self._tables.clinical, shard, between=between))

    def compared(self, part: int) -> datetime | None:
        item = self._dynamodb.get(self._tables.operations, (_RECONCILED, str(part)))
        return datetime.fromisoformat(item["until"]) if item else None

    def mark(self, part: int, until: datetime) -> None:
        item = {"PK": _RECONCILED, "SK": str(part), "until": until.isoformat()}
        self._dynamodb.write(put(self._tables.operations, item))


class DynamoSilences:
    """`notifications.reconciling.Silences`."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._table = tables.operations

    def due(self, at: datetime) -> Sequence[Silence]:
        silences = (
            Silence(
                subscription=item["SK"],
                heartbeat=timedelta(seconds=int(item["seconds"])),
                due=datetime.fromisoformat(item["due"]),
            )
            for item in self._dynamodb.query_all(self._table, HEARTBEATS)
        )
        return [each for each in silences if each.due <= at]

    def look_again(self, silence: Silence, due: datetime) -> None:
        try:
            self._dynamodb.write(
                update(
                    self._table,
                    (HEARTBEATS, silence.subscription),
                    "SET due = :due",
                    {":due": due.isoformat(), ":read": silence.due.isoformat()},
                    condition="due = :read",
                    lost=lambda _: Stale(),
                )
            )
        except Stale:
            return  # the subscription ended, or was changed: it has another hour, or none


def heartbeat_item(subscription: str, heartbeat: timedelta, at: datetime) -> Item:
    return {
        "PK": HEARTBEATS,
        "SK": subscription,
        "seconds": int(heartbeat.total_seconds()),
        "due": (at + heartbeat).isoformat(),
    }
