"""The patient index in memory: the project's own blocking keys, look-up rules and decision, with every read counted.

`passerelle.patients.resolution.Resolver` does the work, as it does over DynamoDB; this is the port below it. Reads are
counted as DynamoDB counts them: a Query for each block, strongly consistent, one unit for every 4 kB begun; an item is
as `passerelle.aws.patients` writes it, with its match record sealed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

from passerelle.consents.model import Policy, RecordStatus
from passerelle.matching.blocking import Block, blocks_of
from passerelle.matching.record import MatchRecord
from passerelle.matching.scoring import Model
from passerelle.patients.model import Blocked, BlockPage, Member, Person, Place
from passerelle.patients.ports import PatientIndex
from passerelle.patients.resolution import Judgement, Resolver

BLOCK_LIMIT: Final = 100
_THEN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_POLICY: Final = Policy(status=RecordStatus.OPEN, since=_THEN)
_UNIT_BYTES: Final = 4096
# PK "B#" and 32 digits, SK of 9, `patient` of 16, `traits`: nonce and tag of 28 bytes around the packed record, in
# which a national identifier has its system before it.
_ITEM_BYTES: Final = (2 + 34) + (2 + 9) + (7 + 16) + (6 + 28)
_SYSTEM_BYTES: Final = len("urn:oid:1.2.250.1.213.1.4.8|")


@dataclass(slots=True)
class Reads:
    """What one look-up has read."""

    batches: int = 0
    queries: int = 0
    units: int = 0
    persons: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Who a record may be: the candidates compared, what the index says of them, and what it cost."""

    found: Mapping[str, MatchRecord]
    judgement: Judgement
    reads: Reads
    blocks: tuple[Block, ...]  # that were read

    @property
    def has_two_stages(self) -> bool:
        return self.reads.batches - (self.reads.persons > 0) > 1


class MemoryIndex:
    """Records by key, and the person that each belongs to: its own, unless `add` is told another."""

    def __init__(self) -> None:
        self._blocks: dict[int, tuple[int, ...]] = {}
        self._places: dict[str, int] = {}
        self._keys: list[str] = []
        self._records: list[MatchRecord] = []
        self._sizes: list[int] = []
        self._persons: list[str] = []
        self._members: dict[str, list[int]] = {}
        self._reads = Reads()

    def add(self, key: str, record: MatchRecord, *, person: str | None = None) -> tuple[Block, ...]:
        """The blocks that list the record: an index item each."""
        place = self._places[key] = len(self._records)
        self._keys.append(key)
        self._records.append(record)
        self._sizes.append(_ITEM_BYTES + len(record.pack()) + (_SYSTEM_BYTES if record.national else 0))
        self._persons.append(person or key)
        self._members.setdefault(person or key, []).append(place)
        blocks = blocks_of(record)
        for block in blocks:
            hashed = hash((block.namespace, block.value))
            self._blocks[hashed] = (*self._blocks.get(hashed, ()), place)
        return blocks

    def answer(self, record: MatchRecord, model: Model, *, is_national_known: bool = True) -> Answer:
        """As `$match` answers: the first stage, the second if nobody stands out, then the persons of the candidates."""
        self._reads = Reads()
        resolver = Resolver(index=cast(PatientIndex, self), model=lambda: model, in_parallel=_one_by_one)
        look_up = resolver.look_up_in_stages(record)
        found = look_up.records()
        qualified = record.national or None if is_national_known else None
        judgement = resolver.judge(record, found, qualified=qualified, is_barred=False)
        self._reads.batches += self._reads.persons > 0
        return Answer(found=found, judgement=judgement, reads=self._reads, blocks=tuple(look_up.pages))

    def record(self, key: str) -> MatchRecord:
        return self._records[self._places[key]]

    def block(self, block: Block) -> tuple[str, ...]:
        """The keys of all records of a block; nothing is counted."""
        return tuple(self._keys[place] for place in self._blocks.get(hash((block.namespace, block.value)), ()))

    @property
    def item_bytes(self) -> float:
        """Of one index item, on average."""
        return sum(self._sizes) / len(self._sizes)

    # --- the part of the port that look-ups use --------------------------------------------------------------------

    def look_up(self, blocks: Sequence[Block], named: str | None) -> tuple[Sequence[BlockPage], Person | None]:
        self._reads.batches += 1
        return [self._page(block) for block in blocks], None

    def _page(self, block: Block) -> BlockPage:
        places = self._blocks.get(hash((block.namespace, block.value)), ())[-BLOCK_LIMIT - 1 :]
        self._reads.queries += 1
        self._reads.units += max(1, -(-sum(self._sizes[place] for place in places) // _UNIT_BYTES))
        return BlockPage(
            place=Place(key=f"{block.namespace}#{block.value}", slot=len(places) + 1),
            entries=tuple(Blocked(patient=self._keys[place], record=self._records[place]) for place in places),
            is_full=len(places) > BLOCK_LIMIT,
        )

    def find_person(self, patient: str) -> Person | None:
        self._reads.persons += 1
        self._reads.units += 1
        key = self._persons[self._places[patient]]
        members = sorted(self._members[key], key=self._keys.__getitem__)
        return Person(key=key, records=tuple(map(self._member, members)), revision=1)

    def _member(self, place: int) -> Member:
        return Member(
            patient=self._keys[place],
            origin=self._keys[place],
            since=_THEN,
            policy=_POLICY,
            qualified=self._records[place].national or None,
        )


def _one_by_one(*calls: Callable[[], Any]) -> tuple[Any, ...]:
    return tuple(call() for call in calls)
