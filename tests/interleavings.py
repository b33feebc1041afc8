"""Every order in which processes that share something can take their steps, each of which happens at once.

A process is a function. Before each step it passes a gate, where it waits for its turn, and where it may be told how
the step turns out: a call that fails, a process that ends. From every state that is met, all turns are tried once: two
ways to the same state (what is shared, and what each process has seen) have the same future.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Turn = tuple[str, str]  # process, outcome of its step


class Ended(BaseException):
    """The process ends at this gate."""


class World(Protocol):
    def processes(self) -> Mapping[str, Callable[[], None]]: ...

    def state(self) -> Hashable:
        """What is shared."""

    def check(self) -> None:
        """Asserts what has to be true when nobody can take a step any more."""


@dataclass
class _Process:
    turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    outcomes: Callable[[], Sequence[str]] | None = None  # at a gate
    outcome: str = ""
    seen: list[Any] = field(default_factory=list)
    failure: BaseException | None = None


class Gates:
    """One run of a world's processes, one step at a time."""

    def __init__(self) -> None:
        self._processes: dict[str, _Process] = {}
        self._here = threading.local()
        self._rested = threading.Semaphore(0)  # a process is at a gate, or over

    def pass_(self, outcomes: Callable[[], Sequence[str]]) -> str:
        """Wait for a turn: the outcome that was chosen. There is none while `outcomes` are none."""
        process: _Process = self._here.process
        process.outcomes = outcomes
        self._rested.release()
        process.turn.acquire()
        process.outcomes = None
        if process.outcome == "ends":
            raise Ended
        return process.outcome

    def see(self, result: Any) -> None:
        """What the step showed the process: all that it does next depends on this, and what it saw before."""
        self._here.process.seen.append(repr(result))

    def forget(self) -> None:
        """The process begins anew, and knows nothing."""
        self._here.process.seen.clear()

    def start(self, functions: Mapping[str, Callable[[], None]]) -> None:
        for name, function in functions.items():
            self._processes[name] = process = _Process()
            threading.Thread(target=self._run, args=(process, function), daemon=True).start()
            self._rested.acquire()

    def _run(self, process: _Process, function: Callable[[], None]) -> None:
        self._here.process = process
        try:
            function()
        except Ended:
            pass
        except BaseException as failure:  # noqa: BLE001 - told to who runs the world
            process.failure = failure
        self._rested.release()

    def turns(self) -> list[Turn]:
        return [
            (name, outcome)
            for name, process in self._processes.items()
            if process.outcomes is not None
            for outcome in process.outcomes()
        ]

    def take(self, turn: Turn) -> None:
        name, outcome = turn
        process = self._processes[name]
        process.outcome = outcome
        process.turn.release()
        self._rested.acquire()
        if process.failure is not None:
            raise process.failure

    def state(self) -> Hashable:
        return tuple((name, tuple(process.seen)) for name, process in self._processes.items())

    def end(self) -> None:
        for name, process in self._processes.items():
            while process.outcomes is not None:
                self.take((name, "ends"))


def explore(make: Callable[[Gates], World]) -> int:
    """Try every order of turns in worlds that are made anew; how many states there were. Raises what a check does."""
    met: set[Hashable] = set()
    waiting: list[list[Turn]] = [[]]
    while waiting:
        turns = waiting.pop()
        gates = Gates()
        world = make(gates)
        gates.start(world.processes())
        try:
            for turn in turns:
                gates.take(turn)
            while (state := (world.state(), gates.state())) not in met:
                met.add(state)
                possible = gates.turns()
                if not possible:
                    world.check()
                    break
                waiting += [[*turns, other] for other in possible[1:]]
                turns = [*turns, possible[0]]
                gates.take(possible[0])
        except AssertionError as failure:
            raise AssertionError(f"after {turns}: {failure}") from failure
        finally:
            gates.end()
    return len(met)
