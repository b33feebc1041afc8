"""Remote monitoring over HTTP: measurements come in, alerts are answered, and how a plan is watched is told.

POST /Observation/$submit-measurements    a Bundle of Observations of one patient; a batch-response
GET  /CarePlan/{id}/$monitoring-status    what of a plan is watched, what is expected next, and what cannot be told
POST /Task/{id}/$acknowledge              an alert is accepted: it goes to nobody else
POST /Task/{id}/$resolve                  an alert is completed; `note` (string): what was done
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from passerelle.access import Touched
from passerelle.api.app import COMMITTED, Call, FhirApp, Reply, Wired
from passerelle.api.interactions import WiredRecords, version_headers
from passerelle.errors import TooLarge
from passerelle.monitoring.errors import RateExceededError

if TYPE_CHECKING:
    from passerelle.monitoring.answering import AnsweringService
    from passerelle.monitoring.measuring import MeasuringService
    from passerelle.monitoring.reporting import ReportingService
    from passerelle.records.model import StoredVersion


class WiredMeasurements(Wired, Protocol):
    @property
    def measuring(self) -> MeasuringService: ...


class WiredReports(WiredRecords, Protocol):
    @property
    def monitoring_reports(self) -> ReportingService: ...


class WiredAlerts(Wired, Protocol):
    @property
    def answering(self) -> AnsweringService: ...


def serve_measurements(app: FhirApp) -> None:
    app.operation("Observation", "/$submit-measurements", needs="c")(_submit)
    app.operation("CarePlan", "/{id}/$monitoring-status", needs="r", method="GET")(_status)


def serve_alerts(app: FhirApp) -> None:
    app.operation("Task", "/{id}/$acknowledge", needs="u")(_acknowledge)
    app.operation("Task", "/{id}/$resolve", needs="u")(_resolve)


def _submit(call: Call, wired: WiredMeasurements) -> Reply:
    from passerelle.fhir.bundles import transaction_response
    from passerelle.fhir.monitoring.measurements import MAX_BYTES, answers, read_submission
    from passerelle.fhir.outcome import render_outcome

    if len(call.body) > MAX_BYTES:
        raise TooLarge(f"measurements are at most {MAX_BYTES} bytes")
    request = call.request
    subject, place, entries = read_submission(call.resource, request.base_url, request.at)
    try:
        outcomes = wired.measuring.submit(request, subject, entries, expression=place)
    except RateExceededError as refusal:
        if refusal.is_first:
            raise
        # A device that has run away is in the log once, not with each of its calls.
        body = render_outcome(refusal)
        return Reply(status=refusal.status, body=body, headers=dict(refusal.headers), touched=COMMITTED)
    body = transaction_response(answers(outcomes), kind="batch-response")
    return Reply(body=body, touched=COMMITTED, is_disclosed=True)


def _status(call: Call, wired: WiredReports) -> Reply:
    from passerelle.fhir.monitoring.reports import render_report

    stored = wired.records.read(call.request, "CarePlan", call.id)
    report = wired.monitoring_reports.report(stored, call.request.at)
    patient = stored.key.patient
    touched = Touched.of([patient] if patient else [], [f"{stored.reference}/_history/{stored.version}"])
    return Reply(body=render_report(report), touched=touched)


def _acknowledge(call: Call, wired: WiredAlerts) -> Reply:
    from passerelle.fhir.parameters import Arguments

    Arguments(call.resource if call.body else None, {})
    return _answered(wired.answering.acknowledge(call.request, call.id))


def _resolve(call: Call, wired: WiredAlerts) -> Reply:
    from passerelle.fhir.parameters import Arguments

    arguments = Arguments(call.resource if call.body else None, {"note": "valueString"})
    return _answered(wired.answering.resolve(call.request, call.id, arguments.text("note")))


def _answered(stored: StoredVersion) -> Reply:
    headers = version_headers(stored.version, stored.at)
    return Reply(body=stored.body or b"", headers=headers, touched=COMMITTED)
