"""What a receiver can rely on."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest

from passerelle.notifications.signature import new_secret, sign, verify

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BODY = b'{"resourceType":"Bundle"}'


def test_the_signature_is_what_the_documentation_says() -> None:
    seconds = int(NOON.timestamp())
    digest = hmac.new(b"secret", f"sub.7.{seconds}.".encode() + BODY, hashlib.sha256).hexdigest()
    assert sign(["secret"], "sub.7", BODY, NOON) == f"t={seconds},v1={digest}"


@pytest.mark.parametrize("minutes", [-5, 0, 5])
def test_a_fresh_signature_by_any_secret_held_is_good(minutes: int) -> None:
    signature = sign(["current"], "sub.7", BODY, NOON)
    assert verify(["former", "current"], "sub.7", BODY, signature, NOON + timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("secret", "delivery", "body", "late"),
    [
        ("other", "sub.7", BODY, 0),
        ("current", "sub.8", BODY, 0),
        ("current", "sub.7", BODY + b" ", 0),
        ("current", "sub.7", BODY, 301),
        ("current", "sub.7", BODY, -301),
    ],
)
def test_anything_else_is_not(secret: str, delivery: str, body: bytes, late: int) -> None:
    signature = sign(["current"], "sub.7", BODY, NOON)
    assert not verify([secret], delivery, body, signature, NOON + timedelta(seconds=late))


@pytest.mark.parametrize("held", [["new"], ["former"], ["other", "former"]])
def test_while_secrets_are_exchanged_either_is_good(held: list[str]) -> None:
    signature = sign(["new", "former"], "sub.7", BODY, NOON)
    assert signature.count("v1=") == 2
    assert verify(held, "sub.7", BODY, signature, NOON)
    assert not verify(["other"], "sub.7", BODY, signature, NOON)


@pytest.mark.parametrize(
    "signature",
    ["", "v1=00", "t=x,v1=00", f"t={int(NOON.timestamp())}", "t=1" + (",v1=" + "0" * 64) * 5],
)
def test_a_malformed_signature_is_not(signature: str) -> None:
    assert not verify(["current"], "sub.7", BODY, signature, NOON)


def test_secrets_have_256_bits() -> None:
    assert len(bytes.fromhex(new_secret())) == 32
    assert new_secret() != new_secret()
