"""Bring a subscription's log to its endpoint, in order, and judge the endpoint by its answers.

    requested   -> active   the handshake is answered 2xx
    requested   -> error    the handshake is answered otherwise, or not at all
    active      -> error    the last attempt at a notification failed
    either      -> off      the owner lost its rights

A patient feed has no handshake (IHE PMIR knows none): it is active as soon as it is looked at. Its messages carry
Patients as the subscriber may see them at that moment; what it may no longer see is not sent, and its number is spent.

Orders of one subscription never run at the same time (one message group), so the log is sent one entry at a
time. An entry whose acknowledgement could not be kept is sent again under the same number.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from urllib.parse import urlsplit

from passerelle.audit.model import AuditRecord
from passerelle.audit.ports import AuditTrail
from passerelle.authorization.model import Client
from passerelle.events import Event
from passerelle.identifiers import new_ulid
from passerelle.notifications.audience import is_entitled
from passerelle.notifications.model import (
    MAX_DELIVERY_ATTEMPTS,
    Channel,
    Content,
    Notification,
    NotificationKind,
    Subscription,
    SubscriptionStatus,
    UndeliveredError,
)
from passerelle.notifications.ports import NotificationPorts, PatientFeed, Renderer, Webhooks
from passerelle.notifications.signature import DELIVERY_HEADER, SIGNATURE_HEADER, sign

_LONGEST_PAUSE_SECONDS = 300


def longest_pause_seconds(attempt: int) -> int:
    """The bound of the random pause after attempt 1, 2, 3 ...: 1, 2, 4 ... seconds, capped."""
    return min(_LONGEST_PAUSE_SECONDS, 1 << (attempt - 1))


class Deliverer:
    """`feed` is called when a Patient has to be read: few subscriptions are to the feed."""

    def __init__(
        self,
        ports: NotificationPorts,
        *,
        webhooks: Webhooks,
        trail: AuditTrail,
        render: Renderer,
        feed: Callable[[], PatientFeed],
        spread: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._subscriptions = ports.subscriptions
        self._log = ports.log
        self._deliveries = ports.deliveries
        self._client_of = ports.client_of
        self._people = ports.people
        self._may_know = ports.may_know
        self._webhooks = webhooks
        self._trail = trail
        self._render = render
        self._feed = feed
        self._spread = spread

    def deliver(self, subscription_id: str, number: int, *, attempt: int, receipt: str, at: datetime) -> None:
        """Send what the log holds up to `number` and was not delivered; nothing in status `error` or `off`.

        `attempt` counts the receives of this order. Raises UndeliveredError when the endpoint refuses: the
        order has been postponed then, or, at the last attempt, the subscription set to `error`.
        """
        subscription = self._subscriptions.find(subscription_id)
        if subscription is None or subscription.status in (SubscriptionStatus.ERROR, SubscriptionStatus.OFF):
            return
        client = self._client_of(subscription.interest.owner)
        if not is_entitled(subscription.interest.owner, client):
            self._subscriptions.set_status(subscription, SubscriptionStatus.OFF, at)
            return
        if subscription.status is SubscriptionStatus.REQUESTED and not self._shake_hands(subscription, at):
            return
        try:
            for entry in self._log.between(subscription.id, subscription.delivered + 1, number):
                self._tell(subscription, client, entry, at)
                self._subscriptions.acknowledge(subscription, entry.number)
        except UndeliveredError as failure:
            if attempt < MAX_DELIVERY_ATTEMPTS:
                pause = self._spread(0, longest_pause_seconds(attempt))
                self._deliveries.postpone(receipt, math.ceil(pause))
            else:
                self._fail(subscription.id, failure, at)
            raise

    def _shake_hands(self, subscription: Subscription, at: datetime) -> bool:
        """Whether the endpoint acknowledged, at the first attempt: then it is `active`, else in `error`."""
        try:
            if subscription.channel is Channel.REST_HOOK:
                total = self._log.last_number(subscription.id)
                body = self._render(subscription, NotificationKind.HANDSHAKE, (), total, at)
                self._post(subscription, f"{subscription.id}.handshake", body, at)
        except UndeliveredError as failure:
            self._subscriptions.set_status(subscription, SubscriptionStatus.ERROR, at, error=_reported(failure))
            return False
        self._subscriptions.set_status(subscription, SubscriptionStatus.ACTIVE, at)
        return True

    def _tell(self, subscription: Subscription, client: Client | None, entry: Notification, at: datetime) -> None:
        """Send an entry as its receiver may know it now: without its event if that may no longer be seen.

        The number of a notification is still sent, so that its absence tells nothing either.
        """
        delivery = f"{subscription.id}.{entry.number}"
        event = entry.event if subscription.content is not Content.EMPTY else None
        person = self._people.find_person(event.patient) if event and event.patient else None
        if event is not None and not self._may_know(subscription.interest.owner, client, event, person, at):
            event = None
        if subscription.channel is Channel.REST_HOOK:
            active = replace(subscription, status=SubscriptionStatus.ACTIVE)
            shown = replace(entry, event=event)
            body = self._render(active, NotificationKind.EVENT, (shown,), entry.number, at)
        elif event is not None and person is not None:
            body = self._feed().message(subscription, event, person, delivery, at)
        else:
            return
        if event is not None:
            self._trail.append([_disclosure(subscription, event, delivery, at)])
        self._post(subscription, delivery, body, at)

    def _post(self, subscription: Subscription, delivery: str, body: bytes, at: datetime) -> None:
        headers = {
            **dict(subscription.headers),
            "Content-Type": subscription.payload,
            DELIVERY_HEADER: delivery,
            SIGNATURE_HEADER: sign(subscription.secret, delivery, body, at),
        }
        self._webhooks.post(subscription.endpoint, headers, body)

    def _fail(self, subscription_id: str, failure: UndeliveredError, at: datetime) -> None:
        current = self._subscriptions.find(subscription_id)
        if current is not None:
            self._subscriptions.set_status(current, SubscriptionStatus.ERROR, at, error=_reported(failure))


def _reported(failure: UndeliveredError) -> str:
    return f"the endpoint did not acknowledge: {failure.reason}"


def _disclosure(subscription: Subscription, event: Event, delivery: str, at: datetime) -> AuditRecord:
    """The record of telling the subscriber that a resource changed (law 5: stored before it is sent)."""
    owner = subscription.interest.owner
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
        address=_origin(subscription.endpoint),
        recipient=_origin(subscription.endpoint),
    )


def _origin(endpoint: str) -> str:
    """Where a notification goes, without what a path or query may tell."""
    target = urlsplit(endpoint)
    return f"{target.scheme}://{target.netloc.rpartition('@')[2]}"
