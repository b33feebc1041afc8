"""A synthetic French population, and second registrations of it by another source: seeded, the truth known.

`generate(size, seed=...)` gives a Population of `size` Persons in households. A Person has an `id` ("p000042"), the
number of its `household`, `twin` (the id of the twin, if there is one), `traits` (a MatchRecord, complete and without
error, `national` filled in), and `record`: the MatchRecord by which the index knows the person, which lacks what its
source did not ask for, and has `national` only where the identity is qualified.

`registrations(population, count, kind, seed=...)` gives Registrations: a MatchRecord (`record`), the id of the person
it is (`person`; None for someone who is not in the index), the id of the known twin of a new twin (`twin`), and
`errors`, the names of what distinguishes it from the traits (see `_second`).

Shape (data model, 1.2 and 1.5; `country` has the names and places): 12 % born abroad, with a country code 99xxx; 1.5 %
born on 1 January, most of them abroad, where the day is often unknown; 3 % twins, two thirds of the same sex; children
share family name, address, telephone and e-mail of a parent; most older married women use another name than their birth
name. NIR as in the order of 22 July 1996: sex, year, month, place of birth, order in the month, key; Corsica 20 before
1976, 2A and 2B since. Second registrations have first names exact in about 93.5 % and birth dates in about 97.5 %, the
rates of the data model (1.3); all other rates are assumptions, next to their use. Errors do not depend on
qualification, although a qualified identity has the traits of the national register: the test errs on the hard side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from itertools import chain, islice
from random import Random
from typing import Final

from benchmarks.identity import mistakes
from benchmarks.identity.country import Commune, country
from passerelle.matching.record import MatchRecord

TODAY: Final = date(2026, 1, 1)
TWIN_SHARE: Final = 0.03
BORN_ABROAD: Final = 0.12
QUALIFIED: Final = 0.8  # of the index
FIRST_OF_JANUARY: Final = 0.105  # of those born abroad


class Kind(StrEnum):
    """Who registers."""

    KNOWN = "known"  # a person of the index
    NEWCOMER = "newcomer"  # nobody of the index; 40 % of them join a household that is known
    NEW_TWIN = "new-twin"  # the twin of a person of the index: another first name, and all the rest the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    id: str
    household: int
    origin: str  # of the family: `france`, or where its names come from
    traits: MatchRecord
    record: MatchRecord
    twin: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    persons: tuple[Person, ...]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    record: MatchRecord
    kind: Kind
    person: str | None
    twin: str | None = None
    errors: frozenset[str] = frozenset()


def generate(size: int, *, seed: int) -> Population:
    """Persons of whole households, the last one perhaps cut; about 15 s for 300,000."""
    rng = Random(f"population {seed}")
    members = list(islice(chain.from_iterable(_Households(rng, set())), size))
    ids = {id(member): f"p{place:06}" for place, member in enumerate(members)}
    persons = []
    for member in members:
        traits = member.traits()
        persons.append(
            Person(
                id=ids[id(member)],
                household=member.household,
                origin=member.origin,
                traits=traits,
                record=_as_indexed(traits, rng),
                twin=ids.get(id(member.twin)),
            )
        )
    return Population(persons=tuple(persons), seed=seed)


def registrations(population: Population, count: int, kind: Kind, *, seed: int) -> tuple[Registration, ...]:
    """`count` registrations of different people, as many as the population has of that kind at most."""
    rng = Random(f"registrations {kind} {seed} of {population.seed}")
    persons = population.persons
    if kind is Kind.KNOWN:
        return tuple(_of_known(population, person, rng) for person in rng.sample(persons, min(count, len(persons))))
    taken = {person.traits.national for person in persons}
    if kind is Kind.NEW_TWIN:
        alone = [person for person in persons if person.twin is None]
        return tuple(_new_twin(person, rng, taken) for person in rng.sample(alone, min(count, len(alone))))
    fresh = chain.from_iterable(_Households(rng, taken))
    return tuple(_newcomer(member.traits(), rng.choice(persons).traits, rng) for member in islice(fresh, count))


def has_valid_key(nir: str) -> bool:
    """Whether the last two of 15 characters are the key of the first 13: what INSi answers with has one."""
    return len(nir) == 15 and nir[13:] == _key(nir[:13])


def _key(number: str) -> str:
    return f"{97 - int(number.replace('2A', '19').replace('2B', '18')) % 97:02}"


@dataclass(slots=True, eq=False)
class _Member:
    """A person in the making."""

    household: int
    origin: str
    sex: str
    year: int
    birth_date: str
    birth_place: str
    family: str
    given: str
    others: tuple[str, ...]
    nir: str
    home: Commune
    number: str = ""
    street: str = ""
    used: str = ""
    phone: str = ""
    email: str = ""
    twin: _Member | None = None

    def traits(self) -> MatchRecord:
        return MatchRecord(
            family=self.family,
            used=self.used,
            given=self.given,
            others=self.others,
            birth_date=self.birth_date,
            sex=self.sex,
            birth_place=self.birth_place,
            postcode=self.home.postcode,
            city=self.home.name,
            street=self.street,
            number=self.number,
            phone=self.phone,
            email=self.email,
            national=self.nir,
        )


class _Households:
    """Households without end, and NIRs that are not yet `taken`."""

    def __init__(self, rng: Random, taken: set[str]) -> None:
        self._rng = rng
        self._taken = taken
        self._country = country()
        self._buildings: dict[str, list[tuple[str, str]]] = {}
        self._awaited: list[_Member] = []  # adults whose twin lives elsewhere and is still to come
        self._number = 0

    def __iter__(self) -> Iterator[list[_Member]]:
        while True:
            yield self._next()
            self._number += 1

    def _next(self) -> list[_Member]:
        rng = self._rng
        home = self._country.home(rng)
        if self._awaited:
            first = self._twin_of(self._awaited.pop(), home)
        else:
            decade = rng.choices((2, 3, 4, 5, 6, 7, 8, 9), _AGES)[0]
            first = self._adult(
                "f" if rng.random() < 0.45 else "m", TODAY.year - rng.randint(decade * 10, decade * 10 + 9), home
            )
        members = [first]
        age = TODAY.year - first.year
        if rng.random() < (0.62 if age < 80 else 0.4):
            other = {"m": "f", "f": "m"}[first.sex] if rng.random() < 0.985 else first.sex
            year = min(TODAY.year - 19, max(1922, first.year + round(rng.gauss(0, 4))))
            members.append(self._adult(other, year, home, origin=first.origin if rng.random() < 0.6 else None))
        self._name_in_use(members)
        members += self._children(members)
        self._settle(members)
        return members

    def _adult(self, sex: str, year: int, home: Commune, *, origin: str | None = None) -> _Member:
        rng = self._rng
        if origin is None:
            origin = self._country.origins(rng) if rng.random() < 0.22 else "france"
        is_abroad = rng.random() < (0.015 if origin == "france" else 0.62)
        made = self._born(sex, year, home, origin, is_abroad=is_abroad, family=self._country.family(rng, origin))
        if rng.random() < _TWIN_BIRTHS:
            self._awaited.append(made)
        return made

    def _born(self, sex: str, year: int, home: Commune, origin: str, *, is_abroad: bool, family: str) -> _Member:
        rng, names = self._rng, self._country
        if is_abroad:
            place = names.abroad(rng, origin if origin != "france" else names.origins(rng))
        else:
            place = names.birth_place(rng, home, year)
        day = "0101" if is_abroad and rng.random() < FIRST_OF_JANUARY else _a_day(year, rng)
        return _Member(
            household=self._number,
            origin=origin,
            sex=sex,
            year=year,
            birth_date=f"{year}{day}",
            birth_place=place,
            family=family,
            given=self._given(sex, year, origin),
            others=self._others(sex, year, origin),
            nir=self._nir(sex, f"{year}{day}", place, rng.randint(1, 400)),
            home=home,
        )

    def _given(self, sex: str, year: int, origin: str) -> str:
        if origin != "france" and year > 1970 and self._rng.random() < 0.3:
            origin = "france"
        return self._country.given(self._rng, origin, sex, year)

    def _others(self, sex: str, year: int, origin: str) -> tuple[str, ...]:
        """Further given names, in the fashion of the grandparents."""
        count = self._rng.choices((0, 1, 2, 3), (0.2, 0.3, 0.42, 0.08) if origin == "france" else (0.75, 0.2, 0.05, 0))[
            0
        ]
        return tuple(dict.fromkeys(self._country.given(self._rng, origin, sex, year - 35) for _ in range(count)))

    def _nir(self, sex: str, birth_date: str, place: str, order: int) -> str:
        if place[:2] in ("2A", "2B") and birth_date < "1976":
            place = f"20{place[2:]}"
        beginning = f"{'1' if sex == 'm' else '2'}{birth_date[2:6]}{place}"
        while True:
            number = f"{beginning}{order:03}"
            nir = number + _key(number)
            if nir not in self._taken:
                self._taken.add(nir)
                return nir
            order = order % 999 + 1

    def _twin_of(self, member: _Member, home: Commune) -> _Member:
        """Same birth, another first name; two thirds of twins are of the same sex."""
        rng = self._rng
        sex = member.sex if rng.random() < 2 / 3 else {"m": "f", "f": "m"}[member.sex]
        given = member.given
        while given == member.given:
            given = self._given(sex, member.year, member.origin)
        made = _Member(
            household=self._number,
            origin=member.origin,
            sex=sex,
            year=member.year,
            birth_date=member.birth_date,
            birth_place=member.birth_place,
            family=member.family,
            given=given,
            others=self._others(sex, member.year, member.origin),
            nir=self._nir(sex, member.birth_date, member.birth_place, int(member.nir[10:13]) % 999 + 1),
            home=home,
            twin=member,
        )
        member.twin = made
        return made

    def _name_in_use(self, adults: Sequence[_Member]) -> None:
        """Married women under the name of a husband, present or not; 15 % of them behind their birth name."""
        rng = self._rng
        for member in adults:
            if member.sex == "m":
                continue
            spouse = next((each for each in adults if each is not member), None)
            share = next(share for year, share in _MARRIED_NAMES if member.year < year)
            if rng.random() >= (share if spouse else share / 3):
                continue
            name = spouse.family if spouse else self._country.family(rng, member.origin)
            member.used = f"{member.family} {name}" if rng.random() < 0.15 else name

    def _children(self, adults: Sequence[_Member]) -> list[_Member]:
        rng = self._rng
        parent = adults[0]
        father = next((each for each in adults if each.sex == "m"), parent)
        made: list[_Member] = []
        if len(adults) == 1 and rng.random() < 0.6:
            return made
        for _ in range(rng.choices((0, 1, 2, 3, 4), (0.18, 0.22, 0.38, 0.16, 0.06))[0]):
            year = parent.year + rng.randint(21, 40)
            if not TODAY.year - 20 <= year < TODAY.year:
                continue  # not born, or has left
            family = father.family
            if len(adults) == 2 and rng.random() < 0.12 and " " not in family + adults[1].family + parent.family:
                family = f"{parent.family} {adults[1].family}"
            is_abroad = parent.origin != "france" and rng.random() < 0.12
            child = self._born(rng.choice("mf"), year, parent.home, parent.origin, is_abroad=is_abroad, family=family)
            made.append(child)
            if rng.random() < _TWIN_BIRTHS:
                made.append(self._twin_of(child, parent.home))
        return made

    def _settle(self, members: Sequence[_Member]) -> None:
        """Address, telephone and e-mail; children have those of a parent."""
        rng = self._rng
        first = members[0]
        built = self._buildings.setdefault(first.home.code, [])
        if len(built) > 10 and rng.random() < 0.45:
            number, street = rng.choice(built)
        else:
            number, street = self._country.address(rng)
            built.append((number, street))
        landline = f"{rng.randint(1, 5)}{rng.randint(0, 99_999_999):08}"
        for member in members:
            member.number, member.street = number, street
            age = TODAY.year - member.year
            if age < 18:
                member.phone, member.email = first.phone, first.email
                continue
            draw = rng.random()
            if draw < (0.92 if age < 70 else 0.55):
                member.phone = f"{rng.choice('6667')}{rng.randint(0, 99_999_999):08}"
            elif draw < 0.96:
                member.phone = landline
            if rng.random() < (0.85 if age < 70 else 0.45):
                member.email = self._email(member)

    def _email(self, member: _Member) -> str:
        rng = self._rng
        given, family = member.given.replace(" ", ""), (member.used or member.family).replace(" ", "")
        local = rng.choice(
            (f"{given}.{family}", f"{given[0]}{family}", f"{family}.{given}", f"{given}{member.year % 100:02}")
        )
        if rng.random() < 0.5:
            local += str(rng.randint(1, 9999))
        return f"{local}@{self._country.provider(rng)}"


_AGES: Final = (0.12, 0.17, 0.18, 0.18, 0.16, 0.12, 0.06, 0.01)  # of those a household is named after, from 20 on
_TWIN_BIRTHS: Final = TWIN_SHARE / (2 - TWIN_SHARE)
_MARRIED_NAMES: Final = ((1950, 0.92), (1970, 0.8), (1990, 0.6), (3000, 0.4))  # born before, share of married women
_DAYS: Final = tuple((date(2001, 1, 1) + timedelta(days)).strftime("%m%d") for days in range(365))


def _a_day(year: int, rng: Random) -> str:
    place = rng.randrange(366 if year % 4 == 0 else 365)
    return _DAYS[place] if place < 365 else "0229"


def _as_indexed(traits: MatchRecord, rng: Random) -> MatchRecord:
    """What the first source asked for; who is qualified has all strict traits."""
    is_qualified = rng.random() < QUALIFIED
    has_address = rng.random() < 0.97
    return replace(
        traits,
        national=traits.national if is_qualified else "",
        others=traits.others if is_qualified or rng.random() < 0.5 else (),
        birth_place=traits.birth_place if is_qualified or rng.random() < 0.85 else "",
        used=traits.used if rng.random() < 0.7 else "",
        phone=traits.phone if rng.random() < 0.85 else "",
        email=traits.email if rng.random() < 0.6 else "",
        street=traits.street if has_address else "",
        number=traits.number if has_address and rng.random() < 0.98 else "",
        city=traits.city if has_address else "",
        postcode=traits.postcode if has_address else "",
    )


def _of_known(population: Population, person: Person, rng: Random) -> Registration:
    record, errors = _second(person.traits, rng)
    if record.national and rng.random() < 0.003:
        place = int(person.id[1:])
        near = population.persons[max(0, place - 1) : place] + population.persons[place + 1 : place + 2]
        relatives = [each for each in near if each.household == person.household]
        if relatives and rng.random() < 0.33:
            record, errors = replace(record, national=rng.choice(relatives).traits.national), errors | {"relative-ins"}
        else:  # a provisional number, replaced since
            number = f"{'7' if record.sex == 'm' else '8'}{record.national[1:10]}{rng.randint(1, 999):03}"
            record, errors = replace(record, national=number + _key(number)), errors | {"provisional-ins"}
    return Registration(record=record, kind=Kind.KNOWN, person=person.id, errors=errors)


def _newcomer(traits: MatchRecord, known: MatchRecord, rng: Random) -> Registration:
    joins = rng.random() < 0.4
    if joins:
        shared = ("family", "postcode", "city", "street", "number", "phone", "email")
        traits = replace(traits, **{name: getattr(known, name) for name in shared})
    record, errors = _second(traits, rng)
    if joins:
        errors |= {"known-household"}
    return Registration(record=record, kind=Kind.NEWCOMER, person=None, errors=errors)


def _new_twin(person: Person, rng: Random, taken: set[str]) -> Registration:
    traits = person.traits
    year = int(traits.birth_date[:4])
    given = traits.given
    while given == traits.given:
        given = country().given(rng, "france", traits.sex, year)
    others = traits.others
    if rng.random() < 0.7:
        others = tuple(country().given(rng, "france", traits.sex, year - 35) for _ in others)
    national = ""
    if rng.random() < 0.5:
        order = int(traits.national[10:13])
        while traits.national[:10] + f"{order:03}" + _key(traits.national[:10] + f"{order:03}") in taken:
            order = order % 999 + 1
        number = traits.national[:10] + f"{order:03}"
        national = number + _key(number)
    is_minor = TODAY.year - year < 18
    record = replace(
        traits,
        given=given,
        others=others,
        used="",
        national=national,
        phone=traits.phone if is_minor else "",
        email=traits.email if is_minor else "",
    )
    errors = frozenset() if national else frozenset({"no-ins"})
    return Registration(record=record, kind=Kind.NEW_TWIN, person=None, twin=person.id, errors=errors)


def _second(traits: MatchRecord, rng: Random) -> tuple[MatchRecord, frozenset[str]]:
    """The person as another source has registered them, and what went wrong."""
    errors: set[str] = set()

    def happens(error: str, rate: float) -> bool:
        if rng.random() < rate:
            errors.add(error)
            return True
        return False

    family, used, given, others = traits.family, traits.used, traits.given, traits.others
    if used and happens("used-name-as-family", 0.12):
        family, used = used, ""
    elif used and happens("used-name-missing", 0.35):
        used = ""
    if others and happens("other-given-name", 0.015):
        given, others = others[0], ()
    elif " " in given and happens("first-of-compound", 0.2):
        given = given.split(" ")[0]
    if happens("others-missing", 0.5):
        others = ()
    if happens("family-mistyped", 0.025):
        family = mistakes.mistyped(family, rng)
    elif happens("family-misheard", 0.015):
        family = mistakes.misheard(family, rng)
    if happens("given-mistyped", 0.025):
        given = mistakes.mistyped(given, rng)
    elif happens("given-misheard", 0.013):
        given = mistakes.misheard(given, rng)
    if happens("names-exchanged", 0.007):
        family, given = given, family

    birth_date = traits.birth_date
    if birth_date[6:] <= "12" and birth_date[4:6] != birth_date[6:] and happens("day-and-month", 0.025):
        birth_date = mistakes.day_and_month_exchanged(birth_date)
    elif happens("year", 0.009):
        birth_date = mistakes.wrong_year(birth_date, rng)
    elif happens("day", 0.0075):
        birth_date = mistakes.wrong_day(birth_date, rng)
    sex = traits.sex
    if happens("sex-missing", 0.01):
        sex = ""
    elif happens("sex", 0.003):
        sex = "f" if sex == "m" else "m"
    birth_place = traits.birth_place
    if happens("birth-place-missing", 0.2):
        birth_place = ""
    elif happens("birth-place", 0.01):
        birth_place = country().home(rng).code

    postcode, city, street, number = traits.postcode, traits.city, traits.street, traits.number
    if happens("moved", 0.12):
        home = country().home_near(rng, postcode) if rng.random() < 0.6 else country().home(rng)
        postcode, city = home.postcode, home.name
        number, street = country().address(rng)
    if happens("address-missing", 0.04):
        postcode = city = street = number = ""
    elif happens("address-mistyped", 0.06):
        street = mistakes.mistyped(street, rng)
    if number and happens("number-missing", 0.03):
        number = ""
    phone, email = traits.phone, traits.email
    if phone and happens("phone-missing", 0.25):
        phone = ""
    elif phone and happens("phone-changed", 0.15):
        phone = f"{rng.choice('6667')}{rng.randint(0, 99_999_999):08}"
    elif phone and happens("phone-mistyped", 0.01):
        phone = mistakes.wrong_digit(phone, rng)
    if email and happens("email-missing", 0.5):
        email = ""
    elif email and happens("email-changed", 0.12):
        email = f"{given.replace(' ', '')}{rng.randint(1, 9999)}@{country().provider(rng)}"
    record = MatchRecord(
        family=family,
        used=used,
        given=given,
        others=others,
        birth_date=birth_date,
        sex=sex,
        birth_place=birth_place,
        postcode=postcode,
        city=city,
        street=street,
        number=number,
        phone=phone,
        email=email,
        national="" if happens("no-ins", 0.5) else traits.national,
    )
    return record, frozenset(errors)
