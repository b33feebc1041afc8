"""What remote monitoring needs from storage, from the record and from FHIR. Every read is strongly consistent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from passerelle.monitoring.model import DueWake, Plan, Reading, Sighting, Visit, Watch
from passerelle.monitoring.rules import AlertChange
from passerelle.patients.model import Person
from passerelle.records.model import RecordVersion


class People(Protocol):
    def find_person(self, patient: str) -> Person | None: ...


class Watches(Protocol):
    """Changes are committed."""

    def find(self, patients: Sequence[str]) -> Mapping[str, Watch]:
        """Those that there are, by source record; none of who was erased."""

    def due(self, at: datetime) -> Sequence[DueWake]:
        """The wake-ups whose time has come, the earliest first."""

    def drop(self, wakes: Sequence[DueWake]) -> None:
        """Forget wake-ups that there is nothing to do about."""


class Allowance(Protocol):
    def take(self, person: str, count: int, at: datetime) -> None:
        """Take so many measurements from what a person's devices may send; raises RateExceededError."""


class Plans(Protocol):
    """The record as monitoring reads it; implemented by the FHIR boundary. Nothing of it is shown to anybody."""

    def plans(self, patients: Sequence[str], at: datetime) -> Sequence[Plan]:
        """The care plans in these collections that are in force, or will be."""

    def visits(self, patients: Sequence[str], at: datetime) -> Sequence[Visit]:
        """The visits at home that were arranged for lately, and for later."""

    def sightings(self, patients: Sequence[str], since: datetime) -> Sequence[Sighting]:
        """What was measured, and who was there, from then on."""

    def readings(self, observations: Sequence[tuple[str, int]]) -> Sequence[Reading]:
        """The values of versions of observations (`Observation/<id>`), without those that do not stand."""


class Tasks(Protocol):
    """Alerts as Tasks of the record; implemented by the FHIR boundary."""

    def id_of(self, patient: str, at: datetime, name: str) -> str:
        """The id of an alert's Task: the same for the same name and time."""

    def versions(
        self, patient: str, changes: Sequence[AlertChange], attending: str | None, at: datetime
    ) -> Sequence[RecordVersion]:
        """The Tasks of alerts as they become; `attending` is the IDNPS of the attending physician."""
