"""Subscriptions and their notifications as FHIR. What `criteria` says selects the family (contract P8).

Canonical URL of a topic: HL7 Subscriptions R5 Backport 1.2.0-ballot, on R4. Filter criteria and the amount of content
are extensions; a notification is a Bundle of type history that starts with a Parameters resource, the status of the
subscription.

`Patient` or `Patient?...`: the patient feed of IHE PMIR (ITI-94). What is sent are the messages of ITI-93
(`patient_feed.py`).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from passerelle.errors import Invalid, Issue, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.dates import instant
from passerelle.fhir.outcome import outcome
from passerelle.fhir.resource import stamped
from passerelle.fhir.search import parse_query
from passerelle.fhir.validation import validate
from passerelle.notifications.audience import FEED_FILTERS, TOPIC_ROOT
from passerelle.notifications.model import (
    Channel,
    Content,
    Notification,
    NotificationKind,
    Subscription,
    SubscriptionDraft,
)
from passerelle.notifications.service import CaughtUp

BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
SECRET_HEADER = "X-Passerelle-Webhook-Secret"  # noqa: S105 - the name of the header
FHIR_XML = "application/fhir+xml"
ENDED = outcome(Issue(code="informational", diagnostics="the subscription is ended"), severity="information")

_PAYLOAD = re.compile(r"(?P<type>application/fhir\+(json|xml))\s*(;\s*fhirVersion=4\.0)?")
_HEADER = re.compile(r"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):\s*(?P<value>[!-~](?:[ -~]{0,2046}[!-~])?)")
_OWN_HEADERS = {
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
}
_MAX_HEADERS = 10
# Rules of the channel that are kept whatever they say: one event is sent at a time.
_KEPT_CHANNEL_RULES = {BACKPORT + "backport-max-count"}


# --- the Subscription ---------------------------------------------------------------------------------------


def parse(resource: Any) -> SubscriptionDraft:
    """Read a Subscription to be created or changed.

    Raises Invalid for what is not a Subscription or a search, Unprocessable (`not-supported`) for what is not offered:
    another channel than that of its family, another payload than FHIR R4; of a topic, XML, content other than `empty`
    and `id-only`, a heartbeat.
    """
    validate(resource, expected_type="Subscription")
    channel = resource["channel"]  # of primitives only extensions may be there: they are read with `get`
    criteria = resource.get("criteria", "")
    is_feed = criteria.partition("?")[0] == "Patient"
    kind = Channel.MESSAGE if is_feed else Channel.REST_HOOK
    if channel.get("type") != kind:
        _refuse("the channel is not offered", "Subscription.channel.type")
    for extension in channel.get("extension", []):
        if extension["url"] not in _KEPT_CHANNEL_RULES:
            _refuse("the rule of the channel is not offered", "Subscription.channel.extension")
    payload = _PAYLOAD.fullmatch(channel.get("payload", ""))
    if payload is None or (payload["type"] == FHIR_XML and not is_feed):
        _refuse("the payload is not offered", "Subscription.channel.payload")
    if "endpoint" not in channel:
        _refuse("an endpoint is required", "Subscription.channel.endpoint", code="required")
    extended = resource.get("_criteria", {})
    return SubscriptionDraft(
        topic=criteria,
        criteria=_search(criteria, extended) if is_feed else _filter_criteria(extended),
        endpoint=channel["endpoint"],
        headers=_headers(channel.get("header", [])),
        content=Content.ID_ONLY if is_feed else _content(channel.get("_payload", {})),
        until=_end(resource.get("end")),
        body=fhir_json.dumps(_kept(resource)),
        status=resource.get("status", ""),
        channel=kind,
        payload=payload["type"],
    )


def _kept(resource: Mapping[str, Any]) -> dict[str, Any]:
    """What the subscriber says of it: without what the exchange does, whatever was sent."""
    kept = {name: value for name, value in resource.items() if name not in ("id", "meta", "status", "error")}
    meta = {name: value for name, value in resource.get("meta", {}).items() if name not in ("versionId", "lastUpdated")}
    return {**kept, "meta": meta} if meta else kept


def render(subscription: Subscription) -> dict[str, Any]:
    resource = fhir_json.loads(subscription.body)
    return stamped(resource, subscription.id, subscription.version, subscription.at) | {
        "status": subscription.status.value,
        **({"error": subscription.error} if subscription.error else {}),
    }


def created_headers(subscription: Subscription) -> dict[str, str]:
    """Headers of the answer to its creation: the only time that the secret is told."""
    return {
        "Location": f"{subscription.base_url}/{subscription.reference}",
        SECRET_HEADER: subscription.secret,
        **version_headers(subscription),
    }


def version_headers(subscription: Subscription) -> dict[str, str]:
    return {"ETag": f'W/"{subscription.version}"'}


def _refuse(diagnostics: str, expression: str, *, code: str = "not-supported") -> NoReturn:
    raise Unprocessable(diagnostics, code=code, expression=expression)


def _end(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:  # an instant that FHIR has and Python has not: a leap second
        _refuse("the instant is not offered", "Subscription.end", code="value")


def _search(criteria: str, extended: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The parameters of a search for Patients; raises Invalid for one that cannot be read."""
    if extended:
        _refuse("a feed has no filter criteria but the search", "Subscription.criteria.extension")
    pairs = parse_qsl(criteria.partition("?")[2], keep_blank_values=True)
    if {name for name, _ in pairs} <= FEED_FILTERS:  # any other is not offered, well formed or not
        parse_query("Patient", pairs)
    if any(name == "organization" and "://" in value for name, value in pairs):
        _refuse("an organisation is named by its id", "Subscription.criteria", code="value")
    return tuple(pairs)


def _filter_criteria(criteria: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The pairs of `Type?name=value&...`, the type under the name `_type`."""
    extensions = criteria.get("extension", [])
    if not extensions:
        return ()
    if len(extensions) > 1 or extensions[0]["url"] != BACKPORT + "backport-filter-criteria":
        _refuse("one filter is offered", "Subscription.criteria.extension")
    kind, _, query = str(extensions[0].get("valueString", "")).partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    return tuple([("_type", kind), *pairs] if kind else pairs)


def _content(payload: Mapping[str, Any]) -> Content:
    place = "Subscription.channel.payload.extension"
    codes = [
        extension.get("valueCode")
        for extension in payload.get("extension", [])
        if extension["url"] == BACKPORT + "backport-payload-content"
    ]
    if not codes:
        _refuse("the content of the payload is required", place, code="required")
    if len(codes) > 1 or codes[0] not in set(Content):
        _refuse("the content of the payload is not offered", place)
    return Content(codes[0])


def _headers(lines: Sequence[str | None]) -> tuple[tuple[str, str], ...]:
    """`Name: value` lines, to be sent with each notification; ours cannot be replaced."""
    place = "Subscription.channel.header"
    headers: dict[str, str] = {}
    for line in lines:
        match = _HEADER.fullmatch(line or "")
        name = match["name"].lower() if match else ""
        if match is None or name in _OWN_HEADERS or name.startswith("x-passerelle-") or name in headers:
            _refuse("a header is malformed, repeated, or set by the exchange", place, code="value")
        headers[name] = match["value"]
    if len(headers) > _MAX_HEADERS:
        _refuse("too many headers", place, code="value")
    return tuple(headers.items())


# --- notifications ------------------------------------------------------------------------------------------


def render_notification(
    subscription: Subscription,
    kind: NotificationKind,
    notifications: Sequence[Notification],
    total: int,
    at: datetime,
) -> bytes:
    """`notifications.ports.Renderer`; the same arguments give the same bytes."""
    return fhir_json.dumps(notification_bundle(subscription, kind, notifications, total, at))


def notification_bundle(
    subscription: Subscription,
    kind: NotificationKind,
    notifications: Sequence[Notification],
    total: int,
    at: datetime,
) -> dict[str, Any]:
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
            *(_focus_entry(subscription, each) for each in notifications if each.event is not None),
        ],
    }


def status_bundle(asked: CaughtUp, at: datetime) -> dict[str, Any]:
    """The answer to `$status`."""
    subscription = asked.subscription
    status = _status(subscription, NotificationKind.QUERY_STATUS, (), asked.total)
    url = f"{subscription.base_url}/{subscription.reference}/$status"
    return {
        "resourceType": "Bundle",
        "type": "searchset",
        "timestamp": instant(at),
        "total": 1,
        "link": [{"relation": "self", "url": url}],
        "entry": [{"fullUrl": f"urn:uuid:{status['id']}", "resource": status, "search": {"mode": "match"}}],
    }


def events_bundle(asked: CaughtUp, at: datetime) -> dict[str, Any]:
    """The answer to `$events`."""
    return notification_bundle(asked.subscription, NotificationKind.QUERY_EVENT, asked.notifications, asked.total, at)


def parse_range(one: Callable[[str], str | None]) -> tuple[int, int | None, Content | None]:
    """(first, last, content) asked of `$events`, from a reader of single parameters; raises Invalid."""

    def number(name: str) -> int | None:
        text = one(name)
        if text is not None and not re.fullmatch(r"[0-9]{1,9}", text):
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


def _status(
    subscription: Subscription, kind: NotificationKind, notifications: Sequence[Notification], total: int
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
        ],
    }


def _event_parameter(subscription: Subscription, notification: Notification) -> dict[str, Any]:
    part: list[dict[str, Any]] = [
        {"name": "event-number", "valueString": str(notification.number)},
        {"name": "timestamp", "valueInstant": instant(notification.at)},
    ]
    if notification.event is not None:
        reference = f"{subscription.base_url}/{notification.event.reference}"
        part.append({"name": "focus", "valueReference": {"reference": reference}})
    return {"name": "notification-event", "part": part}


def _focus_entry(subscription: Subscription, notification: Notification) -> dict[str, Any]:
    event = notification.event
    assert event is not None
    is_new = event.version == 1
    kind = event.reference.partition("/")[0]
    return {
        "fullUrl": f"{subscription.base_url}/{event.reference}",
        "request": {"method": "POST", "url": kind} if is_new else {"method": "PUT", "url": event.reference},
        "response": {"status": "201" if is_new else "200"},
    }
