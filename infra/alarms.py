"""Alarms on what must not happen, to one encrypted topic: the operator subscribes to it."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Aws, Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.keys import Keys
from passerelle.api.incidents import DIMENSION, NAMESPACE

_PERIOD = Duration.minutes(5)


class Alarms(Construct):
    def __init__(self, scope: Construct, construct_id: str, *, keys: Keys) -> None:
        super().__init__(scope, construct_id)
        self.topic = sns.Topic(self, "Topic", master_key=keys.operations, enforce_ssl=True)
        # A topic policy of its own replaces the default one, under which alarms could publish.
        self.topic.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[self.topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
            )
        )

    def on_dead_letters(self, queues: Mapping[str, sqs.Queue]) -> None:
        for name, queue in queues.items():
            metric = queue.metric_approximate_number_of_messages_visible(period=_PERIOD, statistic="Maximum")
            self._alarm(f"{name.capitalize()}Dead", metric, 1, f"dead letters behind {name}: read them, then redrive")

    def on_errors(self, functions: Mapping[str, lambda_.Function]) -> None:
        for name, function in functions.items():
            metric = function.metric_errors(period=_PERIOD, statistic="Sum")
            self._alarm(f"{name.capitalize()}Errors", metric, 1, f"{name} failed or timed out")

    def on_stream_age(self, name: str, reader: lambda_.Function, waits: str) -> None:
        metric = reader.metric("IteratorAge", period=_PERIOD, statistic="Maximum")
        self._alarm(f"{name}Age", metric, 5 * 60 * 1000, f"{waits} for five minutes or more")

    def on_incidents(self, stage: str, told: Mapping[str, str]) -> None:
        """`told`: name of the incident (`api/incidents.py`) -> what the operator is to do."""
        for name, description in told.items():
            metric = cloudwatch.Metric(
                namespace=NAMESPACE,
                metric_name=name,
                dimensions_map={DIMENSION: stage},
                period=_PERIOD,
                statistic="Sum",
            )
            self._alarm("".join(map(str.capitalize, name.split("-"))), metric, 1, description)

    def on_dead_messages(self, namespace: str, name: str) -> None:
        """Of `POST /hl7v2` and the like: each is counted by a line of the function's log (`api/ingestion.py`)."""
        metric = cloudwatch.Metric(
            namespace=namespace,
            metric_name=name,
            dimensions_map={"function": "ingest"},
            period=_PERIOD,
            statistic="Sum",
        )
        self._alarm(name, metric, 1, "messages wait to be applied: `passerelle ingestion list`, then `retry`")

    def on_server_errors(self, api: cloudwatch.Metric) -> None:
        self._alarm("ServerErrors", api, 0.01, "one request in a hundred, or more, failed by our fault")

    def _alarm(self, name: str, metric: cloudwatch.Metric, threshold: float, description: str) -> None:
        alarm = cloudwatch.Alarm(
            self,
            name,
            metric=metric,
            threshold=threshold,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            evaluation_periods=1,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description=description,
        )
        alarm.add_alarm_action(actions.SnsAction(self.topic))
