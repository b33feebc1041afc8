"""The HTTP client of the exchange: one request to an address that somebody else chose, trusted in nothing.

The name is resolved once, every address that it has must be admissible (`notifications/endpoint.py`), and the
connection is made to the address that was checked, with TLS verified against the name: a second resolution cannot lead
elsewhere (DNS rebinding). Redirects are answers like any other, and of an answer no more is read than was asked for.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address

from passerelle.notifications.endpoint import Endpoint, is_admissible, parse_endpoint

TIMEOUT_SECONDS = 5.0

Resolve = Callable[[str, int], Sequence[str]]


def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, IPv4 first: Lambda functions outside a VPC have no IPv6."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for _, _, _, _, address in sorted(found, key=lambda info: info[0] != socket.AF_INET)]


class OutboundError(Exception):
    """There is no answer; `reason` is one of `endpoint`, `address`, `timeout`, `tls` and `connection`."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`body` holds at most the bytes that were asked for."""

    status: int
    body: bytes


class Outbound:
    """`allow_loopback` is for a stack that runs on a desk. So many seconds to connect, and as many for the rest."""

    def __init__(
        self,
        *,
        allow_loopback: bool,
        resolve: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._allow_loopback = allow_loopback
        self._resolve = resolve
        self._tls = tls or ssl.create_default_context()
        self._timeout_seconds = timeout_seconds

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes = b"", max_bytes: int
    ) -> Answer:
        """Raises OutboundError."""
        try:
            target = parse_endpoint(url, allow_loopback=self._allow_loopback)
        except ValueError:
            raise OutboundError("endpoint") from None
        try:
            return self._exchange(target, self._admissible_address(target), method, headers, body, max_bytes)
        except TimeoutError:
            raise OutboundError("timeout") from None
        except ssl.SSLError:
            raise OutboundError("tls") from None
        except (OSError, http.client.HTTPException, UnicodeError):
            raise OutboundError("connection") from None

    def _admissible_address(self, target: Endpoint) -> str:
        addresses = self._resolve(target.host, target.port)
        for address in addresses:
            if not is_admissible(
                ip_address(address.partition("%")[0]),
                is_secure=target.is_secure,
                allow_loopback=self._allow_loopback,
            ):
                raise OutboundError("address")
        if not addresses:
            raise OutboundError("address")
        return addresses[0]

    def _exchange(
        self,
        target: Endpoint,
        address: str,
        method: str,
        headers: Mapping[str, str],
        body: bytes,
        max_bytes: int,
    ) -> Answer:
        connected = socket.create_connection((address, target.port), timeout=self._timeout_seconds)
        if target.is_secure:
            connected = self._tls.wrap_socket(connected, server_hostname=target.host, do_handshake_on_connect=False)
        with connected, deadline(connected, self._timeout_seconds):
            if isinstance(connected, ssl.SSLSocket):
                connected.do_handshake()
            connection = http.client.HTTPConnection(target.host, target.port)
            connection.sock = connected
            default_port = target.port == (443 if target.is_secure else 80)
            host = f"[{target.host}]" if ":" in target.host else target.host
            connection.request(
                method,
                target.target,
                body=body or None,
                headers={
                    **headers,
                    "Host": host if default_port else f"{host}:{target.port}",
                    "User-Agent": "passerelle",
                    "Connection": "close",
                },
            )
            answer = connection.getresponse()
            return Answer(status=answer.status, body=answer.read(max_bytes))


def certified(pem: str, *, authorities: str = "") -> ssl.SSLContext:
    """TLS by which the exchange shows a certificate of its own to servers that ask for one (mutual TLS).

    `pem` holds the private key and the certificates, `authorities` whom to trust instead of the public ones. Raises
    ssl.SSLError for what is not that.
    """
    context = ssl.create_default_context(cadata=authorities or None)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # OpenSSL reads keys from files only
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
    return context


@contextmanager
def deadline(connected: socket.socket, seconds: float) -> Iterator[None]:
    """End the connection when the time is over: a socket timeout only bounds each read."""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        with suppress(OSError):  # the exchange ended at the same moment
            # The plain shutdown, also under TLS, whose own one drops the state that the other thread is
            # reading with.
            socket.socket.shutdown(connected, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException) as failure:
        if expired.is_set():
            raise TimeoutError from failure
        raise
    finally:
        timer.cancel()
