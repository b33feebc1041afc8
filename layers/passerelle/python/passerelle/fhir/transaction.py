"""FHIR transactions, document submissions (ITI-65) among them: from a Bundle to one commit (R4 section 3.1.0.11).

Everything is checked before anything is stored; then the contents go to the vault, where nobody finds them yet, and one
commit makes all changes together, however many they are. The order of the entries means nothing. People are registered
first, because everything else belongs to them; then every entry gets its target, deletions before all others, so that
references between entries can be replaced; then versions are made, and conditional references see them.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from passerelle.access import Interaction, Permission, Request, Touched, insufficient_scope
from passerelle.audit.commands import account_of, once
from passerelle.documents.model import Content
from passerelle.documents.service import DocumentService
from passerelle.errors import Invalid, PasserelleError, Stale, Unprocessable, Unsupported
from passerelle.events import Event
from passerelle.fhir import json as fhir_json
from passerelle.fhir.bundles import EntryResponse, TransactionEntry, resolve_references
from passerelle.fhir.demographics import single_identifier
from passerelle.fhir.index import RECORD_TYPES, subject_of
from passerelle.fhir.mhd import Level, check_document_metadata, check_submission, verified_content
from passerelle.fhir.patient import FhirPatientDraft
from passerelle.fhir.resource import ResourceDraft, instant
from passerelle.fhir.search import ParsedQuery, parse_query
from passerelle.fhir.validation import validate
from passerelle.identifiers import Blinder, new_ulid
from passerelle.journal import Announcement, Change, Journal
from passerelle.patients.identity import IdentityScheme
from passerelle.patients.model import Person, PersonChange
from passerelle.patients.registration import Plan as Registration
from passerelle.patients.service import PatientService
from passerelle.records.model import IdentifierClaim, RecordVersion, ResourceKey, Subject
from passerelle.records.search import matches
from passerelle.records.service import Plan, RecordService, Target, announced

_RACES = 8  # attempts of a transaction that others overtake
_SUBMITTED_TYPES = frozenset({"List", "DocumentReference", "Binary"})
_RIGHTS: Mapping[str, Interaction] = {"POST": "c", "PUT": "u", "PATCH": "u", "DELETE": "d", "GET": "r"}
_CONDITIONAL: Final = re.compile(r"(?P<type>[A-Z][A-Za-z]+)\?(?P<criteria>.+)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The answer to one entry, and the version that it tells of."""

    response: EntryResponse
    key: ResourceKey
    version: int


@dataclass(slots=True)
class _Work:
    """A transaction as it takes shape.

    `references` maps the full URLs of entries to what they become; targets, conditions and results are by the path of
    the entry, people by patient key.
    """

    request: Request
    references: dict[str, str] = field(default_factory=dict)
    people: dict[str, Person] = field(default_factory=dict)
    registrations: list[Registration] = field(default_factory=list)
    registered: dict[tuple[str, str], str] = field(default_factory=dict)  # business identifier -> patient key
    targets: dict[str, Target] = field(default_factory=dict)
    conditions: dict[str, ParsedQuery] = field(default_factory=dict)
    deleted: set[ResourceKey] = field(default_factory=set)
    drafts: dict[ResourceKey, ResourceDraft] = field(default_factory=dict)  # of what is created or replaced
    found: dict[tuple[str, str | None], str] = field(default_factory=dict)  # conditional references, by person
    results: dict[str, Done] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    places: dict[tuple[str, str], str] = field(default_factory=dict)  # what is changed -> path of the entry
    events: list[Event] = field(default_factory=list)
    contents: list[Content] = field(default_factory=list)


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
    ) -> None:
        self._records = records
        self._patients = patients
        self._documents = documents
        self._journal = journal
        self._blinder = blinder
        self._scheme = scheme

    def execute(self, request: Request, entries: Sequence[TransactionEntry], level: Level | None) -> dict[str, Done]:
        """Make every change of a transaction, or none; the answers by path of the entry.

        Reads among the entries are not for this service. Raises the error of the first entry that is refused, with its
        path.
        """
        meant = _with_neighbours(entries)
        return once(self._journal, request, lambda: self._attempted(request, meant, level), _restored)

    def bodies(self, done: Sequence[Done]) -> dict[ResourceKey, bytes]:
        """The versions that a transaction just made or found, as stored; nothing for a deletion."""
        return self._records.bodies([(each.key, each.version) for each in done])

    def _attempted(self, request: Request, entries: Sequence[TransactionEntry], level: Level | None) -> dict[str, Done]:
        """Work the transaction out again when others came first: no entry has to name a version."""
        for _ in range(_RACES - 1):
            try:
                return self._execute(request, entries, level)
            except Stale as overtaken:
                if overtaken.issues[0].code == "multiple-matches":
                    raise
        return self._execute(request, entries, level)

    def _execute(self, request: Request, entries: Sequence[TransactionEntry], level: Level | None) -> dict[str, Done]:
        self._authorise(request, entries, level)
        for entry in entries:
            if entry.method in ("POST", "PUT"):
                validate(entry.resource, path=f"{entry.path}.resource")
        if level is not None:
            check_submission(entries, level)
        work = _Work(request)
        self._register_people(work, [entry for entry in entries if entry.type == "Patient"])
        self._find_targets(work, [entry for entry in entries if entry.type != "Patient"])
        if level is not None and len({person.key for person in work.people.values()}) > 1:
            raise Unprocessable("a submission is about one patient", expression="Bundle.entry")
        for entry in entries:
            if entry.path in work.targets:
                with _at(entry):
                    self._plan(work, entry)
        self._check_conditions(work)
        self._documents.keep(work.contents)
        self._commit(work)
        return {entry.path: work.results[entry.path] for entry in entries}

    def _authorise(self, request: Request, entries: Sequence[TransactionEntry], level: Level | None) -> None:
        scopes = request.caller.scopes
        for entry in entries:
            kind = entry.type
            of = ("ITI-104",) if kind == "Patient" else ("ITI-65",) if level and kind in _SUBMITTED_TYPES else ()
            if kind == "Patient" and (entry.method == "DELETE" or (entry.method == "PATCH" and entry.id is None)):
                raise Unsupported("source records are not changed this way", expression=f"{entry.path}.request")
            if kind == "DocumentReference" and entry.method != "POST":
                raise Unsupported("documents change by rules of their own", expression=f"{entry.path}.request")
            if kind not in RECORD_TYPES:
                raise Unprocessable(
                    "this resource type is not kept", code="not-supported", expression=f"{entry.path}.resource"
                )
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
        draft = self._patient(request, entry.resource)
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

    def _patient(self, request: Request, resource: Mapping[str, Any]) -> FhirPatientDraft:
        return FhirPatientDraft(resource, self._scheme, base_url=request.base_url)

    # --- then what every entry is about ---------------------------------------------------------------------------

    def _find_targets(self, work: _Work, entries: Sequence[TransactionEntry]) -> None:
        """Entries whose record another entry decides (a Provenance of a new Observation) wait for that one."""
        documents = {
            url: entry for entry in entries if entry.type == "DocumentReference" and (url := _content_url(entry))
        }
        contents = [entry for entry in entries if entry.type == "Binary" and entry.full_url in documents]
        placed = {entry.path for entry in contents}
        others = [entry for entry in entries if entry.path not in placed]
        for entry in others:
            if entry.method == "DELETE":
                self._find_target(work, entry)
                work.deleted.add(work.targets[entry.path].key)
        waiting = [entry for entry in others if entry.method != "DELETE"]
        while waiting:
            unsettled = {name for entry in waiting for name in _names_of(entry)}
            ready = [entry for entry in waiting if _subject_text(entry) not in unsettled]
            for entry in ready or waiting:  # in a circle, the first fault says it
                self._find_target(work, entry)
            waiting = [entry for entry in waiting if entry.path not in work.targets]
        for entry in contents:
            with _at(entry):
                self._place_content(work, documents[str(entry.full_url)], entry)

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
        request = work.request
        criteria = entry.if_none_exist if entry.method == "POST" else entry.query
        condition = self._condition(work, entry, criteria) if criteria else None
        if entry.method in ("PATCH", "DELETE"):
            if condition is None:
                return self._records.existing(request, entry.type, str(entry.id))
            return self._records.matching(request, entry.type, condition)
        draft = ResourceDraft(entry.resource, request.base_url).resolved(work.references)
        owner = None if draft.is_shared else self._owner(work, draft)
        if entry.id is not None:
            return self._records.named(request, draft, entry.id, owner=owner)
        return self._records.new(request, draft, condition, owner=owner, deleted=work.deleted)

    def _owner(self, work: _Work, draft: ResourceDraft) -> tuple[str, Person]:
        subject = draft.subject
        key = None if subject is None else subject.key or work.registered.get(subject.identifier or ("", ""))
        for target in work.targets.values():  # a new resource under an id that the client chose
            if subject is not None and subject.resource == (target.key.type, target.key.id):
                key = target.key.patient
        if key in work.people:
            return key, work.people[key]
        return self._records.owner_for(work.request, subject, expression=f"{draft.type}.subject")

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

    def _place_content(self, work: _Work, document: TransactionEntry, entry: TransactionEntry) -> None:
        """The bytes of a submitted document: read under the id of its DocumentReference (ITI-68), and never changed."""
        target = work.targets[document.path]
        is_new = target.current is None
        key = ResourceKey(type="Binary", id=target.key.id, patient=target.key.patient)
        self._settle(work, entry, key, 1, is_new=is_new, at=work.request.at if is_new else None)
        # Absolute, because clients follow attachment.url as it stands (ITI-67, contract 67-5).
        work.references[str(entry.full_url)] = f"{work.request.base_url}/{key.reference}"
        if is_new and document.resource["content"][0]["attachment"].get("contentType") is not None:
            work.contents.append(verified_content(document, entry, key.id))

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
        work.results[entry.path] = Done(response=response, key=key, version=version)
        if entry.full_url:
            work.references[entry.full_url] = key.reference

    # --- then the versions ----------------------------------------------------------------------------------------

    def _plan(self, work: _Work, entry: TransactionEntry) -> None:
        target = work.targets[entry.path]
        plan = self._planned(work, entry, target)
        written = plan.written
        if plan.version is not None:
            _note(work, (written.type, written.id), entry)
        for guard in plan.guards:
            _note(work, ("guard", guard.name), entry)
        work.changes += plan.changes
        if entry.type == "DocumentReference" and target.current is None and target.key.patient is not None:
            self._publish(work, entry, target)
        self._settle(work, entry, written.key, written.version, is_new=written.is_new, at=written.at)

    def _planned(self, work: _Work, entry: TransactionEntry, target: Target) -> Plan:
        request = work.request
        if entry.method == "DELETE":
            return self._records.plan_delete(request, target, if_match=entry.if_match)
        if entry.method == "PATCH":
            return self._records.plan_patch(
                request, target, lambda stored: self._revised(work, entry, stored, target), if_match=entry.if_match
            )
        draft = self._with_references(work, entry.resource, target)
        if entry.method == "POST":
            return self._records.plan_create(request, draft, target)
        return self._records.plan_update(request, draft, target, if_match=entry.if_match)

    def _with_references(self, work: _Work, resource: Mapping[str, Any], target: Target) -> ResourceDraft:
        draft = ResourceDraft(resource, work.request.base_url)
        found = {text: self._found(work, text, target.person) for text in draft.conditional_references}
        return draft.resolved({**work.references, **found})

    def _revised(self, work: _Work, entry: TransactionEntry, stored: bytes, target: Target) -> ResourceDraft:
        return self._with_references(work, self._patched(work, entry, stored), target)

    def _patched(self, work: _Work, entry: TransactionEntry, stored: bytes) -> dict[str, Any]:
        """A patch: FHIRPath Patch as Parameters, JSON Patch as a Binary that holds it (R4 3.1.0.11.1)."""
        from passerelle.fhir.patch import revised

        patch: Any = entry.resource
        media_type = "application/fhir+json"
        if patch.get("resourceType") == "Binary":
            media_type = str(patch.get("contentType"))
            try:
                patch = fhir_json.loads(base64.b64decode(patch.get("data", ""), validate=True))
            except (binascii.Error, TypeError):
                raise Invalid("data must be base64", expression=f"{entry.path}.resource.data") from None
        changed = revised(fhir_json.loads(stored), patch, media_type)
        validate(changed, expected_type=entry.type, path=f"{entry.path}.resource")
        return changed

    # --- conditional references, resolved once everything else is (R4 3.1.0.11.2, step 5) -------------------------

    def _found(self, work: _Work, text: str, person: Person | None) -> str:
        """What a conditional reference means: shared, or in the same record; as it is where it is none."""
        name = (text, person.key if person else None)
        if name not in work.found:
            condition = _CONDITIONAL.fullmatch(text.removeprefix(f"{work.request.base_url}/"))
            if condition is None:
                work.found[name] = text
            elif condition["type"] == "Patient":
                work.found[name] = self._found_patient(work, condition["criteria"])
            else:
                work.found[name] = self._found_resource(work, condition["type"], condition["criteria"], person)
        return work.found[name]

    def _found_patient(self, work: _Work, criteria: str) -> str:
        identifier = single_identifier(parse_qsl(criteria))
        key = work.registered.get(identifier)
        if key is None:
            subject = Subject(identifier=identifier)
            key, _ = self._records.owner_for(work.request, subject, expression="http")
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

    def _publish(self, work: _Work, entry: TransactionEntry, target: Target) -> None:
        """What a new document has to meet, and the claim of its identifier."""
        check_document_metadata(entry)
        self._documents.check_publication(
            work.people[str(target.key.patient)],
            is_national=work.request.caller.scopes.feed_national_record,
            path=f"{entry.path}.resource.subject",
        )
        master = entry.resource["masterIdentifier"]
        text = f"{master.get('system', '')}|{master.get('value', '')}"
        token = self._blinder.blind("masterIdentifier", text)
        work.changes.append(IdentifierClaim(token=token, type="DocumentReference", id=target.key.id))

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
        touched = Touched.of(work.people, [each.key.reference for each in done])
        identities = [Announcement(id=new_ulid(request.at), events=(event,)) for event in work.events]
        self._journal.commit(
            [
                *work.changes,
                *identities,
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


def _note(work: _Work, name: tuple[str, str], entry: TransactionEntry) -> None:
    """No resource twice, under whichever names, and no two conditions on the same identifier."""
    if name in work.places:
        raise _twice(entry.path)
    work.places[name] = entry.path


def _twice(path: str) -> Invalid:
    return Invalid("two entries are about the same resource", code="invalid", expression=path)


def _is_within(key: ResourceKey, condition: ParsedQuery, person: Person | None) -> bool:
    """Whether a condition that is asked in the record of `person` may be about this resource."""
    if condition.is_shared or key.patient is None:
        return condition.is_shared and key.patient is None
    return person is not None and (key.patient in person.members)


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


def _content_url(entry: TransactionEntry) -> str | None:
    content = entry.resource.get("content", [{}])
    url = content[0].get("attachment", {}).get("url")
    return str(url) if url else None


def _kept(done: Done) -> dict[str, Any]:
    response = done.response
    return {
        "type": done.key.type,
        "id": done.key.id,
        "patient": done.key.patient,
        "version": done.version,
        "status": response.status,
        "location": response.location,
        "last_modified": response.last_modified,
    }


def _restored(kept: Mapping[str, Any]) -> dict[str, Done]:
    return {
        path: Done(
            response=EntryResponse(
                status=each["status"],
                location=each["location"],
                etag=f'W/"{each["version"]}"',
                last_modified=each["last_modified"],
            ),
            key=ResourceKey(type=each["type"], id=each["id"], patient=each["patient"]),
            version=each["version"],
        )
        for path, each in kept["entries"].items()
    }
