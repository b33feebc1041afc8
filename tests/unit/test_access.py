"""Scopes: what a token opens, and what a registration may grant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.access import Permission, Scopes, Touched

READ = Permission(resource="Observation", interaction="r")
SEARCH = Permission(resource="Patient", interaction="s", transactions=("ITI-78", "TD0.2"))


@pytest.mark.parametrize(
    ("scopes", "permission", "opens"),
    [
        ("system/Observation.rs", READ, True),
        ("system/Observation.s", READ, False),
        ("system/*.r", READ, True),
        ("system/Patient.rs", READ, False),
        ("system/Observations.rs", READ, False),
        ("ITI-67", READ, False),
        ("ITI-78", SEARCH, True),
        ("TD0.2", SEARCH, True),
        ("ITI-7", SEARCH, False),
        ("system/Patient.s", SEARCH, True),
        ("", READ, False),
    ],
)
def test_what_a_scope_opens(scopes: str, permission: Permission, opens: bool) -> None:
    assert Scopes.parse(scopes).permits(permission) is opens


@pytest.mark.parametrize(
    "text", ["system/Observation", "system/Observation.", "system/Observation.sr", "observation.r", "ITI", "system/*.x"]
)
def test_malformed_scopes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="scope number 2"):
        Scopes.parse(f"ITI-78 {text}")


@pytest.mark.parametrize(
    ("held", "asked", "covers"),
    [
        ("system/*.cruds", "system/Patient.rs", True),
        ("system/Patient.r system/Patient.s", "system/Patient.rs", True),
        ("system/Patient.rs", "system/*.rs", False),
        ("system/Patient.rs", "user/Patient.r", False),
        ("system/Patient.rs", "ITI-78", False),
        ("ITI-78 ITI-65", "ITI-65", True),
    ],
)
def test_what_a_registration_may_grant(held: str, asked: str, covers: bool) -> None:
    assert Scopes.parse(held).covers(Scopes.parse(asked)) is covers


_SCOPES = st.sampled_from(["system/Patient.rs", "system/*.r", "system/Observation.cruds", "ITI-78", "TD0.2"])
_PERMISSIONS = st.builds(
    Permission,
    resource=st.sampled_from(["Patient", "Observation", "Task"]),
    interaction=st.sampled_from("cruds"),
    transactions=st.lists(st.sampled_from(["ITI-78", "TD0.2", "ITI-65"]), max_size=2).map(tuple),
)


@given(held=st.sets(_SCOPES), asked=st.sets(_SCOPES), permission=_PERMISSIONS)
def test_what_is_covered_opens_nothing_more(held: set[str], asked: set[str], permission: Permission) -> None:
    held_scopes, asked_scopes = Scopes(frozenset(held)), Scopes(frozenset(asked))
    if held_scopes.covers(asked_scopes) and asked_scopes.permits(permission):
        assert held_scopes.permits(permission)


def test_what_was_touched_is_named_once() -> None:
    assert Touched.of(["a", "b", "a"], ["X/1", "X/1"]) == Touched(patients=("a", "b"), references=("X/1",))
