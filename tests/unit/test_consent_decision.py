"""The gate to a person's record: every role against every state."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from passerelle.access import Caller, Scopes
from passerelle.consents.decision import may_identify, may_see
from passerelle.consents.model import Policy, RecordStatus
from passerelle.directory.model import CARE_ROLES, Role

AT = datetime(2026, 3, 1, tzinfo=UTC)


def caller(role: str) -> Caller:
    return Caller(client_id="c", organisation="o", role=role, scopes=Scopes(frozenset()), token_id="t")


@pytest.mark.parametrize("status", RecordStatus)
@pytest.mark.parametrize("role", [*Role, "unheard-of"])
def test_who_sees_a_record(role: str, status: RecordStatus) -> None:
    policy = Policy(status=status, since=AT)
    """A closed record is nobody's, not even the patient's; who the person is stays known to care."""
    own = role in (Role.PATIENT, Role.REPRESENTATIVE, *CARE_ROLES)
    is_there = status is not RecordStatus.CLOSED
    assert may_see(caller(role), policy, is_own_record=True) is (own and is_there)
    assert may_see(caller(role), policy, is_own_record=False) is (role in CARE_ROLES and is_there)
    assert may_identify(caller(role), is_own=True) is own
    assert may_identify(caller(role), is_own=False) is (role in CARE_ROLES)


@pytest.mark.parametrize("role", Role)
def test_without_a_policy_nobody_sees_anything(role: str) -> None:
    assert not may_see(caller(role), None, is_own_record=True)
