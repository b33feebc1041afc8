"""The patient index: register (ITI-104), find (ITI-78), and the link of every source record to its person.

A registration is in force, cross-reference included, when it is answered: record, look-up items, links, audit and
event are one transaction. Links made here are those that need no judgement: the same qualified national identifier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, Protocol

from passerelle.access import Request, Touched
from passerelle.audit.commands import account_of, once
from passerelle.consents.decision import may_see
from passerelle.consents.model import Policy, RecordStatus
from passerelle.errors import Conflict, Forbidden, Invalid, NotFound, Stale, Unprocessable
from passerelle.events import Event, EventName
from passerelle.identifiers import new_patient_key, new_ulid
from passerelle.journal import Announcement, Change, Journal
from passerelle.patients.model import Person, PersonChange, SourceRecordChange, Traits
from passerelle.patients.names import normalised
from passerelle.patients.ports import PatientIndex

MAX_CANDIDATES = 100  # people compared in one search
_RACES = 3  # attempts of a registration that another one of the same person overtakes


class PatientDraft(Protocol):
    """A validated Patient resource; implemented by the FHIR boundary."""

    @property
    def traits(self) -> Traits: ...

    def version_of(self, patient: str, version: int, request: Request, before: StoredPatient | None) -> Change:
        """The change that stores this resource as a version of a source record."""

    def equals(self, stored: StoredPatient) -> bool:
        """Whether the stored version says the same, `id` and `meta` apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPatient:
    """A version of a source record."""

    patient: str
    version: int
    at: datetime
    body: bytes
    traits: Traits
    placement: Any  # where searches find it: the record's


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientSearch:
    """A search of people: how to look them up, and the criteria that each has to meet.

    `used` are the parameters that were understood, as sent.
    """

    identifiers: tuple[tuple[str, str], ...]
    birth_date: date | None
    family: str
    criteria: Any
    used: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """Outcome of a registration."""

    patient: str
    version: int
    is_new: bool
    is_changed: bool = True
    at: datetime | None = None  # of the version; not kept for repetitions


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a registration would change, to be committed alone or with the rest of a transaction."""

    registered: Registered
    person: Person
    changes: tuple[Change, ...]
    events: tuple[Event, ...]


class PatientStore(Protocol):
    """Reads source records; implemented by the FHIR boundary over the record store."""

    def find(self, patient: str) -> StoredPatient | None: ...

    def find_version(self, patient: str, version: int) -> StoredPatient | None: ...

    def matching(self, patients: Sequence[str], criteria: Any) -> Sequence[StoredPatient]:
        """The current versions, in the order given, that meet the remaining criteria of a search."""


class PatientService:
    def __init__(
        self,
        *,
        index: PatientIndex,
        store: PatientStore,
        journal: Journal,
        national_identifier: Callable[[Traits], tuple[str, str] | None],
        in_parallel: Callable[..., tuple[Any, ...]],
    ) -> None:
        self._index = index
        self._store = store
        self._journal = journal
        self._national_identifier = national_identifier
        self._in_parallel = in_parallel

    # --- feed (ITI-104) -------------------------------------------------------------------------------------------

    def register(
        self, request: Request, identifier: tuple[str, str], draft: PatientDraft
    ) -> tuple[Registered, StoredPatient]:
        """Create or revise the source record that this identifier of the caller's domain stands for.

        The same content again changes nothing. Raises Forbidden when the domain is not the caller's, Unprocessable
        when the resource does not carry the identifier or breaks an identity rule.
        """
        return self._written(
            request, lambda: self._register(request, lambda: self.plan(request, draft, identifier=identifier))
        )

    def create(
        self, request: Request, draft: PatientDraft, *, if_none_exist: tuple[str, str] | None = None
    ) -> tuple[Registered, StoredPatient]:
        """Create a source record; with `if_none_exist`, unless a visible one carries that identifier.

        Raises Conflict (`duplicate`) when the resource's identifier in the caller's domain is registered already,
        Stale (`multiple-matches`) when several records meet the condition.
        """
        return self._written(
            request,
            lambda: self._register(request, lambda: self.plan_create(request, draft, if_none_exist=if_none_exist)),
        )

    def plan_create(
        self, request: Request, draft: PatientDraft, *, if_none_exist: tuple[str, str] | None = None
    ) -> Plan:
        """Work out `create` without storing it."""
        plan = self.plan(request, draft)
        if if_none_exist is not None:
            known = [each for each in self._carriers(request, if_none_exist) if each.patient != plan.registered.patient]
            if not plan.registered.is_new:
                known.append(self._existing(plan.registered.patient))
            if len(known) > 1:
                raise Stale("several resources match", code="multiple-matches")
            if known:
                found = known[0]
                unchanged = _unchanged(found)
                return Plan(registered=unchanged, person=self.person_of(found.patient), changes=(), events=())
        if not plan.registered.is_new:
            raise Conflict("the identifier is registered: update its record", code="duplicate")
        return plan

    def _carriers(self, request: Request, identifier: tuple[str, str]) -> list[StoredPatient]:
        """The source records with an identifier that exist for the caller."""
        found = (self._store.find(key) for key in self._index.find_by_identifier(*identifier))
        return [
            each
            for each in found
            if each is not None and self._is_visible(request, self._index.find_person(each.patient))
        ]

    def _existing(self, patient: str) -> StoredPatient:
        found = self._store.find(patient)
        if found is None:
            raise NotFound()
        return found

    def update(
        self, request: Request, patient: str, draft: PatientDraft, *, if_match: int | None
    ) -> tuple[Registered, StoredPatient]:
        """Revise a source record of the caller's own domain, by its id.

        Raises NotFound, Forbidden for a record of another source, Stale when `if_match` is not its version.
        """
        return self._written(
            request,
            lambda: self._register(
                request, lambda: self.plan_update(request, patient, draft, if_match=if_match), attempts=1
            ),
        )

    def plan_update(self, request: Request, patient: str, draft: PatientDraft, *, if_match: int | None) -> Plan:
        """Work out `update` without storing it."""
        return self._revision(request, self.read(request, patient), draft, if_match)

    def patch(
        self, request: Request, patient: str, revise: Callable[[bytes], PatientDraft], *, if_match: int | None
    ) -> tuple[Registered, StoredPatient]:
        """Store what `revise` makes of the current version; without `if_match`, of whichever is current.

        Raises what `update` does.
        """
        attempts = _RACES if if_match is None else 1
        return self._written(
            request,
            lambda: self._register(
                request, lambda: self.plan_patch(request, patient, revise, if_match=if_match), attempts=attempts
            ),
        )

    def plan_patch(
        self, request: Request, patient: str, revise: Callable[[bytes], PatientDraft], *, if_match: int | None
    ) -> Plan:
        """Work out `patch` without storing it."""
        before = self.read(request, patient)
        return self._revision(request, before, revise(before.body), if_match)

    def _revision(self, request: Request, before: StoredPatient, draft: PatientDraft, if_match: int | None) -> Plan:
        if if_match is not None and if_match != before.version:
            raise Stale()
        own = next((each for each in before.traits.identifiers if each[0] == request.caller.domain), None)
        if own is None:
            raise Forbidden("the caller is not the source of this record")
        return self.plan(request, draft, identifier=own)

    def _written(self, request: Request, run: Callable[[], Registered]) -> tuple[Registered, StoredPatient]:
        registered = once(self._journal, request, run, lambda kept: Registered(**kept))
        stored = self._store.find_version(registered.patient, registered.version)
        if stored is None:
            raise NotFound()
        return registered, stored

    def _register(self, request: Request, make: Callable[[], Plan], *, attempts: int = _RACES) -> Registered:
        for attempt in range(attempts):
            plan = make()
            registered = plan.registered
            if not registered.is_changed:
                # Kept all the same: repeated later, it must not undo what others changed meanwhile.
                self._journal.commit(account_of(request, _touched(registered), _kept(registered)))
                return registered
            try:
                self._journal.commit(
                    [
                        *plan.changes,
                        Announcement(id=new_ulid(request.at), events=plan.events),
                        *account_of(_as_done(request, registered), _touched(registered), _kept(registered)),
                    ]
                )
            except Stale:
                if attempt == attempts - 1:
                    raise
            else:
                return registered
        raise AssertionError("unreachable")

    def plan(self, request: Request, draft: PatientDraft, *, identifier: tuple[str, str] | None = None) -> Plan:
        """Work out a registration without storing it; its changes fail as Stale if it is overtaken.

        Without `identifier` the record is found by the identifier that the resource carries in the caller's domain,
        and is new if it carries none.
        """
        traits = draft.traits
        domain = request.caller.domain
        if identifier is None:
            identifier = next((each for each in traits.identifiers if each[0] == domain), None)
        elif identifier[0] != domain:
            raise Forbidden("the caller is not the registered source of this identifier domain")
        elif identifier not in traits.identifiers:
            raise Unprocessable(
                "the resource does not carry the identifier it is registered under",
                code="invariant",
                expression="Patient.identifier",
            )
        owner = self._index.find_owner(*identifier) if identifier else None
        before = self._store.find(owner) if owner else None
        if owner and before and draft.equals(before):
            person = self.person_of(owner)
            return Plan(registered=_unchanged(before), person=person, changes=(), events=())
        patient = owner or new_patient_key()
        person_changes, person = self._linked(request, patient, before.traits if before else None, traits)
        version = before.version + 1 if before else 1
        event = Event(
            name=EventName.IDENTITY_CHANGED,
            reference=f"Patient/{patient}",
            version=version,
            at=request.at,
            author=request.caller.client_id,
            patient=patient,
        )
        changes = (
            SourceRecordChange(
                patient=patient,
                person=person.key,
                domain_identifier=identifier if owner is None else None,
                national_identifier=self._national_identifier(traits),
                after=traits,
                before=before.traits if before else None,
                at=request.at,
            ),
            draft.version_of(patient, version, request, before),
            *person_changes,
        )
        registered = Registered(patient=patient, version=version, is_new=owner is None, at=request.at)
        return Plan(registered=registered, person=person, changes=changes, events=(event,))

    def person_of(self, patient: str) -> Person:
        """The person of a source record; raises NotFound."""
        person = self._index.find_person(patient)
        if person is None:
            raise NotFound()
        return person

    def _linked(
        self, request: Request, patient: str, before: Traits | None, after: Traits
    ) -> tuple[list[PersonChange], Person]:
        """The person that the record belongs to once stored, and the link changes that this takes.

        A record belongs to the person whom its qualified national identifier names, and is alone without one: when the
        identifier changes or is no longer qualified, the record leaves, so that two identifiers never meet (INS-10).
        """
        national = self._national_identifier(after)
        was = self._national_identifier(before) if before else None
        current = self.person_of(patient) if before else None
        if current is not None and national == was:
            return [], current
        known = self._index.find_person_of(*national) if national else None
        status = RecordStatus.OPEN if national else RecordStatus.ABSENT
        policy = Policy(status=status, since=request.at)
        if current is not None and was is None and known is None:
            opened = replace(current, policy=policy, revision=current.revision + 1)
            return [PersonChange(before=current, after=opened)], opened
        changes = []
        if current is not None:
            left = tuple(member for member in current.members if member != patient)
            after_leaving = replace(current, members=left, revision=current.revision + 1)
            changes.append(PersonChange(before=current, after=after_leaving))
        target = self._index.find_links(known) if known else None
        if target is None:
            alone = Person(key=new_patient_key(), members=(patient,), policy=policy, revision=1)
            return [*changes, PersonChange(before=None, after=alone)], alone
        joined = replace(target, members=(*target.members, patient), revision=target.revision + 1)
        return [*changes, PersonChange(before=target, after=joined)], joined

    # --- find (ITI-78) --------------------------------------------------------------------------------------------

    def read(self, request: Request, patient: str) -> StoredPatient:
        """The source record, if it exists for this caller; raises NotFound."""
        person, found = self._in_parallel(lambda: self._index.find_person(patient), lambda: self._store.find(patient))
        if found is None or not self._is_visible(request, person):
            raise NotFound()
        read: StoredPatient = found
        return read

    def find(self, request: Request, search: PatientSearch) -> list[tuple[StoredPatient, Person]]:
        """Source records of the people that match, visible to the caller, in a stable order.

        Looks up by identifier, or by birth date with a prefix of the family name: never by a scan. Raises Invalid
        without either (`required`), and when too many people would have to be compared (`too-costly`).
        """
        if search.identifiers:
            keys = [key for each in search.identifiers for key in self._index.find_by_identifier(*each)]
        elif search.birth_date is not None:
            keys = list(self._index.find_by_birth_date(search.birth_date, normalised(search.family)))
        else:
            raise Invalid("a search needs an identifier, or a birth date", code="required")
        candidates = sorted(dict.fromkeys(keys))
        if len(candidates) > MAX_CANDIDATES:
            raise Invalid(
                "too many people were born that day: give three letters of the family name", code="too-costly"
            )
        found = self._store.matching(candidates, search.criteria)
        if not found:
            return []
        people = self._in_parallel(*(lambda key=each.patient: self._index.find_person(key) for each in found))
        return [
            (stored, person)
            for stored, person in zip(found, people, strict=True)
            if person is not None and self._is_visible(request, person)
        ]

    def _is_visible(self, request: Request, person: Person | None) -> bool:
        if person is None:
            return False
        return may_see(request.caller, person.policy, is_own_record=self.is_own_record(request, person))

    def is_own_record(self, request: Request, person: Person) -> bool:
        """Whether the caller is the patient that this person is."""
        claim = request.caller.patient
        if claim is None:
            return False
        system, _, value = claim.partition("|")
        return self._index.find_person_of(system, value) == person.key


def _as_done(request: Request, registered: Registered) -> Request:
    """The request as its audit tells it: a conditional update that creates is a creation (contract 104-7)."""
    return replace(request, action="C") if registered.is_new else request


def _unchanged(found: StoredPatient) -> Registered:
    return Registered(patient=found.patient, version=found.version, is_new=False, is_changed=False, at=found.at)


def _touched(registered: Registered) -> Touched:
    return Touched.of([registered.patient], [f"Patient/{registered.patient}"])


def _kept(registered: Registered) -> Mapping[str, Any]:
    return {
        "patient": registered.patient,
        "version": registered.version,
        "is_new": registered.is_new,
        "is_changed": registered.is_changed,
    }
