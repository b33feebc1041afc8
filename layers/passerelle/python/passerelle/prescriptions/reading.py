"""What those concerned see of prescriptions: one, its history, lists, and what is printed.

E-prescription contract, sections 5 and 18. Reads change nothing, and show the effective states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from passerelle.access import Caller, Request
from passerelle.directory.model import Role
from passerelle.errors import Invalid, PasserelleError
from passerelle.prescriptions import history, worklists
from passerelle.prescriptions.commands import (
    PROXIES,
    Commands,
    Target,
    check_open,
    check_role,
    is_kept_out,
    locked_out,
    roles,
    told_to,
)
from passerelle.prescriptions.errors import rx
from passerelle.prescriptions.model import Chain, HistoryEvent, Line, Listing, Prescription, View
from passerelle.prescriptions.numbers import is_well_formed, opens
from passerelle.prescriptions.transitions import STATES

_READS = 3  # of a history that commands go on writing


class Reading(Commands):
    def read(self, request: Request, target: Target) -> View:
        """The group or one line; raises RX-NOT-FOUND unless the caller is concerned."""
        prescription = self.visible(request, target.id)
        if not all(map(prescription.line, target.lines)):
            raise rx("RX-NOT-FOUND")
        return View(prescription=self._seen(request, prescription), line=next(iter(target.lines), None))

    def shows(self, caller: Caller, id: str, at: datetime) -> bool:
        """Whether the caller would be given the prescription, for who is told of it elsewhere."""
        request = Request(caller=caller, name="read", action="R", request_id="", at=at, base_url="")
        found = self.prescriptions.find(id)
        return found is not None and self._is_visible(request, found) and bool(self._open_to(request, [found]))

    def chain(self, request: Request, target: Target) -> Chain:
        """All changes of a prescription; raises RX-NOT-FOUND for a pharmacy that never held a line of it.

        No pharmacy learns which other one held or supplied.
        """
        check_role(request, self.transitions.roles_of(request.name))
        if target.is_line:
            raise rx("RX-INVALID", "the operation is on the whole prescription", issue="value")
        for attempt in range(1, _READS + 1):
            found = self.prescriptions.find_with_history(target.id)
            if found is None:
                raise rx("RX-NOT-FOUND")
            prescription, events = found
            self._check_reader(request, prescription)
            group = prescription.group
            # A command that commits while this reads may show in the one and not yet in the other.
            events = events[: group.events]
            is_unbroken = history.is_unbroken(events, group.head)
            if is_unbroken or attempt == _READS:
                break
        masked = frozenset(each.number for each in events if _is_of_another_pharmacy(request, each))
        return Chain(group=group, events=tuple(events), masked=masked, is_unbroken=is_unbroken)

    def printable(self, request: Request, target: Target, code: str) -> Prescription:
        """A signed prescription of which something can still be supplied, to print with its access code."""
        if target.is_line:
            raise rx("RX-INVALID", "the operation is on the whole prescription", issue="value")
        me, is_pharmacy = request.caller.organisation, "pharmacy" in roles(request)
        # Patients share the organisation of their platform, and are never locked out.
        until = self.failures.locked_until(me, target.id, request.at) if is_pharmacy else None
        if until is not None:
            raise locked_out(request, until)
        prescription = self._seen(request, self.visible(request, target.id))
        if not opens(code, prescription.group.code_hash):
            if is_pharmacy:
                self.failures.count(me, target.id, request.at)
            raise rx("RX-ACCESS-CODE")
        states = {line.state for line in prescription.lines}
        kinds = {STATES[each].kind for each in states}
        if prescription.group.signed is None:
            raise rx("RX-NOT-SIGNED")
        if not kinds & {"open", "claimed"}:
            raise rx("RX-STATE", state=",".join(sorted(STATES[each].name for each in states)))
        return prescription

    def listed(
        self,
        request: Request,
        *,
        patient: str | None = None,
        ids: Sequence[str] = (),
        number: str | None = None,
        limit: int,
        after: str | None = None,
    ) -> Listing:
        """Prescriptions that the caller may see: the ones named, a patient's, or those on the own list.

        A page may be short: what the caller is not concerned by is left out of it.
        """
        is_own_list = patient is None and number is None and not ids
        ids, following = self._candidates(request, patient, ids, number, limit, after)
        found = self.in_parallel(*(partial(self.prescriptions.find, each) for each in ids)) if ids else ()
        concerning = [each for each in found if each and self._is_visible(request, each)]
        visible = [self._seen(request, each) for each in self._open_to(request, concerning)]
        if is_own_list:
            visible = [each for each in visible if request.caller.organisation in worklists.concerned(each)]
        return Listing(prescriptions=tuple(visible), following=following)

    def _candidates(
        self,
        request: Request,
        patient: str | None,
        ids: Sequence[str],
        number: str | None,
        limit: int,
        after: str | None,
    ) -> tuple[Sequence[str], str | None]:
        """Ids of what may be listed, and where to go on from."""
        if number is not None:
            found = self.prescriptions.find_id(number) if is_well_formed(number) else None
            return ([found] if found else []), None
        if ids:
            return list(dict.fromkeys(Target.of(each).id for each in ids)), None
        if patient is not None:
            person = self.people.find_person(patient)
            return self.prescriptions.of_patients(person.members if person else (), limit=limit, after=after)
        if roles(request) & {"prescriber", "pharmacy"}:
            return self.prescriptions.of_organisation(request.caller.organisation, limit=limit, after=after)
        raise Invalid("a search needs a patient", code="required", expression="http.patient")

    def _is_visible(self, request: Request, prescription: Prescription) -> bool:
        try:
            self.check_visible(request, prescription)
            self.check_bound(request, prescription)
        except PasserelleError as refusal:
            if refusal.status in (403, 404):
                return False
            raise
        return True

    def _open_to(self, request: Request, prescriptions: Sequence[Prescription]) -> list[Prescription]:
        """Those of patients who have not shut the caller out, and were not erased."""
        if not prescriptions or roles(request) & PROXIES:
            return list(prescriptions)
        patients = list(dict.fromkeys(each.group.patient for each in prescriptions))
        found = self.in_parallel(*(partial(self.people.find_person, each) for each in patients))
        persons = dict(zip(patients, found, strict=True))
        kept = [each for each in prescriptions if not is_kept_out(request, each, persons[each.group.patient])]
        return [each for each in kept if not ((person := persons[each.group.patient]) and person.is_erased)]

    def _check_reader(self, request: Request, prescription: Prescription) -> None:
        """Those who may read a history: an auditor too, and no pharmacy that is only to be the next."""
        mine = roles(request)
        self.check_bound(request, prescription)
        if Role.AUDITOR in mine:
            return
        if "pharmacy" in mine and all(claim.owner != request.caller.organisation for claim in prescription.claims):
            raise rx("RX-NOT-FOUND")
        self.check_visible(request, prescription)
        check_open(request, prescription, self.people.find_person(prescription.group.patient))

    def _seen(self, request: Request, prescription: Prescription) -> Prescription:
        """In effective states; of claims, a pharmacy sees its own."""
        seen = tuple(self._seen_line(request, prescription, line) for line in prescription.lines)
        return told_to(request, replace(prescription, lines=seen))

    def _seen_line(self, request: Request, prescription: Prescription, line: Line) -> Line:
        state = self.effective(self.situation(request, prescription, line, {}))
        is_held = STATES[state].kind == "claimed"
        is_told = "pharmacy" not in roles(request) or line.owner == request.caller.organisation
        seen = replace(line, state=state)
        return seen if is_held and is_told else seen.released()


def _is_of_another_pharmacy(request: Request, event: HistoryEvent) -> bool:
    if not roles(request) & {"pharmacy"} or event.role != Role.PHARMACY:
        return False
    return event.organisation != request.caller.organisation
