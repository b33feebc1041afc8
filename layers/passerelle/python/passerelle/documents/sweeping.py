"""What a commit that never came left behind: contents that no document names.

A content is stored before the commit of its document, so that no document is without content. Where the commit is
refused, or its function ends in between, the content stays, and nobody can reach it. Some time after each content was
stored, when no commit can still be on its way, this asks whether its document is there.
"""

from __future__ import annotations

from passerelle.documents.ports import DocumentVault, Publications


class Sweeper:
    def __init__(self, *, vault: DocumentVault, publications: Publications) -> None:
        self._vault = vault
        self._publications = publications

    def settle(self, id: str) -> bool:
        """Discard a content unless its document was ever published; returns whether it was discarded."""
        if self._publications.is_published(id):
            return False
        self._vault.discard(id)
        return True
