"""`notifications.allowance.Allowances` on DynamoDB.

    operations  AL#<blind name>  A   n: taken so far; ttl

A name holds an address: only its keyed hash is kept.
"""

from __future__ import annotations

from datetime import datetime

from passerelle.aws.dynamodb import DynamoDb, update
from passerelle.aws.journal import TableNames


class _SpentError(Exception):
    """There were as many as there may be."""


class DynamoAllowances:
    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._tables = tables

    def take(self, name: str, most: int, *, until: datetime) -> bool:
        key = (f"AL#{self._tables.blinder().blind('allowance', name)}", "A")
        try:
            self._dynamodb.write(
                update(
                    self._tables.operations,
                    key,
                    "SET #ttl = :ttl ADD #n :one",
                    {":one": 1, ":ttl": int(until.timestamp()), ":most": most},
                    names={"#n": "n", "#ttl": "ttl"},
                    condition="attribute_not_exists(#n) OR #n < :most",
                    lost=lambda _: _SpentError(),
                )
            )
        except _SpentError:
            return False
        return True
