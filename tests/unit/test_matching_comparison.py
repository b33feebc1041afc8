"""Traits are compared as registrars write them."""

from __future__ import annotations

import pytest

from passerelle.matching.comparison import LEVELS, UNKNOWN, compare
from passerelle.matching.record import MatchRecord


def _names(a: str, b: str) -> dict[str, str]:
    """Compare `birth name/name in use/first given name/others`."""
    one, other = (
        MatchRecord(family=family, used=used, given=given, others=tuple(others.split(",")) if others else ())
        for family, used, given, others in (text.split("/") for text in (a, b))
    )
    assert compare(one, other) == compare(other, one)
    return compare(one, other)._asdict()


@pytest.mark.parametrize(
    ("a", "b", "family", "given", "order"),
    [
        ("martin//lea/", "martin//lea/", "exact", "exact", "kept"),
        ("le goff//jean baptiste/", "legoff//jeanbaptiste/", "exact", "exact", "kept"),
        ("martin/garnier/lea/", "garnier//lea/", "used", "exact", "kept"),
        ("martin/garnier/lea/", "roux/garnier/lea/", "used", "exact", "kept"),
        ("martin garnier//lea/", "martin//lea/", "close", "exact", "kept"),
        ("de oliveira//ana/", "oliveira//anna/", "close", "close", "kept"),
        ("martin//nathalie/", "martin//natalie/", "exact", "misspelt", "kept"),
        ("martin//auguste/", "martin//augustin/", "exact", "close", "kept"),
        ("martin//marie alice/", "martin//marie/", "exact", "close", "kept"),
        ("martin//lea/anne", "martin//anne/", "exact", "other", "kept"),
        ("martin//lea/", "martin//hugo/", "exact", "different", "kept"),
        ("martin//simon/", "simon//martin/", UNKNOWN, UNKNOWN, "swapped"),
        ("martin//simon/", "simons//martin/", UNKNOWN, UNKNOWN, "swapped-close"),
        ("martin//lea/", "roux//martin/", UNKNOWN, UNKNOWN, "half"),
        ("martin//lea/", "roux//hugo/", "different", "different", "kept"),
        ("inconnu//lea/", "martin//lea/", UNKNOWN, "exact", UNKNOWN),
        ("martin//bebe/", "martin//lea/", "exact", UNKNOWN, UNKNOWN),
    ],
)
def test_names(a: str, b: str, family: str, given: str, order: str) -> None:
    found = _names(a, b)
    assert (found["family"], found["given"], found["order"]) == (family, given, order)


@pytest.mark.parametrize(
    ("a", "b", "level"),
    [
        ("19800214", "19800214", "exact"),
        ("19800211", "19801102", "near"),
        ("19800214", "19800215", "near"),
        ("19800214", "19810214", "near"),
        ("19800214", "19800927", "different"),
        ("19800214", "19800101", "partial"),
        ("19800214", "19550214", "partial"),
        ("19800214", "19000101", UNKNOWN),
        ("19800214", "", UNKNOWN),
    ],
)
def test_birth_dates(a: str, b: str, level: str) -> None:
    assert compare(MatchRecord(birth_date=a), MatchRecord(birth_date=b)).birth_date == level


@pytest.mark.parametrize(
    ("a", "b", "level"),
    [
        ("12/rue des tilleuls/59000/lille", "12/rue des tilleuls/59000/lille", "door"),
        ("12/rue des tilleuls/59000/lille", "12/rue des tileuls/59000/lille", "door"),
        ("12/rue des tilleuls/59000/lille", "12/rue des tilleuls//lille", "door"),
        ("12/rue des tilleuls/59000/lille", "14/rue des tilleuls/59000/lille", "street"),
        ("12/avenue foch/59000/lille", "12/rue du general foch/59000/lille", "number"),
        ("12/rue des tilleuls/59000/lille", "3/place du marche/59000/lille", "area"),
        ("12/rue des tilleuls/59000/lille", "3/place du marche/59001/lomme", "near"),
        ("12/rue des tilleuls/59000/lille", "3/place du marche/13001/marseille", "different"),
        ("12/rue des tilleuls/59000/lille", "12///", UNKNOWN),
        ("12/rue des tilleuls//", "12/rue des tilleuls//", UNKNOWN),
    ],
)
def test_an_address_is_compared_as_a_whole(a: str, b: str, level: str) -> None:
    one, other = (
        MatchRecord(number=number, street=street, postcode=postcode, city=city)
        for number, street, postcode, city in (text.split("/") for text in (a, b))
    )
    assert compare(one, other).address == compare(other, one).address == level


@pytest.mark.parametrize(
    ("a", "b", "level"),
    [
        ("280025935001234", "280025935001234", "exact"),
        ("280025935001234", "280025935001235", "near"),
        ("280025935001234", "280025935001243", "near"),
        ("280025935001234", "280025935001345", "different"),
        ("280025935001234", "", UNKNOWN),
    ],
)
def test_identifiers(a: str, b: str, level: str) -> None:
    assert compare(MatchRecord(national=a), MatchRecord(national=b)).national == level


@pytest.mark.parametrize(
    ("a", "b", "level"),
    [
        ("59350", "59350", "exact"),
        ("59350", "59001", "department"),
        ("59350", "13055", "different"),
        ("20004", "2A004", "department"),
        ("75050", "92050", "department"),
        ("78297", "91297", "department"),
        ("92050", "93066", "different"),
        ("99350", "99352", "different"),
        ("99352", "75056", "different"),
        ("99352", "", UNKNOWN),
    ],
)
def test_birth_places(a: str, b: str, level: str) -> None:
    assert compare(MatchRecord(birth_place=a), MatchRecord(birth_place=b)).birth_place == level
    assert compare(MatchRecord(birth_place=b), MatchRecord(birth_place=a)).birth_place == level


def test_nothing_is_known_of_nobody() -> None:
    assert set(compare(MatchRecord(), MatchRecord())) == {UNKNOWN}
    assert tuple(LEVELS) == compare(MatchRecord(), MatchRecord())._fields
