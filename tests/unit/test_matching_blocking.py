"""People are found whatever is wrong, by keys that few share."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.matching.blocking import blocks_of, blocks_to_search
from passerelle.matching.record import MatchRecord

KNOWN = MatchRecord(
    family="lefebvre",
    given="camille",
    birth_date="19800214",
    sex="f",
    birth_place="59350",
    postcode="59000",
    city="lille",
    street="rue des tilleuls",
    number="12",
    phone="612345699",
    email="camille@example.org",
    national="280025935001234",
)
TRAITS = [field.name for field in fields(MatchRecord)]
BARE = replace(KNOWN, phone="", email="", national="")  # found by name, birth and address only


def _namespaces(stored: MatchRecord, sought: MatchRecord) -> set[str]:
    return {block.namespace for block in set(blocks_of(stored)) & set(blocks_to_search(sought))}


@pytest.mark.parametrize(
    ("case", "stored", "sought"),
    [
        ("day wrong", BARE, replace(BARE, birth_date="19800224")),
        ("month wrong", BARE, replace(BARE, birth_date="19800914")),
        ("year wrong, moved", BARE, replace(BARE, birth_date="19810214", postcode="", city="", street="", number="")),
        ("day and month exchanged, moved", replace(BARE, birth_date="19800211"), replace(BARE, birth_date="19801102")),
        ("family name wrong", BARE, replace(BARE, family="moreau", postcode="", city="", street="", number="")),
        ("first name wrong, moved", BARE, replace(BARE, given="zoe", postcode="13001", city="marseille")),
        ("names exchanged", BARE, replace(BARE, family="camille", given="lefebvre")),
        ("names exchanged, moved", BARE, replace(BARE, family="camille", given="lefebvre", postcode="", street="")),
        ("spelt by ear", BARE, replace(BARE, family="lefevre", given="kamille", birth_place="", postcode="")),
        ("no birth date", BARE, replace(BARE, birth_date="")),
        ("birth date entered as 1 January, moved", BARE, replace(BARE, birth_date="19800101", postcode="", street="")),
        ("used name as family name", replace(BARE, used="garnier"), replace(BARE, family="garnier", birth_place="")),
        ("used name on both sides", replace(BARE, used="garnier"), replace(BARE, family="x", used="garnier")),
        ("half of a compound name", replace(BARE, family="lefebvre garnier"), replace(BARE, birth_place="")),
        ("the other half", replace(BARE, family="garnier"), replace(BARE, family="lefebvre garnier", birth_place="")),
        ("first name and street wrong, and the day", BARE, replace(BARE, given="", street="x", birth_date="19800224")),
        ("town wrong, year wrong", BARE, replace(BARE, city="lomme", birth_date="19460214", birth_place="")),
        ("both names wrong", BARE, replace(BARE, family="moreau", given="zoe")),
        ("only the telephone", MatchRecord(phone="612345699"), MatchRecord(phone="612345699", family="x")),
        ("only the e-mail", MatchRecord(email="a@example.org"), MatchRecord(email="a@example.org")),
        ("only the identifier", MatchRecord(national="280025935001234"), MatchRecord(national="280025935001234")),
    ],
)
def test_people_are_found(case: str, stored: MatchRecord, sought: MatchRecord) -> None:
    assert _namespaces(stored, sought), case


@given(st.sets(st.sampled_from(TRAITS)))
def test_a_missing_part_suppresses_the_key_and_makes_no_other(missing: set[str]) -> None:
    record = replace(KNOWN, **{trait: () if trait == "others" else "" for trait in missing})
    if "sex" in missing:  # it only narrows
        record = replace(record, sex="f")
    assert set(blocks_of(record)) <= set(blocks_of(KNOWN))


@given(st.sets(st.sampled_from(TRAITS)))
def test_what_is_stored_is_searched(missing: set[str]) -> None:
    record = replace(KNOWN, **{trait: () if trait == "others" else "" for trait in missing})
    stored, sought = blocks_of(record), blocks_to_search(record)
    assert set(stored) <= set(sought)
    assert len(stored) == len(set(stored))
    assert len(sought) == len(set(sought))
    assert all(block.value and block.namespace for block in sought)


@pytest.mark.parametrize(
    ("trait", "value"),
    [
        ("family", "inconnu"),
        ("family", "nn"),
        ("family", "xxx"),
        ("given", "sans prenom"),
        ("given", "bebe 2"),
        ("given", "nouveau ne"),
        ("birth_date", "19000101"),
        ("birth_date", "19800014"),
        ("birth_place", "99999"),
        ("postcode", "00000"),
        ("street", "sans domicile fixe"),
        ("phone", "000000000"),
        ("phone", "666666666"),
        ("email", "noreply@example.org"),
        ("email", "aucun"),
        ("national", "000000000000000"),
    ],
)
def test_placeholders_are_no_keys(trait: str, value: str) -> None:
    assert blocks_to_search(replace(KNOWN, **{trait: value})) == blocks_to_search(replace(KNOWN, **{trait: ""}))


@pytest.mark.parametrize("trait", ["family", "given"])
def test_a_name_alone_is_no_key(trait: str) -> None:
    assert not blocks_to_search(MatchRecord(**{trait: "lefebvre", "sex": "f", "postcode": "59000", "city": "lille"}))


def test_an_index_item_more_for_each_other_name() -> None:
    plain = len(blocks_of(KNOWN))
    assert plain <= 18
    assert len(blocks_of(replace(KNOWN, used="garnier"))) == plain + 1
    assert len(blocks_of(replace(KNOWN, used="garnier roux"))) <= plain + 3


def test_regional_keys_are_wider() -> None:
    stored, sought = BARE, replace(BARE, birth_date="19550101", postcode="13001", city="marseille", birth_place="")
    sought = replace(sought, street="", number="")
    assert not set(blocks_of(stored)) & set(blocks_to_search(sought))
    assert set(blocks_of(stored, "regional")) & set(blocks_to_search(sought, "regional"))
