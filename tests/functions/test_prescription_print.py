"""`$print` over HTTP, and the page that the QR code of a printed prescription leads to."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from functions.links.handler import handler as links
from infra.routes import endpoints
from tests.prescribing import OTHER_PRACTICE, PATIENT, PHARMACY_A, PHARMACY_B, PRACTICE, bundle, region
from tests.prescribing_http import Answer, Api, parameters, supply

PDF = "application/pdf"
SPECIALITY = "http://data.esante.gouv.fr/ansm/medicament/SpecialitePharmaceutique"


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with region() as made:
        yield Api(made)


def printed(api: Api, id: str, code: str, **options: Any) -> Answer:
    return api.call(f"/Task/{id}/$print", parameters(accessCode=code), key=None, **options)


def test_row_print_the_prescriber_and_the_patient_get_the_sheet(api: Api) -> None:
    id, code = api.issued()
    sheets = [printed(api, id, code, by=by, Accept=PDF) for by in (PRACTICE, PATIENT)]
    assert [each.status for each in sheets] == [200, 200]
    assert sheets[0].headers["Content-Type"] == PDF
    assert sheets[0].headers["Cache-Control"] == "no-store"
    assert sheets[0].body[:5] == b"%PDF-"
    assert sheets[0].body == sheets[1].body


def test_row_print_is_a_binary_for_who_asks_for_fhir(api: Api) -> None:
    id, code = api.issued()
    binary = printed(api, id, code, Accept="application/fhir+json").body
    assert (binary["resourceType"], binary["contentType"]) == ("Binary", PDF)
    assert base64.b64decode(binary["data"]) == printed(api, id, code, Accept=PDF).body
    assert printed(api, id, code, Accept="image/png").status == 406


def test_row_print_of_the_new_code_is_for_the_pharmacy_that_completed_a_fill(api: Api) -> None:
    one, other = ({"coding": [{"system": SPECIALITY, "code": each}]} for each in ("69999998", "69999999"))
    id, code = api.issued(*(api.order(medicationCodeableConcept=each) for each in (one, other)))
    claim = api.call(f"/Task/{id}/$accept", parameters(accessCode=code), by=PHARMACY_A)
    supplied = supply(claim.told("secret"), 90)
    supplied["parameter"][1]["resource"]["medicationCodeableConcept"] = one
    done = api.call(f"/Task/{id}-01/$dispense", supplied, by=PHARMACY_A)
    assert done.status == 200, done.body
    new = done.told("accessCode")
    assert printed(api, id, new, by=PHARMACY_A, Accept=PDF).status == 200
    assert printed(api, id, code, by=PHARMACY_A).code == (403, "RX-ACCESS-CODE")
    assert printed(api, id, new, by=PHARMACY_B).code == (404, "RX-NOT-FOUND")


def test_row_print_needs_the_code_a_signature_and_something_to_supply(api: Api) -> None:
    created = api.call("/Task/$create", bundle(api.order()))
    draft = created.resources("Task")[0]["id"]
    assert printed(api, draft, created.told("accessCode")).code == (409, "RX-NOT-SIGNED")
    id, code = api.issued()
    assert printed(api, id, "wrong").code == (403, "RX-ACCESS-CODE")
    assert printed(api, id, code, by=OTHER_PRACTICE).code == (404, "RX-NOT-FOUND")
    assert printed(api, f"{id}-01", code).code == (400, "RX-INVALID")
    assert api.call(f"/Task/{id}/$print", {"resourceType": "Parameters"}, key=None).code == (400, "RX-INVALID")
    api.call(f"/Task/{id}/$cancel", parameters(reason="prescribing-error"))
    assert printed(api, id, code).code == (409, "RX-STATE")


def test_row_print_a_pharmacy_that_guesses_is_locked_out_and_nobody_else(api: Api) -> None:
    id, code = api.issued()
    api.call(f"/Task/{id}/$accept", parameters(accessCode=code), by=PHARMACY_B)
    refusals = [printed(api, id, "wrong", by=PHARMACY_B).code for _ in range(11)]
    assert refusals[0] == (403, "RX-ACCESS-CODE")
    assert refusals[-1] == (429, "RX-RATE")
    for _ in range(11):
        assert printed(api, id, "wrong", by=PATIENT).code == (403, "RX-ACCESS-CODE")
    assert printed(api, id, code, by=PATIENT, Accept=PDF).status == 200


# --- the page of the QR code ------------------------------------------------------------------------------------


def visit(number: str) -> dict[str, Any]:
    event = {
        "httpMethod": "GET",
        "path": f"/fhir/r/{number}",
        "pathParameters": {"number": number},
        "headers": {},
        "requestContext": {"requestId": "r-1"},
    }
    return links(event, SimpleNamespace())


def test_row_qr_the_page_is_the_same_for_every_number(api: Api) -> None:
    id, _ = api.issued()
    number = api.read(f"/Task/{id}").body["groupIdentifier"]["value"]
    pages = [visit(each) for each in (number, "7K3M9QX2V5T8R1HNB4J1", "no number", "../links/x")]
    assert {each["statusCode"] for each in pages} == {200}
    assert len({json.dumps({**each, "headers": sorted(each["headers"].items())}) for each in pages}) == 1


def test_row_qr_the_page_runs_nothing_and_passes_nothing_on() -> None:
    page = visit("7K3M9QX2V5T8R1HNB4J1")
    assert not re.search(r"<script|onload|src=|href=", page["body"])
    assert "pharmacie" in page["body"]
    assert 'lang="en"' in page["body"]
    policy = page["headers"]["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert page["headers"]["Referrer-Policy"] == "no-referrer"
    assert page["headers"]["Cache-Control"] == "no-store"


def test_row_qr_the_code_leads_to_a_path_that_is_served(api: Api) -> None:
    created = api.call("/Task/$create", bundle(api.order()))
    url, _, fragment = created.told("qr").partition("#")
    number = created.told("number")
    assert url.endswith(f"/fhir/r/{number}")
    assert fragment == created.told("accessCode")
    (place,) = [each for each in endpoints() if each.path == "/fhir/r/{number}"]
    assert (place.method, place.function, place.public) == ("GET", "links", True)
