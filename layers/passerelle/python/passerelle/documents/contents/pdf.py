"""Whether a PDF may be kept: whole, and without what acts (ISO 32000-1, 7.5, 7.3.5, 12.6; `data/pdf_actions.json`).

It is looked through, not parsed: some milliseconds for some megabytes. Who hides an action well enough finds a way past
it, so this is one defence of several (downloads are sandboxed, malware is looked for); it keeps out what generators and
copied attacks leave in the open, in object streams too.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Final

from passerelle.documents.contents.header import data as table

_TRAILER: Final = 1024  # where readers look for the end (ISO 32000-1, H.3)
_MAX_INFLATED: Final = 8_000_000
_MAX_PACKED: Final = 1_000_000
_MAX_STREAMS: Final = 2_000
_DICTIONARY: Final = 400  # bytes between the type of an object stream and its data, at most


def fault_of(data: bytes, *, is_whole: bool = True) -> str | None:
    """Why a PDF is refused, in words for its sender; None for one that is not."""
    if is_whole and b"%%EOF" not in data[-_TRAILER:]:
        return "the PDF document is not whole"
    if _acts(data) or any(_acts(each) for each in _object_streams(data)):
        return "a PDF document with scripts, actions, attached files or encryption is not accepted"
    return None


def _acts(data: bytes) -> bool:
    return _action().search(data) is not None


def _object_streams(data: bytes) -> Iterator[bytes]:
    packed, left, at = memoryview(data), _MAX_INFLATED, -1
    for _ in range(_MAX_STREAMS):
        at = data.find(b"/ObjStm", at + 1)
        if at < 0 or left <= 0:
            return
        word = data.find(b"stream", at, at + _DICTIONARY)
        if word < 0:
            continue
        start = word + len(b"stream")
        start += 2 if data[start : start + 2] == b"\r\n" else 1
        try:
            inflated = zlib.decompressobj().decompress(packed[start : start + _MAX_PACKED], left)
        except zlib.error:
            continue  # of another filter, or none: then it was read as it stands
        left -= len(inflated)
        yield inflated


@cache
def _action() -> re.Pattern[bytes]:
    """The names, each character as it is or as the `#xx` of ISO 32000-1, 7.3.5."""
    names = "|".join("".join(_spelled(each) for each in name) for name in table("pdf_actions.json")["names"])
    return re.compile(rf"/(?:{names})".encode(), re.ASCII)


def _spelled(letter: str) -> str:
    escape = "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in f"{ord(letter):02x}")
    return f"(?:{letter}|#{escape})"
