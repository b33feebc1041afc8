"""Lists of prescriptions over HTTP: the patient's, the pharmacy's, the practice's; one by its number; in a batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from functions.directory.handler import handler as directory
from functions.records.handler import handler as records
from passerelle.access import Caller
from tests.prescribing import OTHER_PATIENT, OTHER_PRACTICE, PATIENT, PHARMACY_A, PHARMACY_B, PRACTICE, bundle, region
from tests.prescribing_http import BASE, Answer, Api, parameters, supply

CODE = "code=fulfil-prescription"


@pytest.fixture
def api() -> Iterator[Api]:
    with region() as made:
        yield Api(made)


def search(api: Api, query: str = "", by: Caller = PRACTICE) -> Answer:
    return api.read(f"/Task?{CODE}{query}", by=by)


def groups(answer: Answer) -> list[str]:
    """Ids of the group Tasks found."""
    assert answer.status == 200, answer.body
    tasks = [entry["resource"] for entry in answer.body.get("entry", [])]
    return [task["id"] for task in tasks if "partOf" not in task]


def lines(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    tasks = [entry["resource"] for entry in answer.body.get("entry", [])]
    return [task["id"] for task in tasks if "partOf" in task]


def draft(api: Api) -> str:
    id: str = api.call("/Task/$create", bundle(api.order())).resources("Task")[0]["id"]
    return id


def test_a_patient_sees_the_own_prescriptions_newest_first(api: Api) -> None:
    first, second = api.issued()[0], api.issued()[0]
    of_patient = f"&patient=Patient/{api.region.patient}"
    assert groups(search(api, of_patient, PATIENT)) == sorted([first, second], reverse=True)
    assert lines(search(api, of_patient, PATIENT)) == [f"{each}-01" for each in sorted([first, second], reverse=True)]
    assert sorted(groups(search(api, of_patient, PRACTICE))) == sorted([first, second])
    assert groups(search(api, of_patient, OTHER_PRACTICE)) == []
    assert groups(search(api, of_patient, OTHER_PATIENT)) == []
    assert search(api, "", PATIENT).code == (400, "RX-INVALID")


def test_pages_are_bounded_and_lead_to_each_other(api: Api) -> None:
    ids = sorted((draft(api) for _ in range(5)), reverse=True)
    found: list[str] = []
    query = f"&patient=Patient/{api.region.patient}&_count=2"
    for _ in range(3):
        page = search(api, query, PATIENT)
        found += groups(page)
        following = [each["url"] for each in page.body["link"] if each["relation"] == "next"]
        query = "&" + urlsplit(following[0]).query.replace(f"{CODE}&", "") if following else ""
    assert found == ids
    assert query == ""


def test_what_narrows_a_search_of_tasks_narrows_these(api: Api) -> None:
    open_one, code = api.issued()
    started = draft(api)
    of_patient = f"&patient=Patient/{api.region.patient}"
    assert groups(search(api, f"{of_patient}&status=draft")) == [started]
    assert groups(search(api, f"{of_patient}&status=ready")) == [open_one]
    claim = api.call(f"/Task/{open_one}/$accept", parameters(accessCode=code), by=PHARMACY_A)
    assert claim.status == 200
    held = f"&owner:identifier=urn:oid:1.2.250.1.71.4.2.2%7C{PHARMACY_A.organisation}"
    assert lines(search(api, of_patient + held)) == [f"{open_one}-01"]
    assert lines(search(api, f"{of_patient}&business-status=claimed")) == [f"{open_one}-01"]
    request = claim.resources("MedicationRequest")[0]["id"]
    assert lines(search(api, f"{of_patient}&based-on=MedicationRequest/{request}")) == [f"{open_one}-01"]
    assert groups(search(api, f"&_id={open_one}")) == [open_one]
    assert search(api, f"{of_patient}&_sort=status").code[0] == 400


def test_a_number_finds_its_prescription_for_those_concerned_only(api: Api) -> None:
    id, _ = api.issued()
    number = api.read(f"/Task/{id}").body["groupIdentifier"]
    token = quote(f"{number['system']}|{number['value']}")
    assert groups(search(api, f"&group-identifier={token}", PATIENT)) == [id]
    nobody = search(api, f"&group-identifier={token}", PHARMACY_A)
    unknown = search(api, "&group-identifier=0000000000", PHARMACY_A)
    assert groups(nobody) == groups(unknown) == []
    line = api.read(f"/Task/{id}-01").body
    request = line["basedOn"][0]["reference"]
    assert request.startswith("MedicationRequest/")


def test_a_pharmacy_sees_what_it_holds_until_it_is_done(api: Api) -> None:
    id, code = api.issued()
    assert groups(search(api, "", PHARMACY_A)) == []
    claim = api.call(f"/Task/{id}/$accept", parameters(accessCode=code), by=PHARMACY_A)
    assert groups(search(api, "", PHARMACY_A)) == [id]
    assert groups(search(api, "", PHARMACY_B)) == []
    api.call(f"/Task/{id}-01/$dispense", supply(claim.told("secret"), 90), by=PHARMACY_A)
    assert groups(search(api, "", PHARMACY_A)) == []


def test_a_pharmacy_sees_what_is_routed_to_it(api: Api) -> None:
    id, _ = api.issued()
    destination = {"system": "urn:oid:1.2.250.1.71.4.2.2", "value": PHARMACY_B.organisation}
    listed = {"resourceType": "Organization", "identifier": [destination], "name": "Pharmacie B"}
    options: dict[str, Any] = {"by": OTHER_PRACTICE, "function": directory, "scope": "system/Organization.c"}
    assert api.call("/Organization", listed, **options).status == 201
    body = {"resourceType": "Parameters", "parameter": [{"name": "pharmacy", "valueIdentifier": destination}]}
    routed = api.call(f"/Task/{id}/$route", body, by=PATIENT)
    assert routed.status == 200, routed.body
    assert groups(search(api, "", PHARMACY_B)) == [id]
    assert lines(search(api, "&business-status=routed", PHARMACY_B)) == [f"{id}-01"]
    assert api.call(f"/Task/{id}/$route", {"resourceType": "Parameters"}, by=PATIENT).status == 200
    assert groups(search(api, "", PHARMACY_B)) == []


def test_a_practice_sees_what_waits_for_its_signature(api: Api) -> None:
    started = draft(api)
    api.issued()
    assert groups(search(api)) == [started]
    assert groups(search(api, "", OTHER_PRACTICE)) == []


def test_a_prescription_is_read_and_listed_in_a_batch(api: Api) -> None:
    id, _ = api.issued()
    asked = [f"Task/{id}", f"Task/{id}-01", f"Task?{CODE}&patient=Patient/{api.region.patient}", "Task/unknown"]
    body = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [{"request": {"method": "GET", "url": each}} for each in asked],
    }
    answers = batch(body)
    assert [each["response"]["status"][:3] for each in answers] == ["200", "200", "200", "404"]
    assert answers[0]["resource"] == api.read(f"/Task/{id}").body
    assert {each["resource"]["id"] for each in answers[2]["resource"]["entry"]} == {id, f"{id}-01"}


def batch(body: dict[str, Any]) -> list[dict[str, Any]]:
    context = {
        "client_id": PRACTICE.client_id,
        "organisation": PRACTICE.organisation,
        "role": PRACTICE.role,
        "scope": "system/Task.rs",
        "jti": "token-1",
        "professional": PRACTICE.professional,
    }
    event = {
        "httpMethod": "POST",
        "path": "/fhir",
        "multiValueQueryStringParameters": None,
        "headers": {"Content-Type": "application/fhir+json"},
        "body": json.dumps(body),
        "isBase64Encoded": False,
        "requestContext": {"requestId": "r-1", "domainName": "api.example", "path": "/fhir", "authorizer": context},
    }
    answer = records(event, None)
    assert answer["statusCode"] == 200, answer["body"]
    found: list[dict[str, Any]] = json.loads(answer["body"])["entry"]
    return found


def test_the_line_of_a_prescription_has_its_number(api: Api) -> None:
    """Contract section 3, line id: the number and two digits, on what is signed."""
    id, code = api.issued(api.order(), api.order())
    claim = api.call(f"/Task/{id}/$accept", parameters(accessCode=code), by=PHARMACY_A)
    number = api.read(f"/Task/{id}").body["groupIdentifier"]["value"]
    named = [
        each["value"]
        for request in claim.resources("MedicationRequest")
        for each in request["identifier"]
        if each["system"] == f"{BASE}/sid/prescription-line"
    ]
    assert named == [f"{number}-01", f"{number}-02"]
