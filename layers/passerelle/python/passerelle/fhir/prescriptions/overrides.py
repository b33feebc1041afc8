"""Answers to findings among the parameters of an operation (e-prescription contract, sections 5 and 17)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from passerelle.fhir.prescriptions.faults import invalid, required
from passerelle.prescriptions.checking import MAX_OVERRIDES, MAX_TEXT_CHARACTERS, reasons
from passerelle.prescriptions.errors import rx
from passerelle.prescriptions.model import Override

Json = Mapping[str, Any]


def overrides_in(parameters: Iterable[Json], name: str, role: str) -> tuple[Override, ...]:
    """The parameters `name`, each with `finding`, `reason` and (required by the reason `other`) `text`."""
    where = f"Parameters.parameter.where(name='{name}')"
    found: dict[str, Override] = {}
    for parameter in parameters:
        values = {each["name"]: _value(each) for each in parameter.get("part", [])}
        is_text = all(isinstance(each, str) for each in values.values())
        if not values.keys() <= {"finding", "reason", "text"} or not is_text:
            raise invalid("an answer to a finding has finding, reason and text", where)
        if "finding" not in values or "reason" not in values:
            raise required("an answer names a finding and a reason", where)
        reason, text = reasons().get(values["reason"]), values.get("text", "")
        if reason is None or role not in reason.by:
            allowed = ", ".join(each.code for each in reasons().values() if role in each.by)
            raise rx("RX-INVALID", f"the reason is one of {allowed}", issue="code-invalid", expression=where)
        if len(text) > MAX_TEXT_CHARACTERS or (reason.code == "other" and not text.strip()):
            raise invalid(f"the text has at most {MAX_TEXT_CHARACTERS} characters, and the reason other has one", where)
        if values["finding"] in found:
            raise invalid("a finding is answered once", where)
        found[values["finding"]] = Override(finding=values["finding"], reason=reason.code, text=text)
    if len(found) > MAX_OVERRIDES:
        raise invalid(f"at most {MAX_OVERRIDES} findings are answered at once", where)
    return tuple(found.values())


def _value(part: Json) -> Any:
    return next((value for name, value in part.items() if name.startswith("value")), None)
