"""An endpoint that is down is left alone, whoever subscribed there: a circuit breaker per origin. Pure.

    closed      fewer than five failures in a row: everybody may try
    open        nobody tries before `until`: a pause that grows as one subscription's does
    half open   `until` is over: one delivery tries, and the others wait for what becomes of it

An answer is no failure of the origin, even one that refuses: many subscribers share a host, and one path that is gone
says nothing about the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from passerelle.notifications.model import longest_pause

BREAKS_AFTER: Final = 5
"""Failures in a row, of any subscriptions."""

PROBED_WITHIN: Final = timedelta(minutes=1)
"""What one delivery that tries has: more than its function runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """`failures` in a row; nobody tries before `until`."""

    failures: int = 0
    until: datetime | None = None

    @property
    def is_closed(self) -> bool:
        return self.failures < BREAKS_AFTER

    def is_open(self, at: datetime) -> bool:
        return not self.is_closed and self.until is not None and at < self.until

    def open_until(self, at: datetime) -> datetime | None:
        """Until when it is open once there is one more failure; None: it stays closed."""
        failures = self.failures + 1
        return at + longest_pause(failures) if failures >= BREAKS_AFTER else None
