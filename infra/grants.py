"""How a role gets exact actions on a named resource, and the use of the customer key behind it.

CDK's own `grant` methods are not used: on a table with a customer key `Table.grant` gives no KMS action, and
`grant_read_write_data` gives Scan.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms

from infra.findings import accept

_USE = ("kms:Decrypt", "kms:DescribeKey")
_WRITE = ("kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:ReEncryptTo")
# What the service does with the key on the caller's behalf (its developer guide, "encryption at rest").
_KEY_USE = {
    "dynamodb:BatchGetItem": _USE,
    "dynamodb:ConditionCheckItem": _USE,
    "dynamodb:DescribeStream": (),
    "dynamodb:GetItem": _USE,
    "dynamodb:GetRecords": _USE,
    "dynamodb:GetShardIterator": (),
    "dynamodb:Query": _USE,
    "dynamodb:DeleteItem": (*_USE, *_WRITE),
    "dynamodb:PutItem": (*_USE, *_WRITE),
    "dynamodb:UpdateItem": (*_USE, *_WRITE),
    "s3:BypassGovernanceRetention": (),
    "s3:DeleteObject": (),
    "s3:DeleteObjectVersion": (),
    "s3:GetObject": ("kms:Decrypt",),
    "s3:ListMultipartUploadParts": (),
    "s3:PutObject": ("kms:Decrypt", "kms:GenerateDataKey"),
    "s3:PutObjectRetention": (),
    "secretsmanager:GetSecretValue": ("kms:Decrypt",),
    "sqs:ChangeMessageVisibility": (),
    "sqs:DeleteMessage": (),
    "sqs:GetQueueAttributes": (),
    "sqs:ReceiveMessage": ("kms:Decrypt",),
    "sqs:SendMessage": ("kms:Decrypt", "kms:GenerateDataKey"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Protected:
    """A resource and the customer key its service encrypts it with; no key where the caller needs none.

    `also` are resources of the same use: the keys of access tokens, while one replaces another.
    """

    arn: str
    also: tuple[str, ...] = ()
    key: kms.IKey | None = None
    accepted: tuple[str, str] | None = None  # the reason for a wildcard in the ARN, and cdk-nag's finding of it


def allow(role: iam.Role, actions: Iterable[str], on: Protected) -> None:
    """Let `role` do `actions` on one resource, and let the resource's service use its key for this role."""
    actions = sorted(actions)
    role.add_to_policy(iam.PolicyStatement(actions=actions, resources=[on.arn, *on.also]))
    if on.accepted:
        accept(role, *on.accepted)
    if on.key is None:
        return
    (service,) = {action.partition(":")[0] for action in actions}
    key_use = sorted({use for action in actions for use in _KEY_USE[action]})
    if key_use:
        role.add_to_policy(
            iam.PolicyStatement(
                actions=key_use,
                resources=[on.key.key_arn],
                conditions={"StringEquals": {"kms:ViaService": f"{service}.{Aws.REGION}.amazonaws.com"}},
            )
        )
