"""The Lambda functions of `functions.py`: a role and a log group each, and what starts those without HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from aws_cdk import Duration
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.findings import accept, wildcard_below
from infra.functions import FunctionSpec, Outbox, Queue, Resource, Trail
from infra.grants import Protected, allow
from infra.keys import Keys
from infra.layers import ARCHITECTURE, NOT_CODE, RUNTIME, Layers
from infra.logs import log_group
from infra.paths import ROOT
from infra.settings import StageSettings

# The log is of what was recorded; that a record expires is no news.
_TRAIL = {"eventName": ["INSERT"], "dynamodb": {"Keys": {"PK": {"S": [{"prefix": "A#"}]}}}}
# Outbox items have partitions of their own (aws/journal.py): no other item invokes the relay.
_OUTBOX = {"eventName": ["INSERT"], "dynamodb": {"Keys": {"PK": {"S": [{"prefix": "O#"}]}}}}


class Function(Construct):
    """One function with its role and its log group. Its environment is that of all functions."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        spec: FunctionSpec,
        settings: StageSettings,
        keys: Keys,
        layers: Layers,
        environment: Mapping[str, str],
        resources: Mapping[Resource, Protected],
    ) -> None:
        super().__init__(scope, construct_id)
        logs = log_group(self, "Logs", settings=settings, keys=keys)
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"passerelle {settings.stage}: the function {spec.name}",
        )
        allow(self.role, ("logs:CreateLogStream", "logs:PutLogEvents"), Protected(arn=logs.log_group_arn))
        for grant in spec.grants:
            allow(self.role, grant.actions, resources[grant.on])
        self.function = lambda_.Function(
            self,
            "Function",
            description=f"{spec.name}: {spec.purpose}",
            runtime=RUNTIME,
            architecture=ARCHITECTURE,
            code=lambda_.Code.from_asset(str(ROOT / "functions" / spec.name), exclude=NOT_CODE),
            handler="handler.handler",
            layers=layers.all,
            memory_size=spec.memory_mb,
            timeout=Duration.seconds(spec.timeout_seconds),
            role=self.role,
            environment=dict(environment),
            log_group=logs,
            logging_format=lambda_.LoggingFormat.JSON,
            tracing=lambda_.Tracing.ACTIVE if settings.traces else lambda_.Tracing.DISABLED,
        )
        # Which handler this is, for those who run the template without Lambda.
        cast(lambda_.CfnFunction, self.function.node.default_child).add_metadata("passerelle:function", spec.name)
        self._accept_findings(settings)

    def _accept_findings(self, settings: StageSettings) -> None:
        accept(
            self,
            "The policy belongs to this role alone and is versioned with it",
            "HIPAA.Security-IAMNoInlinePolicy",
        )
        accept(
            self,
            "Zero idle cost: there is nothing to reach in a VPC, and every call goes out over TLS",
            "HIPAA.Security-LambdaInsideVPC",
        )
        accept(
            self,
            "The limit is API Gateway's throttling, or the poller of a stream or queue; a reservation would "
            "take concurrency from the rest of the account",
            "HIPAA.Security-LambdaConcurrency",
        )
        accept(
            self,
            "Never invoked asynchronously: the dead-letter queue is that of its queue or stream",
            "HIPAA.Security-LambdaDLQ",
        )
        if settings.traces:
            accept(self, "X-Ray has no resources to name", "AwsSolutions-IAM5[Resource::*]")

    def follow_outbox(self, trigger: Outbox, *, table: dynamodb.Table, keys: Keys, dead: sqs.Queue) -> None:
        # A record given up is named in the dead-letter queue; its item stays in the outbox.
        self._follow("Outbox", _OUTBOX, trigger.batch_size, table=table, keys=keys, dead=dead, max_retries=30)

    def follow_trail(self, trigger: Trail, *, table: dynamodb.Table, keys: Keys, dead: sqs.Queue) -> None:
        # Nothing is left out of the log while an outage lasts, but for what the stream is about to forget.
        self._follow("Trail", _TRAIL, trigger.batch_size, table=table, keys=keys, dead=dead, max_retries=-1, hours=20)

    def _follow(
        self,
        name: str,
        pattern: Mapping[str, object],
        batch_size: int,
        *,
        table: dynamodb.Table,
        keys: Keys,
        dead: sqs.Queue,
        max_retries: int,
        hours: int = 6,
    ) -> None:
        stream = Protected(arn=cast(str, table.table_stream_arn), key=keys.data)
        allow(self.role, ("dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"), stream)
        reason = "Streams are listed by table, and the resource of that action is all of them"
        streams = Protected(arn=f"{table.table_arn}/stream/*", accepted=(reason, wildcard_below(table, "/stream/*")))
        allow(self.role, ("dynamodb:ListStreams",), streams)
        allow(self.role, ("sqs:SendMessage",), Protected(arn=dead.queue_arn, key=keys.operations))
        lambda_.CfnEventSourceMapping(
            self,
            name,
            function_name=self.function.function_name,
            event_source_arn=table.table_stream_arn,
            starting_position="TRIM_HORIZON",
            batch_size=batch_size,
            filter_criteria={"filters": [{"pattern": json.dumps(pattern)}]},
            bisect_batch_on_function_error=True,
            function_response_types=["ReportBatchItemFailures"],
            maximum_retry_attempts=max_retries,
            maximum_record_age_in_seconds=hours * 3600,
            destination_config={"onFailure": {"destination": dead.queue_arn}},
        )

    def consume(self, trigger: Queue, *, queue: sqs.Queue, keys: Keys) -> None:
        actions = ("sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage")
        allow(self.role, actions, Protected(arn=queue.queue_arn, key=keys.operations))
        lambda_.CfnEventSourceMapping(
            self,
            "Queue",
            function_name=self.function.function_name,
            event_source_arn=queue.queue_arn,
            batch_size=trigger.batch_size,
            function_response_types=["ReportBatchItemFailures"],
        )
