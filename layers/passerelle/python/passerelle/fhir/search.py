"""The search syntax: from the parameters of a request to a query that the record understands.

FHIR R4 section 3.1.1. What the server does not know is ignored and left out of `used`, which makes the self
link, or refused under `Prefer: handling=strict` (contract GEN-8); a known parameter that is used wrongly is
always refused. Faults name the parameter (`http.<name>`), never what was sent in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NoReturn, TypeVar, cast

from passerelle.errors import Invalid
from passerelle.fhir.dates import date_range, written
from passerelle.fhir.index import RecordType, SearchParameter, record_type
from passerelle.records.search import (
    Alternative,
    Criterion,
    DateIs,
    IdentifierIs,
    Prefix,
    Query,
    ReferenceIs,
    TextIs,
    TokenIs,
)

DEFAULT_COUNT = 50
MAX_COUNT = 200
MAX_PARAMETERS = 50
MAX_ALTERNATIVES = 100  # each is compared with every entry of a record
MAX_VALUE_CHARACTERS = 8_000

CURSOR = "_cursor"  # of our own page links
# They do not change which resources are found: format is the HTTP boundary's, `total` is always exact.
_INDIFFERENT = frozenset({"_format", "_pretty", "_total", CURSOR})

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,40}(:[A-Za-z]{1,40})?", re.ASCII)
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,40}")
_PREFIX = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)(?=\d)")
_UNESCAPE = re.compile(r"\\([\\,|$])")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedQuery:
    """A query, and whose record it is about: the id of a Patient, a business identifier, both or neither.

    `used` are the parameters that the answer depends on, as the self link shows them.
    """

    query: Query
    patient: str | None
    patient_identifier: tuple[str, str] | None
    used: tuple[tuple[str, str], ...]


def parse_query(
    type: str,
    pairs: Sequence[tuple[str, str]],
    *,
    strict: bool = False,
    base_url: str | None = None,
) -> ParsedQuery:
    """Read the parameters of a search in one type; raises Invalid (`value`, `not-supported`, `invalid`,
    `too-costly`).

    `base_url` is that of the request: references to this server may be absolute.
    """
    if len(pairs) > MAX_PARAMETERS:
        raise Invalid(f"a search may have {MAX_PARAMETERS} parameters", code="too-costly")
    return _Reader(record_type(type), strict=strict, base_url=base_url).read(pairs)


class _Reader:
    def __init__(self, row: RecordType, *, strict: bool, base_url: str | None) -> None:
        self._row = row
        self._strict = strict
        self._base = f"{base_url}/" if base_url else None
        self._patients: set[str] = set()
        self._identifiers: set[tuple[str, str]] = set()
        self._criteria: list[Criterion] = []
        self._count: int | None = None
        self._sort: Literal["date", "-date"] | None = None
        self._used: list[tuple[str, str]] = []

    def read(self, pairs: Sequence[tuple[str, str]]) -> ParsedQuery:
        for name, value in _without_folder_exceptions(self._row, pairs):
            if name in _INDIFFERENT:
                continue
            if not self._parameter(name, value):
                self._unknown(name)
        row = self._row
        query = Query(
            type=row.name,
            criteria=tuple(self._criteria),
            count=DEFAULT_COUNT if self._count is None else self._count,
            sort=self._sort or "-date",
            sort_date=row.sort,
            sort_reach=row.search[row.sort].reach if row.sort else None,
        )
        return ParsedQuery(
            query=query,
            patient=_only("patient", self._patients),
            patient_identifier=_only("patient.identifier", self._identifiers),
            used=tuple(self._used),
        )

    def _parameter(self, name: str, value: str) -> bool:
        """Take one parameter; False if there is none of that name."""
        plain, _, modifier = name.partition(":")
        chained, _, link = plain.partition(".")
        if chained in self._row.patient_parameters and link in ("", "identifier"):
            self._patient(name, modifier or link, value)
        elif plain == "_count":
            value = self._read_count(name, value)
        elif plain == "_sort":
            return self._read_sort(value)
        elif plain in self._row.search:
            self._criteria.append(self._criterion(plain, modifier, value))
        else:
            return False
        self._used.append((name, value))
        return True

    def _unknown(self, name: str) -> None:
        if self._strict:
            raise Invalid("a search parameter is not supported", code="not-supported", expression=_place(name))

    # --- whose record ---------------------------------------------------------------------------------------

    def _patient(self, name: str, form: str, value: str) -> None:
        if form == "identifier":
            token = _token(name, value)
            if not token.system or not token.code or len(_split(value, ",")) > 1:
                _refuse(name, "must be one system|value")
            self._identifiers.add((token.system, token.code))
        elif form in ("", "Patient"):
            target = self._local(value).removeprefix("Patient/")
            if not _ID.fullmatch(target):
                _refuse(name, "must name one Patient of this server")
            self._patients.add(target)
        else:
            _refuse_modifier(name)

    # --- paging and order -----------------------------------------------------------------------------------

    def _read_count(self, name: str, value: str) -> str:
        if self._count is not None or not re.fullmatch(r"\d{1,9}", value, re.ASCII):
            _refuse(name, "must be one number")
        self._count = min(int(value), MAX_COUNT)
        return str(self._count)

    def _read_sort(self, value: str) -> bool:
        if value.removeprefix("-") not in ("date", self._row.sort) or self._row.sort is None or self._sort:
            return False
        self._sort = "-date" if value.startswith("-") else "date"
        self._used.append(("_sort", value))
        return True

    # --- criteria -------------------------------------------------------------------------------------------

    def _criterion(self, name: str, modifier: str, value: str) -> Criterion:
        parameter = self._row.search[name]
        if modifier == "missing":
            if value not in ("true", "false"):
                _refuse(name, "with the modifier missing must be true or false")
            return Criterion(name=name, alternatives=(), modifier="missing", is_missing=value == "true")
        values = _split(value, ",") if len(value) <= MAX_VALUE_CHARACTERS else []
        if not 0 < len(values) <= MAX_ALTERNATIVES:
            limit = f"{MAX_ALTERNATIVES} values and {MAX_VALUE_CHARACTERS} characters"
            raise Invalid(f"a search parameter may have {limit}", code="too-costly", expression=_place(name))
        if not all(values):
            _refuse(name, "must have a value")
        read = self._reader_of(parameter, name, modifier)
        if read is None:
            _refuse_modifier(f"{name}:{modifier}")
        return Criterion(
            name=name,
            alternatives=tuple(read(each) for each in values),
            modifier="not" if modifier == "not" else "",
        )

    def _reader_of(self, parameter: SearchParameter, name: str, modifier: str) -> Callable[[str], Alternative] | None:
        match parameter.kind, modifier:
            case "token", "" | "not":
                return lambda value: _own_code(parameter, _token(name, value))
            case "reference", "":
                return lambda value: self._reference(name, value)
            case "reference", "identifier":
                return lambda value: IdentifierIs(_token(name, value))
            case "reference", _ if _TYPE.fullmatch(modifier):
                return lambda value: self._reference(name, f"{modifier}/{value.removeprefix(f'{modifier}/')}")
            case "string", "" | "exact" | "contains":
                how = modifier or "starts"
                return lambda value: TextIs(_unescape(value), how)
            case "date", "":
                return lambda value: _date(name, value)
        return None

    def _reference(self, name: str, value: str) -> Alternative:
        if len(_split(value, "|")) > 1:
            # MHD searches related documents by their business identifiers.
            return IdentifierIs(_token(name, value))
        target = self._local(_unescape(value))
        kind, slash, id = target.partition("/")
        if not (_ID.fullmatch(target) or (slash and _TYPE.fullmatch(kind) and _ID.fullmatch(id)) or ":" in target):
            _refuse(name, "must be an id, Type/id or a URL")
        return ReferenceIs(target)

    def _local(self, value: str) -> str:
        return value.removeprefix(self._base) if self._base else value


def _only(name: str, found: set[T]) -> T | None:
    if len(found) > 1:
        raise Invalid("a search is about one patient", code="invalid", expression=f"http.{name}")
    return next(iter(found), None)


def _without_folder_exceptions(row: RecordType, pairs: Sequence[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    """MHD ITI-66: a search for folders ignores what only submission sets have (contract 66-3)."""
    folders = row.name == "List" and any(
        name == "code" and value.rpartition("|")[2] == "folder" for name, value in pairs
    )
    absent = ("sourceId", "source.given", "source.family") if folders else ()
    return (pair for pair in pairs if pair[0].partition(":")[0] not in absent)


def _own_code(parameter: SearchParameter, token: TokenIs) -> TokenIs:
    """The token with the parameter's own code system left out, as entries keep plain codes."""
    if parameter.system is not None and token.system == parameter.system:
        return TokenIs("", token.code)
    return token


def _token(name: str, value: str) -> TokenIs:
    parts = [_unescape(part) for part in _split(value, "|")]
    if len(parts) == 1:
        return TokenIs(None, parts[0])
    if len(parts) > 2 or not any(parts):
        _refuse(name, "must be code, system|code, |code or system|")
    return TokenIs(parts[0], parts[1] or None)


def _date(name: str, value: str) -> DateIs:
    prefix = _PREFIX.match(value)
    text = value[2:] if prefix else value
    try:
        lo, hi = date_range(text.replace(" ", "+"))  # what an unescaped + of a time zone becomes in a URL
    except ValueError:
        _refuse(name, "must be a date, with or without a prefix")
    kind = cast(Prefix, prefix[0] if prefix else "eq")
    if kind == "ap":
        lo, hi = _widened(lo, hi)
    return DateIs(kind, lo, hi)


def _widened(lo: str, hi: str) -> tuple[str, str]:
    """Further on both sides by as much as the date is precise: `ap2024-03-14` is 13 to 15 March.

    R4 leaves the distance to the server; this one needs no clock.
    """
    first, last = (datetime.strptime(each, "%Y%m%d%H%M%S") for each in (lo, hi))  # noqa: DTZ007 - both UTC
    width = last - first + timedelta(seconds=1)
    try:
        earlier, later = first - width, last + width
    except OverflowError:
        return lo, hi
    return written(earlier), written(later)


def _split(value: str, separator: str) -> list[str]:
    """The parts between separators that no backslash escapes; the parts are still escaped."""
    parts, start, at = [], 0, 0
    while at < len(value):
        if value[at] == separator:
            parts.append(value[start:at])
            start = at + 1
        at += 2 if value[at] == "\\" else 1
    return [*parts, value[start:]]


def _unescape(value: str) -> str:
    return _UNESCAPE.sub(r"\1", value)


def _place(name: str) -> str | None:
    """Where the fault is; a name that could hold anything is not repeated."""
    return f"http.{name}" if _NAME.fullmatch(name) else None


def _refuse(name: str, rule: str) -> NoReturn:
    raise Invalid(f"the search parameter {rule}", code="value", expression=_place(name))


def _refuse_modifier(name: str) -> NoReturn:
    raise Invalid("the search parameter has no such modifier", code="not-supported", expression=_place(name))
