"""Filter patterns of event source mappings."""

from __future__ import annotations

from typing import Any

import pytest

from local.filters import check, matches
from local.intrinsics import TemplateError

RECORD = {"eventName": "INSERT", "dynamodb": {"Keys": {"PK": {"S": "O#1"}}}, "n": 1}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ({}, True),
        ({"eventName": ["INSERT", "MODIFY"]}, True),
        ({"eventName": ["REMOVE"]}, False),
        ({"dynamodb": {"Keys": {"PK": {"S": [{"prefix": "O#"}]}}}}, True),
        ({"dynamodb": {"Keys": {"PK": {"S": [{"prefix": "P#"}]}}}}, False),
        ({"eventName": [{"suffix": "ERT"}]}, True),
        ({"eventName": [{"anything-but": ["REMOVE"]}]}, True),
        ({"eventName": [{"anything-but": "INSERT"}]}, False),
        ({"absent": [{"exists": False}]}, True),
        ({"absent": ["x"]}, False),
        ({"absent": {"deeper": ["x"]}}, False),
        ({"n": [True]}, False),
        ({"eventName": ["INSERT"], "n": [2]}, False),
    ],
)
def test_match(pattern: dict[str, Any], expected: bool) -> None:
    check(pattern)
    assert matches(pattern, RECORD) is expected


def test_an_unknown_operator_is_an_error() -> None:
    with pytest.raises(TemplateError, match="numeric"):
        check({"a": {"b": [{"numeric": [">", 1]}]}})
