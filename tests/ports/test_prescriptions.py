"""Prescriptions on DynamoDB: the whole table, one life, races, replays and crashes, and the ledger as a law.

Interleavings are made by reading before others write; real threads need an emulator that is thread-safe.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from passerelle import wiring
from passerelle.access import Caller, Request
from passerelle.aws.dynamodb import measure
from passerelle.aws.journal import actions_of
from passerelle.aws.prescriptions import DynamoPrescriptions
from passerelle.errors import PasserelleError
from passerelle.fhir import prescription as fhir
from passerelle.identifiers import new_resource_id
from passerelle.prescriptions import history
from passerelle.prescriptions.model import (
    ClaimChange,
    ClaimRecord,
    Group,
    Line,
    Prescription,
    PrescriptionCreated,
    Signature,
)
from passerelle.prescriptions.numbers import digest, new_number
from passerelle.prescriptions.quantities import MILLIONTHS
from passerelle.prescriptions.service import PrescriptionService, Target
from passerelle.prescriptions.transitions import STATES, Row, Transitions
from tests.prescribing import (
    AT,
    EXAMPLES,
    OTHER_PATIENT,
    OTHER_PRACTICE,
    PATIENT,
    PHARMACY_A,
    PHARMACY_B,
    PRACTICE,
    Region,
    items,
    later,
    medication_request,
    region,
    request,
    sign,
)

NOW = int(AT.timestamp() * 1000)
TABLE = Transitions(statuses={})
VECTORS = json.loads((EXAMPLES / "vectors.json").read_text("utf-8"))["vectors"]


@pytest.fixture(scope="module")
def shared() -> Iterator[Region]:
    with region() as made:
        yield made


@pytest.fixture
def here(shared: Region) -> Region:
    """The region, with few prescriptions in it: moto copies a table for each transaction."""
    tables = wiring.table_names()
    for table, keeps in ((tables.clinical, is_of_person), (tables.operations, is_client), (tables.audit, is_none)):
        client = wiring.aws("dynamodb")
        found = [item for item in client.scan(TableName=table)["Items"] if not keeps(item["PK"]["S"], item["SK"]["S"])]
        for start in range(0, len(found) if len(found) > 40 else 0, 25):
            keys = [{part: item[part] for part in ("PK", "SK")} for item in found[start : start + 25]]
            client.batch_write_item(RequestItems={table: [{"DeleteRequest": {"Key": key}} for key in keys]})
    return shared


def is_of_person(pk: str, sk: str) -> bool:
    return pk.startswith("P#") and sk.startswith(("c#", "v#PAT", "e#PAT"))


def is_client(pk: str, sk: str) -> bool:
    return pk.startswith("C#")


def is_none(pk: str, sk: str) -> bool:
    return False


def refusal(call: Any, *arguments: Any, **options: Any) -> PasserelleError:
    with pytest.raises(PasserelleError) as refused:
        call(*arguments, **options)
    return refused.value


def rx_code(error: PasserelleError) -> str:
    details = error.issues[0].details
    assert details is not None
    return details.code


