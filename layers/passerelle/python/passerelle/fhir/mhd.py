"""Document submissions: the constraints of IHE MHD 4.2.4 (ITI-65) and ANS PDSm 3.1.1, as data.

Contract rows 65-2 to 65-8. P4: under a PDSm profile a missing custodian is accepted; every other element is required.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from passerelle.documents.model import Content, Declared, Document, decoded, verified
from passerelle.errors import Issue, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.bundles import TransactionEntry
from passerelle.records.model import StoredVersion

_MHD = "https://profiles.ihe.net/ITI/MHD/StructureDefinition/"
_PDSM = "https://interop.esante.gouv.fr/ig/fhir/pdsm/StructureDefinition/"
_MAX_ISSUES = 50


class Level(IntEnum):
    """How much metadata a submission profile asks for; each level adds to the one before."""

    MINIMAL = 1
    UNCONTAINED = 2
    COMPREHENSIVE = 3


PROFILES: Mapping[str, Level] = {
    f"{_MHD}IHE.MHD.Minimal.ProvideBundle": Level.MINIMAL,
    f"{_MHD}IHE.MHD.UnContained.Comprehensive.ProvideBundle": Level.UNCONTAINED,
    f"{_MHD}IHE.MHD.Comprehensive.ProvideBundle": Level.COMPREHENSIVE,
    f"{_PDSM}pdsm-simplified-publish": Level.MINIMAL,
    f"{_PDSM}pdsm-comprehensive-provide-document-bundle": Level.COMPREHENSIVE,
}


@dataclass(frozen=True, slots=True)
class Required:
    """An element that a level asks for: a dotted path from the resource, through the first of each list."""

    path: str
    level: Level


_SUBMISSION_SET = (
    Required("code", Level.MINIMAL),
    Required("date", Level.MINIMAL),
    Required("subject", Level.UNCONTAINED),
)
_SUBMISSION_SET_VALUES = {"mode": "working", "status": "current"}
_SUBMISSION_SET_EXTENSIONS = (
    (f"{_MHD}ihe-sourceId", Level.MINIMAL),
    (f"{_MHD}ihe-designationType", Level.UNCONTAINED),
)
_DOCUMENT = (
    *(
        Required(path, Level.MINIMAL)
        for path in (
            "masterIdentifier",
            "status",
            "content",
            "content.attachment.contentType",
            "content.attachment.url",
        )
    ),
    *(
        Required(path, Level.UNCONTAINED)
        for path in (
            "type",
            "category",
            "subject",
            "securityLabel",
            "content.attachment.language",
            "content.attachment.creation",
            "content.format",
            "context.facilityType",
            "context.practiceSetting",
            "context.sourcePatientInfo",
        )
    ),
)
_DOCUMENT_ABSENT = ("docStatus", "modifierExtension", "content.attachment.data")
_CONTAINED = ("author", "authenticator", "context.sourcePatientInfo")


def submission_level(bundle: Mapping[str, Any]) -> Level | None:
    """The level of the submission profile that a Bundle declares; None for a transaction of any other kind."""
    profiles = bundle.get("meta", {}).get("profile", [])
    return next((PROFILES[profile] for profile in profiles if profile in PROFILES), None)


def check_submission(entries: Sequence[TransactionEntry], level: Level) -> None:
    """Raise Unprocessable with every constraint that the submission breaks, each with its path."""
    issues = [*_check_submission_sets(entries, level)]
    for entry in entries:
        if entry.type == "DocumentReference":
            issues += _check_document(entry, level, entries)
    if issues:
        raise Unprocessable(issues=issues[:_MAX_ISSUES])


def check_document_metadata(entry: TransactionEntry) -> None:
    """Raise Unprocessable for a DocumentReference, outside any submission, that could not be served."""
    issues = [*_missing(entry, _DOCUMENT, Level.MINIMAL)]
    if issues:
        raise Unprocessable(issues=issues[:_MAX_ISSUES])


def _check_submission_sets(entries: Sequence[TransactionEntry], level: Level) -> Iterator[Issue]:
    sets = [entry for entry in entries if _is_submission_set(entry.resource)]
    if len(sets) != 1:
        yield Issue(
            code="invariant", diagnostics="a submission has exactly one SubmissionSet", expression="Bundle.entry"
        )
    for entry in sets:
        yield from _missing(entry, _SUBMISSION_SET, level)
        for name, value in _SUBMISSION_SET_VALUES.items():
            if entry.resource.get(name) != value:
                yield Issue(
                    code="value", diagnostics=f"{name} must be {value}", expression=f"{entry.path}.resource.{name}"
                )
        present = {extension.get("url") for extension in entry.resource.get("extension", [])}
        for url, needed in _SUBMISSION_SET_EXTENSIONS:
            if needed <= level and url not in present:
                yield Issue(
                    code="required",
                    diagnostics=f"the extension {url.rpartition('/')[2]} is required",
                    expression=f"{entry.path}.resource.extension",
                )
        if level is Level.COMPREHENSIVE and not _is_contained(entry.resource.get("source", {})):
            yield Issue(
                code="invariant", diagnostics="source must be contained", expression=f"{entry.path}.resource.source"
            )


def _is_submission_set(resource: Mapping[str, Any]) -> bool:
    codings = resource.get("code", {}).get("coding", [])
    return resource["resourceType"] == "List" and any(each.get("code") == "submissionset" for each in codings)


def _check_document(entry: TransactionEntry, level: Level, entries: Sequence[TransactionEntry]) -> Iterator[Issue]:
    yield from _missing(entry, _DOCUMENT, level)
    here = f"{entry.path}.resource"
    for path in _DOCUMENT_ABSENT:
        if _first(entry.resource, path) is not None:
            yield Issue(code="invariant", diagnostics=f"{path} must be absent", expression=f"{here}.{path}")
    if len(entry.resource.get("content", [])) > 1:
        yield Issue(code="invariant", diagnostics="a document has one content", expression=f"{here}.content")
    if entry.resource.get("status") != "current":
        yield Issue(code="value", diagnostics="a new document is current", expression=f"{here}.status")
    if entry.resource.get("relatesTo"):
        yield Issue(code="not-supported", diagnostics="documents cannot be related yet", expression=f"{here}.relatesTo")
    if level is Level.COMPREHENSIVE:
        for path in _CONTAINED:
            value = _first(entry.resource, path)
            if value is not None and not _is_contained(value):
                yield Issue(code="invariant", diagnostics=f"{path} must be contained", expression=f"{here}.{path}")
    url = _first(entry.resource, "content.attachment.url")
    if url is not None and url not in {each.full_url for each in entries}:
        yield Issue(
            code="not-found",
            diagnostics="the content is not in the submission",
            expression=f"{here}.content[0].attachment.url",
        )


def _missing(entry: TransactionEntry, required: Sequence[Required], level: Level) -> Iterator[Issue]:
    for each in required:
        if each.level <= level and _first(entry.resource, each.path) is None:
            yield Issue(
                code="required",
                diagnostics=f"{each.path} is required",
                expression=f"{entry.path}.resource.{each.path}",
            )


def _is_contained(reference: Any) -> bool:
    return isinstance(reference, Mapping) and str(reference.get("reference", "")).startswith("#")


def _first(value: Any, path: str) -> Any:
    """The value at a dotted path, through the first element of each list; None if it is absent."""
    for name in path.split("."):
        if isinstance(value, list):
            value = value[0] if value else None
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return value[0] if isinstance(value, list) and value else value


def verified_content(document: TransactionEntry, binary: TransactionEntry, id: str) -> Content:
    """The content of a document, checked against what its metadata declares."""
    attachment = document.resource["content"][0]["attachment"]
    data = decoded(binary.resource.get("data", ""), path=f"{binary.path}.resource.data")
    content = Content(id=id, content_type=attachment["contentType"], data=data)
    if binary.resource.get("contentType") != attachment["contentType"]:
        raise Unprocessable(
            "the content type is not that of the Binary",
            code="value",
            expression=f"{document.path}.resource.content[0].attachment.contentType",
        )
    declared = Declared(size_bytes=attachment.get("size"), sha1=attachment.get("hash"))
    return verified(content, declared, path=f"{document.path}.resource.content[0].attachment")


def stored_document(found: StoredVersion) -> Document:
    """What a stored DocumentReference says of its content."""
    resource = fhir_json.loads(found.body or b"{}")
    return Document(
        id=found.id,
        patient=found.id.partition("-")[0],
        status=resource["status"],
        content_type=resource["content"][0]["attachment"]["contentType"],
    )
