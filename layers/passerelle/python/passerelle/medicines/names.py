"""Names of substances and classes as they are compared: case, accents, ligatures, broken lines do not tell two apart.

E-prescription contract, section 20.2: D3 (class names broken after their hyphen), D4 (a substance entered twice, with
and without accents), D8 (œ and the curly apostrophe).
"""

from __future__ import annotations

import re
import unicodedata

_LETTERS = str.maketrans({"œ": "oe", "æ": "ae", "’": "'", "‘": "'", "ʼ": "'", "‐": "-", "‑": "-", "–": "-", "—": "-"})
_HYPHEN = re.compile(r"\s*-\s*")


def normalised(text: str) -> str:
    """`INHIBITEURS DE LA MONOAMINE- OXYDASE` becomes `inhibiteurs de la monoamine-oxydase`."""
    folded = unicodedata.normalize("NFKD", text.casefold().translate(_LETTERS))
    bare = "".join(character for character in folded if not unicodedata.combining(character))
    return " ".join(_HYPHEN.sub("-", bare).split())
