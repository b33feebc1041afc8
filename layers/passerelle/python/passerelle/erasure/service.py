"""A person is erased: decided in two steps by who is charged with it, refused to everybody at once, then done.

GDPR, articles 17 and 20: the first step says what would go, and gives the time to hand the record out; the second, with
its confirmation, closes the record for good. What makes it unreadable follows in `execution.py`, from the event that
this commit leaves: however often that has to be tried, nobody sees the record meanwhile. Source records that are one
person go together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from passerelle.access import Request, Touched
from passerelle.audit.commands import account_of, once
from passerelle.consents.model import Policy, RecordStatus
from passerelle.directory.model import Role
from passerelle.erasure.model import Erased, Proposal, Terms, is_kept_by_law
from passerelle.errors import Conflict, Forbidden, Gone, NotFound, Unprocessable
from passerelle.events import Event, EventName
from passerelle.identifiers import PATIENT_KEY, Blinder, new_ulid
from passerelle.journal import Announcement, Journal
from passerelle.patients.model import DecisionKind, Person, PersonChange, RecordDecision
from passerelle.patients.ports import PatientIndex, RecordDecisions

CONFIRMED_WITHIN: Final = timedelta(days=7)
MOTIVE: Final = "effacement"


class ErasureService:
    """Commands are a data protection officer's.

    All raise Forbidden for anybody else, NotFound for a person whom nobody knows, Gone for one who was erased, Conflict
    while the law has the record kept and nothing overrides it.
    """

    def __init__(self, *, index: PatientIndex, decisions: RecordDecisions, journal: Journal, blinder: Blinder) -> None:
        self._index = index
        self._decisions = decisions
        self._journal = journal
        self._blinder = blinder

    def propose(self, request: Request, patient: str, terms: Terms, *, is_export_declined: bool = False) -> Proposal:
        """Raises Conflict, too, where the record was never handed out, and nobody said that this is not wanted."""
        person = self._erasable(request, patient, terms)
        exported_at = self._exported_at(person)
        if exported_at is None and not is_export_declined:
            raise Conflict("the record was never handed out: export-declined says that this is not wanted")
        expires_at = request.at.astimezone(UTC).replace(microsecond=0) + CONFIRMED_WITHIN
        return Proposal(
            patients=person.members,
            confirmation=self._confirmation(request, person, terms, int(expires_at.timestamp())),
            expires_at=expires_at,
            exported_at=exported_at,
        )

    def _exported_at(self, person: Person) -> datetime | None:
        decisions = (each for member in person.members for each in self._decisions.decisions_of(member))
        return max((each.at for each in decisions if each.kind is DecisionKind.EXPORTED), default=None)

    def confirm(self, request: Request, patient: str, terms: Terms, confirmation: str) -> Erased:
        """Raises Unprocessable for a confirmation of something else, or that came too late; Stale for a person that
        changes meanwhile."""
        return once(self._journal, request, lambda: self._erase(request, patient, terms, confirmation), _restored)

    def _erase(self, request: Request, patient: str, terms: Terms, confirmation: str) -> Erased:
        before = self._erasable(request, patient, terms)
        until = confirmation.partition(".")[0]
        if not (until.isascii() and until.isdigit() and int(until) >= request.at.timestamp()):
            raise _unconfirmed()
        if confirmation != self._confirmation(request, before, terms, int(until)):
            raise _unconfirmed()
        after = _erased(before, request.at)
        touched = Touched.of(after.members, [f"Patient/{each}" for each in after.members])
        result = {"patients": list(after.members), "at": request.at.isoformat()}
        self._journal.commit(
            [
                PersonChange(before=before, after=after, releases=before.qualified),
                *(_decision(each, terms, request) for each in after.members),
                *(Announcement(id=new_ulid(request.at), events=(_notice(each, request),)) for each in after.members),
                *account_of(request, touched, result),
            ]
        )
        return Erased(patients=after.members, at=request.at)

    def _erasable(self, request: Request, patient: str, terms: Terms) -> Person:
        if request.caller.role != Role.DATA_PROTECTION_OFFICER:
            raise Forbidden("a person is erased by a data protection officer")
        person = self._index.find_person(patient) if PATIENT_KEY.fullmatch(patient) else None
        if person is None:
            raise NotFound()
        if person.is_erased:
            raise Gone("the person was erased")
        if is_kept_by_law(person.policy, request.at) and terms.override is None:
            raise Conflict("the law has this record kept: what stands above it has to be said")
        return person

    def _confirmation(self, request: Request, person: Person, terms: Terms, until: int) -> str:
        """Bound to who asked, to the person as it is, and to the terms."""
        said = (
            "erase",
            request.caller.client_id,
            person.key,
            person.revision,
            terms.ground,
            terms.override or "",
            until,
        )
        code = self._blinder.sign("\x00".join(map(str, said)).encode())
        return f"{until}.{code.hex()}"


def _erased(person: Person, at: datetime) -> Person:
    """The person without anything that tells who it was: opaque keys, and that they belong together."""
    closed = Policy(status=RecordStatus.CLOSED, since=at, closing_motive=MOTIVE)
    records = tuple(
        replace(each, policy=closed, qualified=None, identifiers=(), is_removed=True, is_erased=True)
        for each in person.records
    )
    return replace(person, records=records, revision=person.revision + 1)


def _decision(patient: str, terms: Terms, request: Request) -> RecordDecision:
    caller = request.caller
    return RecordDecision(
        id=new_ulid(request.at),
        patient=patient,
        kind=DecisionKind.ERASED,
        at=request.at,
        by=caller.client_id,
        role=caller.role,
        organisation=caller.organisation,
        professional=caller.professional,
        motive="+".join(filter(None, (terms.ground, terms.override))),
    )


def _notice(patient: str, request: Request) -> Event:
    return Event(
        name=EventName.ERASED,
        reference=f"Patient/{patient}",
        version=1,
        at=request.at,
        author=request.caller.client_id,
        patient=patient,
        occurrence=new_ulid(request.at),
    )


def _unconfirmed() -> Unprocessable:
    return Unprocessable(
        "the confirmation is of something else, or came too late", code="value", expression="confirmation"
    )


def _restored(kept: Mapping[str, Any]) -> Erased:
    return Erased(patients=tuple(kept["patients"]), at=datetime.fromisoformat(kept["at"]))
