"""Searching people over FHIR: the parameters of IHE PDQm 3.2 (ITI-78) and of DMP TD0.2 (contract rows 78-n, DMP-4).

Names are compared as people search them (`patients/search.py`), phone numbers by their digits; everything else as in
any other type (`fhir/search.py`). A search that nothing could look up is refused with advice: people are never scanned.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final, Protocol, TypeVar, cast

from passerelle.errors import Invalid, NotFound
from passerelle.fhir import json as fhir_json
from passerelle.fhir.elements import SUBSETTED
from passerelle.fhir.index import entry_of
from passerelle.fhir.resource import read_identifiers
from passerelle.fhir.search import parse_query
from passerelle.patients.model import Identifier
from passerelle.patients.search import NameCriterion, Part, PatientSearch, PeopleQuery, same_contact
from passerelle.records.search import Criterion, DateIs, Query, TextIs, TokenIs, matches, sort_key

MAX_LOOKUPS: Final = 20
UNKNOWN_DOMAIN: Final = "targetSystem not found"
ADVICE: Final = "give a birth date, with the first three letters of the family name, or an identifier"

_NAMES: Final = ("family", "given", "name")
_CONTACTS: Final = ("telecom", "phone", "email")
_INCLUDES: Final = ("_include", "_revinclude")  # what people refer to is searched by itself


def read_search(
    pairs: Sequence[tuple[str, str]], *, base_url: str, strict: bool, is_known: Callable[[str], bool]
) -> PatientSearch:
    """Read the parameters of ITI-78.

    `is_known` tells the identifier domains of the exchange. Raises Invalid (`required`, `value`, `too-costly`, with
    the name of the parameter), NotFound for a domain that identifiers are asked of and nobody knows (78-5).
    """
    if strict and any(name in _INCLUDES for name, _ in pairs):
        raise Invalid("a search parameter is not supported", code="not-supported")
    served = [(name, value) for name, value in pairs if name not in _INCLUDES]
    parsed = parse_query("Patient", served, base_url=base_url, strict=strict)
    reading = _Reading(parsed.query.criteria)
    if len(reading.systems) > MAX_LOOKUPS:
        raise Invalid(f"a search names {MAX_LOOKUPS} domains at most", code="too-costly", expression="http.identifier")
    if not all(map(is_known, reading.systems)):
        raise unknown_domain()
    search = PatientSearch(
        patients=reading.patients,
        identifiers=reading.identifiers,
        birth_dates=reading.birth_dates,
        name_prefixes=reading.name_prefixes,
        telecoms=reading.telecoms,
        criteria=replace(parsed.query, criteria=tuple(filter(_is_safe, reading.criteria))),
        names=reading.people,
        shown=replace(parsed.query, criteria=tuple(reading.criteria)),
        systems=reading.systems,
        used=parsed.used,
    )
    _check_anchored(search, parsed.query.criteria)
    return search


def _is_safe(asked: Criterion) -> bool:
    """Whether what is kept of a record meets a criterion if what is shown of it does: no identifier may be hidden."""
    return asked.name != "identifier" or not asked.modifier


def is_dmp_search(search: PatientSearch, national: Container[str]) -> bool:
    """Whether a search is TD0.2 where both are allowed: by national identifiers (contract P6)."""
    return bool(search.identifiers) and all(system in national for system, _ in search.identifiers)


def check_dmp_search(pairs: Sequence[tuple[str, str]], national: Container[str]) -> None:
    """Raise what TD0.2 refuses: anything but a national identifier (contract DMP-4)."""
    if any(system not in national for system, _ in read_identifiers(pairs)):
        raise unknown_domain()


def unknown_domain() -> NotFound:
    return NotFound(UNKNOWN_DOMAIN, expression="http.identifier", severity="warning")


def single_identifier(pairs: Sequence[tuple[str, str]]) -> Identifier:
    """The condition of ITI-104, `identifier=system|value` and nothing else; raises Invalid."""
    identifiers = read_identifiers(pairs)
    if len(identifiers) != 1 or len(pairs) != 1:
        raise Invalid("the condition is one identifier", code="invalid", expression="identifier")
    return identifiers[0]


class _Reading:
    """The criteria of a search sorted by what they are for; `criteria` are those that entries of the record answer."""

    def __init__(self, asked: Sequence[Criterion]) -> None:
        self.criteria: list[Criterion] = []
        self.patients: tuple[str, ...] = ()
        self.identifiers: tuple[Identifier, ...] = ()
        self.birth_dates: tuple[date, ...] = ()
        self.telecoms: tuple[str, ...] = ()
        self.systems: tuple[str, ...] = ()
        names: list[NameCriterion] = []
        written: list[NameCriterion] = []
        for each in asked:
            tokens = [one for one in each.alternatives if isinstance(one, TokenIs)]
            texts = [one for one in each.alternatives if isinstance(one, TextIs)]
            is_plain = not each.modifier
            if is_plain and each.name in _NAMES and texts:
                name = NameCriterion(
                    part=cast(Part, each.name),
                    texts=tuple(one.text for one in texts),
                    is_anywhere=texts[0].how == "contains",
                )
                written.append(name)
                if texts[0].how == "exact":  # looked up like any name, and compared as it is kept
                    self.criteria.append(each)
                else:
                    names.append(name)
            elif is_plain and each.name == "identifier" and tokens:
                self._identified(each, tokens)
            elif each.name in _CONTACTS and tokens:
                self._reached(each, tokens)
            else:
                self.criteria.append(each)
                if is_plain and each.name == "_id":
                    self.patients = self.patients or tuple(one.code for one in tokens if one.code)
                elif is_plain and each.name == "birthdate":
                    self.birth_dates = self.birth_dates or _whole_dates(each)
        self.people = PeopleQuery(tuple(names))
        self.name_prefixes = PeopleQuery(tuple(written)).prefixes

    def _identified(self, asked: Criterion, tokens: Sequence[TokenIs]) -> None:
        """A domain without a value selects nobody: it says which identifiers are wanted (78-4)."""
        self.systems += tuple(one.system for one in tokens if one.system and one.code is None)
        values = tuple(one for one in tokens if one.code is not None)
        if values:
            self.criteria.append(replace(asked, alternatives=values))
            known = [(one.system, one.code) for one in values if one.system is not None and one.code is not None]
            if len(known) == len(values):
                self.identifiers = self.identifiers or tuple(dict.fromkeys(known))

    def _reached(self, asked: Criterion, tokens: Sequence[TokenIs]) -> None:
        """Phone numbers and addresses are the same however they are written (R4 3.1.1.4.10 leaves it to the server)."""
        alternatives = tuple(ReachedAt(one.code) if one.code and not one.system else one for one in tokens)
        self.criteria.append(replace(asked, alternatives=alternatives))
        if not asked.modifier and not self.telecoms:
            self.telecoms = tuple(one.text for one in alternatives if isinstance(one, ReachedAt))


@dataclass(frozen=True, slots=True)
class ReachedAt:
    """A phone number or an address, written in whatever way."""

    text: str

    def accepts(self, value: str) -> bool:
        return same_contact(value.partition("|")[2], self.text)

    def lookup(self) -> str | None:
        return None


def _whole_dates(asked: Criterion) -> tuple[date, ...]:
    """The days that a birth date may be; none if one alternative is more than a day, or not compared for equality."""
    days = []
    for each in asked.alternatives:
        if not isinstance(each, DateIs) or each.prefix != "eq":
            return ()
        if (each.lo[8:], each.hi) != ("000000", f"{each.lo[:8]}235959"):
            return ()
        days.append(date(int(each.lo[:4]), int(each.lo[4:6]), int(each.lo[6:8])))
    return tuple(dict.fromkeys(days))


def _check_anchored(search: PatientSearch, asked: Sequence[Criterion]) -> None:
    """Raise Invalid for a search that nothing looks up, or too much at once (INS-13)."""
    if not (search.patients or search.identifiers or search.birth_dates or search.telecoms):
        given = {each.name for each in asked if not each.modifier}
        if "birthdate" in given:
            raise Invalid("people are searched by a whole birth date", code="value", expression="http.birthdate")
        if "identifier" in given and any(each.name == "identifier" for each in search.shown.criteria):
            raise Invalid("an identifier is searched as system|value", code="value", expression="http.identifier")
        raise Invalid(ADVICE, code="required", expression="http.birthdate")
    lookups = (
        len(search.patients)
        or len(search.identifiers)
        or len(search.birth_dates) * max(1, len(search.name_prefixes))
        or len(search.telecoms)
    )
    if lookups > MAX_LOOKUPS:
        raise Invalid(f"a search looks people up in {MAX_LOOKUPS} ways at most: ask for fewer", code="too-costly")


# --- the answer -------------------------------------------------------------------------------------------------------


class Stored(Protocol):
    """A source record as the caller may see it (`patients.model.StoredPatient`)."""

    @property
    def patient(self) -> str: ...

    @property
    def body(self) -> bytes: ...


S = TypeVar("S", bound=Stored)
P = TypeVar("P")


def chosen(found: Iterable[tuple[S, P]], search: PatientSearch) -> list[tuple[S, P]]:
    """Those that meet the criteria as they are shown, in the order asked for.

    What a caller may not see must not be found by it either: who asks for the bearer of a national identifier learns
    nothing of one that is not qualified.
    """
    query: Query = search.shown
    entries = [(entry_of(fhir_json.loads(each[0].body)), each) for each in found]
    hits = [(entry, each) for entry, each in entries if matches(entry, query)]
    if query.sort:
        hits.sort(key=lambda hit: sort_key(hit[0], hit[1][0].patient, query))
    return [each for _, each in hits]


def narrowed(body: bytes, systems: Sequence[str]) -> bytes:
    """A Patient with the identifiers of these domains only, tagged as a part; as it is without domains (78-4)."""
    content = fhir_json.loads(body) if systems else {}
    identifiers = content.get("identifier", [])
    kept = [each for each in identifiers if each.get("system") in systems]
    if len(kept) == len(identifiers):
        return body
    meta = content.get("meta", {})
    tags = meta.get("tag", [])
    tagged = {**meta, "tag": tags if SUBSETTED in tags else [*tags, SUBSETTED]}
    shown = {**content, "meta": tagged, "identifier": kept}
    return fhir_json.dumps({name: value for name, value in shown.items() if value})
