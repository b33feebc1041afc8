"""How a receiver knows that a notification comes from here, is unaltered and is fresh.

    X-Passerelle-Delivery     <subscription id>.<number>     the same for every attempt: drop what was seen
    X-Passerelle-Signature    t=<epoch seconds>,v1=<hex>     HMAC-SHA256(secret, "<delivery>.<t>." + body)

While secrets are exchanged both sign, `v1` once for each: it is good if one of them is.

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

_SIGNATURE = re.compile(r"t=(?P<seconds>\d{1,12})(?P<digests>(?:,v1=[0-9a-f]{64}){1,4})", re.ASCII)


def new_secret() -> str:
    """256 random bits, in hexadecimal."""
    return secrets.token_hex(32)


def sign(secrets_held: Iterable[str], delivery: str, body: bytes, at: datetime) -> str:
    """The signature header of a body sent at this time, by each of the secrets."""
    seconds = int(at.timestamp())
    return f"t={seconds}" + "".join(f",v1={_digest(secret, delivery, seconds, body)}" for secret in secrets_held)


def verify(secrets_held: Iterable[str], delivery: str, body: bytes, signature: str, now: datetime) -> bool:
    """Whether one of the secrets (the current and, while they are exchanged, the former) made one of the signatures.

    False also for a signature more than five minutes away from `now`: a recording cannot be played later.
    """
    match = _SIGNATURE.fullmatch(signature)
    if match is None or abs(int(now.timestamp()) - int(match["seconds"])) > TOLERANCE_SECONDS:
        return False
    given = match["digests"].split(",v1=")[1:]
    expected = [_digest(secret, delivery, int(match["seconds"]), body) for secret in secrets_held]
    return any(hmac.compare_digest(each, one) for each in expected for one in given)


def _digest(secret: str, delivery: str, seconds: int, body: bytes) -> str:
    return hmac.new(secret.encode(), f"{delivery}.{seconds}.".encode() + body, hashlib.sha256).hexdigest()
