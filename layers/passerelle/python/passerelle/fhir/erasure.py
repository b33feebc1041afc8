"""Erasing a person, as Parameters (FHIR R4 section 3.2.0.5): no specification has it, the operation is our own."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeVar

from passerelle.erasure.model import Erased, Ground, Override, Proposal, Terms
from passerelle.errors import Invalid
from passerelle.fhir.dates import instant
from passerelle.fhir.parameters import Arguments

_KINDS = {
    "ground": "valueCode",
    "override": "valueCode",
    "export-declined": "valueBoolean",
    "confirmation": "valueString",
}
C = TypeVar("C", bound=StrEnum)


def parse_order(body: Any) -> tuple[Terms, bool, str]:
    """The terms, whether no export is wanted, and the confirmation if it came; raises Invalid."""
    given = Arguments(body, _KINDS)
    given.required("ground")
    override = _code(given, "override", Override) if "override" in given else None
    terms = Terms(ground=_code(given, "ground", Ground), override=override)
    return terms, given.get("export-declined", False) is True, given.text("confirmation")


def _code(given: Arguments, name: str, kind: type[C]) -> C:
    try:
        return kind(given.get(name))
    except ValueError:
        raise Invalid(
            f"{name} is one of {', '.join(kind)}", code="code-invalid", expression=given.place(name)
        ) from None


def render_proposal(proposal: Proposal) -> dict[str, Any]:
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "state", "valueCode": "proposed"},
            {"name": "confirmation", "valueString": proposal.confirmation},
            {"name": "confirm-until", "valueInstant": instant(proposal.expires_at)},
            *([{"name": "exported", "valueInstant": instant(proposal.exported_at)}] if proposal.exported_at else []),
            *_patients(proposal.patients),
        ],
    }


def render_erased(erased: Erased) -> dict[str, Any]:
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "state", "valueCode": "erased"},
            {"name": "at", "valueInstant": instant(erased.at)},
            *_patients(erased.patients),
        ],
    }


def _patients(patients: tuple[str, ...]) -> list[dict[str, Any]]:
    return [{"name": "patient", "valueReference": {"reference": f"Patient/{each}"}} for each in patients]
