"""What documents need from storage."""

from __future__ import annotations

from typing import Protocol

from passerelle.documents.model import Content


class DocumentVault(Protocol):
    """Keeps content, encrypted and unchangeable, under the id of its document."""

    def put(self, content: Content) -> None:
        """Store durably before returning. Content that no committed document names is never served."""

    def get(self, id: str) -> bytes:
        """The bytes, verified against the checksum they were stored with; raises NotFound."""
