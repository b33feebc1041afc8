"""Who may read which part of the log: patients the own record, professionals the own actions, auditors all.

Contract TDE-3 to TDE-7. What a caller may not see is answered as if it did not exist, except a patient that
the token itself rules out (IUA-8): 403. So is an access to what is hidden from the patient, as a document is that
somebody has to announce first (D1): the patient reads of it once it is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from passerelle.access import Caller, Request
from passerelle.audit.model import KEPT, AuditRecord
from passerelle.audit.ports import AuditTrail, PersonLookup
from passerelle.directory.model import CARE_ROLES, Role
from passerelle.errors import Forbidden, NotFound

_CLOCK_DIFFERENCE = timedelta(seconds=1)  # between the machines that write records
# About a record and no resource of it: such an access is one, whatever it found.
_WIDE = frozenset({"search-type", "history-type", "$everything", "$summary", "$changes"})

Hides = Callable[[str], bool]
"""Whether what a reference leads to does not exist for somebody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSearch:
    """Accesses to the record of `patient` with since <= at < until; None is an open end."""

    patient: str
    since: datetime | None
    until: datetime | None
    count: int
    matches: Callable[[AuditRecord], bool] = field(default=lambda record: True)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage:
    """The newest records of a search; `is_complete` tells that there are no others."""

    records: Sequence[AuditRecord]
    is_complete: bool


class AuditService:
    """`hides` says what of a patient's record is hidden from a caller."""

    def __init__(self, *, trail: AuditTrail, people: PersonLookup, hides: Callable[[Caller, str], Hides]) -> None:
        self._trail = trail
        self._people = people
        self._hides = hides

    def search(self, request: Request, search: AuditSearch) -> AuditPage:
        """The newest records, at most `search.count`; raises Forbidden."""
        caller = request.caller
        if not self._may_search(caller, search.patient):
            raise _forbidden()
        hides = self._hides(caller, search.patient) if caller.role == Role.PATIENT else _nothing
        records = self._trail.of_patient(
            search.patient,
            since=max(search.since or request.at - KEPT, request.at - KEPT),
            until=min(search.until or request.at + _CLOCK_DIFFERENCE, request.at + _CLOCK_DIFFERENCE),
            limit=search.count + 1,
            matches=lambda record: (
                _is_part_of(caller, record) and (told := _told(record, hides)) is not None and search.matches(told)
            ),
        )
        told = [each for record in records if (each := _told(record, hides)) is not None]
        return AuditPage(records=told[: search.count], is_complete=len(told) <= search.count)

    def get(self, request: Request, record_id: str) -> AuditRecord:
        """One record; raises NotFound for one that the caller may not see, too."""
        record = self._trail.find(record_id)
        caller = request.caller
        if record is None or not _is_part_of(caller, record):
            raise NotFound()
        if caller.role != Role.PATIENT:
            return record
        if record.patient is None or not self._is_own(caller, record.patient):
            raise NotFound()
        told = _told(record, self._hides(caller, record.patient))
        if told is None:
            raise NotFound()
        return told

    def _may_search(self, caller: Caller, patient: str) -> bool:
        if caller.role == Role.PATIENT:
            return self._is_own(caller, patient)
        return caller.role == Role.AUDITOR or caller.role in CARE_ROLES

    def _is_own(self, caller: Caller, patient: str | None) -> bool:
        """Whether the record is of the person that the token names; links between source records count."""
        system, separator, value = (caller.patient or "").partition("|")
        person = self._people.find_person(patient) if patient and separator else None
        return person is not None and self._people.find_person_of(system, value) == person.key


def _is_part_of(caller: Caller, record: AuditRecord) -> bool:
    """Whether this role may see the record; for a patient, the key of the record decides besides."""
    if caller.role in CARE_ROLES:
        return record.client_id == caller.client_id
    return caller.role in (Role.AUDITOR, Role.PATIENT)


def _nothing(_: str) -> bool:
    return False


def _told(record: AuditRecord, hides: Hides) -> AuditRecord | None:
    """A record as it is where nothing is that is hidden; None if it would not be there."""
    seen = tuple(each for each in record.references if not hides(each))
    if len(seen) == len(record.references):
        return record
    if not seen and record.name not in _WIDE:
        return None
    return replace(record, references=seen, digests=tuple(each for each in record.digests if not hides(each[0])))


def _forbidden() -> Forbidden:
    return Forbidden("the access log of this record is not for this caller")
