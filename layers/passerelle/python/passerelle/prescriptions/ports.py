"""What prescriptions need from storage, from the patient index, from the client registry and from FHIR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Protocol

from passerelle.access import Caller, Request
from passerelle.journal import Change
from passerelle.patients.model import Person, Traits
from passerelle.prescriptions.model import (
    Ask,
    Group,
    HistoryEvent,
    LateSupply,
    LedgerEntry,
    Line,
    OrderLine,
    Prescription,
    Supply,
)
from passerelle.prescriptions.reminders import Reminder
from passerelle.records.model import ResourceKey, StoredVersion


class Prescriptions(Protocol):
    """Every read is strongly consistent; writes go through the journal."""

    def find(self, id: str) -> Prescription | None:
        """The prescription whose group Task has this id."""

    def find_with_history(self, id: str) -> tuple[Prescription, Sequence[HistoryEvent]] | None:
        """The same, with all events of its history, oldest first, in one read.

        What a command commits meanwhile may be in one and not in the other.
        """

    def find_supply(self, dispense_id: str) -> str | None:
        """The id of the group Task of the prescription that a MedicationDispense is a supply of."""

    def find_id(self, number: str) -> str | None:
        """The id of the group Task of a prescription number."""

    def of_patients(self, patients: Sequence[str], *, limit: int, after: str | None) -> tuple[list[str], str | None]:
        """Ids of the prescriptions of these source records, newest first, and where to go on from."""

    def of_organisation(self, organisation: str, *, limit: int, after: str | None) -> tuple[list[str], str | None]:
        """The same of those on the list of an organisation (`worklists.py`)."""

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


class Parties(Protocol):
    def is_known(self, organisation: str) -> bool:
        """Whether the directory has an organisation of this identifier."""


class Failures(Protocol):
    """Wrong access codes and claim secrets, counted per organisation and what it tried them on (contract, section 3).

    Nothing is counted per prescription alone: nobody can lock a patient out.
    """

    def locked_until(self, organisation: str, tried: str, at: datetime) -> datetime | None:
        """When the organisation may try again, if it has failed too often."""

    def count(self, organisation: str, tried: str, at: datetime) -> None: ...


class CurrentVersions(Protocol):
    def find_latest(self, key: ResourceKey) -> StoredVersion | None:
        """The newest version of a resource of the patient's record."""


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

    def renewed(self, line: Line, prescriber: str, today: date) -> OrderLine:
        """The order of a line again, by this prescriber and of this day."""

    def following(self, order: OrderLine, line: Line) -> OrderLine:
        """An order that comes after a line, and says so."""

    def amended(self, line: Line, order: OrderLine) -> OrderLine:
        """The order that a line becomes; raises RX-INVALID for that of another patient."""

    def ask_version(self, group: Group, line: Line, ask: Ask, at: datetime) -> tuple[Change, str]:
        """The Task of a request as version `ask.version` of the record, and as JSON."""

    def late_versions(
        self, prescription: Prescription, late: LateSupply, supply: Supply, at: datetime
    ) -> tuple[tuple[Change, Change], tuple[str, str]]:
        """The MedicationDispense of a late supply and the DetectedIssue about it, as versions and as JSON."""

    def withdrawn_version(self, group: Group, stored: StoredVersion, reason: str, at: datetime) -> tuple[Change, str]:
        """The MedicationDispense of a supply that did not take place, after `stored`; and as JSON."""

    def declined_version(
        self, group: Group, line: Line, reason: str, organisation: str, at: datetime
    ) -> tuple[Change, str]:
        """The MedicationDispense that says why a line was not supplied; and its reference."""


class Wakes(Protocol):
    """The prescriptions to look at by themselves, by hour (`reminders.hour_of`). Changes are committed."""

    def due(self, hour: str) -> Sequence[str]:
        """The ids of those that are there for this hour."""

    def drop(self, id: str, hour: str) -> None:
        """Forget a wake-up that means nothing any more."""

    def reached(self) -> str | None:
        """The hour up to which nothing is left."""

    def reach(self, hour: str) -> None: ...


class Messages(Protocol):
    """What recipients are told, as FHIR; implemented by the FHIR boundary."""

    def message(self, prescription: Prescription, reminders: Sequence[Reminder], at: datetime) -> tuple[Change, str]:
        """What one recipient is told of one prescription: a version of the record, and its reference.

        The same reminders make the same id, so that nobody is told twice.
        """
