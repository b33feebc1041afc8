"""What topics tell, as FHIR: HL7 Subscriptions R5 Backport 1.2.0-ballot, on R4.

A notification is a Bundle of type history that starts with a Parameters resource, the status of the subscription. Its
entries are by content: none (`empty`), where the resource is (`id-only`), the resource (`full-resource`). Where there
is none to tell any more, or no room for it, the entry says where it is, or was; of an erased person, `DELETE`.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from passerelle.errors import Invalid
from passerelle.events import Event, EventName
from passerelle.fhir import json as fhir_json
from passerelle.fhir.dates import instant
from passerelle.fhir.parameters import parameters_of
from passerelle.fhir.subscription import BACKPORT, FHIR_XML
from passerelle.notifications.model import (
    Content,
    Notification,
    NotificationKind,
    Subscription,
    SubscriptionStatus,
)
from passerelle.notifications.service import CaughtUp
from passerelle.notifications.topics import TOPIC_ROOT

_SCALARS = ("valueCode", "valueId", "valueInteger", "valuePositiveInt", "valueString", "valueUnsignedInt")


def render_notification(
    subscription: Subscription,
    kind: NotificationKind,
    notifications: Sequence[Notification],
    total: int,
    at: datetime,
) -> bytes:
    """`notifications.ports.Renderer`, in the subscription's `payload`; the same arguments give the same bytes."""
    bundle = notification_bundle(subscription, kind, notifications, total, at)
    if subscription.payload == FHIR_XML:
        from passerelle.fhir import xml as fhir_xml  # few subscribers ask for XML

        return fhir_xml.dumps(bundle)
    return fhir_json.dumps(bundle)


def notification_bundle(
    subscription: Subscription,
    kind: NotificationKind,
    notifications: Sequence[Notification],
    total: int,
    at: datetime,
    *,
    content: Content | None = None,
) -> dict[str, Any]:
    """`content` is how much of the events is told, by default what the subscription asked for."""
    content = content or subscription.content
    if content is Content.EMPTY:
        notifications = [replace(each, event=None) for each in notifications]
    status = _status(subscription, kind, notifications, total)
    request = {"method": "GET", "url": f"{subscription.base_url}/{subscription.reference}/$status"}
    return {
        "resourceType": "Bundle",
        "meta": {"profile": [BACKPORT + "backport-subscription-notification-r4"]},
        "type": "history",
        "timestamp": instant(at),
        "entry": [
            {
                "fullUrl": f"urn:uuid:{status['id']}",
                "resource": status,
                "request": request,
                "response": {"status": "200"},
            },
            *(
                _focus_entry(subscription, each, each.event, is_full=content is Content.FULL_RESOURCE)
                for each in notifications
                if each.event is not None
            ),
        ],
    }


def events_bundle(asked: CaughtUp, at: datetime) -> dict[str, Any]:
    """The answer to `$events`."""
    return notification_bundle(
        asked.subscription, NotificationKind.QUERY_EVENT, asked.notifications, asked.total, at, content=asked.content
    )


def status_bundle(asked: Sequence[CaughtUp], at: datetime, *, self_url: str) -> dict[str, Any]:
    """The answer to `$status`."""
    statuses = [
        _status(each.subscription, NotificationKind.QUERY_STATUS, (), each.total, _errors(each.subscription))
        for each in asked
    ]
    entries = [
        {"fullUrl": f"urn:uuid:{each['id']}", "resource": each, "search": {"mode": "match"}} for each in statuses
    ]
    return {
        "resourceType": "Bundle",
        "type": "searchset",
        "timestamp": instant(at),
        "total": len(entries),
        "link": [{"relation": "self", "url": self_url}],
        **({"entry": entries} if entries else {}),
    }


# --- what is asked for ------------------------------------------------------------------------------------------------


def asked_in(body: Any) -> list[tuple[str, str]]:
    """The arguments of `$status` or `$events` in Parameters, as a query has them; raises Invalid."""
    found = []
    for position, each in enumerate(parameters_of(body)):
        name = each.get("name")
        value = next((each[kind] for kind in _SCALARS if kind in each), None)
        if not isinstance(name, str) or not isinstance(value, str | int) or isinstance(value, bool):
            place = f"Parameters.parameter[{position}]"
            raise Invalid("a name with a code, id, number or string is expected", code="value", expression=place)
        found.append((name, str(value)))
    return found


def parse_range(one: Callable[[str], str | None]) -> tuple[int, int | None, Content | None]:
    """(first, last, content) asked of `$events`, from a reader of single parameters; raises Invalid."""

    def number(name: str) -> int | None:
        text = one(name)
        if text is not None and not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
            raise Invalid(f"{name} is a number of at most nine digits", code="value")
        return None if text is None else int(text)

    content = one("content")
    if content is not None and content not in set(Content):
        raise Invalid("the content is not offered", code="not-supported")
    return (
        number("eventsSinceNumber") or 1,
        number("eventsUntilNumber"),
        Content(content) if content else None,
    )


def parse_chosen(query: Sequence[tuple[str, str]]) -> tuple[list[str], frozenset[SubscriptionStatus]]:
    """Ids and statuses asked of `$status`, alternatives repeated or joined by commas; raises Invalid."""

    def values(name: str) -> list[str]:
        return [part for key, text in query if key == name for part in text.split(",") if part]

    statuses = values("status")
    if not set(statuses) <= set(SubscriptionStatus):
        raise Invalid("the status is none of a subscription", code="value")
    return list(dict.fromkeys(values("id"))), frozenset(map(SubscriptionStatus, statuses))


# --- parts ------------------------------------------------------------------------------------------------------------


def _status(
    subscription: Subscription,
    kind: NotificationKind,
    notifications: Sequence[Notification],
    total: int,
    errors: Sequence[str] = (),
) -> dict[str, Any]:
    """SubscriptionStatus, which R4 has as Parameters; its id is made of what it says, for equal retries."""
    numbers = ",".join(str(each.number) for each in notifications)
    name = f"{subscription.base_url}/{subscription.reference}/{kind}/{subscription.status}/{total}/{numbers}"
    return {
        "resourceType": "Parameters",
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
        "meta": {"profile": [BACKPORT + "backport-subscription-status-r4"]},
        "parameter": [
            {
                "name": "subscription",
                "valueReference": {"reference": f"{subscription.base_url}/{subscription.reference}"},
            },
            {"name": "topic", "valueCanonical": TOPIC_ROOT + subscription.interest.topic},
            {"name": "status", "valueCode": subscription.status.value},
            {"name": "type", "valueCode": kind.value},
            {"name": "events-since-subscription-start", "valueString": str(total)},
            *(_event_parameter(subscription, each) for each in notifications),
            *({"name": "error", "valueCodeableConcept": {"text": each}} for each in errors),
        ],
    }


def _errors(subscription: Subscription) -> list[str]:
    """Why it is in `error`, and what keeps it from being told now."""
    found = [subscription.error] if subscription.error else []
    since = subscription.failing_since
    if subscription.failures and since is not None:
        found.append(f"attempts in a row that were not acknowledged: {subscription.failures}, since {instant(since)}")
    return found


def _event_parameter(subscription: Subscription, notification: Notification) -> dict[str, Any]:
    part: list[dict[str, Any]] = [
        {"name": "event-number", "valueString": str(notification.number)},
        {"name": "timestamp", "valueInstant": instant(notification.at)},
    ]
    if notification.event is not None:
        reference = f"{subscription.base_url}/{notification.event.reference}"
        part.append({"name": "focus", "valueReference": {"reference": reference}})
    return {"name": "notification-event", "part": part}


def _focus_entry(subscription: Subscription, told: Notification, event: Event, *, is_full: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"fullUrl": f"{subscription.base_url}/{event.reference}"}
    if is_full and told.resource is not None:
        entry["resource"] = fhir_json.loads(told.resource)
    return {**entry, **_interaction(event)}


def _interaction(event: Event) -> dict[str, Any]:
    """What made the event, as far as a subscriber is to know."""
    if event.name is EventName.ERASED:
        return {"request": {"method": "DELETE", "url": event.reference}, "response": {"status": "200"}}
    if event.version == 1:
        return {"request": {"method": "POST", "url": event.reference.partition("/")[0]}, "response": {"status": "201"}}
    return {"request": {"method": "PUT", "url": event.reference}, "response": {"status": "200"}}
