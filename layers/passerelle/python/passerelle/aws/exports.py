"""Exports of records on S3, in the bucket of uploads, where nothing stays.

    uploads bucket  exports/<patient key>/<ulid>    a ZIP archive; gone a day or two later

Contract relied on: Amazon S3 user guide, "Uploading and copying objects using multipart upload" (parts of 5 MB at
least, but the last); what is not completed goes by the lifecycle of the bucket.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from passerelle.aws.dynamodb import aws_errors, count
from passerelle.aws.objects import S3Objects

PART_BYTES: Final = 8 * 1024 * 1024
_TYPE: Final = "application/zip"


class S3ExportSpace:
    """`exports.ports.ExportSpace`"""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket
        self._objects = S3Objects(client, bucket)

    def begin(self, key: str) -> S3Sink:
        return S3Sink(self._client, self._bucket, _key(key))

    def link(self, key: str, lifetime: timedelta) -> str:
        return self._objects.link(_key(key), content_type=_TYPE, lifetime=lifetime)


class S3Sink:
    """`exports.ports.Sink`"""

    def __init__(self, client: Any, bucket: str, key: str) -> None:
        self._client = client
        self._place = {"Bucket": bucket, "Key": key}
        self._waiting = bytearray()
        self._upload = ""
        self._parts: list[dict[str, Any]] = []

    def write(self, data: bytes) -> None:
        self._waiting += data
        while len(self._waiting) >= PART_BYTES:
            self._send(bytes(self._waiting[:PART_BYTES]))
            del self._waiting[:PART_BYTES]

    def close(self) -> None:
        if not self._upload:
            count("PutObject")
            with aws_errors():
                self._client.put_object(**self._place, Body=bytes(self._waiting), ContentType=_TYPE)
            return
        if self._waiting:
            self._send(bytes(self._waiting))
        count("CompleteMultipartUpload")
        with aws_errors():
            self._client.complete_multipart_upload(
                **self._place, UploadId=self._upload, MultipartUpload={"Parts": self._parts}
            )

    def _send(self, data: bytes) -> None:
        if not self._upload:
            count("CreateMultipartUpload")
            with aws_errors():
                self._upload = self._client.create_multipart_upload(**self._place, ContentType=_TYPE)["UploadId"]
        number = len(self._parts) + 1
        count("UploadPart")
        with aws_errors():
            answer = self._client.upload_part(**self._place, UploadId=self._upload, PartNumber=number, Body=data)
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})


def _key(key: str) -> str:
    return f"exports/{key}"
