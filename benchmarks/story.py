"""For each step of the story the AWS calls, capacity units, handler CPU and wall time.

The story is played on the embedded emulator, a few times; calls and units are exact and the same each
time, times are medians. Units follow the size rules that AWS publishes; the authorizer's calls are part of each step.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from local.exchange import ExchangeClient
from local.region import PARTICIPANTS
from local.stack import LocalStack
from local.story import Story
from local.transport import GatewayTransport
from local.webhook import Webhook

ROUNDS = 5

Keys = Mapping[str, Mapping[str, Any]]  # private keys by client


@dataclass(slots=True)
class Cost:
    """What one step cost, each time it was taken."""

    calls: list[int] = field(default_factory=list)
    round_trips: list[int] = field(default_factory=list)
    read_units: list[float] = field(default_factory=list)
    write_units: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)


class Stopwatch:
    """CPU time of handlers by function, on the thread that runs them."""

    def __init__(self, local: LocalStack) -> None:
        self.by_function: dict[str, list[float]] = defaultdict(list)
        self._lock = threading.Lock()
        self._serving: set[str] = {"relay", "dispatch", "deliver"}
        self.http_ms = 0.0
        runtime = local.gateway._runtime
        invoke = runtime.invoke

        def timed(logical_id: str, event: Mapping[str, Any]) -> Any:
            began = time.thread_time()
            try:
                return invoke(logical_id, event)
            finally:
                spent = (time.thread_time() - began) * 1000
                name = runtime.functions[logical_id].name
                with self._lock:
                    self.by_function[name].append(spent)
                    if name not in self._serving:
                        self.http_ms += spent

        runtime.invoke = timed  # type: ignore[method-assign]


def run(local: LocalStack, keys: Keys, console: Console) -> None:
    costs, stopwatch = _played(local, keys, console)
    console.print(_steps(costs))
    console.print(_functions(stopwatch))


def _played(local: LocalStack, keys: Keys, console: Console) -> tuple[dict[str, Cost], Stopwatch]:
    from passerelle.aws.dynamodb import measure

    stopwatch = Stopwatch(local)
    costs: dict[str, Cost] = {}

    @contextmanager
    def measured(title: str) -> Iterator[None]:
        cost = costs.setdefault(title, Cost())
        stopwatch.http_ms = 0.0
        began = time.perf_counter()
        with measure() as spent:
            yield
        cost.wall_ms.append((time.perf_counter() - began) * 1000)
        cost.cpu_ms.append(stopwatch.http_ms)
        cost.calls.append(len(spent.calls))
        cost.round_trips.append(spent.round_trips)
        cost.read_units.append(spent.read_units)
        cost.write_units.append(spent.write_units)

    for _ in track(range(ROUNDS), "playing the story", console=console):
        clients = {
            each.id: ExchangeClient(
                local.url, each.id, keys[each.id], scope=each.scopes, transport=GatewayTransport(local.gateway)
            )
            for each in PARTICIPANTS
        }
        with Webhook() as webhook:
            story = Story(clients.__getitem__, keys, lambda _: None, webhook=webhook, measured=measured)
            story.play()
            clients["practice"].request("DELETE", story.subscription)
    return costs, stopwatch


def _steps(costs: Mapping[str, Cost]) -> Table:
    table = Table("step", "AWS calls", "round trips", "read units", "write units", "CPU ms", "wall ms")
    for column in table.columns[1:]:
        column.justify = "right"
    for title, cost in costs.items():
        table.add_row(
            title,
            _same(cost.calls),
            _same(cost.round_trips),
            _same(cost.read_units),
            _same(cost.write_units),
            f"{statistics.median(cost.cpu_ms):.1f}",
            f"{statistics.median(cost.wall_ms):.0f}",
        )
    table.caption = f"medians of {ROUNDS} rounds; a range where rounds differ; the authorizer included"
    return table


def _same(values: list[Any]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g}-{high:g}"


def _functions(stopwatch: Stopwatch) -> Table:
    table = Table("function", "invocations", "CPU ms, median", "CPU ms, worst")
    for name, spent in sorted(stopwatch.by_function.items()):
        table.add_row(name, str(len(spent)), f"{statistics.median(spent):.1f}", f"{max(spent):.1f}")
    return table
