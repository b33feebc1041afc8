"""The document vault on S3: one object per document, written once, under the bucket's customer key.

    documents/<patient key>/<ulid>      the bytes; content type and SHA-256 beside them

`IfNoneMatch` makes the write insert-only; S3 verifies the SHA-256 on the way in, we verify it on the way out.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from passerelle.aws.dynamodb import aws_errors, count
from passerelle.documents.model import Content
from passerelle.errors import Fault, NotFound


class S3DocumentVault:
    """`documents.ports.DocumentVault`."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def put(self, content: Content) -> None:
        count("PutObject")
        with _own_retry_is_success(), aws_errors():
            self._client.put_object(
                Bucket=self._bucket,
                Key=_key(content.id),
                Body=content.data,
                ContentType=content.content_type,
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=_sha256(content.data),
                Metadata={"sha256": _sha256(content.data)},
                IfNoneMatch="*",
            )

    def get(self, id: str) -> bytes:
        count("GetObject")
        try:
            with aws_errors():
                answer = self._client.get_object(Bucket=self._bucket, Key=_key(id))
                data: bytes = answer["Body"].read()
        except Fault as fault:
            if _code(fault) == "NoSuchKey":
                raise NotFound("Document Not Found") from None
            raise
        if answer["Metadata"]["sha256"] != _sha256(data):
            raise Fault()
        return data


@contextmanager
def _own_retry_is_success() -> Iterator[None]:
    """Take "it exists" for "it is stored": no id is used twice, so it was an attempt whose answer was lost."""
    try:
        yield
    except Fault as fault:
        if _code(fault) != "PreconditionFailed":
            raise


def _code(fault: Fault) -> str:
    return str(getattr(fault.__cause__, "response", {}).get("Error", {}).get("Code", ""))


def _key(id: str) -> str:
    patient, _, local = id.partition("-")
    return f"documents/{patient}/{local}"


def _sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()
