"""Processes of our own: they say in a line of JSON that they are ready, and answer each line with one.

They end in order when their standard input does: none outlives the process that started it, however that ends. They
are in a session of their own, so that Ctrl-C reaches whoever started them alone, who knows when to end them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, NoReturn, Self

from local.synthesis import ROOT

_END_SECONDS: Final = 60.0  # an emulator that holds much saves it


class ChildError(Exception):
    """A process did not come up, or ended before it answered, or not in order."""


class Child:
    """One process. `ready` is what it said first. From any thread.

    `errors` gets what it writes to standard error (nobody, unless given); it keeps the descriptors in `keeps` open.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        folder: Path = ROOT,
        errors: IO[str] | int | None = subprocess.DEVNULL,
        keeps: Sequence[int] = (),
    ) -> None:
        self._name = name
        self._turn = threading.Lock()
        self._process = subprocess.Popen(  # noqa: S603 - commands of this project
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            pass_fds=keeps,
            start_new_session=True,
            text=True,
        )
        try:
            self.ready = self._answer()
        except BaseException:
            self._end()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def ask(self, question: str) -> dict[str, Any]:
        """Raises ChildError."""
        assert self._process.stdin is not None
        with self._turn:
            try:
                self._process.stdin.write(f"{question}\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                raise self._ended() from None
            return self._answer()

    def cpu_ms(self) -> float:
        """Processor time of the process since it started."""
        return float(self.ask("cpu")["cpu_ms"])

    def wait(self) -> NoReturn:
        """Raises ChildError once it has ended."""
        self._process.wait()
        raise self._ended()

    def close(self) -> None:
        """Let it end. Raises ChildError if it did not end in order, now or before."""
        self._end()
        if self._process.returncode:
            raise self._ended()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended before, and somebody asked it since
            self._process.stdin.close()
        try:
            self._process.wait(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _ended(self) -> ChildError:
        return ChildError(f"{self._name} ended by itself (exit status {self._process.wait()})")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def answer(ready: Mapping[str, Any], answers: Mapping[str, Callable[[], Mapping[str, Any]]]) -> None:
    """What a child does: say that it is ready, then answer for as long as somebody may ask."""
    _say(ready)
    for question in sys.stdin:
        _say(answers[question.strip()]())


def _say(told: Mapping[str, Any]) -> None:
    print(json.dumps(told), flush=True)
