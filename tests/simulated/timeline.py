"""A clock of its own: what happens in its order of time, and processes of which one runs at a time."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from functools import partial
from typing import cast

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


class Ended(BaseException):
    """The process ends here."""


class Process:
    """An invocation: calls, one after another; over at the deadline, wherever it is."""

    def __init__(self, function: str, work: Callable[[], None], deadline: float) -> None:
        self.function = function
        self.work = work
        self.deadline = deadline


def _baton() -> threading.Lock:
    """Acquired by whoever waits for it, released by whoever hands it over."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class Timeline:
    """Things that happen in their order of time, and processes that wait in between. One runs at a time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.process: Process | None = None
        self._waiting: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0
        self._until = 0.0
        self._rested = _baton()
        self._idle: list[_Worker] = []
        self._workers: list[_Worker] = []
        self._is_over = False
        self.failure: BaseException | None = None

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        self._count += 1
        heapq.heappush(self._waiting, (self.now + seconds, self._count, action))

    def run(self, until: float) -> None:
        self._until = until
        while self._waiting and self._waiting[0][0] <= until:
            self.now, _, action = heapq.heappop(self._waiting)
            action()
        self.now = until

    def start(self, process: Process) -> None:
        if not self._idle:
            self._workers.append(_Worker(self))
        worker = self._idle.pop() if self._idle else self._workers[-1]
        worker.process = process
        self._resume(worker)

    def _resume(self, worker: _Worker) -> None:
        self.process = worker.process
        worker.turn.release()
        self._rested.acquire()
        self.process = None
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def sleep(self, seconds: float) -> None:
        """Of the process that calls; raises Ended at its deadline."""
        process = self.process
        assert process is not None
        target = min(self.now + seconds, process.deadline)
        if target <= self._until and (not self._waiting or target < self._waiting[0][0]):
            self.now = target  # nobody else does anything in between
        else:
            worker = cast("_Worker", threading.current_thread())
            self.after(target - self.now, partial(self._resume, worker))
            self._rested.release()
            worker.turn.acquire()
        if self._is_over or self.now >= process.deadline:
            raise Ended

    def rest(self, worker: _Worker) -> None:
        self._idle.append(worker)
        self._rested.release()

    def close(self) -> None:
        """End the processes that are under way, and their threads."""
        self._is_over = True
        for worker in self._workers:
            while worker not in self._idle:
                self._resume(worker)
            worker.process = None
            worker.turn.release()
            worker.join()


class _Worker(threading.Thread):
    def __init__(self, timeline: Timeline) -> None:
        super().__init__(daemon=True)
        self.turn = _baton()
        self.process: Process | None = None
        self._timeline = timeline
        self.start()

    def run(self) -> None:
        while True:
            self.turn.acquire()
            if self.process is None:
                return
            try:
                self.process.work()
            except BaseException as failure:  # noqa: BLE001 - of the simulation itself: `run` raises it
                self._timeline.failure = failure
            self._timeline.rest(self)
