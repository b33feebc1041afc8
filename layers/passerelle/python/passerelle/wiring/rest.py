"""The functions that serve people and the record: each may ask every capability for something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from passerelle.wiring import auditing, leaving, monitoring, people, prescribing, publishing, record, stores, telling

if TYPE_CHECKING:
    from passerelle.audit.service import AuditService
    from passerelle.aws.notifications import DynamoSubscriptions
    from passerelle.documents.links import LinkService
    from passerelle.documents.service import DocumentService
    from passerelle.documents.uploads import UploadService
    from passerelle.erasure.service import ErasureService
    from passerelle.exports.service import ExportService
    from passerelle.fhir.document_updates import DocumentUpdateService
    from passerelle.fhir.documents import PublicationService
    from passerelle.fhir.transaction import TransactionService
    from passerelle.monitoring.measuring import MeasuringService
    from passerelle.monitoring.reporting import ReportingService
    from passerelle.notifications.ports import NotificationLog
    from passerelle.patients.control import ControlService
    from passerelle.patients.emergencies import EmergencyService
    from passerelle.patients.identity import IdentityScheme
    from passerelle.patients.model import Person
    from passerelle.patients.service import PatientService
    from passerelle.patients.status import RecordStatusService
    from passerelle.patients.stewardship import StewardService
    from passerelle.prescriptions.service import PrescriptionService
    from passerelle.records.cursors import Cursors


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientsWiring(record.RecordWiring):
    """What gives and takes access is made for the first who does."""

    patients: PatientService
    stewards: StewardService
    record_status: RecordStatusService
    scheme: IdentityScheme
    cursors: Cursors
    control: Callable[[], ControlService] = record.control_service
    emergencies: Callable[[], EmergencyService] = record.emergency_service
    erasure: Callable[[], ErasureService] = leaving.erasure_service
    exports: Callable[[], ExportService] = leaving.export_service
    contents: Callable[[], DocumentService] = publishing.document_service
    audit: Callable[[], AuditService] = auditing.audit_service


@cache
def patients() -> PatientsWiring:
    from passerelle.fhir.validation import prepare

    prepare("Patient")
    return PatientsWiring(
        **record.services(),
        patients=people.patient_service(),
        stewards=people.steward_service(),
        record_status=record.record_status_service(),
        scheme=people.identity_scheme(),
        cursors=record.cursors(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsWiring(PatientsWiring):
    """Also what the entries of a batch ask for: people and documents."""

    documents: DocumentService
    links: LinkService
    uploads: UploadService
    transactions: TransactionService
    publication: Callable[[], PublicationService] = publishing.publication
    document_updates: Callable[[], DocumentUpdateService] = publishing.document_updates

    @property
    def prescriptions(self) -> PrescriptionService:
        return prescribing.prescription_service()  # few entries ask for them

    @property
    def measuring(self) -> MeasuringService:
        return monitoring.measuring_service()

    @property
    def monitoring_reports(self) -> ReportingService:
        return monitoring.reporting_service()

    @property
    def subscribed(self) -> DynamoSubscriptions:
        return stores.subscriptions_store()  # only orders to notify ask for them

    @property
    def told(self) -> NotificationLog:
        return telling.notification_ports().log

    @property
    def whose(self) -> Callable[..., tuple[str, Person]]:
        return record.gate().owner_among


@cache
def records() -> RecordsWiring:
    from passerelle.fhir.validation import prepare

    prepare("DiagnosticReport", "DocumentReference", "List", "Observation", "Patient")
    return RecordsWiring(
        **record.services(),
        patients=people.patient_service(),
        stewards=people.steward_service(),
        record_status=record.record_status_service(),
        scheme=people.identity_scheme(),
        cursors=record.cursors(),
        documents=publishing.document_service(),
        links=publishing.link_service(),
        uploads=publishing.upload_service(),
        transactions=publishing.transaction_service(),
    )
