"""Log groups: retention and customer key in one place."""

from __future__ import annotations

from typing import cast

from aws_cdk import RemovalPolicy
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.keys import Keys
from infra.settings import StageSettings


def log_group(
    scope: Construct, construct_id: str, *, settings: StageSettings, keys: Keys, name: str | None = None
) -> logs.LogGroup:
    group = logs.LogGroup(
        scope,
        construct_id,
        log_group_name=name,
        encryption_key=keys.operations,
        removal_policy=RemovalPolicy.RETAIN if settings.keeps_data else RemovalPolicy.DESTROY,
    )
    # The construct takes an enumeration of periods, the settings a number of days.
    cast(logs.CfnLogGroup, group.node.default_child).retention_in_days = settings.log_retention_days
    return group
