"""What reading and writing a record costs: round trips before the answer, and read units however large it is.

The ceilings are those of the design, audit included, counted by the rules DynamoDB bills by; the authorizer's own
look-up is apart.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from moto.dynamodb.models import dynamodb_backends

from local.gateway import Response
from passerelle import wiring
from passerelle.aws.dynamodb import Meter, measure
from passerelle.aws.journal import actions_of
from passerelle.fhir.resource import ResourceDraft
from passerelle.identifiers import new_resource_id
from passerelle.records.model import RecordVersion, ResourceKey
from passerelle.records.search import Entry
from tests import examples
from tests.exchange import URL, Client, Exchange
from tests.functions.test_patients import register

AUTHORIZER = 1  # round trips, and read units
OBSERVATIONS = 5_000  # in one record
CODES = 40
_FIRST = datetime(2020, 10, 1, 8, tzinfo=UTC)
_EVERY = timedelta(hours=9)  # for five years
_CATEGORIES = "http://terminology.hl7.org/CodeSystem/observation-category"


@pytest.fixture(scope="module")
def practice(exchange: Exchange) -> Client:
    client = exchange.client("practice")
    client.token()
    return client


@pytest.fixture(scope="module")
def key(exchange: Exchange) -> str:
    return str(register(exchange.client("hospital-a"), 1).json["id"])


def spent_by(attempt: Callable[[], Response]) -> Meter:
    with measure() as spent:
        answer = attempt()
    assert answer.status in (200, 201), answer.body
    return spent


def test_round_trips_before_the_answer(exchange: Exchange, practice: Client, key: str) -> None:
    """Each is a moment that a clinician waits: none may come back unnoticed."""
    created = practice.post("Observation", examples.observation(key)).json["id"]
    place = f"Observation/{created}"
    chosen = f"chosen-{key}"
    assert practice.put(f"Observation/{chosen}", examples.observation(key, id=chosen)).status == 201
    as_json_patch = {"Content_Type": "application/json-patch+json"}
    json_patch = b'[{"op":"replace","path":"/status","value":"corrected"}]'

    def conditional(value: str) -> Response:
        content = examples.observation(key, identifier=[{"system": "urn:cost", "value": value}])
        asked = f"patient={key}&identifier=urn:cost|{value}"
        return practice.post("Observation", content, If_None_Exist=asked)

    costs: dict[str, tuple[int, Callable[[], Response]]] = {
        "read": (2, lambda: practice.get(place)),
        "vread": (2, lambda: practice.get(f"{place}/_history/1")),
        "read of a chosen id": (3, lambda: practice.get(f"Observation/{chosen}")),
        "history": (2, lambda: practice.get(f"{place}/_history")),
        "search": (3, lambda: practice.get(f"Observation?patient={key}")),
        "search by code": (3, lambda: practice.get(f"Observation?patient={key}&code=http://loinc.org|718-7&_count=1")),
        "history of a type": (4, lambda: practice.get(f"Observation/_history?patient={key}")),
        "create": (2, lambda: practice.post("Observation", examples.observation(key))),
        "update": (2, lambda: practice.put(place, examples.observation(key, id=created, status="amended"))),
        "patch": (2, lambda: practice.request("PATCH", place, json_patch, **as_json_patch)),
        # Whose record, how often the guard was committed, what is there, the commit: each needs the one before.
        "conditional create": (4, lambda: conditional("1")),
        "delete": (2, lambda: practice.request("DELETE", place)),
    }
    found = {name: spent_by(attempt).round_trips - AUTHORIZER for name, (_, attempt) in costs.items()}
    assert found == {name: ceiling for name, (ceiling, _) in costs.items()}


@pytest.fixture(scope="module")
def large(exchange: Exchange) -> str:
    """A person with five thousand results, as commits would have left them."""
    patient = str(register(exchange.client("hospital-a"), 2).json["id"])
    tables = wiring.table_names()
    table = dynamodb_backends[exchange.stack.account][exchange.stack.region].tables[tables.clinical]
    samples = [_result(patient, f"{code}-0") for code in range(CODES)]
    for number in range(OBSERVATIONS):
        at = _FIRST + number * _EVERY
        key = ResourceKey(type="Observation", id=new_resource_id(patient, at), patient=patient)
        entry, moment = samples[number % CODES], f"{at:%Y%m%d%H%M%S}"
        values = {**entry.values, "_lastUpdated": (f"{moment}/{moment}",), "date": (f"{moment}/{moment}",)}
        entry = replace(entry, sort_at=moment[:12], values=values)
        change = RecordVersion(key=key, version=1, at=at, body=b'{"resourceType":"Observation"}', entry=entry)
        for action in actions_of(change, tables):  # straight into the emulator: a call for each would take minutes
            table.put_item(in_wire(action.request["Item"]))
    return patient


def _result(patient: str, code: str) -> Entry:
    content = examples.observation(
        patient,
        code={"coding": [{"system": "http://loinc.org", "code": code, "display": "Hémoglobine"}]},
        category=[{"coding": [{"system": _CATEGORIES, "code": "laboratory"}]}],
        encounter={"reference": f"Encounter/{patient}-{'0' * 26}"},
        performer=[{"reference": "Organization/laboratoire"}],
    )
    return ResourceDraft(content, f"{URL}/fhir").entry("any", 1, _FIRST)


def in_wire(item: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """As it comes over the wire: bytes in base64."""
    return {
        name: {"B": base64.b64encode(value["B"]).decode()} if "B" in value else dict(value)
        for name, value in item.items()
    }


@pytest.mark.parametrize(
    ("query", "units", "count"),
    [
        ("code=http://loinc.org|7-0&_count=1", 2, 1),  # the latest of a kind
        ("date=ge2025-03-01&date=lt2025-04-01&_count=200", 10, 83),  # a month
        ("_count=50", 8, 50),  # the first page
        ("_count=50&_sort=date", 8, 50),
        ("code=http://loinc.org|7-0,http://loinc.org|8-0&_count=5", 4, 5),
    ],
)
def test_read_units_do_not_grow_with_the_record(
    practice: Client, large: str, query: str, units: float, count: int
) -> None:
    """What is read of the index; the bodies of the page, and who the person is, are reads of single items."""
    with measure() as spent:
        answer = practice.get(f"Observation?patient={large}&{query}")
    assert len(answer.json["entry"]) == count
    assert spent.read_units_of["Query"] <= units, dict(spent.read_units_of)
    assert spent.round_trips - AUTHORIZER <= 3, spent.calls


def test_a_history_reads_what_changed_and_not_what_there_is(practice: Client, large: str) -> None:
    since = (_FIRST + (OBSERVATIONS - 10) * _EVERY).isoformat().replace("+", "%2B")
    with measure() as spent:
        answer = practice.get(f"Observation/_history?patient={large}&_since={since}")
    assert len(answer.json["entry"]) == 10
    assert spent.read_units_of["Query"] <= 2, dict(spent.read_units_of)  # the marks, and what is hidden
