"""The synthetic population of the identity benchmark: the shape that it states, and nothing wrong by accident."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

import pytest

from benchmarks.identity import mistakes
from benchmarks.identity.population import (
    Kind,
    Person,
    Population,
    Registration,
    generate,
    has_valid_key,
    registrations,
)
from passerelle.matching.names import normalised

SIZE = 20_000


@pytest.fixture(scope="module")
def population() -> Population:
    return generate(SIZE, seed=11)


@pytest.fixture(scope="module")
def known(population: Population) -> tuple[Registration, ...]:
    return registrations(population, 8_000, Kind.KNOWN, seed=3)


def _by_id(population: Population) -> dict[str, Person]:
    return {person.id: person for person in population.persons}


def test_a_seed_always_gives_the_same_people_and_registrations() -> None:
    first, second, other = generate(400, seed=5), generate(400, seed=5), generate(400, seed=6)
    assert first == second
    assert first.persons != other.persons
    for kind in Kind:
        drawn = registrations(first, 50, kind, seed=1)
        assert drawn == registrations(second, 50, kind, seed=1)
        assert drawn != registrations(first, 50, kind, seed=2)


def test_every_nir_is_valid_unique_and_tells_sex_month_and_place(population: Population) -> None:
    people = [person.traits for person in population.persons]
    assert len({each.national for each in people}) == SIZE
    for each in people:
        assert has_valid_key(each.national)
        assert each.national[0] == {"m": "1", "f": "2"}[each.sex]
        assert each.national[1:5] == each.birth_date[2:6]
        assert each.national[5:10] == each.birth_place or each.national[5:7] == "20"


def test_corsica_has_its_letters_since_1976_and_its_old_number_before(population: Population) -> None:
    corsican = [each.traits for each in population.persons if each.traits.birth_place[:2] in ("2A", "2B")]
    eras = {(each.birth_date >= "1976", each.national[5:7]) for each in corsican}
    assert eras == {(False, "20"), (True, "2A"), (True, "2B")}


def test_a_wrong_digit_or_a_short_number_has_no_valid_key() -> None:
    assert has_valid_key("255081416802538")
    assert not has_valid_key("255081416802539")
    assert not has_valid_key("2550814168025")


def test_shares_are_those_stated(population: Population) -> None:
    people = population.persons
    shares = {
        "twins": sum(each.twin is not None for each in people) / SIZE,
        "abroad": sum(each.traits.birth_place.startswith("99") for each in people) / SIZE,
        "first of January": sum(each.traits.birth_date.endswith("0101") for each in people) / SIZE,
        "qualified": sum(bool(each.record.national) for each in people) / SIZE,
        "women": sum(each.traits.sex == "f" for each in people) / SIZE,
    }
    expected = {"twins": 0.03, "abroad": 0.12, "first of January": 0.015, "qualified": 0.8, "women": 0.5}
    assert shares == pytest.approx(expected, rel=0.2)


def test_names_have_the_frequencies_stated(population: Population) -> None:
    families = Counter(each.traits.family for each in population.persons)
    name, count = families.most_common(1)[0]
    assert name in ("martin", "bernard", "thomas", "petit", "robert")
    assert 0.0025 < count / SIZE < 0.005
    assert len(families) > SIZE / 5

    def top(since: str, until: str) -> float:
        given = [each.traits.given for each in population.persons if since <= each.traits.birth_date < until]
        return Counter(given).most_common(1)[0][1] / len(given) * 2  # of one sex

    assert 0.03 < top("1930", "1950") < 0.085
    assert 0.009 < top("2015", "2026") < 0.025


def test_traits_are_normalised_and_varied(population: Population) -> None:
    people = [person.traits for person in population.persons]
    for each in people:
        assert all(name == normalised(name) for name in (each.family, each.used, each.given, *each.others, each.street))
        assert len(each.birth_date) == 8
        assert each.birth_place
        assert each.family
        assert each.given
        assert each.postcode
        assert each.phone == "" or (len(each.phone) == 9 and each.phone.isdigit())
    assert 0.15 < sum(bool(each.used) for each in people) / SIZE < 0.28
    assert 0.02 < sum(" " in each.given for each in people) / SIZE < 0.08
    assert sum(each.family.startswith(("de ", "d ", "du ", "le ")) for each in people) / SIZE > 0.02


def test_a_household_has_one_address_and_children_the_name_and_telephone_of_a_parent(population: Population) -> None:
    shared = children = 0
    for _, group in groupby(population.persons, key=lambda each: each.household):
        members = [person.traits for person in group]
        assert len({(each.postcode, each.street, each.number) for each in members}) == 1
        adults = [each for each in members if each.birth_date < "2008"]
        for child in (each for each in members if each.birth_date > "2009"):
            if adults:
                children += 1
                named = any(set(child.family.split()) & set(each.family.split()) for each in adults)
                shared += named and child.phone in {each.phone for each in adults}
    assert children > SIZE / 20
    assert shared == children


def test_twins_are_born_together_under_one_name_with_neighbouring_numbers(population: Population) -> None:
    people = _by_id(population)
    pairs = [(each, people[each.twin]) for each in population.persons if each.twin]
    assert pairs
    for one, other in pairs:
        assert other.twin == one.id
        a, b = one.traits, other.traits
        assert (a.family, a.birth_date, a.birth_place) == (b.family, b.birth_date, b.birth_place)
        assert a.given != b.given
    same_sex = sum(one.traits.sex == other.traits.sex for one, other in pairs) / len(pairs)
    assert same_sex == pytest.approx(2 / 3, abs=0.1)


def test_new_twins_share_everything_but_the_first_name_and_are_not_in_the_index(population: Population) -> None:
    people = _by_id(population)
    nationals = {person.traits.national for person in population.persons}
    drawn = registrations(population, 300, Kind.NEW_TWIN, seed=4)
    for each in drawn:
        assert each.person is None
        assert each.twin is not None
        twin, record = people[each.twin].traits, each.record
        for trait in ("family", "birth_date", "birth_place", "sex", "postcode", "city", "street", "number"):
            assert getattr(record, trait) == getattr(twin, trait)
        assert record.given != twin.given
        assert record.national not in nationals
        assert not record.national or has_valid_key(record.national)
    assert 0.35 < sum(bool(each.record.national) for each in drawn) / 300 < 0.65


def test_newcomers_are_nobody_of_the_index(population: Population) -> None:
    nationals = {person.traits.national for person in population.persons}
    families = {(each.traits.family, each.traits.street, each.traits.number) for each in population.persons}
    drawn = registrations(population, 500, Kind.NEWCOMER, seed=4)
    assert all(each.person is None for each in drawn)
    assert not any(each.record.national in nationals for each in drawn)
    joined = sum((each.record.family, each.record.street, each.record.number) in families for each in drawn)
    assert 0.2 < joined / 500 < 0.45  # less than 0.4: some have moved, or are mistyped


def test_errors_are_as_frequent_as_stated(known: tuple[Registration, ...], population: Population) -> None:
    people = _by_id(population)
    pairs = [(each.record, people[each.person].traits) for each in known if each.person]
    assert len(pairs) == len(known) == len({each.person for each in known})
    assert sum(a.given == b.given for a, b in pairs) / len(pairs) == pytest.approx(0.935, abs=0.01)
    assert sum(a.birth_date == b.birth_date for a, b in pairs) / len(pairs) == pytest.approx(0.975, abs=0.006)
    assert sum(not a.national for a, _ in pairs) / len(pairs) == pytest.approx(0.5, abs=0.03)
    seen = {error for each in known for error in each.errors}
    assert seen >= {"used-name-as-family", "names-exchanged", "day-and-month", "year", "moved", "first-of-compound",
                    "other-given-name", "family-misheard", "family-mistyped", "no-ins"}  # fmt: skip


def test_an_error_is_seen_in_the_record_and_nothing_else_changes(
    known: tuple[Registration, ...], population: Population
) -> None:
    people = _by_id(population)
    for each in known:
        assert each.person is not None
        record, traits, errors = each.record, people[each.person].traits, each.errors
        if errors == {"names-exchanged"}:
            assert (record.family, record.given) == (traits.given, traits.family)
        if errors == {"used-name-as-family"}:
            assert (record.family, record.used) == (traits.used, "")
        if "other-given-name" in errors and not errors & {"given-mistyped", "given-misheard", "names-exchanged"}:
            assert record.given == traits.others[0]
        if "day-and-month" in errors:
            assert record.birth_date != traits.birth_date
            assert sorted(record.birth_date[4:]) == sorted(traits.birth_date[4:])
        if "year" in errors:
            assert record.birth_date[4:] == traits.birth_date[4:]
            assert record.birth_date[:2] == traits.birth_date[:2]
            assert record.birth_date != traits.birth_date
        if not errors:
            assert record == traits


def test_a_mistake_changes_a_name_and_leaves_one() -> None:
    from random import Random

    rng = Random(8)
    for name in ("martin", "da silva", "philippe", "le goff", "wu", "eau"):
        for _ in range(50):
            typed, heard = mistakes.mistyped(name, rng), mistakes.misheard(name, rng)
            assert typed
            assert typed == normalised(typed)
            assert heard not in ("", name)
    assert mistakes.day_and_month_exchanged("19800213") == "19800213"
    assert mistakes.day_and_month_exchanged("19800203") == "19800302"
