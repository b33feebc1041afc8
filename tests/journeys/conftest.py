"""The local stack that several journeys share: bringing it up takes longer than any of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.stack_process import Running


@pytest.fixture(scope="session")
def _stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    from tests.stack_process import running_stack

    with running_stack(tmp_path_factory.mktemp("state")) as stack:
        yield stack


@pytest.fixture
def running(_stack: Running) -> Iterator[Running]:
    yield _stack
    _stack.close_clients()


@pytest.fixture(scope="session")
def person(_stack: Running) -> str:
    """The id of a synthetic person's source record."""
    from local.region import INS_TEST, ins_of

    found = _stack.client("practice").request("GET", f"Patient?identifier={INS_TEST}|{ins_of(3)}")
    _stack.close_clients()
    return str(found.json()["entry"][0]["resource"]["id"])
