"""The MLLP gateway, with real sockets: frames, back-pressure, an exchange that is away, client certificates."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from local.exchange import ExchangeClient, new_key
from local.mllp import END, MAX_FRAME_BYTES, START, MllpGateway, NoAnswerError, forwarding, server_tls
from local.transport import GatewayTransport
from passerelle.ingestion.model import SourceFormat
from passerelle.wiring import taking_in
from tests import ingesting
from tests.exchange import KEYS, URL, Exchange
from tests.ingesting import adt, held

MESSAGE = adt("4000")


def framed(message: bytes) -> bytes:
    return START + message + END


@contextlib.asynccontextmanager
async def gateway(
    forward: Callable[[bytes], bytes], tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[int]:
    server = await MllpGateway(forward, pause=0.01, **options).start("127.0.0.1", 0, tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def connected(port: int, **tls: Any) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **tls)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


async def told(reader: asyncio.StreamReader) -> bytes:
    answer = await asyncio.wait_for(reader.readuntil(END), 5)
    assert answer.startswith(START)
    return answer.removeprefix(START).removesuffix(END)


def echo(message: bytes) -> bytes:
    return b"ACK " + message


def test_messages_reach_the_exchange_and_are_acknowledged(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking_in, "converters", lambda: {SourceFormat.HL7V2: ingesting.convert})
    transport = GatewayTransport(exchange.gateway)
    scope = "ITI-104 system/*.cruds"
    client = ExchangeClient(URL, "hospital-a", KEYS["hospital-a"], scope=scope, transport=transport)

    async def play() -> None:
        async with gateway(forwarding(client)) as port, connected(port) as (reader, writer):
            writer.write(framed(adt("4001", id="G1")) + framed(adt("4002", id="G2")))  # one after the other
            assert b"MSA|AA|G1\r" in await told(reader)
            assert b"MSA|AA|G2\r" in await told(reader)

    asyncio.run(play())
    assert len(held(exchange, "4002")) == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"garbage" + framed(b"A"),
        START + b"cut" + framed(b"A"),
        b"no frame" + END + framed(b"A"),
        b"\r\n" + framed(b"A"),
    ],
    ids=["before a frame", "a frame that was cut", "an end alone", "line ends"],
)
def test_what_is_outside_of_frames_is_dropped(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        async with gateway(echo) as port, connected(port) as (reader, writer):
            writer.write(sent)
            assert await told(reader) == b"ACK A"
            writer.write(START + b"half")

    with caplog.at_level(logging.WARNING):
        asyncio.run(play())
    assert "dropped" in caplog.text
    assert not any(word in caplog.text for word in ("garbage", "cut", "no frame"))


def test_a_frame_that_never_ends_is_not_read_for_ever() -> None:
    async def play() -> None:
        async with gateway(echo) as port, connected(port) as (reader, writer):
            with contextlib.suppress(ConnectionError):
                writer.write(START + b"x" * (MAX_FRAME_BYTES + 1024))
                await writer.drain()
            assert await asyncio.wait_for(_rest(reader), 10) == b""

    asyncio.run(play())


def test_a_slow_sender_is_not_waited_for_within_a_frame(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        async with gateway(echo, patience=0.05) as port, connected(port) as (reader, writer):
            await asyncio.sleep(0.2)  # between frames there is no hurry
            writer.write(framed(b"A") + b"\r\n")
            assert await told(reader) == b"ACK A"
            await asyncio.sleep(0.2)
            writer.write(framed(b"B"))
            assert await told(reader) == b"ACK B"
            writer.write(START + b"secret")
            assert await asyncio.wait_for(_rest(reader), 5) == b""

    with caplog.at_level(logging.WARNING):
        asyncio.run(play())
    assert "did not end" in caplog.text
    assert "secret" not in caplog.text


def test_connections_beyond_so_many_are_ended() -> None:
    async def play() -> None:
        async with gateway(echo, connections=1) as port:
            async with connected(port) as (reader, writer):
                writer.write(framed(b"A"))
                assert await told(reader) == b"ACK A"
                async with connected(port) as (other, _):
                    assert await asyncio.wait_for(_rest(other), 5) == b""
                writer.write(framed(b"B"))
                assert await told(reader) == b"ACK B"
            for _ in range(100):  # whoever left makes room
                async with connected(port) as (reader, writer):
                    writer.write(framed(b"C"))
                    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                        assert await told(reader) == b"ACK C"
                        return
            raise AssertionError("there is no room")

    asyncio.run(play())


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


def test_without_an_exchange_there_is_no_answer_until_it_is_back() -> None:
    """The connection is kept, and the message is sent once more: the sender waits, or leaves."""
    tries = 0

    def away(message: bytes) -> bytes:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise NoAnswerError("503")
        return echo(message)

    async def play() -> None:
        async with gateway(away) as port, connected(port) as (reader, writer):
            writer.write(framed(b"A"))
            assert await told(reader) == b"ACK A"

    asyncio.run(play())
    assert tries == 4


def test_a_sender_that_leaves_ends_the_attempts() -> None:
    tries: list[bytes] = []

    def away(message: bytes) -> bytes:
        tries.append(message)
        raise NoAnswerError("ConnectError")

    async def play() -> None:
        async with gateway(away) as port:
            async with connected(port) as (_, writer):
                writer.write(framed(b"A"))
                await writer.drain()
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.3)
            made = len(tries)
            await asyncio.sleep(0.3)
            assert len(tries) == made > 0

    asyncio.run(play())


def test_so_many_are_under_way_and_no_more() -> None:
    under_way = most = 0

    def slow(message: bytes) -> bytes:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        time.sleep(0.02)
        under_way -= 1
        return message

    async def play() -> None:
        async with gateway(slow, at_once=2) as port, contextlib.AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(connected(port)) for _ in range(6)]
            for _, writer in connections:
                writer.write(framed(b"A") * 3)
            for reader, _ in connections:
                for _ in range(3):
                    assert await told(reader) == b"A"

    asyncio.run(play())
    assert most == 2


@pytest.mark.parametrize(
    ("status", "expected"),
    [(200, b"ACK"), (204, b""), (413, b"MSA|AR|"), (400, b"MSA|AR|")],
)
def test_what_the_exchange_says_for_good_is_said_to_the_sender(status: int, expected: bytes) -> None:
    answer = forwarding(_client(lambda _: httpx.Response(status, content=b"ACK" if status == 200 else b"")))(MESSAGE)
    assert expected in answer
    assert bool(answer) is bool(expected)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_what_may_change_is_no_answer(status: int) -> None:
    """Not even a refusal of the gateway's own rights: who corrects them has lost no message."""
    asked: list[str] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(status)

    forward = forwarding(_client(refuse))
    for _ in range(2):
        with pytest.raises(NoAnswerError):
            forward(MESSAGE)
    assert asked.count("/oauth2/token") == (2 if status == 401 else 1)  # a token that is refused is used no more


def test_an_exchange_out_of_reach_is_no_answer() -> None:
    def unreachable(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route", request=request)

    with pytest.raises(NoAnswerError, match="ConnectError"):
        forwarding(_client(unreachable))(MESSAGE)


def _client(serve: Callable[[httpx.Request], httpx.Response]) -> ExchangeClient:
    def handle(request: httpx.Request) -> httpx.Response:
        answer = serve(request)
        if request.url.path == "/oauth2/token":
            return httpx.Response(200, json={"access_token": "t", "expires_in": 300})
        return answer

    return ExchangeClient(URL, "hospital-a", new_key("EC"), transport=httpx.MockTransport(handle))


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ca.pem`, and `server` and `client` with their keys, for localhost."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    root = _signed(name, authority, name, authority, is_authority=True)
    (folder / "ca.pem").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    for each in ("server", "client"):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _signed(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]), key, name, authority, is_authority=False
        )
        (folder / f"{each}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / f"{each}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    return folder


def _signed(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    by: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool,
) -> x509.Certificate:
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )
    return made.sign(by, hashes.SHA256())


@pytest.mark.parametrize("is_known", [True, False])
def test_only_senders_with_a_certificate_are_heard(certificates: Path, is_known: bool) -> None:
    tls = server_tls(certificates / "server.pem", certificates / "server.key", certificates / "ca.pem")
    caller = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    if is_known:
        caller.load_cert_chain(certificates / "client.pem", certificates / "client.key")

    async def play() -> bytes:
        async with (
            gateway(echo, tls) as port,
            connected(port, ssl=caller, server_hostname="localhost") as (reader, writer),
        ):
            writer.write(framed(b"A"))
            return await told(reader)

    if is_known:
        assert asyncio.run(play()) == b"ACK A"
    else:
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            asyncio.run(play())
