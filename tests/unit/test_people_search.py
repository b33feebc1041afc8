"""Names as people are searched by them: what they are found under, what is looked up, what matches."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passerelle.patients.model import Traits
from passerelle.patients.search import (
    MAX_NAME_KEYS,
    NameCriterion,
    Part,
    PeopleQuery,
    name_keys,
    query_prefixes,
    same_contact,
)


def traits(*families: str, given: tuple[str, ...] = ()) -> Traits:
    return Traits(identifiers=(), family_names=families, given_names=given)


def query(**names: str) -> PeopleQuery:
    """`family`, `given` and `name` as typed; a comma means or."""
    parts: dict[str, Part] = {"family": "family", "given": "given", "name": "name"}
    return PeopleQuery(
        tuple(NameCriterion(part=parts[name], texts=tuple(text.split(","))) for name, text in names.items())
    )


def is_looked_up(person: Traits, asked: PeopleQuery) -> bool:
    """Whether the look-up of a search finds a person, by the keys that it has."""
    prefixes = asked.prefixes
    return not prefixes or any(key.startswith(prefix) for key in name_keys(person) for prefix in prefixes)


@pytest.mark.parametrize(
    ("person", "keys"),
    [
        pytest.param(traits("DUPONT", given=("Élise",)), {"dupont", "elise"}, id="plain"),
        pytest.param(traits("D'ŒUVRE"), {"doeuvre", "oeuvre"}, id="apostrophe"),
        pytest.param(traits("DE LA TOUR"), {"delatour", "latour", "tour"}, id="particles"),
        pytest.param(traits("MARTIN-DUPONT"), {"martindupont", "dupont"}, id="compound"),
        pytest.param(traits("MARTIN", "DUPONT"), {"martin", "dupont"}, id="used-name"),
        pytest.param(traits("MARTIN", "MARTIN DUPONT"), {"martindupont", "dupont"}, id="one-begins-the-other"),
        pytest.param(traits("LE"), {"le"}, id="a-particle-is-a-name"),
        pytest.param(traits("-"), set(), id="no-letters"),
    ],
)
def test_what_a_person_is_found_under(person: Traits, keys: set[str]) -> None:
    assert set(name_keys(person)) == keys


def test_the_birth_name_is_never_left_out() -> None:
    many = traits("UN-DEUX TROIS QUATRE CINQ SIX SEPT HUIT NEUF DIX", "ONZE", given=tuple("ABCDEFGH"))
    keys = name_keys(many)
    assert len(keys) == MAX_NAME_KEYS
    assert {"undeuxtroisquatrecinqsixsepthuitneufdix", "onze"} <= set(keys)


@pytest.mark.parametrize(
    ("text", "prefixes"),
    [
        ("Dup", ("dup",)),
        ("d'Œu", ("doeu", "oeu")),
        ("de la tour", ("delatour", "tour")),
        ("de la", ("dela",)),
        ("Ben", ("ben",)),
        ("ben ali", ("benali", "ali")),
        ("Saint-Martin", ("saintmartin",)),
        ("-", ()),
        ("", ()),
    ],
)
def test_what_a_name_as_typed_is_looked_up_by(text: str, prefixes: tuple[str, ...]) -> None:
    assert query_prefixes(text) == prefixes


@pytest.mark.parametrize(
    ("person", "asked"),
    [
        pytest.param(traits("DUPONT"), query(family="dup"), id="first-letters"),
        pytest.param(traits("Dùpont"), query(family="DUPONT"), id="accents-and-case"),
        pytest.param(traits("JEAN-MARIE"), query(family="jean marie"), id="hyphen"),
        pytest.param(traits("JEAN MARIE"), query(family="jeanmarie"), id="no-space"),
        pytest.param(traits("DE LA TOUR"), query(family="tour"), id="without-particles"),
        pytest.param(traits("DE LA TOUR"), query(family="la tour"), id="without-one-particle"),
        pytest.param(traits("DE LA TOUR"), query(family="latour"), id="particle-grown-together"),
        pytest.param(traits("TOUR"), query(family="de la tour"), id="with-particles"),
        pytest.param(traits("BENALI"), query(family="ben ali"), id="name-grown-together"),
        pytest.param(traits("LE GOFF"), query(family="le"), id="the-particle-alone"),
        pytest.param(traits("MARTIN-DUPONT"), query(family="dupont"), id="second-part"),
        pytest.param(traits("MARTIN", "DUPONT"), query(family="dupont"), id="used-name"),
        pytest.param(traits("MARTIN", given=("Léa", "Zoé")), query(given="zoe"), id="second-given-name"),
        pytest.param(traits("MARTIN", given=("Jean-Baptiste",)), query(given="baptiste"), id="part-of-given-name"),
        pytest.param(traits("HUGO", given=("Bernard",)), query(family="bernard", given="hugo"), id="exchanged"),
        pytest.param(traits("MARTIN", given=("Léa",)), query(name="lea"), id="name-is-given"),
        pytest.param(traits("MARTIN", given=("Léa",)), query(name="martin"), id="name-is-family"),
        pytest.param(traits("MARTIN", given=("Léa",)), query(name="lea martin"), id="name-is-both"),
        pytest.param(traits("MARTIN", given=("Léa",)), query(name="mart, lea"), id="or"),
        pytest.param(traits("MARTIN"), query(family="durand,martin"), id="one-of-two"),
    ],
)
def test_who_is_found(person: Traits, asked: PeopleQuery) -> None:
    assert asked.matches(person)
    assert is_looked_up(person, asked)


@pytest.mark.parametrize(
    ("person", "asked"),
    [
        pytest.param(traits("DUPONT"), query(family="upont"), id="inside"),
        pytest.param(traits("MARTIN"), query(family="saint-martin"), id="saint-is-no-particle"),
        pytest.param(traits("MARTIN", given=("Léa",)), query(family="lea"), id="given-is-no-family"),
        pytest.param(traits("MARTIN", given=("Léa",)), query(family="martin", given="hugo"), id="one-of-two"),
        pytest.param(traits("MARTIN", given=("Léa",)), query(name="lea durand"), id="one-word-of-two"),
        pytest.param(traits("MARTIN"), query(family="-"), id="no-letters"),
        pytest.param(traits(), query(family="martin"), id="nameless"),
    ],
)
def test_who_is_not_found(person: Traits, asked: PeopleQuery) -> None:
    assert not asked.matches(person)


def test_repeated_parameters_all_hold() -> None:
    two = PeopleQuery((NameCriterion(part="given", texts=("lea",)), NameCriterion(part="given", texts=("zoe",))))
    assert two.matches(traits("MARTIN", given=("Léa", "Zoé")))
    assert not two.matches(traits("MARTIN", given=("Léa",)))


def test_a_part_anywhere_is_compared_and_not_looked_up() -> None:
    anywhere = PeopleQuery((NameCriterion(part="family", texts=("upon",), is_anywhere=True),))
    assert anywhere.matches(traits("DUPONT"))
    assert not anywhere.matches(traits("MARTIN"))
    assert anywhere.prefixes == ()
    both = PeopleQuery((*anywhere.criteria, NameCriterion(part="given", texts=("Léa",))))
    assert both.prefixes == ("lea",)


def test_the_family_name_is_looked_up_first() -> None:
    assert query(given="lea", family="martin").prefixes == ("martin",)
    assert query(given="lea", name="martin").prefixes == ("martin",)


names = st.text(alphabet=string.ascii_letters + "éèçœ' -", min_size=1, max_size=12).filter(query_prefixes)
particles = st.sampled_from(["", "de ", "de la ", "le ", "d'", "El-", "ben "])
whole = st.builds("".join, st.tuples(particles, names))


@given(families=st.lists(whole, min_size=1, max_size=2), firsts=st.lists(names, max_size=2), data=st.data())
@settings(max_examples=200)
def test_whoever_matches_is_looked_up(families: list[str], firsts: list[str], data: st.DataObject) -> None:
    """The look-up never misses a person that the comparison accepts, as long as all names are keys."""
    person = traits(*families, given=tuple(firsts))
    text = data.draw(st.sampled_from([*families, *firsts]))
    typed = text[: data.draw(st.integers(1, len(text)))]
    asked = query(**{data.draw(st.sampled_from(["family", "given", "name"])): typed.replace(",", "")})
    if asked.matches(person) and len(name_keys(person)) < MAX_NAME_KEYS:
        assert is_looked_up(person, asked)


@given(families=st.lists(whole, min_size=1, max_size=3), firsts=st.lists(whole, max_size=3))
@settings(max_examples=100)
def test_no_key_is_another_ones_beginning(families: list[str], firsts: list[str]) -> None:
    keys = name_keys(traits(*families, given=tuple(firsts)))
    assert len(keys) <= MAX_NAME_KEYS
    assert all(key.isalnum() for key in keys)
    assert not [(one, other) for one in keys for other in keys if one != other and other.startswith(one)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("06 12 34 56 78", "0612345678"),
        ("+33612345678", "06.12.34.56.78"),
        ("00 33 (0)6 12 34 56 78", "0612345678"),
        ("Elise@Exemple.fr", "elise@exemple.fr "),
    ],
)
def test_the_same_contact_written_in_two_ways(one: str, other: str) -> None:
    assert same_contact(one, other)


@pytest.mark.parametrize(
    ("one", "other"), [("0612345678", "0612345679"), ("3615", "13615"), ("a@exemple.fr", "b@exemple.fr")]
)
def test_two_contacts(one: str, other: str) -> None:
    assert not same_contact(one, other)
