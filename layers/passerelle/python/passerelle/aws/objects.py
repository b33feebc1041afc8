"""Objects of the documents bucket: written once under the bucket's customer key, and verified when read.

`IfNoneMatch` makes the write insert-only; S3 verifies the SHA-256 on the way in, we verify it on the way out.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from passerelle.aws.dynamodb import aws_errors, count
from passerelle.errors import Fault


class S3Objects:
    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Store an object; a key that exists already holds these bytes, because no key is given to others."""
        count("PutObject")
        with _own_retry_is_success(), aws_errors():
            self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=data,
                ContentType=content_type,
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=_sha256(data),
                Metadata={"sha256": _sha256(data)},
                IfNoneMatch="*",
            )

    def find(self, key: str) -> bytes | None:
        """The bytes under a key; raises Fault when they are not those that were stored."""
        count("GetObject")
        try:
            with aws_errors():
                answer = self._client.get_object(Bucket=self._bucket, Key=key)
                data: bytes = answer["Body"].read()
        except Fault as fault:
            if _code(fault) == "NoSuchKey":
                return None
            raise
        if answer["Metadata"]["sha256"] != _sha256(data):
            raise Fault()
        return data


@contextmanager
def _own_retry_is_success() -> Iterator[None]:
    """Take "it exists" for "it is stored": an attempt whose answer was lost."""
    try:
        yield
    except Fault as fault:
        if _code(fault) != "PreconditionFailed":
            raise


def _code(fault: Fault) -> str:
    return str(getattr(fault.__cause__, "response", {}).get("Error", {}).get("Code", ""))


def _sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()
