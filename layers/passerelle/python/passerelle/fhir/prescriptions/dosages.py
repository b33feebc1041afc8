"""How much is taken: FHIR Dosage as doses per day, exactly or not at all.

FHIR R4 Dosage and Timing; e-prescription contract, section 10 (QA-SNAP, QA-FILL). What the FHIR rules leave open, or
what contradicts itself, is no amount: then the prescriber states a quantity. The higher end of a range counts, as it
may be taken. Dosages of one sequence, or of none, run at the same time; sequences follow each other, unless periods
say when.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from passerelle.fhir.prescriptions.faults import located
from passerelle.prescriptions.errors import rx
from passerelle.prescriptions.quantities import Dose, exact, exact_dose

Json = Mapping[str, Any]

# A month of treatment is thirty days, as in CSP R5132-12.
_DAYS = {
    "s": Fraction(1, 86_400),
    "min": Fraction(1, 1440),
    "h": Fraction(1, 24),
    "d": Fraction(1),
    "wk": Fraction(7),
    "mo": Fraction(30),
    "a": Fraction(365),
}
_MAX_DAYS = 36_525
_PARIS = ZoneInfo("Europe/Paris")
_SCALES = (  # UCUM units that are multiples of each other
    {"kg": 10**9, "g": 10**6, "mg": 10**3, "ug": 1},
    {"L": 10**6, "dL": 10**5, "cL": 10**4, "mL": 10**3, "uL": 1},
)
_ABBREVIATIONS = {  # of Timing.code: times a day
    "BID": Fraction(2),
    "TID": Fraction(3),
    "QID": Fraction(4),
    "AM": Fraction(1),
    "PM": Fraction(1),
    "BED": Fraction(1),
    "QD": Fraction(1),
    "QOD": Fraction(1, 2),
    "Q1H": Fraction(24),
    "Q2H": Fraction(12),
    "Q3H": Fraction(8),
    "Q4H": Fraction(6),
    "Q6H": Fraction(4),
    "Q8H": Fraction(3),
    "WK": Fraction(1, 7),
    "MO": Fraction(1, 30),
}
_ANY_MEAL = {"C", "AC", "PC"}  # which meals, they do not say
# How the units begin in which medicines are taken and nobody supplies them.
_TAKEN_ONLY: tuple[str, ...] = ("appl", "[drp]", "goutte", "drop", "{puff}", "puff", "bouffée", "pulvérisation")
_TAKEN_ONLY += ("inhalation", "instillation", "cuill", "[tsp", "[tbs", "dose", "{dose}")
_STATED = {"frequency", "frequencyMax", "period", "periodUnit"}


def unit(quantity: Json) -> str:
    return str(quantity.get("code", quantity.get("unit", "")))


def days_of(duration: Json) -> Fraction | None:
    """A UCUM duration in days; None for what is none."""
    scale = _DAYS.get(unit(duration))
    if not scale or "value" not in duration:
        return None
    return _within_a_century(exact(Decimal(duration["value"])) * scale)


def _within_a_century(days: Fraction) -> Fraction:
    if days > _MAX_DAYS:
        raise rx("RX-INVALID", "a duration is at most a century", issue="value")
    return days


@dataclass(frozen=True, slots=True, kw_only=True)
class Regimen:
    """What the dosages of a line come to: the unit they count in, doses in that unit, the days after which all ended.

    There are no doses where the dosages do not tell an amount for every day.
    """

    unit: str
    doses: tuple[Dose, ...] = ()
    course: Fraction | None = None


def regimen_of(dosages: Sequence[Json], quantity: Json, where: str) -> Regimen:
    """Counted in the unit of the quantity, if there is one; raises RX-INVALID for what cannot be meant."""
    counted = unit(quantity or next(filter(None, map(_counted, dosages)), {}))
    phases = []
    for place, dosage in enumerate(dosages):
        with located(f"{where}[{place}]"):
            phases.append(_phase(dosage, counted))
    begins = _begins(phases)
    ends = [first + each.days for first, each in zip(begins, phases, strict=False) if each.days is not None]
    doses = [replace(each.dose, first_day=first) for first, each in zip(begins, phases, strict=False) if each.dose]
    is_told = len(doses) == len(phases) and (quantity or not _is_taken_only(counted))
    return Regimen(
        unit=counted,
        doses=tuple(doses) if is_told else (),
        course=max(ends) if len(ends) == len(phases) else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Phase:
    sequence: int
    starts_at: datetime | None
    days: Fraction | None
    dose: Dose | None


def _phase(dosage: Json, counted: str) -> _Phase:
    repeat = dosage.get("timing", {}).get("repeat", {})
    times = _times_per_day(dosage.get("timing", {}))
    ends = [_bounds(repeat), _counted_days(repeat, times)]
    days = min((each for each in ends if each is not None), default=None)
    dose = _dose(dosage, counted, times)
    return _Phase(
        sequence=dosage.get("sequence", 0),
        starts_at=_start(repeat),
        days=days,
        dose=replace(dose, days=days) if dose else None,
    )


def _begins(phases: Sequence[_Phase]) -> list[Fraction]:
    """On which day of the treatment each phase begins: by their periods, or else one sequence after the other.

    Fewer than there are phases where nothing says when one ends.
    """
    starts = [each.starts_at for each in phases if each.starts_at]
    if len(starts) == len(phases):
        first = min(starts).date()
        return [Fraction((start.date() - first).days) for start in starts]
    days: dict[int, Fraction] = {}
    begins: Fraction | None = Fraction()
    for sequence in sorted({each.sequence for each in phases}):
        if begins is None:
            return []
        days[sequence] = begins
        lengths = [each.days for each in phases if each.sequence == sequence]
        begins = begins + max(each for each in lengths if each is not None) if None not in lengths else None
    return [days[each.sequence] for each in phases]


def _is_taken_only(counted: str) -> bool:
    return counted.lower().startswith(_TAKEN_ONLY) or "/" in counted


def _counted(dosage: Json) -> Json:
    """The quantity that names the unit of a dosage."""
    found: Json = _amount(dosage) or dosage.get("maxDosePerPeriod", {}).get("numerator", {})
    return found


def _dose(dosage: Json, counted: str, times: Fraction | None) -> Dose | None:
    single = _in_unit(_amount(dosage), counted, exact_dose)
    most = _maximum(dosage, counted)
    if single is not None and most is not None and most.dose < single and most.period_days >= 1:
        raise rx("RX-INVALID", "the maximum of a period is below a single dose", issue="value")
    if dosage.get("asNeededBoolean") or "asNeededCodeableConcept" in dosage:
        return most
    if single is None or not times:
        return None
    dose = Dose(dose=single, times=times, period_days=Fraction(1))
    return most if most is not None and most.units_per_day < dose.units_per_day else dose


def _amount(dosage: Json) -> Json:
    """The dose of one taking: the ordered one of several forms, the higher end of a range, a rate over its time."""
    forms: list[Json] = dosage.get("doseAndRate", [])
    ordered = [each for each in forms if any(_code(c) == "ordered" for c in each.get("type", {}).get("coding", []))]
    form: Json = next(iter(ordered or forms), {})
    found: Json = form.get("doseQuantity") or form.get("doseRange", {}).get("high") or {}
    return found or _infused(form.get("rateRatio", {}), dosage.get("timing", {}).get("repeat", {}))


def _infused(rate: Json, repeat: Json) -> Json:
    over = days_of({"value": repeat.get("duration", 0), "code": repeat.get("durationUnit", "")})
    per = days_of(rate.get("denominator", {}))
    amount = rate.get("numerator", {})
    if not over or not per or "value" not in amount:
        return {}
    total = exact(Decimal(amount["value"])) * over / per
    value = Decimal(total.numerator) / Decimal(total.denominator)
    return {**amount, "value": round(value, 6)}


def _maximum(dosage: Json, counted: str) -> Dose | None:
    limit = dosage.get("maxDosePerPeriod", {})
    days = days_of(limit.get("denominator", {}))
    amount = _in_unit(limit.get("numerator", {}), counted, exact)
    return Dose(dose=amount, times=Fraction(1), period_days=days) if amount and days else None


def _in_unit(quantity: Json, counted: str, read: Callable[[Decimal], Fraction]) -> Fraction | None:
    if "value" not in quantity:
        return None
    scale = _scale(unit(quantity), counted)
    return read(Decimal(quantity["value"])) * scale if scale is not None else None


def _scale(source: str, target: str) -> Fraction | None:
    if source == target:
        return Fraction(1)
    return next((Fraction(each[source], each[target]) for each in _SCALES if source in each and target in each), None)


def _times_per_day(timing: Json) -> Fraction | None:
    repeat: Json = timing.get("repeat", {})
    if "event" in timing or ("periodMax" in repeat and "period" not in repeat):
        return None
    moments = len(repeat.get("when", []) or repeat.get("timeOfDay", []))
    is_vague = bool(_ANY_MEAL & set(repeat.get("when", [])))
    weekdays = len(set(repeat.get("dayOfWeek", [])))
    if not (_STATED & repeat.keys() or moments or weekdays):
        codes = [_code(each) for each in timing.get("code", {}).get("coding", [])]
        return next((_ABBREVIATIONS[code] for code in codes if code in _ABBREVIATIONS), None)
    stated = repeat.get("frequencyMax", repeat.get("frequency"))
    named = 0 if is_vague else moments
    times = stated or named or 1
    if is_vague and not stated:
        return None
    period = exact(Decimal(repeat.get("period", 1))) * _DAYS[repeat.get("periodUnit", "d")]
    if not period:
        return None
    if weekdays:
        return _on_weekdays(times, named, weekdays, period, is_weekly=repeat.get("periodUnit") == "wk", stated=stated)
    per_day = Fraction(times) / period
    return per_day if not named or named == (times if period >= 1 else per_day) else None


def _on_weekdays(
    times: int, named: int, weekdays: int, period: Fraction, *, is_weekly: bool, stated: int | None
) -> Fraction | None:
    """Times a day on the average of the week. Of a weekly frequency, each day named has its share."""
    if not is_weekly:
        return Fraction(times * weekdays, 7) if period == 1 and named in (0, times) else None
    a_week = weekdays * (named or 1) if stated is None else stated
    is_whole = a_week >= weekdays and named in (0, a_week // weekdays)
    return Fraction(a_week) / period if is_whole else None


def _counted_days(repeat: Json, times: Fraction | None) -> Fraction | None:
    """How long a number of takings lasts."""
    count = repeat.get("countMax", repeat.get("count"))
    return _within_a_century(Fraction(count) / times) if count and times else None


def _bounds(repeat: Json) -> Fraction | None:
    """The days after which a dosage ends. A part of a day counts as one; a period includes its end."""
    period = repeat.get("boundsPeriod", {})
    if {"start", "end"} <= period.keys():
        length = _moment(period["end"]) - _moment(period["start"])
        length += timedelta(seconds=1) if "T" in period["end"] else timedelta(days=1)
        if length <= timedelta():
            raise rx("RX-INVALID", "the period ends before it starts", issue="value")
        return _within_a_century(Fraction(-(-length // timedelta(days=1))))
    return days_of(repeat.get("boundsDuration") or repeat.get("boundsRange", {}).get("high") or {})


def _start(repeat: Json) -> datetime | None:
    period = repeat.get("boundsPeriod", {})
    return _moment(period["start"]) if "start" in period else None


def _moment(text: str) -> datetime:
    """The time on a clock in Paris; of a day, its start."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(_PARIS).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        raise rx("RX-INVALID", "a full date is required", issue="value") from None


def _code(coding: Json) -> str:
    return str(coding.get("code", ""))
