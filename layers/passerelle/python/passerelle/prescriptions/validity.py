"""Calendar of a prescription, in Europe/Paris dates (e-prescription contract, sections 2 and 11).

The safe defaults of the contract are in force: the rules by product (its tier T2) are not built, so each line
gets the shortest first-supply limit there is, that of listed medicines (FR-V1).
"""

from __future__ import annotations

import calendar
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

FIRST_SUPPLY_RULE = "FR-V1"
TREATMENT_RULE = "FR-V3"
NARCOTICS_RULE = "FR-S1"
_PARIS = ZoneInfo("Europe/Paris")
_FIRST_SUPPLY_MONTHS = 3  # CSP R5132-22
_TREATMENT_MONTHS = 12  # CSP R5132-21


def paris_day(instant: datetime) -> date:
    return instant.astimezone(_PARIS).date()


def plus_months(day: date, months: int) -> date:
    """The same day of a later month, or that month's last."""
    year, month = divmod(day.month - 1 + months, 12)
    year, month = day.year + year, month + 1
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


def expires_on(authored_on: date, *, valid_until: date | None, is_supplied: bool) -> date:
    """The first day on which no claim is taken any more."""
    if is_supplied:
        return plus_months(authored_on, _TREATMENT_MONTHS)
    limit = plus_months(authored_on, _FIRST_SUPPLY_MONTHS)
    return min(limit, valid_until + timedelta(days=1)) if valid_until else limit
