"""Contents over HTTP: documents (ITI-68, TD3.2), Binary as R4 has it (section 2.39), and uploads of large contents.

A content is under the id of its DocumentReference. What fits an answer comes in it; of what is larger, ranges do, and
the whole by way of a URL that lives for a minute (307). RFC 9110 sections 8.8.3 (ETag), 13 and 14 (conditions, and one
range at a time), RFC 9530 (Repr-Digest).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from passerelle.access import Permission, Touched
from passerelle.api.app import COMMITTED, Call, FhirApp, Handler, Reply
from passerelle.api.interactions import SERVED, Run, WiredRecords, serve, version_headers, version_reply
from passerelle.api.negotiation import codec_of
from passerelle.api.routes import InteractionName
from passerelle.documents.model import Release, Span
from passerelle.documents.service import DocumentService
from passerelle.documents.uploads import UploadService
from passerelle.errors import Forbidden, NotAcceptable, NotFound
from passerelle.fhir import json as fhir_json
from passerelle.fhir.dates import instant
from passerelle.fhir.mhd import stored_document
from passerelle.records.model import StoredVersion

_BINARY: Final[tuple[InteractionName, ...]] = ("create", "update", "vread", "history-instance", "delete")
_RETRIEVE: Final = Permission(resource="Binary", interaction="r", transactions=("ITI-68", "TD3.2"))
_PUBLISH: Final = Permission(resource="Binary", interaction="c", transactions=("ITI-65", "ITI-105", "TD2", "TD2.1"))
_LEGAL_QUERY: Final = frozenset({"_format", "_pretty"})
# Content of strangers: a file to save, and where it is shown all the same, without scripts.
_INERT: Final = {"Content-Disposition": "attachment", "Content-Security-Policy": "sandbox; default-src 'none'"}
_RANGE: Final = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})", re.ASCII | re.IGNORECASE)


class WiredContents(WiredRecords, Protocol):
    @property
    def documents(self) -> DocumentService: ...

    @property
    def uploads(self) -> UploadService: ...


def serve_contents(app: FhirApp) -> None:
    """Declare the routes of Binary."""
    serve(app, "Binary", _BINARY, instead={"update": _only_records("update"), "delete": _only_records("delete")})
    read = app.route("GET", "/Binary/{id}", name="read", action="R", resource="Binary", permission=_RETRIEVE, raw=True)
    read(_retrieve)
    # Contract 68-5: methods that are not legal for the URL of a content, whatever it leads to.
    for method, name in (("POST", "create"), ("PATCH", "patch")):
        app.route(
            method,
            "/Binary/{id}",
            name=name,
            action="R",
            resource="Binary",
            permission=_RETRIEVE,
            is_listed=False,
        )(_refuse)
    operations: tuple[tuple[str, Handler], ...] = (
        ("/$upload", _open),
        ("/{id}/$upload-parts", _invite),
        ("/{id}/$complete", _complete),
    )
    for path, handler in operations:
        app.route(
            "POST",
            f"/Binary{path}",
            name=path.rpartition("/")[2],
            action="E",
            resource="Binary",
            permission=_PUBLISH,
        )(handler)


# --- retrieving ---------------------------------------------------------------------------------------------------


def _retrieve(call: Call, wired: WiredContents) -> Reply:
    """The content of a document, under the id of its DocumentReference, or else a Binary of the record."""
    try:
        found = wired.records.read(call.request, "DocumentReference", call.id, absent="Document Not Found")
    except NotFound as absence:
        try:
            return _binary(call, wired.records.read(call.request, "Binary", call.id))
        except NotFound:
            raise absence from None
    if not _LEGAL_QUERY.issuperset(name for name, _ in call.query):
        raise _not_legal()
    document = stored_document(found)
    wired.documents.check_available(document)
    forms = [*_forms(call, document.content_type)]
    if not forms:
        raise NotAcceptable("Not Acceptable")
    span = _span(call.headers) if forms[0] == "bytes" else None
    condition = call.headers.get("if-range")
    release = wired.documents.release(call.request, document, span=None if condition else span)
    if condition == _tag(release) and span is not None:
        release = wired.documents.release(call.request, document, span=span)
    reference, binary = f"{found.reference}/_history/{found.version}", f"Binary/{found.id}"
    touched = Touched.of([document.patient], [reference, binary], [(binary, release.kept.sha256)])
    return _released(call, release, found, forms, touched)


def _released(call: Call, release: Release, found: StoredVersion, forms: list[str], touched: Touched) -> Reply:
    if forms[0] == "resource" and release.data is not None:
        body = _as_binary(found, release)
        return Reply(body=body, headers=version_headers(found.version, found.at), touched=touched)
    if "bytes" not in forms:
        raise NotAcceptable("the content is too large for a resource: ask for its own type")
    return content_reply(release, touched, is_head=call.method == "HEAD")


def content_reply(release: Release, touched: Touched, *, is_head: bool = False) -> Reply:
    """What leaves the vault as an HTTP answer: 200, 206 for a range, 307 where it is too large."""
    headers = {
        "ETag": _tag(release),
        "Accept-Ranges": "bytes",
        **_INERT,
        "Repr-Digest": f"sha-256=:{release.kept.sha256}:",
    }
    if release.data is None and not is_head:
        return Reply(status=307, body=None, headers={**headers, "Location": str(release.url)}, touched=touched)
    status = 200
    if release.span is not None:
        first, last = release.span
        headers["Content-Range"] = f"bytes {first}-{last}/{release.kept.size_bytes}"
        status = 206
    return Reply(
        status=status,
        body=release.data or b"",
        content_type=release.content_type,
        headers={**headers, "Content-Type": release.content_type},
        touched=touched,
    )


def _forms(call: Call, content_type: str) -> Iterator[str]:
    """The forms that a client takes, the preferred first: `bytes`, or `resource` for a Binary in FHIR."""
    own = content_type.partition(";")[0].strip().lower()
    kind = own.partition("/")[0]
    for each in call.accepted:
        if each in (own, "*/*", f"{kind}/*"):
            yield "bytes"
        elif codec_of(each) is not None and call.representation is not None:
            yield "resource"


def _tag(release: Release) -> str:
    return f'"{release.kept.sha256}"'


def _span(headers: Mapping[str, str]) -> Span | None:
    """The one range that is asked for; None for all of it: for several ranges, other units, and no range at all.

    A client that asks whether it has the content already gets all of it, or nothing.
    """
    asked = _RANGE.fullmatch(headers.get("range", "").strip())
    if asked is None or "if-none-match" in headers or "if-modified-since" in headers:
        return None
    first, last = (int(text) if text else None for text in asked.groups())
    if (first is None and last is None) or (first is not None and last is not None and last < first):
        return None
    return Span(first=first, last=last)


def _as_binary(found: StoredVersion, release: Release) -> dict[str, Any]:
    return {
        "resourceType": "Binary",
        "id": found.id,
        "meta": {"versionId": str(found.version), "lastUpdated": instant(found.at)},
        "contentType": release.content_type,
        "securityContext": {"reference": found.reference},
        "data": base64.b64encode(release.data or b"").decode(),
    }


def _binary(call: Call, found: StoredVersion) -> Reply:
    """The resource for who accepts FHIR, the bytes for who accepts their type."""
    reply = version_reply(found, call)
    binary: dict[str, Any] = fhir_json.loads(found.body or b"")
    for form in _forms(call, binary["contentType"]):
        if form == "resource":
            return reply
        if not binary["contentType"].isascii():  # no header can say it
            continue
        headers = {**reply.headers, **_INERT}
        data = base64.b64decode(binary.get("data", ""))
        return replace(reply, body=data, content_type=binary["contentType"], headers=headers)
    raise NotAcceptable()


def _only_records(name: InteractionName) -> Run:
    """An interaction of the Binaries of a record; the content of a document changes with its document only."""

    def run(call: Call, wired: Any, kind: str) -> Reply:
        try:
            return SERVED[name](call, wired, kind)
        except NotFound:
            if wired.records.exists(call.request, "DocumentReference", call.id):
                raise _not_legal() from None
            raise

    return run


def _refuse(call: Call, wired: WiredContents) -> Reply:
    raise _not_legal()


def _not_legal() -> Forbidden:
    return Forbidden("Request Type Not Supported", code="not-supported")


# --- uploads ------------------------------------------------------------------------------------------------------


def _open(call: Call, wired: WiredContents) -> Reply:
    from passerelle.fhir.uploads import announced_of, ticket_parameters  # few requests are uploads

    invitation = wired.uploads.open(call.request, announced_of(call.resource))
    body = ticket_parameters(invitation.ticket, call.request.base_url, invitation)
    location = f"{call.request.base_url}/Binary/{invitation.ticket.id}"
    return Reply(status=201, body=body, headers={"Location": location}, touched=COMMITTED)


def _invite(call: Call, wired: WiredContents) -> Reply:
    from passerelle.fhir.uploads import ticket_parameters

    invitation = wired.uploads.invite(call.request, call.id)
    body = ticket_parameters(invitation.ticket, call.request.base_url, invitation)
    return Reply(body=body, touched=Touched())


def _complete(call: Call, wired: WiredContents) -> Reply:
    from passerelle.fhir.uploads import ticket_parameters

    ticket = wired.uploads.complete(call.request, call.id)
    return Reply(body=ticket_parameters(ticket, call.request.base_url), touched=Touched())
