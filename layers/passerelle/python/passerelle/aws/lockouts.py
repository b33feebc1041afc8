"""Wrong access codes and claim secrets, counted until their time is over (`prescriptions.ports.Failures`).

operations  RXF#<organisation>  Q#<start of the quarter of an hour>  n: failures of it on anything; ttl
operations  RXF#<organisation>  D#<day>#<what was tried>             n: failures of it on one prescription; ttl
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from passerelle.aws.dynamodb import DynamoDb, Key, update
from passerelle.aws.journal import TableNames

MOST = 10
"""Failures within one period; the next are refused until it is over."""

_QUARTER = timedelta(minutes=15)
_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class DynamoFailures:
    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._tables = tables

    def locked_until(self, organisation: str, tried: str, at: datetime) -> datetime | None:
        periods = self._periods(organisation, tried, at)
        items = self._dynamodb.get_many(self._tables.operations, list(periods))
        return max((periods[key] for key, item in items.items() if item["n"] >= MOST), default=None)

    def count(self, organisation: str, tried: str, at: datetime) -> None:
        for key, end in self._periods(organisation, tried, at).items():
            values = {":one": 1, ":ttl": int(end.timestamp())}
            names = {"#n": "n", "#ttl": "ttl"}
            self._dynamodb.write(
                update(self._tables.operations, key, "SET #ttl = :ttl ADD #n :one", values, names=names)
            )

    def _periods(self, organisation: str, tried: str, at: datetime) -> dict[Key, datetime]:
        """The counters that a failure now belongs to, and when each is over."""
        quarter, day = _start(at, _QUARTER), _start(at, _DAY)
        named = self._tables.blinder().blind("tried", tried)
        return {
            (f"RXF#{organisation}", f"Q#{quarter.isoformat()}"): quarter + _QUARTER,
            (f"RXF#{organisation}", f"D#{day.date().isoformat()}#{named}"): day + _DAY,
        }


def _start(at: datetime, period: timedelta) -> datetime:
    return _EPOCH + (at - _EPOCH) // period * period
