"""The patient's control over the record over HTTP, accesses in an emergency, and their supervision.

Commands need the right to change the Patient, as those about the record as a whole do. Who breaks the glass needs the
right to read: whoever may see nothing else may have to. Supervisors need their right to the access log.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol
from urllib.parse import urlencode

from passerelle.access import Interaction, Permission, Touched
from passerelle.api.app import COMMITTED, Call, FhirApp, Handler, Reply, Wired
from passerelle.fhir.control import (
    ControlArguments,
    read_emergency,
    read_review,
    read_uses,
    render_decisions,
    render_use,
    render_uses,
)
from passerelle.patients.control import ControlService, Decisions
from passerelle.patients.emergencies import EmergencyService
from passerelle.patients.status import checked_reason
from passerelle.records.cursors import CURSOR, Cursors


class WiredControl(Wired, Protocol):
    @property
    def control(self) -> Callable[[], ControlService]: ...

    @property
    def emergencies(self) -> Callable[[], EmergencyService]: ...

    @property
    def cursors(self) -> Cursors: ...


Command = Callable[[Call, WiredControl], Decisions]


def serve_control(app: FhirApp) -> None:
    """Declare the operations on a Patient by which access to the record is given, refused, taken and supervised."""
    commands: dict[str, Command] = {
        "$block": _block,
        "$unblock": _unblock,
        "$authorize-access": _authorise,
        "$end-access": _end_access,
        "$appoint-proxy": _appoint,
        "$end-proxy": _dismiss,
        "$release": _release,
        "$withdraw-release": _withdraw,
        "$set-preferences": _prefer,
    }
    for name, command in commands.items():
        app.operation("Patient", f"/{{id}}/{name}", needs="u")(_answering(command))
    app.operation("Patient", "/{id}/$break-glass", needs="r")(_answering(_break_glass))
    _supervise(app, "GET", "$break-glass-uses", "s")(_uses)
    _supervise(app, "POST", "$review-break-glass", "u")(_review)


def _supervise(app: FhirApp, method: str, name: str, needs: Interaction) -> Callable[[Handler], Handler]:
    """Of no patient in particular, and about accesses: the right to the access log is the one that is asked for."""
    return app.route(
        method,
        f"/Patient/{name}",
        name=name,
        action="E",
        resource="Patient",
        permission=Permission(resource="AuditEvent", interaction=needs),
    )


def _answering(command: Command) -> Callable[[Call, WiredControl], Reply]:
    def handler(call: Call, wired: WiredControl) -> Reply:
        return Reply(body=render_decisions(command(call, wired)), touched=COMMITTED)

    return handler


def _given(call: Call, *names: str) -> ControlArguments:
    return ControlArguments(call.resource if call.body else None, *names, base_url=call.request.base_url)


def _block(call: Call, wired: WiredControl) -> Decisions:
    given = _given(call, "party", "reason")
    return wired.control().block(call.request, call.id, given.required("party"), reason=checked_reason(given.reason))


def _unblock(call: Call, wired: WiredControl) -> Decisions:
    given = _given(call, "party", "reason")
    return wired.control().unblock(call.request, call.id, given.required("party"), reason=checked_reason(given.reason))


def _authorise(call: Call, wired: WiredControl) -> Decisions:
    given = _given(call, "party", "period", "consent")
    return wired.control().authorise(
        call.request, call.id, given.party, span=given.span, is_consented=given.is_consented
    )


def _end_access(call: Call, wired: WiredControl) -> Decisions:
    given = _given(call, "party", "reason")
    return wired.control().end_access(call.request, call.id, given.party, reason=checked_reason(given.reason))


def _appoint(call: Call, wired: WiredControl) -> Decisions:
    given = _given(call, "holder", "kind", "period", "consent")
    return wired.control().appoint(
        call.request,
        call.id,
        given.required("holder"),
        given.kind,
        span=given.span,
        is_consented=given.is_consented,
    )


def _dismiss(call: Call, wired: WiredControl) -> Decisions:
    given = _given(call, "holder", "consent", "reason")
    return wired.control().dismiss(
        call.request,
        call.id,
        given.holder,
        is_consented=given.is_consented,
        reason=checked_reason(given.reason),
    )


def _release(call: Call, wired: WiredControl) -> Decisions:
    given = _given(call, "holder", "reference")
    return wired.control().release(call.request, call.id, given.required("holder"), given.references)


def _withdraw(call: Call, wired: WiredControl) -> Decisions:
    given = _given(call, "holder", "reference")
    return wired.control().withdraw_release(call.request, call.id, given.required("holder"), given.references)


def _prefer(call: Call, wired: WiredControl) -> Decisions:
    given = _given(call, "oppose-emergency", "oppose-regulation", "agree-research")
    return wired.control().prefer(call.request, call.id, given.preferences)


def _break_glass(call: Call, wired: WiredControl) -> Decisions:
    reason, text = read_emergency(call.resource if call.body else None)
    return wired.emergencies().break_glass(call.request, call.id, reason=reason, text=text)


# --- supervision ----------------------------------------------------------------------------------------------------


def _uses(call: Call, wired: WiredControl) -> Reply:
    asked, cursor = read_uses(call.query)
    purpose = repr(asked)
    before = wired.cursors.read(call.request, purpose, cursor)
    found = wired.emergencies().uses(call.request, replace(asked, before=before))
    following = None
    if not found.is_complete:
        made = wired.cursors.made(call.request, purpose, found.uses[-1].use.id)
        kept = [(name, text) for name, text in call.query if name != CURSOR]
        following = f"{call.request.base_url}/Patient/$break-glass-uses?{urlencode([*kept, (CURSOR, made)])}"
    return Reply(body=render_uses(found.uses, following), touched=Touched.of(each.use.patient for each in found.uses))


def _review(call: Call, wired: WiredControl) -> Reply:
    use, verdict, text = read_review(call.resource)
    return Reply(body=render_use(wired.emergencies().review(call.request, use, verdict, text=text)), touched=COMMITTED)
