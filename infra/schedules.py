"""What happens by the clock: an hourly message to the queue of `remind`, by day in Paris.

EventBridge Scheduler user guide, "Schedule types" (time zones, daylight saving time) and "Confused deputy prevention":
the role is for schedules of this account's default group. By night nobody is told anything, and nothing runs.
"""

from __future__ import annotations

import json

from aws_cdk import Aws, Fn
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.findings import accept
from infra.grants import Protected, allow
from infra.keys import Keys
from passerelle.prescriptions.reminders import policy
from passerelle.prescriptions.workdays import PARIS


class Reminders(Construct):
    def __init__(self, scope: Construct, construct_id: str, *, keys: Keys, queue: sqs.Queue, dead: sqs.Queue) -> None:
        super().__init__(scope, construct_id)
        group = Fn.sub("arn:${AWS::Partition}:scheduler:${AWS::Region}:${AWS::AccountId}:schedule-group/default")
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal(
                "scheduler.amazonaws.com",
                conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID, "aws:SourceArn": group}},
            ),
            description="EventBridge Scheduler tells the function remind of each hour",
        )
        for each in (queue, dead):
            allow(role, ("sqs:SendMessage",), Protected(arn=each.queue_arn, key=keys.operations))
        accept(
            role, "The policy belongs to this role alone and is versioned with it", "HIPAA.Security-IAMNoInlinePolicy"
        )
        quiet = policy()["quiet"]
        schedule = scheduler.CfnSchedule(
            self,
            "Hourly",
            description="every hour by day, to the queue of remind",
            schedule_expression=f"cron(0 {quiet['until']}-{quiet['from'] - 1} * * ? *)",
            schedule_expression_timezone=PARIS.key,
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            state="ENABLED",
            target=scheduler.CfnSchedule.TargetProperty(
                arn=queue.queue_arn,
                role_arn=role.role_arn,
                input=json.dumps({"time": "<aws.scheduler.scheduled-time>"}),
                dead_letter_config=scheduler.CfnSchedule.DeadLetterConfigProperty(arn=dead.queue_arn),
            ),
        )
        schedule.node.add_dependency(role)  # its policy too: the first hour may begin at once
