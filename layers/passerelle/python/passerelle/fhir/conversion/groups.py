"""Orders and what belongs to each: ORC, OBR, RXO, RXE or RXA, and the segments after them (HL7 2.5, chapters 4 and 7).

Senders leave ORC out, or OBR, or repeat one of them alone: a group begins with what a group already has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from passerelle.hl7v2.message import Message, Segment

_HEADS: Final = ("ORC", "OBR", "RXO", "RXE", "RXA")


@dataclass(slots=True)
class Observed:
    """One OBX, or several that are lines of one text, with the remarks after it."""

    segments: list[Segment]
    notes: list[Segment] = field(default_factory=list)

    @property
    def first(self) -> Segment:
        return self.segments[0]


@dataclass(slots=True)
class Group:
    """Segments that a message has not are empty ones."""

    orc: Segment
    obr: Segment
    drug: Segment  # RXO, RXE or RXA
    timings: list[Segment] = field(default_factory=list)
    routes: list[Segment] = field(default_factory=list)
    notes: list[Segment] = field(default_factory=list)
    specimens: list[Segment] = field(default_factory=list)
    observed: list[Observed] = field(default_factory=list)


def groups(message: Message) -> list[Group]:
    """The orders of a message in their order; the first may be nothing but the observations before any."""
    found = [_empty(message)]
    for segment in message.segments:
        group = found[-1]
        if segment.name in _HEADS:
            if _is_next(group, segment):
                group = _empty(message)
                found.append(group)
            if segment.name == "ORC":
                group.orc = segment
            elif segment.name == "OBR":
                group.obr = segment
            elif group.drug and segment.name == "RXE":  # dispensing repeats the order (RXO) before it
                group.drug = segment
            else:
                group.drug = segment
        elif segment.name == "TQ1":
            group.timings.append(segment)
        elif segment.name == "RXR":
            group.routes.append(segment)
        elif segment.name == "SPM":
            group.specimens.append(segment)
        elif segment.name == "OBX":
            _observe(group, segment)
        elif segment.name == "NTE" and (group.orc or group.obr or group.observed):
            (group.observed[-1].notes if group.observed else group.notes).append(segment)
    return [each for each in found if each.orc or each.obr or each.drug or each.observed]


def _empty(message: Message) -> Group:
    nothing = Segment(message, "", 0, ())
    return Group(orc=nothing, obr=nothing, drug=nothing)


def _is_next(group: Group, segment: Segment) -> bool:
    if segment.name == "ORC":
        return bool(group.orc or group.obr or group.drug or group.observed)
    if segment.name == "OBR":
        return bool(group.obr or group.observed)
    return bool(group.drug) and not (segment.name == "RXE" and group.drug.name == "RXO")


def _observe(group: Group, segment: Segment) -> None:
    """Lines of a text repeat what they are about; a result that is repeated has a sub-id of its own."""
    last = group.observed[-1] if group.observed else None
    if (
        last is not None
        and not last.notes
        and segment.raw(2) in ("TX", "FT")
        and [segment.raw(field) for field in (2, 3, 4, 11)] == [last.first.raw(field) for field in (2, 3, 4, 11)]
    ):
        last.segments.append(segment)
    else:
        group.observed.append(Observed(segments=[segment]))


def remarks(segments: list[Segment]) -> Iterator[str]:
    """NTE-3 of each that says something."""
    for segment in segments:
        if text := segment.text(3).strip():
            yield text
