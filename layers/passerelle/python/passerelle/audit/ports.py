"""What audit needs from storage. Records are only ever appended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from passerelle.audit.model import AuditRecord


class AuditTrail(Protocol):
    def append(self, records: Sequence[AuditRecord]) -> None:
        """Store all records durably before returning; raises Unavailable if that is not certain."""

    def of_patient(
        self, patient: str, *, since: datetime, until: datetime, limit: int
    ) -> Sequence[AuditRecord]:
        """Accesses to one patient's record with since <= at < until, newest first, at most `limit`."""
