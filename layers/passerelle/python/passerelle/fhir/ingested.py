"""What messages of other formats come to: a transaction, and the merge of two source records (`ingestion.ports`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from passerelle.access import Permission, Request, insufficient_scope
from passerelle.errors import Invalid, NotFound, Unprocessable
from passerelle.fhir.bundles import TransactionEntry, parse_transaction, resolve_references
from passerelle.fhir.demographics import single_identifier
from passerelle.fhir.document_updates import TYPE, DocumentUpdateService
from passerelle.fhir.identity import REPLACED_BY
from passerelle.fhir.mhd import attachment_of, submission_level
from passerelle.fhir.pmir import MergeDraft
from passerelle.fhir.search import parse_query
from passerelle.fhir.transaction import TransactionService
from passerelle.ingestion.model import Advance, Conversion
from passerelle.patients.identity import IdentityScheme
from passerelle.patients.model import Identifier
from passerelle.patients.service import PatientService

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
        scheme: IdentityScheme,
    ) -> None:
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
    ) -> tuple[str, ...]:
        entries = self._without_unknown(request, _without(_entries(conversion.bundle), passed_over))
        if not entries:
            return ()
        level = submission_level(conversion.bundle)
        try:
            done = self._transactions.execute(request, entries, level, is_authorised=True, beside=advances)
        except Unprocessable as refusal:
            copies = {f"{each.path}.resource.subject" for each in entries if each.full_url in conversion.copies}
            if refusal.issues[0].expression not in copies:
                raise
            # The shared record takes no document (DMP-7): what the message says is kept, and the message itself is not.
            entries = _without_copies(entries, conversion.copies)
            done = self._transactions.execute(request, entries, level, is_authorised=True, beside=advances)
        return tuple(f"{each.key.reference}/_history/{each.version}" for each in done.values() if each.key is not None)

    def _without_unknown(self, request: Request, entries: Sequence[TransactionEntry]) -> list[TransactionEntry]:
        """Without the replacement of documents that were never sent here: the new one stands all the same."""
        unknown = {
            entry.path: identifier
            for entry in entries
            if entry.type == TYPE and entry.method == "PATCH" and entry.query
            if not self._transactions.knows_document(request, identifier := single_identifier(parse_qsl(entry.query)))
        }
        return [_unrelated(entry, list(unknown.values())) for entry in entries if entry.path not in unknown]

    def withdraw(self, request: Request, document: Identifier) -> str:
        from passerelle.fhir.document_patch import WITHDRAWN, DocumentPatch  # few messages take documents back

        patch = [{"op": "replace", "path": "/status", "value": WITHDRAWN}]
        condition = parse_query(TYPE, [("identifier", "|".join(document))], base_url=request.base_url, strict=True)
        read = DocumentPatch.read(patch, "application/json-patch+json")
        written = self._documents.update_where(request, condition, read, if_match=None)
        return f"{TYPE}/{written.id}/_history/{written.version}"

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
    named = {str(entry.full_url): entry.url for entry in entries if entry.full_url in passed_over}
    return [
        replace(entry, resource=resolve_references(entry.resource, named, full_url=entry.full_url))
        for entry in entries
        if entry.full_url not in named
    ]
