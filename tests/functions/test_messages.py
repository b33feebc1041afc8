"""The patient feed over HTTP: `$process-message` (ITI-93), contract rows 93-1 to 93-4."""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from passerelle.fhir import xml as fhir_xml
from tests import examples
from tests.exchange import Exchange
from tests.feeding import FEED_PATH, code, entry, fed, key_of, message, newcomer, registered, replaced_by, told


def test_93_1_create_update_delete(exchange: Exchange) -> None:
    local, patient = newcomer()
    moved = {**patient, "id": "their-1", "address": [{"city": "Ailleurs"}]}
    answer = fed(
        exchange,
        entry("POST", "Patient", patient, fullUrl="urn:uuid:14298d90-b285-4c4c-8252-5d4e7bb5fdb6"),
        entry("PUT", "Patient/their-1", moved),
    )
    assert code(answer) == "ok"
    created, updated = told(answer)
    assert (created["status"], created["etag"]) == ("201 Created", 'W/"1"')
    assert (updated["status"], updated["etag"]) == ("200 OK", 'W/"2"')
    assert key_of(created) == key_of(updated)
    key = key_of(created)
    practice = exchange.client("practice")
    assert practice.get(f"Patient/{key}").json["address"] == [{"city": "Ailleurs"}]
    assert practice.get(f"Patient?identifier={examples.DOMAIN}|{local}").json["total"] == 1
    answer = fed(exchange, entry("DELETE", f"Patient/{key}"))
    assert (code(answer), told(answer)[0]["status"]) == ("ok", "200 OK")
    assert practice.get(f"Patient/{key}").status == 404  # 93-4
    assert practice.get(f"Patient?identifier={examples.DOMAIN}|{local}").json["total"] == 0


def test_93_1_the_feed_in_xml(exchange: Exchange) -> None:
    local, patient = newcomer()
    body = fhir_xml.dumps(message(entry("POST", "Patient", patient)))
    hospital = exchange.client("hospital-a")
    answer = hospital.request(
        "POST", FEED_PATH, body, Content_Type="application/fhir+xml", Accept="application/fhir+xml"
    )
    assert answer.status == 200
    read = fhir_xml.loads(answer.body)
    assert read["entry"][0]["resource"]["response"]["code"] == "ok"
    assert hospital.get(f"Patient?identifier={examples.DOMAIN}|{local}").json["total"] == 1


@pytest.mark.parametrize("how", ["query", "id", "domain"])
def test_93_1_the_ways_to_name_a_patient(exchange: Exchange, how: str) -> None:
    key, local, patient = registered(exchange)
    url = {
        "query": f"Patient?identifier={examples.DOMAIN}|{local}",
        "id": f"Patient/{key}",
        "domain": "Patient/their-id",
    }[how]
    (response,) = told(fed(exchange, entry("PUT", url, {**patient, "gender": "other"})))
    assert (response["status"], key_of(response)) == ("200 OK", key)
    assert exchange.client("practice").get(f"Patient/{key}").json["gender"] == "other"
    body = {**patient, "gender": "other"} if how == "domain" else None
    (response,) = told(fed(exchange, entry("DELETE", url, body)))
    assert response["status"] == "200 OK"


@pytest.mark.parametrize("survivor", ["identifier", "our id", "their id"])
@pytest.mark.parametrize("is_full", [True, False])
def test_93_1_merge(exchange: Exchange, survivor: str, is_full: bool) -> None:
    key, local, patient = registered(exchange)
    other_key, other, other_patient = registered(exchange)
    ways: dict[str, dict[str, Any]] = {
        "identifier": {"identifier": {"system": examples.DOMAIN, "value": other}},
        "our id": {"reference": f"Patient/{other_key}"},
        "their id": {"reference": "Patient/their-b"},
    }
    said = patient if is_full else {name: patient[name] for name in ("resourceType", "identifier")}
    answer = fed(
        exchange,
        entry("PUT", "Patient/their-b", {**other_patient, "id": "their-b"}),
        entry("PUT", "Patient/their-a", {**said, "id": "their-a", **replaced_by(ways[survivor])}),
    )
    assert (code(answer), [each["status"] for each in told(answer)]) == ("ok", ["200 OK", "200 OK"])
    practice = exchange.client("practice")
    read = practice.get(f"Patient/{key}")  # D9
    assert (read.status, read.json["active"], read.json["name"]) == (200, False, patient["name"])
    (link,) = [each for each in read.json["link"] if each["type"] == "replaced-by"]
    assert link["other"]["reference"] == f"Patient/{other_key}"
    found = practice.get(f"Patient?identifier={examples.DOMAIN}|{local}")
    assert {each["resource"]["id"] for each in found.json["entry"]} == {key, other_key}


def test_93_1_the_merge_of_the_guide_names_our_ids(exchange: Exchange, ihe: Mapping[str, Any]) -> None:
    key, _, patient = registered(exchange)
    other_key, _, _ = registered(exchange)
    text = json.dumps(ihe["ex-patient-merge"]).replace("ex-patient-merged", other_key)
    merge = json.loads(text.replace("ex-patient-merge", key))
    (response,) = told(fed(exchange, entry("PUT", f"Patient/{key}", merge)))
    assert response["status"] == "200 OK", response
    read = exchange.client("practice").get(f"Patient/{key}").json
    assert (read["active"], read["birthDate"]) == (False, patient["birthDate"])


def test_93_3_an_unmerge_is_not_applied_and_the_others_are(exchange: Exchange) -> None:
    key, _, patient = registered(exchange)
    _, other, _ = registered(exchange)
    survivor = {"identifier": {"system": examples.DOMAIN, "value": other}}
    assert told(fed(exchange, entry("PUT", f"Patient/{key}", {**patient, **replaced_by(survivor)})))
    local, stranger = newcomer()
    answer = fed(exchange, entry("PUT", f"Patient/{key}", patient), entry("POST", "Patient", stranger))
    refused, applied = told(answer)
    assert (refused["status"], refused["outcome"]["issue"][0]["code"]) == ("405 Method Not Allowed", "not-supported")
    assert applied["status"] == "201 Created"
    assert code(answer) == "fatal-error"
    practice = exchange.client("practice")
    assert practice.get(f"Patient/{key}").json["active"] is False
    assert practice.get(f"Patient?identifier={examples.DOMAIN}|{local}").json["total"] == 1


def test_93_3_each_entry_by_the_rules_of_a_single_registration(exchange: Exchange) -> None:
    local, patient = newcomer()
    own = {"identifier": [{"system": examples.DOMAIN, "value": local}]}
    foreign = {"identifier": [{"system": "urn:oid:2.999.2", "value": local}]}
    key, _, known = registered(exchange)
    answer = fed(
        exchange,
        entry("POST", "Patient", {**patient, **foreign}),
        entry("PUT", f"Patient?identifier=urn:oid:2.999.2|{local}", {**patient, **foreign}),
        entry("PUT", f"Patient?identifier={examples.DOMAIN}|other", patient),
        entry("PUT", "Patient/1", {**patient, **own, **replaced_by({"reference": "Patient/unknown"})}),
        entry("PUT", f"Patient/{key}", {**known, **replaced_by({"reference": f"Patient/{key}"})}),
        entry("DELETE", "Patient/unknown"),
        entry("DELETE", f"Patient?identifier={examples.DOMAIN}|{local}"),
        entry("DELETE", f"Patient?identifier=urn:oid:2.999.2|{local}"),
        entry("POST", "Patient", patient),
    )
    responses = told(answer)
    assert [each["status"].split()[0] for each in responses] == [
        "422",
        "403",
        "422",
        "422",
        "422",
        "404",
        "404",
        "403",
        "201",
    ]
    assert [each["outcome"]["issue"][0]["code"] for each in responses[:-1]] == [
        "required",
        "forbidden",
        "invariant",
        "not-found",
        "business-rule",
        "not-found",
        "not-found",
        "forbidden",
    ]
    assert exchange.client("practice").get(f"Patient/{key}").json["active"] is True


def test_93_1_the_examples_of_the_guide(exchange: Exchange, ihe: Mapping[str, Any]) -> None:
    """Their Patients carry no identifier: nobody could tell them again."""
    hospital = exchange.client("hospital-a")
    bundle = json.loads(json.dumps(ihe["ex-PMIRBundleCreate"]))
    answer = hospital.post(FEED_PATH, bundle)
    assert [each["status"] for each in told(answer)] == ["422 Unprocessable Entity"] * 2
    for each in bundle["entry"][1]["resource"]["entry"]:
        each["resource"]["identifier"] = [{"system": examples.DOMAIN, "value": f"ihe-{each['resource']['id']}"}]
    answer = hospital.post(FEED_PATH, bundle)
    assert [each["status"] for each in told(answer)] == ["201 Created"] * 2
    again = hospital.post(FEED_PATH, bundle)  # safe as a whole
    assert [each["status"] for each in told(again)] == ["200 OK"] * 2
    assert [each["location"] for each in told(again)] == [each["location"] for each in told(answer)]
    update = json.loads(json.dumps(ihe["ex-PMIRBundleUpdate"]))
    (changed,) = update["entry"][1]["resource"]["entry"]
    changed["resource"]["identifier"] = [{"system": examples.DOMAIN, "value": "ihe-ex-patient-create1"}]
    (response,) = told(hospital.post(FEED_PATH, update))
    assert (response["status"], response["etag"]) == ("200 OK", 'W/"2"')
    assert told(hospital.post(FEED_PATH, message(*ihe["ex-bundle-history-delete"]["entry"])))[0]["status"].startswith(
        "404"
    )


@pytest.fixture(scope="module")
def ihe(shared_data: Path) -> Mapping[str, Any]:
    """IHE's examples of PMIR, by id."""
    found = {}
    with lzma.open(shared_data / "ig_examples.ndjson.xz", "rt", encoding="utf-8") as lines:
        for line in lines:
            if '"ihe.iti.pmir/' in line[:200]:
                resource = json.loads(line)["resource"]
                found[resource["id"]] = resource
    return found


@pytest.mark.parametrize(
    ("spoil", "status", "issue"),
    [
        (lambda sent: sent["entry"].reverse(), 400, "structure"),
        (lambda sent: sent["entry"].pop(), 400, "structure"),
        (lambda sent: sent.update(type="batch"), 400, "structure"),
        (lambda sent: sent["entry"][0]["resource"].update(eventUri="urn:other"), 422, "value"),
        (
            lambda sent: sent["entry"][1]["resource"]["entry"].append(
                entry("POST", "RelatedPerson", {"resourceType": "RelatedPerson", "patient": {"display": "x"}})
            ),
            422,
            "value",
        ),
        (
            lambda sent: sent["entry"][1]["resource"]["entry"].append(
                entry("POST", "Patient", {"resourceType": "Patient", "birthDate": "yesterday"})
            ),
            400,
            "value",
        ),
    ],
)
def test_93_2_nothing_is_applied_of_what_is_misread(exchange: Exchange, spoil: Any, status: int, issue: str) -> None:
    local, patient = newcomer()
    sent = message(entry("POST", "Patient", patient))
    spoil(sent)
    answer = exchange.client("hospital-a").post(FEED_PATH, sent)
    assert (answer.status, answer.json["issue"][0]["code"]) == (status, issue)
    assert exchange.client("practice").get(f"Patient?identifier={examples.DOMAIN}|{local}").json["total"] == 0


def test_93_1_the_scope_of_the_feed(exchange: Exchange) -> None:
    key, _, patient = registered(exchange)
    sent = message(entry("PUT", f"Patient/{key}", patient), entry("DELETE", "Patient/unknown"))
    for scope, status in (("ITI-104", 403), ("system/Patient.u", 403), ("system/Patient.ud", 200), ("ITI-93", 200)):
        answer = exchange.client("hospital-a", scope).post(FEED_PATH, sent)
        assert answer.status == status, scope
    without = message(entry("PUT", f"Patient/{key}", patient))
    assert exchange.client("hospital-a", "system/Patient.u").post(FEED_PATH, without).status == 200
    assert exchange.client("auditor").post(FEED_PATH, "not json").status == 403


def test_104_7_each_entry_is_a_record_of_its_own(exchange: Exchange) -> None:
    key, _, patient = registered(exchange)
    fed(
        exchange,
        entry("PUT", f"Patient/{key}", {**patient, "gender": "other"}),
        entry("PUT", f"Patient/{key}", {**patient, **replaced_by({"reference": f"Patient/{key}"})}),
        entry("DELETE", f"Patient/{key}"),
    )
    records = [item for item in exchange.table("audit") if item.get("patient", {}).get("S") == key]
    assert sorted((item["action"]["S"], item["outcome"]["S"]) for item in records) == [
        ("C", "0"),
        ("D", "0"),
        ("U", "0"),
        ("U", "4"),
    ]


def test_93_1_under_a_key_nothing_happens_twice(exchange: Exchange) -> None:
    _, patient = newcomer()
    sent = entry("POST", "Patient", patient)
    first = fed(exchange, sent, Idempotency_Key="night-1")
    (created,) = told(first)
    fed(exchange, entry("PUT", f"Patient/{key_of(created)}", {**patient, "gender": "other"}))
    (again,) = told(fed(exchange, sent, Idempotency_Key="night-1"))
    assert again == created
    assert exchange.client("practice").get(f"Patient/{key_of(created)}").json["gender"] == "other"
    (other,) = told(fed(exchange, entry("POST", "Patient", {**patient, "active": False}), Idempotency_Key="night-1"))
    assert other["status"].startswith("422")


def test_93_1_a_removal_again_is_nothing_to_do(exchange: Exchange) -> None:
    _, local, _ = registered(exchange)
    removal = entry("DELETE", f"Patient?identifier={examples.DOMAIN}|{local}")
    answers = [fed(exchange, removal) for _ in range(2)]
    assert [(code(each), told(each)[0]["status"]) for each in answers] == [("ok", "200 OK"), ("ok", "404 Not Found")]
