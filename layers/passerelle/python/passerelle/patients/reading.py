"""Source records as a caller may see them: what every function needs that has a patient before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from passerelle.access import Request
from passerelle.consents.decision import may_identify
from passerelle.errors import NotFound
from passerelle.identifiers import PATIENT_KEY
from passerelle.patients.model import Person

if TYPE_CHECKING:
    from passerelle.patients.model import StoredPatient
    from passerelle.patients.ports import PatientIndex, PatientStore


class PatientReader:
    def __init__(
        self, *, index: PatientIndex, store: PatientStore, in_parallel: Callable[..., tuple[Any, ...]]
    ) -> None:
        self._index = index
        self._store = store
        self._in_parallel = in_parallel

    def read(self, request: Request, patient: str) -> StoredPatient:
        """The source record, if it exists for this caller; raises NotFound."""
        return self.read_with_person(request, patient)[0]

    def read_with_person(self, request: Request, patient: str) -> tuple[StoredPatient, Person]:
        """The source record and its person, if they exist for this caller; raises NotFound."""
        if not PATIENT_KEY.fullmatch(patient):
            raise NotFound()
        person, found = self._in_parallel(lambda: self._index.find_person(patient), lambda: self._store.find(patient))
        if found is None or not self.is_visible(request, person):
            raise NotFound()
        return found, person

    def person_of(self, patient: str) -> Person:
        """The person of a source record; raises NotFound."""
        person = self._index.find_person(patient) if PATIENT_KEY.fullmatch(patient) else None
        if person is None:
            raise NotFound()
        return person

    def visible(self, request: Request, found: Sequence[StoredPatient]) -> list[tuple[StoredPatient, Person]]:
        if not found:
            return []
        people = self._in_parallel(*(partial(self._index.find_person, each.patient) for each in found))
        return [
            (stored, person)
            for stored, person in zip(found, people, strict=True)
            if person is not None and self.is_visible(request, person)
        ]

    def is_visible(self, request: Request, person: Person | None) -> bool:
        """Whether the person exists for the caller; what is in the record is the gate's decision."""
        return person is not None and may_identify(request.caller, is_own=self.is_own_record(request, person))

    def is_own_record(self, request: Request, person: Person) -> bool:
        """Whether the caller is the patient that this person is."""
        claim = request.caller.patient
        if claim is None:
            return False
        system, _, value = claim.partition("|")
        return self._index.find_person_of(system, value) == person.key
