"""The composition root: one function per Lambda gives its services. The only reader of the environment and the clock.

Everything is made once per process and shared by the functions that run in it; `reset` forgets it, for tests. What only
some functions need is imported where it is made: a cold start pays for its own function only.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from botocore.config import Config

from passerelle.aws import tables
from passerelle.aws.audit import DynamoAuditIndex, DynamoAuditTrail
from passerelle.aws.dynamodb import DynamoDb, aws_errors, in_parallel
from passerelle.aws.journal import DynamoJournal, TableNames
from passerelle.aws.session import new_session
from passerelle.identifiers import Blinder

if TYPE_CHECKING:
    from ssl import SSLContext

    from botocore.session import Session

    from passerelle.access import Caller, Request
    from passerelle.api.keysets import HttpKeySets
    from passerelle.api.outbound import Outbound
    from passerelle.audit.deposits import DepositService
    from passerelle.audit.explanation import Explainer
    from passerelle.audit.service import AuditService
    from passerelle.authorization.codes import CodeDesk
    from passerelle.authorization.login import LoginService
    from passerelle.authorization.model import Jwk
    from passerelle.authorization.service import AuthorizationService
    from passerelle.aws.bus import EventBridgeBus, SqsDeliveries
    from passerelle.aws.clients import DynamoClients
    from passerelle.aws.documents import S3DocumentVault
    from passerelle.aws.keys import KeyRing
    from passerelle.aws.ledger import DynamoAnchors, DynamoLeaves
    from passerelle.aws.links import DynamoLinks
    from passerelle.aws.notifications import DynamoSubscriptions
    from passerelle.aws.objects import S3Objects
    from passerelle.aws.patients import DynamoPatientIndex
    from passerelle.aws.prescriptions import DynamoPrescriptions
    from passerelle.aws.quarantine import DynamoScans
    from passerelle.aws.records import DynamoRecordStore
    from passerelle.documents.links import LinkOpener, LinkService
    from passerelle.documents.model import Release
    from passerelle.documents.options import Options
    from passerelle.documents.quarantine import Quarantine, QuarantineService, Scan
    from passerelle.documents.service import DocumentService
    from passerelle.documents.sweeping import Sweeper
    from passerelle.documents.uploads import UploadService
    from passerelle.erasure.execution import Eraser
    from passerelle.erasure.service import ErasureService
    from passerelle.events import Event
    from passerelle.exports.service import ExportService
    from passerelle.fhir.disclosure import Disclosure
    from passerelle.fhir.document_updates import DocumentUpdateService
    from passerelle.fhir.documents import PublicationService
    from passerelle.fhir.event_orders import FhirEventOrders
    from passerelle.fhir.patient import FhirPatientStore
    from passerelle.fhir.patient_feed import FhirPatientFeed
    from passerelle.fhir.subscribed_resources import SubscribedResources
    from passerelle.fhir.transaction import TransactionService
    from passerelle.ingestion.model import Converter, SourceFormat
    from passerelle.ingestion.service import IngestionService
    from passerelle.journal import Change
    from passerelle.ledger.model import Entry as LedgerEntry
    from passerelle.ledger.proofs import Prover, Publisher
    from passerelle.ledger.service import Appender, Sealer
    from passerelle.medicines.ports import KnowledgeBase
    from passerelle.monitoring.answering import AnsweringService
    from passerelle.monitoring.evaluation import Monitor
    from passerelle.monitoring.measuring import MeasuringService
    from passerelle.monitoring.reporting import ReportingService
    from passerelle.monitoring.watching import WatchingService
    from passerelle.notifications.accesses import AccessHerald
    from passerelle.notifications.confirmation import Confirmations, ConfirmationService
    from passerelle.notifications.delivery import Deliverer
    from passerelle.notifications.dispatch import Dispatcher
    from passerelle.notifications.letters import Letter
    from passerelle.notifications.model import Channel
    from passerelle.notifications.offer import Offer
    from passerelle.notifications.ports import Carrier, Feed, NotificationLog, NotificationPorts
    from passerelle.notifications.reconciling import Reconciler
    from passerelle.notifications.service import SubscriptionService
    from passerelle.patients.control import ControlService
    from passerelle.patients.emergencies import EmergencyService
    from passerelle.patients.identity import IdentityScheme
    from passerelle.patients.insi import NationalIdentityService
    from passerelle.patients.model import Person
    from passerelle.patients.reading import PatientReader
    from passerelle.patients.registration import Registrar
    from passerelle.patients.resolution import Resolver
    from passerelle.patients.service import PatientService
    from passerelle.patients.status import RecordStatusService
    from passerelle.patients.stewardship import StewardService
    from passerelle.prescriptions.checking import Checks
    from passerelle.prescriptions.service import PrescriptionService
    from passerelle.prescriptions.sweeping import Sweeping
    from passerelle.records.cursors import Cursors
    from passerelle.records.effects import Effect
    from passerelle.records.gate import Gate
    from passerelle.records.history import RecordHistory
    from passerelle.records.model import RecordVersion
    from passerelle.records.searching import RecordSearch
    from passerelle.records.service import RecordService

# One connection per parallel call, few quick retries: a caller waits at most 29 s at API Gateway.
_CLIENT = Config(
    max_pool_connections=32, retries={"mode": "standard", "total_max_attempts": 3}, connect_timeout=2, read_timeout=8
)
_CDS_SECONDS = 3.0  # to connect to a licensed base, and as many for its answer: somebody waits at a counter


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The settings that the stack gives to every function."""

    stage: str
    documents_bucket: str
    event_bus: str
    deliveries_queue_url: str
    token_key_ids: tuple[str, ...]  # the first signs; tokens of all are good
    index_secret_arn: str
    public_url: str
    document_options: str
    retention_days: int
    holds_until_scanned: bool
    uploads_bucket: str
    upload_max_bytes: int
    implicit_policy: str
    openid_providers: str
    home_community_id: str
    anchors_bucket: str
    anchor_key_id: str
    seals_queue_url: str
    ledger_shards: int
    knowledge_base: str
    cds_service_url: str
    cds_service_secret: str
    mail_sender: str
    sms_sender: str
    partner_queues: str
    mssante: str
    webhook_certificate: str


@cache
def environment() -> Environment:
    """Read the environment; raises KeyError naming the variable that is missing."""
    return Environment(
        stage=os.environ["STAGE"],
        documents_bucket=os.environ["DOCUMENTS_BUCKET"],
        event_bus=os.environ["EVENT_BUS"],
        deliveries_queue_url=os.environ["DELIVERIES_QUEUE_URL"],
        token_key_ids=tuple(os.environ["TOKEN_KEY_IDS"].split()),
        index_secret_arn=os.environ["INDEX_SECRET_ARN"],
        public_url=os.environ["PUBLIC_URL"].rstrip("/"),
        document_options=os.environ["DOCUMENT_OPTIONS"],
        retention_days=int(os.environ["RETENTION_DAYS"]),
        holds_until_scanned=os.environ["HOLD_UNTIL_SCANNED"] == "true",
        uploads_bucket=os.environ["UPLOADS_BUCKET"],
        upload_max_bytes=int(os.environ["UPLOAD_MAX_BYTES"]),
        implicit_policy=os.environ["IMPLICIT_POLICY"],
        openid_providers=os.environ["OPENID_PROVIDERS"],
        home_community_id=os.environ["HOME_COMMUNITY_ID"],
        anchors_bucket=os.environ["ANCHORS_BUCKET"],
        anchor_key_id=os.environ["ANCHOR_KEY_ID"],
        seals_queue_url=os.environ["SEALS_QUEUE_URL"],
        ledger_shards=int(os.environ["LEDGER_SHARDS"]),
        knowledge_base=os.environ["KNOWLEDGE_BASE"],
        cds_service_url=os.environ["CDS_SERVICE_URL"],
        cds_service_secret=os.environ["CDS_SERVICE_SECRET"],
        mail_sender=os.environ["MAIL_SENDER"],
        sms_sender=os.environ["SMS_SENDER"],
        partner_queues=os.environ["PARTNER_QUEUES"],
        mssante=os.environ["MSSANTE"],
        webhook_certificate=os.environ["WEBHOOK_CERTIFICATE"],
    )


@cache
def session() -> Session:
    return new_session()


@cache
def aws(service: str) -> Any:
    """The client of an AWS service; clients are thread-safe."""
    config = _CLIENT
    if service == "s3" and "AWS_ENDPOINT_URL" not in os.environ:
        # URLs that are given away name the region of their bucket: by the global name, a new bucket is a redirect.
        config = config.merge(Config(s3={"addressing_style": "virtual"}))
    return session().create_client(service, config=config)


@cache
def dynamodb() -> DynamoDb:
    return DynamoDb(aws("dynamodb"))


@cache
def blinder() -> Blinder:
    """The key of look-up hashes and page links; read once per process."""
    answer = aws("secretsmanager").get_secret_value(SecretId=environment().index_secret_arn)
    return Blinder(answer["SecretString"].encode())


@cache
def table_names() -> TableNames:
    return TableNames(
        clinical=os.environ[tables.CLINICAL.variable],
        patients=os.environ[tables.PATIENTS.variable],
        operations=os.environ[tables.OPERATIONS.variable],
        audit=os.environ[tables.AUDIT.variable],
        blinder=blinder,
        keyring=keyring,
        objects=objects,
    )


@cache
def keyring() -> KeyRing:
    """The stage's key over those of the records is derived from the index secret, read once per process."""
    from passerelle.aws.keys import KeyRing
    from passerelle.aws.sealing import Sealer

    wrapping = cache(lambda: Sealer(blinder().subkey("data-keys")))
    return KeyRing(dynamodb(), os.environ[tables.KEYS.variable], wrapping)


@cache
def objects() -> S3Objects:
    from passerelle.aws.objects import S3Objects

    return S3Objects(aws("s3"), environment().documents_bucket)


@cache
def trail() -> DynamoAuditTrail:
    return DynamoAuditTrail(dynamodb(), table_names())


@cache
def journal() -> DynamoJournal:
    return DynamoJournal(dynamodb(), table_names())


@cache
def identity_scheme() -> IdentityScheme:
    from passerelle.patients.identity import french_identity

    return french_identity(environment().stage)


@cache
def patient_index() -> DynamoPatientIndex:
    from passerelle.aws.patients import DynamoPatientIndex

    return DynamoPatientIndex(dynamodb(), table_names())


@cache
def record_store() -> DynamoRecordStore:
    from passerelle.aws.records import DynamoRecordStore

    return DynamoRecordStore(dynamodb(), table_names())


@cache
def patient_service() -> PatientService:
    from passerelle.patients.service import PatientService

    return PatientService(
        index=patient_index(),
        store=patient_store(),
        domains=clients(),
        journal=journal(),
        registrar=registrar(),
        resolver=resolver(),
        national_systems=identity_scheme().systems,
        national_identities=national_identities(),
        in_parallel=in_parallel,
        pause=dynamodb().back_off,
    )


@cache
def patient_reader() -> PatientReader:
    from passerelle.patients.reading import PatientReader

    return PatientReader(index=patient_index(), store=patient_store(), in_parallel=in_parallel)


@cache
def patient_store() -> FhirPatientStore:
    from passerelle.fhir.patient import FhirPatientStore

    return FhirPatientStore(record_store(), identity_scheme(), in_parallel)


@cache
def resolver() -> Resolver:
    from passerelle.matching.scoring import Model
    from passerelle.patients.resolution import Resolver

    return Resolver(index=patient_index(), model=Model.load, in_parallel=in_parallel)


@cache
def registrar() -> Registrar:
    from passerelle.patients.registration import Registrar

    return Registrar(
        index=patient_index(),
        reviews=patient_index(),
        store=patient_store(),
        resolver=resolver(),
        in_parallel=in_parallel,
    )


@cache
def steward_service() -> StewardService:
    from passerelle.patients.stewardship import StewardService

    return StewardService(
        index=patient_index(),
        reviews=patient_index(),
        store=patient_store(),
        journal=journal(),
        registrar=registrar(),
        resolver=resolver(),
        in_parallel=in_parallel,
        pause=dynamodb().back_off,
    )


@cache
def record_status_service() -> RecordStatusService:
    from passerelle.patients.status import RecordStatusService

    return RecordStatusService(
        index=patient_index(),
        admissions=gate(),
        decisions=patient_index(),
        journal=journal(),
        in_parallel=in_parallel,
        pause=dynamodb().back_off,
    )


@cache
def control_service() -> ControlService:
    from passerelle.patients.control import ControlService

    return ControlService(
        index=patient_index(),
        admissions=gate(),
        journal=journal(),
        pause=dynamodb().back_off,
        identities=patient_store(),
        record=record_service(),
        is_national=identity_scheme().is_national,
        in_parallel=in_parallel,
    )


@cache
def emergency_service() -> EmergencyService:
    from passerelle.aws.emergencies import DynamoEmergencyUses
    from passerelle.patients.emergencies import EmergencyService

    return EmergencyService(
        index=patient_index(),
        admissions=gate(),
        journal=journal(),
        pause=dynamodb().back_off,
        decisions=patient_index(),
        uses=DynamoEmergencyUses(dynamodb(), table_names()),
        in_parallel=in_parallel,
    )


@cache
def erasure_service() -> ErasureService:
    from passerelle.erasure.service import ErasureService

    return ErasureService(index=patient_index(), decisions=patient_index(), journal=journal(), blinder=blinder())


@cache
def export_service() -> ExportService:
    from passerelle.aws.exports import S3ExportSpace
    from passerelle.exports.service import ExportService

    return ExportService(
        index=patient_index(),
        admissions=gate(),
        journal=journal(),
        pause=dynamodb().back_off,
        space=S3ExportSpace(aws("s3"), environment().uploads_bucket),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseWiring:
    eraser: Eraser
    event_of: Callable[[Mapping[str, Any]], Event]
    now: Callable[[], datetime] = now


@cache
def erase() -> EraseWiring:
    from passerelle.aws.erasure import S3Contents
    from passerelle.aws.notifications import envelope_event
    from passerelle.erasure.execution import Eraser

    eraser = Eraser(
        index=patient_index(),
        registrar=registrar(),
        journal=journal(),
        keys=keyring(),
        contents=S3Contents(objects()),
        pause=dynamodb().back_off,
    )
    return EraseWiring(eraser=eraser, event_of=envelope_event)


@cache
def national_identities() -> NationalIdentityService:
    from passerelle.patients.insi import national_identity_service

    return national_identity_service(environment().stage)


@cache
def record_service() -> RecordService:
    from passerelle.fhir.succession import Successions
    from passerelle.records.service import RecordService

    return RecordService(
        store=record_store(),
        gate=gate(),
        search=record_search(),
        journal=journal(),
        blinder=blinder(),
        succession=Successions(),
        effects=policy_effects,
        in_parallel=in_parallel,
        pause=dynamodb().back_off,
        following=monitored,
    )


def monitored(request: Request, versions: Sequence[RecordVersion]) -> Sequence[Change]:
    from passerelle.monitoring.waking import wakes

    return wakes(request, versions)


@cache
def monitor() -> Monitor:
    from passerelle.aws.monitoring import DynamoWatches
    from passerelle.fhir.monitoring.alerts import FhirAlerts
    from passerelle.fhir.monitoring.plans import RecordPlans
    from passerelle.monitoring.evaluation import Monitor

    return Monitor(
        plans=RecordPlans(record_store(), in_parallel),
        watches=DynamoWatches(dynamodb(), table_names()),
        tasks=FhirAlerts(record_store()),
        in_parallel=in_parallel,
    )


@cache
def measuring_service() -> MeasuringService:
    from passerelle.aws.monitoring import DynamoAllowance
    from passerelle.fhir.monitoring.measurements import FhirContents
    from passerelle.monitoring.measuring import MeasuringService

    return MeasuringService(
        records=record_service(),
        store=record_store(),
        monitor=monitor(),
        allowance=DynamoAllowance(dynamodb(), table_names()),
        contents=FhirContents(),
        journal=journal(),
        blinder=blinder(),
        pause=dynamodb().back_off,
    )


@cache
def answering_service() -> AnsweringService:
    from passerelle.aws.monitoring import DynamoWatches
    from passerelle.fhir.monitoring.alerts import FhirAlerts
    from passerelle.monitoring.answering import AnsweringService

    return AnsweringService(
        records=record_service(),
        store=record_store(),
        people=patient_index(),
        admissions=gate(),
        watches=DynamoWatches(dynamodb(), table_names()),
        tasks=FhirAlerts(record_store()),
        journal=journal(),
        pause=dynamodb().back_off,
    )


@cache
def reporting_service() -> ReportingService:
    from passerelle.monitoring.reporting import ReportingService

    return ReportingService(plans=monitor().plans, watches=monitor().watches)


@cache
def gate() -> Gate:
    from passerelle.consents.decision import Implicit
    from passerelle.fhir.concealment import ReferenceMending
    from passerelle.records.gate import Gate

    implicit = Implicit(environment().implicit_policy)
    return Gate(patient_index(), record_store(), ReferenceMending(), in_parallel, implicit=implicit)


@cache
def record_search() -> RecordSearch:
    from passerelle.records.searching import RecordSearch

    return RecordSearch(store=record_store(), gate=gate(), blinder=blinder(), in_parallel=in_parallel)


@cache
def record_history() -> RecordHistory:
    from passerelle.records.history import RecordHistory

    return RecordHistory(store=record_store(), gate=gate(), blinder=blinder(), in_parallel=in_parallel)


@cache
def document_service() -> DocumentService:
    from passerelle.documents.retention import Retention
    from passerelle.documents.service import DocumentService

    return DocumentService(
        vault=document_vault(),
        quarantine=content_quarantine(),
        retention=Retention(at_most=timedelta(days=environment().retention_days)),
        in_parallel=in_parallel,
    )


@cache
def document_vault() -> S3DocumentVault:
    from passerelle.aws.documents import S3DocumentVault

    return S3DocumentVault(objects(), uploads_bucket=environment().uploads_bucket)


@cache
def upload_service() -> UploadService:
    from passerelle.aws.uploads import DynamoUploadTickets, S3UploadSpace
    from passerelle.documents.uploads import UploadService

    return UploadService(
        tickets=DynamoUploadTickets(dynamodb(), table_names()),
        space=S3UploadSpace(aws("s3"), environment().uploads_bucket),
        quarantine=content_quarantine(),
        journal=journal(),
        max_bytes=environment().upload_max_bytes,
    )


@cache
def document_options() -> Options:
    from passerelle.documents.options import Options

    return Options.parse(environment().document_options)


def subscriptions_store() -> DynamoSubscriptions:
    from passerelle.aws.notifications import DynamoSubscriptions

    return DynamoSubscriptions(dynamodb(), table_names())


@cache
def transaction_service() -> TransactionService:
    from passerelle.fhir.recipients import Recipients
    from passerelle.fhir.transaction import TransactionService

    return TransactionService(
        records=record_service(),
        patients=patient_service(),
        documents=document_service(),
        journal=journal(),
        blinder=blinder(),
        scheme=identity_scheme(),
        options=document_options(),
        recipients=Recipients(record_service(), subscriptions_store),
        uploads=upload_service(),
        effects=policy_effects,
    )


def policy_effects(changes: Sequence[Change]) -> Mapping[str, Effect]:
    from passerelle.fhir.policy_effects import directory_of
    from passerelle.fhir.policy_effects import policy_effects as effects

    return effects(directory_of(record_store(), changes), in_parallel, record_store())


@cache
def publication() -> PublicationService:
    from passerelle.fhir.documents import PublicationService

    return PublicationService(
        transactions=transaction_service(),
        records=record_service(),
        gate=gate(),
        blinder=blinder(),
        national_systems=identity_scheme().systems,
    )


@cache
def document_updates() -> DocumentUpdateService:
    from passerelle.fhir.document_updates import DocumentUpdateService

    return DocumentUpdateService(records=record_service(), gate=gate(), store=record_store(), blinder=blinder())


@cache
def disclosure() -> Disclosure:
    from passerelle.fhir.disclosure import Disclosure

    return Disclosure(identity_scheme())


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpWiring:
    """What every HTTP function has; `disclosure` is made for the first answer with a Patient in it."""

    trail: DynamoAuditTrail
    now: Callable[[], datetime] = now
    disclosure: Callable[[], Disclosure] = disclosure


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordWiring(HttpWiring):
    """What every function has that serves resources of the record or of the directory."""

    records: RecordService
    search: RecordSearch
    history: RecordHistory


def _record() -> dict[str, Any]:
    return {
        "trail": trail(),
        "records": record_service(),
        "search": record_search(),
        "history": record_history(),
    }


@cache
def directory() -> RecordWiring:
    return RecordWiring(**_record())


@cache
def audit_service() -> AuditService:
    from passerelle.audit.service import AuditService
    from passerelle.patients.reading import is_for_another

    def hides(caller: Caller, patient: str) -> Callable[[str], bool]:
        return gate().hides(caller, patient, now())  # asked for patients and who acts for them only

    def represents(caller: Caller, patient: str, at: datetime) -> bool:
        person = patient_index().find_person(patient)
        return person is not None and gate().admission(caller, person, at)[1].mandate is not None

    def is_bound_elsewhere(caller: Caller, patient: str) -> bool:
        if caller.limits is None:
            return False
        person = patient_index().find_person(patient)
        return person is None or is_for_another(caller, person, patient_index())

    return AuditService(
        trail=trail(),
        index=audit_index(),
        people=patient_index(),
        hides=hides,
        represents=represents,
        is_for_another=is_bound_elsewhere,
    )


@cache
def audit_index() -> DynamoAuditIndex:
    return DynamoAuditIndex(dynamodb(), table_names())


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientsWiring(RecordWiring):
    """What gives and takes access is made for the first who does."""

    patients: PatientService
    stewards: StewardService
    record_status: RecordStatusService
    scheme: IdentityScheme
    cursors: Cursors
    control: Callable[[], ControlService] = control_service
    emergencies: Callable[[], EmergencyService] = emergency_service
    erasure: Callable[[], ErasureService] = erasure_service
    exports: Callable[[], ExportService] = export_service
    contents: Callable[[], DocumentService] = document_service
    audit: Callable[[], AuditService] = audit_service


@cache
def cursors() -> Cursors:
    from passerelle.records.cursors import Cursors

    return Cursors(blinder())


@cache
def patients() -> PatientsWiring:
    from passerelle.fhir.validation import prepare

    prepare("Patient")
    return PatientsWiring(
        **_record(),
        patients=patient_service(),
        stewards=steward_service(),
        record_status=record_status_service(),
        scheme=identity_scheme(),
        cursors=cursors(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentsWiring(RecordWiring):
    """What publishes and changes documents is made for the first that is."""

    documents: DocumentService
    links: LinkService
    uploads: UploadService
    publication: Callable[[], PublicationService] = publication
    document_updates: Callable[[], DocumentUpdateService] = document_updates


@cache
def documents() -> DocumentsWiring:
    return DocumentsWiring(**_record(), documents=document_service(), links=link_service(), uploads=upload_service())


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsWiring(PatientsWiring):
    """Also what the entries of a batch ask for: people and documents."""

    documents: DocumentService
    links: LinkService
    uploads: UploadService
    transactions: TransactionService
    publication: Callable[[], PublicationService] = publication
    document_updates: Callable[[], DocumentUpdateService] = document_updates

    @property
    def prescriptions(self) -> PrescriptionService:
        return prescription_service()  # few entries ask for them

    @property
    def measuring(self) -> MeasuringService:
        return measuring_service()

    @property
    def monitoring_reports(self) -> ReportingService:
        return reporting_service()

    @property
    def subscribed(self) -> DynamoSubscriptions:
        return subscriptions_store()  # only orders to notify ask for them

    @property
    def told(self) -> NotificationLog:
        return notification_ports().log

    @property
    def whose(self) -> Callable[..., tuple[str, Person]]:
        return gate().owner_among


@cache
def records() -> RecordsWiring:
    from passerelle.fhir.validation import prepare

    prepare("DiagnosticReport", "DocumentReference", "List", "Observation", "Patient")
    return RecordsWiring(
        **_record(),
        patients=patient_service(),
        stewards=steward_service(),
        record_status=record_status_service(),
        scheme=identity_scheme(),
        cursors=cursors(),
        documents=document_service(),
        links=link_service(),
        uploads=upload_service(),
        transactions=transaction_service(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditWiring(HttpWiring):
    audit: AuditService
    deposits: DepositService
    explainer: Explainer
    cursors: Cursors
    prover: Callable[[], Prover]


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueWiring:
    index: DynamoAuditIndex
    herald: AccessHerald
    record_of: Callable[[Mapping[str, Any]], Mapping[str, Any]]


def catalogue() -> CatalogueWiring:
    """A new AccessHerald each time: what it reads holds for one batch."""
    from passerelle.aws.audit import streamed
    from passerelle.aws.bus import EventBridgeBus
    from passerelle.notifications.accesses import AccessHerald

    herald = AccessHerald(
        subscriptions=subscriptions_store(),
        people=patient_index(),
        bus=EventBridgeBus(aws("events"), environment().event_bus),
    )
    return CatalogueWiring(index=audit_index(), herald=herald, record_of=streamed)


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
        prover=prover,
        trail=trail(),
        audit=audit_service(),
        deposits=DepositService(trail=trail(), people=patient_index(), journal=journal()),
        explainer=Explainer(audit=audit_service(), replay=replay, rules_now=rules_now),
        cursors=cursors(),
    )


@cache
def clients() -> DynamoClients:
    from passerelle.aws.clients import DynamoClients

    return DynamoClients(dynamodb(), table_names())


@cache
def authorization_service() -> AuthorizationService:
    from passerelle.authorization.keys import PublishedKeys
    from passerelle.authorization.service import AuthorizationService
    from passerelle.aws.tokens import KmsTokenKey

    return AuthorizationService(
        clients=clients(),
        key=KmsTokenKey(aws("kms"), environment().token_key_ids),
        published=PublishedKeys(key_sets),
        desk=code_desk,
        community=environment().home_community_id,
    )


@cache
def key_sets() -> HttpKeySets:
    from passerelle.api.keysets import HttpKeySets

    return HttpKeySets(outbound())


def outbound() -> Outbound:
    from passerelle.api.outbound import Outbound  # loads the certificates of the authorities that it trusts

    return Outbound(allow_loopback=allows_loopback())


@cache
def code_desk() -> CodeDesk:
    from passerelle.authorization.codes import CodeDesk
    from passerelle.aws.codes import DynamoCodes

    return CodeDesk(codes=DynamoCodes(dynamodb(), table_names()), clients=clients())


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginWiring(HttpWiring):
    login: LoginService
    public_url: str


@cache
def login() -> LoginWiring:
    from passerelle.api.openid import HttpOpenIdProviders
    from passerelle.authorization.keys import PublishedKeys
    from passerelle.authorization.login import LoginService
    from passerelle.authorization.openid import parse_providers
    from passerelle.aws.codes import DynamoCodes
    from passerelle.aws.logins import DynamoLogins

    service = LoginService(
        clients=clients(),
        logins=DynamoLogins(dynamodb(), table_names()),
        codes=DynamoCodes(dynamodb(), table_names()),
        openid=HttpOpenIdProviders(outbound(), PublishedKeys(key_sets), openid_secret),
        providers=parse_providers(environment().openid_providers, environment().public_url),
        new_secret=lambda: secrets.token_urlsafe(32),
    )
    return LoginWiring(trail=trail(), login=service, public_url=environment().public_url)


@cache
def openid_secret(arn: str) -> str:
    """What proves the exchange to an OpenID provider; read once per process."""
    secret: str = aws("secretsmanager").get_secret_value(SecretId=arn)["SecretString"]
    return secret


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestWiring(HttpWiring):
    ingestion: IngestionService


@cache
def converters() -> Mapping[SourceFormat, Converter]:
    """How each format is read; loaded with the first message, not by the start of the function."""
    from passerelle.fhir.conversion import cda, hl7v2, hprim
    from passerelle.ingestion.model import SourceFormat

    return {
        SourceFormat.CDA: cda.convert,
        SourceFormat.HL7V2: hl7v2.convert,
        SourceFormat.HPRIM: hprim.convert,
    }


@cache
def ingestion_service() -> IngestionService:
    from passerelle.api.ingestion import report_defect
    from passerelle.aws.ingestion import DynamoInbox, DynamoPositions
    from passerelle.fhir.ingested import FhirExchange
    from passerelle.ingestion.service import IngestionService

    return IngestionService(
        inbox=DynamoInbox(dynamodb(), table_names()),
        positions=DynamoPositions(dynamodb(), table_names()),
        exchange=FhirExchange(
            transactions=transaction_service(),
            patients=patient_service(),
            documents=document_updates(),
            scheme=identity_scheme(),
        ),
        converters=converters,
        blinder=blinder(),
        report=report_defect,
    )


@cache
def ingest() -> IngestWiring:
    from passerelle.fhir.validation import prepare

    prepare("DiagnosticReport", "DocumentReference", "Encounter", "Observation", "Patient")
    return IngestWiring(trail=trail(), ingestion=ingestion_service())


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWiring:
    trail: DynamoAuditTrail
    authorization: AuthorizationService
    public_url: str
    now: Callable[[], datetime] = now


@cache
def token() -> TokenWiring:
    return TokenWiring(trail=trail(), authorization=authorization_service(), public_url=environment().public_url)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizeWiring(HttpWiring):
    authorization: AuthorizationService
    public_url: str


@cache
def authorize() -> AuthorizeWiring:
    return AuthorizeWiring(trail=trail(), authorization=authorization_service(), public_url=environment().public_url)


@cache
def deliveries() -> SqsDeliveries:
    from passerelle.aws.bus import SqsDeliveries

    return SqsDeliveries(aws("sqs"), environment().deliveries_queue_url)


@cache
def notification_ports() -> NotificationPorts:
    from passerelle.aws.notifications import DynamoNotificationLog, DynamoSubscriptions
    from passerelle.notifications.ports import NotificationPorts

    return NotificationPorts(
        subscriptions=DynamoSubscriptions(dynamodb(), table_names()),
        log=DynamoNotificationLog(dynamodb(), table_names()),
        deliveries=deliveries(),
        clients=clients(),
        people=patient_index(),
        record=gate(),
        shows_access=lambda caller, id, at: audit_service().shows(caller, id, at),
    )


@cache
def subscribed_resources() -> SubscribedResources:
    from passerelle.fhir.subscribed_resources import SubscribedResources

    return SubscribedResources(
        patients=patient_reader(),
        records=record_service(),
        prescriptions=prescription_service,
        disclosure=disclosure(),
    )


@cache
def patient_feed() -> FhirPatientFeed:
    from passerelle.fhir.patient_feed import FhirPatientFeed

    return FhirPatientFeed(patient_store())


@cache
def event_orders() -> FhirEventOrders:
    from passerelle.fhir.event_orders import FhirEventOrders

    return FhirEventOrders(record_store())


def allows_loopback() -> bool:
    """Whether a webhook may be on this machine: on a desk, never in Lambda, whose own API is there."""
    return environment().stage == "dev" and "AWS_LAMBDA_RUNTIME_API" not in os.environ


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionsWiring(HttpWiring):
    subscriptions: SubscriptionService

    @property
    def confirmations(self) -> ConfirmationService:
        from passerelle.notifications.confirmation import ConfirmationService

        return ConfirmationService(
            notification_ports(), journal=journal(), confirmations=confirmations(), find=self.subscriptions.get
        )


@cache
def subscriptions() -> SubscriptionsWiring:
    from passerelle.notifications.service import SubscriptionService

    service = SubscriptionService(
        notification_ports(),
        journal=journal(),
        resources=subscribed_resources,
        allow_loopback=allows_loopback(),
        offer=offer(),
    )
    return SubscriptionsWiring(trail=trail(), subscriptions=service)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayWiring:
    bus: EventBridgeBus
    events_of: Callable[[Mapping[str, Any]], list[Event]]


@cache
def relay() -> RelayWiring:
    from passerelle.aws.bus import EventBridgeBus
    from passerelle.aws.notifications import outbox_events

    return RelayWiring(bus=EventBridgeBus(aws("events"), environment().event_bus), events_of=outbox_events)


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchWiring:
    dispatcher: Dispatcher
    event_of: Callable[[Mapping[str, Any]], Event]
    now: Callable[[], datetime] = now


def dispatcher() -> Dispatcher:
    from passerelle.fhir.happenings import RecordTurns
    from passerelle.notifications.dispatch import Dispatcher
    from passerelle.notifications.topics import DECLARED, FEED

    turns = RecordTurns(record_store(), history=prescription_store().history)
    feeds: dict[str, Callable[[], Feed]] = {FEED: patient_feed, DECLARED: event_orders}
    return Dispatcher(notification_ports(), feeds=feeds, turns=turns)


@cache
def incident() -> Callable[[str], None]:
    """Counts what an operator has to know of."""
    from passerelle.api.incidents import incidents

    return incidents(environment().stage, lambda: int(now().timestamp() * 1000))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileWiring:
    reconciler: Reconciler
    now: Callable[[], datetime] = now


@cache
def reconcile() -> ReconcileWiring:
    from passerelle.aws.reconciling import DynamoOutbox, DynamoSilences
    from passerelle.notifications.reconciling import Reconciler

    ports = notification_ports()
    reconciler = Reconciler(
        outbox=DynamoOutbox(dynamodb(), table_names()),
        silences=DynamoSilences(dynamodb(), table_names()),
        audience=dispatcher,
        subscriptions=ports.subscriptions,
        log=ports.log,
        deliveries=ports.deliveries,
        incident=incident(),
    )
    return ReconcileWiring(reconciler=reconciler)


def dispatch() -> DispatchWiring:
    """A new Dispatcher each time: what it reads holds for one batch."""
    from passerelle.aws.notifications import envelope_event

    return DispatchWiring(dispatcher=dispatcher(), event_of=envelope_event)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineWiring:
    quarantine: QuarantineService
    scan_of: Callable[[Mapping[str, Any]], Scan | None]
    now: Callable[[], datetime] = now


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedDocuments:
    """`documents.quarantine.Publications`: of the record."""

    store: DynamoRecordStore

    def version_of(self, document: str) -> int | None:
        from passerelle.records.model import ResourceKey

        key = ResourceKey.of("DocumentReference", document)
        found = self.store.find_latest(key) if key else None
        return found.version if found and found.body is not None else None


@cache
def scans() -> DynamoScans:
    from passerelle.aws.quarantine import DynamoScans

    return DynamoScans(dynamodb(), table_names())


@cache
def content_quarantine() -> Quarantine:
    from passerelle.documents.quarantine import Quarantine

    return Quarantine(scans=scans(), holds=environment().holds_until_scanned)


@cache
def quarantine() -> QuarantineWiring:
    from passerelle.aws.quarantine import scan_of
    from passerelle.documents.quarantine import QuarantineService

    service = QuarantineService(scans=scans(), publications=PublishedDocuments(store=record_store()), journal=journal())
    return QuarantineWiring(quarantine=service, scan_of=scan_of)


@cache
def link_store() -> DynamoLinks:
    from passerelle.aws.links import DynamoLinks

    return DynamoLinks(dynamodb(), table_names())


@cache
def link_service() -> LinkService:
    from passerelle.aws.links import sealer_of
    from passerelle.documents.links import LinkService
    from passerelle.fhir.links import RecordDocuments

    return LinkService(
        links=link_store(),
        publications=RecordDocuments(record_service()),
        journal=journal(),
        seal=sealer_of(table_names()),
        new_token=lambda: secrets.token_urlsafe(32),
        in_parallel=in_parallel,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LinksWiring:
    opener: LinkOpener[Release]
    public_url: str
    storage_origin: str
    now: Callable[[], datetime] = now


@cache
def links() -> LinksWiring:
    from passerelle.documents.links import LinkOpener
    from passerelle.fhir.links import RecordDocuments

    opener: LinkOpener[Release] = LinkOpener(
        links=link_store(),
        publications=RecordDocuments(record_service()),
        clients=clients(),
        trail=trail(),
        journal=journal(),
        release=document_service().release,
        digests=lambda content: content.kept.sha256,
    )
    example = urlsplit(document_vault().link("-", content_type="", lifetime=timedelta(seconds=1)))
    return LinksWiring(
        opener=opener,
        public_url=environment().public_url,
        storage_origin=f"{example.scheme}://{example.netloc}",
    )


@cache
def partner_queues() -> frozenset[tuple[str, str]]:
    """The queues that the operator gave to clients: (client id, ARN)."""
    return frozenset((each["client_id"], each["arn"]) for each in json.loads(environment().partner_queues))


@cache
def offer() -> Offer:
    """The ways of being told that the operator set up."""
    from passerelle.notifications.model import Channel
    from passerelle.notifications.offer import WEBHOOKS, Offer

    set_up = {
        Channel.EMAIL: environment().mail_sender,
        Channel.SMS: environment().sms_sender,
        Channel.QUEUE: partner_queues(),
        Channel.MAILBOX: environment().mssante,
    }
    return Offer(
        channels=WEBHOOKS | {channel for channel, given in set_up.items() if given}, partner_queues=partner_queues()
    )


@cache
def confirmations() -> Confirmations:
    from passerelle.aws.allowances import DynamoAllowances
    from passerelle.notifications.confirmation import Confirmations

    return Confirmations(
        lambda namespace, value: blinder().blind(namespace, value), DynamoAllowances(dynamodb(), table_names())
    )


def letter_carriers() -> dict[Channel, Carrier]:
    """What tells by other ways than webhooks, as far as the operator set them up."""
    from passerelle.notifications.model import Channel
    from passerelle.notifications.offer import NotOffered, OnDemand

    made = {
        Channel.EMAIL: mail_carrier,
        Channel.SMS: text_carrier,
        Channel.QUEUE: queue_carrier,
        Channel.MAILBOX: mailbox_carrier,
    }
    return {channel: OnDemand(make) if channel in offer().channels else NotOffered() for channel, make in made.items()}


def mail_carrier() -> Carrier:
    from passerelle.aws.mail import SesMail
    from passerelle.notifications.letter_carrier import by_mail

    return _letters(by_mail(SesMail(aws("sesv2"), environment().mail_sender)))


def text_carrier() -> Carrier:
    from passerelle.aws.texting import SnsTexting
    from passerelle.notifications.letter_carrier import by_text

    return _letters(by_text(SnsTexting(aws("sns"), environment().sms_sender)))


def _letters(send: Callable[[str, Letter, str], None]) -> Carrier:
    from passerelle.aws.allowances import DynamoAllowances
    from passerelle.notifications.letter_carrier import LetterCarrier

    return LetterCarrier(
        send,
        confirmations=confirmations(),
        allowances=DynamoAllowances(dynamodb(), table_names()),
        public_url=environment().public_url,
    )


def queue_carrier() -> Carrier:
    from passerelle.aws.partner_queues import SqsPartnerQueues
    from passerelle.fhir.notification import render_notification
    from passerelle.notifications.queue_carrier import QueueCarrier

    @cache
    def client_of(region: str) -> Any:
        return session().create_client("sqs", region_name=region, config=_CLIENT)

    return QueueCarrier(SqsPartnerQueues(client_of), render=render_notification)


def mailbox_carrier() -> Carrier:
    """Without mutual TLS only on a desk."""
    from passerelle.api.mailboxes import Operator, SmtpRelay
    from passerelle.api.outbound import certified
    from passerelle.fhir.enclosures import MailEnclosures
    from passerelle.notifications.mailbox_carrier import MailboxCarrier

    settings = json.loads(environment().mssante)
    secret = json.loads(_secret(settings["secret"])) if settings["secret"] else {}
    operator = Operator(
        host=settings["host"],
        port=settings["port"],
        sender=settings["sender"],
        user=secret.get("user", ""),
        password=secret.get("password", ""),
    )
    tls = certified(secret["certificate"], authorities=secret.get("authorities", "")) if secret else None
    if tls is None and not allows_loopback():
        raise ValueError("mail of the trust space goes by mutual TLS")
    return MailboxCarrier(
        SmtpRelay(operator, tls=tls),
        enclosures=MailEnclosures(
            records=record_service(),
            patients=patient_reader(),
            documents=document_service,
            trail=trail(),
            source=environment().home_community_id.removeprefix("urn:oid:"),
        ),
        confirmations=confirmations(),
        public_url=environment().public_url,
    )


def webhook_tls() -> SSLContext | None:
    """TLS with the certificate of the exchange, for webhooks that ask for one; None where it has none."""
    from passerelle.api.outbound import certified

    arn = environment().webhook_certificate
    return certified(_secret(arn)) if arn else None


def _secret(arn: str) -> str:
    with aws_errors():
        secret: str = aws("secretsmanager").get_secret_value(SecretId=arn)["SecretString"]
    return secret


@cache
def carriers() -> Mapping[Channel, Carrier]:
    """Every way of being told that is set up."""
    from passerelle.api.webhooks import HttpWebhooks
    from passerelle.fhir.notification import render_notification
    from passerelle.notifications.carriers import FeedCarrier, WebhookCarrier
    from passerelle.notifications.model import Channel

    webhooks = HttpWebhooks(allow_loopback=allows_loopback(), tls=webhook_tls())
    return {
        Channel.REST_HOOK: WebhookCarrier(webhooks, render=render_notification),
        Channel.MESSAGE: FeedCarrier(webhooks, people=patient_index(), feed=patient_feed),
        Channel.ORDER: FeedCarrier(webhooks, people=patient_index(), feed=event_orders),
        **letter_carriers(),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverWiring:
    deliverer: Deliverer


@cache
def deliver() -> DeliverWiring:
    from passerelle.aws.notifications import DynamoBreakers
    from passerelle.notifications.delivery import Deliverer
    from passerelle.prescriptions.workdays import PARIS

    return DeliverWiring(
        deliverer=Deliverer(
            notification_ports(),
            carriers=carriers(),
            breakers=DynamoBreakers(dynamodb(), table_names()),
            resources=subscribed_resources,
            trail=trail(),
            incident=incident(),
            now=lambda: now(),
            zone=PARIS,
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepWiring:
    sweeper: Sweeper
    id_of: Callable[[str], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedDocuments:
    """`documents.ports.Publications`: what the record has, or had, under the id of a content."""

    store: DynamoRecordStore

    def is_published(self, id: str) -> bool:
        from passerelle.records.model import ResourceKey

        key = ResourceKey.of("DocumentReference", id)
        return key is not None and self.store.find_latest(key) is not None


@cache
def sweep() -> SweepWiring:
    from passerelle.aws.documents import id_of
    from passerelle.documents.sweeping import Sweeper

    publications = CommittedDocuments(store=record_store())
    return SweepWiring(sweeper=Sweeper(vault=document_vault(), publications=publications), id_of=id_of)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PrescriptionsWiring(RecordWiring):
    prescriptions: PrescriptionService
    cursors: Cursors

    @property
    def audit(self) -> AuditService:
        return audit_service()  # of one operation

    @property
    def answering(self) -> AnsweringService:
        return answering_service()


@cache
def knowledge() -> KnowledgeBase:
    """What is known of medicines: loaded by the first check, not by the start of a function."""
    from passerelle.medicines.compiled import OnDemand

    compiled = OnDemand(Path(environment().knowledge_base).read_bytes)
    if not environment().cds_service_url:
        return compiled
    from passerelle.api.cds_hooks import HookedKnowledge
    from passerelle.api.outbound import Outbound
    from passerelle.medicines.joined import Both

    licensed = HookedKnowledge(
        Outbound(allow_loopback=allows_loopback(), timeout_seconds=_CDS_SECONDS),
        url=environment().cds_service_url,
        issuer=environment().public_url,
        key=cds_key,
        now=now,
        new_id=lambda: str(uuid4()),
    )
    return Both(compiled, licensed)


@cache
def cds_key() -> str:
    """The private JWK that proves the exchange to the licensed base; read once per process."""
    with aws_errors():
        secret: str = aws("secretsmanager").get_secret_value(SecretId=environment().cds_service_secret)["SecretString"]
    return secret


@cache
def prescription_store() -> DynamoPrescriptions:
    from passerelle.aws.prescriptions import DynamoPrescriptions

    return DynamoPrescriptions(dynamodb(), table_names())


@cache
def clinical_checks() -> Checks:
    from passerelle.fhir.prescriptions.issues import FhirIssues
    from passerelle.fhir.prescriptions.treatments import RecordCircumstances
    from passerelle.prescriptions.checking import Checks

    return Checks(
        knowledge=knowledge(),
        circumstances=RecordCircumstances(store=record_store(), gate=gate(), in_parallel=in_parallel),
        issues=FhirIssues(),
        blind=lambda value: blinder().blind("finding", value),
    )


@cache
def prescription_service() -> PrescriptionService:
    import passerelle.aws.records  # noqa: F401 - registers how versions of the record are stored
    from passerelle.aws.lockouts import DynamoFailures
    from passerelle.fhir.prescriptions.record import FhirClinicalRecord
    from passerelle.prescriptions.service import PrescriptionService

    return PrescriptionService(
        prescriptions=prescription_store(),
        journal=journal(),
        record=FhirClinicalRecord(),
        people=patient_reader(),
        keys=BoundKeys(clients=clients()),
        parties=ListedParties(store=record_store()),
        failures=DynamoFailures(dynamodb(), table_names()),
        record_store=record_store(),
        checks=clinical_checks(),
        knowledge=knowledge(),
        in_parallel=in_parallel,
    )


@cache
def prescriptions() -> PrescriptionsWiring:
    return PrescriptionsWiring(**_record(), prescriptions=prescription_service(), cursors=cursors())


@dataclass(frozen=True, slots=True, kw_only=True)
class RemindWiring:
    sweeping: Sweeping
    now: Callable[[], datetime] = now


@cache
def remind() -> RemindWiring:
    from passerelle.aws.prescriptions import DynamoWakes
    from passerelle.fhir.prescriptions.reminders import FhirMessages
    from passerelle.prescriptions.sweeping import Sweeping

    wakes = DynamoWakes(dynamodb(), table_names())
    return RemindWiring(sweeping=Sweeping(prescription_service(), wakes=wakes, messages=FhirMessages()))


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchWiring:
    watching: WatchingService
    now: Callable[[], datetime] = now


@cache
def watch() -> WatchWiring:
    import passerelle.aws.records  # noqa: F401 - registers how versions of the record are stored
    from passerelle.monitoring.watching import WatchingService

    service = WatchingService(
        people=patient_index(),
        monitor=monitor(),
        journal=journal(),
        in_parallel=in_parallel,
        pause=dynamodb().back_off,
        incident=incident(),
    )
    return WatchWiring(watching=service)


# --- the verifiable log -------------------------------------------------------------------------------------------


@cache
def leaves() -> DynamoLeaves:
    from passerelle.aws.ledger import DynamoLeaves

    return DynamoLeaves(dynamodb(), os.environ[tables.LEDGER.variable])


@cache
def anchors() -> DynamoAnchors:
    from passerelle.aws.ledger import DynamoAnchors
    from passerelle.aws.objects import S3Objects

    bucket = S3Objects(aws("s3"), environment().anchors_bucket)
    return DynamoAnchors(dynamodb(), os.environ[tables.LEDGER.variable], bucket)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendWiring:
    appender: Appender
    entry_of: Callable[[Mapping[str, Any]], LedgerEntry]


@cache
def append() -> AppendWiring:
    from passerelle.aws.ledger import SqsSealing, entry_of
    from passerelle.ledger.service import Appender

    appender = Appender(
        leaves(),
        SqsSealing(aws("sqs"), environment().seals_queue_url),
        shards=environment().ledger_shards,
        now=now,
        in_parallel=in_parallel,
        pause=dynamodb().back_off,
    )
    return AppendWiring(appender=appender, entry_of=entry_of)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealWiring:
    sealer: Sealer
    now: Callable[[], datetime] = now


@cache
def seal() -> SealWiring:
    from passerelle.aws.ledger import KmsAnchorKey
    from passerelle.ledger.service import Sealer

    sealer = Sealer(
        leaves(),
        anchors(),
        KmsAnchorKey(aws("kms"), environment().anchor_key_id),
        shards=environment().ledger_shards,
        in_parallel=in_parallel,
        pause=dynamodb().back_off,
    )
    return SealWiring(sealer=sealer)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerWiring:
    publisher: Publisher


@cache
def ledger() -> LedgerWiring:
    from passerelle.ledger.proofs import Publisher

    return LedgerWiring(publisher=Publisher(leaves(), anchors(), in_parallel=in_parallel))


@cache
def prover() -> Prover:
    from passerelle.aws.audit import DerivedSalts
    from passerelle.ledger.proofs import Prover

    return Prover(leaves(), anchors(), DerivedSalts(table_names()), shards=environment().ledger_shards)


def reset() -> None:
    """Forget every client and service: the next call reads the environment again."""
    for value in list(globals().values()):
        if hasattr(value, "cache_clear"):
            value.cache_clear()
