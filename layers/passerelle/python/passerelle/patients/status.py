"""The shared record of a person as such: opened, closed, opposed, and who its attending physician is (DMP-1, DMP-7).

A decision is about the person: it holds for every source record, so that it outlives links that are made or taken back,
and of records decided differently the strictest decision counts. Policy, the history of who decided, audit and event
are one commit. Closing hides the record from everybody and destroys nothing: opened again, all of it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any

from passerelle.access import Request, Touched
from passerelle.audit.commands import account_of, once
from passerelle.consents.model import Policy, RecordStatus
from passerelle.directory.identifiers import IDNPS, other_form
from passerelle.directory.model import CARE_ROLES, Role
from passerelle.errors import Conflict, Forbidden, NotFound, Stale, Unprocessable
from passerelle.events import Event, EventName
from passerelle.identifiers import PATIENT_KEY, new_ulid
from passerelle.journal import Announcement, Journal
from passerelle.patients.model import DecisionKind, Identifier, Person, PersonChange, RecordDecision
from passerelle.patients.ports import PatientIndex, RecordDecisions
from passerelle.patients.registration import policy_after

MAX_REASON_CHARACTERS = 1000
_RACES = 5
_OWN = (Role.PATIENT, Role.REPRESENTATIVE)


class ClosingMotive(StrEnum):
    """Why a record was closed; the first is the code of the DMP draft's example, which lists no others."""

    PATIENT = "patient-demande"
    DEATH = "deces"
    ERROR = "ouverture-erronee"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the shared record of a person stands, and what was decided about it, the oldest first.

    `concerned` are the source records of the person.
    """

    policy: Policy
    decisions: tuple[RecordDecision, ...]
    concerned: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decision:
    """What one command decides: the policy of a record after it."""

    kind: DecisionKind
    follows: Callable[[Policy], Policy]
    motive: str | None = None
    reason: str = ""
    physician: str | None = None
    is_consented: bool = False


class RecordStatusService:
    """Commands are the patient's, a representative's, or a care professional's who is named by the token.

    All raise NotFound for a person who does not exist for the caller, Forbidden for whoever may not decide.
    """

    def __init__(
        self,
        *,
        index: PatientIndex,
        decisions: RecordDecisions,
        journal: Journal,
        in_parallel: Callable[..., tuple[Any, ...]],
        pause: Callable[[int], None],
    ) -> None:
        self._index = index
        self._decisions = decisions
        self._journal = journal
        self._in_parallel = in_parallel
        self._pause = pause

    def standing(self, request: Request, patient: str) -> Standing:
        person = self._person(request, patient)
        read = self._in_parallel(*(partial(self._decisions.decisions_of, each) for each in person.members))
        found = {each.id: each for decisions in read for each in decisions}  # one for all source records
        return Standing(
            policy=person.policy,
            decisions=tuple(found[id] for id in sorted(found)),
            concerned=person.members,
        )

    def open(self, request: Request, patient: str, *, reason: str = "") -> Policy:
        """Open the record, or open it again. Raises Conflict if it is open, or while the patient opposes it;
        Unprocessable for an identity that is not qualified."""

        def decide(person: Person) -> _Decision:
            status = person.policy.status
            if status is RecordStatus.OPEN:
                raise Conflict("the record is open")
            if status is RecordStatus.OPPOSED:
                raise Conflict("the patient opposes a record: the opposition has to be withdrawn first")
            if person.qualified is None:
                raise Unprocessable("the identity of this person is not qualified", expression="Patient.identifier")
            return _Decision(kind=DecisionKind.OPENED, follows=_reset(request.at), reason=reason)

        return self._decided(request, patient, decide)

    def close(self, request: Request, patient: str, motive: ClosingMotive, *, reason: str = "") -> Policy:
        """Raises Conflict unless the record is open."""

        def closed(policy: Policy) -> Policy:
            return replace(
                policy,
                status=RecordStatus.CLOSED,
                since=request.at,
                closing_motive=motive.value,
                closing_reason=reason or None,
            )

        def decide(person: Person) -> _Decision:
            if person.policy.status is not RecordStatus.OPEN:
                raise Conflict("the record is not open")
            return _Decision(kind=DecisionKind.CLOSED, follows=closed, motive=motive.value, reason=reason)

        return self._decided(request, patient, decide)

    def oppose(self, request: Request, patient: str, *, reason: str = "") -> Policy:
        """Let no record be opened. Raises Conflict where there is one already, which can be closed."""

        def decide(person: Person) -> _Decision:
            if person.policy.status is not RecordStatus.ABSENT:
                raise Conflict("there is a record, or an opposition to it")
            return _Decision(
                kind=DecisionKind.OPPOSED,
                follows=lambda policy: replace(policy, status=RecordStatus.OPPOSED, since=request.at),
                reason=reason,
            )

        return self._decided(request, patient, decide)

    def withdraw_opposition(self, request: Request, patient: str, *, reason: str = "") -> Policy:
        """From now on the record of a qualified identity is open, as everybody's who opposes nothing.

        Raises Conflict where nothing is opposed.
        """

        def decide(person: Person) -> _Decision:
            if person.policy.status is not RecordStatus.OPPOSED:
                raise Conflict("the patient opposes nothing")
            return _Decision(kind=DecisionKind.OPPOSITION_WITHDRAWN, follows=_reset(request.at), reason=reason)

        return self._decided(request, patient, decide)

    def set_attending_physician(
        self, request: Request, patient: str, physician: Identifier, *, is_consented: bool, reason: str = ""
    ) -> Policy:
        """`physician` is an IDNPS or RPPS number. A professional declares nobody else, and with the patient's consent.

        Raises Unprocessable for another identifier or without consent.
        """
        idnps = _idnps(physician)
        if request.caller.role not in _OWN:
            if request.caller.professional != idnps:
                raise Forbidden("a professional declares nobody else as attending physician")
            if not is_consented:
                raise Unprocessable("the patient's consent is needed", code="required", expression="consent")
        decision = _Decision(
            kind=DecisionKind.PHYSICIAN_SET,
            follows=lambda policy: replace(policy, attending_physician=idnps, attending_since=request.at),
            reason=reason,
            physician=idnps,
            is_consented=is_consented,
        )
        return self._decided(request, patient, lambda _: decision)

    def end_attending_physician(self, request: Request, patient: str, *, reason: str = "") -> Policy:
        """By the patient, or by that physician. Raises Conflict where there is none."""

        def decide(person: Person) -> _Decision:
            physician = person.policy.attending_physician
            if physician is None:
                raise Conflict("there is no attending physician")
            if request.caller.role not in _OWN and request.caller.professional != physician:
                raise Forbidden("a professional ends no other attendance than the own")
            return _Decision(
                kind=DecisionKind.PHYSICIAN_ENDED,
                follows=lambda policy: replace(policy, attending_physician=None, attending_since=request.at),
                reason=reason,
                physician=physician,
            )

        return self._decided(request, patient, decide)

    # --- shared ---------------------------------------------------------------------------------------------------

    def _person(self, request: Request, patient: str) -> Person:
        person = self._index.find_person(patient) if PATIENT_KEY.fullmatch(patient) else None
        caller = request.caller
        if person is None or (caller.role in _OWN and not self._is_own(request, person)):
            raise NotFound()
        if caller.role not in (*_OWN, *CARE_ROLES):
            raise Forbidden("the record is the patient's and of who cares for the patient")
        return person

    def _is_own(self, request: Request, person: Person) -> bool:
        system, _, value = (request.caller.patient or "").partition("|")
        return self._index.find_person_of(system, value) == person.key

    def _decided(self, request: Request, patient: str, decide: Callable[[Person], _Decision]) -> Policy:
        return once(self._journal, request, lambda: self._commit(request, patient, decide), _restored)

    def _commit(self, request: Request, patient: str, decide: Callable[[Person], _Decision]) -> Policy:
        for attempt in range(_RACES):
            before = self._person(request, patient)
            if request.caller.role in CARE_ROLES and request.caller.professional is None:
                raise Forbidden("a professional has to be named to decide for a patient")
            decision, id = decide(before), new_ulid(request.at)
            after = _following(before, decision, request)
            touched = Touched.of(after.members, [f"Patient/{each}" for each in after.members])
            try:
                self._journal.commit(
                    [
                        PersonChange(before=before, after=after),
                        *(_kept_decision(decision, id, each, request) for each in after.members),
                        Announcement(id=new_ulid(request.at), events=_notices(after, request)),
                        *account_of(request, touched, _kept(after.policy)),
                    ]
                )
            except Stale:
                if attempt == _RACES - 1:
                    raise
                self._pause(attempt)
            else:
                return after.policy
        raise AssertionError("unreachable")


def _following(before: Person, decision: _Decision, request: Request) -> Person:
    records = []
    for member in before.records:
        policy = decision.follows(member.policy)
        if policy.status is RecordStatus.ABSENT and member.qualified:
            policy = policy_after(replace(member, policy=policy), is_qualified=True, at=request.at)
        records.append(replace(member, policy=policy))
    return replace(before, records=tuple(records), revision=before.revision + 1)


def _reset(at: datetime) -> Callable[[Policy], Policy]:
    """The policy of a record that nobody decided about; of a qualified identity it is open then."""
    return lambda policy: replace(
        policy, status=RecordStatus.ABSENT, since=at, closing_motive=None, closing_reason=None
    )


def _kept_decision(decision: _Decision, id: str, patient: str, request: Request) -> RecordDecision:
    caller = request.caller
    return RecordDecision(
        id=id,
        patient=patient,
        kind=decision.kind,
        at=request.at,
        by=caller.client_id,
        role=caller.role,
        organisation=caller.organisation,
        professional=caller.professional,
        motive=decision.motive,
        reason=decision.reason,
        physician=decision.physician,
        is_consented=decision.is_consented,
    )


def _notices(person: Person, request: Request) -> tuple[Event, ...]:
    return tuple(
        Event(
            name=EventName.RECORD_STATUS_CHANGED,
            reference=f"Patient/{each}",
            version=1,
            at=request.at,
            author=request.caller.client_id,
            patient=each,
            occurrence=new_ulid(request.at),
        )
        for each in person.members
    )


def _idnps(physician: Identifier) -> str:
    system, value = physician if physician[0] == IDNPS else other_form(*physician) or physician
    if system != IDNPS or other_form(system, value) is None:
        raise Unprocessable("a physician is named by an IDNPS or RPPS number", code="value", expression="physician")
    return value


def _kept(policy: Policy) -> Mapping[str, Any]:
    return {
        "status": policy.status.value,
        "since": policy.since.isoformat(),
        "closing_motive": policy.closing_motive,
        "closing_reason": policy.closing_reason,
        "attending_physician": policy.attending_physician,
        "attending_since": policy.attending_since.isoformat() if policy.attending_since else None,
    }


def _restored(kept: Mapping[str, Any]) -> Policy:
    attending_since = kept["attending_since"]
    return Policy(
        status=RecordStatus(kept["status"]),
        since=datetime.fromisoformat(kept["since"]),
        closing_motive=kept["closing_motive"],
        closing_reason=kept["closing_reason"],
        attending_physician=kept["attending_physician"],
        attending_since=datetime.fromisoformat(attending_since) if attending_since else None,
    )


def checked_reason(reason: str) -> str:
    """Raises Unprocessable for words that are too many."""
    if len(reason) > MAX_REASON_CHARACTERS:
        raise Unprocessable(
            f"a reason has at most {MAX_REASON_CHARACTERS} characters", code="too-long", expression="reason"
        )
    return reason.strip()
