"""Subscriptions as FHIR. What `criteria` says selects the family (contract P8).

Canonical URL of a topic: HL7 Subscriptions R5 Backport 1.2.0-ballot, on R4. Filter criteria, the amount of content, the
pace, and channels that R4 has no code for are extensions. What is sent: `notification.py`.

`CommunicationRequest?...`: declared events, by the guide Notification d'evenements of the ANS (`nde.py`).
`Patient` or `Patient?...`: the patient feed of IHE PMIR (ITI-94). What is sent are the messages of ITI-93
(`patient_feed.py`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl

from passerelle.errors import Issue, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir import nde
from passerelle.fhir.dates import instant
from passerelle.fhir.outcome import outcome
from passerelle.fhir.resource import stamped
from passerelle.fhir.search import parse_query
from passerelle.fhir.validation import validate
from passerelle.notifications.audience import FEED_FILTERS
from passerelle.notifications.model import Channel, Content, Pace, Subscription, SubscriptionDraft

BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
OWN = "https://passerelle.example/StructureDefinition/subscription-"
SECRET_HEADER = "X-Passerelle-Webhook-Secret"  # noqa: S105 - the name of the header
FHIR_JSON = "application/fhir+json"
FHIR_XML = "application/fhir+xml"
PLAIN = "text/plain"
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
_MAX_BYTES = 64 * 1024  # of what is kept of a Subscription

_HEARTBEAT = BACKPORT + "backport-heartbeat-period"
_MAX_COUNT = BACKPORT + "backport-max-count"
_TIMEOUT = BACKPORT + "backport-timeout"
_QUIET = OWN + "quiet-hours"
_DIGEST = OWN + "digest"
_TIMEOUT_SECONDS = 5  # of every webhook (`api/webhooks.py`)
_HEARTBEAT_SECONDS = range(300, 86_401)
_ANY_DAY, _DAY, _LEAST_TOLD = date(2026, 1, 1), timedelta(days=1), timedelta(hours=1)
_COUNTS = range(1, 21)  # a digest without is as large as it gets

# Channels that R4 has a code for, and what each may tell: e-mail and SMS say that there is something, to anybody who
# reads along, a mailbox of the trust space is for content.
_CODED: Final = (Channel.REST_HOOK, Channel.EMAIL, Channel.SMS)
_EXTENDED: Final = (Channel.QUEUE, Channel.MAILBOX)
_CONTENTS: Final[Mapping[Channel, Collection[Content]]] = {
    Channel.REST_HOOK: tuple(Content),
    Channel.QUEUE: tuple(Content),
    Channel.EMAIL: (Content.EMPTY,),
    Channel.SMS: (Content.EMPTY,),
    Channel.MAILBOX: (Content.ID_ONLY, Content.FULL_RESOURCE),
}
_IN_FHIR: Final = (Channel.REST_HOOK, Channel.QUEUE)  # the others get a letter
# Members that only the exchange says.
_STATE: Final = frozenset({"id", "meta", "status", "_status", "error", "_error"})


def parse(resource: Any) -> SubscriptionDraft:
    """Read a Subscription to be created or changed.

    Raises Invalid for what is not a Subscription or a search, Unprocessable (`not-supported`) for what is not offered:
    another channel than those of its family, a payload or a content that the channel does not take, a pace that is not
    kept.
    """
    try:
        validate(resource, expected_type="Subscription")
    except Unprocessable:
        if nde.asks_for_events(str(resource.get("criteria", ""))):
            nde.parse_interest(resource)  # a missing subject, not that somebody is contained in vain
        raise
    criteria = resource.get("criteria", "")
    kept = fhir_json.dumps(_kept(resource))
    if len(kept) > _MAX_BYTES:
        _refuse("the subscription is too large", "Subscription", code="too-long")
    if nde.asks_for_events(criteria):
        return _parse_events(resource, criteria, kept)
    parse_family = _parse_feed if criteria.partition("?")[0] == "Patient" else _parse_topic
    return parse_family(resource, criteria, kept)


def _parse_topic(resource: Mapping[str, Any], criteria: str, kept: bytes) -> SubscriptionDraft:
    channel = resource["channel"]  # of primitives only extensions may be there: they are read with `get`
    kind = _channel(channel)
    return SubscriptionDraft(
        topic=criteria,
        criteria=_filter_criteria(resource.get("_criteria", {})),
        endpoint=_endpoint(channel),
        headers=_headers(channel.get("header", []), kind),
        content=_content(channel.get("_payload", {}), kind),
        until=_end(resource.get("end")),
        body=kept,
        status=resource.get("status", ""),
        channel=kind,
        payload=_payload(channel.get("payload"), kind),
        pace=_pace(channel.get("extension", []), kind),
    )


def _parse_feed(resource: Mapping[str, Any], criteria: str, kept: bytes) -> SubscriptionDraft:
    channel = resource["channel"]
    if channel.get("type") != Channel.MESSAGE or "_type" in channel:
        _refuse("the channel is not offered", "Subscription.channel.type")
    if channel.get("extension"):
        _refuse("the rule of the channel is not offered", "Subscription.channel.extension")
    return SubscriptionDraft(
        topic=criteria,
        criteria=_search(criteria, resource.get("_criteria", {})),
        endpoint=_endpoint(channel),
        headers=_headers(channel.get("header", []), Channel.MESSAGE),
        content=Content.ID_ONLY,
        until=_end(resource.get("end")),
        body=kept,
        status=resource.get("status", ""),
        channel=Channel.MESSAGE,
        payload=_payload(channel.get("payload"), Channel.MESSAGE),
    )


def _parse_events(resource: Mapping[str, Any], criteria: str, kept: bytes) -> SubscriptionDraft:
    """By e-mail, too: the guide leaves what is written there to the exchange, which says that there is something."""
    channel = resource["channel"]
    interest = nde.parse_interest(resource)
    if channel.get("type") not in (Channel.EMAIL, Channel.REST_HOOK) or "_type" in channel:
        _refuse("the channel is not offered", "Subscription.channel.type")
    kind = Channel.EMAIL if channel["type"] == Channel.EMAIL else Channel.ORDER
    declarants = [("declarant", f"{system}|{value}") for system, value in interest.declarants]
    return SubscriptionDraft(
        topic=criteria,
        criteria=(("event-type", interest.type), ("start", interest.start), *declarants),
        endpoint=_endpoint(channel),
        headers=_headers(channel.get("header", []), kind),
        content=Content.EMPTY if kind is Channel.EMAIL else Content.ID_ONLY,
        until=_end(resource.get("end")),
        body=kept,
        status=resource.get("status", ""),
        channel=kind,
        payload=_payload(channel.get("payload", FHIR_JSON if kind is Channel.ORDER else None), kind),
        subjects=interest.subjects,
    )


def _kept(resource: Mapping[str, Any]) -> dict[str, Any]:
    """What the subscriber says of it: without what the exchange does, whatever was sent."""
    kept = {name: value for name, value in resource.items() if name not in _STATE}
    meta = {name: value for name, value in resource.get("meta", {}).items() if name in ("profile", "security", "tag")}
    return {**kept, "meta": meta} if meta else kept


def render(subscription: Subscription) -> dict[str, Any]:
    resource = fhir_json.loads(subscription.body)
    return stamped(resource, subscription.id, subscription.version, subscription.at) | {
        "status": subscription.status.value,
        **({"error": subscription.error} if subscription.error else {}),
    }


def created_headers(subscription: Subscription) -> dict[str, str]:
    """Headers of the answer to its creation: the only time that its first secret is told."""
    return {
        "Location": f"{subscription.base_url}/{subscription.reference}",
        **({SECRET_HEADER: subscription.secret} if subscription.channel.is_signed else {}),
        **version_headers(subscription),
    }


def render_secret(subscription: Subscription) -> dict[str, Any]:
    """The answer to `$rotate-secret`: what signs from now on, and until when the former secret does, too."""
    until = subscription.former_until
    former = [{"name": "formerUntil", "valueInstant": instant(until)}] if until is not None else []
    return {
        "resourceType": "Parameters",
        "parameter": [{"name": "secret", "valueString": subscription.secret}, *former],
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


def _channel(channel: Mapping[str, Any]) -> Channel:
    """Of a topic: a code of R4, or `message` with an extension that names the channel."""
    place = "Subscription.channel.type"
    extensions = channel.get("_type", {}).get("extension", [])
    if not extensions:
        return _offered(channel.get("type"), _CODED, "the channel is not offered", place)
    if len(extensions) > 1 or extensions[0]["url"] != BACKPORT + "backport-channel-type":
        _refuse("one channel is offered", f"{place}.extension")
    if channel.get("type") != Channel.MESSAGE:
        _refuse("a channel that R4 has no code for is a message", place)
    named = extensions[0].get("valueCoding", {}).get("code")
    return _offered(named, _EXTENDED, "the channel is not offered", f"{place}.extension")


def _offered(code: Any, offered: Collection[Channel], diagnostics: str, place: str) -> Channel:
    found = next((each for each in offered if each == code), None)
    return found if found is not None else _refuse(diagnostics, place)


def _endpoint(channel: Mapping[str, Any]) -> str:
    if "endpoint" not in channel:
        _refuse("an endpoint is required", "Subscription.channel.endpoint", code="required")
    return str(channel["endpoint"])


def _payload(text: str | None, channel: Channel) -> str:
    """The media type of what is sent; a letter is plain text, whether that is said or not."""
    if channel in (*_IN_FHIR, Channel.MESSAGE, Channel.ORDER):
        match = _PAYLOAD.fullmatch(text or "")
        if match is not None:
            return match["type"]
    elif text in (None, PLAIN):
        return PLAIN
    _refuse("the payload is not offered", "Subscription.channel.payload")


def _content(payload: Mapping[str, Any], channel: Channel) -> Content:
    place = "Subscription.channel.payload.extension"
    codes = [
        extension.get("valueCode")
        for extension in payload.get("extension", [])
        if extension["url"] == BACKPORT + "backport-payload-content"
    ]
    if not codes:
        _refuse("the content of the payload is required", place, code="required")
    found = [content for content in _CONTENTS[channel] if content == codes[0]]
    if len(codes) > 1 or not found:
        _refuse("the content of the payload is not offered", place)
    return found[0]


def _pace(extensions: Sequence[Mapping[str, Any]], channel: Channel) -> Pace:
    """What the rules of the channel say, each at most once."""
    place = "Subscription.channel.extension"
    rules = {each["url"]: each for each in extensions}
    known = {_MAX_COUNT, _QUIET, _DIGEST, *((_HEARTBEAT, _TIMEOUT) if channel in _IN_FHIR else ())}
    if len(rules) != len(extensions) or not rules.keys() <= known:
        _refuse("a rule of the channel is not offered, or given twice", place)
    if _TIMEOUT in rules and rules[_TIMEOUT].get("valueUnsignedInt") != _TIMEOUT_SECONDS:
        _refuse("an endpoint has five seconds to answer", place)
    heartbeat, count = rules.get(_HEARTBEAT, {}), rules.get(_MAX_COUNT, {})
    if heartbeat and heartbeat.get("valueUnsignedInt") not in _HEARTBEAT_SECONDS:
        _refuse("a heartbeat comes after 300 to 86400 seconds of silence", place)
    if count and count.get("valuePositiveInt") not in _COUNTS:
        _refuse("a notification has 1 to 20 events", place)
    return Pace(
        quiet=_quiet(rules[_QUIET]) if _QUIET in rules else None,
        digest_at=_time(rules[_DIGEST]) if _DIGEST in rules else None,
        max_count=count.get("valuePositiveInt", 1),
        heartbeat=timedelta(seconds=heartbeat["valueUnsignedInt"]) if heartbeat else None,
    )


def _quiet(rule: Mapping[str, Any]) -> tuple[time, time]:
    parts = {each["url"]: each for each in rule.get("extension", [])}
    if len(rule.get("extension", [])) != 2 or parts.keys() != {"from", "until"}:
        _refuse("quiet hours are from a time until another", "Subscription.channel.extension")
    first, last = _time(parts["from"]), _time(parts["until"])
    if (datetime.combine(_ANY_DAY, first) - datetime.combine(_ANY_DAY, last)) % _DAY < _LEAST_TOLD:
        # What comes a moment after the only one of a day waits for the next day's, until it is a dead letter.
        _refuse("quiet hours leave an hour of the day at least", "Subscription.channel.extension", code="value")
    return first, last


def _time(holder: Mapping[str, Any]) -> time:
    try:
        return time.fromisoformat(holder.get("valueTime", ""))
    except ValueError:  # none, or one that FHIR has and Python has not: a leap second
        _refuse("a time is expected", "Subscription.channel.extension", code="value")


def _headers(lines: Sequence[str | None], channel: Channel) -> tuple[tuple[str, str], ...]:
    """`Name: value` lines, to be sent with each notification; ours cannot be replaced."""
    place = "Subscription.channel.header"
    if lines and channel not in (Channel.REST_HOOK, Channel.MESSAGE, Channel.ORDER):
        _refuse("the channel has no headers", place)
    if len(lines) > _MAX_HEADERS:
        _refuse("too many headers", place, code="value")
    headers: dict[str, str] = {}
    for line in lines:
        match = _HEADER.fullmatch(line or "")
        name = match["name"].lower() if match else ""
        if match is None or name in _OWN_HEADERS or name.startswith("x-passerelle-") or name in headers:
            _refuse("a header is malformed, repeated, or set by the exchange", place, code="value")
        headers[name] = match["value"]
    return tuple(headers.items())


# --- the search for one's own -----------------------------------------------------------------------------------------

SEARCH: Final[Mapping[str, str]] = {
    "_id": "token",
    "criteria": "string",
    "payload": "token",
    "status": "token",
    "type": "token",
    "url": "uri",
}
"""The search parameters of Subscription, each with its type (R4 section 2.46.4)."""


def found_by(resource: Mapping[str, Any], asked: Sequence[tuple[str, str]]) -> bool:
    """Whether a rendered Subscription meets every one of these; the alternatives of one are joined by commas."""
    channel = resource["channel"]
    values = {
        "_id": resource["id"],
        "criteria": resource.get("criteria", ""),
        "payload": channel.get("payload", ""),
        "status": resource["status"],
        "type": channel.get("type", ""),
        "url": channel.get("endpoint", ""),
    }
    return all(any(_meets(name, values[name], alternative) for alternative in text.split(",")) for name, text in asked)


def _meets(name: str, value: str, asked: str) -> bool:
    if name == "criteria":  # a string: how it starts, without regard to case
        return value.lower().startswith(asked.lower())
    return value == (asked if name == "url" else asked.rpartition("|")[2])
