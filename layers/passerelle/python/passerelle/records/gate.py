"""The gate of the record: whose collections a request may reach (law 4: what may not be seen does not exist)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from passerelle.access import Request
from passerelle.consents.decision import may_see
from passerelle.errors import Unprocessable
from passerelle.patients.model import Person
from passerelle.records.model import Subject


class People(Protocol):
    """What the record needs of the patient index."""

    def find_person(self, patient: str) -> Person | None: ...

    def find_by_identifier(self, system: str, value: str) -> Sequence[str]: ...

    def find_person_of(self, system: str, value: str) -> str | None: ...


class Gate:
    def __init__(self, people: People) -> None:
        self._people = people

    def find_person(self, patient: str) -> Person | None:
        return self._people.find_person(patient)

    def may_see(self, request: Request, person: Person | None) -> bool:
        if person is None:
            return False
        own = False
        if request.caller.patient is not None:
            system, _, value = request.caller.patient.partition("|")
            own = self._people.find_person_of(system, value) == person.key
        return may_see(request.caller, person.policy, is_own_record=own)

    def patient_of(self, subject: Subject) -> str | None:
        """The source record that a subject names; by a business identifier the first that carries it."""
        if subject.key is not None:
            return subject.key
        known = self._people.find_by_identifier(*subject.identifier) if subject.identifier else ()
        return known[0] if known else None

    def owner_for(self, request: Request, subject: Subject | None, *, expression: str) -> tuple[str, Person]:
        """The source record that a new resource goes to, and its person; raises Unprocessable if there is none.

        A person with several source records gets it in the one that was named.
        """
        if subject is None:
            raise Unprocessable(
                "the resource must say whose record it belongs to", code="required", expression=expression
            )
        key = self.patient_of(subject)
        person = self._people.find_person(key) if key else None
        if key is None or person is None or not self.may_see(request, person):
            raise Unprocessable("the patient is not known", code="not-found", expression=expression)
        return key, person
