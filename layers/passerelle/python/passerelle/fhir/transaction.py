"""FHIR transactions, document submissions (ITI-65) among them: from a Bundle to one commit (R4 section 3.1.0.11).

Everything is checked before anything is stored; then the contents go to the vault, where nobody finds them yet, and one
commit makes all changes together, however many they are. The order of the entries means nothing. People are registered
first, because everything else belongs to them; then every entry gets its target, deletions before all others, so that
references between entries can be replaced; then versions are made, and conditional references see them.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from passerelle.access import Interaction, Permission, Request, Touched, insufficient_scope
from passerelle.audit.commands import account_of, once
from passerelle.documents.model import Adoption, Content
from passerelle.documents.options import Options
from passerelle.documents.service import DocumentService
from passerelle.documents.uploads import Upload, UploadService
from passerelle.errors import (
    Conflict,
    Invalid,
    Issue,
    NotFound,
    PasserelleError,
    Stale,
    Unprocessable,
    Unsupported,
)
from passerelle.events import Event
from passerelle.fhir import json as fhir_json
from passerelle.fhir.bundles import EntryResponse, TransactionEntry, resolve_references
from passerelle.fhir.care_team import WRITES
from passerelle.fhir.dates import instant
from passerelle.fhir.demographics import single_identifier
from passerelle.fhir.index import RECORD_TYPES, subject_of
from passerelle.fhir.lists import is_submission_set
from passerelle.fhir.mhd import (
    Level,
    attachment_of,
    check_document_metadata,
    check_submission,
    classes_of,
    declared_by,
    identifier_token,
)
from passerelle.fhir.outcome import outcome
from passerelle.fhir.patient import FhirPatientDraft, ValidatedPatientDraft
from passerelle.fhir.recipients import Recipients
from passerelle.fhir.relations import Related, Relations, is_supersession
from passerelle.fhir.resource import ResourceDraft, identifiers_of
from passerelle.fhir.resubmissions import Resubmissions
from passerelle.fhir.search import ParsedQuery, parse_query
from passerelle.fhir.statements import Statements, is_read
from passerelle.fhir.submissions import (
    DOCUMENT,
    Taken,
    adoption_of,
    content_of,
    contents_of,
    measured,
    new_documents,
    taken,
    uploads_of,
    with_subject,
    without_documents,
)
from passerelle.fhir.validation import validate
from passerelle.identifiers import Blinder, new_ulid
from passerelle.journal import Announcement, Change, Journal
from passerelle.patients.identity import IdentityScheme
from passerelle.patients.model import Identifier, Person, PersonChange, PersonHolds
from passerelle.patients.registration import Plan as Registration
from passerelle.patients.service import PatientService
from passerelle.records.effects import Effects, with_policies
from passerelle.records.model import (
    Guard,
    IdentifierClaim,
    IdentifierUse,
    RecordVersion,
    ResourceKey,
    StoredVersion,
    Subject,
)
from passerelle.records.search import matches
from passerelle.records.service import Asked, Looked, Plan, RecordService, Target, announced

_RACES = 8  # attempts of a transaction that others overtake
_UNREAD: Final = "what the replaced document alone stated is withdrawn: nothing is read of a submission"
SUBMITS: Final = ("ITI-65", "TD2", "TD2.1")
"""The transactions that publish documents in a submission: IHE's, and those of the DMP."""
_SUBMITTED: Final[Mapping[str, tuple[str, ...]]] = {
    "List": ("POST", "PUT"),
    DOCUMENT: ("POST", "PATCH"),
    "Binary": ("POST",),
}
_TRANSACTIONS: Final[Mapping[str, tuple[str, ...]]] = {"Consent": ("ITI-108",), "Patient": ("ITI-104",)}
_RIGHTS: Mapping[str, Interaction] = {"POST": "c", "PUT": "u", "PATCH": "u", "DELETE": "d", "GET": "r"}
_CONDITIONAL: Final = re.compile(r"(?P<type>[A-Z][A-Za-z]+)\?(?P<criteria>.+)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The answer to one entry, and the version that it tells of; `key` is None where nothing was done (65-14, 65-15).

    `warnings` are in the response, as an outcome. `made` is the version itself if it came to exist now, `person` whose
    it is; `is_repeated` where the same request had been answered before.
    """

    response: EntryResponse
    key: ResourceKey | None
    version: int
    warnings: tuple[Issue, ...] = ()
    made: RecordVersion | None = None
    person: Person | None = None
    is_repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Along:
    """What comes along with a transaction that a message became.

    `changes` are part of the commit, made of the answers to the entries. `copies` are full URLs of documents that are
    left out, with their contents, where the record that they would go to takes none; `validated` those of Patients whom
    the message calls validated at most, with the national identifiers that it names.
    """

    changes: Callable[[Mapping[str, Done]], Sequence[Change]] = lambda _: ()
    copies: Collection[str] = ()
    validated: Mapping[str, Identifier | None] = field(default_factory=dict)


NOTHING: Final = Along()


@dataclass(slots=True)
class _Work:
    """A transaction as it takes shape.

    `references` maps the full URLs of entries to what they become; targets, conditions and results are by the path of
    the entry, people by patient key.
    """

    request: Request
    along: Along
    found: Mapping[str, Target] = field(default_factory=dict)  # of a submission that is sent again, by path
    references: dict[str, str] = field(default_factory=dict)
    people: dict[str, Person] = field(default_factory=dict)
    registrations: list[Registration] = field(default_factory=list)
    registered: dict[tuple[str, str], str] = field(default_factory=dict)  # business identifier -> patient key
    targets: dict[str, Target] = field(default_factory=dict)
    conditions: dict[str, ParsedQuery] = field(default_factory=dict)
    looked: dict[str, Looked] = field(default_factory=dict)  # by path
    deleted: set[ResourceKey] = field(default_factory=set)
    drafts: dict[ResourceKey, ResourceDraft] = field(default_factory=dict)  # of what is created or replaced
    meant: dict[tuple[str, str | None], str] = field(default_factory=dict)  # conditional references, by person
    owners: dict[Subject | None, tuple[str, Person]] = field(default_factory=dict)
    claimed: set[str] = field(default_factory=set)
    warnings: dict[str, list[Issue]] = field(default_factory=dict)
    results: dict[str, Done] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    places: dict[tuple[str, str], str] = field(default_factory=dict)  # what is changed -> path of the entry
    events: list[Event] = field(default_factory=list)
    uploads: Mapping[str, Upload] = field(default_factory=dict)  # contents that came before, by path of the document
    contents: list[Content | Adoption] = field(default_factory=list)
    derived: list[TransactionEntry] = field(default_factory=list)  # what follows from contents


class TransactionService:
    def __init__(
        self,
        *,
        records: RecordService,
        patients: PatientService,
        documents: DocumentService,
        journal: Journal,
        blinder: Blinder,
        scheme: IdentityScheme,
        options: Options,
        recipients: Recipients,
        uploads: UploadService,
        effects: Effects,
        statements: Callable[[], Statements],
    ) -> None:
        self._statements = statements
        self._records = records
        self._patients = patients
        self._documents = documents
        self._journal = journal
        self._blinder = blinder
        self._scheme = scheme
        self._options = options
        self._recipients = recipients
        self._uploads = uploads
        self._effects = effects
        self._relations = Relations(records, blinder)
        self._resubmissions = Resubmissions(records, documents, self._relations)

    def execute(
        self,
        request: Request,
        entries: Sequence[TransactionEntry],
        level: Level | None,
        *,
        is_authorised: bool = False,
        along: Along = NOTHING,
    ) -> dict[str, Done]:
        """Make every change of a transaction, or none; the answers by path of the entry.

        Reads among the entries are not for this service. Raises the error of the first entry that is refused, with its
        path. Scopes are not asked for entries that follow from a request which `is_authorised` as a whole.
        """
        meant = _with_neighbours(entries)
        if not is_authorised:
            self.authorise(request, meant, level)
        return once(self._journal, request, lambda: self._attempted(request, meant, level, along), _restored)

    def find_document(self, request: Request, identifier: tuple[str, str]) -> ResourceKey | None:
        """The document that has this masterIdentifier, if there is one for the caller."""
        try:
            return self._relations.named(request, identifier).key
        except NotFound:
            return None

    def bodies(self, request: Request, done: Sequence[Done]) -> dict[ResourceKey, bytes]:
        """The versions that a transaction just made or found, as the caller sees them; nothing for a deletion."""
        return self._records.bodies(request, [(each.key, each.version) for each in done if each.key is not None])

    def _attempted(
        self, request: Request, entries: Sequence[TransactionEntry], level: Level | None, along: Along
    ) -> dict[str, Done]:
        """Work the transaction out again when others came first: no entry has to name a version."""
        for entry in entries:
            if entry.method in ("POST", "PUT"):
                validate(entry.resource, path=f"{entry.path}.resource")
        warnings = check_submission(entries, level) if level is not None else {}
        submitted = taken(with_subject(entries) if level is not None else entries, level, self._options)
        for path, issues in warnings.items():
            submitted.warnings.setdefault(path, []).extend(issues)
        uploads = uploads_of(request, submitted.entries, self._uploads)
        submitted.entries = measured(submitted.entries, uploads)
        for _ in range(_RACES - 1):
            try:
                return self._once(request, submitted, level, uploads, along)
            except Stale as overtaken:
                if overtaken.issues[0].code == "multiple-matches":
                    raise
        return self._once(request, submitted, level, uploads, along)

    def _once(
        self,
        request: Request,
        submitted: Taken,
        level: Level | None,
        uploads: Mapping[str, Upload],
        along: Along,
    ) -> dict[str, Done]:
        """The same documents sent again get what the first time gave (P20): looked up only when they are refused."""
        try:
            return self._execute(_Work(request, along, uploads=uploads), submitted, level)
        except Conflict as refusal:
            found = self._resubmissions.find(request, submitted.entries, uploads)
            if found is None:
                raise
            try:
                return self._execute(_Work(request, along, found, uploads=uploads), submitted, level)
            except Conflict:
                raise refusal from None

    def _execute(self, work: _Work, submitted: Taken, level: Level | None) -> dict[str, Done]:
        work.warnings = {path: [*issues] for path, issues in submitted.warnings.items()}
        entries: Sequence[TransactionEntry] = submitted.entries
        self._register_people(work, [entry for entry in entries if entry.type == "Patient"])
        entries = self._without_copies(work, entries)
        self._find_targets(work, [entry for entry in entries if entry.type != "Patient"])
        if level is not None:
            self._check_patient(work, entries)
        entries = [*self._related(work, entries), *self._no_longer_stated(work, entries, level)]
        for entry in entries:
            if entry.path in work.targets:
                with _at(entry):
                    self._plan(work, entry)
        for entry in work.derived:
            self._plan(work, entry, is_managed=True)
        self._check_conditions(work)
        for entry in submitted.ignored:
            work.results[entry.path] = _told(EntryResponse(status="200 OK"), None, 0, work.warnings[entry.path])
        self._documents.keep(work.contents)
        self._commit(work)
        return {path: work.results[path] for path in work.results}

    def _without_copies(self, work: _Work, entries: Sequence[TransactionEntry]) -> Sequence[TransactionEntry]:
        """Without what the shared record does not take (DMP-7): a message says more than the document that it is."""
        refused = {
            str(entry.full_url)
            for entry in new_documents(entries)
            if entry.full_url in work.along.copies and not self._is_taken(work, entry)
        }
        return without_documents(entries, refused)

    def _is_taken(self, work: _Work, entry: TransactionEntry) -> bool:
        with _at(entry):
            try:
                _, owner = self._draft(work, entry)
                if owner is not None:
                    self._check_publication(work, owner[1], entry)
            except Unprocessable:  # if it is about nobody who is known, the other entries say so
                return False
        return True

    def _check_patient(self, work: _Work, entries: Sequence[TransactionEntry]) -> None:
        people = {person.key: person for person in work.people.values()}
        if len(people) > 1:
            raise Unprocessable("a submission is about one patient", expression="Bundle.entry")
        for entry in entries:
            if is_submission_set(entry.resource) and not work.found:
                unreachable = self._recipients.warnings(work.request, entry, *people.values())
                work.warnings.setdefault(entry.path, []).extend(unreachable)

    def _related(self, work: _Work, entries: Sequence[TransactionEntry]) -> list[TransactionEntry]:
        """The entries with the relations of new documents resolved."""
        about = [
            Related(entry=entry, target=work.targets[entry.path])
            for entry in entries
            if entry.type == DOCUMENT and entry.path in work.targets and entry.path not in work.found
        ]
        resolved = self._relations.checked(
            work.request,
            [each for each in about if each.entry.method == "POST" and each.target.current is None],
            [each for each in about if each.entry.method == "PATCH"],
            lambda text, person: self._found(work, work.references.get(text, text), person),
        )
        changed = {entry.path: entry for entry in resolved}
        return [changed.get(entry.path, entry) for entry in entries]

    def _no_longer_stated(
        self, work: _Work, entries: Sequence[TransactionEntry], level: Level | None
    ) -> Iterator[TransactionEntry]:
        """Entries that withdraw what the replaced documents alone stated, and these entries do not state again."""
        replaced = {
            entry.path: current
            for entry in entries
            if entry.type == DOCUMENT and entry.method == "PATCH" and entry.path not in work.found
            for current in [work.targets[entry.path].current]
            if current is not None and is_read(fhir_json.loads(current.body or b"{}"))
        }
        stated = {target.key for target in work.targets.values()}
        beside = [current.key for current in replaced.values()]
        for path, current in replaced.items():
            person = work.targets[path].person
            for number, each in enumerate(self._statements().of(current.key, beside=beside)):
                if each.is_alone and each.version.key not in stated:
                    stated.add(each.version.key)
                    going = each.withdrawal(f"{path}.statement[{number}]")
                    work.targets[going.path] = Target(key=each.version.key, current=each.version, person=person)
                    yield going
            if level is not None:  # of what is submitted, nothing is read
                unread = Issue(code="processing", diagnostics=_UNREAD, expression=f"{path}.resource")
                work.warnings.setdefault(path, []).append(unread)

    def authorise(self, request: Request, entries: Sequence[TransactionEntry], level: Level | None) -> None:
        """Raise what the entries would be refused for unread, by their types and the caller's scopes."""
        scopes = request.caller.scopes
        contents = contents_of(entries)
        for entry in entries:
            kind = entry.type
            if kind == "Patient" and (entry.method == "DELETE" or (entry.method == "PATCH" and entry.id is None)):
                raise Unsupported("source records are not changed this way", expression=f"{entry.path}.request")
            if kind == "Consent" and entry.method == "DELETE":
                raise Unsupported("a consent is ended by an update of its status", expression=f"{entry.path}.request")
            if kind == DOCUMENT and entry.method not in ("POST", "PATCH"):
                raise Unsupported("documents change by rules of their own", expression=f"{entry.path}.request")
            if kind not in RECORD_TYPES:
                raise Unprocessable(
                    "this resource type is not kept", code="not-supported", expression=f"{entry.path}.resource"
                )
            of = _TRANSACTIONS.get(kind, ())
            if kind == "CareTeam" and entry.method in ("POST", "PUT"):
                of = WRITES
            if level is not None and (
                entry.method in _SUBMITTED.get(kind, ()) or contents.get(entry.full_url or "") is entry
            ):
                of = SUBMITS
            if not scopes.permits(Permission(resource=kind, interaction=_RIGHTS[entry.method], transactions=of)):
                raise insufficient_scope(expression=entry.path)

    # --- people first: the record that everything else belongs to -------------------------------------------------

    def _register_people(self, work: _Work, entries: Sequence[TransactionEntry]) -> None:
        for entry in entries:
            with _at(entry):
                plan = self._registration(work, entry)
                done = plan.registered
                people = [change.after.key for change in plan.changes if isinstance(change, PersonChange)]
                for name in [("Patient", done.patient), *(("person", key) for key in people)]:
                    _note(work, name, entry)
                work.people[done.patient] = plan.person
                work.registrations.append(plan)
                work.changes += plan.changes
                work.events += plan.events
                key = ResourceKey(type="Patient", id=done.patient, patient=done.patient)
                self._settle(work, entry, key, done.version, is_new=done.is_new, at=done.at)

    def _registration(self, work: _Work, entry: TransactionEntry) -> Registration:
        request = work.request
        if entry.method == "PATCH":
            return self._patients.plan_patch(
                request,
                str(entry.id),
                lambda stored: self._patient(request, self._patched(work, entry, stored)),
                if_match=entry.if_match,
                beside=work.registrations,
            )
        draft = self._told(work, entry)
        if not work.registered.keys().isdisjoint(draft.traits.identifiers):
            raise Unprocessable("two entries register the same person", expression=entry.path)
        if entry.method == "POST":
            condition = single_identifier(parse_qsl(entry.if_none_exist)) if entry.if_none_exist else None
            plan = self._patients.plan_create(request, draft, if_none_exist=condition, beside=work.registrations)
        elif entry.id is not None:
            plan = self._patients.plan_update(
                request, entry.id, draft, if_match=entry.if_match, beside=work.registrations
            )
        else:
            identifier = single_identifier(parse_qsl(entry.query))
            plan = self._patients.plan(
                request, draft, identifier=identifier, if_match=entry.if_match, beside=work.registrations
            )
        work.registered.update(dict.fromkeys(draft.traits.identifiers, plan.registered.patient))
        return plan

    def _told(self, work: _Work, entry: TransactionEntry) -> FhirPatientDraft:
        url, validated = entry.full_url or "", work.along.validated
        if url not in validated:
            return self._patient(work.request, entry.resource)
        return ValidatedPatientDraft(entry.resource, self._scheme, validated[url], base_url=work.request.base_url)

    def _patient(self, request: Request, resource: Mapping[str, Any]) -> FhirPatientDraft:
        return FhirPatientDraft(resource, self._scheme, base_url=request.base_url)

    # --- then what every entry is about ---------------------------------------------------------------------------

    def _find_targets(self, work: _Work, entries: Sequence[TransactionEntry]) -> None:
        """Entries whose record another entry decides (a Provenance of a new Observation) wait for that one."""
        contents = contents_of(entries)
        placed = {entry.path for entry in contents.values()}
        others = [entry for entry in entries if entry.path not in placed]
        for entry in others:
            if entry.method == "DELETE":
                self._find_target(work, entry)
                work.deleted.add(work.targets[entry.path].key)
        waiting = [entry for entry in others if entry.method != "DELETE"]
        while waiting:
            unsettled = {name for entry in waiting for name in _names_of(entry)}
            ready = [entry for entry in waiting if unsettled.isdisjoint(_awaited(entry))] or waiting
            self._look(work, ready)  # in a circle, the first fault says it
            for entry in ready:
                self._find_target(work, entry)
            waiting = [entry for entry in waiting if entry.path not in work.targets]
        placed_at: set[str] = set()
        for document in new_documents(others):
            url = attachment_of(document).get("url")
            if url is not None and url in placed_at:
                # What one says of its content would lead to that of the other, whoever may see which.
                place = f"{document.path}.resource.content[0].attachment.url"
                raise Unprocessable("two documents have the same content", code="invariant", expression=place)
            placed_at.add(str(url))
            content = contents.get(str(url))
            with _at(content or document):
                self._place_content(work, document, content)

    def _look(self, work: _Work, entries: Sequence[TransactionEntry]) -> None:
        """Look up the conditions of entries that may be new, all at once."""
        asked: dict[str, Asked] = {}
        for entry in entries:
            if entry.method in ("POST", "PUT") and _criteria_of(entry) and entry.path not in work.found:
                with _at(entry):
                    _, owner = self._draft(work, entry)
                    condition = self._condition(work, entry, _criteria_of(entry))
                    asked[entry.path] = self._records.ask(work.request, condition, owner[1] if owner else None)
        if not asked:
            return
        begun = [plan.registered.patient for plan in work.registrations if plan.registered.is_new]
        with _at(next(entry for entry in entries if entry.path in asked)):
            found = self._records.look(work.request, list(asked.values()), deleted=work.deleted, begun=begun)
        work.looked |= zip(asked, found, strict=True)

    def _draft(self, work: _Work, entry: TransactionEntry) -> tuple[ResourceDraft, tuple[str, Person] | None]:
        """A resource as it would be stored, and whose it is."""
        draft = ResourceDraft(entry.resource, work.request.base_url).resolved(work.references)
        return draft, None if draft.is_shared else self._owner(work, draft)

    def _find_target(self, work: _Work, entry: TransactionEntry) -> None:
        with _at(entry):
            target = self._target(work, entry)
            if target.person is not None and target.key.patient is not None:
                work.people[target.key.patient] = target.person
            work.targets[entry.path] = target
            if entry.full_url:
                work.references[entry.full_url] = target.key.reference
            is_found = entry.method == "POST" and target.current is not None
            if entry.method in ("POST", "PUT") and not is_found:
                work.drafts[target.key] = ResourceDraft(entry.resource, work.request.base_url)

    def _target(self, work: _Work, entry: TransactionEntry) -> Target:
        if entry.path in work.found:
            return self._found_again(work, entry)
        if entry.type == DOCUMENT and entry.method == "PATCH":
            return self._patched_document(work, entry)
        request = work.request
        if entry.method in ("PATCH", "DELETE"):
            if not entry.query:
                return self._records.existing(request, entry.type, str(entry.id))
            return self._records.matching(request, entry.type, self._condition(work, entry, entry.query))
        draft, owner = self._draft(work, entry)
        if entry.id is not None:
            return self._records.named(request, draft, entry.id, owner=owner)
        return self._records.new(request, draft, owner=owner, looked=work.looked.get(entry.path))

    def _found_again(self, work: _Work, entry: TransactionEntry) -> Target:
        """What an entry of a submission that is sent again made the first time, for the same person."""
        target = work.found[entry.path]
        if entry.method == "POST":
            draft = ResourceDraft(entry.resource, work.request.base_url).resolved(work.references)
            _, person = self._owner(work, draft)
            if target.person is None or target.person.key != person.key:
                raise Conflict("the identifier belongs to another resource", code="duplicate")
        return target

    def _patched_document(self, work: _Work, entry: TransactionEntry) -> Target:
        """Named by id, or by its identifier alone; a PATCH of nothing that exists refuses the transaction (DMP-9)."""
        try:
            if entry.id is not None:
                return self._records.existing(work.request, entry.type, entry.id)
            pairs = parse_qsl(entry.query)
            if [name for name, _ in pairs] == ["identifier"]:
                return self._relations.named(work.request, single_identifier(pairs))
            return self._records.matching(work.request, entry.type, self._condition(work, entry, entry.query))
        except NotFound:
            place = f"{entry.path}.request.url"
            raise Unprocessable("the document is not known", code="not-found", expression=place) from None

    def _owner(self, work: _Work, draft: ResourceDraft) -> tuple[str, Person]:
        subject = draft.subject
        key = None if subject is None else subject.key or work.registered.get(subject.identifier or ("", ""))
        if subject is not None and subject.resource is not None:
            for target in work.targets.values():  # a new resource under an id that the client chose
                if subject.resource == (target.key.type, target.key.id):
                    key = target.key.patient
        if key in work.people:
            if draft.type != "Provenance":  # which may be of the registration alone
                # To know somebody, as who registers them does, opens no record.
                self._records.check_owner(work.request, work.people[key], expression=draft.subject_path)
            return key, work.people[key]
        return self._looked_up(work, subject, expression=draft.subject_path)

    def _looked_up(self, work: _Work, subject: Subject | None, *, expression: str) -> tuple[str, Person]:
        if subject not in work.owners:
            work.owners[subject] = self._records.owner_for(work.request, subject, expression=expression)
        return work.owners[subject]

    def _condition(self, work: _Work, entry: TransactionEntry, criteria: str) -> ParsedQuery:
        parsed = self._criteria(work, entry.type, criteria)
        work.conditions[entry.path] = parsed
        return parsed

    def _criteria(self, work: _Work, kind: str, criteria: str) -> ParsedQuery:
        pairs = parse_qsl(criteria, keep_blank_values=True)
        named = [(name, work.references.get(value, value)) for name, value in pairs]
        parsed = parse_query(kind, named, strict=True, base_url=work.request.base_url)
        if not parsed.query.criteria:
            raise Invalid("a condition has a search parameter", code="required", expression="http")
        return parsed

    def _place_content(self, work: _Work, document: TransactionEntry, entry: TransactionEntry | None) -> None:
        """The bytes of a submitted document: read under the id of its DocumentReference (ITI-68), and never changed."""
        url = attachment_of(document).get("url")
        upload = work.uploads.get(document.path)
        target = work.targets[document.path]
        is_new = target.current is None
        if entry is None and upload is None and not declared_by(document).is_delayed:
            if is_new and url is not None:
                # Readers follow it as it stands: to content of this exchange, and nowhere else.
                place = f"{document.path}.resource.content[0].attachment.url"
                raise Unprocessable("the content is not in the transaction", code="not-found", expression=place)
            return
        key = ResourceKey(type="Binary", id=target.key.id, patient=target.key.patient)
        if entry is not None:
            self._settle(work, entry, key, 1, is_new=is_new, at=work.request.at if is_new else None)
        # Absolute, because clients follow attachment.url as it stands (ITI-67, contract 67-5).
        work.references[str(url)] = f"{work.request.base_url}/{key.reference}"
        if is_new and attachment_of(document).get("contentType") is not None:
            content = content_of(document, entry, key.id) if upload is None else adoption_of(document, upload, key.id)
            if content is not None:
                until = self._documents.retained_until(classes_of(document.resource), work.request.at)
                work.contents.append(replace(content, retain_until=until))
                self._inspect(work, document, content, upload)

    def _inspect(
        self, work: _Work, document: TransactionEntry, content: Content | Adoption, upload: Upload | None
    ) -> None:
        """The content is what its metadata say, about whom they say; what follows from it is made beside it."""
        from passerelle.fhir.inspection import check_patient, derived, inspected  # few requests bring contents

        inspection = inspected(document, content, upload)
        target = work.targets[document.path]
        if target.person is not None:
            check_patient(document, inspection, target.person)
        for entry in derived(document, target.key.reference, inspection, work.request.at):
            self._find_target(work, entry)
            work.derived.append(entry)

    def _settle(
        self,
        work: _Work,
        entry: TransactionEntry,
        key: ResourceKey,
        version: int,
        *,
        is_new: bool,
        at: datetime | None,
    ) -> None:
        response = EntryResponse(
            status="201 Created" if is_new else "200 OK",
            location=None if entry.method == "DELETE" else f"{key.reference}/_history/{version}",
            etag=f'W/"{version}"',
            last_modified=instant(at) if at else None,
        )
        work.results[entry.path] = _told(response, key, version, work.warnings.get(entry.path, ()))
        if entry.full_url:
            work.references[entry.full_url] = key.reference

    # --- then the versions ----------------------------------------------------------------------------------------

    def _plan(self, work: _Work, entry: TransactionEntry, *, is_managed: bool = False) -> None:
        target = work.targets[entry.path]
        plan = self._planned(work, entry, target)
        written = plan.written
        self._records.check_mentioned(work.request, plan, beside=_beside(work, entry))
        if plan.version is not None:
            _note(work, (written.type, written.id), entry)
        for guard in plan.guards:
            for condition in guard.of or (guard.name,):
                _note(work, ("guard", condition), entry)
        known = {each.name for each in work.changes if isinstance(each, Guard)}  # as it was read first
        changes = [each for each in plan.changes if not (isinstance(each, Guard) and each.name in known)]
        work.changes += _managed(changes) if is_managed else changes
        if entry.type == DOCUMENT and target.current is None and target.key.patient is not None:
            self._publish(work, entry, target)
        self._settle(work, entry, written.key, written.version, is_new=written.is_new, at=written.at)
        work.results[entry.path] = replace(work.results[entry.path], made=plan.version, person=target.person)

    def _planned(self, work: _Work, entry: TransactionEntry, target: Target) -> Plan:
        request = work.request
        if entry.path in work.found:
            return self._records.plan_create(request, ResourceDraft(entry.resource, request.base_url), target)
        if entry.method == "DELETE":
            return self._records.plan_delete(request, target, if_match=entry.if_match)
        if entry.method == "PATCH":
            return self._records.plan_patch(
                request, target, lambda current: self._revised(work, entry, current, target), if_match=entry.if_match
            )
        draft = self._with_references(work, entry.resource, target)
        if entry.method == "POST":
            return self._records.plan_create(request, draft, target)
        return self._records.plan_update(request, draft, target, if_match=entry.if_match)

    def _with_references(self, work: _Work, resource: Mapping[str, Any], target: Target) -> ResourceDraft:
        draft = ResourceDraft(resource, work.request.base_url)
        found = {text: self._found(work, text, target.person) for text in draft.conditional_references}
        return draft.resolved({**work.references, **found})

    def _revised(self, work: _Work, entry: TransactionEntry, current: StoredVersion, target: Target) -> ResourceDraft:
        stored = current.body or b""
        patched = self._patched(work, entry, stored)
        if entry.type == DOCUMENT and not is_supersession(fhir_json.loads(stored), patched):
            raise Unprocessable("a document is superseded here, and not changed", expression=f"{entry.path}.resource")
        return self._with_references(work, patched, target)

    def _patched(self, work: _Work, entry: TransactionEntry, stored: bytes) -> dict[str, Any]:
        """A patch: FHIRPath Patch as Parameters, JSON Patch as a Binary that holds it (R4 3.1.0.11.1)."""
        from passerelle.fhir.patch import revised

        patch: Any = entry.resource
        media_type = "application/fhir+json"
        if patch.get("resourceType") == "Binary":
            media_type = str(patch.get("contentType"))
            try:
                patch = fhir_json.loads(base64.b64decode(patch.get("data", ""), validate=True))
            except (TypeError, ValueError):  # of which binascii.Error is one
                raise Invalid("data must be base64", expression=f"{entry.path}.resource.data") from None
        changed = revised(fhir_json.loads(stored), patch, media_type)
        validate(changed, expected_type=entry.type, path=f"{entry.path}.resource")
        return changed

    # --- conditional references, resolved once everything else is (R4 3.1.0.11.2, step 5) -------------------------

    def _found(self, work: _Work, text: str, person: Person | None) -> str:
        """What a conditional reference means: shared, or in the same record; as it is where it is none."""
        name = (text, person.key if person else None)
        if name not in work.meant:
            condition = _CONDITIONAL.fullmatch(text.removeprefix(f"{work.request.base_url}/"))
            if condition is None:
                work.meant[name] = text
            elif condition["type"] == "Patient":
                work.meant[name] = self._found_patient(work, condition["criteria"])
            else:
                work.meant[name] = self._found_resource(work, condition["type"], condition["criteria"], person)
        return work.meant[name]

    def _found_patient(self, work: _Work, criteria: str) -> str:
        identifier = single_identifier(parse_qsl(criteria))
        key = work.registered.get(identifier)
        if key is None:
            key, _ = self._looked_up(work, Subject(identifier=identifier), expression="http")
        return f"Patient/{key}"

    def _found_resource(self, work: _Work, kind: str, criteria: str, person: Person | None) -> str:
        condition = self._criteria(work, kind, criteria)
        stored = self._records.found(work.request, condition, person)
        keys = {key for key in stored if key not in work.deleted and key not in work.drafts}
        for key, draft in work.drafts.items():
            if key.type == kind and _is_within(key, condition, person):
                entry = draft.resolved(work.references).entry(key.id, 1, work.request.at)
                if matches(entry, condition.query):
                    keys.add(key)
        if len(keys) != 1:
            code = "multiple-matches" if keys else "not-found"
            raise Unprocessable("a conditional reference has no single match", code=code)
        return keys.pop().reference

    def _check_publication(self, work: _Work, person: Person, entry: TransactionEntry) -> None:
        is_national = work.request.caller.scopes.feed_national_record
        self._documents.check_publication(person, is_national=is_national, path=f"{entry.path}.resource.subject")

    def _publish(self, work: _Work, entry: TransactionEntry, target: Target) -> None:
        """What a new document has to meet, and the claim of its identifier."""
        check_document_metadata(entry)
        self._check_publication(work, work.people[str(target.key.patient)], entry)
        master = entry.resource["masterIdentifier"]
        token = identifier_token(self._blinder, master.get("system", ""), master.get("value", ""))
        if token in work.claimed:
            raise Unprocessable("two documents have the same identifier", expression=f"{entry.type}.masterIdentifier")
        work.claimed.add(token)
        work.changes.append(IdentifierClaim(token=token, type=DOCUMENT, id=target.key.id))
        carried = {identifier_token(self._blinder, system, value) for system, value in identifiers_of(entry.resource)}
        work.changes += [
            IdentifierUse(token=each, type=DOCUMENT, id=target.key.id) for each in sorted(carried - {token})
        ]
        if entry.path in work.uploads:
            work.changes.append(work.uploads[entry.path].use)

    def _check_conditions(self, work: _Work) -> None:
        """No condition of an entry may be met by what another makes: it would depend on which came first."""
        made = [change for change in work.changes if isinstance(change, RecordVersion) and change.entry is not None]
        for path, condition in work.conditions.items():
            target = work.targets[path]
            for change in made:
                if change.key == target.key or change.key.type != target.key.type or change.entry is None:
                    continue
                if _is_within(change.key, condition, target.person) and matches(change.entry, condition.query):
                    raise _twice(path)

    def _commit(self, work: _Work) -> None:
        request = work.request
        versions = [
            change for change in work.changes if isinstance(change, RecordVersion) and change.key.type != "Patient"
        ]
        done = list(work.results.values())
        touched = Touched.of(
            work.people,
            [each.key.reference for each in done if each.key is not None],
            [(f"Binary/{each.id}", each.sha256) for each in work.contents],
        )
        identities = [Announcement(id=new_ulid(request.at), events=(event,)) for event in work.events]
        # What comes along is first: of several conditions that are lost, its own says most.
        changes = [*work.along.changes(work.results), *work.changes, *_holding(work, versions)]
        self._journal.commit(
            [
                *with_policies(request, changes, work.people, self._effects(changes)),
                *identities,
                *self._records.following(request, versions),
                *announced(request, versions),
                *account_of(request, touched, {"entries": {path: _kept(each) for path, each in work.results.items()}}),
            ]
        )


@contextmanager
def _at(entry: TransactionEntry) -> Iterator[None]:
    """Refusals in it tell which entry is refused: `Observation.subject` is where the bundle has it."""
    try:
        yield
    except PasserelleError as refusal:
        refusal.issues = tuple(
            replace(issue, expression=_placed(entry, issue.expression or "")) for issue in refusal.issues
        )
        raise


def _placed(entry: TransactionEntry, expression: str) -> str:
    if expression.startswith("Bundle.entry"):
        return expression
    kind, dot, rest = expression.partition(".")
    if dot and kind in (entry.type, entry.resource.get("resourceType")):
        return f"{entry.path}.resource.{rest}"
    return entry.path


def _holding(work: _Work, versions: Sequence[RecordVersion]) -> list[PersonHolds]:
    """Documents are published while the record is open: whoever closes it comes before, or after (DMP-7)."""
    changed = {patient for each in work.changes if isinstance(each, PersonChange) for patient in each.after.members}
    published = {
        each.key.patient for each in versions if each.key.type == DOCUMENT and each.version == 1 and each.key.patient
    }
    return [PersonHolds(patient=each, person=work.people[each]) for each in sorted(published - changed)]


def _managed(changes: Sequence[Change]) -> list[Change]:
    """What the exchange says of a document is changed by nobody."""
    return [replace(each, is_managed=True) if isinstance(each, RecordVersion) else each for each in changes]


def _note(work: _Work, name: tuple[str, str], entry: TransactionEntry) -> None:
    """No resource twice, under whichever names, and no two conditions on the same identifier."""
    if name in work.places:
        raise _twice(entry.path)
    work.places[name] = entry.path


def _beside(work: _Work, entry: TransactionEntry) -> set[str]:
    """The ids that an entry may speak of unasked: of this transaction, or looked up with its relations."""
    relations = entry.resource.get("relatesTo", ()) if entry.type == DOCUMENT else ()
    related = (str(each["target"].get("reference")).rpartition("/")[2] for each in relations)
    return {target.key.id for target in work.targets.values()}.union(related)


def _twice(path: str) -> Invalid:
    return Invalid("two entries are about the same resource", code="invalid", expression=path)


def _is_within(key: ResourceKey, condition: ParsedQuery, person: Person | None) -> bool:
    """Whether a condition that is asked in the record of `person` may be about this resource."""
    if condition.is_shared or key.patient is None:
        return condition.is_shared and key.patient is None
    return person is not None and (key.patient in person.members)


def _awaited(entry: TransactionEntry) -> set[str | None]:
    """What has to be known before the target of an entry is: whose it is, and what its condition names."""
    return {_subject_text(entry), *(value for _, value in parse_qsl(_criteria_of(entry)))}


def _criteria_of(entry: TransactionEntry) -> str:
    """The condition of an entry that may make something new."""
    return {"POST": entry.if_none_exist, "PUT": entry.query}.get(entry.method) or ""


def _subject_text(entry: TransactionEntry) -> str | None:
    """The literal reference to whose record it belongs to, whatever it means."""
    subject = None if entry.method == "PATCH" else subject_of(entry.resource)
    return None if subject is None else subject.get("reference")


def _names_of(entry: TransactionEntry) -> set[str]:
    """How other entries may refer to what this one is about."""
    named = {f"{entry.type}/{entry.id}"} if entry.id else set()
    return named | ({entry.full_url} if entry.full_url else set())


def _with_neighbours(entries: Sequence[TransactionEntry]) -> list[TransactionEntry]:
    """The entries with references to each other by full URL: beside a RESTful one, relative references mean that."""
    urls = {entry.full_url: entry.full_url for entry in entries if entry.full_url}
    return [
        replace(entry, resource=resolve_references(entry.resource, urls, full_url=entry.full_url))
        if entry.full_url and entry.full_url.startswith("http")
        else entry
        for entry in entries
    ]


def _told(response: EntryResponse, key: ResourceKey | None, version: int, warnings: Sequence[Issue]) -> Done:
    if warnings:
        response = replace(response, outcome=outcome(*warnings, severity="warning"))
    return Done(response=response, key=key, version=version, warnings=tuple(warnings))


def _kept(done: Done) -> dict[str, Any]:
    """What tells the answer again, short: a kept answer has room for three hundred documents."""
    response, key = done.response, done.key
    kept = {
        "key": [key.type, key.id, key.patient] if key is not None else None,
        "version": done.version,
        "status": response.status,
        "located": response.location is not None,
        "last_modified": response.last_modified,
        "warnings": [[each.code, each.diagnostics, each.expression] for each in done.warnings],
    }
    return {name: value for name, value in kept.items() if value}


def _restored(kept: Mapping[str, Any]) -> dict[str, Done]:
    return {path: _again(each) for path, each in kept["entries"].items()}


def _again(kept: Mapping[str, Any]) -> Done:
    key, version = None, kept.get("version", 0)
    if "key" in kept:
        kind, id, patient = kept["key"]
        key = ResourceKey(type=kind, id=id, patient=patient)
    response = EntryResponse(
        status=kept["status"],
        location=f"{key.reference}/_history/{version}" if key is not None and "located" in kept else None,
        etag=f'W/"{version}"' if key is not None else None,
        last_modified=kept.get("last_modified"),
    )
    warnings = [
        Issue(code=code, diagnostics=text, expression=expression) for code, text, expression in kept.get("warnings", ())
    ]
    return replace(_told(response, key, version, warnings), is_repeated=True)
