"""Authorization codes on DynamoDB.

    operations  AC#<sha256 of the code>  AC  what it grants, sealed under the index's key; the token that it gave; ttl

The code itself is nowhere else than with whoever has to bring it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Final

from passerelle.authorization.codes import CodeUsedError, Grant
from passerelle.aws.dynamodb import DynamoDb, Item, put, update
from passerelle.aws.journal import TableNames
from passerelle.aws.sealing import Sealer
from passerelle.errors import Fault

_KEPT: Final = timedelta(hours=2)  # so that who brings it again is known: longer than any token lives


class DynamoCodes:
    """`authorization.ports.Codes`"""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._table = tables.operations
        self._blinder = tables.blinder

    def keep(self, digest: str, grant: Grant) -> None:
        pk, sk = _code(digest)
        said = {**asdict(grant), "role": str(grant.role), "expires_at": grant.expires_at.isoformat()}
        item = {
            "PK": pk,
            "SK": sk,
            "c": self._sealer().seal(json.dumps(said).encode(), pk),
            "ttl": int((grant.expires_at + _KEPT).timestamp()),
        }
        self._dynamodb.write(put(self._table, item, unless_exists=lambda _: Fault()))

    def find(self, digest: str) -> Grant | None:
        item = self._dynamodb.get(self._table, _code(digest))
        if item is None:
            return None
        content = json.loads(self._sealer().open(item["c"], item["PK"]))
        return Grant(**{**content, "expires_at": datetime.fromisoformat(content["expires_at"])})

    def _sealer(self) -> Sealer:
        return Sealer(self._blinder().subkey("codes"))

    def use(self, digest: str, *, token_id: str, until: datetime) -> None:
        self._dynamodb.write(
            update(
                self._table,
                _code(digest),
                "SET gave = :token, gave_until = :until",
                {":token": token_id, ":until": int(until.timestamp())},
                condition="attribute_exists(PK) AND attribute_not_exists(gave)",
                lost=_used,
            )
        )


def _code(digest: str) -> tuple[str, str]:
    return f"AC#{digest}", "AC"


def _used(item: Item) -> Exception:
    return CodeUsedError(item["gave"], datetime.fromtimestamp(item["gave_until"], UTC)) if item else Fault()
