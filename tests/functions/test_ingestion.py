"""Messages of other formats over HTTP: acknowledged when they are durable, applied once, in order, never lost."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from passerelle import wiring
from passerelle.ingestion.model import Conversion, Source, SourceFormat
from passerelle.wiring import taking_in
from tests import ingesting
from tests.exchange import Exchange
from tests.ingesting import acked, adt, call, code, control, held, merge, name_of, oru, parts, segments, send, waiting

Converters = dict[SourceFormat, Any]
REAL = wiring.converters
EXAMPLES = Path(__file__).parents[1] / "examples" / "hl7v2"


@pytest.fixture(autouse=True)
def converters(monkeypatch: pytest.MonkeyPatch) -> Converters:
    """The small reader; tests put others in its place."""
    found: Converters = {SourceFormat.HL7V2: ingesting.convert}
    monkeypatch.setattr(taking_in, "converters", lambda: found)
    wiring.ingestion_service.cache_clear()
    wiring.ingest.cache_clear()
    return found


@pytest.fixture(autouse=True)
def nothing_waits(exchange: Exchange, converters: Converters) -> Iterator[None]:
    """Each test leaves the list of dead letters as it was."""
    before = [each["id"] for each in waiting(exchange)]
    yield
    for each in waiting(exchange):
        if each["id"] not in before:
            nothing = Conversion(kind="", control_id="", sender="", at=None, bundle={})
            converters.update(dict.fromkeys(SourceFormat, lambda data, source: nothing))  # noqa: B023
            assert call(exchange, "POST", f"/ingestion/{each['id'][0]}/$retry").status == 200


def test_a_message_is_applied_and_acknowledged(exchange: Exchange) -> None:
    answer = send(exchange, adt("1001", id="M1"))
    ack = acked(answer)
    assert dict(answer.headers)["Content-Type"] == "application/hl7-v2"
    assert ack["MSH"][2:6] == ["PASSERELLE", "REGION", "LAB", "HOSP"]
    assert (ack["MSH"][8], ack["MSH"][10], ack["MSH"][11]) == ("ACK^A01^ACK", "P", "2.5")
    assert ack["MSA"] == ["MSA", "AA", "M1"]
    assert "ERR" not in ack
    assert held(exchange, "1001")[0]["name"][0]["family"] == name_of("1001")
    assert len(held(exchange, "1001", "Encounter")) == 1


def test_the_same_message_again_gets_the_same_acknowledgement_and_changes_nothing(exchange: Exchange) -> None:
    message = oru("1002", "12.5", "13.5")
    first = send(exchange, message)
    before = exchange.table("clinical")
    again = send(exchange, message)
    assert (code(first), first.body) == ("AA", again.body)
    assert exchange.table("clinical") == before
    assert len(held(exchange, "1002", "Observation")) == 2


def test_a_correction_meets_what_it_corrects(exchange: Exchange) -> None:
    assert code(send(exchange, oru("1003", "12.5"))) == "AA"
    assert code(send(exchange, oru("1003", "14.5"))) == "AA"
    (result,) = held(exchange, "1003", "Observation")
    assert (result["valueQuantity"]["value"], result["meta"]["versionId"]) == (14.5, "2")


def test_a_used_control_id_is_refused_for_another_message(exchange: Exchange) -> None:
    id = control()
    assert code(send(exchange, adt("1004", id=id))) == "AA"
    answer = send(exchange, adt("1004", "MARTIN", id=id))
    assert (code(answer), acked(answer)["ERR"][3].split("^")[0]) == ("AR", "205")
    assert held(exchange, "1004")[0]["name"][0]["family"] == name_of("1004")
    other = adt("1004", "MARTIN", id=id, at="20260303093000").replace(b"|LAB|", b"|ADMIN|")  # has numbers of its own
    assert code(send(exchange, other)) == "AA"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"not a message", "200"),
        (b"", "200"),
        (segments("MFN^M02", "MFI|x"), "200"),
        (segments("ADT^A01", "PID|||1", id=" ").replace(b"| |P|", b"||P|"), "101"),
    ],
    ids=["no HL7", "empty", "unknown type", "without a control id"],
)
def test_what_cannot_be_a_message_is_refused_and_nothing_is_kept(
    exchange: Exchange, message: bytes, reason: str
) -> None:
    before = exchange.table("operations")
    answer = send(exchange, message)
    assert (code(answer), acked(answer)["ERR"][3].split("^")[0]) == ("AR", reason)
    assert exchange.table("operations") == before


# --- dead letters ----------------------------------------------------------------------------------------------------


def test_what_cannot_be_applied_waits_with_its_reason_until_that_is_mended(
    exchange: Exchange, converters: Converters, capsys: pytest.CaptureFixture[str]
) -> None:
    id = control()
    message = oru("1005", "12.5", "?", id=id)
    answer = send(exchange, message)
    assert code(answer) == "AE"
    assert acked(answer)["ERR"][3:5] == ["103^Table value not found^HL70357", "E"]
    assert acked(answer)["ERR"][7] == "Bundle.entry[2].resource.status"
    assert held(exchange, "1005") == []  # all of it, or nothing
    assert '"IngestionDeadLetters": 1' in capsys.readouterr().out
    (dead,) = waiting(exchange)
    assert (dead["control-id"], dead["kind"], dead["reason"]) == ([id], ["ORU^R01"], ["103"])
    assert dead["path"] == ["Bundle.entry[2].resource.status"]
    place = f"/ingestion/{dead['id'][0]}"

    answer = call(exchange, "POST", f"{place}/$retry")
    assert (answer.status, answer.json["issue"][0]["expression"]) == (422, dead["path"])

    def mended(data: bytes, source: Source) -> Conversion:
        return ingesting.convert(data.replace(b"|?|", b"|13.5|"), source)

    converters[SourceFormat.HL7V2] = mended
    answer = call(exchange, "POST", f"{place}/$retry")
    assert answer.status == 200
    assert waiting(exchange) == []
    assert len(held(exchange, "1005", "Observation")) == 2
    shown = parts(call(exchange, "GET", place).json["parameter"][0])
    assert (shown["status"], len(shown["made"])) == (["applied"], 3)
    assert code(send(exchange, message)) == "AA"  # and its sender learns so


def test_the_sender_may_try_a_dead_letter_again(exchange: Exchange) -> None:
    message = merge("1006", "1007")
    answer = send(exchange, message)
    assert (code(answer), acked(answer)["ERR"][3].split("^")[0]) == ("AE", "204")
    assert code(send(exchange, adt("1006"))) == "AA"
    assert code(send(exchange, message)) == "AA"
    assert waiting(exchange) == []
    replaced = next(each for each in held(exchange, "1006") if not each["active"])
    assert replaced["link"][0]["type"] == "replaced-by"


def test_a_defect_of_ours_keeps_back_no_other_message(exchange: Exchange, caplog: pytest.LogCaptureFixture) -> None:
    answer = send(exchange, segments("ADT^A01", ingesting.pid("1008", "SECRETNAME"), "ZZZ|1"))
    assert (code(answer), acked(answer)["ERR"][3].split("^")[0]) == ("AE", "207")
    assert code(send(exchange, adt("1009"))) == "AA"
    said = [vars(each) for each in caplog.records]
    assert any(each.get("failure") == "ZeroDivisionError" for each in said)
    assert "SECRETNAME" not in str(said)


def test_a_defect_shows_once_the_message_is_stored(exchange: Exchange, converters: Converters) -> None:
    """A conversion that orders what is not in it: sent again and again, it would keep back those behind it."""
    read = ingesting.convert
    converters[SourceFormat.HL7V2] = lambda data, source: replace(read(data, source), ordered={"urn:none": "none"})
    answer = send(exchange, adt("1012"))
    assert (code(answer), acked(answer)["ERR"][3].split("^")[0]) == ("AE", "207")


def test_a_large_message_waits_whole(exchange: Exchange, converters: Converters) -> None:
    noise = random.Random(1).randbytes(700_000).hex()[:1_200_000]
    message = oru("1010", "?") + f"NTE|1||{noise}\r".encode()
    assert code(send(exchange, message)) == "AE"
    (dead,) = waiting(exchange)
    assert sum("C#" in each["SK"]["S"] for each in exchange.table("operations")) > 1
    seen: list[bytes] = []

    def mended(data: bytes, source: Source) -> Conversion:
        seen.append(data)
        return ingesting.convert(data.replace(b"|?|", b"|13.5|"), source)

    converters[SourceFormat.HL7V2] = mended
    assert call(exchange, "POST", f"/ingestion/{dead['id'][0]}/$retry").status == 200
    assert seen == [message]
    assert not any("C#" in each["SK"]["S"] for each in exchange.table("operations"))


def test_what_waits_is_sealed_and_what_is_applied_is_let_go(exchange: Exchange) -> None:
    assert code(send(exchange, oru("1011", "?", id="CLEARCONTROL"))) == "AE"
    assert code(send(exchange, adt("1012", "CLEARNAME"))) == "AA"
    stored = str(exchange.table("operations"))
    assert "CLEARNAME" not in stored
    assert "CLEARCONTROL" not in stored
    inbox = [each for each in exchange.table("operations") if each["PK"]["S"].startswith("IN#")]
    applied = [each for each in inbox if each["status"]["S"] == "applied"]
    assert applied
    assert not any("c" in each for each in applied)
    assert all("ttl" in each for each in applied)
    assert all("ttl" not in each for each in inbox if each not in applied)


def test_nobody_looks_after_the_messages_of_others(exchange: Exchange) -> None:
    assert code(send(exchange, oru("1013", "?"))) == "AE"
    (dead,) = waiting(exchange)
    place = f"/ingestion/{dead['id'][0]}"
    assert waiting(exchange, client="hospital-b") == []
    assert call(exchange, "GET", place, client="hospital-b").status == 404
    assert call(exchange, "POST", f"{place}/$retry", client="hospital-b").status == 404
    assert call(exchange, "GET", "/ingestion?status=applied").status == 400


# --- order -----------------------------------------------------------------------------------------------------------


def test_an_older_message_overwrites_nothing_that_a_newer_one_said(exchange: Exchange) -> None:
    assert code(send(exchange, adt("1014", "NOUVEAU", at="20260302100000"))) == "AA"
    visit = oru("1014", "11.5", at="20260302090000") + b"PV1||I|||||||||||||||||V1014\r"
    late = visit.replace(name_of("1014").encode(), b"ANCIEN")
    answer = send(exchange, late)
    assert code(answer) == "AA"
    (patient,), (encounter,) = held(exchange, "1014"), held(exchange, "1014", "Encounter")
    assert patient["name"][0]["family"] == "NOUVEAU"
    assert encounter["type"][0]["text"] == "NOUVEAU"
    (result,) = held(exchange, "1014", "Observation")  # a fact, whenever it comes
    assert result["subject"]["reference"] == f"Patient/{patient['id']}"
    shown = _shown(exchange, answer)
    assert sorted(shown["passed-over"]) == ["Encounter", "Patient"]
    assert send(exchange, late).body == answer.body
    assert code(send(exchange, adt("1014", "DERNIER", at="20260302110000"))) == "AA"
    assert held(exchange, "1014")[0]["name"][0]["family"] == "DERNIER"


def test_messages_in_any_order_end_alike(exchange: Exchange) -> None:
    at = [f"202603021{n}0000" for n in range(6)]
    for turn in range(3):
        local = str(1100 + turn)
        shuffled = random.Random(turn).sample(at, len(at))
        for each in shuffled:
            assert code(send(exchange, adt(local, f"N{each}", at=each))) == "AA"
        assert held(exchange, local)[0]["name"][0]["family"] == f"N{at[-1]}"


def _shown(exchange: Exchange, answer: Any) -> dict[str, list[Any]]:
    """What is told of the message that an ACK is of."""
    id = acked(answer)["MSH"][9][1:]
    (item,) = [each for each in exchange.table("operations") if each["PK"]["S"].startswith(f"IN#{id}")]
    return parts(call(exchange, "GET", f"/ingestion/{item['PK']['S'][3:]}").json["parameter"][0])


def test_the_sender_is_told_what_was_made_and_what_was_lost(exchange: Exchange) -> None:
    shown = _shown(exchange, send(exchange, adt("1015")))
    assert shown["lost"] == ["PV1-2"]
    assert [each.partition("/")[0] for each in shown["made"]] == ["Patient", "Encounter"]


# --- acknowledgement modes, versions, character sets -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "application", "good", "waits", "refused"),
    [
        ("", "", "AA", "AE", "AR"),
        ("AL", "NE", "CA", "CA", "CR"),
        ("AL", "", "CA", "CA", "CR"),
        ("NE", "AL", "AA", "AE", "AR"),
        ("AL", "AL", "AA", "AE", "AR"),
        ("NE", "NE", None, None, None),
        ("ER", "NE", None, None, "CR"),
        ("SU", "NE", "CA", "CA", None),
        ("NE", "ER", None, "AE", "AR"),
        ("AL", "ER", "CA", "AE", "AR"),
        ("NE", "SU", "AA", None, None),
    ],
)
def test_the_acknowledgement_is_the_one_that_the_sender_asks_for(
    exchange: Exchange, accept: str, application: str, good: str | None, waits: str | None, refused: str | None
) -> None:
    modes = (accept, application)
    sent = (adt("1016", modes=modes), oru("1016", "?", modes=modes), segments("MFN^M02", "MFI|x", modes=modes))
    for message, expected in zip(sent, (good, waits, refused), strict=True):
        answer = send(exchange, message)
        if expected is None:
            assert (answer.status, answer.body) == (204, b"")
        else:
            assert code(answer) == expected


def test_an_older_version_is_told_of_errors_in_its_own_words(exchange: Exchange) -> None:
    answer = send(exchange, segments("ADT^A01", "EVN|A01", version="2.3"))
    ack = acked(answer)
    assert (ack["MSH"][8], ack["MSH"][11]) == ("ACK^A01", "2.3")
    assert ack["ERR"] == ["ERR", "PID^1^3^101&Required field missing&HL70357"]


def test_errors_of_2_5_name_the_place(exchange: Exchange) -> None:
    answer = send(exchange, segments("ADT^A01", "EVN|A01"))
    assert acked(answer)["ERR"] == ["ERR", "", "PID^1^3^1", "101^Required field missing^HL70357", "E"]


@pytest.mark.parametrize("separators", ["|^~\\&", "$%~!*"])
def test_the_answer_has_the_delimiters_of_the_message(exchange: Exchange, separators: str) -> None:
    field, component = separators[0], separators[1]
    text = f"MSH{separators}{field}LAB{component}1.2{field}HOSP{field}X{field}Y{field}20260302{field}{field}MFN"
    answer = send(exchange, f"{text}{field}{control()}{field}P{field}2.5\r".encode())
    msh = answer.body.decode().split("\r")[0].split(field)
    assert (msh[0], msh[1], msh[4]) == ("MSH", separators[1:], f"LAB{component}1.2")


@pytest.mark.parametrize(
    ("charset", "content_type"),
    [("8859/1", "application/hl7-v2"), ("", "text/plain; charset=iso-8859-1"), ("8859/1", "text/plain; charset=utf-8")],
)
def test_the_message_says_its_charset_or_else_http_does(
    exchange: Exchange, converters: Converters, charset: str, content_type: str
) -> None:
    message = adt("1017", "BÉRÉNICE").replace(b"|2.5\r", f"|2.5||||||{charset}\r".encode())
    seen: list[bytes] = []

    def seeing(data: bytes, source: Source) -> Conversion:
        seen.append(data)
        return ingesting.convert(data, source)

    converters[SourceFormat.HL7V2] = seeing
    answer = send(exchange, message, content_type=content_type)
    assert code(answer) == "AA"
    assert seen == [message if charset else message.decode("latin-1").encode()]
    assert (acked(answer)["MSH"][17:] or [""])[0] == charset


def test_each_message_of_a_batch_stands_by_itself(exchange: Exchange) -> None:
    good, bad, other = adt("1018"), oru("1018", "?"), adt("1019")
    body = b"FHS|^~\\&|LAB|HOSP|X|Y\rBHS|^~\\&|LAB|HOSP|X|Y|||||B1\r" + good + bad + other + b"BTS|3\rFTS|1\r"
    answer = send(exchange, body)
    lines = answer.body.decode().split("\r")[:-1]
    assert [line[:3] for line in lines] == ["FHS", "BHS", *["MSH", "MSA"] * 2, "ERR", *["MSH", "MSA"], "BTS", "FTS"]
    assert [line.split("|")[1] for line in lines if line.startswith("MSA")] == ["AA", "AE", "AA"]
    assert (lines[1].split("|")[2:6], lines[1].split("|")[11], lines[-2]) == (["X", "Y", "LAB", "HOSP"], "B1", "BTS|3")
    assert len(held(exchange, "1019")) == 1


@pytest.mark.parametrize("name", ["admission", "biology", "appointment", "pharmacy", "vaccine", "order", "discharge"])
def test_the_examples_are_applied_as_they_are(exchange: Exchange, converters: Converters, name: str) -> None:
    """By the real conversion: each is acknowledged, and the same again changes nothing."""
    from passerelle.fhir.conversion import hl7v2

    converters[SourceFormat.HL7V2] = hl7v2.convert
    message = (EXAMPLES / f"{name}.hl7").read_bytes()
    answer = send(exchange, message)
    assert code(answer) == "AA"
    before = exchange.table("clinical")
    assert send(exchange, message).body == answer.body
    assert exchange.table("clinical") == before


def test_every_format_has_its_reader() -> None:
    assert set(REAL()) == {SourceFormat.HL7V2, SourceFormat.HPRIM, SourceFormat.CDA}


# --- who may ---------------------------------------------------------------------------------------------------------


def test_who_may_not_write_what_is_in_a_message_leaves_nothing(exchange: Exchange) -> None:
    before = exchange.table("operations")
    answer = send(exchange, oru("1020"), scope="system/Patient.cruds")
    assert answer.status == 403
    kept = [each for each in exchange.table("operations") if each["PK"]["S"].startswith(("IN#", "IW#"))]
    assert kept == [each for each in before if each["PK"]["S"].startswith(("IN#", "IW#"))]
    assert exchange.gateway.request("POST", "/hl7v2", {"Content-Type": "text/plain"}, adt("1020")).status == 401


def test_other_media_types_and_too_much_are_refused_as_everywhere(exchange: Exchange) -> None:
    assert send(exchange, adt("1021"), content_type="application/json").status == 415
    assert send(exchange, b"x" * (5 * 1024 * 1024 + 1)).status == 413
    assert send(exchange, b"BHS|^~\\&\r" + adt("1021") * 101).status == 413
    assert call(exchange, "GET", "/hl7v2").status == 405


def test_a_message_is_in_the_access_log_of_its_patient(exchange: Exchange) -> None:
    made = _shown(exchange, send(exchange, adt("1022")))["made"]
    patient = made[0].split("/")[1]
    found = exchange.client("auditor").get(f"AuditEvent?patient=Patient/{patient}&date=ge2026-01-01&action=E")
    who = {each["resource"]["agent"][0]["who"]["identifier"]["value"] for each in found.json["entry"]}
    assert who == {"hospital-a"}


# --- other formats ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "of", "content_type"),
    [("/cda", SourceFormat.CDA, "application/cda+xml"), ("/hprim", SourceFormat.HPRIM, "application/hprim")],
)
def test_formats_without_acknowledgements_are_told_what_was_made(
    exchange: Exchange, converters: Converters, path: str, of: SourceFormat, content_type: str
) -> None:
    converters[of] = ingesting.convert
    message = adt("1023")
    answer = send(exchange, message, path=path, content_type=content_type)
    assert answer.status == 201
    told = parts(answer.json["parameter"][0])
    assert (told["status"], told["lost"]) == (["applied"], ["PV1-2"])
    again = send(exchange, message, path=path, content_type=content_type)
    assert (again.status, again.json) == (201, answer.json)
    answer = send(exchange, oru("1023", "?"), path=path, content_type=content_type)
    assert (answer.status, answer.json["issue"][0]["code"]) == (422, "processing")
    place = dict(answer.headers)["Location"].partition("/ingestion/")[2]
    assert parts(call(exchange, "GET", f"/ingestion/{place}").json["parameter"][0])["status"] == ["dead"]
    answer = send(exchange, segments("MFN^M02"), path=path, content_type=content_type)
    assert (answer.status, "Location" in dict(answer.headers)) == (422, False)


# --- many ------------------------------------------------------------------------------------------------------------


def test_sixty_messages_twice_and_cut_are_applied_exactly_once(exchange: Exchange) -> None:
    """5 % come twice, 2 % are cut on their way and sent again."""
    chance = random.Random(7)
    messages = [oru(str(2000 + n % 20), "10.5").replace(b"|F2", f"|F{n}-2".encode()) for n in range(60)]
    sent: list[bytes] = []
    for message in messages:
        if chance.random() < 0.02:
            sent.append(message[: chance.randrange(20, 120)])
        sent += [message] * (2 if chance.random() < 0.05 else 1)
    codes = [code(send(exchange, each)) for each in sent]
    assert codes.count("AA") == len([each for each in sent if each in messages])
    found = _results(exchange, range(2000, 2020))
    assert len(found) == len(messages)
    assert {each["meta"]["versionId"] for each in found} == {"1"}


def _results(exchange: Exchange, numbers: Sequence[int]) -> list[dict[str, Any]]:
    return [each for number in numbers for each in held(exchange, str(number), "Observation")]


def test_what_only_its_sender_may_write_is_refused_by_the_record(exchange: Exchange, converters: Converters) -> None:
    """Another's domain: no message of this sender can be about it, and none is kept."""

    def foreign(data: bytes, source: Source) -> Conversion:
        return ingesting.convert(data, replace(source, domain="urn:oid:2.999.2"))

    converters[SourceFormat.HL7V2] = foreign
    before = call(exchange, "GET", "/ingestion").json.get("parameter", [])
    answer = send(exchange, adt("1024"))
    assert code(answer) == "AR"
    assert call(exchange, "GET", "/ingestion").json.get("parameter", []) == before
