"""The record: versions of FHIR resources, each with the entry that searches read.

A resource is stored as the exact JSON it was sent as, with `id` and `meta` set; beside it one entry holds its search
values (`search.py`). Version n+1 can be written once, by whoever read version n.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from passerelle.consents.visibility import Restriction
from passerelle.errors import Stale
from passerelle.identifiers import PATIENT_KEY, split_resource_id
from passerelle.journal import Change
from passerelle.records.search import Entry, Query


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceKey:
    """Where a resource is stored: in the collection of a source record, or in none (`patient` None: a shared one)."""

    type: str
    id: str
    patient: str | None

    @classmethod
    def of(cls, type: str, id: str) -> ResourceKey | None:
        """The key that an id made by the exchange tells; None for one that a client chose."""
        if type == "Patient":
            return cls(type=type, id=id, patient=id) if PATIENT_KEY.fullmatch(id) else None
        split = split_resource_id(id)
        return cls(type=type, id=id, patient=split[0]) if split else None

    @property
    def reference(self) -> str:
        return f"{self.type}/{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where searches find a version: the store reads it back so that the next version replaces it there.

    `sort_at` is the sort date of its entry; `ranges` and `lookups` are blinded, and mean nothing to anyone else.
    """

    sort_at: str
    ranges: tuple[str, ...] = ()
    lookups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordVersion(Change):
    """Version `version` of a resource comes to exist; `body` and `entry` None mark its deletion.

    `previous` is where the version before stands in searches (None: there is none, or it was a deletion); a version
    with a body and no entry is withdrawn: read by its id, found by no search. A version that `is_managed` changes
    through the operations of its capability only, never as a plain resource. `restriction` says from whom the resource
    is hidden from now on, older versions included; `was_restricted` whether anything did before.
    """

    key: ResourceKey
    version: int
    at: datetime
    body: bytes | None
    entry: Entry | None
    previous: Placement | None = None
    is_managed: bool = False
    producer: str | None = None
    restriction: Restriction | None = None
    was_restricted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifierClaim(Change):
    """A blinded business identifier belongs to one resource; claiming it twice is a Conflict (`duplicate`)."""

    token: str
    type: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifierUse(Change):
    """A resource carries a blinded business identifier that others may carry, too."""

    token: str
    type: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard(Change):
    """Whoever commits it is the only one since `count` was read: raises Overtaken otherwise.

    What makes a condition that searches ("if none exists") hold until the commit: all who commit under the same name
    go one after the other. `of` are the conditions that it stands for; several of a record may share a name.
    """

    name: str
    count: int
    of: tuple[str, ...] = ()


class Overtaken(Stale):
    """Another commit under the same guard came first: look again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVersion:
    """A version as read back; `body` and `placement` are None when it is a deletion.

    `producer` is the organisation (IDNST) that made the first version; `restriction` as it was with this version.
    """

    key: ResourceKey
    version: int
    at: datetime
    body: bytes | None
    placement: Placement | None = None
    is_managed: bool = False
    producer: str | None = None
    restriction: Restriction | None = None

    @property
    def type(self) -> str:
        return self.key.type

    @property
    def id(self) -> str:
        return self.key.id

    @property
    def reference(self) -> str:
        return self.key.reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose record a resource belongs to, as it says: a patient key, or a business identifier to look up.

    Or the type and id of another resource, in whose record it is: one whose id a client chose tells no key.
    """

    key: str | None = None
    identifier: tuple[str, str] | None = None
    resource: tuple[str, str] | None = None


class Condition(Protocol):
    """A search that a conditional interaction depends on; implemented by the FHIR boundary."""

    @property
    def query(self) -> Query: ...

    @property
    def patient(self) -> str | None: ...

    @property
    def patient_identifier(self) -> tuple[str, str] | None: ...

    @property
    def is_shared(self) -> bool:
        """Whether it is about resources of no patient's record."""


class Draft(Protocol):
    """A validated resource that is not stored yet; implemented by the FHIR boundary."""

    @property
    def type(self) -> str: ...

    @property
    def is_shared(self) -> bool:
        """Whether it belongs to no patient's record."""

    @property
    def subject(self) -> Subject | None: ...

    @property
    def subject_path(self) -> str:
        """The element that says whose record it belongs to, for who is told that it is wrong."""

    @property
    def labels(self) -> frozenset[str]:
        """The visibility labels on it, in their canonical form (`consents.visibility`)."""

    @property
    def is_withdrawn(self) -> bool:
        """Whether it stays readable by its id and is found by no search (contract D4)."""

    @property
    def rivals(self) -> Query | None:
        """What finds those of which a person has one at a time, if it is one of them."""

    def keeping(self, whole: bytes, shown: bytes) -> Draft:
        """The same with those parts of the version before that the caller did not see."""

    def resolved(self, references: Mapping[str, str], *, subject: str | None = None) -> Draft:
        """The same resource with references replaced, and its subject set to a patient key."""

    def body(self, id: str, version: int, at: datetime) -> bytes: ...

    def entry(self, id: str, version: int, at: datetime) -> Entry: ...


class Succession(Protocol):
    """What a resource may become; implemented by the FHIR boundary."""

    def check(self, type: str, before: bytes | None, after: bytes | None) -> None:
        """Raise Unprocessable for a version that may not follow another, or (`before` None) not be the first.

        `after` None is a deletion, which may be Unsupported.
        """
