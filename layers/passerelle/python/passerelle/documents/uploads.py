"""Contents that are too large for a request: the client sends them to storage itself, in parts, under a ticket.

    open        the ticket: what will come, and where each part goes
    complete    the parts become one content, which is read once, part by part: size, hashes and type are as announced
    publish     a submission names the ticket; the bytes are copied inside storage, and the ticket is used up with it

Until the last step nothing exists for anyone, and only the client of the ticket can name it. Every step may be repeated
at any time: what was done before is found, not done again. A ticket lives for a day; storage then drops what it holds.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from passerelle.access import Request, Touched
from passerelle.audit.commands import account_of, once
from passerelle.audit.model import audit_of
from passerelle.documents.model import Adoption, Declared
from passerelle.documents.ports import UploadSpace, UploadTickets
from passerelle.documents.quarantine import Quarantine
from passerelle.errors import Busy, Conflict, NotFound, Stale, TooLarge, Unprocessable
from passerelle.identifiers import new_ulid
from passerelle.journal import Change, Journal

_MIB: Final = 1024 * 1024
LIFETIME: Final = timedelta(days=1)
URL_LIFETIME: Final = timedelta(minutes=15)
MAX_OPEN: Final = 16  # tickets of one client that are neither used nor refused
INSPECTED_BYTES: Final = 32 * _MIB  # what is inspected whole when it is published; of what is larger, its head
_PART_BYTES: Final = (8 * _MIB, 16 * _MIB, 32 * _MIB, 64 * _MIB)
_PARTS: Final = 32  # more only where the largest parts do not suffice
_READ_BYTES: Final = 8 * _MIB
_HEAD_BYTES: Final = 256 * 1024
_STRUCTURED: Final = frozenset({"hl7v2", "json", "xml"})  # families of types that say whose they are
_URL: Final = re.compile(r"(?:[^?#]*/)?Binary/(?P<id>[0-9a-hjkmnp-tv-z]{26})", re.ASCII)


class State(StrEnum):
    OPEN = "open"
    VERIFIED = "verified"
    REFUSED = "refused"
    USED = "used"


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """What a client says of a content before it sends it; at least one of the hashes (base64) is there."""

    content_type: str
    size_bytes: int
    sha1: str | None
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """`handle` is storage's name for the parts; both hashes are there once the content is verified.

    `refusal` is the element of the announcement that the content is not.
    """

    id: str
    client_id: str
    announced: Announced
    part_bytes: int
    handle: str
    expires_at: datetime
    state: State = State.OPEN
    refusal: str | None = None

    @property
    def parts(self) -> Mapping[int, int]:
        """The size of each part in bytes, by its number, from 1."""
        full, rest = divmod(self.announced.size_bytes, self.part_bytes)
        sizes = [self.part_bytes] * full + ([rest] if rest else [])
        return dict(enumerate(sizes, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """A ticket with the URLs to which the parts go that are not there yet, by number; nobody may keep them long."""

    ticket: Ticket
    urls: Mapping[int, str]
    urls_expire_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A verified content; `head` are its first bytes, all of them up to INSPECTED_BYTES."""

    id: str
    client_id: str
    content_type: str
    size_bytes: int
    sha1: str
    sha256: str
    head: bytes

    def adopted(self, id: str, declared: Declared, content_type: str, *, path: str) -> Adoption:
        """As the content of document `id`; raises Unprocessable (`value`) unless the metadata at `path` agree."""
        if content_type != self.content_type:
            place = f"{path}.contentType"
            raise Unprocessable("the content type is not that of the upload", code="value", expression=place)
        if declared.size_bytes not in (None, self.size_bytes):
            raise Unprocessable("the size is not that of the content", code="value", expression=f"{path}.size")
        if declared.sha1 not in (None, self.sha1):
            raise Unprocessable("the hash is not that of the content", code="value", expression=f"{path}.hash")
        return Adoption(
            id=id,
            upload_id=self.id,
            content_type=content_type,
            size_bytes=self.size_bytes,
            sha1=self.sha1,
            sha256=self.sha256,
        )

    @property
    def use(self) -> UploadUse:
        return UploadUse(client_id=self.client_id, id=self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketOpened(Change):
    ticket: Ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketSettled(Change):
    """An open ticket becomes verified or refused; raises Stale if it is open no more."""

    ticket: Ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadUse(Change):
    """A verified upload becomes the content of a document, and of no other: raises Conflict."""

    client_id: str
    id: str


def upload_id(url: str) -> str | None:
    """The id in a URL that may name an upload: `[base]/Binary/<id>`, absolute or relative."""
    match = _URL.fullmatch(url)
    return match["id"] if match else None


class UploadService:
    """`max_bytes` is the largest content: one that can be read within the time of a request."""

    def __init__(
        self,
        *,
        tickets: UploadTickets,
        space: UploadSpace,
        quarantine: Quarantine,
        journal: Journal,
        max_bytes: int,
    ) -> None:
        self._tickets = tickets
        self._space = space
        self._quarantine = quarantine
        self._journal = journal
        self._max_bytes = max_bytes

    def open(self, request: Request, announced: Announced) -> Invitation:
        """Give a ticket for a content to come.

        Raises TooLarge, Unprocessable where the announcement cannot be true, Busy when too many tickets are open.
        """
        self._check(announced)
        id = once(self._journal, request, lambda: self._opened(request, announced), lambda kept: str(kept["id"]))
        return self.invite(request, id)

    def invite(self, request: Request, id: str) -> Invitation:
        """URLs for the parts that are missing; raises NotFound, and Conflict once the content is complete."""
        ticket = self._find(request, id)
        sizes = self._space.parts(ticket) if ticket.state is State.OPEN else None
        if sizes is None:
            raise Conflict("the content is complete")
        missing = {number: size for number, size in ticket.parts.items() if sizes.get(number) != size}
        urls = {number: self._space.part_url(ticket, number, URL_LIFETIME) for number in missing}
        return Invitation(ticket=ticket, urls=urls, urls_expire_at=request.at + URL_LIFETIME)

    def complete(self, request: Request, id: str) -> Ticket:
        """Make one content of the parts, and verify it.

        Raises NotFound, Conflict (`incomplete`) while parts are missing, Unprocessable (`value`) when the content is
        not what was announced: then it is gone.
        """
        ticket = self._find(request, id)
        if ticket.state is State.OPEN:
            self._assemble(ticket)
            ticket = self._settle(request, ticket)
        if ticket.state is State.REFUSED:
            self._space.discard(ticket)
            raise Unprocessable(
                "the content is not what was announced", code="value", expression=f"Parameters.{ticket.refusal}"
            )
        return ticket

    def find(self, request: Request, url_or_id: str, *, path: str) -> Upload:
        """A verified upload of the caller, also one that was used; raises Unprocessable (`not-found`) for `path`.

        One in which malware was found is refused (`security`).
        """
        id = upload_id(f"Binary/{url_or_id.rpartition('/')[2]}")
        ticket = self._tickets.find(request.caller.client_id, id) if id else None
        if ticket is None or ticket.expires_at <= request.at or ticket.state not in (State.VERIFIED, State.USED):
            raise Unprocessable(
                "the content is neither in the submission nor uploaded", code="not-found", expression=path
            )
        self._quarantine.check_upload(ticket.id, path=path)
        announced = ticket.announced
        wanted = announced.size_bytes if announced.size_bytes <= INSPECTED_BYTES else _HEAD_BYTES
        return Upload(
            id=ticket.id,
            client_id=ticket.client_id,
            content_type=announced.content_type,
            size_bytes=announced.size_bytes,
            sha1=announced.sha1 or "",
            sha256=announced.sha256 or "",
            head=self._space.read(ticket, 0, wanted - 1),
        )

    def _check(self, announced: Announced) -> None:
        if announced.sha1 is None and announced.sha256 is None:
            raise Unprocessable("a hash is required: sha256, or hash (SHA-1)", code="required", expression="Parameters")
        for name, digest, length in (("hash", announced.sha1, 20), ("sha256", announced.sha256, 32)):
            if digest is not None and _length(digest) != length:
                raise Unprocessable(
                    f"{name} is not {length} bytes in base64", code="value", expression=f"Parameters.{name}"
                )
        families = _families(announced.content_type)
        if not families:
            raise Unprocessable("content of this type is not kept", code="value", expression="Parameters.contentType")
        if announced.size_bytes < 1:
            raise Unprocessable("the size is a number of bytes", code="value", expression="Parameters.size")
        if announced.size_bytes > self._max_bytes:
            raise TooLarge(f"a content has at most {self._max_bytes} bytes", expression="Parameters.size")
        if announced.size_bytes > INSPECTED_BYTES and not _STRUCTURED.isdisjoint(families):
            raise TooLarge(f"what must be read whole has at most {INSPECTED_BYTES} bytes", expression="Parameters.size")

    def _opened(self, request: Request, announced: Announced) -> str:
        client_id = request.caller.client_id
        alive = [each for each in self._tickets.of_client(client_id) if each.expires_at > request.at]
        if sum(each.state in (State.OPEN, State.VERIFIED) for each in alive) >= MAX_OPEN:
            raise Busy("too many uploads are open: publish them, or wait until they expire")
        id = new_ulid(request.at)
        ticket = Ticket(
            id=id,
            client_id=client_id,
            announced=announced,
            part_bytes=next((each for each in _PART_BYTES if announced.size_bytes <= _PARTS * each), _PART_BYTES[-1]),
            handle=self._space.begin(id, announced.content_type),
            expires_at=request.at + LIFETIME,
        )
        self._journal.commit([TicketOpened(ticket=ticket), *account_of(request, Touched(), {"id": id})])
        return id

    def _find(self, request: Request, id: str) -> Ticket:
        ticket = self._tickets.find(request.caller.client_id, id)
        if ticket is None or ticket.expires_at <= request.at:
            raise NotFound()
        return ticket

    def _assemble(self, ticket: Ticket) -> None:
        """Nothing to do where it was done before: then storage knows of no parts any more."""
        sizes = self._space.parts(ticket)
        if sizes is None:
            return
        if sizes != ticket.parts:
            raise Conflict("parts are missing, or of another size: ask for their URLs again", code="incomplete")
        self._space.assemble(ticket)

    def _settle(self, request: Request, ticket: Ticket) -> Ticket:
        settled = self._verified(ticket)
        try:
            self._journal.commit([TicketSettled(ticket=settled), *audit_of(request, Touched())])
        except Stale:  # the same request came twice
            return self._find(request, ticket.id)
        return settled

    def _verified(self, ticket: Ticket) -> Ticket:
        """Read the content once, a few megabytes at a time."""
        announced = ticket.announced
        size = self._space.size(ticket)
        if size is None:
            raise NotFound()
        sha1, sha256 = hashlib.sha1(usedforsecurity=False), hashlib.sha256()
        head = b""
        for first in range(0, size, _READ_BYTES):
            data = self._space.read(ticket, first, min(size, first + _READ_BYTES) - 1)
            head = head or data[:_HEAD_BYTES]
            sha1.update(data)
            sha256.update(data)
        found = replace(announced, size_bytes=size, sha1=_text(sha1.digest()), sha256=_text(sha256.digest()))
        refusal = _difference(announced, found)
        if refusal is None:
            refusal = None if _is_of_type(head, size, announced.content_type) else "contentType"
        if refusal is not None:
            return replace(ticket, state=State.REFUSED, refusal=refusal)
        return replace(ticket, state=State.VERIFIED, announced=found)


def _difference(announced: Announced, found: Announced) -> str | None:
    if announced.size_bytes != found.size_bytes:
        return "size"
    if announced.sha256 not in (None, found.sha256):
        return "sha256"
    return "hash" if announced.sha1 not in (None, found.sha1) else None


def _is_of_type(head: bytes, size: int, content_type: str) -> bool:
    """Whether the first bytes may be of that type; who publishes looks at more of them."""
    from passerelle.documents.contents import inspect  # few requests are uploads

    try:
        inspect(head, content_type, path="", is_whole=len(head) == size)
    except Unprocessable:
        return False
    return True


def _families(content_type: str) -> Collection[str]:
    """What the bytes of a type may be; nothing for a type that is not kept."""
    from passerelle.documents.contents.detection import declared_families, media_type_of

    media_type = media_type_of(content_type)
    return declared_families(media_type) or () if media_type is not None else ()


def _length(text: str) -> int | None:
    try:
        return len(base64.b64decode(text, validate=True))
    except ValueError:  # binascii.Error among them
        return None


def _text(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
