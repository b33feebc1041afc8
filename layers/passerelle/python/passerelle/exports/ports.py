"""What an export needs from storage."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol


class Sink(Protocol):
    """A file that is being written, a few megabytes in memory at a time; it is there once it is closed."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class ExportSpace(Protocol):
    """Files that go by themselves within two days."""

    def begin(self, key: str) -> Sink: ...

    def link(self, key: str, lifetime: timedelta) -> str:
        """A URL that gives the file to whoever has it."""
