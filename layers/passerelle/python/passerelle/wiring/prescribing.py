"""Prescriptions, and what is known of medicines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from passerelle.aws.dynamodb import in_parallel
from passerelle.wiring import auditing, monitoring, people, process, record, stores

if TYPE_CHECKING:
    from passerelle.access import Caller
    from passerelle.audit.service import AuditService
    from passerelle.authorization.model import Jwk
    from passerelle.aws.clients import DynamoClients
    from passerelle.aws.records import DynamoRecordStore
    from passerelle.medicines.ports import KnowledgeBase
    from passerelle.monitoring.answering import AnsweringService
    from passerelle.prescriptions.checking import Checks
    from passerelle.prescriptions.service import PrescriptionService
    from passerelle.prescriptions.sweeping import Sweeping
    from passerelle.records.cursors import Cursors


_CDS_SECONDS = 3.0  # to connect to a licensed base, and as many for its answer: somebody waits at a counter


@cache
def cds_key() -> str:
    """The private JWK that proves the exchange to the licensed base; read once per process."""
    return process.secret(process.environment().cds_service_secret)


@cache
def knowledge() -> KnowledgeBase:
    """What is known of medicines: loaded by the first check, not by the start of a function."""
    from passerelle.medicines.compiled import OnDemand

    compiled = OnDemand(Path(process.environment().knowledge_base).read_bytes)
    if not process.environment().cds_service_url:
        return compiled
    from passerelle.api.cds_hooks import HookedKnowledge
    from passerelle.api.outbound import Outbound
    from passerelle.medicines.joined import Both

    licensed = HookedKnowledge(
        Outbound(allow_loopback=process.allows_loopback(), timeout_seconds=_CDS_SECONDS),
        url=process.environment().cds_service_url,
        issuer=process.environment().public_url,
        key=cds_key,
        now=process.now,
        new_id=lambda: str(uuid4()),
    )
    return Both(compiled, licensed)


@cache
def clinical_checks() -> Checks:
    from passerelle.fhir.prescriptions.issues import FhirIssues
    from passerelle.fhir.prescriptions.treatments import RecordCircumstances
    from passerelle.prescriptions.checking import Checks

    return Checks(
        knowledge=knowledge(),
        circumstances=RecordCircumstances(store=stores.record_store(), gate=record.gate(), in_parallel=in_parallel),
        issues=FhirIssues(),
        blind=lambda value: process.blinder().blind("finding", value),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundKeys:
    """`prescriptions.ports.SignerKeys`: the keys of the caller's registration, if it is one of that professional."""

    clients: DynamoClients

    def keys_of(self, caller: Caller) -> Sequence[Jwk]:
        client = self.clients.find(caller.client_id)
        return client.jwks if client and client.professional and client.professional == caller.professional else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedParties:
    """`prescriptions.ports.Parties`: the organisations of the directory, by their identifier."""

    store: DynamoRecordStore

    def is_known(self, organisation: str) -> bool:
        return bool(self.store.listed("Organization", ("identifier", organisation), after=None, limit=1).entries)


@cache
def prescription_service() -> PrescriptionService:
    import passerelle.aws.records  # noqa: F401 - registers how versions of the record are stored
    from passerelle.aws.lockouts import DynamoFailures
    from passerelle.fhir.prescriptions.record import FhirClinicalRecord
    from passerelle.prescriptions.service import PrescriptionService

    return PrescriptionService(
        prescriptions=stores.prescription_store(),
        journal=stores.journal(),
        record=FhirClinicalRecord(),
        people=people.patient_reader(),
        keys=BoundKeys(clients=stores.clients()),
        parties=ListedParties(store=stores.record_store()),
        failures=DynamoFailures(process.dynamodb(), process.table_names()),
        record_store=stores.record_store(),
        checks=clinical_checks(),
        knowledge=knowledge(),
        in_parallel=in_parallel,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PrescriptionsWiring(record.RecordWiring):
    prescriptions: PrescriptionService
    cursors: Cursors

    @property
    def audit(self) -> AuditService:
        return auditing.audit_service()  # of one operation

    @property
    def answering(self) -> AnsweringService:
        return monitoring.answering_service()


@cache
def prescriptions() -> PrescriptionsWiring:
    return PrescriptionsWiring(**record.services(), prescriptions=prescription_service(), cursors=record.cursors())


@dataclass(frozen=True, slots=True, kw_only=True)
class RemindWiring:
    sweeping: Sweeping
    now: Callable[[], datetime] = process.now


@cache
def remind() -> RemindWiring:
    from passerelle.aws.prescriptions import DynamoWakes
    from passerelle.fhir.prescriptions.reminders import FhirMessages
    from passerelle.prescriptions.sweeping import Sweeping

    wakes = DynamoWakes(process.dynamodb(), process.table_names())
    return RemindWiring(sweeping=Sweeping(prescription_service(), wakes=wakes, messages=FhirMessages()))
