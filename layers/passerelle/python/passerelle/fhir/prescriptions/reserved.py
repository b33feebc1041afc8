"""What only the exchange says: numbers of prescriptions and of their lines, and Tasks that are prescriptions.

E-prescription contract, section 3. Whoever writes a resource with one of these would have it found beside the
prescription as part of it, unsigned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from passerelle.errors import Unprocessable
from passerelle.fhir import json as fhir_json

NUMBERS = "/sid/prescription-"
_TASKS = "/CodeSystem/rx-task"


class ReservedNumbers:
    """`records.model.Succession`: no client gives them to a resource of its own."""

    def check(self, type: str, before: bytes | None, after: bytes | None) -> None:
        resource: Mapping[str, Any] = fhir_json.loads(after) if after else {}
        group = resource.get("groupIdentifier")
        identifiers = [*resource.get("identifier", []), *([group] if group else [])]
        if any(NUMBERS in each.get("system", "") for each in identifiers):
            raise Unprocessable(
                "numbers of prescriptions are the exchange's to give",
                code="business-rule",
                expression=f"{type}.identifier",
            )
        codings = resource.get("code", {}).get("coding", []) if type == "Task" else []
        if any(each.get("system", "").endswith(_TASKS) for each in codings):
            raise Unprocessable(
                "prescriptions are made by their own operations", code="business-rule", expression="Task.code"
            )
