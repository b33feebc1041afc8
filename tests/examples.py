"""Small synthetic resources that tests vary: each call gives a new one."""

from __future__ import annotations

from typing import Any

from local.region import IDENTIFIER_TYPES, INS_TEST, ins_of, people
from local.samples import CDA, MHD, PDSM, submission

__all__ = ["CDA", "DOMAIN", "MHD", "PDSM", "ins", "national", "observation", "patient", "submission"]

DOMAIN = "urn:oid:2.999.1"


def patient(number: int = 1, *, domain: str = DOMAIN) -> tuple[str, dict[str, Any]]:
    """Person `number` (1 to 20) of the synthetic region, as one source registers them: local identifier, Patient."""
    return list(people(domain))[number - 1]


def ins(number: int = 1) -> str:
    """`system|value`"""
    return f"{INS_TEST}|{ins_of(number)}"


def national(system: str, value: str, type: str = "INS-NIR", *, use: str = "official") -> dict[str, Any]:
    """A national identifier, as FR Core has it."""
    coding = {"system": IDENTIFIER_TYPES, "code": type}
    return {"use": use, "type": {"coding": [coding]}, "system": system, "value": value}


def observation(key: str, **changed: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
        "subject": {"reference": f"Patient/{key}"},
        "effectiveDateTime": "2026-03-14T08:30:00+01:00",
        "valueQuantity": {"value": 7.2, "unit": "g/dL"},
    } | changed
