"""National identity rules without FHIR: the French number, strict traits compared, records made for matching."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.region import INS_TEST, ins_of
from passerelle.errors import Unavailable
from passerelle.matching.record import MatchRecord
from passerelle.patients.identity import (
    changed_strict_traits,
    differences,
    has_valid_nir_key,
    is_nir,
    load_scheme,
    match_record,
    national_systems,
    nir_key,
    same_strict_traits,
    split_street,
)
from passerelle.patients.insi import national_identity_service
from passerelle.patients.model import Address, Traits

VALID = "255081416802538"  # 97 - 2550814168025 mod 97 = 38

PERSON = Traits(
    identifiers=(),
    family_names=("D'ŒUVRE",),
    given_names=("Jean-Baptiste", "Marie"),
    birth_date=date(1948, 2, 29),
    gender="male",
    birth_place="00002",
)


# --- the number -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "has_form", "has_key"),
    [
        (VALID, True, True),
        (VALID[:-1] + "9", True, False),
        ("123456789012345", True, False),  # the published examples carry this one
        ("289062913400149", True, False),  # and this one, of the guide to e-prescriptions
        (VALID[:-1], False, False),
        (VALID + "0", False, False),
        (f" {VALID[:-1]}", False, False),
        ("0" + VALID[1:], False, False),
        (VALID[:5] + "2C" + VALID[7:], False, False),
        (VALID[:5] + "2a" + VALID[7:], False, False),
        ("٢" + VALID[1:], False, False),
        ("", False, False),
    ],
)
def test_ins_5_form_and_key(value: str, has_form: bool, has_key: bool) -> None:
    assert (is_nir(value), has_valid_nir_key(value)) == (has_form, has_key)


@pytest.mark.parametrize(("department", "digits"), [("2A", "19"), ("2B", "18")])
def test_ins_5_corsica(department: str, digits: str) -> None:
    number = f"18007{department}001001"
    key = 97 - int(number.replace(department, digits)) % 97
    assert has_valid_nir_key(f"{number}{key:02d}")
    assert not has_valid_nir_key(f"{number}{key % 97 + 1:02d}")


_NUMBERS = st.from_regex(r"[1-8][0-9]{4}([0-9]{2}|2[AB])[0-9]{6}", fullmatch=True)


@given(_NUMBERS, st.integers(0, 12), st.integers(0, 9))
def test_ins_5_no_digit_is_mistyped_unnoticed(number: str, position: int, digit: int) -> None:
    value = number + nir_key(number)
    assert has_valid_nir_key(value)
    if number[position].isdigit() and number[position] != str(digit) and not (position == 5 and number[6] >= "A"):
        assert not has_valid_nir_key(value[:position] + str(digit) + value[position + 1 :])


@given(_NUMBERS, st.integers(0, 11))
def test_ins_5_no_two_digits_are_exchanged_unnoticed(number: str, position: int) -> None:
    one, other = number[position], number[position + 1]
    if one != other and (one + other).isdigit() and not (number[5:7] in ("2A", "2B") and position in (4, 5, 6)):
        exchanged = number[:position] + other + one + number[position + 2 :]
        assert not has_valid_nir_key(exchanged + nir_key(number))


@given(st.text(max_size=20))
def test_ins_5_any_text_has_an_answer(text: str) -> None:
    assert not has_valid_nir_key(text) or is_nir(text)


def test_schemes_are_data() -> None:
    scheme = load_scheme("fr", "dev")
    assert scheme is load_scheme("fr", "dev")
    assert scheme.systems == national_systems()
    with pytest.raises(FileNotFoundError):
        load_scheme("xx", "dev")


# --- strict traits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"family_names": ("d’oeuvre",), "given_names": ("JEAN BAPTISTE",)}, ()),  # spelling
        ({"given_names": ("Marie",)}, ()),  # one of the list
        ({"birth_place": ""}, ()),
        ({"family_names": ("D'ŒUVRE", "MARTIN")}, ()),  # a name in use is no strict trait
        ({"family_names": ("MARTIN", "D'ŒUVRE")}, ("birth-name",)),
        ({"family_names": ()}, ("birth-name",)),
        ({"given_names": ("Paul",)}, ("given-names",)),
        ({"given_names": ()}, ("given-names",)),
        ({"birth_date": date(1948, 2, 28)}, ("birth-date",)),
        ({"birth_date": None}, ("birth-date",)),
        ({"gender": "unknown"}, ("gender",)),
        ({"birth_place": "00003", "gender": None}, ("gender", "birth-place")),
    ],
)
def test_ins_8_what_differs(changes: dict[str, object], expected: tuple[str, ...]) -> None:
    other = replace(PERSON, **changes)  # type: ignore[arg-type]
    assert differences(PERSON, other) == differences(other, PERSON) == expected
    assert same_strict_traits(PERSON, other) is (not expected)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"given_names": ("JEAN BAPTISTE", "MARIE")}, ()),
        ({"given_names": ("Jean-Baptiste",)}, ("given-names",)),
        ({"given_names": ("Marie", "Jean-Baptiste")}, ("given-names",)),
        ({"given_names": ("Paul",)}, ("given-names",)),
        ({"birth_place": "00003"}, ("birth-place",)),
    ],
)
def test_ins_9_what_a_revision_changes(changes: dict[str, object], expected: tuple[str, ...]) -> None:
    assert changed_strict_traits(PERSON, replace(PERSON, **changes)) == expected  # type: ignore[arg-type]


# --- the national service -------------------------------------------------------------------------------------------


def test_ins_8_the_local_service_knows_one_nobody_and_several() -> None:
    service = national_identity_service("dev")
    (found,) = service.search(PERSON)
    assert found.identifier == (INS_TEST, ins_of(2))
    assert not differences(PERSON, found.traits)
    assert list(service.search(replace(PERSON, birth_place="00003"))) == []
    camille = replace(
        PERSON, family_names=("Moreau",), given_names=("Camille",), gender="female", birth_date=date(1988, 9, 12)
    )
    (other,) = service.search(camille)
    assert differences(camille, other.traits) == ("birth-place",)
    lucas = replace(PERSON, family_names=("Fontaine",), given_names=("Lucas",), birth_date=date(1990, 5, 5))
    assert len(service.search(lucas)) == 2


def test_ins_8_without_a_service_nobody_is_qualified() -> None:
    with pytest.raises(Unavailable):
        national_identity_service("prod").search(PERSON)


# --- for matching ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("12 rue des Lilas", ("12", "rue des lilas")),
        ("12, rue des Lilas", ("12", "rue des lilas")),
        ("12 bis, av. Jean-Jaurès", ("12 bis", "avenue jean jaures")),
        ("12BIS R DES LILAS", ("12 bis", "rue des lilas")),
        ("7 B rue du Dr Roux", ("7 b", "rue du docteur roux")),
        ("4 allée des Acacias", ("4", "allee des acacias")),
        ("3 d'Artagnan", ("3 d", "artagnan")),
        ("Bât. C\n3, pl. St-Exupéry\n2e étage", ("3", "place saint exupery")),
        ("Appt 4, 27 bd du Gal Leclerc", ("27", "boulevard du general leclerc")),
        ("chez M. Durand\nche de la Mare", ("", "chemin de la mare")),
        ("Lieu-dit Le Moulin", ("", "lieu dit le moulin")),
        ("75012 Paris", ("", "75012 paris")),
        ("", ("", "")),
        (" , ", ("", "")),
    ],
)
def test_addresses_as_they_are_written(line: str, expected: tuple[str, str]) -> None:
    assert split_street(line) == expected


def test_a_record_for_matching() -> None:
    traits = replace(
        PERSON,
        identifiers=((INS_TEST, VALID), ("urn:oid:2.999.1", "1")),
        national=(INS_TEST, VALID),
        is_qualified=True,
        family_names=("Le Goff", "le goff", "Müller"),
        given_names=("Anne-Sophie", "Marie", "Anne Sophie"),
        gender="female",
        addresses=(Address(city="Lyon"), Address(line="3 r. St-Jean", city="St-Viaud CEDEX 2", postcode="44 320")),
        phones=("00 00 00 00 00", "+33 6 36 92 88 54"),
        emails=("inconnu@x.fr", " Anne@Mail.FR"),
    )
    assert match_record(traits) == MatchRecord(
        family="le goff",
        used="muller",
        given="anne sophie",
        others=("marie",),
        birth_date="19480229",
        sex="f",
        birth_place="00002",
        postcode="44320",
        city="saint viaud",
        street="rue saint jean",
        number="3",
        phone="636928854",
        email="anne@mail.fr",
        national=f"{INS_TEST}|{VALID}",
    )
    assert match_record(replace(traits, is_qualified=False)).national == ""


def test_what_stands_for_the_unknown_is_unknown() -> None:
    traits = Traits(
        identifiers=(),
        family_names=("INCONNU",),
        given_names=("X",),
        birth_date=date(1900, 1, 1),
        gender="unknown",
        birth_place="99999",
        addresses=(Address(line="SDF", city="XXX", postcode="00000"),),
        phones=("0" * 10,),
        emails=("test@x.fr",),
    )
    assert match_record(traits) == match_record(Traits(identifiers=())) == MatchRecord()


_TEXTS = st.text(max_size=30)
_TRAITS = st.builds(
    Traits,
    identifiers=st.just(()),
    family_names=st.lists(_TEXTS, max_size=3).map(tuple),
    given_names=st.lists(_TEXTS, max_size=3).map(tuple),
    birth_date=st.none() | st.dates(),
    gender=st.none() | st.sampled_from(["male", "female", "other", "unknown"]),
    birth_place=_TEXTS,
    addresses=st.lists(st.builds(Address, line=_TEXTS, city=_TEXTS, postcode=_TEXTS), max_size=2).map(tuple),
    phones=st.lists(_TEXTS, max_size=2).map(tuple),
    emails=st.lists(_TEXTS, max_size=2).map(tuple),
)


@given(_TRAITS)
def test_any_traits_make_a_record(traits: Traits) -> None:
    record = match_record(traits)
    assert MatchRecord.unpack(record.pack()) == record
    assert match_record(replace(traits, family_names=tuple(map(str.upper, traits.family_names)))).sex == record.sex


@given(_TRAITS, _TRAITS)
def test_comparing_is_symmetric(one: Traits, other: Traits) -> None:
    assert differences(one, other) == differences(other, one)
