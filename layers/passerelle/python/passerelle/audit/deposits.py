"""Traces that systems deposit of what happened at their own place (IHE ITI-20, the national TDE 2.0.0).

A trace is kept as it came, beside our records and told apart from them, in the log of the patient whom it names. A
system deposits for its own organisation only. The deposit is an access of its own in the log: when it was made, and by
whom. The same trace again, from the same system within thirty days, is the deposit that was made already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from passerelle.access import Request, Touched
from passerelle.audit.commands import account_of, once
from passerelle.audit.model import DEPOSIT, KEPT, AuditRecord
from passerelle.audit.ports import AuditTrail, PersonLookup
from passerelle.directory.model import CARE_ROLES, Role
from passerelle.errors import Fault, Forbidden, TooLarge, Unprocessable
from passerelle.identifiers import new_ulid
from passerelle.journal import Journal

MAX_BYTES: Final = 64 * 1024
_AHEAD = timedelta(minutes=5)  # how far the clock of a depositor may be
_PERSONAL = frozenset({Role.PATIENT, Role.REPRESENTATIVE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What was deposited: `body` as JSON, when it was recorded, which organisation observed it, and whom it is about.

    `patients` are keys of source records, `identifiers` national or local identifiers of the patient (system, value).
    """

    body: str
    recorded: datetime
    observer: str | None
    patients: tuple[str, ...] = ()
    identifiers: tuple[tuple[str, str], ...] = ()


class DepositService:
    def __init__(self, *, trail: AuditTrail, people: PersonLookup, journal: Journal) -> None:
        self._trail = trail
        self._people = people
        self._journal = journal

    def deposit(self, request: Request, trace: Trace) -> AuditRecord:
        """Keep a trace; raises Forbidden, TooLarge, and Unprocessable for one that this system cannot deposit."""
        if request.idempotency_key is None:
            digest = hashlib.sha256(trace.body.encode()).hexdigest()
            request = replace(request, idempotency_key=f"trace-{digest}", fingerprint=digest)
        return once(self._journal, request, lambda: self._deposit(request, trace), self._deposited)

    def _deposit(self, request: Request, trace: Trace) -> AuditRecord:
        caller = request.caller
        _check(request, trace)
        patient = self._patient(request, trace)
        ulid = new_ulid(trace.recorded)
        record = AuditRecord(
            id=f"{patient}-{ulid}" if patient else ulid,
            at=trace.recorded,
            name=DEPOSIT,
            action="E",
            outcome="0",
            client_id=caller.client_id,
            organisation=caller.organisation,
            role=caller.role,
            professional=caller.professional,
            token_id=caller.token_id,
            request_id=request.request_id,
            patient=patient,
            deposit=trace.body,
        )
        touched = Touched.of([patient] if patient else [], [f"AuditEvent/{record.id}"])
        self._journal.commit([record, *account_of(request, touched, {"id": record.id})])
        return record

    def _deposited(self, kept: Mapping[str, Any]) -> AuditRecord:
        record = self._trail.find(kept["id"])
        if record is None:
            raise Fault()
        return record

    def _patient(self, request: Request, trace: Trace) -> str | None:
        """Whose log it goes to: nobody's if it names nobody whom this caller may know."""
        known = [key for key in trace.patients if self._people.find_person(key)]
        if not known and request.caller.role in CARE_ROLES:
            known = [key for each in trace.identifiers for key in self._people.find_by_identifier(*each)][:1]
        return known[0] if known else None


def _check(request: Request, trace: Trace) -> None:
    caller = request.caller
    if caller.role in _PERSONAL:
        raise Forbidden("traces are deposited by systems")
    if len(trace.body.encode()) > MAX_BYTES:
        raise TooLarge(f"a trace has {MAX_BYTES} bytes at most")
    if trace.observer not in (caller.organisation, caller.client_id):
        raise Unprocessable(
            "a system deposits the traces of its own organisation", expression="AuditEvent.source.observer"
        )
    if len(trace.patients) > 1:
        raise Unprocessable("a trace names one patient at most", code="invariant", expression="AuditEvent.entity")
    if not request.at - KEPT < trace.recorded <= request.at + _AHEAD:
        raise Unprocessable(
            "a trace is recorded before it is deposited, and thirteen months before at most",
            code="value",
            expression="AuditEvent.recorded",
        )
