"""What is looked at before a signature: `$check` of a prescription or of what is not created yet, and what to sign."""

from __future__ import annotations

from typing import TYPE_CHECKING

from passerelle.access import Touched
from passerelle.api.app import Call, FhirApp, Reply
from passerelle.fhir.prescriptions import issues, orders, requests, tasks, treatments
from passerelle.fhir.prescriptions.calls import parse_preparation
from passerelle.prescriptions.errors import coded

if TYPE_CHECKING:
    from passerelle.api.prescriptions import WiredPrescriptions


def serve_checks(app: FhirApp) -> None:
    @app.operation("Task", "/{id}/$check", needs="r")
    @coded
    def check(call: Call, wired: WiredPrescriptions) -> Reply:
        found = wired.prescriptions.examine(call.request, *treatments.parse_check(call))
        assert found.group is not None
        return Reply(body=issues.render(found.checks), touched=tasks.touched(found.group))

    @app.operation("Task", "/$check", needs="r")
    @coded
    def check_order(call: Call, wired: WiredPrescriptions) -> Reply:
        found = wired.prescriptions.examine_order(call.request, orders.parse_order(call.resource))
        return Reply(body=issues.render(found.checks), touched=Touched.of([found.patient]))

    @app.operation("Task", "/{id}/$prepare", needs="r")
    @coded
    def prepare(call: Call, wired: WiredPrescriptions) -> Reply:
        ready = wired.prescriptions.prepare(call.request, *parse_preparation(call))
        return Reply(body=tasks.render_prepared(ready), touched=tasks.touched(ready.group))

    @app.operation("Task", "/{id}/$prepare-change", needs="r")
    @coded
    def prepare_change(call: Call, wired: WiredPrescriptions) -> Reply:
        ready = wired.prescriptions.prepare_change(call.request, *requests.parse_change(call))
        return Reply(body=tasks.render_prepared(ready), touched=tasks.touched(ready.group))
