"""Many who change one document at once: no label is lost, none is lifted that nobody named."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import httpx
import pytest

from local.exchange import ExchangeClient
from passerelle.consents.visibility import labels as all_labels
from tests.documents import ARCHIVE_PATH, document, label, labels, operation, relabel
from tests.stack_process import Running, at_once

MANY = 32
HEADERS = {"Content-Type": "application/json-patch+json"}


@pytest.fixture
def client(running: Running) -> ExchangeClient:
    made = running.client("practice")
    made.token()
    return made


def published(client: ExchangeClient, person: str, unique: str, *codes: str) -> str:
    told = {"securityLabel": [label(each) for each in codes]} if codes else {}
    master = {"system": "urn:ietf:rfc:3986", "value": unique}
    made = client.request(
        "POST", "DocumentReference", json=document(f"Patient/{person}", masterIdentifier=master, **told)
    )
    assert made.status_code == 201, made.text
    return f"DocumentReference/{made.json()['id']}"


def test_every_label_of_many_survives(client: ExchangeClient, person: str) -> None:
    place = published(client, person, "urn:oid:2.999.1.79.1", "N")
    codes = [*all_labels(), "archive"]

    def change(number: int) -> httpx.Response:
        code = codes[number % len(codes)]
        patch = [operation("replace", ARCHIVE_PATH, True)] if code == "archive" else relabel(code)
        return client.request("PATCH", place, json=patch, headers=HEADERS)

    assert Counter(answer.status_code for answer in at_once(MANY, change)) == {200: MANY}
    now = client.request("GET", place).json()
    assert sorted(labels(now)) == sorted(["N", *all_labels()])
    assert now["extension"][0]["valueBoolean"] is True
    assert now["meta"]["versionId"] == str(1 + len(codes))  # what was there already made no version


def test_many_n_lift_one_label(client: ExchangeClient, person: str) -> None:
    """While others mask: N lifts what its sender could see, or is refused."""
    place = published(client, person, "urn:oid:2.999.1.79.2", "N", "MASQUE_PT")

    def change(number: int) -> httpx.Response:
        patch = relabel("INVISIBLE_PATIENT" if number == 0 else "N")
        return client.request("PATCH", place, json=patch, headers=HEADERS)

    answers = at_once(MANY, change)
    assert {answer.status_code for answer in answers} <= {200, 412, 422}
    history = client.request("GET", f"{place}/_history?_count=100").json()
    versions = [set(labels(each["resource"])) for each in reversed(history["entry"])]
    for before, after in pairwise(versions):
        assert len(before - after) <= 1
