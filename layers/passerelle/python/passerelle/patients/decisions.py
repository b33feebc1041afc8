"""How a decision about a person's record is made, whichever it is: the one commit that all of them share.

A decision is about the person: it is kept with every source record, so that it outlives links that are made or taken
back. Policy, the history of who decided, audit and event are one commit; who comes second to the same person decides
anew on what the first left (data-model.md section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from passerelle.access import Caller, Request, Touched
from passerelle.audit.commands import account_of
from passerelle.consents.control import Capacity, capacity_of
from passerelle.consents.decision import Admission, Standing
from passerelle.consents.model import Policy, RecordStatus
from passerelle.directory.model import Role
from passerelle.errors import AccessRefused, Forbidden, Gone, NotFound, Stale
from passerelle.events import Event, EventName
from passerelle.identifiers import PATIENT_KEY, new_ulid
from passerelle.journal import Announcement, Change, Journal
from passerelle.patients.model import DecisionKind, Person, PersonChange, RecordDecision
from passerelle.patients.ports import PatientIndex
from passerelle.patients.registration import policy_after

_RACES = 5


class Admissions(Protocol):
    """The gate of the record, as far as it knows who somebody is to a person."""

    def admission(self, caller: Caller, person: Person, at: datetime) -> tuple[Admission, Standing]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What is kept of a decision for ever; the names are those of `RecordDecision`. Without an `id` one is made."""

    kind: DecisionKind
    id: str | None = None
    motive: str | None = None
    reason: str = ""
    physician: str | None = None
    is_consented: bool = False
    party: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What one command decides: the policy of a source record after it, what is kept, and who is told.

    `beside` is stored with it. The event is about every source record of
    the person, or (`is_told_once`) about the one that was named.
    """

    follows: Callable[[Policy], Policy]
    statements: tuple[Statement, ...]
    event: EventName = EventName.ACCESS_CHANGED
    is_told_once: bool = False
    beside: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """`decisions` are those kept with the source record that was named."""

    policy: Policy
    decisions: tuple[RecordDecision, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The person that a command is about, and in which capacity the caller gives it."""

    person: Person
    standing: Standing
    capacity: Capacity

    @property
    def policy(self) -> Policy:
        return self.person.policy


class DecisionMaker:
    """What services have whose commands decide about a person's record. `pause` waits before another attempt."""

    def __init__(
        self, *, index: PatientIndex, admissions: Admissions, journal: Journal, pause: Callable[[int], None]
    ) -> None:
        self._index = index
        self._admissions = admissions
        self._journal = journal
        self._pause = pause

    def _subject(self, request: Request, patient: str) -> Subject:
        """Raises NotFound for a person who does not exist for the caller, Forbidden for whoever has no say at all.

        Closed or not: who may open a record has to find it.
        """
        person = self._index.find_person(patient) if PATIENT_KEY.fullmatch(patient) else None
        if person is None:
            raise NotFound()
        if person.is_erased:
            raise Gone("the person was erased")
        admission, standing = self._admissions.admission(request.caller, person, request.at)
        capacity = capacity_of(standing)
        if capacity is None and request.caller.role in (Role.PATIENT, Role.REPRESENTATIVE):
            raise NotFound()
        if capacity is None:
            raise Forbidden("the record is the patient's and of who cares for the patient")
        if capacity is Capacity.PROFESSIONAL and (standing.is_blocked or standing.is_for_another):
            for member in person.members:
                request.decisions[member] = admission.decision(standing)
            raise AccessRefused()
        return Subject(person=person, standing=standing, capacity=capacity)

    def _decide(
        self,
        request: Request,
        patient: str,
        decide: Callable[[Subject], Decision],
        keep: Callable[[Decided], Mapping[str, Any]],
    ) -> Decided:
        """Commit what `decide` makes of the person as it is; `keep` is the answer to the same request again."""
        for attempt in range(_RACES):
            subject = self._subject(request, patient)
            if subject.capacity is Capacity.PROFESSIONAL and request.caller.professional is None:
                raise Forbidden("a professional has to be named to decide for a patient")
            decision = decide(subject)
            before, ids = subject.person, [each.id or new_ulid(request.at) for each in decision.statements]
            after = _following(before, decision, request.at)
            history = {
                member: tuple(
                    _kept(each, id, member, request) for each, id in zip(decision.statements, ids, strict=True)
                )
                for member in after.members
            }
            decided = Decided(policy=after.policy, decisions=history[patient])
            touched = Touched.of(after.members, [f"Patient/{each}" for each in after.members])
            told = (patient,) if decision.is_told_once else after.members
            try:
                self._journal.commit(
                    [
                        PersonChange(before=before, after=after),
                        *(each for kept in history.values() for each in kept),
                        *decision.beside,
                        Announcement(id=new_ulid(request.at), events=_notices(decision.event, told, request)),
                        *account_of(request, touched, keep(decided)),
                    ]
                )
            except Stale:
                if attempt == _RACES - 1:
                    raise
                self._pause(attempt)
            else:
                return decided
        raise AssertionError("unreachable")


def _following(before: Person, decision: Decision, at: datetime) -> Person:
    records = []
    for member in before.records:
        policy = decision.follows(member.policy)
        if policy.status is RecordStatus.ABSENT and member.qualified:
            policy = policy_after(replace(member, policy=policy), is_qualified=True, at=at)
        records.append(replace(member, policy=policy))
    return replace(before, records=tuple(records), revision=before.revision + 1)


def _kept(statement: Statement, id: str, patient: str, request: Request) -> RecordDecision:
    caller = request.caller
    return RecordDecision(
        id=id,
        patient=patient,
        kind=statement.kind,
        at=request.at,
        by=caller.client_id,
        role=caller.role,
        organisation=caller.organisation,
        professional=caller.professional,
        motive=statement.motive,
        reason=statement.reason,
        physician=statement.physician,
        is_consented=statement.is_consented,
        party=statement.party,
        since=statement.since,
        until=statement.until,
        references=statement.references,
    )


def _notices(name: EventName, patients: tuple[str, ...], request: Request) -> tuple[Event, ...]:
    return tuple(
        Event(
            name=name,
            reference=f"Patient/{each}",
            version=1,
            at=request.at,
            author=request.caller.client_id,
            patient=each,
            occurrence=new_ulid(request.at),
        )
        for each in patients
    )
