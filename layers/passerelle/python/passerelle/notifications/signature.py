"""How a receiver knows that a notification comes from here, is unaltered and is fresh.

    X-Passerelle-Delivery     <subscription id>.<number>     the same for every attempt: drop what was seen
    X-Passerelle-Signature    t=<epoch seconds>,v1=<hex>     HMAC-SHA256(secret, "<delivery>.<t>." + body)

A receiver may import `verify`, or write the same few lines in any language (docs/notifications.md).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from datetime import datetime

DELIVERY_HEADER = "X-Passerelle-Delivery"
SIGNATURE_HEADER = "X-Passerelle-Signature"
TOLERANCE_SECONDS = 300

_SIGNATURE = re.compile(r"t=(?P<seconds>\d{1,12}),v1=(?P<digest>[0-9a-f]{64})")


def new_secret() -> str:
    """256 random bits, in hexadecimal."""
    return secrets.token_hex(32)


def sign(secret: str, delivery: str, body: bytes, at: datetime) -> str:
    """The signature header of a body sent at this time."""
    seconds = int(at.timestamp())
    return f"t={seconds},v1={_digest(secret, delivery, seconds, body)}"


def verify(secrets_held: Iterable[str], delivery: str, body: bytes, signature: str, now: datetime) -> bool:
    """Whether one of the secrets (the current and, while they are exchanged, the former) made the signature.

    False also for a signature more than five minutes away from `now`: a recording cannot be played later.
    """
    match = _SIGNATURE.fullmatch(signature)
    if match is None or abs(int(now.timestamp()) - int(match["seconds"])) > TOLERANCE_SECONDS:
        return False
    expected = (_digest(secret, delivery, int(match["seconds"]), body) for secret in secrets_held)
    return any(hmac.compare_digest(each, match["digest"]) for each in expected)


def _digest(secret: str, delivery: str, seconds: int, body: bytes) -> str:
    return hmac.new(secret.encode(), f"{delivery}.{seconds}.".encode() + body, hashlib.sha256).hexdigest()
