"""What a document stated, when it is withdrawn or replaced: CDA over HTTP, in messages, and by the PATCH of the DMP."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from tests import examples
from tests.between import at_once
from tests.exchange import Client, Exchange
from tests.functions.test_converted import document, known, location, mdm, posted, replacing
from tests.ingesting import acked, call, code, held, parts, segments, send
from tests.journeys.test_crashes import Crash, crashing
from tests.kinds import ed, pdf
from tests.submitting import place, replacement, submit, urn, warnings

STATED = ("AllergyIntolerance", "Condition", "DiagnosticReport", "Immunization", "MedicationStatement", "Observation")
_ids = (f"WD-{number}" for number in count(1))
# Of the region: those whose names a message in Latin-1 can tell.
_people = (
    number for number in range(1, 20) if max(json.dumps(examples.patient(number)[1], ensure_ascii=False)) < "\u0100"
)


@pytest.fixture
def local(exchange: Exchange) -> str:
    return known(exchange, next(_people))


@pytest.fixture
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


def published(exchange: Exchange, data: bytes) -> dict[str, list[Any]]:
    answer = posted(exchange, data)
    assert answer.status == 201, answer.body
    return told(answer.json)


def told(body: dict[str, Any]) -> dict[str, list[Any]]:
    (message,) = body["parameter"]
    return parts(message)


def shown(exchange: Exchange, control_id: str) -> dict[str, list[Any]]:
    """What the inbox says of a message that was acknowledged."""
    items = exchange.table("operations")
    ids = [each["PK"]["S"][3:] for each in items if each["PK"]["S"].startswith("IN#") and each["SK"]["S"] == "M"]
    found = [told(call(exchange, "GET", f"/ingestion/{id}").json) for id in ids]
    return next(each for each in found if each["control-id"] == [control_id])


def control_of(message: bytes) -> str:
    return message.split(b"|", 10)[9].decode()


def is_error(resource: dict[str, Any]) -> bool:
    codings = resource.get("verificationStatus", {}).get("coding", ())
    return "entered-in-error" in (resource.get("status"), *(each.get("code") for each in codings))


def stated(exchange: Exchange, local: str) -> Iterator[dict[str, Any]]:
    for kind in STATED:
        yield from held(exchange, local, kind)


def standing(exchange: Exchange, local: str) -> list[str]:
    return [each["resourceType"] for each in stated(exchange, local) if not is_error(each)]


_OF = "DocumentReference"
EVERYTHING = sorted([*STATED, "Condition", *("Observation",) * 3])


def taken_back(exchange: Exchange, local: str, data: bytes) -> dict[str, list[Any]]:
    message = mdm("T04", local, data, status="D")
    answer = send(exchange, message)
    assert code(answer) == "AA", answer.body
    assert send(exchange, message).body == answer.body
    return shown(exchange, control_of(message))


def patient_id(exchange: Exchange, local: str) -> str:
    return str(held(exchange, local)[0]["id"])


# --- withdrawn --------------------------------------------------------------------------------------------------------


def test_what_the_document_of_another_person_stated_is_withdrawn_with_it(exchange: Exchange, local: str) -> None:
    data = document(local, next(_ids))
    published(exchange, data)
    assert sorted(standing(exchange, local)) == EVERYTHING
    withdrawal = taken_back(exchange, local, data)
    assert (standing(exchange, local), withdrawal.get("kept")) == ([], None)
    gone = [each.partition("/")[0] for each in withdrawal["made"]]
    assert sorted(each for each in gone if each in STATED) == EVERYTHING
    id, practice = patient_id(exchange, local), exchange.client("practice")
    summary = str(practice.get(f"Patient/{id}/$summary").json)
    assert "Benzylpénicilline" not in summary
    assert "Asthme" not in summary
    everything = practice.get(f"Patient/{id}/$everything?_count=100").json["entry"]
    read = [each["resource"] for each in everything if each["resource"]["resourceType"] in STATED]
    assert len(read) == len(EVERYTHING)  # never deleted: as what it was
    assert all(map(is_error, read))
    published(exchange, document(local, next(_ids)))  # the same statements in a document that stands
    assert sorted(standing(exchange, local)) == EVERYTHING


def test_what_somebody_revised_stays(exchange: Exchange, local: str) -> None:
    data = document(local, next(_ids))
    published(exchange, data)
    asthma = next(each for each in held(exchange, local, "Condition") if "J45.0" in str(each))
    practice = exchange.client("practice")
    revised = practice.put(f"Condition/{asthma['id']}", {**asthma, "note": [{"text": "Confirmé."}]})
    assert revised.status == 200, revised.body
    withdrawal = taken_back(exchange, local, data)
    assert withdrawal["kept"] == [f"Condition/{asthma['id']}"]
    assert standing(exchange, local) == ["Condition"]


def test_what_another_document_states_too_stays_as_long_as_that_stands(exchange: Exchange, local: str) -> None:
    first, second = (document(local, next(_ids)) for _ in range(2))
    for each in (first, second):
        published(exchange, each)
    withdrawal = taken_back(exchange, local, first)
    kept = {each.partition("/")[0] for each in withdrawal["kept"]}
    assert {"AllergyIntolerance", "Condition"} <= kept  # results have no ids of their own: those of the first are gone
    assert sorted(standing(exchange, local)) == EVERYTHING
    taken_back(exchange, local, second)
    assert standing(exchange, local) == []


def test_the_patch_of_the_dmp_withdraws_what_was_stated(exchange: Exchange, local: str, hospital: Client) -> None:
    """TD3.3c: in the same commit, and for whoever repeats the request."""
    published(exchange, document(local, next(_ids)))
    (of,) = held(exchange, local, "DocumentReference")
    patch = b'[{"op": "replace", "path": "/status", "value": "entered-in-error"}]'
    headers = {
        "Authorization": f"Bearer {hospital.token()}",
        "Content-Type": "application/json-patch+json",
        "Idempotency-Key": f"withdraw-{of['id']}",
    }
    for _ in range(2):
        answer = exchange.gateway.request("PATCH", f"/fhir/DocumentReference/{of['id']}", headers, patch)
        assert (answer.status, answer.json["status"]) == (200, "entered-in-error")
        assert standing(exchange, local) == []
        assert {each["meta"]["versionId"] for each in stated(exchange, local)} == {"2"}


def test_a_withdrawal_is_whole_wherever_the_process_ended(exchange: Exchange) -> None:
    """At every sixth call, the last before the commit and the first after it among them."""
    local = known(exchange, next(_people))
    with crashing() as crashes:
        data = short(local, next(_ids))
        published(exchange, data)
        crashes.calls = 0
        send(exchange, mdm("T04", local, data, status="D"))
        total = crashes.calls
        for at in sorted({*range(2, total, 6), total - 2, total - 1, total}):
            data = short(local, next(_ids))
            published(exchange, data)
            (before,) = held(exchange, local, "AllergyIntolerance")
            message = mdm("T04", local, data, status="D")
            crashes.calls, crashes.at, crashes.is_done = 0, at, True
            with pytest.raises(Crash):
                send(exchange, message)
            crashes.at = None
            assert code(send(exchange, message)) == "AA"
            (after,) = held(exchange, local, "AllergyIntolerance")
            versions = [int(each["meta"]["versionId"]) for each in (before, after)]
            assert (at, is_error(before), is_error(after)) == (at, False, True)
            assert (at, versions[1] - versions[0]) == (at, 1)
            assert any(each.startswith("AllergyIntolerance/") for each in shown(exchange, control_of(message))["made"])


@pytest.mark.parametrize("at", [6, 10, 14, 18])
def test_what_is_revised_while_its_document_is_withdrawn_is_not_overwritten(exchange: Exchange, at: int) -> None:
    """The revision comes before the n-th call of the message: whichever is first, the revision stands."""
    local = known(exchange, 1)  # again: whoever it is, the statement is new
    data = short(local, next(_ids))
    published(exchange, data)
    (allergy,) = held(exchange, local, "AllergyIntolerance")
    revised = {**allergy, "note": [{"text": "Confirmée."}]}
    practice, message = exchange.client("practice"), mdm("T04", local, data, status="D")
    practice.token()
    withdrawn, revision = at_once(
        exchange,
        at,
        lambda: send(exchange, message),
        lambda: practice.put(f"AllergyIntolerance/{allergy['id']}", revised),
    )
    assert revision is not None
    assert (code(withdrawn), revision.status) == ("AA", 200)
    (stays,) = held(exchange, local, "AllergyIntolerance")
    assert (stays["note"][0]["text"], is_error(stays)) == ("Confirmée.", False)


# --- replaced ---------------------------------------------------------------------------------------------------------


def without(data: bytes, *codes: str) -> bytes:
    """Without the sections of these codes."""
    pieces = re.split(rb"(?=<component><section>)", data)
    return b"".join(
        each.partition(b"</section></component>")[2] if any(f'"{code}"'.encode() in each for code in codes) else each
        for each in pieces
    )


def short(local: str, id: str) -> bytes:
    """Of one section: allergies."""
    return without(document(local, id), "11450-4", "10160-0", "18723-7", "11369-6", "8716-3", "10157-6", "51848-0")


def test_what_a_new_version_no_longer_states_is_withdrawn(exchange: Exchange, local: str) -> None:
    old, new = next(_ids), next(_ids)
    published(exchange, document(local, old))
    (allergy,) = held(exchange, local, "AllergyIntolerance")
    (vaccine,) = held(exchange, local, "Immunization")
    changed = exchange.client("practice").put(f"Immunization/{vaccine['id']}", {**vaccine, "lotNumber": "LOT-8"})
    assert changed.status == 200, changed.body
    data = without(replacing(old, document(local, new)), "48765-2", "11369-6")
    done = published(exchange, data)
    assert done["kept"] == [f"Immunization/{vaccine['id']}"]
    assert f"AllergyIntolerance/{allergy['id']}/_history/2" in done["made"]
    assert is_error(held(exchange, local, "AllergyIntolerance")[0])
    assert "Condition" in standing(exchange, local)
    taken_back(exchange, local, data)  # the old version holds nothing of what both had stated
    assert standing(exchange, local) == ["Immunization"]


def test_the_replacement_of_what_was_never_sent_here_says_that_it_lost_that(exchange: Exchange, local: str) -> None:
    done = published(exchange, replacing("NEVER", document(local, next(_ids))))
    assert "DocumentReference.relatesTo" in done["lost"]


def resubmitted(exchange: Exchange, local: str, old: str) -> dict[str, Any]:
    """ITI-65: a submission that replaces a document, of which nothing is read."""
    documents = held(exchange, local, "DocumentReference")
    replaced = next(each["id"] for each in documents if each["masterIdentifier"]["value"] == old)
    subject = f"Patient/{patient_id(exchange, local)}"
    return replacement(subject, replaced, contents=(document(local, next(_ids)),))


def test_what_a_submission_replaces_states_no_longer(exchange: Exchange, local: str, hospital: Client) -> None:
    """65-12: what others revised or state too stays, and what is sent to be read comes back."""
    old, other = next(_ids), next(_ids)
    published(exchange, document(local, old))
    published(exchange, without(document(local, other), "11450-4", "10160-0", "18723-7", "11369-6", "8716-3"))
    (vaccine,) = held(exchange, local, "Immunization")
    changed = exchange.client("practice").put(f"Immunization/{vaccine['id']}", {**vaccine, "lotNumber": "LOT-8"})
    assert changed.status == 200, changed.body
    bundle = resubmitted(exchange, local, old)
    answered = submit(hospital, bundle)
    assert warnings(answered[-1]) == [
        ("processing", "what the replaced document alone stated is withdrawn: nothing is read of a submission")
    ]
    assert sorted(standing(exchange, local)) == ["AllergyIntolerance", "Immunization"]
    versions = [each["meta"]["versionId"] for each in stated(exchange, local)]
    again = submit(hospital, bundle)  # as it is: nothing twice
    assert [place(each) for each in again] == [place(each) for each in answered]
    assert [each["meta"]["versionId"] for each in stated(exchange, local)] == versions
    published(exchange, document(local, next(_ids)))
    assert {"Condition", "MedicationStatement"} <= set(standing(exchange, local))


def test_what_a_simplified_publication_replaces_states_no_longer(exchange: Exchange, hospital: Client) -> None:
    """ITI-105, by the same commit."""
    local, old = known(exchange, _QUALIFIED), next(_ids)
    published(exchange, short(local, old))
    sent = resubmitted(exchange, local, old)["entry"]
    reference, binary = sent[1]["resource"], sent[2]["resource"]
    attachment = {"contentType": binary["contentType"], "data": binary["data"]}
    simplified = {**reference, "content": [{**reference["content"][0], "attachment": attachment}]}
    answer = hospital.post("DocumentReference", simplified)
    assert answer.status == 201, answer.body
    assert standing(exchange, local) == []


def test_a_submission_that_replaces_two_documents_withdraws_what_both_stated(
    exchange: Exchange, hospital: Client
) -> None:
    local = known(exchange, _QUALIFIED)
    one, two = next(_ids), next(_ids)
    for each in (one, two):
        published(exchange, short(local, each))
    bundle, second = (resubmitted(exchange, local, each)["entry"] for each in (one, two))
    bundle[1]["resource"]["relatesTo"] += second[1]["resource"]["relatesTo"]
    submit(hospital, {**resubmitted(exchange, local, one), "entry": [*bundle, {**second[3], "fullUrl": urn(901)}]})
    assert standing(exchange, local) == []


def test_a_submission_that_replaces_is_whole_wherever_the_process_ended(exchange: Exchange, hospital: Client) -> None:
    """At every sixth call: the document and what it stated go together, and once."""
    local = known(exchange, _QUALIFIED)

    def submitted(at: int | None) -> int:
        old = next(_ids)
        published(exchange, short(local, old))
        (before,) = held(exchange, local, "AllergyIntolerance")
        bundle = resubmitted(exchange, local, old)
        crashes.calls, crashes.at, crashes.is_done = 0, at, True
        if at is not None:
            with pytest.raises(Crash):
                hospital.post("", bundle)
            crashes.at = None
            statuses = {each["masterIdentifier"]["value"]: each["status"] for each in held(exchange, local, _OF)}
            (half,) = held(exchange, local, "AllergyIntolerance")
            assert (at, is_error(half)) == (at, statuses[old] == "superseded")
        submit(hospital, bundle)
        calls = crashes.calls
        (after,) = held(exchange, local, "AllergyIntolerance")
        versions = [int(each["meta"]["versionId"]) for each in (before, after)]
        assert (at, is_error(after), versions[1] - versions[0]) == (at, True, 1)
        return calls

    hospital.token()
    with crashing() as crashes:
        _, total = (submitted(None) for _ in range(2))  # the first of a process reads more
        for at in sorted({*range(2, total, 6), total - 1, total}):
            submitted(at)


@pytest.mark.parametrize("at", [8, 14])
def test_what_is_revised_while_its_document_is_replaced_is_not_overwritten(
    exchange: Exchange, hospital: Client, at: int
) -> None:
    local = known(exchange, 1)
    old = next(_ids)
    published(exchange, short(local, old))
    (allergy,) = held(exchange, local, "AllergyIntolerance")
    bundle = resubmitted(exchange, local, old)
    practice = exchange.client("practice")
    for client in (practice, hospital):
        client.token()
    revised = {**allergy, "note": [{"text": "Confirmée."}]}
    replaced, revision = at_once(
        exchange,
        at,
        lambda: hospital.post("", bundle),
        lambda: practice.put(f"AllergyIntolerance/{allergy['id']}", revised),
    )
    assert revision is not None
    assert (replaced.status, revision.status) == (200, 200), replaced.body
    (stays,) = held(exchange, local, "AllergyIntolerance")
    assert (stays["note"][0]["text"], is_error(stays)) == ("Confirmée.", False)


# --- documents that are no CDA ----------------------------------------------------------------------------------------


def results(local: str, *rest: str) -> bytes:
    return segments(
        "ORU^R01^ORU_R01",
        f"PID|||{local}^^^A||DUPONT^ELISE||19550614|F",
        f"OBR|1||ORD-{local}^LAB||11502-2^X^LN",
        *rest,
    )


@pytest.mark.parametrize("is_sent_again", [True, False])
def test_a_report_without_a_number_of_its_own_is_withdrawn(exchange: Exchange, local: str, is_sent_again: bool) -> None:
    """By the order and the kind of observation, which both messages name; the content need not come again."""
    report = ed(pdf())
    assert code(send(exchange, results(local, report))) == "AA"
    (of,) = held(exchange, local, "DocumentReference")
    fields = report.split("|")
    fields += [""] * (12 - len(fields))
    fields[11] = "D"
    if not is_sent_again:
        fields[5] = ""
    answer = send(exchange, results(local, "|".join(fields)))
    assert code(answer) == "AA", answer.body
    hospital = exchange.client("hospital-a")
    assert hospital.get(f"DocumentReference/{of['id']}").json["status"] == "entered-in-error"


# --- reasons ----------------------------------------------------------------------------------------------------------


def test_a_record_that_is_not_open_is_no_internal_error(exchange: Exchange) -> None:
    """DMP-7."""
    new = "N3-UNKNOWN"
    waits = posted(exchange, document(new, next(_ids)))
    assert (waits.status, "rule of the record" in waits.json["issue"][0]["diagnostics"]) == (422, True)
    dead = told(call(exchange, "GET", f"/ingestion/{location(waits)}").json)
    assert (dead["reason"], dead["path"][0].endswith(".subject")) == (["business-rule"], True)
    message = mdm("T02", f"{new}B", document(f"{new}B", next(_ids)))
    answer = send(exchange, message.replace(b"DUPONT^ELISE||19550614", b"INCONNU^MARIN||19310102"))
    assert code(answer) == "AE"
    assert acked(answer)["ERR"][3] == "business-rule^A rule of the record is against it^L"


# --- identities -------------------------------------------------------------------------------------------------------


_QUALIFIED = 20  # and stays so


def registration(number: int, reliability: str, **changed: str) -> bytes:
    """An A31 about a person of the region, whose identity is qualified."""
    local, patient = examples.patient(number)
    said = {
        "ins": examples.ins(number).partition("|")[2],
        "family": patient["name"][0]["family"],
        "given": patient["name"][0]["given"][0],
        "list": patient["name"][0]["extension"][0]["valueString"],
        "born": patient["birthDate"].replace("-", ""),
        "sex": {"male": "M", "female": "F"}[patient["gender"]],
        "place": next(
            each["valueAddress"]["extension"][0]["valueCoding"]["code"]
            for each in patient["extension"]
            if "valueAddress" in each
        ),
        "born_in": "~^^^^^FRA^BDL^^{place}",
        **changed,
    }
    pid = [""] * 33
    pid[0] = "PID"
    pid[3] = f"{local}^^^A^PI"
    if said["ins"]:
        pid[3] += f"~{said['ins']}^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS"
    pid[5] = f"{said['family']}^{said['given']}^{said['list']}^^^^L"
    pid[7], pid[8] = said["born"], said["sex"]
    pid[11] = f"1 rue Neuve^^LYON^^69001^FRA^H{said['born_in'].format(**said)}"
    pid[32] = reliability
    return segments("ADT^A31^ADT_A05", "|".join(pid).rstrip("|"), "PV1|1|N")


def status_of(patient: dict[str, Any]) -> str:
    return next(
        str((part.get("valueCoding") or part["valueCodeableConcept"]["coding"][0])["code"])
        for each in patient["extension"]
        for part in each.get("extension", ())
        if part["url"] == "identityStatus"
    )


@pytest.mark.parametrize(
    ("reliability", "changed", "expected"),
    [
        pytest.param("VALI", {}, ("QUAL", True), id="validated, unchanged"),
        pytest.param("", {}, ("QUAL", True), id="nothing said, unchanged"),
        pytest.param("VALI", {"ins": ""}, ("QUAL", True), id="without the national identifier"),
        pytest.param("VALI", {"family": "AUTRE", "born_in": ""}, ("VALI", False), id="another birth name"),
        pytest.param("VALI", {"born_in": ""}, ("QUAL", True), id="without the birth place"),
        pytest.param("", {"born_in": "", "ins": ""}, ("QUAL", True), id="without the birth place, nothing said"),
        pytest.param("VALI", {"place": ""}, ("VALI", False), id="with a birth place that has no code"),
        pytest.param("VALI", {"ins": examples.ins(19).partition("|")[2]}, ("VALI", False), id="another identifier"),
        pytest.param("PROV", {}, ("PROV", False), id="provisional"),
        pytest.param("VALI~DOUT", {}, ("PROV", False), id="doubtful"),
    ],
)
def test_ins_7_validated_does_not_lower_what_is_qualified_and_unchanged(
    exchange: Exchange, reliability: str, changed: dict[str, str], expected: tuple[str, bool]
) -> None:
    number = _QUALIFIED if expected[0] == "QUAL" else next(_people)
    local = known(exchange, number)
    assert status_of(held(exchange, local)[0]) == "QUAL"
    answer = send(exchange, registration(number, reliability, **changed))
    assert code(answer) == "AA", answer.body
    (patient,) = held(exchange, local)
    of = examples.ins(number).partition("|")[2]
    carried = {each["value"] for each in patient["identifier"] if each.get("use") == "official"}
    assert (status_of(patient), of in carried) == expected
    assert patient["address"][0]["city"] == "LYON"  # what else it says, counts


def test_ins_7_a_message_qualifies_nobody(exchange: Exchange) -> None:
    number = next(_people)
    local = known(exchange, number)
    assert code(send(exchange, registration(number, "PROV"))) == "AA"
    assert code(send(exchange, registration(number, "VALI"))) == "AA"
    assert status_of(held(exchange, local)[0]) == "VALI"
