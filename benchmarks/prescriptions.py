"""`python -m benchmarks.prescriptions`: what commands on a prescription cost, and what becomes of claims made at once.

Of our own code, on storage in memory with a lock; then on the emulator, in another process, whose calls and units are
exact. Every round is checked: one claim wins, each other is told so.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from local.emulator import Emulator
from local.stack import isolate
from passerelle.access import Caller
from passerelle.errors import PasserelleError
from passerelle.prescriptions.model import Outcome
from tests.prescribing import PHARMACY_A, MemoryExchange, Region, code_of, region, region_in_memory, tried

STORIES: Final = 300
RACES: Final = ((2, 1_000), (10, 1_000), (100, 100))
RACES_ON_EMULATOR: Final = ((2, 5), (10, 5), (100, 3))
UNITS: Final = 90  # of the example


def main() -> None:
    console = Console(width=130)
    console.print(_story())
    sys.setswitchinterval(1e-5)  # so that threads meet
    table = _races_table("claims at once, in memory")
    for many, rounds in RACES:
        _raced(table, region_in_memory(), many, rounds)
    console.print(table)
    sys.setswitchinterval(0.005)
    with Emulator() as elsewhere:
        isolate(elsewhere.url)
        with region(emulator=elsewhere.url) as there:
            table = _races_table("claims at once, on the emulator")
            for many, rounds in RACES_ON_EMULATOR:
                _raced(table, there, many, rounds)
            console.print(table)
            console.print(_commands(there))


def _story() -> Table:
    """Prescribed, signed, claimed and supplied in two parts: CPU of each command."""
    here = region_in_memory()
    spent: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, command: Callable[[], Any]) -> Any:
        began = time.thread_time()
        try:
            return command()
        finally:
            spent[name].append((time.thread_time() - began) * 1000)

    for _ in range(STORIES):
        created = timed("$create", here.create)
        id = created.prescription.group.id
        timed("$prepare, signed, $activate", partial(here.activate, id))
        secret = timed("$accept", partial(here.accept, id, created.access_code)).secret
        timed("$dispense, half", partial(here.dispense, id, secret, UNITS // 2))
        timed("$dispense, the rest", partial(here.dispense, id, secret, UNITS // 2))
    table = Table("command", "CPU ms", "a second and core", title="a prescription of one line, in memory")
    for name, each in spent.items():
        median = statistics.median(each)
        table.add_row(name, f"{median:.2f}", f"{1000 / median:,.0f}")
    whole = sum(map(statistics.median, spent.values()))
    table.add_row("the whole story", f"{whole:.2f}", f"{1000 / whole:,.0f}")
    table.caption = f"medians of {STORIES}; checks of medicines apart (python -m benchmarks knowledge)"
    return table


# --- claims at once ---------------------------------------------------------------------------------------------------


def _races_table(title: str) -> Table:
    table = Table("claimants", "rounds", "claims", "won", "RX-CLAIMED-BY-OTHER", "other", "claims/s", title=title)
    for column in table.columns:
        column.justify = "right"
    return table


def _raced(table: Table, here: Region, many: int, rounds: int) -> None:
    """Raises RuntimeError for a round in which not exactly one wins."""
    results: Counter[str] = Counter()
    taken = 0.0
    for _ in range(rounds):
        id, code = here.issued()
        began = time.perf_counter()
        found = Counter(
            map(_result, _at_once([partial(here.accept, id, code, caller=_pharmacy(n)) for n in range(many)]))
        )
        taken += time.perf_counter() - began
        if found["ok"] != 1 or here.stored(id).lines[0].fence != 1:
            raise RuntimeError(f"{found['ok']} claims of one line won")
        results += found
        if isinstance(here.store, MemoryExchange):
            here.store.prescriptions.clear()
            here.store.history.clear()
            here.store.answers.clear()
    won, lost = results.pop("ok"), results.pop("RX-CLAIMED-BY-OTHER", 0)
    other = ", ".join(f"{name} {count}" for name, count in results.items()) or "0"
    claims = many * rounds
    table.add_row(str(many), f"{rounds:,}", f"{claims:,}", f"{won:,}", f"{lost:,}", other, f"{claims / taken:,.0f}")


def _pharmacy(number: int) -> Caller:
    return replace(PHARMACY_A, client_id=f"pharmacy-{number}", organisation=f"199000{number:04d}")


def _result(done: Outcome | PasserelleError) -> str:
    return code_of(done) if isinstance(done, PasserelleError) else "ok"


def _at_once(calls: list[Callable[[], Outcome]]) -> list[Outcome | PasserelleError]:
    barrier = threading.Barrier(len(calls))
    done: list[Any] = [None] * len(calls)

    def run(number: int) -> None:
        barrier.wait()
        done[number] = tried(calls[number])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


# --- what commands cost -----------------------------------------------------------------------------------------------


def _commands(here: Region) -> Table:
    from passerelle.aws.dynamodb import measure
    from tests.prescription_commands import COMMANDS, Subject, key

    table = Table("command", "round trips", "reads", "actions", "read units", "write units", "wall ms")
    for column in table.columns[1:]:
        column.justify = "right"
    for command in COMMANDS:
        on = command.prepare(Subject(here))
        with _actions() as actions, measure() as spent:
            began = time.perf_counter()
            command.make(on, key())
            taken = (time.perf_counter() - began) * 1000
        reads = len(spent.calls) - spent.calls.count("TransactWriteItems")
        table.add_row(
            command.name,
            str(spent.round_trips),
            str(reads),
            " + ".join(map(str, actions)),
            f"{spent.read_units:.0f}",
            f"{spent.write_units:.0f}",
            f"{taken:.0f}",
        )
    table.caption = "one line; reads are made at once, but for one at most; actions are those of the one transaction"
    return table


@contextmanager
def _actions() -> Iterator[list[int]]:
    """Of how many actions each transaction is that the enclosed code makes."""
    from passerelle import wiring

    actions: list[int] = []

    def seen(params: Any, **_: Any) -> None:
        actions.append(len(params["TransactItems"]))

    events, name = wiring.aws("dynamodb").meta.events, "provide-client-params.dynamodb.TransactWriteItems"
    events.register(name, seen)
    try:
        yield actions
    finally:
        events.unregister(name, seen)


if __name__ == "__main__":
    main()
