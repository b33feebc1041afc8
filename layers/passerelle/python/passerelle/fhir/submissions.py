"""What of a submission is stored, and as what: options that are off, FHIR documents, contents that come later.

IHE MHD 4.2.4 ITI-65, expected actions (2:3.65.4.1.3); contract 65-8, 65-14, 65-15, 65-17, PDSM-13. The texts of the
warnings are those of the guide (D10).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from passerelle.access import Request
from passerelle.consents.visibility import canonical_label, label_system
from passerelle.documents.model import Adoption, Content, decoded
from passerelle.documents.options import Options
from passerelle.documents.uploads import Upload, UploadService, upload_id
from passerelle.errors import Issue, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.bundles import TransactionEntry
from passerelle.fhir.lists import is_folder, is_submission_set
from passerelle.fhir.mhd import Level, attachment_of, declared_by, verified_content

DOCUMENT: Final = "DocumentReference"
_NOT_PROCESSED: Mapping[str, str] = {
    "replaces": "PartialReplaceContentNotProcessed",
    "transforms": "PartialTransformContentNotProcessed",
    "appends": "PartialAppendContentNotProcessed",
    "signs": "PartialRelationshipContentNotProcessed",  # no text in the guide, which knows three relations
}
_FOLDER_NOT_PROCESSED = "PartialFolderContentNotProcessed"


@dataclass(slots=True)
class Taken:
    """`entries` are to be stored, `ignored` are answered and nothing else; warnings by path of their entry."""

    entries: list[TransactionEntry] = field(default_factory=list)
    ignored: list[TransactionEntry] = field(default_factory=list)
    warnings: dict[str, list[Issue]] = field(default_factory=dict)

    def warn(self, entry: TransactionEntry, text: str, place: str) -> None:
        issue = Issue(code="processing", diagnostics=text, expression=f"{entry.path}.{place}")
        self.warnings.setdefault(entry.path, []).append(issue)


def new_documents(entries: Sequence[TransactionEntry]) -> list[TransactionEntry]:
    return [entry for entry in entries if entry.type == DOCUMENT and entry.method == "POST"]


def without_documents(entries: Sequence[TransactionEntry], left_out: Collection[str]) -> Sequence[TransactionEntry]:
    """Without the documents of these full URLs, their contents, and what Provenance says of them."""
    if not left_out:
        return entries
    contents = {attachment_of(each).get("url") for each in entries if each.full_url in left_out}
    return [
        replace(each, resource={**each.resource, "target": targets})
        if each.type == "Provenance"
        and (targets := [to for to in each.resource["target"] if to.get("reference") not in left_out])
        else each
        for each in entries
        if each.full_url not in left_out and each.full_url not in contents
    ]


def with_subject(entries: Sequence[TransactionEntry]) -> list[TransactionEntry]:
    """A SubmissionSet that may do without a subject (minimal metadata) is about the subject of its documents."""
    subject = next((each.resource["subject"] for each in new_documents(entries) if "subject" in each.resource), None)
    return [
        replace(entry, resource={**entry.resource, "subject": subject})
        if subject and is_submission_set(entry.resource) and "subject" not in entry.resource
        else entry
        for entry in entries
    ]


def contents_of(entries: Sequence[TransactionEntry]) -> dict[str, TransactionEntry]:
    """The entries that are the content of a new document, by their full URL, which is what the document says."""
    wanted = {attachment_of(entry).get("url") for entry in new_documents(entries)}
    return {
        entry.full_url: entry
        for entry in entries
        if entry.type in ("Binary", "Bundle") and entry.method == "POST" and entry.full_url in wanted and entry.full_url
    }


def taken(entries: Sequence[TransactionEntry], level: Level | None, options: Options) -> Taken:
    """Raises Unprocessable for a FHIR document that is not taken, and for a visibility label that is none."""
    found = Taken()
    contents = contents_of(entries)
    _check_contents(contents.values(), options)
    dropped: set[str] = set()
    for entry in entries:
        if level is not None and not options.folders and is_folder(entry.resource):
            found.warn(entry, _FOLDER_NOT_PROCESSED, "resource")
            dropped.add(entry.full_url or "")
    is_replacing = any(_relations(entry, "replaces") for entry in new_documents(entries))
    for entry in entries:
        if entry.path in found.warnings:
            found.ignored.append(entry)
        elif entry.type == DOCUMENT and entry.method == "PATCH" and is_replacing and not options.relations:
            found.warn(entry, _NOT_PROCESSED["replaces"], "request")
            found.ignored.append(entry)
        elif entry.type == DOCUMENT and entry.method == "POST":
            found.entries.append(_document(entry, contents, options, found))
        elif dropped and is_submission_set(entry.resource):
            found.entries.append(_without_items(entry, dropped))
        else:
            found.entries.append(entry)
    return found


def uploads_of(request: Request, entries: Sequence[TransactionEntry], uploads: UploadService) -> dict[str, Upload]:
    """What was uploaded before, and becomes the content of a new document: by the path of its entry.

    Raises Unprocessable (`not-found`) for what looks like an upload and is none of the caller's.
    """
    contents = contents_of(entries)
    found = {}
    for entry in new_documents(entries):
        url = str(attachment_of(entry).get("url"))
        if url not in contents and upload_id(url) is not None and not declared_by(entry).is_delayed:
            path = f"{entry.path}.resource.content[0].attachment.url"
            found[entry.path] = uploads.find(request, url, path=path)
    return found


def measured(entries: Sequence[TransactionEntry], uploads: Mapping[str, Upload]) -> list[TransactionEntry]:
    """The entries, with size and hash of what was uploaded where the metadata do not say them."""
    return [_measured(entry, uploads[entry.path]) if entry.path in uploads else entry for entry in entries]


def _measured(entry: TransactionEntry, upload: Upload) -> TransactionEntry:
    described = entry.resource["content"][0]
    attachment = {"size": upload.size_bytes, "hash": upload.sha1, **described["attachment"]}
    return replace(entry, resource={**entry.resource, "content": [{**described, "attachment": attachment}]})


def adoption_of(document: TransactionEntry, upload: Upload, id: str) -> Adoption:
    """An upload as the content of a new document, checked against what its metadata declare."""
    attachment = attachment_of(document)
    path = f"{document.path}.resource.content[0].attachment"
    return upload.adopted(id, declared_by(document), str(attachment.get("contentType")), path=path)


def content_of(document: TransactionEntry, entry: TransactionEntry | None, id: str) -> Content | None:
    """The content that a new document came with; None for one that is created later.

    A FHIR document is kept as bytes like any other, in the form that its metadata say.
    """
    if entry is None or (declared_by(document).is_delayed and not entry.resource.get("data")):
        return None
    if entry.type == "Binary":
        return verified_content(document, entry, id)
    content_type = str(attachment_of(document)["contentType"])
    return Content(id=id, content_type=content_type, data=_written(entry.resource, content_type, document))


def _written(bundle: Mapping[str, Any], content_type: str, document: TransactionEntry) -> bytes:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/fhir+json":
        return fhir_json.dumps(bundle)
    if media_type == "application/fhir+xml":
        from passerelle.fhir import xml as fhir_xml

        return fhir_xml.dumps(bundle)
    raise Unprocessable(
        "a FHIR document is application/fhir+json or application/fhir+xml",
        code="value",
        expression=f"{document.path}.resource.content[0].attachment.contentType",
    )


def _check_contents(contents: Any, options: Options) -> None:
    for entry in contents:
        if entry.type == "Bundle" and not options.fhir_documents:
            raise Unprocessable("FHIRDocumentNotSupported", code="not-supported", expression=f"{entry.path}.resource")
        if entry.type == "Bundle" and entry.resource.get("type") != "document":
            raise Unprocessable(
                "a FHIR document is a Bundle of type document", code="value", expression=f"{entry.path}.resource.type"
            )


def _document(
    entry: TransactionEntry, contents: Mapping[str, TransactionEntry], options: Options, found: Taken
) -> TransactionEntry:
    resource = dict(entry.resource)
    if "relatesTo" in resource and not options.relations:
        for code in dict.fromkeys(str(each.get("code")) for each in resource["relatesTo"]):
            found.warn(entry, _NOT_PROCESSED[code], "resource.relatesTo")
        # Nobody looked whether the other document is there, or who may know of it: the relation is not kept.
        del resource["relatesTo"]
    if "securityLabel" in resource:
        resource["securityLabel"] = list(_canonical(resource["securityLabel"], f"{entry.path}.resource.securityLabel"))
    content = contents.get(str(attachment_of(entry).get("url")))
    if content is not None and attachment_of(entry):
        resource["content"] = [_described(resource["content"][0], entry, content), *resource["content"][1:]]
    return replace(entry, resource=resource)


def _described(
    described: Mapping[str, Any], document: TransactionEntry, content: TransactionEntry
) -> Mapping[str, Any]:
    """What the metadata say of the content, where that is for the server to say."""
    attachment = described["attachment"]
    if content.type == "Bundle":  # the form it is kept in is ours: what the source measured says nothing (MHD)
        measured: dict[str, Any] = {}
    elif declared_by(document).is_delayed and content.resource.get("data"):  # it came, after all
        data = decoded(content.resource["data"], path=f"{content.path}.resource.data")
        sha1 = hashlib.sha1(data, usedforsecurity=False).digest()
        measured = {"size": len(data), "hash": base64.b64encode(sha1).decode()}
    else:
        return described
    rest = {name: value for name, value in attachment.items() if name not in ("size", "hash")}
    return {**described, "attachment": {**rest, **measured}}


def _canonical(labels: Sequence[Mapping[str, Any]], path: str) -> Iterator[Mapping[str, Any]]:
    """Security labels, each visibility label under its one code; an unknown one would hide from nobody knows whom."""
    system = label_system()
    for number, label in enumerate(labels):
        codings = []
        for coding in label.get("coding", []):
            code = canonical_label(str(coding.get("code"))) if coding.get("system") == system else coding.get("code")
            if code is None and coding.get("system") == system:
                raise Unprocessable(
                    "not a code of visibility", code="code-invalid", expression=f"{path}[{number}].coding"
                )
            codings.append(coding if code == coding.get("code") else {**coding, "code": code})
        yield {**label, "coding": codings} if codings else label


def _without_items(entry: TransactionEntry, dropped: set[str]) -> TransactionEntry:
    resource = dict(entry.resource)
    items = [each for each in resource.get("entry", []) if each.get("item", {}).get("reference") not in dropped]
    resource.pop("entry", None)
    return replace(entry, resource={**resource, "entry": items} if items else resource)


def _relations(entry: TransactionEntry, code: str) -> bool:
    return any(each.get("code") == code for each in entry.resource.get("relatesTo", []))
