"""The archive of `$export-record`: what is in it, in which order, and the page that says what is what.

Everything is read through the gate, as the caller sees it. Resources are held in memory, contents are not; either has a
bound (413), beyond which `$everything`, `$changes` and Binary give the same, page by page.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Mapping
from html import escape
from itertools import chain
from typing import Any, Final

from passerelle.access import Request
from passerelle.api.app import COMMITTED, Call, Reply
from passerelle.api.exports import WiredExports
from passerelle.api.history_page import history_page
from passerelle.api.interactions import may_read
from passerelle.audit.history import LANGUAGES, Chronicle, zone
from passerelle.audit.model import KEPT, AuditRecord
from passerelle.audit.service import AuditSearch
from passerelle.documents.model import Document, Span
from passerelle.documents.service import MAX_STREAMED_BYTES
from passerelle.errors import Forbidden, Gone, NotFound, TooLarge, Unavailable
from passerelle.exports.model import MAX_CONTENT_BYTES, MAX_RESOURCE_BYTES, Part
from passerelle.fhir import json as fhir_json
from passerelle.fhir.exports import by_type, history_by_type, render_exported
from passerelle.fhir.mhd import stored_document
from passerelle.fhir.record_status import render_standing
from passerelle.records.model import StoredVersion, Subject

MAX_ACCESSES: Final = 5_000
_LOG: Final = {"fr": "acces.html", "en": "access.html"}


def exported(call: Call, wired: WiredExports) -> Reply:
    export = wired.exports().export(call.request, call.id, lambda: _parts(call, wired))
    return Reply(body=render_exported(export), headers={"Cache-Control": "no-store"}, touched=COMMITTED)


def _parts(call: Call, wired: WiredExports) -> Iterator[Part]:
    request = call.request
    versions = _versions(call, wired)
    files: list[tuple[str, str]] = []

    def listed(kind: str, part: Part) -> Part:
        files.append((kind, part.name))
        return part

    for type, lines in sorted(by_type(versions).items()):
        yield listed("resources", Part(name=f"resources/{type}.ndjson", data=lines))
    for type, lines in sorted(history_by_type(versions, request.base_url).items()):
        yield listed("history", Part(name=f"history/{type}.ndjson", data=lines))
    if may_read(request, "Binary"):
        for part in _contents(call, wired, versions):
            yield listed("documents", part)
    standing = wired.record_status.standing(request, call.id)
    yield listed("decisions", Part(name="decisions.json", data=[fhir_json.dumps(render_standing(standing))]))
    if may_read(request, "AuditEvent"):
        for name, page in _log(call, wired).items():
            yield listed("log", Part(name=name, data=[page]))
    yield Part(name="index.html", data=[index_page(request, files)])


def _versions(call: Call, wired: WiredExports) -> list[StoredVersion]:
    found, room = [], MAX_RESOURCE_BYTES
    for each in wired.history.whole(call.request, Subject(key=call.id)):
        if may_read(call.request, each.type):
            found.append(each)
            room -= len(each.body or b"")
            if room < 0:
                raise TooLarge("the record is too large for one file: use $everything and $changes")
    return found


def _contents(call: Call, wired: WiredExports, versions: list[StoredVersion]) -> Iterator[Part]:
    latest = {each.key: each for each in versions if each.key.type == "DocumentReference"}  # the oldest came first
    room = MAX_CONTENT_BYTES
    for each in latest.values():
        if each.body is None:
            continue
        document = stored_document(each)
        try:
            first = wired.contents().release(call.request, document, span=Span(first=0, last=MAX_STREAMED_BYTES - 1))
        except (Forbidden, Gone, NotFound, Unavailable):
            continue  # superseded, in quarantine, or not there yet: its description is in the archive
        size = first.kept.size_bytes
        room -= size
        if room < 0:
            raise TooLarge("the documents are too large for one file: use $everything, and Binary for each of them")
        kind = document.content_type.partition(";")[0].strip()
        extension = mimetypes.guess_extension(kind) or ".bin"
        yield Part(
            name=f"documents/{document.id}{extension}",
            data=chain([first.data or b""], _rest(call, wired, document, size)),
        )


def _rest(call: Call, wired: WiredExports, document: Document, size: int) -> Iterator[bytes]:
    for start in range(MAX_STREAMED_BYTES, size, MAX_STREAMED_BYTES):
        span = Span(first=start, last=start + MAX_STREAMED_BYTES - 1)
        yield wired.contents().release(call.request, document, span=span).data or b""


def _log(call: Call, wired: WiredExports) -> Mapping[str, bytes]:
    """Who saw the record, in either language, as `$access-history` tells it."""
    request = call.request
    found: list[AuditRecord] = []
    after: str | None = None
    while True:
        search = AuditSearch(
            patient=call.id,
            since=None,
            until=None,
            count=MAX_ACCESSES - len(found),
            after=after,
            is_of_person=True,
            matches=lambda entry: not entry.is_decision,
        )
        page = wired.audit().search(request, search)
        found += [entry.record for entry in page.entries]
        after = page.following
        if after is None or len(found) >= MAX_ACCESSES:
            break
    first, last = (each.astimezone(zone()).date() for each in (request.at - KEPT, request.at))
    pages: dict[str, bytes] = {}
    for language in LANGUAGES:
        chronicle = Chronicle(language)
        told = [chronicle.tell(each) for each in found]
        pages[_LOG[language]] = history_page(chronicle, told, first, last, is_cut=after is not None).encode()
    return pages


# --- the page ---------------------------------------------------------------------------------------------------------

_WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "fr": {
        "title": "Votre dossier",
        "introduction": "Cette archive contient tout ce que vous pouvez voir de votre dossier, le {date}. "
        "Elle contient des données de santé : gardez-la en lieu sûr.",
        "documents": "Vos documents, tels qu’ils ont été publiés",
        "resources": "Les données de votre dossier, telles qu’elles sont aujourd’hui (FHIR R4, une par ligne)",
        "history": "Toutes leurs versions, suppressions comprises (FHIR R4, une par ligne)",
        "decisions": "Les décisions prises sur votre dossier : ouverture, blocages, autorisations, mandats, urgences",
        "log": "Qui a vu votre dossier, quand et pourquoi",
    },
    "en": {
        "title": "Your record",
        "introduction": "This archive holds everything that you may see of your record, on {date}. "
        "It holds health data: keep it in a safe place.",
        "documents": "Your documents, as they were published",
        "resources": "The data of your record, as they are today (FHIR R4, one a line)",
        "history": "All their versions, deletions included (FHIR R4, one a line)",
        "decisions": "What was decided about your record: opening, blocks, authorisations, mandates, emergencies",
        "log": "Who saw your record, when and why",
    },
}


def index_page(request: Request, files: list[tuple[str, str]]) -> bytes:
    """What each file is, in French and in English; complete in itself."""
    sections = "\n".join(_section(language, request, files) for language in LANGUAGES)
    return (
        '<!doctype html>\n<html lang="fr">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(_WORDS['fr']['title'])}</title>\n"
        "<style>body{max-width:46rem;margin:2rem auto;padding:0 1rem;font:1.0625rem/1.5 system-ui,sans-serif}"
        "li{overflow-wrap:anywhere}section+section{margin-top:3rem;border-top:1px solid}</style>\n"
        f"</head>\n<body>\n{sections}\n</body>\n</html>\n"
    ).encode()


def _section(language: str, request: Request, files: list[tuple[str, str]]) -> str:
    words = _WORDS[language]
    date = Chronicle(language).date(request.at.astimezone(zone()).date())
    parts: list[str] = [
        f'<section lang="{language}">',
        f"<h1>{escape(words['title'])}</h1>",
        f"<p>{escape(words['introduction'].format(date=date))}</p>",
    ]
    for kind in ("documents", "log", "decisions", "resources", "history"):
        names: list[Any] = [name for each, name in files if each == kind]
        if kind == "log":
            names = [name for name in names if name == _LOG[language]]
        if names:
            links = "".join(f'<li><a href="{escape(name)}">{escape(name)}</a></li>' for name in names)
            parts.append(f"<h2>{escape(words[kind])}</h2>\n<ul>{links}</ul>")
    return "\n".join([*parts, "</section>"])
