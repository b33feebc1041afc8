"""The local stack that several journeys share: bringing it up takes longer than any of them.

It works as long as it is up, whether anybody looks or not: it goes down before the first file that has no use for it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from tests.stack_process import Running


class _Stacks:
    """The stack that is up, brought up when it is asked for."""

    def __init__(self, new_state: Callable[[], Path]) -> None:
        self._new_state = new_state
        self._up: Running | None = None
        self._person: str | None = None
        self._end = ExitStack()

    def current(self) -> Running:
        if self._up is None:
            from tests.stack_process import running_stack

            self._up = self._end.enter_context(running_stack(self._new_state()))
        return self._up

    def person(self) -> str:
        if self._person is None:
            from local.region import INS_TEST, ins_of

            client = self.current().client("practice")
            found = client.request("GET", f"Patient?identifier={INS_TEST}|{ins_of(3)}")
            client.http.close()  # that one alone: the test has clients of its own by now
            self._person = str(found.json()["entry"][0]["resource"]["id"])
        return self._person

    def close(self) -> None:
        self._up = self._person = None
        self._end.close()


_STACKS: Final = pytest.StashKey[_Stacks]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, Any, Any]:
    done = yield
    if nextitem is not None and nextitem.path != item.path and "_stacks" not in getattr(nextitem, "fixturenames", ()):
        stacks = item.config.stash.get(_STACKS, None)
        if stacks is not None:
            stacks.close()
    return done


@pytest.fixture(scope="session")
def _stacks(
    request: pytest.FixtureRequest, template_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[_Stacks]:
    def new_state() -> Path:
        state = tmp_path_factory.mktemp("state")
        shutil.copy(template_folder / "template.json", state)
        return state

    request.config.stash[_STACKS] = stacks = _Stacks(new_state)
    yield stacks
    stacks.close()


@pytest.fixture
def running(_stacks: _Stacks) -> Iterator[Running]:
    yield _stacks.current()
    _stacks.current().close_clients()


@pytest.fixture
def person(_stacks: _Stacks) -> str:
    """The id of a synthetic person's source record."""
    return _stacks.person()
