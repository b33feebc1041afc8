"""Routing, longer leases, declining, withdrawing and lock-out over HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from functions.directory.handler import handler as directory
from passerelle import wiring
from passerelle.access import Caller
from passerelle.aws.dynamodb import measure
from passerelle.aws.lockouts import MOST
from passerelle.prescriptions.numbers import new_number, new_secret
from tests.prescribing import NURSE, OTHER_PRACTICE, PATIENT, PHARMACY_A, PHARMACY_B, PRACTICE, region
from tests.prescribing_http import Api, parameters, supply

FINESS = "urn:oid:1.2.250.1.71.4.2.2"
DISPENSES = "system/MedicationDispense.crus system/Task.crus"


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with region() as made:
        api = Api(made)
        for caller in (PHARMACY_A, PHARMACY_B, NURSE):
            listed = {
                "resourceType": "Organization",
                "identifier": [{"system": FINESS, "value": caller.organisation}],
                "name": caller.client_id,
            }
            made_there = api.call(
                "/Organization", listed, by=OTHER_PRACTICE, function=directory, scope="system/Organization.c"
            )
            assert made_there.status == 201, made_there.body
        yield api


def routed(api: Api, id: str, caller: Caller | None, **more: Any) -> Any:
    parts = parameters(**more)
    if caller is not None:
        chosen = {"name": "pharmacy", "valueIdentifier": {"system": FINESS, "value": caller.organisation}}
        parts["parameter"].append(chosen)
    return api.call(f"/Task/{id}/$route", parts if parts["parameter"] else {"resourceType": "Parameters"}, by=PATIENT)


def test_a_life_by_the_patients_choice(api: Api) -> None:
    """Routed, kept for longer, supplied, taken back, declined: each step as its caller sees it."""
    id, _ = api.issued()
    chosen = routed(api, id, PHARMACY_A)
    assert chosen.status == 200
    assert chosen.told("qr").endswith(f"#{chosen.told('accessCode')}")
    group, line = chosen.resources("Task")
    assert group["restriction"]["recipient"][0]["identifier"]["value"] == PHARMACY_A.organisation
    assert line["businessStatus"]["coding"][0]["code"] == "routed"

    claim = api.call(f"/Task/{id}/$accept", {"resourceType": "Parameters"}, by=PHARMACY_A)
    secret = claim.told("secret")
    kept = api.call(f"/Task/{id}-01/$extend-lease", parameters(secret=secret, reason="awaiting-stock"), by=PHARMACY_A)
    assert kept.resources("Task")[1]["businessStatus"]["coding"][0]["code"] == "awaiting-stock"
    seen = api.read(f"/Task/{id}-01", by=PATIENT).body
    assert seen["businessStatus"]["coding"][0]["code"] == "awaiting-stock"
    assert seen["owner"]["identifier"]["value"] == PHARMACY_A.organisation

    given = api.call(f"/Task/{id}-01/$dispense", supply(secret, 45), by=PHARMACY_A)
    dispense = f"/MedicationDispense/{given.told('dispense')['id']}"
    asked = parameters(reason="wrong-quantity")
    stranger = api.call(f"{dispense}/$withdraw", asked, by=PHARMACY_B, scope=DISPENSES)
    assert stranger.code == (404, "RX-NOT-FOUND")
    back = api.call(f"{dispense}/$withdraw", asked, by=PHARMACY_A, scope=DISPENSES)
    assert (back.status, back.told("remaining"), back.told("dispense")["status"]) == (200, 90, "entered-in-error")
    stored = api.read(dispense, by=PHARMACY_A, scope=DISPENSES).body
    assert (stored["status"], stored["meta"]["versionId"]) == ("entered-in-error", "2")

    refusal = parameters(secret=secret, reason="patient-refused", outcome="close")
    closed = api.call(f"/Task/{id}-01/$decline", refusal, by=PHARMACY_A)
    assert closed.resources("Task")[1]["businessStatus"]["coding"][0]["code"] == "not-dispensed"
    assert api.read(f"/MedicationRequest/{line['basedOn'][0]['reference'].partition('/')[2]}").status in (404, 200)


def test_an_organisation_out_of_the_directory_is_not_routed_to(api: Api) -> None:
    id, _ = api.issued()
    answer = routed(api, id, replace(PHARMACY_A, organisation="9990000099"))
    assert answer.code == (400, "RX-INVALID")


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("$route", {"pharmacy": "1990000052"}),
        ("$route", {"unknown": "x"}),
        ("$decline", {"secret": "x", "reason": "out-of-stock", "outcome": "burn"}),
        ("$decline", {"secret": "x", "reason": "because", "outcome": "close"}),
        ("$extend-lease", {"secret": "x"}),
    ],
)
def test_what_is_said_wrongly_names_its_place(api: Api, operation: str, body: dict[str, str]) -> None:
    by = PATIENT if operation == "$route" else PHARMACY_A
    answer = api.call(f"/Task/{api.region.patient}-x/{operation}", parameters(**body), by=by)
    assert answer.code == (400, "RX-INVALID")
    assert answer.body["issue"][0]["expression"][0].startswith("Parameters.parameter")


def test_a_number_that_does_not_exist_takes_as_long_as_a_wrong_code(api: Api) -> None:
    id, _ = api.issued()
    number = api.read(f"/Task/{id}").body["groupIdentifier"]["value"]
    bodies, trips = [], []
    for tried in (number, new_number()):
        with measure() as spent:
            answer = api.call("/Task/$accept", parameters(number=tried, accessCode=new_secret()), by=PHARMACY_B)
        assert answer.code == (403, "RX-ACCESS-CODE")
        bodies.append(answer.body)
        trips.append(spent.round_trips)
    assert bodies[0] == bodies[1]
    assert abs(trips[0] - trips[1]) <= 1  # the key of a patient is known by now, that of nobody is looked for


def test_ten_wrong_codes_lock_out_who_tries_and_nobody_else(api: Api) -> None:
    """Another client of the same organisation is locked out as well; the patient and other pharmacies are not."""
    guesser = replace(PHARMACY_A, client_id="guesser", organisation="1990000159")
    id, code = api.issued()

    def guess(by: Caller = guesser, with_code: str = "wrong") -> Any:
        return api.call(f"/Task/{id}/$accept", parameters(accessCode=with_code), by=by)

    for _ in range(MOST):
        assert guess().code == (403, "RX-ACCESS-CODE")
    locked = guess(with_code=code)
    assert locked.code == (429, "RX-RATE")
    assert 0 < int(locked.headers["Retry-After"]) <= 86_400
    assert guess(by=replace(guesser, client_id="another"), with_code=code).code == (429, "RX-RATE")
    assert guess(by=PHARMACY_B, with_code=code).status == 200
    other, _ = api.issued()
    assert api.call(f"/Task/{other}/$accept", parameters(accessCode="x"), by=guesser).code == (429, "RX-RATE")
    kept = wiring.aws("dynamodb").scan(TableName=wiring.table_names().operations)["Items"]
    assert not any(id in str(item) for item in kept if item["PK"]["S"].startswith("RXF#"))


def test_wrong_secrets_count_as_well(api: Api) -> None:
    guesser = replace(PHARMACY_B, client_id="guesser", organisation="1990000167")
    id, code = api.issued()
    claimed = api.call(f"/Task/{id}/$accept", parameters(accessCode=code), by=guesser)
    for _ in range(MOST):
        assert api.call(f"/Task/{id}/$reject", parameters(secret="wrong"), by=guesser).code == (403, "RX-SECRET")
    right = parameters(secret=claimed.told("secret"))
    assert api.call(f"/Task/{id}/$reject", right, by=guesser).code == (429, "RX-RATE")
    assert api.call(f"/Task/{id}/$cancel", parameters(reason="death"), by=PRACTICE).status == 202


def test_a_repeated_request_is_no_failure(api: Api) -> None:
    """Its code may have died meanwhile: the answer was given before, and nobody is locked out for asking again."""
    id, code = api.issued()
    key = str(uuid.uuid4())
    for _ in range(MOST + 2):
        answer = api.call(f"/Task/{id}/$accept", parameters(accessCode=code), by=PHARMACY_B, key=key)
        assert answer.status == 200
        routed(api, id, None)
    api.call(f"/Task/{id}/$reject", parameters(secret=answer.told("secret")), by=PHARMACY_B)
    newest = routed(api, id, None).told("accessCode")
    assert api.call(f"/Task/{id}/$accept", parameters(accessCode=newest), by=PHARMACY_B).status == 200
