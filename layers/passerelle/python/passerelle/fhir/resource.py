"""A received resource on its way into the record: checked, its references resolved, stamped with id and version.

The stored form is the JSON as received, with only `id` and `meta` set, and references replaced where FHIR asks for it
(R4 3.1.0.11.2: transactions; conditional references). Decimals and dates keep their digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from passerelle.consents.habilitation import code_labels
from passerelle.consents.visibility import restricting_labels
from passerelle.errors import Invalid, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.bundles import resolve_references
from passerelle.fhir.concealment import documents_of, with_hidden_parts
from passerelle.fhir.dates import instant
from passerelle.fhir.index import RECORD_TYPES, entry_of, record_type, subject_of, with_subject
from passerelle.records.concealment import ABOUT
from passerelle.records.model import ResourceKey, Subject
from passerelle.records.search import Entry, Query


def stamped(content: Mapping[str, Any], id: str, version: int, at: datetime) -> dict[str, Any]:
    """The resource with the id and version the exchange gives it; profiles, tags and labels in `meta` are kept."""
    meta = {**content.get("meta", {}), "versionId": str(version), "lastUpdated": instant(at)}
    rest = {name: value for name, value in content.items() if name not in ("resourceType", "id", "meta")}
    return {"resourceType": content["resourceType"], "id": id, "meta": meta, **rest}


@dataclass(frozen=True)
class ResourceDraft:
    """`records.model.Draft` over FHIR JSON that passed `validation.validate`."""

    content: Mapping[str, Any]
    base_url: str

    @property
    def type(self) -> str:
        return str(self.content["resourceType"])

    @property
    def is_shared(self) -> bool:
        row = record_type(self.type)
        return row.compartment is None or (not row.needs_patient and subject_of(self.content) is None)

    @property
    def subject_path(self) -> str:
        return f"{self.type}.{record_type(self.type).compartment or 'subject'}"

    @cached_property
    def subject(self) -> Subject | None:
        """Raises Unprocessable for a reference that names a patient in no way the exchange knows."""
        reference = subject_of(self.content)
        return None if reference is None else read_subject(reference, self.base_url, self.subject_path)

    @cached_property
    def conditional_references(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_conditional(self.content)))

    def resolved(self, references: Mapping[str, str], *, subject: str | None = None) -> ResourceDraft:
        content = resolve_references(self.content, references) if references else dict(self.content)
        if subject is not None:
            content = with_subject(content, subject)
        return ResourceDraft(content, self.base_url)

    @property
    def labels(self) -> frozenset[str]:
        """What hides it: of a document its security labels, which are changed by name; of all else those of `meta`."""
        if self.type != "DocumentReference":
            return restricting_labels(_pairs(self.content.get("meta", {}).get("security", ())))
        codings = [coding for label in self.content.get("securityLabel", ()) for coding in label.get("coding", ())]
        labels = restricting_labels(_pairs(codings))
        kinds = [self.content.get("type", {}), *self.content.get("category", [])]
        return labels | code_labels(_pairs(coding for kind in kinds for coding in kind.get("coding", [])))

    @property
    def is_withdrawn(self) -> bool:
        return self.type == "DocumentReference" and self.content.get("status") == "entered-in-error"

    @property
    def rivals(self) -> Query | None:
        if self.type != "CareTeam":
            return None
        from passerelle.fhir.care_team import circles_in_use, is_circle_in_use  # few resources are

        return circles_in_use() if is_circle_in_use(self.content) else None

    def keeping(self, whole: bytes, shown: bytes) -> ResourceDraft:
        return ResourceDraft(with_hidden_parts(self.content, whole, shown), self.base_url)

    def body(self, id: str, version: int, at: datetime) -> bytes:
        return fhir_json.dumps(stamped(self.content, id, version, at))

    def entry(self, id: str, version: int, at: datetime) -> Entry:
        content = stamped(self.content, id, version, at)
        found = entry_of(content, base_url=self.base_url)
        about = documents_of(content)
        return replace(found, values={**found.values, ABOUT: about}) if about else found


def identifiers_of(content: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    listed = content.get("identifier", [])
    each = listed if isinstance(listed, list) else [listed]
    return tuple((one.get("system", ""), one["value"]) for one in each if "value" in one)


def read_identifiers(pairs: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The values of the search parameter `identifier`, each `system|value`; raises Invalid without one."""
    tokens = [token for name, value in pairs if name == "identifier" for token in value.split(",")]
    found = []
    for token in tokens:
        system, bar, value = token.partition("|")
        if not (bar and system and value):
            raise Invalid("an identifier is searched as system|value", code="value", expression="identifier")
        found.append((system, value))
    if not found:
        raise Invalid("an identifier is required", code="required", expression="identifier")
    return tuple(found)


def read_subject(reference: Mapping[str, Any], base_url: str, path: str) -> Subject:
    """Whom a Reference means: by id, by a conditional reference, or by a business identifier.

    A reference to another resource means the patient in whose record that is (Provenance, Binary).
    """
    text = reference.get("reference", "").removeprefix(f"{base_url}/")
    kind, _, rest = text.partition("/")
    id = rest.partition("/_history/")[0]
    target = ResourceKey.of(kind, id) if kind in RECORD_TYPES else None
    if target is not None and target.patient is not None:
        return Subject(key=target.patient)
    if target is None and kind in RECORD_TYPES and kind != "Patient" and id:
        return Subject(resource=(kind, id))
    system, bar, value = text.removeprefix("Patient?identifier=").partition("|")
    if text.startswith("Patient?identifier=") and bar:
        return Subject(identifier=(system, value))
    identifier = reference.get("identifier", {})
    if not text and "value" in identifier:
        return Subject(identifier=(identifier.get("system", ""), identifier["value"]))
    raise Unprocessable("the patient is not known", code="not-found", expression=path)


def _conditional(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        own = value.get("reference")
        found = [own] if isinstance(own, str) and "?" in own else []
        return found + [each for child in value.values() for each in _conditional(child)]
    if isinstance(value, list):
        return [each for child in value for each in _conditional(child)]
    return []


def _pairs(codings: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    return ((str(each.get("system")), str(each.get("code"))) for each in codings)
