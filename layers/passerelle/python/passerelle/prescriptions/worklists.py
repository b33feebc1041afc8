"""Where prescriptions are found: those of a patient, and those that an organisation has something to do about.

A pharmacy is concerned while it holds a line, or a prescription with lines to supply is routed to it; the practice
while there is a draft to sign, or a request to answer. What only looks due (a lapsed lease, an ended validity) is left
out when a list is read.
"""

from __future__ import annotations

from passerelle.journal import Change
from passerelle.prescriptions.model import Concern, Prescription
from passerelle.prescriptions.transitions import STATES


def concerned(prescription: Prescription) -> frozenset[str]:
    """The organisations on whose list a prescription is."""
    group = prescription.group
    kinds = {STATES[line.state].kind for line in prescription.lines}
    found = {line.owner for line in prescription.lines}
    if kinds & {"open", "claimed"}:
        found.add(group.routed_to)
    if "draft" in kinds or any(ask.is_open for ask in prescription.asks):
        found.add(group.practice)
    return frozenset(each for each in found if each is not None)


def changes(before: Prescription | None, after: Prescription) -> tuple[Change, ...]:
    """What a command changes of the lists."""
    earlier, now = concerned(before) if before else frozenset[str](), concerned(after)
    return tuple(
        Concern(prescription=after.group.id, organisation=each, is_concerned=each in now)
        for each in sorted(earlier ^ now)
    )
