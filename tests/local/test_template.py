"""The template loader: what it refuses, and what it keeps from one start to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from local.intrinsics import TemplateError
from local.template import ChangedError, Stack
from tests.local.small import small_template


def test_an_unknown_type_is_an_error() -> None:
    template = small_template()
    template["Resources"]["New"] = {"Type": "AWS::Kinesis::Stream"}
    with mock_aws(), pytest.raises(TemplateError, match=r"New: AWS::Kinesis::Stream is not implemented"):
        Stack.deploy(template)


@pytest.mark.parametrize(
    ("logical_id", "name", "value"),
    [
        ("Table", "ImportSourceSpecification", {}),
        ("Table", "SSESpecification", {"SSEEnabled": True, "Other": 1}),
        ("Jobs", "Other", 1),
        ("Echo", "SnapStart", {"ApplyOn": "PublishedVersions"}),
        ("Api", "ApiKeySourceType", "HEADER"),
        ("GetThings", "RequestParameters", {"method.request.header.X": True}),
        ("Failed", "Other", 1),
    ],
)
def test_an_unknown_property_is_an_error(logical_id: str, name: str, value: Any) -> None:
    template = small_template()
    template["Resources"][logical_id].setdefault("Properties", {})[name] = value
    with mock_aws(), pytest.raises(TemplateError, match=rf"{logical_id}.*: not implemented: "):
        Stack.deploy(template)


def test_circular_references_are_an_error() -> None:
    template = small_template()
    template["Resources"]["DeadJobs"]["Properties"] = {
        "RedrivePolicy": {"deadLetterTargetArn": {"Fn::GetAtt": ["Jobs", "Arn"]}, "maxReceiveCount": 1}
    }
    with mock_aws(), pytest.raises(TemplateError, match="circular"):
        Stack.deploy(template)


def test_a_parameter_that_does_not_exist_is_an_error() -> None:
    with mock_aws(), pytest.raises(TemplateError, match="Colour"):
        Stack.deploy(small_template(), parameters={"Colour": "blue"})


def test_functions_share_one_environment() -> None:
    template = small_template()
    template["Resources"]["Echo"]["Properties"]["Environment"]["Variables"]["ONLY_HERE"] = "1"
    with mock_aws(), pytest.raises(TemplateError, match="environments"):
        Stack.deploy(template)


def test_prefixes_keep_stacks_apart(template: dict[str, Any]) -> None:
    with mock_aws():
        names = [Stack.deploy(template, prefix=prefix).environment["CLINICAL_TABLE"] for prefix in ("one", "two")]
    assert names[0] != names[1]


def test_a_second_start_keeps_what_exists(template: dict[str, Any], tmp_path: Path) -> None:
    state = tmp_path / "stack.json"
    with mock_aws():
        first = Stack.deploy(template, state=state)
        table = first.environment["CLINICAL_TABLE"]
        first.client("dynamodb").put_item(TableName=table, Item={"PK": {"S": "a"}, "SK": {"S": "b"}})
        second = Stack.deploy(template, state=state)
        assert second.environment == first.environment
        assert second.client("dynamodb").scan(TableName=table)["Count"] == 1


def test_what_may_change_is_brought_up_to_date(tmp_path: Path) -> None:
    state, template = tmp_path / "stack.json", small_template()
    with mock_aws():
        Stack.deploy(template, state=state)
        template["Resources"]["Jobs"]["Properties"]["VisibilityTimeout"] = 7
        template["Resources"]["Late"] = {"Type": "AWS::SQS::Queue"}
        stack = Stack.deploy(template, state=state)
        sqs, url = stack.client("sqs"), stack.resources["Jobs"].ref
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        assert attributes["VisibilityTimeout"] == "7"
        assert stack.resources["Late"].ref in sqs.list_queues()["QueueUrls"]


def test_a_table_declared_otherwise_is_an_error(tmp_path: Path) -> None:
    state, template = tmp_path / "stack.json", small_template()
    with mock_aws():
        Stack.deploy(template, state=state)
        table = template["Resources"]["Table"]["Properties"]
        table["StreamSpecification"]["StreamViewType"] = "NEW_AND_OLD_IMAGES"
        with pytest.raises(ChangedError, match="Table"):
            Stack.deploy(template, state=state)
