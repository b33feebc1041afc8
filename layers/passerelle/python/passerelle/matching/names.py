"""Names as they are compared: accents, case, hyphens and apostrophes do not tell two people apart."""

from __future__ import annotations

import re
import unicodedata

_SEPARATORS = re.compile(r"[\s'’\-.,]+")
_LIGATURES = str.maketrans({"œ": "oe", "æ": "ae", "ß": "ss", "ø": "o", "ł": "l", "đ": "d"})
# Before a family name: French, Dutch, German, Portuguese, Spanish, Italian, Arabic.
_PARTICLES = frozenset(
    {"a", "d", "da", "das", "de", "del", "della", "den", "der", "des", "di", "do", "dos", "du", "l", "la", "las", "le"}
    | {"les", "los", "saint", "sainte", "st", "ste", "van", "vanden", "vander", "von", "y", "al", "ben", "bin", "el"}
    | {"ibn"}
)


def normalised(name: str) -> str:
    """`Élise-Marie d'Œuvre` becomes `elise marie d oeuvre`."""
    folded = unicodedata.normalize("NFKD", name.casefold().translate(_LIGATURES))
    bare = "".join(character for character in folded if not unicodedata.combining(character))
    return _SEPARATORS.sub(" ", bare).strip()


def words(name: str) -> tuple[str, ...]:
    """The words of a normalised name, particles among them."""
    return tuple(name.split(" ")) if name else ()


def letters(name: str) -> str:
    """A normalised name without its spaces: `le goff` and `legoff` are one name."""
    return name.replace(" ", "")


def is_particle(word: str) -> bool:
    """Whether the word of a normalised name only introduces the next: `de`, `la`, `saint`, `van`."""
    return word in _PARTICLES


def components(name: str) -> tuple[str, ...]:
    """The names in a compound name, each with its particles: `martin de la tour` is `martin`, `de la tour`.

    Empty when the name is not compound.
    """
    found: list[str] = []
    particles: list[str] = []
    for word in words(name):
        particles.append(word)
        if not is_particle(word):
            found.append(" ".join(particles))
            particles = []
    return tuple(found) if len(found) > 1 else ()


def contains(longer: str, shorter: str) -> bool:
    """Whether one name is the other with more words, in the same order: `marie claire` contains `marie`."""
    return f" {shorter} " in f" {longer} "


def first_word(name: str) -> str:
    """`jean` of `jean baptiste`."""
    return name.partition(" ")[0]
