"""Audit records: who did what, when, to which patient's record, with which result (IHE BALP 1.1.5).

A record is kept in this typed form; `fhir/audit_event.py` renders it as an AuditEvent. One record names at
most one patient (BALP-6), so that a patient's log never tells of another.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from passerelle.access import Request, Touched
from passerelle.errors import PasserelleError
from passerelle.identifiers import new_ulid
from passerelle.journal import Change

KEPT = timedelta(days=400)  # thirteen months, whichever they are


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord(Change):
    """`id` is `<patient key>-<ulid>`, or `<ulid>` for an access that touched no patient.

    `outcome` is the AuditEvent outcome code: 0 success, 4 refused, 8 server fault. `reason` is an issue code,
    never a text from the request. `purpose` is a code of PurposeOfUse; `digests` are the SHA-256, in base64, of
    contents beside the reference of each: whoever proves the log proves which bytes were published or disclosed.
    """

    id: str
    at: datetime
    name: str
    action: str
    outcome: str
    client_id: str
    organisation: str
    role: str
    token_id: str
    request_id: str
    professional: str | None = None
    patient: str | None = None
    references: tuple[str, ...] = ()
    query: str = ""
    reason: str = ""
    purpose: str = ""
    digests: tuple[tuple[str, str], ...] = ()


def audit_of(request: Request, touched: Touched, *, refusal: PasserelleError | None = None) -> tuple[AuditRecord, ...]:
    """The records of one request: one per patient it touched, or a single one without patient.

    Each names only the references that belong to its patient: a reference belongs to the patient whose key
    its id starts with, and to all of them when it belongs to none.
    """
    caller = request.caller

    def record(patient: str | None) -> AuditRecord:
        ulid = new_ulid(request.at)
        return AuditRecord(
            id=f"{patient}-{ulid}" if patient else ulid,
            at=request.at,
            name=request.name,
            action=request.action,
            outcome="0" if refusal is None else "8" if refusal.status >= 500 else "4",
            reason="" if refusal is None else refusal.issues[0].code,
            client_id=caller.client_id,
            organisation=caller.organisation,
            role=caller.role,
            professional=caller.professional,
            token_id=caller.token_id,
            request_id=request.request_id,
            patient=patient,
            references=tuple(r for r in touched.references if _may_name(r, patient, touched.patients)),
            query=request.query if len(touched.patients) <= 1 else "",
            purpose=request.purpose,
            digests=tuple(each for each in touched.digests if _may_name(each[0], patient, touched.patients)),
        )

    return tuple(record(patient) for patient in touched.patients or (None,))


def _may_name(reference: str, patient: str | None, patients: tuple[str, ...]) -> bool:
    key = reference.partition("/")[2].partition("-")[0]
    return key == patient or key not in patients
