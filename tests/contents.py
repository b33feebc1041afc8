"""Documents with a content of a test's own: publish one by ITI-65, and what its content is like."""

from __future__ import annotations

import base64
import hashlib
import random
import uuid
from typing import Any

from local.gateway import Response
from tests import examples
from tests.exchange import Client


def pdf(size: int, seed: int = 1) -> bytes:
    """Bytes that pass for a PDF of that size, the same for the same seed."""
    head, tail = b"%PDF-1.7\n", b"\n%%EOF\n"
    # Digits and letters: nothing that could be a name of PDF.
    filling = random.Random(seed).randbytes((size - len(head) - len(tail) + 1) // 2).hex().encode()
    return head + filling[: size - len(head) - len(tail)] + tail


def sha1(data: bytes) -> str:
    return base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()


def sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def submission(key: str, data: bytes, content_type: str, *, unique: str | None = None) -> dict[str, Any]:
    """A submission of one document to the record of a patient."""
    bundle = examples.submission(f"Patient/{key}", content=data, unique=unique or f"urn:uuid:{uuid.uuid4()}")
    _, document, binary = (entry["resource"] for entry in bundle["entry"])
    document["content"][0]["attachment"]["contentType"] = binary["contentType"] = content_type
    fill_in(bundle)
    return bundle


def fill_in(bundle: dict[str, Any]) -> None:
    """What PDSm asks for beyond MHD."""
    document = bundle["entry"][1]["resource"]
    document["content"][0]["attachment"].setdefault("title", "Compte rendu")
    document["context"].setdefault("period", {"start": "2026-06-12T09:00:00+02:00"})
    document.setdefault("custodian", {"identifier": {"system": "urn:oid:1.2.250.1.71.4.2.2", "value": "1990000011"}})


def uploaded_submission(key: str, url: str, data: bytes, content_type: str, **options: Any) -> dict[str, Any]:
    """The same for a content that was uploaded: the metadata name it, and no Binary comes along."""
    bundle = submission(key, data, content_type, **options)
    del bundle["entry"][2]
    bundle["entry"][1]["resource"]["content"][0]["attachment"]["url"] = url
    return bundle


def publish(client: Client, bundle: dict[str, Any], **headers: str) -> Response:
    answer = client.post("", bundle, **headers)
    assert answer.status == 200, answer.body
    return answer


def published(client: Client, key: str, data: bytes, content_type: str = "application/pdf") -> str:
    """Publish a document; the path of its content below the base: `Binary/<id>`."""
    return place_of(publish(client, submission(key, data, content_type)))


def place_of(answer: Response) -> str:
    location = next(
        entry["response"]["location"]
        for entry in answer.json["entry"]
        if "DocumentReference/" in entry["response"]["location"]
    )
    return f"Binary/{location.partition('DocumentReference/')[2].partition('/')[0]}"
