"""Findings of cdk-nag that are accepted, each at its construct and with the reason in writing."""

from __future__ import annotations

from typing import cast

from aws_cdk import Acknowledgment, CfnElement, Validations
from constructs import Construct, IConstruct


def accept(construct: IConstruct, reason: str, *rules: str) -> None:
    """Accept the findings `rules` at `construct` and below it."""
    Validations.of(construct).acknowledge(*(Acknowledgment(id=rule, reason=reason) for rule in rules))


def wildcard_below(resource: Construct, suffix: str) -> str:
    """The finding that a policy names `<ARN of resource><suffix>`, and the suffix has a wildcard."""
    element = cast(CfnElement, resource.node.default_child)
    return f"AwsSolutions-IAM5[Resource::<{element.stack.get_logical_id(element)}.Arn>{suffix}]"
