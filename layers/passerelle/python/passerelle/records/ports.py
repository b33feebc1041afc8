"""What the record needs from storage. Every read is strongly consistent; writes go through the journal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from passerelle.consents.visibility import Restriction
from passerelle.records.model import ResourceKey, StoredVersion
from passerelle.records.search import Entry

LONG = "long"  # the range of the entries that outlast (`search.outlasts`); no token is without a bar


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Which entries to read, in the order of their positions.

    `between` narrows the sort date (`yyyymmddHHMM`, both ends included); `token` asks for the entries under one value
    of the type's range index; `limit` bounds how many are read, not how many match (None: all, from the start); `after`
    is a position, joined by `#`.
    """

    between: tuple[str, str] | None = None
    token: str | None = None
    ascending: bool = False
    limit: int | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """The entry of a current version.

    `position` orders the entries of a type in a collection: sort date, then local id; `place` all of a collection.
    """

    key: ResourceKey
    version: int
    at: datetime
    entry: Entry
    position: tuple[str, str]
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPage:
    """`after` is where to go on; None: nothing follows."""

    entries: tuple[Indexed, ...]
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """That a version came to exist. `position` orders the marks of a collection: time to the millisecond, then name."""

    key: ResourceKey
    version: int
    at: datetime
    position: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkPage:
    marks: tuple[Mark, ...]
    after: str | None


class RecordStore(Protocol):
    def find_key(self, type: str, id: str) -> ResourceKey | None:
        """Where the resource is, or would be, whose id a client chose; None if no record says so."""

    def find_latest(self, key: ResourceKey) -> StoredVersion | None:
        """The newest committed version (a deletion included), or None if the resource never existed."""

    def find_version(self, key: ResourceKey, version: int) -> StoredVersion | None: ...

    def versions(self, wanted: Sequence[tuple[ResourceKey, int]]) -> dict[tuple[ResourceKey, int], StoredVersion]:
        """Those that exist."""

    def history(self, key: ResourceKey, *, before: int | None, limit: int) -> Sequence[StoredVersion]:
        """Versions newest first, deletions included, those older than version `before` only."""

    def entries(self, patient: str, type: str, scan: Scan) -> EntryPage:
        """The entries of one type in one patient's collection."""

    def everything(self, patient: str, *, after: str | None, limit: int) -> EntryPage:
        """The entries of all types in one patient's collection, by type."""

    def listed(self, type: str, lookup: tuple[str, str] | None, *, after: str | None, limit: int) -> EntryPage:
        """The entries of a shared type: all of them, or those under a look-up (`fhir.index.lookups_of`)."""

    def marks(
        self, patient: str | None, type: str | None, *, since: str, until: str, ascending: bool, limit: int
    ) -> MarkPage:
        """What changed in a collection, or (`patient` None) among a shared type; positions since < p < until.

        `type` narrows a collection's marks to one type: after the limit, so a page may be empty and not the last.
        """

    def restrictions(self, patient: str) -> Mapping[ResourceKey, Restriction]:
        """Of what is hidden from somebody in one patient's collection: from whom, now."""

    def find_claim(self, type: str, token: str) -> str | None:
        """The id of the resource that a blinded identifier belongs to."""

    def find_carriers(self, type: str, token: str) -> Sequence[str]:
        """The ids of all that carry a blinded identifier: whom it belongs to, and who uses it."""

    def guard_counts(self, names: Collection[str]) -> Mapping[str, int]:
        """How often each guard was committed."""
