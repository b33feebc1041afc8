"""The stack as a whole: idle cost, rule packs, CloudFormation's rules, the same template each time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from infra.paths import ROOT

# Law 8. Nothing here is paid by the hour; what has a small monthly price is in docs/deploy.md.
ALLOWED = {
    "AWS::ApiGateway::Account",
    "AWS::ApiGateway::Authorizer",
    "AWS::ApiGateway::Deployment",
    "AWS::ApiGateway::GatewayResponse",
    "AWS::ApiGateway::Method",
    "AWS::ApiGateway::Resource",
    "AWS::ApiGateway::RestApi",
    "AWS::ApiGateway::Stage",
    "AWS::CloudWatch::Alarm",
    "AWS::DynamoDB::Table",
    "AWS::Events::Archive",
    "AWS::Events::EventBus",
    "AWS::Events::Rule",
    "AWS::GuardDuty::MalwareProtectionPlan",  # paid by what is scanned
    "AWS::IAM::Policy",
    "AWS::IAM::Role",
    "AWS::KMS::Key",
    "AWS::Lambda::EventSourceMapping",
    "AWS::Lambda::Function",
    "AWS::Lambda::LayerVersion",
    "AWS::Lambda::Permission",
    "AWS::Logs::LogGroup",
    "AWS::S3::Bucket",
    "AWS::S3::BucketPolicy",
    "AWS::Scheduler::Schedule",  # paid by the message
    "AWS::SNS::Topic",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::Queue",
    "AWS::SQS::QueuePolicy",
    "AWS::SecretsManager::Secret",
    "AWS::WAFv2::WebACL",
    "AWS::WAFv2::WebACLAssociation",
}
HOURLY = {
    "CacheClusterEnabled",
    "ProvisionedConcurrencyConfig",
    "ProvisionedPollerConfig",
    "ProvisionedThroughput",
    "ReplicationConfiguration",
    "VpcConfig",
}


def members(value: Any) -> set[str]:
    """The names of every member, at any depth."""
    if isinstance(value, dict):
        return set(value).union(*(members(each) for each in value.values()))
    return set().union(*(members(each) for each in value)) if isinstance(value, list) else set()


def test_an_idle_stack_costs_nothing_by_the_hour(stage: Any) -> None:
    assert {resource["Type"] for resource in stage.template["Resources"].values()} <= ALLOWED
    assert not HOURLY & members(stage.template["Resources"])


@pytest.mark.parametrize("pack", ["AwsSolutionsChecks", "HIPAASecurityChecks"])
def test_no_finding_of_cdk_nag_is_without_a_reason(stage: Any, pack: str) -> None:
    import cdk_nag

    report = getattr(cdk_nag, pack)().validate_scope(stage.app)
    findings = [
        f"{violation.rule_name} at {resource.construct_path}"
        for violation in report.violations
        for resource in violation.violating_resources
    ]
    assert findings == []


def test_cloudformation_has_nothing_to_say(prod: Any) -> None:
    from cfnlint.api import ManualArgs, lint

    # W3005: CDK names dependencies that references imply already.
    options = ManualArgs(regions=["eu-west-3"], ignore_checks=["W3005"])
    assert [str(match) for match in lint(json.dumps(prod.template), config=options)] == []


def test_the_same_template_each_time_without_credentials(dev: Any) -> None:
    """In another process, with another order of sets."""
    program = "import json, sys, infra; json.dump(infra.synthesise('dev'), sys.stdout)"
    environment = {"PATH": os.environ["PATH"], "PYTHONHASHSEED": "1", "AWS_EC2_METADATA_DISABLED": "true"}
    again = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, check=True, text=True
    )
    assert json.dumps(json.loads(again.stdout)) == json.dumps(dev.template)


def test_the_template_names_no_machine(stage: Any) -> None:
    assert str(ROOT) not in json.dumps(stage.template)
