"""What the emulator of the tests is made to do differently is what AWS does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.quick_moto import quicken

TABLE = "followed"


@pytest.fixture
def dynamodb() -> Iterator[Any]:
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
