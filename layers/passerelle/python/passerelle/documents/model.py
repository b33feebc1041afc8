"""Documents: content that is kept as the bytes it was sent as, described by a DocumentReference."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime

from passerelle.errors import Unprocessable

# IHE MHD 3.65.4.1.3: size 0 with the hash of no bytes announces content that is created later.
_DELAYED = (0, base64.b64encode(hashlib.sha1(b"", usedforsecurity=False).digest()).decode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The bytes of a document; `id` is the id of its DocumentReference and of its Binary.

    Nobody can delete them before `retain_until`.
    """

    id: str
    content_type: str
    data: bytes
    retain_until: datetime | None = None

    @property
    def sha256(self) -> str:
        """In base64."""
        return base64.b64encode(hashlib.sha256(self.data).digest()).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """A verified upload becomes the content of a document: as Content, but the bytes are in storage already."""

    id: str
    upload_id: str
    content_type: str
    size_bytes: int
    sha1: str
    sha256: str
    retain_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A content as storage has it; hashes in base64. `data` are its bytes, verified, unless it is too large for that.

    `sha1` is None for what was stored before it was kept.
    """

    size_bytes: int
    sha256: str
    sha1: str | None = None
    data: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A range of bytes as it is asked for (RFC 9110 section 14.1.2): from `first`, or (None) the last `last` ones."""

    first: int | None
    last: int | None

    def within(self, size_bytes: int) -> tuple[int, int] | None:
        """First and last byte of a content of this size; None if it has no byte of the range."""
        end = size_bytes - 1
        if self.first is None:
            return (max(0, size_bytes - self.last), end) if self.last and size_bytes else None
        return (self.first, end if self.last is None else min(self.last, end)) if self.first <= end else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What leaves the vault: bytes, those of `span` if it is there, or (`data` None) a URL that gives all of them."""

    content_type: str
    kept: Kept
    data: bytes | None = None
    span: tuple[int, int] | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What serving the content of a document takes; `patient` is the key of its record.

    `is_awaited`: the metadata came first, the content did not come yet (delayed document assembly).
    """

    id: str
    patient: str
    status: str
    content_type: str
    is_awaited: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a submission says of its content: size in bytes and SHA-1 in base64, each optional."""

    size_bytes: int | None
    sha1: str | None

    @property
    def is_delayed(self) -> bool:
        """Whether the content is announced, and created later (IHE MHD 2:3.65.4.1.2.1)."""
        return (self.size_bytes, self.sha1) == _DELAYED


def verified(content: Content, declared: Declared, *, path: str) -> Content:
    """The content, if it is what was declared; raises Unprocessable (`value`) naming the element that differs."""
    if declared.is_delayed:
        return content
    if declared.size_bytes is not None and declared.size_bytes != len(content.data):
        raise Unprocessable("the size is not that of the content", code="value", expression=f"{path}.size")
    # SHA-1 because FHIR R4 Attachment.hash says so; storage keeps SHA-256 beside it.
    sha1 = base64.b64encode(hashlib.sha1(content.data, usedforsecurity=False).digest()).decode()
    if declared.sha1 is not None and declared.sha1 != sha1:
        raise Unprocessable("the hash is not that of the content", code="value", expression=f"{path}.hash")
    return content


def decoded(data: str, *, path: str) -> bytes:
    """The bytes of a base64Binary, white space in it or not; raises Unprocessable (`value`)."""
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except ValueError:  # of which binascii.Error is one
        raise Unprocessable("the data is not base64", code="value", expression=path) from None
