"""What people type when they do not know: `INCONNU`, `01/01/1900`, ten zeros (data model, 1.2).

Such a value is shared by people who have nothing else in common, so it is neither a key nor evidence.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from importlib.resources import files

_DATA = json.loads((files("passerelle.matching") / "data" / "placeholders.json").read_text("utf-8"))
_PATTERNS = {trait: re.compile("|".join(patterns)) for trait, patterns in _DATA.items() if trait != "about"}
_VALUES_KEPT = 200_000


@lru_cache(maxsize=_VALUES_KEPT)
def known(trait: str, value: str) -> str:
    """The value, or an empty string when it stands for an unknown one. `trait` is a field of the match record."""
    return "" if _PATTERNS[trait].fullmatch(value) else value
