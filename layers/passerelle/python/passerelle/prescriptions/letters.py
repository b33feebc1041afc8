"""Amounts in French words, "en toutes lettres" (Code de la santé publique, R. 5132-29: narcotics)."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

MAX_WHOLE: Final = 9_999
_SMALL: Final = [
    "zéro",
    "un",
    "deux",
    "trois",
    "quatre",
    "cinq",
    "six",
    "sept",
    "huit",
    "neuf",
    "dix",
    "onze",
    "douze",
    "treize",
    "quatorze",
    "quinze",
    "seize",
]
_TENS: Final = {2: "vingt", 3: "trente", 4: "quarante", 5: "cinquante", 6: "soixante", 8: "quatre-vingt"}


def in_letters(amount: int | Decimal) -> str:
    """An amount from 0 to 9 999 in words, to whatever decimals it has; raises ValueError for any other."""
    whole = int(amount)
    if not 0 <= amount < MAX_WHOLE + 1:
        raise ValueError("an amount from 0 to 9999 can be written in words")
    part = f"{Decimal(amount).normalize():f}".partition(".")[2]
    if part == "5":
        return f"{_whole(whole)} et demi" if whole else "un demi"
    if not part:
        return _whole(whole)
    zeros = len(part) - len(part.lstrip("0"))
    return " ".join([_whole(whole), "virgule", *["zéro"] * zeros, *_digits(part[zeros:])])


def _digits(part: str) -> list[str]:
    return [_whole(int(part))] if len(part) <= 3 else [_SMALL[int(digit)] for digit in part]


def _whole(number: int) -> str:
    thousands, rest = divmod(number, 1000)
    hundreds, below = divmod(rest, 100)
    words = []
    if thousands:
        words.append("mille" if thousands == 1 else f"{_below_hundred(thousands)} mille")
    if hundreds:
        plural = "s" if hundreds > 1 and not below else ""
        words.append(f"cent{plural}" if hundreds == 1 else f"{_SMALL[hundreds]} cent{plural}")
    if below or not words:
        words.append(_below_hundred(below))
    return " ".join(words)


def _below_hundred(number: int) -> str:
    if number < len(_SMALL):
        return _SMALL[number]
    tens, units = divmod(number, 10)
    if tens == 1:
        return f"dix-{_SMALL[units]}"
    if tens in (7, 9):  # soixante-dix, quatre-vingt-dix
        tens, units = tens - 1, units + 10
    if not units:
        return _TENS[tens] + ("s" if tens == 8 else "")
    if units in (1, 11) and tens != 8:
        return f"{_TENS[tens]} et {_SMALL[units]}"
    return f"{_TENS[tens]}-{_below_hundred(units)}"
