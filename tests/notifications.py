"""What the tests of notifications start from: tables, queue and bus on moto, and `wiring` made for them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import boto3
import pytest
from moto import mock_aws

from passerelle import wiring
from passerelle.access import Scopes
from passerelle.authorization.model import Client
from passerelle.aws.tables import TABLES
from passerelle.directory.model import Role
from passerelle.notifications.model import MAX_RECEIVES
from tests.quick_moto import quicken


@cache
def client(service: Any) -> Any:
    """An AWS client for all tests: to make one takes longer than most tests."""
    return boto3.client(service)


@contextmanager
def notifications_on_moto() -> Iterator[Any]:
    """The SQS client, with the environment of a function set: dead letters are in the queue `dead.fifo`."""
    quicken()
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        dynamodb = client("dynamodb")
        for table in TABLES:
            patch.setenv(table.variable, table.name)
            dynamodb.create_table(
                TableName=table.name,
                KeySchema=[
                    {"AttributeName": "PK", "KeyType": "HASH"},
                    {"AttributeName": "SK", "KeyType": "RANGE"},
                ],
                AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("PK", "SK")],
                BillingMode="PAY_PER_REQUEST",
            )
        sqs = client("sqs")
        dead_url = sqs.create_queue(QueueName="dead.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        redrive = {"deadLetterTargetArn": arn, "maxReceiveCount": MAX_RECEIVES}
        url = sqs.create_queue(
            QueueName="deliveries.fifo",
            Attributes={"FifoQueue": "true", "RedrivePolicy": json.dumps(redrive)},
        )["QueueUrl"]
        secret = client("secretsmanager").create_secret(Name="index", SecretString=secrets.token_hex(32))
        settings = {
            "STAGE": "dev",
            "DELIVERIES_QUEUE_URL": url,
            "EVENT_BUS": "bus",
            "INDEX_SECRET_ARN": secret["ARN"],
            "PUBLIC_URL": "",
            "RETENTION_DAYS": "0",
            "HOLD_UNTIL_SCANNED": "false",
            "DOCUMENTS_BUCKET": "none",
            "DOCUMENT_OPTIONS": "",
            "UPLOADS_BUCKET": "none",
            "UPLOAD_MAX_BYTES": "0",
            "IMPLICIT_POLICY": "basic-normal",
            "OPENID_PROVIDERS": "[]",
            "HOME_COMMUNITY_ID": "",
            "TOKEN_KEY_IDS": "none",
            "ANCHORS_BUCKET": "none",
            "ANCHOR_KEY_ID": "none",
            "SEALS_QUEUE_URL": "none",
            "LEDGER_SHARDS": "4",
            "KNOWLEDGE_BASE": "none",
            "CDS_SERVICE_URL": "",
            "CDS_SERVICE_SECRET": "",
            "MAIL_SENDER": "",
            "SMS_SENDER": "",
            "PARTNER_QUEUES": "[]",
            "MSSANTE": "",
            "WEBHOOK_CERTIFICATE": "",
        }
        for name, value in settings.items():
            patch.setenv(name, value)
        wiring.reset()
        try:
            yield sqs
        finally:
            wiring.reset()


def register(client_id: str, scope: str) -> None:
    """A practice's system with these scopes."""
    wiring.clients().register(
        Client(id=client_id, organisation="1", role=Role.PRACTICE, scopes=Scopes.parse(scope), jwks=())
    )
