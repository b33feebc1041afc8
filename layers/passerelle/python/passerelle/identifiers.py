"""Opaque identifiers: random where they must tell nothing, sortable by time where order matters.

    patient key   16 characters of Crockford base32 (80 random bits): the partition of a person's source record
    ulid          26 characters: 48 bits of time, 80 random bits, lower case
    resource id   `<patient key>-<ulid>`: tells where the resource is stored, and nothing else; 43 characters,
                  a legal FHIR id. Resources of no patient have a bare ulid.
"""

from __future__ import annotations

import re
import secrets
from datetime import datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
PATIENT_KEY = re.compile(f"[{_ALPHABET}]{{16}}")
_RESOURCE_ID = re.compile(f"(?:(?P<patient>[{_ALPHABET}]{{16}})-)?(?P<local>[{_ALPHABET}]{{26}})")


def _encode(number: int, length: int) -> str:
    return "".join(_ALPHABET[(number >> (5 * place)) & 31] for place in reversed(range(length)))


def new_patient_key() -> str:
    return _encode(secrets.randbits(80), 16)


def new_ulid(at: datetime) -> str:
    """A new ulid; two of the same millisecond are in no particular order."""
    return _encode(int(at.timestamp() * 1000) << 80 | secrets.randbits(80), 26)


def new_resource_id(patient: str | None, at: datetime) -> str:
    return f"{patient}-{new_ulid(at)}" if patient else new_ulid(at)


def split_resource_id(resource_id: str) -> tuple[str | None, str] | None:
    """(patient key or None, local part) of an id that this exchange made; None for any other string."""
    match = _RESOURCE_ID.fullmatch(resource_id)
    return (match["patient"], match["local"]) if match else None
