"""The search on AuditEvents: IHE ITI-81, the national TDE 2.0.0, FHIR R4 section 3.1.1.

Whose log is read is decided by the storage, everything else by the event as it is shown: what is not shown cannot be
found out by searching for it. `agent-role` finds the role of an agent and its type, which tells origin and recipient
apart.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from passerelle.audit.service import AuditSearch, Entry
from passerelle.errors import Invalid
from passerelle.fhir.audit_event import render_entry
from passerelle.fhir.dates import date_range
from passerelle.identifiers import PATIENT_KEY
from passerelle.records.cursors import CURSOR

DEFAULT_COUNT, MAX_COUNT, MAX_PARAMETERS, MAX_VALUE_CHARACTERS = 50, 100, 50, 2_000
_NUMBER = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_PREFIXED = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)(?=\d)")
_IGNORED = frozenset({"_format", "_pretty", CURSOR})
_PERIOD_START = "period-start"
_ALIASES = {"TDE_AuditEvent_period-start": _PERIOD_START}
_ACTION = "http://hl7.org/fhir/audit-event-action"
_OUTCOME = "http://terminology.hl7.org/CodeSystem/audit-event-outcome"

Pairs = Sequence[tuple[str, str]]
Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Moments:
    """lo <= moment < hi."""

    lo: datetime
    hi: datetime

    @classmethod
    def of(cls, text: str) -> Moments:
        """What a date means as precisely as it is written; raises ValueError, OverflowError."""
        first, last = (datetime.strptime(f"{each}+0000", "%Y%m%d%H%M%S%z") for each in date_range(text))
        return cls(first, last + timedelta(seconds=1))

    def accept(self, prefix: str, value: Moments) -> bool:
        """R4 section 3.1.1.4.5; `ap` is as far beyond both ends as the asked date is precise."""
        match prefix:
            case "eq":
                return self.lo <= value.lo and value.hi <= self.hi
            case "ne":
                return not self.accept("eq", value)
            case "gt":
                return value.hi > self.hi
            case "lt":
                return value.lo < self.lo
            case "ge":
                return value.hi > self.lo
            case "le":
                return value.lo < self.hi
            case "sa":
                return value.lo >= self.hi
            case "eb":
                return value.hi <= self.lo
        width = self.hi - self.lo
        return value.lo < self.hi + width and value.hi > self.lo - width


# --- what an event has ----------------------------------------------------------------------------------------------

Token = tuple[str, str]


def _codings(holders: Any, *path: str) -> Iterator[Token]:
    for concept in _at(holders, *path):
        for coding in concept.get("coding", [concept]):
            yield coding.get("system", ""), coding.get("code", "")


def _at(node: Any, *path: str) -> Iterator[Any]:
    if isinstance(node, list):
        for each in node:
            yield from _at(each, *path)
    elif not path:
        if node is not None:
            yield node
    elif isinstance(node, Mapping):
        yield from _at(node.get(path[0]), *path[1:])


def _identifiers(event: Event, *path: str) -> Iterator[Token]:
    for identifier in _at(event, *path, "identifier"):
        yield identifier.get("system", ""), identifier.get("value", "")


_TOKENS: Mapping[str, Callable[[Event], Iterable[Token]]] = {
    "action": lambda event: ((_ACTION, each) for each in _at(event, "action")),
    "outcome": lambda event: ((_OUTCOME, each) for each in _at(event, "outcome")),
    "type": lambda event: _codings(event, "type"),
    "subtype": lambda event: _codings(event, "subtype"),
    "altid": lambda event: (("", each) for each in _at(event, "agent", "altId")),
    "agent-role": lambda event: (*_codings(event, "agent", "role"), *_codings(event, "agent", "type")),
    "agent:identifier": lambda event: _identifiers(event, "agent", "who"),
    "entity:identifier": lambda event: _identifiers(event, "entity", "what"),
}
_REFERENCES = {"agent": ("agent", "who"), "entity": ("entity", "what")}
_TEXTS: Mapping[str, Callable[[Event], Iterator[str]]] = {
    "agent-name": lambda event: _at(event, "agent", "name"),
    "address": lambda event: _at(event, "agent", "network", "address"),
}
PARAMETERS: Final[Mapping[str, str]] = {
    "_id": "token",
    "action": "token",
    "address": "string",
    "agent": "reference",
    "agent-name": "string",
    "agent-role": "token",
    "altid": "token",
    "date": "date",
    "entity": "reference",
    "outcome": "token",
    "patient": "reference",
    _PERIOD_START: "date",
    "subtype": "token",
    "type": "token",
}
_KNOWN = {"_count", *PARAMETERS, *_TOKENS, *_ALIASES}


# --- the query ------------------------------------------------------------------------------------------------------


def parse_audit_search(query: Pairs, *, base_url: str, strict: bool) -> tuple[AuditSearch, Pairs]:
    """The search, and the parameters it understood, for the self link; raises Invalid.

    At least one bound of `date`, which is on `recorded`, is required.
    """
    used = [pair for pair in query if pair[0] in _KNOWN]
    if strict and len(used) != sum(name not in _IGNORED for name, _ in query):
        raise Invalid("a search parameter is not supported", code="not-supported")
    if len(query) > MAX_PARAMETERS or any(len(value) > MAX_VALUE_CHARACTERS for _, value in query):
        raise Invalid("the search is longer than any that makes sense", code="too-costly")
    since, until = _period([value for name, value in used if name == "date"])
    filters = [
        _filter(_ALIASES.get(name, name), value, base_url)
        for name, value in used
        if name not in ("patient", "date", "_count")
    ]

    def matches(entry: Entry) -> bool:
        event = render_entry(entry, base_url) if filters else {}
        return all(each(event) for each in filters)

    search = AuditSearch(
        patient=_patient([value for name, value in used if name == "patient"], base_url),
        since=since,
        until=until,
        count=_count([value for name, value in used if name == "_count"]),
        matches=matches,
    )
    return search, used


def _filter(name: str, value: str, base_url: str) -> Callable[[Event], bool]:
    """Every parameter has to match one of its comma-separated values."""
    asked = value.split(",")
    if name == "_id":
        return lambda event: event["id"] in asked
    if name == _PERIOD_START:
        return _starting([_dated(each, name) for each in asked])
    if name in _TEXTS:
        starts = tuple(filter(None, map(_plain, asked)))
        return lambda event: any(_plain(each).startswith(starts) for each in _TEXTS[name](event)) if starts else False
    if name in _REFERENCES and not any("|" in each for each in asked):
        references = {each.removeprefix(f"{base_url}/") for each in asked}
        path = _REFERENCES[name]
        return lambda event: any(
            text.removeprefix(f"{base_url}/") in references for text in _at(event, *path, "reference")
        )
    tokens = _TOKENS[f"{name}:identifier" if name in _REFERENCES else name]
    return lambda event: any(_is_asked(asked, *token) for token in tokens(event))


def _is_asked(asked: Sequence[str], system: str, code: str) -> bool:
    return not {code, f"{system}|{code}", f"{system}|"}.isdisjoint(asked)


def _starting(asked: Sequence[tuple[str, Moments]]) -> Callable[[Event], bool]:
    def matches(event: Event) -> bool:
        return any(
            moments.accept(prefix, Moments.of(start))
            for start in _at(event, "period", "start")
            for prefix, moments in asked
        )

    return matches


def _plain(text: str) -> str:
    """Without accents and case."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(each for each in decomposed if not unicodedata.combining(each)).casefold().strip()


def _patient(values: Sequence[str], base_url: str) -> str | None:
    if len(values) > 1:
        raise Invalid("the parameter patient is given once", code="required")
    if not values:
        return None
    key = values[0].removeprefix(f"{base_url}/").removeprefix("Patient/")
    if not PATIENT_KEY.fullmatch(key):
        raise Invalid("patient is no reference to a Patient of this exchange", code="value")
    return key


def _count(values: Sequence[str]) -> int:
    if not values:
        return DEFAULT_COUNT
    if len(values) > 1 or not _NUMBER.fullmatch(values[0]):
        raise Invalid("_count is one number above zero", code="value")
    return min(int(values[0]), MAX_COUNT)


def _period(values: Sequence[str]) -> tuple[datetime | None, datetime | None]:
    """What `date` parameters leave of the time line: since <= recorded < until."""
    if not values:
        raise Invalid("the parameter date is required, with one bound or two", code="required")
    since: list[datetime] = []
    until: list[datetime] = []
    for value in values:
        prefix, moments = _dated(value, "date")
        match prefix:
            case "eq":
                since.append(moments.lo)
                until.append(moments.hi)
            case "ge":
                since.append(moments.lo)
            case "gt" | "sa":
                since.append(moments.hi)
            case "le":
                until.append(moments.hi)
            case "lt" | "eb":
                until.append(moments.lo)
            case _:
                raise Invalid("the prefix of date is not supported", code="not-supported")
    return max(since, default=None), min(until, default=None)


def _dated(value: str, name: str) -> tuple[str, Moments]:
    found = _PREFIXED.match(value)
    prefix, text = (found[0], value[2:]) if found else ("eq", value)
    try:
        return prefix, Moments.of(text.replace(" ", "+"))  # what an unescaped + of a zone becomes in a URL
    except (ValueError, OverflowError) as error:
        raise Invalid(f"{name} is not a FHIR date with a prefix", code="value") from error
