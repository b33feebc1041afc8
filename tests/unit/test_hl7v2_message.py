"""The reader of HL7 v2: whatever senders do to line ends, marks, characters and delimiters; and what nobody read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.hl7v2.message import Message, RefusedMessageError

HEADER = "MSH|^~\\&|A|B|C|D|2026||ORU^R01|1|P|2.5"
PID = "PID|1||7^^^X&1.2.3&ISO^PI~8^^^Y||NOËL^Zoé"


def message(*segments: str, header: str = HEADER, end: str = "\r", encoding: str = "utf-8") -> Message:
    return Message(end.join((header, *segments)).encode(encoding))


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\r\r\n", "\n\n"])
def test_any_line_end_ends_a_segment(end: str) -> None:
    assert [each.name for each in message(PID, "PV1|1", end=end).segments] == ["MSH", "PID", "PV1"]


@pytest.mark.parametrize(("before", "after"), [("\x0b", "\x1c\r"), ("\ufeff", ""), ("\r\n ", "\n\n"), ("\t", "\x1c")])
def test_framing_and_marks_are_no_part_of_it(before: str, after: str) -> None:
    read = Message((before + HEADER + "\r" + PID + after).encode())
    assert read.first("PID")[5][1] == "NOËL"


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        *(("UNICODE UTF-8", "utf-8"), ("8859/1", "latin-1"), ("8859/15", "iso8859-15"), ("", "utf-8")),
        *(("", "cp1252"), ("8859/1", "utf-8"), ("ASCII", "latin-1"), ("", "utf-16")),
    ],
)
def test_characters_as_they_are_declared_or_else_as_they_are(declared: str, encoding: str) -> None:
    read = message(PID, header=f"{HEADER}||||||{declared}", encoding=encoding)
    assert (read.first("PID")[5][1], read.first("PID")[5][2]) == ("NOËL", "Zoé")


@pytest.mark.parametrize("signs", ["^~\\&", "^~\\\\&", "^~", "^~\\", "^˜\\&"])
def test_delimiters_that_are_short_or_doubled(signs: str) -> None:
    repetition = signs[1]
    read = message(f"PID|1||7^^^X&Y{repetition}8", header=HEADER.replace("^~\\&", signs))
    assert [(each[1], each.part(4, 2)) for each in read.first("PID").all(3)] == [("7", "Y"), ("8", "")]
    assert (read.first("MSH")[9][1], read.first("MSH")[9][2]) == ("ORU", "R01")


def test_other_delimiters_and_escapes() -> None:
    read = Message(b"MSH#*!@%#A##C##2026##ORU*R01#1#P#2.5\rOBX#1#FT#X##a@F@b@S@c@R@d@T@e@E@f@.br@g")
    assert read.first("OBX").text(5) == "a#b*c!d%e@f\ng"


def test_text_may_have_delimiters_in_it() -> None:
    obx = message("OBX|1|TX|X||a^b&c~d").first("OBX")
    assert obx.text(5) == "a^b&c\nd"
    assert obx.raw(5) == "a^b&c~d"


@pytest.mark.parametrize(
    "data", [b"", b"MSH", b"PID|1", b"MSH|||||||", b"MSH|^^^^|A|B", b"MSHA^~\\&A", b"H|~^\\&|x", b"MSH|^~\\&|A\0B|C"]
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(RefusedMessageError):
        Message(data)


def test_what_nobody_read_is_named_and_never_told() -> None:
    read = message(PID, "OBX|1|NM|K||5", "OBX|2|NM|NA||140", 'ZZZ|""|x', "secret|value")
    for segment in read.segments:
        segment.keep(*range(1, 13)) if segment.name == "MSH" else segment.keep(1)
    pid, second = read.first("PID"), read.all("OBX")[1]
    assert (pid[3][1], second[5][1]) == ("7", "140")
    second.lose(5)
    assert read.unread == (
        "PID-5",
        "OBX[1]-2",
        "OBX[1]-3",
        "OBX[1]-5",
        "OBX[2]-2",
        "OBX[2]-3",
        "OBX[2]-5",
        "ZZZ-2",
        "???-2",
    )
    pid.forget()
    assert read.unread[:2] == ("PID-3", "PID-5")


def test_looking_is_not_reading() -> None:
    read = message(PID)
    assert read.first("PID").peek(3, 5)
    assert {"PID-3", "PID-5"} <= set(read.unread)


def test_a_value_to_be_deleted_is_empty() -> None:
    pid = message('PID|1||""||A^""').first("PID")
    assert (pid.all(3), pid[5][1], pid[5][2]) == ((), "A", "")


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        read = Message(b"MSH|^~\\&|" + data)
    except RefusedMessageError:
        return
    for segment in read.segments:
        for field in range(1, 20):
            assert isinstance(segment.text(field), str)
            for value in segment.all(field):
                assert all(isinstance(value[number], str) for number in range(1, len(value) + 1))
    assert all(each.rpartition("-")[2].isdecimal() for each in read.unread)
