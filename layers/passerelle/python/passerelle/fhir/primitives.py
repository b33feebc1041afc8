"""The syntax of FHIR's primitive types in JSON (FHIR R4 section 2.24.0.1)."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from passerelle.fhir.dates import date_range

_CLOCK = r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?"
_ZONE = r"(Z|[+-](0\d|1[0-3]):[0-5]\d|[+-]14:00)"

# XML cannot carry control characters, and no text needs them.
_BLACK = r"[^\x00-\x20\ufffe\uffff]"
_CODE = re.compile(rf"{_BLACK}+( {_BLACK}+)*")  # "no whitespace other than single spaces"
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_OID = re.compile(r"urn:oid:[0-2](\.(0|[1-9]\d*))+", re.ASCII)
_UUID = re.compile(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_URI = re.compile(rf"{_BLACK}+")
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d)?)?", re.ASCII)
_DATE_TIME = re.compile(rf"\d{{4}}(-\d\d(-\d\d(T{_CLOCK}{_ZONE})?)?)?", re.ASCII)
_INSTANT = re.compile(rf"\d{{4}}-\d\d-\d\dT{_CLOCK}{_ZONE}", re.ASCII)
_TIME = re.compile(_CLOCK, re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_MAX_STRING = 1_048_576
_MAX_INTEGER = 2_147_483_647


def _is_string(value: str) -> bool:
    return 0 < len(value) <= _MAX_STRING and not _CONTROL.search(value)


def _is_base64(value: str) -> bool:
    parts = value.split()  # white space stands between groups of four
    return bool(parts) and not any(len(each) % 4 for each in parts) and _BASE64.fullmatch("".join(parts)) is not None


def _matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda value: pattern.fullmatch(value) is not None


def _is_day(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    """Matches, and is in the calendar: what is valid here can be searched."""

    def check(value: str) -> bool:
        if not pattern.fullmatch(value):
            return False
        try:
            date_range(value)
        except ValueError:
            return False
        return True

    return check


_TEXTS: dict[str, Callable[[str], bool]] = {
    "base64Binary": _is_base64,
    "canonical": _matches(_URI),
    "code": _matches(_CODE),
    "date": _is_day(_DATE),
    "dateTime": _is_day(_DATE_TIME),
    "id": _matches(_ID),
    "instant": _is_day(_INSTANT),
    "markdown": _is_string,
    "oid": _matches(_OID),
    "string": _is_string,
    "time": _matches(_TIME),
    "uri": _matches(_URI),
    "url": _matches(_URI),
    "uuid": _matches(_UUID),
    "xhtml": _is_string,
}
_LEAST = {"integer": -_MAX_INTEGER - 1, "unsignedInt": 0, "positiveInt": 1}


def has_json_type(type_name: str, value: Any) -> bool:
    """Whether the value is of the JSON type that the primitive type is written in; nothing is converted."""
    if type_name == "boolean":
        return isinstance(value, bool)
    if type_name in _LEAST:
        return isinstance(value, int) and not isinstance(value, bool)
    if type_name == "decimal":
        return isinstance(value, int | Decimal | float) and not isinstance(value, bool)
    return isinstance(value, str)


def has_syntax(type_name: str, value: Any) -> bool:
    """Whether a value of the right JSON type is written as the primitive type asks."""
    if type_name in _TEXTS:
        return _TEXTS[type_name](value)
    if type_name in _LEAST:
        return bool(_LEAST[type_name] <= value <= _MAX_INTEGER)
    return True
