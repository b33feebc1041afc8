"""What every command commits beside its own changes, and how the same request again gets the same answer (law 6).

A command that came with an Idempotency-Key keeps its result in its own commit: there is no state between "done" and
"answered". A repetition finds the kept result, and is recorded as an access of its own before it gets it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from passerelle.access import Request, Touched
from passerelle.audit.model import audit_of
from passerelle.errors import AccessRefused, PasserelleError, Unavailable, Unprocessable
from passerelle.journal import AlreadyAnsweredError, Answer, Change, Journal

R = TypeVar("R")

ANSWER_KEPT = timedelta(days=30)


def account_of(
    request: Request, touched: Touched, result: Mapping[str, Any], *, kept: timedelta = ANSWER_KEPT
) -> tuple[Change, ...]:
    """The audit records of a command, and its kept answer if it came with an Idempotency-Key."""
    records = audit_of(request, touched)
    if request.idempotency_key is None:
        return records
    answer = Answer(
        client_id=request.caller.client_id,
        key=request.idempotency_key,
        fingerprint=request.fingerprint,
        result=result,
        touched=touched,
        expires_at=int((request.at + kept).timestamp()),
    )
    return (answer, *records)


def once(journal: Journal, request: Request, run: Callable[[], R], restore: Callable[[Mapping[str, Any]], R]) -> R:
    """Run a command; if it was run before under the same Idempotency-Key, return what it returned then.

    The kept answer is looked up only when the command is refused or its key is taken, so that a first run pays
    nothing. Raises Unprocessable when the key was used for another request. Whom the patient has shut out meanwhile is
    told nothing again.
    """
    try:
        return run()
    except AccessRefused:
        raise
    except (AlreadyAnsweredError, PasserelleError) as refusal:
        key = request.idempotency_key
        answer = journal.find_answer(request.caller.client_id, key) if key else None
        if answer is None:
            if isinstance(refusal, AlreadyAnsweredError):
                raise Unavailable("the idempotency key is in use; repeat the same request") from refusal
            raise
        if answer.fingerprint != request.fingerprint:
            raise Unprocessable("the idempotency key was used for another request") from None
        journal.commit(audit_of(request, answer.touched))
        return restore(answer.result)
