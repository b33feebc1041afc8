"""The Subscription API, and a subscription's life through dispatch and delivery (SUB-1 to SUB-10)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from functions.deliver.handler import handler as deliver
from functions.dispatch.handler import handler as dispatch
from functions.subscriptions.handler import handler as subscriptions
from passerelle import wiring
from passerelle.aws.journal import event_to_map
from passerelle.events import Event, EventName
from passerelle.fhir.subscription import BACKPORT
from passerelle.notifications.audience import TOPIC_ROOT
from passerelle.notifications.model import MAX_DELIVERY_ATTEMPTS
from passerelle.notifications.signature import verify
from tests.notifications import notifications_on_moto, register

SCOPE = "system/Subscription.crud system/Organization.rs"
ORGANIZATION = "Organization/01hr0000000000000000000000"


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
        query: dict[str, str] | None = None,
    ) -> Any:
        parts = path.split("/")
        parameters = dict(zip(("id", "operation"), parts[2:], strict=False))
        variables = "".join(f"/{{{name}}}" for name in parameters)
        answer = subscriptions(
            {
                "httpMethod": method,
                "path": f"/fhir{path}",
                "resource": f"/fhir/Subscription{variables}",
                "pathParameters": parameters,
                "multiValueQueryStringParameters": {k: [v] for k, v in (query or {}).items()},
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
                    },
                },
            },
            None,
        )
        return answer["statusCode"], json.loads(answer["body"]), answer["headers"]

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

    def pump(self, *, receives: int = 40) -> None:
        """Deliver what is queued, one message at a time, as the event source mapping does."""
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
def stack() -> Iterator[Stack]:
    with notifications_on_moto() as sqs:
        for name in ("practice", "hospital-b"):
            register(name, SCOPE)
        dead_url = sqs.get_queue_url(QueueName="dead.fifo")["QueueUrl"]
        yield Stack(sqs=sqs, url=wiring.environment().deliveries_queue_url, dead_url=dead_url)


def resource(endpoint: str, **changes: Any) -> dict[str, Any]:
    content = {"url": BACKPORT + "backport-payload-content", "valueCode": changes.pop("content", "id-only")}
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
        ("https://hooks.example/", {"content": "full-resource"}),
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


def test_sub_4_empty_tells_nothing_but_the_number(stack: Stack, endpoint: Endpoint) -> None:
    subscribed(stack, endpoint, content="empty")
    stack.happen()
    stack.pump()
    assert endpoint.told()[-1]["number"] == "1"
    assert b"Organization" not in endpoint.received[-1][1]


def test_sub_6_a_dead_endpoint_ends_in_the_dead_letter_queue_and_stalls_nobody(
    stack: Stack, endpoint: Endpoint
) -> None:
    alive, _ = subscribed(stack, endpoint)
    dead_endpoint = Endpoint()
    dead_endpoint.daemon_threads = True
    threading.Thread(target=dead_endpoint.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    dead, _ = subscribed(stack, dead_endpoint)
    dead_endpoint.shutdown()
    dead_endpoint.server_close()
    for _ in range(3):
        stack.happen()
    stack.pump()
    assert [told.get("number") for told in endpoint.told()] == [None, "1", "2", "3"]
    assert stack.failures == [{"subscription": dead, "number": 1}] * MAX_DELIVERY_ATTEMPTS
    assert stack.dead() == [{"subscription": dead, "number": 1}]
    assert (state(stack, alive), state(stack, dead)) == ("active", "error")
    stack.happen()
    stack.pump()
    status, body, _ = stack.call("GET", f"/Subscription/{dead}/$status")
    told = {p["name"]: p for p in body["entry"][0]["resource"]["parameter"]}
    assert (status, told["status"]["valueCode"]) == (200, "error")
    assert told["events-since-subscription-start"]["valueString"] == "4"  # the counter still grows


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
    channel = {name: changes.pop(name) for name in ("endpoint", "header", "payload") if name in changes}
    body = {**body, **changes, "channel": {**body["channel"], **channel}}
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
    stack.pump()
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
        ({"payload": "application/fhir+xml"}, "not-supported"),
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
