"""What is asked of a prescriber about a line, and the answers: renewals and changes.

E-prescription contract, sections 5, 6.3, 12 and 14. Patient and pharmacy ask for a renewal; who holds a line asks to
change it. Of each kind, one request of a line is open at a time. To approve a renewal is to begin a draft, which is
signed like any other prescription. To approve a change is to sign the line as it is to be: it takes the place of the
line in force, whose own signed content stays what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from passerelle.access import Request
from passerelle.errors import NotFound
from passerelle.journal import Change
from passerelle.patients.model import Person
from passerelle.prescriptions import history, lines, signature, worklists
from passerelle.prescriptions.checking import Checked, Circumstances, signed_form
from passerelle.prescriptions.commands import Move, Plan, Target, announced, check_open, check_role, held, roles
from passerelle.prescriptions.errors import rx
from passerelle.prescriptions.model import (
    Ask,
    AskChange,
    AskedChange,
    ChangeAnswer,
    Line,
    LineChange,
    Order,
    OrderLine,
    Outcome,
    Override,
    Prepared,
    Prescription,
    PrescriptionCreated,
    RenewalAnswer,
    Signature,
)
from passerelle.prescriptions.prescribing import Prescribing, begun
from passerelle.prescriptions.refusals import refusal
from passerelle.prescriptions.transitions import STATES, Cell
from passerelle.prescriptions.validity import paris_day

MAX_ASKS = 99  # of one prescription
_PRESCRIBER = frozenset({"prescriber"})
# What a prescription is signed under, but for who drafted it and when; signature and checks are those of the answer.
_NOT_ASKED_AGAIN = frozenset({"same-prescriber", "authored-today", "signature-valid", "cds-resolved"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AskTarget:
    """The request that an answer is for, by its prescription; `if_match` is a version of its Task."""

    id: str
    number: int
    if_match: int | None = None


def ask_task_id(group_id: str, number: int) -> str:
    return f"{group_id}-r{number:02d}"


class Asking(Prescribing):
    def request_renewal(self, request: Request, target: Target, text: str | None) -> Outcome:
        """Ask for the line again; the line itself stays as it is."""

        def plan(prescription: Prescription, person: Person | None) -> Plan:
            self.check_visible(request, prescription)
            check_open(request, prescription, person)
            ((line, cell),) = self.decisions(request, prescription, target, {})
            return self._asked(request, prescription, line, cell, Ask(**self._new(request, line, "renewal"), text=text))

        _check_line(target)
        return self.run(request, target, plan, also=[self.person_of(target)])

    def request_change(self, request: Request, target: Target, asked: AskedChange) -> Outcome:
        """Ask, as the holder of the line, to have it changed or explained."""

        def plan(prescription: Prescription) -> Plan:
            ((line, cell),) = self.decisions(request, prescription, target, {"secret": asked.secret})
            ask = Ask(**self._new(request, line, "change"), topic=asked.topic, text=asked.text, proposal=asked.proposal)
            return self._asked(request, prescription, line, cell, ask)

        _check_line(target)
        return self.run(request, target, plan, unknown="RX-SECRET")

    def _new(self, request: Request, line: Line, kind: str) -> dict[str, Any]:
        (role,) = roles(request) & self.transitions.roles_of(request.name)
        return {
            "number": 0,
            "line": line.number,
            "kind": kind,
            "status": "requested",
            "version": 1,
            "asked_at": request.at.isoformat(),
            "asked_by": request.caller.organisation,
            "asked_as": role,
        }

    def _asked(self, request: Request, prescription: Prescription, line: Line, cell: Cell, ask: Ask) -> Plan:
        group, same = prescription.group, (ask.line, ask.kind)
        already = next((each for each in prescription.asks if each.is_open and (each.line, each.kind) == same), None)
        if already is not None:
            task = f"Task/{ask_task_id(group.id, already.number)}"
            raise rx("RX-STATE", "a request of this kind is open for this line", state="requested", task=task)
        if len(prescription.asks) >= MAX_ASKS:
            raise rx("RX-STATE", "too many requests were made for this prescription")
        ask = replace(ask, number=len(prescription.asks) + 1)
        return replace(self._told(request, prescription, line, ask, "requested"), status=cell.http)

    def _told(self, request: Request, prescription: Prescription, line: Line, ask: Ask, what: str) -> Plan:
        """The request as it is from now on, with its Task in the patient's record."""
        group = prescription.group
        stored, task = self.record.ask_version(group, line, ask, request.at)
        return Plan(
            prescription=prescription.with_ask(ask),
            unmoved=(line.number,),
            extra=(AskChange(prescription=group.id, ask=ask), stored),
            record=((f"Task/{ask_task_id(group.id, ask.number)}", ask.version),),
            resources=(task,),
            notes=(f"{line.number}:{ask.kind}-{what}",),
        )

    # --- answers ----------------------------------------------------------------------------------------------------

    def respond_renewal(self, request: Request, target: AskTarget, given: RenewalAnswer) -> Outcome:
        """Deny, or begin a draft of the same again or of what is given instead; status 200."""

        def plan(prescription: Prescription, *_: object) -> Plan:
            ask, line = self._open(request, prescription, target, "renewal")
            if given.answer == "deny":
                return self._told(request, prescription, line, _answered(request, ask, given), "denied")
            today, me = paris_day(request.at), request.caller.professional or ""
            if not given.orders:
                orders: Sequence[OrderLine] = [self.record.renewed(line, me, today)]
            else:
                _check_prescriber(request, given.orders)
                if given.patient != prescription.group.patient:
                    raise rx("RX-INVALID", "the order is for another patient", issue="value")
                orders = [self.record.following(order, line) for order in given.orders]
            draft, event, code = begun(request, Order(patient=prescription.group.patient, lines=tuple(orders)))
            answered = replace(_answered(request, ask, given), draft=draft.group.id)
            plan = self._told(request, prescription, line, answered, "approved")
            begins: tuple[Change, ...] = (
                PrescriptionCreated(prescription=draft),
                event,
                announced(request, draft.group, ()),
                *worklists.changes(None, draft),
            )
            return replace(plan, extra=(*plan.extra, *begins), made=draft, access_code=code)

        target_ = Target(id=target.id)
        patient = target_.patient
        also = [partial(self._known, request, patient)] if given.answer != "deny" and patient else []
        return self.run(request, target_, plan, also=also, allowed=_PRESCRIBER)

    def prepare_change(
        self, request: Request, target: AskTarget, order: OrderLine, overrides: Sequence[Override] = ()
    ) -> Prepared:
        """What to sign to approve a change, with the findings that are overridden; changes nothing."""
        check_role(request, _PRESCRIBER)
        prescription, known = self.find(target.id, [self.known_of(request, Target(id=target.id))])
        if prescription is None:
            raise rx("RX-NOT-FOUND")
        self.check_bound(request, prescription)
        _, line = self._open(request, prescription, target, "change")
        changed = self._changed(request, prescription, line, order)
        checked = self._check(changed, line, known)
        digest, group = self._digest(checked), prescription.group
        return Prepared(
            group=group,
            content=self._change(request, changed, line, target, digest, signed_form(group, checked, overrides)),
            protected=signature.protected_header(self.keys.keys_of(request.caller)),
            digest=digest,
            checks=self.checks.issues.answer(group.base_url, group.patient, checked, overrides, request.at),
        )

    def respond_change(self, request: Request, target: AskTarget, given: ChangeAnswer) -> Outcome:
        """Deny, explain, or put the line in force as it is signed to be; status 200."""

        def plan(
            prescription: Prescription,
            known: Circumstances | None = None,
            keys: Callable[[], Sequence[signature.Jwk]] = tuple,
        ) -> Plan:
            ask, line = self._open(request, prescription, target, "change")
            answered = _answered(request, ask, given)
            if given.order is None or given.signed is None or known is None:
                what = "denied" if given.answer == "deny" else "explained"
                return self._told(request, prescription, line, answered, what)
            changed = self._changed(request, prescription, line, given.order)
            content = self._signed(request, changed, line, target, given.signed, known, keys())
            answered = replace(answered, approved=content, approved_jws=given.signed.jws)
            plan = self._told(request, prescription, line, answered, "approved")
            after = changed.line(line.number)
            assert after is not None
            after = replace(after, request_version=line.request_version + 1)
            move = Move(
                change=LineChange(prescription=target.id, before=line, after=after),
                extra=(self.record.request_version(prescription.group, after, request.at),),
                record=((f"MedicationRequest/{after.request_id}", after.request_version),),
            )
            return replace(plan, moves=(move,), unmoved=(), bound={"change": history.sha256(content)})

        target_ = Target(id=target.id)
        also: Sequence[Callable[[], Any]] = ()
        if given.answer == "approve":
            also = [self.known_of(request, target_), held(partial(self.keys.keys_of, request.caller))]
        return self.run(request, target_, plan, also=also, allowed=_PRESCRIBER)

    def _signed(
        self,
        request: Request,
        changed: Prescription,
        line: Line,
        target: AskTarget,
        signed: Signature,
        known: Circumstances,
        keys: Sequence[signature.Jwk],
    ) -> str:
        """The content that is signed; raises RX-SIGNATURE, and RX-CDS-STOP for a finding that is in the way."""
        checked = self._check(changed, line, known)
        digest = signed.digest or self._digest(checked)
        content = self._change(
            request, changed, line, target, digest, signed_form(changed.group, checked, signed.overrides)
        )
        is_of_today = signed.signed_on == paris_day(request.at)
        if not is_of_today or not signature.is_signature(signed.jws, content, keys):
            raise rx("RX-SIGNATURE")
        unanswered = self._unanswered(checked, digest, signed.overrides)
        if unanswered:
            raise rx("RX-CDS-STOP", findings=",".join(unanswered))
        return content

    def _check(self, changed: Prescription, line: Line, known: Circumstances) -> Checked | None:
        return self.checks.of_lines(changed, known, new=[line.number])

    def _open(self, request: Request, prescription: Prescription, target: AskTarget, kind: str) -> tuple[Ask, Line]:
        """The request that waits for this answer, and its line; who answers belongs to the practice."""
        self.check_visible(request, prescription)
        ask = prescription.ask(target.number)
        line = prescription.line(ask.line) if ask else None
        if ask is None or line is None or ask.kind != kind:
            raise rx("RX-NOT-FOUND")
        if not ask.is_open:
            raise rx("RX-STATE", "the request was answered", state=ask.status)
        if target.if_match not in (None, ask.version):
            raise rx("RX-VERSION", etag=f'W/"{ask.version}"')
        return ask, line

    def _changed(self, request: Request, prescription: Prescription, line: Line, order: OrderLine) -> Prescription:
        """With the line as the order has it; raises what stands against it: its state, its ledger, or a rule."""
        situation = self.situation(request, prescription, line, {})
        state = self.effective(situation)
        if STATES[state].request_status != "active":
            code = self.transitions.decide("$activate", state, lambda _: True).error or "RX-STATE"
            raise refusal(code, state, situation, allowed="none", version=line.version)
        _check_prescriber(request, [order])
        group, order = prescription.group, self.record.amended(line, order)
        regime, entries = self.regime_of(order), prescription.entries_of(line.number)
        after = lines.amended(group, line, order, regime, entries)
        changed = prescription.with_line(after)
        facts = {
            "regimes": {after.number: regime},
            "born_on": lambda: self.people.read(request, group.patient).traits.birth_date,
            "covered": lambda: self.covered(group),
        }
        amended = self.situation(request, changed, after, facts)
        broken = self.transitions.first_broken("$activate", amended.holds, besides=_NOT_ASKED_AGAIN)
        if broken is not None:
            raise refusal(broken, state, amended, allowed="none", version=line.version)
        return changed

    def _change(
        self,
        request: Request,
        changed: Prescription,
        line: Line,
        target: AskTarget,
        digest: str,
        overrides: Sequence[Mapping[str, Any]],
    ) -> str:
        """The bytes to sign: they name the version of the line that they replace."""
        after = changed.line(line.number)
        assert after is not None
        return signature.change(
            changed.group,
            line=line.number,
            version=line.version,
            ask=target.number,
            requester=request.caller.professional or "",
            signed_on=paris_day(request.at),
            request=self.record.signed_line(changed.group, after),
            digest=digest,
            overrides=overrides,
        )

    def _known(self, request: Request, patient: str) -> None:
        """Raise RX-NOT-FOUND unless the caller could prescribe for the patient today."""
        try:
            self.people.read(request, patient)
        except NotFound:
            raise rx("RX-NOT-FOUND") from None


def _check_line(target: Target) -> None:
    if not target.is_line:
        raise rx("RX-INVALID", "the operation is on one line", issue="value")


def _check_prescriber(request: Request, orders: Sequence[OrderLine]) -> None:
    if any(order.prescriber != request.caller.professional for order in orders):
        raise rx("RX-ROLE", "the requester is not the prescriber who calls")


def _answered(request: Request, ask: Ask, given: RenewalAnswer | ChangeAnswer) -> Ask:
    return replace(
        ask,
        status="rejected" if given.answer == "deny" else "completed",
        version=ask.version + 1,
        answer=given.answer,
        answered_at=request.at.isoformat(),
        answered_by=request.caller.professional,
        answer_reason=given.reason,
        answer_text=given.text,
    )
