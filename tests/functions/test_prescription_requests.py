"""Renewals, changes and late supplies over HTTP; what is stored of them, what they cost, and crashes."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import pytest

from passerelle import wiring
from passerelle.access import Caller
from passerelle.aws.dynamodb import measure
from tests.prescribing import (
    OTHER_PRACTICE,
    PATIENT,
    PHARMACY_A,
    PHARMACY_B,
    PRACTICE,
    example,
    items,
    provenance,
    region,
)
from tests.prescribing_http import Answer, Api, parameters

OTHER_PRODUCT = {
    "coding": [{"system": "http://data.esante.gouv.fr/ansm/medicament/SpecialitePharmaceutique", "code": "60000001"}]
}
WORDS = "Le patient dit ne plus en avoir"


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with region() as made:
        yield Api(made)


def coded(**values: Any) -> dict[str, Any]:
    """Parameters whose `answer`, `topic` and `reason` are codes."""
    codes = {name: values.pop(name) for name in ("answer", "topic", "reason") if name in values}
    made = parameters(**values)
    made["parameter"] += [{"name": name, "valueCode": code} for name, code in codes.items()]
    return made


def request_of(answer: Answer) -> Any:
    """The Task of a request, in an answer."""
    (found,) = [task for task in answer.resources("Task") if task["intent"] == "proposal"]
    return found


def claimed(api: Api) -> tuple[str, str]:
    id, code = api.issued()
    return id, api.call(f"/Task/{id}/$accept", parameters(accessCode=code), by=PHARMACY_A).told("secret")


def asked_change(api: Api, id: str, secret: str) -> str:
    proposal = api.order(medicationCodeableConcept=OTHER_PRODUCT)
    body = coded(secret=secret, topic="substitution", text=WORDS, change=proposal)
    answer = api.call(f"/Task/{id}-01/$request-change", body, by=PHARMACY_A)
    assert answer.status == 201, answer.body
    task: str = request_of(answer)["id"]
    return task


def lapse(api: Api, id: str, secret: str) -> None:
    """Give the line back, so that who held it holds it no more."""
    assert api.call(f"/Task/{id}/$reject", parameters(secret=secret), by=PHARMACY_A).status == 200


def late(units: int = 45, **changes: Any) -> dict[str, Any]:
    dispense = {**example("medication-dispense.json"), "quantity": {"value": units, "unit": "comprimé"}, **changes}
    return parameters(dispense=dispense)


def announced() -> set[tuple[str, str]]:
    """Name and reference of all events so far."""
    found = wiring.aws("dynamodb").scan(TableName=wiring.table_names().clinical)["Items"]
    events = [each["M"] for item in found if item["PK"]["S"].startswith("O#") for each in item["events"]["L"]]
    return {(each["name"]["S"], each["reference"]["S"]) for each in events}


def test_a_renewal_from_the_request_to_the_signed_draft(api: Api) -> None:
    """Contract section 5, `$request-renewal` and `$respond-renewal`: 201 and 200."""
    id, _ = api.issued()
    asked = api.call(f"/Task/{id}-01/$request-renewal", parameters(text=WORDS), by=PATIENT)
    assert asked.status == 201
    task = request_of(asked)
    assert asked.headers["Location"].endswith(f"/Task/{id}-r01")
    assert task["requester"] == {"reference": f"Patient/{api.region.patient}"}

    of_patient = f"/Task?patient=Patient/{api.region.patient}&code=renewal-request&status=requested"
    found = api.read(of_patient)
    assert [entry["resource"]["id"] for entry in found.body["entry"]] == [task["id"]]
    listed = api.read(f"/Task?code=fulfil-prescription&_id={id}")
    (group,) = [each["resource"] for each in listed.body["entry"] if "partOf" not in each["resource"]]
    assert {"reference": f"Task/{id}-r01"} in [each.get("valueReference") for each in group["input"]]

    path = f"/Task/{task['id']}/$respond-renewal"
    assert api.call(path, coded(answer="deny", reason="too-early"), by=OTHER_PRACTICE).code == (404, "RX-NOT-FOUND")
    key = str(uuid.uuid4())
    done, again = (api.call(path, coded(answer="approve"), key=key) for _ in range(2))
    assert (done.status, again.body) == (200, done.body)
    draft = done.resources("Task")[0]["id"]
    assert (done.resources("Task")[0]["status"], done.told("number")) == ("draft", done.told("number"))
    assert api.call(path, coded(answer="approve")).code == (409, "RX-STATE")

    prepared = api.call(f"/Task/{draft}/$prepare", key=None)
    content = base64.b64decode(prepared.told("content")).decode()
    assert json.loads(content)["lines"][0]["priorPrescription"] == task["basedOn"][0]
    signed = api.call(f"/Task/{draft}/$activate", provenance(content, at=datetime.now(UTC)))
    assert signed.status == 200, signed.body
    answered = api.read(f"/Task/{task['id']}", by=PATIENT).body
    assert (answered["status"], answered["meta"]["versionId"]) == ("completed", "2")
    assert api.read(of_patient).body.get("entry", []) == []


def test_another_prescription_instead_and_a_denial(api: Api) -> None:
    """Contract section 5: approve-with-changes, deny(reason)."""
    id, _ = api.issued()
    api.call(f"/Task/{id}-01/$request-renewal", parameters(text=WORDS), by=PATIENT)
    path = f"/Task/{id}-r01/$respond-renewal"
    order = {"name": "order", "resource": api.order(medicationCodeableConcept=OTHER_PRODUCT)}
    instead = coded(answer="approve-with-changes")
    assert api.call(path, instead).code == (400, "RX-INVALID")
    assert api.call(path, coded(answer="deny")).code == (400, "RX-INVALID")
    instead["parameter"].append(order)
    done = api.call(path, instead)
    assert done.status == 200, done.body
    line = done.resources("Task")[1]
    assert line["contained"][0]["medicationCodeableConcept"] == OTHER_PRODUCT
    api.call(f"/Task/{id}-01/$request-renewal", parameters(text=WORDS), by=PATIENT)
    denied = api.call(f"/Task/{id}-r02/$respond-renewal", coded(answer="deny", reason="visit-needed"))
    assert request_of(denied)["status"] == "rejected"


def test_a_change_from_the_request_to_the_supply(api: Api) -> None:
    """Contract sections 5 and 12, `$request-change` and `$respond-change`: what is supplied is what was signed."""
    id, secret = claimed(api)
    task = asked_change(api, id, secret)
    read = api.read(f"/Task/{task}").body
    assert read["contained"][0]["medicationCodeableConcept"] == OTHER_PRODUCT
    change = api.order(medicationCodeableConcept=OTHER_PRODUCT)
    prepared = api.call(f"/Task/{task}/$prepare-change", parameters(change=change), key=None)
    assert prepared.status == 200, prepared.body
    content = base64.b64decode(prepared.told("content")).decode()
    signed = provenance(content, at=datetime.now(UTC))
    answer = coded(answer="approve", change=change, provenance=signed, cdsDigest=prepared.told("cdsDigest"))
    forged = provenance(content.replace("60000001", "60000002"), at=datetime.now(UTC))
    wrong = coded(answer="approve", change=change, provenance=forged)
    path = f"/Task/{task}/$respond-change"
    assert api.call(path, wrong).code == (422, "RX-SIGNATURE")
    done = api.call(path, answer)
    assert done.status == 200, done.body
    told = {each["type"]["text"]: each for each in request_of(done)["output"]}
    assert base64.b64decode(told["content"]["valueBase64Binary"]).decode() == content
    supply = {**example("medication-dispense.json"), "medicationCodeableConcept": OTHER_PRODUCT}
    half = api.call(f"/Task/{id}-01/$dispense", parameters(secret=secret, dispense=supply), by=PHARMACY_A)
    assert half.status == 200, half.body


def test_a_question_and_its_answer(api: Api) -> None:
    """Contract section 5: clarify."""
    id, secret = claimed(api)
    path = f"/Task/{id}-01/$request-change"
    assert api.call(path, coded(secret=secret, topic="clarify"), by=PHARMACY_A).code == (400, "RX-INVALID")
    assert api.call(path, coded(secret="wrong", topic="dose"), by=PHARMACY_A).code == (403, "RX-SECRET")
    asked = api.call(path, coded(secret=secret, topic="clarify", text=WORDS), by=PHARMACY_A)
    assert asked.status == 201
    done = api.call(f"/Task/{id}-r01/$respond-change", coded(answer="clarify", text="Matin et soir"))
    assert (done.status, request_of(done)["status"]) == (200, "completed")


def test_a_late_supply_is_kept_beside_the_ledger(api: Api) -> None:
    """Contract section 8, `$report-late-supply`: 202, and the line as it was."""
    id, secret = claimed(api)
    path = f"/Task/{id}-01/$report-late-supply"
    assert api.call(path, late(), by=PHARMACY_A).code == (409, "RX-STATE")
    lapse(api, id, secret)
    assert api.call(path, late(), by=PHARMACY_B).code == (404, "RX-NOT-FOUND")
    before = api.read(f"/Task/{id}-01").body
    identified = [{"system": "urn:oid:2.999.5", "value": f"D-{id}"}]
    done = api.call(path, late(identifier=identified), by=PHARMACY_A)
    assert done.status == 202, done.body
    after = api.read(f"/Task/{id}-01").body
    assert (after["extension"], after["status"]) == (before["extension"], before["status"])
    (dispense,), (issue,) = done.resources("MedicationDispense"), done.resources("DetectedIssue")
    assert {"reference": f"MedicationDispense/{dispense['id']}"} in issue["implicated"]
    assert announced() >= {
        ("prescription-changed", f"Task/{id}"),
        ("record-changed", f"MedicationDispense/{dispense['id']}"),
        ("record-changed", f"DetectedIssue/{issue['id']}"),
    }
    again = api.call(path, late(identifier=identified), by=PHARMACY_A)
    assert again.code == (409, "RX-DUPLICATE")
    assert f"MedicationDispense/{dispense['id']}" in again.body["issue"][0]["diagnostics"]


@pytest.mark.parametrize("operation", ["$respond-renewal", "$respond-change", "$prepare-change"])
def test_what_is_no_request_is_not_found(api: Api, operation: str) -> None:
    id, _ = api.issued()
    body = coded(answer="deny", reason="too-early")
    if operation == "$prepare-change":
        body = parameters(change=api.order())
    for task in (id, f"{id}-01", f"{id}-r01", f"{id}-r1", "x"):
        assert api.call(f"/Task/{task}/{operation}", body).code == (404, "RX-NOT-FOUND")


def test_words_have_a_limit(api: Api) -> None:
    id, _ = api.issued()
    long = api.call(f"/Task/{id}-01/$request-renewal", parameters(text="é" * 1001), by=PATIENT)
    assert long.code == (400, "RX-INVALID")
    assert api.call(f"/Task/{id}-01/$request-renewal", parameters(text="é" * 1000), by=PATIENT).status == 201


def test_no_client_takes_the_id_of_a_request_or_a_line(api: Api) -> None:
    id, _ = api.issued()
    for name in (f"{id}-r01", f"{id}-02"):
        squatting: dict[str, Any] = {"resourceType": "Task", "id": name, "status": "draft", "intent": "order"}
        squatting["for"] = {"reference": f"Patient/{api.region.patient}"}
        answer = api.call(f"/Task/{name}", squatting, method="PUT", scope="system/*.cruds")
        assert answer.status == 404


def test_words_and_products_are_sealed_and_in_no_event(api: Api) -> None:
    id, secret = claimed(api)
    asked_change(api, id, secret)
    names = wiring.table_names()
    kept = json.dumps(wiring.aws("dynamodb").scan(TableName=names.clinical)["Items"], default=str)
    for word in (WORDS, '"S": "substitution"', "60000001", "61234567", "EXEMPLINE"):
        assert word not in kept


# --- one read, one transaction; a crash after the commit ----------------------------------------------------------


class Crash(BaseException):
    """The process ends here."""


def crashed(api: Api, path: str, body: Any, *, by: Caller) -> Answer:
    """The process ends between the commit and the answer; the same request again."""
    journal, key = type(wiring.journal()), str(uuid.uuid4())
    commit = journal.commit

    def ending(self: Any, changes: Any) -> None:
        commit(self, changes)
        raise Crash

    with patch.object(journal, "commit", ending), pytest.raises(Crash):
        api.call(path, body, by=by, key=key)
    stored = items()
    answer = api.call(path, body, by=by, key=key)
    assert items() == stored
    assert answer.headers["Idempotency-Replayed"] == "true"
    return answer


def test_after_a_crash_an_approval_is_given_again(api: Api) -> None:
    """Contract section 19, test 4."""
    id, _ = api.issued()
    api.call(f"/Task/{id}-01/$request-renewal", parameters(text=WORDS), by=PATIENT)
    done = crashed(api, f"/Task/{id}-r01/$respond-renewal", coded(answer="approve"), by=PRACTICE)
    assert (done.status, done.told("accessCode")) == (200, done.told("accessCode"))


def test_after_a_crash_a_late_supply_is_one(api: Api) -> None:
    """Contract section 19, test 4."""
    id, secret = claimed(api)
    lapse(api, id, secret)
    done = crashed(api, f"/Task/{id}-01/$report-late-supply", late(), by=PHARMACY_A)
    assert (done.status, len(api.region.stored(id).late)) == (202, 1)


def test_each_is_one_round_of_reads_and_one_transaction(api: Api) -> None:
    id, secret = claimed(api)
    with measure() as change:
        task = asked_change(api, id, secret)
    with measure() as answer:
        api.call(f"/Task/{task}/$respond-change", coded(answer="deny", reason="clinical-grounds"))
    lapse(api, id, secret)
    with measure() as supply:
        api.call(f"/Task/{id}-01/$report-late-supply", late(), by=PHARMACY_A)
    with measure() as asked:
        api.call(f"/Task/{id}-01/$request-renewal", by=PHARMACY_A)
    with measure() as approval:
        api.call(f"/Task/{id}-r02/$respond-renewal", coded(answer="approve"))
    for cost in (change, answer, supply, asked, approval):
        assert (cost.calls.count("TransactWriteItems"), cost.round_trips) == (1, 2)
