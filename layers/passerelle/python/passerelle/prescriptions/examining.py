"""The clinical checks where somebody asks for them (e-prescription contract, sections 5 and 17): nothing changes."""

from __future__ import annotations

from collections.abc import Sequence

from passerelle.access import Request
from passerelle.medicines.model import Allergy, Treatment
from passerelle.prescriptions.checking import available, signed_overrides
from passerelle.prescriptions.commands import Commands, Target, check_open, check_role
from passerelle.prescriptions.errors import rx
from passerelle.prescriptions.model import Examined, Order
from passerelle.prescriptions.transitions import STATES


class Examining(Commands):
    def examine(
        self, request: Request, target: Target, extra: Sequence[Treatment] = (), allergies: Sequence[Allergy] = ()
    ) -> Examined:
        """What is found about the lines of a prescription that are not over, and about `extra` beside them."""
        named = self.transitions.roles_of(request.name)
        check_role(request, {"pharmacy" if each == "pharmacist" else each for each in named})
        prescription, known, person = self.find(target.id, [self.known_of(request, target), self.person_of(target)])
        if prescription is None:
            raise rx("RX-NOT-FOUND")
        self.check_visible(request, prescription)
        check_open(request, prescription, person)
        self.check_bound(request, prescription)
        self.decisions(request, prescription, target, {})
        group = prescription.group
        new = {line.number for line in prescription.lines if STATES[line.state].kind in ("draft", "open", "claimed")}
        new &= set(target.lines or new)
        checked = available(self.checks.of_lines(prescription, known, new=new, extra=extra, allergies=allergies))
        answered = signed_overrides(prescription)
        told = self.checks.issues.answer(group.base_url, group.patient, checked, answered, request.at)
        return Examined(patient=group.patient, checks=told, group=group)

    def examine_order(self, request: Request, order: Order) -> Examined:
        """The same of lines that are not created yet."""
        check_role(request, {"prescriber"})
        self.people.read(request, order.patient)
        known = self.checks.find(request.caller, order.patient, request.at)
        checked = available(self.checks.of_orders(order.patient, [line.request for line in order.lines], known))
        told = self.checks.issues.answer(request.base_url, order.patient, checked, (), request.at)
        return Examined(patient=order.patient, checks=told)
