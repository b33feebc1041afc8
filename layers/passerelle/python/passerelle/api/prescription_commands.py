"""The commands on prescriptions over HTTP: each is one call of the service, and one answer of what became of it.

E-prescription contract, section 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from passerelle.access import Interaction
from passerelle.api.app import COMMITTED, Call, FhirApp, Handler, Reply
from passerelle.fhir.prescriptions import calls, orders, requests, supplies, tasks
from passerelle.prescriptions.errors import coded
from passerelle.prescriptions.model import Outcome

if TYPE_CHECKING:
    from passerelle.api.prescriptions import WiredPrescriptions
    from passerelle.prescriptions.service import PrescriptionService

Command = Callable[["PrescriptionService", Call], Outcome]

ON_TASKS: Final[Mapping[str, Command]] = {
    "$accept": lambda rx, call: rx.accept(call.request, *calls.parse_claim(call)),
    "$activate": lambda rx, call: rx.activate(call.request, *calls.parse_signature(call)),
    "$cancel": lambda rx, call: rx.cancel(call.request, *calls.parse_cancellation(call)),
    "$decline": lambda rx, call: rx.decline(call.request, *calls.parse_refusal(call)),
    "$dispense": lambda rx, call: rx.dispense(call.request, *supplies.parse_supply(call)),
    "$extend-lease": lambda rx, call: rx.extend_lease(call.request, *calls.parse_extension(call)),
    "$reject": lambda rx, call: rx.reject(call.request, *calls.parse_rejection(call)),
    "$report-late-supply": lambda rx, call: rx.report_late_supply(call.request, *requests.parse_late_supply(call)),
    "$request-change": lambda rx, call: rx.request_change(call.request, *requests.parse_change_request(call)),
    "$request-renewal": lambda rx, call: rx.request_renewal(call.request, *requests.parse_renewal_request(call)),
    "$respond-change": lambda rx, call: rx.respond_change(call.request, *requests.parse_change_answer(call)),
    "$respond-renewal": lambda rx, call: rx.respond_renewal(call.request, *requests.parse_renewal_answer(call)),
    "$route": lambda rx, call: rx.route(call.request, *calls.parse_route(call)),
}


def serve_commands(app: FhirApp) -> None:
    for name, run in ON_TASKS.items():
        _serve(app, "Task", f"/{{id}}/{name}", "u", run)
    _serve(app, "Task", "/$create", "c", lambda rx, call: rx.create(call.request, orders.parse_order(call.resource)))
    _serve(
        app,
        "Task",
        "/$accept",
        "u",
        lambda rx, call: rx.accept_number(call.request, *calls.parse_number_claim(call.resource)),
    )
    _serve(
        app,
        "MedicationDispense",
        "/{id}/$withdraw",
        "u",
        lambda rx, call: rx.withdraw(call.request, *calls.parse_withdrawal(call)),
    )


def _serve(app: FhirApp, kind: str, path: str, needs: Interaction, run: Command) -> None:
    app.operation(kind, path, needs=needs)(_command(run))


def _command(run: Command) -> Handler:
    @coded
    def serve(call: Call, wired: WiredPrescriptions) -> Reply:
        done = run(wired.prescriptions, call)
        return Reply(status=done.status, body=tasks.render(done), headers=tasks.headers(done), touched=COMMITTED)

    return serve
