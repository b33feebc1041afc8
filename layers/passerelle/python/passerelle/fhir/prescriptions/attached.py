"""What is sent beside the lines of a prescription, and becomes part of them: `$create`, a Bundle of several types.

A line is signed and stored by itself. So what it refers to in the Bundle (a Medication and its components, who asks, an
observation that a dose goes by) is contained in it, under the id that it had where that can be. Nothing of a Patient is
kept: the line is for the person that its subject names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from passerelle.fhir.prescriptions.faults import invalid

Json = Mapping[str, Any]

KINDS = frozenset({"Medication", "Observation", "Organization", "Patient", "Practitioner", "PractitionerRole"})
_LEFT_OUT = {"meta", "text"}  # of a contained resource
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")


def spelled_out(order: Json) -> Json:
    """An order whose entries refer to each other as FHIR has it, for the validator.

    The French guide's examples write `#<id>` for an entry of the same Bundle, where R4 means a contained resource only.
    """
    parts = order.get("entry" if order["resourceType"] == "Bundle" else "parameter")
    entries = [part.get("resource") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    named = {
        f"#{each['id']}": f"{each['resourceType']}/{each['id']}"
        for each in entries
        if isinstance(each, dict) and isinstance(each.get("id"), str) and "resourceType" in each
    }
    return _spelled_out(order, named) if named else order


def _spelled_out(value: Any, named: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_spelled_out(each, named) for each in value]
    if not isinstance(value, dict):
        return value
    contained = value.get("contained")
    if isinstance(contained, list):  # what an entry contains itself comes first
        own = {f"#{each.get('id')}" for each in contained if isinstance(each, dict)}
        named = {name: reference for name, reference in named.items() if name not in own}
    reference = value.get("reference")
    told = named.get(reference) if isinstance(reference, str) else None
    whole = {name: _spelled_out(each, named) for name, each in value.items()}
    return whole | {"reference": told} if told else whole


class Attached:
    """The entries beside the lines, by every reference that can mean them."""

    def __init__(self) -> None:
        self._by_reference: dict[str, Json] = {}

    def add(self, resource: Json, full_url: str | None, where: str) -> None:
        if "contained" in resource:
            raise invalid("what a line refers to contains nothing itself", f"{where}.contained")
        id = resource.get("id")
        names = {full_url, f"{resource['resourceType']}/{id}" if id else None}
        self._by_reference |= {name: resource for name in names if name}

    def find(self, reference: str) -> Json | None:
        return self._by_reference.get(reference)

    def contained_in(self, request: Json, subject: Json) -> dict[str, Any]:
        """The line with all that it refers to; `subject` takes the place of each reference to a Patient."""
        return _Carrying(self, subject, request).whole()


class _Carrying:
    """One line on its way: what it is to contain, and under which ids."""

    def __init__(self, attached: Attached, subject: Json, request: Json) -> None:
        self._attached = attached
        self._subject = subject
        self._request = request
        self._own = {f"#{each.get('id')}" for each in request.get("contained", [])}
        self._found: list[tuple[str, Json]] = []  # (id, entry), those to be looked through last

    def whole(self) -> dict[str, Any]:
        request = {name: self._rewritten(value) for name, value in self._request.items()}
        contained = request.get("contained", [])
        for name, resource in self._found:  # grows while it is gone through
            kept = {each: self._rewritten(value) for each, value in resource.items() if each not in _LEFT_OUT}
            contained.append({**kept, "id": name})
        return {**request, "contained": contained} if contained else request

    def _rewritten(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._rewritten(each) for each in value]
        if not isinstance(value, dict):
            return value
        reference = str(value.get("reference"))
        found = self._attached.find(reference) if reference not in self._own else None
        if found is None:
            return {name: self._rewritten(each) for name, each in value.items()}
        if found["resourceType"] == "Patient":
            return self._subject
        return {**value, "reference": f"#{self._id_of(found)}"}

    def _id_of(self, resource: Json) -> str:
        known = next((name for name, each in self._found if each is resource), None)
        if known is not None:
            return known
        name = str(resource.get("id", ""))
        if not _ID.fullmatch(name) or f"#{name}" in self._own or name in dict(self._found):
            name = f"attached-{len(self._found) + 1}"
        self._found.append((name, resource))
        return name
