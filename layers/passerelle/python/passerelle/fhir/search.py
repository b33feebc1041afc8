"""The search syntax: from the parameters of a request to a query that the record understands.

FHIR R4 section 3.1.1. What the server does not know is ignored and left out of `used`, which makes the self link, or
refused under `Prefer: handling=strict` (contract GEN-8). Refused always: a known parameter that is used wrongly, and
what FHIR defines to narrow a search and the server cannot do (some chains, `_has`, full text), for ignoring it would
find too much. Faults name the parameter (`http.<name>`), never what was sent in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Context, Decimal
from typing import Literal, NoReturn, TypeVar, cast, get_args

from passerelle.directory.identifiers import other_form
from passerelle.errors import Invalid
from passerelle.fhir.dates import date_range, written
from passerelle.fhir.index import RECORD_TYPES, RecordType, SearchParameter, record_type
from passerelle.records.cursors import CURSOR
from passerelle.records.search import (
    Alternative,
    Chain,
    CompositeIs,
    Criterion,
    DateIs,
    IdentifierIs,
    Include,
    Prefix,
    QuantityIs,
    Query,
    Reading,
    ReferenceIs,
    Sort,
    TextIs,
    TokenIs,
    UriIs,
)

DEFAULT_COUNT = 50
MAX_CHAIN = 3  # references that one chain follows
MAX_CHAINS = 10
MAX_COUNT = 200
MAX_PARAMETERS = 50
MAX_ALTERNATIVES = 100  # each is compared with every entry of a record
MAX_VALUE_CHARACTERS = 8_000

_INDIFFERENT = frozenset({"_format", "_pretty", CURSOR})  # the HTTP boundary's
_NARROWING = frozenset({"_content", "_filter", "_has", "_list", "_query", "_text"})

Summary = Literal["true", "text", "data", "count", "false"]
Total = Literal["none", "estimate", "accurate"]

_CHAIN = re.compile(r"(?P<parameter>[A-Za-z][A-Za-z-]*)(:(?P<type>[A-Z][A-Za-z]{1,40}))?\.(?P<rest>.+)", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,40}(:[A-Za-z.]{1,40}){0,2}", re.ASCII)
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,40}")
_ELEMENT = re.compile(r"[A-Za-z][A-Za-z0-9]{0,60}", re.ASCII)
_PREFIX = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)(?=[\d+\-.])")
_NUMBER = re.compile(r"[+-]?(?P<whole>\d{1,40})(?P<part>\.\d{1,40})?(?:[eE](?P<exponent>[+-]?\d{1,3}))?", re.ASCII)
_EXACT = Context(prec=100)
_UNESCAPE = re.compile(r"\\([\\,|$])")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedQuery:
    """A query, and whose record it is about: the id of a Patient, a business identifier, both or neither.

    `used` are the parameters that the answer depends on, as the self link shows them; `summary` and `elements` say how
    much of each resource is asked for.
    """

    query: Query
    patient: str | None
    patient_identifier: tuple[str, str] | None
    used: tuple[tuple[str, str], ...]
    summary: Summary | None = None
    elements: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids that are asked for, and no others."""
        asked = [each for each in self.query.criteria if each.name == "_id" and not each.modifier]
        tokens = asked[0].alternatives if len(asked) == 1 else ()
        return tuple(token.code for token in tokens if isinstance(token, TokenIs) and token.code is not None)

    @property
    def is_shared(self) -> bool:
        """Whether the resources asked for belong to nobody's record."""
        row = record_type(self.query.type)
        names_patient = self.patient is not None or self.patient_identifier is not None
        return row.compartment is None or (not row.needs_patient and not names_patient)


def parse_query(
    type: str,
    pairs: Sequence[tuple[str, str]],
    *,
    strict: bool = False,
    base_url: str | None = None,
    follows: bool = False,
) -> ParsedQuery:
    """Read the parameters of a search in one type; raises Invalid (`value`, `not-supported`, `invalid`, `too-costly`).

    `base_url` is that of the request: references to this server may be absolute. Chains are refused unless whoever
    searches `follows` them.
    """
    if len(pairs) > MAX_PARAMETERS:
        raise Invalid(f"a search may have {MAX_PARAMETERS} parameters", code="too-costly")
    room = MAX_CHAIN if follows else 0
    return _Reader(record_type(type), strict=strict, base_url=base_url, room=room).read(pairs)


class _Reader:
    """`room` is how many references a chain may still follow."""

    def __init__(self, row: RecordType, *, strict: bool, base_url: str | None, room: int) -> None:
        self._row = row
        self._strict = strict
        self._base_url = base_url
        self._base = f"{base_url}/" if base_url else None
        self._room = room
        self._chains: dict[tuple[str, str, int], list[tuple[str, str]]] = {}
        self._patients: set[str] = set()
        self._identifiers: set[tuple[str, str]] = set()
        self._among: set[str] = set()
        self._criteria: list[Criterion] = []
        self._count: int | None = None
        self._sort: tuple[Sort, ...] = ()
        self._total: Total | None = None
        self._summary: Summary | None = None
        self._elements: tuple[str, ...] = ()
        self._includes: list[Include] = []
        self._revincludes: list[Include] = []
        self._used: list[tuple[str, str]] = []

    def read(self, pairs: Sequence[tuple[str, str]]) -> ParsedQuery:
        for name, value in _without_folder_exceptions(self._row, pairs):
            if name in _INDIFFERENT:
                continue
            known = self._parameter(name, value)
            if known is None:
                self._unknown(name)
            else:
                self._used.append((name, known))
        row = self._row
        query = Query(
            type=row.name,
            criteria=tuple(self._criteria),
            chains=self._followed(),
            count=DEFAULT_COUNT if self._count is None else self._count,
            sort=self._sort,
            total=self._total,
            include=tuple(dict.fromkeys(self._includes)),
            revinclude=tuple(dict.fromkeys(self._revincludes)),
            sort_date=row.sort,
            ranges=row.ranges,
            lookups=row.lookups,
        )
        return ParsedQuery(
            query=query,
            patient=_only("patient", self._patients or (set() if self._identifiers else self._among)),
            patient_identifier=_only("patient.identifier", self._identifiers),
            used=tuple(self._used),
            summary=self._summary,
            elements=self._elements,
        )

    def _parameter(self, name: str, value: str) -> str | None:
        """Take one parameter; what of its value is used, None if there is none of that name."""
        plain, modifier = _parted(name, self._row)
        if "." in name and not ("." in plain and plain in self._row.search) and self._read_chain(name, value):
            return value
        match plain:
            case "_count":
                return self._read_count(name, value)
            case "_sort":
                return self._read_sort(value)
            case "_total":
                self._total = cast(Total, _one_of(name, value, get_args(Total), self._total))
            case "_summary":
                self._summary = cast(Summary, _one_of(name, value, get_args(Summary), self._summary))
            case "_elements":
                self._read_elements(name, value)
            case "_include" | "_revinclude":
                return value if self._read_include(name, plain, modifier, value) else None
            case _ if plain in self._row.search:
                self._criterion(plain, modifier, value)
            case _:
                return value if self._read_patient(name, plain, modifier, value) else None
        return value

    def _unknown(self, name: str) -> None:
        plain = re.split(r"[.:]", name, maxsplit=1)[0]
        parameter = self._row.search.get(plain)
        is_chain = plain in self._row.patient_parameters or (parameter is not None and parameter.kind == "reference")
        if is_chain or plain in _NARROWING:
            raise Invalid("a search cannot be narrowed this way", code="not-supported", expression=_place(name))
        if self._strict:
            raise Invalid("a search parameter is not supported", code="not-supported", expression=_place(name))

    # --- whose record -------------------------------------------------------------------------------------------------

    def _read_patient(self, name: str, plain: str, modifier: str, value: str) -> bool:
        """Take `patient`, `patient.identifier`, `patient:Patient.identifier`, `subject` and so on; False for others."""
        plain, _, link = plain.partition(".")
        if plain not in self._row.patient_parameters:
            return False
        if modifier.startswith("Patient."):
            modifier, _, link = modifier.partition(".")
        if link not in ("", "identifier") or (link and modifier not in ("", "Patient")):
            return False
        form = link or modifier
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
        return True

    # --- chains -------------------------------------------------------------------------------------------------------

    def _read_chain(self, name: str, value: str) -> bool:
        """Take `parameter:Type.rest` or `parameter.rest`; False for what is no chain that can be followed."""
        chain = _CHAIN.fullmatch(name)
        if chain is None or self._chain(chain["parameter"], chain["type"], [(chain["rest"], value)]) is None:
            return False
        group = 0 if chain["parameter"] in self._row.together else len(self._chains)
        kept = self._chains.setdefault((chain["parameter"], chain["type"] or "", group), [])
        kept.append((chain["rest"], value))
        if len(self._chains) > MAX_CHAINS:
            raise Invalid(f"a search may have {MAX_CHAINS} chains", code="too-costly")
        return True

    def _followed(self) -> tuple[Chain, ...]:
        found = (self._chain(name, type or None, pairs) for (name, type, _), pairs in self._chains.items())
        return tuple(each for each in found if each is not None)

    def _chain(self, name: str, type: str | None, pairs: Sequence[tuple[str, str]]) -> Chain | None:
        """What the parameter has to lead to; None if no type that it may lead to is searched this way."""
        parameter = self._row.search.get(name)
        if self._room == 0 or parameter is None or not parameter.is_followed:
            return None
        targets = parameter.targets or RECORD_TYPES.keys()
        # People are found by the patient index, whose rules are others.
        types = [each for each in RECORD_TYPES if each in targets and each != "Patient" and type in (None, each)]
        readers = (
            _Reader(RECORD_TYPES[each], strict=True, base_url=self._base_url, room=self._room - 1) for each in types
        )
        queries = tuple(query for reader in readers if (query := reader.target(pairs)) is not None)
        return Chain(parameter=name, queries=queries) if queries else None

    def target(self, pairs: Sequence[tuple[str, str]]) -> Query | None:
        """A search at the end of a reference; None where the type has no such parameter."""
        for name, value in pairs:
            plain, modifier = _parted(name, self._row)
            if "." in name and not ("." in plain and plain in self._row.search):
                if not self._read_chain(name, value):
                    return None
            elif plain in self._row.search:
                self._criterion(plain, modifier, value)
            else:
                return None
        row = self._row
        return Query(type=row.name, criteria=tuple(self._criteria), chains=self._followed(), lookups=row.lookups)

    # --- paging, order, how much --------------------------------------------------------------------------------------

    def _read_count(self, name: str, value: str) -> str:
        if self._count is not None or not re.fullmatch(r"\d{1,9}", value, re.ASCII):
            _refuse(name, "must be one number")
        self._count = min(int(value), MAX_COUNT)
        return str(self._count)

    def _read_sort(self, value: str) -> str | None:
        asked = [self._sorted_by(each) for each in value.split(",")]
        known = tuple(each for each in asked if each is not None)
        if self._sort or len(known) < len(asked):
            return None
        self._sort = known
        return value

    def _sorted_by(self, value: str) -> Sort | None:
        name = value.removeprefix("-")
        if name == "date" and "date" not in self._row.search and self._row.sort:
            name = self._row.sort  # MHD and others ask every type for its date
        parameter = self._row.search.get(name)
        if parameter is None:
            return None
        return Sort(
            name=name,
            descending=value.startswith("-"),
            kind=parameter.kind,
            reading=None if parameter.is_kept else parameter.reading,
        )

    def _read_elements(self, name: str, value: str) -> None:
        elements = value.split(",")
        if len(elements) > MAX_ALTERNATIVES or not all(map(_ELEMENT.fullmatch, elements)):
            _refuse(name, "must name elements")
        self._elements = tuple(dict.fromkeys((*self._elements, *elements)))

    def _read_include(self, name: str, plain: str, modifier: str, value: str) -> bool:
        """`Type:parameter[:Target]`; for `_include` also `*`, which is all parameters of the type."""
        if plain == "_include" and modifier == "iterate" and self._room:
            found = self._iterated(value)
            self._includes += found
            return bool(found)
        if modifier:
            _refuse_modifier(name)
        if plain == "_revinclude":
            found = self._included(value, is_reverse=True)
            self._revincludes += found
        else:
            found = self._wildcard() if value in ("*", f"{self._row.name}:*") else self._included(value)
            self._includes += found
        return bool(found)

    def _iterated(self, value: str) -> list[Include]:
        """The same, followed from what is included, too: it may be from any type."""
        if value == "*":
            return [Include(type="*", parameter="*", iterates=True)]
        return [replace(each, iterates=True) for each in self._included(value, is_any=True)]

    def _wildcard(self) -> list[Include]:
        names = (*sorted(self._row.patient_parameters), *self._row.search)
        return [found for name in names for found in self._included(f"{self._row.name}:{name}")]

    def _included(self, value: str, *, is_reverse: bool = False, is_any: bool = False) -> list[Include]:
        """One, or none for what is not a reference from the right type (unless it `is_any`), or to it."""
        type, _, rest = value.partition(":")
        name, has_target, target = rest.partition(":")
        row = RECORD_TYPES.get(type)
        if row is None or (has_target and not _TYPE.fullmatch(target)):
            return []
        names_patient = name in row.patient_parameters
        parameter = row.search.get(name)
        if not names_patient and (parameter is None or not parameter.is_followed):
            return []
        if is_reverse:
            is_possible = target in ("", self._row.name) and (self._row.name == "Patient" or not names_patient)
        else:
            is_possible = is_any or row is self._row
        if not is_possible:
            return []
        return [Include(type=type, parameter=name, target=target or None, names_patient=names_patient)]

    # --- criteria -----------------------------------------------------------------------------------------------------

    def _criterion(self, name: str, modifier: str, value: str) -> None:
        parameter = self._row.search[name]
        reading = None if parameter.is_kept else parameter.reading
        if modifier == "missing":
            if value not in ("true", "false"):
                _refuse(name, "with the modifier missing must be true or false")
            if parameter.kind == "token":  # a concept of words alone is there, too
                names = (*parameter.reading.names, *parameter.reading.texts.names)
                reading = Reading(names=names, products=parameter.reading.products)
            missing = value == "true"
            self._criteria.append(
                Criterion(name=name, alternatives=(), modifier="missing", is_missing=missing, reading=reading)
            )
            return
        if modifier == "text":
            reading = parameter.reading.texts
        read = self._reader_of(parameter, name, modifier)
        if read is None:
            _refuse_modifier(f"{name}:{modifier}")
        alternatives = tuple(each for text in _values(name, value) for each in _forms_of(read(text)))
        self._criteria.append(
            Criterion(
                name=name,
                alternatives=alternatives,
                modifier="not" if modifier == "not" else "",
                reading=reading,
            )
        )
        if name == self._row.among:
            self._read_among(name, alternatives)

    def _read_among(self, name: str, alternatives: Sequence[Alternative]) -> None:
        """A patient among the actors is whose record it is, if nothing else says so."""
        targets = [each.target for each in alternatives if isinstance(each, ReferenceIs)]
        patients = [target.removeprefix("Patient/") for target in targets if target.startswith("Patient/")]
        if len(patients) == len(alternatives):
            self._among.update(patients)
        elif patients and not self._row.needs_patient:
            _refuse(name, "must name patients, or others")

    def _reader_of(self, parameter: SearchParameter, name: str, modifier: str) -> Callable[[str], Alternative] | None:
        match parameter.kind, modifier:
            case "token", "" | "not":
                return lambda value: _own_code(parameter, _token(name, value))
            case "token", "text":
                return lambda value: TextIs(_unescape(value))
            case "reference" | "uri", "" if parameter.is_canonical or parameter.kind == "uri":
                return lambda value: UriIs(_unescape(value))
            case "reference", "":
                return lambda value: self._reference(name, value)
            case "reference", "identifier" if not parameter.is_canonical:
                return lambda value: IdentifierIs(_token(name, value))
            case "reference", _ if _TYPE.fullmatch(modifier) and not parameter.is_canonical:
                return lambda value: self._reference(name, f"{modifier}/{value.removeprefix(f'{modifier}/')}")
            case "string", "" | "exact" | "contains":
                how = modifier or "starts"
                return lambda value: TextIs(_unescape(value), how)
            case "date", "":
                return lambda value: _date(name, value)
            case "quantity", "":
                return lambda value: _quantity(name, value)
            case "composite", "":
                return lambda value: self._composite(parameter, name, value)
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

    def _composite(self, parameter: SearchParameter, name: str, value: str) -> Alternative:
        parts = _split(value, "$")
        if len(parts) != len(parameter.components) or not all(parts):
            _refuse(name, f"must be {len(parameter.components)} values joined by $")
        read = []
        for component, part in zip(parameter.components, parts, strict=True):
            reader = self._reader_of(component, name, "")
            assert reader is not None  # every kind can be read without a modifier
            read.append(reader(part))
        return CompositeIs(tuple(read))

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
    return (pair for pair in pairs if not (folders and re.match(r"source(Id)?\b", pair[0])))


def _parted(name: str, row: RecordType) -> tuple[str, str]:
    """The name of a parameter, and its modifier; a chain that guides ask for has a colon of its own."""
    if name in row.search:
        return name, ""
    plain, _, modifier = name.rpartition(":")
    if plain in row.search:
        return plain, modifier
    plain, _, modifier = name.partition(":")
    return plain, modifier


def _one_of(name: str, value: str, allowed: Sequence[str], before: str | None) -> str:
    if before is not None or value not in allowed:
        _refuse(name, f"must be one of {', '.join(allowed)}")
    return value


def _values(name: str, value: str) -> list[str]:
    """The alternatives, still escaped."""
    values = _split(value, ",") if len(value) <= MAX_VALUE_CHARACTERS else []
    if not 0 < len(values) <= MAX_ALTERNATIVES:
        limit = f"{MAX_ALTERNATIVES} values and {MAX_VALUE_CHARACTERS} characters"
        raise Invalid(f"a search parameter may have {limit}", code="too-costly", expression=_place(name))
    if not all(values):
        _refuse(name, "must have a value")
    return values


def _own_code(parameter: SearchParameter, token: TokenIs) -> TokenIs:
    """The token as entries keep plain codes: without the parameter's own code system, by the element's own name."""
    system = "" if token.system and token.system in parameter.systems else token.system
    return TokenIs(system, parameter.aliases.get(token.code, token.code) if token.code else None)


def _forms_of(asked: Alternative) -> tuple[Alternative, ...]:
    """What is asked for, and the same professional or structure in the other national system (contract P17)."""
    match asked:
        case TokenIs(system=str(system), code=str(code)) if other := other_form(system, code):
            return asked, TokenIs(*other)
        case IdentifierIs(identifier=TokenIs(system=str(system), code=str(code))) if other := other_form(system, code):
            return asked, IdentifierIs(TokenIs(*other))
    return (asked,)


def _token(name: str, value: str) -> TokenIs:
    parts = [_unescape(part) for part in _split(value, "|")]
    if len(parts) == 1:
        return TokenIs(None, parts[0])
    if len(parts) > 2 or not any(parts):
        _refuse(name, "must be code, system|code, |code or system|")
    return TokenIs(parts[0], parts[1] or None)


# --- dates and numbers ------------------------------------------------------------------------------------------------


def _prefixed(value: str) -> tuple[Prefix, str]:
    prefix = _PREFIX.match(value)
    return (cast(Prefix, prefix[0]), value[2:]) if prefix else ("eq", value)


_INCLUSIVE: Mapping[Prefix, Prefix] = {"gt": "ge", "sa": "ge", "lt": "le", "eb": "le"}


def _date(name: str, value: str) -> DateIs:
    prefix, text = _prefixed(value)
    try:
        lo, hi = date_range(text.replace(" ", "+"))  # what an unescaped + of a time zone becomes in a URL
    except ValueError:
        _refuse(name, "must be a date, with or without a prefix")
    if prefix == "ap":
        lo, hi = _widened(lo, hi)
    if "." in text:  # within a second: moments are kept by the second, and none shall be missed
        prefix = _INCLUSIVE.get(prefix, prefix)
    return DateIs(prefix, lo, hi)


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


def _quantity(name: str, value: str) -> QuantityIs:
    prefix, text = _prefixed(value)
    number, *unit = [_unescape(part) for part in _split(text, "|")]
    match = _NUMBER.fullmatch(number)
    if match is None or len(unit) not in (0, 2):
        _refuse(name, "must be number or number|system|code, with or without a prefix")
    exact = Decimal(number)
    distance = exact.copy_abs() / 10 if prefix == "ap" else _half_of_last_digit(match)
    system, code = unit or (None, None)
    return QuantityIs(
        prefix,
        exact,
        _EXACT.subtract(exact, distance),
        _EXACT.add(exact, distance),
        system or None,
        code or None,
    )


def _half_of_last_digit(number: re.Match[str]) -> Decimal:
    """How far a number reaches as it is written (R4 section 3.1.1.4.7): 100 is 99.5 to 100.5, 5.40 is 5.395 to 5.405.

    The section's own 1e2 is 95 to 105, a figure more than it has.
    """
    exponent = int(number["exponent"] or 0) - len((number["part"] or ".")[1:])
    if number["exponent"] and not number["part"] and len(number["whole"]) == 1:
        exponent -= 1
    return Decimal(5).scaleb(exponent - 1)


# --- the syntax of values ---------------------------------------------------------------------------------------------


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
