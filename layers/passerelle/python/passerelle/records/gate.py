"""The gate of the record: what of it exists for a request (law 4: what may not be seen does not exist)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from passerelle.access import Caller, Request
from passerelle.consents.decision import (
    ABSENT,
    FEEDABLE,
    SHUT,
    Admission,
    Implicit,
    Standing,
    admit,
    may_identify,
    refusal_of,
    standing_of,
)
from passerelle.consents.model import RecordStatus
from passerelle.consents.visibility import Restriction, View
from passerelle.directory.model import CARE_ROLES
from passerelle.errors import Gone, Unprocessable
from passerelle.patients.model import Identifier, Person
from passerelle.patients.reading import is_for_another
from passerelle.records.concealment import HIDEABLE, Hidden, Mending
from passerelle.records.model import ResourceKey, StoredVersion, Subject
from passerelle.records.ports import EntryPage, RecordStore, Scan
from passerelle.records.search import Entry

Read = Callable[[], Any]


class People(Protocol):
    """What the record needs of the patient index."""

    def find_person(self, patient: str) -> Person | None: ...

    def find_by_identifier(self, system: str, value: str) -> Sequence[str]: ...

    def blinded(self, identifier: tuple[str, str]) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """A person whose record the caller may see, and what of it is hidden: `hidden` of the collections looked into."""

    person: Person
    view: View
    hidden: Hidden


class Gate:
    """`in_parallel` runs independent reads at once and returns their results in order.

    Whoever is refused a record that somebody of the same kind could see is told so (Forbidden, contract D1); to
    everybody else it does not exist. Each decision is left with the request, for the audit.
    """

    def __init__(
        self,
        people: People,
        store: RecordStore,
        mending: Mending,
        in_parallel: Callable[..., tuple[Any, ...]],
        *,
        implicit: Implicit,
    ) -> None:
        self._people = people
        self._store = store
        self._mending = mending
        self._in_parallel = in_parallel
        self._implicit = implicit

    def mentioned(self, body: bytes) -> Collection[str]:
        """The documents that a resource refers to, each `Type/id`."""
        return self._mending.documents(body)

    def entry(self, body: bytes, base_url: str) -> Entry:
        """The search values of a stored version; references that start with `base_url` are to this server."""
        return self._mending.entry(body, base_url)

    def find_person(self, patient: str) -> Person | None:
        return self._people.find_person(patient)

    def may_see(self, request: Request, person: Person | None) -> bool:
        """Raises Forbidden where the refusal is said."""
        return self._view(request, person) is not None

    def admission(self, caller: Caller, person: Person, at: datetime) -> tuple[Admission, Standing]:
        """What is decided about a caller and a person, and from what."""
        standing = standing_of(
            caller,
            person.policy,
            is_own=self._is_own(caller, person),
            at=at,
            implicit=self._implicit,
            is_for_another=is_for_another(caller, person, self._people),
        )
        return admit(standing), standing

    def _view(self, request: Request, person: Person | None, *, own_only: bool = False) -> View | None:
        """How the caller looks at the record; None if there is none for this caller. Raises Forbidden.

        `own_only`: only what the caller's organisation published is asked for, which takes no care relation.
        """
        if person is None or person.is_erased:
            return None
        admission, standing = self.admission(request.caller, person, request.at)
        decision = admission.decision(standing)
        for member in person.members:
            request.decisions[member] = decision
        if not admission.is_permitted and not (own_only and admission.rule in FEEDABLE):
            if admission.rule in ABSENT:
                return None
            raise refusal_of(admission)
        return self._view_of(request.caller, person, admission, standing, request.at)

    def _view_at(self, caller: Caller, person: Person | None, at: datetime) -> View | None:
        """The same, without a word about a refusal."""
        if person is None or person.is_erased:
            return None
        admission, standing = self.admission(caller, person, at)
        return self._view_of(caller, person, admission, standing, at) if admission.is_permitted else None

    def check_feed(self, request: Request, person: Person) -> bool:
        """Whether the caller may add to the record; raises Forbidden where the refusal is said."""
        return self._view(request, person, own_only=request.caller.role in CARE_ROLES) is not None

    def view(self, request: Request, person: Person) -> View | None:
        """How the caller looks at a record that it adds to. Raises Forbidden."""
        return self._view(request, person, own_only=True)

    def view_if_open(self, request: Request, person: Person) -> View | None:
        """How the caller would look at the record if it were open."""
        if person.is_erased or not self._may_identify(request.caller, person, request.at):
            return None
        return self._view_if_open(request.caller, person, request.at)

    def _view_if_open(self, caller: Caller, person: Person, at: datetime) -> View:
        _, standing = self.admission(caller, person, at)
        opened = replace(standing, status=RecordStatus.OPEN)
        return self._view_of(caller, person, admit(opened), opened, at)

    def _view_of(self, caller: Caller, person: Person, admission: Admission, standing: Standing, at: datetime) -> View:
        residual = self._mending.residual(caller.limits.residual) if caller.limits is not None else None
        return View.of(caller, person.policy, admission, standing, at=at, residual=residual)

    def _may_identify(self, caller: Caller, person: Person, at: datetime) -> bool:
        return may_identify(caller, person.policy, is_own=self._is_own(caller, person), at=at)

    def _is_own(self, caller: Caller, person: Person) -> bool:
        if caller.patient is None:
            return False
        system, _, value = caller.patient.partition("|")
        return self._people.blinded((system, value)) == person.qualified  # which no other person is at the same time

    def look(
        self,
        request: Request,
        patient: str,
        reads: Sequence[Read],
        rest: Callable[[Person], Sequence[Read]],
        *,
        own_only: bool = False,
    ) -> tuple[Sight | None, Sequence[Any], Sequence[Any]]:
        """What the caller sees of a whole record, and the results of reads of it.

        `reads` are of the collection that is named; they are made with the look-up of the person, `rest` once it is
        known which other collections there are.
        """
        return self._look(patient, reads, rest, lambda person: self._view(request, person, own_only=own_only))

    def survey(
        self,
        caller: Caller,
        patient: str,
        at: datetime,
        reads: Sequence[Read],
        rest: Callable[[Person], Sequence[Read]],
    ) -> tuple[Sight | None, Sequence[Any], Sequence[Any]]:
        """The same of what somebody else decides with: nothing is refused, `hidden` says what the caller may not learn.

        None only for a person who is not known, or erased.
        """

        def view(person: Person | None) -> View | None:
            return None if person is None or person.is_erased else self._view_if_open(caller, person, at)

        return self._look(patient, reads, rest, view)

    def _look(
        self,
        patient: str,
        reads: Sequence[Read],
        rest: Callable[[Person], Sequence[Read]],
        view_of: Callable[[Person | None], View | None],
    ) -> tuple[Sight | None, Sequence[Any], Sequence[Any]]:
        person, own, *results = self._in_parallel(
            partial(self._people.find_person, patient), partial(self._store.restrictions, patient), *reads
        )
        view = view_of(person)
        if person is None or view is None:
            return None, results, ()
        others = [member for member in person.members if member != patient]
        asked: list[Read] = [
            *(partial(self._store.restrictions, each) for each in others),
            *self._documents(person.members, view),
        ]
        found = self._at_once([*asked, *rest(person)])
        restrictions = dict(own)
        for each in found[: len(others)]:
            restrictions |= each
        hidden = self._hidden_by(restrictions, view, found[len(others) : len(asked)])
        return Sight(person=person, view=view, hidden=hidden), results, found[len(asked) :]

    def _at_once(self, reads: Sequence[Read]) -> tuple[Any, ...]:
        return self._in_parallel(*reads) if reads else ()

    def _documents(self, members: Sequence[str], view: View) -> list[Read]:
        """The reads of all documents, where more than labels hides some: what speaks of those is to go with them."""
        if not view.hides_documents:
            return []
        return [partial(self._store.entries, each, "DocumentReference", Scan()) for each in members]

    def _hidden_by(
        self, restrictions: Mapping[ResourceKey, Restriction], view: View, documents: Iterable[EntryPage] = ()
    ) -> Hidden:
        entries = [entry for page in documents for entry in page.entries]
        return Hidden.of(restrictions, view, self._mending, entries, self._before)

    def _before(self, stored: StoredVersion) -> StoredVersion | None:
        return self._store.find_version(stored.key, stored.version - 1)

    def sight(self, request: Request, patient: str) -> Sight | None:
        """What the caller sees of a whole record."""
        return self.look(request, patient, (), lambda _: ())[0]

    def over(self, request: Request, person: Person) -> Sight | None:
        """The same of a person who was looked up already."""
        view = self._view(request, person)
        if view is None:
            return None
        return Sight(person=person, view=view, hidden=self._hidden(person.members, view))

    def glance(self, request: Request, patient: str, read: Read) -> tuple[Sight | None, Any]:
        """What the caller sees of one collection, and the result of a read of it: one round trip."""
        person, own, found = self._in_parallel(
            partial(self._people.find_person, patient), partial(self._store.restrictions, patient), read
        )
        view = self._view(request, person, own_only=True)
        if view is None:
            return None, found
        if view.is_own_only and not _is_by(view.organisation, found):
            self._view(request, person)  # refused, and said so
            return None, found
        documents = self._at_once(self._documents(person.members, view))
        return Sight(person=person, view=view, hidden=self._hidden_by(own, view, documents)), found

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
        reads = [partial(self._store.restrictions, each) for each in members]
        found = self._in_parallel(*reads, *self._documents(members, view))
        restrictions = {key: each for some in found[: len(reads)] for key, each in some.items()}
        return self._hidden_by(restrictions, view, found[len(reads) :])

    def hidden_from(self, caller: Caller, person: Person, at: datetime) -> Callable[[str], bool]:
        """Which resources of the record, as they are now, do not exist for this caller.

        What hides them is read when it is first asked for, and not again.
        """
        admission, _ = self.admission(caller, person, at)
        view = self._view_at(caller, person, at)
        read: list[Hidden] = []

        def is_hidden(reference: str) -> bool:
            key = ResourceKey.of(*reference.split("/")) or self._store.find_key(*reference.split("/"))
            if key is None or key.patient is None:
                return False
            if person.is_erased or admission.rule in SHUT:  # who the person is, too
                return True
            if view is None:
                is_known = self._may_identify(caller, person, at)
                return key.type != "Patient" or not is_known or person.policy.status is RecordStatus.CLOSED
            if not read:
                read.append(self._hidden(person.members, view))
            hidden = read[0]
            if not hidden or hidden.hides(key):
                return bool(hidden)
            latest = self._store.find_latest(key)
            if latest is None:
                return key.type != "Task"  # a prescription is kept elsewhere, and none of what the record hides
            return hidden.version(latest) is None

        return is_hidden

    def hides(self, caller: Caller, patient: str, at: datetime) -> Callable[[str], bool]:
        """Which references, versions included, lead to what is hidden from who looks at this record, closed or not."""
        person = self._people.find_person(patient)
        if person is None or person.is_erased or not self._may_identify(caller, person, at):
            return lambda _: True
        members = person.members
        hidden = self._hidden(members, self._view_if_open(caller, person, at))
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
        if person is not None and person.is_erased:
            raise Gone("the person was erased")
        if key is None or person is None:
            raise _unknown(expression)
        self.check_owner(request, person, expression=expression)
        return key, person

    def check_owner(self, request: Request, person: Person, *, expression: str) -> None:
        """Raises Unprocessable where nothing may be added to the record of somebody, whoever found out who that is."""
        if self.view_if_open(request, person) is None:
            raise _unknown(expression)
        if not self.check_feed(request, person):
            # Who the person is stays known to care, and that the record is closed with it (contract DMP-1, DMP-7).
            raise Unprocessable("the record of this person is not open", expression=expression)

    def owner_among(
        self, request: Request, identifiers: Sequence[Identifier], *, expression: str
    ) -> tuple[str, Person]:
        """The same by several identifiers of one person, one at least: the first that is known here counts.

        Raises Unprocessable where they are not all of the same person, as far as they are known.
        """
        found: list[tuple[str, Person]] = []
        refusal: Unprocessable | None = None
        for identifier in dict.fromkeys(identifiers):
            try:
                found.append(self.owner_for(request, Subject(identifier=identifier), expression=expression))
            except Unprocessable as refused:
                refusal = refused
        if not found:
            assert refusal is not None
            raise refusal
        if len({person.key for _, person in found}) > 1:
            raise Unprocessable("the identifiers are of several people", code="invariant", expression=expression)
        return found[0]


def _unknown(expression: str) -> Unprocessable:
    return Unprocessable("the patient is not known", code="not-found", expression=expression)


def _is_by(organisation: str, found: Any) -> bool:
    """Whether what was read is a version, or versions, that an organisation published."""
    versions = [found] if isinstance(found, StoredVersion) else list(found or ())
    return bool(versions) and all(
        isinstance(each, StoredVersion) and each.producer == organisation for each in versions
    )
