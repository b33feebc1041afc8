"""The ledger of a line over its life, and who may not begin one; on storage in memory."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from passerelle.consents.model import Block
from passerelle.errors import AccessRefused, PasserelleError
from passerelle.prescriptions.quantities import MILLIONTHS
from tests.medicines import CIS, small_base
from tests.prescribing import (
    AT,
    EXAMPLES,
    PHARMACY_A,
    MemoryExchange,
    Region,
    code_of,
    later,
    medication_request,
    refused,
    region_in_memory,
    tried,
)

VECTORS = json.loads((EXAMPLES / "vectors.json").read_text("utf-8"))["vectors"]


@pytest.fixture
def here() -> Region:
    return region_in_memory()


def store_of(here: Region) -> MemoryExchange:
    assert isinstance(here.store, MemoryExchange)
    return here.store


# --- the ledger -----------------------------------------------------------------------------------------

LEDGERS = [each for each in VECTORS if each["rule"] == "QA-LEDGER"]


def quantity_order(here: Region, units: int, fills: int = 1) -> dict[str, Any]:
    supply = {"quantity": {"value": units, "unit": "comprimé"}, "numberOfRepeatsAllowed": fills - 1}
    return medication_request(here.patient, dispenseRequest=supply)


@pytest.mark.parametrize("vector", LEDGERS, ids=lambda vector: str(vector["id"]))
def test_ledger_vector(here: Region, vector: dict[str, Any]) -> None:
    given, secret = vector["input"], None
    supplies: dict[str, str] = {}
    id, code = here.issued(quantity_order(here, given["authorisedPerFill"], given["fills"]))
    for step, expected in zip(given["steps"], vector["expected"]["steps"], strict=True):
        if step["op"] == "$accept":
            done = tried(partial(here.accept, id, code))
        elif step["op"] == "$reject":
            done = tried(partial(here.reject, id, secret))
        elif step["op"] == "$withdraw":
            done = tried(partial(here.withdraw, supplies[step["id"]]))
        else:
            done = tried(partial(here.dispense, id, secret, step["quantity"]))
            if not isinstance(done, PasserelleError):
                supplies[step["id"]] = here.last_supply(id)
        assert done.status == expected["http"]
        if isinstance(done, PasserelleError):
            assert code_of(done) == expected["error"]
        elif done.secret:
            secret = done.secret
        line = here.stored(id).lines[0]
        assert line.state == expected["state"]
        assert line.remaining_fill == expected["remaining"] * MILLIONTHS


@pytest.mark.parametrize("party", [PHARMACY_A.organisation, PHARMACY_A.professional])
def test_who_is_shut_out_claims_nothing_and_finishes_what_was_claimed(here: Region, party: str) -> None:
    """DMP-3: not even with the code; a patient is not left with half a supply."""
    held, code = here.issued(medication_request(here.patient))
    secret = here.accept(held, code).secret
    other, other_code = here.issued(medication_request(here.patient))
    people = store_of(here).people
    for key, person in people.items():
        blocked = replace(person.policy, blocks=(Block(party=party, since=AT),))
        people[key] = replace(person, records=tuple(replace(each, policy=blocked) for each in person.records))
    assert isinstance(refused(here.accept, other, other_code), AccessRefused)
    assert here.dispense(held, secret, 1).status == 200


def test_the_last_fill_is_what_is_left() -> None:
    """Vector TOTAL-1 on a line: 90 units three times in packs of 16 are 6, 6 and 5 packs."""
    here = region_in_memory(small_base())
    product = {"coding": [{"system": CIS.rstrip("|"), "code": "60000015"}]}  # supplied in packs of 16
    order = quantity_order(here, 90, 3) | {"medicationCodeableConcept": product}
    id, code = here.issued(order)
    assert here.stored(id).lines[0].total == 17 * 16 * MILLIONTHS
    for days, packs in ((0, 6), (30, 6), (62, 5)):
        claimed = here.accept(id, code, at=later(days=days))
        changes = {"medicationCodeableConcept": product}
        done = here.dispense(id, claimed.secret, packs * 16, at=later(days=days), changes=changes)
        code = done.access_code or code
    assert here.stored(id).lines[0].state == "F"
