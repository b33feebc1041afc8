"""FHIR transactions, document submissions (ITI-65) among them: from a Bundle to one commit (R4 section 3.1.0.11).

Everything is checked before anything is stored; then the contents go to the vault, where nobody finds them yet, and one
commit makes all changes together, however many they are. People are registered first, because everything else belongs
to them; then every entry gets its target, so that references between entries can be replaced; then versions are made.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from passerelle.access import Interaction, Permission, Request, Touched, insufficient_scope
from passerelle.audit.commands import account_of, once
from passerelle.documents.model import Content
from passerelle.documents.service import DocumentService
from passerelle.errors import Invalid, Stale, Unprocessable, Unsupported
from passerelle.events import Event
from passerelle.fhir import json as fhir_json
from passerelle.fhir.bundles import EntryResponse, TransactionEntry
from passerelle.fhir.index import RECORD_TYPES
from passerelle.fhir.mhd import Level, check_document_metadata, check_submission, verified_content
from passerelle.fhir.patient import FhirPatientDraft, single_identifier
from passerelle.fhir.resource import ResourceDraft, instant
from passerelle.fhir.search import ParsedQuery, parse_query
from passerelle.fhir.validation import validate
from passerelle.identifiers import Blinder, new_ulid
from passerelle.journal import Announcement, Change, Journal
from passerelle.patients.identity import IdentityScheme
from passerelle.patients.model import Person
from passerelle.patients.service import PatientService
from passerelle.records.model import Guard, IdentifierClaim, RecordVersion
from passerelle.records.searching import RecordSearch
from passerelle.records.service import Plan, RecordService, Target, announced

_RACES = 3  # attempts of a transaction that others overtake
_SUBMITTED_TYPES = frozenset({"List", "DocumentReference", "Binary"})
_RIGHTS: Mapping[str, Interaction] = {"POST": "c", "PUT": "u", "PATCH": "u", "DELETE": "d", "GET": "r"}


@dataclass(slots=True)
class _Work:
    """A transaction as it takes shape: `references` maps full URLs to what they become, the rest is by entry path."""

    request: Request
    references: dict[str, str] = field(default_factory=dict)
    people: dict[str, Person] = field(default_factory=dict)  # by patient key
    targets: dict[str, Target] = field(default_factory=dict)
    results: dict[str, EntryResponse] = field(default_factory=dict)
    touched: list[str] = field(default_factory=list)  # references of every resource
    changes: list[Change] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    contents: list[Content] = field(default_factory=list)


class TransactionService:
    def __init__(
        self,
        *,
        records: RecordService,
        search: RecordSearch,
        patients: PatientService,
        documents: DocumentService,
        journal: Journal,
        blinder: Blinder,
        scheme: IdentityScheme,
    ) -> None:
        self._records = records
        self._search = search
        self._patients = patients
        self._documents = documents
        self._journal = journal
        self._blinder = blinder
        self._scheme = scheme

    def execute(
        self, request: Request, entries: Sequence[TransactionEntry], level: Level | None
    ) -> dict[str, EntryResponse]:
        """Make every change of a transaction, or none; the answers by path of the entry.

        Reads among the entries are not for this service. Raises an error with the path of the first faults.
        """
        return once(
            self._journal,
            request,
            lambda: self._attempted(request, entries, level),
            lambda kept: {path: EntryResponse(**each) for path, each in kept["entries"].items()},
        )

    def _attempted(
        self, request: Request, entries: Sequence[TransactionEntry], level: Level | None
    ) -> dict[str, EntryResponse]:
        """Work the transaction out again when others came first: no entry has to name a version."""
        for _ in range(_RACES - 1):
            try:
                return self._execute(request, entries, level)
            except Stale as overtaken:
                if overtaken.issues[0].code == "multiple-matches":
                    raise
        return self._execute(request, entries, level)

    def _execute(
        self, request: Request, entries: Sequence[TransactionEntry], level: Level | None
    ) -> dict[str, EntryResponse]:
        self._authorise(request, entries, level)
        for entry in entries:
            if entry.method in ("POST", "PUT"):
                validate(entry.resource, path=f"{entry.path}.resource")
        if level is not None:
            check_submission(entries, level)
        work = _Work(request)
        self._register_people(work, entries)
        self._find_targets(work, [entry for entry in entries if entry.path not in work.results])
        if level is not None and len({person.key for person in work.people.values()}) > 1:
            raise Unprocessable("a submission is about one patient", expression="Bundle.entry")
        for entry in entries:
            if entry.path in work.targets:
                self._plan(work, entry)
        self._check_once(work)
        self._documents.keep(work.contents)
        self._commit(work)
        return {entry.path: work.results[entry.path] for entry in entries}

    def _authorise(self, request: Request, entries: Sequence[TransactionEntry], level: Level | None) -> None:
        scopes = request.caller.scopes
        for entry in entries:
            kind = entry.type
            of = ("ITI-104",) if kind == "Patient" else ("ITI-65",) if level and kind in _SUBMITTED_TYPES else ()
            if kind == "Patient" and entry.method not in ("POST", "PUT"):
                raise Unsupported(
                    "this interaction is not offered in a transaction", expression=f"{entry.path}.request"
                )
            if kind not in RECORD_TYPES:
                raise Unprocessable(
                    "this resource type is not kept", code="not-supported", expression=f"{entry.path}.resource"
                )
            if not scopes.permits(Permission(resource=kind, interaction=_RIGHTS[entry.method], transactions=of)):
                raise insufficient_scope(expression=entry.path)

    # --- people first: the record that everything else belongs to -------------------------------------------------

    def _register_people(self, work: _Work, entries: Sequence[TransactionEntry]) -> None:
        seen: set[tuple[str, str]] = set()
        for entry in entries:
            if entry.type != "Patient":
                continue
            draft = FhirPatientDraft(entry.resource, self._scheme)
            if not seen.isdisjoint(draft.traits.identifiers):
                raise Unprocessable("two entries register the same person", expression=entry.path)
            seen.update(draft.traits.identifiers)
            identifier = single_identifier(parse_qsl(entry.query)) if entry.query else None
            if entry.method == "PUT" and identifier is None:
                raise Unsupported("people are registered by identifier", expression=f"{entry.path}.request")
            plan = self._patients.plan(work.request, draft, identifier=identifier)
            done = plan.registered
            work.people[done.patient] = plan.person
            work.changes += plan.changes
            work.events += plan.events
            self._settle(work, entry, f"Patient/{done.patient}", done.version, is_new=done.is_new)

    # --- then what every entry is about ---------------------------------------------------------------------------

    def _find_targets(self, work: _Work, entries: Sequence[TransactionEntry]) -> None:
        """Entries whose record another entry decides (a Provenance of a new Observation) wait for that one."""
        documents = {_content_url(entry): entry for entry in entries if entry.type == "DocumentReference"}
        contents = [entry for entry in entries if entry.type == "Binary" and entry.full_url in documents]
        waiting = [entry for entry in entries if entry not in contents]
        open_urls = {entry.full_url for entry in waiting}
        while waiting:
            ready = [entry for entry in waiting if self._names_settled(work, entry, open_urls)]
            for entry in ready or waiting:  # in a circle, the first fault says it
                self._find_target(work, entry)
                open_urls.discard(entry.full_url)
            waiting = [entry for entry in waiting if ready and entry not in ready]
        for entry in contents:
            self._place_content(work, documents[entry.full_url], entry)

    def _names_settled(self, work: _Work, entry: TransactionEntry, open_urls: set[str | None]) -> bool:
        if entry.method not in ("POST", "PUT"):
            return True
        named = ResourceDraft(entry.resource, work.request.base_url).resolved(work.references).subject_text
        return named is None or named not in open_urls

    def _find_target(self, work: _Work, entry: TransactionEntry) -> None:
        request = work.request
        if entry.method in ("PATCH", "DELETE"):
            if entry.id is not None:
                target = self._records.existing(request, entry.type, entry.id)
            else:
                target = self._records.matching(request, entry.type, self._condition(work, entry, entry.query))
        else:
            draft = ResourceDraft(entry.resource, request.base_url).resolved(work.references)
            owner = None if draft.is_shared else self._owner(work, entry, draft)
            criteria = entry.if_none_exist if entry.method == "POST" else entry.query
            if entry.id is not None:
                target = self._records.named(request, draft, entry.id, owner=owner)
            else:
                condition = self._condition(work, entry, criteria) if criteria else None
                target = self._records.new(request, draft, condition, owner=owner)
        if target.person is not None and target.key.patient is not None:
            work.people[target.key.patient] = target.person
        work.targets[entry.path] = target
        if entry.full_url:
            work.references[entry.full_url] = target.key.reference

    def _owner(self, work: _Work, entry: TransactionEntry, draft: ResourceDraft) -> tuple[str, Person]:
        subject = draft.subject
        if subject is not None and subject.key in work.people:
            return subject.key, work.people[subject.key]
        return self._records.owner_for(work.request, subject, expression=f"{entry.path}.resource.subject")

    def _condition(self, work: _Work, entry: TransactionEntry, criteria: str) -> ParsedQuery:
        pairs = parse_qsl(criteria, keep_blank_values=True)
        named = [(name, work.references.get(value, value)) for name, value in pairs]
        parsed = parse_query(entry.type, named, strict=True, base_url=work.request.base_url)
        if not parsed.query.criteria:
            raise Invalid("a condition has a search parameter", code="required", expression=f"{entry.path}.request")
        return parsed

    def _place_content(self, work: _Work, document: TransactionEntry, entry: TransactionEntry) -> None:
        """The bytes of a submitted document: read under the id of its DocumentReference (ITI-68)."""
        id = work.targets[document.path].key.id
        self._settle(work, entry, f"Binary/{id}", 1, is_new=True)
        # Absolute, because clients follow attachment.url as it stands (ITI-67, contract 67-5).
        work.references[str(entry.full_url)] = f"{work.request.base_url}/Binary/{id}"
        if document.resource["content"][0]["attachment"].get("contentType") is not None:
            work.contents.append(verified_content(document, entry, id))

    def _settle(self, work: _Work, entry: TransactionEntry, reference: str, version: int, *, is_new: bool) -> None:
        work.touched.append(reference)
        work.results[entry.path] = EntryResponse(
            status="201 Created" if is_new else "200 OK",
            location=f"{reference}/_history/{version}",
            etag=f'W/"{version}"',
            last_modified=instant(work.request.at) if is_new else None,
        )
        if entry.full_url:
            work.references[entry.full_url] = reference

    # --- then the versions ----------------------------------------------------------------------------------------

    def _plan(self, work: _Work, entry: TransactionEntry) -> None:
        target = work.targets[entry.path]
        plan = self._planned(work, entry, target)
        work.changes += plan.changes
        written = plan.written
        if entry.type == "DocumentReference" and target.current is None and target.key.patient is not None:
            self._publish(work, entry, target)
        self._settle(work, entry, written.reference, written.version, is_new=written.is_new)

    def _planned(self, work: _Work, entry: TransactionEntry, target: Target) -> Plan:
        request = work.request
        if entry.method == "DELETE":
            return self._records.plan_delete(request, target, if_match=entry.if_match)
        if entry.method == "PATCH":
            return self._records.plan_patch(
                request, target, lambda stored: self._revised(work, entry, stored), if_match=entry.if_match
            )
        draft = self._with_references(work, entry, entry.resource, target)
        if entry.method == "POST":
            return self._records.plan_create(request, draft, target)
        return self._records.plan_update(request, draft, target, if_match=entry.if_match)

    def _with_references(
        self, work: _Work, entry: TransactionEntry, resource: Mapping[str, Any], target: Target
    ) -> ResourceDraft:
        draft = ResourceDraft(resource, work.request.base_url)
        found = self._found(work, draft, entry, target.person)
        return draft.resolved({**work.references, **found}, subject=target.key.patient)

    def _revised(self, work: _Work, entry: TransactionEntry, stored: bytes) -> ResourceDraft:
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
        return ResourceDraft(changed, work.request.base_url).resolved(work.references)

    def _found(
        self, work: _Work, draft: ResourceDraft, entry: TransactionEntry, person: Person | None
    ) -> dict[str, str]:
        """Conditional references, resolved: to shared resources, and to those of the same record."""
        resolved = {}
        for reference in draft.conditional_references:
            kind, _, criteria = reference.partition("?")
            if kind == "Patient":
                continue  # the subject: resolved with the record it belongs to
            condition = parse_query(kind, parse_qsl(criteria), strict=True, base_url=work.request.base_url)
            hits = self._search.hits(condition.query, None if condition.is_shared else person)
            if len(hits) != 1:
                code = "multiple-matches" if hits else "not-found"
                raise Unprocessable("a conditional reference has no single match", code=code, expression=entry.path)
            resolved[reference] = hits[0].key.reference
        return resolved

    def _publish(self, work: _Work, entry: TransactionEntry, target: Target) -> None:
        """What a new document has to meet, and the claim of its identifier."""
        check_document_metadata(entry)
        self._documents.check_publication(work.people[str(target.key.patient)], path=f"{entry.path}.resource.subject")
        master = entry.resource["masterIdentifier"]
        text = f"{master.get('system', '')}|{master.get('value', '')}"
        token = self._blinder.blind("masterIdentifier", text)
        work.changes.append(IdentifierClaim(token=token, type="DocumentReference", id=target.key.id))

    def _check_once(self, work: _Work) -> None:
        """No resource twice, under whichever names, and no two conditions on the same identifier."""
        made = [change.key for change in work.changes if isinstance(change, RecordVersion)]
        guards = [change.name for change in work.changes if isinstance(change, Guard)]
        if len(set(made)) < len(made) or len(set(guards)) < len(guards):
            raise Invalid("two entries are about the same resource", code="invalid", expression="Bundle.entry")

    def _commit(self, work: _Work) -> None:
        request = work.request
        versions = [
            change for change in work.changes if isinstance(change, RecordVersion) and change.key.type != "Patient"
        ]
        kept = {"entries": {path: _kept(result) for path, result in work.results.items()}}
        identities = [Announcement(id=new_ulid(request.at), events=(event,)) for event in work.events]
        self._journal.commit(
            [
                *work.changes,
                *identities,
                *announced(request, versions),
                *account_of(request, Touched.of(work.people, work.touched), kept),
            ]
        )


def _content_url(entry: TransactionEntry) -> str | None:
    content = entry.resource.get("content", [{}])
    url = content[0].get("attachment", {}).get("url")
    return str(url) if url else None


def _kept(response: EntryResponse) -> dict[str, str | None]:
    return {
        "status": response.status,
        "location": response.location,
        "etag": response.etag,
        "last_modified": response.last_modified,
    }
