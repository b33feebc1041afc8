"""Exact arithmetic of doses, fills and dates of the next fill (e-prescription contract, section 10).

Nothing here is a float: doses are Fractions, the ledger counts whole millionths of a unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

from passerelle.prescriptions.errors import rx

MILLIONTHS = 1_000_000
_DECIMALS = 6
_LAST_DECIMAL = Decimal(1).scaleb(-_DECIMALS)
_MAX_UNITS = 10**9  # of one quantity, and of all that a line allows: far above any treatment


@dataclass(frozen=True, slots=True, kw_only=True)
class Dose:
    """`dose` units, `times` per `period_days`; from `first_day` of the treatment on, for `days` or without an end."""

    dose: Fraction
    times: Fraction
    period_days: Fraction
    first_day: Fraction = Fraction()
    days: Fraction | None = None

    @property
    def units_per_day(self) -> Fraction:
        return self.dose * self.times / self.period_days

    @property
    def ends_after(self) -> Fraction | None:
        return None if self.days is None else self.first_day + self.days

    def units_during(self, days: Fraction) -> Fraction:
        """What it takes of the first `days` of the treatment."""
        end = days if self.ends_after is None else min(days, self.ends_after)
        return self.units_per_day * max(Fraction(), end - self.first_day)


def exact(value: Decimal) -> Fraction:
    """QA-PRECISION: a decimal of at most 6 places, from 0 to a billion; raises RX-INVALID for others."""
    if not 0 <= value <= _MAX_UNITS:
        raise rx("RX-INVALID", f"a quantity is from 0 to {_MAX_UNITS}", issue="value")
    rounded = value.quantize(_LAST_DECIMAL)
    if rounded != value:
        raise rx("RX-INVALID", "a quantity has at most 6 decimals", issue="value")
    return Fraction(rounded)


def exact_dose(value: Decimal) -> Fraction:
    """QA-SNAP: a dose within 10^-6 of a twelfth is that twelfth (0.333333 is a third)."""
    read = exact(value)
    nearest = Fraction(round(read * 12), 12)
    return nearest if abs(read - nearest) < Fraction(1, MILLIONTHS) else read


def millionths(value: Decimal) -> int:
    """A supplied quantity as the ledger holds it."""
    return int(exact(value) * MILLIONTHS)


def decimal_of(amount: int) -> Decimal:
    """An amount of the ledger in units, with no more digits than it has (90, not 90.000000 nor 9E+1)."""
    return Decimal(amount).scaleb(-_DECIMALS).normalize() + 0


def units_per_day(doses: Sequence[Dose]) -> Fraction:
    return sum((each.units_per_day for each in doses), Fraction())


def course_days(doses: Sequence[Dose]) -> Fraction | None:
    """After how many days the last dose ends; None for doses without an end."""
    ends = [each.ends_after for each in doses]
    return max((end for end in ends if end is not None), default=None) if None not in ends else None


def is_even(doses: Sequence[Dose], days: Fraction | None) -> bool:
    """Whether every day of that time has the same doses; None is without an end."""
    return all(
        not each.first_day and (each.ends_after is None or (days is not None and each.ends_after >= days))
        for each in doses
    )


def daily_units(doses: Sequence[Dose], days: Fraction | None) -> Fraction | None:
    """The units per day over so many days, or over the course of the doses: the mean where they rise, fall or end.

    None if nothing tells.
    """
    if not doses or is_even(doses, days):
        return units_per_day(doses) or None
    over = days or course_days(doses)
    return sum((each.units_during(over) for each in doses), Fraction()) / over if over else None


def fill_units(per_day: Fraction | None, duration_days: Fraction | None, quantity: Fraction | None) -> Fraction:
    """QA-FILL: what one fill is; a stated quantity wins. Raises RX-INVALID when it cannot be known."""
    if quantity is not None:
        return quantity
    if not per_day or duration_days is None:
        raise rx(
            "RX-INVALID",
            "a quantity, or a dosage with its maximum and a duration, is required",
            issue="required",
        )
    return per_day * duration_days


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorised:
    """What a line allows to supply, in millionths: per fill, and in all."""

    fills: int
    per_fill: int
    total: int

    @property
    def fills_opened(self) -> int:
        return -(-self.total // self.per_fill)

    def of_fill(self, number: int) -> int:
        """QA-TOTAL: the amount of fill `number` (from 1) when the fills before it are complete."""
        return max(0, min(self.per_fill, self.total - (number - 1) * self.per_fill))


def authorised(units: Fraction, repeats: int, units_per_pack: int | None = None) -> Authorised:
    """QA-FILL and QA-TOTAL: whole packs when it is supplied in packs, else rounded up to a millionth."""
    fills = 1 + repeats
    if units * fills > _MAX_UNITS:
        raise rx("RX-INVALID", f"a line allows at most {_MAX_UNITS} units", issue="value")
    if units_per_pack is None:
        per_fill = math.ceil(units * MILLIONTHS)
        return Authorised(fills=fills, per_fill=per_fill, total=per_fill * fills)
    pack = units_per_pack * MILLIONTHS
    return Authorised(
        fills=fills,
        per_fill=math.ceil(units / units_per_pack) * pack,
        total=math.ceil(units * fills / units_per_pack) * pack,
    )


def covered_until(handed_over: Sequence[tuple[date, int]], per_day: Fraction) -> date:
    """QA-NEXT: the first day without coverage; a hand-over counts from when the one before is used up."""
    start, covered = handed_over[0][0], Fraction()
    for day, amount in handed_over:
        covered = max(covered, Fraction((day - start).days)) + Fraction(amount, MILLIONTHS) / per_day
    return start + timedelta(days=math.floor(covered))


def next_allowed(handed_over: Sequence[tuple[date, int]], per_day: Fraction, early_days: int) -> date:
    return covered_until(handed_over, per_day) - timedelta(days=early_days)
