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

from passerelle.access import Request
from passerelle.audit.commands import once
from passerelle.consents.control import OWN, Capacity, told_of
from passerelle.consents.model import Policy, RecordStatus
from passerelle.directory.identifiers import IDNPS, party_of, system_of
from passerelle.errors import Conflict, Forbidden, Unprocessable
from passerelle.events import EventName
from passerelle.journal import Journal
from passerelle.patients.decisions import Admissions, Decided, Decision, DecisionMaker, Statement, Subject
from passerelle.patients.model import DecisionKind, Identifier, RecordDecision
from passerelle.patients.ports import PatientIndex, RecordDecisions

MAX_REASON_CHARACTERS = 1000
# What every professional is told of; the other decisions are the patient's business, and of whom they are about.
_OF_THE_RECORD = frozenset(
    {
        DecisionKind.OPENED,
        DecisionKind.CLOSED,
        DecisionKind.OPPOSED,
        DecisionKind.OPPOSITION_WITHDRAWN,
        DecisionKind.PHYSICIAN_SET,
        DecisionKind.PHYSICIAN_ENDED,
    }
)


class ClosingMotive(StrEnum):
    """Why a record was closed; the first is the code of the DMP draft's example, which lists no others."""

    PATIENT = "patient-demande"
    DEATH = "deces"
    ERROR = "ouverture-erronee"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the shared record of a person stands, and what was decided about it, the oldest first: as much of either as
    is the caller's business.

    `is_whole` says that this is all; `concerned` are the source records of the person.
    """

    policy: Policy
    decisions: tuple[RecordDecision, ...]
    concerned: tuple[str, ...]
    is_whole: bool


class RecordStatusService(DecisionMaker):
    """Commands are the patient's, a representative's, or a care professional's who is named by the token.

    All raise NotFound for a person who does not exist for the caller, Forbidden for whoever may not decide.
    """

    def __init__(
        self,
        *,
        index: PatientIndex,
        admissions: Admissions,
        decisions: RecordDecisions,
        journal: Journal,
        in_parallel: Callable[..., tuple[Any, ...]],
        pause: Callable[[int], None],
    ) -> None:
        super().__init__(index=index, admissions=admissions, journal=journal, pause=pause)
        self._decisions = decisions
        self._in_parallel = in_parallel

    def standing(self, request: Request, patient: str) -> Standing:
        subject = self._subject(request, patient)
        members = subject.person.members
        read = self._in_parallel(*(partial(self._decisions.decisions_of, each) for each in members))
        found = {each.id: each for decisions in read for each in decisions}  # one for all source records
        return Standing(
            policy=told_of(subject.policy, request.caller, subject.capacity),
            decisions=tuple(found[id] for id in sorted(found) if _is_told(found[id], request, subject.capacity)),
            concerned=members,
            is_whole=subject.capacity in OWN,
        )

    def open(self, request: Request, patient: str, *, reason: str = "") -> Policy:
        """Open the record, or open it again. Raises Conflict if it is open, or while the patient opposes it;
        Unprocessable for an identity that is not qualified."""

        def decide(subject: Subject) -> Decision:
            status = subject.policy.status
            if status is RecordStatus.OPEN:
                raise Conflict("the record is open")
            if status is RecordStatus.OPPOSED:
                raise Conflict("the patient opposes a record: the opposition has to be withdrawn first")
            if subject.person.qualified is None:
                raise Unprocessable("the identity of this person is not qualified", expression="Patient.identifier")
            return _decision(_reset(request.at), kind=DecisionKind.OPENED, reason=reason)

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

        def decide(subject: Subject) -> Decision:
            if subject.policy.status is not RecordStatus.OPEN:
                raise Conflict("the record is not open")
            return _decision(closed, kind=DecisionKind.CLOSED, motive=motive.value, reason=reason)

        return self._decided(request, patient, decide)

    def oppose(self, request: Request, patient: str, *, reason: str = "") -> Policy:
        """Let no record be opened. Raises Conflict where there is one already, which can be closed."""

        def decide(subject: Subject) -> Decision:
            if subject.policy.status is not RecordStatus.ABSENT:
                raise Conflict("there is a record, or an opposition to it")
            return _decision(
                lambda policy: replace(policy, status=RecordStatus.OPPOSED, since=request.at),
                kind=DecisionKind.OPPOSED,
                reason=reason,
            )

        return self._decided(request, patient, decide)

    def withdraw_opposition(self, request: Request, patient: str, *, reason: str = "") -> Policy:
        """From now on the record of a qualified identity is open, as everybody's who opposes nothing.

        Raises Conflict where nothing is opposed.
        """

        def decide(subject: Subject) -> Decision:
            if subject.policy.status is not RecordStatus.OPPOSED:
                raise Conflict("the patient opposes nothing")
            return _decision(_reset(request.at), kind=DecisionKind.OPPOSITION_WITHDRAWN, reason=reason)

        return self._decided(request, patient, decide)

    def set_attending_physician(
        self, request: Request, patient: str, physician: Identifier, *, is_consented: bool, reason: str = ""
    ) -> Policy:
        """`physician` is an IDNPS or RPPS number. A professional declares nobody else, and with the patient's consent.

        Raises Unprocessable for another identifier or without consent.
        """
        idnps = _idnps(physician)

        def decide(subject: Subject) -> Decision:
            if subject.capacity is Capacity.PROFESSIONAL:
                if request.caller.professional != idnps:
                    raise Forbidden("a professional declares nobody else as attending physician")
                if not is_consented:
                    raise Unprocessable("the patient's consent is needed", code="required", expression="consent")
            return _decision(
                lambda policy: replace(policy, attending_physician=idnps, attending_since=request.at),
                kind=DecisionKind.PHYSICIAN_SET,
                reason=reason,
                physician=idnps,
                is_consented=is_consented,
            )

        return self._decided(request, patient, decide)

    def end_attending_physician(self, request: Request, patient: str, *, reason: str = "") -> Policy:
        """By the patient, or by that physician. Raises Conflict where there is none."""

        def decide(subject: Subject) -> Decision:
            physician = subject.policy.attending_physician
            if physician is None:
                raise Conflict("there is no attending physician")
            if subject.capacity is Capacity.PROFESSIONAL and request.caller.professional != physician:
                raise Forbidden("a professional ends no other attendance than the own")
            return _decision(
                lambda policy: replace(policy, attending_physician=None, attending_since=request.at),
                kind=DecisionKind.PHYSICIAN_ENDED,
                reason=reason,
                physician=physician,
            )

        return self._decided(request, patient, decide)

    def _decided(self, request: Request, patient: str, decide: Callable[[Subject], Decision]) -> Policy:
        def run() -> Policy:
            return self._decide(request, patient, partial(_unless_carer, decide), _kept).policy

        return once(self._journal, request, run, _restored)


def _unless_carer(decide: Callable[[Subject], Decision], subject: Subject) -> Decision:
    if subject.capacity is Capacity.CARER:
        raise Forbidden("a carer looks at what was released, and decides nothing")
    return decide(subject)


def _decision(follows: Callable[[Policy], Policy], **statement: Any) -> Decision:
    return Decision(follows=follows, statements=(Statement(**statement),), event=EventName.RECORD_STATUS_CHANGED)


def _is_told(decision: RecordDecision, request: Request, capacity: Capacity) -> bool:
    if capacity in OWN:
        return True
    caller = request.caller
    if capacity is Capacity.CARER:
        return decision.party == caller.person
    by_itself = decision.professional is not None and decision.professional == caller.professional
    return decision.kind in _OF_THE_RECORD or by_itself


def _reset(at: datetime) -> Callable[[Policy], Policy]:
    """The policy of a record that nobody decided about; of a qualified identity it is open then."""
    return lambda policy: replace(
        policy, status=RecordStatus.ABSENT, since=at, closing_motive=None, closing_reason=None
    )


def _idnps(physician: Identifier) -> str:
    party = party_of(*physician)
    if party is None or system_of(party) != IDNPS:
        raise Unprocessable("a physician is named by an IDNPS or RPPS number", code="value", expression="physician")
    return party


def _kept(decided: Decided) -> Mapping[str, Any]:
    policy = decided.policy
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
