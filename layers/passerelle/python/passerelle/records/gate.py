"""The gate of the record: what of it exists for a request (law 4: what may not be seen does not exist)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from passerelle.access import Caller, Request
from passerelle.consents.decision import may_identify, may_see
from passerelle.consents.visibility import View
from passerelle.errors import Unprocessable
from passerelle.patients.model import Person
from passerelle.records.concealment import HIDEABLE, Hidden, Mending
from passerelle.records.model import ResourceKey, StoredVersion, Subject
from passerelle.records.ports import RecordStore, Scan

Read = Callable[[], Any]


class People(Protocol):
    """What the record needs of the patient index."""

    def find_person(self, patient: str) -> Person | None: ...

    def find_by_identifier(self, system: str, value: str) -> Sequence[str]: ...

    def find_person_of(self, system: str, value: str) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """A person whose record the caller may see, and what of it is hidden: `hidden` of the collections looked into."""

    person: Person
    view: View
    hidden: Hidden


class Gate:
    """`in_parallel` runs independent reads at once and returns their results in order."""

    def __init__(
        self, people: People, store: RecordStore, mending: Mending, in_parallel: Callable[..., tuple[Any, ...]]
    ) -> None:
        self._people = people
        self._store = store
        self._mending = mending
        self._in_parallel = in_parallel

    def mentioned(self, body: bytes) -> Collection[str]:
        """The documents that a resource refers to, each `Type/id`."""
        return self._mending.documents(body)

    def find_person(self, patient: str) -> Person | None:
        return self._people.find_person(patient)

    def may_see(self, request: Request, person: Person | None) -> bool:
        return person is not None and self._view(request.caller, person) is not None

    def _view(self, caller: Caller, person: Person | None) -> View | None:
        """How the caller looks at the record; None if there is none for this caller."""
        if person is None:
            return None
        policy = person.policy
        own = self._is_own(caller, person)
        return View.of(caller, policy) if may_see(caller, policy, is_own_record=own) else None

    def view_if_open(self, request: Request, person: Person) -> View | None:
        """How the caller would look at the record if it were open."""
        caller = request.caller
        own = self._is_own(caller, person)
        return View.of(caller, person.policy) if may_identify(caller, is_own=own) else None

    def _is_own(self, caller: Caller, person: Person) -> bool:
        if caller.patient is None:
            return False
        system, _, value = caller.patient.partition("|")
        return self._people.find_person_of(system, value) == person.key

    def look(
        self, request: Request, patient: str, reads: Sequence[Read], rest: Callable[[Person], Sequence[Read]]
    ) -> tuple[Sight | None, Sequence[Any], Sequence[Any]]:
        """What the caller sees of a whole record, and the results of reads of it.

        `reads` are of the collection that is named; they are made with the look-up of the person, `rest` once it is
        known which other collections there are.
        """
        person, own, *results = self._in_parallel(
            partial(self._people.find_person, patient), partial(self._store.restrictions, patient), *reads
        )
        view = self._view(request.caller, person)
        if view is None:
            return None, results, ()
        others = [member for member in person.members if member != patient]
        wanted = [*(partial(self._store.restrictions, each) for each in others), *rest(person)]
        found = self._in_parallel(*wanted) if wanted else ()
        restrictions = dict(own)
        for each in found[: len(others)]:
            restrictions |= each
        hidden = Hidden.of(restrictions, view, self._mending)
        return Sight(person=person, view=view, hidden=hidden), results, found[len(others) :]

    def sight(self, request: Request, patient: str) -> Sight | None:
        """What the caller sees of a whole record."""
        return self.look(request, patient, (), lambda _: ())[0]

    def over(self, request: Request, person: Person) -> Sight | None:
        """The same of a person who was looked up already."""
        view = self._view(request.caller, person)
        if view is None:
            return None
        return Sight(person=person, view=view, hidden=self._hidden(person.members, view))

    def glance(self, request: Request, patient: str, read: Read) -> tuple[Sight | None, Any]:
        """What the caller sees of one collection, and the result of a read of it: one round trip."""
        person, own, found = self._in_parallel(
            partial(self._people.find_person, patient), partial(self._store.restrictions, patient), read
        )
        view = self._view(request.caller, person)
        if view is None:
            return None, found
        return Sight(person=person, view=view, hidden=Hidden.of(own, view, self._mending)), found

    def shown(self, sight: Sight, stored: StoredVersion) -> StoredVersion | None:
        """A version as it is for the caller, after a glance at its collection: what it refers to may be in others."""
        hidden = sight.hidden
        if stored.body is not None and not hidden.hides(stored.key):
            keys = {ResourceKey.of(*each.split("/")) for each in self._mending.documents(stored.body)}
            named = {key.patient for key in keys if key is not None} - {stored.key.patient}
            others = [member for member in sight.person.members if member in named]
            if others:
                hidden = hidden.and_of(self._hidden(others, sight.view))
        return hidden.version(stored)

    def _hidden(self, members: Sequence[str], view: View) -> Hidden:
        found = self._in_parallel(*(partial(self._store.restrictions, each) for each in members))
        return Hidden.of({key: each for some in found for key, each in some.items()}, view, self._mending)

    def is_hidden(self, caller: Caller, person: Person, reference: str) -> bool:
        """Whether a resource of the record, as it is now, does not exist for this caller."""
        key = ResourceKey.of(*reference.split("/")) or self._store.find_key(*reference.split("/"))
        if key is None or key.patient is None:
            return False
        view = self._view(caller, person)
        if view is None:
            return True
        hidden = self._hidden(person.members, view)
        if not hidden or hidden.hides(key):
            return bool(hidden)
        latest = self._store.find_latest(key)
        return latest is None or hidden.version(latest) is None

    def hides(self, caller: Caller, patient: str) -> Callable[[str], bool]:
        """Which references, versions included, lead to what is hidden from who looks at this record, closed or not."""
        person = self._people.find_person(patient)
        if person is None or not may_identify(caller, is_own=self._is_own(caller, person)):
            return lambda _: True
        members = person.members
        hidden = self._hidden(members, View.of(caller, person.policy))
        speaking: dict[str, frozenset[str]] = {}  # by type, what speaks of nothing but what is hidden

        def is_hidden(reference: str) -> bool:
            kind, _, rest = reference.partition("/")
            plain = f"{kind}/{rest.partition('/')[0]}"
            if not hidden or plain in hidden.references or kind in HIDEABLE:
                return plain in hidden.references
            if kind not in speaking:
                speaking[kind] = self._hidden_of(kind, members, hidden)
            return plain in speaking[kind]

        return is_hidden

    def _hidden_of(self, kind: str, members: Sequence[str], hidden: Hidden) -> frozenset[str]:
        try:
            pages = self._in_parallel(*(partial(self._store.entries, each, kind, Scan()) for each in members))
        except Unprocessable:  # of no type of the record
            return frozenset()
        return frozenset(each.key.reference for page in pages for each in page.entries if hidden.entry(each) is None)

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
        if key is None or person is None or self.view_if_open(request, person) is None:
            raise Unprocessable("the patient is not known", code="not-found", expression=expression)
        if not self.may_see(request, person):
            # Who the person is stays known to care, and that the record is closed with it (contract DMP-1, DMP-7).
            raise Unprocessable("the record of this person is not open", expression=expression)
        return key, person
