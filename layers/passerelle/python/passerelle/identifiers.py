"""Opaque identifiers: random where they must tell nothing, sortable by time where order matters.

patient key   16 characters of Crockford base32 (80 random bits): the partition of a person's source record
ulid          26 characters: 48 bits of time, 80 random bits, lower case
resource id   `<patient key>-<ulid>`: tells where the resource is stored, and nothing else; 43 characters,
              a legal FHIR id. Resources of no patient have a bare ulid.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
PATIENT_KEY = re.compile(f"[{_ALPHABET}]{{16}}")
_RESOURCE_ID = re.compile(f"(?:(?P<patient>[{_ALPHABET}]{{16}})-)?(?P<local>[{_ALPHABET}]{{26}})")


def _encode(number: int, length: int) -> str:
    return "".join(_ALPHABET[(number >> (5 * place)) & 31] for place in reversed(range(length)))


def new_patient_key() -> str:
    return _encode(secrets.randbits(80), 16)


def new_ulid(at: datetime) -> str:
    """A new ulid; two of the same millisecond are in no particular order."""
    return _encode((at - _EPOCH) // _MILLISECOND << 80 | secrets.randbits(80), 26)


def named_ulid(at: datetime, name: str) -> str:
    """The one ulid of this millisecond that stands for a name: the same each time."""
    digest = hashlib.sha256(name.encode()).digest()
    return _encode((at - _EPOCH) // _MILLISECOND << 80 | int.from_bytes(digest[:10], "big"), 26)


def first_ulid(at: datetime) -> str:
    """The ulid that no ulid of this millisecond sorts before."""
    return _encode((at - _EPOCH) // _MILLISECOND << 80, 26)


def time_of(ulid: str) -> datetime:
    """When a ulid was made, to the millisecond, in UTC."""
    number = 0
    for digit in ulid:
        number = number << 5 | _ALPHABET.index(digit)
    return _EPOCH + (number >> 80) * _MILLISECOND


def new_resource_id(patient: str | None, at: datetime) -> str:
    return f"{patient}-{new_ulid(at)}" if patient else new_ulid(at)


def is_made_here(resource_id: str) -> bool:
    """Whether an id is one of this exchange, or made from one of a patient's (`<id>-01`): no client chooses it."""
    whole = _RESOURCE_ID.match(resource_id)
    if whole is None:
        return False
    rest = resource_id[whole.end() :]
    return not rest or (whole["patient"] is not None and rest.startswith("-"))


def split_resource_id(resource_id: str) -> tuple[str | None, str] | None:
    """(patient key or None, local part) of an id that this exchange made; None for any other string."""
    match = _RESOURCE_ID.fullmatch(resource_id)
    return (match["patient"], match["local"]) if match else None


class Blinder:
    """Keyed hashes of values that must be found but may not be read: look-up keys made of identifiers and names.

    Keys of items show up in access logs and metrics of the cloud provider; a hash under a secret key tells nothing
    there, even about values with little entropy.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < 32:
            raise ValueError("the key needs at least 32 bytes")
        self._key = key

    def blind(self, namespace: str, value: str) -> str:
        """128 bits in hexadecimal; the same value under two namespaces gives unrelated hashes."""
        digest = hmac.new(self._key, f"{namespace}\x00{value}".encode(), hashlib.sha256)
        return digest.hexdigest()[:32]

    def subkey(self, purpose: str) -> bytes:
        """A key of 256 bits for another purpose, which tells nothing of this one."""
        return hmac.new(self._key, b"subkey\x00" + purpose.encode(), hashlib.sha256).digest()

    def sign(self, message: bytes) -> bytes:
        """A 128-bit authentication code, for what leaves the server and comes back (page links)."""
        return hmac.new(self._key, b"sign\x00" + message, hashlib.sha256).digest()[:16]
