"""What a process has once: settings, clock, AWS clients, keys. The only reader of the environment and the clock."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from botocore.config import Config

from passerelle.aws import tables
from passerelle.aws.dynamodb import DynamoDb, aws_errors
from passerelle.aws.journal import TableNames
from passerelle.aws.session import new_session
from passerelle.identifiers import Blinder

if TYPE_CHECKING:
    from botocore.session import Session

    from passerelle.aws.keys import KeyRing
    from passerelle.aws.objects import S3Objects


# One connection per parallel call, few quick retries: a caller waits at most 29 s at API Gateway.
CLIENT = Config(
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
    config = CLIENT
    if service == "s3" and "AWS_ENDPOINT_URL" not in os.environ:
        # URLs that are given away name the region of their bucket: by the global name, a new bucket is a redirect.
        config = config.merge(Config(s3={"addressing_style": "virtual"}))
    return session().create_client(service, config=config)


@cache
def dynamodb() -> DynamoDb:
    return DynamoDb(aws("dynamodb"))


def secret(arn: str) -> str:
    with aws_errors():
        value: str = aws("secretsmanager").get_secret_value(SecretId=arn)["SecretString"]
    return value


@cache
def blinder() -> Blinder:
    """The key of look-up hashes and page links; read once per process."""
    return Blinder(secret(environment().index_secret_arn).encode())


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


def ledger_table() -> str:
    return os.environ[tables.LEDGER.variable]


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
def incident() -> Callable[[str], None]:
    """Counts what an operator has to know of."""
    from passerelle.api.incidents import incidents

    return incidents(environment().stage, lambda: int(now().timestamp() * 1000))


def allows_loopback() -> bool:
    """Whether a webhook may be on this machine: on a desk, never in Lambda, whose own API is there."""
    return environment().stage == "dev" and "AWS_LAMBDA_RUNTIME_API" not in os.environ
