"""A ZIP archive, written as it comes to a place that cannot go back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from io import RawIOBase
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from passerelle.exports.model import Packed, Part
from passerelle.exports.ports import Sink


class _Digesting(RawIOBase):
    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink
        self.digest = hashlib.sha256()
        self.size_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        chunk = bytes(data)
        self.digest.update(chunk)
        self.size_bytes += len(chunk)
        self._sink.write(chunk)
        return len(chunk)


def pack(key: str, parts: Iterable[Part], sink: Sink, at: datetime) -> Packed:
    out = _Digesting(sink)
    with ZipFile(out, "w", ZIP_DEFLATED) as archive:
        for part in parts:
            entry = ZipInfo(part.name, date_time=at.timetuple()[:6])
            entry.compress_type = ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as file:
                for chunk in part.data:
                    file.write(chunk)
    sink.close()
    return Packed(key=key, sha256=out.digest.hexdigest(), size_bytes=out.size_bytes)
