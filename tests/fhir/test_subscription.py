"""Subscriptions read and notifications written: contract rows SUB-1, SUB-2, SUB-4, SUB-7, SUB-8, 93-5."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.parameters import Parameters
from fhir.resources.R4B.subscription import Subscription as SubscriptionModel

from passerelle.access import Caller, Scopes, Touched
from passerelle.errors import Invalid, PasserelleError, Unprocessable
from passerelle.events import Event, EventName
from passerelle.fhir import subscription as fhir
from passerelle.fhir.validation import validate
from passerelle.notifications.audience import TOPIC_ROOT
from passerelle.notifications.model import (
    Channel,
    Content,
    Filter,
    Interest,
    Notification,
    NotificationKind,
    Subscription,
    SubscriptionDraft,
    SubscriptionStatus,
)
from passerelle.notifications.service import CaughtUp

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = "7q2k9c4m1xw8z0ab"
BASE = "https://api.example/fhir"
TOPIC = TOPIC_ROOT + "document-changed"


def resource(**changes: Any) -> dict[str, Any]:
    """A Subscription that is accepted; a dotted name changes the channel, None leaves an element out."""
    filter_ = f"DocumentReference?patient=Patient/{KEY}"
    channel: dict[str, Any] = {
        "type": "rest-hook",
        "endpoint": "https://hooks.example/in",
        "payload": "application/fhir+json",
        "_payload": {"extension": [{"url": fhir.BACKPORT + "backport-payload-content", "valueCode": "id-only"}]},
        "header": ["Authorization: Bearer theirs"],
    }
    body: dict[str, Any] = {
        "resourceType": "Subscription",
        "meta": {"profile": [fhir.BACKPORT + "backport-subscription"]},
        "status": "requested",
        "reason": "care coordination",
        "criteria": TOPIC,
        "_criteria": {"extension": [{"url": fhir.BACKPORT + "backport-filter-criteria", "valueString": filter_}]},
        "channel": channel,
    }
    for name, value in changes.items():
        place, key = (channel, name[8:]) if name.startswith("channel_") else (body, name)
        place[key] = value
        if value is None:
            del place[key]
    return body


def content(*codes: str) -> dict[str, Any]:
    url = fhir.BACKPORT + "backport-payload-content"
    return {"extension": [{"url": url, "valueCode": code} for code in codes]}


def criteria(*filters: str) -> dict[str, Any]:
    url = fhir.BACKPORT + "backport-filter-criteria"
    return {"extension": [{"url": url, "valueString": each} for each in filters]}


def test_sub_1_a_subscription_is_read() -> None:
    sent = resource(end="2027-01-01T00:00:00Z")
    SubscriptionModel.model_validate(sent)
    draft = fhir.parse(sent)
    assert draft == SubscriptionDraft(
        topic=TOPIC,
        criteria=(("_type", "DocumentReference"), ("patient", f"Patient/{KEY}")),
        endpoint="https://hooks.example/in",
        headers=(("authorization", "Bearer theirs"),),
        content=Content.ID_ONLY,
        until=datetime(2027, 1, 1, tzinfo=UTC),
        body=draft.body,
    )
    assert json.loads(draft.body) == {name: value for name, value in sent.items() if name != "status"}


def test_what_the_exchange_says_of_it_is_not_kept() -> None:
    served = fhir.render(replace(stored(), status=SubscriptionStatus.ERROR, error="no answer"))
    assert (served["error"], served["meta"]["versionId"]) == ("no answer", "3")
    draft = fhir.parse(served)
    kept = json.loads(draft.body)
    assert draft.status == "error"
    assert kept.keys().isdisjoint({"id", "status", "error"})
    assert kept["meta"] == {"profile": resource()["meta"]["profile"]}


def feed(criteria: str = "Patient", **changes: Any) -> dict[str, Any]:
    """A subscription to the patient feed, as IHE's own example has it."""
    return {
        "resourceType": "Subscription",
        "status": "requested",
        "contact": [{"system": "phone", "value": "+1-555-555-1212"}],
        "reason": "To receive Patient changes.",
        "criteria": criteria,
        "channel": {
            "type": "message",
            "endpoint": "https://consumer.example/fhir/$process-message",
            "payload": "application/fhir+json",
            **changes,
        },
    }


@pytest.mark.parametrize(
    ("asked", "pairs"),
    [
        ("Patient", ()),
        (f"Patient?_id={KEY}", (("_id", KEY),)),
        ("Patient?organization=Organization/1", (("organization", "Organization/1"),)),
        ("Patient?identifier=urn:oid:2.999|a%20b", (("identifier", "urn:oid:2.999|a b"),)),
        ("Patient?identifier=urn:oid:2.999|", (("identifier", "urn:oid:2.999|"),)),
        ("Patient?family=x", (("family", "x"),)),  # refused by the service, as another criterion
    ],
)
def test_93_5_a_feed_is_read(asked: str, pairs: Any) -> None:
    SubscriptionModel.model_validate(feed(asked))
    draft = fhir.parse(feed(asked))
    assert (draft.criteria, draft.channel, draft.payload) == (pairs, Channel.MESSAGE, "application/fhir+json")


def test_93_5_a_feed_in_xml_is_read() -> None:
    assert fhir.parse(feed(payload="application/fhir+xml; fhirVersion=4.0")).payload == "application/fhir+xml"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"type": "rest-hook"}, "not-supported"),
        ({"payload": "application/hl7-v2"}, "not-supported"),
        ({"criteria": "Patient?organization=https://other.example/Organization/1"}, "value"),
    ],
)
def test_93_5_what_is_no_feed(changes: dict[str, str], code: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        fhir.parse(feed(**changes))
    assert refused.value.issues[0].code == code


def test_93_5_a_search_that_cannot_be_read() -> None:
    with pytest.raises(Invalid):
        fhir.parse(feed("Patient?identifier="))


@pytest.mark.parametrize(
    "changes",
    [
        {"channel_payload": "application/fhir+json; fhirVersion=4.0"},
        {"channel__payload": content("empty")},
        {"channel_header": None},
        {"channel_extension": [{"url": fhir.BACKPORT + "backport-max-count", "valuePositiveInt": 20}]},
        {"_criteria": None},
        {"_criteria": criteria("?author=hospital-a")},
    ],
)
def test_sub_1_what_else_is_accepted(changes: dict[str, Any]) -> None:
    fhir.parse(resource(**changes))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"channel_type": "email"}, "not-supported"),
        ({"channel_type": "websocket"}, "not-supported"),
        ({"channel_payload": "application/fhir+json; fhirVersion=4.3"}, "not-supported"),
        ({"channel_payload": "application/fhir+xml"}, "not-supported"),
        ({"channel_payload": None, "channel__payload": content("empty")}, "not-supported"),
        ({"channel__payload": content("full-resource")}, "not-supported"),
        ({"channel__payload": content("everything")}, "not-supported"),
        ({"channel__payload": content("empty", "id-only")}, "not-supported"),
        ({"channel__payload": None}, "required"),
        ({"channel_endpoint": None}, "required"),
        (
            {"channel_extension": [{"url": fhir.BACKPORT + "backport-heartbeat-period", "valueUnsignedInt": 60}]},
            "not-supported",
        ),
        ({"_criteria": criteria("?patient=1", "?author=x")}, "not-supported"),
        (
            {"_criteria": {"extension": [{"url": "https://other.example", "valueString": "x"}]}},
            "not-supported",
        ),
        ({"channel_header": ["no colon"]}, "value"),
        ({"channel_header": ["Host: other.example"]}, "value"),
        ({"channel_header": ["X-Passerelle-Signature: forged"]}, "value"),
        ({"channel_header": ["Transfer-Encoding: chunked"]}, "value"),
        ({"channel_header": ["A: 1", "a: 2"]}, "value"),
        ({"channel_header": ["A: 1\r\nInjected: 2"]}, "value"),
        ({"channel_header": ["A: é"]}, "value"),
        ({"channel_header": [f"A{number}: 1" for number in range(11)]}, "value"),
    ],
)
def test_sub_2_what_is_not_offered(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        fhir.parse(resource(**changes))
    (issue,) = refused.value.issues
    assert issue.code == code
    assert issue.expression is not None
    assert "theirs" not in issue.diagnostics


@pytest.mark.parametrize(
    "sent",
    [
        None,
        [],
        {"resourceType": "Patient"},
        resource(unknown=1),
        resource(criteria=3),
        resource(channel="x"),
        resource(_criteria="x"),
        resource(channel_header="x"),
    ],
)
def test_what_is_no_subscription(sent: Any) -> None:
    with pytest.raises(Invalid):
        fhir.parse(sent)


@pytest.mark.parametrize("missing", ["status", "reason", "criteria", "channel", "channel_type"])
def test_what_is_missing(missing: str) -> None:
    with pytest.raises(PasserelleError) as refused:
        fhir.parse(resource(**{missing: None, "_criteria": None}))
    assert refused.value.status in (400, 422)


def stored(content: Content = Content.ID_ONLY) -> Subscription:
    owner = Caller(client_id="practice", organisation="1", role="practice", scopes=Scopes(frozenset()), token_id="t")
    return Subscription(
        id="01hr0000000000000000000000",
        version=3,
        at=NOON,
        status=SubscriptionStatus.ACTIVE,
        interest=Interest(
            subscription="01hr0000000000000000000000",
            owner=owner,
            topic="document-changed",
            filter=Filter(),
            since=NOON,
        ),
        endpoint="https://hooks.example/in",
        headers=(),
        content=content,
        secret="a secret",
        base_url=BASE,
        delivered=0,
        body=json.dumps(resource()).encode(),
    )


def notification(number: int, *, version: int = 1, hidden: bool = False) -> Notification:
    event = Event(
        name=EventName.DOCUMENT_CHANGED,
        reference=f"DocumentReference/{KEY}-01hr0000000000000000000000",
        version=version,
        at=NOON,
        author="hospital-a",
        patient=KEY,
    )
    return Notification(number=number, at=NOON, event=None if hidden else event)


def test_a_subscription_is_rendered_with_its_state_and_without_its_secret() -> None:
    rendered = fhir.render(stored())
    SubscriptionModel.model_validate(rendered)
    assert (rendered["id"], rendered["status"]) == ("01hr0000000000000000000000", "active")
    assert rendered["meta"]["versionId"] == "3"
    assert rendered["criteria"] == TOPIC
    assert "a secret" not in json.dumps(rendered)


def parameters(bundle: dict[str, Any]) -> dict[str, Any]:
    """The status of a notification by name; events as a list of their parts."""
    status = bundle["entry"][0]["resource"]
    Parameters.model_validate(status)
    found: dict[str, Any] = {"events": []}
    for parameter in status["parameter"]:
        if "part" in parameter:
            found["events"].append(
                {part["name"]: next(v for k, v in part.items() if k != "name") for part in parameter["part"]}
            )
        else:
            found[parameter["name"]] = next(value for name, value in parameter.items() if name != "name")
    return found


@pytest.mark.parametrize(
    ("kind", "entries"),
    [
        (NotificationKind.HANDSHAKE, ()),
        (NotificationKind.EVENT, (notification(1),)),
        (NotificationKind.EVENT, (notification(1, hidden=True),)),
        (
            NotificationKind.QUERY_EVENT,
            (notification(1), notification(2, version=2), notification(3, hidden=True)),
        ),
    ],
)
def test_sub_4_every_notification_is_a_valid_bundle(kind: NotificationKind, entries: tuple[Notification, ...]) -> None:
    body = fhir.render_notification(stored(), kind, entries, len(entries), NOON)
    assert body == fhir.render_notification(stored(), kind, entries, len(entries), NOON)
    bundle = json.loads(body)
    Bundle.model_validate(bundle)
    validate(bundle)
    assert bundle["type"] == "history"
    assert bundle["entry"][0]["request"] == {
        "method": "GET",
        "url": f"{BASE}/Subscription/01hr0000000000000000000000/$status",
    }
    told = parameters(bundle)
    assert told["subscription"] == {"reference": f"{BASE}/Subscription/01hr0000000000000000000000"}
    assert (told["topic"], told["status"], told["type"]) == (TOPIC, "active", kind.value)
    assert told["events-since-subscription-start"] == str(len(entries))
    assert [event["event-number"] for event in told["events"]] == [str(entry.number) for entry in entries]


def test_sub_4_id_only_tells_where_and_not_what() -> None:
    bundle = fhir.notification_bundle(stored(), NotificationKind.EVENT, (notification(7),), 7, NOON)
    url = f"{BASE}/{notification(7).event.reference}"  # type: ignore[union-attr]
    assert parameters(bundle)["events"][0]["focus"] == {"reference": url}
    assert bundle["entry"][1] == {
        "fullUrl": url,
        "request": {"method": "POST", "url": "DocumentReference"},
        "response": {"status": "201"},
    }


def test_sub_4_a_hidden_event_is_a_number_and_a_time() -> None:
    bundle = fhir.notification_bundle(stored(), NotificationKind.EVENT, (notification(7, hidden=True),), 7, NOON)
    assert parameters(bundle)["events"] == [{"event-number": "7", "timestamp": "2026-03-01T12:00:00.000Z"}]
    assert len(bundle["entry"]) == 1
    assert KEY not in json.dumps(bundle)


def test_sub_7_status_is_a_searchset_of_parameters() -> None:
    asked = CaughtUp(subscription=stored(), notifications=(), total=41, touched=Touched())
    bundle = fhir.status_bundle(asked, NOON)
    Bundle.model_validate(bundle)
    validate(bundle)
    assert (bundle["type"], bundle["total"], len(bundle["entry"])) == ("searchset", 1, 1)
    told = parameters(bundle)
    assert (told["type"], told["events-since-subscription-start"]) == ("query-status", "41")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (1, None, None)),
        ({"eventsSinceNumber": "3", "eventsUntilNumber": "5"}, (3, 5, None)),
        ({"eventsSinceNumber": "0", "content": "empty"}, (1, None, Content.EMPTY)),
    ],
)
def test_sub_8_a_range_is_read(given: dict[str, str], expected: Any) -> None:
    assert fhir.parse_range(given.get) == expected


@pytest.mark.parametrize(
    "given",
    [
        {"eventsSinceNumber": "-1"},
        {"eventsUntilNumber": "x"},
        {"eventsSinceNumber": "1" * 10},
        {"content": "full-resource"},
    ],
)
def test_sub_8_a_range_that_is_none(given: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        fhir.parse_range(given.get)
