"""The answer of `$access-history`: of the log, what its patient may read, in words, as resources or as a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, Final, Protocol
from urllib.parse import urlencode

from passerelle.access import Request, Touched
from passerelle.api.app import Call, Reply, Wired
from passerelle.api.history_page import history_page, history_page_headers
from passerelle.audit.history import LANGUAGES, Access, Chronicle, zone
from passerelle.audit.model import KEPT
from passerelle.audit.service import AuditSearch, AuditService
from passerelle.directory.model import CARE_ROLES
from passerelle.errors import Forbidden, Invalid, NotAcceptable
from passerelle.fhir.dates import instant
from passerelle.identifiers import PATIENT_KEY
from passerelle.records.cursors import CURSOR, Cursors

HTML: Final = "text/html"
DEFAULT_COUNT, MAX_COUNT, PAGE_COUNT = 50, 200, 500
_PARAMETERS = frozenset({"_language", "start", "end", "_count", "_format", "_pretty", CURSOR})


class WiredHistory(Wired, Protocol):
    @property
    def audit(self) -> Callable[[], AuditService]: ...

    @property
    def cursors(self) -> Cursors: ...


def told(call: Call, wired: WiredHistory) -> Reply:
    request = call.request
    is_page = _wants_page(call)
    if call.representation is None and not is_page:
        raise NotAcceptable()
    if any(name not in _PARAMETERS for name, _ in call.query):
        raise Invalid("a parameter is not supported", code="not-supported")
    if request.caller.role in CARE_ROLES or not PATIENT_KEY.fullmatch(call.id):
        raise Forbidden("the history of a record is for its patient")
    chronicle = Chronicle(_language(call.one("_language")))
    first, last = _day(call, "start"), _day(call, "end")
    count = PAGE_COUNT if is_page else _count(call.one("_count"))
    asked = [pair for pair in call.query if pair[0] not in ("_format", "_pretty", CURSOR)]
    purpose = f"history {call.id} {request.caller.patient or ''} {request.caller.person or ''} {urlencode(asked)}"
    page = wired.audit().search(
        request,
        AuditSearch(
            patient=call.id,
            since=_midnight(first) if first else None,
            until=_midnight(last + timedelta(days=1)) if last else None,
            count=count,
            after=wired.cursors.read(request, purpose, call.one(CURSOR)),
            is_of_person=True,
            matches=lambda entry: not entry.is_decision,
        ),
    )
    accesses = [chronicle.tell(entry.record) for entry in page.entries]
    touched = Touched.of([call.id])
    if is_page:
        today = request.at.astimezone(zone()).date()
        body = history_page(
            chronicle,
            accesses,
            first or (request.at - KEPT).astimezone(zone()).date(),
            min(last, today) if last else today,
            is_cut=page.following is not None,
        )
        content_type = f"{HTML}; charset=utf-8"
        return Reply(body=body.encode(), content_type=content_type, headers=history_page_headers(), touched=touched)
    following = None
    if page.following:
        query = urlencode([*asked, (CURSOR, wired.cursors.made(request, purpose, page.following))])
        following = f"{request.base_url}/Patient/{call.id}/$access-history?{query}"
    return Reply(body=_parameters(request, chronicle, accesses, following), touched=touched)


def _wants_page(call: Call) -> bool:
    """Whether HTML is preferred to resources."""
    for media_type in call.accepted:
        if media_type in (HTML, "html"):
            return True
        if (
            media_type in ("*/*", "application/*")
            or "json" in media_type
            or "xml" in media_type.removesuffix("html+xml")
        ):
            return False
    return False


def _parameters(
    request: Request, chronicle: Chronicle, told: Sequence[Access], following: str | None
) -> dict[str, Any]:
    parameters: list[Mapping[str, Any]] = [{"name": "language", "valueCode": chronicle.language}]
    for each in told:
        texts = {"sentence": each.sentence, "who": each.who, "what": each.what, "why": each.why, "ground": each.ground}
        parts = [
            {"name": "when", "valueInstant": instant(each.at)},
            *({"name": name, "valueString": text} for name, text in texts.items() if text),
            {"name": "refused", "valueBoolean": each.is_refused},
            {"name": "emergency", "valueBoolean": each.is_emergency},
            {"name": "event", "valueReference": {"reference": f"{request.base_url}/AuditEvent/{each.event}"}},
        ]
        parameters.append({"name": "access", "part": parts})
    if following:
        parameters.append({"name": "next", "valueUrl": following})
    return {"resourceType": "Parameters", "parameter": parameters}


def _language(asked: str | None) -> str:
    language = (asked or LANGUAGES[0]).partition("-")[0].lower()
    if language not in LANGUAGES:
        raise Invalid("the history is told in French and in English", code="not-supported", expression="_language")
    return language


def _count(asked: str | None) -> int:
    if asked is None:
        return DEFAULT_COUNT
    if not (asked.isascii() and asked.isdigit() and 0 < len(asked) < 10 and int(asked)):
        raise Invalid("_count is one number above zero", code="value", expression="_count")
    return min(int(asked), MAX_COUNT)


def _day(call: Call, name: str) -> date | None:
    text = call.one(name)
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise Invalid("a day is expected: 2026-01-14", code="value", expression=name) from None


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), zone())
