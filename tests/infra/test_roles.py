"""Least privilege (law 9): exact actions on named resources, as the table of functions says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from infra.functions import FUNCTIONS, Authorizer, FunctionSpec, Http, Outbox, Queue, Trail
from infra.paths import ROOT
from passerelle.aws.quarantine import PREFIXES
from passerelle.aws.tables import TABLES

# What Lambda itself does under the role of the function; everything else is in the table of functions.
LOGS = {"logs:CreateLogStream", "logs:PutLogEvents"}
_STREAM = {
    "dynamodb:DescribeStream",
    "dynamodb:GetRecords",
    "dynamodb:GetShardIterator",
    "dynamodb:ListStreams",
    "sqs:SendMessage",  # to the dead-letter queue
}
POLLING: Mapping[type, set[str]] = {
    Http: set(),
    Authorizer: set(),
    Outbox: _STREAM,
    Trail: _STREAM,
    Queue: {"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"},
}
TRACES = {"xray:PutTelemetryRecords", "xray:PutTraceSegments"}
# The only resources that end in a wildcard, with the actions for which AWS has no narrower name.
WILDCARDS = {
    "<bucket>/*": {
        "s3:BypassGovernanceRetention",
        "s3:DeleteObjectVersion",
        "s3:DeleteObject",
        "s3:GetObject",
        "s3:ListMultipartUploadParts",
        "s3:PutObject",
        "s3:PutObjectRetention",
    },
    "<table>/stream/*": {"dynamodb:ListStreams"},
    "*": TRACES,
}


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(stage: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement of the policy of a function, with its name; the scanner's role has a test of its own."""
    names = {
        resource["Properties"]["Role"]["Fn::GetAtt"][0]: resource["Metadata"]["passerelle:function"]
        for resource in stage.template["Resources"].values()
        if resource["Type"] == "AWS::Lambda::Function"
    }
    for policy in stage.of("AWS::IAM::Policy").values():
        (role,) = policy["Roles"]
        if role["Ref"] not in names:
            continue
        for statement in policy["PolicyDocument"]["Statement"]:
            assert statement["Effect"] == "Allow"
            yield names[role["Ref"]], statement


def actions_of(stage: Any, function: str) -> list[str]:
    return [
        action for name, statement in statements(stage) if name == function for action in listed(statement["Action"])
    ]


def is_key_use(statement: dict[str, Any]) -> bool:
    return "kms:ViaService" in str(statement.get("Condition"))


def test_the_table_has_one_row_per_folder() -> None:
    folders = {handler.parent.name for handler in (ROOT / "functions").glob("*/handler.py")}
    assert {spec.name for spec in FUNCTIONS} == folders
    assert len(FUNCTIONS) == len(folders)


def test_every_row_is_deployed_with_its_handler_on_the_newest_runtime(stage: Any) -> None:
    deployed = {
        resource["Metadata"]["passerelle:function"]: resource["Properties"]
        for resource in stage.template["Resources"].values()
        if resource["Type"] == "AWS::Lambda::Function"
    }
    assert deployed.keys() == {spec.name for spec in FUNCTIONS}
    for spec in FUNCTIONS:
        function = deployed[spec.name]
        assert (function["Runtime"], function["Architectures"]) == ("python3.14", ["arm64"])
        assert function["Handler"] == "handler.handler"
        assert function["LoggingConfig"]["LogFormat"] == "JSON"
        assert (function["MemorySize"], function["Timeout"]) == (spec.memory_mb, spec.timeout_seconds)
        assert len(function["Layers"]) == 3


def test_all_functions_have_the_same_environment(stage: Any) -> None:
    environments = [f["Environment"]["Variables"] for f in stage.of("AWS::Lambda::Function").values()]
    assert all(each == environments[0] for each in environments)
    assert {spec.variable for spec in TABLES} <= environments[0].keys()


def test_the_public_url_is_the_parameter_or_the_apis_own(stage: Any) -> None:
    environment = next(iter(stage.of("AWS::Lambda::Function").values()))["Environment"]["Variables"]
    condition, given, own = environment["PUBLIC_URL"]["Fn::If"]
    assert stage.template["Conditions"][condition] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "PublicUrl"}, ""]}]}
    assert given == {"Ref": "PublicUrl"}
    assert own["Fn::Join"][1][-1] == "/v1"


@pytest.mark.parametrize("spec", FUNCTIONS, ids=lambda spec: spec.name)
def test_a_function_may_do_what_its_row_says_and_nothing_else(prod: Any, spec: FunctionSpec) -> None:
    allowed = {
        action
        for name, statement in statements(prod)
        if name == spec.name and not is_key_use(statement)
        for action in listed(statement["Action"])
    }
    granted = {action for grant in spec.grants for action in grant.actions}
    assert allowed == granted | POLLING[type(spec.trigger)] | LOGS | TRACES


def test_no_action_has_a_wildcard_and_resources_only_where_aws_has_no_other_name(stage: Any) -> None:
    for function, statement in statements(stage):
        assert not any("*" in action for action in listed(statement["Action"])), function
        for resource in listed(statement["Resource"]):
            text = str(resource)
            if "*" not in text:
                continue
            kind = "*" if resource == "*" else "<table>/stream/*" if "/stream/*" in text else "<bucket>/*"
            assert set(listed(statement["Action"])) <= WILDCARDS[kind], function


def test_key_use_is_through_a_service_and_only_where_it_is_needed(stage: Any) -> None:
    for function, statement in statements(stage):
        if is_key_use(statement):
            (service,) = {
                part.strip(".") for part in statement["Condition"]["StringEquals"]["kms:ViaService"]["Fn::Join"][1][:1]
            }
            assert any(action.startswith(f"{service}:") for action in actions_of(stage, function)), function


def test_whoever_writes_a_table_may_encrypt_for_it(stage: Any) -> None:
    for function, statement in statements(stage):
        if "dynamodb:PutItem" in listed(statement["Action"]):
            assert {"kms:Decrypt", "kms:GenerateDataKey"} <= set(actions_of(stage, function)), function


def test_nobody_scans_and_each_privilege_has_one_holder(stage: Any) -> None:
    holders: dict[str, set[str]] = {}
    for function, statement in statements(stage):
        for action in listed(statement["Action"]):
            holders.setdefault(action, set()).add(function)
    assert "dynamodb:Scan" not in holders
    assert holders["events:PutEvents"] == {"relay", "catalogue"}  # law 7
    assert holders["kms:Sign"] == {"token", "seal"}  # each with a key of its own
    assert holders["sqs:ChangeMessageVisibility"] == {"deliver"}


def test_only_one_function_takes_contents_of_documents_away_and_one_destroys_them(prod: Any) -> None:
    (vault,) = (name for name, each in prod.of("AWS::S3::Bucket").items() if "DocumentVaultBucket" in name)
    deleting = set()
    for function, statement in statements(prod):
        actions = listed(statement["Action"])
        destroys = {"s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"} & set(actions)
        assert not destroys or function == "erase", function
        if vault in str(statement["Resource"]) and "s3:DeleteObject" in actions:
            deleting.add(function)
    assert deleting == {"sweep"}


def test_the_scanner_reads_contents_and_changes_none(stage: Any) -> None:
    roles = {name: role for name, role in stage.of("AWS::IAM::Role").items() if "MalwareScanning" in name}
    plans = list(stage.of("AWS::GuardDuty::MalwareProtectionPlan").values())
    assert {plan["Role"]["Fn::GetAtt"][0] for plan in plans} == roles.keys()
    prefixes = [plan["ProtectedResource"]["S3Bucket"]["ObjectPrefixes"] for plan in plans]
    assert sorted(each for (each,) in prefixes) == sorted(PREFIXES)
    for role in roles.values():
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Principal"] == {"Service": "malware-protection-plan.guardduty.amazonaws.com"}
        assert trust["Condition"]["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    for policy in stage.of("AWS::IAM::Policy").values():
        (role,) = policy["Roles"]
        if role["Ref"] in roles:
            for statement in policy["PolicyDocument"]["Statement"]:
                actions, resource = set(listed(statement["Action"])), str(statement["Resource"])
                assert not actions & {"s3:DeleteObject", "s3:PutObjectTagging", "s3:PutObjectRetention"}
                if "s3:PutObject" in actions:
                    assert "/malware-protection-resource-validation-object" in resource
                if "s3:GetObject" in actions:
                    assert any(f"/{prefix}*" in resource for prefix in PREFIXES)


def test_each_role_has_one_function(stage: Any) -> None:
    roles = [function["Role"]["Fn::GetAtt"][0] for function in stage.of("AWS::Lambda::Function").values()]
    assert len(set(roles)) == len(roles)


def test_audit_records_can_be_added_but_not_changed(stage: Any) -> None:
    (audit,) = (name for name in stage.of("AWS::DynamoDB::Table") if "Audit" in name)
    for function, statement in statements(stage):
        if {"Fn::GetAtt": [audit, "Arn"]} in listed(statement["Resource"]):
            changing = {"dynamodb:DeleteItem", "dynamodb:UpdateItem"} & set(listed(statement["Action"]))
            assert not changing, function


def test_only_who_erases_people_changes_a_data_key(stage: Any) -> None:
    (keys,) = (name for name in stage.of("AWS::DynamoDB::Table") if "TablesKeys" in name)
    changing = {
        function
        for function, statement in statements(stage)
        if {"Fn::GetAtt": [keys, "Arn"]} in listed(statement["Resource"])
        and {"dynamodb:DeleteItem", "dynamodb:UpdateItem"} & set(listed(statement["Action"]))
    }
    assert changing == {"erase"}
