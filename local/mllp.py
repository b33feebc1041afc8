"""`passerelle mllp`: where a hospital's interface engine sends its HL7 version 2 messages, next to it.

HL7 2.5 transport specification, MLLP release 1: `<VT> message <FS><CR>`, answered by its acknowledgement in the same
frame. Each message goes to `POST /hl7v2` of the exchange, and what the exchange says goes back.

    back-pressure     a connection is read on when its message is answered; `at_once` messages are under way at most
    patience          a frame that has begun is whole within a minute, or its connection ends; between frames nobody has
                      to hurry; connections beyond 64 are ended: each may hold two frames in memory
    no answer         while the exchange cannot be reached, or does not know what became of a message, or does not let
                      the gateway in: it is sent again, the longer apart the longer it lasts, for as long as the sender
                      stays; twice is once there
    AR                only for what the exchange refuses whatever happens: too large, of no known type
    dropped           what is outside of frames, or in one that ends without having begun: nothing could be answered

Nothing of a message is logged.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import httpx
import typer

from local.exchange import Credentials, ExchangeClient, TokenRefusedError
from local.options import CredentialsOption, ScopeOption, UrlOption, credentials_of, scopes_of
from passerelle.hl7v2.acknowledgement import Fault, acknowledge, heading_of

START: Final = b"\x0b"
END: Final = b"\x1c\r"
MAX_FRAME_BYTES: Final = 5 * 1024 * 1024
MAX_CONNECTIONS: Final = 64
FRAME_SECONDS: Final = 60.0
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 30.0
_REFUSED_FOR_GOOD: Final = (400, 413, 415)

_log = logging.getLogger("passerelle.mllp")


class NoAnswerError(Exception):
    """It is not known what became of a message; the text is for the log."""


Forward = Callable[[bytes], bytes]
"""Gives the acknowledgement of a message, empty where its sender wants none; raises NoAnswerError."""


def forwarding(client: ExchangeClient) -> Forward:
    """Messages go to the exchange as this client; safe for several threads."""

    def forward(message: bytes) -> bytes:
        try:
            answer = client.request(
                "POST", f"{client.url}/hl7v2", content=message, headers={"Content-Type": "application/hl7-v2"}
            )
        except httpx.HTTPError as error:
            raise NoAnswerError(type(error).__name__) from None
        except TokenRefusedError:
            raise NoAnswerError("no token") from None
        if answer.status_code == 401:
            client.forget_token()
        if answer.status_code in (200, 204):
            return answer.content
        if answer.status_code in _REFUSED_FOR_GOOD:
            _log.warning("refused with %d", answer.status_code)
            return acknowledge(
                heading_of(message), "AR", id=f"G{answer.status_code}", at=datetime.now(UTC), fault=Fault(code="207")
            )
        raise NoAnswerError(str(answer.status_code))

    return forward


class MllpGateway:
    """`pause` is how long it waits before it sends a message once more, in seconds: twice as long each time.

    `patience` is how many seconds a frame may take to come, and an answer to go.
    """

    def __init__(
        self,
        forward: Forward,
        *,
        at_once: int = 16,
        pause: float = _FIRST_PAUSE_SECONDS,
        connections: int = MAX_CONNECTIONS,
        patience: float = FRAME_SECONDS,
    ) -> None:
        self._forward = forward
        self._room = asyncio.Semaphore(at_once)
        self._pause = pause
        self._free = connections
        self._patience = patience

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> asyncio.Server:
        return await asyncio.start_server(self._serve, host, port, ssl=tls, limit=MAX_FRAME_BYTES)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._free:
            _log.warning("too many connections: one more was ended")
            writer.close()
            return
        self._free -= 1
        try:
            while (message := await _next_message(reader, self._patience)) is not None:
                answer = await self._answered(message, reader)
                if answer is None:
                    break
                if answer:
                    writer.write(START + answer + END)
                    async with asyncio.timeout(self._patience):
                        await writer.drain()
        except (ConnectionError, TimeoutError) as error:
            _log.info("the sender left: %s", type(error).__name__)
        finally:
            self._free += 1
            writer.close()

    async def _answered(self, message: bytes, reader: asyncio.StreamReader) -> bytes | None:
        """The answer of the exchange, however long it takes; None when the sender has left before."""
        pause = self._pause
        while True:
            try:
                async with self._room:
                    return await asyncio.to_thread(self._forward, message)
            except NoAnswerError as unknown:
                _log.warning("no answer (%s): once more in %.1f s", unknown, pause)
            await asyncio.sleep(pause)
            if reader.at_eof():
                _log.warning("the sender left without an answer")
                return None
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


async def _next_message(reader: asyncio.StreamReader, patience: float) -> bytes | None:
    """The next message in a frame; None at the end of the connection, or of what may be read of it."""
    try:
        outside = (await reader.readuntil(START)).removesuffix(START)
        if outside:
            _log.warning("dropped %d bytes outside of a frame", len(outside))
        async with asyncio.timeout(patience):
            frame = await reader.readuntil(END)
    except asyncio.IncompleteReadError as cut:
        if cut.partial:
            _log.warning("dropped %d bytes: the connection ended", len(cut.partial))
        return None
    except asyncio.LimitOverrunError:
        _log.warning("dropped a frame of more than %d bytes, and its connection", MAX_FRAME_BYTES)
        return None
    except TimeoutError:
        _log.warning("dropped a frame that did not end, and its connection")
        return None
    before, start, message = frame.removesuffix(END).rpartition(START)  # one that was cut has no end of its own
    if start:
        _log.warning("dropped %d bytes of a frame without an end", len(before))
    return message


def server_tls(certificate: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or later; with `client_ca` only for who shows a certificate of it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def mllp(
    client: Annotated[str, typer.Option(help="Whose messages they are: the id of a client with a domain.")],
    scope: ScopeOption = None,
    port: Annotated[int, typer.Option(help="Where to listen.")] = 2575,
    host: Annotated[str, typer.Option(help="On which address: this machine only by default.")] = "127.0.0.1",
    certificate: Annotated[Path | None, typer.Option(help="Certificate chain for TLS, PEM.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    client_ca: Annotated[Path | None, typer.Option(help="Senders show a certificate of this CA, PEM.")] = None,
    at_once: Annotated[int, typer.Option(help="Messages under way at the same time.")] = 16,
    url: UrlOption = None,
    credentials: CredentialsOption = None,
) -> None:
    """Take HL7 version 2 messages over MLLP, and pass them on to the exchange."""
    where, path = credentials_of(url, credentials)
    try:
        secret = Credentials(path).key(client)
    except KeyError as missing:
        typer.echo(missing.args[0], err=True)
        raise typer.Exit(1) from None
    if (certificate is None) != (key is None) or (client_ca and not certificate):
        typer.echo("TLS needs --certificate and --key", err=True)
        raise typer.Exit(2)
    tls = server_tls(certificate, key, client_ca) if certificate and key else None
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    gateway = MllpGateway(
        forwarding(ExchangeClient(where, client, secret, scope=scopes_of(client, scope))), at_once=at_once
    )

    async def serve() -> None:
        server = await gateway.start(host, port, tls)
        typer.echo(f"MLLP on {host}:{port}{' with TLS' if tls else ''}, for {client} at {where}")
        async with server:
            await server.serve_forever()

    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        typer.echo("stopped")
