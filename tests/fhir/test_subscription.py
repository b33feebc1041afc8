"""Subscriptions read and notifications written: contract rows SUB-1, SUB-2, SUB-4, SUB-7, SUB-8, 93-5."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.parameters import Parameters
from fhir.resources.R4B.subscription import Subscription as SubscriptionModel

from passerelle.access import Caller, Scopes, Touched
from passerelle.errors import Invalid, PasserelleError, Unprocessable
from passerelle.events import Event, EventName
from passerelle.fhir import notification as told
from passerelle.fhir import subscription as fhir
from passerelle.fhir import xml as fhir_xml
from passerelle.fhir.validation import validate
from passerelle.notifications.model import (
    Channel,
    Content,
    Filter,
    Interest,
    Notification,
    NotificationKind,
    Pace,
    Subscription,
    SubscriptionDraft,
    SubscriptionStatus,
)
from passerelle.notifications.service import CaughtUp
from passerelle.notifications.topics import TOPIC_ROOT

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


def rule(name: str, **value: Any) -> dict[str, Any]:
    return {"url": fhir.BACKPORT + name, **value}


def named(*codes: str) -> dict[str, Any]:
    url = fhir.BACKPORT + "backport-channel-type"
    return {"extension": [{"url": url, "valueCoding": {"code": code}} for code in codes]}


def letter(kind: str, **changes: Any) -> dict[str, Any]:
    """What makes `resource` one that is told by a letter, empty."""
    plain = {
        "channel_type": kind,
        "channel_payload": None,
        "channel_header": None,
        "channel__payload": content("empty"),
    }
    return {**plain, **changes}


QUIET: dict[str, Any] = {
    "url": fhir.OWN + "quiet-hours",
    "extension": [{"url": "from", "valueTime": "20:00:00"}, {"url": "until", "valueTime": "07:30:00"}],
}
DIGEST = {"url": fhir.OWN + "digest", "valueTime": "08:00:00"}


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


@pytest.mark.parametrize(
    ("rules", "pace"),
    [
        ([], Pace()),
        ([rule("backport-heartbeat-period", valueUnsignedInt=300)], Pace(heartbeat=timedelta(minutes=5))),
        ([rule("backport-heartbeat-period", valueUnsignedInt=86_400)], Pace(heartbeat=timedelta(days=1))),
        ([rule("backport-max-count", valuePositiveInt=20)], Pace(max_count=20)),
        ([QUIET], Pace(quiet=(time(20), time(7, 30)))),
        ([DIGEST], Pace(digest_at=time(8))),
        ([DIGEST, rule("backport-max-count", valuePositiveInt=3)], Pace(digest_at=time(8), max_count=3)),
    ],
)
def test_sub_1_the_pace_is_read(rules: list[dict[str, Any]], pace: Pace) -> None:
    sent = resource(channel_extension=rules) if rules else resource()
    SubscriptionModel.model_validate(sent)
    assert fhir.parse(sent).pace == pace


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ([rule("backport-heartbeat-period", valueUnsignedInt=299)], "not-supported"),
        ([rule("backport-heartbeat-period", valueUnsignedInt=86_401)], "not-supported"),
        ([rule("backport-heartbeat-period", valueString="600")], "not-supported"),
        ([rule("backport-max-count", valuePositiveInt=21)], "not-supported"),
        ([rule("backport-timeout", valueUnsignedInt=60)], "not-supported"),
        ([rule("backport-unknown", valueUnsignedInt=1)], "not-supported"),
        ([rule("backport-max-count", valuePositiveInt=each) for each in (2, 3)], "not-supported"),
        ([{**QUIET, "extension": QUIET["extension"][:1]}], "not-supported"),
        ([{**QUIET, "extension": [*QUIET["extension"], QUIET["extension"][0]]}], "not-supported"),
        ([{**QUIET, "extension": [QUIET["extension"][0], {"url": "until", "valueTime": "20:00:00"}]}], "value"),
        ([{**QUIET, "extension": [QUIET["extension"][0], {"url": "until", "valueTime": "19:00:01"}]}], "value"),
        ([{"url": fhir.OWN + "digest", "valueString": "8 h"}], "value"),
        ([{"url": fhir.OWN + "digest", "valueTime": "23:59:60"}], "value"),
    ],
)
def test_sub_2_a_pace_that_is_not_kept(rules: list[dict[str, Any]], code: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        fhir.parse(resource(channel_extension=rules))
    (issue,) = refused.value.issues
    assert (issue.code, issue.expression) == (code, "Subscription.channel.extension")


def test_a_letter_has_no_heartbeat() -> None:
    sent = letter("email", channel_extension=[rule("backport-heartbeat-period", valueUnsignedInt=600)])
    with pytest.raises(Unprocessable):
        fhir.parse(resource(**sent))


@pytest.mark.parametrize(
    ("changes", "channel", "payload"),
    [
        ({}, Channel.REST_HOOK, "application/fhir+json"),
        ({"channel_payload": "application/fhir+xml"}, Channel.REST_HOOK, "application/fhir+xml"),
        (letter("email"), Channel.EMAIL, "text/plain"),
        (letter("sms", channel_payload="text/plain"), Channel.SMS, "text/plain"),
        (
            letter("message", channel__type=named("mssante"), channel__payload=content("full-resource")),
            Channel.MAILBOX,
            "text/plain",
        ),
        (
            {"channel_type": "message", "channel__type": named("sqs-queue"), "channel_header": None},
            Channel.QUEUE,
            "application/fhir+json",
        ),
    ],
)
def test_sub_1_the_channel_is_read(changes: dict[str, Any], channel: Channel, payload: str) -> None:
    draft = fhir.parse(resource(**changes))
    assert (draft.channel, draft.payload) == (channel, payload)


def test_sub_1_xml_says_the_same() -> None:
    sent = resource(channel_extension=[QUIET, DIGEST])
    from_xml = fhir.parse(fhir_xml.loads(fhir_xml.dumps(sent)))
    assert json.loads(from_xml.body) == json.loads(fhir.parse(sent).body)
    assert replace(from_xml, body=b"") == replace(fhir.parse(sent), body=b"")


def test_sub_9_what_only_the_exchange_says_is_not_taken_from_the_body() -> None:
    """Mass assignment: of status, error, id and version only the status is read, and the service decides on it."""
    smuggled = {"extension": [{"url": "https://other.example", "valueString": "x"}]}
    sent = resource(
        id="01hr0000000000000000000000",
        _status=smuggled,
        error="never mind",
        _error=smuggled,
        meta={"versionId": "99", "lastUpdated": "2020-01-01T00:00:00Z", "source": "urn:x", "tag": [{"code": "theirs"}]},
    )
    draft = fhir.parse(sent)
    kept = json.loads(draft.body)
    assert kept.keys().isdisjoint({"id", "status", "_status", "error", "_error"})
    assert kept["meta"] == {"tag": [{"code": "theirs"}]}
    rendered = fhir.render(replace(stored(), body=draft.body))
    assert (rendered["id"], rendered["meta"]["versionId"], rendered["status"]) == (stored().id, "3", "active")
    assert "error" not in rendered


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
        ({"type": "email"}, "not-supported"),
        ({"extension": [{"url": "https://other.example", "valueString": "x"}]}, "not-supported"),
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
        {"channel_payload": "application/fhir+xml"},
        {"channel__payload": content("empty")},
        {"channel__payload": content("full-resource")},
        {"channel_header": None},
        {"channel_extension": [rule("backport-timeout", valueUnsignedInt=5)]},
        {"_criteria": None},
        {"_criteria": criteria("?author=hospital-a")},
    ],
)
def test_sub_1_what_else_is_accepted(changes: dict[str, Any]) -> None:
    fhir.parse(resource(**changes))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"channel_type": "websocket"}, "not-supported"),
        ({"channel_type": "message"}, "not-supported"),
        (letter("email", channel__payload=content("id-only")), "not-supported"),
        (letter("sms", channel__payload=content("full-resource")), "not-supported"),
        (letter("email", channel_payload="application/fhir+json"), "not-supported"),
        (letter("email", channel_header=["Subject: mine"]), "not-supported"),
        (letter("message", channel__type=named("mssante")), "not-supported"),  # empty
        ({"channel__type": named("sqs-queue")}, "not-supported"),  # no message
        ({"channel_type": "message", "channel__type": named("websocket")}, "not-supported"),
        ({"channel_type": "message", "channel__type": named("rest-hook")}, "not-supported"),
        ({"channel_type": "message", "channel__type": named("sqs-queue", "sqs-queue")}, "not-supported"),
        (
            {"channel_type": "message", "channel__type": {"extension": [{"url": "urn:x", "valueCode": "mssante"}]}},
            "not-supported",
        ),
        ({"reason": "x" * 70_000}, "too-long"),
        ({"channel_payload": "application/fhir+json; fhirVersion=4.3"}, "not-supported"),
        ({"channel_payload": "application/fhir+xml; fhirVersion=4.3"}, "not-supported"),
        ({"channel_payload": None, "channel__payload": content("empty")}, "not-supported"),
        ({"channel__payload": content("everything")}, "not-supported"),
        ({"channel__payload": content("empty", "id-only")}, "not-supported"),
        ({"channel__payload": None}, "required"),
        ({"channel_endpoint": None}, "required"),
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
        (NotificationKind.HEARTBEAT, ()),
        (NotificationKind.EVENT, (notification(1),)),
        (NotificationKind.EVENT, (notification(1, hidden=True),)),
        (
            NotificationKind.QUERY_EVENT,
            (notification(1), notification(2, version=2), notification(3, hidden=True)),
        ),
    ],
)
def test_sub_4_every_notification_is_a_valid_bundle(kind: NotificationKind, entries: tuple[Notification, ...]) -> None:
    body = told.render_notification(stored(), kind, entries, len(entries), NOON)
    assert body == told.render_notification(stored(), kind, entries, len(entries), NOON)
    bundle = json.loads(body)
    Bundle.model_validate(bundle)
    validate(bundle)
    assert bundle["type"] == "history"
    assert bundle["entry"][0]["request"] == {
        "method": "GET",
        "url": f"{BASE}/Subscription/01hr0000000000000000000000/$status",
    }
    found = parameters(bundle)
    assert found["subscription"] == {"reference": f"{BASE}/Subscription/01hr0000000000000000000000"}
    assert (found["topic"], found["status"], found["type"]) == (TOPIC, "active", kind.value)
    assert found["events-since-subscription-start"] == str(len(entries))
    assert [event["event-number"] for event in found["events"]] == [str(entry.number) for entry in entries]


def test_sub_4_id_only_tells_where_and_not_what() -> None:
    bundle = told.notification_bundle(stored(), NotificationKind.EVENT, (notification(7),), 7, NOON)
    url = f"{BASE}/{notification(7).event.reference}"  # type: ignore[union-attr]
    assert parameters(bundle)["events"][0]["focus"] == {"reference": url}
    assert bundle["entry"][1] == {
        "fullUrl": url,
        "request": {"method": "POST", "url": "DocumentReference"},
        "response": {"status": "201"},
    }


def test_sub_4_full_resource_brings_the_resource() -> None:
    body = b'{"resourceType":"Basic","id":"x","code":{"text":"x"}}'
    entry = replace(notification(7, version=2), resource=body)
    bundle = told.notification_bundle(stored(Content.FULL_RESOURCE), NotificationKind.EVENT, (entry,), 7, NOON)
    validate(bundle)
    assert bundle["entry"][1]["resource"] == json.loads(body)
    assert bundle["entry"][1]["request"]["method"] == "PUT"
    assert bundle["entry"][1]["fullUrl"] == parameters(bundle)["events"][0]["focus"]["reference"]


def test_sub_4_what_cannot_be_read_any_more_has_its_entry() -> None:
    full = stored(Content.FULL_RESOURCE)
    (_, entry) = told.notification_bundle(full, NotificationKind.EVENT, (notification(7),), 7, NOON)["entry"]
    reference = entry["fullUrl"].removeprefix(f"{BASE}/")
    assert entry["request"] == {"method": "POST", "url": "DocumentReference"}
    assert "resource" not in entry
    event = notification(7).event
    assert event is not None
    erased = replace(notification(7), event=replace(event, name=EventName.ERASED))
    (_, entry) = told.notification_bundle(full, NotificationKind.EVENT, (erased,), 7, NOON)["entry"]
    assert entry["request"] == {"method": "DELETE", "url": reference}


@pytest.mark.parametrize(("asked", "entries"), [(Content.EMPTY, 1), (Content.ID_ONLY, 2)])
def test_sub_4_less_content_than_there_is(asked: Content, entries: int) -> None:
    """Whoever makes the entries, `empty` tells numbers only, and `id-only` no resource."""
    entry = replace(notification(7), resource=b'{"resourceType":"Basic"}')
    bundle = told.notification_bundle(stored(asked), NotificationKind.EVENT, (entry,), 7, NOON)
    assert len(bundle["entry"]) == entries
    assert "Basic" not in json.dumps(bundle)
    assert (KEY in json.dumps(bundle)) is (asked is Content.ID_ONLY)


def test_sub_4_the_payload_is_xml_if_it_is_asked_for() -> None:
    entries = (replace(notification(7), resource=b'{"resourceType":"Basic","id":"x","code":{"text":"a < b"}}'),)
    full = stored(Content.FULL_RESOURCE)
    as_json = told.render_notification(full, NotificationKind.EVENT, entries, 7, NOON)
    in_xml = replace(full, payload="application/fhir+xml")
    as_xml = told.render_notification(in_xml, NotificationKind.EVENT, entries, 7, NOON)
    assert fhir_xml.loads(as_xml) == json.loads(as_json)


def test_sub_4_a_hidden_event_is_a_number_and_a_time() -> None:
    bundle = told.notification_bundle(stored(), NotificationKind.EVENT, (notification(7, hidden=True),), 7, NOON)
    assert parameters(bundle)["events"] == [{"event-number": "7", "timestamp": "2026-03-01T12:00:00.000Z"}]
    assert len(bundle["entry"]) == 1
    assert KEY not in json.dumps(bundle)


def test_sub_7_status_is_a_searchset_of_parameters() -> None:
    asked = CaughtUp(subscription=stored(), notifications=(), total=41, touched=Touched())
    bundle = told.status_bundle([asked], NOON, self_url=f"{BASE}/Subscription/x/$status")
    Bundle.model_validate(bundle)
    validate(bundle)
    assert (bundle["type"], bundle["total"], len(bundle["entry"])) == ("searchset", 1, 1)
    found = parameters(bundle)
    assert (found["type"], found["events-since-subscription-start"]) == ("query-status", "41")
    assert "error" not in found


def test_sub_7_status_tells_what_went_wrong() -> None:
    failing = replace(stored(), failures=3, failing_since=NOON, error="the endpoint did not acknowledge: status 503")
    asked = CaughtUp(subscription=failing, notifications=(), total=41, touched=Touched())
    bundle = told.status_bundle([asked], NOON, self_url=BASE)
    validate(bundle)
    errors = [
        each["valueCodeableConcept"]["text"]
        for each in bundle["entry"][0]["resource"]["parameter"]
        if each["name"] == "error"
    ]
    assert errors[0] == "the endpoint did not acknowledge: status 503"
    assert "3, since 2026-03-01T12:00:00.000Z" in errors[1]


def test_sub_7_of_no_subscription() -> None:
    bundle = told.status_bundle([], NOON, self_url=BASE)
    validate(bundle)
    assert (bundle["total"], "entry" in bundle) == (0, False)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (1, None, None)),
        ({"eventsSinceNumber": "3", "eventsUntilNumber": "5"}, (3, 5, None)),
        ({"eventsSinceNumber": "0", "content": "empty"}, (1, None, Content.EMPTY)),
        ({"content": "full-resource"}, (1, None, Content.FULL_RESOURCE)),
    ],
)
def test_sub_8_a_range_is_read(given: dict[str, str], expected: Any) -> None:
    assert told.parse_range(given.get) == expected


@pytest.mark.parametrize(
    "given",
    [
        {"eventsSinceNumber": "-1"},
        {"eventsUntilNumber": "x"},
        {"eventsSinceNumber": "1" * 10},
        {"eventsSinceNumber": "\u0663"},  # a digit, elsewhere
        {"content": "everything"},
    ],
)
def test_sub_8_a_range_that_is_none(given: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        told.parse_range(given.get)


def test_sub_7_and_8_arguments_in_a_body() -> None:
    body = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "id", "valueId": "a"},
            {"name": "status", "valueCode": "active"},
            {"name": "eventsSinceNumber", "valueString": "2"},
            {"name": "eventsUntilNumber", "valueInteger": 3},
        ],
    }
    pairs = told.asked_in(body)
    assert told.parse_range(dict(pairs).get) == (2, 3, None)
    assert told.parse_chosen(pairs) == (["a"], frozenset({SubscriptionStatus.ACTIVE}))
    assert told.parse_chosen([("id", "a,b"), ("id", "a"), ("status", "off,error")]) == (
        ["a", "b"],
        frozenset({SubscriptionStatus.OFF, SubscriptionStatus.ERROR}),
    )
    for parameter in ({"name": "id", "valueBoolean": True}, {"name": 1, "valueId": "a"}, {"name": "id"}):
        with pytest.raises(Invalid):
            told.asked_in({"resourceType": "Parameters", "parameter": [parameter]})
    with pytest.raises(Invalid):
        told.parse_chosen([("status", "asleep")])


def test_the_new_secret_is_a_parameter() -> None:
    rotated = fhir.render_secret(replace(stored(), former_secret="former", former_until=NOON))
    Parameters.model_validate(rotated)
    assert [each["name"] for each in rotated["parameter"]] == ["secret", "formerUntil"]
    assert 'former"' not in json.dumps(rotated)


@pytest.mark.parametrize(
    ("asked", "is_found"),
    [
        ([], True),
        ([("status", "active")], True),
        ([("status", "off,active"), ("type", "rest-hook")], True),
        ([("status", "off")], False),
        ([("url", "https://hooks.example/in")], True),
        ([("url", "https://hooks.example/")], False),
        ([("criteria", "HTTPS://passerelle.example/SubscriptionTopic/doc")], True),
        ([("payload", "application/fhir+xml")], False),
    ],
)
def test_sub_9_subscriptions_are_searched(asked: list[tuple[str, str]], is_found: bool) -> None:
    assert fhir.found_by(fhir.render(stored()), asked) is is_found
