"""What goes wrong when a trait is typed or taken by ear: French spellings, neighbours on an AZERTY keyboard, digits."""

from __future__ import annotations

from random import Random
from typing import Final

_ROWS: Final = ("azertyuiop", "qsdfghjklm", "wxcvbn")
_NEIGHBOURS: Final = {
    letter: row[max(0, place - 1) : place] + row[place + 1 : place + 2]
    for row in _ROWS
    for place, letter in enumerate(row)
}
# Spellings of one sound; each is replaced by another of its row.
_SOUNDS: Final = (
    ("eau", "au", "o", "aux", "eaux", "ot", "aud"),
    ("ph", "f", "ff"),
    ("qu", "k", "c"),
    ("ain", "in", "ein", "ym", "im"),
    ("an", "en", "am", "em"),
    ("ai", "ei", "e"),
    ("i", "y"),
    ("ll", "l"),
    ("nn", "n"),
    ("tt", "t", "th"),
    ("rr", "r"),
    ("ss", "c", "s"),
    ("s", "z"),
    ("g", "j", "ge"),
    ("gu", "g"),
    ("ier", "ie", "iere"),
    ("et", "ey", "ais"),
)
_ENDINGS: Final = ("e", "s", "t", "d", "h", "x")  # not heard


def mistyped(text: str, rng: Random) -> str:
    """One letter missing, doubled, exchanged with the next, or its neighbour on the keyboard; never empty."""
    places = [place for place, letter in enumerate(text) if letter != " "]
    place = rng.choice(places)
    kind = rng.random()
    if kind < 0.35 and len(places) > 2:
        return text[:place] + text[place + 1 :]
    if kind < 0.5:
        return text[:place] + text[place] + text[place:]
    if kind < 0.7 and place + 1 < len(text) and " " != text[place + 1] != text[place]:
        return text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    return text[:place] + rng.choice(_NEIGHBOURS.get(text[place], "e")) + text[place + 1 :]


def misheard(text: str, rng: Random) -> str:
    """Another spelling that sounds the same in French, or nearly."""
    sounds = [(spelling, row) for row in _SOUNDS for spelling in row if spelling in text]
    if not sounds or rng.random() < 0.2:
        return text[:-1] if text[-1] in _ENDINGS and len(text) > 3 else text + rng.choice(_ENDINGS)
    spelling, row = rng.choice(sounds)
    other = rng.choice([each for each in row if each != spelling])
    return text.replace(spelling, other, 1)


def day_and_month_exchanged(birth_date: str) -> str:
    """The same date where the day is no month."""
    year, month, day = birth_date[:4], birth_date[4:6], birth_date[6:]
    return f"{year}{day}{month}" if day <= "12" else birth_date


def wrong_year(birth_date: str, rng: Random) -> str:
    """One of the last two digits of the year wrong, or both exchanged; may be in the future by some years."""
    digits = list(birth_date[:4])
    if rng.random() < 0.2 and digits[2] != digits[3]:
        digits[2], digits[3] = digits[3], digits[2]
    else:
        place = 3 if rng.random() < 0.7 else 2
        digits[place] = rng.choice([digit for digit in "0123456789" if digit != digits[place]])
    return "".join(digits) + birth_date[4:]


def wrong_day(birth_date: str, rng: Random) -> str:
    """Another day of the month, one digit apart, from 01 to 28."""
    day = birth_date[6:]
    others = [f"{n:02}" for n in range(1, 29) if sum(a != b for a, b in zip(f"{n:02}", day, strict=True)) == 1]
    return birth_date[:6] + rng.choice(others)


def wrong_digit(number: str, rng: Random) -> str:
    place = rng.randrange(len(number))
    return (
        number[:place] + rng.choice([digit for digit in "0123456789" if digit != number[place]]) + number[place + 1 :]
    )
