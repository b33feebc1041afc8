"""The same submission again: what it made the first time (contract P20, 65-21).

A source that got no answer sends its documents again. They are the same if each has the identifier, the person and the
bytes of a document that this organisation published; the caller gets the ids of then. Anything else under an identifier
that is taken is a conflict, which tells nothing of the document that has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from passerelle.access import Request
from passerelle.documents.model import Adoption, Content
from passerelle.documents.service import DocumentService
from passerelle.documents.uploads import Upload
from passerelle.errors import NotFound
from passerelle.fhir import json as fhir_json
from passerelle.fhir.bundles import TransactionEntry
from passerelle.fhir.lists import is_folder, is_submission_set
from passerelle.fhir.mhd import attachment_of, stored_document
from passerelle.fhir.relations import Relations
from passerelle.fhir.search import parse_query
from passerelle.fhir.submissions import DOCUMENT, adoption_of, content_of, contents_of, new_documents
from passerelle.records.service import RecordService, Target

_TYPES = frozenset({"Patient", "List", DOCUMENT})


class Resubmissions:
    def __init__(self, records: RecordService, documents: DocumentService, relations: Relations) -> None:
        self._records = records
        self._documents = documents
        self._relations = relations

    def find(
        self, request: Request, entries: Sequence[TransactionEntry], uploads: Mapping[str, Upload]
    ) -> dict[str, Target] | None:
        """What each entry about a document or a List made, by its path; None if these were not submitted before."""
        contents = contents_of(entries)
        others = [entry for entry in entries if contents.get(entry.full_url or "") is not entry]
        documents = new_documents(entries)
        if not documents or any(entry.type not in _TYPES for entry in others):
            return None
        try:
            found = {each.path: self._document(request, each, contents, uploads.get(each.path)) for each in documents}
            urls = {each.full_url: found[each.path].key.reference for each in documents if each.full_url}
            for entry in others:
                if entry.type == "List":
                    found[entry.path] = self._list(request, entry, urls, found[documents[0].path])
                elif entry.type == DOCUMENT and entry.method == "PATCH":
                    found[entry.path] = self._superseded(request, entry)
        except NotFound:
            return None
        return found

    def _document(
        self,
        request: Request,
        entry: TransactionEntry,
        contents: Mapping[str, TransactionEntry],
        upload: Upload | None,
    ) -> Target:
        master = entry.resource.get("masterIdentifier", {})
        target = self._relations.named(request, (master.get("system", ""), master.get("value", "")))
        stored = target.current
        if stored is None or stored.body is None or stored.producer != request.caller.organisation:
            raise NotFound()
        document = stored_document(stored)
        content: Content | Adoption | None
        if upload is not None:
            content = adoption_of(entry, upload, target.key.id)
        else:
            content = content_of(entry, contents.get(str(attachment_of(entry).get("url"))), target.key.id)
        if document.status == "entered-in-error" or document.is_awaited != (content is None):
            raise NotFound()
        if content is not None and (
            content.content_type != document.content_type or not self._documents.holds(content)
        ):
            raise NotFound()
        return target

    def _list(self, request: Request, entry: TransactionEntry, urls: Mapping[str, str], document: Target) -> Target:
        """A SubmissionSet or folder that has all that this one has: the first, if there are several."""
        wanted = {urls.get(each, each) for each in _items(entry.resource)}
        if entry.method == "PUT" and entry.id is not None:
            ids = [entry.id]
        elif entry.method == "POST" and document.person is not None:
            query = [("patient", document.key.patient or ""), ("item", document.key.reference)]
            asked = parse_query("List", query, base_url=request.base_url)
            ids = sorted(
                key.id.rpartition("-")[2] + key.id for key in self._records.found(request, asked, document.person)
            )
            ids = [id[26:] for id in ids]
        else:
            raise NotFound()
        for id in ids:
            target = self._records.existing(request, "List", id)
            stored = fhir_json.loads(target.current.body) if target.current and target.current.body else {}
            is_alike = is_submission_set(stored) == is_submission_set(entry.resource) and is_folder(
                stored
            ) == is_folder(entry.resource)
            if stored and is_alike and wanted <= set(_items(stored)):
                return target
        raise NotFound()

    def _superseded(self, request: Request, entry: TransactionEntry) -> Target:
        if entry.id is None:
            raise NotFound()
        target = self._records.existing(request, DOCUMENT, entry.id)
        if target.current is None or target.current.body is None:
            raise NotFound()
        if fhir_json.loads(target.current.body).get("status") != "superseded":
            raise NotFound()
        return target


def _items(resource: Mapping[str, Any]) -> list[str]:
    return [str(each.get("item", {}).get("reference")) for each in resource.get("entry", [])]
