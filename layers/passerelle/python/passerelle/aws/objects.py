"""Objects of a bucket: written once under the bucket's customer key, and verified when read.

`IfNoneMatch` makes the write insert-only; S3 verifies the SHA-256 on the way in, we verify it on the way out. Contract
relied on: Amazon S3 API reference, PutObject, CopyObject, GetObject ("Checking object integrity").
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from passerelle.aws.dynamodb import aws_errors, count
from passerelle.errors import Fault, Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An object; `metadata` holds its SHA-256 in base64. `data` is None where it was too large to read."""

    size_bytes: int
    metadata: Mapping[str, str]
    data: bytes | None


class S3Objects:
    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def put(
        self,
        key: str,
        data: bytes,
        content_type: str,
        *,
        metadata: Mapping[str, str] | None = None,
        retain_until: datetime | None = None,
    ) -> None:
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
                Metadata={"sha256": _sha256(data), **(metadata or {})},
                IfNoneMatch="*",
                **_lock(retain_until),
            )

    def copy(
        self,
        source: tuple[str, str],
        key: str,
        content_type: str,
        *,
        metadata: Mapping[str, str],
        retain_until: datetime | None = None,
    ) -> None:
        """Store a copy of an object, `source` being bucket and key, as `put` would; `metadata` has its SHA-256.

        S3 computes that of what it wrote: raises Fault if it is another one.
        """
        count("CopyObject")
        with _own_retry_is_success(), aws_errors():
            answer = self._client.copy_object(
                Bucket=self._bucket,
                Key=key,
                CopySource={"Bucket": source[0], "Key": source[1]},
                MetadataDirective="REPLACE",
                ContentType=content_type,
                Metadata=dict(metadata),
                ChecksumAlgorithm="SHA256",
                IfNoneMatch="*",
                **_lock(retain_until),
            )
            if answer["CopyObjectResult"].get("ChecksumSHA256", metadata["sha256"]) != metadata["sha256"]:
                raise Fault()

    def find(self, key: str) -> bytes | None:
        """The bytes under a key; raises Fault when they are not those that were stored."""
        found = self.open(key)
        return found.data if found else None

    def open(self, key: str, *, limit: int | None = None) -> Found | None:
        """The same with what is kept beside the bytes; these are not read if they are more than `limit`."""
        count("GetObject")
        try:
            with aws_errors():
                answer = self._client.get_object(Bucket=self._bucket, Key=key)
                size = int(answer["ContentLength"])
                if limit is not None and size > limit:
                    answer["Body"].close()
                    return Found(size_bytes=size, metadata=answer["Metadata"], data=None)
                data: bytes = answer["Body"].read()
        except Fault as fault:
            if code_of(fault) == "NoSuchKey":
                return None
            raise
        if answer["Metadata"]["sha256"] != _sha256(data):
            raise Fault()
        return Found(size_bytes=size, metadata=answer["Metadata"], data=data)

    def read(self, key: str, first: int, last: int) -> bytes:
        """The bytes `first` to `last`, which are there; raises Unavailable when fewer came."""
        count("GetObject")
        with aws_errors():
            answer = self._client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={first}-{last}")
            data: bytes = answer["Body"].read()
        if len(data) != last - first + 1:
            raise Unavailable("a dependency failed; repeat the same request")
        return data

    def link(self, key: str, *, content_type: str, lifetime: timedelta) -> str:
        """A URL that gives the object, as a download of that type, to whoever has it."""
        named = {"Bucket": self._bucket, "Key": key}
        shown = {
            "ResponseContentType": content_type,
            "ResponseContentDisposition": "attachment",
            "ResponseCacheControl": "no-store",
        }
        seconds = int(lifetime.total_seconds())
        url: str = self._client.generate_presigned_url("get_object", Params=named | shown, ExpiresIn=seconds)
        return url

    def delete(self, key: str) -> None:
        """Take an object out of reach: in a bucket with versions it is kept for a while, as its lifecycle says."""
        count("DeleteObject")
        with aws_errors():
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def purge(self, prefix: str) -> None:
        """Delete every version of every object below a prefix for good, under whatever lock: nothing brings them back.

        Raises Unavailable if some are left.
        """
        place: dict[str, str] = {}
        while True:
            count("ListObjectVersions")
            with aws_errors():
                page = self._client.list_object_versions(Bucket=self._bucket, Prefix=prefix, **place)
            found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            if found:
                self._delete_versions([{"Key": each["Key"], "VersionId": each["VersionId"]} for each in found])
            if not page.get("IsTruncated"):
                return
            place = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}

    def _delete_versions(self, versions: list[dict[str, str]]) -> None:
        count("DeleteObjects")
        with aws_errors():
            answer = self._client.delete_objects(
                Bucket=self._bucket, Delete={"Objects": versions, "Quiet": True}, BypassGovernanceRetention=True
            )
        if answer.get("Errors"):
            raise Unavailable("a dependency failed; repeat the same request")


def _lock(retain_until: datetime | None) -> dict[str, Any]:
    if retain_until is None:
        return {}
    # Governance, not compliance: a person's right to erasure (GDPR, article 17) must stay possible.
    return {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": retain_until}


@contextmanager
def _own_retry_is_success() -> Iterator[None]:
    """Take "it exists" for "it is stored": an attempt whose answer was lost."""
    try:
        yield
    except Fault as fault:
        if code_of(fault) != "PreconditionFailed":
            raise


def code_of(fault: Fault) -> str:
    """The code of the AWS error behind a fault; empty if there is none."""
    return str(getattr(fault.__cause__, "response", {}).get("Error", {}).get("Code", ""))


def _sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()
