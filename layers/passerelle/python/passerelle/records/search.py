"""Searching a record: what is kept of a resource to search it by, and the rule that says whether it matches.

Every version of a resource has one Entry: all its search values, packed to some 300 bytes beside the version,
so that a search reads one item per resource and never a body. The FHIR boundary fills entries
(`fhir/index.py`) and reads the search syntax (`fhir/search.py`); this module compares. FHIR R4 section
3.1.1.4 says what each comparison means.

Forms of the values:

    token       system|code, |code without a system
    reference   Type/id, |system|value for a logical reference
    date        lo/hi: the first and the last second it can mean, UTC, yyyymmddHHMMSS; open: all 0 or all 9
    string      as written; compared without case, accents and punctuation unless exactly
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol

from passerelle.patients.names import normalised

Prefix = Literal["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"]

BEGINNING = "0" * 14
END = "9" * 14
_SECOND = "%Y%m%d%H%M%S"
_MINUTE = 12  # characters of a sort date


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
            packed[name] = short[0] if len(short) == 1 else short
        return json.dumps(packed, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def unpack(cls, packed: str) -> Entry:
        content: dict[str, str | list[str]] = json.loads(packed)
        sort_at = str(content.pop(""))
        values = {
            name: tuple(map(_expand, [short] if isinstance(short, str) else short)) for name, short in content.items()
        }
        return cls(values=values, sort_at=sort_at)


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
_POSITIONS = {system: str(position) for position, system in enumerate(_SYSTEMS)}
_MARK = "^"  # of a shortened value
_RANGE = re.compile(r"(\d{14})/(\d{14})")


def _shorten(value: str) -> str:
    dates = _RANGE.fullmatch(value)
    if dates:
        lo, hi = dates.groups()
        if lo == hi:
            return f"{_MARK}d{lo}"
        if lo[8:] == "000000" and hi == f"{lo[:8]}235959":
            return f"{_MARK}d{lo[:8]}"
        return value
    system, bar, code = value.partition("|")
    if bar and system in _POSITIONS:
        return f"{_MARK}{_POSITIONS[system]}|{code}"
    return f"{_MARK}{value}" if value.startswith(_MARK) else value


def _expand(short: str) -> str:
    if not short.startswith(_MARK):
        return short
    rest = short[1:]
    if rest.startswith(_MARK):
        return rest
    if rest.startswith("d"):
        day = rest[1:]
        return f"{day}/{day}" if len(day) == 14 else f"{day}000000/{day}235959"
    position, _, code = rest.partition("|")
    return f"{_SYSTEMS[int(position)]}|{code}"


class Alternative(Protocol):
    """One of the values that a criterion asks for."""

    def accepts(self, value: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class TokenIs:
    """`code` in `system`; None stands for any, an empty system for a value without one."""

    system: str | None
    code: str | None

    def accepts(self, value: str) -> bool:
        system, _, code = value.partition("|")
        return self.system in (None, system) and self.code in (None, code)


@dataclass(frozen=True, slots=True)
class ReferenceIs:
    """`target` is `Type/id`, an absolute URL, or an id alone: that resource of whatever type."""

    target: str

    def accepts(self, value: str) -> bool:
        if "/" in self.target or ":" in self.target:
            return value == self.target
        kind, _, id = value.partition("/")
        return id == self.target and kind.isalpha()


@dataclass(frozen=True, slots=True)
class IdentifierIs:
    """A logical reference whose identifier is this one."""

    identifier: TokenIs

    def accepts(self, value: str) -> bool:
        return value.startswith("|") and self.identifier.accepts(value[1:])


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


@dataclass(frozen=True, slots=True)
class DateIs:
    """Compares a value's range with `lo`..`hi` as R4 section 3.1.1.4.5 says for each prefix.

    `ge` and `le` hold as soon as the ranges overlap, the rule of MHD for periods; `ap` is overlap, with a
    range that was widened when the query was read.
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

    def starts_within(self, reach: timedelta | None) -> tuple[str, str]:
        """Between which seconds any accepted value starts, given that no value lasts longer than `reach`."""
        if self.prefix == "ne":
            return BEGINNING, END
        first, last = BEGINNING, END
        if self.prefix in ("eq", "sa"):
            first = self.lo
        elif self.prefix in ("gt", "ge", "ap") and reach is not None:
            first = _earlier(self.lo, reach)
        if self.prefix in ("eq", "le", "ap"):
            last = self.hi
        elif self.prefix in ("lt", "eb"):
            last = self.lo
        return first, last


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """At least one value under `name` is one of the alternatives.

    With `not`, none is. With `missing`, the alternatives are not read: `is_missing` says whether there may be
    a value.
    """

    name: str
    alternatives: tuple[Alternative, ...]
    modifier: Literal["", "not", "missing"] = ""
    is_missing: bool = False

    def holds(self, values: tuple[str, ...]) -> bool:
        if self.modifier == "missing":
            return self.is_missing == (not values)
        found = any(alternative.accepts(value) for value in values for alternative in self.alternatives)
        return found != (self.modifier == "not")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A search in one type: all criteria hold.

    `sort` is oldest (`date`) or newest (`-date`) first. `sort_date` names the parameter that gives the type's
    entries their `sort_at`; none of its values lasts longer than `sort_reach`, or None where one may be a
    period.
    """

    type: str
    criteria: tuple[Criterion, ...] = ()
    count: int = 50
    sort: Literal["date", "-date"] = "-date"
    sort_date: str | None = None
    sort_reach: timedelta | None = None

    @property
    def ascending(self) -> bool:
        return self.sort == "date"


def matches(entry: Entry, query: Query) -> bool:
    return all(criterion.holds(entry.values.get(criterion.name, ())) for criterion in query.criteria)


def sort_bounds(query: Query) -> tuple[str, str] | None:
    """The sort dates (yyyymmddHHMM, both included) that every match lies between; None if all may match.

    Only a saving: what lies between still has to match. A query that contradicts itself gets bounds of one
    minute.
    """
    low, high = BEGINNING, END
    for criterion in query.criteria:
        if criterion.name != query.sort_date or criterion.modifier:
            continue
        spans = [
            alternative.starts_within(query.sort_reach)
            for alternative in criterion.alternatives
            if isinstance(alternative, DateIs)
        ]
        if spans:
            low = max(low, min(first for first, _ in spans))
            high = min(high, max(last for _, last in spans))
    if (low, high) == (BEGINNING, END):
        return None
    return low[:_MINUTE], max(low, high)[:_MINUTE]


def _earlier(second: str, reach: timedelta) -> str:
    if second == BEGINNING:
        return second
    try:
        return (datetime.strptime(second, _SECOND) - reach).strftime("%Y%m%d%H%M%S").zfill(14)  # noqa: DTZ007 - UTC
    except OverflowError:
        return BEGINNING
