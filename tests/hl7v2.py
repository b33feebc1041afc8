"""HL7 v2 messages that tests convert: the synthetic examples, and what a message becomes."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from passerelle.fhir import json as fhir_json
from passerelle.fhir.bundles import parse_transaction
from passerelle.fhir.conversion.hl7v2 import convert
from passerelle.fhir.validation import validate
from passerelle.ingestion.model import Conversion, Source

EXAMPLES = Path(__file__).parent / "examples" / "hl7v2"
NAMES = sorted(each.stem for each in EXAMPLES.glob("*.hl7"))
DOMAIN = "urn:oid:2.999.1"
SOURCE = Source(
    domain=DOMAIN,
    organisation="1990000011",
    organisation_reference={
        "type": "Organization",
        "identifier": {"system": "urn:oid:1.2.250.1.71.4.2.2", "value": "1990000011"},
    },
    now=datetime(2026, 4, 1, 12, tzinfo=UTC),
)


def example(name: str) -> bytes:
    return (EXAMPLES / f"{name}.hl7").read_bytes()


def changed(name: str, *changes: tuple[str, str]) -> bytes:
    """An example with other words; each has to be in it."""
    text = example(name).decode()
    for before, after in changes:
        assert before in text, before
        text = text.replace(before, after)
    return text.encode()


def made(conversion: Conversion, kind: str) -> list[dict[str, Any]]:
    """The resources of a type, in the order of the message."""
    entries = conversion.bundle.get("entry", ())
    return [each["resource"] for each in entries if each["resource"]["resourceType"] == kind]


def only(conversion: Conversion, kind: str) -> dict[str, Any]:
    (found,) = made(conversion, kind)
    return found


def request_of(conversion: Conversion, kind: str) -> dict[str, str]:
    found = (each for each in conversion.bundle["entry"] if each["resource"]["resourceType"] == kind)
    request: dict[str, str] = next(found)["request"]
    return request


def counted(conversion: Conversion) -> Counter[str]:
    return Counter(each["resource"]["resourceType"] for each in conversion.bundle.get("entry", ()))


def check(conversion: Conversion) -> None:
    """Every resource is valid FHIR R4, and the transaction is one."""
    if conversion.bundle:
        for entry in parse_transaction(fhir_json.loads(fhir_json.dumps(conversion.bundle))):
            if entry.method in ("POST", "PUT"):
                validate(entry.resource, path=entry.path)


def converted(data: bytes) -> Conversion:
    conversion = convert(data, SOURCE)
    check(conversion)
    return conversion
