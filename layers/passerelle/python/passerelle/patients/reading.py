"""Source records as a caller may see them: what every function needs that has a patient before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from passerelle.access import Caller, Request
from passerelle.consents.control import is_shut_out
from passerelle.consents.decision import may_identify
from passerelle.directory.model import Role
from passerelle.errors import AccessRefused, Gone, NotFound
from passerelle.identifiers import PATIENT_KEY
from passerelle.patients.model import Person

if TYPE_CHECKING:
    from passerelle.patients.model import StoredPatient
    from passerelle.patients.ports import PatientIndex, PatientStore


class Identified(Protocol):
    """What of the index says whom a token is bound to."""

    def find_person(self, patient: str) -> Person | None: ...

    def find_by_identifier(self, system: str, value: str) -> Sequence[str]: ...


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
        """The source record and its person, if they exist for this caller; raises NotFound, Gone, AccessRefused."""
        if not PATIENT_KEY.fullmatch(patient):
            raise NotFound()
        person, found = self._in_parallel(lambda: self._index.find_person(patient), lambda: self._store.find(patient))
        if person is None or not self.is_visible(request, person):
            raise NotFound()
        if person.is_erased:
            raise Gone("the person was erased")
        if found is None:
            raise NotFound()
        if not self.is_told(request, found, person):
            raise AccessRefused()
        return found, person

    def find_person(self, patient: str) -> Person | None:
        """The person of a source record."""
        return self._index.find_person(patient) if PATIENT_KEY.fullmatch(patient) else None

    def person_of(self, patient: str) -> Person:
        """The person of a source record; raises NotFound."""
        person = self.find_person(patient)
        if person is None:
            raise NotFound()
        return person

    def visible(
        self, request: Request, found: Sequence[StoredPatient], *, says_refusals: bool = False
    ) -> list[tuple[StoredPatient, Person]]:
        """Those that exist for the caller, and the people they are of.

        With `says_refusals`, AccessRefused is raised if one of these people refuses the caller; else they are left out.
        """
        if not found:
            return []
        people = self._in_parallel(*(partial(self._index.find_person, each.patient) for each in found))
        there = [
            (stored, person)
            for stored, person in zip(found, people, strict=True)
            if person is not None and not person.is_erased and self.is_visible(request, person)
        ]
        if says_refusals and any(self.is_refused(request, person) for _, person in there):
            raise AccessRefused()
        return [(stored, person) for stored, person in there if self.is_told(request, stored, person)]

    def is_visible(self, request: Request, person: Person | None) -> bool:
        """Whether the person exists for the caller; what is in the record is the gate's decision."""
        return person is not None and may_identify(
            request.caller, person.policy, is_own=self.is_own_record(request, person), at=request.at
        )

    def is_told(self, request: Request, stored: StoredPatient, person: Person) -> bool:
        """Whether a visible person is told of: not to whom the patient shut out (contract DMP-3), who is left with what
        it registered itself, as it has to know whom it treats. Nor to the bearer of a token for somebody else."""
        if is_for_another(request.caller, person, self._index):
            return False
        domain = request.caller.domain
        is_source = domain is not None and any(system == domain for system, _ in stored.traits.identifiers)
        return is_source or not self.is_refused(request, person)

    def is_own_record(self, request: Request, person: Person) -> bool:
        """Whether the caller is the patient that this person is."""
        claim = request.caller.patient
        if claim is None:
            return False
        system, _, value = claim.partition("|")
        return self._index.blinded((system, value)) == person.qualified  # which no other person is at the same time

    def is_refused(self, request: Request, person: Person) -> bool:
        """Whether this caller is refused, whatever is asked: shut out, or with a token for somebody else."""
        return _is_shut_out(request.caller, person) or is_for_another(request.caller, person, self._index)

    def check_bound(self, request: Request, person: Person | None) -> None:
        """Raise AccessRefused where a token for one person would change another, or register somebody new."""
        caller = request.caller
        is_bound = caller.limits is not None and caller.limits.patient is not None
        if is_bound and (person is None or is_for_another(caller, person, self._index)):
            raise AccessRefused()


def is_for_another(caller: Caller, person: Person, index: Identified) -> bool:
    """Whether the token is bound to a person (IHE PCF `patient_id`, IUA `person_id`), and to another one."""
    if caller.limits is None or caller.limits.patient is None:
        return False
    system, is_identifier, value = caller.limits.patient.partition("|")
    if not is_identifier:
        return caller.limits.patient not in {f"Patient/{member}" for member in person.members}
    found = (index.find_person(key) for key in index.find_by_identifier(system, value))
    return person.key not in {each.key for each in found if each is not None}


def _is_shut_out(caller: Caller, person: Person) -> bool:
    """Blocked by the patient, or a regulation centre that the patient opposes."""
    policy = person.policy
    if caller.role in (Role.PATIENT, Role.REPRESENTATIVE):
        return False
    if caller.role == Role.REGULATION and policy.opposes_regulation:
        return True
    return is_shut_out(policy, [caller.professional, caller.organisation])
