"""The way of an event: bus and archive, queue `events`, queue `deliveries`; dead letters behind each step.

The queue `scans` has reports of the malware scanner, which come by the default bus (`scanning.py`).

Events carry opaque ids and no health data, so that the bus and the queues use the key of operations.
"""

from __future__ import annotations

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.findings import accept
from infra.functions import FUNCTIONS
from infra.functions import Queue as QueueTrigger
from infra.keys import Keys
from infra.settings import StageSettings
from passerelle.aws.bus import SOURCE
from passerelle.aws.documents import PREFIX
from passerelle.events import EventName
from passerelle.notifications.model import MAX_RECEIVES

EVERYTHING = {"source": [SOURCE]}
_RECEIVES = 6  # of a message that fails each time; then it is a dead letter
_KEPT_DEAD = Duration.days(14)  # the longest that SQS offers


class Notifications(Construct):
    def __init__(self, scope: Construct, construct_id: str, *, settings: StageSettings, keys: Keys) -> None:
        super().__init__(scope, construct_id)
        self._key = keys.operations
        self.dead: dict[str, sqs.Queue] = {}
        # Not events.EventBus and Archive: with a key, they tie bus and key into a circle.
        self.bus = events.CfnEventBus(
            self,
            "Bus",
            name=settings.bus_name,
            description="facts about records",
            kms_key_identifier=keys.operations.key_arn,
        )
        archive = events.CfnArchive(
            self,
            "Archive",
            source_arn=self.bus.attr_arn,
            event_pattern=EVERYTHING,
            retention_days=settings.archive_days,
            kms_key_identifier=keys.operations.key_arn,
        )
        archive.apply_removal_policy(RemovalPolicy.RETAIN if settings.keeps_data else RemovalPolicy.DESTROY)
        self.events = self._queue("events")
        self.deliveries = self._queue("deliveries", fifo=True, receives=MAX_RECEIVES)
        self.scans = self._queue("scans")
        # A minute of new leaves is over when it is sealed, and what the clocks of two machines differ by.
        self.seals = self._queue("seals", fifo=True, delay=Duration.seconds(65))
        # When a message arrives, no commit can be on its way any more: a function has half a minute.
        self.contents = self._queue("contents", delay=Duration.minutes(15))
        self.erasures = self._queue("erasures")
        self.reminders = self._queue("reminders")
        self.watches = self._queue("watches")
        self.reconciliations = self._queue("reconciliations")
        self.queues = {
            "watches": self.watches,
            "reconciliations": self.reconciliations,
            "erasures": self.erasures,
            "reminders": self.reminders,
            "events": self.events,
            "deliveries": self.deliveries,
            "scans": self.scans,
            "contents": self.contents,
            "seals": self.seals,
        }
        dead = self._dead_letter_queue("outbox")  # what the relay could not put on the bus
        accept(dead, "It is the dead-letter queue of a stream", "AwsSolutions-SQS3")
        unappended = self._dead_letter_queue("append")  # what could not be put into the verifiable log
        accept(unappended, "It is the dead-letter queue of a stream", "AwsSolutions-SQS3")
        self._rule()

    def _queue(
        self, name: str, *, fifo: bool = False, delay: Duration | None = None, receives: int = _RECEIVES
    ) -> sqs.Queue:
        consumer = next(
            spec for spec in FUNCTIONS if isinstance(spec.trigger, QueueTrigger) and spec.trigger.name == name
        )
        return sqs.Queue(
            self,
            name.capitalize(),
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=self._key,
            enforce_ssl=True,
            # Six times the function's timeout (AWS Lambda developer guide), for batches that were throttled.
            visibility_timeout=Duration.seconds(6 * consumer.timeout_seconds),
            delivery_delay=delay,
            retention_period=Duration.days(4),
            dead_letter_queue=sqs.DeadLetterQueue(
                queue=self._dead_letter_queue(name, fifo=fifo),
                max_receive_count=receives,
            ),
            fifo=True if fifo else None,
            content_based_deduplication=False if fifo else None,
            # One message group per subscription: a slow subscriber slows nobody else.
            deduplication_scope=sqs.DeduplicationScope.MESSAGE_GROUP if fifo else None,
            fifo_throughput_limit=sqs.FifoThroughputLimit.PER_MESSAGE_GROUP_ID if fifo else None,
        )

    def _dead_letter_queue(self, name: str, *, fifo: bool = False) -> sqs.Queue:
        queue = sqs.Queue(
            self,
            f"{name.capitalize()}Dead",
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=self._key,
            enforce_ssl=True,
            retention_period=_KEPT_DEAD,
            fifo=True if fifo else None,
        )
        self.dead[name] = queue
        return queue

    def follow_contents(self, bucket: s3.Bucket) -> None:
        """Tell `sweep` of every content that is stored; S3 tells the default bus."""
        rule = events.CfnRule(
            self,
            "ToContents",
            description="every new content to the queue of sweep",
            event_pattern={
                "source": ["aws.s3"],
                "detail-type": ["Object Created"],
                "detail": {"bucket": {"name": [bucket.bucket_name]}, "object": {"key": [{"prefix": PREFIX}]}},
            },
            state="ENABLED",
        )
        deliver(rule, self.contents, self.dead["contents"])

    def _rule(self) -> None:
        """Bus to queue."""
        rule = events.CfnRule(
            self,
            "ToEvents",
            description="every event to the queue of dispatch",
            event_bus_name=self.bus.ref,
            event_pattern=EVERYTHING,
            state="ENABLED",
        )
        deliver(rule, self.events, self.dead["events"])
        erased = events.CfnRule(
            self,
            "ToErasures",
            description="every person whose erasure was decided to the queue of erase",
            event_bus_name=self.bus.ref,
            event_pattern={**EVERYTHING, "detail-type": [EventName.ERASED.value]},
            state="ENABLED",
        )
        deliver(erased, self.erasures, self.dead["erasures"])


def deliver(rule: events.CfnRule, queue: sqs.Queue, dead: sqs.Queue) -> None:
    """Send what a rule matches to a queue. EventBridge's dead letters have the form of the queue's, and join them."""
    rule.targets = [
        events.CfnRule.TargetProperty(
            id="queue",
            arn=queue.queue_arn,
            dead_letter_config=events.CfnRule.DeadLetterConfigProperty(arn=dead.queue_arn),
        )
    ]
    for each in (queue, dead):
        each.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("events.amazonaws.com")],
                actions=["sqs:SendMessage"],
                resources=[each.queue_arn],
                conditions={"ArnEquals": {"aws:SourceArn": rule.attr_arn}},
            )
        )
