"""Refusals of what is sent: every fault of form is a 400 RX-INVALID that names its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from passerelle.errors import Coding, Invalid, PasserelleError
from passerelle.fhir.validation import validate
from passerelle.prescriptions.errors import SYSTEM, rx
from passerelle.prescriptions.validity import paris_day

# So that no sum with a duration leaves the calendar.
_EARLIEST, _LATEST = date(1900, 1, 1), date(2199, 12, 31)

_UNSEEN = re.compile(r"[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # controls, and what puts text in another order


def check(resource: Any, *, expected_type: str, path: str | None = None) -> None:
    """Refuse what is not valid FHIR as the contract does: every fault is a 400 RX-INVALID."""
    try:
        validate(resource, expected_type=expected_type, path=path)
    except PasserelleError as error:
        details = Coding(system=SYSTEM, code="RX-INVALID")
        raise Invalid(issues=[replace(issue, details=details) for issue in error.issues]) from None
    _check_plain(resource, path or expected_type)


def _check_plain(value: Any, path: str) -> None:
    """Refuse what could turn the meaning of the rest around, wherever it stands (R4 2.4.0.1), or what is read of it."""
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for name, each in members:
        where = f"{path}.{name}" if isinstance(value, dict) else f"{path}[{name}]"
        if name in ("modifierExtension", "implicitRules"):
            raise invalid("what changes the meaning of other elements is not taken", where)
        if isinstance(each, str) and _UNSEEN.search(each):
            raise invalid("a text has characters that are not seen and change what is read", where)
        if isinstance(each, dict | list):
            _check_plain(each, where)


@contextmanager
def located(where: str) -> Iterator[None]:
    """Give a refusal that names no place this one."""
    try:
        yield
    except PasserelleError as error:
        issues = [replace(issue, expression=issue.expression or where) for issue in error.issues]
        raise type(error)(issues=issues) from None


def invalid(diagnostics: str, expression: str) -> Exception:
    return rx("RX-INVALID", diagnostics, issue="value", expression=expression)


def required(diagnostics: str, expression: str) -> Exception:
    return rx("RX-INVALID", diagnostics, issue="required", expression=expression)


def day(text: str, where: str) -> date:
    """The Paris day of a FHIR date or dateTime, of a full date at least."""
    try:
        found = paris_day(datetime.fromisoformat(text)) if "T" in text else date.fromisoformat(text)
    except (ValueError, OverflowError):
        raise invalid("a full date is required", where) from None
    if not _EARLIEST <= found <= _LATEST:
        raise invalid("a date is of the 20th to the 22nd century", where)
    return found
