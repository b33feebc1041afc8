"""Malware scanning: GuardDuty looks at every new content, and its reports come to the queue of `quarantine`.

GuardDuty user guide, "Malware Protection for S3": a plan per bucket, and a role that names what the service does there.
Reports are events on the default bus, which nobody but AWS can put with the source `aws.guardduty`.
"""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Aws, Fn
from aws_cdk import aws_events as events
from aws_cdk import aws_guardduty as guardduty
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.findings import accept, wildcard_below
from infra.notifications import deliver
from passerelle.aws.quarantine import DETAIL_TYPE, SOURCE

_SERVICE = "malware-protection-plan.guardduty.amazonaws.com"
_VALIDATION = "malware-protection-resource-validation-object"  # put there once, to see whether the role suffices
_RULES = "rule/DO-NOT-DELETE-AmazonGuardDutyMalwareProtectionS3*"


class MalwareScanning(Construct):
    """`buckets` maps the prefix below which contents are to the bucket that has it."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        buckets: Mapping[str, s3.Bucket],
        key: kms.IKey,
        queue: sqs.Queue,
        dead: sqs.Queue,
    ) -> None:
        super().__init__(scope, construct_id)
        for prefix, bucket in buckets.items():
            name = prefix.strip("/").capitalize()
            role = self._role(f"{name}Role", bucket, prefix, key)
            plan = guardduty.CfnMalwareProtectionPlan(
                self,
                f"{name}Plan",
                role=role.role_arn,
                protected_resource=guardduty.CfnMalwareProtectionPlan.CFNProtectedResourceProperty(
                    s3_bucket=guardduty.CfnMalwareProtectionPlan.S3BucketProperty(
                        bucket_name=bucket.bucket_name, object_prefixes=[prefix]
                    )
                ),
            )
            plan.node.add_dependency(role)  # its policy too: the service tries the role when the plan is made
        rule = events.CfnRule(
            self,
            "Reports",
            description="what the malware scanner says of contents, to the queue of quarantine",
            event_pattern={
                "source": [SOURCE],
                "detail-type": [DETAIL_TYPE],
                "detail": {"s3ObjectDetails": {"bucketName": [each.bucket_name for each in buckets.values()]}},
            },
            state="ENABLED",
        )
        deliver(rule, queue, dead)

    def _role(self, name: str, bucket: s3.Bucket, prefix: str, key: kms.IKey) -> iam.Role:
        role = iam.Role(
            self,
            name,
            assumed_by=iam.ServicePrincipal(
                _SERVICE,
                conditions={
                    "StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID},
                    "ArnLike": {"aws:SourceArn": _arn("guardduty", "malware-protection-plan/*")},
                },
            ),
            description=f"GuardDuty scans {prefix}",
        )
        rules = _arn("events", _RULES)
        managed = {"StringEquals": {"events:ManagedBy": _SERVICE}}
        changing = ["events:DeleteRule", "events:PutRule", "events:PutTargets", "events:RemoveTargets"]
        for actions, resource, conditions in (
            (changing, rules, managed),
            (["events:DescribeRule", "events:ListTargetsByRule"], rules, {}),
            (["s3:GetBucketNotification", "s3:ListBucket", "s3:PutBucketNotification"], bucket.bucket_arn, {}),
            (["s3:PutObject"], bucket.arn_for_objects(_VALIDATION), {}),
            (["s3:GetObject", "s3:GetObjectVersion"], bucket.arn_for_objects(f"{prefix}*"), {}),
            (
                ["kms:Decrypt", "kms:GenerateDataKey"],
                key.key_arn,
                {"StringEquals": {"kms:ViaService": f"s3.{Aws.REGION}.amazonaws.com"}},
            ),
        ):
            role.add_to_policy(iam.PolicyStatement(actions=actions, resources=[resource], conditions=conditions))
        accept(
            role,
            "The service scans whatever is new below the prefix, and names its own rules with a suffix of its own",
            wildcard_below(bucket, f"/{prefix}*"),
            f"AwsSolutions-IAM5[Resource::{_finding('events', _RULES)}]",
        )
        accept(
            role, "The policy belongs to this role alone and is versioned with it", "HIPAA.Security-IAMNoInlinePolicy"
        )
        return role


def _arn(service: str, resource: str) -> str:
    return Fn.sub(f"arn:${{AWS::Partition}}:{service}:${{AWS::Region}}:${{AWS::AccountId}}:{resource}")


def _finding(service: str, resource: str) -> str:
    """The same ARN as cdk-nag writes it."""
    return f"arn:<AWS::Partition>:{service}:<AWS::Region>:<AWS::AccountId>:{resource}"
