"""What a prescriber does: create, prepare, activate; and cancel, which the patient may too.

E-prescription contract, sections 5, 15 and 16.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache, partial
from typing import Any

from passerelle.access import Request
from passerelle.audit.commands import account_of, once
from passerelle.consents.decision import profession_of
from passerelle.identifiers import new_resource_id
from passerelle.journal import Change
from passerelle.prescriptions import history, lines, numbers, reminders, signature, worklists
from passerelle.prescriptions.checking import (
    CHANGED,
    Checked,
    Circumstances,
    available,
    blocking_signature,
    signed_form,
)
from passerelle.prescriptions.commands import (
    PROXIES,
    Commands,
    Plan,
    Target,
    announced,
    check_key,
    check_role,
    held,
    moving,
    roles,
    touched,
)
from passerelle.prescriptions.errors import rx
from passerelle.prescriptions.model import (
    Group,
    HistoryEvent,
    Order,
    Outcome,
    Override,
    Prepared,
    Prescription,
    PrescriptionCreated,
    Signature,
)
from passerelle.prescriptions.ports import Registration
from passerelle.prescriptions.regulation import longest_narcotic
from passerelle.prescriptions.scope import prescribes
from passerelle.prescriptions.transitions import STATES
from passerelle.prescriptions.validity import Covered, covering

_LISTED = 50  # prescriptions that are looked through at a time
_MAX_REQUESTS_BYTES = 48_000  # of all MedicationRequests: they are signed, stored and answered as one item


class Prescribing(Commands):
    def create(self, request: Request, order: Order) -> Outcome:
        """Keep a draft; raises RX-ROLE unless each line names the caller as its prescriber."""
        check_key(request)
        check_role(request, {"prescriber"})
        if not prescribes(profession_of(request.caller)):
            raise rx("RX-ROLE", "the profession of the caller prescribes no medicines")
        if any(line.prescriber != request.caller.professional for line in order.lines):
            raise rx("RX-ROLE", "the requester is not the prescriber who calls")
        return once(self.journal, request, lambda: self._create(request, order), Outcome.from_map)

    def _create(self, request: Request, order: Order) -> Outcome:
        self.people.read(request, order.patient)
        draft, event, code = begun(request, order)
        outcome = Outcome(
            prescription=draft, lines=tuple(line.number for line in draft.lines), status=201, access_code=code
        )
        self.journal.commit(
            [
                PrescriptionCreated(prescription=draft),
                event,
                announced(request, draft.group, ()),
                *worklists.changes(None, draft),
                *account_of(request, touched(draft.group), outcome.to_map()),
            ]
        )
        return outcome

    def prepare(self, request: Request, target: Target, overrides: Sequence[Override] = ()) -> Prepared:
        """What to sign for the draft as it is now, with the findings that are overridden; changes nothing."""
        check_role(request, self.transitions.roles_of(request.name))
        prescription, known = self.find(target.id, [self.known_of(request, target)])
        if prescription is None:
            raise rx("RX-NOT-FOUND")
        self.check_visible(request, prescription)
        self.check_bound(request, prescription)
        self.decisions(request, prescription, target, {})
        group = prescription.group
        checked = self._checked(prescription, known)
        digest = self._digest(checked)
        patient = self.people.read(request, group.patient)
        content = self.content(prescription, patient, digest, signed_form(group, checked, overrides))
        return Prepared(
            group=group,
            content=content,
            protected=signature.protected_header(self.keys.keys_of(request.caller)),
            digest=digest,
            checks=self.checks.issues.answer(group.base_url, group.patient, checked, overrides, request.at),
        )

    def _checked(self, prescription: Prescription, known: Circumstances) -> Checked | None:
        drafts = [line.number for line in prescription.lines if STATES[line.state].kind == "draft"]
        return self.checks.of_lines(prescription, known, new=drafts)

    def _digest(self, checked: Checked | None) -> str:
        """That of a check; without one the region may let prescribers sign that there was none. Raises RX-RETRY."""
        if checked is None and self.policy.sign_without_check:
            return signature.NOT_CHECKED
        return available(checked).digest

    def activate(self, request: Request, target: Target, signed: Signature) -> Outcome:
        """Put a signed draft in force: all its lines, or none."""

        def plan(
            prescription: Prescription,
            known: Circumstances,
            keys: Callable[[], Sequence[signature.Jwk]],
            patient: Callable[[], Registration],
        ) -> Plan:
            self.check_visible(request, prescription)
            check = cache(lambda: self._checked(prescription, known))
            digest = cache(lambda: signed.digest or self._digest(check()))
            content = cache(
                lambda: self.content(
                    prescription, patient(), digest(), signed_form(prescription.group, check(), signed.overrides)
                )
            )
            is_signed = cache(lambda: signature.is_signature(signed.jws, content(), keys()))
            regimes = {line.number: self.regime_of(line) for line in prescription.lines}
            facts = {
                "signed_on": signed.signed_on,
                "has_valid_signature": is_signed,
                "unanswered": cache(lambda: self._unanswered(check(), digest(), signed.overrides)),
                "regimes": regimes,
                "born_on": lambda: patient().traits.birth_date,
                "covered": cache(lambda: self.covered(prescription.group)),
            }
            decided = self.decisions(request, prescription, target, facts)
            group = replace(prescription.group, signed=content(), jws=signed.jws, signed_at=request.at.isoformat())
            moves = [
                self.moved(request, group, line, lines.activated(group, line, state, regimes[line.number]))
                for line, state in moving(decided)
            ]
            kept, references = self._kept(request, group, check(), signed.overrides)
            return Plan(
                prescription=replace(prescription, group=group),
                moves=tuple(moves),
                extra=tuple(kept),
                record=tuple((each, 1) for each in references),
            )

        if target.lines:
            raise rx("RX-INVALID", "the operation is on the whole prescription", issue="value")
        also = [
            self.known_of(request, target),
            held(partial(self.keys.keys_of, request.caller)),
            held(partial(self.people.read, request, target.patient or "")),
        ]
        return self.run(request, target, plan, also=also)

    def _kept(
        self, request: Request, group: Group, checked: Checked | None, overrides: Sequence[Override]
    ) -> tuple[Sequence[Change], Sequence[str]]:
        """What becomes of the record with the overrides; and the references of that."""
        if not overrides:
            return (), ()
        return self.checks.issues.versions(group, request.caller, available(checked), overrides, request.at)

    def _unanswered(self, checked: Checked | None, digest: str, overrides: Sequence[Override]) -> tuple[str, ...]:
        if self._digest(checked) == signature.NOT_CHECKED:
            return () if digest == signature.NOT_CHECKED else (CHANGED,)
        return blocking_signature(available(checked), digest, overrides)

    def cancel(self, request: Request, target: Target, reason: str) -> Outcome:
        """Cancel at once what nobody holds; of a claimed line, ask its holder to stop (status 202)."""

        def plan(prescription: Prescription) -> Plan:
            (role,) = roles(request)
            is_patient = role in PROXIES
            if is_patient:
                self.check_visible(request, prescription)
            decided = self.decisions(request, prescription, target, {"is_patient": is_patient})
            at = request.at.isoformat()
            moves = [
                self.moved(
                    request,
                    prescription.group,
                    line,
                    lines.cancelled(line, state, by=role, at=at, reason=reason),
                )
                for line, state in moving(decided)
            ]
            unmoved = tuple(line.number for line, cell in decided if line.state == cell.next)
            status = max(cell.http for _, cell in decided)
            return Plan(prescription=prescription, moves=tuple(moves), unmoved=unmoved, status=status)

        return self.run(request, target, plan)

    def covered(self, group: Group) -> list[Covered]:
        """The narcotics that the prescriber has prescribed for the person lately, and that were not taken back.

        A read more than other commands, of the few prescriptions of a month: only narcotics ask for it.
        """
        person = self.people.find_person(group.patient)
        patients = person.members if person else (group.patient,)
        since, after = group.authored_on - timedelta(days=longest_narcotic()), None
        found: list[Covered] = []
        while True:
            ids, after = self.prescriptions.of_patients(patients, limit=_LISTED, after=after)
            others = [each for each in ids if each != group.id]
            page = self.in_parallel(*(partial(self.prescriptions.find, each) for each in others)) if others else ()
            seen = [other for other in page if other is not None]
            own = [other for other in seen if other.group.prescriber == group.prescriber]
            found += [each for other in own for each in covering(other)]
            if after is None or any(other.group.authored_on < since for other in seen):
                return found

    def content(
        self, prescription: Prescription, patient: Registration, digest: str, overrides: Sequence[Mapping[str, Any]]
    ) -> str:
        """The bytes to sign: the lines that are still drafts, as they will be in force."""
        group = prescription.group
        drafts = [line for line in prescription.lines if STATES[line.state].kind == "draft"]
        signed_lines = [self.record.signed_line(group, line) for line in drafts]
        return signature.content(group, signed_lines, patient.traits, digest=digest, overrides=overrides)


def begun(request: Request, order: Order) -> tuple[Prescription, HistoryEvent, str]:
    """A draft by the caller, the first event of its history, and its access code."""
    if sum(len(line.request.encode()) for line in order.lines) > _MAX_REQUESTS_BYTES:
        raise rx("RX-SIZE", f"the lines are larger than {_MAX_REQUESTS_BYTES} bytes")
    code = numbers.new_secret()
    at = request.at.isoformat()
    group = Group(
        id=new_resource_id(order.patient, request.at),
        base_url=request.base_url,
        number=numbers.new_number(),
        patient=order.patient,
        prescriber=request.caller.professional or "",
        practice=request.caller.organisation,
        authored_on=order.lines[0].authored_on,
        created_at=at,
        updated_at=at,
        code_hash=numbers.digest(code),
        version=1,
        head=history.ORIGIN,
        events=0,
        wakes_at=reminders.end_of_draft(request.at),
    )
    drafts = tuple(
        lines.drafted(number, line, new_resource_id(order.patient, request.at))
        for number, line in enumerate(order.lines, 1)
    )
    event = history.next_event(group, request, [f"{line.number}:>{line.state}" for line in drafts])
    group = replace(group, head=event.hash, events=event.number)
    return Prescription(group=group, lines=drafts), event, code
