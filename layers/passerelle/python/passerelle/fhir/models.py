"""A second reading of a resource, by the models of fhir.resources: the only importer of that library.

What is stored is decided by the definitions of R4 alone (`validation.py`). `$validate` adds what another implementation
says: its models are of R4B, which differs from R4 in a few types, so that its refusals are advice (contract D11).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

from passerelle.errors import Issue

MAX_ISSUES: Final = 50
# What pydantic found, as FHIR issue codes; everything else is a value that it does not take.
_CODES: Final[Mapping[str, str]] = {"missing": "required", "extra_forbidden": "structure"}


def second_reading(resource: Mapping[str, Any]) -> tuple[Issue, ...]:
    """What R4B has against a resource that is valid in R4: nothing for a type that R4B lacks."""
    name = str(resource["resourceType"])
    try:
        model: Any = get_fhir_model_class(name)
    except (KeyError, ValueError):
        return ()
    try:
        model.model_validate(resource)
    except ValidationError as refusal:
        # No message and no input: both repeat what was sent.
        found = refusal.errors(include_url=False, include_context=False, include_input=False)
        issues = dict.fromkeys(_issue(name, each["type"], each["loc"]) for each in found)
        return tuple(issues)[:MAX_ISSUES]
    return ()


def _issue(name: str, kind: str, location: Sequence[str | int]) -> Issue:
    code = _CODES.get(kind, "value")
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{_element(part)}" for part in location)
    return Issue(code=code, diagnostics="the models of R4B do not take the element", expression=f"{name}{path}")


def _element(name: str) -> str:
    """What stands beside a primitive (`_family`) is about the same element."""
    return name.removeprefix("_").removesuffix("__ext")
