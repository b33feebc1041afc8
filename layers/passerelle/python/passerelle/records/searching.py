"""Searching the record of a person, or the directory: pages of matches, with what they refer to.

Entries are read in the order of their positions and only as far as the page needs, unless another order or an exact
total is asked for. Bodies are read for the hits of the page alone. FHIR R4 section 3.1.1.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any

from passerelle.access import Request
from passerelle.errors import Invalid, NotFound
from passerelle.identifiers import Blinder
from passerelle.patients.model import Person
from passerelle.records.concealment import PRODUCER, Hidden
from passerelle.records.cursors import Cursors
from passerelle.records.following import Follower
from passerelle.records.gate import Gate, Sight
from passerelle.records.model import ResourceKey, StoredVersion, Subject
from passerelle.records.ports import LONG, EntryPage, Indexed, RecordStore, Scan
from passerelle.records.search import (
    BEGINNING,
    Criterion,
    Entry,
    Include,
    Query,
    ReferenceIs,
    TokenIs,
    lookup_of,
    matches,
    referring,
    sort_bounds,
    sort_key,
    targets_of,
)

MAX_PAGE_BYTES = 4 * 1024 * 1024  # of bodies: a function answers with 6 MB at most
MAX_INCLUDED = 500
MAX_DIGESTED = 100
MAX_CHAINED = 100  # references that a chain in the directory may lead to
MAX_COMPARED = 20_000  # entries of the directory that one search reads
_FIRST_READ = 60  # entries: what most records hold of a type, in a few read units
_FIRST_READ_OF_RANGE = 12  # of one value
_FIRST_READ_NARROWED = 175  # of which other criteria leave some
_NEXT_READ = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a search: the matches, and what they include.

    `total` counts every visible match, None where counting would have cost more than the page; `cursor` leads to the
    next page.
    """

    versions: tuple[StoredVersion, ...]
    total: int | None
    cursor: str | None
    patients: tuple[str, ...]
    included: tuple[StoredVersion, ...] = ()


_EMPTY = Page(versions=(), total=0, cursor=None, patients=())


class RecordSearch:
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

    def search(
        self,
        request: Request,
        query: Query,
        subject: Subject | None = None,
        *,
        cursor: str | None = None,
        producer: str | None = None,
    ) -> Page:
        """One page of a person's resources of one type, of all source records; without `subject`, of a shared type.

        With a `producer`, only of what that organisation published.

        An unknown or invisible person gives an empty page. Raises NotFound for a cursor that was not made for this
        caller and query, Invalid (`too-costly`) where too much would have to be read.
        """
        if producer is not None:
            query = replace(query, criteria=(*query.criteria, _by(producer)))
        purpose = repr((query, subject))
        start = self._cursors.read(request, purpose, cursor)
        if subject is None:
            query, is_possible = self._without_chains(query)
            if not is_possible:
                return _EMPTY
            return self._page(request, query, purpose, start, self._directory(query), None)
        patient = self._gate.patient_of(subject)
        if patient is None:
            return _EMPTY
        scan = _scan(query, start)
        # The first read of the named collection goes along with the look-up of the person, the others with the rest.
        sight, first, more = self._gate.look(
            request,
            patient,
            self._reads(patient, query, scan),
            lambda person: [each for member in _others(person, patient) for each in self._reads(member, query, scan)],
            own_only=producer is not None and producer == request.caller.organisation,
        )
        if sight is None:
            return _EMPTY
        members = [patient, *_others(sight.person, patient)]
        found = self._streams(query, scan, sight, members, [*first, *more])
        if query.chains:
            follower = self._follower(request, sight)
            found = replace(found, streams=[_following(each, query, follower) for each in found.streams])
        return self._page(request, query, purpose, start, found, sight)

    # --- chains ---------------------------------------------------------------------------------------------------

    def _follower(self, request: Request, sight: Sight) -> Follower:
        def read(references: Sequence[str]) -> dict[str, Entry]:
            found = self._latest(self._keys(sight.person, references))
            shown = (each for version in found if (each := sight.hidden.version(version)) is not None)
            return {each.reference: self._gate.entry(each.body, request.base_url) for each in shown if each.body}

        return Follower(read)

    def _without_chains(self, query: Query) -> tuple[Query, bool]:
        """A search of the directory with each chain as the references that it leads to; False if there are none."""
        criteria = list(query.criteria)
        for link in query.chains:
            found: list[ReferenceIs] = []
            for each in link.queries:
                wanted, is_possible = self._without_chains(each)
                hits = self.hits(wanted, None) if is_possible else []
                found += [ReferenceIs(hit.key.reference) for hit in hits]
            if len(found) > MAX_CHAINED:
                raise Invalid("a chain finds too much: narrow it", code="too-costly")
            if not found:
                return query, False
            criteria.append(Criterion(name=link.parameter, alternatives=tuple(found)))
        return replace(query, criteria=tuple(criteria), chains=()), True

    def everything(
        self,
        request: Request,
        subject: Subject,
        *,
        is_wanted: Callable[[str], bool],
        since: datetime | None,
        count: int,
        cursor: str | None = None,
    ) -> Page:
        """One page of a person's whole record: resources of the types wanted, and the shared ones they refer to.

        Raises NotFound for a person who is not there for the caller.
        """
        purpose = f"everything {subject} {since}"
        start = self._cursors.read(request, purpose, cursor) or ["", None]
        patient = self._gate.patient_of(subject)
        sight = self._gate.sight(request, patient) if patient else None
        if sight is None:
            raise NotFound()
        person = sight.person
        found: list[tuple[Indexed, list[Any]]] = []
        for member in sorted(each for each in person.members if each >= start[0]):
            after = start[1] if member == start[0] else None
            for entry in sight.hidden.entries(self._collection(member, after)):
                if is_wanted(entry.key.type) and (since is None or entry.at >= since):
                    found.append((entry, [member, entry.place]))
                    if len(found) > count:
                        break
            if len(found) > count:
                break
        page = [entry for entry, _ in found[:count]]
        bodies = self._bodies(page, sight)
        kept = _within_bounds(page, bodies)
        more = len(found) > len(kept)
        return Page(
            versions=tuple(bodies[entry.key, entry.version] for entry in kept),
            total=None if more or cursor else len(kept),
            cursor=self._cursors.made(request, purpose, found[len(kept) - 1][1]) if more else None,
            patients=person.members,
            included=self._shared_targets(kept),
        )

    def digest(self, request: Request, subject: Subject, queries: Sequence[Query]) -> Page:
        """The newest of what several queries find in one person's record, and the shared resources they refer to.

        Of resources that have a code, the newest of each code; of each query MAX_DIGESTED. Raises NotFound for a
        person who is not there for the caller.
        """
        patient = self._gate.patient_of(subject)
        sight = self._gate.sight(request, patient) if patient else None
        if sight is None:
            raise NotFound()
        read = self._in_parallel(*(lambda query=query: self._newest(query, sight) for query in queries))
        kept = [hit for hits in read for hit in hits]
        bodies = self._bodies(kept, sight)
        return Page(
            versions=tuple(bodies[hit.key, hit.version] for hit in kept),
            total=len(kept),
            cursor=None,
            patients=sight.person.members,
            included=self._shared_targets(kept),
        )

    def _newest(self, query: Query, sight: Sight) -> list[Indexed]:
        newest: dict[Any, Indexed] = {}
        for hit in sorted(self.hits(query, sight), key=_position, reverse=True):
            newest.setdefault(hit.entry.values.get("code") or hit.key, hit)
        return list(newest.values())[:MAX_DIGESTED]

    def _collection(self, member: str, after: str | None) -> Iterator[Indexed]:
        while True:
            page = self._store.everything(member, after=after, limit=_NEXT_READ)
            yield from page.entries
            after = page.after
            if after is None:
                return

    def _shared_targets(self, page: Sequence[Indexed]) -> tuple[StoredVersion, ...]:
        """What the entries refer to outside of any record: who acted, where, which product."""
        includes = {hit.key.type: Include(type=hit.key.type, parameter="*", target=None) for hit in page}
        wanted = dict.fromkeys(target for hit in page for target in targets_of(hit.entry, includes[hit.key.type]))
        return tuple(each for each in self._latest(self._keys(None, list(wanted))) if each.body is not None)

    def hits(self, query: Query, sight: Sight | None) -> list[Indexed]:
        """Every match of a condition: in what the caller sees of a record, or (None) in the directory."""
        return self.hits_of_each([query], sight)[0]

    def hits_of_each(self, queries: Sequence[Query], sight: Sight | None) -> list[list[Indexed]]:
        """The same of several conditions: what more than one of them looks through is read once."""
        if sight is None:
            return [_matching(chain.from_iterable(self._directory(query).streams), query) for query in queries]
        of = [
            [(member, query.type, each) for member in sight.person.members for each in _whole_ranges(query)]
            for query in queries
        ]
        places = list(dict.fromkeys(chain.from_iterable(of)))
        pages = self._in_parallel(*(partial(self._store.entries, *place) for place in places))
        seen = {place: list(sight.hidden.entries(page.entries)) for place, page in zip(places, pages, strict=True)}
        return [
            _matching(chain.from_iterable(seen[place] for place in read), query)
            for query, read in zip(queries, of, strict=True)
        ]

    def _bodies(self, page: Sequence[Indexed], sight: Sight | None) -> dict[tuple[ResourceKey, int], StoredVersion]:
        """The versions of hits as they are for the caller."""
        stored = self._store.versions([(hit.key, hit.version) for hit in page])
        if sight is None or not sight.hidden:
            return stored
        shown = {name: sight.hidden.version(each) for name, each in stored.items()}
        return {name: each for name, each in shown.items() if each is not None}

    # --- reading entries ------------------------------------------------------------------------------------------

    def _reads(self, patient: str, query: Query, scan: Scan) -> list[Callable[[], EntryPage]]:
        """The first read of every range of one collection that the query needs."""
        return [partial(self._store.entries, patient, query.type, each) for each in _ranges(query, scan)]

    def _streams(
        self, query: Query, scan: Scan, sight: Sight, members: Sequence[str], pages: Sequence[EntryPage]
    ) -> _Streams:
        """The entries of every source record, each range a stream; `pages` are the first reads of `members`."""
        places = [(member, each) for member in members for each in _ranges(query, scan)]
        first = [
            (member, each, *self._visible(member, query.type, each, page, sight.hidden))
            for (member, each), page in zip(places, pages, strict=True)
        ]
        streams = [self._rest(member, query.type, each, page) for member, each, page, _ in first]
        return _Streams(
            streams=[iter(sight.hidden.entries(each)) for each in streams],
            is_read=all(is_read for *_, is_read in first),
        )

    def _visible(self, member: str, type: str, scan: Scan, page: EntryPage, hidden: Hidden) -> tuple[EntryPage, bool]:
        """The first read of a range as it would be without what is hidden, and whether it is all there is.

        What tells that a record goes on is the number of entries that the caller sees, never the others.
        """
        entries = tuple(hidden.entries(page.entries))
        if scan.limit is None or len(entries) == len(page.entries):
            return page, page.after is None
        after = page.after
        while after is not None and len(entries) < scan.limit:
            more = self._store.entries(member, type, replace(scan, limit=_NEXT_READ, after=after))
            entries, after = (*entries, *hidden.entries(more.entries)), more.after
        return EntryPage(entries=entries, after=after), len(entries) < scan.limit

    def _rest(self, patient: str, type: str, scan: Scan, page: EntryPage) -> Iterator[Indexed]:
        yield from page.entries
        while page.after is not None:
            page = self._store.entries(patient, type, replace(scan, limit=_NEXT_READ, after=page.after))
            yield from page.entries

    def _directory(self, query: Query) -> _Streams:
        return _Streams(
            streams=[self._listed(query.type, lookup) for lookup in lookup_of(query) or (None,)], is_read=False
        )

    def _listed(self, type: str, lookup: tuple[str, str] | None) -> Iterator[Indexed]:
        after, read = None, 0
        while True:
            page = self._store.listed(type, lookup, after=after, limit=_NEXT_READ)
            yield from page.entries
            read += len(page.entries)
            after = page.after
            if after is None:
                return
            if read >= MAX_COMPARED:
                raise Invalid("too many would have to be compared: give an identifier or a name", code="too-costly")

    # --- pages ----------------------------------------------------------------------------------------------------

    def _page(
        self,
        request: Request,
        query: Query,
        purpose: str,
        start: Any,
        found: _Streams,
        sight: Sight | None,
    ) -> Page:
        """`start` is what the cursor of the page before held: the position of its last hit."""
        is_incremental = _is_incremental(query) and sight is not None
        total: int | None
        if is_incremental:
            hits, total = _merged(found, query, start)
        else:
            hits, total = _sorted(found.streams, query, start)
        page = hits[: query.count]
        bodies = self._bodies(page, sight)
        kept = _within_bounds(page, bodies)
        more = None
        if kept and len(hits) > len(kept):
            before = total - len(hits) if total is not None else 0
            last = (
                [*_position(kept[-1]), total is not None] if is_incremental else [kept[-1].key.id, before + len(kept)]
            )
            more = self._cursors.made(request, purpose, last)
        return Page(
            versions=tuple(bodies[hit.key, hit.version] for hit in kept),
            total=None if query.total == "none" else total,
            cursor=more,
            patients=sight.person.members if sight else (),
            included=self._included(request, query, sight, kept) if kept else (),
        )

    # --- what matches refer to, and what refers to them -----------------------------------------------------------

    def _included(
        self, request: Request, query: Query, sight: Sight | None, page: Sequence[Indexed]
    ) -> tuple[StoredVersion, ...]:
        on_page = {hit.key.reference for hit in page}
        hidden = sight.hidden if sight else None
        wanted = (target for include in query.include for hit in page for target in _followed(hit, include))
        found = self._targets(sight, dict.fromkeys(wanted))
        iterating = [each for each in query.include if each.iterates]
        latest, known = found, on_page | {each.reference for each in found}
        while latest and iterating:
            seen = [hidden.version(each) if hidden else each for each in latest]
            entries = [(each.key, self._gate.entry(each.body, request.base_url)) for each in seen if each and each.body]
            further = (target for include in iterating for each in entries for target in _named(*each, include))
            latest = self._targets(sight, [each for each in dict.fromkeys(further) if each not in known])
            known |= {each.reference for each in latest}
            found += latest
            if len(found) > MAX_INCLUDED:
                raise Invalid("too many resources would be included: ask for a smaller page", code="too-costly")
        for include in query.revinclude:
            found += self._referring(include, sight, on_page)
        if hidden:
            found = [shown for each in found if (shown := hidden.version(each)) is not None]
        if len(found) > MAX_INCLUDED:
            raise Invalid("too many resources would be included: ask for a smaller page", code="too-costly")
        unique = {each.key: each for each in found if each.reference not in on_page and each.body is not None}
        return tuple(unique.values())

    def _targets(self, sight: Sight | None, references: Iterable[str]) -> list[StoredVersion]:
        """The current versions of what references lead to, but for what is hidden."""
        keys = [
            key
            for key in self._keys(sight.person if sight else None, list(references))
            if sight is None or key.reference not in sight.hidden.references
        ]
        if len(keys) > MAX_INCLUDED:
            raise Invalid("too many resources would be included: ask for a smaller page", code="too-costly")
        return self._latest(keys)

    def _keys(self, person: Person | None, references: Sequence[str]) -> list[ResourceKey]:
        """Where references lead that stay in the same record, or lead to what is shared."""
        named = [tuple(each.split("/")) for each in references]
        keys = {each: ResourceKey.of(*each) for each in named}
        chosen = [each for each, key in keys.items() if key is None]  # ids that say nothing of where they are
        if chosen:
            found = self._in_parallel(*(partial(self._store.find_key, *each) for each in chosen))
            keys |= dict(zip(chosen, found, strict=True))
        members = person.members if person is not None else ()
        return [key for key in keys.values() if key is not None and (key.patient is None or key.patient in members)]

    def _latest(self, keys: Sequence[ResourceKey]) -> list[StoredVersion]:
        """The current versions of those that were ever there, deletions included."""
        if not keys:
            return []
        read = self._in_parallel(*(partial(self._store.find_latest, key) for key in keys))
        return [each for each in read if each is not None]

    def _referring(self, include: Include, sight: Sight | None, references: set[str]) -> list[StoredVersion]:
        hits = self.hits(referring(include, references), sight)
        if len(hits) > MAX_INCLUDED:
            raise Invalid("too many resources would be included: ask for a smaller page", code="too-costly")
        return list(self._store.versions([(hit.key, hit.version) for hit in hits]).values())


def _by(producer: str) -> Criterion:
    return Criterion(name=PRODUCER, alternatives=(TokenIs(system="", code=producer),))


def _others(person: Person, patient: str) -> list[str]:
    return [member for member in person.members if member != patient]


def _is_incremental(query: Query) -> bool:
    """Whether entries come in the order asked for, so that a page needs no more than itself."""
    return query.is_by_sort_date and query.total != "accurate" and query.count > 0


def _first_read(query: Query) -> int:
    """How many entries of each range are read at once: more, where many of them will not match."""
    tokens = query.range_tokens()
    if query.is_narrowed:
        return _FIRST_READ_NARROWED // len(tokens or (None,))
    return _FIRST_READ_OF_RANGE if tokens else _FIRST_READ


def _scan(query: Query, start: Any) -> Scan:
    """From the start as long as that gives the total with the page, else from where the page before ended."""
    if not _is_incremental(query):
        return Scan(between=sort_bounds(query), ascending=query.ascending)
    is_counted = start is None or start[3]
    return Scan(
        between=sort_bounds(query),
        ascending=query.ascending,
        limit=max(query.count + 1, _first_read(query)),
        after=None if is_counted else "#".join(start[:2]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Streams:
    """Entries in order, one stream for each range; `is_read` says that no stream needs another read."""

    streams: Sequence[Iterator[Indexed]]
    is_read: bool


def _merged(found: _Streams, query: Query, start: Any) -> tuple[list[Indexed], int | None]:
    """The hits of one page and one more, and the total where all entries were read for them anyway."""
    after = tuple(start[:3]) if start else None
    is_counted = start is None or start[3]
    hits: list[Indexed] = []
    total = 0
    last: ResourceKey | None = None
    order = _position if query.ascending else _reversed_position
    for each in heapq.merge(*found.streams, key=order):
        if each.key == last or not matches(each.entry, query):
            continue  # an entry stands under each of its range values
        last = each.key
        total += 1
        position = _position(each)
        if len(hits) > query.count:
            continue
        if after is None or (position > after if query.ascending else position < after):
            hits.append(each)
            if len(hits) > query.count and not found.is_read:
                return hits, None
    return hits, total if is_counted else None


def _sorted(streams: Sequence[Iterator[Indexed]], query: Query, start: Any) -> tuple[list[Indexed], int]:
    """The hits after the one that the page before ended with; if that is gone, after as many as there were."""
    found = {each.key: each for each in chain.from_iterable(streams) if matches(each.entry, query)}
    hits = sorted(found.values(), key=lambda each: sort_key(each.entry, each.key.id, query))
    if start is None:
        return hits, len(hits)
    last, count = start
    after = next((place for place, hit in enumerate(hits, 1) if hit.key.id == last), count)
    return hits[after:], len(hits)


class _Reversed:
    """Compares the other way round."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: _Reversed) -> bool:
        return bool(other.value < self.value)


def _followed(hit: Indexed, include: Include) -> tuple[str, ...]:
    return _named(hit.key, hit.entry, include)


def _named(key: ResourceKey, entry: Entry, include: Include) -> tuple[str, ...]:
    """What an include leads to from a resource; entries do not say whose record they are in."""
    if not include.is_from(key.type):
        return ()
    patient = (f"Patient/{key.patient}",) if key.patient else ()
    if include.names_patient:
        return patient
    return (*targets_of(entry, include), *(patient if include.parameter == "*" else ()))


def _following(stream: Iterator[Indexed], query: Query, follower: Follower) -> Iterator[Indexed]:
    return (each for each in stream if follower.holds(each.entry, query))


def _position(hit: Indexed) -> tuple[str, str, str]:
    return (*hit.position, hit.key.patient or "")


def _reversed_position(hit: Indexed) -> _Reversed:
    return _Reversed(_position(hit))


def _ranges(query: Query, scan: Scan) -> list[Scan]:
    """The ranges of a collection that hold every match: those of the values asked for, or all of the type.

    Between two dates lie the entries of dates that are short; the long ones are read whole.
    """
    tokens = query.range_tokens()
    ranges = [replace(scan, token=token) for token in tokens] if tokens else [scan]
    if scan.between is not None and scan.between[0] > BEGINNING:
        ranges.append(replace(scan, token=LONG, between=None))
    return ranges


def _whole_ranges(query: Query) -> list[Scan]:
    """The same, to be read whole."""
    return _ranges(query, Scan(between=sort_bounds(query)))


def _matching(entries: Iterable[Indexed], query: Query) -> list[Indexed]:
    """An entry stands under each of its range values."""
    return list({each.key: each for each in entries if matches(each.entry, query)}.values())


def _within_bounds(page: Sequence[Indexed], bodies: Mapping[tuple[ResourceKey, int], StoredVersion]) -> list[Indexed]:
    """As many hits as an answer can carry, one at least: the rest is on the next page."""
    kept: list[Indexed] = []
    room = MAX_PAGE_BYTES
    for hit in page:
        room -= len(bodies[hit.key, hit.version].body or b"")
        if kept and room < 0:
            break
        kept.append(hit)
    return kept
