"""The document vault on S3: one object per document.

documents/<patient key>/<ulid>      the bytes; content type and SHA-256 beside them
"""

from __future__ import annotations

from passerelle.aws.objects import S3Objects
from passerelle.documents.model import Content
from passerelle.errors import NotFound


class S3DocumentVault:
    """`documents.ports.DocumentVault`."""

    def __init__(self, objects: S3Objects) -> None:
        self._objects = objects

    def put(self, content: Content) -> None:
        self._objects.put(_key(content.id), content.data, content.content_type)

    def get(self, id: str) -> bytes:
        data = self._objects.find(_key(id))
        if data is None:
            raise NotFound("Document Not Found")
        return data


def _key(id: str) -> str:
    patient, _, local = id.partition("-")
    return f"documents/{patient}/{local}"
