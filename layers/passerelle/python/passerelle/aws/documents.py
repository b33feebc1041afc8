"""The document vault on S3: one object per document.

documents/<patient key>/<ulid>      the bytes; content type, SHA-256 and SHA-1 beside them
"""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import timedelta
from typing import Final

from passerelle.aws import uploads  # also registers how tickets are stored
from passerelle.aws.objects import S3Objects
from passerelle.documents.model import Adoption, Content, Kept
from passerelle.errors import NotFound

PREFIX: Final = "documents/"
_KEY: Final = re.compile(rf"{PREFIX}(?P<patient>[0-9a-z]{{16}})/(?P<local>[0-9a-z]{{26}})", re.ASCII)


class S3DocumentVault:
    """`documents.ports.DocumentVault`; `uploads_bucket` is where adopted contents come from."""

    def __init__(self, objects: S3Objects, *, uploads_bucket: str) -> None:
        self._objects = objects
        self._uploads_bucket = uploads_bucket

    def put(self, content: Content) -> None:
        sha1 = base64.b64encode(hashlib.sha1(content.data, usedforsecurity=False).digest()).decode()
        self._objects.put(
            _key(content.id),
            content.data,
            content.content_type,
            metadata={"sha1": sha1},
            retain_until=content.retain_until,
        )

    def adopt(self, adoption: Adoption) -> None:
        self._objects.copy(
            (self._uploads_bucket, uploads.key_of(adoption.upload_id)),
            _key(adoption.id),
            adoption.content_type,
            metadata={"sha256": adoption.sha256, "sha1": adoption.sha1},
            retain_until=adoption.retain_until,
        )

    def get(self, id: str, *, limit: int) -> Kept:
        found = self._objects.open(_key(id), limit=limit)
        if found is None:
            raise NotFound("Document Not Found")
        metadata = found.metadata
        return Kept(size_bytes=found.size_bytes, sha256=metadata["sha256"], sha1=metadata.get("sha1"), data=found.data)

    def read(self, id: str, first: int, last: int) -> bytes:
        return self._objects.read(_key(id), first, last)

    def link(self, id: str, *, content_type: str, lifetime: timedelta) -> str:
        return self._objects.link(_key(id), content_type=content_type, lifetime=lifetime)

    def discard(self, id: str) -> None:
        self._objects.delete(_key(id))


def _key(id: str) -> str:
    patient, _, local = id.partition("-")
    return f"{PREFIX}{patient}/{local}"


def id_of(key: str) -> str | None:
    """The id of the document whose content has this key; None for an object of another kind."""
    match = _KEY.fullmatch(key)
    return f"{match['patient']}-{match['local']}" if match else None
