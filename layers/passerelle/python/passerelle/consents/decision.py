"""May this caller see this person's record? Pure, deny by default (law 4).

The gate holds what is decided today: a patient sees the own record and no other, care professionals see any that is
not closed, everybody else sees none. A closed record is nobody's, but who the person is stays known to care. Profession
matrix, masks, blocks and break-glass widen this one function.
"""

from __future__ import annotations

from passerelle.access import Caller
from passerelle.consents.model import Policy, RecordStatus
from passerelle.directory.model import CARE_ROLES, Role


def may_see(caller: Caller, policy: Policy | None, *, is_own_record: bool) -> bool:
    """Whether the record exists for this caller. `policy` None (unknown person, or unreadable) is a refusal."""
    if policy is None or policy.status is RecordStatus.CLOSED:
        return False
    return may_identify(caller, is_own=is_own_record)


def may_identify(caller: Caller, *, is_own: bool) -> bool:
    """Whether the identity of a person exists for this caller: closing a record hides it, not who someone is."""
    return is_own if caller.role in (Role.PATIENT, Role.REPRESENTATIVE) else caller.role in CARE_ROLES
