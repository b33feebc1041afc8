"""The DynamoDB adapter: lost conditions, limits, conflicts, what it counts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from boto3.dynamodb.types import TypeSerializer
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from passerelle.aws.dynamodb import (
    DynamoDb,
    delete_if,
    from_attributes,
    in_parallel,
    measure,
    put,
    put_if,
    size_bytes,
    to_attributes,
    update,
)
from passerelle.errors import Busy, Conflict, Fault, Stale, Unavailable

_SCALARS = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text() | st.binary()
_VALUES = st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@pytest.fixture
def client() -> Iterator[Any]:
    with mock_aws():
        made = boto3.client("dynamodb")
        made.create_table(
            TableName="t",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("PK", "SK")],
            KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}, {"AttributeName": "SK", "KeyType": "RANGE"}],
        )
        yield made


def item(number: int, **more: Any) -> dict[str, Any]:
    return {"PK": "p", "SK": f"{number:04d}", **more}


def stale(_: dict[str, Any]) -> Exception:
    return Stale()


@given(st.dictionaries(st.text(), _VALUES))
def test_items_come_back_as_they_were(content: dict[str, Any]) -> None:
    assert from_attributes(to_attributes(content)) == content


@given(_VALUES)
def test_the_wire_form_is_that_of_the_sdk(value: Any) -> None:
    assert to_attributes({"a": value}) == {"a": TypeSerializer().serialize(value)}


def test_what_an_item_cannot_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="float"):
        to_attributes({"a": [0.5]})
    with pytest.raises(TypeError, match="SS"):
        from_attributes({"a": {"SS": ["x"]}})


def test_the_first_lost_condition_in_order_is_told_with_the_item_that_was_there(client: Any) -> None:
    db = DynamoDb(client)
    db.write(put("t", item(1, owner="a")))
    seen: list[dict[str, Any]] = []

    def lost(found: dict[str, Any]) -> Exception:
        seen.append(found)
        return Conflict()

    with pytest.raises(Conflict):
        db.transact([put("t", item(2)), put("t", item(1), unless_exists=lost)])
    assert seen == [item(1, owner="a")]
    assert db.get("t", ("p", "0002")) is None


def test_single_writes_tell_of_lost_conditions_too(client: Any) -> None:
    db = DynamoDb(client)
    db.write(put("t", item(1, n=1)))
    for action in (
        put("t", item(1), unless_exists=stale),
        put_if("t", item(1), "n = :n", {":n": 2}, stale),
        delete_if("t", ("p", "0001"), "n = :n", {":n": 2}, stale),
        update("t", ("p", "0001"), "SET n = :m", {":m": 3, ":n": 2}, condition="n = :n", lost=stale),
    ):
        with pytest.raises(Stale):
            db.write(action)
    assert db.get("t", ("p", "0001")) == item(1, n=1)


def test_limits_that_emulators_do_not_hold(client: Any) -> None:
    db = DynamoDb(client)
    with pytest.raises(Fault):
        db.transact([put("t", item(n)) for n in range(101)])
    with pytest.raises(Fault):
        db.transact([put("t", item(1)), put("t", item(1))])
    with pytest.raises(Fault):
        db.transact([put("t", item(n, b=b"x" * 390_000)) for n in range(11)])
    assert not list(db.query_all("t", "p"))


class Failing:
    """A client whose transactions fail as told, then succeed."""

    def __init__(self, client: Any, *failures: Exception) -> None:
        self._client, self._failures = client, list(failures)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**options: Any) -> Any:
            if self._failures:
                raise self._failures.pop(0)
            return getattr(self._client, name)(**options)

        return call


def cancelled(*codes: str) -> ClientError:
    reasons = [{"Code": code} for code in codes]
    content = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons}
    return ClientError(content, "TransactWriteItems")  # type: ignore[arg-type]


def test_conflicts_are_tried_again(client: Any) -> None:
    pauses: list[float] = []
    db = DynamoDb(Failing(client, cancelled("None", "TransactionConflict")), sleep=pauses.append)
    db.transact([put("t", item(1)), put("t", item(2))])
    assert len(list(DynamoDb(client).query_all("t", "p"))) == 2
    assert len(pauses) == 1


def test_endless_conflicts_are_told_as_busy(client: Any) -> None:
    db = DynamoDb(Failing(client, *[cancelled("TransactionConflict")] * 50), sleep=lambda _: None)
    with pytest.raises(Busy) as raised:
        db.transact([put("t", item(1))])
    assert raised.value.headers == {"Retry-After": "1"}


def told(code: str, status: int) -> ClientError:
    content = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(content, "GetItem")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (EndpointConnectionError(endpoint_url="https://x"), Unavailable),
        (told("InternalServerError", 500), Unavailable),
        (told("ThrottlingException", 400), Busy),
        (told("AccessDeniedException", 400), Fault),
    ],
    ids=["unreachable", "failed", "throttled", "refused"],
)
def test_what_aws_says_becomes_an_error_of_ours(client: Any, failure: Exception, error: type[Exception]) -> None:
    with pytest.raises(error):
        DynamoDb(Failing(client, failure)).get("t", ("p", "0001"))


def test_pages_follow_each_other(client: Any) -> None:
    db = DynamoDb(client)
    for n in range(7):
        db.write(put("t", item(n)))
    seen, after = [], None
    while True:
        page, after = db.query("t", "p", limit=3, start_after=after, descending=True)
        seen += [each["SK"] for each in page]
        if after is None:
            break
    assert seen == [f"{n:04d}" for n in reversed(range(7))]
    assert [each["SK"] for each in db.query_all("t", "p", between=("0002", "0004"))] == ["0002", "0003", "0004"]
    assert len(db.get_many("t", [("p", f"{n:04d}") for n in range(150)])) == 7


def test_the_meter_counts_parallel_calls_as_one_round_trip(client: Any) -> None:
    db = DynamoDb(client)
    db.write(put("t", item(1, b=b"x" * 5000)))
    with measure() as spent:
        in_parallel(lambda: db.get("t", ("p", "0001")), lambda: db.get("t", ("p", "none")))
        db.transact([put("t", item(2, b=b"x" * 1500))])
    assert (spent.round_trips, len(spent.calls)) == (2, 3)
    assert (spent.read_units, spent.write_units) == (2 + 1, 2 * 2)


def test_sizes_follow_the_published_rules() -> None:
    assert size_bytes({"PK": {"S": "é"}}) == 2 + 2
    assert size_bytes({"n": {"N": "-1234"}}) == 1 + 4
    assert size_bytes({"b": {"BOOL": True}, "z": {"NULL": True}}) == 4
    assert size_bytes({"l": {"L": [{"S": "ab"}]}}) == 1 + 3 + 1 + 2
    assert size_bytes({"m": {"M": {"k": {"B": b"abc"}}}}) == 1 + 3 + 1 + 1 + 3


def test_an_adapter_is_found_by_the_capability_of_the_change() -> None:
    """In a process that imported the journal alone; and what no adapter stores is an error."""
    program = """
from datetime import UTC, datetime
from passerelle.aws.journal import TableNames, actions_of
from passerelle.journal import Change
from passerelle.records.model import IdentifierClaim
tables = TableNames(clinical="c", patients="p", operations="o", audit="a", blinder=None, keyring=None)
assert len(actions_of(IdentifierClaim(token="t", type="DocumentReference", id="x"), tables)) == 1
class Unknown(Change): ...
Unknown.__module__ = "passerelle.records.model"
try:
    actions_of(Unknown(), tables)
except TypeError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"
