"""What happened in a record: the versions of a resource, of a type, and everything since a moment (delta).

Every version leaves a mark in its collection, in the order of the moments at which the writing requests began. A
commit follows its moment by less than SETTLED: what is older is complete, and only from there does a resumed delta
go on. What was given and is younger is given again; clients apply a version once.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from passerelle.access import Request
from passerelle.errors import Gone, NotFound
from passerelle.identifiers import Blinder
from passerelle.patients.model import Person
from passerelle.records.cursors import Cursors
from passerelle.records.gate import Gate
from passerelle.records.model import ResourceKey, StoredVersion, Subject
from passerelle.records.ports import Mark, RecordStore

SETTLED = timedelta(seconds=60)  # no function runs for half of it, whatever the clocks of two machines differ by
MAX_PAGE_BYTES = 4 * 1024 * 1024
_READ = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPage:
    """Newest first. `total` is None where nobody counted."""

    versions: tuple[StoredVersion, ...]
    total: int | None
    cursor: str | None
    patients: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """Oldest first; a version without body is a withdrawal.

    `cursor` resumes after it: at once where not `is_complete`, at any later time otherwise.
    """

    versions: tuple[StoredVersion, ...]
    cursor: str
    is_complete: bool
    patients: tuple[str, ...]


class RecordHistory:
    """`in_parallel` runs independent reads at once and returns their results in order."""

    def __init__(
        self,
        *,
        store: RecordStore,
        gate: Gate,
        blinder: Blinder,
        in_parallel: Callable[..., tuple[Any, ...]],
    ) -> None:
        self._store = store
        self._gate = gate
        self._cursors = Cursors(blinder)
        self._in_parallel = in_parallel

    def of_resource(
        self, request: Request, type: str, id: str, *, since: datetime | None, count: int, cursor: str | None = None
    ) -> HistoryPage:
        """Versions and deletions of one resource; raises NotFound if it never was, or not for this caller."""
        purpose = f"history {type}/{id} {since}"
        before = self._cursors.read(request, purpose, cursor)
        key = ResourceKey.of(type, id) or self._store.find_key(type, id)
        if key is None:
            raise NotFound()
        person, found = self._in_parallel(
            lambda: self._gate.find_person(key.patient) if key.patient else None,
            lambda: self._store.history(key, before=before, limit=count + 1),
        )
        if not found or (key.patient and not self._gate.may_see(request, person)):
            raise NotFound()
        recent = [each for each in found if since is None or each.at >= since]
        page = _within_bounds(recent[:count])
        more = len(recent) > len(page)
        return HistoryPage(
            versions=tuple(page),
            total=found[0].version if since is None and before is None else None,
            cursor=self._cursors.made(request, purpose, page[-1].version) if more else None,
            patients=(key.patient,) if key.patient else (),
        )

    def of_type(
        self,
        request: Request,
        type: str,
        subject: Subject | None,
        *,
        since: datetime | None,
        count: int,
        cursor: str | None = None,
    ) -> HistoryPage:
        """Versions and deletions of a type, in a person's record, or among a shared type without `subject`."""
        purpose = f"history {type} {subject} {since}"
        until = self._cursors.read(request, purpose, cursor) or "~"
        person = None
        if subject is not None:
            person = self._visible(request, subject)
            if person is None:
                return HistoryPage(versions=(), total=0, cursor=None, patients=())
        members: Sequence[str | None] = person.members if person else (None,)
        marks = self._marks(members, type, since=_moment(since), until=until, ascending=False, limit=count + 1)
        page = self._versions(marks[:count])
        more = len(marks) > len(page)
        return HistoryPage(
            versions=tuple(page),
            total=len(page) if cursor is None and not more else None,
            cursor=self._cursors.made(request, purpose, marks[len(page) - 1].position) if more else None,
            patients=person.members if person else (),
        )

    def delta(
        self,
        request: Request,
        subject: Subject,
        *,
        count: int,
        is_wanted: Callable[[str], bool],
        narrowed_to: str = "",
        cursor: str | None = None,
    ) -> Delta:
        """New, changed and withdrawn resources of the types wanted, since a cursor or from the beginning.

        Raises NotFound for a person that is not there for the caller, Gone when source records joined or left the
        person since: the client starts again without a cursor.
        """
        purpose = f"delta {subject} {narrowed_to}"  # a cursor of some types says nothing of others
        start = self._cursors.read(request, purpose, cursor)
        person = self._visible(request, subject)
        if person is None:
            raise NotFound()
        members = sorted(person.members)
        if start is not None and start[1] != members:
            raise Gone("the record has other parts than before: synchronise from the beginning")
        since, settled = (start[0], start[2]) if start else ("", "")
        marks = self._marks(members, None, since=since, until="~", ascending=True, limit=count + 1)
        page = self._versions(marks[:count])
        is_complete = len(page) == len(marks)
        position = "~" if is_complete else marks[len(page) - 1].position
        if settled == since:  # everything before this page was complete when it was read
            settled = min(position, _moment(request.at - SETTLED))
        following = [settled if is_complete else position, members, settled]
        # By number, not by place: who began first may have committed last.
        latest: dict[ResourceKey, int] = {}
        for each in page:
            latest[each.key] = max(each.version, latest.get(each.key, 0))
        return Delta(
            versions=tuple(each for each in page if each.version == latest[each.key] and is_wanted(each.type)),
            cursor=self._cursors.made(request, purpose, following),
            is_complete=is_complete,
            patients=person.members,
        )

    def _visible(self, request: Request, subject: Subject) -> Person | None:
        patient = self._gate.patient_of(subject)
        person = self._gate.find_person(patient) if patient else None
        return person if self._gate.may_see(request, person) else None

    def _marks(
        self,
        members: Sequence[str | None],
        type: str | None,
        *,
        since: str,
        until: str,
        ascending: bool,
        limit: int,
    ) -> list[Mark]:
        """The first marks of all collections together."""
        reads = [
            lambda member=member: self._of_member(member, type, since, until, ascending=ascending, limit=limit)
            for member in members
        ]
        merged = heapq.merge(*self._in_parallel(*reads), key=lambda mark: mark.position, reverse=not ascending)
        return [mark for mark, _ in zip(merged, range(limit), strict=False)]

    def _of_member(
        self, member: str | None, type: str | None, since: str, until: str, *, ascending: bool, limit: int
    ) -> list[Mark]:
        found: list[Mark] = []
        while True:
            page = self._store.marks(
                member, type, since=since, until=until, ascending=ascending, limit=max(limit, _READ if type else 0)
            )
            found += page.marks
            if page.after is None or len(found) >= limit:
                return found[:limit]
            since, until = (page.after, until) if ascending else (since, page.after)

    def _versions(self, marks: Sequence[Mark]) -> list[StoredVersion]:
        """The versions marked, in order, as many as an answer can carry."""
        stored = self._store.versions([(mark.key, mark.version) for mark in marks])
        return _within_bounds([stored[mark.key, mark.version] for mark in marks])


def _within_bounds(versions: Sequence[StoredVersion]) -> list[StoredVersion]:
    kept: list[StoredVersion] = []
    room = MAX_PAGE_BYTES
    for version in versions:
        room -= len(version.body or b"")
        if kept and room < 0:
            break
        kept.append(version)
    return kept


def _moment(at: datetime | None) -> str:
    return at.astimezone(UTC).strftime("%Y%m%d%H%M%S%f")[:17] if at else ""
