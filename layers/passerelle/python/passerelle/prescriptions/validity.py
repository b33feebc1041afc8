"""Calendar of a prescription, in Europe/Paris dates (e-prescription contract, sections 2 and 11).

How long a line may be prescribed for, until when it may be presented, what lateness costs, and how many days one supply
may cover. The figures are those of the country's rules (`regulation.py`). Days are counted exactly; a limit is given as
the first refused day.
"""

from __future__ import annotations

import calendar
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

from passerelle.prescriptions.model import LedgerEntry, Line, Mention, Prescription, standing
from passerelle.prescriptions.quantities import MILLIONTHS, covered_until, decimal_of
from passerelle.prescriptions.regulation import Breach, Regime, regime_of_line, rules
from passerelle.prescriptions.transitions import STATES

_PARIS = ZoneInfo("Europe/Paris")


def paris_day(instant: datetime) -> date:
    return instant.astimezone(_PARIS).date()


def plus_months(day: date, months: int) -> date:
    """The same day of a later month, or that month's last."""
    year, month = divmod(day.month - 1 + months, 12)
    year, month = day.year + year, month + 1
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


# --- prescribing: FR-V3, FR-V4, FR-V6, FR-S1, FR-S3 ----------------------------------------------------------------


def duration_breach(line: Line, regime: Regime, authored_on: date) -> Breach | None:
    """What may not be prescribed for so long, so often, or in figures."""
    law = rules()
    if regime.is_narcotic and line.fills > 1:
        return Breach(code="RX-VALIDITY", facts={"rule": law["repeats"]["rule"], "repeats": 0})
    days = line.total_days
    treatment = (plus_months(authored_on, law["treatment"]["months"]) - authored_on).days
    for rule, longest in sorted(regime.longest, key=lambda each: each[1]):
        if days is None or days > longest:
            return Breach(code="RX-VALIDITY", facts={"rule": rule, "maximumDays": longest})
    if days is not None and days > treatment:
        return Breach(code="RX-VALIDITY", facts={"rule": law["treatment"]["rule"], "maximumDays": treatment})
    if regime.is_narcotic and not line.says(Mention.IN_WORDS):
        return Breach(code="RX-VALIDITY", facts={"rule": law["words"]["rule"], "missing": Mention.IN_WORDS.value})
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """The days of a narcotics prescription, from the one it was written on; `number` is what it is known by."""

    number: str
    authored_on: date
    days: Fraction


def covering(prescription: Prescription) -> list[Covered]:
    """What a prescription covers with narcotics; a line that ended before anything was supplied covers nothing."""
    group = prescription.group
    return [
        Covered(number=group.number, authored_on=group.authored_on, days=line.total_days)
        for line in prescription.lines
        if regime_of_line(line).is_narcotic and line.total_days is not None
        if STATES[line.state].kind not in ("draft", "terminal") or prescription.supplies_of(line.number)
    ]


def overlap_breach(
    line: Line, regime: Regime, authored_on: date, covered: Callable[[], Iterable[Covered]]
) -> Breach | None:
    """FR-S3; `covered` reads the prescriptions of narcotics by the same prescriber for the same person."""
    if not regime.is_narcotic or line.says(Mention.OVERLAP):
        return None
    for each in covered():
        if each.authored_on <= authored_on < each.authored_on + timedelta(days=math.ceil(each.days)):
            return Breach(code="RX-OVERLAP", facts={"rule": rules()["overlap"]["rule"], "other": each.number})
    return None


# --- presenting: FR-V1, FR-V2, FR-V3, FR-S2, FR-S4 -----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The first day on which no claim is taken any more, and the rule that it follows from."""

    rule: str
    on: date


def limit_of(line: Line, authored_on: date, entries: Sequence[LedgerEntry] = ()) -> Limit:
    """Until when a line may be presented, with these entries in its ledger and with what it has left."""
    supplies = standing(entries)
    regime, law = regime_of_line(line), rules()
    treatment = Limit(rule=law["treatment"]["rule"], on=plus_months(authored_on, law["treatment"]["months"]))
    limits = [treatment]
    if supplies:
        if line.total_days is not None:
            limits.append(Limit(rule=treatment.rule, on=supplies[0].on + timedelta(days=math.ceil(line.total_days))))
    else:
        limits.append(_first_supply(regime, authored_on))
        if line.valid_until is not None:
            limits.append(Limit(rule="validityPeriod", on=line.valid_until + timedelta(days=1)))
    if regime.is_narcotic and line.per_day:
        left = math.ceil(Fraction(line.remaining_total + lapsed(entries), MILLIONTHS) / line.per_day)
        grace = law["presentation"]["days"] + 1
        start = _counted_from(line, authored_on, line.per_day, supplies)
        limits.append(Limit(rule=law["presentation"]["rule"], on=start + timedelta(days=max(left, grace))))
    return min(limits, key=lambda each: each.on)


def _first_supply(regime: Regime, authored_on: date) -> Limit:
    rule = next(each for each in rules()["first_supply"] if regime.listing in each["listings"])
    anniversary = plus_months(authored_on, rule["months"])
    return Limit(rule=rule["rule"], on=anniversary + timedelta(days=rule["is_anniversary_included"]))


def _counted_from(line: Line, authored_on: date, per_day: Fraction, supplies: Sequence[LedgerEntry]) -> date:
    """The day from which FR-S2 counts: that of the prescription, of the discharge, or the end of a fraction."""
    if not supplies:
        return line.discharge_on or authored_on
    covered = covered_until([(each.on, each.quantity) for each in supplies], per_day)
    return covered - timedelta(days=rules()["presentation"]["is_fraction_end_last_covered_day"])


def late_days(counted_from: date, presented_on: date) -> int:
    """FR-S2: the days of treatment that are lost to who presents a narcotics prescription late."""
    elapsed = (presented_on - counted_from).days
    return elapsed if elapsed > rules()["presentation"]["days"] else 0


def presentable_from(discharge_on: date) -> date:
    """FR-S4: the first day on which what is prescribed for planned surgery may be presented."""
    return discharge_on - timedelta(days=rules()["surgery"]["days_before"])


def is_around_stay(presented_on: date, discharge_on: date) -> bool:
    """FR-S4: whether it is presented in time, and supplied in full."""
    last = discharge_on + timedelta(days=rules()["surgery"]["days_after"])
    return presentable_from(discharge_on) <= presented_on <= last


def waiting_breach(line: Line, today: date) -> Breach | None:
    """FR-S4: what is prescribed for planned surgery waits for it."""
    if line.discharge_on is None or not regime_of_line(line).is_narcotic:
        return None
    start = presentable_from(line.discharge_on)
    facts = {"rule": rules()["surgery"]["rule"], "date": start}
    return Breach(code="RX-TOO-EARLY", facts=facts) if today < start else None


def lapse(prescription: Prescription, line: Line, today: date) -> int:
    """FR-S2: what more of a line lapses by being presented today, in millionths.

    A later presentation adds only the further lapse: what has lapsed since the last supply that stands counts.
    """
    if not regime_of_line(line).is_narcotic or not line.per_day:
        return 0
    entries = prescription.entries_of(line.number)
    start = _counted_from(line, prescription.group.authored_on, line.per_day, standing(entries))
    late = math.ceil(late_days(start, today) * line.per_day * MILLIONTHS)
    return max(0, min(late - lapsed(entries), line.remaining_fill))


def lapsed(entries: Sequence[LedgerEntry]) -> int:
    """What has lapsed since the last supply that stands, in millionths."""
    last = max((each.number for each in standing(entries)), default=0)
    return sum(each.quantity for each in entries if each.kind == "lapse" and each.number > last)


# --- supplying: FR-V5, FR-S2 ---------------------------------------------------------------------------------------


def longest_supply(kinds: Iterable[str], pack_days: Fraction | None, on: date, *, is_pack_known: bool = True) -> int:
    """FR-V5: the days that one supply covers at most; `pack_days` are those of one pack, None without packs."""
    law = rules()["supply"]
    by_kind = [law["days_by_kind"][each] for each in kinds if each in law["days_by_kind"]]
    if by_kind:
        return int(max(by_kind))
    if pack_days is None:
        return int(law["days"] if is_pack_known else law["days_if_pack_unknown"])
    if pack_days <= law["days_by_pack"]:
        return int(law["days_by_pack"])
    return (plus_months(on, law["months_by_large_pack"]) - on).days


def supply_breach(
    prescription: Prescription,
    line: Line,
    *,
    quantity: int,
    packs: Sequence[int] | None,
    today: date,
    early_days: int,
) -> Breach | None:
    """FR-V5 and FR-S2: a supply for too many days, alone or with what the patient has left of the last one.

    `packs` are the units of the packs that are supplied, None when they are not known. What cannot be split, one
    smallest pack or one unit, and what the prescribed days need in whole packs, is never too much. A line without units
    per day cannot be measured, and is not.
    """
    per_day, regime = line.per_day, regime_of_line(line)
    if not per_day:
        return None
    supplies = prescription.supplies_of(line.number)
    left = _days_left(supplies, per_day, today)
    days = Fraction(quantity, MILLIONTHS) / per_day
    fraction = _fraction_days(prescription, line, regime)
    if fraction is not None and not _fits(days, left, Fraction(fraction), early_days_of(regime, early_days)):
        return _too_much(rules()["presentation"]["rule"], fraction, fraction * per_day)
    longest = _longest(regime, per_day, quantity, packs, today)
    is_short = line.fill_days is not None and line.fill_days <= longest
    needed = Fraction(line.per_fill if is_short else 0, MILLIONTHS)
    most = max(longest * per_day, needed, Fraction(min(packs or (1,))))
    return (
        None if _fits(days, left, most / per_day, early_days) else _too_much(rules()["supply"]["rule"], longest, most)
    )


def early_days_of(regime: Regime, early_days: int) -> int:
    """How many days before a supply is used up the next may follow."""
    return int(rules()["presentation"]["early_days_of_fraction"]) if regime.is_narcotic else early_days


def _fits(days: Fraction, left: int, longest: Fraction, early_days: int) -> bool:
    return days <= longest and (left + days <= longest or left <= early_days)


def _too_much(rule: str, days: int, units: Fraction) -> Breach:
    facts = {"rule": rule, "maximumDays": days, "maximum": f"{decimal_of(math.floor(units * MILLIONTHS)):f}"}
    return Breach(code="RX-MAX-SUPPLY", facts=facts)


def _longest(regime: Regime, per_day: Fraction, quantity: int, packs: Sequence[int] | None, today: date) -> int:
    if packs is None:
        return longest_supply(regime.kinds, None, today, is_pack_known=False)
    month: int = rules()["supply"]["days_by_pack"]
    supplied = [units / per_day for units in packs if units / per_day <= month or quantity % (units * MILLIONTHS) == 0]
    return max(longest_supply(regime.kinds, each, today) for each in (None, *supplied))


def _days_left(supplies: Sequence[LedgerEntry], per_day: Fraction, today: date) -> int:
    if not supplies:
        return 0
    return max(0, (covered_until([(each.on, each.quantity) for each in supplies], per_day) - today).days)


def _fraction_days(prescription: Prescription, line: Line, regime: Regime) -> int | None:
    """The days of one fraction; of one that is presented late, those that remain of it.

    It is presented on the day of the claim that leads to the supply.
    """
    if regime.fraction_days is None or not line.per_day:
        return None
    presented_on = paris_day(datetime.fromtimestamp(line.claimed_at / 1000, UTC))
    supplies = prescription.supplies_of(line.number)
    start = _counted_from(line, prescription.group.authored_on, line.per_day, supplies)
    return regime.fraction_days - late_days(start, presented_on) % regime.fraction_days
