"""The checker of histories: it explains what may be, and rejects what may not."""

from __future__ import annotations

import pytest

from tests.linearisability import OK, Answer, Call, Event, Line, linearised

LINE = Line(authorised=10, code="code")


def event(
    invoked: int, answered: int, result: str = OK, *, status: int = 200, token: str = "", **call: object
) -> Event:
    made = Call(**call)  # type: ignore[arg-type]
    return Event(
        call=made, answer=Answer(result=result, status=status, token=token or None), invoked=invoked, answered=answered
    )


def claim(by: str, invoked: int, answered: int, result: str = OK, status: int = 200) -> Event:
    token = f"secret of {by}" if result == OK else ""
    return event(invoked, answered, result, status=status, token=token, operation="accept", by=by, secret="code")


def supply(by: str, units: int, invoked: int, answered: int, result: str = OK, status: int = 200) -> Event:
    token = f"supply {invoked}" if result == OK else ""
    known = f"secret of {by}"
    return event(
        invoked, answered, result, status=status, token=token, operation="dispense", by=by, secret=known, units=units
    )


def test_calls_that_overlap_may_take_effect_in_any_order() -> None:
    lost = claim("b", 1, 2, "RX-CLAIMED-BY-OTHER", 409)
    won = claim("a", 0, 3)
    assert linearised([lost, won], LINE) == [won, lost]
    done = supply("a", 10, 4, 7)
    refused = claim("b", 5, 6, "RX-DONE", 409)
    assert linearised([lost, won, done, refused], LINE) == [won, lost, done, refused]


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([claim("a", 0, 2), claim("b", 1, 3)], id="two hold one line"),
        pytest.param(
            [claim("a", 0, 1), supply("a", 6, 2, 4), supply("a", 6, 3, 5)], id="more is supplied than was authorised"
        ),
        pytest.param(
            [
                claim("a", 0, 1),
                event(2, 3, status=202, operation="cancel", by="practice"),
                supply("a", 6, 4, 5),
            ],
            id="supplied after the answer that it is to stop",
        ),
        pytest.param(
            [claim("a", 0, 1), claim("b", 2, 3, "RX-DONE", 409), supply("a", 10, 4, 5)], id="an answer from the future"
        ),
        pytest.param(
            [
                claim("a", 0, 1),
                supply("a", 4, 2, 3),
                supply("a", 7, 4, 5, "RX-QUANTITY", 422),
                supply("a", 6, 6, 7),
                claim("b", 8, 9),
            ],
            id="claimed after it was done",
        ),
    ],
)
def test_what_cannot_be_is_rejected(history: list[Event]) -> None:
    assert linearised(history, LINE) is None
