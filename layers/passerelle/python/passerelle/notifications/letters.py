"""What is written to an e-mail address or a telephone: that there is something new, in French and in English.

A letter names nobody, tells no event and carries no identifier: whoever sees the screen of a telephone, and whoever
carries the letter, learns no more than that somebody follows a record. The texts are data (`data/letters_*.json`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

_LANGUAGES: Final = ("fr", "en")
_RULE: Final = "\n----\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """`body` is for e-mail, `text` for a telephone."""

    subject: str
    body: str
    text: str


def confirmation(code: str) -> Letter:
    """Asks whoever reads it to give the code to the application that the subscription was made with."""
    return _letter("confirmation", code=code)


def news(url: str) -> Letter:
    """Says that there is something new; `url` is the public address of the exchange."""
    return _letter("news", url=url)


def _letter(name: str, **values: str) -> Letter:
    texts = [_texts(language)[name] for language in _LANGUAGES]
    return Letter(
        subject=" / ".join(each["subject"] for each in texts),
        body=_RULE.join(each["letter"].format(**values) for each in texts),
        text="\n".join(each["text"].format(**values) for each in texts),
    )


@cache
def _texts(language: str) -> dict[str, Any]:
    text = (Path(__file__).parent / "data" / f"letters_{language}.json").read_text("utf-8")
    texts: dict[str, Any] = json.loads(text)
    return texts
