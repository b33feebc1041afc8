"""Customer keys: one for health data, one for what carries none, those that sign access tokens and the
verifiable log; and the secret of the index.

Services of AWS (logs, event bus, alarms) use the second only, so that none of them can decrypt health data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aws_cdk import Aws, Duration, Fn, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from infra.findings import accept
from infra.settings import StageSettings


class Keys(Construct):
    def __init__(self, scope: Construct, construct_id: str, *, settings: StageSettings) -> None:
        super().__init__(scope, construct_id)
        removal = RemovalPolicy.RETAIN if settings.keeps_data else RemovalPolicy.DESTROY
        self.data = kms.Key(
            self,
            "Data",
            description=f"passerelle {settings.stage}: health data in tables, documents and the index secret",
            enable_key_rotation=True,
            removal_policy=removal,
            pending_window=Duration.days(30),
        )
        self.operations = kms.Key(
            self,
            "Operations",
            description=f"passerelle {settings.stage}: logs, events, queues, alarms; no health data",
            enable_key_rotation=True,
            removal_policy=removal,
            pending_window=Duration.days(30),
        )
        self.tokens = [
            kms.Key(
                self,
                "Token" if generation == 1 else f"Token{generation}",
                description=f"passerelle {settings.stage}: signature of access tokens, key {generation}",
                key_spec=kms.KeySpec.ECC_NIST_P256,
                key_usage=kms.KeyUsage.SIGN_VERIFY,
                removal_policy=removal,
                pending_window=Duration.days(30),
            )
            for generation in settings.token_keys
        ]
        self.anchor = kms.Key(
            self,
            "Anchor",
            description=f"passerelle {settings.stage}: anchors of the verifiable log",
            key_spec=kms.KeySpec.ECC_NIST_P256,
            key_usage=kms.KeyUsage.SIGN_VERIFY,
            removal_policy=removal,
            pending_window=Duration.days(30),
        )
        self.index_secret = secretsmanager.Secret(
            self,
            "IndexSecret",
            description=f"passerelle {settings.stage}: HMAC key of look-up items and cursors",
            encryption_key=self.data,
            generate_secret_string=secretsmanager.SecretStringGenerator(password_length=64, exclude_punctuation=True),
            removal_policy=removal,
        )
        accept(
            self.index_secret,
            "Look-up items are named by an HMAC under this key: under another, no patient would be found",
            "AwsSolutions-SMG4",
            "HIPAA.Security-SecretsManagerRotationEnabled",
        )
        group = Fn.sub("arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:*")
        self._lend(
            iam.ServicePrincipal(f"logs.{Aws.REGION}.amazonaws.com"),
            ("Decrypt", "DescribeKey", "Encrypt", "GenerateDataKey", "ReEncryptFrom", "ReEncryptTo"),
            {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": group}},
        )
        events = iam.ServicePrincipal("events.amazonaws.com")
        bus = Fn.sub(
            f"arn:${{AWS::Partition}}:events:${{AWS::Region}}:${{AWS::AccountId}}:event-bus/{settings.bus_name}"
        )
        self._lend(events, ("DescribeKey",), {})
        self._lend(
            events,
            ("Decrypt", "GenerateDataKey", "ReEncryptFrom", "ReEncryptTo"),
            {"StringEquals": {"kms:EncryptionContext:aws:events:event-bus:arn": bus}},
        )
        # EventBridge into encrypted queues, alarms into the encrypted topic.
        for sender in (events, iam.ServicePrincipal("cloudwatch.amazonaws.com")):
            ours = {"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}}
            self._lend(sender, ("Decrypt", "GenerateDataKey"), ours)

    def _lend(self, to: iam.ServicePrincipal, actions: Sequence[str], conditions: dict[str, Any]) -> None:
        """Let a service of AWS use the key of operations, as its developer guide asks."""
        self.operations.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[to],
                actions=[f"kms:{action}" for action in actions],
                resources=["*"],  # in a key policy: this key
                conditions=conditions,
            )
        )
