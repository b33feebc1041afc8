"""Task: the operations of the e-prescription contract that are served, and the tasks of the record."""

from __future__ import annotations

from collections.abc import Callable

from passerelle import wiring
from passerelle.access import Interaction
from passerelle.api.app import COMMITTED, Call, FhirApp, Reply
from passerelle.api.interactions import ALL, or_record, serve
from passerelle.api.operations import serve_validate
from passerelle.fhir import prescription as fhir
from passerelle.prescriptions.errors import coded
from passerelle.prescriptions.model import Outcome
from passerelle.prescriptions.service import PrescriptionService, Target

handler = FhirApp("prescriptions", provide=wiring.prescriptions)


def command(path: str, needs: Interaction, run: Callable[[PrescriptionService, Call], Outcome]) -> None:
    @handler.operation("Task", path, needs=needs)
    @coded
    def serve(call: Call, wired: wiring.PrescriptionsWiring) -> Reply:
        done = run(wired.prescriptions, call)
        return Reply(status=done.status, body=fhir.render(done), headers=fhir.headers(done), touched=COMMITTED)


command("/$create", "c", lambda rx, call: rx.create(call.request, fhir.parse_order(call.resource)))
command("/$accept", "u", lambda rx, call: rx.accept_number(call.request, *fhir.parse_number_claim(call.resource)))
command("/{id}/$accept", "u", lambda rx, call: rx.accept(call.request, *fhir.parse_claim(call)))
command("/{id}/$activate", "u", lambda rx, call: rx.activate(call.request, *fhir.parse_signature(call)))
command("/{id}/$dispense", "u", lambda rx, call: rx.dispense(call.request, *fhir.parse_supply(call)))
command("/{id}/$reject", "u", lambda rx, call: rx.reject(call.request, *fhir.parse_rejection(call)))
command("/{id}/$cancel", "u", lambda rx, call: rx.cancel(call.request, *fhir.parse_cancellation(call)))


@handler.operation("Task", "/{id}/$prepare", needs="r")
@coded
def prepare(call: Call, wired: wiring.PrescriptionsWiring) -> Reply:
    ready = wired.prescriptions.prepare(call.request, Target.of(call.id, if_match=call.if_match))
    return Reply(body=fhir.render_prepared(ready), touched=fhir.touched(ready.group))


@coded
def read(call: Call, wired: wiring.PrescriptionsWiring) -> Reply:
    found = wired.prescriptions.read(call.request, Target.of(call.id))
    return Reply(body=fhir.render_view(found), touched=fhir.touched(found.prescription.group))


handler.interaction("Task", "read", features=("conditional-read",))(or_record("Task", read))
serve(handler, "Task", [each for each in ALL if each != "read"])
serve_validate(handler, "Task")
