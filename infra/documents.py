"""The bucket of document contents, the bucket where clients upload large ones, and the bucket of their access logs."""

from __future__ import annotations

from typing import cast

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.findings import accept, wildcard_below
from infra.grants import Protected
from infra.keys import Keys
from infra.settings import StageSettings


class DocumentVault(Construct):
    def __init__(self, scope: Construct, construct_id: str, *, settings: StageSettings, keys: Keys) -> None:
        super().__init__(scope, construct_id)
        removal = RemovalPolicy.RETAIN if settings.keeps_data else RemovalPolicy.DESTROY
        logs = s3.Bucket(
            self,
            "AccessLogs",
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            lifecycle_rules=[
                s3.LifecycleRule(
                    expiration=Duration.days(settings.log_retention_days),
                    noncurrent_version_expiration=Duration.days(1),
                )
            ],
            removal_policy=removal,
        )
        self.logs = logs
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            encryption=s3.BucketEncryption.KMS,
            encryption_key=keys.data,
            bucket_key_enabled=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            object_lock_enabled=True,
            # Governance, not compliance: a person's right to erasure (GDPR, article 17) must stay possible.
            object_lock_default_retention=(
                s3.ObjectLockRetention.governance(Duration.days(settings.object_lock_days))
                if settings.object_lock_days
                else None
            ),
            server_access_logs_bucket=logs,
            server_access_logs_prefix="documents/",
            lifecycle_rules=[
                s3.LifecycleRule(
                    abort_incomplete_multipart_upload_after=Duration.days(1),
                    # What was deleted can be brought back for so long, and then goes as soon as its lock has ended.
                    noncurrent_version_expiration=Duration.days(30),
                )
            ],
            removal_policy=removal,
        )
        announce(self.bucket)
        self.uploads_bucket = self._uploads(keys, logs, removal)
        self.uploads = Protected(
            arn=self.uploads_bucket.arn_for_objects("*"),
            key=keys.data,
            accepted=(
                "An upload has its own name: the grant is on all objects, and the bucket itself cannot be listed",
                wildcard_below(self.uploads_bucket, "/*"),
            ),
        )
        reason = "A content has its own name: the grant is on all objects, and the bucket itself cannot be listed"
        self.objects = Protected(
            arn=self.bucket.arn_for_objects("*"),
            key=keys.data,
            accepted=(reason, wildcard_below(self.bucket, "/*")),
        )
        accept(
            logs,
            "S3 delivers server access logs to buckets with SSE-S3 only",
            "HIPAA.Security-S3DefaultEncryptionKMS",
        )
        accept(
            self,
            "Versions and Object Lock guard against deletion; a copy elsewhere is the operator's choice",
            "HIPAA.Security-S3BucketReplicationEnabled",
        )

    def _uploads(self, keys: Keys, logs: s3.Bucket, removal: RemovalPolicy) -> s3.Bucket:
        """What clients send before they publish it: nothing here is locked or kept, so that what is abandoned goes."""
        bucket = s3.Bucket(
            self,
            "Uploads",
            encryption=s3.BucketEncryption.KMS,
            encryption_key=keys.data,
            bucket_key_enabled=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            server_access_logs_bucket=logs,
            server_access_logs_prefix="uploads/",
            lifecycle_rules=[
                s3.LifecycleRule(
                    abort_incomplete_multipart_upload_after=Duration.days(1),
                    expiration=Duration.days(1),  # no sooner than the ticket: it begins before the object
                )
            ],
            removal_policy=removal,
        )
        accept(
            bucket,
            "What nobody publishes must be gone in a day or two: a version, or a copy, would keep it",
            "HIPAA.Security-S3BucketVersioningEnabled",
        )
        return bucket


def announce(bucket: s3.Bucket) -> None:
    """Let S3 tell the default bus of every new object (not by CDK's way, which deploys a function for it)."""
    resource = cast(s3.CfnBucket, bucket.node.default_child)
    resource.notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
        event_bridge_configuration=s3.CfnBucket.EventBridgeConfigurationProperty(event_bridge_enabled=True)
    )
