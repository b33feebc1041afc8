"""Parameters: the arguments of an operation in a body (FHIR R4 section 3.2.0.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from passerelle.errors import Invalid
from passerelle.fhir.validation import check_members


def parameters_of(body: Any) -> list[Mapping[str, Any]]:
    """The parameters of a Parameters resource that nobody validated; raises Invalid (`structure`)."""
    if not isinstance(body, Mapping) or body.get("resourceType") != "Parameters":
        raise Invalid("a Parameters resource is expected", code="structure", expression="Parameters")
    listed = body.get("parameter", [])
    if not isinstance(listed, list) or not all(isinstance(each, Mapping) for each in listed):
        raise Invalid("an array of parameters is expected", code="structure", expression="Parameters.parameter")
    faults = check_members(body, "Parameters", "Parameters")
    if faults:
        raise Invalid(issues=faults)
    return listed
