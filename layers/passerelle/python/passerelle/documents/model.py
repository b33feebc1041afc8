"""Documents: content that is kept as the bytes it was sent as, described by a DocumentReference."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from passerelle.errors import Unprocessable

# IHE MHD 3.65.4.1.3: size 0 with the hash of no bytes announces content that is created later.
_DELAYED = (0, base64.b64encode(hashlib.sha1(b"", usedforsecurity=False).digest()).decode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The bytes of a document; `id` is the id of its DocumentReference and of its Binary."""

    id: str
    content_type: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What serving the content of a document takes; `patient` is the key of its record."""

    id: str
    patient: str
    status: str
    content_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a submission says of its content: size in bytes and SHA-1 in base64, each optional."""

    size_bytes: int | None
    sha1: str | None


def verified(content: Content, declared: Declared, *, path: str) -> Content:
    """The content, if it is what was declared; raises Unprocessable (`value`) naming the element that differs."""
    if (declared.size_bytes, declared.sha1) == _DELAYED:
        return content
    if declared.size_bytes is not None and declared.size_bytes != len(content.data):
        raise Unprocessable("the size is not that of the content", code="value", expression=f"{path}.size")
    # SHA-1 because FHIR R4 Attachment.hash says so; storage keeps SHA-256 beside it.
    sha1 = base64.b64encode(hashlib.sha1(content.data, usedforsecurity=False).digest()).decode()
    if declared.sha1 is not None and declared.sha1 != sha1:
        raise Unprocessable("the hash is not that of the content", code="value", expression=f"{path}.hash")
    return content


def decoded(data: str, *, path: str) -> bytes:
    """The bytes of a base64Binary; raises Unprocessable (`value`)."""
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        raise Unprocessable("the data is not base64", code="value", expression=path) from None
