"""FHIR transactions, document submissions (ITI-65) among them: from a Bundle to one commit (R4 section 3.1.0.11).

Everything is checked before anything is stored; then the contents go to the vault, where nobody finds them yet, and one
commit makes all resources exist together, however many they are. Entries may create resources of any declared type, and
register source records (POST, or PUT on an identifier of the caller's domain).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from passerelle.access import Interaction, Permission, Request, Touched, insufficient_scope
from passerelle.audit.commands import account_of, once
from passerelle.documents.model import Content
from passerelle.documents.service import DocumentService
from passerelle.errors import Invalid, Stale, Unprocessable, Unsupported
from passerelle.events import Event
from passerelle.fhir.bundles import EntryResponse, TransactionEntry, parse_transaction
from passerelle.fhir.index import RECORD_TYPES
from passerelle.fhir.mhd import Level, check_document_metadata, check_submission, submission_level, verified_content
from passerelle.fhir.patient import FhirPatientDraft
from passerelle.fhir.resource import ResourceDraft, instant
from passerelle.fhir.validation import validate
from passerelle.identifiers import Blinder, new_resource_id, new_ulid
from passerelle.journal import Announcement, Change, Journal
from passerelle.patients.identity import IdentityScheme
from passerelle.patients.model import Person
from passerelle.patients.service import PatientService
from passerelle.records.model import IdentifierClaim, RecordVersion, Subject
from passerelle.records.service import RecordService, announced

_RACES = 3  # attempts of a transaction whose people others register at the same time
_SUBMITTED_TYPES = frozenset({"List", "DocumentReference", "Binary"})


@dataclass(slots=True)
class _Work:
    """A transaction as it takes shape: `references` maps full URLs to what they become."""

    request: Request
    references: dict[str, str] = field(default_factory=dict)
    people: dict[str, Person] = field(default_factory=dict)  # by patient key
    ids: dict[str, str] = field(default_factory=dict)  # by path of the entry
    owners: dict[str, str | None] = field(default_factory=dict)
    owners_by_subject: dict[Subject | None, str] = field(default_factory=dict)
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

    def execute(self, request: Request, bundle: Mapping[str, Any]) -> list[EntryResponse]:
        """Store every entry of a transaction, or none; raises an error with the path of the first faults."""
        return once(
            self._journal,
            request,
            lambda: self._attempted(request, bundle),
            lambda kept: [EntryResponse(**each) for each in kept["entries"]],
        )

    def _attempted(self, request: Request, bundle: Mapping[str, Any]) -> list[EntryResponse]:
        """Work the transaction out again when another registration of one of its people came first."""
        for _ in range(_RACES - 1):
            try:
                return self._execute(request, bundle)
            except Stale as overtaken:
                if overtaken.issues[0].code == "multiple-matches":
                    raise
        return self._execute(request, bundle)

    def _execute(self, request: Request, bundle: Mapping[str, Any]) -> list[EntryResponse]:
        entries = parse_transaction(bundle)
        if bundle["type"] != "transaction":
            raise Invalid("only transactions are offered", code="value", expression="Bundle.type")
        level = submission_level(bundle)
        self._authorise(request, entries, level)
        for entry in entries:
            validate(entry.resource, path=f"{entry.path}.resource")
        if level is not None:
            check_submission(entries, level)
        work = _Work(request)
        self._register_people(work, entries)
        self._give_ids(work, entries)
        if level is not None and len({person.key for person in work.people.values()}) > 1:
            raise Unprocessable("a submission is about one patient", expression="Bundle.entry")
        self._store_resources(work, entries)
        results = [work.results[entry.path] for entry in entries]
        self._documents.keep(work.contents)
        self._commit(work, results)
        return results

    def _authorise(self, request: Request, entries: Sequence[TransactionEntry], level: Level | None) -> None:
        scopes = request.caller.scopes
        for entry in entries:
            kind = entry.type
            of = ("ITI-104",) if kind == "Patient" else ("ITI-65",) if level and kind in _SUBMITTED_TYPES else ()
            if entry.method != "POST" and not (kind == "Patient" and entry.method == "PUT"):
                raise Unsupported(
                    "this interaction is not offered in a transaction", expression=f"{entry.path}.request"
                )
            if kind not in RECORD_TYPES and kind != "Binary":
                raise Unprocessable(
                    "this resource type is not kept", code="not-supported", expression=f"{entry.path}.resource"
                )
            right: Interaction = "c" if entry.method == "POST" else "u"
            if not scopes.permits(Permission(resource=kind, interaction=right, transactions=of)):
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
            plan = self._patients.plan(work.request, draft, identifier=_queried_identifier(entry))
            done = plan.registered
            work.people[done.patient] = plan.person
            work.changes += plan.changes
            work.events += plan.events
            self._settle(work, entry, f"Patient/{done.patient}", done.version, is_new=done.is_new)

    def _give_ids(self, work: _Work, entries: Sequence[TransactionEntry]) -> None:
        documents = {
            entry.resource["content"][0].get("attachment", {}).get("url"): entry
            for entry in entries
            if entry.type == "DocumentReference"
        }
        for entry in entries:
            kind = entry.type
            if entry.path in work.results or kind == "Binary":
                continue
            draft = ResourceDraft(entry.resource, work.request.base_url)
            if draft.is_shared and entry.if_none_exist and self._is_known(work, entry):
                continue
            owner = None if draft.is_shared else self._owner(work, entry, draft)
            work.owners[entry.path] = owner
            resource_id = new_resource_id(owner, work.request.at)
            self._settle(work, entry, f"{kind}/{resource_id}", 1, is_new=True)
        for entry in entries:
            if entry.type != "Binary":
                continue
            document = documents.get(entry.full_url)
            if document is None:
                raise Unprocessable("no document of the submission has this content", expression=entry.path)
            resource_id = work.ids[document.path]
            # Absolute, because clients follow attachment.url as it stands (ITI-67, contract 67-5).
            self._settle(work, entry, f"Binary/{resource_id}", 1, is_new=True)
            work.references[str(entry.full_url)] = f"{work.request.base_url}/Binary/{resource_id}"
            if document.resource["content"][0]["attachment"].get("contentType") is not None:
                work.contents.append(verified_content(document, entry, resource_id))

    def _settle(self, work: _Work, entry: TransactionEntry, reference: str, version: int, *, is_new: bool) -> None:
        work.ids[entry.path] = reference.partition("/")[2]
        work.touched.append(reference)
        work.results[entry.path] = EntryResponse(
            status="201 Created" if is_new else "200 OK",
            location=f"{reference}/_history/{version}",
            etag=f'W/"{version}"',
            last_modified=instant(work.request.at) if is_new else None,
        )
        if entry.full_url:
            work.references[entry.full_url] = reference

    def _is_known(self, work: _Work, entry: TransactionEntry) -> bool:
        """Whether a conditional create finds its resource, which then takes the entry's place."""
        kind = entry.type
        found = self._records.search_shared(kind, [_identifier_criterion(entry.if_none_exist or "", entry.path)])
        if len(found) > 1:
            raise Stale("several resources match", code="multiple-matches", expression=f"{entry.path}.request")
        for each in found:
            self._settle(work, entry, each.reference, each.version, is_new=False)
        return bool(found)

    def _owner(self, work: _Work, entry: TransactionEntry, draft: ResourceDraft) -> str:
        path = f"{entry.path}.resource.subject"
        subject = draft.resolved(work.references).subject
        if subject is not None and subject.key in work.people:
            return subject.key
        if subject in work.owners_by_subject:
            return work.owners_by_subject[subject]
        owner, work.people[owner] = self._records.patient_for(work.request, subject, expression=path)
        work.owners_by_subject[subject] = owner
        return owner

    # --- then the resources ---------------------------------------------------------------------------------------

    def _store_resources(self, work: _Work, entries: Sequence[TransactionEntry]) -> None:
        for entry in entries:
            kind = entry.type
            if entry.path not in work.owners:
                continue
            owner = work.owners[entry.path]
            draft = ResourceDraft(entry.resource, work.request.base_url)
            references = {**work.references, **self._found(draft, entry)}
            resolved = draft.resolved(references, subject=owner)
            resource_id = work.ids[entry.path]
            work.changes.append(self._records.first_version(resolved, resource_id, owner, work.request.at))
            if kind == "DocumentReference" and owner is not None:
                self._check_document(work, entry, owner)
                work.changes += self._claims(entry, resource_id)

    def _check_document(self, work: _Work, entry: TransactionEntry, owner: str) -> None:
        check_document_metadata(entry)
        self._documents.check_publication(work.people[owner], path=f"{entry.path}.resource.subject")

    def _claims(self, entry: TransactionEntry, resource_id: str) -> list[IdentifierClaim]:
        master = entry.resource["masterIdentifier"]
        text = f"{master.get('system', '')}|{master.get('value', '')}"
        token = self._blinder.blind("masterIdentifier", text)
        return [IdentifierClaim(token=token, type="DocumentReference", id=resource_id)]

    def _found(self, draft: ResourceDraft, entry: TransactionEntry) -> dict[str, str]:
        """Conditional references to shared resources, resolved."""
        resolved = {}
        for reference in draft.conditional_references:
            kind, _, criteria = reference.partition("?")
            if kind == "Patient":
                continue  # the subject: resolved with the record it belongs to
            found = self._records.search_shared(kind, [_identifier_criterion(criteria, entry.path)])
            if len(found) != 1:
                code = "multiple-matches" if found else "not-found"
                raise Unprocessable("a conditional reference has no single match", code=code, expression=entry.path)
            resolved[reference] = found[0].reference
        return resolved

    def _commit(self, work: _Work, results: Sequence[EntryResponse]) -> None:
        request = work.request
        versions = [change for change in work.changes if isinstance(change, RecordVersion) and change.type != "Patient"]
        kept = {"entries": [_kept(result) for result in results]}
        identities = [Announcement(id=new_ulid(request.at), events=(event,)) for event in work.events]
        self._journal.commit(
            [
                *work.changes,
                *identities,
                *announced(request, versions),
                *account_of(request, Touched.of(work.people, work.touched), kept),
            ]
        )


def _kept(response: EntryResponse) -> dict[str, str | None]:
    return {
        "status": response.status,
        "location": response.location,
        "etag": response.etag,
        "last_modified": response.last_modified,
    }


def _queried_identifier(entry: TransactionEntry) -> tuple[str, str] | None:
    """The identifier of `PUT Patient?identifier=system|value`, None for a POST."""
    if entry.method == "POST":
        return None
    return _identifier_criterion(entry.url.partition("?")[2], entry.path)


def _identifier_criterion(criteria: str, path: str) -> tuple[str, str]:
    name, _, token = unquote(criteria).partition("=")
    system, bar, value = token.partition("|")
    if name != "identifier" or not bar or "&" in token:
        raise Unprocessable("only one identifier can be the condition", code="not-supported", expression=path)
    return system, value
