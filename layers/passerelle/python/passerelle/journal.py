"""The one way state changes: a set of changes from any capabilities, committed together or not at all.

Law 1 of the house: resource versions, index entries, uniqueness guards, the idempotency record, audit records and the
outbox are one transaction. Each capability declares its changes as dataclasses in its `model.py`; the adapter
(`aws/journal.py`) knows how each is stored and which error its lost condition means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from passerelle.access import Touched
from passerelle.events import Event


class Change:
    """Marker of everything a journal can commit."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement(Change):
    """Events of one patient (or of none) that become visible with the commit; one outbox item.

    `id` is unique per commit and sorts by time.
    """

    id: str
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Change):
    """The result of a command sent with an Idempotency-Key, kept so that the same request again gets it again.

    `fingerprint` tells the same request from another one under the same key; `result` is the JSON form of what the
    service returned (at most 300 kB), `touched` what giving it again discloses.
    """

    client_id: str
    key: str
    fingerprint: str
    result: Mapping[str, Any]
    touched: Touched
    expires_at: int  # epoch seconds


class AlreadyAnsweredError(Exception):
    """The idempotency key of this commit was used before: its kept answer stands."""


class Journal(Protocol):
    """Commits changes: the only port that writes to the record."""

    def commit(self, changes: Sequence[Change]) -> None:
        """Store every change or none.

        A change whose condition is lost raises the error that it stands for (`Stale`, `Conflict`, ...); an `Answer`
        that exists already raises AlreadyAnsweredError; `Unavailable` when the outcome could not be known, in which
        case the same commit may be sent again.
        """

    def find_answer(self, client_id: str, key: str) -> Answer | None: ...
