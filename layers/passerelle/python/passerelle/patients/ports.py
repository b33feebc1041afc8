"""What the patient index needs from storage. Every read is strongly consistent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Protocol

from passerelle.patients.model import Person


class PatientIndex(Protocol):
    def find_person(self, patient: str) -> Person | None:
        """The person that a source record belongs to; None for an unknown patient key."""

    def find_by_identifier(self, system: str, value: str) -> Sequence[str]:
        """Patient keys of the source records that carry this identifier."""

    def find_owner(self, system: str, value: str) -> str | None:
        """Patient key of the one source record registered under this identifier of its domain."""

    def find_person_of(self, system: str, value: str) -> str | None:
        """Key of the person whose qualified identity carries this national identifier."""

    def find_links(self, person: str) -> Person | None: ...

    def find_by_birth_date(self, birth_date: date, family_prefix: str) -> Sequence[str]:
        """Patient keys of people born that day with a family name that starts with the normalised prefix.

        The prefix may be empty; a record is found under each of its family names.
        """
