"""The hash chain of a prescription's changes (e-prescription contract, section 18).

Each event's hash covers the one before, so that none can be changed, left out or put in between unseen. The
head is kept with the group and moves in the transaction of the change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import rfc8785

from passerelle.access import Request
from passerelle.prescriptions.model import Group, HistoryEvent, to_map

ORIGIN = hashlib.sha256(b"").hexdigest()


def next_event(group: Group, request: Request, moves: Sequence[str]) -> HistoryEvent:
    """The event that follows the newest one of `group`."""
    event = HistoryEvent(
        prescription=group.id,
        number=group.events + 1,
        operation=request.name,
        at=request.at.isoformat(),
        organisation=request.caller.organisation,
        role=request.caller.role,
        moves=tuple(moves),
        previous=group.head,
        hash="",
    )
    return replace(event, hash=hash_of(event))


def hash_of(event: HistoryEvent) -> str:
    form = {name: value for name, value in to_map(event).items() if name != "hash"}
    return hashlib.sha256(rfc8785.dumps({**form, "moves": list(event.moves)})).hexdigest()


def is_unbroken(events: Sequence[HistoryEvent], head: str) -> bool:
    """Whether these are all events from the first to `head`, as they were written."""
    previous = ORIGIN
    for number, event in enumerate(events, 1):
        if event.number != number or event.previous != previous or event.hash != hash_of(event):
            return False
        previous = event.hash
    return previous == head
