"""The record: versions of FHIR resources, each with the entry that searches read.

A resource is stored as the exact JSON it was sent as, with `id` and `meta` set; beside it one entry holds its search
values (`search.py`). Version n+1 can be written once, by whoever read version n.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from passerelle.journal import Change
from passerelle.records.search import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordVersion(Change):
    """Version `version` of a resource comes to exist; `body` None marks its deletion.

    `previous_sort_at` is the sort date of the entry of version - 1, which this one replaces (None: there is none, or it
    was a deletion); `patient` None makes it a shared resource
    (Organization, Practitioner). `tokens` are blinded identifiers under which a shared resource is found.
    """

    type: str
    id: str
    version: int
    at: datetime
    patient: str | None
    body: bytes | None
    entry: Entry | None
    previous_sort_at: str | None = None
    tokens: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifierClaim(Change):
    """A blinded business identifier belongs to one resource; claiming it twice is a Conflict (`duplicate`)."""

    token: str
    type: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVersion:
    """A version as read back; `body` and `sort_at` (the sort date of its entry) are None when it is a deletion."""

    type: str
    id: str
    version: int
    at: datetime
    body: bytes | None
    sort_at: str | None = None

    @property
    def reference(self) -> str:
        return f"{self.type}/{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose record a resource belongs to, as it says: a patient key, or a business identifier to look up."""

    key: str | None = None
    identifier: tuple[str, str] | None = None


class Draft(Protocol):
    """A validated resource that is not stored yet; implemented by the FHIR boundary."""

    @property
    def type(self) -> str: ...

    @property
    def is_shared(self) -> bool:
        """Whether the type belongs to no patient's record."""

    @property
    def subject(self) -> Subject | None: ...

    @property
    def identifiers(self) -> tuple[tuple[str, str], ...]: ...

    @property
    def conditional_references(self) -> tuple[str, ...]:
        """References of the form `Type?identifier=system|value`, to be replaced before storage."""

    def resolved(self, references: Mapping[str, str], *, subject: str | None = None) -> Draft:
        """The same resource with references replaced, and its subject set to a patient key."""

    def body(self, id: str, version: int, at: datetime) -> bytes: ...

    def entry(self, id: str, version: int, at: datetime) -> Entry: ...
