"""Each kind of resource, made with plain AWS calls that give it the properties it has in the template.

Contract: AWS CloudFormation template reference. Nested structures that CloudFormation and the API write the
same way are passed on as they are, so that botocore refuses what it does not know; the others are translated
name by name. A property that nobody takes is an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from local.intrinsics import TemplateError

Client = Any  # boto3 clients have no common type


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A resource that exists: what Ref and Fn::GetAtt give for it."""

    ref: str
    attributes: Mapping[str, str]


class Properties:
    """The resolved properties of one resource; `finish` raises TemplateError if one was not taken."""

    def __init__(self, owner: str, given: Mapping[str, Any]) -> None:
        self.owner = owner
        self._left = dict(given)

    def take(self, name: str, default: Any = None) -> Any:
        return self._left.pop(name, default)

    def part(self, name: str) -> Properties:
        """A nested structure, to be taken and finished like its owner; empty if it is not there."""
        return Properties(f"{self.owner}.{name}", self._left.pop(name, None) or {})

    def parts(self, name: str) -> Iterator[Properties]:
        for index, each in enumerate(self._left.pop(name, None) or []):
            yield Properties(f"{self.owner}.{name}[{index}]", each)

    def renamed(self, **names: str) -> dict[str, Any]:
        """What is there of these properties, under the API's names: `renamed(ID="Id")` gives Id as ID."""
        return {to: self._left.pop(name) for to, name in names.items() if name in self._left}

    def __bool__(self) -> bool:
        return bool(self._left)

    def finish(self) -> None:
        if self._left:
            names = ", ".join(sorted(self._left))
            raise TemplateError(f"{self.owner}: not implemented: {names}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """Where resources are made. `prefix` keeps the names of several stacks apart; `client` returns cached
    clients.

    `last` collects what can be done only when everything else is there.
    """

    client: Callable[[str], Client]
    prefix: str
    region: str
    account: str
    last: list[Callable[[], object]] = field(default_factory=list)

    def named(self, given: str) -> str:
        return f"{self.prefix}-{given}"

    def arn(self, service: str, resource: str) -> str:
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"


# Makes the resource, or, given the one that exists, brings the properties that may change up to date.
Maker = Callable[[Cloud, str, Properties, Made | None], Made]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """`fixed` names the properties that cannot change once data are there."""

    make: Maker
    fixed: frozenset[str]


KINDS: Final[dict[str, Kind]] = {}


def _makes(kind: str, *fixed: str) -> Callable[[Maker], Maker]:
    def register(make: Maker) -> Maker:
        KINDS[kind] = Kind(make=make, fixed=frozenset(fixed))
        return make

    return register


@_makes("AWS::KMS::Key", "KeySpec", "KeyUsage", "MultiRegion")
def _key(cloud: Cloud, name: str, given: Properties, existing: Made | None) -> Made:
    kms = cloud.client("kms")
    policy = json.dumps(given.take("KeyPolicy"))
    rotation = given.take("EnableKeyRotation", False)
    period = given.renamed(RotationPeriodInDays="RotationPeriodInDays")
    options = given.renamed(
        KeySpec="KeySpec", KeyUsage="KeyUsage", Description="Description", MultiRegion="MultiRegion"
    )
    if existing is None:
        metadata = kms.create_key(Policy=policy, **options)["KeyMetadata"]
        existing = Made(ref=metadata["KeyId"], attributes={"Arn": metadata["Arn"], "KeyId": metadata["KeyId"]})
    else:
        kms.put_key_policy(KeyId=existing.ref, PolicyName="default", Policy=policy)
    if rotation:
        kms.enable_key_rotation(KeyId=existing.ref, **period)
    return existing


@_makes("AWS::KMS::Alias")
def _alias(cloud: Cloud, name: str, given: Properties, existing: Made | None) -> Made:
    kms = cloud.client("kms")
    alias = f"alias/{cloud.named(str(given.take('AliasName')).removeprefix('alias/'))}"
    place = kms.create_alias if existing is None else kms.update_alias
    place(AliasName=alias, TargetKeyId=given.take("TargetKeyId"))
    return Made(ref=alias, attributes={})


@_makes("AWS::S3::Bucket", "ObjectLockEnabled")
def _bucket(cloud: Cloud, name: str, given: Properties, existing: Made | None) -> Made:
    s3 = cloud.client("s3")
    bucket = cloud.named(str(given.take("BucketName", name))).lower()
    locked = given.take("ObjectLockEnabled", False)
    if existing is None:
        s3.create_bucket(
            Bucket=bucket,
            CreateBucketConfiguration={"LocationConstraint": cloud.region},
            ObjectLockEnabledForBucket=locked,
        )
    if ownership := given.take("OwnershipControls"):
        s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=ownership)
    if block := given.take("PublicAccessBlockConfiguration"):
        s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=block)
    if encryption := given.part("BucketEncryption"):
        s3.put_bucket_encryption(
            Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": list(_encryption_rules(encryption))}
        )
        encryption.finish()
    if versioning := given.take("VersioningConfiguration"):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=versioning)
    if lock := given.take("ObjectLockConfiguration"):
        s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=lock)
    if lifecycle := given.part("LifecycleConfiguration"):
        rules = [_lifecycle_rule(rule) for rule in lifecycle.parts("Rules")]
        s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
        lifecycle.finish()
    if notification := given.part("NotificationConfiguration"):
        bus = notification.part("EventBridgeConfiguration")
        if bus.take("EventBridgeEnabled", True):
            s3.put_bucket_notification_configuration(
                Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
            )
        bus.finish()
        notification.finish()
    if logging := given.part("LoggingConfiguration"):
        target = {
            "TargetPrefix": "",
            **logging.renamed(TargetBucket="DestinationBucketName", TargetPrefix="LogFilePrefix"),
        }
        logging.finish()
        # The policy of the target comes first: it lets logs in, and names this bucket.
        cloud.last.append(partial(s3.put_bucket_logging, Bucket=bucket, BucketLoggingStatus={"LoggingEnabled": target}))
    return Made(
        ref=bucket,
        attributes={
            "Arn": f"arn:aws:s3:::{bucket}",
            "DomainName": f"{bucket}.s3.amazonaws.com",
            "RegionalDomainName": f"{bucket}.s3.{cloud.region}.amazonaws.com",
        },
    )


def _encryption_rules(encryption: Properties) -> Iterator[dict[str, Any]]:
    for rule in encryption.parts("ServerSideEncryptionConfiguration"):
        yield rule.renamed(
            ApplyServerSideEncryptionByDefault="ServerSideEncryptionByDefault",
            BucketKeyEnabled="BucketKeyEnabled",
        )
        rule.finish()


def _lifecycle_rule(rule: Properties) -> dict[str, Any]:
    translated = rule.renamed(
        ID="Id",
        Status="Status",
        AbortIncompleteMultipartUpload="AbortIncompleteMultipartUpload",
        NoncurrentVersionExpiration="NoncurrentVersionExpiration",
    )
    translated["Filter"] = {"Prefix": rule.take("Prefix", "")}
    if expiration := rule.renamed(Days="ExpirationInDays", ExpiredObjectDeleteMarker="ExpiredObjectDeleteMarker"):
        translated["Expiration"] = expiration
    for name, days in (("Transitions", "Days"), ("NoncurrentVersionTransitions", "NoncurrentDays")):
        steps = []
        for step in rule.parts(name):
            steps.append(step.renamed(StorageClass="StorageClass", **{days: "TransitionInDays"}))
            step.finish()
        if steps:
            translated[name] = steps
    rule.finish()
    return translated


@_makes("AWS::S3::BucketPolicy")
def _bucket_policy(cloud: Cloud, name: str, given: Properties, existing: Made | None) -> Made:
    """What the policy allows: moto denies whatever the condition says, and so what does not use TLS."""
    bucket, policy = given.take("Bucket"), given.take("PolicyDocument")
    allowed = [statement for statement in policy["Statement"] if statement["Effect"] == "Allow"]
    if allowed:
        document = json.dumps({**policy, "Statement": allowed})
        cloud.client("s3").put_bucket_policy(Bucket=bucket, Policy=document)
    return Made(ref=bucket, attributes={})


@_makes(
    "AWS::DynamoDB::Table",
    "TableName",
    "KeySchema",
    "AttributeDefinitions",
    "StreamSpecification",
    "BillingMode",
)
def _table(cloud: Cloud, name: str, given: Properties, existing: Made | None) -> Made:
    dynamodb = cloud.client("dynamodb")
    table = cloud.named(str(given.take("TableName", name)))
    options = given.renamed(
        KeySchema="KeySchema",
        AttributeDefinitions="AttributeDefinitions",
        BillingMode="BillingMode",
        TableClass="TableClass",
    )
    protection = given.renamed(DeletionProtectionEnabled="DeletionProtectionEnabled")
    if stream := given.take("StreamSpecification"):
        options["StreamSpecification"] = {"StreamEnabled": True, **stream}
    sse = given.part("SSESpecification")
    encryption = sse.renamed(Enabled="SSEEnabled", SSEType="SSEType", KMSMasterKeyId="KMSMasterKeyId")
    sse.finish()
    if existing is None:
        options |= {"SSESpecification": encryption} if encryption else {}
        described = dynamodb.create_table(TableName=table, **options, **protection)["TableDescription"]
        attributes = {"Arn": described["TableArn"], "StreamArn": described.get("LatestStreamArn", "")}
        existing = Made(ref=table, attributes=attributes)
    elif protection:
        dynamodb.update_table(TableName=table, **protection)
    if expiry := given.take("TimeToLiveSpecification"):
        current = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
        if (current.get("TimeToLiveStatus") == "ENABLED") != expiry["Enabled"]:
            dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=expiry)
    if recovery := given.take("PointInTimeRecoverySpecification"):
        dynamodb.update_continuous_backups(TableName=table, PointInTimeRecoverySpecification=recovery)
    return existing


@_makes("AWS::SQS::Queue", "FifoQueue")
def _queue(cloud: Cloud, name: str, given: Properties, existing: Made | None) -> Made:
    sqs = cloud.client("sqs")
    is_fifo = given.take("FifoQueue", False)
    queue = cloud.named(str(given.take("QueueName", name)).removesuffix(".fifo")) + (".fifo" if is_fifo else "")
    settings = given.renamed(**{attribute: attribute for attribute in _QUEUE_ATTRIBUTES})
    attributes = {attribute: _as_text(value) for attribute, value in settings.items()}
    if existing is None:
        fifo = {"FifoQueue": "true"} if is_fifo else {}
        url = sqs.create_queue(QueueName=queue, Attributes={**attributes, **fifo})["QueueUrl"]
    else:
        url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)
    return Made(ref=url, attributes={"Arn": cloud.arn("sqs", queue), "QueueName": queue, "QueueUrl": url})


_QUEUE_ATTRIBUTES = (
    "ContentBasedDeduplication",
    "DeduplicationScope",
    "DelaySeconds",
    "FifoThroughputLimit",
    "KmsDataKeyReusePeriodSeconds",
    "KmsMasterKeyId",
    "MaximumMessageSize",
    "MessageRetentionPeriod",
    "ReceiveMessageWaitTimeSeconds",
    "RedriveAllowPolicy",
    "RedrivePolicy",
    "SqsManagedSseEnabled",
    "VisibilityTimeout",
)


def _as_text(value: Any) -> str:
    """A property as an SQS attribute; those of the API are all strings."""
    return value if isinstance(value, str) else json.dumps(value)


@_makes("AWS::SQS::QueuePolicy")
def _queue_policy(cloud: Cloud, name: str, given: Properties, existing: Made | None) -> Made:
    policy = json.dumps(given.take("PolicyDocument"))
    for url in given.take("Queues"):
        cloud.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    return Made(ref=name, attributes={})


@_makes("AWS::Events::EventBus")
def _bus(cloud: Cloud, name: str, given: Properties, existing: Made | None) -> Made:
    bus = cloud.named(given.take("Name"))
    options = given.renamed(
        KmsKeyIdentifier="KmsKeyIdentifier", Description="Description", DeadLetterConfig="DeadLetterConfig"
    )
    if existing is None:
        cloud.client("events").create_event_bus(Name=bus, **options)
    else:
        cloud.client("events").update_event_bus(Name=bus, **options)
    return Made(ref=bus, attributes={"Arn": cloud.arn("events", f"event-bus/{bus}"), "Name": bus})


@_makes("AWS::Events::Rule", "EventBusName")
def _rule(cloud: Cloud, name: str, given: Properties, existing: Made | None) -> Made:
    events = cloud.client("events")
    rule, bus = cloud.named(str(given.take("Name", name))), given.take("EventBusName", "default")
    options = given.renamed(Description="Description", State="State")
    pattern = json.dumps(given.take("EventPattern"))
    events.put_rule(Name=rule, EventBusName=bus, EventPattern=pattern, **options)
    if targets := given.take("Targets"):
        refused = events.put_targets(Rule=rule, EventBusName=bus, Targets=targets)["FailedEntries"]
        if refused:
            raise TemplateError(f"{given.owner}: targets refused: {refused}")
    return Made(ref=rule, attributes={"Arn": cloud.arn("events", f"rule/{bus}/{rule}")})


@_makes("AWS::Events::Archive", "SourceArn")
def _archive(cloud: Cloud, name: str, given: Properties, existing: Made | None) -> Made:
    events = cloud.client("events")
    archive = cloud.named(str(given.take("ArchiveName", name)))[:48]
    options = given.renamed(
        Description="Description", RetentionDays="RetentionDays", KmsKeyIdentifier="KmsKeyIdentifier"
    )
    if pattern := given.take("EventPattern"):
        options["EventPattern"] = json.dumps(pattern)
    source = given.take("SourceArn")
    if existing is None:
        events.create_archive(ArchiveName=archive, EventSourceArn=source, **options)
    else:
        events.update_archive(ArchiveName=archive, **options)
    return Made(ref=archive, attributes={"Arn": cloud.arn("events", f"archive/{archive}")})


@_makes("AWS::SecretsManager::Secret")
def _secret(cloud: Cloud, name: str, given: Properties, existing: Made | None) -> Made:
    secrets = cloud.client("secretsmanager")
    secret = cloud.named(str(given.take("Name", name)))
    options = given.renamed(Description="Description", KmsKeyId="KmsKeyId")
    generated = given.part("GenerateSecretString")
    recipe = generated.renamed(
        PasswordLength="PasswordLength",
        ExcludeCharacters="ExcludeCharacters",
        ExcludeLowercase="ExcludeLowercase",
        ExcludeNumbers="ExcludeNumbers",
        ExcludePunctuation="ExcludePunctuation",
        ExcludeUppercase="ExcludeUppercase",
        IncludeSpace="IncludeSpace",
        RequireEachIncludedType="RequireEachIncludedType",
    )
    generated.finish()
    if existing is not None:
        secrets.update_secret(SecretId=existing.ref, **options)
        return existing
    value = secrets.get_random_password(**recipe)["RandomPassword"]
    arn = secrets.create_secret(Name=secret, SecretString=value, **options)["ARN"]
    return Made(ref=arn, attributes={"Id": arn})


@_makes("AWS::SNS::Topic", "FifoTopic")
def _topic(cloud: Cloud, name: str, given: Properties, existing: Made | None) -> Made:
    topic = cloud.named(str(given.take("TopicName", name)))
    attributes = given.renamed(DisplayName="DisplayName", KmsMasterKeyId="KmsMasterKeyId")
    arn = cloud.client("sns").create_topic(Name=topic, Attributes=attributes)["TopicArn"]
    return Made(ref=arn, attributes={"TopicArn": arn, "TopicName": topic})


@_makes("AWS::SNS::TopicPolicy")
def _topic_policy(cloud: Cloud, name: str, given: Properties, existing: Made | None) -> Made:
    policy = json.dumps(given.take("PolicyDocument"))
    for arn in given.take("Topics"):
        cloud.client("sns").set_topic_attributes(TopicArn=arn, AttributeName="Policy", AttributeValue=policy)
    return Made(ref=name, attributes={})
