"""The facts that the exchange announces, and nothing else about them: ids are opaque, no content travels.

An event is written in the same transaction as the change it announces (`journal.py`), reaches the stream, and is put
on the bus by `functions/relay`. Its id is stable across redelivery, so that receivers can drop duplicates.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class EventName(StrEnum):
    """Kinds of event; the EventBridge detail-type."""

    IDENTITY_CHANGED = "identity-changed"
    ERASED = "record-erased"  # nothing is known of a source record any more, and nobody who has a copy may keep it
    RECORD_STATUS_CHANGED = "record-status-changed"  # opened, closed, opposed, or another attending physician
    ACCESS_CHANGED = "access-changed"  # what the patient permits or refuses: told to nobody else
    EMERGENCY_ACCESS = "emergency-access"  # somebody broke the glass: told to nobody else either
    LINKS_CHANGED = "links-changed"  # a source record belongs to another person, or its person to more records
    DOCUMENT_CHANGED = "document-changed"
    DOCUMENT_QUARANTINED = "document-quarantined"  # malware was found in its content
    RECORD_CHANGED = "record-changed"
    PRESCRIPTION_CHANGED = "prescription-changed"
    ALERT_RAISED = "alert-raised"  # a Task of the exchange: somebody of the care circle has to look at the person
    RECORD_ACCESSED = "record-accessed"  # somebody read a record: told to whom it is about, and to nobody else
    REMINDER_DUE = "reminder-due"  # a CommunicationRequest of the exchange: its recipient is to be told


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """`reference` (`Type/id`) reached `version`; `patient` is the opaque key of the record it belongs to.

    `occurrence` is a ulid that tells facts apart which leave the version as it was.
    """

    name: EventName
    reference: str
    version: int
    at: datetime
    author: str  # client id of the system that made the change
    patient: str | None = None
    occurrence: str | None = None

    @property
    def id(self) -> str:
        version = f"{self.reference}/_history/{self.version}"
        return f"{version}#{self.occurrence}" if self.occurrence else version
