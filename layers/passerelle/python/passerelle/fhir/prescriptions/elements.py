"""Elements that all resources of a prescription are made of; their systems have the base it was created at as root."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from passerelle.fhir.prescriptions.orders import STRUCTURE
from passerelle.prescriptions.model import Group

Json = Mapping[str, Any]

JOSE = "application/jose"
FHIR_JSON = "application/fhir+json"
AUTHOR: Json = {"system": "urn:iso-astm:E1762-95:2013", "code": "1.2.840.10065.1.12.1.1"}


def concept(group: Group, system: str, code: str) -> Json:
    return {"coding": [{"system": f"{group.base_url}/CodeSystem/{system}", "code": code}]}


def extension(group: Group, name: str, parts: Mapping[str, Json]) -> Json:
    nested = [{"url": part, **value} for part, value in parts.items()]
    return {"extension": nested, "url": f"{group.base_url}/StructureDefinition/{name}"}


def organisation(identifier: str) -> Json:
    return {"identifier": {"system": STRUCTURE, "value": identifier}}


def number_of(group: Group) -> Json:
    return {"system": f"{group.base_url}/sid/prescription-number", "value": group.number}
