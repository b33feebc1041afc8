"""The shared document record: content in the vault, metadata in the record."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from passerelle.access import Request
from passerelle.consents.model import RecordStatus
from passerelle.documents.model import Adoption, Content, Document, Release, Span
from passerelle.documents.ports import DocumentVault
from passerelle.documents.quarantine import Quarantine
from passerelle.documents.retention import Code, Retention
from passerelle.errors import Gone, NotFound, Unprocessable, Unsatisfiable
from passerelle.patients.model import Person

MAX_STREAMED_BYTES: Final = 4 * 1024 * 1024  # in base64, what an answer of a function may hold
LINK_LIFETIME: Final = timedelta(seconds=60)


class DocumentService:
    def __init__(
        self,
        *,
        vault: DocumentVault,
        quarantine: Quarantine,
        retention: Retention,
        in_parallel: Callable[..., tuple[Any, ...]],
    ) -> None:
        self._vault = vault
        self._quarantine = quarantine
        self._retention = retention
        self._in_parallel = in_parallel

    def retained_until(self, codes: Collection[Code], at: datetime) -> datetime | None:
        """How long nobody can delete the content of a document of these types and classes, published at `at`."""
        return self._retention.until(codes, at)

    def check_publication(self, person: Person, *, is_national: bool, path: str) -> None:
        """Raise Unprocessable unless the person's shared record is open (DMP-7).

        The national record, `is_national`, takes documents of qualified identities only (INS-12).
        """
        if is_national and person.qualified is None:
            raise Unprocessable("the identity of this person is not qualified", expression=path)
        if person.policy.status is not RecordStatus.OPEN:
            raise Unprocessable("the shared record of this person is not open", expression=path)

    def keep(self, contents: Sequence[Content | Adoption]) -> None:
        """Store the contents of a submission, before the documents that name them are committed."""
        if contents:
            self._in_parallel(*(lambda each=each: self._keep(each) for each in contents))

    def _keep(self, content: Content | Adoption) -> None:
        if isinstance(content, Adoption):
            self._vault.adopt(content)
        else:
            self._vault.put(content)

    def holds(self, content: Content | Adoption) -> bool:
        """Whether these are the bytes that are kept under the id of the document already."""
        kept = self._vault.get(content.id, limit=0)
        if isinstance(content, Adoption):
            return kept.sha256 == content.sha256
        return kept.sha256 == base64.b64encode(hashlib.sha256(content.data).digest()).decode()

    def check_available(self, document: Document) -> None:
        """Raise Gone for a document that is not current (P2, D4), NotFound for one that awaits its content."""
        if document.status != "current":
            raise Gone("Gone")
        if document.is_awaited:
            raise NotFound("Document Not Found")

    def release(self, request: Request, document: Document, *, span: Span | None = None) -> Release:
        """The content of a document that the caller may see: the only way out of the vault.

        Bytes where they fit an answer, all or those of `span`; else a URL, which is to be recorded before it is given
        away. Raises Gone, NotFound, Unsatisfiable for a span that the content does not have, and what
        `Quarantine.check` raises.
        """
        self.check_available(document)
        _, kept = self._in_parallel(
            lambda: self._quarantine.check(request, document.id),
            lambda: self._vault.get(document.id, limit=MAX_STREAMED_BYTES),
        )
        place = (0, kept.size_bytes - 1) if span is None else span.within(kept.size_bytes)
        if place is None:
            raise Unsatisfiable(headers={"Content-Range": f"bytes */{kept.size_bytes}"})
        first, last = place
        data = None if kept.data is None else kept.data[first : last + 1]
        if data is None and last - first < MAX_STREAMED_BYTES:
            data = self._vault.read(document.id, first, last)
        if data is None:
            url = self._vault.link(document.id, content_type=document.content_type, lifetime=LINK_LIFETIME)
            return Release(content_type=document.content_type, kept=kept, url=url)
        return Release(content_type=document.content_type, kept=kept, data=data, span=place if span else None)
