"""May this caller see this person's record? Pure, deny by default (law 4).

The gate holds what is decided today: a patient sees the own record and no other, care professionals see open records,
everybody else sees none. Profession matrix, masks, blocks and break-glass widen this one function.
"""

from __future__ import annotations

from passerelle.access import Caller
from passerelle.consents.model import Policy, RecordStatus
from passerelle.directory.model import CARE_ROLES, Role


def may_see(caller: Caller, policy: Policy | None, *, is_own_record: bool) -> bool:
    """Whether the record exists for this caller. `policy` None (unknown person, or unreadable) is a refusal."""
    if policy is None:
        return False
    if caller.role == Role.PATIENT:
        return is_own_record
    return caller.role in CARE_ROLES and policy.status is not RecordStatus.CLOSED
