"""Numbers, quantities and dates of prescriptions against the contract's vectors (`vectors.json`).

Those of the ledger run in `test_prescription_service.py`, those of the French rules in `test_prescription_rules.py`.
"""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.errors import Invalid
from passerelle.prescriptions.numbers import (
    check_character,
    digest,
    is_well_formed,
    new_number,
    new_secret,
    number_of,
    opens,
)
from passerelle.prescriptions.quantities import (
    MILLIONTHS,
    Dose,
    authorised,
    covered_until,
    decimal_of,
    exact,
    exact_dose,
    fill_units,
    millionths,
    next_allowed,
    units_per_day,
)
from passerelle.prescriptions.validity import paris_day
from tests.prescribing import EXAMPLES

VECTORS = json.loads((EXAMPLES / "vectors.json").read_text("utf-8"))["vectors"]
OF_LAW = {"FR-V1", "FR-V2", "FR-V3", "FR-V4", "FR-V5", "FR-V6", "FR-S1", "FR-S2", "FR-S3", "FR-S4"}


def of(rule: str) -> pytest.MarkDecorator:
    chosen = [each for each in VECTORS if each["rule"] == rule]
    return pytest.mark.parametrize("vector", chosen, ids=[each["id"] for each in chosen])


def test_every_vector_has_a_test() -> None:
    tested = {"QA-SNAP", "QA-PRECISION", "QA-FILL", "QA-TOTAL", "QA-NEXT", "QA-LEDGER", "ID-CHECK"}
    tested |= {"TZ", "TZ-DAYS"}
    assert {each["rule"] for each in VECTORS} == tested | OF_LAW


@of("QA-SNAP")
def test_doses_are_exact(vector: dict[str, Any]) -> None:
    assert exact_dose(Decimal(vector["input"]["dose"])) == Fraction(vector["expected"]["exact"])


@of("QA-PRECISION")
def test_seven_decimals_are_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as refused:
        exact_dose(Decimal(vector["input"]["dose"]))
    assert refused.value.issues[0].details is not None
    assert refused.value.issues[0].details.code == vector["expected"]["error"]


@of("QA-FILL")
def test_fill(vector: dict[str, Any]) -> None:
    given, expected = vector["input"], vector["expected"]
    doses = [
        Dose(
            dose=exact_dose(Decimal(d["dose"])),
            times=Fraction(d["times"]),
            period_days=Fraction(d["periodDays"]),
        )
        for d in given.get("dosage", [])
    ]
    maximum = Fraction(given["maxUnitsPerDay"]) if "maxUnitsPerDay" in given else None
    quantity = exact(Decimal(given["quantity"])) if "quantity" in given else None
    per_day = units_per_day(doses) or maximum
    if "error" in expected:
        with pytest.raises(Invalid):
            fill_units(per_day, Fraction(given["durationDays"]), quantity)
        return
    units = fill_units(per_day, Fraction(given["durationDays"]), quantity)
    assert units == Fraction(expected["fillUnits"])
    amount = authorised(units, 0, given.get("unitsPerPack"))
    if "packs" in expected:
        assert amount.per_fill == expected["authorisedUnits"] * MILLIONTHS
        assert amount.per_fill == expected["packs"] * given["unitsPerPack"] * MILLIONTHS
    else:
        assert 0 <= Fraction(amount.per_fill, MILLIONTHS) - units < Fraction(1, MILLIONTHS)


@of("QA-TOTAL")
def test_total(vector: dict[str, Any]) -> None:
    given, expected = vector["input"], vector["expected"]
    pack = given["unitsPerPack"] * MILLIONTHS
    amount = authorised(Fraction(given["fillUnits"]), given["repeats"], given["unitsPerPack"])
    assert amount.fills == expected["fills"]
    assert amount.total == expected["totalPacks"] * pack
    fills = range(1, amount.fills + 1)
    assert [amount.of_fill(number) // pack for number in fills] == expected["packsPerFill"]
    assert amount.fills_opened == expected["fillsOpened"]


@of("QA-NEXT")
def test_next_fill(vector: dict[str, Any]) -> None:
    given, expected = vector["input"], vector["expected"]
    handed = [(date.fromisoformat(h["on"]), millionths(Decimal(h["units"]))) for h in given["handedOver"]]
    per_day = Fraction(given["unitsPerDay"])
    assert covered_until(handed, per_day).isoformat() == expected["coveredUntil"]
    allowed = next_allowed(handed, per_day, given["earlyDays"])
    assert allowed.isoformat() == expected["nextAllowed"]
    assert (allowed - handed[0][0]).days == expected["dayOffset"] != expected.get("notDayOffset")


@of("ID-CHECK")
def test_number(vector: dict[str, Any]) -> None:
    given, expected = vector["input"], vector["expected"]
    if "body" in given:
        assert check_character(given["body"]) == expected["check"]
        assert number_of(given["body"]) == expected["number"]
    else:
        assert is_well_formed(given["number"]) is expected["wellFormed"]


@of("TZ")
def test_paris_day(vector: dict[str, Any]) -> None:
    instant = datetime.fromisoformat(vector["input"]["instant"])
    assert paris_day(instant).isoformat() == vector["expected"]["parisDate"]


@of("TZ-DAYS")
def test_days_are_calendar_days(vector: dict[str, Any]) -> None:
    day = date.fromisoformat(vector["input"]["date"])
    after = vector["input"]["plusDays"]
    handed_over = [(day, after * MILLIONTHS)]
    assert covered_until(handed_over, Fraction(1)).isoformat() == vector["expected"]["date"]


def test_new_numbers_are_well_formed_and_differ() -> None:
    made = {new_number() for _ in range(200)}
    assert len(made) == 200
    assert all(map(is_well_formed, made))


@given(st.text(alphabet="0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=19, max_size=19), st.data())
def test_a_wrong_character_is_noticed(body: str, data: st.DataObject) -> None:
    number = number_of(body)
    if number is None:
        return
    place = data.draw(st.integers(0, 18))
    other = data.draw(st.sampled_from("0123456789ABCDEFGHJKMNPQRSTVWXYZ"))
    changed = number[:place] + other + number[place + 1 :]
    assert is_well_formed(changed) is (changed == number)


def test_secrets_have_256_bits_and_only_they_open() -> None:
    secret = new_secret()
    assert len(secret) == 52
    assert opens(secret, digest(secret))
    assert not opens(new_secret(), digest(secret))
    assert not opens(None, digest(secret))
    assert not opens(secret, None)
    assert not opens("", digest(""))
    assert not opens(None, None)


@given(st.integers(0, 10**15))
def test_amounts_print_without_a_change(amount: int) -> None:
    shown = decimal_of(amount)
    assert millionths(shown) == amount
    assert "E" not in str(f"{shown:f}")


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 500)), min_size=1, max_size=6))
def test_coverage_never_ends_before_the_last_hand_over_nor_double_counts(
    handed: list[tuple[int, int]],
) -> None:
    start = date(2026, 1, 1)
    days = sorted(handed)
    supplies = [(start + timedelta(days=day), units * MILLIONTHS) for day, units in days]
    until = covered_until(supplies, Fraction(1))
    assert until >= supplies[-1][0] + timedelta(days=days[-1][1])
    assert until <= supplies[-1][0] + timedelta(days=sum(units for _, units in days))
