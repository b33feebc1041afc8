"""FHIR JSON in and out without loss: decimals stay as written (72.50, 1e-7), member order is kept.

FHIR R4 section 2.6.2. Duplicate members, NaN and other non-JSON are refused.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import simplejson

from passerelle.errors import Invalid

MAX_DEPTH = 64


class WrittenDecimal(Decimal):
    """A decimal that is written again as it was: `str` of a Decimal turns 0.0000001 into 1E-7."""

    __slots__ = ("_text",)
    _text: str

    def __new__(cls, text: str | Decimal) -> WrittenDecimal:
        number = super().__new__(cls, text)
        number._text = str(text)  # of a Decimal when it is copied
        return number

    def __str__(self) -> str:
        return self._text


def loads(data: bytes, *, max_depth: int = MAX_DEPTH) -> Any:
    """Parse JSON; raises Invalid (`structure`) with line and column for text that is not JSON."""
    try:
        text = data.decode("utf-8-sig")
        parsed = simplejson.loads(
            text,
            parse_float=WrittenDecimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_unique_members,
        )
    except simplejson.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise Invalid(f"the body is not JSON: {place}", code="structure") from None
    except UnicodeDecodeError:
        raise Invalid("the body is not UTF-8", code="structure") from None
    except ValueError:
        raise Invalid("the body has a number that is too long", code="structure") from None
    except RecursionError:
        raise Invalid("the body is nested too deeply", code="structure") from None
    _check_depth(parsed, max_depth)
    if b"\\u" in data:
        _check_characters(parsed)
    return parsed


def dumps(value: Any, *, pretty: bool = False) -> bytes:
    """Serialise in UTF-8, compactly unless for reading, decimals with the digits they came with."""
    if pretty:
        return simplejson.dumps(value, use_decimal=True, ensure_ascii=False, indent=2).encode()
    return simplejson.dumps(value, use_decimal=True, ensure_ascii=False, separators=(",", ":")).encode()


def _refuse_constant(_: str) -> Any:
    raise Invalid("NaN and Infinity are not JSON", code="structure")


def _check_characters(value: Any) -> None:
    """An escape can name half of a character (`\\ud83d` alone), which no text can be written with."""
    try:
        dumps(value)
    except UnicodeEncodeError:
        raise Invalid("the body has half a character", code="structure") from None


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Invalid("an object has two members of the same name", code="structure")
    return members


def _check_depth(value: Any, remaining: int) -> None:
    if remaining == 0:
        raise Invalid("the body is nested too deeply", code="structure")
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        _check_depth(child, remaining - 1)
