"""The audit trail on DynamoDB.

    audit  A#P#<patient key>#<yyyymm>         <time>#<ulid>   an access to a patient's record, ttl 13 months
    audit  A#N#<yyyymmdd>#<end of the ulid>   <time>#<ulid>   an access that touched no patient: spread out
    audit  I#H#<yyyymmddhh>#<shard>           <ulid>#<id>     every record by its hour, over 8 partitions
    audit  I#U#<blinded IDNPS>#<yyyymm>       <ulid>#<id>     what a professional did

What tells who somebody is, is sealed under the data key of the record; where no patient was touched, or several were
looked for, under that of the index. Salts of the verifiable log are derived from the same keys, and kept nowhere: with
a data key go the salts of all that was done with its record.

Items under `I#` are made of the table's stream: the log itself is one write. Time is UTC to the millisecond, as in
the ulid: the id of a record tells its key. Example: `A#P#8z4p0v3m1k7r2c9d#202601`, `2026-01-14T09:30:00.120Z#01kf...`.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from passerelle.access import Decision
from passerelle.audit.model import DEPOSIT, KEPT, AuditRecord
from passerelle.audit.ports import Reached, Span
from passerelle.aws.dynamodb import MAX_ACTIONS, Action, DynamoDb, Item, Key, from_attributes, in_parallel, put
from passerelle.aws.journal import TableNames, actions_of
from passerelle.aws.keys import Held, Lost, sealed_with, unsealed, unsealed_with
from passerelle.aws.sealing import Sealer
from passerelle.identifiers import first_ulid, split_resource_id, time_of


class DynamoAuditTrail:
    """`audit.ports.AuditTrail`."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._tables = tables

    def append(self, records: Sequence[AuditRecord]) -> None:
        actions = [put(self._tables.audit, record_to_item(record, self._tables)) for record in records]
        if len(actions) == 1:
            self._dynamodb.write(actions[0])
            return
        for start in range(0, len(actions), MAX_ACTIONS):
            self._dynamodb.transact(actions[start : start + MAX_ACTIONS])

    def of_patients(self, patients: Sequence[str], span: Span) -> Iterator[AuditRecord]:
        return heapq.merge(
            *(self._of_patient(patient, span) for patient in patients), key=lambda each: each.ulid, reverse=True
        )

    def _of_patient(self, patient: str, span: Span) -> Iterator[AuditRecord]:
        for month in _months_back(span.since, _last(span)):
            items = self._dynamodb.query_all(
                self._tables.audit,
                f"A#P#{patient}#{month}",
                between=(_instant(span.since), _end(span)),
                descending=True,
                limit=span.page,
            )
            for record in (record_from_item(item, self._tables) for item in items):
                if span.since <= record.at < span.until:
                    yield record

    def find(self, record_id: str) -> AuditRecord | None:
        key = _key_of(record_id)
        item = self._dynamodb.get(self._tables.audit, key) if key else None
        return record_from_item(item, self._tables) if item else None


class DerivedSalts:
    """`ledger.ports.Salts`"""

    def __init__(self, tables: TableNames) -> None:
        self._tables = tables

    def find(self, record_id: str) -> Sequence[bytes]:
        patient, _ = split_resource_id(record_id) or (None, "")
        held = _held(patient, self._tables)
        if held is Lost.DESTROYED:
            return ()
        ours = _salt(record_id, _index_sealer(self._tables))
        return (ours,) if isinstance(held, Lost) else (_salt(record_id, held), ours)


class DynamoAuditIndex:
    """`audit.ports.AuditIndex`, and what keeps it: entries that the stream of the log is turned into.

    An entry is an id. It is written again without harm when the stream repeats itself, and read with its record.
    """

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._tables = tables

    def add(self, record: Mapping[str, Any]) -> None:
        """Index a record as the stream has it (`streamed`)."""
        ulid = record["id"].rpartition("-")[2]
        at = time_of(ulid)
        keys = [f"I#H#{at:%Y%m%d%H}#{_shard_of(ulid)}"]
        if "professional" in record and record["name"] != DEPOSIT:
            keys.append(f"I#U#{self._blind(record['professional'])}#{at:%Y%m}")
        for key in keys:
            entry = {"PK": key, "SK": f"{ulid}#{record['id']}", "ttl": record["ttl"]}
            self._dynamodb.write(put(self._tables.audit, entry))

    def of_professional(self, professional: str, span: Span) -> Iterator[AuditRecord | Reached]:
        blinded = self._blind(professional)
        for month in _months_back(span.since, _last(span)):
            yield from self._of([f"I#U#{blinded}#{month}"], span)
            yield Reached(ulid=first_ulid(max(datetime.strptime(f"{month}+0000", "%Y%m%z"), span.since)))

    def of_everybody(self, span: Span) -> Iterator[AuditRecord | Reached]:
        hour = _last(span).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        while hour + timedelta(hours=1) > span.since:
            yield from self._of([f"I#H#{hour:%Y%m%d%H}#{shard}" for shard in range(_SHARDS)], span)
            yield Reached(ulid=first_ulid(hour))
            hour -= timedelta(hours=1)

    def _of(self, partitions: Sequence[str], span: Span) -> Iterator[AuditRecord]:
        """The records of partitions that cover one stretch of time, newest first."""
        first = in_parallel(*(partial(self._page, each, span, None) for each in partitions))
        ids = heapq.merge(
            *(self._ids(each, span, page) for each, page in zip(partitions, first, strict=True)), reverse=True
        )
        while chunk := list(itertools.islice(ids, span.page)):
            keys = [key for each in chunk if (key := _key_of(each.partition("#")[2]))]
            found = self._dynamodb.get_many(self._tables.audit, keys)
            self._fetch_keys(found.values())
            for record in (record_from_item(found[key], self._tables) for key in keys if key in found):
                if span.since <= record.at < span.until:
                    yield record

    def _fetch_keys(self, items: Iterable[Item]) -> None:
        patients = {item["patient"] for item in items if "patient" in item}
        if patients:
            self._tables.keyring().beside(lambda: None, *patients)

    def _ids(self, partition: str, span: Span, page: tuple[list[Item], str | None]) -> Iterator[str]:
        while True:
            items, start_after = page
            yield from (item["SK"] for item in items)
            if start_after is None:
                return
            page = self._page(partition, span, start_after)

    def _page(self, partition: str, span: Span, start_after: str | None) -> tuple[list[Item], str | None]:
        low, high = first_ulid(span.since), f"{span.before or first_ulid(_after(span.until))}~"
        return self._dynamodb.query(
            self._tables.audit,
            partition,
            between=(low, high),
            descending=True,
            limit=span.page,
            start_after=start_after,
        )

    def _blind(self, professional: str) -> str:
        return self._tables.blinder().blind("audit-professional", professional)


def streamed(image: Mapping[str, Any]) -> Item:
    """What followers of the log need of a record of the stream, which has it in wire form; nothing of it is opened."""
    return from_attributes({name: image[name] for name in _FOLLOWED if name in image})


_FOLLOWED = (
    *("id", "at", "name", "action", "outcome", "role", "client_id", "patient"),
    *("person", "professional", "references", "ttl"),
)
_SHARDS = 8  # a partition takes a thousand writes a second; the hours of a country have more


def _shard_of(ulid: str) -> int:
    return ord(ulid[-1]) % _SHARDS


@actions_of.register
def _(change: AuditRecord, tables: TableNames) -> Sequence[Action]:
    return [put(tables.audit, record_to_item(change, tables))]


# What may tell who the patient is, or a proxy.
_PERSONAL = frozenset({"query", "deposit", "person", "user_name", "recipient", "address"})
_NOTHING_PERSONAL: Mapping[str, Any] = {name: None if name == "person" else "" for name in _PERSONAL}


def _held(patient: str | None, tables: TableNames) -> Held:
    return Lost.NEVER if patient is None else tables.keyring().find(patient)


def _index_sealer(tables: TableNames) -> Sealer:
    """For what touched no record that has a key."""
    return Sealer(tables.blinder().subkey("audit"))


def _salt(record_id: str, sealer: Sealer) -> bytes:
    from passerelle.ledger.model import SALT_BYTES

    return sealer.code("ledger salt", record_id)[:SALT_BYTES]


def _commitment(record: AuditRecord, salt: bytes) -> bytes:
    """What stands for the record in the verifiable log (aws/ledger.py)."""
    from passerelle.audit.canonical import canonical  # most calls of the authorizer record nothing
    from passerelle.ledger.model import commit

    return commit(salt, canonical(record))


def record_to_item(record: AuditRecord, tables: TableNames) -> Item:
    """What is personal is kept as long as the key it is sealed under, and of an erased person not at all."""
    key = _key_of(record.id)
    if key is None:
        raise ValueError("an audit record has an id of this exchange")
    held = _held(record.patient, tables)
    if held is Lost.DESTROYED:
        record = replace(record, **_NOTHING_PERSONAL)
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
        "user_name": record.user_name,
        "profession": record.profession,
        "person": record.person,
        "token_tail": record.token_tail,
        "external_id": record.external_id,
        "address": record.address,
        "recipient": record.recipient,
        "decision": _decision_to_map(record.decision) if record.decision else None,
        "deposit": record.deposit,
        "ttl": int((record.at + KEPT).timestamp()),
    }
    sealer = _index_sealer(tables) if isinstance(held, Lost) else held
    # What the verifiable log will say of the record, decided in the commit that records it (aws/ledger.py).
    item["commitment"] = _commitment(record, _salt(record.id, sealer))
    if record.patient is not None and isinstance(held, Lost):
        item["key"] = "index"  # whether or not the record gets a key of its own
    kept = {name: value for name, value in item.items() if value or name in _REQUIRED}
    return sealed_with(sealer, kept, _PERSONAL)


# Kept even if empty: nobody was known.
_REQUIRED = {"client_id", "organisation", "role", "token_id", "request_id"}


def record_from_item(item: Item, tables: TableNames) -> AuditRecord:
    if "patient" in item and "key" not in item:
        item = unsealed(item, _PERSONAL, item["patient"], tables.keyring())
    elif any(isinstance(item.get(name), bytes) for name in _PERSONAL):
        item = unsealed_with(_index_sealer(tables), item, _PERSONAL)
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
        user_name=item.get("user_name", ""),
        profession=item.get("profession"),
        person=item.get("person"),
        token_tail=item.get("token_tail", ""),
        external_id=item.get("external_id", ""),
        address=item.get("address", ""),
        recipient=item.get("recipient", ""),
        decision=_decision_from_map(item["decision"]) if "decision" in item else None,
        deposit=item.get("deposit", ""),
    )


def _decision_to_map(decision: Decision) -> Item:
    return {
        "is_permitted": decision.is_permitted,
        "rule": str(decision.rule),
        "facts": {name: str(value) if isinstance(value, str) else value for name, value in decision.facts.items()},
        "rules": decision.rules,
    }


def _decision_from_map(content: Item) -> Decision:
    return Decision(
        is_permitted=content["is_permitted"], rule=content["rule"], facts=content["facts"], rules=content["rules"]
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


def _last(span: Span) -> datetime:
    """The latest moment that is looked into."""
    return time_of(span.before) if span.before else span.until


def _end(span: Span) -> str:
    """The end of a range of keys: `~` is greater than whatever follows a time."""
    return f"{_instant(time_of(span.before))}#{span.before}~" if span.before else f"{_instant(span.until)}~"


def _after(moment: datetime) -> datetime:
    return moment + timedelta(milliseconds=1)


def _months_back(since: datetime, until: datetime) -> Iterator[str]:
    """The months (`yyyymm`, UTC) of a period, newest first."""
    first = since.astimezone(UTC).date().replace(day=1)
    month = until.astimezone(UTC).date().replace(day=1)
    while month >= first:
        yield f"{month:%Y%m}"
        month = (month - timedelta(days=1)).replace(day=1)
