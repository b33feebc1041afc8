"""The Subscription API, and a subscription's life through dispatch and delivery (SUB-1 to SUB-10)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from functions.deliver.handler import handler as deliver
from functions.dispatch.handler import handler as dispatch
from functions.subscriptions.handler import handler as subscriptions
from passerelle import wiring
from passerelle.aws.journal import event_to_map
from passerelle.events import Event, EventName
from passerelle.fhir import xml as fhir_xml
from passerelle.fhir.subscription import BACKPORT, OWN
from passerelle.fhir.validation import validate
from passerelle.notifications.model import MAX_DELIVERY_ATTEMPTS
from passerelle.notifications.signature import verify
from passerelle.notifications.topics import TOPIC_ROOT
from passerelle.wiring import process
from tests.notifications import notifications_on_moto, register

SCOPE = "system/Subscription.cruds system/Organization.rs"
ORGANIZATION = "Organization/01hr0000000000000000000000"
PAUSE = timedelta(minutes=62)  # longer than any between two attempts


class Endpoint(ThreadingHTTPServer):
    """A subscriber's webhook on this machine; `answers` are given in turn, the last for ever."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Hook)
        self.answers = [200]
        self.received: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"

    def told(self) -> list[dict[str, str]]:
        """Type, total, and number of the event if there is one, of each notification."""
        found = []
        for _, body in self.received:
            status = json.loads(body)["entry"][0]["resource"]
            named = {p["name"]: p for p in status["parameter"]}
            told = {"type": named["type"]["valueCode"]}
            told["total"] = named["events-since-subscription-start"]["valueString"]
            if "notification-event" in named:
                told["number"] = named["notification-event"]["part"][0]["valueString"]
            found.append(told)
        return found


class _Hook(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((dict(self.headers), body))
        answers = self.server.answers
        self.send_response(answers.pop(0) if len(answers) > 1 else answers[0])
        self.end_headers()

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@dataclass
class Stack:
    sqs: Any
    url: str
    dead_url: str
    versions: int = 0
    later: timedelta = timedelta()  # how far the clock of deliveries is ahead
    failures: list[Any] = field(default_factory=list)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        client: str = "practice",
        scope: str = SCOPE,
        role: str = "practice",
        headers: dict[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
        professional: str | None = None,
    ) -> Any:
        listed = {name: [value] if isinstance(value, str) else value for name, value in (query or {}).items()}
        answer = subscriptions(
            {
                "httpMethod": method,
                "path": f"/fhir{path}",
                "multiValueQueryStringParameters": listed,
                "headers": {"Content-Type": "application/fhir+json", **(headers or {})},
                "body": None if body is None else body if isinstance(body, str) else json.dumps(body),
                "isBase64Encoded": False,
                "requestContext": {
                    "requestId": "request-1",
                    "domainName": "api.example",
                    "path": f"/fhir{path}",
                    "authorizer": {
                        "client_id": client,
                        "organisation": "1",
                        "role": role,
                        "scope": scope,
                        "jti": "token-1",
                        **({"professional": professional} if professional else {}),
                    },
                },
            },
            None,
        )
        is_json = "json" in answer["headers"].get("Content-Type", "json")
        told = json.loads(answer["body"] or "null") if is_json else answer["body"]
        return answer["statusCode"], told, answer["headers"]

    def happen(self) -> None:
        """One more event."""
        self.versions += 1
        event = Event(
            name=EventName.RECORD_CHANGED,
            reference=ORGANIZATION,
            version=self.versions,
            at=datetime.now(UTC),
            author="hospital-a",
        )
        envelope = json.dumps({"detail": event_to_map(event)})
        assert dispatch({"Records": [{"messageId": "m", "body": envelope}]}, None) == {"batchItemFailures": []}

    def pump(self, *, receives: int = 40, waits: timedelta = timedelta()) -> None:
        """Deliver what is queued, one message at a time, as the event source mapping does.

        After a failure the clock of deliveries is put forward.
        """
        for _ in range(receives):
            messages = self.sqs.receive_message(
                QueueUrl=self.url, MaxNumberOfMessages=1, AttributeNames=["All"], VisibilityTimeout=600
            ).get("Messages")
            if not messages:
                return
            (message,) = messages
            record = {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
            }
            answer = deliver({"Records": [record]}, None)
            if answer["batchItemFailures"]:
                self.failures.append(json.loads(message["Body"]))
                self.later += waits
                # The pause is over at once.
                self.sqs.change_message_visibility(
                    QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
                )
            else:
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])

    def dead(self) -> list[Any]:
        messages = self.sqs.receive_message(QueueUrl=self.dead_url, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(message["Body"]) for message in messages]


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    with notifications_on_moto() as sqs:
        for name in ("practice", "hospital-b"):
            register(name, SCOPE)
        dead_url = sqs.get_queue_url(QueueName="dead.fifo")["QueueUrl"]
        made = Stack(sqs=sqs, url=wiring.environment().deliveries_queue_url, dead_url=dead_url)
        monkeypatch.setattr(process, "now", lambda: datetime.now(UTC) + made.later)
        yield made


def content_of(code: str) -> dict[str, Any]:
    return {"url": BACKPORT + "backport-payload-content", "valueCode": code}


def channel(**changes: Any) -> dict[str, Any]:
    return changes


def filtered(criteria: str) -> dict[str, Any]:
    return {"_criteria": {"extension": [{"url": BACKPORT + "backport-filter-criteria", "valueString": criteria}]}}


def resource(endpoint: str, **changes: Any) -> dict[str, Any]:
    """A Subscription; `type`, `payload`, `header` and `extension` are the channel's."""
    content = content_of(changes.pop("content", "id-only"))
    told = {name: changes.pop(name) for name in [*changes] if name in ("type", "payload", "header", "extension")}
    return {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "care coordination",
        "criteria": TOPIC_ROOT + "record-changed",
        "channel": {
            "type": "rest-hook",
            "endpoint": endpoint,
            "payload": "application/fhir+json",
            "_payload": {"extension": [content]},
            "header": ["Authorization: Bearer theirs"],
            **told,
        },
        **changes,
    }


def subscribed(stack: Stack, endpoint: Endpoint, **changes: Any) -> tuple[str, str]:
    """Id and secret of a subscription that had its handshake."""
    status, body, headers = stack.call("POST", "/Subscription", resource(endpoint.url, **changes))
    assert status == 201, body
    stack.pump()
    return body["id"], headers["X-Passerelle-Webhook-Secret"]


def state(stack: Stack, id_: str) -> str:
    return str(stack.call("GET", f"/Subscription/{id_}")[1]["status"])


def test_sub_1_and_3_a_subscription_is_requested_then_active(stack: Stack, endpoint: Endpoint) -> None:
    status, body, headers = stack.call("POST", "/Subscription", resource(endpoint.url))
    assert status == 201
    assert body["status"] == "requested"
    assert headers["Location"] == f"https://api.example/fhir/Subscription/{body['id']}"
    assert len(bytes.fromhex(headers["X-Passerelle-Webhook-Secret"])) == 32
    assert endpoint.received == []
    stack.pump()
    assert endpoint.told() == [{"type": "handshake", "total": "0"}]
    status, body, headers = stack.call("GET", f"/Subscription/{body['id']}")
    assert (status, body["status"], body["meta"]["versionId"]) == (200, "active", "2")
    assert "X-Passerelle-Webhook-Secret" not in headers


@pytest.mark.parametrize("answer", [302, 404, 503])
def test_sub_3_a_failed_handshake_is_an_error(stack: Stack, endpoint: Endpoint, answer: int) -> None:
    endpoint.answers = [answer]
    id_, _ = subscribed(stack, endpoint)
    assert state(stack, id_) == "error"
    assert stack.failures == []


@pytest.mark.parametrize(
    ("endpoint_url", "changes"),
    [
        ("https://hooks.example/", {"criteria": "https://other.example/topic"}),
        ("https://hooks.example/", {"content": "everything"}),
        ("https://hooks.example/", channel(type="websocket")),
        ("https://hooks.example/", channel(payload="application/fhir+json; fhirVersion=4.3")),
        ("https://hooks.example/", filtered("?colour=red")),
        ("https://hooks.example/", filtered("Organization?patient=1&patient=2")),
        ("http://hooks.example/", {"criteria": TOPIC_ROOT + "unknown"}),
        ("ftp://hooks.example/", {}),
        ("https://10.0.0.1/", {}),
        ("https://169.254.169.254/latest", {}),
        ("https://user:secret@hooks.example/", {}),
    ],
)
def test_sub_2_what_is_not_offered_is_not_stored(stack: Stack, endpoint_url: str, changes: dict[str, Any]) -> None:
    status, body, _ = stack.call("POST", "/Subscription", resource(endpoint_url, **changes))
    assert status == 422
    assert [issue["code"] for issue in body["issue"]] == ["not-supported"]
    assert endpoint_url not in json.dumps(body)
    assert list(wiring.notification_ports().subscriptions.interests(["record-changed"], [])) == []


def test_http_and_loopback_are_for_a_desk_only(
    stack: Stack, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("STAGE", "prod"), ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")):
        with monkeypatch.context() as context:
            context.setenv(name, value)
            wiring.reset()
            for url in (endpoint.url, "https://127.0.0.1/"):
                assert stack.call("POST", "/Subscription", resource(url))[0] == 422
        wiring.reset()
    assert stack.call("POST", "/Subscription", resource(endpoint.url))[0] == 201


def test_sub_4_and_5_events_arrive_in_order_signed_and_numbered(stack: Stack, endpoint: Endpoint) -> None:
    _, secret = subscribed(stack, endpoint)
    endpoint.answers = [503, 200, 500, 500, 200]
    for _ in range(3):
        stack.happen()
    stack.pump()
    assert [(told["type"], told["number"], told["total"]) for told in endpoint.told()[1:]] == [
        ("event-notification", number, number) for number in ("1", "1", "2", "2", "2", "3")
    ]
    for headers, body in endpoint.received:
        assert headers["Content-Type"] == "application/fhir+json"
        assert headers["authorization"] == "Bearer theirs"
        delivery, signature = headers["X-Passerelle-Delivery"], headers["X-Passerelle-Signature"]
        assert verify([secret], delivery, body, signature, datetime.now(UTC))
        assert not verify(["0" * 64], delivery, body, signature, datetime.now(UTC))
    entries = json.loads(endpoint.received[1][1])["entry"]
    assert [entry["fullUrl"] for entry in entries[1:]] == [f"https://api.example/fhir/{ORGANIZATION}"]
    assert all("resource" not in entry for entry in entries[1:])


def test_sub_5_heartbeats_have_the_same_counter(stack: Stack, endpoint: Endpoint) -> None:
    period = {"url": BACKPORT + "backport-heartbeat-period", "valueUnsignedInt": 600}
    id_, secret = subscribed(stack, endpoint, extension=[period])
    stack.happen()
    stack.pump()
    for minutes in (9, 11, 11):
        stack.later += timedelta(minutes=minutes)
        wiring.notification_ports().deliveries.beat(id_)
        stack.pump()
    kinds = [(told["type"], told["total"]) for told in endpoint.told()]
    assert kinds == [("handshake", "0"), ("event-notification", "1"), ("heartbeat", "1"), ("heartbeat", "1")]
    assert len({headers["X-Passerelle-Delivery"] for headers, _ in endpoint.received}) == 4
    headers, body = endpoint.received[-1]
    delivery, signature = headers["X-Passerelle-Delivery"], headers["X-Passerelle-Signature"]
    assert verify([secret], delivery, body, signature, process.now())


def test_sub_5_several_events_in_a_notification(stack: Stack, endpoint: Endpoint) -> None:
    most = {"url": BACKPORT + "backport-max-count", "valuePositiveInt": 2}
    subscribed(stack, endpoint, extension=[most])
    for _ in range(3):
        stack.happen()
    stack.pump()
    numbers = [
        [
            part["part"][0]["valueString"]
            for part in json.loads(body)["entry"][0]["resource"]["parameter"]
            if part["name"] == "notification-event"
        ]
        for _, body in endpoint.received[1:]
    ]
    assert numbers == [["1", "2"], ["3"]]


def test_sub_4_empty_tells_nothing_but_the_number(stack: Stack, endpoint: Endpoint) -> None:
    subscribed(stack, endpoint, content="empty")
    stack.happen()
    stack.pump()
    assert endpoint.told()[-1]["number"] == "1"
    assert b"Organization" not in endpoint.received[-1][1]


def test_sub_6_a_dead_endpoint_ends_in_error_and_stalls_nobody(stack: Stack, endpoint: Endpoint) -> None:
    alive, _ = subscribed(stack, endpoint)
    dead_endpoint = Endpoint()
    dead_endpoint.daemon_threads = True
    threading.Thread(target=dead_endpoint.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    dead, _ = subscribed(stack, dead_endpoint)
    dead_endpoint.shutdown()
    dead_endpoint.server_close()
    for _ in range(3):
        stack.happen()
    stack.pump(waits=PAUSE)
    assert [told.get("number") for told in endpoint.told()] == [None, "1", "2", "3"]
    assert {each["subscription"] for each in stack.failures} == {dead}
    assert len(stack.failures) == MAX_DELIVERY_ATTEMPTS - 1  # the last one is not to be tried again
    assert stack.dead() == []
    assert (state(stack, alive), state(stack, dead)) == ("active", "error")
    stack.happen()
    stack.pump()
    status, body, _ = stack.call("GET", f"/Subscription/{dead}/$status")
    told = {p["name"]: p for p in body["entry"][0]["resource"]["parameter"]}
    assert (status, told["status"]["valueCode"]) == (200, "error")
    assert told["events-since-subscription-start"]["valueString"] == "4"  # the counter still grows
    assert told["error"]["valueCodeableConcept"]["text"].startswith("attempts in a row")  # the last of two


def test_sub_8_a_subscriber_catches_up(stack: Stack, endpoint: Endpoint) -> None:
    id_, _ = subscribed(stack, endpoint)
    for _ in range(4):
        stack.happen()
    query = {"eventsSinceNumber": "2", "eventsUntilNumber": "3"}
    status, body, _ = stack.call("GET", f"/Subscription/{id_}/$events", query=query)
    assert status == 200
    numbers = [
        p["part"][0]["valueString"]
        for p in body["entry"][0]["resource"]["parameter"]
        if p["name"] == "notification-event"
    ]
    assert numbers == ["2", "3"]
    assert len(body["entry"]) == 3
    status, body, _ = stack.call("GET", f"/Subscription/{id_}/$events", query={**query, "content": "empty"})
    assert len(body["entry"]) == 1
    assert stack.call("GET", f"/Subscription/{id_}/$events", query={"eventsSinceNumber": "x"})[0] == 400
    backwards = {"eventsSinceNumber": "3", "eventsUntilNumber": "2"}
    assert stack.call("GET", f"/Subscription/{id_}/$events", query=backwards)[0] == 400
    status, body, _ = stack.call("GET", f"/Subscription/{id_}/$events", scope="system/Subscription.r system/Patient.r")
    assert (status, len(body["entry"])) == (200, 1)  # numbers only: the token reads no Organization


def test_sub_9_a_subscription_is_its_owners(stack: Stack, endpoint: Endpoint) -> None:
    id_, _ = subscribed(stack, endpoint)
    for method, path in (
        ("GET", f"/Subscription/{id_}"),
        ("DELETE", f"/Subscription/{id_}"),
        ("GET", f"/Subscription/{id_}/$status"),
        ("GET", f"/Subscription/{id_}/$events"),
        ("GET", "/Subscription/01hr0000000000000000000000"),
    ):
        client = "practice" if path.endswith("01hr0000000000000000000000") else "hospital-b"
        status, body, _ = stack.call(method, path, client=client)
        assert (status, body["issue"][0]["code"]) == (404, "not-found")
    assert stack.call("DELETE", f"/Subscription/{id_}")[0] == 200
    assert stack.call("GET", f"/Subscription/{id_}")[0] == 404
    assert stack.call("DELETE", f"/Subscription/{id_}")[0] == 404
    stack.happen()
    stack.pump()
    assert len(endpoint.received) == 1  # the handshake


def test_sub_10_a_revoked_client_is_told_nothing(stack: Stack, endpoint: Endpoint) -> None:
    id_, _ = subscribed(stack, endpoint)
    stack.happen()
    wiring.clients().deactivate("practice")
    stack.happen()
    stack.pump()
    assert len(endpoint.received) == 1
    assert state(stack, id_) == "off"
    assert wiring.notification_ports().log.last_number(id_) == 1


def revised(stack: Stack, id_: str, *, headers: dict[str, str] | None = None, **changes: Any) -> Any:
    """The answer to a PUT of what a GET gives, with changes; `endpoint` and `header` are the channel's."""
    body = stack.call("GET", f"/Subscription/{id_}")[1]
    mine = ("endpoint", "extension", "header", "payload", "_payload", "type")
    channel = {**body["channel"], **{name: changes.pop(name) for name in mine if name in changes}}
    body = {**body, **changes, "channel": {name: value for name, value in channel.items() if value is not None}}
    return stack.call("PUT", f"/Subscription/{id_}", body, headers=headers)


def numbers(endpoint: Endpoint) -> list[str]:
    return [told["number"] for told in endpoint.told() if "number" in told]


def test_sub_9_off_stops_and_requested_starts_again(stack: Stack, endpoint: Endpoint) -> None:
    id_, secret = subscribed(stack, endpoint)
    stack.happen()
    stack.pump()
    status, body, headers = revised(stack, id_, status="off")
    assert (status, body["status"], headers["ETag"]) == (200, "off", 'W/"3"')
    assert "X-Passerelle-Webhook-Secret" not in headers
    stack.happen()
    stack.pump()
    assert numbers(endpoint) == ["1"]
    status, body, _ = revised(stack, id_, status="requested")
    assert (status, body["status"]) == (200, "requested")
    stack.pump()
    assert state(stack, id_) == "active"
    stack.happen()
    stack.pump()
    assert numbers(endpoint) == ["1", "2"]  # what happened while it was off has no number
    headers, told = endpoint.received[-1]
    delivery, signature = headers["X-Passerelle-Delivery"], headers["X-Passerelle-Signature"]
    assert verify([secret], delivery, told, signature, datetime.now(UTC))


def test_sub_9_one_in_error_goes_on_where_it_stopped(stack: Stack, endpoint: Endpoint) -> None:
    id_, _ = subscribed(stack, endpoint)
    endpoint.answers = [503]
    stack.happen()
    stack.happen()
    stack.pump(waits=PAUSE)
    status, body, _ = stack.call("GET", f"/Subscription/{id_}")
    assert (body["status"], body["error"]) == ("error", "the endpoint did not acknowledge: status 503")
    endpoint.answers = [200]
    endpoint.received.clear()
    status, body, _ = revised(stack, id_, status="requested")
    assert (status, body["status"]) == (200, "requested")
    assert "error" not in body
    stack.pump()
    assert endpoint.told()[0]["type"] == "handshake"
    assert numbers(endpoint) == ["1", "2"]
    assert state(stack, id_) == "active"


def test_sub_9_another_endpoint_has_to_answer_first(stack: Stack, endpoint: Endpoint) -> None:
    id_, _ = subscribed(stack, endpoint)
    other = f"{endpoint.url}/other"
    status, body, _ = revised(stack, id_, endpoint=other, header=["Authorization: Bearer new"])
    assert (status, body["status"], body["channel"]["endpoint"]) == (200, "requested", other)
    stack.pump()
    assert [told["type"] for told in endpoint.told()] == ["handshake", "handshake"]
    assert endpoint.received[-1][0]["authorization"] == "Bearer new"
    assert state(stack, id_) == "active"


def test_sub_9_what_changes_nothing_is_no_new_version(stack: Stack, endpoint: Endpoint) -> None:
    id_, _ = subscribed(stack, endpoint)
    status, body, headers = revised(stack, id_)
    assert (status, body["status"], headers["ETag"]) == (200, "active", 'W/"2"')
    status, body, headers = revised(stack, id_, reason="another reason")
    assert (status, body["status"], headers["ETag"]) == (200, "active", 'W/"3"')
    assert body["reason"] == "another reason"
    stack.pump()
    assert len(endpoint.received) == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"criteria": TOPIC_ROOT + "anything-changed"}, "not-supported"),
        (
            {
                "_criteria": {
                    "extension": [{"url": BACKPORT + "backport-filter-criteria", "valueString": "?author=hospital-a"}]
                }
            },
            "not-supported",
        ),
        ({"endpoint": "https://10.0.0.1/"}, "not-supported"),
        ({"endpoint": "ftp://hooks.example/"}, "not-supported"),
        ({"payload": "application/fhir+xml; fhirVersion=4.3"}, "not-supported"),
        ({"_payload": {"extension": [content_of("full-resource")]}}, "not-supported"),
        ({"type": "email", "header": None, "_payload": {"extension": [content_of("empty")]}}, "not-supported"),
        ({"status": "error"}, "value"),
    ],
)
def test_sub_9_what_does_not_change(stack: Stack, endpoint: Endpoint, changes: dict[str, Any], code: str) -> None:
    id_, _ = subscribed(stack, endpoint)
    before = stack.call("GET", f"/Subscription/{id_}")[1]
    status, body, _ = revised(stack, id_, **changes)
    assert (status, [issue["code"] for issue in body["issue"]]) == (422, [code])
    assert stack.call("GET", f"/Subscription/{id_}")[1] == before


def test_sub_9_a_subscriber_does_not_activate(stack: Stack, endpoint: Endpoint) -> None:
    status, body, _ = stack.call("POST", "/Subscription", {**resource(endpoint.url), "status": "active"})
    assert (status, body["issue"][0]["expression"]) == (422, ["Subscription.status"])
    id_, _ = subscribed(stack, endpoint)
    assert revised(stack, id_, status="off")[0] == 200
    assert revised(stack, id_, status="active")[0] == 422


def test_sub_9_the_version_that_a_change_relies_on(stack: Stack, endpoint: Endpoint) -> None:
    id_, _ = subscribed(stack, endpoint)
    assert revised(stack, id_, status="off", headers={"If-Match": 'W/"1"'})[0] == 412
    assert revised(stack, id_, status="off", headers={"If-Match": 'W/"2"'})[0] == 200
    body = stack.call("GET", f"/Subscription/{id_}")[1]
    status, outcome, _ = stack.call("PUT", f"/Subscription/{id_}", {**body, "id": "other"})
    assert (status, outcome["issue"][0]["code"]) == (400, "invariant")
    assert stack.call("PUT", f"/Subscription/{id_}", body, client="hospital-b")[0] == 404


def test_sub_9_the_same_change_again_is_one_change(stack: Stack, endpoint: Endpoint) -> None:
    id_, _ = subscribed(stack, endpoint)
    body = {**stack.call("GET", f"/Subscription/{id_}")[1], "status": "off"}
    for _ in range(2):
        status, answer, _ = stack.call("PUT", f"/Subscription/{id_}", body, headers={"Idempotency-Key": "off"})
        assert (status, answer["status"], answer["meta"]["versionId"]) == (200, "off", "3")


def test_the_scope_is_checked_before_anything_else(stack: Stack) -> None:
    for method, path, body in (
        ("POST", "/Subscription", "not json"),
        ("PUT", "/Subscription/x", "not json"),
        ("GET", "/Subscription/x", None),
        ("DELETE", "/Subscription/x", None),
        ("GET", "/Subscription/x/$status", None),
        ("GET", "/Subscription/x/$events", None),
        ("POST", "/Subscription/x/$events", "not json"),
        ("POST", "/Subscription/x/$status", "not json"),
        ("GET", "/Subscription/$status", None),
        ("POST", "/Subscription/$status", "not json"),
        ("GET", "/Subscription", None),
        ("POST", "/Subscription/x/$rotate-secret", None),
    ):
        status, outcome, _ = stack.call(method, path, body, scope="system/Patient.cruds")
        assert (status, outcome["issue"][0]["code"]) == (403, "forbidden")


def test_care_systems_subscribe_and_patients_to_the_own_record(stack: Stack, endpoint: Endpoint) -> None:
    """What a patient is told of is in tests/functions/test_break_glass.py."""
    assert stack.call("POST", "/Subscription", resource(endpoint.url), role="auditor")[0] == 403
    assert stack.call("POST", "/Subscription", resource(endpoint.url), role="patient")[0] == 422


def test_93_5_what_is_no_feed_is_not_stored(stack: Stack) -> None:
    for criteria in ("Patient?family=x", "Patient?_id=x&identifier=y", "Patient?_has:Observation:patient:code=x"):
        body = {**resource("https://hooks.example/"), "criteria": criteria}
        body["channel"] = {**body["channel"], "type": "message"}
        status, outcome, _ = stack.call("POST", "/Subscription", body)
        assert (status, [issue["code"] for issue in outcome["issue"]]) == (422, ["not-supported"])
    assert list(wiring.notification_ports().subscriptions.interests(["patient-feed"], [])) == []


def test_garbage_is_refused(stack: Stack) -> None:
    for body in ("not json", "[]", "{}", '{"resourceType":"Patient"}'):
        status, outcome, _ = stack.call("POST", "/Subscription", body)
        assert (status, outcome["resourceType"]) == (400, "OperationOutcome")


def test_the_same_request_again_is_the_same_subscription(stack: Stack, endpoint: Endpoint) -> None:
    key = {"Idempotency-Key": "once"}
    _, first, told = stack.call("POST", "/Subscription", resource(endpoint.url), headers=key)
    _, again, told_again = stack.call("POST", "/Subscription", resource(endpoint.url), headers=key)
    assert (first["id"], told["X-Passerelle-Webhook-Secret"]) == (
        again["id"],
        told_again["X-Passerelle-Webhook-Secret"],
    )
    stack.pump()
    assert len(endpoint.received) == 1


def test_no_secret_and_no_endpoint_is_logged(
    stack: Stack, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.answers = [200, 500]
    _, secret = subscribed(stack, endpoint)
    stack.happen()
    stack.pump()
    logged = str([vars(record) for record in caplog.records])
    assert "status 500" in logged
    for hidden in (secret, "theirs", "127.0.0.1", "Organization"):
        assert hidden not in logged


def told_of(bundle: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The parameters of each status in a searchset, by the id of its subscription."""
    validate(bundle)
    found = {}
    for entry in bundle.get("entry", []):
        named = {
            each["name"]: next(v for k, v in each.items() if k != "name") for each in entry["resource"]["parameter"]
        }
        found[named["subscription"]["reference"].rpartition("/")[2]] = named
    return found


def made(stack: Stack, endpoint: Endpoint, **options: Any) -> str:
    """The id of a new subscription, its handshake still to come; `options` are those of the call."""
    status, body, _ = stack.call("POST", "/Subscription", resource(endpoint.url), **options)
    assert status == 201, body
    return str(body["id"])


def test_sub_1_in_xml_and_with_its_pace(stack: Stack, endpoint: Endpoint) -> None:
    """SUB-1 (X): what was sent in XML is read in JSON, and the other way round."""
    rules = [
        {"url": BACKPORT + "backport-heartbeat-period", "valueUnsignedInt": 600},
        {"url": BACKPORT + "backport-max-count", "valuePositiveInt": 5},
        {"url": OWN + "digest", "valueTime": "08:00:00"},
    ]
    sent = resource(endpoint.url, extension=rules, payload="application/fhir+xml", content="full-resource")
    in_xml = {"Content-Type": "application/fhir+xml", "Accept": "application/fhir+xml"}
    status, body, headers = stack.call("POST", "/Subscription", fhir_xml.dumps(sent).decode(), headers=in_xml)
    assert (status, headers["Content-Type"].partition(";")[0]) == (201, "application/fhir+xml")
    id_ = fhir_xml.loads(body.encode())["id"]
    _, found, _ = stack.call("GET", f"/Subscription/{id_}")
    assert {**sent["channel"], "extension": rules} == found["channel"]
    off = fhir_xml.dumps({**found, "status": "off"}).decode()
    status, body, _ = stack.call("PUT", f"/Subscription/{id_}", off, headers=in_xml)
    assert (status, fhir_xml.loads(body.encode())["status"]) == (200, "off")
    entity = '<!DOCTYPE x [<!ENTITY a "b">]><Subscription xmlns="http://hl7.org/fhir"/>'
    assert stack.call("POST", "/Subscription", entity, headers=in_xml)[0] == 400


@pytest.mark.parametrize(
    ("changes", "endpoint_url"),
    [
        ({"type": "email", "payload": None, "header": None, "content": "empty"}, "https://hooks.example/"),
        ({"type": "email", "payload": None, "header": None, "content": "empty"}, "mailto:a@b.example?bcc=c@d.example"),
        ({"type": "email", "payload": None, "header": None, "content": "empty"}, "mailto:a@b.example,c@d.example"),
        ({"type": "sms", "payload": None, "header": None, "content": "empty"}, "tel:+33899000000"),
        ({"type": "email", "payload": None, "header": None, "content": "id-only"}, "mailto:a@b.example"),
    ],
)
def test_sub_2_letters_that_are_not_offered(stack: Stack, changes: dict[str, Any], endpoint_url: str) -> None:
    body = resource(endpoint_url, **changes)
    body["channel"] = {name: value for name, value in body["channel"].items() if value is not None}
    status, outcome, _ = stack.call("POST", "/Subscription", body)
    assert (status, [issue["code"] for issue in outcome["issue"]]) == (422, ["not-supported"])
    assert endpoint_url not in json.dumps(outcome)


def test_sub_2_a_flood_of_headers(stack: Stack, endpoint: Endpoint) -> None:
    for header, expected in ((["A: 1"] * 200_000, 422), ([f"A: {'x' * 6_000_000}"], 413), ([f"A: {'x' * 3_000}"], 422)):
        assert stack.call("POST", "/Subscription", resource(endpoint.url, header=header))[0] == expected


def test_sub_9_what_the_exchange_decides_is_not_taken_from_a_body(stack: Stack, endpoint: Endpoint) -> None:
    """Mass assignment: id, version, error and secret stay what they are; the owner, too."""
    theirs = {"id": "01hr0000000000000000000000", "error": "theirs", "meta": {"versionId": "99"}}
    hidden = {"extension": [{"url": "https://passerelle.example/secret", "valueString": "0" * 64}]}
    status, body, headers = stack.call("POST", "/Subscription", {**resource(endpoint.url), **theirs, **hidden})
    assert (status, body["meta"]["versionId"], "error" in body) == (201, "1", False)
    assert body["id"] != theirs["id"]
    assert headers["X-Passerelle-Webhook-Secret"] != "0" * 64
    status, body, _ = revised(stack, body["id"], error="theirs", meta={"versionId": "99"}, reason="other")
    assert status == 200, body
    assert (status, body["meta"]["versionId"], "error" in body) == (200, "2", False)


def test_sub_7_status_of_several(stack: Stack, endpoint: Endpoint) -> None:
    """SUB-7: by id or all, by status; GET and POST; those of others are left out."""
    first, second, third = (made(stack, endpoint) for _ in range(3))
    other = made(stack, endpoint, client="hospital-b")
    revised(stack, second, status="off")
    stack.happen()
    everything = stack.call("GET", "/Subscription/$status")
    assert everything[0] == 200
    told = told_of(everything[1])
    assert told.keys() == {first, second, third}
    assert {each["type"] for each in told.values()} == {"query-status"}
    totals = {id_: each["events-since-subscription-start"] for id_, each in told.items()}
    assert totals == {first: "1", second: "0", third: "1"}
    cases: list[tuple[dict[str, Any], set[str]]] = [
        ({"id": [first, other]}, {first}),
        ({"id": f"{first},{second}"}, {first, second}),
        ({"id": other}, set()),
        ({"status": "off"}, {second}),
        ({"status": ["off", "requested"], "id": [second, third]}, {second, third}),
        ({"status": "active"}, set()),
    ]
    for query, expected in cases:
        status, bundle, _ = stack.call("GET", "/Subscription/$status", query=query)
        assert (status, set(told_of(bundle))) == (200, expected), query
        pairs = [
            (name, each) for name, given in query.items() for each in ([given] if isinstance(given, str) else given)
        ]
        parameters = [{"name": name, "valueString": value} for name, value in pairs]
        body = {"resourceType": "Parameters", "parameter": parameters}
        status, bundle, _ = stack.call("POST", "/Subscription/$status", body)
        assert (status, set(told_of(bundle))) == (200, expected), query
    for method, sent in (("GET", None), ("POST", None), ("POST", {"resourceType": "Parameters"})):
        status, bundle, _ = stack.call(method, f"/Subscription/{first}/$status", sent)
        assert (status, set(told_of(bundle))) == (200, {first})
    assert stack.call("GET", "/Subscription/$status", query={"status": "asleep"})[0] == 400
    assert stack.call("GET", "/Subscription/$status", query={"id": ",".join(map(str, range(101)))})[0] == 400
    assert stack.call("POST", "/Subscription/$status", {"resourceType": "Patient"})[0] == 400


def test_sub_8_events_are_asked_for_in_a_body_too(stack: Stack, endpoint: Endpoint) -> None:
    id_ = made(stack, endpoint)
    for _ in range(3):
        stack.happen()
    asked = [{"name": "eventsSinceNumber", "valueString": "2"}, {"name": "content", "valueCode": "empty"}]
    body = {"resourceType": "Parameters", "parameter": asked}
    status, bundle, _ = stack.call("POST", f"/Subscription/{id_}/$events", body)
    numbers = [each["part"][0]["valueString"] for each in bundle["entry"][0]["resource"]["parameter"] if "part" in each]
    assert (status, numbers, len(bundle["entry"])) == (200, ["2", "3"], 1)
    assert stack.call("POST", f"/Subscription/{id_}/$events", None)[0] == 200
    twice = {"resourceType": "Parameters", "parameter": [asked[0], asked[0]]}
    assert stack.call("POST", f"/Subscription/{id_}/$events", twice)[0] == 400
    assert stack.call("POST", f"/Subscription/{id_}/$events", body, client="hospital-b")[0] == 404


def rotated(stack: Stack, id_: str, **options: Any) -> dict[str, str]:
    status, body, headers = stack.call("POST", f"/Subscription/{id_}/$rotate-secret", **options)
    assert status == 200, body
    assert headers["Cache-Control"] == "no-store"
    return {each["name"]: each.get("valueString") or each.get("valueInstant") for each in body["parameter"]}


def test_the_secret_is_rotated(stack: Stack, endpoint: Endpoint) -> None:
    """The former one signs for a day; the same request again gets the same secret, which no kept answer holds."""
    _, body, headers = stack.call("POST", "/Subscription", resource(endpoint.url))
    id_, first = body["id"], headers["X-Passerelle-Webhook-Secret"]
    key = {"Idempotency-Key": "rotate"}
    new = rotated(stack, id_, headers=key)
    kept = wiring.notification_ports().subscriptions.find(id_)
    assert kept is not None
    assert (kept.secret, kept.former_secret) == (new["secret"], first)
    assert len(bytes.fromhex(new["secret"])) == 32
    assert datetime.fromisoformat(new["formerUntil"]) - datetime.now(UTC) > timedelta(hours=23)
    assert rotated(stack, id_, headers=key) == new
    answer = wiring.journal().find_answer("practice", "rotate")
    assert answer is not None
    assert new["secret"] not in str(answer.result)
    again = rotated(stack, id_)
    assert again["secret"] != new["secret"]
    kept = wiring.notification_ports().subscriptions.find(id_)
    assert kept is not None
    assert kept.former_secret == new["secret"]
    seen = stack.call("GET", f"/Subscription/{id_}")[1]
    assert (seen["status"], seen["meta"]["versionId"]) == ("requested", "3")
    assert revised(stack, id_, reason="another")[0] == 200
    after = wiring.notification_ports().subscriptions.find(id_)
    assert after is not None
    assert (after.secret, after.former_secret) == (again["secret"], new["secret"])  # a change keeps both
    assert stack.call("POST", f"/Subscription/{id_}/$rotate-secret", client="hospital-b")[0] == 404


def test_sub_9_a_client_finds_its_own(stack: Stack, endpoint: Endpoint) -> None:
    first, second = made(stack, endpoint), made(stack, endpoint)
    made(stack, endpoint, client="hospital-b")
    personal = made(stack, endpoint, professional="810000000037")
    revised(stack, second, status="off")

    def found(**options: Any) -> set[str]:
        status, bundle, _ = stack.call("GET", "/Subscription", **options)
        assert status == 200
        validate(bundle)
        assert bundle["total"] == len(bundle.get("entry", []))
        return {each["resource"]["id"] for each in bundle.get("entry", [])}

    assert found() == {first, second}  # what somebody subscribed to by name is that person's
    assert found(professional="810000000037") == {first, second, personal}
    assert found(professional="810000000045") == {first, second}
    assert found(query={"status": "off"}) == {second}
    assert found(query={"url": endpoint.url, "criteria": TOPIC_ROOT, "type": "rest-hook"}) == {first, second}
    assert found(query={"url": "https://other.example/"}) == set()
    assert found(query={"_id": f"{first},{personal}", "colour": "red"}) == {first}
    strict = {"Prefer": "handling=strict"}
    assert stack.call("GET", "/Subscription", query={"colour": "red"}, headers=strict)[0] == 400
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert stack.call("POST", "/Subscription/_search", "status=off", headers=form)[1]["total"] == 1
    stack.call("DELETE", f"/Subscription/{second}")
    assert found() == {first}


def test_somebody_elses_subscription_does_not_exist(stack: Stack, endpoint: Endpoint) -> None:
    """Another client, and another person at the same client, on every operation."""
    id_ = made(stack, endpoint, professional="810000000037")
    body = stack.call("GET", f"/Subscription/{id_}", professional="810000000037")[1]
    strangers: list[dict[str, Any]] = [{"client": "hospital-b"}, {"professional": "810000000045"}, {}]
    for stranger in strangers:
        for method, path, sent in (
            ("GET", "", None),
            ("PUT", "", body),
            ("DELETE", "", None),
            ("GET", "/$status", None),
            ("POST", "/$status", None),
            ("GET", "/$events", None),
            ("POST", "/$events", None),
            ("POST", "/$rotate-secret", None),
        ):
            status, outcome, _ = stack.call(method, f"/Subscription/{id_}{path}", sent, **stranger)
            assert (status, outcome["issue"][0]["code"]) == (404, "not-found"), (method, path)
    assert stack.call("GET", f"/Subscription/{id_}", professional="810000000037")[1] == body
