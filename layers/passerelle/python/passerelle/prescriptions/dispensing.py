"""What a pharmacy does: accept, extend the lease, dispense; or reject, or decline.

E-prescription contract, sections 5, 8 and 10. A success of `dispense` is the permission to hand over: commit, then hand
over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import cache

from passerelle.access import Request
from passerelle.consents.control import is_shut_out
from passerelle.errors import AccessRefused, Gone
from passerelle.identifiers import new_patient_key, new_resource_id
from passerelle.journal import Change
from passerelle.medicines.model import Product
from passerelle.patients.model import Person
from passerelle.prescriptions import lines, numbers, reminders, validity
from passerelle.prescriptions.checking import (
    Checked,
    Circumstances,
    available,
    blocking_supply,
    signed_overrides,
)
from passerelle.prescriptions.commands import Commands, Move, Plan, Target, ended, line_task_id, milliseconds
from passerelle.prescriptions.errors import rx
from passerelle.prescriptions.model import (
    ClaimChange,
    ClaimRecord,
    ClaimTerms,
    Group,
    LedgerEntry,
    Line,
    LineChange,
    LineClaimed,
    LineSupplied,
    Outcome,
    Override,
    Prescription,
    Refusal,
    Supplied,
    Supply,
)
from passerelle.prescriptions.regulation import regime_of_line
from passerelle.prescriptions.relations import related
from passerelle.prescriptions.substitution import is_comparable, is_same
from passerelle.prescriptions.transitions import STATES, Cell
from passerelle.prescriptions.workdays import end_of_next_working_day

PROGRESS: Mapping[str, timedelta] = {
    "preparing": timedelta(hours=24),  # at least: to the end of the next working day
    "awaiting-stock": timedelta(hours=72),
    "ready-to-collect": timedelta(hours=72),
}
"""What a holder may say of a line, and for how long the claim lasts from then on (contract, section 8)."""


class Dispensing(Commands):
    def accept(self, request: Request, target: Target, terms: ClaimTerms) -> Outcome:
        """Claim the lines named, all or none, or every line that is free; of N callers one succeeds."""

        def plan(prescription: Prescription, person: Person | None, known: Circumstances) -> Plan:
            facts = {
                "code": terms.code,
                "recover": terms.recover,
                "override_routing": terms.override_routing,
            }
            decided = self.decisions(request, prescription, target, facts)
            if person is not None and person.is_erased:
                raise Gone()
            parties = (request.caller.professional, request.caller.organisation)
            if person is not None and is_shut_out(person.policy, parties):
                raise AccessRefused()  # even to who has the code: what was claimed before can be finished
            secret = numbers.new_secret()
            group = prescription.group
            moves = tuple(
                self._claimed(request, prescription, line, str(cell.next), numbers.digest(secret))
                for line, cell in _presentable(decided, target, validity.paris_day(request.at))
            )
            lapses = [each.entry for move in moves for each in move.extra if isinstance(each, Supplied)]
            relation = related(request, group, person, request.caller.organisation) if person else ()
            presented = replace(prescription, ledger=(*prescription.ledger, *lapses))
            checked = self.checks.of_lines(prescription, known, new={move.change.after.number for move in moves})
            shown = self._shown(request, group, checked, signed_overrides(prescription))
            return Plan(prescription=presented, moves=moves, secret=secret, extra=relation, checks=shown)

        also = [self.person_of(target), self.known_of(request, target)]
        return self.run(request, target, plan, also=also, unknown="RX-ACCESS-CODE", is_claim=True)

    def _shown(self, request: Request, group: Group, checked: Checked | None, answers: Sequence[Override]) -> str:
        return self.checks.issues.answer(group.base_url, group.patient, checked, answers, request.at)

    def accept_number(self, request: Request, number: str, target: Target, terms: ClaimTerms) -> Outcome:
        """Claim by the number printed on the prescription; a wrong number is answered like a wrong code."""
        found = self.prescriptions.find_id(number) if numbers.is_well_formed(number) else None
        unknown = new_resource_id(new_patient_key(), request.at)  # looked for all the same: it takes as long
        return self.accept(request, replace(target, id=found or unknown), terms)

    def _claimed(self, request: Request, prescription: Prescription, line: Line, state: str, secret_hash: str) -> Move:
        group, today = prescription.group, validity.paris_day(request.at)
        claim = ClaimRecord(
            line=line.number,
            fence=line.fence + 1,
            owner=request.caller.organisation,
            secret_hash=secret_hash,
            taken_at=milliseconds(request),
        )
        change = LineClaimed(
            prescription=group.id,
            before=line,
            after=lines.claimed(line, state, claim, self.policy.claim_lease),
            now=claim.taken_at,
            today=today,
            is_recovery=lines.is_recovery(line, claim),
        )
        extra: tuple[Change, ...] = (ClaimChange(prescription=group.id, claim=claim),)
        late = 0 if change.is_recovery else validity.lapse(prescription, line, today)
        if late:
            lapse = LedgerEntry(
                line=line.number,
                number=len(prescription.entries_of(line.number)) + 1,
                fill_no=line.fill_no,
                quantity=late,
                on=today,
                at=request.at.isoformat(),
                organisation=claim.owner,
                dispense_id="",
                kind="lapse",
            )
            change = replace(change, after=lines.lapsed(change.after, late))
            extra += (Supplied(prescription=group.id, entry=lapse),)
        return Move(change=change, extra=extra)

    def reject(self, request: Request, target: Target, secret: str, reason: str | None) -> Outcome:
        """Give lines back; what was supplied stays supplied."""

        def plan(prescription: Prescription) -> Plan:
            decided = self.decisions(request, prescription, target, {"secret": secret})
            moves = [
                self.moved(
                    request,
                    prescription.group,
                    line,
                    lines.given_back(line, str(cell.next)),
                    extra=ended(prescription, line, "given-back", reason),
                )
                for line, cell in decided
            ]
            return Plan(prescription=prescription, moves=tuple(moves))

        return self.run(request, target, plan, unknown="RX-SECRET")

    def extend_lease(self, request: Request, target: Target, secret: str, progress: str) -> Outcome:
        """Keep the lines claimed for longer, and say why: never beyond a cap that counts from the claim."""

        def plan(prescription: Prescription) -> Plan:
            facts = {"secret": secret, "lease_cap": self.policy.lease_cap}
            decided = self.decisions(request, prescription, target, facts)
            until = self._lease_until(request.at, progress)
            moves = []
            for line, cell in decided:
                cap = line.claimed_at + self.policy.lease_cap // timedelta(milliseconds=1)
                after = lines.extended(line, str(cell.next), min(until, cap), progress, milliseconds(request))
                moves.append(self.moved(request, prescription.group, line, after))
            return Plan(prescription=prescription, moves=tuple(moves))

        if progress not in PROGRESS:
            raise rx("RX-INVALID", f"the reason is one of {', '.join(PROGRESS)}", issue="code-invalid")
        return self.run(request, target, plan, unknown="RX-SECRET")

    def _lease_until(self, at: datetime, progress: str) -> int:
        until = at + PROGRESS[progress]
        if progress == "preparing":
            until = max(until, end_of_next_working_day(at, reminders.policy()["holidayRegion"]))
        return int(until.timestamp() * 1000)

    def decline(self, request: Request, target: Target, refusal: Refusal) -> Outcome:
        """Say why lines are not supplied: they are free again, or closed for good where the reason allows it."""

        def plan(prescription: Prescription) -> Plan:
            facts = {"secret": refusal.secret, "reason": refusal.reason, "closes": refusal.closes}
            moves = []
            for line, cell in self.decisions(request, prescription, target, facts):
                after = lines.given_back(line, str(cell.next))
                stored, reference = self.record.declined_version(
                    prescription.group, line, refusal.reason, request.caller.organisation, request.at
                )
                extra = (*ended(prescription, line, "declined", refusal.reason), stored)
                change = LineChange(prescription=prescription.group.id, before=line, after=after)
                moves.append(self.recorded(request, prescription.group, change, extra, ((reference, 1),)))
            return Plan(prescription=prescription, moves=tuple(moves))

        return self.run(request, target, plan, unknown="RX-SECRET")

    def dispense(self, request: Request, target: Target, supply: Supply) -> Outcome:
        """Record a supply of one line; the commit that this returns from is the permission to hand over."""
        if not target.is_line:
            raise rx("RX-INVALID", "the operation is on one line", issue="value")
        identifier = None
        if supply.identifier is not None:
            identifier = self.prescriptions.blinded(request.caller.organisation, supply.identifier)
        supplied = self.known_product(supply.products)

        def plan(prescription: Prescription, known: Circumstances) -> Plan:
            number = target.lines[0]
            check = cache(lambda: self.checks.of_lines(prescription, known, new={number}, supplies={number: supply}))
            facts = {
                "unanswered": cache(lambda: _unanswered(prescription, number, check(), supply)),
                "secret": supply.secret,
                "quantity": supply.quantity,
                "products": supply.products,
                "supplied": supplied,
                "supply_reason": supply.substitution_reason,
                "identifier": identifier,
            }
            ((line, cell),) = self.decisions(request, prescription, target, facts)
            if line.unit and supply.unit != line.unit:
                raise rx("RX-INVALID", "the quantity is in another unit than the prescribed one", issue="value")
            kept, references = self._acknowledged(request, prescription.group, check(), supply)
            noted = replace(supply, dispense=self.checks.issues.noted(supply.dispense, references))
            plan = self._supplied(request, prescription, line, str(cell.next), noted, identifier)
            answers = (*signed_overrides(prescription), *supply.acknowledged)
            return replace(
                plan,
                extra=(*plan.extra, *kept),
                record=(*plan.record, *((each, 1) for each in references)),
                not_checked=_not_checked(line, supply, supplied),
                checks=self._shown(request, prescription.group, check(), answers),
            )

        return self.run(request, target, plan, also=[self.known_of(request, target)], unknown="RX-SECRET")

    def _acknowledged(
        self, request: Request, group: Group, checked: Checked | None, supply: Supply
    ) -> tuple[Sequence[Change], Sequence[str]]:
        """What the record keeps of the findings that the pharmacist answers for; and the references of that."""
        if not supply.acknowledged:
            return (), ()
        return self.checks.issues.versions(group, request.caller, available(checked), supply.acknowledged, request.at)

    def _supplied(
        self,
        request: Request,
        prescription: Prescription,
        line: Line,
        state: str,
        supply: Supply,
        identifier: str | None,
    ) -> Plan:
        group, earlier = prescription.group, prescription.supplies_of(line.number)
        entries = prescription.entries_of(line.number)
        entry = LedgerEntry(
            line=line.number,
            number=len(entries) + 1,
            fill_no=line.fill_no,
            quantity=supply.quantity,
            on=validity.paris_day(request.at),
            at=request.at.isoformat(),
            organisation=request.caller.organisation,
            dispense_id=new_resource_id(group.patient, request.at),
            identifier=identifier,
        )
        after = lines.supplied(group, line, state, [*earlier, entry], self.policy.early_days)
        stored, dispense = self.record.dispense_version(group, after, entry, supply, request.at)
        extra: tuple[Change, ...] = (Supplied(prescription=group.id, entry=entry), stored)
        code = None
        if after.owner is None:
            extra += ended(prescription, line, "finished")
            code = next_code(prescription, line, after)
        if code is not None:
            group = replace(group, code_hash=numbers.digest(code), rotated_for=line.secret_hash)
            code = None if group.is_code_with_patient else code  # who asks for the next one by `route`
        change = LineSupplied(
            prescription=group.id,
            before=line,
            after=after,
            now=milliseconds(request),
            quantity=supply.quantity,
        )
        record = ((f"MedicationDispense/{entry.dispense_id}", 1),)
        return Plan(
            prescription=replace(prescription, group=group, ledger=(*prescription.ledger, entry)),
            moves=(self.recorded(request, group, change, extra, record),),
            access_code=code,
            dispense=dispense,
        )


def _unanswered(prescription: Prescription, number: int, checked: Checked | None, supply: Supply) -> tuple[str, ...]:
    """Nothing where nothing could be checked: the answer says so, and the patient is not left without."""
    if checked is None:
        return ()
    answers = (*signed_overrides(prescription), *supply.acknowledged)
    return blocking_supply(checked, line_task_id(prescription.group.id, number), answers)


def next_code(prescription: Prescription, before: Line, after: Line) -> str | None:
    """A new access code, once per claim that completes a fill, while anything is left to claim."""
    kinds = {STATES[line.state].kind for line in prescription.with_line(after).lines}
    group = prescription.group
    if group.rotated_for == before.secret_hash or not kinds & {"open", "claimed"}:
        return None
    return numbers.new_secret()


def _presentable(decided: Sequence[tuple[Line, Cell]], target: Target, today: date) -> list[tuple[Line, Cell]]:
    """The lines whose time has come (FR-S4); lines that are named are claimed together or not at all."""
    waiting = {line.number: breach for line, _ in decided if (breach := validity.waiting_breach(line, today))}
    if waiting and (target.lines or len(waiting) == len(decided)):
        breach = next(iter(waiting.values()))
        raise rx(breach.code, **dict(breach.facts))
    return [(line, cell) for line, cell in decided if line.number not in waiting]


def _not_checked(line: Line, supply: Supply, supplied: Product | None) -> tuple[str, ...]:
    """The rules of law that too little is known for: the answer says so."""
    regime, found = regime_of_line(line), []
    if line.per_day is None:
        found.append("supply-maximum")
    if not is_same(line, regime, supply.products, supplied) and not is_comparable(regime, supplied):
        found.append("substitution")
    return tuple(found)
