"""The audit trail as it is read: by patients, auditors, and who asks why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from passerelle.wiring import http, process, proving, record, stores

if TYPE_CHECKING:
    from passerelle.access import Caller
    from passerelle.audit.deposits import DepositService
    from passerelle.audit.explanation import Explainer
    from passerelle.audit.service import AuditService
    from passerelle.ledger.proofs import Prover
    from passerelle.records.cursors import Cursors


@cache
def audit_service() -> AuditService:
    from passerelle.audit.service import AuditService
    from passerelle.patients.reading import is_for_another

    def hides(caller: Caller, patient: str) -> Callable[[str], bool]:
        return record.gate().hides(caller, patient, process.now())  # asked for patients and who acts for them only

    def represents(caller: Caller, patient: str, at: datetime) -> bool:
        person = stores.patient_index().find_person(patient)
        return person is not None and record.gate().admission(caller, person, at)[1].mandate is not None

    def is_bound_elsewhere(caller: Caller, patient: str) -> bool:
        if caller.limits is None:
            return False
        person = stores.patient_index().find_person(patient)
        return person is None or is_for_another(caller, person, stores.patient_index())

    return AuditService(
        trail=stores.trail(),
        index=stores.audit_index(),
        people=stores.patient_index(),
        hides=hides,
        represents=represents,
        is_for_another=is_bound_elsewhere,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditWiring(http.HttpWiring):
    audit: AuditService
    deposits: DepositService
    explainer: Explainer
    cursors: Cursors
    prover: Callable[[], Prover]


@cache
def audit() -> AuditWiring:
    from passerelle.audit.deposits import DepositService
    from passerelle.audit.explanation import Explainer

    def replay(facts: Mapping[str, Any]) -> tuple[bool, str]:
        from passerelle.consents.decision import Standing, admit

        admission = admit(Standing.from_map(facts))
        return admission.is_permitted, str(admission.rule)

    def rules_now() -> str:
        from passerelle.consents.decision import rules

        return str(rules()["version"])

    return AuditWiring(
        prover=proving.prover,
        trail=stores.trail(),
        audit=audit_service(),
        deposits=DepositService(trail=stores.trail(), people=stores.patient_index(), journal=stores.journal()),
        explainer=Explainer(audit=audit_service(), replay=replay, rules_now=rules_now),
        cursors=record.cursors(),
    )
