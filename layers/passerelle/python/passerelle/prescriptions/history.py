"""The hash chain of a prescription's changes (e-prescription contract, section 18): SHA-256(previous || event).

Each event's hash covers the one before, so that none can be changed, left out or put in between unseen. The head is
kept with the group, moves in the transaction of the change, and stands in the audit record of that change: the
verifiable log anchors it (`ledger/`).

An event covers who acted by the hash of a salted disclosure: whoever may not read the name can verify all the same.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace

import rfc8785

from passerelle.access import Request
from passerelle.prescriptions.model import Group, HistoryEvent

ORIGIN = hashlib.sha256(b"").hexdigest()
_SALT_BYTES = 16


def next_event(
    group: Group, request: Request, moves: Sequence[str], bound: Mapping[str, str] | None = None
) -> HistoryEvent:
    """The event that follows the newest one of `group`; `bound` are the digests of what it puts in force, by name."""
    event = HistoryEvent(
        prescription=group.id,
        number=group.events + 1,
        operation=request.name,
        at=request.at.isoformat(),
        organisation=request.caller.organisation,
        professional=request.caller.professional,
        role=request.caller.role,
        moves=tuple(moves),
        bound=dict(bound or {}),
        salt=secrets.token_hex(_SALT_BYTES),
        previous=group.head,
        hash="",
    )
    return replace(event, hash=hash_of(event))


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def disclosure(event: HistoryEvent) -> bytes:
    """Who acted, in the form that the event covers by its hash."""
    who = {"organisation": event.organisation, "professional": event.professional, "salt": event.salt}
    return rfc8785.dumps(who)


def canonical(event: HistoryEvent) -> bytes:
    """The event as it is hashed: RFC 8785 JSON."""
    return rfc8785.dumps(
        {
            "prescription": event.prescription,
            "number": event.number,
            "operation": event.operation,
            "at": event.at,
            "role": event.role,
            "actor": hashlib.sha256(disclosure(event)).hexdigest(),
            "moves": list(event.moves),
            "bound": dict(event.bound),
        }
    )


def hash_of(event: HistoryEvent) -> str:
    return hashlib.sha256(bytes.fromhex(event.previous) + canonical(event)).hexdigest()


def is_unbroken(events: Sequence[HistoryEvent], head: str) -> bool:
    """Whether these are all events from the first to `head`, as they were written."""
    previous = ORIGIN
    for number, event in enumerate(events, 1):
        if event.number != number or event.previous != previous or event.hash != hash_of(event):
            return False
        previous = event.hash
    return previous == head
