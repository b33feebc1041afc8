"""Intrinsic functions, as the CloudFormation user guide says, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from local.intrinsics import NO_VALUE, Scope, TemplateError


@pytest.fixture
def scope() -> Scope:
    return Scope(
        values={"Stage": "dev", "AWS::Region": "eu-west-3"},
        conditions={
            "IsDev": {"Fn::Equals": [{"Ref": "Stage"}, "dev"]},
            "IsProd": {"Fn::Not": [{"Condition": "IsDev"}]},
            "Both": {"Fn::And": [{"Condition": "IsDev"}, {"Condition": "IsProd"}]},
            "Either": {"Fn::Or": [{"Condition": "IsDev"}, {"Condition": "IsProd"}]},
        },
        reference=lambda name: f"<{name}>",
        attribute=lambda name, attribute: f"<{name}.{attribute}>",
    )


@pytest.mark.parametrize(
    ("value", "resolved"),
    [
        ({"Ref": "Stage"}, "dev"),
        ({"Ref": "Table"}, "<Table>"),
        ({"Ref": "AWS::NoValue"}, NO_VALUE),
        ({"Fn::GetAtt": ["Table", "Arn"]}, "<Table.Arn>"),
        ({"Fn::GetAtt": "Table.Stream.Arn"}, "<Table.Stream.Arn>"),
        ({"Fn::Join": ["-", ["a", {"Ref": "Stage"}]]}, "a-dev"),
        (
            {"Fn::Sub": "${AWS::Region}/${Table}/${Table.Arn}/${!kept}"},
            "eu-west-3/<Table>/<Table.Arn>/${kept}",
        ),
        ({"Fn::Sub": ["${x}", {"x": {"Ref": "Stage"}}]}, "dev"),
        ({"Fn::Select": [1, {"Fn::Split": [".", "a.b.c"]}]}, "b"),
        ({"Fn::If": ["IsProd", 1, {"Ref": "Stage"}]}, "dev"),
        ({"Fn::If": ["Either", "yes", "no"]}, "yes"),
        ({"Fn::If": ["Both", "yes", "no"]}, "no"),
        ({"a": [{"Ref": "AWS::NoValue"}, 1], "b": {"Ref": "AWS::NoValue"}}, {"a": [1]}),
    ],
)
def test_value(scope: Scope, value: Any, resolved: Any) -> None:
    assert scope.resolve(value) == resolved


@pytest.mark.parametrize(
    "value",
    [{"Fn::GetAZs": ""}, {"Fn::If": ["Unknown", 1, 2]}],
)
def test_what_is_not_implemented_is_an_error(scope: Scope, value: Any) -> None:
    with pytest.raises(TemplateError):
        scope.resolve(value)
