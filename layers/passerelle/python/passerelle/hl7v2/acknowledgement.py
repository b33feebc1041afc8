"""Acknowledgements of HL7 version 2 messages, and the batches that both come in.

Contract: HL7 2.5 chapter 2.9 (original and enhanced mode), 2.10.3 (batches), 2.15 (MSH, MSA, ERR, BHS, FHS), tables
0008, 0155 and 0357; before 2.5, ERR-1 says where (chapter 2.16.2 of 2.3). The header is read as bytes, one a
character, and answered in the sender's character set and with its delimiters, whatever they are.

One exchange has one answer. A sender that asks for both acknowledgements (MSH-15 and MSH-16) gets that of the
application, which says all that the other one would. What waits among the dead letters is accepted (CA): it is safe.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

Verdict = Literal["A", "E", "R"]  # applied; kept for somebody to look at; refused

TEXTS: Final = {
    "100": "Segment sequence error",
    "101": "Required field missing",
    "102": "Data type error",
    "103": "Table value not found",
    "200": "Unsupported message type",
    "201": "Unsupported event code",
    "202": "Unsupported processing id",
    "203": "Unsupported version id",
    "204": "Unknown key identifier",
    "205": "Duplicate key identifier",
    "206": "Application record locked",
    "207": "Application internal error",
    "business-rule": "A rule of the record is against it",
}
_TABLE: Final = "HL70357"
_LOCAL: Final = "L"  # ERR-3 is a CWE: a code that table 0357 has not is one of the exchange's own
_LINES: Final = re.compile(r"\r\n|\r|\n")
_SIGNS: Final = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f]")  # of framing: none of them comes back
_FRAME: Final = "\x0b\x1c\r\n "
_MARK: Final = codecs.BOM_UTF8.decode("latin-1")
_PLACE: Final = re.compile(
    r"(?P<segment>[A-Z][A-Z0-9]{2})(?:\[(?P<sequence>\d+)\])?(?:-(?P<field>\d+)(?:\[(?P<repetition>\d+)\])?"
    r"(?:\.(?P<component>\d+))?)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`code` is of TEXTS; `path` where: in the message (`OBX[2]-5`), or an element of what it became."""

    code: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class Heading:
    """MSH, BHS or FHS of a message: its fields as they came, one byte a character."""

    fields: Sequence[str]
    separator: str
    signs: str

    def __getitem__(self, number: int) -> str:
        """Field by its number (MSH-3 is the sending application); empty where there is none."""
        return self.fields[number - 1] if number <= len(self.fields) else ""

    @property
    def sender(self) -> str:
        return f"{self[3]}|{self[4]}"

    def component(self, number: int, place: int) -> str:
        parts = self[number].split(self.signs[0])
        return parts[place - 1] if place <= len(parts) else ""

    @property
    def version(self) -> tuple[int, ...]:
        """MSH-12 as numbers; empty for one that has none."""
        found = re.match(r"\d+(?:\.\d+)*", self.component(12, 1))
        return tuple(map(int, found[0].split("."))) if found else ()

    @property
    def charset(self) -> str:
        return self[18]

    def mode(self, verdict: Verdict) -> str | None:
        """MSA-1 as the sender asks for it; None where it wants no answer to this (chapter 2.9.3)."""
        accept, application = self[15], self[16]
        if not accept and not application:
            return f"A{verdict}"
        if _is_wanted(application, is_good=verdict == "A"):
            return f"A{verdict}"
        if _is_wanted(accept, is_good=verdict != "R"):
            return "CR" if verdict == "R" else "CA"
        return None


def _is_wanted(condition: str, *, is_good: bool) -> bool:
    return condition == "AL" or condition == ("SU" if is_good else "ER")


def heading_of(data: bytes) -> Heading | None:
    """The header of a message; None for what is no HL7 version 2 in delimiters."""
    text = _SIGNS.sub("", data[:8192].decode("latin-1").lstrip(_FRAME).removeprefix(_MARK))
    return _heading(_LINES.split(text, maxsplit=1)[0], "MSH")


def _heading(line: str, name: str) -> Heading | None:
    if not line.startswith(name) or len(line) < 8 or line[3].isalnum():
        return None
    separator = line[3]
    fields = line.split(separator)
    signs = fields[1]
    return Heading((separator, *fields[1:]), separator, signs) if len(signs) >= 3 else None


def acknowledge(heading: Heading | None, code: str, *, id: str, at: datetime, fault: Fault | None = None) -> bytes:
    """An ACK. `id` is its own control id; without a heading it answers what was no message."""
    asked = heading or Heading(("|", "^~\\&"), "|", "^~\\&")
    component = asked.signs[0]
    event = asked.component(9, 2)
    kind = ["ACK", *([event] if event else []), *(["ACK"] if event and asked.version >= (2, 4) else [])]
    header = [
        *asked.fields[1:2],
        asked[5],
        asked[6],
        asked[3],
        asked[4],
        _time(at),
        "",
        component.join(kind),
        id,
        asked[11] or "P",
        asked[12] or "2.5",
        *([""] * 5),
        asked.charset,
    ]
    segments = [
        "MSH" + asked.separator + asked.separator.join(header).rstrip(asked.separator),
        asked.separator.join(["MSA", code, asked[10]]),
    ]
    if fault is not None:
        segments.append(_err(asked, fault, is_new=not asked.version or asked.version >= (2, 5)))
    return "".join(f"{each}\r" for each in segments).encode("latin-1", "replace")


def _err(asked: Heading, fault: Fault, *, is_new: bool) -> str:
    component, separator = asked.signs[0], asked.separator
    found = _PLACE.fullmatch(fault.path)
    text = TEXTS.get(fault.code, TEXTS["207"])
    coding = (fault.code, text, _TABLE if fault.code.isdecimal() else _LOCAL)
    if is_new:
        named = ("segment", "sequence", "field", "repetition", "component")
        place = [found[name] or ("1" if name == "sequence" else "") for name in named] if found else []
        if found and found["field"] and not found["repetition"]:
            place[3] = "1"
        coded = component.join(coding)
        said = [] if found or not fault.path else ["", "", _escaped(asked, fault.path)]
        return separator.join(["ERR", "", component.join(place).rstrip(component), coded, "E", *said])
    sub = asked.signs[-1]
    place = [found["segment"], found["sequence"] or "1", found["field"] or ""] if found else ["", "", ""]
    return separator.join(["ERR", component.join([*place, sub.join(coding)])])


def _escaped(asked: Heading, text: str) -> str:
    """FHIRPaths have brackets and dots: only a strange delimiter could be among them."""
    signs = (asked.separator, *asked.signs)
    return "".join(" " if each in signs else each for each in text)


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y%m%d%H%M%S}+0000"


# --- batches ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Batch:
    """The messages between headers and trailers, each with the bytes that were sent."""

    file: Heading | None
    batch: Heading | None
    messages: tuple[bytes, ...]


def batch_of(data: bytes) -> Batch | None:
    """The batch that a content is; None for a single message."""
    lines = [line for line in _LINES.split(data.decode("latin-1").strip(_FRAME).removeprefix(_MARK)) if line]
    if not lines or lines[0][:3] not in ("FHS", "BHS"):
        return None
    headings: dict[str, Heading | None] = {"FHS": None, "BHS": None}
    messages: list[list[str]] = []
    is_open = False
    for line in lines:
        name = line[:3]
        if name in headings:
            headings[name] = headings[name] or _heading(line, name)
            is_open = False
        elif name in ("BTS", "FTS"):
            is_open = False
        elif name == "MSH" or not is_open:
            messages.append([line])
            is_open = True
        else:
            messages[-1].append(line)
    contents = tuple("".join(f"{line}\r" for line in message).encode("latin-1") for message in messages)
    return Batch(headings["FHS"], headings["BHS"], contents)


def acknowledge_batch(batch: Batch, answers: Sequence[bytes], *, id: str, at: datetime) -> bytes:
    """The answers to the messages of a batch, as a batch of their own (chapter 2.10.3.3)."""
    inner = b"".join(answers)
    if batch.batch is not None:
        inner = _opened(batch.batch, "BHS", id, at) + inner + _closed(batch.batch, "BTS", len(answers))
    if batch.file is not None:
        inner = _opened(batch.file, "FHS", id, at) + inner + _closed(batch.file, "FTS", 1)
    return inner


def _opened(asked: Heading, name: str, id: str, at: datetime) -> bytes:
    fields = [name, asked.signs, asked[5], asked[6], asked[3], asked[4], _time(at), "", "", "", id, asked[11]]
    return (asked.separator.join(fields).rstrip(asked.separator) + "\r").encode("latin-1")


def _closed(asked: Heading, name: str, count: int) -> bytes:
    return f"{name}{asked.separator}{count}\r".encode("latin-1")
