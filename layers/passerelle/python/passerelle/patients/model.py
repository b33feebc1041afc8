"""Source records and persons.

Each feeding organisation registers people in its own identifier domain: a source record, which is one Patient
resource, one collection of clinical records, and one patient key. A person is a set of links over source records.
Nothing is merged in place, so every link can be undone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from passerelle.consents.model import Policy, strictest
from passerelle.journal import Change
from passerelle.matching.record import MatchRecord

Identifier = tuple[str, str]  # system, value


class Caution(StrEnum):
    """What a source doubts about an identity (RNIV attributes): such a record is linked to no other by its score."""

    DOUBTFUL = "doubtful"  # the person may not be who they say
    FICTITIOUS = "fictitious"  # a made-up identity, for anonymous care
    HOMONYM = "homonym"  # another person with the same traits is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address as sent. `line` is number and street."""

    line: str = ""
    city: str = ""
    postcode: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What identifies a person (RNIV strict traits first), as a source declares it; nothing is normalised.

    `identifiers` are those in use. `family_names` has the birth name first, `given_names` the birth given names in
    order first. `birth_place` is the code of the national register of places. `national` is the national identifier
    that the identity carries, whatever its status; only `is_qualified` (INS status QUAL) makes it tell who someone is.
    `replaced_by` names the record that the source says this one duplicates.
    """

    identifiers: tuple[Identifier, ...]
    family_names: tuple[str, ...] = ()
    given_names: tuple[str, ...] = ()
    birth_date: date | None = None
    gender: str | None = None
    birth_place: str = ""
    addresses: tuple[Address, ...] = ()
    phones: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    status: str = ""
    national: Identifier | None = None
    is_qualified: bool = False
    cautions: frozenset[Caution] = frozenset()
    is_active: bool = True
    replaced_by: Survivor | None = None

    @property
    def qualified_identifier(self) -> Identifier | None:
        """The national identifier of a qualified identity; any other status may not be used to recognise a person."""
        return self.national if self.is_qualified else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """The record that replaces another one, as a source names it: by identifier, or by id."""

    identifier: Identifier | None = None
    patient: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPatient:
    """A version of a source record."""

    patient: str
    version: int
    at: datetime
    body: bytes
    traits: Traits
    placement: Any  # where searches find it: the record's


class Rule(StrEnum):
    """Why two records are linked."""

    NATIONAL_IDENTIFIER = "national-identifier"  # the same, qualified on both sides
    SCORE = "score"  # beyond doubt, by the model named in the evidence
    SOURCE = "source"  # a source says that one replaces the other
    STEWARD = "steward"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An edge between two source records, `first` < `second`. `id` is a ulid."""

    id: str
    first: str
    second: str
    rule: Rule
    at: datetime

    def joins(self, one: str, other: str) -> bool:
        return {self.first, self.second} == {one, other}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A source record as the person it belongs to knows it.

    `origin` is the key of the person it is when it is alone; `since` when it was first registered; `policy` what was
    decided about its record; `qualified` the blinded national identifier of its qualified identity; `identifiers` the
    business identifiers that are given to other sources (ITI-83). A record that `is_barred` is linked to no other by
    its score. One that is `replaced_by` another one of its domain, or removed, still holds what was published under it.
    """

    patient: str
    origin: str
    since: datetime
    policy: Policy
    qualified: str | None = None
    identifiers: tuple[Identifier, ...] = ()
    is_barred: bool = False
    replaced_by: str | None = None
    is_removed: bool = False
    is_erased: bool = False

    @property
    def is_in_use(self) -> bool:
        """Whether the record stands for its person: cross-referenced, matched."""
        return self.replaced_by is None and not self.is_removed


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A person: source records, and the links that make them one. The same content is kept with each of them.

    `records` are in the order of their patient keys. `revision` counts the changes of this key: a person whose records
    went to another one is kept without any, and may come back.
    """

    key: str
    records: tuple[Member, ...]
    revision: int
    links: tuple[Link, ...] = ()

    @property
    def members(self) -> tuple[str, ...]:
        """The patient keys under which the person's clinical record is found."""
        return tuple(each.patient for each in self.records)

    @property
    def policy(self) -> Policy:
        """The strictest of the records'; what was permitted or denied about any of them counts for all."""
        return strictest(each.policy for each in self.records)

    @property
    def is_erased(self) -> bool:
        """Whether nothing is known any more but that there was somebody; no record follows one that is erased."""
        return bool(self.records) and all(each.is_erased for each in self.records)

    @property
    def qualified(self) -> str | None:
        """The blinded national identifier of the person; there is never more than one (contract INS-10)."""
        return next((each.qualified for each in self.records if each.qualified), None)

    def member(self, patient: str) -> Member:
        return next(each for each in self.records if each.patient == patient)


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonChange(Change):
    """The records, links or policy of a person change, if `before` is still current.

    The copy beside each record of `after` is replaced. The pointer from a national identifier to its person follows:
    `takes_from` is the person that it named before, if it comes to name `after` now (`after` itself if it named
    nobody); `releases` is the blinded identifier of `before` that nobody is known by any more.
    """

    before: Person | None
    after: Person
    takes_from: str | None = None
    releases: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonHolds(Change):
    """Nothing changes; the commit is Stale if the person of a source record is not as it was read any more."""

    patient: str
    person: Person


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a record is listed in a block of records that may be the same person: at a numbered slot of it.

    `key` is the blinded block. A slot is taken once: two registrations that look into a block at the same time and
    find it the same cannot both enter it.
    """

    key: str
    slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """A source record as a block lists it."""

    patient: str
    record: MatchRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPage:
    """What a block lists. `place` is its next free slot; a block that `is_full` lists more than was read."""

    place: Place
    entries: tuple[Blocked, ...]
    is_full: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """How a source record is found: by identifier, by birth date and name, and by the blocks of its match record."""

    traits: Traits
    record: MatchRecord
    places: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecordChange(Change):
    """A source record comes to exist, its traits change, or it is no longer found: its look-up items follow.

    `domain_identifier` is the (system, value) the source knows the person by, and belongs to one record: taken by this
    change, or released with `after` None. `looked_into` are blocks that were searched and not entered: the change is
    Stale if anybody entered one since.
    """

    patient: str
    domain_identifier: Identifier | None
    before: Listing | None
    after: Listing | None
    looked_into: tuple[Place, ...] = ()
    at: datetime


class ReviewStatus(StrEnum):
    OPEN = "open"
    LATER = "later"
    SAME = "same"
    DIFFERENT = "different"
    MOOT = "moot"  # answered by another decision: the records were linked, or one is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Who decided, when and why. `by` is the client; `professional` the person at the keyboard, if known."""

    by: str
    at: datetime
    reason: str
    professional: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A question to the identity stewards: are these two source records the same person?

    `id` is a ulid; `first` < `second` are patient keys. `evidence` is what the model saw, in its own form
    (`matching.scoring`), without traits: those are read from the records when a steward looks.
    """

    id: str
    first: str
    second: str
    status: ReviewStatus
    score: float
    grade: str
    evidence: Mapping[str, Any]
    raised_at: datetime
    cause: str = "score"  # score, contradiction, discrepancy, steward
    decision: Decision | None = None

    def other(self, patient: str) -> str:
        return self.second if patient == self.first else self.first


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewChange(Change):
    """A review is raised (`before` None), or decided if it is still as it was."""

    before: Review | None
    after: Review


class HistoryKind(StrEnum):
    LINKED = "linked"
    UNLINKED = "unlinked"
    MERGED = "merged"
    UNMERGED = "unmerged"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityEvent(Change):
    """What happened to the links of a source record: kept for ever, in its own history.

    `with_records` are the records that it came to share a person with, or left.
    """

    id: str
    patient: str
    kind: HistoryKind
    rule: Rule
    at: datetime
    by: str
    with_records: tuple[str, ...]
    professional: str | None = None
    reason: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)


class DecisionKind(StrEnum):
    """What can be decided about the shared record of a person."""

    OPENED = "opened"
    CLOSED = "closed"
    OPPOSED = "opposed"
    OPPOSITION_WITHDRAWN = "opposition-withdrawn"
    PHYSICIAN_SET = "physician-set"
    PHYSICIAN_ENDED = "physician-ended"
    BLOCKED = "blocked"
    UNBLOCKED = "unblocked"
    ACCESS_AUTHORISED = "access-authorised"
    ACCESS_ENDED = "access-ended"
    PROXY_APPOINTED = "proxy-appointed"
    PROXY_ENDED = "proxy-ended"
    RELEASED = "released"  # to a carer
    RELEASE_WITHDRAWN = "release-withdrawn"
    EMERGENCY_OPPOSED = "emergency-opposed"
    EMERGENCY_ACCEPTED = "emergency-accepted"
    REGULATION_OPPOSED = "regulation-opposed"
    REGULATION_ACCEPTED = "regulation-accepted"
    RESEARCH_AGREED = "research-agreed"
    RESEARCH_REFUSED = "research-refused"
    GLASS_BROKEN = "glass-broken"
    EXPORTED = "exported"
    ERASED = "erased"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordDecision(Change):
    """A decision about the shared record of a person, kept for ever beside each source record that it was about.

    `by` is the client, `role` what it is, `professional` the IDNPS of the person at the keyboard. `motive` is a code.
    `physician` is the IDNPS of the attending physician concerned; `is_consented` that the patient agreed, as a
    professional says who decided in the patient's place. `party` is whom it is about: a professional or structure
    (IDNPS, IDNST), or a proxy (an INS, `system|value`), from `since` (None: at once) to `until`; `references` what was
    released to it.
    """

    id: str
    patient: str
    kind: DecisionKind
    at: datetime
    by: str
    role: str
    organisation: str
    professional: str | None = None
    motive: str | None = None
    reason: str = ""
    physician: str | None = None
    is_consented: bool = False
    party: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    references: tuple[str, ...] = ()
