"""What the emulator of the tests is made to do differently is what AWS does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ParamValidationError
from moto import mock_aws

from tests import quick_moto
from tests.quick_moto import quicken

TABLE = "followed"


@pytest.fixture
def dynamodb() -> Iterator[Any]:
    with _table() as client:
        yield client


@contextlib.contextmanager
def _table() -> Iterator[Any]:
    quicken()
    with mock_aws():
        client = boto3.client("dynamodb")
        client.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}, {"AttributeName": "SK", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("PK", "SK")],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )
        yield client


def put(*keys: str) -> list[dict[str, Any]]:
    """All of them, unless one is there."""
    condition = "attribute_not_exists(PK)"
    items = [{"PK": {"S": key}, "SK": {"S": "-"}} for key in keys]
    return [{"Put": {"TableName": TABLE, "Item": item, "ConditionExpression": condition}} for item in items]


def _start(streams: Any, dynamodb: Any) -> str:
    arn = dynamodb.describe_table(TableName=TABLE)["Table"]["LatestStreamArn"]
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
    return str(iterator["ShardIterator"])


def test_a_stream_is_followed_across_a_transaction_that_failed(dynamodb: Any) -> None:
    streams = boto3.client("dynamodbstreams")
    place = _start(streams, dynamodb)
    dynamodb.transact_write_items(TransactItems=put("a"))
    for keys in (("b", "a"), ("c", "a")):
        with contextlib.suppress(dynamodb.exceptions.TransactionCanceledException):
            dynamodb.transact_write_items(TransactItems=put(*keys))
    dynamodb.transact_write_items(TransactItems=put("d"))
    records = streams.get_records(ShardIterator=place)["Records"]
    assert [each["dynamodb"]["Keys"]["PK"]["S"] for each in records] == ["a", "d"]
    assert sorted(item["PK"]["S"] for item in dynamodb.scan(TableName=TABLE)["Items"]) == ["a", "d"]


_KEY = {"PK": {"S": "a"}, "SK": {"S": "1"}}
_WHOLE = {
    **_KEY,
    "bytes": {"B": b"\0\xff"},
    "deep": {"M": {"list": {"L": [{"N": "-1.50"}, {"NULL": True}, {"M": {}}, {"L": []}, {"B": b"x"}]}, "B": {"S": ""}}},
    "is": {"BOOL": False},
    "numbers": {"NS": ["1", "2"]},
    "blobs": {"BS": [b"1"]},
}
_EACH_CALL: list[tuple[str, dict[str, Any]]] = [
    ("put_item", {"Item": _WHOLE}),
    ("put_item", {"Item": {**_KEY, "n": {"N": "2"}}, "ReturnValues": "ALL_OLD"}),
    ("put_item", {"Item": _KEY, "ConditionExpression": "attribute_not_exists(PK)"}),
    ("put_item", {"Item": {**_KEY, "SK": {"S": ""}}}),
    ("put_item", {"Item": {**_WHOLE, "SK": {"S": "2"}}}),
    ("put_item", {"Item": {**_KEY, "SK": {"S": "3"}, "é": {"S": "é" * 202_500}}}),
    ("put_item", {"Item": {**_KEY, "SK": {"S": "3"}, "é": {"M": {"é": {"L": [{"S": "é" * 202_000}]}}}}}),
    ("get_item", {"Key": _KEY, "ConsistentRead": True}),
    ("get_item", {"Key": {**_KEY, "SK": {"S": "2"}}, "ReturnConsumedCapacity": "TOTAL"}),
    ("get_item", {"Key": {**_KEY, "SK": {"S": "none"}}}),
    ("get_item", {"Key": {"PK": {"S": "a"}}}),
    (
        "update_item",
        {
            "Key": _KEY,
            "UpdateExpression": "ADD n :one SET deep = :deep",
            "ExpressionAttributeValues": {":one": {"N": "1"}, ":deep": _WHOLE["deep"]},
            "ReturnValues": "ALL_NEW",
        },
    ),
    (
        "update_item",
        {"Key": _KEY, "UpdateExpression": "REMOVE deep", "ConditionExpression": "attribute_not_exists(PK)"},
    ),
    *(
        (
            "query",
            {
                "KeyConditionExpression": f"PK = :a AND SK {condition} :b",
                "ExpressionAttributeValues": {":a": {"S": "a"}, ":b": {"S": "2"}},
                **options,
            },
        )
        for condition, options in (
            (">=", {}),
            ("<", {"ScanIndexForward": False}),
            (">", {"Select": "COUNT"}),
            (">=", {"Limit": 1}),
            (">=", {"ExclusiveStartKey": {**_KEY, "SK": {"S": "2"}}, "ProjectionExpression": "SK, bytes"}),
            ("<=", {"ExclusiveStartKey": {**_KEY, "SK": {"S": "2"}}, "ScanIndexForward": False}),
            ("<", {"ExclusiveStartKey": {"PK": {"S": "b"}, "SK": {"S": "1"}}}),
            ("<", {"Limit": 1, "ProjectionExpression": "deep, n, absent"}),
            (">", {"FilterExpression": "attribute_exists(deep)"}),
            (">", {"IndexName": "none"}),
            (">=", {"Limit": 0}),
        )
    ),
    ("put_item", {"Item": {**_KEY, "n": 1}}),
    ("put_item", {"Item": {**_KEY, "n": {"N": 1}}}),
    ("put_item", {"Item": {**_KEY, "n": {"S": "1", "N": "1"}}}),
    ("put_item", {"Item": _KEY, "Expects": {}}),
    ("put_item", {}),
    *(("put_item", {"Item": {"PK": {"S": "large"}, "SK": {"S": each}, "is": {"S": "é" * 180_000}}}) for each in "123"),
    ("query", {"KeyConditionExpression": "PK = :a", "ExpressionAttributeValues": {":a": {"S": "large"}}}),
    *(("delete_item", {"Key": {"PK": {"S": "large"}, "SK": {"S": each}}}) for each in "123"),
    ("scan", {"Limit": 2}),
    ("delete_item", {"Key": _KEY, "ReturnValues": "ALL_OLD"}),
    ("delete_item", {"Key": _KEY}),
]


def _told(client: Any, call: str, **options: Any) -> Any:
    try:
        told = getattr(client, call)(**options)
    except ParamValidationError as error:
        return str(error)
    except ClientError as error:
        told = dict(error.response)
        told["status"] = told["ResponseMetadata"]["HTTPStatusCode"]
    del told["ResponseMetadata"]
    return told


def _everything_told() -> list[Any]:
    with _table() as client:
        told = [_told(client, call, TableName=TABLE, **options) for call, options in _EACH_CALL]
        several = [*put("b", "c"), {"Delete": {"TableName": TABLE, "Key": {**_KEY, "SK": {"S": "2"}}}}]
        told += [_told(client, "transact_write_items", TransactItems=several) for _ in range(2)]
        keys = [{"PK": {"S": key}, "SK": {"S": "-"}} for key in "bcd"]
        told.append(_told(client, "batch_get_item", RequestItems={TABLE: {"Keys": keys}}))
        written = [{"PutRequest": {"Item": _WHOLE}}, {"DeleteRequest": {"Key": keys[0]}}]
        told.append(_told(client, "batch_write_item", RequestItems={TABLE: written}))
        for number in ("1", "2"):
            sets = {"UpdateExpression": "SET n = :n", "ExpressionAttributeValues": {":n": {"N": number}}}
            beside = {"Update": {"TableName": TABLE, "Key": {**_KEY, "SK": {"S": "3"}}, **sets}}
            lost = {"Update": {**sets, "TableName": TABLE, "Key": _KEY, "ConditionExpression": "attribute_exists(n)"}}
            told.append(_told(client, "transact_write_items", TransactItems=[beside, lost]))
            told.append(_told(client, "update_item", TableName=TABLE, Key=_KEY, **sets))
        streams = boto3.client("dynamodbstreams")
        records = streams.get_records(ShardIterator=_start(streams, client))["Records"]
        told += [(each["eventName"], _images(each["dynamodb"])) for each in records]
        return [*told, _told(client, "scan", TableName=TABLE)]


def _images(change: dict[str, Any]) -> dict[str, Any]:
    return {name: change.get(name) for name in ("Keys", "OldImage", "NewImage", "SequenceNumber")}


def _slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_moto, "_OF_ITEMS", {})
    monkeypatch.setattr(quick_moto, "_QUICKER", ())
    for owner, name, theirs in quick_moto.THEIRS:
        if theirs is None:
            monkeypatch.delattr(owner, name)
        else:
            monkeypatch.setattr(owner, name, theirs)


def test_answers_are_those_of_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    with _table() as client:
        assert client.scan(TableName=TABLE)["ResponseMetadata"]["HTTPHeaders"] == {}
    short = _everything_told()
    assert sum("Error" in each for each in short) == 8
    assert sum(isinstance(each, str) for each in short) == 5
    _slowly(monkeypatch)
    assert _everything_told() == short


def test_what_was_answered_is_the_callers_own(dynamodb: Any) -> None:
    dynamodb.put_item(TableName=TABLE, Item=_WHOLE)
    asked = {"KeyConditionExpression": "PK = :a", "ExpressionAttributeValues": {":a": {"S": "a"}}}
    for _ in range(2):
        (item,) = dynamodb.query(TableName=TABLE, **asked)["Items"]
        assert item == _WHOLE
        item["deep"]["M"]["list"]["L"].clear()
        item["numbers"]["NS"].append("3")
