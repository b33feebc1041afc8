"""What `deliver` may do to tell subscribers otherwise than by webhooks: nothing that the settings do not name."""

from __future__ import annotations

from aws_cdk import Aws
from aws_cdk import aws_iam as iam

from infra.findings import accept
from infra.grants import Protected, allow
from infra.settings import StageSettings


def allow_telling(role: iam.Role, settings: StageSettings, documents: Protected) -> None:
    """`documents` are what may be sent to health mailboxes."""
    if settings.mail_sender:
        address = settings.mail_sender.rpartition("<")[2].rstrip(">")
        names = (address, address.rpartition("@")[2])  # the identity is the address, or its domain
        first, second = (f"arn:{Aws.PARTITION}:ses:{Aws.REGION}:{Aws.ACCOUNT_ID}:identity/{name}" for name in names)
        allow(role, ("ses:SendEmail",), Protected(arn=first, also=(second,)))
    if settings.sms_sender:
        _allow_texting(role)
    for queue in settings.partner_queues:
        allow(role, ("sqs:SendMessage",), Protected(arn=queue.arn))
        if queue.key:
            _allow_key(role, queue.key)
    if settings.mssante:
        if not settings.mssante.secret:
            raise ValueError("mail of the trust space goes by mutual TLS: name the secret with the certificate")
        if not settings.home_community_id:
            raise ValueError("documents that are sent name the exchange: set home_community_id")
        allow(role, ("secretsmanager:GetSecretValue",), Protected(arn=settings.mssante.secret))
        allow(role, ("s3:GetObject",), documents)
    if settings.webhook_certificate:
        allow(role, ("secretsmanager:GetSecretValue",), Protected(arn=settings.webhook_certificate))


def _allow_texting(role: iam.Role) -> None:
    """A telephone has no ARN: everything is allowed, and then every topic is not (SNS developer guide)."""
    role.add_to_policy(iam.PolicyStatement(actions=["sns:Publish"], resources=["*"]))
    role.add_to_policy(
        iam.PolicyStatement(
            effect=iam.Effect.DENY,
            actions=["sns:Publish"],
            resources=[f"arn:{Aws.PARTITION}:sns:*:*:*"],
        )
    )
    reason = "A telephone number is no resource that a policy could name; topics, which are, are denied"
    accept(
        role, reason, "AwsSolutions-IAM5[Resource::*]", "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:sns:*:*:*]"
    )


def _allow_key(role: iam.Role, key: str) -> None:
    """The use of a partner's key by SQS, wherever its queue is."""
    role.add_to_policy(
        iam.PolicyStatement(
            actions=["kms:Decrypt", "kms:GenerateDataKey"],
            resources=[key],
            conditions={"StringEquals": {"kms:ViaService": f"sqs.{key.split(':')[3]}.amazonaws.com"}},
        )
    )
