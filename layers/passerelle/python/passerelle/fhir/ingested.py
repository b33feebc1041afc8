"""What messages of other formats come to: a transaction, and the merge of two source records (`ingestion.ports`).

Two things follow from messages that follow from no other request. What a document stated goes with it when its sender
replaces it by a version that no longer states it (`statements.py`). And "validated", the most that formats before FR
Core say of an identity, leaves one qualified that is qualified here and of which nothing changes (contract INS-7).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qsl

from passerelle.access import Permission, Request, insufficient_scope
from passerelle.errors import Busy, Invalid, NotFound, Stale, Unprocessable, Unsupported
from passerelle.fhir import json as fhir_json
from passerelle.fhir.bundles import TransactionEntry, parse_transaction, resolve_references
from passerelle.fhir.demographics import single_identifier
from passerelle.fhir.document_updates import TYPE, DocumentUpdateService
from passerelle.fhir.identity import REPLACED_BY, still_qualified, strict_traits_of
from passerelle.fhir.mhd import Level, attachment_of, submission_level
from passerelle.fhir.pmir import MergeDraft
from passerelle.fhir.search import parse_query
from passerelle.fhir.statements import Statements
from passerelle.fhir.transaction import Done, TransactionService
from passerelle.ingestion.model import Advance, Applied, Conversion
from passerelle.patients.identity import IdentityScheme, changed_strict_traits
from passerelle.patients.model import Identifier
from passerelle.patients.service import PatientService
from passerelle.records.model import ResourceKey

_RACES: Final = 4  # attempts where others change what was read here
_RELATION: Final = f"{TYPE}.relatesTo"
_MERGES = Permission(resource="Patient", interaction="u", transactions=("ITI-93", "ITI-104"))
_WITHDRAWS = Permission(resource=TYPE, interaction="u", transactions=("TD3.3c",))


class FhirExchange:
    """`ingestion.ports.Exchange`."""

    def __init__(
        self,
        *,
        transactions: TransactionService,
        patients: PatientService,
        documents: DocumentUpdateService,
        statements: Statements,
        scheme: IdentityScheme,
    ) -> None:
        self._statements = statements
        self._transactions = transactions
        self._patients = patients
        self._documents = documents
        self._scheme = scheme

    def authorise(self, request: Request, conversion: Conversion) -> None:
        scopes = request.caller.scopes
        if (conversion.merge and not scopes.permits(_MERGES)) or (
            conversion.withdrawn and not scopes.permits(_WITHDRAWS)
        ):
            raise insufficient_scope()
        if conversion.bundle:
            entries = _entries(conversion.bundle)
            self._transactions.authorise(request, entries, submission_level(conversion.bundle))

    def apply(
        self, request: Request, conversion: Conversion, passed_over: Collection[str], advances: Sequence[Advance]
    ) -> Applied:
        entries = _without(_entries(conversion.bundle), passed_over)
        if not entries:
            return Applied()
        try:
            return self._attempted(request, conversion, entries, advances)
        except Unsupported:
            replaced = self._replaced(request, entries)
            if not replaced:
                raise
        # What comes under a number that was replaced since is the person's all the same; who that is stays as it is.
        named = {each: f"Patient/{patient}" for each, patient in replaced.items()}
        done = self._attempted(request, conversion, _naming(entries, named), advances)
        return done + Applied(passed_over=("Patient",))

    def _replaced(self, request: Request, entries: Sequence[TransactionEntry]) -> dict[str, str]:
        """The source records that others replaced, by full URL of the entry that tells of them."""
        found: dict[str, str] = {}
        for entry in entries:
            criteria = entry.if_none_exist if entry.method == "POST" else entry.query
            if entry.type == "Patient" and entry.full_url and criteria:
                stored = self._patients.find_registered(request, single_identifier(parse_qsl(criteria)))
                if stored is not None and stored.traits.replaced_by is not None:
                    found[entry.full_url] = stored.patient
        return found

    def _attempted(
        self,
        request: Request,
        conversion: Conversion,
        entries: Sequence[TransactionEntry],
        advances: Sequence[Advance],
    ) -> Applied:
        for _ in range(_RACES):
            try:
                return self._applied(request, conversion, entries, advances)
            except Stale as overtaken:
                if overtaken.issues[0].code == "multiple-matches":
                    raise
        raise Busy(headers={"Retry-After": "1"})

    def _applied(
        self,
        request: Request,
        conversion: Conversion,
        entries: Sequence[TransactionEntry],
        advances: Sequence[Advance],
    ) -> Applied:
        replaced = {
            entry.path: (identifier, self._transactions.find_document(request, identifier))
            for entry in entries
            if entry.type == TYPE and entry.method == "PATCH" and entry.query
            for identifier in [single_identifier(parse_qsl(entry.query))]
        }
        # The replacement of a document that was never sent here stands all the same, and says of no other.
        unknown = {path: identifier for path, (identifier, key) in replaced.items() if key is None}
        entries = [_unrelated(entry, list(unknown.values())) for entry in entries if entry.path not in unknown]
        entries = [self._as_qualified(request, entry, conversion.validated) for entry in entries]
        no_longer, kept = self._no_longer_stated(entries, [key for _, key in replaced.values() if key is not None])
        done = self._executed(
            request, conversion, [*entries, *no_longer], submission_level(conversion.bundle), advances
        )
        made = (f"{each.key.reference}/_history/{each.version}" for each in done.values() if each.key is not None)
        return Applied(made=tuple(made), kept=kept, lost=(_RELATION,) * len(unknown))

    def _executed(
        self,
        request: Request,
        conversion: Conversion,
        entries: Sequence[TransactionEntry],
        level: Level | None,
        advances: Sequence[Advance],
    ) -> dict[str, Done]:
        try:
            return self._transactions.execute(request, entries, level, is_authorised=True, beside=advances)
        except Unprocessable as refusal:
            copies = {f"{each.path}.resource.subject" for each in entries if each.full_url in conversion.copies}
            if refusal.issues[0].expression not in copies:
                raise
            # The shared record takes no document (DMP-7): what the message says is kept, and the message itself is not.
            entries = _without_copies(entries, conversion.copies)
            return self._transactions.execute(request, entries, level, is_authorised=True, beside=advances)

    def _no_longer_stated(
        self, entries: Sequence[TransactionEntry], replaced: Sequence[ResourceKey]
    ) -> tuple[list[TransactionEntry], tuple[str, ...]]:
        """Entries that withdraw what replaced documents alone stated and these do not; what stays of the rest."""
        stated = {
            (entry.type, single_identifier(parse_qsl(entry.query)))
            for entry in entries
            if entry.method == "PUT" and entry.query
        }
        left = [
            each
            for document in replaced
            for each in self._statements.of(document)
            if not each.is_withdrawn and all((each.version.type, name) not in stated for name in each.identifiers)
        ]
        going = [
            TransactionEntry(
                path=f"Bundle.entry[{len(entries) + number}]",
                full_url=None,
                method="PUT",
                url=each.reference,
                type=each.version.type,
                id=each.version.id,
                resource=each.withdrawn(),
                if_match=each.version.version,
            )
            for number, each in enumerate(each for each in left if each.is_alone)
        ]
        return going, tuple(each.reference for each in left if not each.is_alone)

    def _as_qualified(
        self, request: Request, entry: TransactionEntry, validated: Mapping[str, Identifier | None]
    ) -> TransactionEntry:
        """A Patient that is qualified here stays so if the message says nothing else of who that is.

        The version that was looked at is named: nobody's identity is qualified by a message that came between.
        """
        url = entry.full_url
        if url is None or url not in validated or entry.method != "PUT":
            return entry
        stored = self._patients.find_registered(request, single_identifier(parse_qsl(entry.query)))
        national = stored.traits.qualified_identifier if stored is not None else None
        if stored is None or national is None or validated[url] not in (None, national):
            return entry
        before = fhir_json.loads(stored.body)
        known, told = (strict_traits_of(each, self._scheme) for each in (before, entry.resource))
        if not told.birth_place or changed_strict_traits(known, told):
            return entry
        resource = still_qualified(entry.resource, before, national, self._scheme)
        return replace(entry, resource=resource, if_match=stored.version)

    def withdraw(self, request: Request, document: Identifier) -> Applied:
        from passerelle.fhir.document_patch import WITHDRAWN, DocumentPatch  # few messages take documents back

        patch = [{"op": "replace", "path": "/status", "value": WITHDRAWN}]
        condition = parse_query(TYPE, [("identifier", "|".join(document))], base_url=request.base_url, strict=True)
        read = DocumentPatch.read(patch, "application/json-patch+json")
        written = self._documents.update_where(request, condition, read, if_match=None)
        # Looked up after the commit: a message that comes again learns the same.
        stated = self._statements.of(written.key)
        gone = (f"{each.reference}/_history/{each.version.version}" for each in stated if each.is_withdrawn)
        return Applied(
            made=(f"{TYPE}/{written.id}/_history/{written.version}", *gone),
            kept=tuple(each.reference for each in stated if not each.is_withdrawn),
        )

    def merge(self, request: Request, replaced: Identifier, survivor: Identifier) -> str:
        merge = {
            "resourceType": "Patient",
            "identifier": [_element(replaced)],
            "active": False,
            "link": [{"other": {"identifier": _element(survivor)}, "type": REPLACED_BY}],
        }
        draft = MergeDraft(merge, self._scheme, base_url=request.base_url)
        try:
            done, _ = self._patients.register(request, replaced, draft)
        except NotFound:
            raise NotFound(expression="Patient.link") from None
        return f"Patient/{done.patient}/_history/{done.version}"


def _without_copies(entries: Sequence[TransactionEntry], copies: Collection[str]) -> list[TransactionEntry]:
    """Without these documents and their contents; nothing else is said of them but in Provenance."""
    contents = {attachment_of(each).get("url") for each in entries if each.full_url in copies}
    left = [each for each in entries if each.full_url not in copies and each.full_url not in contents]
    return [
        replace(each, resource={**each.resource, "target": targets})
        if each.type == "Provenance"
        and (targets := [to for to in each.resource["target"] if to.get("reference") not in copies])
        else each
        for each in left
    ]


def _unrelated(entry: TransactionEntry, unknown: Sequence[Identifier]) -> TransactionEntry:
    targets = [{"identifier": _element(each)} for each in unknown]
    if not targets or entry.type != TYPE or "relatesTo" not in entry.resource:
        return entry
    kept = [each for each in entry.resource["relatesTo"] if each["target"] not in targets]
    rest = {name: value for name, value in entry.resource.items() if name != "relatesTo"}
    return replace(entry, resource={**rest, **({"relatesTo": kept} if kept else {})})


def _element(identifier: Identifier) -> dict[str, str]:
    return {"system": identifier[0], "value": identifier[1]}


def _entries(bundle: Mapping[str, Any]) -> list[TransactionEntry]:
    if bundle.get("type") != "transaction":
        raise Invalid("a message becomes a transaction", code="structure", expression="Bundle.type")
    return parse_transaction(bundle)


def _without(entries: Sequence[TransactionEntry], passed_over: Collection[str]) -> list[TransactionEntry]:
    """The other entries; where they name one that is left out, they mean what its own condition finds."""
    if not passed_over:
        return list(entries)
    return _naming(entries, {str(entry.full_url): entry.url for entry in entries if entry.full_url in passed_over})


def _naming(entries: Sequence[TransactionEntry], named: Mapping[str, str]) -> list[TransactionEntry]:
    """Without those that have another name than their full URL; the others call them by it."""
    return [
        replace(entry, resource=resolve_references(entry.resource, named, full_url=entry.full_url))
        for entry in entries
        if entry.full_url not in named
    ]
