"""Document submissions: the constraints of IHE MHD 4.2.4 (ITI-65) and ANS PDSm 3.1.1, as data.

Contract rows 65-2 to 65-8, PDSM-2. P4: what the published examples of the DMP lack is accepted under the PDSm profile,
with a warning: a custodian, a source that is more than a Practitioner, and the identifier of the SubmissionSet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from passerelle.documents.model import Content, Declared, Document, decoded, verified
from passerelle.documents.retention import Code
from passerelle.documents.uploads import upload_id
from passerelle.errors import Invalid, Issue, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.bundles import TransactionEntry
from passerelle.fhir.lists import is_folder, is_submission_set
from passerelle.identifiers import Blinder
from passerelle.records.model import StoredVersion

_MHD = "https://profiles.ihe.net/ITI/MHD/StructureDefinition/"
_PDSM = "https://interop.esante.gouv.fr/ig/fhir/pdsm/StructureDefinition/"
_MAX_ISSUES = 50


class Level(IntEnum):
    """How much metadata a submission profile asks for; each level adds to the one before."""

    MINIMAL = 1
    UNCONTAINED = 2
    COMPREHENSIVE = 3
    NATIONAL = 4  # PDSm


PROFILES: Mapping[str, Level] = {
    f"{_MHD}IHE.MHD.Minimal.ProvideBundle": Level.MINIMAL,
    f"{_MHD}IHE.MHD.UnContained.Comprehensive.ProvideBundle": Level.UNCONTAINED,
    f"{_MHD}IHE.MHD.Comprehensive.ProvideBundle": Level.COMPREHENSIVE,
    f"{_PDSM}pdsm-simplified-publish": Level.MINIMAL,
    f"{_PDSM}pdsm-comprehensive-provide-document-bundle": Level.NATIONAL,
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
_FOLDER = (
    Required("subject", Level.UNCONTAINED),
    Required("title", Level.UNCONTAINED),
)
_FOLDER_EXTENSIONS = ((f"{_MHD}ihe-designationType", Level.UNCONTAINED),)
_DOCUMENT = (
    *(
        Required(path, Level.MINIMAL)
        for path in (
            "masterIdentifier",
            "masterIdentifier.value",
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
    *(
        Required(path, Level.NATIONAL)
        for path in (
            "date",
            "author",
            "contained",
            "context.period.start",
            "content.attachment.size",
            "content.attachment.hash",
            "content.attachment.title",
        )
    ),
)
_MEASURED = ("content.attachment.size", "content.attachment.hash")  # absent for a FHIR document (MHD)
_DOCUMENT_ABSENT = ("docStatus", "modifierExtension", "content.attachment.data")
_STATUSES = ("current", "superseded")
_CONTAINED = ("author", "authenticator", "context.sourcePatientInfo")


def submission_level(bundle: Mapping[str, Any]) -> Level | None:
    """The level of the submission profile that a Bundle declares; None for a transaction of any other kind.

    Raises Unprocessable for what can only be a submission and declares none (`required`), or another (`value`), Invalid
    for a submission that is no transaction.
    """
    meta = bundle.get("meta")
    listed = meta.get("profile") if isinstance(meta, Mapping) else None
    profiles = [each for each in listed if isinstance(each, str)] if isinstance(listed, list) else []
    level = next((PROFILES[profile] for profile in profiles if profile in PROFILES), None)
    if bundle.get("type") != "transaction":
        if level is not None:
            raise Invalid("a submission is a transaction", code="value", expression="Bundle.type")
        return None
    if level is not None:
        return level
    is_declared = any(profile.startswith((_MHD, _PDSM)) for profile in profiles)
    resources = (entry.get("resource") for entry in bundle.get("entry", []))
    if is_declared or any(isinstance(each, Mapping) and is_submission_set(each) for each in resources):
        raise Unprocessable(
            "a submission declares one of the profiles that are taken",
            code="value" if profiles else "required",
            expression="Bundle.meta.profile",
        )
    return None


def check_submission(entries: Sequence[TransactionEntry], level: Level) -> dict[str, list[Issue]]:
    """What is accepted with a warning, by path of the entry.

    Raises Unprocessable with every constraint that the submission breaks, each with its path.
    """
    issues = [*_check_lists(entries, level)]
    for entry in entries:
        if entry.type == "DocumentReference" and entry.method == "POST":
            issues += _check_document(entry, level, entries)
    if issues:
        raise Unprocessable(issues=issues[:_MAX_ISSUES])
    return _tolerated(entries) if level >= Level.NATIONAL else {}


def check_document_metadata(entry: TransactionEntry) -> None:
    """Raise Unprocessable for a DocumentReference, outside any submission, that could not be served."""
    issues = [*_missing(entry, _DOCUMENT, Level.MINIMAL)]
    if entry.resource.get("status") not in _STATUSES:
        issues.append(_fault(entry, "status", "value", "a new document is current, or superseded"))
    if issues:
        raise Unprocessable(issues=issues[:_MAX_ISSUES])


# --- SubmissionSet and folders --------------------------------------------------------------------------------


def _check_lists(entries: Sequence[TransactionEntry], level: Level) -> Iterator[Issue]:
    lists = [entry for entry in entries if entry.type == "List" and entry.method in ("POST", "PUT")]
    sets = [entry for entry in lists if entry.method == "POST" and is_submission_set(entry.resource)]
    if len(sets) != 1:
        text = "a submission has exactly one SubmissionSet"
        yield Issue(code="invariant", diagnostics=text, expression="Bundle.entry")
    for entry in lists:
        if entry not in sets and not is_folder(entry.resource):
            yield _fault(entry, "code", "invariant", "a List of a submission is its new SubmissionSet, or a folder")
    for entry in sets:
        yield from _check_submission_set(entry, level)
        yield from _check_members(entry, entries)
    for entry in lists:
        if is_folder(entry.resource):
            yield from _missing(entry, _FOLDER, level)
            yield from _missing_extensions(entry, _FOLDER_EXTENSIONS, level)
            if entry.resource.get("mode") != "working":
                yield _fault(entry, "mode", "value", "mode must be working")
        yield from _check_items(entry, entries)


def _check_submission_set(entry: TransactionEntry, level: Level) -> Iterator[Issue]:
    yield from _missing(entry, _SUBMISSION_SET, level)
    yield from _missing_extensions(entry, _SUBMISSION_SET_EXTENSIONS, level)
    for name, value in _SUBMISSION_SET_VALUES.items():
        if entry.resource.get(name) != value:
            yield _fault(entry, name, "value", f"{name} must be {value}")
    if level < Level.NATIONAL and not _has_unique_id(entry):
        yield _fault(entry, "identifier", "required", "the unique identifier of the SubmissionSet is required")
    if level >= Level.COMPREHENSIVE and not all(map(_is_contained, _every(entry.resource, "source"))):
        yield _fault(entry, "source", "invariant", "source must be contained")


def _check_members(submission_set: TransactionEntry, entries: Sequence[TransactionEntry]) -> Iterator[Issue]:
    """What is submitted is in its SubmissionSet: it is how ITI-66 finds it."""
    listed = {each.get("item", {}).get("reference") for each in submission_set.resource.get("entry", [])}
    documents = [entry for entry in entries if entry.type == "DocumentReference" and entry.method == "POST"]
    if not documents:
        text = "a submission has a document"
        yield Issue(code="required", diagnostics=text, expression="Bundle.entry")
    for entry in documents:
        if entry.full_url not in listed:
            yield _fault(submission_set, "entry", "invariant", "the SubmissionSet names each of its documents")


def _check_items(entry: TransactionEntry, entries: Sequence[TransactionEntry]) -> Iterator[Issue]:
    here = {each.full_url for each in entries}
    for number, each in enumerate(entry.resource.get("entry", [])):
        reference = str(each.get("item", {}).get("reference", ""))
        if reference.startswith("urn:") and reference not in here:
            yield _fault(entry, f"entry[{number}].item", "not-found", "what the List names is not in the submission")


def _has_unique_id(entry: TransactionEntry) -> bool:
    """Whether an identifier is there that is not that of an entry of a registry (IHE.MHD.EntryUUID.Identifier)."""
    return any(
        "value" in each and each.get("use") != "official" and "entryUUID" not in _identifier_types(each)
        for each in entry.resource.get("identifier", [])
    )


def _identifier_types(identifier: Mapping[str, Any]) -> set[str]:
    return {str(each.get("code")) for each in identifier.get("type", {}).get("coding", [])}


# --- documents ------------------------------------------------------------------------------------------------


def _check_document(entry: TransactionEntry, level: Level, entries: Sequence[TransactionEntry]) -> Iterator[Issue]:
    url = attachment_of(entry).get("url")
    content = next((each for each in entries if url is not None and each.full_url == url), None)
    is_measured = content is None or content.type != "Bundle"
    required = [each for each in _DOCUMENT if is_measured or each.path not in _MEASURED]
    yield from _missing(entry, required, level)
    for path in _DOCUMENT_ABSENT:
        if _first(entry.resource, path) is not None:
            yield _fault(entry, path, "invariant", f"{path} must be absent")
    if len(entry.resource.get("content", [])) > 1:
        yield _fault(entry, "content", "invariant", "a document has one content")
    if entry.resource.get("status") not in _STATUSES:
        yield _fault(entry, "status", "value", "a new document is current, or superseded")
    for number, identifier in enumerate(entry.resource.get("identifier", [])):
        if _is_misused(identifier):
            text = "the identifier of a registry entry has the use official"
            yield _fault(entry, f"identifier[{number}].use", "value", text)
    if level >= Level.COMPREHENSIVE:
        for path in _CONTAINED:
            for value in _every(entry.resource, path):
                if not _is_contained(value):
                    yield _fault(entry, path, "invariant", f"{path} must be contained")
    if url is None:
        return
    if content is None and upload_id(str(url)) is None and not declared_by(entry).is_delayed:
        text = "the content is not in the submission"
        yield _fault(entry, "content[0].attachment.url", "not-found", text)
    if any(attachment_of(each).get("url") == url for each in entries if each is not entry):
        yield _fault(entry, "content[0].attachment.url", "invariant", "two documents have the same content")


def _is_misused(identifier: Mapping[str, Any]) -> bool:
    """Whether a UUID under which a registry knows the document is said to be in other use (MHD: official)."""
    is_entry = str(identifier.get("value", "")).startswith("urn:uuid:") and "uniqueId" not in _identifier_types(
        identifier
    )
    return is_entry and identifier.get("use", "official") != "official"


def _tolerated(entries: Sequence[TransactionEntry]) -> dict[str, list[Issue]]:
    """What PDSm asks for, and the published examples of the DMP do not have (P4)."""
    found: dict[str, list[Issue]] = {}

    def lacks(entry: TransactionEntry, path: str, text: str) -> None:
        found.setdefault(entry.path, []).append(_fault(entry, path, "required", text))

    for entry in entries:
        if entry.method != "POST":
            continue
        if entry.type == "DocumentReference" and "custodian" not in entry.resource:
            lacks(entry, "custodian", "PDSm requires custodian")
        if is_submission_set(entry.resource):
            if _contained_type(entry.resource, entry.resource.get("source", {})) == "Practitioner":
                lacks(entry, "source", "PDSm requires the role of a professional as source")
            if not _has_unique_id(entry):
                lacks(entry, "identifier", "MHD requires the unique identifier of the SubmissionSet")
    return found


def _contained_type(resource: Mapping[str, Any], reference: Mapping[str, Any]) -> str | None:
    text = reference.get("reference")
    return next((each["resourceType"] for each in resource.get("contained", []) if f"#{each.get('id')}" == text), None)


# --- elements -------------------------------------------------------------------------------------------------


def _fault(entry: TransactionEntry, path: str, code: str, text: str) -> Issue:
    return Issue(code=code, diagnostics=text, expression=f"{entry.path}.resource.{path}")


def _missing_extensions(
    entry: TransactionEntry, required: Sequence[tuple[str, Level]], level: Level
) -> Iterator[Issue]:
    present = {extension.get("url") for extension in entry.resource.get("extension", [])}
    for url, needed in required:
        if needed <= level and url not in present:
            yield _fault(entry, "extension", "required", f"the extension {url.rpartition('/')[2]} is required")


def _missing(entry: TransactionEntry, required: Sequence[Required], level: Level) -> Iterator[Issue]:
    for each in required:
        if each.level <= level and _first(entry.resource, each.path) is None:
            yield _fault(entry, each.path, "required", f"{each.path} is required")


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


def _every(value: Any, path: str) -> list[Any]:
    """All values at a dotted path."""
    found = [value]
    for name in path.split("."):
        inner = [each[name] for each in found if isinstance(each, Mapping) and name in each]
        found = [one for each in inner for one in (each if isinstance(each, list) else [each])]
    return found


# --- contents -------------------------------------------------------------------------------------------------


def attachment_of(entry: TransactionEntry) -> Mapping[str, Any]:
    """What a DocumentReference says of its content; nothing for any other resource."""
    if entry.type != "DocumentReference":
        return {}
    found: Mapping[str, Any] = (entry.resource.get("content") or [{}])[0].get("attachment", {})
    return found


def declared_by(entry: TransactionEntry) -> Declared:
    attachment = attachment_of(entry)
    return Declared(size_bytes=attachment.get("size"), sha1=attachment.get("hash"))


def classes_of(document: Mapping[str, Any]) -> frozenset[Code]:
    """The types and classes of a DocumentReference, which say how long its content is kept."""
    concepts = [document.get("type", {}), *document.get("category", [])]
    codings = (coding for concept in concepts for coding in concept.get("coding", []))
    return frozenset((coding.get("system", ""), coding.get("code", "")) for coding in codings)


def identifier_token(blinder: Blinder, system: str, value: str) -> str:
    """What a document is claimed and found under: its masterIdentifier, blinded."""
    return blinder.blind("masterIdentifier", f"{system}|{value}")


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
    return verified(content, declared_by(document), path=f"{document.path}.resource.content[0].attachment")


def stored_document(found: StoredVersion) -> Document:
    """What a stored DocumentReference says of its content."""
    resource = fhir_json.loads(found.body or b"{}")
    attachment = resource["content"][0]["attachment"]
    return Document(
        id=found.id,
        patient=found.id.partition("-")[0],
        status=resource["status"],
        content_type=attachment["contentType"],
        is_awaited=Declared(size_bytes=attachment.get("size"), sha1=attachment.get("hash")).is_delayed,
    )
