"""Which webhook endpoints are acceptable: a subscriber chooses where this server connects to.

Only https; no credentials; and only addresses of the public Internet, because inside a cloud account other
addresses lead to metadata services and to neighbours (OWASP, Server-Side Request Forgery Prevention). Names
are checked when they are resolved, by whoever connects: a name may point anywhere, and elsewhere a minute
later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_MAX_URL_CHARACTERS = 1024
_PRINTABLE = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """`target` is the path with its query, as the request line has it."""

    is_secure: bool
    host: str
    port: int
    target: str


def parse_endpoint(url: str, *, allow_loopback: bool) -> Endpoint:
    """Read a webhook URL; raises ValueError for any that is not acceptable in form.

    `allow_loopback` admits http, to be used towards this machine only: for a stack that runs on a desk.
    """
    if len(url) > _MAX_URL_CHARACTERS or not _PRINTABLE.fullmatch(url) or "\\" in url:
        raise ValueError("not an absolute URL")
    parts = urlsplit(url)
    is_secure = parts.scheme == "https"
    if not is_secure and not (parts.scheme == "http" and allow_loopback):
        raise ValueError("not https")
    if "@" in parts.netloc or parts.fragment or not parts.hostname:
        raise ValueError("credentials, fragment or no host")
    address = _literal(parts.hostname)
    if address is not None and not is_admissible(address, is_secure=is_secure, allow_loopback=allow_loopback):
        raise ValueError("not a public address")
    return Endpoint(
        is_secure=is_secure,
        host=parts.hostname,
        port=parts.port or (443 if is_secure else 80),
        target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
    )


def is_admissible(address: IPv4Address | IPv6Address, *, is_secure: bool, allow_loopback: bool) -> bool:
    """Whether a connection to this address may be made: public over TLS, loopback where allowed."""
    if address.is_loopback:
        return allow_loopback
    return is_secure and is_public(address)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether this is a host on the public Internet, not a private one in disguise (6to4, Teredo, NAT64)."""
    if isinstance(address, IPv6Address) and (address.sixtofour or address.teredo):
        return False
    is_unicast = not address.is_multicast if isinstance(address, IPv4Address) else address in _GLOBAL_UNICAST
    return is_unicast and address.is_global


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
