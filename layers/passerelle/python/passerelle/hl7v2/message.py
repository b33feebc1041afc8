"""HL7 version 2 messages as they are received: segments, fields, repetitions, components (HL7 2.5, chapter 2).

The library `hl7` splits; what is here makes its input what it expects, because senders differ in everything: line ends,
framing, byte order marks, doubled escape characters, missing delimiters. No structure of segments is relied on.

A message knows which of its fields were read: `unread` are those that have a value and that nobody asked for. It is how
a conversion tells what it lost.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import hl7  # type: ignore[import-untyped]
from hl7.exceptions import HL7Exception  # type: ignore[import-untyped]

MAX_SEGMENTS: Final = 20_000
MAX_PARTS: Final = 500_000  # fields, repetitions, components: each takes 10 us and up to 1 kB to read

_STANDARD: Final = "^~\\&"
_DELETE: Final = '""'  # "the value is to be deleted" (2.5.3): nothing to keep, and nothing that gets lost
_LINES: Final = re.compile(r"\r\n|\r|\n")
_ESCAPE: Final = re.compile(r"\\([A-Za-z.][^\\\r\n]{0,40})\\")
_NAME: Final = re.compile(r"[A-Z][A-Z0-9]{2}", re.ASCII)
_FRAME: Final = "\r\n\t "
_CONTROLS: Final = re.compile("[\x00-\x08\x0e-\x1a\x1d-\x1f]")
_DROPPED: Final = re.compile("[\x0b\x0c\x1b\x1c\x7f\ufeff\ufffe\uffff]")  # of framing, of charsets, and marks
_CHARSETS: Final = {
    "ASCII": "latin-1",  # who declares it writes accents all the same
    "8859/1": "latin-1",
    "8859/15": "iso8859-15",
    "UNICODE": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "UNICODE UTF-16": "utf-16",
}
_MARKS: Final = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_HEADER_WINDOW: Final = 2048


class RefusedMessageError(Exception):
    """What is no HL7 version 2 message. The text is for the sender: it holds nothing of the message."""


class Value:
    """One repetition of a field; components and sub-components count from 1, and are empty where there are none."""

    __slots__ = ("_components", "_unescape")

    def __init__(self, components: Sequence[Sequence[str]], unescape: Callable[[str], str]) -> None:
        self._components = components
        self._unescape = unescape

    def __getitem__(self, number: int) -> str:
        """A component, with its sub-components as they stand; without spaces around it."""
        return self.part(number, 1) if len(self._raw(number)) < 2 else "&".join(self.parts(number)).strip()

    def __bool__(self) -> bool:
        return any(part and part != _DELETE for component in self._components for part in component)

    def __len__(self) -> int:
        return len(self._components)

    def part(self, number: int, part: int) -> str:
        """A sub-component, without spaces around it."""
        raw = self._raw(number)
        text = raw[part - 1] if 0 < part <= len(raw) else ""
        return "" if text == _DELETE else self._unescape(text).strip()

    def parts(self, number: int) -> tuple[str, ...]:
        return tuple(self.part(number, part) for part in range(1, len(self._raw(number)) + 1))

    def _raw(self, number: int) -> Sequence[str]:
        return self._components[number - 1] if 0 < number <= len(self._components) else ()


class Segment:
    """One segment. `number` tells it from others of its name in the message, from 1; fields count from 1."""

    __slots__ = ("_fields", "_kept", "_lost", "_message", "_read", "name", "number")

    def __init__(self, message: Message, name: str, number: int, fields: Sequence[hl7.Field | str]) -> None:
        self._message = message
        self._fields = fields
        self._read: set[int] = set()
        self._kept: set[int] = set()
        self._lost: set[int] = set()
        self.name = name
        self.number = number

    def __bool__(self) -> bool:
        return bool(self._fields)

    def __getitem__(self, field: int) -> Value:
        """The first repetition that has a value; the field counts as read."""
        return next(iter(self.all(field)), _NOTHING)

    def all(self, field: int) -> tuple[Value, ...]:
        """The repetitions that have a value; the field counts as read."""
        self._read.add(field)
        return self.peek(field)

    def text(self, field: int) -> str:
        """A field of formatted text with its line breaks (2.7); delimiters in it are text."""
        self._read.add(field)
        raw = self.raw(field)
        return "" if raw == _DELETE else "\n".join(map(self._message.unescaped, self._message.repeated(raw)))

    def peek(self, *fields: int) -> tuple[Value, ...]:
        """The same as `all`, without a claim that anything is made of it."""
        return tuple(value for field in fields for value in self._values(field))

    def lose(self, *fields: int) -> None:
        """What was read, and nothing could be made of."""
        self._lost.update(fields)

    def keep(self, *fields: int) -> None:
        """What says nothing that is not said elsewhere, or somebody else read."""
        self._kept.update(fields)

    def forget(self) -> None:
        """Nothing is made of the segment, whatever was read of it."""
        self._read.clear()

    @property
    def unread(self) -> tuple[int, ...]:
        every = range(1, len(self._fields))
        return tuple(
            each
            for each in every
            if (each in self._lost or each not in self._read | self._kept) and any(self._values(each))
        )

    def raw(self, field: int) -> str:
        """As it was sent, without a claim that anything is made of it."""
        return str(self._fields[field]) if 0 < field < len(self._fields) else ""

    def _values(self, field: int) -> Iterator[Value]:
        if not 0 < field < len(self._fields):
            return
        listed = self._fields[field]
        if self.name == "MSH" and field < 3:
            yield Value(((str(listed),),), str)
            return
        for each in (listed,) if isinstance(listed, str) else listed:
            components = (each,) if isinstance(each, str) else each
            value = Value(
                [(part,) if isinstance(part, str) else tuple(part) for part in components], self._message.unescaped
            )
            if value:
                yield value


_NOTHING: Final = Value((), str)


class Message:
    """Segments in their order; `segments` of unknown names as well."""

    def __init__(self, data: bytes) -> None:
        """Raises RefusedMessageError."""
        text = _decoded(data)
        lines = [line for each in _LINES.split(text.strip(_FRAME)) if (line := each.strip("\t "))]
        if not lines or not lines[0].startswith("MSH") or len(lines[0]) < 9 or len(lines) > MAX_SEGMENTS:
            raise RefusedMessageError("the content is not an HL7 version 2 message")
        self._field = lines[0][3]
        signs = _signs(lines[0], self._field)
        self._component, self._repetition, self._escape, self._sub = tuple(signs)
        check_parts(text, (self._field, self._component, self._repetition, self._sub))
        # the header has its delimiters as the library expects them: four
        rest = lines[0][4:].partition(self._field)[2]
        lines[0] = f"MSH{self._field}{''.join(signs)}{self._field}{rest}"
        try:
            parsed = hl7.parse("\r".join(lines))
        except (HL7Exception, ValueError, IndexError, AssertionError):  # whatever the library makes of such a text
            raise RefusedMessageError("the content is not an HL7 version 2 message") from None
        seen: Counter[str] = Counter()
        self.segments: tuple[Segment, ...] = tuple(self._segment(each, seen) for each in parsed)

    def _segment(self, parsed: hl7.Segment | str, seen: Counter[str]) -> Segment:
        fields = [parsed] if isinstance(parsed, str) else list(parsed)
        text = str(fields[0])
        name = text if _NAME.fullmatch(text) else "???"  # what has no name is told of without a word of it
        seen[name] += 1
        return Segment(self, name, seen[name], ["", *fields] if name == "???" else fields)

    def all(self, *names: str) -> tuple[Segment, ...]:
        return tuple(each for each in self.segments if each.name in names)

    def first(self, name: str) -> Segment:
        """The first segment of a name; an empty one, if there is none."""
        return next((each for each in self.segments if each.name == name), Segment(self, name, 0, ()))

    @property
    def unread(self) -> tuple[str, ...]:
        """Fields with a value that nobody read, by name, in their order: `PV1-36`, `OBX[3]-17`."""
        several = {name for name, count in Counter(each.name for each in self.segments).items() if count > 1}
        return tuple(
            f"{each.name}[{each.number}]-{field}" if each.name in several else f"{each.name}-{field}"
            for each in self.segments
            for field in each.unread
        )

    def repeated(self, text: str) -> list[str]:
        return text.split(self._repetition)

    def unescaped(self, text: str) -> str:
        if self._escape not in text:
            return text
        signs = {"F": self._field, "S": self._component, "T": self._sub, "R": self._repetition, "E": self._escape}
        escaped = text if self._escape == "\\" else text.replace(self._escape, "\\")

        def meant(found: re.Match[str]) -> str:
            name = found[1]
            if name.startswith(".br"):
                return "\n"
            if name.startswith(".sp"):
                return "\n" * min(int(name[3:] or 1) if name[3:].strip("+ ").isdigit() else 1, 10)
            return signs.get(name, "")  # highlighting and hexadecimal say nothing in plain text

        return _ESCAPE.sub(meant, escaped)


def check_parts(text: str, delimiters: Iterable[str]) -> None:
    """Raises RefusedMessageError for more parts than can be read before whoever sent them gives up waiting."""
    if sum(map(text.count, delimiters)) > MAX_PARTS:
        raise RefusedMessageError("the message has too many parts")


def _signs(line: str, field: str) -> str:
    """Component, repetition, escape, sub-component. Some double the escape character: the last is the sub-component."""
    said = line[4:].partition(field)[0]
    if len(said) > 4:
        said = said[:3] + said[-1]
    signs = said + _STANDARD[len(said) :]
    if len(said) < 2 or len({field, *signs}) != 5 or any(each.isalnum() or each.isspace() for each in field + signs):
        raise RefusedMessageError("the delimiters of the message are not told apart")
    return signs


def _decoded(data: bytes) -> str:
    """By its mark, by what it declares, as UTF-8, else as Windows has it: in this order."""
    mark = next((encoding for mark, encoding in _MARKS.items() if data.startswith(mark)), None)
    for encoding in (mark, _declared(data), "utf-8", "cp1252"):
        if encoding is None:
            continue
        try:
            text = data.decode(encoding)
        except ValueError:
            continue
        if _CONTROLS.search(text):
            break
        return _DROPPED.sub("", text)
    raise RefusedMessageError("the message is not text")


def _declared(data: bytes) -> str | None:
    fields = data[:_HEADER_WINDOW].decode("latin-1").split("\r")[0].split("\n")[0].split("|")
    # said in the first repetition; who says a single-byte one and sends UTF-8 is read as UTF-8
    name = _CHARSETS.get(fields[17].split("~")[0].strip()) if len(fields) > 17 else None
    return name if name in ("iso8859-15", "utf-16") else None if name != "latin-1" else _if_not_utf8(data)


def _if_not_utf8(data: bytes) -> str | None:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    return None
