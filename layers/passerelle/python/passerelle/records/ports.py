"""What the record needs from storage. Every read is strongly consistent; writes go through the journal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from passerelle.records.model import StoredVersion
from passerelle.records.search import Entry


class RecordStore(Protocol):
    def find_latest(self, type: str, id: str) -> StoredVersion | None:
        """The newest committed version (a deletion included), or None if the resource never existed."""

    def find_version(self, type: str, id: str, version: int) -> StoredVersion | None: ...

    def entries(
        self,
        patient: str,
        type: str,
        *,
        between: tuple[str, str] | None = None,
    ) -> Sequence[tuple[str, int, Entry]]:
        """(id, version, entry) of every resource of a type in one patient's collection, in no particular order.

        `between` narrows the sort date (`yyyymmddHHMM`, both ends included).
        """

    def versions(self, type: str, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], StoredVersion]:
        """The stored versions under (id, version) pairs that exist."""

    def ids_of_token(self, type: str, token: str) -> Sequence[str]:
        """The resources found under a blinded identifier."""
