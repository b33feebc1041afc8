"""The composition root: one function per Lambda gives its services. The only reader of the environment and the clock.

Everything is made once per process and shared by the functions that run in it; `reset` forgets it, for tests. What only
some functions need is imported where it is made: a cold start pays for its own function only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from botocore.config import Config

from passerelle.aws import tables
from passerelle.aws.audit import DynamoAuditTrail
from passerelle.aws.dynamodb import DynamoDb, in_parallel
from passerelle.aws.journal import DynamoJournal, TableNames
from passerelle.aws.session import new_session
from passerelle.identifiers import Blinder

if TYPE_CHECKING:
    from botocore.session import Session

    from passerelle.access import Caller
    from passerelle.audit.service import AuditService
    from passerelle.authorization.model import Jwk
    from passerelle.authorization.service import AuthorizationService
    from passerelle.aws.bus import EventBridgeBus, SqsDeliveries
    from passerelle.aws.clients import DynamoClients
    from passerelle.aws.objects import S3Objects
    from passerelle.aws.patients import DynamoPatientIndex
    from passerelle.aws.prescriptions import DynamoPrescriptions
    from passerelle.aws.records import DynamoRecordStore
    from passerelle.documents.service import DocumentService
    from passerelle.events import Event
    from passerelle.fhir.disclosure import Disclosure
    from passerelle.fhir.patient import FhirPatientStore
    from passerelle.fhir.patient_feed import FhirPatientFeed
    from passerelle.fhir.transaction import TransactionService
    from passerelle.notifications.delivery import Deliverer
    from passerelle.notifications.dispatch import Dispatcher
    from passerelle.notifications.ports import NotificationPorts
    from passerelle.notifications.service import SubscriptionService
    from passerelle.patients.identity import IdentityScheme
    from passerelle.patients.insi import NationalIdentityService
    from passerelle.patients.reading import PatientReader
    from passerelle.patients.registration import Registrar
    from passerelle.patients.resolution import Resolver
    from passerelle.patients.service import PatientService
    from passerelle.patients.stewardship import StewardService
    from passerelle.prescriptions.service import PrescriptionService
    from passerelle.records.cursors import Cursors
    from passerelle.records.gate import Gate
    from passerelle.records.history import RecordHistory
    from passerelle.records.searching import RecordSearch
    from passerelle.records.service import RecordService

# One connection per parallel call, few quick retries: a caller waits at most 29 s at API Gateway.
_CLIENT = Config(
    max_pool_connections=32, retries={"mode": "standard", "total_max_attempts": 3}, connect_timeout=2, read_timeout=8
)


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The settings that the stack gives to every function."""

    stage: str
    documents_bucket: str
    event_bus: str
    deliveries_queue_url: str
    token_key_id: str
    index_secret_arn: str
    public_url: str


@cache
def environment() -> Environment:
    """Read the environment; raises KeyError naming the variable that is missing."""
    return Environment(
        stage=os.environ["STAGE"],
        documents_bucket=os.environ["DOCUMENTS_BUCKET"],
        event_bus=os.environ["EVENT_BUS"],
        deliveries_queue_url=os.environ["DELIVERIES_QUEUE_URL"],
        token_key_id=os.environ["TOKEN_KEY_ID"],
        index_secret_arn=os.environ["INDEX_SECRET_ARN"],
        public_url=os.environ["PUBLIC_URL"].rstrip("/"),
    )


@cache
def session() -> Session:
    return new_session()


@cache
def aws(service: str) -> Any:
    """The client of an AWS service; clients are thread-safe."""
    return session().create_client(service, config=_CLIENT)


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
        objects=objects,
    )


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
def national_identities() -> NationalIdentityService:
    from passerelle.patients.insi import national_identity_service

    return national_identity_service(environment().stage)


@cache
def record_service() -> RecordService:
    from passerelle.records.service import RecordService

    return RecordService(
        store=record_store(),
        gate=gate(),
        search=record_search(),
        journal=journal(),
        blinder=blinder(),
        in_parallel=in_parallel,
        pause=dynamodb().back_off,
    )


@cache
def gate() -> Gate:
    from passerelle.records.gate import Gate

    return Gate(patient_index())


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
    from passerelle.aws.documents import S3DocumentVault
    from passerelle.documents.service import DocumentService

    return DocumentService(vault=S3DocumentVault(objects()), in_parallel=in_parallel)


@cache
def transaction_service() -> TransactionService:
    from passerelle.fhir.transaction import TransactionService

    return TransactionService(
        records=record_service(),
        patients=patient_service(),
        documents=document_service(),
        journal=journal(),
        blinder=blinder(),
        scheme=identity_scheme(),
    )


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientsWiring(RecordWiring):
    patients: PatientService
    stewards: StewardService
    scheme: IdentityScheme
    cursors: Cursors


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
        scheme=identity_scheme(),
        cursors=cursors(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentsWiring(RecordWiring):
    documents: DocumentService


@cache
def documents() -> DocumentsWiring:
    return DocumentsWiring(**_record(), documents=document_service())


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsWiring(PatientsWiring):
    """Also what the entries of a batch ask for: people and documents."""

    documents: DocumentService
    transactions: TransactionService


@cache
def records() -> RecordsWiring:
    from passerelle.fhir.validation import prepare

    prepare("DiagnosticReport", "DocumentReference", "List", "Observation", "Patient")
    return RecordsWiring(
        **_record(),
        patients=patient_service(),
        stewards=steward_service(),
        scheme=identity_scheme(),
        cursors=cursors(),
        documents=document_service(),
        transactions=transaction_service(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditWiring(HttpWiring):
    audit: AuditService


@cache
def audit() -> AuditWiring:
    from passerelle.audit.service import AuditService

    return AuditWiring(trail=trail(), audit=AuditService(trail=trail(), people=patient_index()))


@cache
def clients() -> DynamoClients:
    from passerelle.aws.clients import DynamoClients

    return DynamoClients(dynamodb(), table_names())


@cache
def authorization_service() -> AuthorizationService:
    from passerelle.authorization.service import AuthorizationService
    from passerelle.aws.tokens import KmsTokenKey

    return AuthorizationService(clients=clients(), key=KmsTokenKey(aws("kms"), environment().token_key_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWiring:
    authorization: AuthorizationService
    public_url: str
    now: Callable[[], datetime] = now


@cache
def token() -> TokenWiring:
    return TokenWiring(authorization=authorization_service(), public_url=environment().public_url)


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
    )


@cache
def patient_feed() -> FhirPatientFeed:
    from passerelle.fhir.patient_feed import FhirPatientFeed

    return FhirPatientFeed(patient_store())


def allows_loopback() -> bool:
    """Whether a webhook may be on this machine: on a desk, never in Lambda, whose own API is there."""
    return environment().stage == "dev" and "AWS_LAMBDA_RUNTIME_API" not in os.environ


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionsWiring(HttpWiring):
    subscriptions: SubscriptionService


@cache
def subscriptions() -> SubscriptionsWiring:
    from passerelle.notifications.service import SubscriptionService

    service = SubscriptionService(notification_ports(), journal=journal(), allow_loopback=allows_loopback())
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


def dispatch() -> DispatchWiring:
    """A new Dispatcher each time: what it reads holds for one batch."""
    from passerelle.aws.notifications import envelope_event
    from passerelle.notifications.dispatch import Dispatcher

    return DispatchWiring(dispatcher=Dispatcher(notification_ports(), feed=patient_feed), event_of=envelope_event)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverWiring:
    deliverer: Deliverer
    now: Callable[[], datetime] = now


@cache
def deliver() -> DeliverWiring:
    from passerelle.api.webhooks import HttpWebhooks
    from passerelle.fhir.subscription import render_notification
    from passerelle.notifications.delivery import Deliverer

    return DeliverWiring(
        deliverer=Deliverer(
            notification_ports(),
            webhooks=HttpWebhooks(allow_loopback=allows_loopback()),
            trail=trail(),
            render=render_notification,
            feed=patient_feed,
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundKeys:
    """`prescriptions.ports.SignerKeys`: the keys of the caller's registration, if it is one of that professional."""

    clients: DynamoClients

    def keys_of(self, caller: Caller) -> Sequence[Jwk]:
        client = self.clients.find(caller.client_id)
        return client.jwks if client and client.professional and client.professional == caller.professional else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PrescriptionsWiring(RecordWiring):
    prescriptions: PrescriptionService


@cache
def prescription_store() -> DynamoPrescriptions:
    from passerelle.aws.prescriptions import DynamoPrescriptions

    return DynamoPrescriptions(dynamodb(), table_names())


@cache
def prescriptions() -> PrescriptionsWiring:
    import passerelle.aws.records  # noqa: F401 - registers how versions of the record are stored
    from passerelle.fhir.prescription import FhirClinicalRecord
    from passerelle.prescriptions.service import PrescriptionService

    service = PrescriptionService(
        prescriptions=prescription_store(),
        journal=journal(),
        record=FhirClinicalRecord(),
        people=patient_reader(),
        keys=BoundKeys(clients=clients()),
    )
    return PrescriptionsWiring(**_record(), prescriptions=service)


def reset() -> None:
    """Forget every client and service: the next call reads the environment again."""
    for value in list(globals().values()):
        if hasattr(value, "cache_clear"):
            value.cache_clear()
