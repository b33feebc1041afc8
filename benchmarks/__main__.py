"""`make bench`, or parts of it: `python -m benchmarks [story] [capacity] [cold] [peers] [documents] [knowledge]
[prescriptions] [notifications] [ingestion]`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console

from benchmarks import capacity, cold_start, comparison, knowledge, story
from local import synthesis
from local.exchange import Credentials
from local.seed import seed
from local.stack import LocalStack

PARTS: Final = (
    "story",
    "capacity",
    "cold",
    "peers",
    "documents",
    "knowledge",
    "prescriptions",
    "notifications",
    "ingestion",
)


def main(asked: list[str]) -> None:
    console = Console(width=130)
    unknown = set(asked) - set(PARTS)
    if unknown:
        raise SystemExit(f"there is no {', '.join(sorted(unknown))}; parts are {', '.join(PARTS)}")
    parts = asked or PARTS
    if "cold" in parts:
        with console.status("starting functions"):
            made = cold_start.starts([cold_start.SDK, *cold_start.FUNCTIONS], times=5)
        console.print(cold_start.table(made))
    if "documents" in parts:  # in a process of its own: what it holds is measured
        subprocess.run([sys.executable, "-m", "benchmarks.documents"], check=True)
    if "prescriptions" in parts:  # in a process of its own: it points the settings of AWS elsewhere
        subprocess.run([sys.executable, "-m", "benchmarks.prescriptions"], check=True)
    if "ingestion" in parts:  # in a process of its own, as above
        subprocess.run([sys.executable, "-m", "benchmarks.ingestion"], check=True)
    if "knowledge" in parts:
        knowledge.run(console)
    if "peers" in parts:
        comparison.run(console)
    if {"story", "capacity"} & set(parts):
        with _stack(console, signs=True) as (local, credentials):
            if "story" in parts:
                story.run(local, credentials.keys(), console)
            if "capacity" in parts:
                capacity.run(local, credentials.keys(), console)
    if "notifications" in parts and len(parts) > 1:  # in a process of its own: it does not sign
        subprocess.run([sys.executable, "-m", "benchmarks", "notifications"], check=True)
    elif "notifications" in parts:
        with _stack(console, signs=False) as (local, credentials):  # the load comes from elsewhere, as it would
            load = [sys.executable, "-m", "benchmarks.notifications", local.url, credentials.path]
            subprocess.run(load, check=True)  # noqa: S603 - our own


@contextmanager
def _stack(console: Console, *, signs: bool) -> Iterator[tuple[LocalStack, Credentials]]:
    """The local stack with the synthetic region, in this process: what runs in it can be metered."""
    with (
        TemporaryDirectory() as folder,
        Path(os.devnull).open("w") as log,
        LocalStack(log=log, signs=signs) as local,
    ):
        with console.status("bringing up the stack"):
            local.bring_up(synthesis.synthesise(Path(folder)))
            local.serve()
            from passerelle import wiring

            credentials = Credentials(Path(folder) / "credentials.json")
            seed(local.url, credentials, wiring.clients().register, lambda _: None)
        yield local, credentials


main(sys.argv[1:])
