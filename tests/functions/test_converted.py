"""CDA, HPRIM and FHIR messages over HTTP: what is in the record after each, and after it came again."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from local.gateway import Response
from passerelle.fhir.validation import validate
from tests import examples
from tests.exchange import Exchange
from tests.feeding import FEED_PATH
from tests.ingesting import call, code, held, parts, send

FOLDER = Path(__file__).parent.parent / "examples"
CDA = (FOLDER / "cda" / "synthese.xml").read_bytes()
HPRIM = (FOLDER / "hprim" / "results.hpr").read_bytes()
V2_EVENTS = "http://terminology.hl7.org/CodeSystem/v2-0003"
_numbers = count(1)


def made(answer: Response) -> list[str]:
    assert answer.status == 201, answer.body
    (message,) = answer.json["parameter"]
    return sorted(each.partition("/")[0] for each in parts(message)["made"])


def posted(exchange: Exchange, data: bytes, path: str = "/cda", **more: Any) -> Response:
    return send(exchange, data, path=path, content_type="text/xml" if path == "/cda" else "text/plain", **more)


@pytest.fixture(scope="module")
def local(exchange: Exchange) -> str:
    """The hospital's number of person 1 of the region, whose identity is qualified, and whose record is open so."""
    return known(exchange, 1)


def known(exchange: Exchange, number: int) -> str:
    local, patient = examples.patient(number)
    answer = exchange.client("hospital-a").put(f"Patient?identifier={examples.DOMAIN}|{local}", patient)
    assert answer.status in (200, 201), answer.body
    return local


def document(local: str, id: str = "SYN-1") -> bytes:
    return CDA.replace(b"N3-0001", local.encode()).replace(b"SYN-1", id.encode())


# --- CDA --------------------------------------------------------------------------------------------------------------


def test_a_document_of_level_3_is_published_and_becomes_resources(exchange: Exchange, local: str) -> None:
    answer = posted(exchange, document(local))
    assert made(answer) == [
        *("AllergyIntolerance", "Binary", "Condition", "Condition", "DiagnosticReport", "DocumentReference"),
        *("Immunization", "MedicationStatement", "Observation", "Observation", "Observation", "Observation"),
        *("Patient", "Provenance"),
    ]
    (message,) = answer.json["parameter"]
    assert parts(message)["lost"][-1] == "section[51848-0]: no entries"
    (published,) = held(exchange, local, "DocumentReference")
    url = published["content"][0]["attachment"]["url"].rpartition("/fhir/")[2]
    assert exchange.client("hospital-a").get(url, Accept="text/xml").body == document(local)
    (provenance,) = held(exchange, local, "Provenance")
    assert provenance["entity"][0]["what"]["reference"] == f"DocumentReference/{published['id']}"
    (patient,) = held(exchange, local)
    assert patient["name"][0]["family"] == "DUPONT"  # a document changes no identity
    assert posted(exchange, document(local)).json == answer.json  # the same again: the same answer, and nothing twice
    assert len(held(exchange, local, "Condition")) == 2


def test_a_replacement_supersedes_its_document_and_corrects_its_statements(exchange: Exchange, local: str) -> None:
    posted(exchange, document(local))
    made(posted(exchange, replacing("SYN-1", document(local, "SYN-2").replace(b'value="62.5"', b'value="63.5"'))))
    documents = held(exchange, local, "DocumentReference")
    statuses = {each["masterIdentifier"]["value"]: each["status"] for each in documents}
    assert statuses == {"SYN-1": "superseded", "SYN-2": "current"}
    found = held(exchange, local, "Observation")
    weights = [each for each in found if each["code"]["coding"][0]["code"] == "29463-7"]
    assert [each["valueQuantity"]["value"] for each in weights] == [63.5]


def test_an_antibiogram_is_found_with_its_germ(exchange: Exchange) -> None:
    local = known(exchange, 6)
    end = b"</organizer></entryRelationship>"
    made(posted(exchange, document(local, "SYN-9").replace(end, end + (FOLDER / "cda" / "isolate.xml").read_bytes())))
    found = {each["code"]["coding"][0]["code"]: each for each in held(exchange, local, "Observation")}
    isolate, panel, tested = (found[each] for each in ("41852-5", "18769-0", "18928-2"))
    assert [each["reference"] for each in isolate["hasMember"]] == [f"Observation/{panel['id']}"]
    assert [each["reference"] for each in panel["hasMember"]] == [f"Observation/{tested['id']}"]
    assert [each["reference"] for each in tested["derivedFrom"]] == [f"Observation/{isolate['id']}"]
    assert tested["specimen"]["display"] == "Escherichia coli"


def replacing(id: str, data: bytes) -> bytes:
    parent = f'<parentDocument><id root="2.999.1.50" extension="{id}"/></parentDocument>'.encode()
    body = b"<component><structuredBody>"
    return data.replace(body, b'<relatedDocument typeCode="RPLC">' + parent + b"</relatedDocument>" + body)


def test_a_replacement_of_what_was_never_sent_here_stands_alone(exchange: Exchange) -> None:
    local = known(exchange, 3)
    made(posted(exchange, replacing("SYN-0", document(local, "SYN-8"))))
    (published,) = held(exchange, local, "DocumentReference")
    assert (published["status"], "relatesTo" in published) == ("current", False)


def test_a_document_about_another_person_is_not_applied(exchange: Exchange, local: str) -> None:
    """The number of the sender's own names one person, the national number another."""
    other = f'extension="{local}"/><id root="1.2.250.1.213.1.4.10" extension="{examples.ins(2).partition("|")[2]}"/>'
    data = document(local, "SYN-3").replace(f'extension="{local}"/>'.encode(), other.encode())
    assert posted(exchange, data).status == 422
    assert "SYN-3" not in str(held(exchange, local, "DocumentReference"))


def test_who_may_not_write_what_is_in_it_is_refused(exchange: Exchange, local: str) -> None:
    scope = "system/DocumentReference.cu system/Binary.c system/Patient.c"
    assert posted(exchange, document(local, "SYN-4"), scope=scope).status == 403


def test_a_document_waits_for_who_has_no_open_record(exchange: Exchange) -> None:
    """DMP-7: nothing of it is applied before, and the retry applies it."""
    waits = posted(exchange, document("N3-NEW", "SYN-5"))
    assert (waits.status, held(exchange, "N3-NEW", "Condition")) == (422, [])
    _, patient = examples.patient(4)
    others = [each for each in patient["identifier"] if each["system"] != examples.DOMAIN]
    patient = {**patient, "identifier": [*others, {"system": examples.DOMAIN, "value": "N3-NEW"}]}
    qualified = exchange.client("hospital-a").put(f"Patient?identifier={examples.DOMAIN}|N3-NEW", patient)
    assert qualified.status in (200, 201), qualified.body
    assert call(exchange, "POST", f"/ingestion/{location(waits)}/$retry").status == 200
    assert len(held(exchange, "N3-NEW", "Condition")) == 2


def location(answer: Response) -> str:
    return next(value for name, value in answer.headers if name == "Location").rpartition("/")[2]


def mdm(event: str, local: str, cda: bytes, *, status: str = "F", masked: bool = False) -> bytes:
    """ANS volet Transmission d'un document CDA en HL7v2."""
    content = base64.b64encode(cda).decode()
    return "\r".join(
        (
            f"MSH|^~\\&|DPI|H|PFI|R|20260302110000||MDM^{event}^MDM_T02|D{next(_numbers)}|P|2.6|||||FRA|UNICODE UTF-8",
            "EVN||20260302110000",
            f"PID|||{local}^^^H&2.999.1&ISO^PI||DUPONT^ELISE||19550614|F",
            "PV1|1|N",
            "TXA|1|60591-5|TEXT|20260302||||||||2.999.1.50.7^H|||||LA",
            f"OBX|1|ED|60591-5^Synthèse^LN||^TEXT^XML^Base64^{content}||||||{status}",
            f"OBX|2|CE|INVISIBLE_PATIENT^Non visible^MetaDMPMSS||{'Y' if masked else 'N'}^^HL70136||||||F",
        )
    ).encode()


def test_a_document_in_messages_is_published_masked_replaced_and_withdrawn(exchange: Exchange) -> None:
    local = known(exchange, 5)
    first, second = document(local, "MDM-1"), replacing("MDM-1", document(local, "MDM-2"))
    assert code(send(exchange, mdm("T02", local, first, masked=True))) == "AA"
    (published,) = held(exchange, local, "DocumentReference")
    assert "INVISIBLE_PATIENT" in str(published["securityLabel"])
    assert len(held(exchange, local, "Condition")) == 2
    assert code(send(exchange, mdm("T10", local, second, status="C"))) == "AA"
    ids = {each["masterIdentifier"]["value"]: each["id"] for each in held(exchange, local, "DocumentReference")}
    assert code(send(exchange, mdm("T04", local, second, status="D"))) == "AA"
    hospital = exchange.client("hospital-a")
    statuses = {name: hospital.get(f"DocumentReference/{id}").json.get("status") for name, id in ids.items()}
    assert statuses == {"MDM-1": "superseded", "MDM-2": "entered-in-error"}
    shown = {each["masterIdentifier"]["value"] for each in held(exchange, local, "DocumentReference")}
    assert "MDM-2" not in shown


# --- HPRIM ------------------------------------------------------------------------------------------------------------


def test_results_of_a_laboratory(exchange: Exchange) -> None:
    local = known(exchange, 2)
    results = HPRIM.replace(b"LB-0001", local.encode())
    observations = ("Observation",) * 4
    assert made(posted(exchange, results, "/hprim")) == [
        *("Binary", "DiagnosticReport", "DocumentReference", *observations, "Patient", "Provenance")
    ]
    made(posted(exchange, results.replace(b"RES0001", b"RES0002").replace(b"11,2", b"11,9"), "/hprim"))
    found = held(exchange, local, "Observation")
    assert sorted(each["valueQuantity"]["value"] for each in found if "valueQuantity" in each) == [10, 11.9]
    assert len(held(exchange, local, "DocumentReference")) == 2  # both messages, as they came


def test_results_come_without_their_message_where_no_record_is_open(exchange: Exchange) -> None:
    observations = ("Observation",) * 4
    assert made(posted(exchange, HPRIM, "/hprim")) == ["DiagnosticReport", *observations, "Patient", "Provenance"]


# --- FHIR messages ----------------------------------------------------------------------------------------------------


def message(
    event: str, *resources: Mapping[str, Any], id: str | None = None, system: str = V2_EVENTS
) -> dict[str, Any]:
    header = {
        "resourceType": "MessageHeader",
        "id": id or f"msg-{next(_numbers)}",
        "eventCoding": {"system": system, "code": event},
        "source": {"endpoint": "https://laboratory.example/fhir"},
    }
    entries = [
        {"fullUrl": f"urn:uuid:00000000-0000-4000-9000-{n:012d}", "resource": each}
        for n, each in enumerate(resources, 1)
    ]
    first = {"fullUrl": "urn:uuid:00000000-0000-4000-9000-000000000000", "resource": header}
    return {"resourceType": "Bundle", "type": "message", "entry": [first, *entries]}


def url(number: int) -> dict[str, str]:
    return {"reference": f"urn:uuid:00000000-0000-4000-9000-{number:012d}"}


def results(local: str, value: float = 13.1) -> list[dict[str, Any]]:
    """Patient, laboratory, Observation."""
    patient = {
        "resourceType": "Patient",
        "identifier": [{"system": examples.DOMAIN, "value": local}],
        "name": [{"use": "official", "family": f"MESSAGE{local}", "given": ["Ève"]}],
        "gender": "female",
        "birthDate": "1964-05-06",
    }
    laboratory = {
        "resourceType": "Organization",
        "name": "Laboratoire",
        "identifier": [{"system": "urn:oid:2.999.9", "value": "L"}],
    }
    result = {
        "resourceType": "Observation",
        "identifier": [{"system": "urn:oid:2.999.1.8", "value": f"M{local}"}],
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
        "subject": url(1),
        "performer": [url(2)],
        "valueQuantity": {"value": value, "unit": "g/dL"},
    }
    return [patient, laboratory, result]


def answered(answer: Response, code: str) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    body: dict[str, Any] = answer.json
    validate(body, expected_type="Bundle")
    header: dict[str, Any] = body["entry"][0]["resource"]
    assert header["response"]["code"] == code, answer.body
    return header


def test_a_message_of_results_is_one_transaction_applied_once(exchange: Exchange) -> None:
    hospital = exchange.client("hospital-a")
    sent = message("R01", *results("F-1"))
    header = answered(hospital.post(FEED_PATH, sent), "ok")
    assert header["response"]["identifier"] == sent["entry"][0]["resource"]["id"]
    assert header["eventCoding"]["code"] == "R01"
    assert sorted(each["reference"].partition("/")[0] for each in header["focus"]) == ["Observation", "Patient"]
    (result,) = held(exchange, "F-1", "Observation")
    assert result["performer"][0]["identifier"] == {"system": "urn:oid:2.999.9", "value": "L"}  # who, and no resource
    again = answered(hospital.post(FEED_PATH, sent), "ok")
    assert (again["focus"], result["meta"]["versionId"]) == (header["focus"], "1")
    answered(hospital.post(FEED_PATH, message("R01", *results("F-1", 12.0))), "ok")  # a correction
    (result,) = held(exchange, "F-1", "Observation")
    assert (result["valueQuantity"]["value"], result["meta"]["versionId"]) == (12.0, "2")


def test_results_leave_the_identity_and_admissions_revise_it(exchange: Exchange) -> None:
    hospital = exchange.client("hospital-a")
    first, *rest = results("F-2")
    answered(hospital.post(FEED_PATH, message("R01", first, *rest)), "ok")
    moved = {**first, "address": [{"city": "Ailleurs"}]}
    answered(hospital.post(FEED_PATH, message("R01", moved, *rest)), "ok")
    assert "address" not in held(exchange, "F-2")[0]
    answered(hospital.post(FEED_PATH, message("A31", moved)), "ok")
    assert held(exchange, "F-2")[0]["address"] == [{"city": "Ailleurs"}]


def test_what_refuses_a_message_is_in_the_answer_and_nothing_is_kept(exchange: Exchange) -> None:
    patient, laboratory, result = results("F-3")
    answer = exchange.client("hospital-a").post(
        FEED_PATH, message("R01", patient, laboratory, {**result, "status": "?"})
    )
    if answer.status == 200:
        header = answered(answer, "fatal-error")
        outcome = answer.json["entry"][1]["resource"]
        assert header["response"]["details"]["reference"] == answer.json["entry"][1]["fullUrl"]
        assert outcome["issue"][0]["expression"][0].endswith("Observation.status") or outcome["issue"]
    else:
        assert answer.status == 422
    assert held(exchange, "F-3") == []


def test_another_message_under_the_same_id_is_refused(exchange: Exchange) -> None:
    hospital = exchange.client("hospital-a")
    answered(hospital.post(FEED_PATH, message("R01", *results("F-4"), id="same")), "ok")
    answered(hospital.post(FEED_PATH, message("R01", *results("F-5"), id="same")), "fatal-error")
    assert held(exchange, "F-5") == []


@pytest.mark.parametrize(
    ("event", "system"), [pytest.param("Q99", V2_EVENTS, id="code"), pytest.param("R01", "urn:oid:2.999", id="system")]
)
def test_an_unknown_event_is_not_supported(exchange: Exchange, event: str, system: str) -> None:
    answer = exchange.client("hospital-a").post(FEED_PATH, message(event, *results("F-6"), system=system))
    assert answer.status == 422
    assert answer.json["issue"][0]["code"] == "not-supported"


def test_a_sender_without_the_scopes_is_refused_by_http(exchange: Exchange) -> None:
    client = exchange.client("hospital-a", "system/Patient.cu")
    assert client.post(FEED_PATH, message("R01", *results("F-7"))).status == 403
    assert (
        exchange.client("hospital-a", "system/Observation.r").post(FEED_PATH, message("A31", results("F-7")[0])).status
        == 403
    )
