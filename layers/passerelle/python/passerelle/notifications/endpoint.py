"""Which endpoints are acceptable: a subscriber chooses whom this server connects or writes to.

Of webhooks only https; no credentials; and only addresses of the public Internet, because inside a cloud account other
addresses lead to metadata services and to neighbours (OWASP, Server-Side Request Forgery Prevention). Names
are checked when they are resolved, by whoever connects: a name may point anywhere, and elsewhere a minute
later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import urlsplit

from passerelle.notifications.model import Channel

MAILBOX_DOMAINS: Final = ("mssante.fr",)
"""Where mailboxes of the MSSante trust space are: in these domains, and below them."""

# One address in the plainest form: nothing that could add a header, a second addressee or a comment.
_MAIL = re.compile(
    r"mailto:(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._+-]{0,62}[A-Za-z0-9_+-])?)"
    r"@(?P<domain>(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24})"
)
# Mobile numbers of France (ARCEP numbering plan): no other gets an SMS, and some cost whoever writes to them.
_MOBILE = re.compile(r"tel:\+(33[67]\d{8}|(262|590|594|596)6\d{8})", re.ASCII)
_QUEUE_ARN = re.compile(r"arn:aws:sqs:[a-z]{2}(-[a-z]{1,12}){1,2}-\d:\d{12}:[A-Za-z0-9_-]{1,75}(\.fifo)?", re.ASCII)
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


def check_endpoint(channel: Channel, endpoint: str, *, allow_loopback: bool) -> None:
    """Raise ValueError for an endpoint that is not one of the channel, in words that may be told.

    `mailto:` for e-mail and mailboxes, `tel:` for SMS, the ARN of a queue of SQS, else the URL of a webhook.
    """
    match channel:
        case Channel.EMAIL:
            if not _MAIL.fullmatch(endpoint):
                raise ValueError("the endpoint must be mailto: and one plain address")
        case Channel.MAILBOX:
            mail = _MAIL.fullmatch(endpoint)
            domain = mail["domain"].lower() if mail else ""
            if not any(domain == each or domain.endswith(f".{each}") for each in MAILBOX_DOMAINS):
                raise ValueError("the endpoint must be mailto: and one plain address of the MSSante trust space")
        case Channel.SMS:
            if not _MOBILE.fullmatch(endpoint):
                raise ValueError("the endpoint must be tel: and a French mobile number in international form")
        case Channel.QUEUE:
            if not _QUEUE_ARN.fullmatch(endpoint):
                raise ValueError("the endpoint must be the ARN of a queue of SQS")
        case Channel.REST_HOOK | Channel.MESSAGE | Channel.ORDER:
            try:
                parse_endpoint(endpoint, allow_loopback=allow_loopback)
            except ValueError:
                raise ValueError("the endpoint must be a public https URL without credentials") from None


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
