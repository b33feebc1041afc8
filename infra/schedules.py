"""What happens by the clock: messages to the queues of `remind`, `watch` and `reconcile`.

EventBridge Scheduler user guide, "Schedule types" (time zones, daylight saving time) and "Confused deputy prevention":
the role is for schedules of this account's default group. Reminders are of the day: by night nobody is reminded of
anything. Alerts and subscriptions are looked at day and night.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aws_cdk import Aws, Fn
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.findings import accept
from infra.functions import QueueName
from infra.grants import Protected, allow
from infra.keys import Keys
from passerelle.prescriptions.reminders import policy
from passerelle.prescriptions.workdays import PARIS


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A message of the clock to a queue; `expression` as EventBridge Scheduler has it, in Paris."""

    queue: QueueName
    purpose: str
    expression: str


_QUIET = policy()["quiet"]

TICKS: Final = (
    Tick(
        queue="reminders",
        purpose="every hour by day: reminders and sweeps of prescriptions",
        expression=f"cron(0 {_QUIET['until']}-{_QUIET['from'] - 1} * * ? *)",
    ),
    Tick(queue="watches", purpose="what is due of care plans and alerts", expression="rate(5 minutes)"),
    Tick(queue="reconciliations", purpose="gaps and silences of subscriptions", expression="rate(5 minutes)"),
)


class Schedules(Construct):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        keys: Keys,
        queues: Mapping[str, sqs.Queue],
        dead: Mapping[str, sqs.Queue],
    ) -> None:
        super().__init__(scope, construct_id)
        group = Fn.sub("arn:${AWS::Partition}:scheduler:${AWS::Region}:${AWS::AccountId}:schedule-group/default")
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal(
                "scheduler.amazonaws.com",
                conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID, "aws:SourceArn": group}},
            ),
            description="EventBridge Scheduler tells functions what time it is",
        )
        for tick in TICKS:
            for each in (queues[tick.queue], dead[tick.queue]):
                allow(role, ("sqs:SendMessage",), Protected(arn=each.queue_arn, key=keys.operations))
        accept(
            role, "The policy belongs to this role alone and is versioned with it", "HIPAA.Security-IAMNoInlinePolicy"
        )
        for tick in TICKS:
            schedule = scheduler.CfnSchedule(
                self,
                tick.queue.capitalize(),
                description=tick.purpose,
                schedule_expression=tick.expression,
                schedule_expression_timezone=PARIS.key,
                flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
                state="ENABLED",
                target=scheduler.CfnSchedule.TargetProperty(
                    arn=queues[tick.queue].queue_arn,
                    role_arn=role.role_arn,
                    input=json.dumps({"time": "<aws.scheduler.scheduled-time>"}),
                    dead_letter_config=scheduler.CfnSchedule.DeadLetterConfigProperty(arn=dead[tick.queue].queue_arn),
                ),
            )
            schedule.node.add_dependency(role)  # its policy too: the first tick may come at once
