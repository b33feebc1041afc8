"""Search entries as items hold them: deflated over a text that most of them share parts of.

What an entry says is mostly the URLs of code systems and profiles and the names of parameters; deflate alone finds
them once an entry, a preset dictionary makes them nearly free. An entry of a document is 1.3 kB of JSON and 350 bytes
so, and a search reads as many more for a read unit (docs/adr/documents-under-ranges.md).

The first byte names the dictionary. Entries outlive releases: a dictionary that was ever used is never edited.
"""

from __future__ import annotations

import zlib
from functools import cache
from pathlib import Path

from passerelle.records.search import Entry

_CURRENT = 1
_RAW = -15  # window bits of deflate without a header: an item is checked by what stores it


def pack_entry(entry: Entry) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, _RAW, 9, zlib.Z_DEFAULT_STRATEGY, _dictionary(_CURRENT))
    return bytes((_CURRENT,)) + deflate.compress(entry.pack().encode()) + deflate.flush()


def unpack_entry(held: bytes) -> Entry:
    inflate = zlib.decompressobj(_RAW, _dictionary(held[0]))
    return Entry.unpack((inflate.decompress(held[1:]) + inflate.flush()).decode())


@cache
def _dictionary(number: int) -> bytes:
    return (Path(__file__).parent / "data" / f"entries-{number}.txt").read_bytes()
