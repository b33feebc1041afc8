"""The clinical record of a person: read, search, create, update, delete; for those who may see it.

A person's record is the union of the collections of its source records. What a caller may not see does not exist:
the gate is asked before anything is read out, and refusals look like absence (law 4).
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from passerelle.access import Request, Touched
from passerelle.audit.commands import account_of, once
from passerelle.consents.decision import may_see
from passerelle.errors import Gone, NotFound, Stale, Unprocessable
from passerelle.events import Event, EventName
from passerelle.identifiers import Blinder, new_resource_id, new_ulid, split_resource_id
from passerelle.journal import Announcement, Journal
from passerelle.patients.model import Person
from passerelle.records.model import Draft, RecordVersion, StoredVersion, Subject
from passerelle.records.ports import RecordStore
from passerelle.records.search import Query, matches, sort_bounds

MAX_PAGE_BYTES = 4 * 1024 * 1024  # of bodies: a function answers with 6 MB at most


class People(Protocol):
    """What the record needs of the patient index."""

    def find_person(self, patient: str) -> Person | None: ...

    def find_by_identifier(self, system: str, value: str) -> Sequence[str]: ...

    def find_person_of(self, system: str, value: str) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a search. `total` counts every visible match; `cursor` leads to the next page."""

    versions: tuple[StoredVersion, ...]
    total: int
    cursor: str | None
    patients: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A version that a command made; `body` is not there when the command was run before, and only repeated."""

    type: str
    id: str
    version: int
    at: datetime
    is_new: bool
    body: bytes | None = None

    @property
    def reference(self) -> str:
        return f"{self.type}/{self.id}"


class RecordService:
    """`in_parallel` runs independent reads at once and returns their results in order."""

    def __init__(
        self,
        *,
        store: RecordStore,
        people: People,
        journal: Journal,
        blinder: Blinder,
        in_parallel: Callable[..., tuple[Any, ...]],
    ) -> None:
        self._store = store
        self._people = people
        self._journal = journal
        self._blinder = blinder
        self._in_parallel = in_parallel

    # --- reading --------------------------------------------------------------------------------------------------

    def read(self, request: Request, type: str, id: str, *, absent: str = "") -> StoredVersion:
        """The current version; raises NotFound (with the text `absent`, if given), or Gone if it is deleted."""
        return self._read(request, type, id, absent)[0]

    def _read(self, request: Request, type: str, id: str, absent: str = "") -> tuple[StoredVersion, Person | None]:
        """The current version, and the person whose record it is in (None for a shared resource)."""
        patient = _patient_of(id)
        person, found = self._in_parallel(
            lambda: self._people.find_person(patient) if patient else None,
            lambda: self._store.find_latest(type, id),
        )
        return self._disclosed(request, patient, person, found, absent), person

    def read_version(self, request: Request, type: str, id: str, version: int) -> StoredVersion:
        """One version; raises NotFound, or Gone if that version is a deletion."""
        patient = _patient_of(id)
        person, found = self._in_parallel(
            lambda: self._people.find_person(patient) if patient else None,
            lambda: self._store.find_version(type, id, version),
        )
        return self._disclosed(request, patient, person, found, "")

    def _disclosed(
        self, request: Request, patient: str | None, person: Person | None, found: StoredVersion | None, absent: str
    ) -> StoredVersion:
        if found is None or (patient and not self.may_see(request, person)):
            raise NotFound(absent)
        if found.body is None:
            raise Gone()
        return found

    def may_see(self, request: Request, person: Person | None) -> bool:
        if person is None:
            return False
        own = False
        if request.caller.patient is not None:
            system, _, value = request.caller.patient.partition("|")
            own = self._people.find_person_of(system, value) == person.key
        return may_see(request.caller, person.policy, is_own_record=own)

    def search(self, request: Request, query: Query, subject: Subject, *, cursor: str | None = None) -> Page:
        """One page of a person's resources of one type, newest first, all source records together.

        An unknown or invisible person gives an empty page. Raises NotFound for a cursor that was not made for this
        caller and query.
        """
        keys = [subject.key] if subject.key else self._people.find_by_identifier(*(subject.identifier or ("", "")))
        if not keys:
            return Page(versions=(), total=0, cursor=None, patients=())
        bounds = sort_bounds(query)
        person, entries = self._in_parallel(
            lambda: self._people.find_person(keys[0]),
            lambda: self._store.entries(keys[0], query.type, between=bounds),
        )
        if person is None or not self.may_see(request, person):
            return Page(versions=(), total=0, cursor=None, patients=())
        others = [member for member in person.members if member != keys[0]]
        if others:
            reads = [lambda m=m: self._store.entries(m, query.type, between=bounds) for m in others]
            for more in self._in_parallel(*reads):
                entries = [*entries, *more]
        found = sorted(
            ((entry.sort_at, id, version) for id, version, entry in entries if matches(entry, query)),
            reverse=not query.ascending,
        )
        mark = self._blinder.blind("page", repr((request.caller.client_id, query, person.key)))
        start = self._after(cursor, mark) if cursor else None
        rest = (
            found
            if start is None
            else [hit for hit in found if (hit[:2] > start) == query.ascending and hit[:2] != start]
        )
        page = rest[: query.count]
        bodies = self._store.versions(query.type, [(id, version) for _, id, version in page])
        page = _within_bounds(page, bodies)
        more = self._cursor(page[-1][:2], mark) if page and len(rest) > len(page) else None
        versions = tuple(bodies[id, version] for _, id, version in page)
        return Page(versions=versions, total=len(found), cursor=more, patients=person.members)

    def search_shared(self, type: str, identifiers: Sequence[tuple[str, str]]) -> tuple[StoredVersion, ...]:
        """Shared resources (of no patient) that carry one of these identifiers."""
        ids = [
            id
            for system, value in identifiers
            for id in self._store.ids_of_token(type, self._blinder.blind(type, f"{system}|{value}"))
        ]
        found = (self._store.find_latest(type, id) for id in dict.fromkeys(ids))
        return tuple(each for each in found if each is not None and each.body is not None)

    def written_body(self, written: Written) -> bytes | None:
        """The version that a command just made, as stored."""
        if written.body is not None:
            return written.body
        found = self._store.find_version(written.type, written.id, written.version)
        return found.body if found else None

    # --- page links: signed, bound to caller, person and query ----------------------------------------------------

    def _cursor(self, last: tuple[str, str], mark: str) -> str:
        content = zlib.compress(json.dumps([*last, mark]).encode())
        return base64.urlsafe_b64encode(self._blinder.sign(content) + content).decode()

    def _after(self, cursor: str, mark: str) -> tuple[str, str]:
        try:
            raw = base64.urlsafe_b64decode(cursor.encode())
        except (binascii.Error, ValueError):
            raise NotFound() from None
        if not secrets.compare_digest(self._blinder.sign(raw[16:]), raw[:16]):
            raise NotFound()
        sort_at, id, made_for = json.loads(zlib.decompress(raw[16:]))
        if made_for != mark:
            raise NotFound()
        return sort_at, id

    # --- writing --------------------------------------------------------------------------------------------------

    def create(self, request: Request, draft: Draft) -> Written:
        """Store a new resource in the record of its subject; raises Unprocessable if that person is unknown."""
        return once(self._journal, request, lambda: self._create(request, draft), _restored)

    def _create(self, request: Request, draft: Draft) -> Written:
        person_key = None
        if not draft.is_shared:
            person_key, _ = self.patient_for(request, draft.subject, expression=f"{draft.type}.subject")
            draft = draft.resolved({}, subject=person_key)
        id = new_resource_id(person_key, request.at)
        change = self.first_version(draft, id, person_key, request.at)
        return self._commit(request, change, is_new=True)

    def update(self, request: Request, draft: Draft, id: str, *, if_match: int | None) -> Written:
        """Store the next version of a resource that the caller can see.

        Raises NotFound, Stale when `if_match` is not the current version or another update came first, Unprocessable
        when the resource would move to another person.
        """
        return once(self._journal, request, lambda: self._update(request, draft, id, if_match), _restored)

    def _update(self, request: Request, draft: Draft, id: str, if_match: int | None) -> Written:
        current, person = self._current(request, draft.type, id, if_match)
        patient = _patient_of(id)
        if person is not None:
            subject = draft.subject
            if subject is None or subject.key not in person.members:
                key, _ = self.patient_for(request, subject, expression=f"{draft.type}.subject")
                if key not in person.members:
                    raise Unprocessable("a resource cannot move to another person", expression=f"{draft.type}.subject")
                draft = draft.resolved({}, subject=key)
        version = current.version + 1
        change = RecordVersion(
            type=draft.type,
            id=id,
            version=version,
            at=request.at,
            patient=patient,
            body=draft.body(id, version, request.at),
            entry=draft.entry(id, version, request.at),
            previous_sort_at=current.sort_at,
            tokens=self._tokens(draft),
        )
        return self._commit(request, change, is_new=False)

    def delete(self, request: Request, type: str, id: str, *, if_match: int | None) -> Written:
        """Mark a resource deleted: reads answer Gone, searches do not find it, its versions remain."""
        return once(self._journal, request, lambda: self._delete(request, type, id, if_match), _restored)

    def _delete(self, request: Request, type: str, id: str, if_match: int | None) -> Written:
        current, _ = self._current(request, type, id, if_match)
        change = RecordVersion(
            type=type,
            id=id,
            version=current.version + 1,
            at=request.at,
            patient=_patient_of(id),
            body=None,
            entry=None,
            previous_sort_at=current.sort_at,
        )
        return self._commit(request, change, is_new=False)

    def _current(
        self,
        request: Request,
        type: str,
        id: str,
        if_match: int | None,
    ) -> tuple[StoredVersion, Person | None]:
        current, person = self._read(request, type, id)
        if if_match is not None and if_match != current.version:
            raise Stale()
        return current, person

    def _commit(self, request: Request, change: RecordVersion, *, is_new: bool) -> Written:
        written = Written(
            type=change.type, id=change.id, version=change.version, at=change.at, is_new=is_new, body=change.body
        )
        patients = [change.patient] if change.patient else []
        self._journal.commit(
            [
                change,
                *announced(request, [change]),
                *account_of(request, Touched.of(patients, [written.reference]), _kept(written)),
            ]
        )
        return written

    def first_version(self, draft: Draft, id: str, patient: str | None, at: datetime) -> RecordVersion:
        return RecordVersion(
            type=draft.type,
            id=id,
            version=1,
            at=at,
            patient=patient,
            body=draft.body(id, 1, at),
            entry=draft.entry(id, 1, at),
            tokens=self._tokens(draft),
        )

    def _tokens(self, draft: Draft) -> tuple[str, ...]:
        """Shared resources are found by identifier across the exchange; a patient's are found in the record."""
        if not draft.is_shared:
            return ()
        return tuple(self._blinder.blind(draft.type, f"{system}|{value}") for system, value in draft.identifiers)

    def patient_for(self, request: Request, subject: Subject | None, *, expression: str) -> tuple[str, Person]:
        """The source record that a new resource goes to, and its person; raises Unprocessable if there is none.

        A person with several source records gets it in the one that was named.
        """
        if subject is None:
            raise Unprocessable(
                "the resource must say whose record it belongs to", code="required", expression=expression
            )
        key = subject.key
        if key is None and subject.identifier:
            known = self._people.find_by_identifier(*subject.identifier)
            key = known[0] if known else None
        person = self._people.find_person(key) if key else None
        if key is None or person is None or not self.may_see(request, person):
            raise Unprocessable("the patient is not known", code="not-found", expression=expression)
        return key, person


def _within_bounds(
    page: Sequence[tuple[str, str, int]], bodies: Mapping[tuple[str, int], StoredVersion]
) -> list[tuple[str, str, int]]:
    """As many hits as an answer can carry, one at least: the rest is on the next page."""
    kept: list[tuple[str, str, int]] = []
    room = MAX_PAGE_BYTES
    for sort_at, id, version in page:
        room -= len(bodies[id, version].body or b"")
        if kept and room < 0:
            break
        kept.append((sort_at, id, version))
    return kept


def announced(request: Request, changes: Sequence[RecordVersion]) -> list[Announcement]:
    """One announcement per patient of these changes, and one for the shared resources."""
    by_patient: dict[str | None, list[Event]] = {}
    for change in changes:
        name = EventName.DOCUMENT_CHANGED if change.type == "DocumentReference" else EventName.RECORD_CHANGED
        event = Event(
            name=name,
            reference=f"{change.type}/{change.id}",
            version=change.version,
            at=request.at,
            author=request.caller.client_id,
            patient=change.patient,
        )
        by_patient.setdefault(change.patient, []).append(event)
    return [Announcement(id=new_ulid(request.at), events=tuple(events)) for events in by_patient.values()]


def _patient_of(id: str) -> str | None:
    split = split_resource_id(id)
    return split[0] if split else None


def _kept(written: Written) -> Mapping[str, Any]:
    return {
        "type": written.type,
        "id": written.id,
        "version": written.version,
        "at": written.at.isoformat(),
        "is_new": written.is_new,
    }


def _restored(kept: Mapping[str, Any]) -> Written:
    return Written(**{**kept, "at": datetime.fromisoformat(kept["at"])})
