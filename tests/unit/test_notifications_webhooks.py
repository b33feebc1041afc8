"""The webhook client against real sockets: where it connects, what it sends, what it makes of answers."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from passerelle.api.outbound import certified
from passerelle.api.webhooks import HttpWebhooks
from passerelle.notifications.model import UndeliveredError
from tests.certificates import certificate_in, self_signed, server_tls


class Receiver(ThreadingHTTPServer):
    """Answers as it is told, and keeps what it got."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.status = 200
        self.body = b""
        self.headers: dict[str, str] = {}
        self.pause_seconds = 0.0
        self.received: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, dict(self.headers), body))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        for position in range(len(self.server.body)):
            time.sleep(self.server.pause_seconds)
            try:
                self.wfile.write(self.server.body[position : position + 1])
            except OSError:
                return  # the client had enough

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def reason_of(webhooks: HttpWebhooks, url: str) -> str:
    with pytest.raises(UndeliveredError) as undelivered:
        webhooks.post(url, {}, b"{}")
    return undelivered.value.reason


def test_a_notification_arrives_as_it_was_given(receiver: Receiver) -> None:
    headers = {"Content-Type": "application/fhir+json", "authorization": "Bearer theirs"}
    HttpWebhooks(allow_loopback=True).post(f"{receiver.url}/hook?x=1", headers, b'{"a":1}')
    ((path, got, body),) = receiver.received
    assert (path, body) == ("/hook?x=1", b'{"a":1}')
    assert got["Host"] == f"127.0.0.1:{receiver.server_port}"
    assert got["Content-Type"] == "application/fhir+json"
    assert got["authorization"] == "Bearer theirs"


@pytest.mark.parametrize("status", [204, 299])
def test_every_2xx_is_an_acknowledgement(receiver: Receiver, status: int) -> None:
    receiver.status = status
    HttpWebhooks(allow_loopback=True).post(receiver.url, {}, b"{}")


@pytest.mark.parametrize("status", [400, 401, 410, 429, 500, 503])
def test_other_answers_are_not(receiver: Receiver, status: int) -> None:
    receiver.status = status
    assert reason_of(HttpWebhooks(allow_loopback=True), receiver.url) == f"status {status}"


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.status = 307
    receiver.headers = {"Location": f"{receiver.url}/elsewhere"}
    assert reason_of(HttpWebhooks(allow_loopback=True), receiver.url) == "status 307"
    assert len(receiver.received) == 1


def test_an_endless_answer_is_left(receiver: Receiver) -> None:
    receiver.body = b"x" * 10_000_000
    started = time.monotonic()
    HttpWebhooks(allow_loopback=True).post(receiver.url, {}, b"{}")
    assert time.monotonic() - started < 1


def test_a_slow_answer_is_ended_though_bytes_keep_coming(receiver: Receiver) -> None:
    receiver.body, receiver.pause_seconds = b"x" * 1000, 0.05
    started = time.monotonic()
    HttpWebhooks(allow_loopback=True, timeout_seconds=0.3).post(receiver.url, {}, b"{}")  # its status came in time
    assert time.monotonic() - started < 1


def test_an_endpoint_that_does_not_answer_is_given_up() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as silent:  # accepts, and serves nobody
        url = f"http://127.0.0.1:{silent.server_port}/"
        assert reason_of(HttpWebhooks(allow_loopback=True, timeout_seconds=0.2), url) == "timeout"
    assert reason_of(HttpWebhooks(allow_loopback=True), url) == "connection"


def _resolver(*addresses: str) -> Any:
    def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1",),
        ("10.1.2.3",),
        ("169.254.169.254",),
        ("::1",),
        ("::ffff:127.0.0.1",),
        ("fe80::1%eth0",),
        ("93.184.215.14", "10.1.2.3"),  # one good address does not excuse another
        (),
    ],
)
def test_a_name_that_leads_inside_is_not_connected_to(addresses: tuple[str, ...]) -> None:
    webhooks = HttpWebhooks(allow_loopback=False, resolve=_resolver(*addresses))
    assert reason_of(webhooks, "https://hooks.example/") == "address"


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "0177.0.0.1", "localhost", "127.1"])
def test_other_spellings_of_loopback_lead_nowhere(host: str) -> None:
    assert reason_of(HttpWebhooks(allow_loopback=False), f"https://{host}/") in ("address", "connection")


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/", "https://[::1]/", "https://u:p@hooks.example/", "http://a.example/"]
)
def test_the_form_is_checked_again_before_each_connection(url: str) -> None:
    assert reason_of(HttpWebhooks(allow_loopback=False), url) == "endpoint"


def test_plain_http_goes_to_loopback_only() -> None:
    webhooks = HttpWebhooks(allow_loopback=True, resolve=_resolver("93.184.215.14"))
    assert reason_of(webhooks, "http://hooks.example/") == "address"


def test_tls_is_verified_against_the_name_while_the_connection_goes_to_the_checked_address(
    receiver: Receiver, tmp_path: Path
) -> None:
    pem = self_signed("hooks.example")
    receiver.socket = server_tls(tmp_path, pem).wrap_socket(receiver.socket, server_side=True)
    trusted = ssl.create_default_context(cadata=certificate_in(pem))
    webhooks = HttpWebhooks(allow_loopback=True, resolve=_resolver("127.0.0.1"), tls=trusted)
    webhooks.post(f"https://hooks.example:{receiver.server_port}/", {}, b"{}")
    assert receiver.received[0][1]["Host"] == f"hooks.example:{receiver.server_port}"
    assert reason_of(webhooks, f"https://other.example:{receiver.server_port}/") == "tls"
    distrustful = HttpWebhooks(allow_loopback=True, resolve=_resolver("127.0.0.1"))
    assert reason_of(distrustful, f"https://hooks.example:{receiver.server_port}/") == "tls"


def test_a_webhook_may_ask_for_the_certificate_of_the_exchange(receiver: Receiver, tmp_path: Path) -> None:
    server, ours, another = self_signed("hooks.example"), self_signed("exchange.example"), self_signed("other.example")
    demanding = server_tls(tmp_path, server, clients=certificate_in(ours))
    receiver.socket = demanding.wrap_socket(receiver.socket, server_side=True)
    url = f"https://hooks.example:{receiver.server_port}/"

    def webhooks(tls: ssl.SSLContext) -> HttpWebhooks:
        return HttpWebhooks(allow_loopback=True, resolve=_resolver("127.0.0.1"), tls=tls)

    webhooks(certified(ours, authorities=certificate_in(server))).post(url, {}, b"{}")
    assert len(receiver.received) == 1
    for without in (
        ssl.create_default_context(cadata=certificate_in(server)),
        certified(another, authorities=certificate_in(server)),
    ):
        assert reason_of(webhooks(without), url) in ("tls", "connection")
    assert len(receiver.received) == 1
