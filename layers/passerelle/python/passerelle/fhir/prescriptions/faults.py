"""Refusals of what is sent: every fault of form is a 400 RX-INVALID that names its place."""

from __future__ import annotations

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


def check(resource: Any, *, expected_type: str, path: str | None = None) -> None:
    """Refuse what is not valid FHIR as the contract does: every fault is a 400 RX-INVALID."""
    try:
        validate(resource, expected_type=expected_type, path=path)
    except PasserelleError as error:
        details = Coding(system=SYSTEM, code="RX-INVALID")
        raise Invalid(issues=[replace(issue, details=details) for issue in error.issues]) from None


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
