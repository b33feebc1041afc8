"""Keys that a client publishes at an address of its own, fetched over TLS by the token endpoint (SMART-2, SMART-3)."""

from __future__ import annotations

import datetime
import json
import ssl
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from passerelle import wiring
from passerelle.api.keysets import HttpKeySets
from passerelle.api.outbound import Outbound
from passerelle.authorization.keys import MAX_SET_BYTES, KeySetUnavailableError
from passerelle.wiring import trust
from tests.authorization import called
from tests.registered import System, key_of, services

HOST = "hospital-a.example"


class Site(ThreadingHTTPServer):
    """The site of the client: answers every GET in the same way, and counts them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.status, self.body, self.calls = 200, b"", 0
        self.headers: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.server_port}/jwks"

    def publish(self, *keys: dict[str, Any]) -> None:
        self.status, self.body = 200, json.dumps({"keys": keys}).encode()


class _Page(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.calls += 1
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *args: Any) -> None: ...


def certified(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS of a server of that name, and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "site.pem"
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=str(file))


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return certified(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def site(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[Site]:
    server = Site()
    server.socket = tls[0].wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def at_home(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


@pytest.fixture(scope="module", autouse=True)
def _services(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[None]:
    with services(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(trust, "outbound", lambda: Outbound(allow_loopback=True, resolve=at_home, tls=tls[1]))
        yield


SYSTEM = System()


def registered(site: Site) -> None:
    for made in (wiring.authorization_service, wiring.token, wiring.key_sets):  # with the sets that they hold
        made.cache_clear()
    wiring.clients().register(System(registration={"jwks": (), "jwks_url": site.url}).client)


def status() -> int:
    return called("POST", "/oauth2/token", SYSTEM.form(client_assertion=SYSTEM.assertion()))[0]


def test_a_key_that_the_client_publishes_is_as_good_as_a_registered_one(site: Site) -> None:
    """SMART-2, SMART-3: with `jku`, or without."""
    registered(site)
    site.publish(SYSTEM.key.as_dict(private=False), key_of("RS384").as_dict(private=False), {"kty": "future"})
    assert status() == 200
    named = SYSTEM.form(client_assertion=SYSTEM.assertion(header={"jku": site.url}))
    assert called("POST", "/oauth2/token", named)[0] == 200
    elsewhere = SYSTEM.form(client_assertion=SYSTEM.assertion(header={"jku": "https://evil.example/jwks"}))
    assert called("POST", "/oauth2/token", elsewhere)[0] == 401
    assert site.calls == 1


def test_guessing_kids_makes_no_calls(site: Site) -> None:
    registered(site)
    site.publish(SYSTEM.key.as_dict(private=False))
    for number in range(5):
        form = SYSTEM.form(client_assertion=SYSTEM.assertion(header={"kid": f"k{number}"}))
        assert called("POST", "/oauth2/token", form)[0] == 401
    assert status() == 200
    assert site.calls == 1


def test_a_key_that_is_published_twice_under_one_kid_is_refused(site: Site) -> None:
    """SMART-3 kid ambiguous."""
    registered(site)
    site.publish(SYSTEM.key.as_dict(private=False), {**key_of("RS384").as_dict(private=False), "kid": SYSTEM.key.kid})
    assert status() == 401


GOOD = json.dumps({"keys": [SYSTEM.key.as_dict(private=False)]}).encode()


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        pytest.param(404, GOOD, id="not-found"),
        pytest.param(302, GOOD, id="redirect"),
        pytest.param(200, b"<html>", id="no-JSON"),
        pytest.param(200, b"[" * 60_000, id="nested"),
        pytest.param(200, b'{"keys": 5}', id="no-array"),
        pytest.param(200, GOOD + b" " * MAX_SET_BYTES, id="oversized"),
        pytest.param(200, json.dumps({"keys": [SYSTEM.key.as_dict(private=True)]}).encode(), id="private-key"),
        pytest.param(200, json.dumps({"keys": [key_of("ES256").as_dict(private=False)]}).encode(), id="other-keys"),
    ],
)
def test_what_is_no_key_set_gives_no_token(site: Site, answer: int, body: bytes) -> None:
    registered(site)
    site.status, site.body, site.headers = answer, body, {"Location": site.url}
    assert status() == 401
    assert site.calls == 1


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254", "127.0.0.1", "::1", "::ffff:10.0.0.1", "fd00::1"])
def test_no_key_is_fetched_from_an_address_that_is_not_public(site: Site, address: str) -> None:
    def resolve(host: str, port: int) -> Sequence[str]:
        return [address]

    sets = HttpKeySets(Outbound(allow_loopback=False, resolve=resolve))
    with pytest.raises(KeySetUnavailableError, match="address"):
        sets.fetch(site.url)
    assert site.calls == 0


def test_a_site_that_is_not_the_one_of_its_name_is_not_believed(site: Site) -> None:
    sets = HttpKeySets(Outbound(allow_loopback=True, resolve=at_home))  # trusts the authorities of the world
    with pytest.raises(KeySetUnavailableError, match="tls"):
        sets.fetch(site.url)
    with pytest.raises(KeySetUnavailableError, match="endpoint"):
        HttpKeySets(Outbound(allow_loopback=False)).fetch(site.url.replace("https", "http"))
