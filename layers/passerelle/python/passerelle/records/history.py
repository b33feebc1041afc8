"""What happened in a record: the versions of a resource, of a type, and everything since a moment (delta).

Every version leaves a mark in its collection, in the order of the moments at which the writing requests began. A
commit follows its moment by less than SETTLED: what is older is complete, and only from there does a resumed delta
go on. What was given and is younger is given again; clients apply a version once.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from passerelle.access import Request
from passerelle.consents.visibility import outlook
from passerelle.errors import Gone, NotFound
from passerelle.identifiers import Blinder
from passerelle.records.concealment import ABOUT
from passerelle.records.cursors import Cursors
from passerelle.records.gate import Gate, Sight
from passerelle.records.model import ResourceKey, StoredVersion, Subject
from passerelle.records.ports import Indexed, Mark, RecordStore

SETTLED = timedelta(seconds=60)  # no function runs for half of it, whatever the clocks of two machines differ by
MAX_PAGE_BYTES = 4 * 1024 * 1024
_READ_BACK = 20  # versions of a hidden resource at a time
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
        found = self._seen(request, key, before, count + 1)
        if not found:
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

    def _seen(self, request: Request, key: ResourceKey, before: int | None, limit: int) -> list[StoredVersion]:
        """The versions as they are for the caller; a List without anything left in it was not there then."""
        if key.patient is None:
            return list(self._store.history(key, before=before, limit=limit))
        sight, found = self._gate.glance(
            request, key.patient, lambda: self._store.history(key, before=before, limit=limit)
        )
        if sight is None:
            return []
        return [shown for each in found if (shown := self._gate.shown(sight, each)) is not None]

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
        sight = None
        if subject is not None:
            sight = self._sight(request, subject)
            if sight is None:
                return HistoryPage(versions=(), total=0, cursor=None, patients=())
        members: Sequence[str | None] = sight.person.members if sight else (None,)
        found = self._shown(members, type, sight, since=_moment(since), until=until, ascending=False, limit=count + 1)
        page = _within_bounds([version for _, version in found[:count]])
        more = len(found) > len(page)
        return HistoryPage(
            versions=tuple(page),
            total=len(page) if cursor is None and not more else None,
            cursor=self._cursors.made(request, purpose, found[len(page) - 1][0].position) if more else None,
            patients=sight.person.members if sight else (),
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
        person since, or the patient decided otherwise about the caller: the client starts again without a cursor.
        """
        purpose = f"delta {subject} {narrowed_to}"  # a cursor of some types says nothing of others
        start = self._cursors.read(request, purpose, cursor)
        sight = self._sight(request, subject)
        if sight is None:
            raise NotFound()
        # Also how the caller sees it, labels apart: what a new decision of the patient hides or shows is in no mark.
        members = [*sorted(sight.person.members), outlook(sight.view, request.caller, sight.person.policy, request.at)]
        if start is not None and start[1] != members:
            raise Gone("the record is not seen in the same parts as before: synchronise from the beginning")
        since, settled, given = (start[0], start[2], start[3]) if start else ("", "", "")
        found = self._shown(members, None, sight, since=since, until="~", ascending=True, limit=count + 1, given=given)
        page = _within_bounds([version for _, version in found[:count]])
        is_complete = len(page) == len(found)
        position = "~" if is_complete else found[len(page) - 1][0].position
        if settled == since:  # everything before this page was complete when it was read
            settled = min(position, _moment(request.at - SETTLED))
        given = max(given, _moment(request.at) if is_complete else position)
        following = [settled if is_complete else position, members, settled, given]
        page += self._about(sight, page, start[3] if start else "", is_wanted)
        # By number, not by place: who began first may have committed last.
        latest: dict[ResourceKey, int] = {}
        for each in page:
            latest[each.key] = max(each.version, latest.get(each.key, 0))
        return Delta(
            versions=tuple(
                _withdrawn(each) for each in page if each.version == latest[each.key] and is_wanted(each.type)
            ),
            cursor=self._cursors.made(request, purpose, following),
            is_complete=is_complete,
            patients=sight.person.members,
        )

    def whole(self, request: Request, subject: Subject) -> Iterator[StoredVersion]:
        """All versions of everything in a person's record that the caller may see, the oldest first.

        Raises NotFound for a person that is not there for the caller.
        """
        sight = self._sight(request, subject)
        if sight is None:
            raise NotFound()
        return self._every_version(sight)

    def _every_version(self, sight: Sight) -> Iterator[StoredVersion]:
        since, members = "", sight.person.members
        while found := self._shown(members, None, sight, since=since, until="~", ascending=True, limit=_READ):
            yield from (version for _, version in found)
            since = found[-1][0].position

    def _sight(self, request: Request, subject: Subject) -> Sight | None:
        patient = self._gate.patient_of(subject)
        return self._gate.sight(request, patient) if patient else None

    def _shown(
        self,
        members: Sequence[str | None],
        type: str | None,
        sight: Sight | None,
        *,
        since: str,
        until: str,
        ascending: bool,
        limit: int,
        given: str = "",
    ) -> list[tuple[Mark, StoredVersion]]:
        """The first versions that exist for the caller, with their marks.

        Among them are tombstones of what was shown at the moment `given`, and is not any more.
        """
        found: list[tuple[Mark, StoredVersion]] = []
        hidden = sight.hidden if sight else None
        low, high = since, until
        while True:
            wanted = limit - len(found)
            marks = self._marks(members, type, since=low, until=high, ascending=ascending, limit=wanted)
            stored = self._store.versions([(mark.key, mark.version) for mark in marks])
            for mark in marks:
                version: StoredVersion | None = stored[mark.key, mark.version]
                if hidden:
                    version = hidden.version(stored[mark.key, mark.version])
                    if version is None and given and sight is not None:
                        version = self._tombstone(sight, stored[mark.key, mark.version], given)
                if version is not None:
                    found.append((mark, version))
            if not hidden or len(marks) < wanted or len(found) >= limit:
                return found
            low, high = (marks[-1].position, high) if ascending else (low, marks[-1].position)

    def _tombstone(self, sight: Sight, stored: StoredVersion, given: str) -> StoredVersion | None:
        """That a resource is no longer there, for who was given it and does not see it any more.

        Whoever was never given it learns nothing.
        """
        before = stored.version
        while versions := self._store.history(stored.key, before=before, limit=_READ_BACK):
            for earlier in versions:
                if _moment(earlier.at) <= given:
                    was_given = earlier.body is not None and sight.view.shows(earlier.restriction)
                    return replace(stored, body=None) if was_given else None
            before = versions[-1].version
        return None

    def _about(
        self, sight: Sight, page: Sequence[StoredVersion], given: str, is_wanted: Callable[[str], bool]
    ) -> list[StoredVersion]:
        """What speaks of documents whose visibility changed: it is there again, or no longer, or with less in it.

        Nothing, for who is given the record for the first time: as it is now.
        """
        changed = {each.reference for each in self._relabelled(page)} if given else set()
        if not changed:
            return []
        told = {each.key for each in page}
        found = {
            (entry.key, entry.version): about
            for member in sight.person.members
            for entry in self._collection(member)
            if (about := changed.intersection(entry.entry.values.get(ABOUT, ())))
            and entry.key not in told
            and is_wanted(entry.key.type)
        }
        speaking: list[StoredVersion] = []
        for name, stored in self._store.versions(list(found)).items():
            shown = sight.hidden.version(stored)
            before = sight.hidden
            for reference in found[name]:
                before = before.but(reference)
            if shown is not None:
                speaking.append(shown)
            elif _moment(stored.at) <= given and before.version(stored) is not None:
                speaking.append(replace(stored, body=None))
        return speaking

    def _relabelled(self, page: Sequence[StoredVersion]) -> list[StoredVersion]:
        """Documents that other callers see since these versions than before them."""
        revised = [each for each in page if each.key.type == "DocumentReference" and each.version > 1]
        before = self._store.versions([(each.key, each.version - 1) for each in revised])
        return [
            each
            for each in revised
            if (former := before.get((each.key, each.version - 1))) and former.restriction != each.restriction
        ]

    def _collection(self, member: str) -> Iterator[Indexed]:
        after = None
        while True:
            page = self._store.everything(member, after=after, limit=_READ)
            yield from page.entries
            after = page.after
            if after is None:
                return

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


def _withdrawn(version: StoredVersion) -> StoredVersion:
    """What no search finds any more is for a copy of the record as if it were deleted."""
    return version if version.placement is not None else replace(version, body=None)


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
