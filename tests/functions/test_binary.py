"""Binary as R4 section 2.39 has it: as a resource for who accepts FHIR, as bytes for who accepts their type."""

from __future__ import annotations

import base64

import pytest

from tests.exchange import Client, Exchange
from tests.functions.test_patients import register

DATA = "compte rendu d'opération".encode()


@pytest.fixture(scope="module")
def key(exchange: Exchange) -> str:
    return str(register(exchange.client("hospital-a"), 2).json["id"])


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a", "system/*.cruds")


def binary(key: str, data: bytes = DATA) -> dict[str, object]:
    return {
        "resourceType": "Binary",
        "contentType": "text/plain",
        "securityContext": {"reference": f"Patient/{key}"},
        "data": base64.b64encode(data).decode(),
    }


def test_it_comes_back_in_the_form_asked_for(hospital: Client, key: str) -> None:
    made = hospital.post("Binary", binary(key))
    assert made.status == 201
    place = f"Binary/{made.json['id']}"
    plain = hospital.get(place, Accept="text/plain")
    assert (plain.status, plain.body, plain.header("Content-Type")) == (200, DATA, "text/plain")
    assert hospital.get(place).body == DATA
    resource = hospital.get(place, Accept="application/fhir+json")
    assert (resource.json, resource.header("Content-Type")) == (made.json, "application/fhir+json")
    assert b"<Binary xmlns" in hospital.get(place, Accept="application/fhir+xml").body
    assert hospital.get(place, Accept="application/pdf").status == 406
    assert hospital.get(f"{place}/_history/1").json == made.json


def test_it_is_in_somebodys_record(hospital: Client, key: str, exchange: Exchange) -> None:
    nobody = {name: value for name, value in binary(key).items() if name != "securityContext"}
    assert hospital.post("Binary", nobody).status == 422
    made = hospital.post("Binary", binary(key)).json["id"]
    stranger = exchange.client("patient-1", "system/Binary.r")
    unknown = f"{made[:-1]}{'0' if made[-1] != '0' else '1'}"
    hidden, absent = stranger.get(f"Binary/{made}"), stranger.get(f"Binary/{unknown}")
    assert hidden.status == 404
    assert hidden.body == absent.body


def test_a_large_one_is_kept_whole(hospital: Client, key: str) -> None:
    import random

    data = random.Random(7).randbytes(700_000)
    made = hospital.post("Binary", binary(key, data), Prefer="return=minimal")
    assert made.status == 201
    place = str(made.header("Location")).partition("/fhir/")[2].partition("/_history")[0]
    assert hospital.get(place, Accept="text/plain").body == data
    assert hospital.request("DELETE", place).status == 200
    assert hospital.get(place).status == 410
