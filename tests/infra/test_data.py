"""Data at rest and in transit: keys, versions, TLS, and what survives the stack."""

from __future__ import annotations

from typing import Any

import pytest

from passerelle.aws.tables import TABLES
from passerelle.documents.uploads import LIFETIME

STATEFUL = (
    "AWS::DynamoDB::Table",
    "AWS::Events::Archive",
    "AWS::KMS::Key",
    "AWS::Logs::LogGroup",
    "AWS::S3::Bucket",
    "AWS::SecretsManager::Secret",
)


def key_of(stage: Any, purpose: str) -> dict[str, Any]:
    """The reference to the customer key whose description names `purpose`."""
    (name,) = (name for name, key in stage.of("AWS::KMS::Key").items() if purpose in key["Description"])
    return {"Fn::GetAtt": [name, "Arn"]}


def locked(stage: Any) -> dict[str, Any]:
    return {name: each for name, each in stage.of("AWS::S3::Bucket").items() if each.get("ObjectLockEnabled")}


def contents_of(stage: Any) -> Any:
    """The bucket of the contents of documents."""
    (bucket,) = (each for name, each in locked(stage).items() if "Anchors" not in name)
    return bucket


def anchors_of(stage: Any) -> Any:
    """The bucket of the anchors of the verifiable log."""
    (bucket,) = (each for name, each in locked(stage).items() if "Anchors" in name)
    return bucket


def test_there_is_one_table_per_spec_each_under_the_key_of_health_data(stage: Any) -> None:
    tables = stage.of("AWS::DynamoDB::Table")
    streams = [table.get("StreamSpecification", {}).get("StreamViewType") for table in tables.values()]
    assert streams == [spec.stream for spec in TABLES]
    for spec, table in zip(TABLES, tables.values(), strict=True):
        assert [(k["AttributeName"], k["KeyType"]) for k in table["KeySchema"]] == [
            ("PK", "HASH"),
            ("SK", "RANGE"),
        ]
        assert {a["AttributeType"] for a in table["AttributeDefinitions"]} == {"S"}
        assert table["BillingMode"] == "PAY_PER_REQUEST"
        assert table["SSESpecification"]["KMSMasterKeyId"] == key_of(stage, "health data in tables")
        assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": spec.is_recoverable}
        assert table["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}
        assert not {"TableName", "GlobalSecondaryIndexes", "LocalSecondaryIndexes"} & table.keys()


def test_documents_are_versioned_locked_encrypted_and_their_access_is_logged(stage: Any) -> None:
    bucket = contents_of(stage)
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["BucketKeyEnabled"] is True
    assert rule["ServerSideEncryptionByDefault"] == {
        "KMSMasterKeyID": key_of(stage, "health data in tables"),
        "SSEAlgorithm": "aws:kms",
    }
    assert bucket["LoggingConfiguration"]["DestinationBucketName"]
    (lifecycle,) = bucket["LifecycleConfiguration"]["Rules"]
    assert lifecycle["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}


def test_object_lock_has_a_default_period_in_prod_only(dev: Any, prod: Any) -> None:
    assert "ObjectLockConfiguration" not in contents_of(dev)
    assert "ObjectLockConfiguration" not in anchors_of(dev)
    lock = contents_of(prod)["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]
    assert lock == {"Days": 30, "Mode": "GOVERNANCE"}


def test_anchors_of_the_log_cannot_be_taken_away_for_ten_years(stage: Any, prod: Any) -> None:
    lock = anchors_of(prod)["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]
    assert (lock["Mode"], lock["Days"] // 365) == ("COMPLIANCE", 10)
    bucket = anchors_of(stage)
    assert "LifecycleConfiguration" not in bucket
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["KMSMasterKeyID"] == key_of(stage, "no health data")
    assert bucket["LoggingConfiguration"]["DestinationBucketName"]
    key = stage.of("AWS::KMS::Key")[key_of(stage, "verifiable log")["Fn::GetAtt"][0]]
    assert (key["KeySpec"], key["KeyUsage"]) == ("ECC_NIST_P256", "SIGN_VERIFY")


def test_no_bucket_is_public_and_every_one_is_versioned_but_that_of_uploads(stage: Any) -> None:
    for name, bucket in stage.of("AWS::S3::Bucket").items():
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
        versions = None if "Uploads" in name else {"Status": "Enabled"}
        assert bucket.get("VersioningConfiguration") == versions


def test_nothing_stays_where_clients_upload(stage: Any) -> None:
    """Neither versions nor a lock keep what nobody publishes; no sooner than a ticket ends does it go."""
    (bucket,) = (each for name, each in stage.of("AWS::S3::Bucket").items() if "Uploads" in name)
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["KMSMasterKeyID"] == key_of(stage, "health data in tables")
    assert "ObjectLockEnabled" not in bucket
    (lifecycle,) = bucket["LifecycleConfiguration"]["Rules"]
    assert lifecycle["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": LIFETIME.days}
    assert lifecycle["ExpirationInDays"] == LIFETIME.days
    assert bucket["LoggingConfiguration"]["DestinationBucketName"]


def test_a_deleted_content_can_be_brought_back_for_a_month(stage: Any) -> None:
    bucket = contents_of(stage)
    (lifecycle,) = bucket["LifecycleConfiguration"]["Rules"]
    assert lifecycle["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}


@pytest.mark.parametrize(
    ("kind", "policy_kind", "target"),
    [
        ("AWS::S3::Bucket", "AWS::S3::BucketPolicy", "Bucket"),
        ("AWS::SQS::Queue", "AWS::SQS::QueuePolicy", "Queues"),
        ("AWS::SNS::Topic", "AWS::SNS::TopicPolicy", "Topics"),
    ],
)
def test_buckets_queues_and_topics_refuse_requests_without_tls(
    stage: Any, kind: str, policy_kind: str, target: str
) -> None:
    guarded = set()
    for policy in stage.of(policy_kind).values():
        for statement in policy["PolicyDocument"]["Statement"]:
            insecure = {"Bool": {"aws:SecureTransport": "false"}}
            if statement["Effect"] == "Deny" and statement.get("Condition") == insecure:
                of = policy[target]
                guarded |= {each["Ref"] for each in (of if isinstance(of, list) else [of])}
    assert guarded == stage.of(kind).keys()


def test_what_carries_no_health_data_has_a_key_of_its_own(stage: Any) -> None:
    key = key_of(stage, "no health data")
    for kind, attribute in {
        "AWS::Events::Archive": "KmsKeyIdentifier",
        "AWS::Events::EventBus": "KmsKeyIdentifier",
        "AWS::Logs::LogGroup": "KmsKeyId",
        "AWS::SNS::Topic": "KmsMasterKeyId",
        "AWS::SQS::Queue": "KmsMasterKeyId",
    }.items():
        assert all(properties[attribute] == key for properties in stage.of(kind).values()), kind


def test_no_service_of_aws_may_use_the_key_of_health_data(stage: Any) -> None:
    name = key_of(stage, "health data in tables")["Fn::GetAtt"][0]
    statements = stage.of("AWS::KMS::Key")[name]["KeyPolicy"]["Statement"]
    assert [statement for statement in statements if "Service" in statement["Principal"]] == []


def test_the_index_secret_is_made_by_aws_and_encrypted(stage: Any) -> None:
    (secret,) = stage.of("AWS::SecretsManager::Secret").values()
    assert secret["KmsKeyId"] == key_of(stage, "health data in tables")
    assert secret["GenerateSecretString"]["PasswordLength"] == 64


def test_tokens_are_signed_by_a_key_that_never_leaves_kms(stage: Any) -> None:
    name = key_of(stage, "signature")["Fn::GetAtt"][0]
    key = stage.of("AWS::KMS::Key")[name]
    assert (key["KeySpec"], key["KeyUsage"]) == ("ECC_NIST_P256", "SIGN_VERIFY")


def test_every_log_ends_some_day(stage: Any) -> None:
    assert all(group["RetentionInDays"] > 0 for group in stage.of("AWS::Logs::LogGroup").values())


def test_prod_keeps_its_data_and_dev_leaves_none(dev: Any, prod: Any) -> None:
    for each, policy in ((dev, "Delete"), (prod, "Retain")):
        for name, resource in each.template["Resources"].items():
            if resource["Type"] in STATEFUL:
                assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == (policy, policy), name
    assert all(table["DeletionProtectionEnabled"] for table in prod.of("AWS::DynamoDB::Table").values())
