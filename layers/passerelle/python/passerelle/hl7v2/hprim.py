"""HPRIM santé messages (association H', versions 2.0 to 2.4), as French laboratories send them: read as HL7 v2 is.

Lines of ASTM E1238, from which HL7 v2 came too: `H` says the delimiters (`|~^\\&`: field, component, repetition,
escape, sub-component), then `P`, `OBR`, `OBX`, comments `C`, the end `L`. `A` goes on with the line before, cut
anywhere after 220 characters. Fields are counted as in HL7: the name of the segment is none (P-2 is 6.3 in the French
text). No charset is said: UTF-8 if it is that, else the one of Windows, which has all of ISO 8859-1.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from passerelle.hl7v2.message import MAX_SEGMENTS, Message, RefusedMessageError, Segment, check_parts

_LINES: Final = re.compile(r"\r\n|\r|\n")
_NAME: Final = re.compile(r"[A-Z]{1,3}", re.ASCII)
_VERSION: Final = re.compile(r"H?2[.,][0-9]", re.ASCII)
_STANDARD: Final = "~^\\&"
_FRAME: Final = "\x0b\x1c\r\n\t \ufeff\x1a"


class HprimMessage(Message):
    """Segments of an HPRIM message."""

    def __init__(self, data: bytes) -> None:
        """Raises RefusedMessageError."""
        text = _text(data).strip(_FRAME)
        lines = _joined([line.rstrip("\x1a ") for line in _LINES.split(text) if line.strip(_FRAME)])
        if not lines or not re.match(r"H[^\w\s][^\w\s]{2,5}", lines[0], re.ASCII) or len(lines) > MAX_SEGMENTS:
            raise RefusedMessageError("the content is not an HPRIM message")
        self._field = lines[0][1]
        signs = lines[0][2:].partition(self._field)[0]
        signs += _STANDARD[len(signs) :]
        self._component, self._repetition, self._escape, self._sub = tuple(signs[:4])
        if len({self._field, *signs[:4]}) != 5:
            raise RefusedMessageError("the delimiters of the message are not told apart")
        check_parts(text, (self._field, self._component, self._repetition, self._sub))
        seen: Counter[str] = Counter()
        self.segments = tuple(self._read(line, seen) for line in lines)
        self.digest = hashlib.sha256(data).hexdigest()

    @property
    def type(self) -> str:
        """What the message is: ORU, ORM, ADM."""
        return self.first("H")[6][1].upper()

    @property
    def is_known_version(self) -> bool:
        return _VERSION.fullmatch(self.first("H")[12][1]) is not None

    @property
    def sender(self) -> str:
        return "|".join((self.first("H")[4][1], self.first("H")[4][2]))

    @property
    def control_id(self) -> str:
        """HPRIM has none: the name of the file and when it was made, or what tells these bytes from all others."""
        header = self.first("H")
        name, at = header[2][1], header[13][1]
        return f"{name}|{at}" if name and at else self.digest

    def _read(self, line: str, seen: Counter[str]) -> Segment:
        name, _, rest = line.partition(self._field)
        name = name.strip() if _NAME.fullmatch(name.strip()) else "???"
        seen[name] += 1
        texts = rest.split(self._field)
        if name == "H":
            fields: list[Any] = [name, texts[0], *(self._split(each) for each in texts[1:])]
            fields[1] = ""
        else:
            fields = [name, *(self._split(each) for each in texts)]
        return Segment(self, name, seen[name], fields)

    def _split(self, text: str) -> Any:
        """Repetitions of components of sub-components."""
        return _Field(
            text,
            [
                [component.split(self._sub) for component in repetition.split(self._component)]
                for repetition in text.split(self._repetition)
            ],
        )


class _Field(list[Any]):
    """Repetitions; as text, what was sent."""

    def __init__(self, text: str, repetitions: list[Any]) -> None:
        super().__init__(repetitions)
        self._text = text

    def __str__(self) -> str:
        return self._text


def _joined(lines: Sequence[str]) -> list[str]:
    """Each segment in one line."""
    whole: list[list[str]] = []
    for line in lines:
        if whole and line.startswith(f"A{lines[0][1:2]}"):
            whole[-1].append(line[2:])
        else:
            whole.append([line])
    return ["".join(each) for each in whole]


def _text(data: bytes) -> str:
    for encoding in ("utf-8-sig", "cp1252", "latin-1"):
        try:
            text = data.decode(encoding)
        except ValueError:
            continue
        if "\0" not in text:
            return text
        break
    raise RefusedMessageError("the message is not text")
