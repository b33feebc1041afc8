"""What a registration changes: the source record, how it is found, whom it is linked to, and what stewards are asked.

A record that was never seen, or whose traits changed, is looked up among all others before it is stored, and linked in
the same commit: by the same qualified national identifier, or by a score beyond doubt. What may be the same person and
is not certain becomes a review. A commit is Stale if another one entered a block that was looked into, so that two
registrations of one newcomer end as one person or as one review, never silently as two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, cast

from passerelle.access import Request
from passerelle.consents.model import Policy, RecordStatus
from passerelle.errors import Fault, Gone, Unprocessable, Unsupported
from passerelle.events import Event, EventName
from passerelle.identifiers import new_patient_key, new_ulid
from passerelle.journal import Change
from passerelle.matching.blocking import Block, blocks_of, blocks_to_search
from passerelle.matching.decision import Grade
from passerelle.matching.record import MatchRecord
from passerelle.matching.scoring import Score
from passerelle.patients.identity import match_record
from passerelle.patients.links import LinkGraph, link_between, person_after
from passerelle.patients.model import (
    Blocked,
    Caution,
    HistoryKind,
    Identifier,
    IdentityEvent,
    Listing,
    Member,
    Person,
    PersonChange,
    Place,
    Review,
    ReviewChange,
    ReviewStatus,
    Rule,
    SourceRecordChange,
    StoredPatient,
    Traits,
)
from passerelle.patients.ports import PatientDraft, PatientIndex, PatientStore, Reviews
from passerelle.patients.resolution import LookUp, Resolver, stored_evidence

_ASKED = 5  # reviews that one registration raises, the likeliest first
_CONTRADICTIONS = 2  # strict traits that differ under one national identifier, and make a steward look
_RECORDED = 5  # records of a person that the history of a link is kept with, beside the record that was linked


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """Outcome of a registration."""

    patient: str
    version: int
    is_new: bool
    is_changed: bool = True
    at: datetime | None = None  # of the version; not kept for repetitions


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a registration would change, to be committed alone or with the rest of a transaction.

    `listed` is how the record will be found, for whoever is registered in the same commit.
    """

    registered: Registered
    person: Person
    changes: tuple[Change, ...]
    events: tuple[Event, ...]
    stored: StoredPatient | None = None  # as it will be; None once it is removed
    listed: Listing | None = None
    looked_into: tuple[Place, ...] = ()

    @property
    def entered(self) -> tuple[tuple[Place, ...], Blocked] | None:
        """The block slots that nobody else may take in the same commit, and who is found there."""
        if self.listed is None:
            return None
        listed = Blocked(patient=self.registered.patient, record=self.listed.record)
        return (*self.listed.places, *self.looked_into), listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """All that is stored about a source record."""

    stored: StoredPatient
    person: Person
    places: tuple[Place, ...]
    reviews: tuple[Review, ...]

    @property
    def member(self) -> Member:
        return self.person.member(self.stored.patient)

    @property
    def listing(self) -> Listing:
        traits = self.stored.traits
        return Listing(traits=traits, record=match_record(traits), places=self.places)


class Registrar:
    def __init__(
        self,
        *,
        index: PatientIndex,
        reviews: Reviews,
        store: PatientStore,
        resolver: Resolver,
        in_parallel: Callable[..., tuple[Any, ...]],
    ) -> None:
        self._index = index
        self._reviews = reviews
        self._store = store
        self._resolver = resolver
        self._in_parallel = in_parallel

    def find(self, patient: str) -> Kept | None:
        """All that is stored about a source record, in one round trip; None if there is none."""
        stored, person, places, reviews = self._in_parallel(
            lambda: self._store.find(patient),
            lambda: self._index.find_person(patient),
            lambda: tuple(self._index.find_places(patient)),
            lambda: tuple(self._reviews.reviews_of(patient)),
        )
        if stored is None or person is None:
            return None
        return Kept(stored=stored, person=person, places=places, reviews=reviews)

    # --- registration ---------------------------------------------------------------------------------------------

    def plan(
        self,
        request: Request,
        draft: PatientDraft,
        *,
        kept: Kept | None,
        claims: Identifier | None,
        beside: Sequence[Plan] = (),
    ) -> Plan:
        """Work out a version of a source record; `claims` is the domain identifier that a new one is registered under.

        `beside` are the registrations of the same commit that were planned before. Raises Conflict where two qualified
        national identifiers would meet, Unprocessable for a survivor that cannot be one, Unsupported for a record that
        was replaced and would be in use again: only a steward undoes that.
        """
        patient = kept.stored.patient if kept else new_patient_key()
        if kept is not None:
            self.check_in_use(kept, draft.traits)
        survivor = self._survivor(request, draft.traits)
        if survivor is not None:
            draft = draft.merged_into(None, survivor)
            if kept is not None and draft.equals(kept.stored):
                return unchanged(kept.stored, kept.person)
        return self._planned(Work(request, patient), draft, kept, claims=claims, survivor=survivor, beside=beside)

    @staticmethod
    def check_in_use(kept: Kept, traits: Traits) -> None:
        """Raise Gone, or Unsupported for a record that was replaced, and would be in use again."""
        if kept.member.is_erased:
            raise Gone("the person was erased")
        if kept.member.replaced_by and traits.replaced_by is None:
            raise Unsupported("the record was replaced by another one; an identity steward can undo that")

    def plan_revision(self, work: Work, draft: PatientDraft, kept: Kept, *, survivor: str | None) -> Plan:
        """Work out a version of a source record that a steward replaces by another one, or puts back in use."""
        return self._planned(work, draft, kept, claims=None, survivor=survivor, beside=())

    def _planned(
        self,
        work: Work,
        draft: PatientDraft,
        kept: Kept | None,
        *,
        claims: Identifier | None,
        survivor: str | None,
        beside: Sequence[Plan],
    ) -> Plan:
        request, patient = work.request, work.patient
        member = self._member(request, patient, draft.traits, kept.member if kept else None)
        newly_named = member.qualified if kept is None or kept.member.qualified != member.qualified else None
        blocks = self._blocks(draft.traits, kept, is_replaced=survivor is not None)
        look_up = self._resolver.look_up(blocks or (), named=newly_named, beside=[plan.entered for plan in beside])
        record = match_record(draft.traits)
        places = kept.places if kept and blocks is None else look_up.places(blocks_of(record) if blocks else ())
        listing = Listing(traits=draft.traits, record=record, places=places)
        graph, people = self._linked(work, replace(member, replaced_by=survivor), listing, look_up, kept, beside)
        changes = self.changes(graph, people, fresh=member.origin if kept is None else None)
        version = kept.stored.version + 1 if kept else 1
        before = kept.stored if kept else None
        source = SourceRecordChange(
            patient=patient,
            domain_identifier=claims if kept is None else None,
            before=kept.listing if kept else None,
            after=listing,
            looked_into=tuple(place for place in look_up.places(blocks or ()) if place not in places),
            at=request.at,
        )
        stored_as = draft.version_of(patient, version, request, before)
        event = _changed(request, patient, version)
        return Plan(
            registered=Registered(patient=patient, version=version, is_new=kept is None, at=request.at),
            person=person_after(changes, patient, kept.person if kept else None),
            changes=(source, cast(Change, stored_as), *changes, *work.changes),
            events=(event, *work.notices()),
            stored=StoredPatient(
                patient=patient,
                version=version,
                at=request.at,
                body=stored_as.body or b"",
                traits=draft.traits,
                placement=None,
            ),
            listed=listing,
            looked_into=source.looked_into,
        )

    def plan_removal(self, request: Request, kept: Kept, identifier: Identifier) -> Plan:
        """Work out the end of a source record: its person keeps what was published under it."""
        patient = kept.stored.patient
        if kept.member.is_erased:
            raise Gone("the person was erased")
        member = replace(kept.member, qualified=None, identifiers=(), is_removed=True)
        graph = LinkGraph.of([kept.person]).with_record(member)
        work = Work(request, patient)
        work.note(HistoryKind.REMOVED, Rule.SOURCE, patient, graph.component(patient) - {patient})
        work.settle(kept.reviews)
        changes = self.changes(graph, {kept.person.key: kept.person})
        source = SourceRecordChange(
            patient=patient, domain_identifier=identifier, before=kept.listing, after=None, at=request.at
        )
        version = kept.stored.version + 1
        event = _changed(request, patient, version)
        return Plan(
            registered=Registered(patient=patient, version=version, is_new=False, at=request.at),
            person=person_after(changes, patient, kept.person),
            changes=(source, self._store.removal(kept.stored, request), *changes, *work.changes),
            events=(event, *work.notices()),
        )

    @staticmethod
    def _blocks(traits: Traits, kept: Kept | None, *, is_replaced: bool) -> Sequence[Block] | None:
        """The blocks to look into: none for a record that stands for nobody, None if nothing has changed for it."""
        record = match_record(traits)
        if is_replaced or Caution.FICTITIOUS in traits.cautions or not traits.is_active:
            return ()
        if kept is not None and kept.places and kept.listing.record == record:
            return None
        return blocks_to_search(record)

    def _member(self, request: Request, patient: str, traits: Traits, known: Member | None) -> Member:
        national = traits.qualified_identifier
        shared = [each for each in traits.identifiers if each != traits.national or traits.is_qualified]
        policy = policy_after(known, is_qualified=national is not None, at=request.at)
        return Member(
            patient=patient,
            origin=known.origin if known else new_patient_key(),
            since=known.since if known else request.at,
            policy=policy,
            qualified=self._index.blinded(national) if national else None,
            identifiers=tuple(shared),
            is_barred=bool(traits.cautions),
        )

    # --- links ----------------------------------------------------------------------------------------------------

    def _linked(
        self,
        work: Work,
        member: Member,
        listing: Listing,
        look_up: LookUp,
        kept: Kept | None,
        beside: Sequence[Plan],
    ) -> tuple[LinkGraph, dict[str, Person]]:
        """The links as they are once the record is stored, and the persons that they concern."""
        people = {kept.person.key: kept.person} if kept else {}
        graph = LinkGraph.of(people.values())
        if kept is not None and kept.member.qualified != member.qualified:
            graph = self._left(work, graph, member)
        graph = graph.with_record(member)
        former = kept.member.replaced_by if kept else None
        if member.replaced_by is not None:
            graph = self._replaced(work, graph, people, member, former, kept.reviews if kept else ())
        elif former is not None:
            graph = _restored(work, graph, former)
        if look_up.named is not None and member.patient not in look_up.named.members:
            graph = self._named(work, graph, people, member, look_up.named)
            self._questioned(work, listing.record, look_up, look_up.named, kept.reviews if kept else ())
        if former is not None and member.replaced_by is None:
            return graph, people  # no score links again what a steward has just undone
        if member.is_in_use and look_up.pages:
            graph = self._scored(work, graph, people, member, listing.record, look_up, kept, beside)
        if kept is not None and member.is_in_use:
            is_now_barred = member.is_barred and not kept.member.is_barred
            if look_up.pages or is_now_barred:
                self._doubted(work, graph, listing.record, kept.reviews, is_now_barred=is_now_barred)
            work.settle(_answered(kept.reviews, graph.component(member.patient), member.patient))
        return graph, {key: each for key, each in people.items() if graph.records.keys() & set(each.members)}

    def changes(
        self, graph: LinkGraph, people: Mapping[str, Person], *, fresh: str | None = None
    ) -> list[PersonChange]:
        """What has to be stored for a graph over the records of `people`. `fresh` is a person key just made."""
        absent = sorted(graph.people().keys() - people.keys() - {fresh})
        found = self._in_parallel(*(partial(self._index.find_links, key) for key in absent)) if absent else ()
        return graph.changes_from([*people.values(), *(each for each in found if each is not None)])

    def _left(self, work: Work, graph: LinkGraph, member: Member) -> LinkGraph:
        """Without the links that the former national identifier made; alone, if the new one is not the others'."""
        patient = member.patient
        before = graph.component(patient)
        rest = graph.with_record(member).without(
            lambda each: each.rule is Rule.NATIONAL_IDENTIFIER and patient in (each.first, each.second)
        )
        others = [rest.records[each].qualified for each in rest.component(patient) - {patient}]
        if member.qualified and any(other not in (None, member.qualified) for other in others):
            rest = rest.apart(patient, new_id=work.new_id, rule=Rule.NATIONAL_IDENTIFIER, at=work.at)
        rest = _kept_together(rest, before - rest.component(patient), work)
        rest = _reunited(rest, work)
        work.note(HistoryKind.UNLINKED, Rule.NATIONAL_IDENTIFIER, patient, before - rest.component(patient))
        return rest

    def _named(
        self, work: Work, graph: LinkGraph, people: dict[str, Person], member: Member, person: Person
    ) -> LinkGraph:
        """Linked to the person that the same qualified national identifier names."""
        graph = _joining(graph, people, person)
        other = next(each.patient for each in person.records if each.qualified == member.qualified)
        if other in graph.component(member.patient):
            return graph
        return work.linked(graph, other, Rule.NATIONAL_IDENTIFIER)

    def _questioned(
        self, work: Work, record: MatchRecord, look_up: LookUp, person: Person, reviews: Sequence[Review]
    ) -> None:
        """A national identifier decides; a steward looks where its traits are nobody's in the person (is it the right
        identifier?)."""
        found = look_up.records()
        same = [each.patient for each in person.records if each.patient in found]
        scores = {each: self._resolver.score(record, found[each]) for each in same}
        if not scores:
            return
        nearest = max(scores, key=lambda each: scores[each].bits)
        if len(scores[nearest].contradictions) >= _CONTRADICTIONS:
            asked = next((review for review in reviews if review.other(work.patient) == nearest), None)
            self._ask(work, nearest, scores[nearest], Grade.UNLIKELY, asked, "contradiction")

    def _scored(
        self,
        work: Work,
        graph: LinkGraph,
        people: dict[str, Person],
        member: Member,
        record: MatchRecord,
        look_up: LookUp,
        kept: Kept | None,
        beside: Sequence[Plan],
    ) -> LinkGraph:
        """Linked to the one person that it certainly is, unless it is linked already; the doubtful become reviews."""
        patient = member.patient
        asked = {review.other(patient): review for review in kept.reviews} if kept else {}
        judgement = self._resolver.judge(
            record,
            look_up.records(but=graph.component(patient)),
            qualified=member.qualified,
            is_barred=member.is_barred,
            apart_from=[other for other, review in asked.items() if review.status is ReviewStatus.DIFFERENT],
            known={each: plan.person for plan in beside for each in plan.person.members},
        )
        to_ask = list(judgement.doubtful())
        certain = judgement.certain
        if certain is not None and graph.component(patient) == {patient}:
            person = judgement.people[certain.candidate.person]
            graph = work.linked(
                _joining(graph, people, person),
                certain.candidate.record,
                Rule.SCORE,
                evidence=stored_evidence(certain.candidate.score),
            )
        elif certain is not None:
            to_ask.insert(0, certain)  # two persons of several records each: a steward joins them
        for verdict in to_ask[:_ASKED]:
            other = verdict.candidate.record
            self._ask(work, other, verdict.candidate.score, verdict.grade, asked.get(other), "score")
        return graph

    def _doubted(
        self, work: Work, graph: LinkGraph, record: MatchRecord, reviews: Sequence[Review], *, is_now_barred: bool
    ) -> None:
        """Links that the score made and would make no more: nothing is undone without a steward."""
        patient = work.patient
        asked = {review.other(patient): review for review in reviews}
        for link in graph.links:
            if link.rule is not Rule.SCORE or patient not in (link.first, link.second):
                continue
            other = link.second if patient == link.first else link.first
            stored = self._store.find(other)
            if stored is None:
                continue
            score = self._resolver.score(record, match_record(stored.traits))
            is_possible = self._resolver.is_possible(score)
            if is_now_barred or not is_possible:
                grade = Grade.PROBABLE if is_possible else Grade.UNLIKELY
                self._ask(work, other, score, grade, asked.get(other), "contradiction")

    @staticmethod
    def discrepancy(request: Request, kept: Kept, traits: Sequence[str]) -> ReviewChange | None:
        """A question about one record alone: the national service knows other traits. None if it was asked already."""
        patient = kept.stored.patient
        asked = next((review for review in kept.reviews if review.other(patient) == patient), None)
        if asked is not None and asked.status is not ReviewStatus.MOOT:
            return None
        review = Review(
            id=new_ulid(request.at),
            first=patient,
            second=patient,
            status=ReviewStatus.OPEN,
            score=0.0,
            grade="",
            evidence={"contradictions": list(traits)},
            raised_at=request.at,
            cause="discrepancy",
        )
        return ReviewChange(before=asked, after=review)

    @staticmethod
    def _ask(work: Work, other: str, score: Score, grade: Grade, asked: Review | None, cause: str) -> None:
        """Ask a steward whether two records are one person, unless that question is open, or was answered."""
        if asked is not None and asked.status is not ReviewStatus.MOOT:
            return
        first, second = sorted((work.patient, other))
        review = Review(
            id=work.new_id(),
            first=first,
            second=second,
            status=ReviewStatus.OPEN,
            score=score.probability,
            grade=grade.value,
            evidence=stored_evidence(score),
            raised_at=work.at,
            cause=cause,
        )
        work.changes.append(ReviewChange(before=asked, after=review))

    # --- a source merges its own records (ITI-104) ----------------------------------------------------------------

    def _survivor(self, request: Request, traits: Traits) -> str | None:
        """The record that replaces this one; raises Unprocessable if there is none among those of the caller, or if
        identifier and id tell two."""
        named = traits.replaced_by
        if named is None:
            return None
        owner = self._index.find_owner(*named.identifier) if named.identifier else None
        key = named.patient or owner
        stored = self._store.find(key) if key and owner in (None, key) else None
        if stored is None or all(system != request.caller.domain for system, _ in stored.traits.identifiers):
            raise _unknown_survivor()
        return key

    def _replaced(
        self,
        work: Work,
        graph: LinkGraph,
        people: dict[str, Person],
        member: Member,
        former: str | None,
        reviews: Sequence[Review],
    ) -> LinkGraph:
        """Linked to the record that replaces it, and out of use; `former` is the one that did so before."""
        survivor = str(member.replaced_by)
        person = self._index.find_person(survivor)
        if person is None:
            raise Fault()
        if person.member(survivor).is_removed:  # since it was read: two cannot be read at once
            raise _unknown_survivor()
        graph = _joining(graph, people, person).with_record(member)
        _refuse_loop(graph, member.patient)
        if any(each.rule is Rule.SOURCE and each.joins(member.patient, survivor) for each in graph.links):
            return graph
        if former is not None:
            graph = graph.without(lambda each: each.rule is Rule.SOURCE and each.joins(member.patient, former))
        work.settle(reviews)
        return work.linked(graph, survivor, Rule.SOURCE, kind=HistoryKind.MERGED)


def policy_after(known: Member | None, *, is_qualified: bool, at: datetime) -> Policy:
    """What holds for a record that is registered: open for a qualified identity, unless the person decided otherwise.

    Since 2022 a national record is opened for everybody who does not oppose it.
    """
    policy = known.policy if known else None
    status = RecordStatus.OPEN if is_qualified else RecordStatus.ABSENT
    if policy is None:
        return Policy(status=status, since=at)
    if policy.status in (status, RecordStatus.CLOSED, RecordStatus.OPPOSED):
        return policy
    return replace(policy, status=status, since=at)


def _unknown_survivor() -> Unprocessable:
    return Unprocessable("the surviving record is not known", code="not-found", expression="Patient.link[0].other")


def unchanged(stored: StoredPatient, person: Person) -> Plan:
    """The plan of a registration that says what is stored already."""
    registered = Registered(
        patient=stored.patient, version=stored.version, is_new=False, is_changed=False, at=stored.at
    )
    return Plan(registered=registered, person=person, changes=(), events=(), stored=stored)


def _changed(request: Request, patient: str, version: int) -> Event:
    return Event(
        name=EventName.IDENTITY_CHANGED,
        reference=f"Patient/{patient}",
        version=version,
        at=request.at,
        author=request.caller.client_id,
        patient=patient,
    )


def _answered(reviews: Sequence[Review], linked: Set[str], patient: str) -> list[Review]:
    """The questions whether a record is one person with those that it is linked to by now."""
    return [review for review in reviews if review.cause == "score" and review.other(patient) in linked]


def _restored(work: Work, graph: LinkGraph, former: str) -> LinkGraph:
    """The graph without the link to the record that had replaced this one."""
    before = graph.component(work.patient)
    graph = graph.without(lambda each: each.rule is Rule.SOURCE and each.joins(work.patient, former))
    graph = _reunited(graph, work)
    work.note(HistoryKind.UNMERGED, Rule.STEWARD, work.patient, (before - graph.component(work.patient)) | {former})
    return graph


def _refuse_loop(graph: LinkGraph, patient: str) -> None:
    """Raise Unprocessable if a record is replaced by itself, over others or not."""
    current = graph.records[patient].replaced_by
    while current is not None:
        if current == patient:
            raise Unprocessable(
                "a record is not replaced by itself", code="business-rule", expression="Patient.link[0].other"
            )
        current = graph.records[current].replaced_by if current in graph.records else None


class Work:
    """What one command adds to the history and to the worklist, and whom it tells."""

    def __init__(self, request: Request, patient: str, *, reason: str = "") -> None:
        self.request = request
        self.patient = patient
        self.at = request.at
        self.reason = reason
        self.changes: list[Change] = []
        self._told: set[str] = set()

    def new_id(self) -> str:
        return new_ulid(self.at)

    def linked(
        self,
        graph: LinkGraph,
        other: str,
        rule: Rule,
        *,
        kind: HistoryKind = HistoryKind.LINKED,
        evidence: Mapping[str, Any] | None = None,
    ) -> LinkGraph:
        """The graph with the record linked to another one, unless they are one person already and stay so."""
        joined = graph.component(other) - graph.component(self.patient)
        link = link_between(self.patient, other, id=self.new_id(), rule=rule, at=self.at)
        self.note(kind, rule, self.patient, joined or {other}, evidence=evidence)
        return graph.linked(link)

    def note(
        self,
        kind: HistoryKind,
        rule: Rule,
        patient: str,
        others: frozenset[str] | set[str],
        *,
        evidence: Mapping[str, Any] | None = None,
    ) -> None:
        """Record what happened in the history of the record and of those it meets or leaves, and tell their sources.

        Of a person of many records the first few keep it: the whole of it has to fit the commit.
        """
        if not others:
            return
        caller = self.request.caller
        self._told |= {patient, *others}
        for each in [patient, *sorted(others)[:_RECORDED]]:
            self.changes.append(
                IdentityEvent(
                    id=self.new_id(),
                    patient=each,
                    kind=kind,
                    rule=rule,
                    at=self.at,
                    by=caller.client_id,
                    professional=caller.professional,
                    with_records=tuple(sorted(others)) if each == patient else (patient,),
                    reason=self.reason,
                    evidence=evidence or {},
                )
            )

    def settle(self, reviews: Sequence[Review]) -> None:
        """Close the questions that are open: the records concerned are one by now, or one is out of use."""
        for review in reviews:
            if review.status in (ReviewStatus.OPEN, ReviewStatus.LATER):
                self.changes.append(ReviewChange(before=review, after=replace(review, status=ReviewStatus.MOOT)))

    def notices(self) -> tuple[Event, ...]:
        """One event for each record whose person changed."""
        return tuple(
            Event(
                name=EventName.LINKS_CHANGED,
                reference=f"Patient/{patient}",
                version=1,
                at=self.at,
                author=self.request.caller.client_id,
                patient=patient,
                occurrence=self.new_id(),
            )
            for patient in sorted(self._told)
        )


def _joining(graph: LinkGraph, people: dict[str, Person], person: Person) -> LinkGraph:
    """The graph with a person's records and links, unless it holds them already: with what was cut meanwhile.

    A person who was read before, and changed since, stays in `people` as it was: the commit is Stale then.
    """
    known = people.setdefault(person.key, person)
    if known is not person and known.revision == person.revision:
        return graph
    return graph.joining(person)


def _reunited(graph: LinkGraph, work: Work) -> LinkGraph:
    """The graph with the bearers of one national identifier linked: those that another link had held together."""
    bearers: dict[str, str] = {}
    for patient, member in sorted(graph.records.items()):
        first = bearers.setdefault(member.qualified, patient) if member.qualified else patient
        if patient not in graph.component(first):
            link = link_between(first, patient, id=work.new_id(), rule=Rule.NATIONAL_IDENTIFIER, at=work.at)
            graph = graph.linked(link)
    return graph


def _kept_together(graph: LinkGraph, others: frozenset[str], work: Work) -> LinkGraph:
    """The graph with these records, which were one person, still one."""
    first, *rest = sorted(others) or [""]
    for other in rest:
        if other not in graph.component(first):
            link = link_between(first, other, id=work.new_id(), rule=Rule.NATIONAL_IDENTIFIER, at=work.at)
            graph = graph.linked(link)
    return graph
