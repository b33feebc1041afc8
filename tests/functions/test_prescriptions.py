"""Task over HTTP: scopes, the contract's error codes, garbage, and a life as the demonstration plays it."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from unittest.mock import ANY

import pytest

from passerelle import wiring
from passerelle.audit.ports import Span
from tests.prescribing import OTHER_PRACTICE, PATIENT, PHARMACY_A, PHARMACY_B, PRACTICE, bundle, region
from tests.prescribing_http import Api, parameters, supply


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with region() as made:
        yield Api(made)


def test_the_story(api: Api) -> None:
    id, code = api.issued()
    claim = api.call(f"/Task/{id}/$accept", parameters(accessCode=code), by=PHARMACY_A)
    assert claim.status == 200
    secret = claim.told("secret")
    (binary,), (signature,) = claim.resources("Binary"), claim.resources("Provenance")
    assert (
        json.loads(base64.b64decode(binary["data"]))["number"] == claim.resources("Task")[0]["groupIdentifier"]["value"]
    )
    assert signature["signature"][0]["sigFormat"] == "application/jose"
    assert claim.resources("MedicationRequest")[0]["status"] == "active"

    other = api.call(f"/Task/{id}/$accept", parameters(accessCode=code), by=PHARMACY_B)
    assert other.code == (409, "RX-CLAIMED-BY-OTHER")
    assert "leaseUntil=" in other.body["issue"][0]["diagnostics"]
    assert PHARMACY_A.organisation not in json.dumps(other.body)

    line = f"/Task/{id}-01"
    half = api.call(f"{line}/$dispense", supply(secret, 45), by=PHARMACY_A)
    assert (half.status, half.told("remaining")) == (200, 45)
    rest = api.call(f"{line}/$dispense", supply(secret, 45), by=PHARMACY_A)
    assert (rest.status, rest.told("remaining"), rest.told("task")["status"]) == (200, 0, "completed")
    assert api.call(f"{line}/$dispense", supply(secret, 1), by=PHARMACY_A).code == (409, "RX-DONE")

    group = api.call(f"/Task/{id}", method="GET", key=None).body
    assert (group["status"], group["meta"]["versionId"]) == ("completed", "5")
    seen = api.call(line, method="GET", key=None, by=PHARMACY_A).body
    assert seen["businessStatus"]["coding"][0]["code"] == "dispensed"
    assert len(seen["output"]) == 2

    id, _ = api.issued()
    gone = api.call(f"/Task/{id}/$cancel", parameters(reason="prescribing-error"))
    assert (gone.status, [each["status"] for each in gone.resources("Task")]) == (
        200,
        ["cancelled", "cancelled"],
    )


def test_a_claim_by_number_and_giving_it_back(api: Api) -> None:
    id, code = api.issued()
    number = api.call(f"/Task/{id}", method="GET", key=None).body["groupIdentifier"]["value"]
    printed = "-".join(number[start : start + 4] for start in range(0, 20, 4)).lower()
    claim = api.call("/Task/$accept", parameters(number=printed, accessCode=code), by=PHARMACY_A)
    assert claim.status == 200
    back = api.call(
        f"/Task/{id}/$reject", parameters(secret=claim.told("secret"), reason="out-of-stock"), by=PHARMACY_A
    )
    assert [each["status"] for each in back.resources("Task")] == ["ready", "ready"]
    assert back.headers["ETag"] == 'W/"4"'
    asked = api.call(f"/Task/{id}/$cancel", parameters(reason="patient-request"), by=PATIENT)
    assert asked.status == 200


def test_a_claimed_line_is_cancelled_later(api: Api) -> None:
    id, code = api.issued()
    api.call(f"/Task/{id}/$accept", parameters(accessCode=code), by=PHARMACY_A)
    pending = api.call(f"/Task/{id}-01/$cancel", parameters(reason="death"))
    assert pending.status == 202
    assert pending.resources("Task")[1]["businessStatus"]["coding"][0]["code"] == "cancel-pending"


def test_a_repeated_request_is_answered_byte_for_byte(api: Api) -> None:
    key, body = str(uuid.uuid4()), bundle(api.order())
    first, again = (api.call("/Task/$create", body, key=key) for _ in range(2))
    assert json.dumps(again.body) == json.dumps(first.body)
    assert again.status == first.status == 201
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    other = api.call("/Task/$create", bundle(api.order(), api.order()), key=key)
    assert other.code == (422, "RX-IDEMPOTENCY-MISMATCH")


@pytest.mark.parametrize("operation", ["$prepare", "$activate", "$accept", "$dispense", "$reject", "$cancel"])
def test_scope_comes_first(api: Api, operation: str) -> None:
    answer = api.call(f"/Task/{api.region.patient}-0/{operation}", "not JSON", scope="system/Patient.cruds")
    assert (answer.status, answer.body["issue"][0]["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "path", ["$create", "$accept", "x/$activate", "x/$accept", "x/$dispense", "x/$reject", "x/$cancel"]
)
@pytest.mark.parametrize(
    "body",
    [
        "",
        "not JSON",
        "[]",
        "null",
        '{"resourceType":"Patient"}',
        '{"resourceType":"Parameters","parameter":[{"name":"x"}]}',
    ],
)
def test_garbage_is_refused_with_a_code(api: Api, path: str, body: str) -> None:
    by = PRACTICE if path in ("$create", "x/$activate", "x/$cancel") else PHARMACY_A
    assert api.call(f"/Task/{path}", body, by=by).code == (400, "RX-INVALID")


def test_a_key_is_required_to_write_and_not_to_read(api: Api) -> None:
    assert api.call("/Task/$create", bundle(api.order()), key=None).code == (400, "RX-IDEMPOTENCY-MISSING")
    assert api.call("/Task/unknown", method="GET", key=None).code == (404, "RX-NOT-FOUND")


def test_others_do_not_see_it(api: Api) -> None:
    id, _ = api.issued()
    unknown = api.call("/Task/unknown", method="GET", key=None, by=PHARMACY_A)
    for by in (PHARMACY_A, OTHER_PRACTICE):
        answer = api.call(f"/Task/{id}", method="GET", key=None, by=by)
        assert (answer.code, answer.body) == ((404, "RX-NOT-FOUND"), unknown.body)


def test_a_person_whose_record_is_not_there_gets_no_prescription(api: Api) -> None:
    stranger = api.order() | {"subject": {"reference": "Patient/0000000000000000"}}
    assert api.call("/Task/$create", bundle(stranger)).code == (404, "RX-NOT-FOUND")


def test_the_first_fault_names_its_place(api: Api) -> None:
    faulty = api.order() | {"intent": "plan"}
    answer = api.call("/Task/$create", bundle(api.order(), faulty))
    assert answer.code == (400, "RX-INVALID")
    assert answer.body["issue"][0]["expression"] == ["Bundle.entry[1].resource.status"]
    missing = api.order()
    del missing["subject"]
    answer = api.call("/Task/$create", bundle(missing))
    assert answer.code == (400, "RX-INVALID")
    assert answer.body["issue"][0]["expression"] == [ANY]


def test_every_access_is_recorded_with_its_patient(api: Api) -> None:
    id, code = api.issued()
    api.call(f"/Task/{id}/$accept", parameters(accessCode="wrong"), by=PHARMACY_B)
    api.call(f"/Task/{id}/$accept", parameters(accessCode=code), by=PHARMACY_A)
    api.call(f"/Task/{id}", method="GET", key=None)
    span = Span(since=datetime(2020, 1, 1, tzinfo=UTC), until=datetime.now(UTC))
    records = list(islice(wiring.trail().of_patients([api.region.patient], span), 4))
    assert [(each.name, each.outcome) for each in records] == [
        ("read", "0"),
        ("$accept", "0"),
        ("$accept", "4"),
        ("$activate", "0"),
    ]
    assert {each.patient for each in records} == {api.region.patient}
    assert f"Task/{id}" in records[1].references
