"""The record on DynamoDB: one collection per patient, versions and search entries side by side.

    clinical  P#<patient key>   v#<TTT>#<local>#<000001>              v, at, c (sealed zlib of JSON), p (placement), o
                                                                      (who published it), labels; immutable
    clinical  P#<patient key>   e#<TTT>#<yyyymmddHHMM>#<local>        v, at, c (sealed, packed search values) current
    clinical  P#<patient key>   x#<TTT>#<range>#<yyyymmddHHMM>#<local>   the same, under one of the type's ranges
    clinical  P#<patient key>   h#<yyyymmddHHMMSSmmm>#<TTT>#<local>#<000001>   that a version came to exist
    clinical  P#<patient key>   r#<TTT>#<local>                       v, labels, o: from whom it is hidden now
    clinical  A#<TTT>#<id>      A                                     patient: where a client-assigned id is stored
    clinical  G#<Type>#<id>     v#<TTT>#<id>#<000001>                 a version of a resource of no patient: b for c
    clinical  E#<TTT>           e#<id>                                its entry, among all of the type: k for c
    clinical  L#<TTT>#<lookup>  [<normalised text>#]<id>              the same under a look-up of the directory
    clinical  H#<TTT>           h#<yyyymmddHHMMSSmmm>#<TTT>#<id>#<000001>
    clinical  U#<TTT>#<token>   U                                     id: owner of an identifier that is unique
    clinical  U#<TTT>#<token>   u#<id>                                id: who carries it without owning it
    clinical  U#guard#<name>    U                                     n: how often a guard was committed

TTT is the type's code in `fhir/index.py`, `local` the ulid of the resource id, a Patient's own key, or the id that a
client chose. For example, the third version of an Observation, and its entry:

    P#7q2k9c4m1xw8z0ab  v#OBS#01jpab3v5w9f2k8m4n6p0q1r2s#000003
    P#7q2k9c4m1xw8z0ab  e#OBS#202503140730#01jpab3v5w9f2k8m4n6p0q1r2s

Writing version n+1 is an insert that fails if it exists: the optimistic lock, the history and the outbox need nothing
else. A body that is too large for an item is an object (`l`, named by its SHA-256) that is stored before the commit.

What is sealed is so under the data key of the record (`keys.py`): once that is destroyed, a version looks deleted, and
an entry as if it were not there. What was written before there were keys has `b` and `k`. Items with `x` belong to a
transaction that is not settled yet (`staging.py`).
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from typing import TypeVar

from passerelle.aws.dynamodb import Action, DynamoDb, Item, Key, delete_if, in_parallel, put, put_if
from passerelle.aws.entries import pack_entry, unpack_entry
from passerelle.aws.journal import TableNames, actions_of, begun_by, staged_of
from passerelle.aws.keys import opened, place_of
from passerelle.aws.staging import StagedItemError, StagedRecord, Staging
from passerelle.consents.visibility import Restriction
from passerelle.errors import Conflict, Fault, Stale, TooLarge
from passerelle.fhir.index import RECORD_TYPES, lookups_of, ranges_of, record_type
from passerelle.identifiers import split_resource_id
from passerelle.records.model import (
    Guard,
    IdentifierClaim,
    IdentifierUse,
    Overtaken,
    Placement,
    RecordVersion,
    ResourceKey,
    StoredVersion,
)
from passerelle.records.ports import LONG, EntryPage, Indexed, Mark, MarkPage, Scan
from passerelle.records.search import Entry, outlasts

MAX_INLINE_BYTES = 300_000  # of the compressed body: an item holds 400 kB
_RANGE_CHARACTERS = 12  # of a blinded range: what two share by accident does not match
SEALED_OBJECTS = "sealed/"
PREFIX_CHARACTERS = 3  # of a text, that its look-up partition is named by

R = TypeVar("R")


class DynamoRecordStore:
    """`records.ports.RecordStore`."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._tables = tables
        self._table = tables.clinical
        self._staging = Staging(dynamodb, tables)

    # --- versions -------------------------------------------------------------------------------------------------

    def find_key(self, type: str, id: str) -> ResourceKey | None:
        if type not in RECORD_TYPES:  # references may name any
            return None
        if _is_shared_type(type):
            return ResourceKey(type=type, id=id, patient=None)
        item = self._dynamodb.get(self._table, _alias(type, id))
        if item is None or not self._staging.visible([item]):
            return None
        return ResourceKey(type=type, id=id, patient=item.get("patient"))

    def find_latest(self, key: ResourceKey) -> StoredVersion | None:
        found = self.history(key, before=None, limit=1)
        return found[0] if found else None

    def history(self, key: ResourceKey, *, before: int | None, limit: int) -> Sequence[StoredVersion]:
        if key.type not in RECORD_TYPES:
            return ()
        pk, prefix = _partition(key), _versions(key)
        within = {"prefix": prefix} if before is None else {"between": (prefix, f"{prefix}{before - 1:06d}")}
        # One more: the newest may belong to a transaction that never commits.
        read = partial(self._dynamodb.query, self._table, pk, descending=True, limit=limit + 1, **within)
        items, _ = self._beside(read, key.patient)
        return self._stored([(key, item) for item in self._staging.visible(items)[:limit]])

    def find_version(self, key: ResourceKey, version: int) -> StoredVersion | None:
        return self.versions([(key, version)]).get((key, version))

    def versions(self, wanted: Sequence[tuple[ResourceKey, int]]) -> dict[tuple[ResourceKey, int], StoredVersion]:
        places = {
            (_partition(key), f"{_versions(key)}{version:06d}"): key for key, version in wanted if 0 < version < 10**6
        }
        read = partial(self._dynamodb.get_many, self._table, list(places))
        items = self._beside(read, *(key.patient for key in places.values()))
        visible = [(places[item["PK"], item["SK"]], item) for item in self._staging.visible(items.values())]
        return {(each.key, each.version): each for each in self._stored(visible)}

    def _stored(self, found: Sequence[tuple[ResourceKey, Item]]) -> list[StoredVersion]:
        """The versions with their bodies; those that are objects are fetched at once."""
        remote = [item["l"] for _, item in found if "l" in item]
        fetched = in_parallel(*(lambda name=name: self._object(name) for name in remote)) if remote else ()
        objects = dict(zip(remote, fetched, strict=True))
        packed = [self._packed(key, item, objects) for key, item in found]
        return [
            StoredVersion(
                key=key,
                version=item["v"],
                at=datetime.fromisoformat(item["at"]),
                body=zlib.decompress(body) if body else None,
                placement=_placement(item),
                is_managed=item.get("m", False),
                producer=item.get("o"),
                restriction=_restriction(item),
            )
            for (key, item), body in zip(found, packed, strict=True)
        ]

    def _beside(self, read: Callable[[], R], *patients: str | None) -> R:
        """The read, with the data keys of these records at hand after it."""
        return self._tables.keyring().beside(read, *(each for each in patients if each is not None))

    def _packed(self, key: ResourceKey, item: Item, objects: Mapping[str, bytes]) -> bytes | None:
        if "c" in item:
            return self._opened(item["c"], key.patient, place_of(item))
        name = item.get("l")
        if name is None:
            return item.get("b")
        if not name.startswith(SEALED_OBJECTS):
            return objects[name]
        return self._opened(objects[name], key.patient, _object_place(key))

    def _opened(self, sealed: bytes, patient: str | None, place: str) -> bytes | None:
        if patient is None:
            raise Fault()
        return opened(self._tables.keyring().find(patient), sealed, place)

    def _object(self, name: str) -> bytes:
        packed = self._tables.objects().find(name) if self._tables.objects else None
        if packed is None or hashlib.sha256(packed).hexdigest() != name.rpartition("/")[2]:
            raise Fault()
        return packed

    # --- claims and restrictions ----------------------------------------------------------------------------------

    def find_claim(self, type: str, token: str) -> str | None:
        item = self._dynamodb.get(self._table, _claim(type, token))
        return item["id"] if item is not None and self._staging.visible([item]) else None

    def find_carriers(self, type: str, token: str) -> Sequence[str]:
        items = list(self._dynamodb.query_all(self._table, _claim(type, token)[0]))
        return tuple(dict.fromkeys(item["id"] for item in self._staging.visible(items)))

    def restrictions(self, patient: str) -> dict[ResourceKey, Restriction]:
        items = list(self._dynamodb.query_all(self._table, f"P#{patient}", prefix="r#"))
        read = ((_restricted(item, patient), _restriction(item)) for item in self._staging.current(items))
        return {key: restriction for key, restriction in read if restriction is not None}

    # --- entries --------------------------------------------------------------------------------------------------

    def entries(self, patient: str, type: str, scan: Scan) -> EntryPage:
        prefix = f"e#{record_type(type).code}#"
        if scan.token is not None:
            prefix = f"x#{record_type(type).code}#{_range(self._tables, type, scan.token)}#"
        low, high = scan.between or ("", "~")
        within = {"between": (f"{prefix}{low}", f"{prefix}{high}~")} if scan.between else {"prefix": prefix}
        page = self._page(
            f"P#{patient}",
            patient,
            type,
            descending=not scan.ascending,
            limit=scan.limit,
            start_after=f"{prefix}{scan.after}" if scan.after else None,
            **within,
        )
        return EntryPage(entries=page.entries, after=page.after.removeprefix(prefix) if page.after else None)

    def everything(self, patient: str, *, after: str | None, limit: int) -> EntryPage:
        return self._page(f"P#{patient}", patient, None, prefix="e#", limit=limit, start_after=after)

    def listed(self, type: str, lookup: tuple[str, str] | None, *, after: str | None, limit: int) -> EntryPage:
        code = record_type(type).code
        if lookup is None:
            return self._page(f"E#{code}", None, type, limit=limit, start_after=after)
        partition, text = _lookup(self._tables, type, *lookup)
        return self._page(
            f"L#{code}#{partition}", None, type, limit=limit, start_after=after, **({"prefix": text} if text else {})
        )

    def _page(
        self,
        pk: str,
        patient: str | None,
        type: str | None,
        *,
        limit: int | None,
        start_after: str | None,
        **options: object,
    ) -> EntryPage:
        def read() -> tuple[list[Item], str | None]:
            if limit is None:
                return list(self._dynamodb.query_all(self._table, pk, **options)), None
            return self._dynamodb.query(self._table, pk, limit=limit, start_after=start_after, **options)  # type: ignore[arg-type]

        items, after = self._beside(read, patient)
        found = (self._indexed(item, patient, type) for item in self._staging.current(items))
        return EntryPage(entries=tuple(each for each in found if each is not None), after=after)

    def _indexed(self, item: Item, patient: str | None, type: str | None) -> Indexed | None:
        packed = item.get("k") or self._opened(item["c"], patient, place_of(item))
        return _indexed(item, packed, patient, type) if packed is not None else None

    # --- marks and guards -----------------------------------------------------------------------------------------

    def marks(
        self, patient: str | None, type: str | None, *, since: str, until: str, ascending: bool, limit: int
    ) -> MarkPage:
        if patient is None:
            assert type is not None
            pk = f"H#{record_type(type).code}"
        else:
            pk = f"P#{patient}"
        # `!` sorts before and `~` after whatever follows a position.
        within = (f"h#{since}!" if since else "h#", f"h#{until}")
        items, after = self._dynamodb.query(
            self._table,
            pk,
            between=within,
            descending=not ascending,
            limit=limit,
            start_after=None if ascending else within[1],  # BETWEEN would read it again and again
        )
        marks = [_mark(item, patient) for item in self._staging.visible(items)]
        return MarkPage(
            marks=tuple(mark for mark in marks if type in (None, mark.key.type) and since < mark.position < until),
            after=after.removeprefix("h#") if after else None,
        )

    def guard_counts(self, names: Collection[str]) -> Mapping[str, int]:
        items = self._dynamodb.get_many(self._table, [_guard(name) for name in names])
        return {name: items[_guard(name)]["n"] if _guard(name) in items else 0 for name in names}


# --- keys -----------------------------------------------------------------------------------------------------------


def _local(key: ResourceKey) -> str:
    split = split_resource_id(key.id) if key.type != "Patient" else None
    return split[1] if split and split[0] else key.id


def _partition(key: ResourceKey) -> str:
    return f"P#{key.patient}" if key.patient else f"G#{key.type}#{key.id}"


def _versions(key: ResourceKey) -> str:
    return f"v#{record_type(key.type).code}#{_local(key)}#"


def _alias(type: str, id: str) -> Key:
    return f"A#{record_type(type).code}#{id}", "A"


def _guard(name: str) -> Key:
    return f"U#guard#{name}", "U"


def _claim(type: str, token: str) -> Key:
    return f"U#{record_type(type).code}#{token}", "U"


def _range(tables: TableNames, type: str, token: str) -> str:
    return tables.blinder().blind(f"range {type}", token)[:_RANGE_CHARACTERS]


def _lookup(tables: TableNames, type: str, name: str, value: str) -> tuple[str, str]:
    """The partition of a look-up, and what the sort keys of its items start with (empty: they are ids)."""
    if record_type(type).search[name].kind != "string":
        return tables.blinder().blind(f"lookup {type} {name}", value), ""
    return tables.blinder().blind(f"lookup {type} {name}", value[:PREFIX_CHARACTERS]), value


@cache
def _type_of(code: str) -> str:
    return next(row.name for row in RECORD_TYPES.values() if row.code == code)


def _id(type: str, local: str, patient: str | None) -> str:
    is_own = patient is not None and type != "Patient" and split_resource_id(local) is not None
    return f"{patient}-{local}" if is_own else local


def _object_place(key: ResourceKey) -> str:
    return f"{SEALED_OBJECTS}{key.patient}|{key.reference}"


def _indexed(item: Item, packed: bytes, patient: str | None, type: str | None) -> Indexed:
    head, _, local = item["SK"].rpartition("#")
    kind = type or _type_of(head.split("#")[1])
    entry = unpack_entry(packed)
    return Indexed(
        key=ResourceKey(type=kind, id=_id(kind, local, patient), patient=patient),
        version=item["v"],
        at=datetime.fromisoformat(item["at"]),
        entry=entry,
        position=(entry.sort_at if patient else "", local),
        place=item["SK"],
    )


def _mark(item: Item, patient: str | None) -> Mark:
    _, time, code, local, version = item["SK"].split("#")
    kind = _type_of(code)
    return Mark(
        key=ResourceKey(type=kind, id=_id(kind, local, patient), patient=patient),
        version=int(version),
        at=datetime.strptime(f"{time}000", "%Y%m%d%H%M%S%f").replace(tzinfo=UTC),
        position=item["SK"].removeprefix("h#"),
    )


def _restricted(item: Item, patient: str) -> ResourceKey:
    _, code, local = item["SK"].split("#")
    kind = _type_of(code)
    return ResourceKey(type=kind, id=_id(kind, local, patient), patient=patient)


def _held(restriction: Restriction) -> Item:
    return {"labels": sorted(restriction.labels), **({"withdrawn": True} if restriction.is_withdrawn else {})}


def _restriction(item: Item) -> Restriction | None:
    if "labels" not in item:
        return None
    return Restriction(
        labels=frozenset(item["labels"]), producer=item.get("o"), is_withdrawn=item.get("withdrawn", False)
    )


def _placement(item: Item) -> Placement | None:
    held = item.get("p")
    if held is None:
        return None
    return Placement(sort_at=held["s"], ranges=tuple(held.get("r", ())), lookups=tuple(held.get("l", ())))


# --- changes --------------------------------------------------------------------------------------------------------


def _lost_race(item: Item) -> Exception:
    if "x" in item:
        return StagedItemError(item["x"])
    return Stale("the resource was changed meanwhile: read it again", expression=None)


def _taken(item: Item) -> Exception:
    if "x" in item:
        return StagedItemError(item["x"])
    return Conflict("the identifier belongs to another resource", code="duplicate")


def _id_taken(item: Item) -> Exception:
    return StagedItemError(item["x"]) if "x" in item else Stale("another resource has this id")


@actions_of.register
def _(change: IdentifierClaim, tables: TableNames) -> Sequence[Action]:
    return [put(tables.clinical, _claimed(change), unless_exists=_taken)]


@staged_of.register
def _(change: IdentifierClaim, tables: TableNames) -> StagedRecord:
    return StagedRecord([_claimed(change)], [], taken=_taken)


@actions_of.register
def _(change: IdentifierUse, tables: TableNames) -> Sequence[Action]:
    return [put(tables.clinical, _used(change))]


@staged_of.register
def _(change: IdentifierUse, tables: TableNames) -> StagedRecord:
    return StagedRecord([_used(change)], [])


def _used(change: IdentifierUse) -> Item:
    return {"PK": _claim(change.type, change.token)[0], "SK": f"u#{change.id}", "id": change.id}


def _claimed(change: IdentifierClaim) -> Item:
    pk, sk = _claim(change.type, change.token)
    return {"PK": pk, "SK": sk, "id": change.id}


@actions_of.register
def _(change: Guard, tables: TableNames) -> Sequence[Action]:
    pk, sk = _guard(change.name)
    item = {"PK": pk, "SK": sk, "n": change.count + 1}
    if change.count == 0:
        return [put(tables.clinical, item, unless_exists=lambda _: Overtaken())]
    return [put_if(tables.clinical, item, "n = :n", {":n": change.count}, lambda _: Overtaken())]


@begun_by.register
def _(change: RecordVersion) -> str | None:
    return change.key.patient if change.key.type == "Patient" and change.version == 1 else None


@actions_of.register
def _(change: RecordVersion, tables: TableNames) -> Sequence[Action]:
    items = _items_of(change, tables)
    table = tables.clinical
    actions = [put(table, items.version, unless_exists=_lost_race), put(table, items.mark)]
    if items.alias:
        actions.append(put(table, items.alias, unless_exists=_id_taken))
    actions += [put_if(table, item, "attribute_not_exists(x)", {}, _lost_race) for item in items.placed.values()]
    return [
        *actions,
        *(delete_if(table, key, "attribute_not_exists(x)", {}, _lost_race) for key in items.left),
    ]


@staged_of.register
def _(change: RecordVersion, tables: TableNames) -> StagedRecord:
    items = _items_of(change, tables)
    new = [items.version, items.mark, *([items.alias] if items.alias else [])]
    following: list[tuple[Key, Item | None]] = [(key, None) for key in items.left]
    for key, item in items.placed.items():
        if key in items.before:
            following.append((key, {name: value for name, value in item.items() if name not in ("PK", "SK")}))
        else:
            new.append(item)
    return StagedRecord(new, following)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Items:
    """The items of one version. `placed` are those that searches read, `before` the keys of the version before."""

    version: Item
    mark: Item
    alias: Item | None
    placed: Mapping[Key, Item]
    before: frozenset[Key]

    @property
    def left(self) -> list[Key]:
        return sorted(self.before - self.placed.keys())


def _items_of(change: RecordVersion, tables: TableNames) -> _Items:
    key, at = change.key, change.at.isoformat()
    pk, code, local = _partition(key), record_type(key.type).code, _local(key)
    version: Item = {"PK": pk, "SK": f"{_versions(key)}{change.version:06d}", "v": change.version, "at": at}
    if change.body is not None:
        version |= _kept(change.body, key, version, tables)
    if change.is_managed:
        version["m"] = True
    if change.producer is not None:
        version["o"] = change.producer
    placed: dict[Key, Item] = {}
    restricted = (pk, f"r#{code}#{local}")
    if change.restriction is not None:
        held = _held(change.restriction)
        version |= held
        placed[restricted] = {"PK": pk, "SK": restricted[1], "v": change.version, **held}
        if change.restriction.producer is not None:
            placed[restricted]["o"] = change.restriction.producer
    if change.entry is not None:
        placement = _placement_of(key, change.entry, tables)
        version["p"] = {"s": placement.sort_at}
        if placement.ranges:
            version["p"]["r"] = list(placement.ranges)
        if placement.lookups:
            version["p"]["l"] = list(placement.lookups)
        searched = pack_entry(change.entry)
        for place in _places(key, placement):
            item = {"PK": place[0], "SK": place[1], "v": change.version, "at": at}
            placed[place] = {**item, **_sealed(searched, "k", item, key, tables)}
    moment = change.at.astimezone(UTC).strftime("%Y%m%d%H%M%S%f")[:17]
    mark = {
        "PK": pk if key.patient else f"H#{code}",
        "SK": f"h#{moment}#{code}#{local}#{change.version:06d}",
        "v": change.version,
    }
    alias: Item | None = None
    if change.version == 1 and ResourceKey.of(key.type, key.id) is None and not _is_shared_type(key.type):
        alias_pk, alias_sk = _alias(key.type, key.id)
        alias = {"PK": alias_pk, "SK": alias_sk, **({"patient": key.patient} if key.patient else {})}
    before = frozenset(
        [*(_places(key, change.previous) if change.previous else ()), *([restricted] if change.was_restricted else ())]
    )
    return _Items(version=version, mark=mark, alias=alias, placed=placed, before=before)


def _kept(body: bytes, key: ResourceKey, version: Item, tables: TableNames) -> Item:
    """The attribute that holds a body, or names the object that does.

    The object is named by its content: stored again by a retry, it is the same. A commit that fails leaves it behind,
    and nothing names it.
    """
    packed = zlib.compress(body, 9)
    if len(packed) <= MAX_INLINE_BYTES:
        return _sealed(packed, "b", version, key, tables)
    if tables.objects is None:
        raise TooLarge("the resource is larger than one version can be")
    folder = "versions/shared/"
    if key.patient is not None:
        folder = f"{SEALED_OBJECTS}{key.patient}/"
        packed = tables.keyring().sealer(key.patient).seal_alike(packed, _object_place(key))
    name = f"{folder}{hashlib.sha256(packed).hexdigest()}"
    tables.objects().put(name, packed, "application/octet-stream")
    return {"l": name}


def _sealed(packed: bytes, otherwise: str, item: Item, key: ResourceKey, tables: TableNames) -> Item:
    """The attribute that holds what is the person's, and where it is nobody's."""
    if key.patient is None:
        return {otherwise: packed}
    return {"c": tables.keyring().sealer(key.patient).seal(packed, place_of(item))}


def _is_shared_type(type: str) -> bool:
    return record_type(type).compartment is None and type != "Patient"


def _placement_of(key: ResourceKey, entry: Entry, tables: TableNames) -> Placement:
    if key.patient is None:
        found = (_lookup(tables, key.type, *each) for each in lookups_of(entry, key.type))
        lookups = tuple(dict.fromkeys(f"{partition}#{text}" for partition, text in found))
        return Placement(sort_at=entry.sort_at, lookups=lookups)
    tokens = [*ranges_of(entry, key.type), *([LONG] if outlasts(entry, record_type(key.type).sort) else [])]
    return Placement(sort_at=entry.sort_at, ranges=tuple(_range(tables, key.type, token) for token in tokens))


def _places(key: ResourceKey, placement: Placement) -> list[Key]:
    """The keys of the items that a placement stands for."""
    code, local = record_type(key.type).code, _local(key)
    if key.patient is not None:
        pk, place = f"P#{key.patient}", f"{placement.sort_at}#{local}"
        return [(pk, f"e#{code}#{place}"), *((pk, f"x#{code}#{token}#{place}") for token in placement.ranges)]
    found = [(f"E#{code}", f"e#{local}")]
    for lookup in placement.lookups:
        partition, _, text = lookup.partition("#")
        found.append((f"L#{code}#{partition}", f"{text}#{local}" if text else local))
    return found
