"""Dosages in FHIR: how much a day, over how long, in which unit; or that nobody can tell.

Forms of the French guide's examples (HAS), of FHIR's own, and those where two readings are possible.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from passerelle.fhir import json as fhir_json
from passerelle.fhir.prescriptions import orders
from passerelle.prescriptions.lines import drafted
from passerelle.prescriptions.model import Line
from passerelle.prescriptions.quantities import MILLIONTHS
from tests.prescribing import bundle, code_of, medication_request, refused

PATIENT = "7q2k9c4m1xw8z0ab"
DAILY = {"frequency": 1, "period": 1, "periodUnit": "d"}


def line_of(*dosages: dict[str, Any], **supply: Any) -> Line:
    request = medication_request(PATIENT, dosageInstruction=dosages, dispenseRequest=supply or None)
    order = orders.parse_order(fhir_json.loads(fhir_json.dumps(bundle(request))))
    return drafted(1, order.lines[0], "request")


def units(line: Line) -> Fraction:
    return Fraction(line.total, MILLIONTHS)


def facts(*values: object) -> tuple[object, ...]:
    """Fractions compare with whole numbers."""
    return values


def dosage(repeat: dict[str, Any] | None, dose: Any = 1, unit: str = "comprimé", **more: Any) -> dict[str, Any]:
    made = {"doseAndRate": [{"doseQuantity": {"value": dose, "unit": unit}}], **more}
    return {**made, "timing": {"repeat": repeat}} if repeat else made


def measure(value: Any, code: str = "d") -> dict[str, Any]:
    return {"value": value, "system": "http://unitsofmeasure.org", "code": code}


def during(value: Any, code: str = "d") -> dict[str, Any]:
    return {**DAILY, "boundsDuration": measure(value, code)}


@pytest.mark.parametrize(
    ("repeat", "per_day"),
    [
        ({"frequency": 3, "period": 1, "periodUnit": "d"}, Fraction(3)),
        ({"frequency": 1, "period": 8, "periodUnit": "h"}, Fraction(3)),
        ({"period": 6, "periodUnit": "h"}, Fraction(4)),  # no frequency is once, says FHIR
        ({"frequency": 1, "period": 2, "periodUnit": "d"}, Fraction(1, 2)),
        ({"frequency": 2, "period": 1, "periodUnit": "wk"}, Fraction(2, 7)),
        ({"frequency": 1, "period": 1, "periodUnit": "mo"}, Fraction(1, 30)),
        ({"frequency": 1, "frequencyMax": 4, "period": 1, "periodUnit": "d"}, Fraction(4)),
        ({"frequency": 1, "period": 72, "periodUnit": "h", "duration": 72, "durationUnit": "h"}, Fraction(1, 3)),
        ({"when": ["MORN", "EVE"]}, Fraction(2)),
        ({"when": ["ACM", "ACV"], "offset": 60}, Fraction(2)),
        ({"frequency": 3, "period": 1, "periodUnit": "d", "when": ["AC"]}, Fraction(3)),
        ({"timeOfDay": ["08:00:00", "14:00:00", "20:00:00"]}, Fraction(3)),
        ({"frequency": 1, "period": 3, "periodUnit": "d", "timeOfDay": ["07:00:00"]}, Fraction(1, 3)),
        ({"frequency": 1, "period": 1, "periodUnit": "wk", "dayOfWeek": ["tue"]}, Fraction(1, 7)),
        ({"frequency": 1, "period": 1, "periodUnit": "d", "dayOfWeek": ["mon", "fri"]}, Fraction(2, 7)),
        ({"dayOfWeek": ["tue", "fri"], "timeOfDay": ["08:00:00", "18:00:00"]}, Fraction(4, 7)),
        ({"dayOfWeek": ["sat"]}, Fraction(1, 7)),
    ],
)
def test_units_a_day(repeat: dict[str, Any], per_day: Fraction) -> None:
    line = line_of(dosage(repeat), expectedSupplyDuration=measure(210))
    assert line.per_day == per_day
    assert units(line) == 210 * per_day


@pytest.mark.parametrize(
    "repeat",
    [
        None,
        {"boundsDuration": {"value": 7, "unit": "d"}},
        {"frequency": 1, "period": 0, "periodUnit": "d"},
        {"when": ["C"]},  # how many meals?
        {"frequency": 2, "period": 1, "periodUnit": "d", "when": ["MORN"]},  # two, or one?
        {"frequency": 1, "period": 12, "periodUnit": "h", "timeOfDay": ["10:00:00"]},
        {"frequency": 1, "period": 1, "periodUnit": "wk", "dayOfWeek": ["mon", "thu"]},
        {"frequency": 1, "period": 2, "periodUnit": "d", "dayOfWeek": ["mon"]},
        {"period": 4, "periodMax": 6, "periodUnit": "h", "when": ["MORN", "EVE"]},
    ],
)
def test_what_does_not_tell_needs_a_quantity(repeat: dict[str, Any] | None) -> None:
    told = {"expectedSupplyDuration": measure(30)}
    error = refused(line_of, dosage(repeat), **told)
    assert (error.status, code_of(error), error.issues[0].code) == (400, "RX-INVALID", "required")
    assert error.issues[0].expression == "Bundle.entry[0].resource.dispenseRequest.quantity"
    line = line_of(dosage(repeat), **told, quantity={"value": 28, "unit": "comprimé"})
    assert facts(units(line), line.unit) == (28, "comprimé")


@pytest.mark.parametrize("code", ["QD", "BID", "Q8H", "WK"])
def test_the_usual_abbreviations_tell(code: str) -> None:
    times = {"QD": Fraction(1), "BID": Fraction(2), "Q8H": Fraction(3), "WK": Fraction(1, 7)}[code]
    line = line_of(
        {**dosage(None), "timing": {"code": {"coding": [{"code": code}]}}}, expectedSupplyDuration=measure(28)
    )
    assert line.per_day == times


@pytest.mark.parametrize(
    ("bounds", "length"),
    [
        ({"boundsDuration": measure(10)}, 10),
        ({"boundsDuration": measure(2, "wk")}, 14),
        ({"boundsDuration": measure(3, "mo")}, 90),
        ({"boundsRange": {"low": measure(5), "high": measure(7)}}, 7),
        ({"boundsPeriod": {"start": "2026-03-02", "end": "2026-03-06"}}, 5),
        ({"boundsPeriod": {"start": "2026-03-02T14:08:00Z", "end": "2026-03-07T14:07:59Z"}}, 5),
        # 2 days and 11 hours are 3 days of treatment; the clocks of a night in March go forward
        ({"boundsPeriod": {"start": "2026-03-27T07:00:00+01:00", "end": "2026-03-29T18:00:00+02:00"}}, 3),
        ({"count": 14}, 14),
        ({"count": 14, "countMax": 21}, 21),
        ({"count": 3, "boundsDuration": measure(10)}, 3),
    ],
)
def test_the_dosage_can_tell_how_long(bounds: dict[str, Any], length: int) -> None:
    line = line_of(dosage({**DAILY, **bounds}))
    assert facts(line.course_days, line.duration_days, units(line)) == (length, length, length)
    assert line_of(dosage({**DAILY, **bounds}), expectedSupplyDuration=measure(365)).duration_days == length


def test_doses_at_the_same_time_add_up() -> None:
    """HAS 20: 20 mg at 8, 10 mg at 12; HAS 23: half a tablet and three quarters, every other day."""
    line = line_of(
        dosage({"timeOfDay": ["08:00:00"]}, 20, "mg"),
        dosage({"timeOfDay": ["12:00:00"]}, Decimal("0.01"), "g"),
        expectedSupplyDuration=measure(30),
    )
    assert facts(line.per_day, line.unit, units(line)) == (30, "mg", 900)
    every_other = {"frequency": 1, "period": 2, "periodUnit": "d", "boundsDuration": measure(1, "mo")}
    line = line_of(dosage(every_other, Decimal("0.5")), dosage(every_other, Decimal("0.75")))
    assert (line.per_day, units(line)) == (Fraction(5, 8), Fraction("18.75"))


def test_doses_that_fall_follow_each_other() -> None:
    """A course of 6, 4, then 2 mg: 24 mg over 6 days, 20 of them in the first 4."""
    falling = [dosage(during(2), dose, "mg", sequence=place) for place, dose in enumerate((6, 4, 2), 1)]
    line = line_of(*falling)
    assert facts(units(line), line.per_day, line.course_days) == (24, 4, 6)
    assert units(line_of(*falling, expectedSupplyDuration=measure(4))) == 20
    assert units(line_of(*reversed(falling), expectedSupplyDuration=measure(4))) == 20


def test_a_dose_without_an_end_is_followed_by_nothing_that_can_be_counted() -> None:
    """HAS 22 and 28: "until ...", then something else."""
    line = [dosage(DAILY, sequence=1), dosage(during(10), sequence=2)]
    assert code_of(refused(line_of, *line)) == "RX-INVALID"
    assert units(line_of(*line, quantity={"value": 12, "unit": "comprimé"})) == 12
    bounded_first = [dosage(during(10), 2, sequence=1), dosage(DAILY, sequence=2)]
    assert units(line_of(*bounded_first, expectedSupplyDuration=measure(30))) == 40


def test_periods_tell_when_sequences_run() -> None:
    first, then = ({"start": "2026-03-02", "end": "2026-03-08"}, {"start": "2026-03-05", "end": "2026-03-11"})
    line = line_of(
        dosage({**DAILY, "boundsPeriod": first}, sequence=1), dosage({**DAILY, "boundsPeriod": then}, 2, sequence=2)
    )
    assert facts(units(line), line.course_days) == (21, 10)


def test_as_needed_counts_by_its_maximum() -> None:
    limit = {"numerator": {"value": 4, "unit": "comprimé"}, "denominator": {"value": 24, "unit": "h"}}
    told = {"expectedSupplyDuration": measure(10)}
    line = line_of(dosage(None, asNeededBoolean=True, maxDosePerPeriod=limit), **told)
    assert facts(line.per_day, units(line)) == (4, 40)
    mixed = line_of(dosage(DAILY), dosage(None, asNeededCodeableConcept={"text": "x"}, maxDosePerPeriod=limit), **told)
    assert mixed.per_day == 5
    assert code_of(refused(line_of, dosage(DAILY, asNeededBoolean=True), **told)) == "RX-INVALID"


def test_a_maximum_limits_what_is_taken_anyway() -> None:
    limit = {"numerator": measure(3, "g"), "denominator": measure(1)}
    every_four_hours = {"frequency": 1, "period": 4, "periodUnit": "h"}
    told = {"expectedSupplyDuration": measure(10)}
    assert units(line_of(dosage(every_four_hours, 1000, "mg", maxDosePerPeriod=limit), **told)) == 30_000


def test_a_maximum_below_a_single_dose_is_a_mistake() -> None:
    """The guide's own: at most 4 mg a day, 1000 mg each time."""
    limit = {"numerator": measure(4, "mg"), "denominator": measure(1)}
    error = refused(line_of, dosage(DAILY, 1000, "mg", asNeededBoolean=True, maxDosePerPeriod=limit))
    assert error.issues[0].expression == "Bundle.entry[0].resource.dosageInstruction[0]"


def test_the_ordered_form_of_a_dose_counts() -> None:
    forms = [
        {"type": {"coding": [{"code": "calculated"}]}, "doseQuantity": measure(1000, "mg/m2")},
        {"type": {"coding": [{"code": "ordered"}]}, "doseQuantity": measure(1800, "mg")},
    ]
    line = line_of({"doseAndRate": forms, "timing": {"repeat": {"when": ["MORN"], "boundsDuration": measure(14)}}})
    assert facts(units(line), line.unit) == (25_200, "mg")


def test_a_rate_counts_over_its_time() -> None:
    rate = {"numerator": measure(5, "mg"), "denominator": measure(1, "h")}
    repeat = {**during(3), "duration": 90, "durationUnit": "min"}
    assert units(line_of({"doseAndRate": [{"rateRatio": rate}], "timing": {"repeat": repeat}})) == Fraction("22.5")
    assert refused(line_of, {"doseAndRate": [{"rateRatio": rate}], "timing": {"repeat": during(3)}}).status == 400


@pytest.mark.parametrize("unit", ["mg/kg", "application", "goutte", "[drp]", "dose pour 7 kg"])
def test_a_unit_that_nobody_supplies_needs_a_quantity(unit: str) -> None:
    assert code_of(refused(line_of, dosage(during(10), 2, unit))) == "RX-INVALID"
    line = line_of(dosage(during(10), 2, unit), quantity={"value": 1, "unit": "tube"})
    assert facts(line.unit, units(line), line.per_day) == ("tube", 1, Fraction(1, 10))


def test_a_quantity_in_another_unit_says_nothing_of_the_doses() -> None:
    """28 tablets at 40 mg a day last as long as the prescriber says, not 28/40 of a day."""
    line = line_of(
        dosage(DAILY, 40, "mg"), quantity={"value": 28, "unit": "comprimé"}, expectedSupplyDuration=measure(28)
    )
    assert line.per_day == 1


def test_repeats_are_of_one_size() -> None:
    changing = [dosage(during(10), dose, sequence=place) for place, dose in enumerate((2, 1), 1)]
    told = {"expectedSupplyDuration": measure(10), "numberOfRepeatsAllowed": 1}
    assert code_of(refused(line_of, *changing, **told)) == "RX-INVALID"
    assert line_of(*changing, **told, quantity={"value": 15, "unit": "comprimé"}).fills == 2
    ending = dosage(during(15))
    assert code_of(refused(line_of, ending, **told)) == "RX-INVALID"
    assert units(line_of(dosage(during(20)), **told)) == 20


@pytest.mark.parametrize(
    "repeat",
    [
        {**DAILY, "boundsPeriod": {"start": "2026-03-02", "end": "2026"}},
        {**DAILY, "boundsPeriod": {"start": "0001-01-01T00:00:00+14:00", "end": "2026-03-02"}},
        {**DAILY, "boundsPeriod": {"start": "1800-01-01", "end": "2026-03-02"}},
        {**DAILY, "boundsDuration": measure(2000, "a")},
        {**DAILY, "count": 1_000_000},
    ],
)
def test_times_without_measure_are_refused(repeat: dict[str, Any]) -> None:
    error = refused(line_of, dosage(repeat))
    assert (error.status, code_of(error)) == (400, "RX-INVALID")
    assert str(error.issues[0].expression).startswith("Bundle.entry[0].resource.dosageInstruction[0]")
