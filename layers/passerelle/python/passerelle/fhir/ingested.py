"""What messages of other formats come to: a transaction, and the merge of two source records (`ingestion.ports`).

Several things are different where a message brings them: the document that it is itself is left out where the record
takes none, and "validated", the most that formats before FR Core say of an identity, leaves one qualified that is
qualified here (contract INS-7). Both are `transaction.Along`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qsl

from passerelle.access import Permission, Request, insufficient_scope
from passerelle.errors import Busy, Invalid, NotFound, Stale, Unsupported
from passerelle.fhir.bundles import TransactionEntry, parse_transaction, resolve_references
from passerelle.fhir.demographics import single_identifier
from passerelle.fhir.document_updates import TYPE, DocumentUpdateService
from passerelle.fhir.identity import REPLACED_BY
from passerelle.fhir.mhd import submission_level
from passerelle.fhir.pmir import MergeDraft
from passerelle.fhir.search import parse_query
from passerelle.fhir.statements import Statements
from passerelle.fhir.transaction import Along, Done, TransactionService
from passerelle.ingestion.model import Applied, Conversion
from passerelle.ingestion.ports import Beside
from passerelle.patients.identity import IdentityScheme
from passerelle.patients.model import Identifier
from passerelle.patients.service import PatientService

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

    def apply(self, request: Request, conversion: Conversion, passed_over: Collection[str], beside: Beside) -> Applied:
        entries = _without(_entries(conversion.bundle), passed_over)
        if not entries:
            return Applied()
        try:
            return self._attempted(request, conversion, entries, beside)
        except Unsupported:
            replaced = self._replaced(request, entries)
            if not replaced:
                raise
        # What comes under a number that was replaced since is the person's all the same; who that is stays as it is.
        named = {each: f"Patient/{patient}" for each, patient in replaced.items()}
        left = Applied(passed_over=("Patient",))
        return left + self._attempted(request, conversion, _naming(entries, named), lambda done: beside(left + done))

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
        beside: Beside,
    ) -> Applied:
        for _ in range(_RACES):
            try:
                return self._applied(request, conversion, entries, beside)
            except Stale as overtaken:
                if overtaken.issues[0].code == "multiple-matches":
                    raise
        raise Busy(headers={"Retry-After": "1"})

    def _applied(
        self,
        request: Request,
        conversion: Conversion,
        entries: Sequence[TransactionEntry],
        beside: Beside,
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
        lost = Applied(lost=(_RELATION,) * len(unknown))
        is_all = len(unknown) == len(replaced)  # else there is something to be looked up after the commit
        along = Along(
            changes=lambda done: beside(replace(lost + _made(done), is_settled=is_all)),
            copies=conversion.copies,
            validated=conversion.validated,
        )
        level = submission_level(conversion.bundle)
        done = self._transactions.execute(request, entries, level, is_authorised=True, along=along)
        applied = lost + _made(done)
        if is_all:
            return replace(applied, is_settled=not any(each.is_repeated for each in done.values()))
        made = {each.key.reference for each in done.values() if each.key is not None}
        # Looked up after the commit, as for a withdrawal: of what replaced documents stated, this stays, and unasked.
        left = dict.fromkeys(
            each.reference
            for _, key in replaced.values()
            if key is not None
            for each in self._statements.of(key)
            if not each.is_withdrawn and each.reference not in made
        )
        return applied + Applied(kept=tuple(left))

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


def _made(done: Mapping[str, Done]) -> Applied:
    versions = (f"{each.key.reference}/_history/{each.version}" for each in done.values() if each.key is not None)
    return Applied(made=tuple(versions))


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
