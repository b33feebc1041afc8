"""Prescriptions on DynamoDB: one collection each, read by one Query.

    clinical  RX#<group id>         T0                    group: number, code hash, signed content, chain head
    clinical  RX#<group id>         LINE#<01>             line: state, owner, fence, lease, what remains
    clinical  RX#<group id>         CLAIM#<01>#<000001>   claim of a line, by fence
    clinical  RX#<group id>         LEDGER#<01>#<000001>  supply of a line, never changed
    clinical  RX#<group id>         EVENT#<000001>        history: one link of the hash chain
    clinical  RX#<group id>         ASK#<01>              request about a line, and its answer
    clinical  RX#<group id>         LATE#<01>#<000001>    supply under a claim that had ended, never changed
    clinical  N#<blind number>      N                     id of the group, by its prescription number
    clinical  S#<dispense id>       S                     id of the group that a MedicationDispense is a supply of
    clinical  D#<blind identifier>  D                     dispense that a pharmacy gave this identifier
    clinical  RXP#<patient key>     <ulid>#<patient key>  a prescription of the patient
    clinical  RXO#<blind id>        <ulid>#<patient key>  a prescription that is on the list of an organisation
    clinical  DUE#<hour>#<shard>    <group id>            a prescription that is looked at by itself at this hour (UTC)
    clinical  DUE                   REACHED               hour: up to which all of those were
    clinical  TOLD#<blind>          T                     held_until: a patient is not told more about a pharmacy; ttl

The group id is the id of the group Task, `<patient key>-<ulid>`; a line Task is `<group id>-<two digits>`.
The second line of a prescription, and its first claim, for example:

    RX#7q2k9c4m1xw8z0ab-01jpab3v5w9f2k8m4n6p0q1r2s  LINE#02
    RX#7q2k9c4m1xw8z0ab-01jpab3v5w9f2k8m4n6p0q1r2s  CLAIM#02#000001

What was prescribed, signed and said in words is sealed under the data key of the patient's record (`keys.py`): an
attribute of `_SEALED` holds bytes then. States, numbers and hashes are compared by conditions, and tell nothing alone.

Every command moves the head of the history on T0, on the condition that it is the one it read: commands of
one prescription take turns. Conditions on the lines (contract section 8) come first in a transaction, so that
a loser is given the line as it is now.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from passerelle.aws.dynamodb import Action, DynamoDb, Item, Key, delete, in_parallel, put, put_if, update
from passerelle.aws.journal import TableNames, actions_of
from passerelle.aws.keys import sealed, unsealed
from passerelle.errors import Fault
from passerelle.identifiers import split_resource_id
from passerelle.prescriptions.errors import rx
from passerelle.prescriptions.model import (
    Ask,
    AskChange,
    Attended,
    ClaimChange,
    ClaimRecord,
    Concern,
    Group,
    GroupChange,
    HistoryEvent,
    LateSupply,
    LedgerEntry,
    Line,
    LineChange,
    LineClaimed,
    LineMovedError,
    LineSupplied,
    PausedError,
    Prescription,
    PrescriptionCreated,
    PrescriptionMovedError,
    Supplied,
    SuppliedLate,
    Told,
    WakeChange,
    from_map,
    to_map,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")


class DynamoPrescriptions:
    """`prescriptions.ports.Prescriptions`."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._tables = tables

    def find(self, id: str) -> Prescription | None:
        found = self.find_with_history(id)
        return found[0] if found else None

    def find_with_history(self, id: str) -> tuple[Prescription, Sequence[HistoryEvent]] | None:
        """None as well for one that cannot be read any more: the patient was erased."""

        def read() -> list[Item]:
            return list(self._dynamodb.query_all(self._tables.clinical, f"RX#{id}"))

        keys, patient = self._tables.keyring(), split_resource_id(id)
        items = keys.beside(read, patient[0]) if patient and patient[0] else read()
        plain = [_opened(item, self._tables) for item in items]
        legible = [item for item in plain if item is not None]
        groups = [item for item in legible if item["SK"] == "T0"]
        if not groups or len(legible) < len(items):
            return None

        def those(kind: type[R], prefix: str) -> tuple[R, ...]:
            return tuple(from_map(kind, item) for item in legible if item["SK"].startswith(prefix))

        prescription = Prescription(
            group=from_map(Group, groups[0]),
            lines=those(Line, "LINE#"),
            claims=those(ClaimRecord, "CLAIM#"),
            ledger=those(LedgerEntry, "LEDGER#"),
            asks=those(Ask, "ASK#"),
            late=those(LateSupply, "LATE#"),
        )
        return prescription, tuple(_event(item) for item in legible if item["SK"].startswith("EVENT#"))

    def find_supply(self, dispense_id: str) -> str | None:
        item = self._dynamodb.get(self._tables.clinical, (f"S#{dispense_id}", "S"))
        return item["id"] if item else None

    def find_id(self, number: str) -> str | None:
        item = self._dynamodb.get(self._tables.clinical, (_number_key(number, self._tables), "N"))
        return item["id"] if item else None

    def history(self, id: str) -> Sequence[HistoryEvent]:
        """All events of a prescription, oldest first."""
        items = self._dynamodb.query_all(self._tables.clinical, f"RX#{id}", prefix="EVENT#")
        return [_event(item) for item in items]

    def of_patients(self, patients: Sequence[str], *, limit: int, after: str | None) -> tuple[list[str], str | None]:
        return self._listed([f"RXP#{patient}" for patient in patients], limit, after)

    def of_organisation(self, organisation: str, *, limit: int, after: str | None) -> tuple[list[str], str | None]:
        return self._listed([_list_key(organisation, self._tables)], limit, after)

    def _listed(self, partitions: Sequence[str], limit: int, after: str | None) -> tuple[list[str], str | None]:
        """Each partition has more than the page, or all it has."""

        def page(partition: str) -> list[str]:
            items, _ = self._dynamodb.query(
                self._tables.clinical, partition, descending=True, limit=limit + 1, start_after=after
            )
            return [item["SK"] for item in items]

        pages = in_parallel(*(partial(page, each) for each in partitions)) if partitions else ()
        places = sorted((place for each in pages for place in each), reverse=True)
        following = places[limit - 1] if len(places) > limit else None
        return [_id_at(place) for place in places[:limit]], following

    def blinded(self, organisation: str, identifier: str) -> str:
        return self._tables.blinder().blind("dispense", f"{organisation}|{identifier}")


def _event(item: Item) -> HistoryEvent:
    return from_map(HistoryEvent, {**item, "moves": tuple(item["moves"])})


def _list_key(organisation: str, tables: TableNames) -> str:
    return f"RXO#{tables.blinder().blind('prescriptions', organisation)}"


def _place(id: str) -> str:
    """Where a prescription is in lists: the time in its id comes first."""
    patient, _, ulid = id.partition("-")
    return f"{ulid}#{patient}"


def _id_at(place: str) -> str:
    ulid, _, patient = place.partition("#")
    return f"{patient}-{ulid}"


def _number_key(number: str, tables: TableNames) -> str:
    return f"N#{tables.blinder().blind('prescription', number)}"


_SEALED: Final = frozenset(
    {
        "answer_reason",
        "answer_text",
        "approved",
        "approved_jws",
        "cancel_reason",
        "codings",
        "course",
        "discharge_on",
        "duration",
        "executor",
        "fill_units",
        "interval",
        "jws",
        "mentions",
        "prior",
        "product",
        "proposal",
        "reason",
        "regime",
        "request",
        "signed",
        "substitution_reason",
        "substitution_text",
        "text",
        "topic",
        "unit",
        "units_per_day",
    }
)


def _sealed(item: Item, tables: TableNames) -> Item:
    return sealed(item, _SEALED, _patient_of(item), tables.keyring())


def _opened(item: Item, tables: TableNames) -> Item | None:
    """None if the key was destroyed."""
    plain = unsealed(item, _SEALED, _patient_of(item), tables.keyring())
    return plain if plain.keys() == item.keys() else None


def _patient_of(item: Item) -> str:
    patient: str = item["PK"].removeprefix("RX#").partition("-")[0]
    return patient


def _group_item(group: Group, tables: TableNames) -> Item:
    return _sealed({"PK": f"RX#{group.id}", "SK": "T0", **to_map(group)}, tables)


def _line_item(prescription: str, line: Line, tables: TableNames) -> Item:
    return _sealed({"PK": f"RX#{prescription}", "SK": f"LINE#{line.number:02d}", **to_map(line)}, tables)


def _exists(_: Item) -> Exception:
    return Fault()


def _line_moved(tables: TableNames) -> Callable[[Item], Exception]:
    def lost(item: Item) -> Exception:
        line = _opened(item, tables) if item else None
        return LineMovedError(from_map(Line, line)) if line else Fault()

    return lost


def _group_moved(_: Item) -> Exception:
    return PrescriptionMovedError()


@actions_of.register
def _(change: PrescriptionCreated, tables: TableNames) -> Sequence[Action]:
    group = change.prescription.group
    number = {"PK": _number_key(group.number, tables), "SK": "N", "id": group.id}
    return [
        put(tables.clinical, _group_item(group, tables), unless_exists=_exists),
        put(tables.clinical, number, unless_exists=_exists),
        put(tables.clinical, {"PK": f"RXP#{group.patient}", "SK": _place(group.id)}),
        *(
            put(tables.clinical, _line_item(group.id, line, tables), unless_exists=_exists)
            for line in change.prescription.lines
        ),
        *([put(tables.clinical, _wake_item(group.id, group.wakes_at))] if group.wakes_at else []),
    ]


@actions_of.register
def _(change: Concern, tables: TableNames) -> Sequence[Action]:
    """Without a condition: the head of the history, which moves in the same transaction, is one."""
    key = (_list_key(change.organisation, tables), _place(change.prescription))
    if change.is_concerned:
        return [put(tables.clinical, {"PK": key[0], "SK": key[1]})]
    return [delete(tables.clinical, key)]


@actions_of.register
def _(change: GroupChange, tables: TableNames) -> Sequence[Action]:
    key = (f"RX#{change.before.id}", "T0")
    before, after = to_map(change.before), to_map(change.after)
    return [_set(tables, key, before, after, "#head = :head", {":head": change.before.head}, _group_moved)]


_CLAIMABLE = (
    "#cancel_requested = :no AND #not_before <= :today AND #expires_on > :today AND #fence = :fence AND "
    "(#state IN (:ready, :owing, :waiting) OR (#state IN (:claimed, :partial) AND #lease_until < :now))"
)
_RECOVERABLE = (
    "#cancel_requested = :no AND #owner = :me AND #fence = :fence AND #state IN (:claimed, :partial) AND "
    "#lease_until >= :now"
)
_SUPPLIABLE = (
    "#state IN (:claimed, :partial) AND #owner = :me AND #fence = :fence AND #secret_hash = :secret AND "
    "#lease_until > :now AND #cancel_requested = :no AND #fill_no = :fill AND #remaining_fill >= :quantity"
)
_CLAIMED = {":claimed": "C", ":partial": "P"}
_OPEN = {":ready": "R", ":owing": "O", ":waiting": "W"}


@actions_of.register
def _(change: LineChange, tables: TableNames) -> Sequence[Action]:
    return [_line_update(change, tables, "", {})]


@actions_of.register
def _(change: LineClaimed, tables: TableNames) -> Sequence[Action]:
    values: Item = {":no": False, ":fence": change.before.fence, ":now": change.now, **_CLAIMED}
    if change.is_recovery:
        return [_line_update(change, tables, _RECOVERABLE, {**values, ":me": change.before.owner})]
    return [_line_update(change, tables, _CLAIMABLE, {**values, **_OPEN, ":today": change.today.isoformat()})]


@actions_of.register
def _(change: LineSupplied, tables: TableNames) -> Sequence[Action]:
    before = change.before
    values: Item = {
        ":no": False,
        ":me": before.owner,
        ":fence": before.fence,
        ":secret": before.secret_hash,
        ":fill": before.fill_no,
        ":quantity": change.quantity,
        ":now": change.now,
        **_CLAIMED,
    }
    return [_line_update(change, tables, _SUPPLIABLE, values)]


def _line_update(change: LineChange, tables: TableNames, condition: str, values: Item) -> Action:
    """Also on the condition that the line is the one read."""
    key = (f"RX#{change.prescription}", f"LINE#{change.after.number:02d}")
    condition = " AND ".join(filter(None, ["#version = :version", condition]))
    values = {**values, ":version": change.before.version}
    return _set(tables, key, to_map(change.before), to_map(change.after), condition, values, _line_moved(tables))


def _set(
    tables: TableNames,
    key: Key,
    before: Item,
    after: Item,
    condition: str,
    values: Item,
    lost: Callable[[Item], Exception],
) -> Action:
    """Set the attributes that differ, and leave all others alone."""
    named = {"PK": key[0], "SK": key[1]}
    differing = {name: value for name, value in after.items() if value != before[name]}
    changed = {name: value for name, value in _sealed(named | differing, tables).items() if name not in named}
    return update(
        tables.clinical,
        key,
        "SET " + ", ".join(f"#{name} = :new_{name}" for name in changed),
        {**values, **{f":new_{name}": value for name, value in changed.items()}},
        condition=condition,
        names={f"#{name}": name for name in {*changed, *re.findall(r"#(\w+)", condition)}},
        lost=lost,
    )


@actions_of.register
def _(change: ClaimChange, tables: TableNames) -> Sequence[Action]:
    claim = change.claim
    key = {"PK": f"RX#{change.prescription}", "SK": f"CLAIM#{claim.line:02d}#{claim.fence:06d}"}
    return [put(tables.clinical, _sealed({**key, **to_map(claim)}, tables))]


@actions_of.register
def _(change: AskChange, tables: TableNames) -> Sequence[Action]:
    key = {"PK": f"RX#{change.prescription}", "SK": f"ASK#{change.ask.number:02d}"}
    return [put(tables.clinical, _sealed({**key, **to_map(change.ask)}, tables))]


@actions_of.register
def _(change: Supplied, tables: TableNames) -> Sequence[Action]:
    entry = change.entry
    key = {"PK": f"RX#{change.prescription}", "SK": f"LEDGER#{entry.line:02d}#{entry.number:06d}"}
    item = put(tables.clinical, {**key, **to_map(entry)}, unless_exists=_group_moved)
    if entry.kind != "supply":
        return [item]
    pointer = {"PK": f"S#{entry.dispense_id}", "SK": "S", "id": change.prescription}
    return [item, put(tables.clinical, pointer, unless_exists=_exists), *_identified(entry, tables)]


@actions_of.register
def _(change: SuppliedLate, tables: TableNames) -> Sequence[Action]:
    late = change.supply
    key = {"PK": f"RX#{change.prescription}", "SK": f"LATE#{late.line:02d}#{late.number:06d}"}
    item = put(tables.clinical, {**key, **to_map(late)}, unless_exists=_group_moved)
    return [item, *_identified(late, tables)]


def _identified(supply: LedgerEntry | LateSupply, tables: TableNames) -> list[Action]:
    if supply.identifier is None:
        return []
    reference = f"MedicationDispense/{supply.dispense_id}"
    guard = {"PK": f"D#{supply.identifier}", "SK": "D", "reference": reference}
    return [put(tables.clinical, guard, unless_exists=_duplicate)]


def _duplicate(item: Item) -> Exception:
    return rx("RX-DUPLICATE", reference=item["reference"])


@actions_of.register
def _(change: HistoryEvent, tables: TableNames) -> Sequence[Action]:
    key = {"PK": f"RX#{change.prescription}", "SK": f"EVENT#{change.number:06d}"}
    item = {**key, **to_map(change)}
    return [put(tables.clinical, item, unless_exists=_group_moved)]


# --- what is looked at by itself ------------------------------------------------------------------------------------

_SHARDS: Final = 4  # of an hour: commands of one day write to the same few hours
_PAUSE_KEPT_SECONDS: Final = 86_400


class DynamoWakes:
    """`prescriptions.ports.Wakes`."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._table = tables.clinical

    def due(self, hour: str) -> Sequence[str]:
        def ids(shard: int) -> list[str]:
            return [item["SK"] for item in self._dynamodb.query_all(self._table, f"DUE#{hour}#{shard}")]

        return [id for found in in_parallel(*(partial(ids, shard) for shard in range(_SHARDS))) for id in found]

    def drop(self, id: str, hour: str) -> None:
        item = _wake_item(id, hour)
        self._dynamodb.write(delete(self._table, (item["PK"], item["SK"])))

    def reached(self) -> str | None:
        item = self._dynamodb.get(self._table, ("DUE", "REACHED"))
        return item["hour"] if item else None

    def reach(self, hour: str) -> None:
        self._dynamodb.write(put(self._table, {"PK": "DUE", "SK": "REACHED", "hour": hour}))


def _wake_item(id: str, hour: str) -> Item:
    shard = int(hashlib.sha256(id.encode()).hexdigest(), 16) % _SHARDS
    return {"PK": f"DUE#{hour}#{shard}", "SK": id}


@actions_of.register
def _(change: WakeChange, tables: TableNames) -> Sequence[Action]:
    """Without a condition: a wake-up that is there too often finds nothing to do, and one too few never comes again."""
    actions = []
    if change.before is not None:
        item = _wake_item(change.prescription, change.before)
        actions.append(delete(tables.clinical, (item["PK"], item["SK"])))
    if change.after is not None:
        actions.append(put(tables.clinical, _wake_item(change.prescription, change.after)))
    return actions


@actions_of.register
def _(change: Attended, tables: TableNames) -> Sequence[Action]:
    key = (f"RX#{change.before.id}", "T0")
    values: Item = {":head": change.before.head, ":hour": change.before.wakes_at}
    condition = "#head = :head AND #wakes_at = :hour"
    return [_set(tables, key, to_map(change.before), to_map(change.after), condition, values, _group_moved)]


@actions_of.register
def _(change: Told, tables: TableNames) -> Sequence[Action]:
    place = tables.blinder().blind("told", f"{change.patient}|{change.pharmacy or ''}")
    item = {"PK": f"TOLD#{place}", "SK": "T", "held_until": change.until, "ttl": change.until + _PAUSE_KEPT_SECONDS}
    free = "attribute_not_exists(PK) OR held_until <= :now"
    return [put_if(tables.clinical, item, free, {":now": change.now}, lambda found: PausedError(found["held_until"]))]
