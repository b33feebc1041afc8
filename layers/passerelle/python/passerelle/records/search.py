"""Searching a record: what is kept of a resource to search it by, and the rule that says whether it matches.

Every version of a resource has one Entry: all its search values, packed to some 300 bytes beside the version, so that a
search reads one item per resource and never a body. The FHIR boundary fills entries (`fhir/index.py`) and reads the
search syntax (`fhir/search.py`); this module compares. FHIR R4 section 3.1.1.4 says what each comparison means.

Forms of the values:

    token       system|code, |code without a system; its texts, for `:text`, under `<name>:text`
    reference   Type/id or a URL, |system|value for a logical reference
    uri         as written; a canonical may end in |version
    date        lo/hi: the first and the last second it can mean, UTC, yyyymmddHHMMSS; open: all 0 or all 9
    string      as written; compared without case, accents and punctuation unless exactly
    quantity    number|system|code|unit: the number as written, after a comparator (<5) if it has one, or low~high of a
                range, either side possibly empty; the unit only where it differs from the code
    composite   its components joined by $, each in the form of its kind with \\ before \\ and $

Values that follow from others are not kept: a Reading says what to read in their place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any, Literal, Protocol

from passerelle.matching.names import normalised

Kind = Literal["token", "reference", "date", "string", "quantity", "uri", "composite"]
Prefix = Literal["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"]

BEGINNING = "0" * 14
END = "9" * 14
_SECOND = "%Y%m%d%H%M%S"
SHORT = timedelta(days=1)
_MINUTE = 12  # characters of a sort date
_LOOKUP_CHARACTERS = 100  # of a text: sort keys of the store are short
_LOOKUP_MINIMUM = 3
_RANGE_LETTERS = 3
MAX_RANGES = 10  # that one search reads side by side; of more values, most entries have one


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The search values of one resource version by parameter name.

    `sort_at` (yyyymmddHHMM, UTC) is the start of the type's sort date, all 0 for a resource without one.
    """

    values: Mapping[str, tuple[str, ...]]
    sort_at: str = BEGINNING[:_MINUTE]

    def pack(self) -> str:
        """The compact text that `unpack` reads."""
        packed: dict[str, str | list[str]] = {"": self.sort_at}
        for name, values in self.values.items():
            short = [_shorten(value) for value in values]
            packed[_short_name(name)] = short[0] if len(short) == 1 else short
        return json.dumps(packed, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def unpack(cls, packed: str) -> Entry:
        content: dict[str, str | list[str]] = json.loads(packed)
        sort_at = str(content.pop(""))
        values = {
            _whole_name(name): tuple(map(_expand, [short] if isinstance(short, str) else short))
            for name, short in content.items()
        }
        return cls(values=values, sort_at=sort_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Where the values of a parameter stand: under `names`, and as each `products`' values, one of each, joined."""

    names: tuple[str, ...] = ()
    products: tuple[tuple[str, ...], ...] = ()

    def of(self, entry: Entry) -> tuple[str, ...]:
        """Without repetitions, in the order of the names."""
        if not self.products and len(self.names) == 1:
            return entry.values.get(self.names[0], ())
        return tuple(dict.fromkeys(self._all(entry)))

    def _all(self, entry: Entry) -> Iterator[str]:
        for name in self.names:
            yield from entry.values.get(name, ())
        for names in self.products:
            yield from map(joined, product(*(entry.values.get(name, ()) for name in names)))

    @property
    def texts(self) -> Reading:
        """Where the texts of the same tokens stand."""
        return Reading(names=tuple(f"{name}:text" for name in self.names))


# The systems that most entries name, by position. Entries outlive releases: only ever append.
_SYSTEMS = (
    "http://loinc.org",
    "http://snomed.info/sct",
    "http://unitsofmeasure.org",
    "http://hl7.org/fhir/sid/icd-10",
    "http://hl7.org/fhir/sid/cvx",
    "http://www.nlm.nih.gov/research/umls/rxnorm",
    "http://id.who.int/icd/release/11/mms",
    "http://dicom.nema.org/resources/ontology/DCM",
    "urn:ietf:rfc:3986",
    "urn:dicom:uid",
    "http://terminology.hl7.org/CodeSystem/observation-category",
    "http://terminology.hl7.org/CodeSystem/condition-category",
    "http://terminology.hl7.org/CodeSystem/condition-clinical",
    "http://terminology.hl7.org/CodeSystem/condition-ver-status",
    "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical",
    "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification",
    "http://terminology.hl7.org/CodeSystem/v3-ActCode",
    "http://terminology.hl7.org/CodeSystem/v3-Confidentiality",
    "http://terminology.hl7.org/CodeSystem/v2-0074",
    "http://ihe.net/fhir/ihe.formatcode.fhir/CodeSystem/formatcode",
    "https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes",
    "https://mos.esante.gouv.fr/NOS/TRE_A03-ClasseDocument-CISIS/FHIR/TRE-A03-ClasseDocument-CISIS",
    "https://mos.esante.gouv.fr/NOS/TRE_A07-StatutVisibiliteDocument/FHIR/TRE-A07-StatutVisibiliteDocument",
    "https://mos.esante.gouv.fr/NOS/TRE_R02-SecteurActivite/FHIR/TRE-R02-SecteurActivite",
    "https://mos.esante.gouv.fr/NOS/TRE_A01-CadreExercice/FHIR/TRE-A01-CadreExercice",
)
# The same for the names of parameters that many entries have.
_NAMES = (
    "_lastUpdated",
    "_profile",
    "_security",
    "_source",
    "_tag",
    "_tag:text",
    "identifier",
    "identifier:text",
    "status",
    "category",
    "category:text",
    "code",
    "code:text",
    "date",
    "encounter",
    "performer",
    "value-concept",
    "value-concept:text",
    "value-quantity",
    "value-string",
    "component-code",
    "component-code:text",
    "component-code-value-quantity",
    "component-value-quantity",
    "code-value-string",
    "type",
    "type:text",
    "participant",
    "practitioner",
    "location",
    "service-provider",
    "authoredon",
    "intent",
    "requester",
    "clinical-status",
    "verification-status",
    "onset-date",
    "recorded-date",
    "created",
    "provider",
    "subject",
    "result",
    "issued",
    "based-on",
    "author",
    "custodian",
    "contenttype",
    "security-label",
    "security-label:text",
    "format",
    "setting",
    "setting:text",
    "facility",
    "facility:text",
    "event",
    "period",
    "organization",
    "interpretation",
    "method",
    "device",
    "vaccine-code",
    "vaccine-code:text",
    "reason-code",
    "reason-code:text",
)
_NAME_POSITIONS = {name: f"^{position}" for position, name in enumerate(_NAMES)}
_POSITIONS = {system: str(position) for position, system in enumerate(_SYSTEMS)}
_MARK = "^"  # of a shortened value
_RANGE = re.compile(r"(\d{14})/(\d{14})")
_UCUM = "|http://unitsofmeasure.org|"


def _shorten(value: str) -> str:
    dates = _RANGE.fullmatch(value)
    if dates:
        lo, hi = dates.groups()
        if lo == hi:
            return f"{_MARK}d{lo}"
        if lo[8:] == "000000" and hi == f"{lo[:8]}235959":
            return f"{_MARK}d{lo[:8]}"
        return value
    if "$" in value:
        parts = [_shorten(part) for part in value.split("$")]
        short = f"{_MARK}c{'$'.join(parts)}"
        return short if len(short) < len(value) else _marked(value)
    system, bar, code = value.partition("|")
    if bar and system in _POSITIONS:
        return f"{_MARK}{_POSITIONS[system]}|{code}"
    if _UCUM in value:
        number, _, unit = value.partition(_UCUM)
        return f"{_MARK}q{number}|{unit}" if "|" not in number else _marked(value)
    return _marked(value)


def _short_name(name: str) -> str:
    return _NAME_POSITIONS.get(name) or _marked(name)


def _whole_name(short: str) -> str:
    if not short.startswith(_MARK):
        return short
    return short[1:] if short.startswith(_MARK, 1) else _NAMES[int(short[1:])]


def _marked(value: str) -> str:
    return f"{_MARK}{value}" if value.startswith(_MARK) else value


def _expand(short: str) -> str:
    if not short.startswith(_MARK):
        return short
    kind, rest = short[1:2], short[2:]
    match kind:
        case "^":
            return short[1:]
        case "d":
            return f"{rest}/{rest}" if len(rest) == 14 else f"{rest}000000/{rest}235959"
        case "c":
            return "$".join(map(_expand, rest.split("$")))
        case "q":
            number, _, unit = rest.partition("|")
            return f"{number}{_UCUM}{unit}"
    position, _, code = short[1:].partition("|")
    return f"{_SYSTEMS[int(position)]}|{code}"


def joined(components: Collection[str]) -> str:
    """The value of a composite."""
    return "$".join(component.replace("\\", "\\\\").replace("$", "\\$") for component in components)


_COMPONENT = re.compile(r"(?:[^\\$]|\\.)*", re.DOTALL)


def _components(value: str) -> list[str]:
    parts, at = [], 0
    while at <= len(value):
        match = _COMPONENT.match(value, at)
        assert match is not None  # it matches nothing at all, too
        parts.append(re.sub(r"\\(.)", r"\1", match[0], flags=re.DOTALL))
        at = match.end() + 1
    return parts


# --- what is asked for ------------------------------------------------------------------------------------------------


class Alternative(Protocol):
    """One of the values that a criterion asks for."""

    def accepts(self, value: str) -> bool: ...

    def lookup(self) -> str | None:
        """What `look_up` gives for every value it accepts (of a text: how that starts); None if they differ."""


class _Scanned:
    """An alternative that no look-up helps to find."""

    __slots__ = ()

    def lookup(self) -> str | None:
        return None


@dataclass(frozen=True, slots=True)
class TokenIs:
    """`code` in `system`; None stands for any, an empty system for a value without one."""

    system: str | None
    code: str | None

    def accepts(self, value: str) -> bool:
        system, _, code = value.partition("|")
        return self.system in (None, system) and self.code in (None, code)

    def lookup(self) -> str | None:
        return self.code


@dataclass(frozen=True, slots=True)
class ReferenceIs:
    """`target` is `Type/id`, an absolute URL, or an id alone: that resource of whatever type."""

    target: str

    def accepts(self, value: str) -> bool:
        if "/" in self.target or ":" in self.target:
            return value == self.target
        kind, _, id = value.partition("/")
        return id == self.target and kind.isalpha()

    def lookup(self) -> str | None:
        return look_up("reference", self.target)


@dataclass(frozen=True, slots=True)
class IdentifierIs:
    """A logical reference whose identifier is this one."""

    identifier: TokenIs

    def accepts(self, value: str) -> bool:
        return value.startswith("|") and self.identifier.accepts(value[1:])

    def lookup(self) -> str | None:
        return None if self.identifier.code is None else f"|{self.identifier.code}"


@dataclass(frozen=True, slots=True)
class UriIs(_Scanned):
    """`uri` exactly; of a canonical, any version of it unless one is named."""

    uri: str

    def accepts(self, value: str) -> bool:
        return value == self.uri or value.startswith(f"{self.uri}|")


@dataclass(frozen=True, slots=True)
class TextIs:
    """`exact` compares as written, the two others without case, accents and punctuation."""

    text: str
    how: Literal["starts", "contains", "exact"] = "starts"

    def accepts(self, value: str) -> bool:
        if self.how == "exact":
            return value == self.text
        wanted, found = normalised(self.text), normalised(value)
        if not wanted:  # nothing but punctuation was asked for
            return False
        return found.startswith(wanted) if self.how == "starts" else wanted in found

    def lookup(self) -> str | None:
        return None if self.how == "contains" else look_up("string", self.text)


@dataclass(frozen=True, slots=True)
class DateIs(_Scanned):
    """Compares a value's range with `lo`..`hi` as R4 section 3.1.1.4.5 says for each prefix.

    `ge` and `le` hold as soon as the ranges overlap, the rule of MHD for periods; `ap` is overlap, with a range that
    was widened when the query was read.
    """

    prefix: Prefix
    lo: str
    hi: str

    def accepts(self, value: str) -> bool:
        start, _, end = value.partition("/")
        match self.prefix:
            case "eq":
                return self.lo <= start and end <= self.hi
            case "ne":
                return not (self.lo <= start and end <= self.hi)
            case "gt":
                return end > self.hi
            case "lt":
                return start < self.lo
            case "ge":
                return end >= self.lo
            case "le":
                return start <= self.hi
            case "sa":
                return start > self.hi
            case "eb":
                return end < self.lo
            case "ap":
                return start <= self.hi and self.lo <= end

    def starts_within(self) -> tuple[str, str]:
        """Between which seconds an entry is sorted that has an accepted value, unless it `outlasts`."""
        if self.prefix == "ne":
            return BEGINNING, END
        first, last = BEGINNING, END
        if self.prefix in ("eq", "sa", "gt", "ge", "ap"):
            first = _earlier(self.lo, SHORT)
        if self.prefix in ("eq", "le", "ap"):
            last = self.hi
        elif self.prefix in ("lt", "eb"):
            last = self.lo
        return first, last


@dataclass(frozen=True, slots=True)
class QuantityIs(_Scanned):
    """Compares a number, in `system` and `code` (None: any), with `number` as R4 section 3.1.1.4.6 and .8 say.

    `lo` (included) to `hi` (excluded) is what `number` means as precisely as it was written, or what is approximately
    as much: `eq`, `ne` and `ap` compare with that, the other prefixes with the number itself. Without a system, the
    code may be the unit. Units are not converted.
    """

    prefix: Prefix
    number: Decimal
    lo: Decimal
    hi: Decimal
    system: str | None = None
    code: str | None = None

    def accepts(self, value: str) -> bool:
        written, system, code, unit = value.split("|", 3)
        if self.system not in (None, system) or (
            self.code is not None and self.code != code and (self.system is not None or self.code != (unit or code))
        ):
            return False
        low, high, is_low_open, is_high_open = _interval(written)
        match self.prefix:
            case "eq":
                return self.lo <= low and high < self.hi
            case "ne":
                return not (self.lo <= low and high < self.hi)
            case "gt":
                return high > self.number
            case "lt":
                return low < self.number
            case "ge":
                return high > self.number or (high == self.number and not is_high_open)
            case "le":
                return low < self.number or (low == self.number and not is_low_open)
            case "sa":
                return low > self.number or (low == self.number and is_low_open)
            case "eb":
                return high < self.number or (high == self.number and is_high_open)
            case "ap":
                return low < self.hi and (high > self.lo or (high == self.lo and not is_high_open))


def _interval(written: str) -> tuple[Decimal, Decimal, bool, bool]:
    """The lowest and the highest number a quantity can mean, and whether each is excluded."""
    low, tilde, high = written.partition("~")
    if tilde:
        return Decimal(low or "-Infinity"), Decimal(high or "Infinity"), not low, not high
    digits = written.lstrip("<>=")
    number, comparator = Decimal(digits), written[: len(written) - len(digits)]
    if comparator.startswith("<"):
        return Decimal("-Infinity"), number, True, comparator == "<"
    if comparator.startswith(">"):
        return number, Decimal("Infinity"), comparator == ">", True
    return number, number, False, False


@dataclass(frozen=True, slots=True)
class CompositeIs(_Scanned):
    """Each component is what its alternative asks for."""

    components: tuple[Alternative, ...]

    def accepts(self, value: str) -> bool:
        return all(wanted.accepts(part) for wanted, part in zip(self.components, _components(value), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """At least one value of the parameter is one of the alternatives.

    With `not`, none is. With `missing`, the alternatives are not read: `is_missing` says whether there may be a value.
    Values stand under `name`, unless `reading` says otherwise.
    """

    name: str
    alternatives: tuple[Alternative, ...]
    modifier: Literal["", "not", "missing"] = ""
    is_missing: bool = False
    reading: Reading | None = None

    @property
    def read(self) -> Reading:
        return self.reading or Reading(names=(self.name,))

    def matches(self, entry: Entry) -> bool:
        return self.holds(self.reading.of(entry) if self.reading else entry.values.get(self.name, ()))

    def holds(self, values: tuple[str, ...]) -> bool:
        if self.modifier == "missing":
            return self.is_missing == (not values)
        found = any(alternative.accepts(value) for value in values for alternative in self.alternatives)
        return found != (self.modifier == "not")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sort:
    """An order by the values of a parameter; what has none comes last either way."""

    name: str
    descending: bool = False
    kind: Kind = "token"
    reading: Reading | None = None

    def key(self, entry: Entry) -> tuple[bool, Any]:
        """Of several values the one that comes first; of a date its start if ascending, else its end."""
        values = self.reading.of(entry) if self.reading else entry.values.get(self.name, ())
        if not values:
            return True, None
        keys = [_KEY_OF[self.kind](value) for value in values]
        return False, _Down(max(key[-1] for key in keys)) if self.descending else min(key[0] for key in keys)


_KEY_OF: Mapping[Kind, Any] = {
    "token": lambda value: (value.partition("|")[::-2],),  # the code, then the system
    "reference": lambda value: (value,),
    "date": lambda value: value.split("/"),
    "string": lambda value: (normalised(value),),
    "quantity": lambda value: _interval(value.partition("|")[0])[:2],
    "uri": lambda value: (value,),
    "composite": lambda value: (value,),
}


@dataclass(frozen=True, slots=True)
class _Down:
    """Orders the other way round."""

    key: Any

    def __lt__(self, other: _Down) -> bool:
        return bool(other.key < self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Include:
    """A parameter of `type` whose references are followed, forwards or back; `target` narrows it to one type.

    With `names_patient`, the parameter names the patient whose record the resource is in: entries have no value for it.
    The parameter `*` stands for all, and so does the type. One that `iterates` is followed from what is included, too.
    """

    type: str
    parameter: str
    target: str | None = None
    names_patient: bool = False
    iterates: bool = False

    def is_from(self, type: str) -> bool:
        return self.type in ("*", type)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One reference of `parameter` leads to a resource that one of `queries` finds, each of another type."""

    parameter: str
    queries: tuple[Query, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Parameters with a range index: beside its place among all of its type, an entry stands under these values of its.

    `names` are the parameters, the most selective first. Codes that are `common` have no range: most entries have them.
    A token stands under its code, a name under its first letters, so that it is found however it is asked for.
    """

    names: tuple[str, ...] = ()
    common: frozenset[str] = frozenset()

    def of(self, entry: Entry, kind_of: Callable[[str], Kind]) -> tuple[str, ...]:
        """The ranges that an entry stands in."""
        found = (
            self._range(name, value[:_RANGE_LETTERS] if value and kind == "string" else value)
            for name in self.names
            for kind in (kind_of(name),)
            for value in (look_up(kind, each) for each in entry.values.get(name, ()))
        )
        return tuple(dict.fromkeys(each for each in found if each))

    def asked(self, name: str, alternative: Alternative) -> str | None:
        """The range that holds whatever an alternative of a criterion accepts; None if none does."""
        value = alternative.lookup()
        return self._range(name, value[:_RANGE_LETTERS] if value and isinstance(alternative, TextIs) else value)

    def _range(self, name: str, value: str | None) -> str | None:
        return f"{name}={value}" if value and value not in self.common else None


NO_RANGES = Ranges()


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A search in one type: all criteria hold, and all chains, which only a search in a record follows.

    An empty `sort` is newest first, by `sort_date`: the parameter that gives the type's entries their `sort_at`.
    `ranges` says how the entries of the type are kept under values of theirs; `lookups` are the parameters with
    look-ups (`fhir.index.lookups_of`), the most selective first.
    """

    type: str
    criteria: tuple[Criterion, ...] = ()
    chains: tuple[Chain, ...] = ()
    count: int = 50
    sort: tuple[Sort, ...] = ()
    total: Literal["none", "estimate", "accurate"] | None = None
    include: tuple[Include, ...] = ()
    revinclude: tuple[Include, ...] = ()
    sort_date: str | None = None
    ranges: Ranges = NO_RANGES
    lookups: tuple[str, ...] = field(default=(), repr=False)

    @property
    def is_by_sort_date(self) -> bool:
        """Whether the order is that of `sort_at`, then of ids; entries without a date are then the oldest."""
        return not self.sort or [each.name for each in self.sort] == [self.sort_date]

    @property
    def ascending(self) -> bool:
        """Whether the order is that of `sort_at`, oldest first."""
        return self.is_by_sort_date and bool(self.sort) and not self.sort[0].descending

    def range_tokens(self) -> tuple[str, ...] | None:
        """The ranges that every match stands in one of, by the most selective criterion; None if none selects."""
        for name in self.ranges.names:
            for criterion in self.criteria:
                if criterion.modifier or criterion.read != Reading(names=(name,)):
                    continue
                found = [self.ranges.asked(name, alternative) for alternative in criterion.alternatives]
                if all(found) and len(set(found)) <= MAX_RANGES:
                    return tuple(dict.fromkeys(token for token in found if token))
        return None

    @property
    def is_narrowed(self) -> bool:
        """Whether entries are passed over that lie in the range and between the dates that are read."""
        ranged = self.range_tokens() is not None
        passing = sum(each.name != self.sort_date and not self._is_common(each) for each in self.criteria)
        return bool(self.chains) or passing > ranged

    def _is_common(self, criterion: Criterion) -> bool:
        tokens = [each for each in criterion.alternatives if isinstance(each, TokenIs)]
        return not criterion.modifier and any(each.code in self.ranges.common for each in tokens)


def matches(entry: Entry, query: Query) -> bool:
    """Whether the criteria hold; where chains lead is not in the entry."""
    return all(criterion.matches(entry) for criterion in query.criteria)


# --- order ------------------------------------------------------------------------------------------------------------


def sort_key(entry: Entry, id: str, query: Query) -> Any:
    """Sorts entries in the order that a query asks for; the id decides between equals."""
    if query.is_by_sort_date:
        return (entry.sort_at, id) if query.ascending else _Down((entry.sort_at, id))
    return (*(each.key(entry) for each in query.sort), id)


def outlasts(entry: Entry, sort_date: str | None) -> bool:
    """Whether the dates that an entry is sorted by reach further than SHORT from its `sort_at`.

    Those few are kept in a range of their own, so that a search by date reads what lies about the date, and them.
    """
    values = entry.values.get(sort_date, ()) if sort_date else ()
    if not values or entry.sort_at == BEGINNING[:_MINUTE]:
        return bool(values)
    last = _moved(f"{entry.sort_at}00", SHORT)
    return any(value[:14] < f"{entry.sort_at}00" or value[15:] > last for value in values)


def sort_bounds(query: Query) -> tuple[str, str] | None:
    """The sort dates (yyyymmddHHMM, both included) that every match lies between, unless it outlasts; None for all.

    Only a saving: what lies between still has to match. A query that contradicts itself gets bounds of one minute.
    """
    low, high = BEGINNING, END
    for criterion in query.criteria:
        if criterion.name != query.sort_date or criterion.modifier:
            continue
        spans = [
            alternative.starts_within() for alternative in criterion.alternatives if isinstance(alternative, DateIs)
        ]
        if spans:
            low = max(low, min(first for first, _ in spans))
            high = min(high, max(last for _, last in spans))
    if (low, high) == (BEGINNING, END):
        return None
    return low[:_MINUTE], max(low, high)[:_MINUTE]


def _earlier(second: str, by: timedelta) -> str:
    return second if second == BEGINNING else _moved(second, -by)


def _moved(second: str, by: timedelta) -> str:
    try:
        return (datetime.strptime(second, _SECOND) + by).strftime(_SECOND).zfill(14)  # noqa: DTZ007 - UTC
    except OverflowError:
        return BEGINNING if by < timedelta() else END


# --- references between entries ---------------------------------------------------------------------------------------

_LITERAL = re.compile(r"([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}", re.ASCII)


def targets_of(entry: Entry, include: Include) -> tuple[str, ...]:
    """The `Type/id` that an include follows from this entry: logical references, and those elsewhere, lead nowhere."""
    if include.parameter == "*":
        found = [value for name, values in entry.values.items() if not name.startswith("~") for value in values]
    else:
        found = list(entry.values.get(include.parameter, ()))
    targets = ((value, _LITERAL.fullmatch(value)) for value in dict.fromkeys(found))
    return tuple(value for value, match in targets if match and include.target in (None, match[1]))


def refers_to(entry: Entry, parameter: str, references: Collection[str]) -> bool:
    """Whether the parameter has one of these `Type/id`."""
    return any(value in references for value in entry.values.get(parameter, ()))


def referring(include: Include, references: Collection[str]) -> Query:
    """What refers to one of these `Type/id` by the parameter of a `_revinclude`."""
    wanted = tuple(ReferenceIs(reference) for reference in sorted(references))
    criterion = Criterion(name=include.parameter, alternatives=wanted)
    return Query(type=include.type, criteria=(criterion,), lookups=(include.parameter,))


# --- look-ups: where a search in the directory starts -----------------------------------------------------------------


def look_up(kind: Kind, value: str) -> str | None:
    """What a value of a shared resource is looked up by, the same for every way it can be asked for.

    The code of a token in whatever system, the id of a reference to whatever type, the whole of a URL, |value of a
    logical reference; of a string how it is compared, cut short. None where it is too short to select anything.
    """
    match kind:
        case "token":
            return value.partition("|")[2] or None
        case "reference" if value.startswith("|"):
            return f"|{value[1:].partition('|')[2]}"
        case "reference" if ":" in value:
            return value
        case "reference":
            return value.rpartition("/")[2]
        case "string":
            text = normalised(value)[:_LOOKUP_CHARACTERS]
            return text if len(text) >= _LOOKUP_MINIMUM else None
    return None


def lookup_of(query: Query) -> tuple[tuple[str, str], ...] | None:
    """The (parameter, look-up) pairs between which every match is found, by the most selective of the criteria.

    A pair of a string finds what starts with it. None: no criterion selects.
    """
    for name in query.lookups:
        for criterion in query.criteria:
            if criterion.name != name or criterion.modifier or criterion.reading not in (None, Reading(names=(name,))):
                continue
            found = [alternative.lookup() for alternative in criterion.alternatives]
            if all(found):
                return tuple((name, value) for value in dict.fromkeys(found) if value)
    return None
