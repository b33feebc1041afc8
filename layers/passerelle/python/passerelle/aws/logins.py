"""Logins under way on DynamoDB.

    operations  LG#<sha256 of the state>  LG  gone with the first answer to it; ttl

The state itself is nowhere else than with the provider, which has to bring it.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from passerelle.authorization.login import Pending
from passerelle.aws.dynamodb import DynamoDb, delete_if, put
from passerelle.aws.journal import TableNames
from passerelle.errors import Fault


class _TakenError(Exception):
    """Another request took it."""


class DynamoLogins:
    """`authorization.ports.Logins`"""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._table = tables.operations

    def keep(self, digest: str, login: Pending) -> None:
        pk, sk = _login(digest)
        item = {
            **asdict(login),
            "expires_at": login.expires_at.isoformat(),
            "PK": pk,
            "SK": sk,
            "ttl": int(login.expires_at.timestamp()),
        }
        self._dynamodb.write(put(self._table, item, unless_exists=lambda _: Fault()))

    def find(self, digest: str) -> Pending | None:
        item = self._dynamodb.get(self._table, _login(digest))
        if item is None:
            return None
        content = {name: value for name, value in item.items() if name not in ("PK", "SK", "ttl")}
        return Pending(**{**content, "expires_at": datetime.fromisoformat(content["expires_at"])})

    def take(self, digest: str) -> bool:
        try:
            self._dynamodb.write(
                delete_if(self._table, _login(digest), "attribute_exists(PK)", {}, lambda _: _TakenError())
            )
        except _TakenError:
            return False
        return True


def _login(digest: str) -> tuple[str, str]:
    return f"LG#{digest}", "LG"
