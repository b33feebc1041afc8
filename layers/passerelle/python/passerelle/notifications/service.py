"""What a subscriber does: subscribe, look at the subscription, end it, and catch up from its log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from passerelle.access import Request, Touched
from passerelle.audit.commands import account_of, once
from passerelle.audit.model import audit_of
from passerelle.errors import Forbidden, Invalid, NotFound, Unprocessable
from passerelle.identifiers import new_ulid
from passerelle.journal import Journal
from passerelle.notifications.audience import filter_of, may_learn, may_subscribe, topic_named
from passerelle.notifications.endpoint import parse_endpoint
from passerelle.notifications.model import (
    Content,
    Interest,
    Notification,
    Subscription,
    SubscriptionCreation,
    SubscriptionDeletion,
    SubscriptionDraft,
    SubscriptionStatus,
)
from passerelle.notifications.ports import NotificationPorts
from passerelle.notifications.signature import new_secret

MAX_EVENTS = 100
"""Log entries in one answer; the next are asked for from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaughtUp:
    """Part of a log, what it discloses, and the number of events since the start."""

    subscription: Subscription
    notifications: tuple[Notification, ...]
    total: int
    touched: Touched


class SubscriptionService:
    def __init__(self, ports: NotificationPorts, *, journal: Journal, allow_loopback: bool) -> None:
        self._subscriptions = ports.subscriptions
        self._log = ports.log
        self._deliveries = ports.deliveries
        self._clients = ports.clients
        self._people = ports.people
        self._journal = journal
        self._allow_loopback = allow_loopback

    def subscribe(self, request: Request, draft: SubscriptionDraft) -> Subscription:
        """Create the subscription in status `requested` and order its handshake.

        Raises Unprocessable (`not-supported`) for a topic, filter or endpoint that is not offered.
        """
        subscription = once(
            self._journal,
            request,
            lambda: self._subscribe(request, draft),
            lambda kept: self.get(request, kept["id"]),
        )
        # After the commit: should this fail, the caller repeats the request, and any event of the topic
        # orders too.
        self._deliveries.order(subscription.id, 0)
        return subscription

    def _subscribe(self, request: Request, draft: SubscriptionDraft) -> Subscription:
        if not may_subscribe(request.caller):
            raise Forbidden("this role may not subscribe")
        topic = topic_named(draft.topic)
        try:
            parse_endpoint(draft.endpoint, allow_loopback=self._allow_loopback)
        except ValueError:
            raise Unprocessable(
                "the endpoint must be a public https URL without credentials",
                code="not-supported",
                expression="Subscription.channel.endpoint",
            ) from None
        id_ = new_ulid(request.at)
        interest = Interest(
            subscription=id_,
            owner=request.caller,
            topic=topic,
            filter=filter_of(draft.criteria),
            since=request.at,
            until=draft.until,
        )
        subscription = Subscription(
            id=id_,
            version=1,
            at=request.at,
            status=SubscriptionStatus.REQUESTED,
            interest=interest,
            endpoint=draft.endpoint,
            headers=draft.headers,
            content=draft.content,
            secret=new_secret(),
            base_url=request.base_url,
            delivered=0,
            body=draft.body,
        )
        kept: Mapping[str, Any] = {"id": id_}
        self._journal.commit(
            [
                SubscriptionCreation(subscription=subscription),
                *account_of(request, _touched(subscription), kept),
            ]
        )
        return subscription

    def get(self, request: Request, id_: str) -> Subscription:
        """The caller's own subscription; anybody else's is NotFound."""
        subscription = self._subscriptions.find(id_)
        if subscription is None or subscription.interest.owner.client_id != request.caller.client_id:
            raise NotFound()
        return subscription

    def unsubscribe(self, request: Request, id_: str) -> None:
        """End the caller's own subscription; a notification under way may still arrive."""
        subscription = self.get(request, id_)
        self._journal.commit(
            [
                SubscriptionDeletion(subscription=subscription),
                *audit_of(request, _touched(subscription)),
            ]
        )

    def status(self, request: Request, id_: str) -> CaughtUp:
        subscription = self.get(request, id_)
        return CaughtUp(
            subscription=subscription,
            notifications=(),
            total=self._log.last_number(id_),
            touched=_touched(subscription),
        )

    def events(self, request: Request, id_: str, since: int, until: int | None, content: Content | None) -> CaughtUp:
        """The log from number `since` to `until`, both included, at most 100 entries.

        An event that the caller may not see now is there by its number only, as everything is in an `empty`
        answer.
        """
        subscription = self.get(request, id_)
        if since < 1 or (until is not None and until < since):
            raise Invalid("the range of event numbers is not valid", code="value")
        total = self._log.last_number(id_)
        entries = self._log.between(id_, since, min(until or total, total), limit=MAX_EVENTS)
        if (content or subscription.content) is Content.EMPTY:
            shown = [replace(entry, event=None) for entry in entries]
        else:
            shown = [self._visible(request, entry) for entry in entries]
        events = [entry.event for entry in shown if entry.event is not None]
        return CaughtUp(
            subscription=subscription,
            notifications=tuple(shown),
            total=total,
            touched=Touched.of(
                [event.patient for event in events if event.patient],
                [subscription.reference, *(event.reference for event in events)],
            ),
        )

    def _visible(self, request: Request, entry: Notification) -> Notification:
        event = entry.event
        if event is None:
            return entry
        client = self._clients.find(request.caller.client_id)
        person = self._people.find_person(event.patient) if event.patient else None
        return entry if may_learn(request.caller, client, event, person) else replace(entry, event=None)


def _touched(subscription: Subscription) -> Touched:
    """A subscription to one person's record shows in that person's access log."""
    patient = subscription.interest.filter.patient
    return Touched.of([patient] if patient else [], [subscription.reference])
