"""Runs the kit against mutants of the server: a plugin that replaces pytest's loop over the collected tests.

Everything in one session, so that people, tokens and documents of the kit are made once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from tests.conformance.mutants import Mutant


class _Nothing:
    """Stands for a next test that shares the session with the last, and nothing else."""

    def __init__(self, session: pytest.Session) -> None:
        self._session = session

    def listchain(self) -> list[Any]:
        return [self._session]


class Hunt:
    """`survivors` are the mutants that no test of their rows noticed, each with the reason."""

    def __init__(self, mutants: Sequence[Mutant]) -> None:
        self.mutants = mutants
        self.survivors: dict[str, str] = {}
        self._made: set[str] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        for mutant in self.mutants:
            for row in mutant.rows:
                reason = self._hunted(session, mutant, row)
                if reason:
                    self.survivors[f"{row}: {mutant.rule}"] = reason
        session._setupstate.teardown_exact(None)
        return True

    def _hunted(self, session: pytest.Session, mutant: Mutant, row: str) -> str:
        """Why a mutant was not caught by the tests of one row; nothing if it was."""
        items = [each for each in session.items if _row(each) == row]
        items = [each for each in items if mutant.case in each.name] or items
        for item in items:
            self._make_fixtures(item)
            with mutant.apply():
                is_noticed = self._fails(item)
            if is_noticed:
                return "the test fails without it, too" if self._fails(item) else ""
        return f"none of {len(items)} tests failed"

    def _make_fixtures(self, item: pytest.Item) -> None:
        """What tests share must not be made by a mutant."""
        shared = {
            name
            for name, definitions in item._fixtureinfo.name2fixturedefs.items()  # type: ignore[attr-defined]
            if any(each.scope == "session" for each in definitions)
        }
        if shared - self._made:
            self._fails(item)
            self._made |= shared

    def _fails(self, item: pytest.Item) -> bool:
        reports = runtestprotocol(item, log=False, nextitem=_Nothing(item.session))  # type: ignore[arg-type]
        return any(report.failed for report in reports)


def _row(item: pytest.Item) -> str | None:
    marker = item.get_closest_marker("row")
    return str(marker.args[0]) if marker else None
