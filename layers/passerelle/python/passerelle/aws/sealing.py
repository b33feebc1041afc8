"""Encryption of what is personal in items and objects, under the key of a person or of the index (AES-256-GCM).

A sealed value is bound to the place it was made for, so that nobody can move what is one record's to another's item.
Contract relied on: NIST SP 800-38D, 8.2.2 (random nonces of 96 bits; no key seals anywhere near 2^32 values).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from functools import cached_property
from typing import TYPE_CHECKING

from passerelle.errors import Fault

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12


class Sealer:
    def __init__(self, key: bytes) -> None:
        self._key = key

    @cached_property
    def _cipher(self) -> AESGCM:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # few requests compare people

        return AESGCM(self._key)

    def seal(self, plain: bytes, place: str) -> bytes:
        return self._sealed(secrets.token_bytes(_NONCE_BYTES), plain, place)

    def seal_alike(self, plain: bytes, place: str) -> bytes:
        """The same bytes for the same value in the same place: for objects that are named by their content.

        The nonce is a code over both, under a key of its own: two values share one as rarely as by chance.
        """
        key = hmac.new(self._key, b"nonce", hashlib.sha256).digest()
        code = hmac.new(key, place.encode() + b"\x00" + plain, hashlib.sha256).digest()
        return self._sealed(code[:_NONCE_BYTES], plain, place)

    def code(self, purpose: str, message: str) -> bytes:
        """A code of 256 bits over a message, under a key for this purpose alone."""
        key = hmac.new(self._key, b"code\x00" + purpose.encode(), hashlib.sha256).digest()
        return hmac.new(key, message.encode(), hashlib.sha256).digest()

    def _sealed(self, nonce: bytes, plain: bytes, place: str) -> bytes:
        return nonce + self._cipher.encrypt(nonce, plain, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """Raises Fault for a value of another place, or that was changed."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place.encode())
        except InvalidTag:
            raise Fault() from None
