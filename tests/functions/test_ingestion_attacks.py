"""Messages as they should never come, by the real conversions: nothing in the wrong record, and nothing lost."""

from __future__ import annotations

import base64
import random
from collections.abc import Sequence
from itertools import chain
from typing import Any

import pytest

from local.gateway import Response
from local.region import IDNST
from passerelle import wiring
from passerelle.aws.ingestion import DynamoInbox
from passerelle.records.ports import Scan
from tests import examples
from tests.exchange import Exchange
from tests.functions.test_control import done, patient_of
from tests.functions.test_patients import register
from tests.functions.test_record_status import closed
from tests.ingesting import acked, call, code, control, held, name_of, send, waiting
from tests.journeys.test_crashes import Crash, crashing
from tests.journeys.test_erasure import decide as erase

HAEMOGLOBIN = "718-7^Hb^LN"


def message(kind: str, *rest: str, id: str = "", at: str = "20260302093000", sender: str = "SIL|LABO") -> bytes:
    header = f"MSH|^~\\&|{sender}|P|R|{at}||{kind}|{id or control()}|P|2.5|||||FRA|UNICODE UTF-8"
    return "".join(f"{each}\r" for each in (header, *rest)).encode()


def pid(local: str, family: str = "", more: str = "") -> str:
    name = f"{family or name_of(local)}^{name_of(f'given {local}')}"
    return f"PID|1||{local}^^^H&2.999.1&ISO^PI{more}||{name}^^^^^L||19600101|F"


def adt(event: str, local: str, family: str = "", *, at: str, end: str = "") -> bytes:
    stay = f"PV1|1|I|||||||||||||||||{local}V" + "|" * 25 + f"20260301080000|{end}"
    return message(f"ADT^{event}", pid(local, family), stay, at=at)


def oru(local: str, value: str, *, status: str = "F", order: str = "", at: str = "20260302093000") -> bytes:
    result = f"OBX|1|NM|{HAEMOGLOBIN}||{value}|g/dL|||||{status}"
    return message("ORU^R01", pid(local), f"OBR|1||{order or local}F|{HAEMOGLOBIN}", result, at=at)


def siu(event: str, local: str, *, at: str) -> bytes:
    schedule = f"SCH|{local}R|{local}R||||ROUTINE|SUIVI|NORMAL|30|min|^^30^20260410140000^20260410143000"
    return message(f"SIU^{event}", schedule, pid(local), "RGS|1", at=at)


def reason(answer: Response) -> tuple[str, str]:
    """Of what is not applied: the code of table 0357, and where."""
    err = acked(answer)["ERR"]
    return err[3].partition("^")[0], err[2] or (err[7] if len(err) > 7 else "")


def values(exchange: Exchange, local: str) -> list[tuple[Any, str]]:
    return sorted((each["valueQuantity"]["value"], each["status"]) for each in held(exchange, local, "Observation"))


# --- whose it is ------------------------------------------------------------------------------------------------------


def test_results_of_two_people_in_one_message_are_nobodys(exchange: Exchange) -> None:
    both = [
        line
        for local in ("A1", "A2")
        for line in (pid(local), f"OBR|1||{local}F|{HAEMOGLOBIN}", f"OBX|1|NM|{HAEMOGLOBIN}||10|g/dL|||||F")
    ]
    answer = send(exchange, message("ORU^R01", *both))
    assert (code(answer), reason(answer)) == ("AE", ("100", "PID^2"))
    assert held(exchange, "A1") == held(exchange, "A2") == []


def test_several_merges_in_one_message_are_refused_rather_than_made_in_part(exchange: Exchange) -> None:
    for local in ("A3", "A4"):
        assert code(send(exchange, message("ADT^A28", pid(local)))) == "AA"
    merged = (pid("A3"), "MRG|A4^^^H&2.999.1&ISO^PI", pid("A3"), "MRG|A5^^^H&2.999.1&ISO^PI")
    answer = send(exchange, message("ADT^A40", *merged))
    assert (code(answer), reason(answer)) == ("AE", ("100", "MRG^2"))
    assert [each["active"] for each in held(exchange, "A4")] == [True]


# --- whose record it is -----------------------------------------------------------------------------------------------


def inbox(exchange: Exchange, *, of: Response | None = None) -> set[str]:
    """The keys of what is kept of messages that are not applied."""
    rows = (row for row in exchange.table("operations") if row["PK"]["S"].startswith(("IN#", "IW#")))
    return {f"{row['PK']['S']} {row['SK']['S']}" for row in rows if row.get("status", {}).get("S") != "applied"}


def region(exchange: Exchange, number: int) -> tuple[str, str]:
    """Somebody of the region, with a qualified identity and so with an open record: the hospital's number, the key."""
    local, _ = examples.patient(number)
    return local, str(register(exchange.client("hospital-a"), number).json["id"])


def mdm(local: str) -> bytes:
    pdf = base64.b64encode(b"%PDF-1.4\n%%EOF\n").decode()
    document = f"OBX|1|ED|18842-5^CR^LN||^application^pdf^Base64^{pdf}"
    return message("MDM^T02", pid(local), f"TXA|1|CR|TX||20260302||||||{local}D", document)


def test_a_message_adds_nothing_to_a_record_that_is_closed(exchange: Exchange) -> None:
    """Nor does a transaction that knows the person by registering: the identity is revised, and opens nothing."""
    local, key = region(exchange, 3)
    physician, hospital = exchange.client("practice"), exchange.client("hospital-a")
    closed(physician, key)
    before = inbox(exchange)
    for each in (oru(local, "10"), siu("S12", local, at="20260302093000"), adt("A01", local, at="20260302093000")):
        answer = send(exchange, each)
        assert (code(answer), reason(answer)[0]) == ("AE", "business-rule"), answer.body
    assert len(inbox(exchange) - before) == 2 * 3
    patient = {"resource": examples.patient(3)[1], "fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000001"}
    found = {"method": "POST", "url": "Patient", "ifNoneExist": f"identifier={examples.DOMAIN}|{local}"}
    about = examples.observation(key, subject={"reference": patient["fullUrl"]})
    entries = [{**patient, "request": found}, {"resource": about, "request": {"method": "POST", "url": "Observation"}}]
    refused = hospital.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert (refused.status, refused.json["issue"][0]["code"]) == (422, "business-rule")
    assert code(send(exchange, message("ADT^A31", pid(local)))) == "AA"
    assert not wiring.record_store().entries(key, "Observation", Scan()).entries


def test_who_was_erased_leaves_nothing_here_and_looks_like_who_shut_the_sender_out(exchange: Exchange) -> None:
    """A dead letter from before is let go by the next attempt; neither end of a merge is kept."""
    local, key = region(exchange, 4)
    assert code(send(exchange, message("ADT^A28", pid("H1")))) == "AA"
    other, shut = region(exchange, 5)
    done(patient_of(exchange, 5), shut, "block", party={"system": IDNST, "value": "1990000011"})
    before = inbox(exchange)
    closed(exchange.client("practice"), key)
    waits = oru(local, "10")
    assert code(send(exchange, waits)) == "AE"
    (dead,) = [each["id"][0] for each in waiting(exchange) if each["control-id"] == [control_of(waits)]]
    assert erase(exchange, key).status == 200
    assert call(exchange, "POST", f"/ingestion/{dead}/$retry").status == 422
    told = []
    for number in (local, other):
        for each in (oru(number, "10"), siu("S12", number, at="20260302093000"), mdm(number)):
            answer = send(exchange, each)
            said = acked(answer)
            told.append((number, [said["MSA"][1], *said["ERR"]]))
    assert {number: sum(n == number for n, _ in told) for number in (local, other)} == {local: 3, other: 3}
    assert len({tuple(said) for _, said in told}) == 1, told
    for each in (merge("H1", local), merge(local, "H1"), message("ADT^A08", pid(local))):
        assert code(send(exchange, each)) == "AR"
    assert inbox(exchange) == before


def test_what_is_said_again_of_who_was_erased_is_not_kept(exchange: Exchange) -> None:
    """The identity word for word as it is stored: there is nothing to revise, and nobody to add to."""
    assert code(send(exchange, message("ADT^A28", pid("H2")))) == "AA"
    (patient,) = held(exchange, "H2")
    before = inbox(exchange)
    assert erase(exchange, patient["id"]).status == 200
    assert [code(send(exchange, each)) for each in (oru("H2", "10"), message("ADT^A31", pid("H2")))] == ["AR", "AR"]
    assert inbox(exchange) == before


def control_of(sent: bytes) -> str:
    return sent.split(b"|")[9].decode()


def test_a_national_number_leads_to_who_is_qualified_by_it(exchange: Exchange) -> None:
    """Others that claim it - "validated", with all strict traits, which are other ones - get nothing that is meant for
    this person, and are not linked."""
    _, key = region(exchange, 6)
    system, number = examples.ins(6).split("|")
    national = f"{number}^^^ASIP&{system.removeprefix('urn:oid:')}&ISO^INS"
    for claim in range(2):
        name = f"{name_of(f'claim {claim}')}^ALICE^^^^^L"
        born = f"||196001{claim + 1:02d}|F|||^^99243^^^^BDL^^99243{'|' * 21}VALI"
        claims = f"PID|1||Q{claim}^^^H&2.999.2&ISO^PI~{national}||{name}{born}"
        assert code(send(exchange, message("ADT^A28", claims), client="hospital-b")) == "AA"
        found = exchange.client("hospital-b").get(f"Patient?identifier=urn:oid:2.999.2|Q{claim}").json["entry"][0]
        assert (system, number) in {(each["system"], each["value"]) for each in found["resource"]["identifier"]}
    person = wiring.patient_index().find_person(key)
    assert person is not None
    assert person.members == (key,)
    results = (f"OBR|1||Q1F|{HAEMOGLOBIN}", f"OBX|1|NM|{HAEMOGLOBIN}||10|g/dL|||||F")
    meant = message("ORU^R01", f"PID|1||{national}||X^Y^^^^^L", *results)
    answer = send(exchange, meant, client="laboratory")
    assert code(answer) == "AA", answer.body
    assert len(wiring.record_store().entries(key, "Observation", Scan()).entries) == 1


# --- who asks again ---------------------------------------------------------------------------------------------------


def test_a_retry_takes_the_rights_that_the_sender_has_by_then(exchange: Exchange) -> None:
    sent = message("ORU^R01", pid("I1"), f"OBR|1||I1F|{HAEMOGLOBIN}", pid("I2"))
    assert code(send(exchange, sent)) == "AE"
    (id,) = [each["id"][0] for each in waiting(exchange) if each["control-id"] == [control_of(sent)]]
    assert code(send(exchange, message("ADT^A28", pid("I1")))) == "AA"
    lone = sent.replace(pid("I2").encode(), b"NTE|1||x")
    other = send(exchange, lone)  # under the control id of the dead letter
    assert (code(other), reason(other)[0]) == ("AR", "205")
    reading = "system/Patient.rs"
    assert call(exchange, "POST", f"/ingestion/{id}/$retry", scope=reading).status in (403, 422)
    sender = exchange.client("hospital-a").token()
    wiring.clients().deactivate("hospital-a")
    try:
        headers = {"Authorization": f"Bearer {sender}"}
        for method, place in (("POST", f"/ingestion/{id}/$retry"), ("GET", "/ingestion"), ("POST", "/hl7v2")):
            assert exchange.gateway.request(method, place, headers, b"").status in (401, 403)
    finally:
        wiring.clients().activate("hospital-a")
    assert [each for each in waiting(exchange) if each["id"] == [id]]


@pytest.mark.parametrize(
    ("place", "status"),
    [
        (f"/ingestion/{'a' * 4000}", 404),
        (f"/fhir/Subscription/{'a' * 4000}", 404),
        (f"/ingestion?after={'a' * 4000}", 400),
    ],
)
def test_what_is_too_long_for_a_key_is_never_looked_up(exchange: Exchange, place: str, status: int) -> None:
    """DynamoDB would refuse the call, and the server would have failed."""
    read: list[str] = []

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        if model.name in ("GetItem", "BatchGetItem", "Query"):
            read.append(str(params))

    events = wiring.aws("dynamodb").meta.events
    events.register("before-parameter-build.dynamodb.*", note)
    try:
        assert call(exchange, "GET", place).status == status
    finally:
        events.unregister("before-parameter-build.dynamodb.*", note)
    assert "a" * 1000 not in str(read)


# --- order ------------------------------------------------------------------------------------------------------------


def test_a_correction_that_comes_first_stands(exchange: Exchange) -> None:
    assert code(send(exchange, oru("B1", "11", status="C", at="20260302100000"))) == "AA"
    assert code(send(exchange, oru("B1", "10", status="F", at="20260302090000"))) == "AA"
    assert values(exchange, "B1") == [(11, "corrected")]


def test_what_a_late_message_alone_says_is_stored(exchange: Exchange) -> None:
    """Two messages of one order, each with another result; the order is as the newer one said."""
    late = oru("B2", "10", at="20260302090000").replace(b"718-7^Hb^LN||10", b"789-8^GR^LN||10")
    assert code(send(exchange, oru("B2", "11", at="20260302100000"))) == "AA"
    assert code(send(exchange, late)) == "AA"
    assert values(exchange, "B2") == [(10, "final"), (11, "final")]
    (report,) = held(exchange, "B2", "DiagnosticReport")
    assert len(report["result"]) == 1


def test_an_appointment_stays_cancelled(exchange: Exchange) -> None:
    assert code(send(exchange, siu("S15", "B3", at="20260302100000"))) == "AA"
    assert code(send(exchange, siu("S12", "B3", at="20260302090000"))) == "AA"
    assert [each["status"] for each in held(exchange, "B3", "Appointment")] == ["cancelled"]


def test_a_clock_that_is_ahead_keeps_nothing_back(exchange: Exchange) -> None:
    assert code(send(exchange, message("ADT^A08", pid("B4", "DEMAIN"), at="29990101000000"))) == "AA"
    # of this moment, as far as anybody can tell: what comes after it is newer
    now = held(exchange, "B4")[0]["meta"]["lastUpdated"]
    after = f"{int(now[:4]) + 1}0101000000"
    assert code(send(exchange, message("ADT^A08", pid("B4", "APRES"), at=after))) == "AA"
    assert held(exchange, "B4")[0]["name"][0]["family"] == "APRES"


@pytest.mark.parametrize("at", ["00010101000000+1400", "99991231235959-1200", "99991231235959", "20260231", "x"])
def test_a_time_that_nobody_means_is_no_time(exchange: Exchange, at: str) -> None:
    assert code(send(exchange, message("ADT^A08", pid("B5"), at=at))) == "AA"


@pytest.mark.parametrize("seed", range(3))
def test_a_history_ends_alike_whatever_its_order(exchange: Exchange, seed: int) -> None:
    local = f"S{seed}"
    history = [
        adt("A01", local, "PREMIER", at="20260301080000"),
        oru(local, "9", status="P", at="20260301090000"),
        siu("S12", local, at="20260301093000"),
        oru(local, "10", status="F", at="20260301100000"),
        adt("A02", local, at="20260301110000"),
        adt("A08", local, "DEUXIEME", at="20260301120000"),
        siu("S13", local, at="20260301123000"),
        oru(local, "8", order=f"{local}bis", at="20260301130000"),
        oru(local, "11", status="C", at="20260301140000"),
        siu("S15", local, at="20260301150000"),
        adt("A03", local, at="20260301160000", end="20260301160000"),
        adt("A08", local, "DERNIER", at="20260301170000", end="20260301160000"),
    ]
    chance = random.Random(seed)
    sent = chance.sample([*history, *chance.sample(history, 4)], len(history) + 4)
    assert {code(send(exchange, each)) for each in sent} == {"AA"}
    assert held(exchange, local)[0]["name"][0]["family"] == "DERNIER"
    (stay,) = held(exchange, local, "Encounter")
    assert (stay["status"], stay["period"]["end"][:16]) == ("finished", "2026-03-01T16:00")
    assert values(exchange, local) == [(8, "final"), (11, "corrected")]
    assert [each["status"] for each in held(exchange, local, "Appointment")] == ["cancelled"]


# --- merges -----------------------------------------------------------------------------------------------------------


def merge(replaced: str, survivor: str, **more: str) -> bytes:
    return message("ADT^A40", pid(survivor), f"MRG|{replaced}^^^H&2.999.1&ISO^PI", **more)


def test_what_still_comes_under_a_number_that_was_replaced_is_kept(exchange: Exchange) -> None:
    """The laboratory learns of a merge later: the identity stays replaced, and the results are the person's."""
    for local in ("C1", "C2"):
        assert code(send(exchange, message("ADT^A28", pid(local)))) == "AA"
    assert code(send(exchange, merge("C1", "C2", at="20260302100000"))) == "AA"
    answer = send(exchange, oru("C1", "10", at="20260302110000"))
    assert code(answer) == "AA", answer.body
    late = send(exchange, adt("A08", "C1", "TARDIF", at="20260302090000"))
    assert code(late) == "AA", late.body
    replaced = next(each for each in held(exchange, "C1") if not each["active"])
    assert (replaced["link"][0]["type"], replaced["name"][0]["family"]) == ("replaced-by", name_of("C1"))
    assert values(exchange, "C1") == [(10, "final")]
    assert len(held(exchange, "C1", "Encounter")) == 1


def test_merges_that_go_round_or_reach_others_are_refused(exchange: Exchange) -> None:
    for local in ("C3", "C4", "C5"):
        assert code(send(exchange, message("ADT^A28", pid(local)))) == "AA"
    first = merge("C3", "C4")
    assert code(send(exchange, first)) == code(send(exchange, first)) == code(send(exchange, merge("C3", "C4"))) == "AA"
    assert code(send(exchange, merge("C4", "C5"))) == "AA"
    for wrong in (merge("C5", "C3"), merge("C5", "C5")):
        answer = send(exchange, wrong)
        assert (code(answer), reason(answer)[0]) == ("AE", "business-rule")
    foreign = merge("C5", "C4").replace(b"MRG|C5^^^H&2.999.1&", b"MRG|B-1^^^H&2.999.2&")
    assert code(send(exchange, foreign)) in ("AE", "AR")
    assert [each["active"] for each in held(exchange, "C5") if each["identifier"][0]["value"] == "C5"] == [True]


# --- too much ---------------------------------------------------------------------------------------------------------


def test_a_message_that_loses_very_much_is_told_of_in_part(exchange: Exchange) -> None:
    noise = ["ZZZ|" + "|".join("1" for _ in range(40))] * 500
    sent = message("ADT^A08", pid("D1"), *noise)
    assert code(send(exchange, sent)) == "AA"
    assert code(send(exchange, sent)) == "AA"
    listed = call(exchange, "GET", "/ingestion?status=received")
    assert "parameter" not in listed.json


@pytest.mark.parametrize("count", [95, 300])
def test_a_message_of_many_results_is_applied_whole(exchange: Exchange, count: int) -> None:
    local = f"D2{count}"
    listed = [f"OBX|{n}|NM|L{n}^Dosage^L||{n}|g/dL|||||F" for n in range(1, count + 1)]
    answer = send(exchange, message("ORU^R01", pid(local), f"OBR|1||{local}F|{HAEMOGLOBIN}", *listed))
    assert code(answer) == "AA", answer.body
    (report,) = held(exchange, local, "DiagnosticReport")
    assert len(report["result"]) == count


def test_a_message_of_many_orders_is_applied_whole(exchange: Exchange) -> None:
    """Where the commit has no room for it, the inbox learns of it afterwards."""
    orders = [(f"OBR|{n}||D6F{n}|{HAEMOGLOBIN}", f"OBX|1|NM|L{n}^Dosage^L||{n}|g/dL|||||F") for n in range(1, 51)]
    sent = message("ORU^R01", pid("D6"), *chain.from_iterable(orders))
    answer = send(exchange, sent)
    assert code(answer) == "AA", answer.body
    assert code(send(exchange, sent)) == "AA"
    assert {each["meta"]["versionId"] for each in held(exchange, "D6", "DiagnosticReport")} == {"1"}


@pytest.mark.parametrize("sign", ["|", "^", "~", "&"])
def test_more_parts_than_anybody_sends_are_not_read(exchange: Exchange, sign: str) -> None:
    """Each takes memory and time: the function would end, and the sender send it again for ever."""
    many = sign * 600_000
    answer = send(exchange, message("ORU^R01", pid("D3"), f"OBX|1|ST|{HAEMOGLOBIN}||{many}"))
    assert (code(answer), reason(answer)) == ("AE", ("100", "MSH^1"))
    lines = f"H|^~\\&|f|LABO||ORU\rP|1||D3\rOBX|1|ST|{HAEMOGLOBIN}||{many}\r".encode()
    assert send(exchange, lines, path="/hprim", content_type="text/plain").status == 422


def test_a_line_that_goes_on_for_ever_is_one_line(exchange: Exchange) -> None:
    """In time that grows with its length, not with the square of it."""
    lines = "H|~^\\&|f|LABO||ADM\rP|1||D4\r" + "A|xy\r" * 900_000
    assert send(exchange, lines.encode(), path="/hprim", content_type="text/plain").status == 422


@pytest.mark.parametrize("same", [True, False])
def test_two_that_come_at_once_under_one_control_id(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    """Both looked before either was there."""
    local = f"D5{same}"
    first = oru(local, "10")
    told = send(exchange, first)
    monkeypatch.setattr(DynamoInbox, "find", lambda *_, **__: None)
    second = send(exchange, first if same else first.replace(b"||10|", b"||11|"))
    assert (code(second), second.body == told.body) == (("AA", True) if same else ("AR", False))
    assert values(exchange, local) == [(10, "final")]
    (result,) = held(exchange, local, "Observation")
    assert result["meta"]["versionId"] == "1"


# --- what is given up -------------------------------------------------------------------------------------------------


def test_who_sent_a_message_may_give_it_up(exchange: Exchange) -> None:
    sent = message("ORU^R01", pid("G1"), f"OBR|1||G1F|{HAEMOGLOBIN}", pid("G2"), id="GIVENUP")
    assert code(send(exchange, sent)) == "AE"
    (id,) = [each["id"][0] for each in waiting(exchange) if each["control-id"] == ["GIVENUP"]]
    assert call(exchange, "DELETE", f"/ingestion/{id}", client="hospital-b").status == 404
    assert call(exchange, "DELETE", f"/ingestion/{id}").status == 204
    assert call(exchange, "GET", f"/ingestion/{id}").status == 404
    assert not [each for each in exchange.table("operations") if id in str(each["PK"]) + str(each["SK"])]
    other = message("ORU^R01", pid("G1"), f"OBR|1||G1F|{HAEMOGLOBIN}", id="GIVENUP")  # the control id is free again
    answer = send(exchange, other)
    assert code(answer) == "AA"
    assert call(exchange, "DELETE", f"/ingestion/{id}").status == 409


# --- acknowledgements -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["X\x1c", "X\x0bY", "\x1c\x0b", "X\x00"])
def test_no_sign_of_the_frame_comes_back_in_an_acknowledgement(exchange: Exchange, id: str) -> None:
    answer = send(exchange, message("ADT^A08", pid("E1"), id=id).replace(b"|P|2.5|", b"|P|2.5|"))
    assert not {0x0B, 0x1C, 0x00} & set(answer.body)


def test_nothing_of_a_message_is_in_what_is_told_of_it(exchange: Exchange, caplog: pytest.LogCaptureFixture) -> None:
    """Reasons, places and lost fields name codes and fields."""
    sent: Sequence[bytes] = (
        message("ORU^R01", pid("F1", "SECRETNAME"), "OBX|1|NM|SECRETCODE||SECRETVALUE", "ZSE|SECRETZ"),
        message("ADT^A01", pid("F1", "SECRETNAME", more="~SECRETID^^^X^SECRET"), "SECRETSEGMENT|1", "PV1|1|SECRET"),
        merge("SECRETNUMBER", "F1"),
    )
    answers = [send(exchange, each) for each in sent]
    told = [each.body.decode() for each in answers]
    for each in answers:
        id = acked(each)["MSH"][9][1:]
        (item,) = [row for row in exchange.table("operations") if row["PK"]["S"].startswith(f"IN#{id}")]
        told.append(call(exchange, "GET", f"/ingestion/{item['PK']['S'][3:]}").body.decode())
        told.append(str(item))
    assert "SECRET" not in "".join(told)
    assert "SECRET" not in str([vars(each) for each in caplog.records])
    assert waiting(exchange)


# --- wherever a process ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["admission", "merge"])
def test_wherever_the_process_ends_the_same_message_ends_alike(exchange: Exchange, kind: str) -> None:
    """By the real conversions: after the same message again, all is there as if nothing had happened."""

    def prepared(number: int) -> tuple[str, bytes]:
        local = f"Z{kind[0]}{number}"
        allergy = "AL1|1|DA|J01CA04^Amoxicilline^ATC|SV"
        if kind == "admission":
            admitted = adt("A01", local, at="20260301080000")
            return local, admitted + f"{allergy}\rDG1|1||I50.1^Insuffisance^CIM10||20260401|W\r".encode()
        for each in (local, f"{local}bis"):
            assert code(send(exchange, message("ADT^A28", pid(each)))) == "AA"
        return local, merge(local, f"{local}bis")

    def state(local: str) -> list[tuple[str, str, Any]]:
        kinds = ("Patient", "Encounter", "AllergyIntolerance", "Condition", "Provenance")
        found = [each for of in kinds for each in held(exchange, local, of)]
        return [(each["resourceType"], each["meta"]["versionId"], each.get("active")) for each in found]

    expected = None
    with crashing() as crashes:
        for number in range(0, 90, 3):  # no crash; then after every third call
            local, sent = prepared(number)
            crashes.calls, crashes.at, crashes.is_done = 0, max(number - 1, 1) if number else None, number > 1
            try:
                send(exchange, sent)
            except Crash:
                is_over = False
            else:
                is_over = number > 0
            crashes.at = None
            assert (number, code(send(exchange, sent))) == (number, "AA")
            expected = expected or state(local)
            assert (number, state(local)) == (number, expected)
            if is_over:
                break
    assert is_over
