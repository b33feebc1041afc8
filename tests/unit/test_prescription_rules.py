"""The French rules as pure functions: every vector of tier T2 of the contract (`vectors.json`), and their edges.

The undecided vectors under `pending` are no law: they are listed, with the side that is taken.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.medicines.model import Product
from passerelle.prescriptions import lines, regulation, scope, substitution, validity
from passerelle.prescriptions.model import LedgerEntry, Line, Mention, Prescription
from passerelle.prescriptions.quantities import MILLIONTHS
from passerelle.prescriptions.regulation import Regime, regime_of
from tests.prescribing import EXAMPLES, GROUP, LINE

_FILE = json.loads((EXAMPLES / "vectors.json").read_text("utf-8"))
CIS = "http://data.esante.gouv.fr/ansm/medicament/SpecialitePharmaceutique"
CIP = "http://data.esante.gouv.fr/ansm/medicament/Presentation"


def of(rule: str) -> pytest.MarkDecorator:
    chosen = [each for each in _FILE["vectors"] if each["rule"] == rule]
    assert chosen
    return pytest.mark.parametrize("vector", chosen, ids=[each["id"] for each in chosen])


def product(**facts: Any) -> Product:
    return Product(**{"code": f"{CIS}|60000011", "label": "ESSAI", "substances": ("essai",), **facts})


NARCOTIC = product(listing="stupefiant", is_secure=True, max_days=28)


def line_of(known: Product | None, *, days: str = "28", per_day: str = "1", fills: int = 1, **changes: Any) -> Line:
    """A line that is ordered for so many days, under the regime of its product."""
    units = Fraction(days) * Fraction(per_day)
    drawn = {"fill_units": str(units), "units_per_day": per_day, "fills": fills, "duration": days, **changes}
    draft = replace(LINE, **{"mentions": "in-words", "unit": "comprimé", **drawn})
    return lines.regulated(draft, regime_of(draft, known))


def in_force(line: Line, authored_on: date) -> Prescription:
    group = replace(GROUP, authored_on=authored_on)
    return Prescription(group=group, lines=(lines.activated(group, line, "R", regulation.regime_of_line(line)),))


def entry(number: int, on: date, units: int, kind: str = "supply") -> LedgerEntry:
    return LedgerEntry(
        line=1,
        number=number,
        fill_no=1,
        quantity=units * MILLIONTHS,
        on=on,
        at="",
        organisation="",
        dispense_id="",
        kind=kind,
    )


def day(text: str) -> date:
    return date.fromisoformat(text)


# --- vectors --------------------------------------------------------------------------------------------------------


@of("FR-V1")
def test_first_supply_of_listed_medicines(vector: dict[str, Any]) -> None:
    given_, expected = vector["input"], vector["expected"]
    held = in_force(line_of(product(listing="I"), days="30", fills=5), day(given_["authoredOn"]))
    supplies = [] if given_["firstSupply"] else [entry(1, day(given_["authoredOn"]), 30)]
    limit = validity.limit_of(held.lines[0], held.group.authored_on, supplies)
    assert (day(given_["presentedOn"]) < limit.on) is expected["allowed"]
    if "firstRefusedDay" in expected:
        assert (limit.rule, limit.on.isoformat()) == ("FR-V1", expected["firstRefusedDay"])


@of("FR-V2")
def test_first_supply_of_medicines_on_no_list(vector: dict[str, Any]) -> None:
    given_, expected = vector["input"], vector["expected"]
    held = in_force(line_of(product(listing=None)), day(given_["authoredOn"]))
    limit = validity.limit_of(held.lines[0], held.group.authored_on)
    assert (day(given_["presentedOn"]) < limit.on) is expected["allowed"]
    assert limit.rule in ("FR-V2", "FR-V3")  # both end after twelve months


@of("FR-V3")
def test_nothing_is_prescribed_for_more_than_a_year(vector: dict[str, Any]) -> None:
    given_, expected = vector["input"], vector["expected"]
    line = line_of(product(listing="II"), days=str(given_["totalDurationDays"]))
    assert broken(line, day(given_["authoredOn"])) == expected_of(expected)


@of("FR-V4")
def test_hypnotics_and_anxiolytics(vector: dict[str, Any]) -> None:
    given_, expected = vector["input"], vector["expected"]
    line = line_of(product(listing="I", kinds=(given_["kind"],)), days=str(given_["durationDays"]))
    assert broken(line, day("2026-02-01")) == expected_of(expected)


@of("FR-V5")
def test_one_supply(vector: dict[str, Any]) -> None:
    """`packDays` null is a medicine without packs; `packDays` 30 is supplied in packs of a month."""
    given_, expected = vector["input"], vector["expected"]
    kinds = () if given_["kind"] == "standard" else (given_["kind"],)
    pack = Fraction(given_["packDays"]) if given_["packDays"] else None
    longest = validity.longest_supply(kinds, pack, day("2026-03-02"))
    assert (given_["supplyDays"] <= longest, longest) == (expected["allowed"], expected["maximum"])


@of("FR-V6")
def test_repeats(vector: dict[str, Any]) -> None:
    mention = {None: None, "forbidden": 0}.get(vector["input"]["repeatMention"], vector["input"]["repeatMention"])
    repeats = regulation.repeats_of(vector["input"]["list"], mention)
    assert ("allowed" if repeats is None else repeats) == vector["expected"]["repeats"]


@of("FR-S1")
def test_narcotics_last_28_14_or_7_days(vector: dict[str, Any]) -> None:
    given_, expected = vector["input"], vector["expected"]
    known = replace(NARCOTIC, max_days=given_["maximumDays"])
    assert broken(line_of(known, days=str(given_["durationDays"])), day("2026-02-01")) == expected_of(expected)


@of("FR-S2")
def test_narcotics_that_are_presented_late(vector: dict[str, Any]) -> None:
    given_, expected = vector["input"], vector["expected"]
    held = in_force(line_of(NARCOTIC, days=str(given_["durationDays"]), per_day="2"), day(given_["authoredOn"]))
    line, presented_on = held.lines[0], day(given_["presentedOn"])
    if "error" in expected:
        assert line.expires_on is not None
        assert presented_on >= line.expires_on
        assert validity.limit_of(line, held.group.authored_on).rule == "FR-S2"
        return
    assert line.expires_on is not None
    assert presented_on < line.expires_on
    late = validity.lapse(held, line, presented_on)
    assert late == expected["deductDays"] * 2 * MILLIONTHS
    assert line.remaining_fill - late == expected["supplyDays"] * 2 * MILLIONTHS


@of("FR-S3")
def test_narcotics_do_not_overlap(vector: dict[str, Any]) -> None:
    given_, expected = vector["input"], vector["expected"]
    first = validity.Covered(
        number="other", authored_on=day(given_["first"]["authoredOn"]), days=Fraction(given_["first"]["durationDays"])
    )
    mentions = Mention.OVERLAP.value if given_["expressMention"] else ""
    line = line_of(NARCOTIC, mentions=mentions)
    covered = [first] if given_["samePrescriber"] else []
    breach = validity.overlap_breach(
        line, regulation.regime_of_line(line), day(given_["second"]["authoredOn"]), lambda: covered
    )
    assert (breach is None) is expected["allowed"]
    if breach is not None:
        assert (breach.code, dict(breach.facts)) == (expected["error"], {"rule": expected["ruleId"], "other": "other"})


@of("FR-S4")
def test_narcotics_for_planned_surgery(vector: dict[str, Any]) -> None:
    given_ = vector["input"]
    applies = validity.is_around_stay(day(given_["presentedOn"]), day(given_["plannedDischarge"]))
    assert applies is vector["expected"]["exceptionApplies"]


def broken(line: Line, authored_on: date) -> tuple[str, str] | None:
    breach = validity.duration_breach(line, regulation.regime_of_line(line), authored_on)
    return (breach.code, str(breach.facts["rule"])) if breach else None


def expected_of(expected: dict[str, Any]) -> tuple[str, str] | None:
    return None if expected["allowed"] else (expected["error"], expected["ruleId"])


# --- undecided: the side that is taken, not asserted to be law ------------------------------------------------------


def test_undecided_readings_are_listed_and_take_the_stricter_side() -> None:
    pending = {each["id"]: each["input"] for each in _FILE["pending"]}
    rules = regulation.rules()["rules"]
    assert {each["pending"] for each in rules.values() if "pending" in each} == set(pending)

    unlisted = in_force(line_of(product(listing=None)), day(pending["PEND-V2"]["authoredOn"]))
    assert unlisted.lines[0].expires_on == day(pending["PEND-V2"]["presentedOn"])  # the anniversary is refused

    fraction = pending["PEND-S2F"]
    held = in_force(line_of(replace(NARCOTIC, fraction_days=7)), day(fraction["firstFractionOn"]))
    held = replace(held, ledger=(entry(1, day(fraction["firstFractionOn"]), 7),))
    line = replace(held.lines[0], remaining_fill=21 * MILLIONTHS, remaining_total=21 * MILLIONTHS)
    assert validity.lapse(held, line, day("2026-02-10")) == 0
    assert validity.lapse(held, line, day(fraction["secondPresentedOn"])) == 4 * MILLIONTHS  # from the last covered day

    handed_over = day(pending["PEND-V5Q"]["handedOver"])
    assert validity.longest_supply((), Fraction(90), handed_over) == 89  # three calendar months


# --- prescribing ----------------------------------------------------------------------------------------------------


def test_unknown_products_need_the_statement_and_have_the_shortest_first_supply() -> None:
    line = line_of(None, is_declared_ordinary=True)
    assert regulation.gate_breach(line, regime_of(line, None)) is None
    for stated in (replace(line, is_declared_ordinary=False), replace(line, is_marked_secure=True)):
        breach = regulation.gate_breach(stated, regime_of(line, None))
        assert breach is not None
        assert breach.facts["rule"] == "FR-S1"
    held = in_force(line, day("2026-01-31"))
    assert held.lines[0].expires_on == day("2026-04-30")


def test_what_is_known_counts_more_than_what_is_stated() -> None:
    line = line_of(NARCOTIC, is_declared_ordinary=True)
    assert regulation.regime_of_line(line).is_narcotic
    marked = line_of(product(listing="I"), is_marked_secure=True)
    regime = regulation.regime_of_line(marked)
    assert (regime.is_secure, regime.is_narcotic) == (True, False)
    assert regulation.gate_breach(marked, regime) is None


def test_a_secure_medicine_of_twelve_weeks_is_no_narcotic() -> None:
    """Tramadol and codeine are on secure prescriptions for up to twelve weeks, and lose no days by coming late."""
    line = line_of(product(listing="I", is_secure=True, max_days=84), days="84")
    assert broken(line, day("2026-02-01")) is None
    assert validity.lapse(in_force(line, day("2026-02-01")), line, day("2026-02-20")) == 0
    assert broken(line_of(product(listing="I", is_secure=True, max_days=84), days="85"), day("2026-02-01")) is not None


def test_narcotics_are_never_repeated_and_written_in_words() -> None:
    assert broken(line_of(NARCOTIC, days="7", fills=2), day("2026-02-01")) == ("RX-VALIDITY", "FR-V6")
    assert broken(line_of(NARCOTIC, mentions=""), day("2026-02-01")) == ("RX-VALIDITY", "FR-S1")
    assert broken(line_of(product(listing="I"), mentions=""), day("2026-02-01")) is None


def test_a_duration_that_nobody_knows_is_too_long_for_what_is_limited() -> None:
    unknown: dict[str, Any] = {"units_per_day": None, "duration": None}
    assert broken(line_of(NARCOTIC, **unknown), day("2026-02-01")) == ("RX-VALIDITY", "FR-S1")
    assert broken(line_of(product(listing="II"), **unknown), day("2026-02-01")) is None


def test_an_amount_that_lasts_longer_than_the_days_that_are_stated_counts() -> None:
    line = line_of(product(listing="I", kinds=("hypnotic",)), duration="28", fill_units="60")
    assert broken(line, day("2026-02-01")) == ("RX-VALIDITY", "FR-V4")


def test_repeats_count_to_the_duration() -> None:
    hypnotic = product(listing="I", kinds=("hypnotic",))
    assert broken(line_of(hypnotic, days="14", fills=2), day("2026-02-01")) is None
    assert broken(line_of(hypnotic, days="14", fills=3), day("2026-02-01")) == ("RX-VALIDITY", "FR-V4")


def test_opioid_substitution_on_a_secure_prescription_names_a_pharmacy() -> None:
    known = replace(NARCOTIC, kinds=("opioid-substitution",))
    line = line_of(known)
    breach = regulation.pharmacy_breach(line, regulation.regime_of_line(line))
    assert breach is not None
    assert (breach.code, breach.facts["rule"]) == ("RX-PHARMACY-REQUIRED", "FR-S6")
    assert regulation.pharmacy_breach(replace(line, executor="s|1"), regulation.regime_of_line(line)) is None
    assert regulation.pharmacy_breach(line, regime_of(line, NARCOTIC)) is None


def test_forms() -> None:
    """FR-A1, and what a prescription of several kinds is written on."""
    ald, other = replace(LINE, mentions="ald"), replace(LINE, mentions="off-label")
    assert regulation.forms_of([ald, other]) == (("bi-zone", "urn:oid:1.2.250.1.213.1.1.4.322|MED-1096"),)
    assert regulation.forms_of([ald, ald]) == regulation.forms_of([other]) == ()
    exception = line_of(product(is_exception=True), mentions="ald")
    forms = regulation.forms_of([line_of(NARCOTIC), exception])
    assert [form for form, _ in forms] == ["secure", "exception", "bi-zone"]


def test_a_fill_is_counted_in_packs_but_for_narcotics() -> None:
    packs = ((f"{CIP}|1", 16), (f"{CIP}|2", 48))
    line = line_of(product(listing="I", packs=packs), days="30", per_day="3")
    assert line.per_fill == 96 * MILLIONTHS
    line = line_of(product(listing="I", packs=packs), days="30", per_day="3", codings=f"{CIS}|60000011\n{CIP}|2")
    assert line.per_fill == 96 * MILLIONTHS
    line = line_of(product(listing="I", packs=packs), days="30", per_day="3", fills=3)
    assert line.total == 17 * 16 * MILLIONTHS
    assert line_of(replace(NARCOTIC, packs=packs), days="7", per_day="3").per_fill == 21 * MILLIONTHS


@pytest.mark.parametrize("unit", ["mg", "boîte", "", "15054000"])
def test_units_that_packs_are_not_counted_in_stay_as_they_are(unit: str) -> None:
    known = product(listing="I", packs=((f"{CIP}|1", 16),))
    assert line_of(known, days="30", per_day="3", unit=unit).per_fill == 90 * MILLIONTHS
    assert line_of(known, days="30", per_day="3", unit="Comprimés").per_fill == 96 * MILLIONTHS


def test_a_regime_is_kept_as_text() -> None:
    regime = regime_of(LINE, replace(NARCOTIC, kinds=("a", "b"), packs=((f"{CIP}|1", 14),), fraction_days=7))
    assert Regime.from_json(regime.to_json()) == regime


# --- presenting -----------------------------------------------------------------------------------------------------


def test_a_later_claim_adds_only_the_further_lapse() -> None:
    held = in_force(line_of(NARCOTIC), day("2026-02-01"))
    line = held.lines[0]
    assert validity.lapse(held, line, day("2026-02-05")) == 4 * MILLIONTHS
    held = replace(held, ledger=(entry(1, day("2026-02-05"), 4, "lapse"),))
    line = lines.lapsed(line, 4 * MILLIONTHS)
    assert validity.lapse(held, line, day("2026-02-05")) == 0
    assert validity.lapse(held, line, day("2026-02-08")) == 3 * MILLIONTHS
    limit = validity.limit_of(line, held.group.authored_on, held.ledger)
    assert (limit.rule, limit.on) == ("FR-S2", day("2026-03-01"))  # what has lapsed does not move the end


def test_a_short_treatment_is_supplied_in_full_within_three_days() -> None:
    held = in_force(line_of(NARCOTIC, days="2"), day("2026-02-01"))
    assert held.lines[0].expires_on == day("2026-02-05")
    assert validity.lapse(held, held.lines[0], day("2026-02-04")) == 0


def test_surgery_counts_from_the_discharge() -> None:
    held = in_force(line_of(NARCOTIC, days="7", discharge_on=day("2026-06-10")), day("2026-05-20"))
    line = held.lines[0]
    assert validity.waiting_breach(line, day("2026-06-06")) is not None
    assert validity.waiting_breach(line, day("2026-06-07")) is None
    assert validity.lapse(held, line, day("2026-06-07")) == validity.lapse(held, line, day("2026-06-13")) == 0
    assert validity.lapse(held, line, day("2026-06-14")) == 4 * MILLIONTHS
    assert line.expires_on == day("2026-06-17")
    assert (
        validity.waiting_breach(line_of(product(listing="I"), discharge_on=day("2026-06-10")), day("2026-05-20"))
        is None
    )


def test_the_treatment_ends_after_its_days_and_within_the_year() -> None:
    held = in_force(line_of(product(listing="I"), days="30", fills=3), day("2026-03-02"))
    line, first = held.lines[0], entry(1, day("2026-03-10"), 30)
    assert validity.limit_of(line, held.group.authored_on, [first]).on == day("2026-06-08")
    late = entry(1, day("2026-05-30"), 30)
    whole_year = line_of(product(listing="I"), days="30", fills=12)
    assert validity.limit_of(whole_year, day("2026-03-02"), [late]).on == day("2027-03-02")


def test_a_stated_end_shortens_the_first_supply_only() -> None:
    line = line_of(product(listing="I"), days="365", valid_until=day("2026-03-31"))
    limit = validity.limit_of(line, day("2026-03-02"))
    assert (limit.rule, limit.on) == ("validityPeriod", day("2026-04-01"))
    assert validity.limit_of(replace(line, valid_until=day("2026-12-31")), day("2026-03-02")).on == day("2026-06-02")
    assert validity.limit_of(line, day("2026-03-02"), [entry(1, day("2026-03-02"), 30)]).on == day("2027-03-02")


def test_a_reversed_supply_opens_the_first_supply_again() -> None:
    held = in_force(line_of(product(listing="I"), days="30"), day("2026-03-02"))
    supply = entry(1, day("2026-03-02"), 30)
    reversal = replace(supply, number=2, kind="reversal", reverses=1)
    assert validity.limit_of(held.lines[0], held.group.authored_on, [supply, reversal]).rule == "FR-V1"


# --- supplying ------------------------------------------------------------------------------------------------------


def too_much(
    line: Line, units: int, packs: tuple[int, ...] | None, *ledger: LedgerEntry, on: str = "2026-03-02"
) -> bool:
    held = replace(in_force(line, day("2026-03-02")), ledger=ledger)
    claimed_at = int(datetime(2026, 3, 2, 9, tzinfo=UTC).timestamp() * 1000)
    return (
        validity.supply_breach(
            held,
            replace(held.lines[0], claimed_at=claimed_at),
            quantity=units * MILLIONTHS,
            packs=packs,
            today=day(on),
            early_days=3,
        )
        is not None
    )


@pytest.mark.parametrize(
    ("days", "per_day", "packs", "units", "expected"),
    [
        ("90", "1", (30,), 30, False),
        ("90", "1", (30,), 31, True),
        ("90", "1", (30,), 60, True),
        ("90", "1", None, 30, False),
        ("90", "1", None, 31, True),
        ("90", "1", (28,), 28, False),
        ("90", "1", (30, 90), 90, False),  # March to June has 92 days
        ("90", "1", (7,), 28, False),
        ("30", "3", (16,), 96, False),  # what a month needs in whole packs
        ("60", "3", (16,), 96, True),
        ("28", "1/2", (30,), 30, False),  # one pack, of two months
        ("365", "1/7", (100,), 100, False),  # one pack is not split
        ("91", "1/91", None, 1, False),  # nor one ampoule
    ],
)
def test_one_supply_by_pack(days: str, per_day: str, packs: tuple[int, ...] | None, units: int, expected: bool) -> None:
    known = product(listing="I", packs=tuple((f"{CIP}|{each}", each) for each in packs or ()))
    assert too_much(line_of(known, days=days, per_day=per_day), units, packs) is expected


def test_a_month_cannot_be_supplied_twice_on_one_day() -> None:
    line = line_of(product(listing="I", packs=((f"{CIP}|1", 30),)), days="90")
    assert not too_much(line, 15, (30,), entry(1, day("2026-03-02"), 15))
    assert too_much(line, 30, (30,), entry(1, day("2026-03-02"), 30))
    assert too_much(line, 30, (30,), entry(1, day("2026-03-02"), 30), on="2026-03-28")
    assert not too_much(line, 30, (30,), entry(1, day("2026-03-02"), 30), on="2026-03-29")  # three days early


def test_what_a_month_needs_in_packs_may_be_supplied_in_parts() -> None:
    line = line_of(product(listing="I", packs=((f"{CIP}|1", 16),)), days="30", per_day="3")
    assert not too_much(line, 48, (16,), entry(1, day("2026-03-02"), 48))
    assert too_much(line, 64, (16,), entry(1, day("2026-03-02"), 48))


def test_narcotics_are_supplied_in_fractions_unless_in_one_supply() -> None:
    known = replace(NARCOTIC, fraction_days=7)
    assert not too_much(line_of(known), 7, None)
    assert too_much(line_of(known), 8, None)
    assert not too_much(line_of(known, mentions="in-words single-supply"), 28, None)
    first = entry(1, day("2026-03-02"), 7)
    assert too_much(line_of(known), 7, None, first, on="2026-03-07")
    assert not too_much(line_of(known), 7, None, first, on="2026-03-08")


@given(units=st.integers(1, 400), days=st.integers(1, 360), pack=st.sampled_from([None, 7, 14, 28, 30, 84, 90]))
def test_a_smaller_supply_is_never_more_than_a_larger_one(units: int, days: int, pack: int | None) -> None:
    """Without large packs, which are supplied whole or not."""
    packs = (pack,) if pack and pack <= 30 else None
    line = line_of(product(listing="I", packs=tuple((f"{CIP}|1", each) for each in packs or ())), days=str(days))
    if not too_much(line, units, packs):
        assert not too_much(line, max(1, units - 1), packs)


# --- substitution ---------------------------------------------------------------------------------------------------


def refuses(code: str | None, *, known: Product | None = None, born: str | None = None, **changes: Any) -> bool:
    line = replace(LINE, is_substitutable=False, substitution_reason=code, **changes)
    born_on = day(born) if born else None
    return substitution.refusal_breach(line, regime_of(line, known), day("2026-03-02"), lambda: born_on) is not None


def test_substitution_is_forbidden_for_the_reasons_of_the_law_only() -> None:
    narrow = product(substances=("Lévothyroxine",))
    assert substitution.refusal_breach(LINE, regime_of(LINE, None), day("2026-03-02"), lambda: None) is None
    assert refuses(None)
    assert refuses("MTE-PH")
    assert refuses("other")
    assert not refuses("MTE", known=narrow, mentions="stabilised")
    assert refuses("MTE", known=narrow)
    assert refuses("MTE", known=product(), mentions="stabilised")
    assert refuses("MTE", known=None, mentions="stabilised")
    assert not refuses("EFG", born="2020-03-03")
    assert refuses("EFG", born="2020-03-02")
    assert refuses("EFG")
    assert not refuses("CIF", substitution_text="lactose")
    assert refuses("CIF")


GROUPED = product(listing="I", generic_group="1", generic_type=0)
GENERIC = product(code=f"{CIS}|60000012", generic_group="1", generic_type=1)


@pytest.mark.parametrize(
    ("prescribed", "changes", "codings", "supplied", "reason", "expected"),
    [
        (GROUPED, {}, ["s|61234567"], None, None, False),
        (GROUPED, {}, ["x"], replace(GROUPED, label="by another code"), None, False),
        (GROUPED, {}, ["x"], GENERIC, None, False),
        (GROUPED, {}, ["x"], replace(GENERIC, generic_type=3), None, True),
        (GROUPED, {}, ["x"], replace(GENERIC, generic_group="2"), None, True),
        (GROUPED, {}, ["x"], replace(GENERIC, generic_group="2"), "shortage", False),
        (GROUPED, {}, ["x"], None, None, True),
        (product(listing="I"), {}, ["x"], replace(GENERIC, generic_group=None), None, True),
        (GROUPED, {"is_substitutable": False, "substitution_reason": "CIF"}, ["x"], GENERIC, None, True),
        (GROUPED, {"is_substitutable": False, "substitution_reason": "CIF"}, ["x"], GENERIC, "shortage", True),
        (None, {}, ["x"], GENERIC, None, False),  # not checked
        (None, {"is_substitutable": False}, ["x"], GENERIC, None, True),
        # the pharmacist who supplies what is prescribed, and says why
        (GROUPED, {}, ["s|61234567"], None, "other", True),
        (GROUPED, {}, ["s|61234567"], None, "MTE-PH", True),
        (replace(GROUPED, substances=("azathioprine",)), {}, ["s|61234567"], None, "MTE-PH", False),
        (GROUPED, {"is_substitutable": False, "substitution_reason": "CIF"}, ["s|61234567"], None, "CIF", False),
    ],
)
def test_another_product(
    prescribed: Product | None,
    changes: dict[str, Any],
    codings: list[str],
    supplied: Product | None,
    reason: str | None,
    expected: bool,
) -> None:
    line = replace(LINE, **changes)
    breach = substitution.supply_breach(line, regime_of(line, prescribed), codings, supplied, reason)
    assert (breach is not None) is expected


def test_a_substance_is_supplied_by_any_product_of_just_that_substance() -> None:
    regime = regime_of(LINE, None, substances=("essai",))
    assert substitution.supply_breach(LINE, regime, ["x"], product(), None) is None
    assert substitution.supply_breach(LINE, regime, ["x"], product(substances=("essai", "autre")), None) is not None
    assert substitution.supply_breach(LINE, regime, ["x"], None, None) is None
    assert not substitution.is_comparable(regime, None)


# --- who prescribes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profession", "facts", "expected"),
    [
        ("10", {"listing": "stupefiant"}, True),
        ("40", {"listing": "I"}, True),
        ("50", {"kinds": ("contraceptive",), "listing": "I"}, True),
        ("50", {"listing": "stupefiant", "substances": ("paracétamol",)}, False),
        ("50", {"substances": ("Paracétamol",)}, True),
        ("50", {"substances": ("paracétamol", "codéine")}, False),
        ("60", {"substances": ("nicotine",)}, True),
        ("60", {"substances": ("chlorhexidine",), "routes": ("cutaneous",)}, True),
        ("60", {"substances": ("chlorhexidine",), "routes": ("oral",)}, False),
        ("80", {"substances": ("terbinafine",), "routes": ("cutaneous",)}, True),
        ("80", {"substances": ("terbinafine",), "routes": ("oral",)}, False),
        ("21", {"atc": "J07BB02"}, True),
        ("91", {"substances": ("nicotine",)}, False),
        (None, {}, False),
    ],
)
def test_scope(profession: str | None, facts: dict[str, Any], expected: bool) -> None:
    assert (scope.scope_breach(profession, regime_of(LINE, product(**facts))) is None) is expected


def test_only_who_may_prescribe_everything_prescribes_the_unknown() -> None:
    assert scope.scope_breach("10", regime_of(LINE, None)) is None
    assert scope.scope_breach("50", regime_of(LINE, None)) is not None
    assert scope.prescribes("50")
    assert not scope.prescribes("93")
    assert not scope.prescribes(None)


# --- data -----------------------------------------------------------------------------------------------------------


def test_every_rule_has_a_source_and_a_text_in_both_languages() -> None:
    rules = regulation.rules()
    assert {each["rule"] for each in _FILE["vectors"] if each["rule"].startswith("FR-")} <= set(rules["rules"])
    assert all(each["source"] and each["text"]["fr"] and each["text"]["en"] for each in rules["rules"].values())
    used = {rule for rule in _named(rules) if rule.startswith("FR-")}
    assert used <= set(rules["rules"])


def _named(data: Any) -> set[str]:
    if isinstance(data, dict):
        own = {value for key, value in data.items() if key in ("rule", "narcotic_rule")}
        return own.union(*map(_named, data.values()))
    return set().union(*map(_named, data)) if isinstance(data, list) else set()


def test_days_are_calendar_days_across_the_change_of_the_clocks() -> None:
    assert validity.late_days(day("2026-03-27"), day("2026-03-31")) == 4
    assert validity.paris_day(datetime(2026, 3, 28, 23, 30, tzinfo=UTC)) == day("2026-03-29")
    assert day("2026-03-27") + timedelta(days=4) == day("2026-03-31")
