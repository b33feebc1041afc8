"""Whether what concurrent callers of one prescription were told could have been told one after the other.

The model is the contract (sections 6 and 8) for one line at one moment, written again in a page: it shares nothing with
the service, nor with its table. The search is that of Wing and Gong ("Testing and verifying concurrent objects", 1993),
with the memory of Lowe ("Testing for linearizability", 2017): one order of all calls in which each takes effect between
its invocation and its answer, and in which the model gives each the answer that it was given.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

OK = "ok"


@dataclass(frozen=True, kw_only=True)
class Call:
    """What was asked. `secret` is a code for `accept`; `units` those of a supply; `of` the supply that is withdrawn."""

    operation: str
    by: str
    secret: str | None = None
    units: int = 0
    of: str | None = None
    recover: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`ok` or an RX code; the status; and what is told once: a secret, a code, the id of a supply."""

    result: str
    status: int = 200
    token: str | None = None


@dataclass(frozen=True, kw_only=True)
class Event:
    call: Call
    answer: Answer
    invoked: int
    answered: int


@dataclass(frozen=True, kw_only=True)
class Line:
    """The model. `claims` are (by, secret, end) with the newest last, `supplies` (id, by, units) that stand."""

    authorised: int
    code: str
    routed_to: str = ""
    claims: tuple[tuple[str, str, str], ...] = ()
    supplies: tuple[tuple[str, str, int], ...] = ()
    withdrawn: frozenset[str] = frozenset()
    is_to_stop: bool = False
    is_stopped: bool = False

    @property
    def remaining(self) -> int:
        return self.authorised - sum(units for _, _, units in self.supplies)

    @property
    def holder(self) -> str | None:
        return self.claims[-1][0] if self.claims and not self.claims[-1][2] else None

    def ended(self, how: str) -> Line:
        by, secret, _ = self.claims[-1]
        return replace(self, claims=(*self.claims[:-1], (by, secret, how)))

    def closed(self) -> str | None:
        return "RX-CANCELLED" if self.is_stopped else "RX-DONE" if self.remaining == 0 else None

    def after(self, call: Call, answer: Answer) -> Line | None:
        """The line after a call that is answered like this; None if it cannot be."""
        expected, status, after = _STEPS[call.operation](self, call, answer.token or "")
        return after if (expected, status) == (answer.result, answer.status) else None

    def accept(self, call: Call, token: str) -> _Step:
        if call.secret != self.code and self.routed_to != call.by:
            return "RX-ACCESS-CODE", 403, self
        if closed := self.closed():
            return _refused(closed, self)
        if self.is_to_stop:
            return "RX-CANCEL-PENDING", 409, self
        if self.holder is not None and self.holder != call.by:
            return "RX-CLAIMED-BY-OTHER", 409, self
        if self.holder == call.by and not call.recover:
            return "RX-ALREADY-YOURS", 409, self
        if self.holder is None and self.routed_to not in ("", call.by):
            return "RX-ROUTED-ELSEWHERE", 409, self
        return OK, 200, replace(self, claims=(*self.claims, (call.by, token, "")))

    def of_holder(self, call: Call) -> tuple[str, int] | None:
        """The refusal of a caller with this secret, whatever the call."""
        mine = [n for n, (by, secret, _) in enumerate(self.claims) if (by, secret) == (call.by, call.secret)]
        if not mine:
            return "RX-SECRET", 403
        if closed := self.closed():
            return closed, 410 if closed == "RX-CANCELLED" else 409
        if mine[-1] < len(self.claims) - 1:
            return "RX-LEASE-LOST", 409
        return ("RX-NOT-CLAIMED", 409) if self.holder is None else None

    def dispense(self, call: Call, token: str) -> _Step:
        if refusal := self.of_holder(call):
            return *refusal, self
        if self.is_to_stop:
            return "RX-CANCEL-PENDING", 409, self
        if call.units > self.remaining:
            return "RX-QUANTITY", 422, self
        after = replace(self, supplies=(*self.supplies, (token, call.by, call.units)))
        return OK, 200, after if after.remaining else after.ended("finished")

    def reject(self, call: Call, _: str) -> _Step:
        if refusal := self.of_holder(call):
            return *refusal, self
        return OK, 200, replace(self.ended("given-back"), is_stopped=self.is_to_stop)

    def withdraw(self, call: Call, _: str) -> _Step:
        if self.is_stopped:
            return "RX-CANCELLED", 410, self
        if call.of in self.withdrawn:
            return "RX-STATE", 409, self
        left = tuple(each for each in self.supplies if each[0] != call.of)
        return OK, 200, replace(self, supplies=left, withdrawn=self.withdrawn | {str(call.of)})

    def cancel(self, call: Call, _: str) -> _Step:
        if self.is_stopped or self.is_to_stop:
            return OK, 200, self
        if self.remaining == 0:
            return "RX-DONE", 409, self
        if self.holder is None:
            return OK, 200, replace(self, is_stopped=True)
        return OK, 202, replace(self, is_to_stop=True)

    def route(self, call: Call, token: str) -> _Step:
        if closed := self.closed():
            return _refused(closed, self)
        if self.is_to_stop:
            return "RX-CANCEL-PENDING", 409, self
        if self.holder is not None:
            return "RX-CLAIMED-BY-OTHER", 409, self
        return OK, 200, replace(self, code=token, routed_to=call.of or "")


_Step = tuple[str, int, Line]
_STEPS: dict[str, Callable[[Line, Call, str], _Step]] = {
    "accept": Line.accept,
    "dispense": Line.dispense,
    "reject": Line.reject,
    "withdraw": Line.withdraw,
    "cancel": Line.cancel,
    "route": Line.route,
}


def _refused(code: str, line: Line) -> _Step:
    return code, 410 if code == "RX-CANCELLED" else 409, line


def linearised(history: Sequence[Event], line: Line) -> list[Event] | None:
    """The calls in an order that explains all answers; None if there is none."""
    events = sorted(history, key=lambda event: event.invoked)
    seen: set[tuple[int, Line]] = set()

    def candidates(done: int) -> Iterator[int]:
        """Those that no other call precedes: none was answered before they were made."""
        waiting = [n for n in range(len(events)) if not done >> n & 1]
        first = min(events[n].answered for n in waiting)
        return (n for n in waiting if events[n].invoked < first)

    def search(done: int, line: Line) -> list[Event] | None:
        if done == (1 << len(events)) - 1:
            return []
        for n in candidates(done):
            after = line.after(events[n].call, events[n].answer)
            if after is None or (done | 1 << n, after) in seen:
                continue
            seen.add((done | 1 << n, after))
            rest = search(done | 1 << n, after)
            if rest is not None:
                return [events[n], *rest]
        return None

    return search(0, line)


@dataclass
class Recorder:
    """A history as it happens; the clock counts invocations and answers of all callers."""

    events: list[Event] = field(default_factory=list)
    _clock: Iterator[int] = field(default_factory=itertools.count)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def _now(self) -> int:
        with self._lock:
            return next(self._clock)

    def record(self, call: Call, make: Callable[[], Answer]) -> Answer:
        invoked = self._now()
        answer = make()
        self.events.append(Event(call=call, answer=answer, invoked=invoked, answered=self._now()))
        return answer
