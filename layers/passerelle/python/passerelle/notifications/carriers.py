"""Webhooks: what a notification is on its way there, and how it is signed (`notifications.ports.Carrier`).

A topic's subscriber is told in Bundles (Subscriptions R5 Backport), a patient feed's in messages (IHE PMIR, ITI-93).
Which of them may be known, when, and what follows from the answer is decided in `delivery.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from passerelle.notifications.model import Notification, NotificationKind, Subscription
from passerelle.notifications.ports import Feed, People, Renderer, Webhooks
from passerelle.notifications.signature import DELIVERY_HEADER, SIGNATURE_HEADER, sign


def delivery_id(
    subscription: Subscription, kind: NotificationKind, entries: Sequence[Notification], at: datetime
) -> str:
    """The same for every attempt at the same entries; each heartbeat has its own."""
    match kind, entries:
        case NotificationKind.HANDSHAKE, _:
            return f"{subscription.id}.handshake"
        case NotificationKind.HEARTBEAT, _:
            return f"{subscription.id}.heartbeat-{int(at.timestamp())}"
        case _, [only]:
            return f"{subscription.id}.{only.number}"
        case _:
            return f"{subscription.id}.{entries[0].number}-{entries[-1].number}"


def signature(subscription: Subscription, delivery: str, body: bytes, at: datetime) -> str:
    """By the secret of the subscription, and by the former one for as long as that is good."""
    secrets = [subscription.secret]
    if subscription.former_secret and subscription.former_until and at < subscription.former_until:
        secrets.append(subscription.former_secret)
    return sign(secrets, delivery, body, at)


def signed(subscription: Subscription, delivery: str, body: bytes, at: datetime) -> Mapping[str, str]:
    """The headers of a notification: the subscriber's own, and ours."""
    return {
        **dict(subscription.headers),
        "Content-Type": subscription.payload,
        DELIVERY_HEADER: delivery,
        SIGNATURE_HEADER: signature(subscription, delivery, body, at),
    }


class WebhookCarrier:
    """Tells a topic's subscriber."""

    def __init__(self, webhooks: Webhooks, *, render: Renderer) -> None:
        self._webhooks = webhooks
        self._render = render

    def tell(
        self,
        subscription: Subscription,
        kind: NotificationKind,
        entries: Sequence[Notification],
        total: int,
        at: datetime,
    ) -> None:
        body = self._render(subscription, kind, entries, total, at)
        headers = signed(subscription, delivery_id(subscription, kind, entries, at), body, at)
        self._webhooks.post(subscription.endpoint, headers, body)


class FeedCarrier:
    """Tells a consumer of the patient feed, which knows neither handshakes nor heartbeats.

    A message carries one Patient; of an entry that may not be known none is sent. `feed` is called when a Patient has
    to be read: few subscriptions are to the feed.
    """

    def __init__(self, webhooks: Webhooks, *, people: People, feed: Callable[[], Feed]) -> None:
        self._webhooks = webhooks
        self._people = people
        self._feed = feed

    def tell(
        self,
        subscription: Subscription,
        kind: NotificationKind,
        entries: Sequence[Notification],
        total: int,
        at: datetime,
    ) -> None:
        if kind is not NotificationKind.EVENT:
            return
        for entry in entries:
            event = entry.event
            person = self._people.find_person(event.patient) if event and event.patient else None
            if event is not None and person is not None:
                delivery = delivery_id(subscription, kind, (entry,), at)
                body = self._feed().message(subscription, event, person, delivery, at)
                if body is None:
                    continue
                self._webhooks.post(subscription.endpoint, signed(subscription, delivery, body, at), body)
