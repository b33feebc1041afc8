"""Publishing one document: described by the client (IHE MHD ITI-105, ANS PDSm flux 09), or by itself (ITI-106).

Either becomes a submission (ITI-65): a SubmissionSet that is derived, the DocumentReference, its content, and the PATCH
of what it replaces (contract P1). One path publishes, so that one set of rules holds. Constraints: IHE MHD 4.2.4,
SimplifiedPublish.DocumentReference; ANS PDSm 3.1.1, pdsm-simplified-publish; rows 105-n, 106-n, PDSM-3.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlencode
from uuid import NAMESPACE_URL, uuid5

from passerelle.access import Request
from passerelle.directory.identifiers import IDNPS, IDNST
from passerelle.documents.contents import Header
from passerelle.documents.model import decoded
from passerelle.documents.uploads import upload_id
from passerelle.errors import Issue, NotFound, PasserelleError, Unprocessable
from passerelle.fhir.bundles import TransactionEntry
from passerelle.fhir.dates import instant
from passerelle.fhir.generated_metadata import CodedDocument, document_reference
from passerelle.fhir.lists import LIST_TYPES
from passerelle.fhir.mhd import Level, identifier_token
from passerelle.fhir.submissions import DOCUMENT
from passerelle.fhir.transaction import Done, TransactionService
from passerelle.fhir.validation import validate
from passerelle.identifiers import Blinder
from passerelle.records.gate import Gate
from passerelle.records.model import Subject
from passerelle.records.service import RecordService

IDENTIFIER_TYPES: Final = "https://profiles.ihe.net/ITI/MHD/CodeSystem/IHE.MHD.MHDIdentifierType"
MHD: Final = "https://profiles.ihe.net/ITI/MHD/StructureDefinition/"
URI: Final = "urn:ietf:rfc:3986"
SIMPLIFIED_PDSM: Final = "https://interop.esante.gouv.fr/ig/fhir/pdsm/StructureDefinition/pdsm-simplified-publish"

_SET, _DOCUMENT, _CONTENT = (f"urn:uuid:00000000-0000-4000-8000-00000000000{n}" for n in range(3))
_REQUIRED = ("masterIdentifier", "subject", "content[0].attachment.contentType", "content[0].attachment.data")
_REQUIRED_PDSM = ("date", "author", "content[0].attachment.title")
_ABSENT = ("docStatus", "modifierExtension", "content[0].attachment.url")
_ATTACHMENT: Final = f"{DOCUMENT}.content[0].attachment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A document that was published, or had been before; `body` is as stored, `warnings` texts for the client."""

    done: Done
    body: bytes | None
    warnings: tuple[str, ...] = ()


class PublicationService:
    def __init__(
        self,
        *,
        transactions: TransactionService,
        records: RecordService,
        gate: Gate,
        blinder: Blinder,
        national_systems: Collection[str],
    ) -> None:
        self._transactions = transactions
        self._records = records
        self._gate = gate
        self._blinder = blinder
        self._national_systems = national_systems

    def publish(self, request: Request, document: Mapping[str, Any], *, is_described: bool = True) -> Published:
        """Store a document, its content in `attachment.data` or uploaded; the same again gives the first (P20).

        A document that the server itself describes, not `is_described`, meets no constraint of a profile. Raises
        Unprocessable for what breaks one, NotFound for a patient who does not exist for the caller.
        """
        if is_described:
            validate(document, expected_type=DOCUMENT)
            check_simplified(document)
        attachment = document["content"][0]["attachment"]
        content = None if _is_uploaded(document) else decoded(attachment["data"], path=f"{_ATTACHMENT}.data")
        with _told_of_the_document():
            entries = submission_of(document, content, request)
            done = self._transactions.execute(request, entries, Level.MINIMAL, is_authorised=True)
        about = next(done[entry.path] for entry in entries if entry.type == DOCUMENT and entry.method == "POST")
        warnings = [issue.diagnostics for each in done.values() for issue in each.warnings]
        if is_described and SIMPLIFIED_PDSM in _profiles(document) and "custodian" not in document:
            warnings.append("PDSm requires custodian")  # P4
        return Published(done=about, body=self._shown(request, about), warnings=tuple(dict.fromkeys(warnings)))

    def _shown(self, request: Request, done: Done) -> bytes | None:
        """The document as stored; nothing, if it is hidden from its author."""
        made, person = done.made, done.person
        if made is None or person is None:  # it was published before
            return next(iter(self._transactions.bodies(request, [done]).values()), None)
        view = self._gate.view(request, person)
        return made.body if view is not None and view.shows(made.restriction) else None

    def publish_coded(self, request: Request, document: CodedDocument) -> Published:
        """Store a document with the metadata that it gives of itself; raises as `publish` does."""
        relations = [*self._relations(request, document.header)]
        subject = self._subject(document.header)
        reference = document_reference(document, subject, relations, request.at)
        return self.publish(request, reference, is_described=False)

    def _subject(self, header: Header) -> dict[str, Any]:
        """The patient whom the document names, by a national identifier before any other."""
        named = sorted(header.patients, key=lambda each: each[0] not in self._national_systems)
        for identifier in named:
            key = self._gate.patient_of(Subject(identifier=identifier))
            if key is not None:
                return {"reference": f"Patient/{key}"}
        return {"identifier": {"system": named[0][0], "value": named[0][1]}}

    def _relations(self, request: Request, header: Header) -> Iterator[dict[str, Any]]:
        """To the documents that the header names, as far as they exist for the caller."""
        for relation in header.relations:
            id = self._records.claimed(DOCUMENT, identifier_token(self._blinder, *relation.document))
            if id is not None and self._records.exists(request, DOCUMENT, id):
                yield {"code": relation.kind, "target": {"reference": f"{DOCUMENT}/{id}"}}


# --- constraints of ITI-105 -------------------------------------------------------------------------------------------


def check_simplified(document: Mapping[str, Any]) -> None:
    """Raise Unprocessable with every constraint of a simplified publication that a valid resource breaks."""
    issues = [*_simplified(document)]
    if issues:
        raise Unprocessable(issues=issues)


def _simplified(document: Mapping[str, Any]) -> Iterator[Issue]:
    is_pdsm = SIMPLIFIED_PDSM in _profiles(document)
    is_uploaded = _is_uploaded(document)
    for path in (*_REQUIRED[: 3 if is_uploaded else 4], *(_REQUIRED_PDSM if is_pdsm else ())):
        if _at(document, path) is None:
            yield _fault(path, "required", f"{path} is required")
    for path in _ABSENT[: 2 if is_uploaded else 3]:
        if _at(document, path) is not None:
            yield _fault(path, "invariant", f"{path} must be absent")
    if document.get("status") != "current":
        yield _fault("status", "value", "a document is published as current")
    if len(document.get("content", ())) > 1:
        yield _fault("content", "invariant", "a document has one content")
    master = document.get("masterIdentifier", {})
    if master and "value" not in master:
        yield _fault("masterIdentifier.value", "required", "masterIdentifier.value is required")
    for number, identifier in enumerate(document.get("identifier", ())):
        types = {coding.get("code") for coding in identifier.get("type", {}).get("coding", ())}
        if "entryUUID" in types:
            yield _fault(f"identifier[{number}]", "invariant", "the entryUUID is given by the server")
        named = (identifier.get("system"), identifier.get("value"))
        if "uniqueId" in types and named != (master.get("system"), master.get("value")):
            yield _fault(f"identifier[{number}]", "invariant", "the uniqueId is the masterIdentifier")
    if is_pdsm and len(document.get("context", {}).get("event", ())) > 1:
        yield _fault("context.event", "invariant", "PDSm takes one event")


def _fault(path: str, code: str, text: str) -> Issue:
    return Issue(code=code, diagnostics=text, expression=f"{DOCUMENT}.{path}")


def _at(document: Mapping[str, Any], path: str) -> Any:
    value: Any = document
    for name in path.split("."):
        is_first = name.endswith("[0]")
        value = value.get(name.removesuffix("[0]")) if isinstance(value, Mapping) else None
        value = next(iter(value), None) if is_first and value else value
    return value


def _is_uploaded(document: Mapping[str, Any]) -> bool:
    """Whether the content was uploaded before: then the metadata name it, and no data come along."""
    attachment = _at(document, "content[0].attachment") or {}
    return "data" not in attachment and upload_id(str(attachment.get("url", ""))) is not None


def _profiles(document: Mapping[str, Any]) -> Sequence[str]:
    listed: Sequence[str] = document.get("meta", {}).get("profile", ())
    return listed


# --- the submission that it becomes -----------------------------------------------------------------------------------


def submission_of(document: Mapping[str, Any], content: bytes | None, request: Request) -> list[TransactionEntry]:
    """The entries that publish a document with its content in `attachment.data`; None: it was uploaded.

    Its size and hash are computed; those that came must be the same: raises Unprocessable (`value`).
    """
    resources = [(_SET, _submission_set(document, request))]
    if content is None:
        resources.append((_DOCUMENT, dict(document)))
    else:
        attachment = document["content"][0]["attachment"]
        binary = {"resourceType": "Binary", "contentType": attachment["contentType"], "data": attachment["data"]}
        resources += [(_DOCUMENT, _described(document, content)), (_CONTENT, binary)]
    entries = [
        TransactionEntry(
            path=f"Bundle.entry[{number}]",
            full_url=url,
            method="POST",
            url=str(resource["resourceType"]),
            type=str(resource["resourceType"]),
            resource=resource,
        )
        for number, (url, resource) in enumerate(resources)
    ]
    replaced = [each["target"] for each in document.get("relatesTo", ()) if each.get("code") == "replaces"]
    return [*entries, *(_superseding(each, len(entries) + n, request) for n, each in enumerate(replaced))]


def _described(document: Mapping[str, Any], content: bytes) -> dict[str, Any]:
    described = document["content"][0]
    # SHA-1 because FHIR R4 Attachment.hash says so.
    sha1 = base64.b64encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode()
    measured = {"size": len(content), "hash": sha1}
    for name, value in measured.items():
        if described["attachment"].get(name, value) != value:
            raise Unprocessable(
                f"the {name} is not that of the content", code="value", expression=f"{_ATTACHMENT}.{name}"
            )
    attachment = {name: value for name, value in described["attachment"].items() if name != "data"}
    return {**document, "content": [{**described, "attachment": {**attachment, "url": _CONTENT, **measured}}]}


def _submission_set(document: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """Who submitted what, when: from the caller, and from the document (IHE MHD 2:3.105.4.1.3)."""
    caller = request.caller
    master = document["masterIdentifier"]
    # The same document again has the same SubmissionSet; 2.25 is the arc of UUIDs among the OIDs (ITU-T X.667).
    unique = uuid5(NAMESPACE_URL, f"{caller.organisation} {master.get('system', '')}|{master.get('value', '')}")
    source_id = (URI, caller.domain) if caller.domain else (IDNST, caller.organisation)
    extensions = [{"url": f"{MHD}ihe-sourceId", "valueIdentifier": _identifier(*source_id)}]
    designation = next(iter(document.get("category", ())), document.get("type"))
    if designation is not None:
        extensions.append({"url": f"{MHD}ihe-designationType", "valueCodeableConcept": designation})
    contained = _source(request)
    organisation = {"identifier": _identifier(IDNST, caller.organisation)}
    source: dict[str, Any] = {"extension": [{"url": f"{MHD}ihe-authorOrg", "valueReference": organisation}]}
    if contained is not None:
        source["reference"] = f"#{contained['id']}"
    return {
        "resourceType": "List",
        **({"contained": [contained]} if contained is not None else {}),
        "extension": extensions,
        "identifier": [
            {
                "use": "usual",
                "type": {"coding": [{"system": IDENTIFIER_TYPES, "code": "uniqueId"}]},
                "system": URI,
                "value": f"urn:oid:2.25.{unique.int}",
            }
        ],
        "status": "current",
        "mode": "working",
        "code": {"coding": [{"system": LIST_TYPES, "code": "submissionset"}]},
        "subject": document["subject"],
        "date": instant(request.at),
        "source": source,
        "entry": [{"item": {"reference": _DOCUMENT}}],
    }


def _source(request: Request) -> dict[str, Any] | None:
    """The person who submits, as far as the token says."""
    caller = request.caller
    if caller.patient is not None:
        system, _, value = caller.patient.partition("|")
        return {"resourceType": "Patient", "id": "source", "identifier": [_identifier(system, value)]}
    if caller.professional is not None:
        identifiers = [_identifier(IDNPS, caller.professional)]
        return {"resourceType": "Practitioner", "id": "source", "identifier": identifiers}
    return None


def _identifier(system: str, value: str) -> dict[str, str]:
    return {"system": system, "value": value}


def _superseding(target: Mapping[str, Any], number: int, request: Request) -> TransactionEntry:
    """The PATCH that a replacement comes with; what it names is for the transaction to find, or to refuse."""
    kind, _, rest = str(target.get("reference", "")).removeprefix(f"{request.base_url}/").partition("/")
    id = rest.partition("/_history/")[0] if kind == DOCUMENT else ""
    identifier = target.get("identifier", {})
    query = urlencode({"identifier": f"{identifier.get('system', '')}|{identifier.get('value', '')}"})
    operation = [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": f"{DOCUMENT}.status"},
        {"name": "value", "valueCode": "superseded"},
    ]
    return TransactionEntry(
        path=f"Bundle.entry[{number}]",
        full_url=None,
        method="PATCH",
        url=f"{DOCUMENT}/{id}" if id else f"{DOCUMENT}?{query}",
        type=DOCUMENT,
        id=id or None,
        query="" if id else query,
        resource={"resourceType": "Parameters", "parameter": [{"name": "operation", "part": operation}]},
    )


@contextmanager
def _told_of_the_document() -> Iterator[None]:
    """Refusals name elements of the one resource that the client sent; a patient who is not there is not found."""
    try:
        yield
    except PasserelleError as refusal:
        refusal.issues = tuple(replace(issue, expression=_placed(issue.expression)) for issue in refusal.issues)
        first = refusal.issues[0]
        if isinstance(refusal, Unprocessable) and (first.code, first.expression) == ("not-found", _SUBJECT):
            raise NotFound(issues=refusal.issues) from None  # PDSM-3
        raise


_SUBJECT: Final = f"{DOCUMENT}.subject"
_PLACES: Final = (
    ("Bundle.entry[0].resource.subject", _SUBJECT),
    ("Bundle.entry[0]", DOCUMENT),
    ("Bundle.entry[1].resource", DOCUMENT),
    ("Bundle.entry[1]", DOCUMENT),
    ("Bundle.entry[2].resource", _ATTACHMENT),
    ("Bundle.entry[2]", _ATTACHMENT),
    ("Bundle.entry[", f"{DOCUMENT}.relatesTo"),  # the PATCH of what is replaced
    ("Bundle", DOCUMENT),
)


def _placed(expression: str | None) -> str | None:
    for prefix, place in _PLACES:
        if expression is not None and expression.startswith(prefix):
            if place in (DOCUMENT, _ATTACHMENT) and prefix.endswith("resource"):
                return place + expression.removeprefix(prefix)
            return place
    return expression
