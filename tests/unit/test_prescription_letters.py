"""Amounts in French words, as narcotics are prescribed."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.prescriptions.letters import in_letters

WORDS = {
    "0": "zéro",
    "1": "un",
    "16": "seize",
    "17": "dix-sept",
    "21": "vingt et un",
    "28": "vingt-huit",
    "61": "soixante et un",
    "70": "soixante-dix",
    "71": "soixante et onze",
    "77": "soixante-dix-sept",
    "80": "quatre-vingts",
    "81": "quatre-vingt-un",
    "91": "quatre-vingt-onze",
    "100": "cent",
    "200": "deux cents",
    "201": "deux cent un",
    "280": "deux cent quatre-vingts",
    "1000": "mille",
    "2200": "deux mille deux cents",
    "9999": "neuf mille neuf cent quatre-vingt-dix-neuf",
    "0.5": "un demi",
    "2.50": "deux et demi",
    "1.25": "un virgule vingt-cinq",
    "0.05": "zéro virgule zéro cinq",
    "0.333333": "zéro virgule trois trois trois trois trois trois",
    "14.000": "quatorze",
}


@pytest.mark.parametrize("amount", WORDS)
def test_amounts_are_written_as_in_french(amount: str) -> None:
    assert in_letters(Decimal(amount)) == WORDS[amount]


@given(st.integers(0, 9_999), st.integers(0, 9_999))
def test_no_two_amounts_are_written_alike(one: int, other: int) -> None:
    assert (in_letters(one) == in_letters(other)) == (one == other)


@pytest.mark.parametrize("amount", [Decimal("-1"), Decimal("-0.5"), Decimal(10_000), Decimal("1E+7")])
def test_what_has_no_words_is_refused(amount: Decimal) -> None:
    with pytest.raises(ValueError, match="9999"):
        in_letters(amount)
