"""Audit records: who did what, when, to which patient's record, with which result (IHE BALP 1.1.5).

A record is kept in this typed form; `fhir/audit_event.py` renders it as an AuditEvent, and the decision that it holds
as another one. One record names at most one patient (BALP-6), so that a patient's log never tells of another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from passerelle.access import Decision, Request, Touched
from passerelle.errors import PasserelleError
from passerelle.identifiers import new_ulid
from passerelle.journal import Change

KEPT = timedelta(days=400)  # thirteen months, whichever they are
EXPORT = "$export-record"  # the name of the request that hands a whole record out
DEPOSIT = "deposit"  # the name of a trace that another system recorded
MAX_QUERY_CHARACTERS = 4000  # of a request, as it is kept


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord(Change):
    """`id` is `<patient key>-<ulid>`, or `<ulid>` for an access that touched no patient.

    `outcome` is the AuditEvent outcome code: 0 success, 4 refused, 8 server fault. `reason` is an issue code,
    never a text from the request. `purpose` is a code of PurposeOfUse; `digests` are the SHA-256, in base64, of
    contents beside the reference of each: whoever proves the log proves which bytes were published or disclosed.

    `professional` and `user_name`, of `profession`, used the client, or `person` for the patient (`access.Caller`);
    `token_tail` is the end of a token that was not understood. `external_id` is the client's own id of the request,
    `address` where it came from, `recipient` who outside the network got what was disclosed. `decision` is what was
    decided about the record of `patient`. A `deposit` is an AuditEvent that `client_id` recorded by itself at `at`, as
    JSON: such a record tells of nothing that happened here.
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
    user_name: str = ""
    profession: str | None = None
    person: str | None = None
    token_tail: str = ""
    external_id: str = ""
    address: str = ""
    recipient: str = ""
    decision: Decision | None = None
    deposit: str = ""

    @property
    def ulid(self) -> str:
        """Its place in time."""
        return self.id.rpartition("-")[2]


def audit_of(request: Request, touched: Touched, *, refusal: PasserelleError | None = None) -> tuple[AuditRecord, ...]:
    """The records of one request: one per patient it touched, or a single one without patient.

    Each names only the references that belong to its patient: a reference belongs to the patient whose key
    its id starts with, and to all of them when it belongs to none. A refused request that touched nobody is in the log
    of whoever it was refused about.
    """
    caller = request.caller
    patients = touched.patients
    if refusal is not None and not patients:
        patients = tuple(_refused_about(request))

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
            references=tuple(r for r in touched.references if _may_name(r, patient, patients)),
            query=request.query[:MAX_QUERY_CHARACTERS] if len(patients) <= 1 else "",
            purpose=_purpose(request, patient),
            digests=tuple(each for each in touched.digests if _may_name(each[0], patient, patients)),
            user_name=caller.name,
            profession=caller.profession,
            person=caller.person,
            external_id=request.external_id,
            address=request.address,
            recipient=request.recipient,
            decision=request.decisions.get(patient) if patient else None,
        )

    return tuple(record(patient) for patient in patients or (None,))


def _purpose(request: Request, patient: str | None) -> str:
    """What the access is for: what the rule that let it through says goes before what the caller does."""
    decision = request.decisions.get(patient) if patient else None
    return (decision.purpose if decision else "") or request.purpose or request.caller.purpose


def _refused_about(request: Request) -> Iterable[str]:
    """One source record of each person whose record was refused; those of one person share their decision."""
    named: set[int] = set()
    for patient, decision in request.decisions.items():
        if not decision.is_permitted and id(decision) not in named:
            named.add(id(decision))
            yield patient


def _may_name(reference: str, patient: str | None, patients: tuple[str, ...]) -> bool:
    key = reference.partition("/")[2].partition("-")[0]
    return key == patient or key not in patients
