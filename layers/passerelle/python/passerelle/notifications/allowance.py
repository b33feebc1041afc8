"""How often somebody is written to: mistyped numbers are not flooded, and nobody runs up a bill by subscribing.

The numbers are data (`data/allowances.json`). A day starts in the morning, so that what was held back comes when people
are awake.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from passerelle.notifications.model import Channel


class Allowances(Protocol):
    """Counters that nobody can overdraw, however many count at the same time."""

    def take(self, name: str, most: int, *, until: datetime) -> bool:
        """Count one more under this name; False, and nothing counted, once there were `most`.

        The name is blinded where it is kept. The counter is forgotten some time after `until`.
        """


def next_day(at: datetime) -> datetime:
    """When the day is over that `at` belongs to, in UTC."""
    start = time.fromisoformat(limits()["day_starts"])
    today = datetime.combine(at.astimezone(UTC).date(), start, tzinfo=UTC)
    return today if at < today else today + timedelta(days=1)


def news_a_day(channel: Channel) -> int:
    return int(limits()["news_a_day"][channel])


@cache
def limits() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "allowances.json").read_text("utf-8"))
    return content
