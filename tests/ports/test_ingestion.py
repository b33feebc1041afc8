"""Ingestion where processes end, and where two of the same message come at once: one effect, and one answer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from passerelle import wiring
from passerelle.errors import Forbidden
from passerelle.fhir.ingested import FhirExchange
from passerelle.ingestion.model import SourceFormat
from passerelle.wiring import taking_in
from tests import ingesting
from tests.between import at_once, one_after_another
from tests.exchange import Exchange
from tests.ingesting import acked, adt, call, code, held, merge, oru, send, waiting
from tests.journeys.test_crashes import Crash, Crashes, crashing

_FEWEST_CALLS = 5


@pytest.fixture(autouse=True)
def small(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(taking_in, "converters", lambda: {SourceFormat.HL7V2: ingesting.convert})
    for made in (wiring.ingestion_service, wiring.ingest):
        made.cache_clear()
    yield
    assert not [each for each in exchange.table("operations") if each["PK"]["S"].startswith("IW#")]


def _visit(local: str) -> bytes:
    return oru(local, "12.5") + f"PV1||I|||||||||||||||||V{local}\r".encode()


def _state(exchange: Exchange, local: str) -> list[Any]:
    """All that can be read of what a message made."""
    found = [each for kind in ("Patient", "Encounter", "Observation") for each in held(exchange, local, kind)]
    return [(each["resourceType"], each["meta"]["versionId"]) for each in found]


_EXPECTED = [("Patient", "1"), ("Encounter", "1"), ("Observation", "1")]


def test_a_process_may_end_at_any_call_and_the_same_message_again_ends_it(exchange: Exchange) -> None:
    """Before the first call, and after each one: nothing is acknowledged; sent again, it is there once."""
    local = iter(range(3000, 3100))
    with crashing() as crashes:
        _calls(crashes, exchange, local)
        at, is_over = 0, False
        while not is_over:
            number = str(next(local))
            message = _visit(number)
            crashes.calls, crashes.at, crashes.is_done = 0, max(at, 1), at > 0
            try:
                send(exchange, message)
                is_over = True  # there was no such call any more
            except Crash:
                at += 1
            crashes.at = None
            again = send(exchange, message)
            assert (at, code(again)) == (at, "AA")
            assert (at, _state(exchange, number)) == (at, _EXPECTED)
            assert send(exchange, message).body == again.body
    assert at >= 4  # the inbox, what there is, the commit, which settles it


def _calls(crashes: Crashes, exchange: Exchange, local: Iterator[int]) -> int:
    for _ in range(2):  # keys are fetched by the first
        crashes.calls = 0
        assert code(send(exchange, _visit(str(next(local))))) == "AA"
    return crashes.calls


def test_a_merge_is_made_once_wherever_the_process_ended(exchange: Exchange) -> None:
    with crashing() as crashes:
        at, is_over = 0, False
        while not is_over:
            a, b = f"32{at:02d}", f"33{at:02d}"
            for each in (a, b):
                assert code(send(exchange, adt(each))) == "AA"
            message = merge(a, b)
            crashes.calls, crashes.at, crashes.is_done = 0, max(at, 1), at > 0
            try:
                send(exchange, message)
                is_over = True
            except Crash:
                at += 1
            crashes.at = None
            assert code(send(exchange, message)) == "AA"
            replaced = next(each for each in held(exchange, a) if not each["active"])
            assert replaced["meta"]["versionId"] == "2"
    assert at > 4


def test_the_same_message_at_once_is_applied_once(exchange: Exchange) -> None:
    """A second one runs from end to end between any two calls of the first."""
    for at in count(1):
        number = str(3400 + at)
        message = _visit(number)
        first, second = at_once(exchange, at, lambda m=message: send(exchange, m), lambda m=message: send(exchange, m))  # type: ignore[misc]
        assert (at, code(first), _state(exchange, number)) == (at, "AA", _EXPECTED)
        if second is None:
            break
        assert first.body == second.body
    assert at > _FEWEST_CALLS


def test_a_newer_message_that_comes_between_is_not_overwritten(exchange: Exchange) -> None:
    for at in count(1):
        number = str(3500 + at)
        older, newer = adt(number, "ANCIEN"), adt(number, "NOUVEAU", at="20260302103000")
        first, second = at_once(exchange, at, lambda m=older: send(exchange, m), lambda m=newer: send(exchange, m))  # type: ignore[misc]
        assert (at, code(first), code(second or send(exchange, newer))) == (at, "AA", "AA")
        (patient,) = held(exchange, number)
        assert (at, patient["name"][0]["family"]) == (at, "NOUVEAU")
        assert held(exchange, number, "Encounter")[0]["type"][0]["text"] == "NOUVEAU"
        if second is None:
            break
    assert at > _FEWEST_CALLS


def test_what_is_not_known_to_be_stored_is_not_acknowledged(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS fails: 503, whatever the message; the same again is applied."""
    message = oru("3601")
    events = wiring.aws("dynamodb").meta.events

    def fail(model: Any, **_: Any) -> Any:
        from botocore.awsrequest import AWSResponse, HeadersDict

        answer = AWSResponse("", 503, HeadersDict(), None)
        return answer, {
            "Error": {"Code": "ServiceUnavailable", "Message": ""},
            "ResponseMetadata": {"HTTPStatusCode": 503},
        }

    events.register_first("before-call.dynamodb.TransactWriteItems", fail)
    try:
        assert send(exchange, message).status == 503
    finally:
        events.unregister("before-call.dynamodb.TransactWriteItems", fail)
    assert code(send(exchange, message)) == "AA"
    assert len(held(exchange, "3601", "Observation")) == 1


def test_what_was_received_and_never_sent_again_is_found_and_retried(exchange: Exchange) -> None:
    """The process ended after the message was stored, and its sender was told nothing, nor came back."""
    message = oru("3602")
    with crashing() as crashes:
        at = 0
        while not waiting(exchange, "received"):
            at += 1
            crashes.calls, crashes.at, crashes.is_done = 0, at, True
            with pytest.raises(Crash):
                send(exchange, message)
            crashes.at = None
    (found,) = waiting(exchange, "received")
    assert call(exchange, "POST", f"/ingestion/{found['id'][0]}/$retry").status == 200
    assert len(held(exchange, "3602", "Observation")) == 1
    assert acked(send(exchange, message))["MSA"][1] == "AA"


def test_what_another_attempt_applied_is_not_given_up(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """The patient shuts the sender out while two attempts are made, and one of them was in time."""
    message = oru("3603")
    apply = FhirExchange.apply

    def overtaken(*_: Any) -> Any:
        monkeypatch.setattr(FhirExchange, "apply", apply)
        assert code(send(exchange, message)) == "AA"
        raise Forbidden("shut out")

    monkeypatch.setattr(FhirExchange, "apply", overtaken)
    with one_after_another(exchange):
        assert code(send(exchange, message)) == "AA"
    assert code(send(exchange, message.replace(b"||13.1|", b"||13.2|"))) == "AR"
