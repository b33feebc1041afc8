"""The inbox of messages on DynamoDB, and as of when what they tell of is known.

    operations   IN#<id>        M              a message: client, format, digest, status, reason, path, kind, made,
                                               lost, kept, passed_over, s (sealed control id), c (sealed original); ttl
    operations   IN#<id>        C#<nn>         the original, sealed, in parts: of one that does not fit its item
    operations   IW#<client>    <time>#<id>    messages that are not applied, the oldest first
    operations   IP#<hash>      P              as of when a Patient, a visit, the results of an order ... are known:
                                               n: revision, newest: the time by hash of what each is found by; ttl

The id is a keyed hash of client, sender and control id. The original is kept until the message is applied, sealed under
a key of the exchange: nobody has looked up yet whose record it belongs to. Parts are written after their item: what is
there and not whole is found, listed, and made whole by the same message again.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from passerelle.aws.dynamodb import Action, DynamoDb, Item, check_if, delete, delete_if, put, put_if, update
from passerelle.aws.journal import TableNames, actions_of
from passerelle.aws.sealing import Sealer
from passerelle.errors import Unavailable
from passerelle.ingestion.model import Advance, Inbound, OvertakenError, Position, Reason, Settled, SourceFormat, Status

APPLIED_KEPT: Final = timedelta(days=90)
POSITION_KEPT: Final = timedelta(days=400)
_INLINE_BYTES: Final = 200 * 1024
_PART_BYTES: Final = 380 * 1024
_PARTS_AT_ONCE: Final = 9  # a transaction takes 4 MB
_FOREVER: Final = 2**53
_MOST_KEPT: Final = 4000  # parts of one position, in an item of 400 KB
_IS_OPEN: Final = "attribute_exists(PK) AND #status <> :applied"
_SETTLED: Final = (
    "SET #status = :status, kind = :kind, reason = :reason, #path = :path, made = :made, lost = :lost, "
    "kept = :kept, passed_over = :passed, settled_at = :settled"
)


class _KnownError(Exception):
    """The message is there already."""

    def __init__(self, item: Item) -> None:
        super().__init__()
        self.item = item


class _WaitsNoMoreError(Unavailable):
    """The message was applied meanwhile, or given up: who sends it again learns which."""


class DynamoInbox:
    """`ingestion.ports.Inbox`."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._tables = tables
        self._table = tables.operations

    def find(self, id: str, *, at: datetime) -> Inbound | None:
        item = self._dynamodb.get(self._table, _key(id))
        return self._inbound(item) if item and item.get("ttl", _FOREVER) >= at.timestamp() else None

    def receive(self, inbound: Inbound, original: bytes) -> Inbound:
        sealer, place = self._sealer, f"IN#{inbound.id}"
        # Alike each time: the parts of two attempts make one whole.
        packed = sealer.seal_alike(zlib.compress(original, 6), place)
        parts = [packed[start : start + _PART_BYTES] for start in range(0, len(packed), _PART_BYTES)]
        is_inline = len(packed) <= _INLINE_BYTES
        inbound = replace(inbound, parts=0 if is_inline else len(parts))
        item = {
            "PK": place,
            "SK": "M",
            "client": inbound.client_id,
            "format": inbound.format.value,
            "digest": inbound.digest,
            "received_at": inbound.received_at.isoformat(),
            "status": inbound.status.value,
            "kind": inbound.kind,
            "s": sealer.seal_alike(inbound.control_id.encode(), f"{place}|s"),
            **({"c": packed} if is_inline else {"parts": len(parts)}),
        }
        is_free = "attribute_not_exists(PK) OR #ttl < :now"
        now = {":now": int(inbound.received_at.timestamp())}
        waits = put(self._table, {"PK": f"IW#{inbound.client_id}", "SK": _waits(inbound)})
        try:
            new = put_if(self._table, item, is_free, now, _KnownError, names={"#ttl": "ttl"})
            self._dynamodb.transact([new, waits])
        except _KnownError as known:
            inbound = self._inbound(known.item)
            if inbound.digest != item["digest"] or inbound.is_applied:
                return inbound
        if inbound.parts:
            try:
                self._keep(inbound, parts)
            except _WaitsNoMoreError:  # another attempt applied it, and let the parts go
                return self.find(inbound.id, at=inbound.received_at) or inbound
        return inbound

    def _keep(self, inbound: Inbound, parts: Sequence[bytes]) -> None:
        """Parts are only ever beside a message that needs them."""
        values, names = {":applied": Status.APPLIED.value}, {"#status": "status"}
        needed = check_if(self._table, _key(inbound.id), _IS_OPEN, values, _no_more, names=names)
        puts = [put(self._table, {"PK": f"IN#{inbound.id}", "SK": _part(n), "c": part}) for n, part in enumerate(parts)]
        for start in range(0, len(puts), _PARTS_AT_ONCE):
            self._dynamodb.transact([*puts[start : start + _PARTS_AT_ONCE], needed])

    def original(self, inbound: Inbound) -> bytes | None:
        items = {item["SK"]: item for item in self._dynamodb.query_all(self._table, f"IN#{inbound.id}")}
        places = [_part(number) for number in range(inbound.parts)] or ["M"]
        parts: list[bytes] = [items[place]["c"] for place in places if "c" in items.get(place, {})]
        if len(parts) < len(places):
            return None
        return zlib.decompress(self._sealer.open(b"".join(parts), f"IN#{inbound.id}"))

    def settle(self, inbound: Inbound) -> Inbound:
        try:
            self._dynamodb.transact(_settled(inbound, self._table))
        except _WaitsNoMoreError:
            return self.find(inbound.id, at=inbound.received_at) or inbound
        return inbound

    def discard(self, inbound: Inbound) -> Inbound | None:
        key, values, names = _key(inbound.id), {":applied": Status.APPLIED.value}, {"#status": "status"}
        may_go = "attribute_not_exists(PK) OR #status <> :applied"
        given_up = delete_if(self._table, key, may_go, values, _KnownError, names=names)
        try:
            self._dynamodb.transact([given_up, *_let_go(inbound, self._table)])
        except _KnownError as known:
            return self._inbound(known.item)
        return None

    def waiting(self, client_id: str, status: Status | None, *, after: str, limit: int) -> tuple[list[Inbound], str]:
        found: list[Inbound] = []
        place: str | None = after or None
        while len(found) < limit:
            listed, place = self._dynamodb.query(
                self._table, f"IW#{client_id}", start_after=place, limit=limit - len(found)
            )
            keys = [_key(item["SK"].rpartition("#")[2]) for item in listed]
            items = self._dynamodb.get_many(self._table, keys)
            each = [self._inbound(items[key]) for key in keys if key in items]
            found += [one for one in each if status is None or one.status is status]
            if place is None:
                break
        return found, place or ""

    @property
    def _sealer(self) -> Sealer:
        return Sealer(self._tables.blinder().subkey("ingestion"))

    def _inbound(self, item: Item) -> Inbound:
        id = item["PK"].partition("#")[2]
        settled = item.get("settled_at")
        return Inbound(
            id=id,
            client_id=item["client"],
            format=SourceFormat(item["format"]),
            control_id=self._sealer.open(item["s"], f"IN#{id}|s").decode(),
            digest=item["digest"],
            received_at=datetime.fromisoformat(item["received_at"]),
            parts=item.get("parts", 0),
            status=Status(item["status"]),
            kind=item["kind"],
            reason=Reason(item["reason"]) if item.get("reason") else None,
            path=item.get("path", ""),
            made=tuple(item.get("made", ())),
            lost=tuple(item.get("lost", ())),
            kept=tuple(item.get("kept", ())),
            passed_over=tuple(item.get("passed_over", ())),
            settled_at=datetime.fromisoformat(settled) if settled else None,
        )


class DynamoPositions:
    """`ingestion.ports.Positions`."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._tables = tables

    def find(self, names: Collection[str]) -> Mapping[str, Position]:
        items = self._dynamodb.get_many(self._tables.operations, [_position(name) for name in sorted(names)])
        return {
            pk.partition("#")[2]: Position(
                revision=item["n"],
                newest={name: datetime.fromisoformat(at) for name, at in item["newest"].items()},
            )
            for (pk, _), item in items.items()
        }


@actions_of.register
def _(change: Settled, tables: TableNames) -> Sequence[Action]:
    return _settled(change.inbound, tables.operations)


def _settled(inbound: Inbound, table: str) -> list[Action]:
    values: dict[str, Any] = {
        ":status": inbound.status.value,
        ":kind": inbound.kind,
        ":reason": inbound.reason.value if inbound.reason else "",
        ":path": inbound.path,
        ":made": list(inbound.made),
        ":lost": list(inbound.lost),
        ":kept": list(inbound.kept),
        ":passed": list(inbound.passed_over),
        ":settled": inbound.settled_at.isoformat() if inbound.settled_at else "",
        ":applied": Status.APPLIED.value,
    }
    names = {"#status": "status", "#path": "path"}
    expression = _SETTLED
    let_go: list[Action] = []
    if inbound.is_applied:
        names["#ttl"] = "ttl"
        kept_until = (inbound.settled_at or inbound.received_at) + APPLIED_KEPT
        values[":ttl"] = int(kept_until.timestamp())
        expression += ", #ttl = :ttl REMOVE c, parts"
        let_go = _let_go(inbound, table)
    key, lost = _key(inbound.id), _no_more
    return [update(table, key, expression, values, condition=_IS_OPEN, names=names, lost=lost), *let_go]


def _let_go(inbound: Inbound, table: str) -> list[Action]:
    parts = [delete(table, (f"IN#{inbound.id}", _part(number))) for number in range(inbound.parts)]
    return [delete(table, (f"IW#{inbound.client_id}", _waits(inbound))), *parts]


@actions_of.register
def _(change: Advance, tables: TableNames) -> Sequence[Action]:
    """What is older than any message that may still come is let go, and of very many things what is oldest."""
    newest = {**change.seen.newest, **dict.fromkeys(change.of, change.at)}
    kept = sorted(newest, key=lambda each: newest[each], reverse=True)[:_MOST_KEPT]
    latest = newest[kept[0]]
    pk, sk = _position(change.name)
    item = {
        "PK": pk,
        "SK": sk,
        "n": change.seen.revision + 1,
        "newest": {each: newest[each].isoformat() for each in kept if newest[each] > latest - POSITION_KEPT},
        "ttl": int((latest + POSITION_KEPT).timestamp()),
    }
    values = {":n": change.seen.revision}
    return [put_if(tables.operations, item, "attribute_not_exists(PK) OR n = :n", values, _overtaken)]


def _position(name: str) -> tuple[str, str]:
    return f"IP#{name}", "P"


def _key(id: str) -> tuple[str, str]:
    return f"IN#{id}", "M"


def _part(number: int) -> str:
    return f"C#{number:02d}"


def _waits(inbound: Inbound) -> str:
    return f"{inbound.received_at.astimezone(UTC).isoformat(timespec='microseconds')}#{inbound.id}"


def _no_more(_: Item) -> Exception:
    return _WaitsNoMoreError()


def _overtaken(_: Item) -> Exception:
    return OvertakenError()
