"""To a queue of a partner's own AWS account: what a webhook is posted, as a message.

The signature goes with it, so that the partner can tell what the exchange sent from what somebody else put there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from passerelle.notifications.carriers import delivery_id, signature
from passerelle.notifications.model import (
    Content,
    Notification,
    NotificationKind,
    Subscription,
    UndeliveredError,
)
from passerelle.notifications.ports import Renderer
from passerelle.notifications.signature import DELIVERY_HEADER, SIGNATURE_HEADER


class TooLongError(Exception):
    """The queue takes no message of this size."""


class PartnerQueues(Protocol):
    def send(self, arn: str, body: str, attributes: Mapping[str, str], *, group: str, delivery: str) -> None:
        """One message; in order within a group, and once per delivery, where the queue is one of that kind.

        Raises TooLongError, UndeliveredError.
        """


class QueueCarrier:
    """`notifications.ports.Carrier`. `given` are the queues (ARN) that clients have now, by the client's id."""

    def __init__(self, queues: PartnerQueues, *, render: Renderer, given: frozenset[tuple[str, str]]) -> None:
        self._queues = queues
        self._render = render
        self._given = given

    def tell(
        self,
        subscription: Subscription,
        kind: NotificationKind,
        entries: Sequence[Notification],
        total: int,
        at: datetime,
    ) -> None:
        """What is too long for the queue is told by its id. A queue may be another client's by now."""
        if (subscription.interest.owner.client_id, subscription.endpoint) not in self._given:
            raise UndeliveredError("the queue is no longer given", is_final=True, is_answer=True)
        try:
            self._send(subscription, kind, entries, total, at)
        except TooLongError:
            without = [replace(entry, resource=None) for entry in entries]
            self._send(replace(subscription, content=Content.ID_ONLY), kind, without, total, at)

    def _send(
        self,
        subscription: Subscription,
        kind: NotificationKind,
        entries: Sequence[Notification],
        total: int,
        at: datetime,
    ) -> None:
        delivery = delivery_id(subscription, kind, entries, at)
        body = self._render(subscription, kind, entries, total, at)
        attributes = {
            DELIVERY_HEADER: delivery,
            SIGNATURE_HEADER: signature(subscription, delivery, body, at),
        }
        self._queues.send(subscription.endpoint, body.decode(), attributes, group=subscription.id, delivery=delivery)
