"""The French rules over HTTP: each refusal of the contract's catalogue with what its answer carries (section 7)."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from passerelle.prescriptions.quantities import MILLIONTHS
from passerelle.prescriptions.validity import paris_day
from tests.medicines import CIS
from tests.prescribing import PHARMACY_A, PHARMACY_B, PRACTICE, bundle, example, medication_request, provenance, region
from tests.prescribing_http import Answer, Api, parameters

NARCOTIC, HYPNOTIC, LEVOTHYROXINE, _, _, BUPRENORPHINE, UNLISTED = (f"6000001{number}" for number in range(1, 8))
TODAY = paris_day(datetime.now(UTC))
EXTENSION = "https://exchange.example/fhir/StructureDefinition/rx-"
IN_WORDS = {"url": f"{EXTENSION}in-words", "valueString": "un comprimé de dix milligrammes par jour"}


OVERLAP = {"url": f"{EXTENSION}overlap", "valueBoolean": True}
FINESS = "urn:oid:1.2.250.1.71.4.2.2"


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with region() as made:
        yield Api(made)


def coded(product: str) -> dict[str, Any]:
    return {"medicationCodeableConcept": {"coding": [{"system": CIS.rstrip("|"), "code": product}]}}


def order(api: Api, product: str, days: int, *extensions: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """One a day of a product, for so many days."""
    dosage = {
        "text": "un comprimé par jour",
        "timing": {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}},
        "doseAndRate": [{"doseQuantity": {"value": 1, "unit": "comprimé"}}],
    }
    duration = {"value": days, "unit": "jours", "system": "http://unitsofmeasure.org", "code": "d"}
    supply = {"expectedSupplyDuration": duration, **changes.pop("dispenseRequest", {})}
    made = {"dosageInstruction": [dosage], "dispenseRequest": supply, "extension": list(extensions) or None, **changes}
    return medication_request(api.region.patient, authoredOn=TODAY.isoformat(), **coded(product), **made)


def signed(api: Api, *orders: dict[str, Any], **options: Any) -> tuple[Answer, str, str]:
    """The answer to `$activate`, the id of the group, and the access code."""
    created = api.call("/Task/$create", bundle(*orders), **options)
    assert created.status == 201, created.body
    id = created.resources("Task")[0]["id"]
    prepared = api.call(f"/Task/{id}/$prepare", key=None, **options)
    content = base64.b64decode(prepared.told("content")).decode()
    answer = api.call(f"/Task/{id}/$activate", provenance(content, at=datetime.now(UTC)), **options)
    return answer, id, created.told("accessCode")


def facts(answer: Answer) -> dict[str, str]:
    """What a refusal carries beside its code."""
    told = re.search(r"\(([^()]*=[^()]*)\)$", answer.body["issue"][0]["diagnostics"])
    assert told is not None
    return dict(each.split("=", 1) for each in told[1].split("; "))


def supply(secret: str, product: str, units: int, **changes: Any) -> dict[str, Any]:
    quantity = {"value": units, "unit": "comprimé"}
    return parameters(
        secret=secret,
        dispense={**example("medication-dispense.json"), **coded(product), "quantity": quantity, **changes},
    )


@pytest.mark.parametrize(
    ("product", "days", "extensions", "changes", "code", "carried"),
    [
        pytest.param(
            NARCOTIC, 29, [IN_WORDS], {}, "RX-VALIDITY", {"rule": "FR-S1", "maximumDays": "28", "line": "1"}, id="FR-S1"
        ),
        pytest.param(
            NARCOTIC, 28, [], {}, "RX-VALIDITY", {"rule": "FR-S1", "missing": "in-words", "line": "1"}, id="FR-S1-words"
        ),
        pytest.param(
            "61234567", 7, [], {}, "RX-VALIDITY", {"rule": "FR-S1", "product": "unknown", "line": "1"}, id="FR-S1-gate"
        ),
        pytest.param(
            HYPNOTIC, 29, [], {}, "RX-VALIDITY", {"rule": "FR-V4", "maximumDays": "28", "line": "1"}, id="FR-V4"
        ),
        pytest.param(UNLISTED, 367, [], {}, "RX-VALIDITY", {"rule": "FR-V3", "line": "1"}, id="FR-V3"),
        pytest.param(
            NARCOTIC,
            7,
            [IN_WORDS],
            {"dispenseRequest": {"numberOfRepeatsAllowed": 1}},
            "RX-VALIDITY",
            {"rule": "FR-V6", "repeats": "0", "line": "1"},
            id="FR-V6",
        ),
        pytest.param(
            BUPRENORPHINE, 28, [IN_WORDS], {}, "RX-PHARMACY-REQUIRED", {"rule": "FR-S6", "line": "1"}, id="FR-S6"
        ),
        pytest.param(
            LEVOTHYROXINE,
            30,
            [],
            {"substitution": {"allowedBoolean": False, "reason": {"coding": [{"code": "MTE"}]}}},
            "RX-SUBSTITUTION",
            {"reason": "MTE", "missing": "stabilised", "line": "1"},
            id="MTE",
        ),
        pytest.param(
            UNLISTED,
            30,
            [],
            {"substitution": {"allowedBoolean": False, "reason": {"coding": [{"code": "EFG"}]}}},
            "RX-SUBSTITUTION",
            {"reason": "EFG", "missing": "age", "line": "1"},
            id="EFG",
        ),
    ],
)
def test_a_signature_that_the_law_refuses(
    api: Api,
    product: str,
    days: int,
    extensions: list[dict[str, Any]],
    changes: dict[str, Any],
    code: str,
    carried: dict[str, str],
) -> None:
    answer, id, _ = signed(api, order(api, product, days, *extensions, **changes))
    assert answer.code == (422, code)
    assert carried.items() <= facts(answer).items()
    assert api.read(f"/Task/{id}").body["status"] == "draft"


def test_professions(api: Api) -> None:
    """RX-ROLE for who prescribes nothing, RX-PRESCRIBER-SCOPE for what is another profession's."""
    midwife, psychologist = (replace(PRACTICE, profession=code) for code in ("50", "93"))
    assert api.call("/Task/$create", bundle(order(api, HYPNOTIC, 7)), by=psychologist).code == (403, "RX-ROLE")
    assert signed(api, order(api, HYPNOTIC, 7), by=midwife)[0].code == (422, "RX-PRESCRIBER-SCOPE")


def test_narcotics(api: Api) -> None:
    """RX-OVERLAP names the other prescription, RX-MAX-SUPPLY a fraction; the form is secure, in two zones (FR-A1)."""
    ald = {"url": f"{EXTENSION}ald", "valueBoolean": True}
    answer, id, code = signed(api, order(api, NARCOTIC, 28, IN_WORDS, ald), order(api, UNLISTED, 7))
    assert answer.status == 200
    group = api.read(f"/Task/{id}").body
    forms = [each["valueCodeableConcept"]["coding"] for each in group["extension"]]
    assert [[each["code"] for each in form] for form in forms] == [["secure"], ["bi-zone", "MED-1096"]]

    again, _, _ = signed(api, order(api, NARCOTIC, 7, IN_WORDS))
    assert again.code == (422, "RX-OVERLAP")
    assert facts(again) == {"rule": "FR-S3", "other": group["groupIdentifier"]["value"], "line": "1"}

    secret = api.call(f"/Task/{id}/$accept", parameters(accessCode=code, line=1), by=PHARMACY_A).told("secret")
    whole = api.call(f"/Task/{id}-01/$dispense", supply(secret, NARCOTIC, 28), by=PHARMACY_A)
    assert whole.code == (422, "RX-MAX-SUPPLY")
    assert facts(whole) == {"rule": "FR-S2", "maximumDays": "7", "maximum": "7", "line": "1"}
    assert api.call(f"/Task/{id}-01/$dispense", supply(secret, NARCOTIC, 7), by=PHARMACY_A).told("remaining") == 21


def test_supplies(api: Api) -> None:
    """RX-MAX-SUPPLY of FR-V5, RX-SUBSTITUTION, and what too little is known of is said."""
    answer, id, code = signed(api, order(api, LEVOTHYROXINE, 90))
    assert answer.status == 200
    secret = api.call(f"/Task/{id}/$accept", parameters(accessCode=code), by=PHARMACY_A).told("secret")
    line = f"/Task/{id}-01/$dispense"
    over = api.call(line, supply(secret, LEVOTHYROXINE, 60), by=PHARMACY_A)
    assert over.code == (422, "RX-MAX-SUPPLY")
    assert facts(over) == {"rule": "FR-V5", "maximumDays": "30", "maximum": "30", "line": "1"}
    other = api.call(line, supply(secret, UNLISTED, 30), by=PHARMACY_A)
    assert other.code == (422, "RX-SUBSTITUTION")
    assert facts(other) == {"reason": "none", "line": "1"}
    done = api.call(line, supply(secret, LEVOTHYROXINE, 30), by=PHARMACY_A)
    assert done.told("remaining") == 60
    told = [each["valueCode"] for each in done.body["parameter"] if each["name"] == "notChecked"]
    assert not {"supply-maximum", "substitution"} & set(told)


def test_what_has_expired(api: Api) -> None:
    """RX-EXPIRED: the rule and the last valid day."""
    at = datetime(2026, 1, 31, 9, tzinfo=UTC)
    id, code = api.region.issued(order(api, HYPNOTIC, 7) | {"authoredOn": "2026-01-31"}, at=at)
    late = api.call(f"/Task/{id}/$accept", parameters(accessCode=code), by=PHARMACY_A)
    assert late.code == (409, "RX-EXPIRED")
    assert facts(late) == {"rule": "FR-V1", "lastValidDay": "2026-04-29"}


def test_what_has_lapsed_is_stored_and_shown(api: Api) -> None:
    """FR-S2 on DynamoDB: four days late, then one more; the regime is kept sealed."""
    here, at = api.region, datetime(2026, 2, 1, 9, tzinfo=UTC)
    id, code = here.issued(order(api, NARCOTIC, 28, IN_WORDS) | {"authoredOn": "2026-02-01"}, at=at)
    for days in (4, 5):
        claimed = here.accept(id, code, at=at + timedelta(days=days))
        here.reject(id, claimed.secret, at=at + timedelta(days=days))
    stored = here.stored(id)
    assert [(each.kind, each.quantity) for each in stored.ledger] == [("lapse", 4 * MILLIONTHS), ("lapse", MILLIONTHS)]
    assert stored.lines[0].remaining_total == 23 * MILLIONTHS
    assert stored.lines[0].expires_on == date(2026, 3, 1)
    assert stored.lines[0].regime is not None
    shown = api.read(f"/Task/{id}-01").body
    ledger = next(each["extension"] for each in shown["extension"] if each["url"].endswith("rx-ledger"))
    assert {each["url"]: each.get("valueDecimal") for each in ledger}["lapsed"] == 5


def test_only_the_pharmacy_that_is_named_supplies_an_opioid_substitute(api: Api) -> None:
    """FR-S6: not even a pharmacy that has the code and overrides the routing."""
    named = {"performer": {"identifier": {"system": FINESS, "value": PHARMACY_A.organisation}}}
    answer, id, code = signed(api, order(api, BUPRENORPHINE, 28, IN_WORDS, OVERLAP, dispenseRequest=named))
    assert answer.status == 200, answer.body
    claim = parameters(accessCode=code, overrideRouting=True)
    assert api.call(f"/Task/{id}/$accept", claim, by=PHARMACY_B).code == (409, "RX-ROUTED-ELSEWHERE")
    assert api.call(f"/Task/{id}/$accept", claim, by=PHARMACY_A).status == 200
