"""Nothing announced is lost silently (law 7): a dead-letter queue behind each step, and an alarm on each."""

from __future__ import annotations

import json
from typing import Any

from infra.functions import HTTP_SECONDS
from passerelle.aws.bus import SOURCE

DAYS = 86_400


def sources(stage: Any) -> dict[str, dict[str, Any]]:
    """Function -> event source mapping."""
    names = {
        name: resource["Metadata"]["passerelle:function"]
        for name, resource in stage.template["Resources"].items()
        if resource["Type"] == "AWS::Lambda::Function"
    }
    mappings = stage.of("AWS::Lambda::EventSourceMapping").values()
    return {names[mapping["FunctionName"]["Ref"]]: mapping for mapping in mappings}


def dead_letter_queues(stage: Any) -> set[str]:
    queues = stage.of("AWS::SQS::Queue").values()
    redrives = [queue["RedrivePolicy"]["deadLetterTargetArn"] for queue in queues if "RedrivePolicy" in queue]
    streams = (mapping for mapping in sources(stage).values() if "DestinationConfig" in mapping)
    on_failure = [mapping["DestinationConfig"]["OnFailure"]["Destination"] for mapping in streams]
    return {arn["Fn::GetAtt"][0] for arn in (*redrives, *on_failure)}


def test_every_queue_is_a_dead_letter_queue_or_has_one_of_its_kind(stage: Any) -> None:
    queues = stage.of("AWS::SQS::Queue")
    dead = dead_letter_queues(stage)
    for name, queue in queues.items():
        if name in dead:
            assert queue["MessageRetentionPeriod"] == 14 * DAYS
            continue
        target = queues[queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]]
        # Orders of delivery are also received each time that they were put off.
        assert queue["RedrivePolicy"]["maxReceiveCount"] == (150 if "Deliveries" in name else 6)
        assert target.get("FifoQueue") == queue.get("FifoQueue")
        assert target["MessageRetentionPeriod"] > queue["MessageRetentionPeriod"]


def test_every_batch_fails_record_by_record(stage: Any) -> None:
    started = {"relay", "dispatch", "deliver", "quarantine", "sweep", "append", "catalogue", "seal", "erase"}
    started |= {"remind", "watch", "reconcile"}
    assert sources(stage).keys() == started
    for name, mapping in sources(stage).items():
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"], name


def test_the_relay_sees_outbox_items_only_and_gives_up_into_its_queue(stage: Any) -> None:
    relay = sources(stage)["relay"]
    (given,) = relay["FilterCriteria"]["Filters"]
    assert json.loads(given["Pattern"]) == {
        "eventName": ["INSERT"],
        "dynamodb": {"Keys": {"PK": {"S": [{"prefix": "O#"}]}}},
    }
    assert relay["BisectBatchOnFunctionError"] is True
    assert relay["StartingPosition"] == "TRIM_HORIZON"
    assert 0 < relay["MaximumRecordAgeInSeconds"] < DAYS, "a stream keeps records for a day"
    assert relay["DestinationConfig"]["OnFailure"]["Destination"]


def test_the_log_gets_every_audit_record_and_goes_on_trying_for_most_of_a_day(stage: Any) -> None:
    append = sources(stage)["append"]
    (given,) = append["FilterCriteria"]["Filters"]
    assert json.loads(given["Pattern"]) == {
        "eventName": ["INSERT"],
        "dynamodb": {"Keys": {"PK": {"S": [{"prefix": "A#"}]}}},
    }
    assert append["BisectBatchOnFunctionError"] is True
    assert append["StartingPosition"] == "TRIM_HORIZON"
    assert append["MaximumRetryAttempts"] == -1
    assert DAYS / 2 < append["MaximumRecordAgeInSeconds"] < DAYS, "a stream keeps records for a day"


def test_a_minute_is_over_when_it_is_sealed_and_sealed_once_at_a_time(stage: Any) -> None:
    (queue,) = (each for name, each in stage.of("AWS::SQS::Queue").items() if "Seals" in name and "Dead" not in name)
    assert 60 < queue["DelaySeconds"] < 120
    assert queue["FifoQueue"] is True


def test_a_message_stays_hidden_while_its_function_works(stage: Any) -> None:
    queues, functions = stage.of("AWS::SQS::Queue"), stage.of("AWS::Lambda::Function")
    for mapping in sources(stage).values():
        source = mapping["EventSourceArn"]["Fn::GetAtt"][0]
        if source in queues:
            function = functions[mapping["FunctionName"]["Ref"]]
            assert queues[source]["VisibilityTimeout"] >= 6 * function["Timeout"]


def test_deliveries_are_ordered_per_subscription_and_numbered_by_us(stage: Any) -> None:
    (name,) = (n for n in stage.of("AWS::SQS::Queue") if "Deliveries" in n and n not in dead_letter_queues(stage))
    queue = stage.of("AWS::SQS::Queue")[name]
    assert queue["FifoQueue"] is True
    assert queue["ContentBasedDeduplication"] is False
    assert (queue["DeduplicationScope"], queue["FifoThroughputLimit"]) == (
        "messageGroup",
        "perMessageGroupId",
    )


def test_every_event_goes_to_the_queue_and_to_the_archive(stage: Any) -> None:
    """And those of erased persons to who makes them unreadable, besides."""
    patterns = [each["EventPattern"] for each in stage.of("AWS::Events::Rule").values() if "EventBusName" in each]
    (archive,) = stage.of("AWS::Events::Archive").values()
    assert archive["EventPattern"] == {"source": [SOURCE]}
    assert sorted(patterns, key=len) == [{"source": [SOURCE]}, {"source": [SOURCE], "detail-type": ["record-erased"]}]


def test_each_rule_reaches_its_queue_and_no_other(stage: Any) -> None:
    for name, rule in stage.of("AWS::Events::Rule").items():
        (target,) = rule["Targets"]
        assert target["DeadLetterConfig"]["Arn"]["Fn::GetAtt"][0] in dead_letter_queues(stage)
        allowed = [
            statement["Resource"]
            for policy in stage.of("AWS::SQS::QueuePolicy").values()
            for statement in policy["PolicyDocument"]["Statement"]
            if statement.get("Condition") == {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": [name, "Arn"]}}}
        ]
        assert sorted(allowed, key=str) == sorted([target["Arn"], target["DeadLetterConfig"]["Arn"]], key=str)


def test_reports_of_the_scanner_reach_their_queue_and_nobody_can_forge_one(stage: Any) -> None:
    (rule,) = (
        each for each in stage.of("AWS::Events::Rule").values() if each["EventPattern"]["source"] == ["aws.guardduty"]
    )
    assert rule["EventPattern"]["detail-type"] == ["GuardDuty Malware Protection Object Scan Result"]
    plans = stage.of("AWS::GuardDuty::MalwareProtectionPlan").values()
    protected = [plan["ProtectedResource"]["S3Bucket"]["BucketName"] for plan in plans]
    assert rule["EventPattern"]["detail"]["s3ObjectDetails"]["bucketName"] == protected
    queue = rule["Targets"][0]["Arn"]
    senders = [
        (statement["Principal"], list(statement["Condition"]))
        for policy in stage.of("AWS::SQS::QueuePolicy").values()
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow" and statement["Resource"] == queue
    ]
    assert senders == [({"Service": "events.amazonaws.com"}, ["ArnEquals"])]


def test_contents_wait_until_no_commit_can_be_on_its_way(stage: Any) -> None:
    (queue,) = (each for name, each in stage.of("AWS::SQS::Queue").items() if "Contents" in name and "Dead" not in name)
    assert queue["DelaySeconds"] == 900 > 10 * HTTP_SECONDS
    (rule,) = (each for each in stage.of("AWS::Events::Rule").values() if each["EventPattern"]["source"] == ["aws.s3"])
    assert rule["EventPattern"]["detail"]["object"] == {"key": [{"prefix": "documents/"}]}
    (bucket,) = (each for name, each in stage.of("AWS::S3::Bucket").items() if "DocumentVaultBucket" in name)
    assert bucket["NotificationConfiguration"] == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}


def test_there_is_an_alarm_on_everything_that_must_not_happen(stage: Any) -> None:
    (topic,) = stage.of("AWS::SNS::Topic")
    watched: dict[str, set[str]] = {}
    for alarm in stage.of("AWS::CloudWatch::Alarm").values():
        assert alarm["AlarmActions"] == [{"Ref": topic}]
        watched.setdefault(alarm["MetricName"], set()).add(json.dumps(alarm["Dimensions"]))
    for queue in dead_letter_queues(stage):
        assert any(f'"{queue}"' in each for each in watched["ApproximateNumberOfMessagesVisible"]), queue
    for function in stage.of("AWS::Lambda::Function"):
        assert any(f'"{function}"' in each for each in watched["Errors"]), function
    assert {name for name in ("Relay", "Append") if any(name in each for each in watched["IteratorAge"])} == {
        "Relay",
        "Append",
    }
    assert watched["5XXError"]
    for incident in ("subscription-in-error", "notification-without-content"):
        assert any('"stage"' in each for each in watched[incident]), incident


def test_alarms_reach_the_encrypted_topic(stage: Any) -> None:
    (policy,) = stage.of("AWS::SNS::TopicPolicy").values()
    senders = [s["Principal"] for s in policy["PolicyDocument"]["Statement"] if s["Effect"] == "Allow"]
    assert senders == [{"Service": "cloudwatch.amazonaws.com"}]
    (key,) = (k for k in stage.of("AWS::KMS::Key").values() if "no health data" in k["Description"])
    users = json.dumps([statement["Principal"] for statement in key["KeyPolicy"]["Statement"]])
    assert "cloudwatch.amazonaws.com" in users
    assert "events.amazonaws.com" in users
