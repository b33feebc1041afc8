"""The audit trail on DynamoDB.

    audit  A#P#<patient key>#<yyyymm>         <time>#<ulid>   an access to a patient's record, ttl 13 months
    audit  A#N#<yyyymmdd>#<end of the ulid>   <time>#<ulid>   an access that touched no patient: spread out

Time is UTC to the millisecond, as in the ulid: the id of a record tells its key. Example:
`A#P#8z4p0v3m1k7r2c9d#202601`, `2026-01-14T09:30:00.120Z#01kf...`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from passerelle.audit.model import KEPT, AuditRecord
from passerelle.aws.dynamodb import MAX_ACTIONS, Action, DynamoDb, Item, Key, put
from passerelle.aws.journal import TableNames, actions_of
from passerelle.identifiers import split_resource_id, time_of

_PAGE = 100


class DynamoAuditTrail:
    """`audit.ports.AuditTrail`."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._tables = tables

    def append(self, records: Sequence[AuditRecord]) -> None:
        actions = [put(self._tables.audit, record_to_item(record)) for record in records]
        if len(actions) == 1:
            self._dynamodb.write(actions[0])
            return
        for start in range(0, len(actions), MAX_ACTIONS):
            self._dynamodb.transact(actions[start : start + MAX_ACTIONS])

    def of_patient(
        self,
        patient: str,
        *,
        since: datetime,
        until: datetime,
        limit: int,
        matches: Callable[[AuditRecord], bool] = lambda record: True,
    ) -> Sequence[AuditRecord]:
        found: list[AuditRecord] = []
        for month in _months_back(since, until):
            items = self._dynamodb.query_all(
                self._tables.audit,
                f"A#P#{patient}#{month}",
                between=(_instant(since), f"{_instant(until)}~"),
                descending=True,
                limit=min(limit, _PAGE),
            )
            for record in map(record_from_item, items):
                if since <= record.at < until and matches(record):
                    found.append(record)
                    if len(found) == limit:
                        return found
        return found

    def find(self, record_id: str) -> AuditRecord | None:
        key = _key_of(record_id)
        item = self._dynamodb.get(self._tables.audit, key) if key else None
        return record_from_item(item) if item else None


@actions_of.register
def _(change: AuditRecord, tables: TableNames) -> Sequence[Action]:
    return [put(tables.audit, record_to_item(change))]


def record_to_item(record: AuditRecord) -> Item:
    key = _key_of(record.id)
    if key is None:
        raise ValueError("an audit record has an id of this exchange")
    item: Item = {
        "PK": key[0],
        "SK": key[1],
        "id": record.id,
        "at": record.at.isoformat(),
        "name": record.name,
        "action": record.action,
        "outcome": record.outcome,
        "client_id": record.client_id,
        "organisation": record.organisation,
        "role": str(record.role),
        "token_id": record.token_id,
        "request_id": record.request_id,
        "professional": record.professional,
        "patient": record.patient,
        "references": list(record.references),
        "query": record.query,
        "reason": record.reason,
        "purpose": record.purpose,
        "digests": dict(record.digests),
        "ttl": int((record.at + KEPT).timestamp()),
    }
    return {name: value for name, value in item.items() if value or name in _REQUIRED}


# Kept even if empty: nobody was known.
_REQUIRED = {"client_id", "organisation", "role", "token_id", "request_id"}


def record_from_item(item: Item) -> AuditRecord:
    return AuditRecord(
        id=item["id"],
        at=datetime.fromisoformat(item["at"]),
        name=item["name"],
        action=item["action"],
        outcome=item["outcome"],
        client_id=item["client_id"],
        organisation=item["organisation"],
        role=item["role"],
        token_id=item["token_id"],
        request_id=item["request_id"],
        professional=item.get("professional"),
        patient=item.get("patient"),
        references=tuple(item.get("references", ())),
        query=item.get("query", ""),
        reason=item.get("reason", ""),
        purpose=item.get("purpose", ""),
        digests=tuple(item.get("digests", {}).items()),
    )


def _key_of(record_id: str) -> Key | None:
    """Where a record with this id is stored; None for an id that no record has."""
    split = split_resource_id(record_id)
    if split is None:
        return None
    patient, ulid = split
    try:
        at = time_of(ulid)
    except OverflowError:
        return None
    shard = f"A#P#{patient}#{at:%Y%m}" if patient else f"A#N#{at:%Y%m%d}#{ulid[-2:]}"
    return shard, f"{_instant(at)}#{ulid}"


def _instant(at: datetime) -> str:
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _months_back(since: datetime, until: datetime) -> Iterator[str]:
    """The months (`yyyymm`, UTC) of a period, newest first."""
    first = since.astimezone(UTC).date().replace(day=1)
    month = until.astimezone(UTC).date().replace(day=1)
    while month >= first:
        yield f"{month:%Y%m}"
        month = (month - timedelta(days=1)).replace(day=1)
