"""The FHIR interactions every resource type has in common, declared for a type in one line (R4 section 3.1.0)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol
from urllib.parse import urlencode

from passerelle.access import Request, Touched
from passerelle.api.app import COMMITTED, Call, FhirApp, Reply, Wired
from passerelle.errors import Invalid
from passerelle.fhir.bundles import Found, searchset
from passerelle.fhir.resource import ResourceDraft, read_identifiers
from passerelle.fhir.search import CURSOR, parse_query
from passerelle.fhir.validation import validate
from passerelle.identifiers import split_resource_id
from passerelle.records.model import StoredVersion, Subject
from passerelle.records.service import RecordService, Written

RecordInteraction = Literal["read", "vread", "search", "create", "update", "delete"]
READ_ONLY: tuple[RecordInteraction, ...] = ("read", "vread", "search")
ALL: tuple[RecordInteraction, ...] = (*READ_ONLY, "create", "update", "delete")


class WiredRecords(Wired, Protocol):
    @property
    def records(self) -> RecordService: ...


def serve(
    app: FhirApp, kind: str, interactions: Sequence[RecordInteraction], *, transactions: tuple[str, ...] = ()
) -> None:
    """Declare the routes of a clinical type; `transactions` are the IHE codes of its search."""
    if "read" in interactions:
        app.read(kind)(lambda call, wired: _read(call, wired, kind))
    if "vread" in interactions:
        app.vread(kind)(lambda call, wired: _vread(call, wired, kind))
    if "search" in interactions:
        app.search(kind, transactions=transactions)(lambda call, wired: _search(call, wired, kind))
    if "create" in interactions:
        app.create(kind)(lambda call, wired: _create(call, wired, kind))
    if "update" in interactions:
        app.update(kind)(lambda call, wired: _update(call, wired, kind))
    if "delete" in interactions:
        app.delete(kind)(lambda call, wired: _delete(call, wired, kind))


def version_reply(found: StoredVersion) -> Reply:
    """A stored version with its ETag and Last-Modified."""
    split = split_resource_id(found.id)
    patients = [split[0]] if split and split[0] else []
    touched = Touched.of(patients, [f"{found.reference}/_history/{found.version}"])
    return Reply(body=found.body, headers=version_headers(found.version, found.at), touched=touched)


def version_headers(version: int, at: Any) -> dict[str, str]:
    return {"ETag": f'W/"{version}"', "Last-Modified": at.strftime("%a, %d %b %Y %H:%M:%S GMT")}


def written_reply(request: Request, written: Written) -> Reply:
    """The answer to a write: 201 with Location for a new resource, 200 with the new version otherwise."""
    location = f"{request.base_url}/{written.reference}/_history/{written.version}"
    headers = version_headers(written.version, written.at)
    if written.is_new:
        headers["Location"] = location
    return Reply(status=201 if written.is_new else 200, body=None, headers=headers, touched=COMMITTED)


def _read(call: Call, wired: WiredRecords, kind: str) -> Reply:
    return version_reply(wired.records.read(call.request, kind, call.id))


def _vread(call: Call, wired: WiredRecords, kind: str) -> Reply:
    version = call.path["version"]
    if not (version.isascii() and version.isdigit()):
        raise Invalid("a version is a number", code="value")
    return version_reply(wired.records.read_version(call.request, kind, call.id, int(version)))


def _search(call: Call, wired: WiredRecords, kind: str) -> Reply:
    parsed = parse_query(kind, call.query, base_url=call.request.base_url, strict=is_strict(call))
    subject = Subject(key=parsed.patient, identifier=parsed.patient_identifier)
    if subject == Subject():
        raise Invalid("a search needs a patient", code="required", expression="http.patient")
    page = wired.records.search(call.request, parsed.query, subject, cursor=call.one(CURSOR))
    following = [*parsed.used, (CURSOR, page.cursor)] if page.cursor else None
    body = searchset(
        [Found(reference=version.reference, body=version.body or b"") for version in page.versions],
        base_url=call.request.base_url,
        self_url=search_url(call, kind, parsed.used),
        next_url=search_url(call, kind, following) if following else None,
        total=page.total,
    )
    references = [f"{version.reference}/_history/{version.version}" for version in page.versions]
    return Reply(body=body, touched=Touched.of(page.patients, references))


def search_url(call: Call, kind: str, used: Sequence[tuple[str, str]]) -> str:
    """The URL of a search with the parameters that were used: `link[self]`."""
    return f"{call.request.base_url}/{kind}?{urlencode(used)}"


def is_strict(call: Call) -> bool:
    return "handling=strict" in call.headers.get("prefer", "").replace(" ", "")


def _draft(call: Call, kind: str) -> ResourceDraft:
    validate(call.resource, expected_type=kind)
    return ResourceDraft(call.resource, call.request.base_url)


def _create(call: Call, wired: WiredRecords, kind: str) -> Reply:
    return _represented(call, wired, wired.records.create(call.request, _draft(call, kind)))


def _update(call: Call, wired: WiredRecords, kind: str) -> Reply:
    draft = _draft(call, kind)
    if call.resource.get("id") != call.id:
        raise Invalid("the id in the resource is not the one in the URL", code="invariant", expression=f"{kind}.id")
    written = wired.records.update(call.request, draft, call.id, if_match=call.if_match)
    return _represented(call, wired, written)


def _delete(call: Call, wired: WiredRecords, kind: str) -> Reply:
    written = wired.records.delete(call.request, kind, call.id, if_match=call.if_match)
    return Reply(status=204, body=None, headers={"ETag": f'W/"{written.version}"'}, touched=COMMITTED)


def _represented(call: Call, wired: WiredRecords, written: Written) -> Reply:
    """The written version as stored, unless the client prefers none (`Prefer: return=minimal`)."""
    reply = written_reply(call.request, written)
    if "return=minimal" not in call.headers.get("prefer", ""):
        reply.body = wired.records.written_body(written)
    return reply


def serve_shared(app: FhirApp, kind: str) -> None:
    """Declare the routes of a type that belongs to no patient: read, and search by identifier."""
    app.read(kind)(lambda call, wired: _read(call, wired, kind))
    app.search(kind)(lambda call, wired: _search_shared(call, wired, kind))


def _search_shared(call: Call, wired: WiredRecords, kind: str) -> Reply:
    identifiers = read_identifiers(call.query)
    found = wired.records.search_shared(kind, identifiers)
    body = searchset(
        [Found(reference=version.reference, body=version.body or b"") for version in found],
        base_url=call.request.base_url,
        self_url=search_url(call, kind, [pair for pair in call.query if pair[0] == "identifier"]),
        total=len(found),
    )
    return Reply(body=body, touched=Touched.of([], [version.reference for version in found]))
