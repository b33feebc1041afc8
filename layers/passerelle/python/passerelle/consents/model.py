"""What a patient decided about the shared record, compiled: the policy every disclosure is checked against."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class RecordStatus(StrEnum):
    """Whether the shared record (DMP) of the person is in use."""

    OPEN = "open"
    CLOSED = "closed"
    OPPOSED = "opposed"  # there is none, and none is opened until the opposition is withdrawn
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The compiled decisions of one person.

    `closing_motive` is a code, `closing_reason` words. `attending_physician` is the IDNPS of the médecin traitant,
    `attending_since` when that was last decided, None included.
    """

    status: RecordStatus
    since: datetime
    closing_motive: str | None = None
    closing_reason: str | None = None
    attending_physician: str | None = None
    attending_since: datetime | None = None
