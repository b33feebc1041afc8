"""What conversions share: entries of the transaction that a message becomes, and the names that what is made goes by.

An identifier is made of who sent a message and of what its sender calls the thing, under a UUID of version 5: the same
message again, and a correction, meet the same resource; messages of others never do, whatever numbers they use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID, uuid5

from passerelle.ingestion.model import Source
from passerelle.patients.model import Identifier

URI: Final = "urn:ietf:rfc:3986"
_NAMESPACE: Final = UUID("3f0d8f3e-5a0c-5d0e-9c41-6f8a1b8a8d11")

Entry = Mapping[str, Any]


def made_uuid(source: Source, *names: str) -> str:
    """`urn:uuid:…`, the same for the same names from the same source."""
    return f"urn:uuid:{uuid5(_NAMESPACE, chr(0).join((source.domain, *names)))}"


def made_identifier(source: Source, *names: str) -> Identifier:
    return URI, made_uuid(source, *names)


def identifier_element(identifier: Identifier) -> dict[str, str]:
    return {"system": identifier[0], "value": identifier[1]}


def put(identifier: Identifier, resource: Mapping[str, Any]) -> dict[str, Any]:
    """The entry that creates or replaces the resource of this identifier."""
    kind = resource["resourceType"]
    return {
        "fullUrl": identifier[1],
        "resource": {**resource, "identifier": [identifier_element(identifier), *resource.get("identifier", ())]},
        "request": {"method": "PUT", "url": f"{kind}?identifier={identifier[0]}|{identifier[1]}"},
    }


def post(full_url: str, resource: Mapping[str, Any], **condition: str) -> dict[str, Any]:
    return {
        "fullUrl": full_url,
        "resource": resource,
        "request": {"method": "POST", "url": resource["resourceType"], **condition},
    }


def present(elements: Mapping[str, Any]) -> dict[str, Any]:
    """The elements that have a value: FHIR has no empty ones."""
    return {name: value for name, value in elements.items() if value not in (None, "", [], {}, ())}


def concept_text(text: str | None) -> dict[str, str] | None:
    return {"text": text} if text else None
