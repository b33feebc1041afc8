"""The record on DynamoDB: one collection per patient, versions and search entries side by side.

    clinical  P#<patient key>   v#<TTT>#<local>#<000001>              v, at, s (sort date), b (zlib of JSON), immutable
    clinical  P#<patient key>   e#<TTT>#<yyyymmddHHMM>#<local>        v, at, k (packed search values)         current
    clinical  G#<Type>#<id>     v#<TTT>#<id>#<000001>                 the same for resources of no patient
    clinical  T#<TTT>#<token>   <id>                                  a shared resource under a blinded identifier
    clinical  U#<TTT>#<token>   U                                     owner of an identifier that is unique

TTT is the type's code in `fhir/index.py`, `local` the ulid of the resource id (a Patient's own key). For example, the
third version of an Observation, and its entry:

    P#7q2k9c4m1xw8z0ab  v#OBS#01jpab3v5w9f2k8m4n6p0q1r2s#000003
    P#7q2k9c4m1xw8z0ab  e#OBS#202503140730#01jpab3v5w9f2k8m4n6p0q1r2s

Writing version n+1 is an insert that fails if it exists: the optimistic lock, the history and the outbox need nothing
else. Items with `x` belong to a transaction that is not settled yet (`staging.py`).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from passerelle.aws.dynamodb import (
    Action,
    DynamoDb,
    Item,
    Key,
    delete_if,
    put,
    put_if,
)
from passerelle.aws.journal import TableNames, actions_of, staged_of
from passerelle.aws.staging import StagedItemError, StagedRecord, Staging
from passerelle.errors import Conflict, Stale, TooLarge
from passerelle.fhir.index import record_type
from passerelle.identifiers import split_resource_id
from passerelle.records.model import IdentifierClaim, RecordVersion, StoredVersion
from passerelle.records.search import Entry

MAX_STORED_BYTES = 350_000  # of the compressed body: an item holds 400 kB


class DynamoRecordStore:
    """`records.ports.RecordStore`."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._table = tables.clinical
        self._staging = Staging(dynamodb, tables)

    def find_latest(self, type: str, id: str) -> StoredVersion | None:
        place = _place(type, id)
        if place is None:
            return None
        pk, local = place
        prefix = f"v#{record_type(type).code}#{local}#"
        # Two: the newest may belong to a transaction that never commits.
        items, _ = self._dynamodb.query(self._table, pk, prefix=prefix, descending=True, limit=2)
        visible = self._staging.visible(items)
        return _stored(type, id, visible[0]) if visible else None

    def find_version(self, type: str, id: str, version: int) -> StoredVersion | None:
        return self.versions(type, [(id, version)]).get((id, version))

    def entries(
        self,
        patient: str,
        type: str,
        *,
        between: tuple[str, str] | None = None,
    ) -> Sequence[tuple[str, int, Entry]]:
        prefix = f"e#{record_type(type).code}#"
        bounds = (f"{prefix}{between[0]}", f"{prefix}{between[1]}~") if between else None
        items = self._dynamodb.query_all(
            self._table, f"P#{patient}", **({"between": bounds} if bounds else {"prefix": prefix})
        )
        found = []
        for item in self._staging.current(list(items)):
            local = item["SK"].rpartition("#")[2]
            resource_id = local if local == patient else f"{patient}-{local}"
            found.append((resource_id, item["v"], Entry.unpack(item["k"])))
        return found

    def versions(
        self,
        type: str,
        keys: Sequence[tuple[str, int]],
    ) -> dict[tuple[str, int], StoredVersion]:
        wanted: dict[Key, tuple[str, int]] = {}
        for resource_id, version in keys:
            place = _place(type, resource_id)
            if place is not None and 0 < version < 1_000_000:
                wanted[place[0], _version_key(type, place[1], version)] = (resource_id, version)
        items = self._dynamodb.get_many(self._table, list(wanted))
        return {
            wanted[item["PK"], item["SK"]]: _stored(type, wanted[item["PK"], item["SK"]][0], item)
            for item in self._staging.visible(items.values())
        }

    def ids_of_token(self, type: str, token: str) -> Sequence[str]:
        items = self._dynamodb.query_all(self._table, f"T#{record_type(type).code}#{token}")
        return [item["SK"] for item in self._staging.current(list(items))]


def _place(type: str, id: str) -> Key | None:
    """Partition and local part of a resource id; None for an id that this exchange never gave."""
    if type == "Patient":
        return (f"P#{id}", id)
    split = split_resource_id(id)
    if split is None:
        return None
    patient, local = split
    return (f"P#{patient}", local) if patient else (f"G#{type}#{id}", id)


def _version_key(type: str, local: str, version: int) -> str:
    return f"v#{record_type(type).code}#{local}#{version:06d}"


def _entry_key(type: str, local: str, sort_at: str) -> str:
    return f"e#{record_type(type).code}#{sort_at}#{local}"


def _stored(type: str, id: str, item: Item) -> StoredVersion:
    body = zlib.decompress(item["b"]) if "b" in item else None
    at = datetime.fromisoformat(item["at"])
    return StoredVersion(type=type, id=id, version=item["v"], at=at, body=body, sort_at=item.get("s"))


def _lost_race(item: Item) -> Exception:
    if "x" in item:
        return StagedItemError(item["x"])
    return Stale("the resource was changed meanwhile: read it again", expression=None)


def _taken(item: Item) -> Exception:
    return Conflict("the identifier belongs to another resource", code="duplicate")


@actions_of.register
def _(change: IdentifierClaim, tables: TableNames) -> Sequence[Action]:
    item = {"PK": f"U#{record_type(change.type).code}#{change.token}", "SK": "U", "id": change.id}
    return [put(tables.clinical, item, unless_exists=_taken)]


@actions_of.register
def _(change: RecordVersion, tables: TableNames) -> Sequence[Action]:
    items = _items_of(change)
    actions = [put(tables.clinical, items.version, unless_exists=_lost_race)]
    if items.entry:
        actions.append(put_if(tables.clinical, items.entry, "attribute_not_exists(x)", {}, _lost_race))
    if items.before and (items.entry is None or items.before != _key(items.entry)):
        actions.append(delete_if(tables.clinical, items.before, "attribute_not_exists(x)", {}, _lost_race))
    return [*actions, *(put(tables.clinical, token) for token in items.tokens)]


@staged_of.register
def _(change: RecordVersion, tables: TableNames) -> StagedRecord:
    items = _items_of(change)
    new = [items.version, *(items.tokens if change.version == 1 else ())]
    following: list[tuple[Key, Item | None]] = []
    if items.entry and items.before == _key(items.entry):
        following.append((items.before, {name: items.entry[name] for name in ("v", "at", "k")}))
    else:
        new += [items.entry] if items.entry else []
        following += [(items.before, None)] if items.before else []
    return StagedRecord(new, following)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Items:
    """The items of one version; `before` is the key of the entry of the version before."""

    version: Item
    entry: Item | None
    before: Key | None
    tokens: tuple[Item, ...]


def _key(item: Item) -> Key:
    return item["PK"], item["SK"]


def _items_of(change: RecordVersion) -> _Items:
    place = _place(change.type, change.id)
    if place is None:
        raise ValueError("not an id of this exchange")
    pk, local = place
    code = record_type(change.type).code
    at = change.at.isoformat()
    version: Item = {"PK": pk, "SK": _version_key(change.type, local, change.version), "v": change.version, "at": at}
    if change.body is not None:
        version["b"] = zlib.compress(change.body, 9)
        if len(version["b"]) > MAX_STORED_BYTES:
            raise TooLarge("the resource is larger than one version can be")
    entry = before = None
    if change.patient is not None and change.entry is not None:
        sk = _entry_key(change.type, local, change.entry.sort_at)
        entry = {"PK": pk, "SK": sk, "v": change.version, "at": at, "k": change.entry.pack()}
        version["s"] = change.entry.sort_at
    if change.patient is not None and change.previous_sort_at is not None:
        before = (pk, _entry_key(change.type, local, change.previous_sort_at))
    tokens = tuple({"PK": f"T#{code}#{token}", "SK": change.id, "v": change.version} for token in change.tokens)
    return _Items(version=version, entry=entry, before=before, tokens=tokens)
