"""Client secrets: made here, shown once, kept only as a salted hash that is slow and takes memory (scrypt).

RFC 6749 section 2.3.1 (HTTP Basic), RFC 7914 (scrypt), OWASP Password Storage. A secret has 256 random bits: the hash
is for the case that the table leaks, and for secrets that somebody brings from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

MAX_LIVE: Final = 2  # the one in use and, while a client changes over, its successor
MAX_CHARACTERS: Final = 256
_COST: Final = 2**14
_BLOCK_SIZE: Final = 8
_SALT_BYTES: Final = 16
_MEMORY_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """What is kept of a secret, in base64; it is good until `expires_at` (epoch seconds), or until it is replaced."""

    salt: str
    digest: str
    expires_at: int | None = None

    def is_live(self, at: datetime) -> bool:
        return self.expires_at is None or at.timestamp() < self.expires_at


_NOBODYS: Final = Secret(
    salt=base64.b64encode(bytes(_SALT_BYTES)).decode(), digest=base64.b64encode(bytes(32)).decode()
)


def new_secret() -> tuple[str, Secret]:
    """A secret for a client, and what is kept of it."""
    text = secrets.token_urlsafe(32)
    salt = secrets.token_bytes(_SALT_BYTES)
    return text, Secret(salt=base64.b64encode(salt).decode(), digest=base64.b64encode(_hashed(text, salt)).decode())


def is_one_of(text: str, known: Sequence[Secret], at: datetime) -> bool:
    """Whether it is a live secret of these. Takes as long for a client that has none, or does not exist."""
    if len(text) > MAX_CHARACTERS:
        return False
    live = [each for each in known if each.is_live(at)]
    # No early end: which one matched, and whether any did, does not show in the time.
    matches = [
        hmac.compare_digest(_hashed(text, base64.b64decode(each.salt)), base64.b64decode(each.digest))
        for each in live or [_NOBODYS]
    ]
    return bool(live) and any(matches)


def _hashed(text: str, salt: bytes) -> bytes:
    return hashlib.scrypt(text.encode(), salt=salt, n=_COST, r=_BLOCK_SIZE, p=1, maxmem=_MEMORY_BYTES, dklen=32)
