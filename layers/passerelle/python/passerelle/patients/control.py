"""The patient's control over who sees the record: blocks, authorisations, proxies, releases to carers, oppositions.

Who may give which command (docs/trust.md has the table): the patient and who represents the patient all but that a
minor appoints no parent; a carer nothing but to step down; a professional attests an authorisation for herself or her
own organisation, and that she has seen the papers of a parent or guardian, each with consent. What is decided binds
the next request. Contract: DMP-3, DMP-5, DMP-11; data-model.md section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from passerelle.access import Request
from passerelle.audit.commands import once
from passerelle.consents.control import (
    MAX_MANDATES,
    MAX_PARTIES,
    MAX_RELEASED,
    OWN,
    Capacity,
    admitted,
    appointed,
    authorised,
    dismissed,
    is_authorised,
    is_shut_out,
    mandate_of,
    of_age_on,
    released,
    shut_out,
    unauthorised,
    withheld,
)
from passerelle.consents.model import Mandate, MandateKind, Policy
from passerelle.directory.identifiers import party_of
from passerelle.errors import Conflict, Forbidden, Unprocessable
from passerelle.journal import Journal
from passerelle.patients.decisions import Admissions, Decided, Decision, DecisionMaker, Statement, Subject
from passerelle.patients.model import DecisionKind, Identifier, RecordDecision, StoredPatient
from passerelle.patients.ports import PatientIndex

Decisions = tuple[RecordDecision, ...]

# Who may appoint a proxy of each kind, beside professionals who have seen the papers of a parent or guardian.
_APPOINTS: Mapping[MandateKind, frozenset[Capacity]] = {
    MandateKind.PARENT: frozenset({Capacity.REPRESENTATIVE}),
    MandateKind.GUARDIAN: frozenset({Capacity.PATIENT}),
    MandateKind.CARER: frozenset({Capacity.PATIENT, Capacity.REPRESENTATIVE}),
}

_DISMISSES: Mapping[MandateKind, frozenset[Capacity]] = {**_APPOINTS, MandateKind.PARENT: frozenset()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """From `since` (None: at once), included, to `until` (None: open), excluded."""

    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """None leaves one as it is."""

    opposes_emergency: bool | None = None
    opposes_regulation: bool | None = None
    agrees_to_research: bool | None = None


_STATED: Mapping[str, Mapping[bool, DecisionKind]] = {
    "opposes_emergency": {True: DecisionKind.EMERGENCY_OPPOSED, False: DecisionKind.EMERGENCY_ACCEPTED},
    "opposes_regulation": {True: DecisionKind.REGULATION_OPPOSED, False: DecisionKind.REGULATION_ACCEPTED},
    "agrees_to_research": {True: DecisionKind.RESEARCH_AGREED, False: DecisionKind.RESEARCH_REFUSED},
}


class Identities(Protocol):
    """What is known of the person behind a source record."""

    def find(self, patient: str) -> StoredPatient | None: ...


class Record(Protocol):
    """The person's record, as the caller sees it."""

    def exists(self, request: Request, type: str, id: str) -> bool: ...


class ControlService(DecisionMaker):
    """Each command returns what was decided: the same for the same request again.

    All raise NotFound for a person who does not exist for the caller, Forbidden for whoever may not decide, Conflict
    for what is so already.
    """

    def __init__(
        self,
        *,
        index: PatientIndex,
        admissions: Admissions,
        journal: Journal,
        pause: Callable[[int], None],
        identities: Identities,
        record: Record,
        is_national: Callable[[str, str], bool],
        in_parallel: Callable[..., tuple[Any, ...]],
    ) -> None:
        super().__init__(index=index, admissions=admissions, journal=journal, pause=pause)
        self._identities = identities
        self._record = record
        self._is_national = is_national
        self._in_parallel = in_parallel

    # --- professionals and organisations --------------------------------------------------------------------------

    def block(self, request: Request, patient: str, party: Identifier, *, reason: str = "") -> Decisions:
        """Shut out a professional (IDNPS, RPPS) or an organisation (IDNST, FINESS); what it was allowed ends."""
        named = _party(party)

        def decide(subject: Subject) -> Decision:
            _check_own(subject)
            if is_shut_out(subject.policy, [named]):
                raise Conflict("the party is blocked")
            _check_room(len(subject.policy.blocks), MAX_PARTIES, "party")
            statement = Statement(kind=DecisionKind.BLOCKED, party=named, reason=reason)
            return Decision(follows=lambda policy: shut_out(policy, named, request.at), statements=(statement,))

        return self._decided(request, patient, decide)

    def unblock(self, request: Request, patient: str, party: Identifier, *, reason: str = "") -> Decisions:
        named = _party(party)

        def decide(subject: Subject) -> Decision:
            _check_own(subject)
            if not is_shut_out(subject.policy, [named]):
                raise Conflict("the party is not blocked")
            statement = Statement(kind=DecisionKind.UNBLOCKED, party=named, reason=reason)
            return Decision(follows=lambda policy: admitted(policy, named), statements=(statement,))

        return self._decided(request, patient, decide)

    def authorise(
        self, request: Request, patient: str, party: Identifier | None, *, span: Span, is_consented: bool
    ) -> Decisions:
        """Let a professional or an organisation look at the record (contract DMP-11); the latest of a party counts.

        By the patient, or by a professional for herself (`party` None) or her organisation, with the patient's consent:
        without it Unprocessable (`required`). A party that is blocked is a Conflict.
        """

        def decide(subject: Subject) -> Decision:
            named = _own_party(request, subject, party)
            if subject.capacity is Capacity.PROFESSIONAL:
                _check_consent(is_consented)
            _check_span(span, request.at)
            if is_shut_out(subject.policy, [named]):
                raise Conflict("the party is blocked: it has to be unblocked first")
            _check_room(len(subject.policy.relations), MAX_PARTIES, "party")
            since = max(span.since or request.at, request.at)
            return Decision(
                follows=lambda policy: authorised(policy, named, since=since, until=span.until),
                statements=(
                    Statement(
                        kind=DecisionKind.ACCESS_AUTHORISED,
                        party=named,
                        since=since,
                        until=span.until,
                        is_consented=is_consented,
                    ),
                ),
            )

        return self._decided(request, patient, decide)

    def end_access(self, request: Request, patient: str, party: Identifier | None, *, reason: str = "") -> Decisions:
        """Take an authorisation back: the patient any, a professional her own or her organisation's."""

        def decide(subject: Subject) -> Decision:
            named = _own_party(request, subject, party)
            if not is_authorised(subject.policy, named):
                raise Conflict("the party has no authorisation")
            statement = Statement(kind=DecisionKind.ACCESS_ENDED, party=named, reason=reason)
            return Decision(follows=lambda policy: unauthorised(policy, named), statements=(statement,))

        return self._decided(request, patient, decide)

    # --- proxies --------------------------------------------------------------------------------------------------

    def appoint(
        self,
        request: Request,
        patient: str,
        holder: Identifier,
        kind: MandateKind,
        *,
        span: Span,
        is_consented: bool,
    ) -> Decisions:
        """Let somebody, named by the national identifier, act for the patient; the latest mandate of a holder counts.

        A parent's ends on the 18th birthday at the latest. Raises Unprocessable for an identifier that is nobody's or
        the patient's own, a parent of somebody of age or without a birth date, and an attestation without consent.
        """
        named = self._holder(holder)

        def decide(subject: Subject) -> Decision:
            self._check_may_appoint(subject, kind, is_consented=is_consented)
            _check_span(span, request.at)
            if self._index.find_person_of(*holder) == subject.person.key:
                raise Unprocessable("nobody is the own proxy", expression="holder")
            if mandate_of(subject.policy, named) is None:
                _check_room(len(subject.policy.mandates), MAX_MANDATES, "holder")
            since, until = max(span.since or request.at, request.at), span.until
            if kind is MandateKind.PARENT:
                of_age = self._of_age(subject)
                if of_age <= since:
                    raise Unprocessable("the patient is of age", expression="kind")
                until = min(until or of_age, of_age)
            mandate = Mandate(holder=named, kind=kind, since=since, until=until)
            statement = Statement(
                kind=DecisionKind.PROXY_APPOINTED,
                motive=kind.value,
                party=named,
                since=since,
                until=until,
                is_consented=is_consented,
            )
            return Decision(follows=lambda policy: appointed(policy, mandate), statements=(statement,))

        return self._decided(request, patient, decide)

    def dismiss(
        self, request: Request, patient: str, holder: Identifier | None, *, is_consented: bool = False, reason: str = ""
    ) -> Decisions:
        """End a mandate: a holder the own (`holder` None), the patient and who represents the patient a carer's.

        A guardian's the patient, too; a parent's or a guardian's a professional who has seen the papers.
        """
        own = request.caller.person

        def decide(subject: Subject) -> Decision:
            named = self._holder(holder) if holder is not None else own
            if named is None:
                raise Unprocessable("a holder is required", code="required", expression="holder")
            mandate = mandate_of(subject.policy, named)
            if named != own:
                _check_may_dismiss(subject, mandate.kind if mandate else None, is_consented=is_consented)
            if mandate is None:
                raise Conflict("there is no such proxy")
            statement = Statement(
                kind=DecisionKind.PROXY_ENDED,
                motive=mandate.kind.value,
                party=named,
                reason=reason,
                is_consented=is_consented,
            )
            return Decision(follows=lambda policy: dismissed(policy, named), statements=(statement,))

        return self._decided(request, patient, decide)

    def release(
        self, request: Request, patient: str, holder: Identifier, references: Sequence[tuple[str, str]]
    ) -> Decisions:
        """Show single resources (type, id) of the record to a carer.

        Raises Unprocessable (`not-found`) for one that is not of this record, or not there for the caller.
        """
        named, wanted = self._holder(holder), _references(references)

        def decide(subject: Subject) -> Decision:
            mandate = _check_carer(subject, named)
            there = self._in_parallel(
                *(partial(self._is_there, request, subject, *each.split("/")) for each in sorted(wanted))
            )
            if not all(there):
                raise Unprocessable("a resource is not known", code="not-found", expression="reference")
            _check_room(len((mandate.released or frozenset()) | wanted), MAX_RELEASED + 1, "reference")
            return Decision(
                follows=lambda policy: released(policy, named, wanted),
                statements=(Statement(kind=DecisionKind.RELEASED, party=named, references=tuple(sorted(wanted))),),
            )

        return self._decided(request, patient, decide)

    def withdraw_release(
        self, request: Request, patient: str, holder: Identifier, references: Sequence[tuple[str, str]]
    ) -> Decisions:
        named, wanted = self._holder(holder), _references(references)

        def decide(subject: Subject) -> Decision:
            mandate = _check_carer(subject, named)
            if not wanted <= (mandate.released or frozenset()):
                raise Conflict("a resource is not released")
            statement = Statement(kind=DecisionKind.RELEASE_WITHDRAWN, party=named, references=tuple(sorted(wanted)))
            return Decision(follows=lambda policy: withheld(policy, named, wanted), statements=(statement,))

        return self._decided(request, patient, decide)

    # --- preferences ----------------------------------------------------------------------------------------------

    def prefer(self, request: Request, patient: str, preferences: Preferences) -> Decisions:
        """Oppose accesses in an emergency, or of regulation centres; agree to research. Conflict if nothing changes."""
        given = {
            each.name: value for each in fields(preferences) if (value := getattr(preferences, each.name)) is not None
        }
        if not given:
            raise Unprocessable("a preference is required", code="required", expression="Parameters.parameter")

        def decide(subject: Subject) -> Decision:
            _check_own(subject)
            changed = {name: value for name, value in given.items() if getattr(subject.policy, name) != value}
            if not changed:
                raise Conflict("the preferences are these already")

            def follows(policy: Policy) -> Policy:
                return replace(policy, **given)

            statements = tuple(Statement(kind=_STATED[name][value]) for name, value in changed.items())
            return Decision(follows=follows, statements=statements)

        return self._decided(request, patient, decide)

    # --- shared ---------------------------------------------------------------------------------------------------

    def _decided(self, request: Request, patient: str, decide: Callable[[Subject], Decision]) -> Decisions:
        return once(
            self._journal,
            request,
            lambda: self._decide(request, patient, decide, kept_decisions).decisions,
            restored_decisions,
        )

    def _holder(self, holder: Identifier) -> str:
        if not self._is_national(*holder):
            raise Unprocessable("a proxy is named by the national identifier", code="value", expression="holder")
        return "|".join(holder)

    def _is_there(self, request: Request, subject: Subject, type: str, id: str) -> bool:
        return id.partition("-")[0] in subject.person.members and self._record.exists(request, type, id)

    def _of_age(self, subject: Subject) -> datetime:
        """The earliest of what the source records tell, if they differ."""
        found = self._in_parallel(*(partial(self._identities.find, each) for each in subject.person.members))
        born = [each.traits.birth_date for each in found if each is not None and each.traits.birth_date is not None]
        if not born:
            raise Unprocessable("the birth date of the patient is not known", code="required", expression="kind")
        return of_age_on(min(born))

    def _check_may_appoint(self, subject: Subject, kind: MandateKind, *, is_consented: bool) -> None:
        if subject.capacity is Capacity.PROFESSIONAL and kind is not MandateKind.CARER:
            _check_consent(is_consented)
        elif subject.capacity not in _APPOINTS[kind]:
            raise Forbidden("this proxy is not the caller's to appoint")


def _check_own(subject: Subject) -> None:
    if subject.capacity not in OWN:
        raise Forbidden("this is decided by the patient, or by who represents the patient")


def _check_consent(is_consented: bool) -> None:
    if not is_consented:
        raise Unprocessable("the patient's consent is needed", code="required", expression="consent")


def _check_may_dismiss(subject: Subject, kind: MandateKind | None, *, is_consented: bool) -> None:
    if subject.capacity is Capacity.PROFESSIONAL and kind is not MandateKind.CARER:
        _check_consent(is_consented)
    elif subject.capacity not in (_DISMISSES[kind] if kind else OWN):
        raise Forbidden("this proxy is not the caller's to dismiss")


def _check_carer(subject: Subject, holder: str) -> Mandate:
    _check_own(subject)
    mandate = mandate_of(subject.policy, holder)
    if mandate is None or mandate.kind is not MandateKind.CARER:
        raise Conflict("there is no such carer")
    return mandate


def _check_span(span: Span, at: datetime) -> None:
    if span.until is not None and span.until <= max(span.since or at, at):
        raise Unprocessable("the period is over, or ends before it begins", code="value", expression="period")


def _check_room(count: int, limit: int, expression: str) -> None:
    if count >= limit:
        raise Unprocessable("there are as many as there may be: end others first", expression=expression)


def _party(identifier: Identifier) -> str:
    party = party_of(*identifier)
    if party is None:
        raise Unprocessable(
            "a party is named by an IDNPS, RPPS, IDNST or FINESS number", code="value", expression="party"
        )
    return party


def _own_party(request: Request, subject: Subject, party: Identifier | None) -> str:
    """Whom an authorisation is about: for a professional herself, or her organisation."""
    caller = request.caller
    if subject.capacity is Capacity.PROFESSIONAL:
        named = _party(party) if party is not None else caller.professional
        if named is None or named not in (caller.professional, caller.organisation):
            raise Forbidden("a professional decides for herself and her own organisation only")
        return named
    _check_own(subject)
    if party is None:
        raise Unprocessable("a party is required", code="required", expression="party")
    return _party(party)


def _references(references: Sequence[tuple[str, str]]) -> frozenset[str]:
    return frozenset(f"{type}/{id}" for type, id in references)


# --- the same answer again ------------------------------------------------------------------------------------------

_INSTANTS = ("at", "since", "until")


def kept_decisions(decided: Decided) -> Mapping[str, Any]:
    return {"decisions": [_decision_to_map(each) for each in decided.decisions]}


def restored_decisions(kept: Mapping[str, Any]) -> Decisions:
    return tuple(_decision_from_map(each) for each in kept["decisions"])


def _decision_to_map(decision: RecordDecision) -> dict[str, Any]:
    written = {each.name: getattr(decision, each.name) for each in fields(decision)}
    dated = {name: written[name].isoformat() for name in _INSTANTS if written[name] is not None}
    return {**written, **dated, "references": list(decision.references)}


def _decision_from_map(kept: Mapping[str, Any]) -> RecordDecision:
    dated = {name: datetime.fromisoformat(kept[name]) for name in _INSTANTS if kept[name] is not None}
    return RecordDecision(
        **{**kept, **dated, "kind": DecisionKind(kept["kind"]), "references": tuple(kept["references"])}
    )
