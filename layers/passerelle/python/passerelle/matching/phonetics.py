"""How a name sounds, so that people are found however their name was spelt (data model, 1.2).

The rules are data, `data/phonetics_<language>.json`; another country adds a file of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from importlib.resources import files
from itertools import groupby
from typing import Any

from passerelle.matching.names import normalised, words

_NAMES_KEPT = 100_000  # in the cache of a process, about 15 MB


def encoder(rules: Mapping[str, Any]) -> Callable[[str], str]:
    """The function that these rules describe; see `about` in the data. It remembers the names it met."""
    particles = frozenset(rules["particles"])
    sounds = [(re.compile(pattern), replacement) for pattern, replacement in rules["sounds"]]
    first, following = str.maketrans(rules["first"]), str.maketrans(rules["next"])
    silent = str.maketrans("", "", rules["vowels"])
    length = rules["length"]

    @lru_cache(maxsize=_NAMES_KEPT)
    def skeleton(name: str) -> str:
        parts = words(normalised(name))
        letters = "".join(
            character
            for part in ([p for p in parts if p not in particles] or parts)
            for character in part
            if character.isalpha()
        )
        sound = letters
        for pattern, replacement in sounds:
            sound = pattern.sub(replacement, sound)
        sound = sound or letters[:1]
        code = sound[:1].translate(first) + sound[1:].translate(silent).translate(following)
        return "".join(character for character, _ in groupby(code))[:length]

    return skeleton


@cache
def load(language: str) -> Callable[[str], str]:
    """The encoder of a language's data file."""
    data = files("passerelle.matching") / "data" / f"phonetics_{language}.json"
    return encoder(json.loads(data.read_text("utf-8")))


skeleton = load("fr")
"""At most five consonant classes after the first sound; equal for usual French spellings of one name. Empty only when
the name has no letter. Particles, accents, case, hyphens and doubled letters do not count."""
