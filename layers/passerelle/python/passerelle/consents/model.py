"""What a patient decided about the shared record, compiled: the policy every disclosure is checked against.

Parties are named by the national identifiers without their system: an IDNPS begins with 8, an IDNST with 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from passerelle.consents.terms import Terms

T = TypeVar("T")


class RecordStatus(StrEnum):
    """Whether the shared record (DMP) of the person is in use."""

    OPEN = "open"
    CLOSED = "closed"
    OPPOSED = "opposed"  # there is none, and none is opened until the opposition is withdrawn
    ABSENT = "absent"


class Basis(StrEnum):
    """Why somebody is in care relation with the patient."""

    AUTHORISATION = "authorisation"  # the patient said so, or a professional attests it
    CARE_TEAM = "care-team"
    ADMISSION = "admission"
    APPOINTMENT = "appointment"
    PRESCRIPTION = "prescription"


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A party that takes care of the patient, from `since` (included) to `until` (excluded; None: open).

    `source` is the resource that says so (`CareTeam/...`), empty for what nobody wrote down as a resource.
    """

    party: str
    basis: Basis
    since: datetime
    until: datetime | None = None
    source: str = ""

    def holds(self, at: datetime) -> bool:
        return self.since <= at and (self.until is None or at < self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A professional or organisation that the patient shut out: nothing opens the record to it, no emergency either."""

    party: str
    since: datetime


class MandateKind(StrEnum):
    PARENT = "parent"  # until the child is of age
    GUARDIAN = "guardian"
    CARER = "carer"  # aidant: sees what was released, item by item


@dataclass(frozen=True, slots=True, kw_only=True)
class Mandate:
    """Somebody (`holder`, an INS as `system|value`) who acts for the patient.

    `released` are the references that a carer sees (`Type/id`); None: all that a representative sees.
    """

    holder: str
    kind: MandateKind
    since: datetime
    until: datetime | None = None
    released: frozenset[str] | None = None

    def holds(self, at: datetime) -> bool:
        return self.since <= at and (self.until is None or at < self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Emergency:
    """A glass that was broken: `professional` (IDNPS) sees the record from `since` to `until`."""

    id: str
    professional: str
    organisation: str
    since: datetime
    until: datetime
    reason: str  # a code

    def holds(self, at: datetime) -> bool:
        return self.since <= at < self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The compiled decisions of one person.

    `closing_motive` is a code, `closing_reason` words. `attending_physician` is the IDNPS of the médecin traitant,
    `attending_since` when that was last decided, None included. `consents` are the active Consent resources.
    """

    status: RecordStatus
    since: datetime
    closing_motive: str | None = None
    closing_reason: str | None = None
    attending_physician: str | None = None
    attending_since: datetime | None = None
    relations: tuple[Relation, ...] = ()
    blocks: tuple[Block, ...] = ()
    mandates: tuple[Mandate, ...] = ()
    emergencies: tuple[Emergency, ...] = ()
    consents: tuple[Terms, ...] = ()
    opposes_emergency: bool = False  # nobody breaks the glass
    opposes_regulation: bool = False  # the regulation centre does not see the record
    agrees_to_research: bool = False


# The strictest first: of linked records that were decided differently, the person gets the strictest decision.
_STRICTNESS = (RecordStatus.CLOSED, RecordStatus.OPPOSED, RecordStatus.OPEN, RecordStatus.ABSENT)


def strictest(policies: Iterable[Policy]) -> Policy:
    """The policy of a person whose records were decided about apart; of one physician, what was decided last."""
    each = tuple(policies)
    if len(each) == 1:
        return each[0]
    first = min(each, key=lambda policy: (_STRICTNESS.index(policy.status), policy.since))
    dated = [policy for policy in each if policy.attending_since is not None]
    latest = max(dated, key=lambda policy: (policy.attending_since, policy is first)) if dated else first
    return replace(
        first,
        attending_physician=latest.attending_physician,
        attending_since=latest.attending_since,
        relations=_union(policy.relations for policy in each),
        blocks=_union(policy.blocks for policy in each),
        mandates=_union(policy.mandates for policy in each),
        emergencies=_union(policy.emergencies for policy in each),
        consents=_union(policy.consents for policy in each),
        opposes_emergency=any(policy.opposes_emergency for policy in each),
        opposes_regulation=any(policy.opposes_regulation for policy in each),
        agrees_to_research=all(policy.agrees_to_research for policy in each),
    )


def _union(groups: Iterable[tuple[T, ...]]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(each for group in groups for each in group))
