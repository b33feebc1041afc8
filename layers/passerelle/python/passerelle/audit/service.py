"""Who may read which part of the log: patients the own record, professionals the own actions, auditors all.

Contract TDE-3 to TDE-7. What a caller may not see is answered as if it did not exist, except a patient that
the token itself rules out (IUA-8): 403. So is an access to what is hidden from the patient, as a document is that
somebody has to announce first (D1): the patient reads of it once it is shown. Who holds a mandate reads the log of whom
it was given by.

A record stands for one event, or for two: what happened, and what was decided about it. Care does not read decisions:
which rule refuses is the patient's to know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from passerelle.access import Caller, Request
from passerelle.audit.model import KEPT, AuditRecord
from passerelle.audit.ports import AuditIndex, AuditTrail, PersonLookup, Reached, Represents, Span
from passerelle.directory.model import CARE_ROLES, Role
from passerelle.errors import Forbidden, Invalid, NotFound

MAX_READ: Final = 2_000  # records that are looked at for a page; it goes on from there
_COST_OF_A_STRETCH = 40  # in records: an hour of the log in which there is nothing
_DECISION = ".decision"
_CLOCK_DIFFERENCE = timedelta(seconds=1)  # between the machines that write records
_OWN = frozenset({Role.PATIENT, Role.REPRESENTATIVE})
# About a record and no resource of it: such an access is one, whatever it found.
_WIDE = frozenset(
    {"search-type", "history-type", "$everything", "$summary", "$changes", "$access-history", "$export-record"}
)

Hides = Callable[[str], bool]
"""Whether what a reference leads to does not exist for somebody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event of the log: a record, or the decision that it holds."""

    record: AuditRecord
    is_decision: bool = False

    @property
    def id(self) -> str:
        return f"{self.record.id}{_DECISION}" if self.is_decision else self.record.id

    @property
    def position(self) -> str:
        """Where it stands in the log, which begins with the greatest."""
        return f"{self.record.ulid}{_DECISION if self.is_decision else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSearch:
    """Events with since <= at < until, of a source record, or of whatever the caller may see; None is an open end.

    `after` is the position of the last event of the page before; `is_of_person`: in all source records of the person
    that `patient` is one of.
    """

    patient: str | None
    since: datetime | None
    until: datetime | None
    count: int
    after: str | None = None
    is_of_person: bool = False
    matches: Callable[[Entry], bool] = field(default=lambda entry: True)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage:
    """Events of a search, newest first; `following` is the position that the next page is after, None at the end.

    `patients` are the source records that were looked into.
    """

    entries: Sequence[Entry]
    following: str | None
    patients: tuple[str, ...] = ()


class AuditService:
    """`hides` says what of a patient's record is hidden from a caller, `represents` who holds a mandate,
    `is_for_another` whether a token is bound to somebody else."""

    def __init__(
        self,
        *,
        trail: AuditTrail,
        index: AuditIndex,
        people: PersonLookup,
        hides: Callable[[Caller, str], Hides],
        represents: Represents,
        is_for_another: Callable[[Caller, str], bool],
    ) -> None:
        self._trail = trail
        self._index = index
        self._people = people
        self._hides = hides
        self._represents = represents
        self._is_for_another = is_for_another

    def search(self, request: Request, search: AuditSearch) -> AuditPage:
        """A page of at most `search.count` events; raises Forbidden, and Invalid where a patient has to be named.

        A page may be short although there are more events: no page looks at more than MAX_READ records.
        """
        patients = self._patients(request, search.patient)
        if search.is_of_person and patients:
            person = self._people.find_person(patients[0])
            patients = person.members if person else ()
        page = min(search.count + 1, 100)
        span = Span(
            since=max(search.since or request.at - KEPT, request.at - KEPT),
            until=min(search.until or request.at + _CLOCK_DIFFERENCE, request.at + _CLOCK_DIFFERENCE),
            before=search.after.removesuffix(_DECISION) if search.after else None,
            page=page,
        )
        caller = request.caller
        records: Iterator[AuditRecord | Reached]
        if patients:
            records = self._trail.of_patients(patients, span)
        elif caller.role == Role.AUDITOR:
            records = self._index.of_everybody(span)
        else:
            records = self._index.of_professional(str(caller.professional), span)
        return self._page(request, search, records, patients)

    def _page(
        self,
        request: Request,
        search: AuditSearch,
        records: Iterable[AuditRecord | Reached],
        patients: tuple[str, ...],
    ) -> AuditPage:
        hides = self._hiding(request.caller, patients[0]) if patients else _nothing
        found: list[Entry] = []
        read = 0
        for record in records:
            if isinstance(record, Reached):
                read, reached = read + _COST_OF_A_STRETCH, record.ulid
            else:
                read, reached = read + 1, record.ulid
                for entry in _entries(record, request.caller, hides):
                    if (search.after is not None and entry.position >= search.after) or not search.matches(entry):
                        continue
                    if len(found) == search.count:
                        return AuditPage(entries=found, following=found[-1].position, patients=patients)
                    found.append(entry)
            if read >= MAX_READ:
                return AuditPage(entries=found, following=reached, patients=patients)
        return AuditPage(entries=found, following=None, patients=patients)

    def get(self, request: Request, event_id: str) -> Entry:
        """One event; raises NotFound for one that the caller may not see, too."""
        found = self._find(request.caller, event_id, request.at)
        if found is None:
            raise NotFound()
        return found

    def shows(self, caller: Caller, event_id: str, at: datetime) -> bool:
        """Whether the log that the caller may read has this event, and it is what somebody else did."""
        found = self._find(caller, event_id, at)
        return found is not None and not _is_by(caller, found.record)

    def _find(self, caller: Caller, event_id: str, at: datetime) -> Entry | None:
        record = self._trail.find(event_id.removesuffix(_DECISION))
        if record is None or not _is_part_of(caller, record):
            return None
        if caller.limits is not None and (record.patient is None or self._is_for_another(caller, record.patient)):
            return None
        hides: Hides = _nothing
        if caller.role in _OWN:
            if record.patient is None or not self._is_own(caller, record.patient, at):
                return None
            hides = self._hiding(caller, record.patient)
        return next((each for each in _entries(record, caller, hides) if each.id == event_id), None)

    def _patients(self, request: Request, named: str | None) -> tuple[str, ...]:
        """The source records whose log is asked for; none for a log that is not one of patients."""
        caller = request.caller
        if caller.role in _OWN:
            own = self._own(caller) if named is None else (named,)
            if not own or not self._is_own(caller, own[0], request.at):
                raise _forbidden()
            return own
        if caller.role != Role.AUDITOR and caller.role not in CARE_ROLES:
            raise _forbidden()
        if named is not None:
            if self._is_for_another(caller, named):
                raise _forbidden()
            return (named,)
        if caller.limits is not None:
            raise Invalid("a narrowed token names a patient", code="required")
        if caller.role != Role.AUDITOR and caller.professional is None:
            raise Invalid("the parameter patient is required once", code="required")
        return ()

    def _own(self, caller: Caller) -> tuple[str, ...]:
        system, separator, value = (caller.patient or "").partition("|")
        key = self._people.find_person_of(system, value) if separator else None
        person = self._people.find_links(key) if key else None
        return person.members if person else ()

    def _is_own(self, caller: Caller, patient: str, at: datetime) -> bool:
        """Whether the record is of the person that the token names; links between source records count."""
        system, separator, value = (caller.patient or "").partition("|")
        person = self._people.find_person(patient) if separator else None
        if person is None or self._people.find_person_of(system, value) != person.key:
            return False
        if self._is_for_another(caller, patient):
            return False
        return caller.role == Role.PATIENT or self._represents(caller, patient, at)

    def _hiding(self, caller: Caller, patient: str) -> Hides:
        return self._hides(caller, patient) if caller.role in _OWN else _nothing


def _is_part_of(caller: Caller, record: AuditRecord) -> bool:
    """Whether this role may see the record; for a patient, the key of the record decides besides.

    A professional's own actions are those made by whichever client; a system's are its own.
    """
    if caller.role in CARE_ROLES:
        if caller.professional is not None:
            return record.professional == caller.professional
        return record.client_id == caller.client_id
    return caller.role == Role.AUDITOR or caller.role in _OWN


def _is_by(caller: Caller, record: AuditRecord) -> bool:
    same = (record.client_id, record.role, record.person) == (caller.client_id, caller.role, caller.person)
    return same and record.professional == caller.professional


def _entries(record: AuditRecord, caller: Caller, hides: Hides) -> Iterator[Entry]:
    """The events of a record, the newest first, as the caller may read them."""
    told = _told(record, hides) if _is_part_of(caller, record) else None
    if told is None:
        return
    if told.decision is not None and caller.role not in CARE_ROLES:
        yield Entry(record=told, is_decision=True)
    yield Entry(record=told)


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
