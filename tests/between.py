"""Another request as a whole between any two calls of DynamoDB that one makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any

from local.gateway import Response
from passerelle import wiring
from passerelle.aws import dynamodb
from tests.exchange import Exchange

Sent = Callable[[], Response]


class _Here(Executor):
    """Functions run in the thread of who invokes them: whatever they call is seen in its order."""

    def submit(self, run: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(run(*args, **options))
        except Exception as failure:  # noqa: BLE001 - raised where the result is asked for
            done.set_exception(failure)
        return done


@contextmanager
def one_after_another(exchange: Exchange) -> Iterator[None]:
    """What goes at once, too, so that something may come between any two calls."""
    gateway = exchange.gateway
    pool, gateway._invocations = gateway._invocations, _Here()  # type: ignore[assignment]
    token = dynamodb._in_parallel.set(dynamodb._DEEPEST)
    try:
        yield
    finally:
        dynamodb._in_parallel.reset(token)
        gateway._invocations = pool


def at_once(exchange: Exchange, at: int, first: Sent, second: Sent) -> tuple[Response, Response | None]:
    """`second` as a whole before the n-th call of DynamoDB that `first` makes; None where it makes fewer."""
    answers: list[Response] = []
    calls, is_between = 0, False

    def between(**_: Any) -> None:
        nonlocal calls, is_between
        calls += not is_between
        if calls == at and not is_between:
            is_between = True  # its own calls are not counted
            answers.append(second())

    events = wiring.aws("dynamodb").meta.events
    events.register("before-call.dynamodb.*", between)
    try:
        with one_after_another(exchange):
            answer = first()
    finally:
        events.unregister("before-call.dynamodb.*", between)
    return answer, answers[0] if answers else None
