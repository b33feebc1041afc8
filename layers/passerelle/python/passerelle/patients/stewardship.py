"""Identity stewards (cellule d'identitovigilance): what the index asks them, and what they decide.

Every decision can be taken back: a link is an edge between two source records, a merge one that puts a record out of
use. Nothing is copied, so that undoing gives back what was before. Who decided, when and why stays in the history of
each record concerned, and their sources are told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from passerelle.access import Request, Touched
from passerelle.audit.commands import account_of, once
from passerelle.directory.model import Role
from passerelle.errors import Conflict, Forbidden, NotFound, Stale, Unprocessable
from passerelle.events import Event
from passerelle.identifiers import PATIENT_KEY, new_ulid, split_resource_id
from passerelle.journal import Announcement, Change, Journal
from passerelle.patients.identity import match_record, national_systems
from passerelle.patients.links import LinkGraph
from passerelle.patients.model import (
    Decision,
    HistoryKind,
    IdentityEvent,
    Person,
    Review,
    ReviewChange,
    ReviewStatus,
    Rule,
    StoredPatient,
)
from passerelle.patients.ports import PatientIndex, PatientStore, Reviews
from passerelle.patients.registration import Kept, Registrar, Work
from passerelle.patients.resolution import Resolver, stored_evidence

MAX_REASON_CHARACTERS = 1000
_RACES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A review with the two records as they are now; a record that was removed is absent."""

    review: Review
    records: tuple[StoredPatient, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityCard:
    """All that the index knows of one source record: its person, the questions about it, and what happened."""

    record: StoredPatient | None
    person: Person
    reviews: tuple[Review, ...]
    history: tuple[IdentityEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Outcome of a decision: the person of the record concerned, by its members. None where no link changed."""

    records: tuple[str, ...]
    is_changed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What a decision changes; `concerned` are the records that it is about."""

    settled: Settled
    changes: Sequence[Change]
    concerned: Iterable[str]
    events: Sequence[Event] = ()


class StewardService:
    def __init__(
        self,
        *,
        index: PatientIndex,
        reviews: Reviews,
        store: PatientStore,
        journal: Journal,
        registrar: Registrar,
        resolver: Resolver,
        in_parallel: Callable[..., tuple[Any, ...]],
        pause: Callable[[int], None],
    ) -> None:
        self._index = index
        self._reviews = reviews
        self._store = store
        self._journal = journal
        self._registrar = registrar
        self._resolver = resolver
        self._in_parallel = in_parallel
        self._pause = pause

    # --- the worklist ---------------------------------------------------------------------------------------------

    def listed(
        self, request: Request, status: ReviewStatus, *, count: int, after: str | None
    ) -> tuple[Sequence[Review], str | None]:
        """Reviews of a status, the oldest first, and where the next page starts. Raises Forbidden."""
        _only_stewards(request)
        return self._reviews.listed(status, count=count, after=after)

    def question(self, request: Request, review: str) -> Question:
        """A review with both records, for the traits to be compared. Raises Forbidden, NotFound."""
        _only_stewards(request)
        found = self._found(review)
        concerned = dict.fromkeys((found.first, found.second))
        records = self._in_parallel(*(partial(self._store.find, each) for each in concerned))
        return Question(review=found, records=tuple(each for each in records if each is not None))

    def card(self, request: Request, patient: str) -> IdentityCard:
        """What the index knows of a source record. Raises Forbidden, NotFound."""
        _only_stewards(request)
        if not PATIENT_KEY.fullmatch(patient):
            raise NotFound()
        person, stored, reviews, history = self._in_parallel(
            lambda: self._index.find_person(patient),
            lambda: self._store.find(patient),
            lambda: tuple(self._reviews.reviews_of(patient)),
            lambda: tuple(self._reviews.history_of(patient)),
        )
        if person is None:
            raise NotFound()
        return IdentityCard(record=stored, person=person, reviews=reviews, history=history)

    def decide(self, request: Request, review: str, status: ReviewStatus, *, reason: str) -> Settled:
        """Answer a review: `SAME` links the records, `DIFFERENT` keeps them apart for ever, `LATER` puts it off.

        Records that were linked and are told apart are separated. Raises Forbidden, NotFound, Conflict when it is
        answered already, or when two qualified national identifiers would meet.
        """
        return self._decided(request, lambda: self._plan_decision(request, review, status, reason))

    def _plan_decision(self, request: Request, review: str, status: ReviewStatus, reason: str) -> _Plan:
        _only_stewards(request)
        reason = _checked(reason)
        found = self._found(review)
        if found.status not in (ReviewStatus.OPEN, ReviewStatus.LATER):
            raise Conflict("the question was answered already")
        answered = self._answered(request, found, status, reason)
        work = Work(request, found.first, reason=reason)
        if status is ReviewStatus.LATER or found.first == found.second:
            return _unlinked([answered], found.first, found.second)
        kept = self._both(found.first, found.second)
        if status is ReviewStatus.SAME:
            return self._joined(work, kept, Rule.STEWARD, (answered,), but=found)
        return self._told_apart(work, kept, answered)

    def _answered(self, request: Request, review: Review, status: ReviewStatus, reason: str) -> ReviewChange:
        decision = Decision(
            by=request.caller.client_id, professional=request.caller.professional, at=request.at, reason=reason
        )
        return ReviewChange(before=review, after=replace(review, status=status, decision=decision))

    def _found(self, review: str) -> Review:
        found = self._reviews.find_review(review) if split_resource_id(review) else None
        if found is None:
            raise NotFound()
        return found

    # --- links ----------------------------------------------------------------------------------------------------

    def link(self, request: Request, first: str, second: str, *, reason: str) -> Settled:
        """Make two source records one person. Raises Forbidden, NotFound, Conflict (contract INS-10)."""
        return self._decided(request, lambda: self._plan_link(request, first, second, reason))

    def _plan_link(self, request: Request, first: str, second: str, reason: str) -> _Plan:
        _only_stewards(request)
        work = Work(request, first, reason=_checked(reason))
        kept = self._both(first, second)
        answered = [
            self._answered(request, each, ReviewStatus.SAME, work.reason)
            for each in kept[0].reviews
            if each.other(first) == second and each.status is not ReviewStatus.SAME
        ]
        return self._joined(work, kept, Rule.STEWARD, answered)

    def unlink(self, request: Request, patient: str, *, reason: str) -> Settled:
        """Take a source record out of its person: the others stay together, and it is not linked to them again.

        Raises Forbidden, NotFound, Conflict for a record that is alone, that was replaced, or that carries the same
        qualified national identifier as the others.
        """
        return self._decided(request, lambda: self._plan_unlink(request, patient, reason))

    def _plan_unlink(self, request: Request, patient: str, reason: str) -> _Plan:
        _only_stewards(request)
        work = Work(request, patient, reason=_checked(reason))
        kept = self._kept(patient)
        if kept.member.replaced_by:
            raise Conflict("the record was replaced by another one: undo the merge")
        graph = LinkGraph.of([kept.person])
        rest = graph.apart(patient, new_id=work.new_id, rule=Rule.STEWARD, at=work.at)
        others = graph.component(patient) - rest.component(patient)
        if not others:
            raise Conflict("the record is linked to no other")
        _refuse_same_national(kept, others)
        return self._separated(work, kept, rest, others)

    def _told_apart(self, work: Work, kept: tuple[Kept, Kept], answered: ReviewChange) -> _Plan:
        """Two records that are not the same person: separated if they were linked."""
        first, second = kept
        records = (first.stored.patient, second.stored.patient)
        if first.person.key != second.person.key:
            return _unlinked([answered], *records)
        graph = LinkGraph.of([first.person])
        rest = graph.apart(records[0], new_id=work.new_id, rule=Rule.STEWARD, at=work.at)
        others = graph.component(records[0]) - rest.component(records[0])
        _refuse_same_national(first, others)
        return self._separated(work, first, rest, others, answered)

    def _separated(
        self, work: Work, kept: Kept, rest: LinkGraph, others: frozenset[str], *answered: ReviewChange
    ) -> _Plan:
        patient = kept.stored.patient
        changes = self._registrar.changes(rest, {kept.person.key: kept.person})
        work.note(HistoryKind.UNLINKED, Rule.STEWARD, patient, others)
        done = {each.after.other(patient) for each in answered}
        return _Plan(
            settled=Settled(records=tuple(sorted(rest.component(patient)))),
            changes=[*changes, *work.changes, *answered, *self._apart_for_ever(work, kept, others - done)],
            concerned=kept.person.members,
            events=work.notices(),
        )

    def _apart_for_ever(self, work: Work, kept: Kept, others: frozenset[str]) -> list[ReviewChange]:
        """The answer `DIFFERENT` for each pair, so that no score links them again."""
        patient = kept.stored.patient
        asked = {review.other(patient): review for review in kept.reviews}
        changes = []
        for other in sorted(others):
            before = asked.get(other) or self._unasked(work, kept, other)
            change = self._answered(work.request, before, ReviewStatus.DIFFERENT, work.reason)
            changes.append(change if other in asked else replace(change, before=None))
        return changes

    def _unasked(self, work: Work, kept: Kept, other: str) -> Review:
        """The question about two records that nobody raised, with what the model sees today."""
        first, second = sorted((kept.stored.patient, other))
        stored = self._store.find(other)
        score = self._resolver.score(
            kept.listing.record, match_record(stored.traits) if stored else kept.listing.record
        )
        return Review(
            id=work.new_id(),
            first=first,
            second=second,
            status=ReviewStatus.OPEN,
            score=score.probability,
            grade="",
            evidence=stored_evidence(score) if stored else {},
            raised_at=work.at,
            cause="steward",
        )

    # --- merge ----------------------------------------------------------------------------------------------------

    def merge(self, request: Request, source: str, target: str, *, reason: str) -> Settled:
        """Put a record out of use in favour of another one of the same domain, as its source could (ITI-104).

        Raises Forbidden, NotFound, Conflict (contract INS-10), Unprocessable for records of two domains or a loop.
        """
        return self._decided(request, lambda: self._plan_merge(request, source, target, reason))

    def _plan_merge(self, request: Request, source: str, target: str, reason: str) -> _Plan:
        _only_stewards(request)
        work = Work(request, source, reason=_checked(reason))
        first, second = self._both(source, target)
        if first.member.replaced_by:
            raise Conflict("the record was replaced already")
        own = first.stored.traits.identifiers
        domains = {system for system, _ in own} - national_systems()
        others = [each for each in second.stored.traits.identifiers if each not in own]
        shared = next((each for each in others if each[0] in domains), None)
        if shared is None:
            raise Unprocessable("the records are of two sources: link them", code="business-rule")
        draft = self._store.draft(first.stored).merged_into(shared, target)
        plan = self._registrar.plan_revision(work, draft, first, survivor=target)
        concerned = {*first.person.members, *plan.person.members}
        return _Plan(
            settled=Settled(records=plan.person.members), changes=plan.changes, concerned=concerned, events=plan.events
        )

    def unmerge(self, request: Request, patient: str, *, reason: str) -> Settled:
        """Put a record that was replaced back in use, as it was before. Raises Forbidden, NotFound, Conflict."""
        return self._decided(request, lambda: self._plan_unmerge(request, patient, reason))

    def _plan_unmerge(self, request: Request, patient: str, reason: str) -> _Plan:
        _only_stewards(request)
        work = Work(request, patient, reason=_checked(reason))
        kept = self._kept(patient)
        if not kept.member.replaced_by:
            raise Conflict("the record was not replaced")
        draft = self._store.draft(self._before_merge(kept.stored))
        plan = self._registrar.plan_revision(work, draft, kept, survivor=None)
        return _Plan(
            settled=Settled(records=plan.person.members),
            changes=[*plan.changes, *self._asked_again(kept, plan.person)],
            concerned=kept.person.members,
            events=plan.events,
        )

    def _asked_again(self, kept: Kept, person: Person) -> Iterable[ReviewChange]:
        """The questions that the merge had closed, about records that are in use and of other persons."""
        patient = kept.stored.patient
        for review in kept.reviews:
            other = review.other(patient)
            if review.status is not ReviewStatus.MOOT or other in person.members:
                continue
            found = self._index.find_person(other)
            if found is not None and found.member(other).is_in_use:
                yield ReviewChange(before=review, after=replace(review, status=ReviewStatus.OPEN))

    def _before_merge(self, stored: StoredPatient) -> StoredPatient:
        for version in range(stored.version - 1, 0, -1):
            found = self._store.find_version(stored.patient, version)
            if found is not None and found.traits.replaced_by is None:
                return found
        raise Conflict("the record never was in use")

    # --- shared ---------------------------------------------------------------------------------------------------

    def _joined(
        self,
        work: Work,
        kept: tuple[Kept, Kept],
        rule: Rule,
        answered: Sequence[ReviewChange],
        *,
        but: Review | None = None,
    ) -> _Plan:
        first, second = kept
        records = (first.stored.patient, second.stored.patient)
        if first.person.key == second.person.key:
            return _unlinked(answered, *records)
        if not (first.member.is_in_use and second.member.is_in_use):
            raise Conflict("one of the records is not in use")
        people = {each.person.key: each.person for each in kept}
        graph = LinkGraph.of(people.values())
        seen = but.evidence if but else None
        graph = work.linked(graph, records[1], rule, evidence=seen)
        changes = self._registrar.changes(graph, people)
        members = tuple(sorted(graph.component(records[0])))
        done = {each.after.id for each in answered}
        work.settle([each for each in self._between(members) if each.id not in done])
        return _Plan(
            settled=Settled(records=members),
            changes=[*changes, *work.changes, *answered],
            concerned=members,
            events=work.notices(),
        )

    def _between(self, members: Sequence[str]) -> Iterable[Review]:
        """The questions about pairs of these records."""
        asked = self._in_parallel(*(partial(self._reviews.reviews_of, each) for each in members))
        of_pairs = (review for each in asked for review in each if review.first != review.second)
        return {each.id: each for each in of_pairs if {each.first, each.second} <= set(members)}.values()

    def _kept(self, patient: str) -> Kept:
        kept = self._registrar.find(patient) if PATIENT_KEY.fullmatch(patient) else None
        if kept is None:
            raise NotFound()
        return kept

    def _both(self, first: str, second: str) -> tuple[Kept, Kept]:
        if first == second:
            raise Unprocessable("two different records are needed", code="business-rule")
        return self._kept(first), self._kept(second)

    def _decided(self, request: Request, make: Callable[[], _Plan]) -> Settled:
        return once(self._journal, request, lambda: self._commit(request, make), _restored)

    def _commit(self, request: Request, make: Callable[[], _Plan]) -> Settled:
        for attempt in range(_RACES):
            plan = make()
            settled = plan.settled
            kept = {"records": list(settled.records), "is_changed": settled.is_changed}
            concerned = sorted(plan.concerned)
            touched = Touched.of(concerned, [f"Patient/{each}" for each in concerned])
            announced = [Announcement(id=new_ulid(request.at), events=tuple(plan.events))] if plan.events else []
            try:
                self._journal.commit([*plan.changes, *announced, *account_of(request, touched, kept)])
            except Stale:
                if attempt == _RACES - 1:
                    raise
                self._pause(attempt)
            else:
                return settled
        raise AssertionError("unreachable")


def _unlinked(answered: Sequence[ReviewChange], *records: str) -> _Plan:
    """An answer that leaves the links as they are."""
    return _Plan(settled=Settled(records=(), is_changed=False), changes=answered, concerned=set(records))


def _restored(kept: Mapping[str, Any]) -> Settled:
    return Settled(records=tuple(kept["records"]), is_changed=kept["is_changed"])


def _only_stewards(request: Request) -> None:
    if request.caller.role != Role.IDENTITY_STEWARD:
        raise Forbidden("only identity stewards decide on links")


def _checked(reason: str) -> str:
    if not reason.strip() or len(reason) > MAX_REASON_CHARACTERS:
        raise Unprocessable(
            f"a decision needs a reason of at most {MAX_REASON_CHARACTERS} characters",
            code="value" if reason.strip() else "required",
            expression="Parameters.parameter",
        )
    return reason.strip()


def _refuse_same_national(kept: Kept, others: frozenset[str]) -> None:
    sides = (others, set(kept.person.members) - others)
    here, there = ({kept.person.member(each).qualified for each in side} - {None} for side in sides)
    if here & there:
        raise Conflict("the records carry the same qualified national identifier", code="business-rule")
