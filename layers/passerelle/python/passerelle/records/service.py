"""The clinical record of a person: read, create, update, patch, delete; for those who may see it.

A person's record is the union of the collections of its source records. What a caller may not see does not exist:
the gate is asked before anything is read out, and refusals look like absence (law 4).

Every command is planned, then committed: a Plan is what would change, so that a transaction commits many as one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zlib import crc32

from passerelle.access import Request, Touched
from passerelle.audit.commands import account_of, once
from passerelle.consents.visibility import Restriction
from passerelle.errors import Conflict, Gone, NotFound, Stale, Unprocessable
from passerelle.events import Event, EventName
from passerelle.identifiers import Blinder, is_made_here, new_resource_id, new_ulid
from passerelle.journal import Announcement, Change, Journal
from passerelle.patients.model import Person, PersonChange
from passerelle.records.concealment import PRODUCED, PRODUCER
from passerelle.records.effects import Effects, with_policies
from passerelle.records.gate import Gate, Sight
from passerelle.records.model import (
    Condition,
    Draft,
    Guard,
    Overtaken,
    RecordVersion,
    ResourceKey,
    StoredVersion,
    Subject,
    Succession,
)
from passerelle.records.ports import RecordStore, Scan
from passerelle.records.search import Entry, TokenIs, matches
from passerelle.records.searching import RecordSearch

_GUARDS = 16  # names that the conditions on a person's record share
_RACES = 32  # attempts of a command that others overtake: some seconds
_UNKNOWN = "the resource speaks of a document that is not known"
Revise = Callable[[StoredVersion], Draft | None]  # None: nothing is to change
Following = Callable[[Request, Sequence[RecordVersion]], Sequence[Change]]
"""What is committed beside versions because of what they are: for a capability that looks at them later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A version that a command made, or (`is_unchanged`) found as it should be.

    `body` is not there when the command was run before, and only repeated.
    """

    type: str
    id: str
    version: int
    at: datetime
    is_new: bool
    body: bytes | None = None
    is_unchanged: bool = False
    patient: str | None = None

    @property
    def key(self) -> ResourceKey:
        return ResourceKey(type=self.type, id=self.id, patient=self.patient)

    @property
    def reference(self) -> str:
        return f"{self.type}/{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a command is about: `current` is the version that is there, deletions included, None for a new resource.

    It is what the caller sees; `whole` is the version where it holds more. `guards` are those under which a condition
    stays true until the commit.
    """

    key: ResourceKey
    current: StoredVersion | None
    person: Person | None
    guards: tuple[Guard, ...] = ()
    whole: StoredVersion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a command would change. `version` is None where nothing does.

    `mentioned` are the documents that it speaks of and the version before did not; `person` is whose record changes.
    """

    written: Written
    version: RecordVersion | None = None
    guards: tuple[Guard, ...] = ()
    mentioned: tuple[ResourceKey, ...] = ()
    person: Person | None = None

    @property
    def changes(self) -> tuple[Change, ...]:
        return (*((self.version,) if self.version else ()), *self.guards)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A condition in the record of `person`; None: on what is shared, or on nobody who is known."""

    condition: Condition
    person: Person | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a condition found: `hits` as the search did, `found` the version of the only one, as the caller sees it."""

    person: Person | None
    guards: tuple[Guard, ...] = ()
    hits: tuple[ResourceKey, ...] = ()
    found: Target | None = None

    @property
    def target(self) -> Target | None:
        """The one resource, if there is one; raises Stale for several, Overtaken for one that went meanwhile."""
        if len(self.hits) > 1:
            raise Stale("several resources match", code="multiple-matches")
        if self.hits and self.found is None:
            raise Overtaken()
        return self.found


class RecordService:
    """`in_parallel` runs independent reads at once and returns their results in order.

    `pause` waits before another attempt, the longer the more (from 0) were in vain.
    """

    def __init__(
        self,
        *,
        store: RecordStore,
        gate: Gate,
        search: RecordSearch,
        journal: Journal,
        blinder: Blinder,
        succession: Succession,
        effects: Effects,
        in_parallel: Callable[..., tuple[Any, ...]],
        pause: Callable[[int], None],
        following: Following = lambda _, __: (),
    ) -> None:
        self._following = following
        self._store = store
        self._gate = gate
        self._search = search
        self._journal = journal
        self._blinder = blinder
        self._succession = succession
        self._effects = effects
        self._in_parallel = in_parallel
        self._pause = pause

    # --- reading --------------------------------------------------------------------------------------------------

    def read(self, request: Request, type: str, id: str, *, absent: str = "") -> StoredVersion:
        """The current version; raises NotFound (with the text `absent`, if given), or Gone if it is deleted."""
        found, _ = self._find(request, self._key(type, id))
        if found is None:
            raise NotFound(absent)
        if found.body is None:
            raise Gone()
        return found

    def exists(self, request: Request, type: str, id: str) -> bool:
        """Whether there is such a resource for the caller."""
        found, _ = self._find(request, self._key(type, id))
        return found is not None and found.body is not None

    def claimed(self, type: str, token: str) -> str | None:
        """The id that a blinded identifier belongs to, whoever may see it: ask for the resource before telling."""
        return self._store.find_claim(type, token)

    def read_version(self, request: Request, type: str, id: str, version: int) -> StoredVersion:
        """One version; raises NotFound, or Gone if that version is a deletion."""
        key = self._key(type, id)
        found, _ = self._find(request, key, lambda key: self._store.find_version(key, version))
        if found is None:
            raise NotFound()
        if found.body is None:
            raise Gone()
        return found

    def _key(self, type: str, id: str) -> ResourceKey | None:
        return ResourceKey.of(type, id) or self._store.find_key(type, id)

    def _find(
        self,
        request: Request,
        key: ResourceKey | None,
        fetch: Callable[[ResourceKey], StoredVersion | None] | None = None,
    ) -> tuple[StoredVersion | None, Person | None]:
        """A version, by default the current one, if it exists for this caller, and the person whose record it is in."""
        target = self._target(request, key, fetch or self._store.find_latest)
        return (target.current, target.person) if target else (None, None)

    def _target(
        self, request: Request, key: ResourceKey | None, fetch: Callable[[ResourceKey], StoredVersion | None]
    ) -> Target | None:
        """A version as it exists for this caller, and the whole of it where that is more."""
        if key is None:
            return None
        if key.patient is None:
            found = fetch(key)
            return Target(key=found.key, current=found, person=None) if found else None
        sight, found = self._gate.glance(request, key.patient, lambda: fetch(key))
        shown = self._gate.shown(sight, found) if sight is not None and found is not None else None
        if sight is None or found is None or shown is None:
            return None
        return Target(key=found.key, current=shown, person=sight.person, whole=_whole(found, shown))

    def written_body(self, request: Request, written: Written) -> bytes | None:
        """The version that a command just made, as far as it is there for the caller."""
        if written.body is not None:
            return written.body
        found, _ = self._find(request, written.key, lambda key: self._store.find_version(key, written.version))
        return found.body if found else None

    def bodies(self, request: Request, versions: Sequence[tuple[ResourceKey, int]]) -> dict[ResourceKey, bytes]:
        """Versions that a command just made or found, as far as they are there for the caller."""
        stored = self._store.versions(versions)
        sights = {
            patient: self._gate.sight(request, patient) for patient in {key.patient for key, _ in stored} if patient
        }
        found: dict[ResourceKey, bytes] = {}
        for (key, _), version in stored.items():
            sight = sights.get(key.patient or "")
            shown = version if key.patient is None else sight.hidden.version(version) if sight else None
            if shown is not None and shown.body is not None:
                found[key] = shown.body
        return found

    # --- commands -------------------------------------------------------------------------------------------------

    def create(self, request: Request, draft: Draft, *, condition: Condition | None = None) -> Written:
        """Store a new resource in the record of its subject; with a condition, only if it finds none.

        Raises Unprocessable if that person is unknown, Stale (`multiple-matches`) if the condition finds several.
        """
        return self._run(request, lambda: self.plan_create(request, draft, self.new(request, draft, condition)))

    def update(self, request: Request, draft: Draft, id: str, *, if_match: int | None) -> Written:
        """Store the next version of a resource, or the first under an id that the client chose.

        Raises NotFound, Stale when `if_match` is not the current version or another update came first, Unprocessable
        when the resource would move to another person.
        """
        return self._run(
            request,
            lambda: self.plan_update(request, draft, self.named(request, draft, id), if_match=if_match),
            attempts=1,
        )

    def update_where(self, request: Request, draft: Draft, condition: Condition, *, if_match: int | None) -> Written:
        """Store the next version of the resource that a condition finds, or a new one; raises Stale for several."""
        return self._run(
            request,
            lambda: self.plan_update(request, draft, self.new(request, draft, condition), if_match=if_match),
        )

    def patch(
        self,
        request: Request,
        type: str,
        id: str,
        revise: Revise,
        *,
        if_match: int | None,
        along: Callable[[Plan], Sequence[Plan]] = lambda _: (),
    ) -> Written:
        """Store what `revise` makes of the current version; without `if_match`, of whichever is current.

        `along` says what follows from it for other resources of the person: it is part of the same commit.
        """
        return self._run(
            request,
            lambda: self.plan_patch(request, self.existing(request, type, id), revise, if_match=if_match),
            attempts=_RACES if if_match is None else 1,
            along=along,
        )

    def patch_where(
        self, request: Request, type: str, condition: Condition, revise: Revise, *, if_match: int | None
    ) -> Written:
        """The same for the one resource that a condition finds; raises NotFound for none, Stale for several."""
        return self._run(
            request,
            lambda: self.plan_patch(request, self.matching(request, type, condition), revise, if_match=if_match),
        )

    def delete(self, request: Request, type: str, id: str, *, if_match: int | None) -> Written:
        """Mark a resource deleted: reads answer Gone, searches do not find it, its versions remain.

        Deleted again, it stays as it is.
        """
        return self._run(
            request,
            lambda: self.plan_delete(request, self.existing(request, type, id), if_match=if_match),
            attempts=1,
        )

    def delete_where(self, request: Request, type: str, condition: Condition, *, if_match: int | None) -> Written:
        """The same for the one resource that a condition finds; raises NotFound for none, Stale for several."""
        return self._run(
            request,
            lambda: self.plan_delete(request, self.matching(request, type, condition), if_match=if_match),
        )

    def _run(
        self,
        request: Request,
        plan: Callable[[], Plan],
        *,
        attempts: int = _RACES,
        along: Callable[[Plan], Sequence[Plan]] = lambda _: (),
    ) -> Written:
        return once(self._journal, request, lambda: self._attempt(request, plan, attempts, along), _restored)

    def _attempt(
        self, request: Request, plan: Callable[[], Plan], attempts: int, along: Callable[[Plan], Sequence[Plan]]
    ) -> Written:
        """Plan and commit; again when others came between, as long as the command does not name a version.

        Even then where it changes the policy of the person, or more than it names: others change that, too.
        """
        attempt = 0
        while True:
            is_last = attempt >= attempts - 1
            try:
                planned = plan()
            except Overtaken:
                if is_last:
                    raise
                attempt += 1
                continue
            others = along(planned)
            changes = self.with_policies(request, [planned, *others])
            try:
                return self._commit(request, planned, others, changes)
            except Stale:
                if is_last and not ((_has_policy(changes) or others) and attempt < _RACES):
                    raise
            self._pause(attempt)
            attempt += 1

    def _commit(self, request: Request, plan: Plan, others: Sequence[Plan], changes: Sequence[Change]) -> Written:
        written = plan.written
        self.check_mentioned(request, plan)
        plans = [plan, *others]
        patients = dict.fromkeys(each.written.patient for each in plans if each.written.patient)
        touched = Touched.of(list(patients), [each.written.reference for each in plans])
        versions = [each.version for each in plans if each.version is not None]
        account = account_of(request, touched, _kept(written))
        self._journal.commit([*changes, *self.following(request, versions), *announced(request, versions), *account])
        return written

    def following(self, request: Request, versions: Sequence[RecordVersion]) -> Sequence[Change]:
        """What else a commit of these versions has to store."""
        return self._following(request, versions)

    def with_policies(self, request: Request, plans: Sequence[Plan]) -> list[Change]:
        """The changes of plans, and what they make of the policies of whose records they change."""
        changes = [change for plan in plans for change in plan.changes]
        people = {str(plan.written.patient): plan.person for plan in plans if plan.person is not None}
        return with_policies(request, changes, people, self._effects(changes))

    # --- targets: what a command is about -------------------------------------------------------------------------

    def owner_for(self, request: Request, subject: Subject | None, *, expression: str) -> tuple[str, Person]:
        """`Gate.owner_for`, also by a resource whose id a client chose."""
        if subject is not None and subject.resource is not None:
            key = self._store.find_key(*subject.resource)
            subject = Subject(key=key.patient if key else None)
        return self._gate.owner_for(request, subject, expression=expression)

    def check_owner(self, request: Request, person: Person, *, expression: str) -> None:
        """`Gate.check_owner`."""
        self._gate.check_owner(request, person, expression=expression)

    def new(
        self,
        request: Request,
        draft: Draft,
        condition: Condition | None = None,
        *,
        owner: tuple[str, Person] | None = None,
        looked: Looked | None = None,
    ) -> Target:
        """Where a new resource goes, or the one that the condition finds instead.

        `owner` and what the condition `looked` up may be known already.
        """
        if owner is None and not draft.is_shared:
            owner = self.owner_for(request, draft.subject, expression=draft.subject_path)
        patient, person = owner or (None, None)
        if condition is not None:
            (looked,) = self.look(request, [self.ask(request, condition, person)])
        if looked is not None and (target := looked.target) is not None:
            return target
        key = ResourceKey(type=draft.type, id=new_resource_id(patient, request.at), patient=patient)
        return Target(key=key, current=None, person=person, guards=looked.guards if looked else ())

    def named(self, request: Request, draft: Draft, id: str, *, owner: tuple[str, Person] | None = None) -> Target:
        """What a PUT on an id is about; a client may choose one that does not look like the exchange's own."""
        key = self._key(draft.type, id)
        found = self._target(request, key, self._store.find_latest)
        if found is not None:
            return found
        is_ours = ResourceKey.of(draft.type, id) is not None or is_made_here(id)
        if is_ours or (key is not None and key.patient is not None):
            raise NotFound()
        if owner is None and not draft.is_shared:
            owner = self.owner_for(request, draft.subject, expression=draft.subject_path)
        patient, person = owner or (None, None)
        return Target(key=ResourceKey(type=draft.type, id=id, patient=patient), current=None, person=person)

    def existing(self, request: Request, type: str, id: str) -> Target:
        """A resource by its id; raises NotFound."""
        target = self._target(request, self._key(type, id), self._store.find_latest)
        if target is None:
            raise NotFound()
        return target

    def matching(self, request: Request, type: str, condition: Condition) -> Target:
        """The one resource that a condition finds; raises NotFound for none, Stale for several."""
        (looked,) = self.look(request, [self.ask(request, condition, None)])
        if (target := looked.target) is None:
            raise NotFound()
        return target

    # --- plans: what a command would change -----------------------------------------------------------------------

    def plan_create(self, request: Request, draft: Draft, target: Target) -> Plan:
        if target.current is not None:
            return Plan(written=_unchanged(target.current))
        return self._planned(request, draft, target)

    def plan_update(self, request: Request, draft: Draft, target: Target, *, if_match: int | None) -> Plan:
        _check_writable(target, if_match)
        person = target.person
        if target.current is None:
            return self._planned(request, draft, target)
        if person is None and not draft.is_shared:
            raise Unprocessable("a resource cannot move to a record", expression=draft.subject_path)
        if person is not None and (draft.subject is None or draft.subject.key not in person.members):
            patient, owner = self.owner_for(request, draft.subject, expression=draft.subject_path)
            if owner.key != person.key:
                raise Unprocessable("a resource cannot move to another person", expression=draft.subject_path)
            draft = draft.resolved({}, subject=patient)
        return self._planned(request, draft, target)

    def plan_patch(self, request: Request, target: Target, revise: Revise, *, if_match: int | None) -> Plan:
        if target.current is None or target.current.body is None:
            raise Gone()
        _check_writable(target, if_match)
        draft = revise(target.current)
        if draft is None:
            return Plan(written=_unchanged(target.current))
        return self.plan_update(request, draft, target, if_match=if_match)

    def plan_delete(self, request: Request, target: Target, *, if_match: int | None) -> Plan:
        current = target.current
        if current is None:
            raise NotFound()
        if current.body is None:
            return Plan(written=_unchanged(current))
        _check_writable(target, if_match)
        self._succession.check(current.type, current.body, None)
        change = RecordVersion(
            key=current.key,
            version=current.version + 1,
            at=request.at,
            body=None,
            entry=None,
            previous=current.placement,
            producer=current.producer,
            restriction=current.restriction,
            was_restricted=current.restriction is not None,
        )
        return Plan(written=_written(change, is_new=False), version=change, person=target.person)

    def _planned(self, request: Request, draft: Draft, target: Target) -> Plan:
        key, current = target.key, target.current
        if current is None and key.patient is not None:
            draft = draft.resolved({}, subject=key.patient)
        shown = draft
        if target.whole is not None and target.whole.body is not None and current is not None:
            # What the caller does not see of it stays, and is not in the answer.
            draft = draft.keeping(target.whole.body, current.body or b"{}")
        version = current.version + 1 if current else 1
        producer = current.producer if current else request.caller.organisation
        change = RecordVersion(
            key=key,
            version=version,
            at=request.at,
            body=draft.body(key.id, version, request.at),
            entry=None if draft.is_withdrawn else _produced(draft.entry(key.id, version, request.at), key, producer),
            previous=current.placement if current else None,
            producer=producer if key.patient else None,
            restriction=_restriction(draft, producer),
            was_restricted=current is not None and current.restriction is not None,
        )
        written = _written(change, is_new=current is None or current.body is None)
        if shown is not draft:
            written = replace(written, body=shown.body(key.id, version, request.at))
        before = current.body if current is not None else None
        if written.body is not None:
            self._succession.check(key.type, before, written.body)
        mentioned = self._mentioned(before, written.body or b"", target.person)
        guards = (*target.guards, *self._alone(request, draft, target))
        return Plan(written=written, version=change, guards=guards, mentioned=mentioned, person=target.person)

    def _alone(self, request: Request, draft: Draft, target: Target) -> tuple[Guard, ...]:
        """What keeps the only one of a person alone until the commit; raises Conflict (`duplicate`) for a second one.

        All of the record are looked at, whatever of it the caller sees: the rule is about the person.
        """
        rivals, person = draft.rivals, target.person
        if rivals is None or person is None:
            return ()
        if any(each.since != request.at for each in person.records):  # of somebody who is new, there is nothing to see
            self._gate.may_see(request, person)  # raises: to whom the record is not open, nothing is told of it
        name = self._blinder.blind("guard", f"only {rivals.type} {person.key}")
        counts = self._store.guard_counts([name])  # before the search: who commits one after it overtakes this
        pages = self._in_parallel(
            *(lambda member=member: self._store.entries(member, rivals.type, Scan()) for member in person.members)
        )
        found = {each.key for page in pages for each in page.entries if matches(each.entry, rivals)}
        if target.key in found:
            return ()
        if found:
            raise Conflict("there is one already", code="duplicate", expression=draft.subject_path)
        return (Guard(name=name, count=counts[name]),)

    def _mentioned(self, before: bytes | None, after: bytes, person: Person | None) -> tuple[ResourceKey, ...]:
        known = self._gate.mentioned(before) if before else ()
        new = (each for each in self._gate.mentioned(after) if each not in known)
        keys = [key for each in new if (key := ResourceKey.of(*each.split("/"))) is not None]
        if person is not None and any(key.patient not in person.members for key in keys):
            raise Unprocessable(_UNKNOWN, code="not-found")
        return tuple(keys)

    def check_mentioned(self, request: Request, plan: Plan, *, beside: Collection[str] = ()) -> None:
        """Raise Unprocessable (`not-found`) unless each document that a plan brings up exists for the caller.

        Whoever writes about a document would else see whether it is hidden: what speaks of one is hidden with it.
        `beside` are ids of what is known to be there.
        """
        keys = [key for key in plan.mentioned if key.id not in beside]
        if keys and not all(self._in_parallel(*(lambda key=key: self._is_there(request, key) for key in keys))):
            raise Unprocessable(_UNKNOWN, code="not-found")

    def _is_there(self, request: Request, key: ResourceKey) -> bool:
        """The document itself, the document whose content it is, or a Binary of its own."""
        return self.exists(request, "DocumentReference", key.id) or (
            key.type == "Binary" and self.exists(request, "Binary", key.id)
        )

    # --- conditions -----------------------------------------------------------------------------------------------

    def ask(self, request: Request, condition: Condition, person: Person | None) -> Asked:
        """A condition in the record it names, else in that of `person`; raises Unprocessable where these are two."""
        if not condition.is_shared:
            person = self._asked(request, condition, person)
        return Asked(condition=condition, person=person)

    def look(
        self,
        request: Request,
        asked: Sequence[Asked],
        *,
        deleted: Collection[ResourceKey] = (),
        begun: Collection[str] = (),
    ) -> list[Looked]:
        """What conditions find, all of them looked up at once; `deleted` is as good as gone.

        Guards are read before the search: whoever commits under one of them in between makes this one be overtaken. A
        version that is found is the newest as of the search; who writes the next one learns whether it still is. In
        the record of somebody whose source records (`begun`) all begin with the same commit, there is nothing.
        """
        places: dict[str | None, list[int]] = {}
        for place, each in enumerate(asked):
            if each.person or each.condition.is_shared:  # in the record of nobody who is known, there is nothing
                places.setdefault(each.person.key if each.person else None, []).append(place)
        found: dict[int, Looked] = {}
        for of in places.values():
            person = asked[of[0]].person
            conditions = [asked[place].condition for place in of]
            is_new = person is not None and set(person.members) <= set(begun)
            found |= zip(of, self._looked(request, person, conditions, deleted, is_new=is_new), strict=True)
        return [found.get(place, Looked(person=None)) for place in range(len(asked))]

    def _looked(
        self,
        request: Request,
        person: Person | None,
        conditions: Sequence[Condition],
        deleted: Collection[ResourceKey],
        *,
        is_new: bool,
    ) -> list[Looked]:
        of = [self._guards(each, person) for each in conditions]
        names = list(dict.fromkeys(name for each in of for name in each))
        if is_new and person is not None:
            self._gate.may_see(request, person)  # raises
            return [Looked(person=person, guards=_guards(each, {})) for each in of]
        counts, sight = self._in_parallel(
            lambda: self._store.guard_counts(names),
            lambda: self._gate.over(request, person) if person else None,
        )
        hits = [
            [hit for hit in found if hit.key not in deleted]
            for found in self._search.hits_of_each([each.query for each in conditions], sight)
        ]
        stored = self._store.versions([(found[0].key, found[0].version) for found in hits if len(found) == 1])
        return [
            Looked(
                person=person,
                guards=_guards(guards, counts),
                hits=tuple(hit.key for hit in found),
                found=_seen(stored.get((found[0].key, found[0].version)), sight, person) if found else None,
            )
            for guards, found in zip(of, hits, strict=True)
        ]

    def found(self, request: Request, condition: Condition, person: Person | None) -> list[ResourceKey]:
        """What a conditional reference in the record of `person` finds: there, or among what is shared."""
        if condition.is_shared:
            return [hit.key for hit in self._search.hits(condition.query, None)]
        person = self._asked(request, condition, person)
        sight = self._gate.over(request, person) if person else None
        return [hit.key for hit in self._search.hits(condition.query, sight)] if sight else []

    def _asked(self, request: Request, condition: Condition, person: Person | None) -> Person | None:
        """In whose record a condition is asked; raises Unprocessable if it is about another person than `person`."""
        if person is not None and condition.patient in person.members:
            return person
        named = self._named(request, condition)
        if person is not None and named is not None and named.key != person.key:
            raise Unprocessable("the condition is about another person", expression=f"{condition.query.type}.subject")
        return person or named

    def _named(self, request: Request, condition: Condition) -> Person | None:
        """The person whom a condition names, if there is one for the caller."""
        patient = self._gate.patient_of(Subject(key=condition.patient, identifier=condition.patient_identifier))
        person = self._gate.find_person(patient) if patient else None
        return person if self._gate.may_see(request, person) else None

    def _guards(self, condition: Condition, person: Person | None) -> dict[str, list[str]]:
        """Who registers an identifier excludes whoever else does: by name, the identifiers asked for.

        Those of a person share a few names, because a message may have hundreds, and a commit has a hundred actions.
        """
        query = condition.query
        identifiers = sorted(
            f"{token.system}|{token.code}"
            for criterion in query.criteria
            if criterion.name == "identifier" and not criterion.modifier
            for token in criterion.alternatives
            if isinstance(token, TokenIs)
        )
        about = f"{query.type} {person.key if person else ''}"
        of: dict[str, list[str]] = {}
        for each in identifiers or [repr(query.criteria)]:
            shared = crc32(each.encode()) % _GUARDS if person else each
            named = (self._blinder.blind("guard", f"{about} {text}") for text in (shared, each))
            of.setdefault(next(named), []).append(next(named))
        return of


def _guards(of: Mapping[str, Sequence[str]], counts: Mapping[str, int]) -> tuple[Guard, ...]:
    return tuple(Guard(name=name, count=counts.get(name, 0), of=tuple(each)) for name, each in of.items())


def _seen(found: StoredVersion | None, sight: Sight | None, person: Person | None) -> Target | None:
    """A version as the caller sees it, if there is anything of it."""
    shown = sight.hidden.version(found) if sight and found else found
    return Target(key=shown.key, current=shown, person=person, whole=_whole(found, shown)) if shown else None


def _has_policy(changes: Sequence[Change]) -> bool:
    return any(isinstance(change, PersonChange) for change in changes)


def _whole(found: StoredVersion | None, shown: StoredVersion) -> StoredVersion | None:
    return found if found is not None and found.body != shown.body else None


def _restriction(draft: Draft, producer: str | None) -> Restriction | None:
    if not (draft.labels or draft.is_withdrawn):
        return None
    return Restriction(labels=draft.labels, producer=producer, is_withdrawn=draft.is_withdrawn)


def _produced(entry: Entry, key: ResourceKey, producer: str | None) -> Entry:
    """Documents are also found by who published them."""
    if key.type not in PRODUCED or producer is None:
        return entry
    return replace(entry, values={**entry.values, PRODUCER: (f"|{producer}",)})


def _check_writable(target: Target, if_match: int | None) -> None:
    current = target.current
    if if_match is not None and if_match != (current.version if current else 0):
        raise Stale()
    if current is not None and current.is_managed:
        raise Unprocessable("the resource changes through its own operations only", code="business-rule")


def announced(request: Request, changes: Sequence[RecordVersion]) -> list[Announcement]:
    """One announcement per patient of these changes, and one for the shared resources."""
    by_patient: dict[str | None, list[Event]] = {}
    for change in changes:
        key = change.key
        name = EventName.DOCUMENT_CHANGED if key.type == "DocumentReference" else EventName.RECORD_CHANGED
        event = Event(
            name=name,
            reference=key.reference,
            version=change.version,
            at=request.at,
            author=request.caller.client_id,
            patient=key.patient,
        )
        by_patient.setdefault(key.patient, []).append(event)
    return [Announcement(id=new_ulid(request.at), events=tuple(events)) for events in by_patient.values()]


def _written(change: RecordVersion, *, is_new: bool) -> Written:
    key = change.key
    return Written(
        type=key.type,
        id=key.id,
        version=change.version,
        at=change.at,
        is_new=is_new,
        body=change.body,
        patient=key.patient,
    )


def _unchanged(found: StoredVersion) -> Written:
    return Written(
        type=found.type,
        id=found.id,
        version=found.version,
        at=found.at,
        is_new=False,
        body=found.body,
        is_unchanged=True,
        patient=found.key.patient,
    )


def _kept(written: Written) -> Mapping[str, Any]:
    return {
        "type": written.type,
        "id": written.id,
        "version": written.version,
        "at": written.at.isoformat(),
        "is_new": written.is_new,
        "is_unchanged": written.is_unchanged,
        "patient": written.patient,
    }


def _restored(kept: Mapping[str, Any]) -> Written:
    return Written(**{**kept, "at": datetime.fromisoformat(kept["at"])})
