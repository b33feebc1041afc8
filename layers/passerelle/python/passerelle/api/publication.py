"""Single documents over HTTP: publish (IHE MHD ITI-105, ITI-106; PDSm flux 09), change (PDSm flux 03; DMP TD3.3a to d).

A document changes by PATCH alone, whose rules are `fhir/document_patch.py`; it is neither replaced by PUT nor deleted.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Protocol

from passerelle.api.app import COMMITTED, Call, FhirApp, Reply
from passerelle.api.interactions import WiredRecords, written_reply
from passerelle.api.negotiation import codec_of
from passerelle.errors import Invalid, Issue
from passerelle.fhir.search import parse_query

if TYPE_CHECKING:
    from passerelle.fhir.document_patch import DocumentPatch
    from passerelle.fhir.document_updates import DocumentUpdateService
    from passerelle.fhir.documents import PublicationService, Published
    from passerelle.records.service import Written

TYPE = "DocumentReference"
PUBLISHES = ("ITI-105", "TD2")
CHANGES = ("TD3.3a", "TD3.3b", "TD3.3c", "TD3.3d")


class WiredPublication(WiredRecords, Protocol):
    """Both services are made for the first request that needs them: most requests read."""

    @property
    def publication(self) -> Callable[[], PublicationService]: ...

    @property
    def document_updates(self) -> Callable[[], DocumentUpdateService]: ...


def serve_publication(app: FhirApp) -> None:
    """Declare what publishes a document and what changes it."""
    app.interaction(TYPE, "create", transactions=PUBLISHES)(_publish)
    app.operation(TYPE, "/$generate-metadata", needs="c", transaction="ITI-106")(_generate)
    app.interaction(TYPE, "patch", transactions=CHANGES)(_patch)
    app.interaction(TYPE, "conditional-patch", transactions=CHANGES)(_patch_where)


# --- publishing -------------------------------------------------------------------------------------------------------


def _publish(call: Call, wired: WiredPublication) -> Reply:
    """201 with the document as it was created; 200 for one that this client had published (contract P20)."""
    published = wired.publication().publish(call.request, call.resource)
    answer = published.done.response
    headers = {"Location": f"{call.request.base_url}/{answer.location}", **_warned(published)}
    stamps = {"ETag": answer.etag, "Last-Modified": _http_date(answer.last_modified)}
    headers |= {name: value for name, value in stamps.items() if value is not None}
    warnings = tuple(Issue(code="processing", diagnostics=text) for text in published.warnings)
    status = int(answer.status.partition(" ")[0])
    return Reply(status=status, body=published.body, headers=headers, touched=COMMITTED, warnings=warnings)


def _generate(call: Call, wired: WiredPublication) -> Reply:
    from passerelle.fhir.generated_metadata import coded_document  # which reads any kind of content

    document = coded_document(call.resource, is_xml=codec_of(call.content_type) == "xml")
    published = wired.publication().publish_coded(call.request, document)
    assert published.done.key is not None, "a document that was published"
    reference = {"name": TYPE, "valueReference": {"reference": published.done.key.reference}}
    body = {"resourceType": "Parameters", "parameter": [reference]}
    return Reply(body=body, headers=_warned(published), touched=COMMITTED)


def _warned(published: Published) -> dict[str, str]:
    """RFC 7234 section 5.5: 199 is a warning of any kind."""
    listed = ", ".join(f'199 passerelle "{text}"' for text in published.warnings)
    return {"Warning": listed} if listed else {}


def _http_date(text: str | None) -> str | None:
    return None if text is None else format_datetime(datetime.fromisoformat(text).astimezone(UTC), usegmt=True)


# --- changing ---------------------------------------------------------------------------------------------------------


def _patch(call: Call, wired: WiredPublication) -> Reply:
    updates = wired.document_updates()
    return _changed(call, wired, updates.update(call.request, call.id, _read(call), if_match=call.if_match))


def _patch_where(call: Call, wired: WiredPublication) -> Reply:
    """Always strict: what a condition ignored would widen it."""
    parsed = parse_query(TYPE, call.query, base_url=call.request.base_url, strict=True)
    if not parsed.query.criteria:
        raise Invalid("a condition is required", code="required")
    updates = wired.document_updates()
    return _changed(call, wired, updates.update_where(call.request, parsed, _read(call), if_match=call.if_match))


def _read(call: Call) -> DocumentPatch:
    from passerelle.fhir.document_patch import DocumentPatch  # few requests change a document

    patch, media_type = call.patch
    return DocumentPatch.read(patch, media_type)


def _changed(call: Call, wired: WiredPublication, written: Written) -> Reply:
    reply = written_reply(call.request, written)
    if call.returns == "representation":
        reply.body = wired.records.written_body(call.request, written)
    return reply
