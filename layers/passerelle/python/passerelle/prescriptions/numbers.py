"""Prescription numbers and the secrets that open them (e-prescription contract, section 3).

number         20 characters: 19 random ones of Crockford base32 (95 bits), one check (ISO 7064 MOD 37,36)
access code    256 bits in base32, the patient's
claim secret   256 bits in base32, the pharmacy's
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ISO_7064 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BODY_LENGTH = 19
_ABSENT = hashlib.sha256(b"").hexdigest()


def check_character(body: str) -> str:
    """ISO 7064 MOD 37,36 over characters of 0-9 and A-Z."""
    product = 36
    for character in body:
        product = (product + _ISO_7064.index(character)) % 36 or 36
        product = product * 2 % 37
    return _ISO_7064[(37 - product) % 36]


def number_of(body: str) -> str | None:
    """The number with this body; None for a body whose check character is not a Crockford one."""
    check = check_character(body)
    return body + check if check in _CROCKFORD else None


def is_well_formed(number: str) -> bool:
    return (
        len(number) == _BODY_LENGTH + 1
        and set(number) <= set(_CROCKFORD)
        and number_of(number[:_BODY_LENGTH]) == number
    )


def new_number() -> str:
    while True:
        number = number_of("".join(secrets.choice(_CROCKFORD) for _ in range(_BODY_LENGTH)))
        if number is not None:
            return number


def new_secret() -> str:
    return base64.b32encode(secrets.token_bytes(32)).decode().rstrip("=")


def digest(secret: str) -> str:
    """What is stored of a secret. A plain hash is enough: 256 random bits cannot be searched."""
    return hashlib.sha256(secret.encode()).hexdigest()


def opens(secret: str | None, stored: str | None) -> bool:
    """Whether a secret is the stored one, in time that depends on neither."""
    return hmac.compare_digest(digest(secret or ""), stored or _ABSENT) and bool(secret) and bool(stored)
