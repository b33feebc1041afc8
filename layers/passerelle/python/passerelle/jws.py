"""Detached JSON signatures: what a compact JWS with its payload elsewhere says, and whether a key made it.

RFC 7515, appendix F, with the rules of RFC 8725: the algorithm is the one of the key, never one that the signature
chooses; extensions that have to be understood are refused; a signature has one spelling.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry

MAX_CHARACTERS: Final = 65_536  # with the certificates of a chain in the header


class Detached:
    """`header..signature` over a payload. `header` is what it says; nothing of it is true before `is_by`."""

    def __init__(self, text: str, payload: bytes) -> None:
        """Raises ValueError for whatever is not such a signature, or has a header that is not understood."""
        header, _, signature = text.partition("..")
        if len(text) > MAX_CHARACTERS:
            raise ValueError("too long")
        self._signature = _decoded(signature)
        try:
            said = json.loads(_decoded(header))
        except RecursionError:
            raise ValueError("nested too deeply") from None
        if not isinstance(said, dict) or {"crit", "b64"} & said.keys():
            raise ValueError("not a header that is understood")
        self.header: Mapping[str, Any] = said
        self._signed = f"{header}.".encode() + base64.urlsafe_b64encode(payload).rstrip(b"=")

    def is_by(self, key: ECKey | RSAKey, algorithm: str) -> bool:
        """Whether the key made it, with the algorithm that it is used with."""
        if self.header.get("alg") != algorithm:
            return False
        try:
            model = JWSRegistry(algorithms=[algorithm]).get_alg(algorithm)
            model.check_key(key)
            return bool(model.verify(self._signed, self._signature, key))
        except (JoseError, ValueError, TypeError):
            return False  # a key or a signature of the wrong kind or length


def _decoded(text: str) -> bytes:
    """The bytes of base64url; raises ValueError unless the text is their one encoding: no second spelling passes."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise ValueError("not base64url") from None
    if not text or base64.urlsafe_b64encode(data).decode().rstrip("=") != text:
        raise ValueError("not base64url")
    return data
