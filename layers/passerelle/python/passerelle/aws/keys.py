"""The data keys: one for each source record, under which everything that is personal in it is sealed.

    keys  K#<patient key>   K    w: the key (256 bits), wrapped under the stage's; at
    keys  K#<patient key>   K    erased: when it was destroyed; what was sealed under it is noise from then on

Goal: to destroy what is known of a person wherever copies of it are, backups included, it is enough to destroy a key
(GDPR, article 17). So this table, alone among all, has no backup, and one function alone may change an item of it. The
wrapping key is derived from the index secret: whoever has the table has no key yet.

A key is made in the commit that registers its record. A process keeps those it used for a minute at most: a record that
is erased is refused by its gate at once, whatever is at hand.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from enum import Enum
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from passerelle.aws.dynamodb import Action, DynamoDb, Item, in_parallel, put, update
from passerelle.aws.sealing import Sealer
from passerelle.errors import Fault, Gone

KEY_BYTES: Final = 32
KEPT_SECONDS: Final = 60
KEPT_KEYS: Final = 1_000

R = TypeVar("R")


class Lost(Enum):
    """There is no key to open with."""

    DESTROYED = "destroyed"  # the person was erased
    NEVER = "never"  # nothing was ever sealed for this record


Held = Sealer | Lost


class DataKeys(Protocol):
    """What the adapters seal with."""

    def find(self, patient: str) -> Held:
        """The key to open with."""

    def sealer(self, patient: str) -> Sealer:
        """The key to seal with; raises Gone once it was destroyed."""

    def beside(self, read: Callable[[], R], *patients: str) -> R:
        """Make a read, and fetch the keys that are not at hand at the same time."""

    def bearing(self, born: Iterable[str]) -> Births:
        """The same for one commit, with which these records begin."""


class KeyTakenError(Exception):
    """The record has a key, or had one."""


def opened(held: Held, sealed: bytes, place: str) -> bytes | None:
    """What was sealed; None if its key was destroyed. Raises Fault where there was none: something was lost."""
    if held is Lost.DESTROYED:
        return None
    if held is Lost.NEVER:
        raise Fault()
    return held.open(sealed, place)


def place_of(item: Mapping[str, Any], attribute: str = "") -> str:
    """Where a sealed value is: it opens nowhere else."""
    return f"{item['PK']}|{item['SK']}|{attribute}"


def sealed(item: Item, names: Collection[str], patient: str, keys: DataKeys) -> Item:
    """An item, or some attributes of it beside its key, with these texts sealed: bytes in place of text."""
    if not _texts(item, names):
        return item
    return sealed_with(keys.sealer(patient), item, names)


def sealed_with(sealer: Sealer, item: Item, names: Collection[str]) -> Item:
    texts = _texts(item, names)
    return {**item, **{name: sealer.seal(text.encode(), place_of(item, name)) for name, text in texts.items()}}


def unsealed(item: Item, names: Collection[str], patient: str, keys: DataKeys) -> Item:
    """The item as it was, without the texts whose key was destroyed."""
    if not _sealed_values(item, names):
        return item
    return unsealed_with(keys.find(patient), item, names)


def unsealed_with(held: Held, item: Item, names: Collection[str]) -> Item:
    values = _sealed_values(item, names)
    plain = {name: opened(held, value, place_of(item, name)) for name, value in values.items()}
    rest = {name: value for name, value in item.items() if name not in plain}
    return rest | {name: text.decode() for name, text in plain.items() if text is not None}


def _texts(item: Item, names: Collection[str]) -> dict[str, str]:
    return {name: value for name, value in item.items() if name in names and isinstance(value, str) and value}


def _sealed_values(item: Item, names: Collection[str]) -> dict[str, bytes]:
    return {name: item[name] for name in names if isinstance(item.get(name), bytes)}


class KeyRing:
    """`DataKeys` on DynamoDB. Thread-safe; a key that several ask for at once is read once.

    `now` gives seconds that only go forward.
    """

    def __init__(
        self,
        dynamodb: DynamoDb,
        table: str,
        wrapping: Callable[[], Sealer],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._wrapping = wrapping
        self._now = now
        self._kept: OrderedDict[str, tuple[float, Held]] = OrderedDict()
        self._asked: dict[str, Future[Held]] = {}
        self._lock = threading.Lock()

    def find(self, patient: str) -> Held:
        with self._lock:
            known = self._known(patient)
            if known is not None:
                return known
            asked = self._asked.get(patient)
            if asked is None:
                mine: Future[Held] = Future()
                self._asked[patient] = mine
        if asked is not None:  # another thread reads it: never one that waits for this one
            return asked.result()
        try:
            held = self._read(patient)
            self.keep(patient, held)
            mine.set_result(held)
        except BaseException as error:  # whatever it is, those who wait have to know
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._asked[patient]
        return held

    def sealer(self, patient: str) -> Sealer:
        held = self.find(patient)
        if held is Lost.NEVER:
            held = self._first(patient)
        if isinstance(held, Lost):
            raise Gone("the record was erased")
        return held

    def beside(self, read: Callable[[], R], *patients: str) -> R:
        with self._lock:
            wanted = [each for each in dict.fromkeys(patients) if self._known(each) is None]
        if not wanted:
            return read()
        found: R = in_parallel(read, *(partial(self.find, each) for each in wanted))[0]
        return found

    def keep(self, patient: str, held: Held) -> None:
        """Have a key at hand for a while. That there is none is not kept: the next write makes one."""
        if held is Lost.NEVER:
            return
        with self._lock:
            self._kept[patient] = (self._now() + KEPT_SECONDS, held)
            self._kept.move_to_end(patient)
            while len(self._kept) > KEPT_KEYS:
                self._kept.popitem(last=False)

    def made(self, patient: str) -> tuple[Sealer, Action]:
        """A new key, and the write of it; lost: KeyTakenError."""
        key = secrets.token_bytes(KEY_BYTES)
        wrapped = self._wrapping().seal(key, _place(patient))
        item = {"PK": _place(patient), "SK": "K", "w": wrapped}
        return Sealer(key), put(self._table, item, unless_exists=lambda _: KeyTakenError())

    def destroy(self, patient: str, at: datetime) -> None:
        """Nothing that was sealed for this record is ever read again. May be done again."""
        key, values = (_place(patient), "K"), {":at": at.isoformat()}
        self._dynamodb.write(update(self._table, key, "SET erased = if_not_exists(erased, :at) REMOVE w", values))
        self.keep(patient, Lost.DESTROYED)

    def bearing(self, born: Iterable[str]) -> Births:
        return Births(self, born)

    def _known(self, patient: str) -> Held | None:
        known = self._kept.get(patient)
        return known[1] if known is not None and known[0] > self._now() else None

    def _read(self, patient: str) -> Held:
        item = self._dynamodb.get(self._table, (_place(patient), "K"))
        return Lost.NEVER if item is None else self._held(patient, item)

    def _held(self, patient: str, item: Item) -> Held:
        return Lost.DESTROYED if "erased" in item else Sealer(self._wrapping().open(item["w"], _place(patient)))

    def _first(self, patient: str) -> Held:
        """The key of a record that was registered before there were any."""
        sealer, action = self.made(patient)
        try:
            self._dynamodb.write(action)
        except KeyTakenError:
            return self.find(patient)
        self.keep(patient, sealer)
        return sealer


class Births:
    """`DataKeys` for one commit, which makes the keys of the records that begin with it."""

    def __init__(self, ring: KeyRing, born: Iterable[str]) -> None:
        self._ring = ring
        self._made = {patient: ring.made(patient) for patient in dict.fromkeys(born)}

    @property
    def actions(self) -> Sequence[Action]:
        return [action for _, action in self._made.values()]

    def find(self, patient: str) -> Held:
        return self._made[patient][0] if patient in self._made else self._ring.find(patient)

    def sealer(self, patient: str) -> Sealer:
        return self._made[patient][0] if patient in self._made else self._ring.sealer(patient)

    def beside(self, read: Callable[[], R], *patients: str) -> R:
        return self._ring.beside(read, *(each for each in patients if each not in self._made))

    def bearing(self, born: Iterable[str]) -> Births:
        return Births(self._ring, born)

    def committed(self) -> None:
        for patient, (sealer, _) in self._made.items():
            self._ring.keep(patient, sealer)


def _place(patient: str) -> str:
    return f"K#{patient}"
