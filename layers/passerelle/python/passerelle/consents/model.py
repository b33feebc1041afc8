"""What a patient decided about the shared record, compiled: the policy every disclosure is checked against."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class RecordStatus(StrEnum):
    """Whether the shared record (DMP) of the person is in use."""

    OPEN = "open"
    CLOSED = "closed"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The compiled decisions of one person."""

    status: RecordStatus
    since: datetime
    closing_reason: str | None = None
