"""Breaking the glass: an access in an emergency, and the list from which supervisors review every one.

Code de la santé publique, article L. 1111-17; contract PCF-9, DMP-30. A named professional of a profession that may,
with a coded reason and words, sees the record for a limited time; never past a block, nor against the opposition of
the patient, and what is masked stays so. The patient is told at once. The glass closes by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import Any, Protocol

from passerelle.access import Request, Touched
from passerelle.audit.commands import account_of, once
from passerelle.audit.model import KEPT
from passerelle.consents.control import broken, emergency_codes
from passerelle.consents.decision import BREAK_GLASS, may_break_glass, rules
from passerelle.consents.model import Emergency
from passerelle.directory.model import Role
from passerelle.errors import AccessRefused, Conflict, Forbidden, Issue, NotFound, Unprocessable
from passerelle.events import EventName
from passerelle.identifiers import new_ulid
from passerelle.journal import Change, Journal
from passerelle.patients.control import Decisions, kept_decisions, restored_decisions
from passerelle.patients.decisions import Admissions, Decision, DecisionMaker, Statement, Subject
from passerelle.patients.model import DecisionKind
from passerelle.patients.ports import PatientIndex, RecordDecisions

MAX_TEXT_CHARACTERS = 1000
_LISTED = timedelta(days=31)  # back from now, if no period is asked for


class UseStatus(StrEnum):
    OPEN = "open"
    REVIEWED = "reviewed"


class Verdict(StrEnum):
    JUSTIFIED = "justified"
    UNJUSTIFIED = "unjustified"


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    verdict: Verdict
    text: str
    at: datetime
    by: str  # the client of the supervisor


@dataclass(frozen=True, slots=True, kw_only=True)
class EmergencyUse(Change):
    """One time that the glass was broken; `id` is that of the patient's decision history, a ulid.

    `reason` is a code; the words are kept with the decision alone, beside the record that they are about.
    """

    id: str
    patient: str
    at: datetime
    until: datetime
    professional: str
    organisation: str
    client_id: str
    reason: str
    review: Review | None = None

    @property
    def status(self) -> UseStatus:
        return UseStatus.OPEN if self.review is None else UseStatus.REVIEWED


@dataclass(frozen=True, slots=True, kw_only=True)
class EmergencyReview(Change):
    """A use is reviewed: once, else Conflict."""

    before: EmergencyUse
    review: Review


class EmergencyUses(Protocol):
    """What the list needs from storage: thirteen months of it."""

    def find(self, id: str) -> EmergencyUse | None: ...

    def listed(self, *, since: datetime, until: datetime, before: str | None) -> Iterator[EmergencyUse]:
        """Those with since <= at < until, the newest first; with `before`, those older than it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsesQuery:
    """What a supervisor asks for; None does not narrow. `organisation` is an IDNST."""

    since: datetime | None = None
    until: datetime | None = None
    organisation: str | None = None
    status: UseStatus | None = None
    count: int
    before: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UseSeen:
    """A use as a supervisor sees it: with the words of who broke the glass."""

    use: EmergencyUse
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UsesPage:
    uses: tuple[UseSeen, ...]
    is_complete: bool


class EmergencyService(DecisionMaker):
    def __init__(
        self,
        *,
        index: PatientIndex,
        admissions: Admissions,
        journal: Journal,
        pause: Callable[[int], None],
        decisions: RecordDecisions,
        uses: EmergencyUses,
        in_parallel: Callable[..., tuple[Any, ...]],
    ) -> None:
        super().__init__(index=index, admissions=admissions, journal=journal, pause=pause)
        self._decisions = decisions
        self._uses = uses
        self._in_parallel = in_parallel

    def break_glass(self, request: Request, patient: str, *, reason: str | None, text: str) -> Decisions:
        """Open the record to the professional at the keyboard for a while; the decision's `until` says how long.

        Raises AccessRefused for who may not, then Unprocessable (`required`) without a reason or enough words, and
        (`code-invalid`) for a code that is none.
        """
        request = replace(request, purpose=BREAK_GLASS)

        def decide(subject: Subject) -> Decision:
            professional = request.caller.professional
            if professional is None or not may_break_glass(subject.standing):
                raise AccessRefused()
            code, words = _checked(reason, text)
            until = request.at + timedelta(minutes=rules()["emergency_minutes"])

            id, organisation = new_ulid(request.at), request.caller.organisation
            emergency = Emergency(
                id=id,
                professional=professional,
                organisation=organisation,
                since=request.at,
                until=until,
                reason=code,
            )
            use = EmergencyUse(
                id=id,
                patient=patient,
                at=request.at,
                until=until,
                professional=professional,
                organisation=organisation,
                client_id=request.caller.client_id,
                reason=code,
            )
            statement = Statement(
                id=id, kind=DecisionKind.GLASS_BROKEN, motive=code, reason=words, party=professional, until=until
            )
            return Decision(
                follows=lambda policy: broken(policy, emergency),
                statements=(statement,),
                event=EventName.EMERGENCY_ACCESS,
                is_told_once=True,
                beside=(use,),
            )

        return once(
            self._journal,
            request,
            lambda: self._decide(request, patient, decide, kept_decisions).decisions,
            restored_decisions,
        )

    # --- supervision ----------------------------------------------------------------------------------------------

    def uses(self, request: Request, query: UsesQuery) -> UsesPage:
        """Raises Forbidden for who supervises nothing."""
        _check_supervisor(request)
        found = self._uses.listed(
            since=max(query.since or request.at - _LISTED, request.at - KEPT),
            until=query.until or request.at + timedelta(seconds=1),
            before=query.before,
        )
        wanted = (
            each
            for each in found
            if query.organisation in (None, each.organisation) and query.status in (None, each.status)
        )
        page = list(islice(wanted, query.count + 1))
        seen = self._seen(page[: query.count])
        return UsesPage(uses=seen, is_complete=len(page) <= query.count)

    def _seen(self, uses: Sequence[EmergencyUse]) -> tuple[UseSeen, ...]:
        if not uses:
            return ()
        patients = tuple(dict.fromkeys(each.patient for each in uses))
        read = self._in_parallel(*(partial(self._decisions.decisions_of, each) for each in patients))
        words = {each.id: each.reason for decisions in read for each in decisions}
        return tuple(UseSeen(use=each, text=words.get(each.id, "")) for each in uses)

    def review(self, request: Request, id: str, verdict: Verdict, *, text: str) -> EmergencyUse:
        """Say what a supervisor thinks of a use, once. Raises Forbidden, NotFound, Conflict, and Unprocessable for an
        unjustified one without words."""
        _check_supervisor(request)
        _check_length(text)
        if verdict is Verdict.UNJUSTIFIED and not text:
            raise Unprocessable("a reason is required", code="required", expression="text")
        return once(self._journal, request, lambda: self._reviewed(request, id, verdict, text), self._named)

    def _reviewed(self, request: Request, id: str, verdict: Verdict, text: str) -> EmergencyUse:
        before = self._named({"id": id})
        if before.professional == request.caller.professional:
            raise Forbidden("nobody reviews the own emergency")
        review = Review(verdict=verdict, text=text, at=request.at, by=request.caller.client_id)
        touched = Touched.of([before.patient])
        self._journal.commit([EmergencyReview(before=before, review=review), *account_of(request, touched, {"id": id})])
        return replace(before, review=review)

    def _named(self, kept: Mapping[str, Any]) -> EmergencyUse:
        found = self._uses.find(kept["id"])
        if found is None:
            raise NotFound()
        return found


def already_reviewed() -> Conflict:
    return Conflict("this use is reviewed")


def _check_supervisor(request: Request) -> None:
    if request.caller.role != Role.AUDITOR:
        raise Forbidden("the list of emergency accesses is for supervisors")


def _check_length(text: str) -> None:
    if len(text) > MAX_TEXT_CHARACTERS:
        raise Unprocessable(f"a text has at most {MAX_TEXT_CHARACTERS} characters", code="too-long", expression="text")


def _checked(reason: str | None, text: str) -> tuple[str, str]:
    """Raises one Unprocessable with all that is missing (contract DMP-30)."""
    least, words = int(rules()["emergency_text_characters"]), " ".join(text.split())
    missing = []
    if not reason:
        missing.append(_issue("required", "a coded reason is required", "reason"))
    elif reason not in emergency_codes()["reasons"]:
        missing.append(_issue("code-invalid", "a reason is a code of emergency-reason", "reason"))
    if len(words) < least:
        missing.append(_issue("required", f"a text of at least {least} characters is required", "text"))
    if missing or not reason:
        raise Unprocessable(issues=missing)
    _check_length(words)
    return reason, words


def _issue(code: str, diagnostics: str, expression: str) -> Issue:
    return Issue(code=code, diagnostics=diagnostics, expression=expression)
