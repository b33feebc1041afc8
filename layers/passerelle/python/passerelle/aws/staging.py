"""Commits larger than one DynamoDB transaction: stage, flip one item, settle.

    clinical  X#<transaction>   X     state pending | committed | aborted, lease_until, keys (zlib of JSON), ttl

1. the transaction item is written, pending, with the keys of everything that will be staged;
2. versions and entries are staged in chunks, each item marked `x` = transaction; an entry that exists keeps its values
   and gets the next ones as `n` (empty: it goes away);
3. one DynamoDB transaction flips the state and writes what must not exist before: audit, kept answer, outbox, links;
4. the marks are taken away.

A reader that meets a mark asks the transaction item, and sees all of the commit or nothing at every moment. A crash
leaves nothing visible before step 3 and everything after it. A writer that meets a mark settles the transaction: an
abandoned one is aborted once its lease is over.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from passerelle.aws.dynamodb import (
    MAX_ACTIONS,
    MAX_TRANSACTION_BYTES,
    Action,
    DynamoDb,
    Item,
    Key,
    delete_if,
    put,
    put_if,
    update,
)
from passerelle.errors import Busy, PasserelleError, Stale, TooLarge, Unavailable
from passerelle.identifiers import new_patient_key

LEASE_SECONDS = 60
KEPT_SECONDS = 86_400  # readers may still hold a marked item when its transaction is settled
_MAX_KEYS_BYTES = 380_000


class StagedItemError(Exception):
    """A write met an item of an unsettled transaction."""

    def __init__(self, transaction: str) -> None:
        self.transaction = transaction
        super().__init__("an item belongs to an unsettled transaction")


class _LostLeaseError(Exception):
    """The transaction was aborted by another writer."""


class StagedRecord:
    """What one change stages: items that do not exist yet, and the next values (None: gone) of those that do.

    `taken` is what a new item that exists already stands for; by default another writer was first.
    """

    __slots__ = ("following", "new", "taken")

    def __init__(
        self,
        new: Sequence[Item],
        following: Sequence[tuple[Key, Item | None]],
        taken: Callable[[Item], Exception] | None = None,
    ) -> None:
        self.new = new
        self.following = following
        self.taken = taken or _met


class Staging:
    """`now` gives epoch seconds; only leases depend on it. `chunk_actions` is how many writes are staged at once."""

    def __init__(
        self,
        dynamodb: DynamoDb,
        tables: Any,
        *,
        now: Callable[[], float] = time.time,
        chunk_actions: int = MAX_ACTIONS,
    ) -> None:
        self._dynamodb = dynamodb
        self._chunk_actions = chunk_actions
        self._table: str = tables.clinical
        self._now = now

    # --- readers --------------------------------------------------------------------------------------------------

    def visible(self, items: Iterable[Item]) -> list[Item]:
        """The items that exist: marked ones only if their transaction is committed."""
        listed = list(items)
        committed = self._committed(listed)
        return [item for item in listed if "x" not in item or item["x"] in committed]

    def current(self, items: Iterable[Item]) -> list[Item]:
        """The entries as they are for a reader: with their next values if the transaction is committed."""
        listed = list(items)
        committed = self._committed(listed)
        found = []
        for item in listed:
            if "x" not in item:
                found.append(item)
            elif item["x"] in committed:
                if item.get("n") != {}:
                    found.append({**item, **item.get("n", {})})
            elif "n" in item:
                found.append(item)
        return found

    def _committed(self, items: Sequence[Item]) -> set[str]:
        transactions = {item["x"] for item in items if "x" in item}
        states = self._dynamodb.get_many(self._table, [_key(each) for each in transactions])
        return {pk.removeprefix("X#") for (pk, _), item in states.items() if item["state"] == "committed"}

    # --- writers --------------------------------------------------------------------------------------------------

    def commit(self, records: Sequence[StagedRecord], with_flip: Sequence[Action]) -> None:
        """Store the records and the actions, all or nothing.

        Raises what a lost condition stands for; nothing is visible then. Raises Unavailable when the outcome cannot
        be known yet.
        """
        transaction = new_patient_key()
        actions = [action for record in records for action in self._staged(record, transaction)]
        keys = [[*_key_of(action)] for action in actions]
        packed = zlib.compress(json.dumps(keys, separators=(",", ":")).encode())
        at_once = sum(action.cost_bytes() for action in with_flip)
        if len(with_flip) >= MAX_ACTIONS or at_once > MAX_TRANSACTION_BYTES or len(packed) > _MAX_KEYS_BYTES:
            raise TooLarge("the transaction is too large")
        self._dynamodb.write(
            put(
                self._table,
                {
                    "PK": f"X#{transaction}",
                    "SK": "X",
                    "state": "pending",
                    "lease_until": int(self._now()) + LEASE_SECONDS,
                    "keys": packed,
                },
            )
        )
        try:
            for chunk in self._chunks(actions):
                self._dynamodb.transact(chunk)
            self._flip(transaction, with_flip)
        except Exception as lost:  # whatever a lost condition stands for: what was staged goes away
            if not (isinstance(lost, Unavailable) and self._is_committed(transaction)):
                self._abort(transaction)
                if isinstance(lost, _LostLeaseError):
                    raise Busy(headers={"Retry-After": "1"}) from None
                raise
        try:
            self.settle(transaction)
        except PasserelleError:
            return  # the commit stands: readers know, and the next writer that meets a mark settles it

    def _staged(self, record: StagedRecord, transaction: str) -> list[Action]:
        new = [put(self._table, {**item, "x": transaction}, unless_exists=record.taken) for item in record.new]
        following = [
            update(
                self._table,
                key,
                "SET x = :x, n = :n",
                {":x": transaction, ":n": values or {}},
                condition="attribute_exists(PK) AND attribute_not_exists(x)",
                lost=_met,
            )
            for key, values in record.following
        ]
        return new + following

    def _flip(self, transaction: str, with_flip: Sequence[Action]) -> None:
        flip = update(
            self._table,
            _key(transaction),
            "SET #state = :committed",
            {":committed": "committed", ":pending": "pending"},
            condition="#state = :pending",
            names={"#state": "state"},
            lost=lambda _: _LostLeaseError(),
        )
        self._dynamodb.transact([flip, *with_flip])

    def _is_committed(self, transaction: str) -> bool:
        item = self._dynamodb.get(self._table, _key(transaction))
        return item is not None and item["state"] == "committed"

    def _abort(self, transaction: str) -> None:
        abort = update(
            self._table,
            _key(transaction),
            "SET #state = :aborted",
            {":aborted": "aborted", ":pending": "pending"},
            condition="#state = :pending",
            names={"#state": "state"},
            lost=lambda _: _LostLeaseError(),
        )
        try:
            self._dynamodb.write(abort)
        except _LostLeaseError:
            return  # it ended another way: whoever ended it settles it
        self.settle(transaction)

    def recover(self, transaction: str) -> None:
        """Settle a transaction that a writer met; one whose lease is over is aborted first."""
        item = self._dynamodb.get(self._table, _key(transaction))
        if item is None:
            return
        if item["state"] != "pending":
            self.settle(transaction)
        elif item["lease_until"] < self._now():
            self._abort(transaction)

    def settle(self, transaction: str) -> None:
        """Take the marks of an ended transaction away. Any number of writers may do it at once, or again.

        Only then may its item expire, with the keys: a mark without it would be an item that nobody sees.
        """
        item = self._dynamodb.get(self._table, _key(transaction))
        if item is None:
            return
        keys = [(pk, sk) for pk, sk in json.loads(zlib.decompress(item["keys"]))]
        marked = [each for each in self._dynamodb.get_many(self._table, keys).values() if each.get("x") == transaction]
        for chunk in self._chunks([self._settled(each, item["state"] == "committed") for each in marked]):
            try:
                self._dynamodb.transact(chunk)
            except _LostLeaseError:
                for action in chunk:
                    self._settle_one(action)
        self._dynamodb.write(
            update(
                self._table,
                _key(transaction),
                "SET #ttl = :ttl",
                {":ttl": int(self._now()) + KEPT_SECONDS},
                names={"#ttl": "ttl"},
            )
        )

    def _chunks(self, actions: Sequence[Action]) -> Iterable[Sequence[Action]]:
        chunk: list[Action] = []
        size = 0
        for action in actions:
            size += action.cost_bytes()
            if len(chunk) == self._chunk_actions or (chunk and size > MAX_TRANSACTION_BYTES):
                yield chunk
                chunk, size = [], action.cost_bytes()
            chunk.append(action)
        if chunk:
            yield chunk

    def _settle_one(self, action: Action) -> None:
        try:
            self._dynamodb.write(action)
        except _LostLeaseError:
            return  # another writer settled this item

    def _settled(self, item: Item, is_committed: bool) -> Action:
        key = (item["PK"], item["SK"])
        mine = {":x": item["x"]}
        is_new = "n" not in item
        if (is_committed and item.get("n") == {}) or (not is_committed and is_new):
            return delete_if(self._table, key, "x = :x", mine, lambda _: _LostLeaseError())
        final = {**item, **(item.get("n", {}) if is_committed else {})}
        final = {name: value for name, value in final.items() if name not in ("x", "n")}
        return put_if(self._table, final, "x = :x", mine, lambda _: _LostLeaseError())


def _met(item: Item) -> Exception:
    return StagedItemError(item["x"]) if "x" in item else Stale("a resource was changed meanwhile: read it again")


def _key(transaction: str) -> Key:
    return f"X#{transaction}", "X"


def _key_of(action: Action) -> Key:
    place = action.request.get("Key") or action.request["Item"]
    return place["PK"]["S"], place["SK"]["S"]


def fits_one_transaction(actions: Sequence[Action]) -> bool:
    return len(actions) <= MAX_ACTIONS and sum(action.cost_bytes() for action in actions) <= MAX_TRANSACTION_BYTES
