"""The write conditions of a claim and of a supply (contract section 8), each clause on its own, on DynamoDB."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from passerelle import wiring
from passerelle.aws.journal import actions_of
from passerelle.identifiers import new_resource_id
from passerelle.prescriptions.model import (
    Line,
    LineChange,
    LineClaimed,
    LineMovedError,
    LineSupplied,
    Prescription,
    PrescriptionCreated,
)
from passerelle.prescriptions.numbers import new_number
from tests.prescribing import AT, GROUP, LINE, PHARMACY_A, PHARMACY_B, Region, later, region

HELD_UNTIL = int(later(hours=2).timestamp() * 1000)
NOW = int(AT.timestamp() * 1000)
TODAY = AT.date()


@pytest.fixture(scope="module")
def here() -> Iterator[Region]:
    with region() as made:
        yield made


def lost(here: Region, stored: dict[str, Any], change: Callable[[Line], LineChange]) -> bool:
    """Whether the change of a line stored like this loses its condition; what is there comes with the loss."""
    group = replace(GROUP, id=new_resource_id(here.patient, AT), number=new_number())
    line = replace(LINE, **stored)
    created = PrescriptionCreated(prescription=Prescription(group=group, lines=(line,)))
    tables = wiring.table_names()
    wiring.dynamodb().transact(actions_of(created, tables))
    asked = replace(change(line), prescription=group.id)
    try:
        wiring.dynamodb().transact(actions_of(asked, tables))
    except LineMovedError as moved:
        return moved.line == line
    return False


FREE = {"state": "R", "not_before": TODAY, "expires_on": TODAY + timedelta(days=1), "version": 5}
HELD = {
    **FREE,
    "state": "P",
    "owner": PHARMACY_A.organisation,
    "secret_hash": "hash",
    "fence": 1,
    "lease_until": HELD_UNTIL,
    "fill_no": 1,
    "remaining_fill": 50,
    "remaining_total": 50,
}


@pytest.mark.parametrize(
    ("stored", "asked", "is_lost"),
    [
        ({}, {}, False),
        ({"state": "O"}, {}, False),
        ({"state": "W"}, {}, False),
        ({"state": "K"}, {}, True),
        ({"state": "D"}, {}, True),
        ({"cancel_requested": True}, {}, True),
        ({}, {"today": TODAY - timedelta(days=1)}, True),
        ({}, {"today": TODAY + timedelta(days=1)}, True),
        (HELD, {}, True),
        (HELD, {"now": HELD_UNTIL}, True),
        (HELD, {"now": HELD_UNTIL + 1}, False),
        ({}, {"fence": 3}, True),
        ({}, {"version": 4}, True),
        (HELD, {"is_recovery": True}, False),
        (HELD, {"is_recovery": True, "now": HELD_UNTIL + 1}, True),
        (HELD, {"is_recovery": True, "owner": PHARMACY_B.organisation}, True),
    ],
)
def test_condition_of_a_claim(here: Region, stored: dict[str, Any], asked: dict[str, Any], is_lost: bool) -> None:
    def claim(line: Line) -> LineChange:
        options = {"now": NOW, "today": TODAY, **asked}
        read = {name: options.pop(name) for name in ("fence", "version", "owner") if name in options}
        after = replace(line, owner="claimer", fence=line.fence + 1, version=line.version + 1)
        return LineClaimed(prescription="", before=replace(line, **read), after=after, **options)

    assert lost(here, {**FREE, **stored}, claim) is is_lost


@pytest.mark.parametrize(
    ("stored", "asked", "is_lost"),
    [
        ({}, {}, False),
        ({"state": "C"}, {}, False),
        ({"state": "O"}, {}, True),
        ({"state": "Q", "cancel_requested": True}, {}, True),
        ({"cancel_requested": True}, {}, True),
        ({}, {"owner": PHARMACY_B.organisation}, True),
        ({}, {"fence": 2}, True),
        ({}, {"secret_hash": "another"}, True),
        ({}, {"now": HELD_UNTIL}, True),
        ({}, {"now": HELD_UNTIL - 1}, False),
        ({}, {"fill_no": 2}, True),
        ({}, {"quantity": 50}, False),
        ({}, {"quantity": 51}, True),
        ({}, {"version": 4}, True),
    ],
)
def test_condition_of_a_supply(here: Region, stored: dict[str, Any], asked: dict[str, Any], is_lost: bool) -> None:
    def supply(line: Line) -> LineChange:
        options = {"now": NOW, "quantity": 1, **asked}
        read = {name: options.pop(name) for name in asked if name not in ("now", "quantity")}
        after = replace(line, remaining_fill=line.remaining_fill - 1, version=line.version + 1)
        return LineSupplied(prescription="", before=replace(line, **read), after=after, **options)

    assert lost(here, {**HELD, **stored}, supply) is is_lost
