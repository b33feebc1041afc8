"""The last gate of answers: the national identifier of an identity that is not qualified is its source's alone.

French law lets an INS go no further than where it was verified (contract P11, INS-12). Patients leave the exchange in
many answers - reads, searches, includes, histories, `$everything`, batches, documents made of them - so the HTTP
boundary passes every answer through here, and no route can forget it. What a Patient shows is decided in `identity.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from passerelle.access import Caller
from passerelle.fhir import json as fhir_json
from passerelle.fhir.identity import traits_of, without_undisclosed
from passerelle.fhir.resource import identifiers_of
from passerelle.patients.identity import IdentityScheme, national_systems
from passerelle.patients.model import Identifier

Body = Mapping[str, Any] | bytes

_MAX_DEPTH: Final = fhir_json.MAX_DEPTH + 8  # a resource of any depth that is accepted, in a Bundle
_PATIENT: Final = b'"resourceType":"Patient"'
_HOLDERS: Final = {"Bundle": "entry", "Parameters": "parameter"}


def is_source(caller: Caller, identifiers: Iterable[Identifier]) -> bool:
    """Whether a record with these identifiers comes from the caller's own domain."""
    return caller.domain is not None and any(system == caller.domain for system, _ in identifiers)


class Disclosure:
    """What answers may tell, by the identity scheme of the country."""

    def __init__(self, scheme: IdentityScheme) -> None:
        self._scheme = scheme
        self._systems = tuple(system.encode() for system in sorted(national_systems()))

    def of(self, body: Body, caller: Caller, *, is_past: bool = False) -> Body:
        """The answer as this caller may have it; the same object, or the same bytes, if nothing is left out.

        Of a version that `is_past`, nobody but the source sees a national identifier: how far the identity was
        verified then says nothing of now. Histories are past whatever the caller says.
        """
        if not isinstance(body, bytes):
            return self._shown(body, caller, is_past=is_past)
        if _PATIENT not in body or not any(system in body for system in self._systems):
            return body
        content = fhir_json.loads(body, max_depth=_MAX_DEPTH)
        shown = self._shown(content, caller, is_past=is_past)
        return body if shown is content else fhir_json.dumps(shown)

    def _shown(self, resource: Mapping[str, Any], caller: Caller, *, is_past: bool) -> Mapping[str, Any]:
        kind = resource.get("resourceType")
        if kind == "Patient":
            if is_source(caller, identifiers_of(resource)):
                return resource
            traits = traits_of(resource, self._scheme)
            return without_undisclosed(resource, replace(traits, is_qualified=traits.is_qualified and not is_past))
        holder = _HOLDERS.get(str(kind), "")
        if holder not in resource or "versionId" in resource.get("meta", {}):
            return resource  # what is kept as a version is a document: it stays as its author wrote it
        is_past = is_past or resource.get("type") == "history"
        parts = [self._part(each, caller, is_past=is_past) for each in resource[holder]]
        if all(part is each for part, each in zip(parts, resource[holder], strict=True)):
            return resource
        return {**resource, holder: parts}

    def _part(self, part: Mapping[str, Any], caller: Caller, *, is_past: bool) -> Mapping[str, Any]:
        if "part" in part:  # of a parameter
            parts = [self._part(each, caller, is_past=is_past) for each in part["part"]]
            return {**part, "part": parts}
        if "resource" not in part:
            return part
        shown = self._shown(part["resource"], caller, is_past=is_past)
        return part if shown is part["resource"] else {**part, "resource": shown}
