"""The tables, one per TableSpec of `passerelle.aws.tables`, without physical names: each can be replaced."""

from __future__ import annotations

from aws_cdk import RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from constructs import Construct

from infra.findings import accept
from infra.keys import Keys
from infra.settings import StageSettings
from passerelle.aws.tables import TABLES


class Tables(Construct):
    def __init__(self, scope: Construct, construct_id: str, *, settings: StageSettings, keys: Keys) -> None:
        super().__init__(scope, construct_id)
        self.by_name: dict[str, dynamodb.Table] = {}
        for spec in TABLES:
            table = dynamodb.Table(
                self,
                spec.name.capitalize(),
                partition_key=_string("PK"),
                sort_key=_string("SK"),
                billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
                encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED,
                encryption_key=keys.data,
                point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                    point_in_time_recovery_enabled=spec.is_recoverable
                ),
                time_to_live_attribute="ttl",
                stream=dynamodb.StreamViewType[spec.stream] if spec.stream else None,
                deletion_protection=settings.keeps_data,
                removal_policy=RemovalPolicy.RETAIN if settings.keeps_data else RemovalPolicy.DESTROY,
            )
            self.by_name[spec.name] = table
            if not spec.is_recoverable:
                accept(
                    table,
                    "What a person's record is sealed under is destroyed with the person: a key that a backup brings "
                    "back was never destroyed",
                    "AwsSolutions-DDB3",
                    "HIPAA.Security-DynamoDBPITREnabled",
                )
        accept(
            self,
            "Any second of the last 35 days can be restored; a backup plan would add copies of health "
            "data with a life of their own",
            "HIPAA.Security-DynamoDBInBackupPlan",
        )


def _string(name: str) -> dynamodb.Attribute:
    return dynamodb.Attribute(name=name, type=dynamodb.AttributeType.STRING)
