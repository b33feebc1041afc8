"""The one way state changes: a set of changes from any capabilities, committed together or not at all.

Law 1 of the house: resource versions, index entries, uniqueness guards, the idempotency record, audit records and the
outbox are one transaction. Each capability declares its changes as dataclasses in its `model.py`; the adapter
(`aws/journal.py`) knows how each is stored and which error its lost condition means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from passerelle.access import Request
from passerelle.errors import PasserelleError, Unavailable, Unprocessable
from passerelle.events import Event

R = TypeVar("R")


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
    service returned (at most 300 kB).
    """

    client_id: str
    key: str
    fingerprint: str
    result: Mapping[str, Any]
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


ANSWER_KEPT = timedelta(days=30)


def answer_of(request: Request, result: Mapping[str, Any]) -> tuple[Answer, ...]:
    """The answer to keep for this request: none when it came without an Idempotency-Key."""
    if request.idempotency_key is None:
        return ()
    return (
        Answer(
            client_id=request.caller.client_id,
            key=request.idempotency_key,
            fingerprint=request.fingerprint,
            result=result,
            expires_at=int((request.at + ANSWER_KEPT).timestamp()),
        ),
    )


def once(journal: Journal, request: Request, run: Callable[[], R], restore: Callable[[Mapping[str, Any]], R]) -> R:
    """Run a command; if it was run before under the same Idempotency-Key, return what it returned then.

    The kept answer is looked up only when the command is refused or its key is taken, so that a first run pays
    nothing. Raises Unprocessable when the key was used for another request.
    """
    try:
        return run()
    except (AlreadyAnsweredError, PasserelleError) as refusal:
        key = request.idempotency_key
        answer = journal.find_answer(request.caller.client_id, key) if key else None
        if answer is None:
            if isinstance(refusal, AlreadyAnsweredError):
                raise Unavailable("the idempotency key is in use; repeat the same request") from refusal
            raise
        if answer.fingerprint != request.fingerprint:
            raise Unprocessable("the idempotency key was used for another request") from None
        return restore(answer.result)
