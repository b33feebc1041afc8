"""Remote monitoring on DynamoDB.

    clinical    MON#<patient key>   W                            n: revision, wakes_at, c (sealed): open alerts, and
                                                                 up to when what was expected was judged
    clinical    WATCH#<shard>       <time>#<patient key>         when to look at a watch by itself
    clinical    WATCH#<shard>       <time>#<patient key>#<ulid>  something was written; obs: values to compare
    operations  MEASURED#<person>   B                            full_at: when what was taken is there again (ms);
                                                                 told: until when no refusal is recorded (ms); ttl

For example, a person to be looked at in half an hour, and a care plan that was written now:

    WATCH#07  2026-11-22T20:35:00#7q2k9c4m1xw8z0ab
    WATCH#07  2026-11-22T20:05:12#7q2k9c4m1xw8z0ab#01jpab3v5w9f2k8m4n6p0q1r2s

Times are in UTC, so that what is due is the beginning of a shard, however late it is looked for. What is taken of a
patient's devices is one item of that patient alone: nobody waits for another's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

from passerelle.aws.dynamodb import Action, DynamoDb, Item, delete, in_parallel, put, put_if, update
from passerelle.aws.journal import TableNames, actions_of
from passerelle.aws.keys import Lost, sealed_with, unsealed_with
from passerelle.monitoring.errors import RateExceededError
from passerelle.monitoring.measures import policy
from passerelle.monitoring.model import (
    DueWake,
    Wake,
    WakeAttended,
    Watch,
    WatchChange,
    WatchMovedError,
    concerns_of,
    watch_to_map,
)

_SHARDS: Final = 16
_SEALED: Final = ("c",)
_HOUR_MS: Final = 3_600_000
_IS_FULL: Final = "attribute_not_exists(PK) OR full_at <= :now"
_LASTS: Final = "full_at <= :most"
_KEPT_SECONDS: Final = 3 * 3_600


class DynamoWatches:
    """`monitoring.ports.Watches`."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._tables = tables

    def find(self, patients: Sequence[str]) -> dict[str, Watch]:
        keys = [(f"MON#{patient}", "W") for patient in patients]
        read = partial(self._dynamodb.get_many, self._tables.clinical, keys)
        items = self._tables.keyring().beside(read, *patients)
        found = (self._watch(item) for item in items.values())
        return {watch.patient: watch for watch in found if watch is not None}

    def _watch(self, item: Item) -> Watch | None:
        patient = item["PK"].removeprefix("MON#")
        held = self._tables.keyring().find(patient)
        if held is Lost.DESTROYED:
            return None
        plain = unsealed_with(held, item, _SEALED)
        return Watch(
            patient=patient,
            revision=item["n"],
            wakes_at=datetime.fromisoformat(item["wakes_at"]) if item.get("wakes_at") else None,
            concerns=concerns_of(json.loads(plain["c"])),
        )

    def due(self, at: datetime) -> Sequence[DueWake]:
        def of(shard: int) -> list[DueWake]:
            until = f"{_time(at)}~"
            found = self._dynamodb.query_all(self._tables.clinical, _partition(shard), between=("0", until))
            return [_wake(item) for item in found]

        shards = in_parallel(*(partial(of, shard) for shard in range(_SHARDS)))
        return sorted((wake for found in shards for wake in found), key=lambda wake: wake.place)

    def drop(self, wakes: Sequence[DueWake]) -> None:
        for wake in wakes:
            self._dynamodb.write(delete(self._tables.clinical, (_shard(wake.patient), wake.place)))


class DynamoAllowance:
    """`monitoring.ports.Allowance`: a bucket that fills by the hour, as the time at which it is full again."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._table = tables.operations

    def take(self, person: str, count: int, at: datetime) -> None:
        rate = policy()["rate"]
        each = _HOUR_MS // rate["anHour"]
        now, price = int(at.timestamp() * 1000), count * each
        most = now + rate["atOnce"] * each
        try:
            self._pay(person, "full_at = :then", {":then": now + price, ":now": now}, _IS_FULL, now)
        except _ShortError:
            try:
                self._pay(person, "full_at = full_at + :price", {":price": price, ":most": most - price}, _LASTS, now)
            except _ShortError as short:
                wait_ms = short.full_at + price - most
                is_first = short.told <= now and self._tell(person, now, now + wait_ms)
                raise RateExceededError(seconds=max(1, -(-wait_ms // 1000)), is_first=is_first) from None

    def _pay(self, person: str, change: str, values: Item, condition: str, now: int) -> None:
        """Raises _ShortError where the condition does not hold."""
        action = update(
            self._table,
            _bucket(person),
            f"SET {change}, #ttl = :ttl",
            {**values, ":ttl": now // 1000 + _KEPT_SECONDS},
            condition=condition,
            names={"#ttl": "ttl"},
            lost=_ShortError,
        )
        self._dynamodb.write(action)

    def _tell(self, person: str, now: int, until: int) -> bool:
        """Whether this refusal is the one that is recorded."""
        condition = "attribute_not_exists(told) OR told <= :now"
        values = {":told": until, ":now": now}
        try:
            self._dynamodb.write(
                update(self._table, _bucket(person), "SET told = :told", values, condition=condition, lost=_ShortError)
            )
        except _ShortError:
            return False
        return True


class _ShortError(Exception):
    """There is not enough left."""

    def __init__(self, item: Item) -> None:
        super().__init__()
        self.full_at: int = item.get("full_at", 0)
        self.told: int = item.get("told", 0)


def _bucket(person: str) -> tuple[str, str]:
    return f"MEASURED#{person}", "B"


def _partition(shard: int) -> str:
    return f"WATCH#{shard:02d}"


def _shard(patient: str) -> str:
    return _partition(int(hashlib.sha256(patient.encode()).hexdigest(), 16) % _SHARDS)


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _wake(item: Item) -> DueWake:
    _, patient, *rest = item["SK"].split("#")
    observations = tuple((reference, version) for reference, version in item.get("obs", ()))
    return DueWake(patient=patient, place=item["SK"], id=rest[0] if rest else None, observations=observations)


def _moved(_: Item) -> Exception:
    return WatchMovedError()


@actions_of.register
def _(change: WatchChange, tables: TableNames) -> Sequence[Action]:
    before, after = change.before, change.after
    item: Item = {"PK": f"MON#{after.patient}", "SK": "W", "n": after.revision, "c": json.dumps(watch_to_map(after))}
    if after.wakes_at is not None:
        item["wakes_at"] = after.wakes_at.isoformat()
    item = sealed_with(tables.keyring().sealer(after.patient), item, _SEALED)
    if before is None:
        actions = [put(tables.clinical, item, unless_exists=_moved)]
    else:
        actions = [put_if(tables.clinical, item, "n = :n", {":n": before.revision}, _moved)]
    earlier, later = before.wakes_at if before is not None else None, after.wakes_at
    if earlier != later:
        shard = _shard(after.patient)
        if earlier is not None and (later is None or _time(earlier) != _time(later)):
            actions.append(delete(tables.clinical, (shard, f"{_time(earlier)}#{after.patient}")))
        if later is not None:
            actions.append(put(tables.clinical, {"PK": shard, "SK": f"{_time(later)}#{after.patient}"}))
    return actions


@actions_of.register
def _(change: Wake, tables: TableNames) -> Sequence[Action]:
    item: Item = {"PK": _shard(change.patient), "SK": f"{_time(change.at)}#{change.patient}#{change.id}"}
    if change.observations:
        item["obs"] = [[reference, version] for reference, version in change.observations]
    return [put(tables.clinical, item)]


@actions_of.register
def _(change: WakeAttended, tables: TableNames) -> Sequence[Action]:
    """Without a condition: to attend to it again is to find nothing."""
    return [delete(tables.clinical, (_shard(change.wake.patient), change.wake.place))]
