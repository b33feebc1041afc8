"""A running exchange in processes of its own, for client libraries that know nothing of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.peers import Exchange, exchange


@pytest.fixture(scope="session")
def served() -> Iterator[Exchange]:
    with exchange() as running:
        yield running


@pytest.fixture(scope="session")
def patients(served: Exchange) -> list[str]:
    """Ids of the synthetic people."""
    found: list[str] = served.child.ask("patients")["ids"]
    return found
