"""Processes that a benchmark starts: they say in a line of JSON that they are ready, and answer each line with one.

They end when their standard input does, so that none outlives the benchmark.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from infra.paths import ROOT


class ChildError(Exception):
    """A process did not come up, or ended before it answered."""


class Child:
    """One process. `ready` is what it said first."""

    def __init__(
        self, command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None, folder: Path = ROOT
    ) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - commands of this package
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            self.ready = self._answer()
        except BaseException:
            self.close()
            raise

    def ask(self, question: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{question}\n")
        self._process.stdin.flush()
        return self._answer()

    def cpu_ms(self) -> float:
        """Processor time of the process since it started."""
        return float(self.ask("cpu")["cpu_ms"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ChildError(f"{Path(str(self._process.args[-1])).name} ended")  # type: ignore[index]
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def say(answer: Mapping[str, Any]) -> None:
    """What a child does: one answer."""
    print(json.dumps(answer), flush=True)
