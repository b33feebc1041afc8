"""The one schedule of the stack: by day in Paris, to a queue with dead letters, with a role for nothing else."""

from __future__ import annotations

import json
from typing import Any

from passerelle.prescriptions.reminders import policy
from tests.infra.test_roles import listed


def test_every_hour_of_day_and_none_of_the_night(stage: Any) -> None:
    (schedule,) = stage.of("AWS::Scheduler::Schedule").values()
    assert schedule["ScheduleExpression"] == "cron(0 8-20 * * ? *)"
    assert schedule["ScheduleExpressionTimezone"] == "Europe/Paris"
    assert policy()["quiet"] == {"from": 21, "until": 8}
    assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert json.loads(schedule["Target"]["Input"]) == {"time": "<aws.scheduler.scheduled-time>"}


def test_it_may_send_to_its_queue_and_to_the_dead_letters_of_that_queue(stage: Any) -> None:
    (schedule,) = stage.of("AWS::Scheduler::Schedule").values()
    target, dead = schedule["Target"]["Arn"], schedule["Target"]["DeadLetterConfig"]["Arn"]
    queues = stage.of("AWS::SQS::Queue")
    assert queues[target["Fn::GetAtt"][0]]["RedrivePolicy"]["deadLetterTargetArn"] == dead
    role = schedule["Target"]["RoleArn"]["Fn::GetAtt"][0]
    (trust,) = stage.of("AWS::IAM::Role")[role]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "scheduler.amazonaws.com"}
    assert trust["Condition"]["StringEquals"].keys() == {"aws:SourceAccount", "aws:SourceArn"}
    (policies,) = (
        each["PolicyDocument"]["Statement"]
        for each in stage.of("AWS::IAM::Policy").values()
        if each["Roles"] == [{"Ref": role}]
    )
    sending = [each for each in policies if listed(each["Action"]) == ["sqs:SendMessage"]]
    assert [listed(each["Resource"]) for each in sending] == [[target, dead]]
    assert {action for each in policies for action in listed(each["Action"])} == {
        "kms:Decrypt",
        "kms:GenerateDataKey",
        "sqs:SendMessage",
    }
