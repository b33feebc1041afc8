"""What the emulator of the tests is made to do differently is what AWS does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
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
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
        )
        yield client


def put(*keys: str) -> list[dict[str, Any]]:
    """All of them, unless one is there."""
    condition = "attribute_not_exists(PK)"
    items = [{"PK": {"S": key}, "SK": {"S": "-"}} for key in keys]
    return [{"Put": {"TableName": TABLE, "Item": item, "ConditionExpression": condition}} for item in items]


def test_a_stream_is_followed_across_a_transaction_that_failed(dynamodb: Any) -> None:
    streams = boto3.client("dynamodbstreams")
    arn = dynamodb.describe_table(TableName=TABLE)["Table"]["LatestStreamArn"]
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
    place = iterator["ShardIterator"]
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
        )
    ),
    ("scan", {"Limit": 2}),
    ("delete_item", {"Key": _KEY, "ReturnValues": "ALL_OLD"}),
    ("delete_item", {"Key": _KEY}),
]


def _told(client: Any, call: str, **options: Any) -> Any:
    try:
        told = getattr(client, call)(**options)
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
        return [*told, _told(client, "scan", TableName=TABLE)]


def test_answers_are_those_of_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    with _table() as client:
        assert client.scan(TableName=TABLE)["ResponseMetadata"]["HTTPHeaders"] == {}
    short = _everything_told()
    assert sum("Error" in each for each in short) == 6
    monkeypatch.setattr(quick_moto, "_OF_ITEMS", {})
    assert _everything_told() == short
