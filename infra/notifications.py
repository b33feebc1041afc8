"""The way of an event: bus and archive, queue `events`, queue `deliveries`; dead letters behind each step.

Events carry opaque ids and no health data, so that the bus and the queues use the key of operations.
"""

from __future__ import annotations

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.findings import accept
from infra.functions import FUNCTIONS
from infra.functions import Queue as QueueTrigger
from infra.keys import Keys
from infra.settings import StageSettings
from passerelle.aws.bus import SOURCE
from passerelle.notifications.model import MAX_DELIVERY_ATTEMPTS

EVERYTHING = {"source": [SOURCE]}
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
        self.deliveries = self._queue("deliveries", fifo=True)
        self.queues = {"events": self.events, "deliveries": self.deliveries}
        dead = self._dead_letter_queue("outbox")  # what the relay could not put on the bus
        accept(dead, "It is the dead-letter queue of a stream", "AwsSolutions-SQS3")
        self._rule()

    def _queue(self, name: str, *, fifo: bool = False) -> sqs.Queue:
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
            retention_period=Duration.days(4),
            dead_letter_queue=sqs.DeadLetterQueue(
                queue=self._dead_letter_queue(name, fifo=fifo),
                max_receive_count=MAX_DELIVERY_ATTEMPTS,
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

    def _rule(self) -> None:
        """Bus to queue. EventBridge's dead letters have the form of the queue's, and join them."""
        dead = self.dead["events"]
        rule = events.CfnRule(
            self,
            "ToEvents",
            description="every event to the queue of dispatch",
            event_bus_name=self.bus.ref,
            event_pattern=EVERYTHING,
            state="ENABLED",
            targets=[
                events.CfnRule.TargetProperty(
                    id="events",
                    arn=self.events.queue_arn,
                    dead_letter_config=events.CfnRule.DeadLetterConfigProperty(arn=dead.queue_arn),
                )
            ],
        )
        for queue in (self.events, dead):
            queue.add_to_resource_policy(
                iam.PolicyStatement(
                    principals=[iam.ServicePrincipal("events.amazonaws.com")],
                    actions=["sqs:SendMessage"],
                    resources=[queue.queue_arn],
                    conditions={"ArnEquals": {"aws:SourceArn": rule.attr_arn}},
                )
            )
