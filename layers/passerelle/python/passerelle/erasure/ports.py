"""What erasing needs from storage."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Keys(Protocol):
    def destroy(self, patient: str, at: datetime) -> None:
        """Make all that was ever sealed for a source record unreadable. May be done again."""


class Contents(Protocol):
    def purge(self, patient: str) -> None:
        """Delete every version of every object of a source record, locked or not. May be done again."""
