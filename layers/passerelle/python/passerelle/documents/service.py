"""The shared document record: content in the vault, metadata in the record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from passerelle.consents.model import RecordStatus
from passerelle.documents.model import Content, Document
from passerelle.documents.ports import DocumentVault
from passerelle.errors import Gone, NotAcceptable, Unprocessable
from passerelle.patients.model import Person


class DocumentService:
    def __init__(self, *, vault: DocumentVault, in_parallel: Callable[..., tuple[Any, ...]]) -> None:
        self._vault = vault
        self._in_parallel = in_parallel

    def check_publication(self, person: Person, *, is_national: bool, path: str) -> None:
        """Raise Unprocessable unless the person's shared record is open (DMP-7).

        The national record, `is_national`, takes documents of qualified identities only (INS-12).
        """
        if is_national and person.qualified is None:
            raise Unprocessable("the identity of this person is not qualified", expression=path)
        if person.policy.status is not RecordStatus.OPEN:
            raise Unprocessable("the shared record of this person is not open", expression=path)

    def keep(self, contents: Sequence[Content]) -> None:
        """Store the contents of a submission, before the documents that name them are committed."""
        if contents:
            self._in_parallel(*(lambda each=each: self._vault.put(each) for each in contents))

    def content(self, document: Document, *, accepted: Sequence[str]) -> bytes:
        """The bytes of a document that the caller may see (ITI-68).

        Raises Gone for a document that is not current (P2, D4), NotAcceptable when another type is asked.
        """
        if document.status != "current":
            raise Gone("Gone")
        if not any(each in (document.content_type, "*/*", "") for each in accepted):
            raise NotAcceptable("Not Acceptable")
        return self._vault.get(document.id)
