"""Names as they are compared: accents, case, hyphens and apostrophes do not tell two people apart."""

from __future__ import annotations

import re
import unicodedata

_SEPARATORS = re.compile(r"[\s'’\-.,]+")
_LIGATURES = str.maketrans({"œ": "oe", "æ": "ae", "ß": "ss", "ø": "o"})


def normalised(name: str) -> str:
    """`Élise-Marie d'Œuvre` becomes `elise marie d oeuvre`."""
    folded = unicodedata.normalize("NFKD", name.casefold().translate(_LIGATURES))
    bare = "".join(character for character in folded if not unicodedata.combining(character))
    return _SEPARATORS.sub(" ", bare).strip()
