"""What audit needs from storage, and from the patient index. Records are only ever appended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from passerelle.audit.model import AuditRecord


class AuditTrail(Protocol):
    def append(self, records: Sequence[AuditRecord]) -> None:
        """Store all records durably before returning; raises a PasserelleError if that is not certain."""

    def of_patient(
        self,
        patient: str,
        *,
        since: datetime,
        until: datetime,
        limit: int,
        matches: Callable[[AuditRecord], bool] = lambda record: True,
    ) -> Sequence[AuditRecord]:
        """The newest `limit` accesses to a patient's record that match, since <= at < until, newest first."""

    def find(self, record_id: str) -> AuditRecord | None: ...


class KnownPerson(Protocol):
    @property
    def key(self) -> str: ...


class PersonLookup(Protocol):
    """The part of the patient index that tells whose record a patient key is."""

    def find_person(self, patient: str) -> KnownPerson | None: ...

    def find_person_of(self, system: str, value: str) -> str | None:
        """Key of the person whose qualified identity carries this national identifier."""
