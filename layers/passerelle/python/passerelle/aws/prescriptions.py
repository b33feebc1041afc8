"""Prescriptions on DynamoDB: one collection each, read by one Query.

    clinical  RX#<group id>         T0                    group: number, code hash, signed content, chain head
    clinical  RX#<group id>         LINE#<01>             line: state, owner, fence, lease, what remains
    clinical  RX#<group id>         CLAIM#<01>#<000001>   claim of a line, by fence
    clinical  RX#<group id>         LEDGER#<01>#<000001>  supply of a line, never changed
    clinical  RX#<group id>         EVENT#<000001>        history: one link of the hash chain
    clinical  N#<blind number>      N                     id of the group, by its prescription number
    clinical  D#<blind identifier>  D                     dispense that a pharmacy gave this identifier

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

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from passerelle.aws.dynamodb import Action, DynamoDb, Item, Key, put, update
from passerelle.aws.journal import TableNames, actions_of
from passerelle.aws.keys import sealed, unsealed
from passerelle.errors import Fault
from passerelle.identifiers import split_resource_id
from passerelle.prescriptions.errors import rx
from passerelle.prescriptions.model import (
    ClaimChange,
    ClaimRecord,
    Group,
    GroupChange,
    HistoryEvent,
    LedgerEntry,
    Line,
    LineChange,
    LineClaimed,
    LineMovedError,
    LineSupplied,
    Prescription,
    PrescriptionCreated,
    PrescriptionMovedError,
    Supplied,
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

        return Prescription(
            group=from_map(Group, groups[0]),
            lines=those(Line, "LINE#"),
            claims=those(ClaimRecord, "CLAIM#"),
            ledger=those(LedgerEntry, "LEDGER#"),
        )

    def find_id(self, number: str) -> str | None:
        item = self._dynamodb.get(self._tables.clinical, (_number_key(number, self._tables), "N"))
        return item["id"] if item else None

    def history(self, id: str) -> Sequence[HistoryEvent]:
        """All events of a prescription, oldest first."""
        items = self._dynamodb.query_all(self._tables.clinical, f"RX#{id}", prefix="EVENT#")
        return [from_map(HistoryEvent, {**item, "moves": tuple(item["moves"])}) for item in items]

    def blinded(self, organisation: str, identifier: str) -> str:
        return self._tables.blinder().blind("dispense", f"{organisation}|{identifier}")


def _number_key(number: str, tables: TableNames) -> str:
    return f"N#{tables.blinder().blind('prescription', number)}"


_SEALED: Final = frozenset({"request", "product", "unit", "units_per_day", "signed", "jws", "reason", "cancel_reason"})


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
        *(
            put(tables.clinical, _line_item(group.id, line, tables), unless_exists=_exists)
            for line in change.prescription.lines
        ),
    ]


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
def _(change: Supplied, tables: TableNames) -> Sequence[Action]:
    entry = change.entry
    key = {"PK": f"RX#{change.prescription}", "SK": f"LEDGER#{entry.line:02d}#{entry.number:06d}"}
    actions = [put(tables.clinical, {**key, **to_map(entry)}, unless_exists=_group_moved)]
    if entry.identifier is not None:
        reference = f"MedicationDispense/{entry.dispense_id}"
        guard = {"PK": f"D#{entry.identifier}", "SK": "D", "reference": reference}
        actions.append(put(tables.clinical, guard, unless_exists=_duplicate))
    return actions


def _duplicate(item: Item) -> Exception:
    return rx("RX-DUPLICATE", reference=item["reference"])


@actions_of.register
def _(change: HistoryEvent, tables: TableNames) -> Sequence[Action]:
    key = {"PK": f"RX#{change.prescription}", "SK": f"EVENT#{change.number:06d}"}
    item = {**key, **to_map(change), "moves": list(change.moves)}
    return [put(tables.clinical, item, unless_exists=_group_moved)]
