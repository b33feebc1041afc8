"""What an export is: one file of a record, whose URL ends soon."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

URL_LIFETIME: Final = timedelta(minutes=10)
MAX_RESOURCE_BYTES: Final = 24 * 1024 * 1024
MAX_CONTENT_BYTES: Final = 100 * 1024 * 1024
"""What a function writes well within the time of an answer, and holds in its memory (resources only)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A file of the export; its bytes are asked for when it is written."""

    name: str
    data: Iterable[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """`sha256` in hexadecimal."""

    key: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """`url` gives the file to whoever has it, until `expires_at`."""

    packed: Packed
    url: str
    expires_at: datetime
