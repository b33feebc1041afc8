"""The patient index: register (ITI-104), find (ITI-78), cross-reference (ITI-83), match (ITI-119), qualify.

A registration is in force, cross-reference included, when it is answered: record, look-up items, links, reviews, audit
and events are one transaction. How a record is linked is `registration.py`'s, who decides what is in doubt
`stewardship.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from passerelle.access import Request, Touched
from passerelle.audit.commands import account_of, once
from passerelle.audit.model import audit_of
from passerelle.errors import AccessRefused, Conflict, Fault, Forbidden, Gone, Invalid, NotFound, Stale, Unprocessable
from passerelle.identifiers import PATIENT_KEY, new_ulid
from passerelle.journal import Announcement, Journal
from passerelle.matching.blocking import blocks_to_search
from passerelle.matching.decision import Grade
from passerelle.matching.record import MatchRecord
from passerelle.patients.identity import differences, match_record
from passerelle.patients.insi import NationalIdentityService
from passerelle.patients.model import (
    Identifier,
    Person,
    StoredPatient,
    Traits,
)
from passerelle.patients.ports import Domains, PatientDraft, PatientIndex, PatientStore
from passerelle.patients.reading import PatientReader
from passerelle.patients.registration import (
    Kept,
    Plan,
    Registered,
    Registrar,
    unchanged,
)
from passerelle.patients.resolution import Resolver
from passerelle.patients.search import PatientSearch

MAX_CANDIDATES = 100  # people compared in one search
_IDENTIFIERS = 10  # of a person to match that are looked up
_RACES = 12  # attempts of a registration that others of the same person, or of the same blocks, overtake


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossReference:
    """Who else knows a person, and by which identifiers (ITI-83)."""

    identifiers: tuple[Identifier, ...]
    patients: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A person who may be the one asked for: its record that is the most alike. `score` is a probability."""

    stored: StoredPatient
    person: Person
    score: float
    grade: Grade


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """Matches, the likeliest first; `warnings` say what was not looked at."""

    matches: tuple[Match, ...]
    warnings: tuple[str, ...] = ()


class _DiscrepancyError(Exception):
    """The national service knows other strict traits than a source record."""

    def __init__(self, kept: Kept, traits: Sequence[str]) -> None:
        super().__init__()
        self.kept = kept
        self.traits = traits


class PatientService(PatientReader):
    def __init__(
        self,
        *,
        index: PatientIndex,
        store: PatientStore,
        domains: Domains,
        journal: Journal,
        registrar: Registrar,
        resolver: Resolver,
        national_systems: frozenset[str],
        national_identities: NationalIdentityService,
        in_parallel: Callable[..., tuple[Any, ...]],
        pause: Callable[[int], None],
    ) -> None:
        super().__init__(index=index, store=store, in_parallel=in_parallel)
        self._domains = domains
        self._journal = journal
        self._registrar = registrar
        self._resolver = resolver
        self._national_systems = national_systems
        self._national_identities = national_identities
        self._pause = pause

    # --- feed (ITI-104) -------------------------------------------------------------------------------------------

    def register(
        self, request: Request, identifier: Identifier, draft: PatientDraft, *, if_match: int | None = None
    ) -> tuple[Registered, StoredPatient]:
        """Create or revise the source record that this identifier of the caller's domain stands for.

        The same content again changes nothing. Raises Forbidden when the domain is not the caller's, Unprocessable
        when the resource does not carry the identifier or breaks an identity rule, Stale when `if_match` is not the
        version of the record.
        """
        return self._written(request, lambda: self.plan(request, draft, identifier=identifier, if_match=if_match))

    def create(
        self, request: Request, draft: PatientDraft, *, if_none_exist: Identifier | None = None
    ) -> tuple[Registered, StoredPatient]:
        """Create a source record; with `if_none_exist`, unless a visible one carries that identifier.

        Raises Conflict (`duplicate`) when the resource's identifier in the caller's domain is registered already,
        Stale (`multiple-matches`) when several records meet the condition.
        """
        return self._written(request, lambda: self.plan_create(request, draft, if_none_exist=if_none_exist))

    def plan_create(
        self,
        request: Request,
        draft: PatientDraft,
        *,
        if_none_exist: Identifier | None = None,
        beside: Sequence[Plan] = (),
    ) -> Plan:
        """Work out `create` without storing it."""
        identifier = _own(request, draft.traits)
        kept, carriers = self._kept(request, draft.traits, identifier)
        if kept is not None:
            self._registrar.check_in_use(kept, draft.traits)
        if if_none_exist is not None:
            keys = carriers if if_none_exist == identifier else self._index.find_by_identifier(*if_none_exist)
            known = [(kept.stored, kept.person)] if kept is not None else []
            known += self._there(request, [key for key in keys if kept is None or key != kept.stored.patient])
            if len(known) > 1:
                raise Stale("several resources match", code="multiple-matches")
            if known:
                return unchanged(*known[0])
        if kept is not None:
            raise Conflict("the identifier is registered: update its record", code="duplicate")
        return self._registrar.plan(request, draft.revising(None), kept=None, claims=identifier, beside=beside)

    def _there(self, request: Request, keys: Sequence[str]) -> list[tuple[StoredPatient, Person]]:
        """Source records that exist for the caller, in use or not: one round trip."""
        if not keys:
            return []
        reads = self._in_parallel(
            *(partial(self._store.find, key) for key in keys), *(partial(self._index.find_person, key) for key in keys)
        )
        return [
            (stored, person)
            for stored, person in zip(reads[: len(keys)], reads[len(keys) :], strict=True)
            if stored and person and self.is_visible(request, person)
        ]

    def update(
        self, request: Request, patient: str, draft: PatientDraft, *, if_match: int | None
    ) -> tuple[Registered, StoredPatient]:
        """Revise a source record of the caller's own domain, by its id.

        Raises NotFound, Forbidden for a record of another source, Stale when `if_match` is not its version.
        """
        return self._written(request, lambda: self.plan_update(request, patient, draft, if_match=if_match))

    def plan_update(
        self,
        request: Request,
        patient: str,
        draft: PatientDraft,
        *,
        if_match: int | None,
        beside: Sequence[Plan] = (),
    ) -> Plan:
        """Work out `update` without storing it."""
        return self._revision(request, self.read(request, patient), draft, if_match, beside)

    def patch(
        self, request: Request, patient: str, revise: Callable[[bytes], PatientDraft], *, if_match: int | None
    ) -> tuple[Registered, StoredPatient]:
        """Store what `revise` makes of the current version; without `if_match`, of whichever is current.

        Raises what `update` does.
        """
        return self._written(request, lambda: self.plan_patch(request, patient, revise, if_match=if_match))

    def plan_patch(
        self,
        request: Request,
        patient: str,
        revise: Callable[[bytes], PatientDraft],
        *,
        if_match: int | None,
        beside: Sequence[Plan] = (),
    ) -> Plan:
        """Work out `patch` without storing it."""
        before = self.read(request, patient)
        return self._revision(request, before, revise(before.body), if_match, beside)

    def _revision(
        self,
        request: Request,
        before: StoredPatient,
        draft: PatientDraft,
        if_match: int | None,
        beside: Sequence[Plan],
    ) -> Plan:
        identifier = self.identifier_of(request, before)
        return self.plan(request, draft, identifier=identifier, if_match=if_match, beside=beside)

    def _written(self, request: Request, make: Callable[[], Plan]) -> tuple[Registered, StoredPatient]:
        def write() -> tuple[Registered, StoredPatient]:
            plan = self._commit(request, make)
            if plan.stored is None:
                raise Fault()
            return plan.registered, plan.stored

        return once(self._journal, request, write, self._written_before)

    def _written_before(self, kept: Mapping[str, Any]) -> tuple[Registered, StoredPatient]:
        registered = Registered(**kept)
        stored = self._store.find_version(registered.patient, registered.version)
        if stored is None:
            raise NotFound()
        return registered, stored

    def _commit(self, request: Request, make: Callable[[], Plan]) -> Plan:
        """Commit what `make` works out; worked out again if others of the same person or blocks came first."""
        for attempt in range(_RACES):
            plan = make()
            registered = plan.registered
            if not registered.is_changed:
                # Kept all the same: repeated later, it must not undo what others changed meanwhile.
                self._journal.commit(account_of(request, _touched(registered), _kept(registered)))
                return plan
            try:
                self._journal.commit(
                    [
                        *plan.changes,
                        Announcement(id=new_ulid(request.at), events=plan.events),
                        *account_of(_as_done(request, registered), _touched(registered), _kept(registered)),
                    ]
                )
            except Stale:
                if attempt == _RACES - 1:
                    raise
                self._pause(attempt)
            else:
                return plan
        raise AssertionError("unreachable")

    def plan(
        self,
        request: Request,
        draft: PatientDraft,
        *,
        identifier: Identifier | None = None,
        if_match: int | None = None,
        beside: Sequence[Plan] = (),
    ) -> Plan:
        """Work out a registration without storing it; its changes fail as Stale if it is overtaken.

        Without `identifier` the record is found by the identifier that the resource carries in the caller's domain,
        and is new if it carries none. `beside` are the plans that are committed together with this one. Raises Stale
        (`multiple-matches`) when several records of the caller carry the identifier.
        """
        traits = draft.traits
        domain = request.caller.domain
        if identifier is None:
            identifier = _own(request, traits)
        elif identifier[0] != domain:
            raise Forbidden("the caller is not the registered source of this identifier domain")
        else:
            _check_carried(identifier, traits.identifiers)
        kept, _ = self._kept(request, traits, identifier)
        if if_match is not None and (kept is None or if_match != kept.stored.version):
            raise Stale()
        if kept and draft.equals(kept.stored):
            return unchanged(kept.stored, kept.person)
        revised = draft.revising(kept.stored if kept else None)
        if kept and revised.equals(kept.stored):
            return unchanged(kept.stored, kept.person)
        return self._registrar.plan(request, revised, kept=kept, claims=identifier, beside=beside)

    def _kept(
        self, request: Request, traits: Traits, identifier: Identifier | None
    ) -> tuple[Kept | None, Sequence[str]]:
        """The caller's record that these traits are of, and whichever records carry the identifier."""
        owner, carriers = self._owner_among(request, identifier, traits.identifiers)
        kept = self._registrar.find(owner) if owner else self._carried(request, carriers, traits.identifiers)
        self.check_bound(request, kept.person if kept else None)
        if kept is not None and kept.member.is_erased:  # the same once more, too: it would tell that it is the same
            raise Gone("the person was erased")
        return kept, carriers

    def _carried(self, request: Request, carriers: Sequence[str], claimed: Sequence[Identifier]) -> Kept | None:
        """The caller's record that carries an identifier beside the one it is registered under."""
        kept = [each for key in carriers if (each := self._registrar.find(key)) is not None]
        own = [(each, known) for each in kept if (known := self._registered_as(request, each.stored)) is not None]
        if len(own) > 1:
            raise Stale("several resources match", code="multiple-matches")
        for found, registered in own:
            _check_carried(registered, claimed)
            return found
        return None

    def identifier_of(self, request: Request, stored: StoredPatient) -> Identifier:
        """The identifier under which the caller registered the record; raises Forbidden for another source's."""
        found = self._registered_as(request, stored)
        if found is None:
            raise Forbidden("the caller is not the source of this record")
        return found

    def find_registered(self, request: Request, identifier: Identifier) -> StoredPatient | None:
        """The source record that the caller registered under an identifier of its own domain."""
        owner = self._index.find_owner(*identifier) if identifier[0] == request.caller.domain else None
        return self._store.find(owner) if owner else None

    def _registered_as(self, request: Request, stored: StoredPatient) -> Identifier | None:
        """A record may carry others of the caller's domain: those of records that it replaced."""
        own = [each for each in stored.traits.identifiers if each[0] == request.caller.domain]
        owners = self._in_parallel(*(partial(self._index.find_owner, *each) for each in own)) if own else ()
        return own[owners.index(stored.patient)] if stored.patient in owners else None

    def _owner_among(
        self, request: Request, identifier: Identifier | None, carried: Sequence[Identifier]
    ) -> tuple[str | None, Sequence[str]]:
        """The record registered under an identifier of the caller's domain, and those that carry it.

        Raises Forbidden if the domain, or that of an identifier that the resource carries, is another source's.
        """
        mine = {identifier[0]} if identifier else set()
        others = {system for system, _ in carried} - self._national_systems - mine
        systems = sorted(mine | others)
        owner, carriers, *authorities = self._in_parallel(
            lambda: self._index.find_owner(*identifier) if identifier else None,
            lambda: self._index.find_by_identifier(*identifier) if identifier else (),
            *(partial(self._domains.find_authority, system) for system in systems),
        )
        authority = dict(zip(systems, authorities, strict=True))
        organisation = request.caller.organisation
        if any(authority[system] != organisation for system in mine) or any(
            authority[system] not in (None, organisation) for system in others
        ):
            raise Forbidden("the caller is not the registered source of this identifier domain")
        return owner, carriers

    def remove(self, request: Request, identifier: Identifier) -> Registered:
        """Withdraw a source record: it is found, cross-referenced and matched no more (contract 104-6).

        What was published under it stays in the person's record. Raises NotFound, Forbidden for another's domain.
        """
        return once(
            self._journal,
            request,
            lambda: self._commit(request, lambda: self._plan_removal(request, identifier)).registered,
            lambda kept: Registered(**kept),
        )

    def _plan_removal(self, request: Request, identifier: Identifier) -> Plan:
        if identifier[0] != request.caller.domain:
            raise Forbidden("the caller is not the registered source of this identifier domain")
        owner, _ = self._owner_among(request, identifier, ())
        kept = self._registrar.find(owner) if owner else None
        if kept is None:
            raise NotFound()
        self.check_bound(request, kept.person)
        return self._registrar.plan_removal(request, kept, identifier)

    def qualify(self, request: Request, patient: str) -> tuple[Registered, StoredPatient]:
        """Have the identity of a source record confirmed by the national service, and carry its identifier (INS-8).

        Raises Conflict when the service knows other traits, or several people, and Unprocessable for an identity that
        may not be asked about.
        """
        try:
            return self._written(request, lambda: self._plan_qualification(request, patient))
        except _DiscrepancyError as discrepancy:
            refusal = Conflict(
                f"the national service knows other traits: {', '.join(discrepancy.traits)}", code="business-rule"
            )
            touched = Touched.of([patient], [f"Patient/{patient}"])
            review = self._registrar.discrepancy(request, discrepancy.kept, discrepancy.traits)
            if review is not None:
                self._journal.commit([review, *audit_of(request, touched, refusal=refusal)])
            raise refusal from None

    def _plan_qualification(self, request: Request, patient: str) -> Plan:
        kept = self._registrar.find(patient)
        if kept is None or not self.is_visible(request, kept.person):
            raise NotFound()
        self.check_bound(request, kept.person)
        self.identifier_of(request, kept.stored)
        traits = kept.stored.traits
        if traits.cautions:
            raise Unprocessable(
                "a doubtful, fictitious or homonym identity is not qualified",
                code="business-rule",
                expression="Patient.extension",
            )
        found = self._national_identities.search(traits)
        if len(found) != 1:
            raise Conflict("the national service knows no single identity with these traits", code="multiple-matches")
        if differing := differences(traits, found[0].traits):
            raise _DiscrepancyError(kept, differing)
        if traits.is_qualified and traits.national == found[0].identifier:
            return unchanged(kept.stored, kept.person)
        draft = self._store.draft(kept.stored).qualified(found[0])
        return self._registrar.plan(request, draft, kept=kept, claims=None)

    # --- find (ITI-78) --------------------------------------------------------------------------------------------

    def find(
        self, request: Request, search: PatientSearch, *, says_refusals: bool = False
    ) -> list[tuple[StoredPatient, Person]]:
        """Source records of the people that match, visible to the caller, in a stable order.

        Looks people up by what the search gives first: never by a scan. Raises Invalid (`required`) without any of
        that, and (`too-costly`) when too many people would have to be compared. Whom the patient refuses finds nobody;
        with `says_refusals`, where one person is asked for, AccessRefused is raised.
        """
        candidates = self._candidates(search)
        if len(candidates) > MAX_CANDIDATES:
            raise Invalid(
                "too many people were born that day: give three letters of the family name", code="too-costly"
            )
        found = [
            each for each in self._store.matching(candidates, search.criteria) if search.names.matches(each.traits)
        ]
        return self.visible(request, found, says_refusals=says_refusals)

    def _candidates(self, search: PatientSearch) -> list[str]:
        if search.patients:
            return sorted(filter(PATIENT_KEY.fullmatch, search.patients))
        calls: list[Callable[[], Sequence[str]]]
        if search.identifiers:
            calls = [partial(self._index.find_by_identifier, *each) for each in search.identifiers]
        elif search.birth_dates:
            calls = [
                partial(self._index.find_by_birth_date, born, prefix)
                for born in search.birth_dates
                for prefix in search.name_prefixes or ("",)
            ]
        elif search.telecoms:
            return self._by_telecom(search.telecoms)
        else:
            raise Invalid(
                "a search of people needs an identifier, a birth date, or a phone number or e-mail address",
                code="required",
            )
        return sorted({key for keys in self._in_parallel(*calls) for key in keys})

    def _by_telecom(self, telecoms: Sequence[str]) -> list[str]:
        records = [match_record(Traits(identifiers=(), phones=(each,), emails=(each,))) for each in telecoms]
        blocks = [block for record in records for block in blocks_to_search(record)]
        look_up = self._resolver.look_up(blocks)
        return sorted({entry.patient for page in look_up.pages.values() for entry in page.entries})

    def survivors(
        self, request: Request, found: Sequence[tuple[StoredPatient, Person]]
    ) -> list[tuple[StoredPatient, Person]]:
        """The records that replaced those found, and are not among them, visible to the caller (contract 78-6)."""
        listed = {stored.patient for stored, _ in found}
        missing = dict.fromkeys(
            key
            for stored, person in found
            if (key := person.member(stored.patient).replaced_by) is not None and key not in listed
        )
        if not missing:
            return []
        stored = self._in_parallel(*(partial(self._store.find, key) for key in missing))
        return self.visible(request, [each for each in stored if each is not None])

    # --- cross-reference (ITI-83) ---------------------------------------------------------------------------------

    def is_known_system(self, system: str) -> bool:
        """Whether identifiers of this system are known here: a national one, or the domain of a source."""
        return system in self._national_systems or self._domains.find_authority(system) is not None

    def cross_reference(
        self, request: Request, *, identifier: Identifier | None, patient: str | None, systems: Sequence[str]
    ) -> CrossReference:
        """By which other identifiers a person is known, in all domains or in `systems`; raises NotFound.

        Of a record that was replaced, nothing (contract 83-8).
        """
        keys = list(self._index.find_by_identifier(*identifier)) if identifier else []
        if patient is not None and PATIENT_KEY.fullmatch(patient):
            keys = [patient]
        people = self._in_parallel(*(partial(self._index.find_person, key) for key in keys)) if keys else ()
        known = [
            (key, person)
            for key, person in zip(keys, people, strict=True)
            if self.is_visible(request, person) and not person.member(key).is_removed
        ]
        if not known:
            raise NotFound()
        if any(self.is_refused(request, person) for _, person in known):
            raise AccessRefused()
        key, person = next(((k, p) for k, p in known if p.member(k).is_in_use), known[0])
        if not person.member(key).is_in_use:
            return CrossReference(identifiers=(), patients=())
        members = [each for each in person.records if each.is_in_use]
        wanted = [
            (each.patient, found)
            for each in members
            for found in each.identifiers
            if found != identifier and (not systems or found[0] in systems)
        ]
        listed = dict.fromkeys(each for each, _ in wanted) if systems else [each.patient for each in members]
        return CrossReference(
            identifiers=tuple(dict.fromkeys(found for _, found in wanted)),
            patients=tuple(each for each in listed if each != patient),
        )

    # --- match (ITI-119) ------------------------------------------------------------------------------------------

    def match(self, request: Request, traits: Traits, *, count: int | None, only_certain: bool) -> Matches:
        """Who these traits may be, the likeliest first; nobody who is out of use, or hidden from the caller."""
        record = match_record(traits)
        if named := self._named_by_identifier(request, traits, record):
            return Matches(matches=(named,))
        look_up = self._resolver.look_up_in_stages(record)
        qualified = self._index.blinded(traits.qualified_identifier) if traits.qualified_identifier else None
        judgement = self._resolver.judge(
            record,
            look_up.records(),
            qualified=qualified,
            is_barred=bool(traits.cautions),
            is_hidden=lambda person: not self.is_visible(request, person) or self.is_refused(request, person),
            read=self._store.find,
        )
        verdicts = [
            each
            for each in judgement.verdicts
            if each.grade is Grade.CERTAIN or (not only_certain and each.grade is not Grade.UNLIKELY)
        ]
        matches = tuple(
            Match(
                stored=judgement.stored[each.candidate.record],
                person=judgement.people[each.candidate.person],
                score=each.candidate.score.probability,
                grade=each.grade,
            )
            for each in verdicts[:count]
            if each.candidate.record in judgement.stored
        )
        warnings = ("some groups of similar people were too large to be compared: give more traits",)
        return Matches(matches=matches, warnings=warnings if look_up.is_crowded else ())

    def _named_by_identifier(self, request: Request, traits: Traits, record: MatchRecord) -> Match | None:
        """The one person whom the business identifiers name, if no strict trait contradicts: no block is read then."""
        identifiers = [each for each in traits.identifiers if each[0] not in self._national_systems]
        if not identifiers:
            return None
        keys = self._in_parallel(
            *(partial(self._index.find_by_identifier, *each) for each in identifiers[:_IDENTIFIERS])
        )
        found = self._found(request, sorted({key for each in keys for key in each}))
        scores = [self._resolver.score(record, match_record(stored.traits)) for stored, _ in found]
        if not found or len({person.key for _, person in found}) > 1 or any(score.contradictions for score in scores):
            return None
        stored, person = found[0]
        return Match(stored=stored, person=person, score=1.0, grade=Grade.CERTAIN)

    def _found(self, request: Request, keys: Sequence[str]) -> list[tuple[StoredPatient, Person]]:
        """Source records in use, visible to the caller: one round trip."""
        reads = self._in_parallel(
            *(partial(self._store.find, key) for key in keys), *(partial(self._index.find_person, key) for key in keys)
        )
        return [
            (stored, person)
            for stored, person in zip(reads[: len(keys)], reads[len(keys) :], strict=True)
            if stored
            and person
            and person.member(stored.patient).is_in_use
            and self.is_visible(request, person)
            and self.is_told(request, stored, person)
        ]


def _own(request: Request, traits: Traits) -> Identifier | None:
    """The identifier that the resource carries in the caller's domain."""
    return next((each for each in traits.identifiers if each[0] == request.caller.domain), None)


def _check_carried(identifier: Identifier, carried: Sequence[Identifier]) -> None:
    if identifier not in carried:
        raise Unprocessable(
            "the resource does not carry the identifier it is registered under",
            code="invariant",
            expression="Patient.identifier",
        )


def _as_done(request: Request, registered: Registered) -> Request:
    """The request as its audit tells it: a conditional update that creates is a creation (contract 104-7)."""
    return replace(request, action="C") if registered.is_new else request


def _touched(registered: Registered) -> Touched:
    return Touched.of([registered.patient], [f"Patient/{registered.patient}"])


def _kept(registered: Registered) -> Mapping[str, Any]:
    return {
        "patient": registered.patient,
        "version": registered.version,
        "is_new": registered.is_new,
        "is_changed": registered.is_changed,
    }
