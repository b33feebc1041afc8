"""The event bus on EventBridge, and the queue of deliveries on SQS.

Contract relied on: PutEvents takes ten entries and answers 200 even if some were not taken; an SQS FIFO queue
holds back a message group while one of its messages is in flight, and drops what has a deduplication id that
it saw within five minutes. An entry here is a few hundred bytes, far below any limit of size.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from passerelle.aws.dynamodb import aws_errors, count, in_parallel
from passerelle.aws.journal import event_to_map
from passerelle.errors import Unavailable
from passerelle.events import Event
from passerelle.notifications.ports import EVENTS_AT_ONCE

SOURCE = "passerelle"


class EventBridgeBus:
    """`notifications.ports.EventBus`: detail-type is the event's name, detail its wire form."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    def publish(self, events: Sequence[Event]) -> None:
        entries = [
            {
                "EventBusName": self._name,
                "Source": SOURCE,
                "DetailType": event.name.value,
                "Detail": json.dumps(event_to_map(event), separators=(",", ":")),
                "Time": event.at,
            }
            for event in events
        ]
        batches = [entries[start : start + EVENTS_AT_ONCE] for start in range(0, len(entries), EVENTS_AT_ONCE)]
        in_parallel(*(lambda batch=batch: self._put(batch) for batch in batches))

    def _put(self, entries: Sequence[dict[str, Any]]) -> None:
        count("PutEvents")
        with aws_errors():
            answer = self._client.put_events(Entries=entries)
        if answer["FailedEntryCount"]:
            raise Unavailable("the bus did not take every event")


class SqsDeliveries:
    """`notifications.ports.Deliveries`: one message group per subscription, so that its orders wait for each other.

    What must not wait for an order that was put off, an urgent one and a heartbeat, has a group of its own.
    """

    def __init__(self, client: Any, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def order(self, subscription: str, delivered: int, *, urgent: bool = False) -> None:
        if urgent:
            self._send(
                {"subscription": subscription, "urgent": True}, f"{subscription}!", f"{subscription}#{delivered}!"
            )
        else:
            self._send({"subscription": subscription}, subscription, f"{subscription}#{delivered}")

    def start(self, subscription: str, version: int) -> None:
        self._send({"subscription": subscription}, subscription, f"{subscription}#start#{version}")

    def beat(self, subscription: str) -> None:
        # Each is another: the clock that asks for them may do so a moment before five minutes are over.
        self._send(
            {"subscription": subscription, "heartbeat": True}, f"{subscription}~", f"{subscription}#{uuid.uuid4()}"
        )

    def _send(self, order: dict[str, Any], group: str, deduplication_id: str) -> None:
        count("SendMessage")
        with aws_errors():
            self._client.send_message(
                QueueUrl=self._queue_url,
                MessageBody=json.dumps(order),
                MessageGroupId=group,
                MessageDeduplicationId=deduplication_id,
            )

    def postpone(self, receipt: str, seconds: int) -> None:
        count("ChangeMessageVisibility")
        with aws_errors():
            self._client.change_message_visibility(
                QueueUrl=self._queue_url, ReceiptHandle=receipt, VisibilityTimeout=seconds
            )
