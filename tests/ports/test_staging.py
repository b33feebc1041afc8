"""Commits larger than one DynamoDB transaction: all or nothing for every reader, whatever breaks in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from moto import mock_aws

from passerelle.aws import dynamodb, staging
from passerelle.aws.dynamodb import DynamoDb, put
from passerelle.aws.journal import TableNames
from passerelle.aws.records import DynamoRecordStore
from passerelle.aws.staging import StagedItemError, StagedRecord, Staging
from passerelle.errors import Unavailable
from passerelle.identifiers import Blinder
from passerelle.records.model import ResourceKey
from tests.sealed import KeptKeys

TABLES = TableNames(
    clinical="clinical",
    patients="patients",
    operations="operations",
    audit="audit",
    blinder=lambda: Blinder(b"k" * 32),
    keyring=KeptKeys,
)
AT = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
RECORDS = 7  # two items each
CHUNK = 5  # so that a commit takes several transactions, as a large one does


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


class Crash(BaseException):
    """The process ends here."""


@pytest.fixture
def client() -> Iterator[Any]:
    with mock_aws():
        made = boto3.client("dynamodb")
        made.create_table(
            TableName="clinical",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("PK", "SK")],
            KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}, {"AttributeName": "SK", "KeyType": "RANGE"}],
        )
        yield made


def staging_of(db: DynamoDb, now: Callable[[], float] = time.time) -> Staging:
    return Staging(db, TABLES, now=now, chunk_actions=CHUNK)


def version(number: int, version: int, text: str) -> dict[str, Any]:
    return {"PK": "P#k", "SK": f"v#OBS#{number:03d}#{version:06d}", "v": version, "at": AT.isoformat(), "text": text}


def entry(number: int, version: int) -> dict[str, Any]:
    return {"PK": "P#k", "SK": f"e#OBS#202603010930#{number:03d}", "v": version, "at": AT.isoformat(), "k": "{}"}


def first_versions() -> list[StagedRecord]:
    return [StagedRecord([version(n, 1, "one"), entry(n, 1)], []) for n in range(RECORDS)]


def second_versions() -> list[StagedRecord]:
    """The next version of each record; the last one goes away."""
    following = []
    for n in range(RECORDS):
        now = entry(n, 2)
        values = None if n == RECORDS - 1 else {name: now[name] for name in ("v", "at", "k")}
        following.append(StagedRecord([version(n, 2, "two")], [((now["PK"], now["SK"]), values)]))
    return following


def seen(reader: Staging, db: DynamoDb) -> tuple[dict[str, int], int]:
    """What a reader sees: version by entry, and how many versions exist."""
    entries = reader.current(db.query_all("clinical", "P#k", prefix="e#"))
    versions = reader.visible(db.query_all("clinical", "P#k", prefix="v#"))
    return {item["SK"]: item["v"] for item in entries}, len(versions)


NOTHING: tuple[dict[str, int], int] = ({}, 0)
FIRST = ({entry(n, 1)["SK"]: 1 for n in range(RECORDS)}, RECORDS)
SECOND = ({entry(n, 2)["SK"]: 2 for n in range(RECORDS - 1)}, 2 * RECORDS)


def test_a_large_commit_is_seen_whole_and_leaves_no_mark(client: Any) -> None:
    db = DynamoDb(client)
    staging_of(db).commit(first_versions(), [])
    assert seen(staging_of(db), db) == FIRST
    staging_of(db).commit(second_versions(), [])
    assert seen(staging_of(db), db) == SECOND
    assert not [item for item in db.query_all("clinical", "P#k") if "x" in item or "n" in item]


class CrashingClient:
    """The client, whose n-th write ends the process before or after it is done."""

    def __init__(self, client: Any, crash_at: int, *, is_done: bool) -> None:
        self._client, self._left, self._is_done = client, crash_at, is_done
        self.writes = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._client, name)
        if not name.startswith(("put", "update", "delete", "transact")):
            return call

        def write(**options: Any) -> Any:
            self.writes += 1
            if self.writes == self._left and not self._is_done:
                raise Crash
            answer = call(**options)
            if self.writes == self._left:
                raise Crash
            return answer

        return write


def writes_of_a_commit(client: Any) -> int:
    counting = CrashingClient(client, 0, is_done=True)
    staging_of(DynamoDb(counting)).commit(first_versions(), [])
    return counting.writes


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_a_crash_at_any_write_leaves_all_or_nothing(client: Any, is_done: bool) -> None:
    db = DynamoDb(client)
    total = writes_of_a_commit(client)
    assert total >= 5
    for crash_at in range(1, total + 3):
        for item in list(db.query_all("clinical", "P#k")):
            client.delete_item(TableName="clinical", Key=dynamodb.to_attributes({"PK": item["PK"], "SK": item["SK"]}))
        staging_of(db).commit(first_versions(), [])
        clock = Clock()
        crashing = staging_of(DynamoDb(CrashingClient(client, crash_at, is_done=is_done)), clock)
        try:
            crashing.commit(second_versions(), [])
        except Crash:
            ended = False
        else:
            ended = True
        before = seen(staging_of(db), db)
        assert before in (FIRST, SECOND), f"crash at write {crash_at}"
        assert not ended or before == SECOND
        # Whoever comes next settles it, and what was visible does not change.
        clock.seconds += staging.LEASE_SECONDS + 1
        met = {item["x"] for item in db.query_all("clinical", "P#k") if "x" in item}
        for transaction in met:
            staging_of(db, clock).recover(transaction)
        assert seen(staging_of(db), db) == before
        assert not [item for item in db.query_all("clinical", "P#k") if "x" in item]


def test_a_live_transaction_is_not_aborted_by_who_meets_it(client: Any) -> None:
    clock = Clock()
    with pytest.raises(Crash):
        staging_of(DynamoDb(CrashingClient(client, 3, is_done=True)), clock).commit(first_versions(), [])
    db = DynamoDb(client)
    transaction = next(item["x"] for item in db.query_all("clinical", "P#k"))
    staging_of(db, clock).recover(transaction)
    assert [item for item in db.query_all("clinical", "P#k") if item.get("x") == transaction]
    with pytest.raises(StagedItemError):
        staging_of(db, clock).commit(first_versions(), [])
    assert seen(staging_of(db), db) == NOTHING


def test_a_lost_condition_of_the_flip_leaves_nothing(client: Any) -> None:
    db = DynamoDb(client)
    taken = {"PK": "U#DOC#token", "SK": "U"}
    db.write(put("clinical", taken))
    guard = put("clinical", taken, unless_exists=lambda _: Unavailable("taken"))
    with pytest.raises(Unavailable):
        staging_of(db).commit(first_versions(), [guard])
    assert seen(staging_of(db), db) == NOTHING
    assert not list(db.query_all("clinical", "P#k"))


def test_the_store_reads_through_an_unsettled_commit(client: Any) -> None:
    """A version that is staged, and then abandoned, is not the latest one."""
    db = DynamoDb(client)
    key, ulid = "0" * 16, "0" * 26
    one = {"PK": f"P#{key}", "SK": f"v#OBS#{ulid}#000001", "v": 1, "at": AT.isoformat(), "s": "202603010930"}
    db.write(put("clinical", one))
    db.write(put("clinical", {**one, "SK": f"v#OBS#{ulid}#000002", "v": 2, "x": "pending"}))
    db.write(put("clinical", {"PK": "X#pending", "SK": "X", "state": "pending", "lease_until": 0}))
    found = DynamoRecordStore(db, TABLES).find_latest(ResourceKey(type="Observation", id=f"{key}-{ulid}", patient=key))
    assert found is not None
    assert found.version == 1
