"""Where a prescription goes: to a pharmacy of the patient's choice or to whichever has the code, and through a nurse.

E-prescription contract, section 13. Every time the patient or a representative says where, or the prescriber of a
draft, a new access code comes into force and the one before dies. A coordinating nurse routes without a code.
"""

from __future__ import annotations

from dataclasses import replace

from passerelle.access import Request
from passerelle.consents.control import is_shut_out
from passerelle.journal import Change
from passerelle.patients.model import Person
from passerelle.prescriptions import numbers
from passerelle.prescriptions.commands import PROXIES, Commands, Plan, Target, check_open, roles
from passerelle.prescriptions.errors import rx
from passerelle.prescriptions.model import Outcome, Prescription, Route
from passerelle.prescriptions.relations import related


class Routing(Commands):
    def route(self, request: Request, target: Target, route: Route) -> Outcome:
        """Send a prescription to a pharmacy, or (`pharmacy` "") leave it to any that is given the code."""
        named = [party for party in (route.pharmacy, route.coordinator) if party]

        def known() -> bool:
            return all(map(self.parties.is_known, named))

        def person() -> Person | None:
            is_needed = named or "coordinator" in roles(request)
            return self.people.find_person(target.patient) if target.patient and is_needed else None

        def plan(prescription: Prescription, person: Person | None, is_known: bool) -> Plan:
            self.check_visible(request, prescription)
            check_open(request, prescription, person)
            if not is_known:
                raise rx("RX-INVALID", "no organisation of the directory has this identifier", issue="value")
            is_patient = bool(roles(request) & PROXIES)
            if not is_patient and (route.coordinator is not None or route.shows_holder is not None):
                raise rx("RX-ROLE", "who coordinates, and whether a holder is shown, is the patient's to say")
            facts = {"is_patient": is_patient, "is_pharmacy_known": is_known}
            decided = self.decisions(request, prescription, target, facts)
            if person is not None and any(is_shut_out(person.policy, (party,)) for party in named):
                raise rx("RX-INVALID", "the patient has shut this party out", issue="value")
            group = replace(
                prescription.group,
                routed_to=_chosen(route.pharmacy, prescription.group.routed_to),
                coordinator=_chosen(route.coordinator, prescription.group.coordinator),
            )
            code = None
            if "coordinator" not in roles(request):
                code = numbers.new_secret()
                group = replace(group, code_hash=numbers.digest(code))
            if is_patient:
                shows = group.shows_holder if route.shows_holder is None else route.shows_holder
                group = replace(group, is_code_with_patient=True, shows_holder=shows)
            relation: tuple[Change, ...] = related(request, group, person, *named) if person else ()
            return Plan(
                prescription=replace(prescription, group=group),
                unmoved=tuple(line.number for line, _ in decided),
                access_code=code,
                extra=relation,
                notes=("routed" if group.routed_to else "held-any",),
            )

        if target.lines:
            raise rx("RX-INVALID", "the operation is on the whole prescription", issue="value")
        return self.run(request, target, plan, also=[person, known])


def _chosen(said: str | None, before: str | None) -> str | None:
    return before if said is None else said or None
