"""What the patient index needs from storage. Every read is strongly consistent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Protocol

from passerelle.access import Request
from passerelle.journal import Change
from passerelle.matching.blocking import Block
from passerelle.patients.model import (
    BlockPage,
    Identifier,
    IdentityEvent,
    Person,
    Place,
    RecordDecision,
    Review,
    ReviewStatus,
    StoredPatient,
    Traits,
)

if TYPE_CHECKING:
    from passerelle.patients.insi import NationalIdentity


class PatientIndex(Protocol):
    def find_person(self, patient: str) -> Person | None:
        """The person that a source record belongs to; None for an unknown patient key."""

    def find_by_identifier(self, system: str, value: str) -> Sequence[str]:
        """Patient keys of the source records that carry this identifier: the one registered under it first."""

    def find_owner(self, system: str, value: str) -> str | None:
        """Patient key of the one source record registered under this identifier of its domain."""

    def find_person_of(self, system: str, value: str) -> str | None:
        """Key of the person whose qualified identity carries this national identifier."""

    def find_links(self, person: str) -> Person | None:
        """A person by its own key; without records, if they went to another one."""

    def find_by_birth_date(self, birth_date: date, name_prefix: str) -> Sequence[str]:
        """Patient keys of people born that day with a name (`search.name_keys`) that starts with the prefix.

        The prefix may be empty.
        """

    def look_up(self, blocks: Sequence[Block], named: str | None) -> tuple[Sequence[BlockPage], Person | None]:
        """What each block lists, and the person whom a blinded national identifier names: all at once.

        At most 101 records of a block, the latest first.
        """

    def find_places(self, patient: str) -> Sequence[Place]:
        """The slots that a source record holds."""

    def blinded(self, identifier: Identifier) -> str:
        """The form of an identifier that links and pointers hold."""


class Reviews(Protocol):
    """The worklist of the identity stewards."""

    def find_review(self, review: str) -> Review | None: ...

    def reviews_of(self, patient: str) -> Sequence[Review]:
        """Every question ever asked about a source record."""

    def listed(self, status: ReviewStatus, *, count: int, after: str | None) -> tuple[Sequence[Review], str | None]:
        """Reviews of a status, the oldest first, and where the next page starts."""

    def history_of(self, patient: str) -> Sequence[IdentityEvent]:
        """What happened to the links of a source record, the oldest first."""


class RecordDecisions(Protocol):
    def decisions_of(self, patient: str) -> Sequence[RecordDecision]:
        """What was decided about the shared record, the oldest first."""


class Domains(Protocol):
    def find_authority(self, system: str) -> str | None:
        """The organisation that assigns the identifiers of a domain; None for an unknown one."""


class PatientVersion(Protocol):
    """The change that stores a version of a source record; a `journal.Change`."""

    @property
    def body(self) -> bytes | None: ...


class PatientDraft(Protocol):
    """A validated Patient resource; implemented by the FHIR boundary."""

    @property
    def traits(self) -> Traits: ...

    def version_of(self, patient: str, version: int, request: Request, before: StoredPatient | None) -> PatientVersion:
        """The change that stores this resource as a version of a source record."""

    def equals(self, stored: StoredPatient) -> bool:
        """Whether the stored version says the same, `id` and `meta` apart."""

    def revising(self, before: StoredPatient | None) -> PatientDraft:
        """As it is stored over what is there: raises Forbidden for a status that only qualification gives, lowers the
        status of a qualified identity whose strict traits change (contract INS-7, INS-9)."""

    def qualified(self, found: NationalIdentity) -> PatientDraft: ...

    def merged_into(self, identifier: Identifier | None, patient: str) -> PatientDraft: ...


class PatientStore(Protocol):
    """Reads source records; implemented by the FHIR boundary over the record store."""

    def find(self, patient: str) -> StoredPatient | None: ...

    def find_version(self, patient: str, version: int) -> StoredPatient | None: ...

    def matching(self, patients: Sequence[str], criteria: Any) -> Sequence[StoredPatient]:
        """The current versions, in the order given, that meet the remaining criteria of a search."""

    def draft(self, stored: StoredPatient) -> PatientDraft:
        """What is stored, as a draft again."""

    def removal(self, before: StoredPatient, request: Request) -> Change:
        """The change that deletes a source record."""
