"""The French rules in the life of a prescription: at the signature, at the claim and at the supply, by the calendar."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import pytest

from passerelle.medicines.errors import KnowledgeUnavailable
from passerelle.medicines.model import Product
from passerelle.prescriptions.commands import Policy
from passerelle.prescriptions.model import Outcome
from passerelle.prescriptions.quantities import MILLIONTHS
from passerelle.prescriptions.regulation import regime_of_line
from tests.medicines import CIS, small_base
from tests.prescribing import (
    PHARMACY_B,
    PRACTICE,
    Region,
    code_of,
    example,
    medication_request,
    refused,
    region_in_memory,
)

NARCOTIC, HYPNOTIC, LEVOTHYROXINE, GENERIC, SIXTEENS, BUPRENORPHINE, UNLISTED = (
    f"6000001{number}" for number in range(1, 8)
)
EXTENSION = "https://exchange.example/fhir/StructureDefinition/rx-"


@pytest.fixture
def here() -> Region:
    return region_in_memory(small_base())


def coded(product: str) -> dict[str, Any]:
    return {"medicationCodeableConcept": {"coding": [{"system": CIS.rstrip("|"), "code": product}]}}


def order(
    here: Region, product: str, days: int = 28, *stated: str, on: date | None = None, per_day: int = 1, **changes: Any
) -> dict[str, Any]:
    """So many a day of a product; `stated` are extensions that are true, or that are said in words."""
    request = medication_request(here.patient)
    extensions: list[dict[str, Any]] = [
        {"url": f"{EXTENSION}{name}", **({"valueString": "dix"} if name == WORDS else {"valueBoolean": True})}
        for name in stated
    ]
    extensions += changes.pop("extension", [])
    repeat = {"frequency": per_day, "period": 1, "periodUnit": "d"}
    dosage = {**request["dosageInstruction"][0], "text": "un comprimé par jour", "timing": {"repeat": repeat}}
    supply = {"expectedSupplyDuration": {**request["dispenseRequest"]["expectedSupplyDuration"], "value": days}}
    supply |= changes.pop("dispenseRequest", {})
    made = {**request, **coded(product), "dosageInstruction": [dosage], "dispenseRequest": supply, **changes}
    made |= {"extension": extensions} if extensions else {}
    if not extensions:
        del made["extension"]
    return made | ({"authoredOn": on.isoformat()} if on else {})


WORDS = "in-words"


def noon(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}T12:00:00").replace(tzinfo=UTC)


def issued(here: Region, *orders: dict[str, Any], on: str = "2026-03-02") -> tuple[str, str]:
    return here.issued(*({**each, "authoredOn": on} for each in orders), at=noon(on))


def supplied(here: Region, id: str, secret: str | None, units: int, product: str, on: str, **changes: Any) -> Outcome:
    return here.dispense(id, secret, units, at=noon(on), changes={**coded(product), **changes})


def refusal_of(here: Region, *orders: dict[str, Any], on: str = "2026-03-02") -> tuple[str | None, str]:
    """The code and what the answer carries of a signature that is refused."""
    error = refused(issued, here, *orders, on=on)
    return code_of(error), str(error)


# --- the signature --------------------------------------------------------------------------------------------------


def test_each_rule_of_prescribing_refuses_with_its_facts(here: Region) -> None:
    cases = [
        (order(here, NARCOTIC, 29, WORDS), "RX-VALIDITY", "rule=FR-S1; maximumDays=28"),
        (order(here, NARCOTIC, 28), "RX-VALIDITY", "rule=FR-S1; missing=in-words"),
        (order(here, HYPNOTIC, 29), "RX-VALIDITY", "rule=FR-V4; maximumDays=28"),
        (order(here, UNLISTED, 366), "RX-VALIDITY", "rule=FR-V3; maximumDays=365"),
        (order(here, NARCOTIC, 7, WORDS, dispenseRequest={"numberOfRepeatsAllowed": 1}), "RX-VALIDITY", "rule=FR-V6"),
        (order(here, "61234567"), "RX-VALIDITY", "rule=FR-S1; product=unknown"),
        (order(here, BUPRENORPHINE, 28, WORDS), "RX-PHARMACY-REQUIRED", "rule=FR-S6"),
        (order(here, LEVOTHYROXINE, substitution={"allowedBoolean": False}), "RX-SUBSTITUTION", "reason=none"),
    ]
    for made, code, facts in cases:
        found, text = refusal_of(here, made)
        assert (found, facts in text) == (code, True), text


def test_a_line_keeps_its_regime(here: Region) -> None:
    id, _ = issued(here, order(here, NARCOTIC, 28, WORDS), order(here, LEVOTHYROXINE, 30))
    narcotic, other = here.stored(id).lines
    assert regime_of_line(narcotic).is_narcotic
    assert narcotic.expires_on == date(2026, 3, 30)
    assert (other.per_fill, other.expires_on) == (30 * MILLIONTHS, date(2026, 6, 2))
    unlisted = here.stored(issued(here, order(here, UNLISTED))[0]).lines[0]
    assert unlisted.expires_on == date(2027, 3, 2)


def test_a_second_narcotics_prescription_needs_its_mention(here: Region) -> None:
    """FR-S3, on the days of vectors S3-1 to S3-4; the answer names the other prescription."""
    first, _ = issued(here, order(here, NARCOTIC, 28, WORDS), on="2026-02-01")
    code, text = refusal_of(here, order(here, NARCOTIC, 28, WORDS), on="2026-02-28")
    assert (code, f"other={here.stored(first).group.number}" in text) == ("RX-OVERLAP", True)
    issued(here, order(here, NARCOTIC, 7, WORDS, "overlap"), on="2026-02-20")
    issued(here, order(here, UNLISTED), on="2026-02-20")
    issued(here, order(here, NARCOTIC, 28, WORDS), on="2026-03-01")


def test_a_cancelled_prescription_covers_nothing(here: Region) -> None:
    first, code = issued(here, order(here, NARCOTIC, 28, WORDS))
    here.cancel(first, at=noon("2026-03-02"))
    second, code = issued(here, order(here, NARCOTIC, 28, WORDS))
    secret = here.accept(second, code, at=noon("2026-03-02")).secret
    supplied(here, second, secret, 7, NARCOTIC, "2026-03-02")
    here.reject(second, secret, at=noon("2026-03-02"))
    here.cancel(second, at=noon("2026-03-02"))
    assert refusal_of(here, order(here, NARCOTIC, 28, WORDS))[0] == "RX-OVERLAP"  # part of it was supplied


def test_professions_prescribe_what_is_theirs(here: Region) -> None:
    midwife, psychologist = (replace(PRACTICE, profession=code) for code in ("50", "93"))
    request = order(here, HYPNOTIC)
    assert code_of(refused(here.create, request, caller=psychologist)) == "RX-ROLE"
    id = here.create(request, caller=midwife).prescription.group.id
    assert code_of(refused(here.activate, id, caller=midwife)) == "RX-PRESCRIBER-SCOPE"


class Unavailable:
    """A base that cannot be reached."""

    def resolve(self, *_: Any) -> Any:
        raise KnowledgeUnavailable()

    def product(self, *_: Any) -> Product | None:
        raise KnowledgeUnavailable()

    check = resolve


def test_without_the_base_nothing_is_signed_unless_the_region_lets_it() -> None:
    here = region_in_memory(Unavailable())
    assert refusal_of(here, order(here, NARCOTIC, 28, WORDS))[0] == "RX-RETRY"
    here.service.policy = Policy(sign_without_check=True)
    assert refusal_of(here, order(here, NARCOTIC, 28, WORDS))[0] == "RX-VALIDITY"  # an unknown product then
    id, _ = issued(here, order(here, NARCOTIC, 28, "ordinary-product"))
    assert here.stored(id).lines[0].expires_on == date(2026, 6, 2)


# --- the claim ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authored_on", "last", "refused_on", "product", "rule"),
    [
        ("2026-02-15", "2026-05-14", "2026-05-15", HYPNOTIC, "FR-V1"),
        ("2026-01-31", "2026-04-29", "2026-04-30", HYPNOTIC, "FR-V1"),
        ("2026-02-01", "2026-02-28", "2026-03-01", NARCOTIC, "FR-S2"),
    ],
)
def test_the_last_day(here: Region, authored_on: str, last: str, refused_on: str, product: str, rule: str) -> None:
    """Paris days: the last one ends at 22:00 or 23:00 UTC."""
    id, code = issued(here, order(here, product, 28, WORDS), on=authored_on)
    late = refused(here.accept, id, code, at=noon(refused_on).replace(hour=0))
    assert code_of(late) == "RX-EXPIRED"
    assert f"rule={rule}; lastValidDay={last}" in str(late)
    assert here.accept(id, code, at=noon(last).replace(hour=21, minute=59)).status == 200


def test_days_that_have_lapsed_are_in_the_ledger_once(here: Region) -> None:
    """FR-S2: 1 February, presented on the 5th and given back, presented again on the 6th."""
    id, code = issued(here, order(here, NARCOTIC, 28, WORDS, per_day=2), on="2026-02-01")
    for day, remaining in (("2026-02-05", 24), ("2026-02-06", 23), ("2026-02-06", 23)):
        claimed = here.accept(id, code, at=noon(day))
        line = claimed.prescription.lines[0]
        assert (line.remaining_fill, line.remaining_total) == (remaining * 2 * MILLIONTHS,) * 2
        here.reject(id, claimed.secret, at=noon(day))
    ledger = here.stored(id).ledger
    assert [(each.kind, each.quantity // MILLIONTHS) for each in ledger] == [("lapse", 8), ("lapse", 2)]
    assert here.stored(id).supplies_of(1) == ()


def test_a_recovered_claim_loses_nothing_more(here: Region) -> None:
    id, code = issued(here, order(here, NARCOTIC, 28, WORDS), on="2026-02-01")
    here.accept(id, code, at=noon("2026-02-05").replace(hour=22, minute=30))
    again = here.accept(id, code, recover=True, at=noon("2026-02-05").replace(hour=23, minute=30))  # the 6th in Paris
    assert again.prescription.lines[0].remaining_total == 24 * MILLIONTHS


def test_narcotics_for_surgery_wait_for_it(here: Region) -> None:
    """FR-S4: presented from the third day before the discharge on; other lines do not wait."""
    stay = [{"url": f"{EXTENSION}planned-discharge", "valueDate": "2026-06-10"}]
    id, code = issued(here, order(here, NARCOTIC, 7, WORDS, extension=stay), order(here, HYPNOTIC), on="2026-05-20")
    early = refused(here.accept, id, code, 1, at=noon("2026-06-06"))
    assert (code_of(early), "rule=FR-S4; date=2026-06-07" in str(early)) == ("RX-TOO-EARLY", True)
    assert here.accept(id, code, at=noon("2026-06-06")).lines == (2,)
    assert here.accept(id, code, 1, at=noon("2026-06-07")).prescription.lines[0].remaining_fill == 7 * MILLIONTHS


# --- the supply -----------------------------------------------------------------------------------------------------


def test_a_narcotic_is_supplied_by_fractions(here: Region) -> None:
    id, code = issued(here, order(here, NARCOTIC, 28, WORDS), on="2026-02-01")
    secret = here.accept(id, code, at=noon("2026-02-01")).secret
    whole = refused(supplied, here, id, secret, 28, NARCOTIC, "2026-02-01")
    assert code_of(whole) == "RX-MAX-SUPPLY"
    assert "rule=FR-S2; maximumDays=7; maximum=7" in str(whole)
    supplied(here, id, secret, 7, NARCOTIC, "2026-02-01")
    here.reject(id, secret, at=noon("2026-02-01"))
    for day in ("2026-02-08", "2026-02-15", "2026-02-22"):
        claimed = here.accept(id, code, at=noon(day), caller=PHARMACY_B)
        done = here.dispense(id, claimed.secret, 7, at=noon(day), caller=PHARMACY_B, changes=coded(NARCOTIC))
        if done.prescription.lines[0].state != "F":
            here.reject(id, claimed.secret, at=noon(day), caller=PHARMACY_B)
    assert here.stored(id).lines[0].state == "F"


def test_one_supply_in_full_is_written(here: Region) -> None:
    id, code = issued(here, order(here, NARCOTIC, 28, WORDS, "single-supply"), on="2026-02-01")
    secret = here.accept(id, code, at=noon("2026-02-04")).secret
    assert supplied(here, id, secret, 28, NARCOTIC, "2026-02-04").prescription.lines[0].state == "F"


def test_a_withdrawal_brings_the_first_limit_back(here: Region) -> None:
    id, code = issued(here, order(here, HYPNOTIC, 28))
    secret = here.accept(id, code, at=noon("2026-03-03")).secret
    supplied(here, id, secret, 14, HYPNOTIC, "2026-03-03")
    assert here.stored(id).lines[0].expires_on == date(2026, 3, 31)  # 28 days from the first supply
    here.withdraw(here.last_supply(id), at=noon("2026-03-03"))
    assert here.stored(id).lines[0].expires_on == date(2026, 6, 2)


def test_more_than_a_month_is_refused_and_the_rest_follows_when_it_is_due(here: Region) -> None:
    id, code = issued(here, order(here, LEVOTHYROXINE, 90))
    secret = here.accept(id, code, at=noon("2026-03-02")).secret
    over = refused(supplied, here, id, secret, 45, LEVOTHYROXINE, "2026-03-02")
    assert "rule=FR-V5; maximumDays=30; maximum=30" in str(over)
    supplied(here, id, secret, 30, LEVOTHYROXINE, "2026-03-02")
    assert code_of(refused(supplied, here, id, secret, 30, LEVOTHYROXINE, "2026-03-02")) == "RX-MAX-SUPPLY"
    whole, code = issued(here, order(here, LEVOTHYROXINE, 90))
    secret = here.accept(whole, code, at=noon("2026-03-02")).secret
    supplied(here, whole, secret, 90, LEVOTHYROXINE, "2026-03-02")  # one large pack


def test_another_product_is_of_the_group_or_refused(here: Region) -> None:
    id, code = issued(here, order(here, LEVOTHYROXINE, 30))
    secret = here.accept(id, code, at=noon("2026-03-02")).secret
    other = partial(supplied, here, id, secret, 15)
    assert code_of(refused(other, UNLISTED, "2026-03-02")) == "RX-SUBSTITUTION"
    assert other(GENERIC, "2026-03-02").not_checked == ()
    shortage = {"substitution": {"wasSubstituted": True, "reason": [{"coding": [{"code": "shortage"}]}]}}
    assert other(UNLISTED, "2026-03-02", **shortage).prescription.lines[0].state == "F"


def test_a_narrow_margin_is_not_substituted(here: Region) -> None:
    reason = {"coding": [{"code": "MTE"}]}
    made = order(here, LEVOTHYROXINE, 30, "stabilised", substitution={"allowedBoolean": False, "reason": reason})
    id, code = issued(here, made)
    secret = here.accept(id, code, at=noon("2026-03-02")).secret
    error = refused(supplied, here, id, secret, 30, GENERIC, "2026-03-02")
    assert (code_of(error), "reason=MTE" in str(error)) == ("RX-SUBSTITUTION", True)
    assert supplied(here, id, secret, 30, LEVOTHYROXINE, "2026-03-02").prescription.lines[0].state == "F"


def test_a_pharmacist_who_does_not_substitute_says_why(here: Region) -> None:
    id, code = issued(here, order(here, LEVOTHYROXINE, 30))
    secret = here.accept(id, code, at=noon("2026-03-02")).secret
    kept = {"substitution": {"wasSubstituted": False, "reason": [{"coding": [{"code": "MTE-PH"}]}]}}
    done = supplied(here, id, secret, 30, LEVOTHYROXINE, "2026-03-02", **kept)
    assert '"MTE-PH"' in str(done.dispense)


def test_an_unknown_product_is_supplied_as_not_checked(here: Region) -> None:
    id, code = here.issued()
    secret = here.accept(id, code).secret
    assert here.dispense(id, secret, 45, changes=coded(GENERIC)).not_checked == ("substitution",)
    assert here.dispense(id, secret, 45).not_checked == ()


def test_the_example_is_a_product_that_the_base_does_not_know() -> None:
    coding = example("medication-request.json")["medicationCodeableConcept"]["coding"][0]
    assert small_base().product([f"{coding['system']}|{coding['code']}"]) is None
