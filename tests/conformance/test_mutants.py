"""Each seeded fault of the server is noticed by the kit: the mutation score."""

from __future__ import annotations

import pytest

from tests.conformance.hunt import Hunt
from tests.conformance.mutants import MUTANTS, MUTANTS_WITHOUT_OPTIONS
from tests.conformance.server_under_test import UnderTest


def test_every_mutant_is_caught(under_test: UnderTest, capsys: pytest.CaptureFixture[str]) -> None:
    hunt, other = Hunt(MUTANTS), Hunt(MUTANTS_WITHOUT_OPTIONS)
    under_test.run("--tb=no", plugins=(hunt,))
    with under_test.other_options() as profile:
        under_test.run("--tb=no", profile=profile, plugins=(other,))
    survivors = hunt.survivors | other.survivors
    count = len(hunt.mutants) + len(other.mutants)
    with capsys.disabled():
        alive = len({name.partition(": ")[2] for name in survivors})
        print(f"\nmutants: {count - alive} of {count} caught")  # noqa: T201 - the score
    assert not survivors, "\n".join(f"{name}: {reason}" for name, reason in survivors.items())
