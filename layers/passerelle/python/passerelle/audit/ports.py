"""What audit needs from storage, and from the patient index. Records are only ever appended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from passerelle.access import Caller
from passerelle.audit.model import AuditRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """since <= at < until; of what is older than the record with the ulid `before`, or that record itself, if given.

    `page` is how many records are read at a time.
    """

    since: datetime
    until: datetime
    before: str | None = None
    page: int = 100


class AuditTrail(Protocol):
    def append(self, records: Sequence[AuditRecord]) -> None:
        """Store all records durably before returning; raises a PasserelleError if that is not certain."""

    def of_patients(self, patients: Sequence[str], span: Span) -> Iterator[AuditRecord]:
        """The accesses to these source records, newest first; each is read when it is asked for."""

    def find(self, record_id: str) -> AuditRecord | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A stretch of the log was looked through: what follows has ulids below this one."""

    ulid: str


class AuditIndex(Protocol):
    """The log by who acted, and by when: it lags behind the log by seconds."""

    def of_professional(self, professional: str, span: Span) -> Iterator[AuditRecord | Reached]:
        """What a professional did, newest first."""

    def of_everybody(self, span: Span) -> Iterator[AuditRecord | Reached]:
        """Every record, newest first."""


class KnownPerson(Protocol):
    @property
    def key(self) -> str: ...

    @property
    def members(self) -> tuple[str, ...]:
        """The source records of the person."""


class PersonLookup(Protocol):
    """The part of the patient index that tells whose record a patient key is."""

    def find_person(self, patient: str) -> KnownPerson | None: ...

    def find_links(self, person: str) -> KnownPerson | None:
        """A person by its own key."""

    def find_person_of(self, system: str, value: str) -> str | None:
        """Key of the person whose qualified identity carries this national identifier."""

    def find_by_identifier(self, system: str, value: str) -> Sequence[str]:
        """The source records that carry an identifier."""


Represents = Callable[[Caller, str, datetime], bool]
"""Whether a caller holds a mandate of the person whose source record this is."""
