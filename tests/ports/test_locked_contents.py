"""Object Lock: the content of a document cannot be deleted before its period ends, nor the period be shortened."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from passerelle.aws.documents import S3DocumentVault
from passerelle.aws.objects import S3Objects
from passerelle.documents.model import Content

BUCKET = "vault"
ID = f"{'7' * 16}-{'0' * 26}"


@pytest.fixture
def vault() -> Iterator[S3DocumentVault]:
    with mock_aws():
        boto3.client("s3").create_bucket(
            Bucket=BUCKET,
            CreateBucketConfiguration={"LocationConstraint": "eu-west-3"},
            ObjectLockEnabledForBucket=True,
        )
        yield S3DocumentVault(S3Objects(boto3.client("s3"), BUCKET), uploads_bucket="uploads")


def stored() -> dict[str, object]:
    s3 = boto3.client("s3")
    (version,) = s3.list_object_versions(Bucket=BUCKET)["Versions"]
    head = s3.head_object(Bucket=BUCKET, Key=version["Key"])
    return {"mode": head.get("ObjectLockMode"), "until": head.get("ObjectLockRetainUntilDate"), **version}


def test_a_content_with_a_period_stays(vault: S3DocumentVault) -> None:
    until = (datetime.now(UTC) + timedelta(days=365 * 20)).replace(microsecond=0)
    vault.put(Content(id=ID, content_type="text/plain", data=b"x", retain_until=until))
    found = stored()
    assert (found["mode"], found["until"]) == ("GOVERNANCE", until)
    with pytest.raises(ClientError, match="AccessDenied"):
        boto3.client("s3").delete_object(Bucket=BUCKET, Key=str(found["Key"]), VersionId=str(found["VersionId"]))


def test_a_content_without_one_does_not(vault: S3DocumentVault) -> None:
    vault.put(Content(id=ID, content_type="text/plain", data=b"x"))
    found = stored()
    assert found["mode"] is None
    boto3.client("s3").delete_object(Bucket=BUCKET, Key=str(found["Key"]), VersionId=str(found["VersionId"]))
