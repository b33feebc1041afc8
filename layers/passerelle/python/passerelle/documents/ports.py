"""What documents need from storage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from passerelle.documents.model import Adoption, Content, Kept

if TYPE_CHECKING:
    from passerelle.documents.uploads import Ticket


class DocumentVault(Protocol):
    """Keeps content, encrypted and unchangeable, under the id of its document."""

    def put(self, content: Content) -> None:
        """Store durably before returning. Content that no committed document names is never served."""

    def adopt(self, adoption: Adoption) -> None:
        """The same for the content of an upload, which is copied; raises Fault if the copy has another SHA-256."""

    def get(self, id: str, *, limit: int) -> Kept:
        """The content, verified; without its bytes if they are more than `limit`. Raises NotFound."""

    def read(self, id: str, first: int, last: int) -> bytes:
        """The bytes `first` to `last` of a content that is there: part of it, and so not verified."""

    def link(self, id: str, *, content_type: str, lifetime: timedelta) -> str:
        """A URL that gives the content to whoever has it."""

    def discard(self, id: str) -> None:
        """Take a content that no document names out of reach."""


class UploadTickets(Protocol):
    def find(self, client_id: str, id: str) -> Ticket | None: ...

    def of_client(self, client_id: str) -> Sequence[Ticket]:
        """Some may have expired."""


class UploadSpace(Protocol):
    """Where clients send contents. What it holds is dropped some time after its ticket expired."""

    def begin(self, id: str, content_type: str) -> str:
        """A handle, under which parts are collected."""

    def part_url(self, ticket: Ticket, number: int, lifetime: timedelta) -> str:
        """A URL that takes this part by PUT, and nothing of another size."""

    def parts(self, ticket: Ticket) -> Mapping[int, int] | None:
        """Sizes of the parts that came, by number; None once they were assembled, or dropped."""

    def assemble(self, ticket: Ticket) -> None:
        """Make one content of the parts; nothing to do where that was done."""

    def size(self, ticket: Ticket) -> int | None:
        """Bytes of the assembled content; None if there is none."""

    def read(self, ticket: Ticket, first: int, last: int) -> bytes: ...

    def discard(self, ticket: Ticket) -> None:
        """Drop the assembled content now; nothing to do where there is none."""


class Publications(Protocol):
    def is_published(self, id: str) -> bool:
        """Whether any version of a document was ever committed."""
