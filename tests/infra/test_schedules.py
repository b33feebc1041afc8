"""The schedules of the stack: by the clock, each to a queue with dead letters, with a role for nothing else."""

from __future__ import annotations

import json
from typing import Any

from passerelle.prescriptions.reminders import policy
from tests.infra.test_roles import listed


def test_reminders_every_hour_of_day_and_what_is_urgent_by_night_too(stage: Any) -> None:
    schedules = stage.of("AWS::Scheduler::Schedule").values()
    assert sorted(each["ScheduleExpression"] for each in schedules) == [
        "cron(0 8-20 * * ? *)",
        "rate(5 minutes)",
        "rate(5 minutes)",
    ]
    assert policy()["quiet"] == {"from": 21, "until": 8}
    for schedule in schedules:
        assert schedule["ScheduleExpressionTimezone"] == "Europe/Paris"
        assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}
        assert json.loads(schedule["Target"]["Input"]) == {"time": "<aws.scheduler.scheduled-time>"}


def test_each_sends_to_a_queue_of_its_own_and_to_the_dead_letters_of_that_queue(stage: Any) -> None:
    from infra.schedules import TICKS

    queues, sent_to = stage.of("AWS::SQS::Queue"), []
    for schedule in stage.of("AWS::Scheduler::Schedule").values():
        target, dead = schedule["Target"]["Arn"], schedule["Target"]["DeadLetterConfig"]["Arn"]
        assert queues[target["Fn::GetAtt"][0]]["RedrivePolicy"]["deadLetterTargetArn"] == dead
        sent_to.append((target["Fn::GetAtt"][0], target, dead))
    assert len({queue for queue, _, _ in sent_to}) == len(TICKS)
    (role,) = {each["Target"]["RoleArn"]["Fn::GetAtt"][0] for each in stage.of("AWS::Scheduler::Schedule").values()}
    (trust,) = stage.of("AWS::IAM::Role")[role]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "scheduler.amazonaws.com"}
    assert trust["Condition"]["StringEquals"].keys() == {"aws:SourceAccount", "aws:SourceArn"}
    (policies,) = (
        each["PolicyDocument"]["Statement"]
        for each in stage.of("AWS::IAM::Policy").values()
        if each["Roles"] == [{"Ref": role}]
    )
    allowed = [
        resource
        for each in policies
        if listed(each["Action"]) == ["sqs:SendMessage"]
        for resource in listed(each["Resource"])
    ]
    assert sorted(map(str, allowed)) == sorted(str(each) for _, *pair in sent_to for each in pair)
    assert {action for each in policies for action in listed(each["Action"])} == {
        "kms:Decrypt",
        "kms:GenerateDataKey",
        "sqs:SendMessage",
    }
