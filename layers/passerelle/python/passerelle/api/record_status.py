"""The shared record of a person as such over HTTP: how it stands, and the decisions that open, close or oppose it.

The draft of the DMP on FHIR has no transaction for them, so their scope is the SMART right to change the Patient.
"""

from __future__ import annotations

from typing import Protocol

from passerelle.access import Touched
from passerelle.api.app import COMMITTED, Call, FhirApp, Reply, Wired
from passerelle.consents.model import Policy
from passerelle.fhir.record_status import Given, render_policy, render_standing
from passerelle.patients.status import RecordStatusService, checked_reason


class WiredRecordStatus(Wired, Protocol):
    @property
    def record_status(self) -> RecordStatusService: ...


def serve_record_status(app: FhirApp) -> None:
    """Declare the operations on a Patient that are about the shared record as a whole."""
    app.operation("Patient", "/{id}/$record-status", needs="r", method="GET")(_standing)
    app.operation("Patient", "/{id}/$open-record", needs="u")(_open)
    app.operation("Patient", "/{id}/$close-record", needs="u")(_close)
    app.operation("Patient", "/{id}/$oppose", needs="u")(_oppose)
    app.operation("Patient", "/{id}/$withdraw-opposition", needs="u")(_withdraw)
    app.operation("Patient", "/{id}/$attending-physician", needs="u")(_attend)


def _standing(call: Call, wired: WiredRecordStatus) -> Reply:
    standing = wired.record_status.standing(call.request, call.id)
    return Reply(body=render_standing(standing), touched=Touched.of([call.id], [f"Patient/{call.id}"]))


def _open(call: Call, wired: WiredRecordStatus) -> Reply:
    return _done(wired.record_status.open(call.request, call.id, reason=_reason(_given(call, "reason"))))


def _close(call: Call, wired: WiredRecordStatus) -> Reply:
    given = _given(call, "motive", "reason")
    return _done(wired.record_status.close(call.request, call.id, given.motive, reason=_reason(given)))


def _oppose(call: Call, wired: WiredRecordStatus) -> Reply:
    return _done(wired.record_status.oppose(call.request, call.id, reason=_reason(_given(call, "reason"))))


def _withdraw(call: Call, wired: WiredRecordStatus) -> Reply:
    given = _given(call, "reason")
    return _done(wired.record_status.withdraw_opposition(call.request, call.id, reason=_reason(given)))


def _attend(call: Call, wired: WiredRecordStatus) -> Reply:
    """Sets the physician that is named; without one, ends the attendance there is."""
    given = _given(call, "physician", "consent", "reason")
    physician, reason = given.physician, _reason(given)
    if physician is None:
        return _done(wired.record_status.end_attending_physician(call.request, call.id, reason=reason))
    policy = wired.record_status.set_attending_physician(
        call.request, call.id, physician, is_consented=given.is_consented, reason=reason
    )
    return _done(policy)


def _given(call: Call, *names: str) -> Given:
    return Given(call.resource if call.body else None, *names)


def _reason(given: Given) -> str:
    return checked_reason(given.reason)


def _done(policy: Policy) -> Reply:
    return Reply(body=render_policy(policy), touched=COMMITTED)
