"""What prescriptions need from storage, from the patient index, from the client registry and from FHIR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from passerelle.access import Caller, Request
from passerelle.journal import Change
from passerelle.patients.model import Person, Traits
from passerelle.prescriptions.model import Group, LedgerEntry, Line, Prescription, Supply


class Prescriptions(Protocol):
    """Every read is strongly consistent; writes go through the journal."""

    def find(self, id: str) -> Prescription | None:
        """The prescription whose group Task has this id."""

    def find_id(self, number: str) -> str | None:
        """The id of the group Task of a prescription number."""

    def blinded(self, organisation: str, identifier: str) -> str:
        """The form in which an organisation's own dispense identifier is kept."""


class Registration(Protocol):
    """The source record of a patient, as far as it is needed here."""

    @property
    def traits(self) -> Traits: ...


class People(Protocol):
    def read(self, request: Request, patient: str) -> Registration:
        """The source record, if it exists for this caller: a patient has the own one only. Else NotFound."""

    def find_person(self, patient: str) -> Person | None:
        """The person of a source record."""


class SignerKeys(Protocol):
    def keys_of(self, caller: Caller) -> Sequence[Mapping[str, Any]]:
        """The public keys (JWK, each with a `kid`) bound to the caller's professional; none if unbound."""


class ClinicalRecord(Protocol):
    """The FHIR form of what becomes part of the patient's record; implemented by the FHIR boundary."""

    def signed_line(self, group: Group, line: Line) -> Mapping[str, Any]:
        """The MedicationRequest to sign, as it will be in force; numbers are int or float."""

    def request_version(self, group: Group, line: Line, at: datetime) -> Change:
        """The MedicationRequest of `line` as version `line.request_version` of the record."""

    def dispense_version(
        self, group: Group, line: Line, entry: LedgerEntry, supply: Supply, at: datetime
    ) -> tuple[Change, str]:
        """The MedicationDispense of a supply as a version of the record, and as JSON."""
