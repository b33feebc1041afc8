"""Where the anchors of the verifiable log are kept: a bucket whose objects nobody can change or delete, us included."""

from __future__ import annotations

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.findings import accept, wildcard_below
from infra.grants import Protected
from infra.keys import Keys
from infra.settings import StageSettings


class AnchorVault(Construct):
    """Anchors name nobody and are public: the key is the one of what carries no health data."""

    def __init__(
        self, scope: Construct, construct_id: str, *, settings: StageSettings, keys: Keys, logs: s3.IBucket
    ) -> None:
        super().__init__(scope, construct_id)
        self.bucket = s3.Bucket(
            self,
            "Anchors",
            encryption=s3.BucketEncryption.KMS,
            encryption_key=keys.operations,
            bucket_key_enabled=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            object_lock_enabled=True,
            # Compliance: what was signed stays for its time, whoever wants it gone and whatever rights they have.
            object_lock_default_retention=(
                s3.ObjectLockRetention.compliance(Duration.days(settings.anchor_lock_days))
                if settings.anchor_lock_days
                else None
            ),
            server_access_logs_bucket=logs,
            server_access_logs_prefix="anchors/",
            removal_policy=RemovalPolicy.RETAIN if settings.keeps_data else RemovalPolicy.DESTROY,
        )
        accept(
            self.bucket,
            "An anchor is public, so that whoever wants a copy elsewhere has it",
            "HIPAA.Security-S3BucketReplicationEnabled",
        )
        self.objects = Protected(
            arn=self.bucket.arn_for_objects("*"),
            key=keys.operations,
            accepted=(
                "Every minute has an object of its own name: the grant is on all, and the bucket cannot be listed",
                wildcard_below(self.bucket, "/*"),
            ),
        )
