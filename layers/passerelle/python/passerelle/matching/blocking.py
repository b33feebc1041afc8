"""What a person is found by before anybody is compared (data model, 1.2).

    ND#<skeleton of a family name>#<birth date>       e.g. lfpr#19800214

A block is a key that every person who could be the same has in common; the index holds one item for each block of a
record. The keys are data, `data/blocking.json`, in profiles: `national` serves 68 million people with blocks of a
hundred, `regional` adds wider keys for populations under five million. A key with a missing part does not exist.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import product
from typing import Any, Final, Literal

from passerelle.matching import names
from passerelle.matching.phonetics import skeleton
from passerelle.matching.placeholders import known
from passerelle.matching.record import MatchRecord

Stage = Literal["a", "b"]

_STREET_LETTERS: Final = 5
_FAMILY_NAMES: Final = 4
_DATA: Final[dict[str, Any]] = json.loads((files("passerelle.matching") / "data" / "blocking.json").read_text("utf-8"))
_WAYS: Final = frozenset(_DATA["ways"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One key, in clear: whoever stores it blinds it first."""

    namespace: str
    value: str
    stage: Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    namespace: str
    stage: Stage
    stored: tuple[tuple[str, ...], ...]
    sought: tuple[tuple[str, ...], ...]


@cache
def _profile(name: str) -> tuple[_Key, ...]:
    return tuple(
        _Key(
            namespace=key["namespace"],
            stage=key["stage"],
            stored=tuple(map(tuple, key["stored"])),
            sought=tuple(map(tuple, key["sought"])),
        )
        for key in _DATA[name]
    )


def blocks_of(record: MatchRecord, profile: str = "national") -> tuple[Block, ...]:
    """The blocks that a record is stored under, without duplicates: one index item each."""
    parts = _Parts(record)
    return tuple(dict.fromkeys(block for key in _profile(profile) for block in parts.blocks(key, key.stored)))


def blocks_to_search(record: MatchRecord, profile: str = "national") -> tuple[Block, ...]:
    """The blocks to read when looking for the person of this record: those of `blocks_of` and, for what would cost an
    index item in every record, the variants tried only here (names exchanged, day and month exchanged, used name)."""
    parts = _Parts(record)
    return tuple(
        dict.fromkeys(
            block
            for key in _profile(profile)
            for shapes in (key.stored, key.sought)
            for block in parts.blocks(key, shapes)
        )
    )


class _Parts:
    """The parts of a record's keys, each worked out once."""

    def __init__(self, record: MatchRecord) -> None:
        self._record = record
        self._found: dict[str, tuple[str, ...]] = {}

    def blocks(self, key: _Key, shapes: tuple[tuple[str, ...], ...]) -> Iterator[Block]:
        for shape in shapes:
            for values in product(*map(self._values, shape)):
                yield Block(namespace=key.namespace, value="#".join(values), stage=key.stage)

    def _values(self, part: str) -> tuple[str, ...]:
        values = self._found.get(part)
        if values is None:
            name = part.removesuffix("?")
            values = tuple(dict.fromkeys(value for value in _PARTS[name](self._record) if value))
            if name != part:
                values = values or ("",)
            self._found[part] = values
        return values


def _family(record: MatchRecord) -> str:
    return skeleton(known("family", record.family))


def _used(record: MatchRecord) -> str:
    used = skeleton(known("family", record.used))
    return used if used != _family(record) else ""


def _family_names(record: MatchRecord) -> tuple[str, ...]:
    """Every name that others may know the family by: birth name, used name, and what compound names are made of."""
    whole = [name for name in (known("family", record.family), known("family", record.used)) if name]
    parts = [part for name in whole for part in names.components(name)]
    return tuple(dict.fromkeys(skeleton(name) for name in (*whole, *parts)))[:_FAMILY_NAMES]


def _given(record: MatchRecord) -> str:
    return skeleton(names.first_word(known("given", record.given)))


def _pair(one: str, other: str) -> tuple[str, ...]:
    """Two names in one order, so that exchanged names are in the same block."""
    return ("+".join(sorted((one, other))),) if one and other else ()


def _date(record: MatchRecord) -> str:
    return known("birth_date", record.birth_date)


def _department(record: MatchRecord) -> str:
    postcode = _postcode(record)
    return postcode[:3] if postcode.startswith(("97", "98")) else postcode[:2]


def _postcode(record: MatchRecord) -> str:
    return known("postcode", record.postcode)


def _street(record: MatchRecord) -> str:
    """The beginning of what the street is called, without `rue` nor `de la`, however its words are separated."""
    words = names.words(known("street", record.street))
    return "".join(word for word in words if word not in _WAYS and not names.is_particle(word))[:_STREET_LETTERS]


def _exchanged(date: str) -> str:
    """Month and day the other way round, where that is a date too."""
    day, month = date[6:], date[4:6]
    return f"{day}{month}" if day <= "12" and day != month else ""


_PARTS: Final[dict[str, Callable[[MatchRecord], tuple[str, ...]]]] = {
    "family": lambda record: (_family(record),),
    "used": lambda record: (_used(record),),
    "family_names": _family_names,
    "given": lambda record: (_given(record),),
    "names": lambda record: _pair(_family(record), _given(record)),
    "used_names": lambda record: _pair(_used(record), _given(record)),
    "date": lambda record: (_date(record),),
    "year": lambda record: (_date(record)[:4],),
    "year_month": lambda record: (_date(record)[:6],),
    "year_day": lambda record: (_date(record)[:4] + _date(record)[6:],),
    "month_day": lambda record: (_date(record)[4:],),
    "day_month": lambda record: (_exchanged(_date(record)),),
    "sex": lambda record: (record.sex,),
    "birth_place": lambda record: (known("birth_place", record.birth_place),),
    "department": lambda record: (_department(record),),
    "postcode": lambda record: (_postcode(record),),
    "town": lambda record: (skeleton(known("city", record.city)),),
    "street": lambda record: (_street(record),),
    "number": lambda record: (record.number,),
    "phone": lambda record: (known("phone", record.phone),),
    "email": lambda record: (known("email", record.email),),
    "national": lambda record: (known("national", record.national),),
}
