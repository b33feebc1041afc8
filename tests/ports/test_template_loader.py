"""The template loader on moto: the real template comes up as it is written (tests/local: what it refuses)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from moto import mock_aws

from local.coverage import IGNORED
from local.resources import KINDS
from local.template import Stack
from passerelle.aws.tables import TABLES

URL = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def stack(template: dict[str, Any]) -> Iterator[Stack]:
    with mock_aws():
        yield Stack.deploy(template, parameters={"PublicUrl": URL})


def _of(template: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {name: each.get("Properties", {}) for name, each in template["Resources"].items() if each["Type"] == kind}


def test_tables_are_as_declared(stack: Stack, template: dict[str, Any]) -> None:
    dynamodb = stack.client("dynamodb")
    assert set(dynamodb.list_tables()["TableNames"]) == {stack.environment[spec.variable] for spec in TABLES}
    for spec in TABLES:
        name = stack.environment[spec.variable]
        table = dynamodb.describe_table(TableName=name)["Table"]
        assert [(key["AttributeName"], key["KeyType"]) for key in table["KeySchema"]] == [
            ("PK", "HASH"),
            ("SK", "RANGE"),
        ]
        assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
        assert table["SSEDescription"]["SSEType"] == "KMS"
        assert table.get("StreamSpecification", {}).get("StreamViewType") == spec.stream
        expiry = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        assert (expiry["TimeToLiveStatus"], expiry["AttributeName"]) == ("ENABLED", "ttl")
        recovery = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
        expected = "ENABLED" if spec.is_recoverable else "DISABLED"
        assert recovery["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == expected


def test_the_document_bucket_is_as_declared(stack: Stack) -> None:
    s3, bucket = stack.client("s3"), {"Bucket": stack.environment["DOCUMENTS_BUCKET"]}
    (rule,) = s3.get_bucket_encryption(**bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"].startswith("arn:aws:kms:")
    assert s3.get_bucket_versioning(**bucket)["Status"] == "Enabled"
    assert s3.get_object_lock_configuration(**bucket)["ObjectLockConfiguration"]["ObjectLockEnabled"] == "Enabled"
    assert all(s3.get_public_access_block(**bucket)["PublicAccessBlockConfiguration"].values())
    logs = s3.get_bucket_logging(**bucket)["LoggingEnabled"]["TargetBucket"]
    assert "logging.s3.amazonaws.com" in s3.get_bucket_policy(Bucket=logs)["Policy"]
    assert s3.get_bucket_lifecycle_configuration(**bucket)["Rules"]


def test_queues_are_as_declared(stack: Stack, template: dict[str, Any]) -> None:
    for name, declared in _of(template, "AWS::SQS::Queue").items():
        answer = stack.client("sqs").get_queue_attributes(QueueUrl=stack.resources[name].ref, AttributeNames=["All"])
        attributes = answer["Attributes"]
        assert attributes["KmsMasterKeyId"]
        assert attributes["Policy"]
        assert attributes.get("FifoQueue", "false") == str(declared.get("FifoQueue", False)).lower()
        assert ("RedrivePolicy" in attributes) == ("RedrivePolicy" in declared)
        if "VisibilityTimeout" in declared:
            assert attributes["VisibilityTimeout"] == str(declared["VisibilityTimeout"])


def test_the_bus_feeds_the_queue_of_dispatch(stack: Stack) -> None:
    entry = {"Source": "passerelle", "DetailType": "record-changed", "Detail": "{}"}
    bus = stack.environment["EVENT_BUS"]
    assert stack.client("events").put_events(Entries=[{**entry, "EventBusName": bus}])["FailedEntryCount"] == 0
    (source,) = (each for each in stack.sources if stack.functions[each.function].name == "dispatch")
    received = stack.client("sqs").receive_message(QueueUrl=source.queue_url)
    assert len(received["Messages"]) == 1


def test_the_token_key_signs(stack: Stack) -> None:
    key = {"KeyId": stack.environment["TOKEN_KEY_IDS"]}
    metadata = stack.client("kms").describe_key(**key)["KeyMetadata"]
    assert (metadata["KeySpec"], metadata["KeyUsage"]) == ("ECC_NIST_P256", "SIGN_VERIFY")


def test_the_index_secret_is_random(stack: Stack) -> None:
    secret = stack.client("secretsmanager").get_secret_value(SecretId=stack.environment["INDEX_SECRET_ARN"])
    assert len(secret["SecretString"]) == 64


def test_functions_routes_and_sources_are_read(stack: Stack, template: dict[str, Any]) -> None:
    assert {each.name for each in stack.functions.values()} >= {"patients", "authorize", "relay", "token"}
    assert all(each.handler == f"functions.{each.name}.handler:handler" for each in stack.functions.values())
    assert stack.environment["PUBLIC_URL"] == URL
    assert len(stack.api.routes) == len(_of(template, "AWS::ApiGateway::Method"))
    assert {stack.functions[each.function].name for each in stack.sources} == {
        "relay",
        "dispatch",
        "deliver",
        "quarantine",
        "reconcile",
        "watch",
        "sweep",
        "append",
        "catalogue",
        "seal",
        "erase",
        "remind",
    }
    metadata = stack.api.find("GET", "/fhir/metadata")
    assert metadata is not None
    assert metadata[0].mock is not None
    fhir = [route for route in stack.api.routes if route.resource.startswith("/fhir/") and route.mock is None]
    public = {route.resource for route in fhir if route.authorizer is None}
    assert public == {"/fhir/.well-known/smart-configuration", "/fhir/r/{number}"}


def test_what_is_ignored_has_a_reason_and_occurs(template: dict[str, Any]) -> None:
    used = set()
    for resource in template["Resources"].values():
        kind = resource["Type"]
        used |= {
            kind,
            f"{kind.rpartition('::')[0]}::*",
            *(f"{kind}.{name}" for name in resource.get("Properties", {})),
        }
    assert IGNORED.keys() <= used
    assert all(len(reason.split()) > 3 for reason in IGNORED.values())
    assert not IGNORED.keys() & KINDS.keys()
