"""Bring a subscription's log to its endpoint, in order, and judge the endpoint by its answers.

    requested   -> active   the handshake is answered 2xx
    requested   -> error    the handshake is answered otherwise, or not at all
    active      -> error    the last attempt at a notification failed
    either      -> off      the owner lost its rights

Orders of one subscription never run at the same time (one message group), so the log is sent one entry at a
time. An entry whose acknowledgement could not be kept is sent again under the same number.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from passerelle.audit.model import AuditRecord
from passerelle.audit.ports import AuditTrail
from passerelle.authorization.model import Client
from passerelle.identifiers import new_ulid
from passerelle.notifications.audience import is_entitled, may_learn
from passerelle.notifications.model import (
    MAX_DELIVERY_ATTEMPTS,
    Content,
    Notification,
    NotificationKind,
    Subscription,
    SubscriptionStatus,
    UndeliveredError,
)
from passerelle.notifications.ports import NotificationPorts, Renderer, Webhooks
from passerelle.notifications.signature import DELIVERY_HEADER, SIGNATURE_HEADER, sign

_LONGEST_PAUSE_SECONDS = 300


def longest_pause_seconds(attempt: int) -> int:
    """The bound of the random pause after attempt 1, 2, 3 ...: 1, 2, 4 ... seconds, capped."""
    return min(_LONGEST_PAUSE_SECONDS, 1 << (attempt - 1))


class Deliverer:
    def __init__(
        self,
        ports: NotificationPorts,
        *,
        webhooks: Webhooks,
        trail: AuditTrail,
        render: Renderer,
        spread: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._subscriptions = ports.subscriptions
        self._log = ports.log
        self._deliveries = ports.deliveries
        self._clients = ports.clients
        self._people = ports.people
        self._webhooks = webhooks
        self._trail = trail
        self._render = render
        self._spread = spread

    def deliver(self, subscription_id: str, number: int, *, attempt: int, receipt: str, at: datetime) -> None:
        """Send what the log holds up to `number` and was not delivered; nothing in status `error` or `off`.

        `attempt` counts the receives of this order. Raises UndeliveredError when the endpoint refuses: the
        order has been postponed then, or, at the last attempt, the subscription set to `error`.
        """
        subscription = self._subscriptions.find(subscription_id)
        if subscription is None or subscription.status in (SubscriptionStatus.ERROR, SubscriptionStatus.OFF):
            return
        client = self._clients.find(subscription.interest.owner.client_id)
        if not is_entitled(subscription.interest.owner, client):
            self._subscriptions.set_status(subscription, SubscriptionStatus.OFF, at)
            return
        if subscription.status is SubscriptionStatus.REQUESTED and not self._shake_hands(subscription, at):
            return
        try:
            for entry in self._log.between(subscription.id, subscription.delivered + 1, number):
                self._notify(subscription, self._visible(subscription, client, entry), at)
                self._subscriptions.acknowledge(subscription, entry.number)
        except UndeliveredError:
            if attempt < MAX_DELIVERY_ATTEMPTS:
                pause = self._spread(0, longest_pause_seconds(attempt))
                self._deliveries.postpone(receipt, math.ceil(pause))
            else:
                self._fail(subscription.id, at)
            raise

    def _shake_hands(self, subscription: Subscription, at: datetime) -> bool:
        """Whether the endpoint acknowledged, at the first attempt: then it is `active`, else in `error`."""
        try:
            total = self._log.last_number(subscription.id)
            body = self._render(subscription, NotificationKind.HANDSHAKE, (), total, at)
            self._post(subscription, f"{subscription.id}.handshake", body, at)
        except UndeliveredError:
            self._subscriptions.set_status(subscription, SubscriptionStatus.ERROR, at)
            return False
        self._subscriptions.set_status(subscription, SubscriptionStatus.ACTIVE, at)
        return True

    def _visible(self, subscription: Subscription, client: Client | None, entry: Notification) -> Notification:
        """The entry as its receiver may know it now: without its event if that may no longer be seen.

        The number is still sent, so that its absence tells nothing either.
        """
        event = entry.event
        if event is None or subscription.content is Content.EMPTY:
            return replace(entry, event=None)
        person = self._people.find_person(event.patient) if event.patient else None
        if may_learn(subscription.interest.owner, client, event, person):
            return entry
        return replace(entry, event=None)

    def _notify(self, subscription: Subscription, entry: Notification, at: datetime) -> None:
        active = replace(subscription, status=SubscriptionStatus.ACTIVE)
        body = self._render(active, NotificationKind.EVENT, (entry,), entry.number, at)
        delivery = f"{subscription.id}.{entry.number}"
        if entry.event is not None:
            self._trail.append([_disclosure(subscription, entry, delivery, at)])
        self._post(subscription, delivery, body, at)

    def _post(self, subscription: Subscription, delivery: str, body: bytes, at: datetime) -> None:
        headers = {
            **dict(subscription.headers),
            "Content-Type": "application/fhir+json",
            DELIVERY_HEADER: delivery,
            SIGNATURE_HEADER: sign(subscription.secret, delivery, body, at),
        }
        self._webhooks.post(subscription.endpoint, headers, body)

    def _fail(self, subscription_id: str, at: datetime) -> None:
        current = self._subscriptions.find(subscription_id)
        if current is not None:
            self._subscriptions.set_status(current, SubscriptionStatus.ERROR, at)


def _disclosure(subscription: Subscription, entry: Notification, delivery: str, at: datetime) -> AuditRecord:
    """The record of telling the subscriber that a resource changed (law 5: stored before it is sent)."""
    owner = subscription.interest.owner
    event = entry.event
    assert event is not None
    return AuditRecord(
        id=f"{event.patient}-{new_ulid(at)}" if event.patient else new_ulid(at),
        at=at,
        name="notification",
        action="R",
        outcome="0",
        client_id=owner.client_id,
        organisation=owner.organisation,
        role=owner.role,
        professional=owner.professional,
        token_id=owner.token_id,
        request_id=delivery,
        patient=event.patient,
        references=(event.reference, subscription.reference),
    )
