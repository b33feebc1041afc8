"""`python -m benchmarks.emulator`: the emulator of AWS in a process of its own, empty but for what any function asks
for when it starts."""

from __future__ import annotations

import sys
import time

import boto3

from benchmarks.children import Child, say
from local.emulator import Emulator
from local.stack import isolate

SECRET = "benchmark"  # noqa: S105 - a name


def emulator() -> Child:
    """Start one; `ready["url"]` is its endpoint."""
    return Child([sys.executable, "-m", "benchmarks.emulator"])


def main() -> None:
    started = Emulator()
    started.start()
    isolate(started.url)
    boto3.client("secretsmanager").create_secret(Name=SECRET, SecretString="benchmark" * 8)
    say({"url": started.url})
    for _ in sys.stdin:
        say({"cpu_ms": time.process_time() * 1000})
    started.stop()


if __name__ == "__main__":
    main()
