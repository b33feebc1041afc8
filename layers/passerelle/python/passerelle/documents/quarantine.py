"""Quarantine: a content in which malware was found leaves by no way out; a stage may hold what was not scanned yet.

The scanner reports at least once and in any order: what it said last, by its own clock, counts. Its report is about a
stored object: the content of a document, or an upload that may become one. The metadata of a document stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from passerelle.access import Caller, Request, Scopes, Touched
from passerelle.audit.model import audit_of
from passerelle.errors import Coding, Forbidden, Unavailable, Unprocessable
from passerelle.events import Event, EventName
from passerelle.identifiers import new_ulid, split_resource_id
from passerelle.journal import Announcement, Change, Journal

RETRY_SECONDS: Final = 15  # a scan takes seconds, of a large content minutes
_SCANNER: Final = Caller(client_id="quarantine", organisation="", role="", scopes=Scopes(frozenset()), token_id="")


class Verdict(StrEnum):
    """What the scanner said of a content."""

    CLEAN = "clean"
    INFECTED = "infected"
    UNSCANNED = "unscanned"  # it could not look inside: encrypted, damaged, too large


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """`id` is that of the document or the upload; `at` by the clock of the scanner."""

    id: str
    verdict: Verdict
    at: datetime

    def outdates(self, other: Scan | None) -> bool:
        """Whether this one counts instead; of two at the same moment, that which found something."""
        if other is None:
            return True
        return (self.at, self.verdict is Verdict.INFECTED) > (other.at, other.verdict is Verdict.INFECTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanChange(Change):
    """Another scan counts from now on; Stale when `before` does not any more."""

    before: Scan | None
    after: Scan


class Scans(Protocol):
    """What quarantine needs from storage."""

    def find(self, id: str) -> Scan | None: ...

    def replace(self, change: ScanChange) -> None:
        """Keep a scan that changes nothing for anyone; raises Stale."""


class Publications(Protocol):
    """What quarantine needs of the record."""

    def version_of(self, document: str) -> int | None:
        """The current version of a DocumentReference; None if it was never published, or is deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """Asked by every way out; `holds` says that what was not scanned yet waits inside."""

    scans: Scans
    holds: bool

    def check(self, request: Request, id: str) -> None:
        """Raise Forbidden (`suppressed`) for an infected content, Unavailable for one that waits for its scan."""
        scan = self.scans.find(id)
        if scan is None and self.holds:
            raise Unavailable("the content is being scanned", headers={"Retry-After": str(RETRY_SECONDS)})
        if scan is None or scan.verdict is Verdict.CLEAN:
            return
        if scan.verdict is Verdict.INFECTED or self.holds:
            raise Forbidden(
                "the content is in quarantine",
                code="suppressed",
                details=Coding(system=f"{request.base_url}/CodeSystem/quarantine", code=scan.verdict.value),
            )

    def check_upload(self, id: str, *, path: str) -> None:
        """Raise Unprocessable (`security`) for an upload in which malware was found."""
        scan = self.scans.find(id)
        if scan is not None and scan.verdict is Verdict.INFECTED:
            raise Unprocessable("the content is in quarantine", code="security", expression=path)


class QuarantineService:
    """Takes in what the scanner reports."""

    def __init__(self, *, scans: Scans, publications: Publications, journal: Journal) -> None:
        self._scans = scans
        self._publications = publications
        self._journal = journal

    def take(self, scan: Scan, *, at: datetime) -> None:
        """Let a scan count, unless a later one does; raises Stale when another came between: take it again.

        That a content goes into quarantine, or leaves it, is announced and in the patient's access log.
        """
        before = self._scans.find(scan.id)
        if not scan.outdates(before):
            return
        change = ScanChange(before=before, after=scan)
        was_infected = before is not None and before.verdict is Verdict.INFECTED
        is_infected = scan.verdict is Verdict.INFECTED
        if was_infected == is_infected:
            self._scans.replace(change)
            return
        split = split_resource_id(scan.id)
        patient = split[0] if split else None
        request = Request(
            caller=_SCANNER,
            name="$quarantine",
            action="U",
            request_id=new_ulid(at),
            at=at,
            base_url="",
        )
        touched = Touched.of([patient], [f"Binary/{scan.id}"]) if patient else Touched()
        self._journal.commit([change, *self._announced(scan, patient, at), *audit_of(request, touched)])

    def _announced(self, scan: Scan, patient: str | None, at: datetime) -> list[Announcement]:
        """Who may see the document is told; nobody of an upload, or of a content whose commit never came."""
        version = self._publications.version_of(scan.id) if patient else None
        if version is None:
            return []
        is_infected = scan.verdict is Verdict.INFECTED
        occurrence = new_ulid(at)
        event = Event(
            name=EventName.DOCUMENT_QUARANTINED if is_infected else EventName.DOCUMENT_CHANGED,
            reference=f"DocumentReference/{scan.id}",
            version=version,
            at=at,
            author=_SCANNER.client_id,
            patient=patient,
            occurrence=occurrence,
        )
        return [Announcement(id=occurrence, events=(event,))]
