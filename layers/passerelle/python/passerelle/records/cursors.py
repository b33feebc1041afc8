"""Cursors: where to go on, signed, and bound to the caller and to what was asked (contract GEN-10)."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import zlib
from typing import Any

from passerelle.access import Request
from passerelle.errors import NotFound
from passerelle.identifiers import Blinder

CURSOR = "_cursor"  # the parameter of our own page links
_SIGNATURE_BYTES = 16


class Cursors:
    def __init__(self, blinder: Blinder) -> None:
        self._blinder = blinder

    def made(self, request: Request, purpose: str, position: Any) -> str:
        """`position` is JSON; `purpose` says what it is a position of, as exactly as that matters."""
        content = zlib.compress(json.dumps([self._mark(request, purpose), position]).encode())
        return base64.urlsafe_b64encode(self._blinder.sign(content) + content).decode()

    def read(self, request: Request, purpose: str, cursor: str | None) -> Any:
        """The position, None without a cursor; raises NotFound for one that was made for anyone or anything else."""
        if cursor is None:
            return None
        try:
            raw = base64.urlsafe_b64decode(cursor.encode())
        except (binascii.Error, ValueError):
            raise NotFound() from None
        signature, content = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        if not secrets.compare_digest(self._blinder.sign(content), signature):
            raise NotFound()
        mark, position = json.loads(zlib.decompress(content))
        if mark != self._mark(request, purpose):
            raise NotFound()
        return position

    def _mark(self, request: Request, purpose: str) -> str:
        return self._blinder.blind("cursor", f"{request.caller.client_id}\x00{purpose}")
