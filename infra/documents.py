"""The bucket of document contents, and the bucket of its access logs."""

from __future__ import annotations

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
            lifecycle_rules=[s3.LifecycleRule(abort_incomplete_multipart_upload_after=Duration.days(1))],
            removal_policy=removal,
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
